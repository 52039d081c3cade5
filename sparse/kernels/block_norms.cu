// norms[p] = sqrt(sum over r, c of (sum over t of grad[t][rows[p] b + r] * x[t][cols[p] b + c])²), p a probed block
// grad (tokens, gm b) · x (tokens, gn b) · rows, cols (probed) · norms (probed), float32.
// Grid (probed), 128 threads: one CTA a block, which exists in registers only. FLOPs 2 tokens b² a block, 4 bytes out.
#include "gradient.cuh"

extern "C" __global__ __launch_bounds__(THREADS) void procosm_block_norms(
    const T *__restrict__ grad, const T *__restrict__ x, const int *__restrict__ rows, const int *__restrict__ cols,
    float *__restrict__ norms, long long tokens, int gm, int gn) {
  __shared__ __align__(128) Stages a, b;
  __shared__ __align__(128) float scratch[WARPS * 256];
  __shared__ float partial[WARPS];
  const int p = blockIdx.x;
  GradientTile tile;
  block_gradient(tile, a, b, grad, x, rows[p], cols[p], tokens, (long long)gm * BLOCK, (long long)gn * BLOCK);
  float sum = 0.0f;
  tile.each(scratch, [&](int, int, float *v) {
    for (int e = 0; e < 8; ++e) sum += v[e] * v[e];
  });
  for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    float total = 0.0f;
    for (int warp = 0; warp < WARPS; ++warp) total += partial[warp];
    norms[p] = sqrtf(total);
  }
}
