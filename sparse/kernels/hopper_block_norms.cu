// norms[p] = sqrt(sum over r, c of (sum over t of grad[t][rows[p] b + r] * x[t][cols[p] b + c])²), p a probed block
// on sm_90a, b 64 or 128, 16-bit: hopper_gradient.cuh says how; the blocks exist in registers only. Maps as
// hopper_weight_gradient's. rows, cols (probed) in any order, fastest sorted by row · norms (probed) float32.
// An item is `together` neighbouring blocks, over all tokens; runs of one row inside it are done one after the other.
// items: ceil(probed / together). Grid: any; 384 threads. Operations, bytes in and floor as hopper_weight_gradient with n
// probed blocks and nothing left open; 4 bytes out a block. Measured fraction: not measured.
#include "hopper_gradient.cuh"

// The runs of the items of this CTA.
struct Items {
  const int *rows;
  int probed, together, items, stages;
  template <class Do> __device__ __forceinline__ void operator()(const Do &do_run) const {
    for (int item = blockIdx.x; item < items; item += gridDim.x) {
      const int from = item * together, last = from + together < probed ? from + together : probed;
      for (int first = from, length; first < last; first += length) {
        for (length = 1; length < TOGETHER && first + length < last && rows[first + length] == rows[first];) ++length;
        do_run(first, length, Range{0, stages, 0});
      }
    }
  }
};

extern "C" __global__ __launch_bounds__(THREADS, 1) void procosm_hopper_block_norms(
    const __grid_constant__ TensorMap grad, const __grid_constant__ TensorMap x, const int *__restrict__ rows,
    const int *__restrict__ cols, float *__restrict__ norms, long long tokens, int probed, int together, int items) {
  __shared__ float partial[GROUPS * GROUP / 32];  // a sum of squares of each warp
  const int group = threadIdx.x / GROUP, warp = threadIdx.x / 32;
  const Items walk = {rows, probed, together, items, int((tokens + 63) / 64)};
  each_gradient(grad, x, rows, cols, walk, [&](int first, int e, const float(&d)[128], int from, const Range &) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < BLOCK / 2; ++i) sum += d[from + i] * d[from + i];
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    // A block of 128 is spread over both warpgroups, one of 64 over the warps of its own.
    const int barrier = SHARE_BLOCKS ? 3 : 1 + group, members = SHARE_BLOCKS ? GROUPS * GROUP : GROUP;
    const int leader = SHARE_BLOCKS ? 0 : group * GROUP / 32;
    if (threadIdx.x % 32 == 0) partial[warp] = sum;
    group_sync(barrier, members);
    if (threadIdx.x == leader * 32) {
      float total = 0.0f;
      for (int w = leader; w < leader + members / 32; ++w) total += partial[w];
      norms[first + e] = sqrtf(total);
    }
    group_sync(barrier, members);  // partial may be written again
  });
}
