// dv[i] = sum over splits s of partial[s][i] in the order of s, for the live slots; 0 in the padding
// partial (splits, capacity area) float32 · dv (capacity area) · row_ptr (gm + 1), its last entry counts the live slots.
// Grid-stride over groups of 4, any grid, 256 threads. Bytes: 4 splits + 2 an element; no operation matters beside them.
#include "dtype.cuh"

extern "C" __global__ __launch_bounds__(256) void procosm_sum_splits(
    const float *__restrict__ partial, T *__restrict__ dv, const int *__restrict__ row_ptr, int gm, long long count,
    int splits) {
  const long long live = (long long)row_ptr[gm] * AREA, stride = (long long)gridDim.x * blockDim.x * 4;
  for (long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * 4; i < count; i += stride) {
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int s = 0; s < splits && i < live; ++s) {
      const float4 part = *reinterpret_cast<const float4 *>(partial + s * count + i);
      sum[0] += part.x;
      sum[1] += part.y;
      sum[2] += part.z;
      sum[3] += part.w;
    }
    for (int e = 0; e < 4; ++e) dv[i + e] = narrow(sum[e]);
  }
}
