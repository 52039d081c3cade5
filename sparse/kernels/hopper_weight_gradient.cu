// dv[s][r][c] = sum over tokens t of grad[t][rows[s] b + r] * x[t][cols[s] b + c] for the live slots s, 0 in the padding
// on sm_90a, b 64 or 128, 16-bit: hopper_gradient.cuh says how. Maps (64 columns by 64 rows): grad (tokens, gm b), x
// (tokens, gn b). rows, cols (capacity) · row_ptr (gm + 1), its last entry counts the live slots · dv (capacity, b, b).
// items: ceil(capacity / together). With splits > 1 the parts go to partial (splits, capacity, b, b) float32 instead, live
// slots only, and sum_splits adds them in order: repeatable without atomics. Grid: any; 384 threads.
// FLOPs 2 tokens n b². Bytes from memory: grad and x once, 2 tokens (gm + gn) b, dv 2 n b². From L2: 2 tokens b (n + runs);
// b k / (k + 1) FLOPs a byte for runs of k blocks: 85 at b = 128 (k = 2), 57 at b = 64 (k = 8).
// Floor on an H200 (assumed as in hopper_forward.cu), d = 4096, density .1, 8192 tokens, runs as long as the mean row
// allows: 53 us at b = 128 and 74 us at b = 64. Measured fraction: not measured.
#include "hopper_gradient.cuh"

extern "C" __global__ __launch_bounds__(THREADS, 1) void procosm_hopper_weight_gradient(
    const __grid_constant__ TensorMap grad, const __grid_constant__ TensorMap x, const int *__restrict__ rows,
    const int *__restrict__ cols, const int *__restrict__ row_ptr, T *__restrict__ dv, float *__restrict__ partial,
    long long tokens, int gm, int capacity, int together, int items, int splits) {
  const int live = row_ptr[gm], r0 = first_row(), c0 = threadIdx.x % 4 * 2;
  const List list = {rows, cols, live};
  if (splits == 1)
    for (int slot = live + blockIdx.x; slot < capacity; slot += gridDim.x)
      for (int i = threadIdx.x * 8; i < AREA; i += THREADS * 8)
        *reinterpret_cast<uint4 *>(dv + (long long)slot * AREA + i) = uint4{0, 0, 0, 0};
  each_gradient(grad, x, list, tokens, together, items, splits, [&](int split, int slot, const float(&d)[128], int from,
                                                                    bool none) {
    const long long block = ((long long)split * capacity + slot) * AREA + r0 * BLOCK + c0;  // split is 0 for dv
#pragma unroll
    for (int j = 0; j < BLOCK / 8; ++j)
#pragma unroll
      for (int second = 0; second < 2; ++second) {
        const int i = from + 4 * j + 2 * second, offset = 8 * second * BLOCK + 8 * j;
        const float low = none ? 0.0f : d[i], high = none ? 0.0f : d[i + 1];
        if (splits == 1)
          *reinterpret_cast<unsigned *>(dv + block + offset) = pack(low, high);
        else
          *reinterpret_cast<float2 *>(partial + block + offset) = float2{low, high};
      }
  });
}
