// dv[s] = sum over the CTAs c that share the group of slot s, in order, of what each left in partial; 0 in the padding
// partial (2 ctas, TOGETHER, b, b) float32 from hopper_weight_gradient, whose grid had `ctas` CTAs · dv (capacity, b, b),
// left alone where one CTA finished the group · rows (capacity) · row_ptr (gm + 1). Grid (capacity), 256 threads.
// Bytes: 4 for each CTA that shares and 2 an element; about (ctas + groups) / groups CTAs share a group.
#include "shares.cuh"

extern "C" __global__ __launch_bounds__(256) void procosm_sum_shares(
    const float *__restrict__ partial, T *__restrict__ dv, const int *__restrict__ rows, const int *__restrict__ row_ptr,
    long long tokens, int gm, int ctas) {
  __shared__ int groups, before;
  const int slot = blockIdx.x, live = row_ptr[gm], row = rows[slot];
  T *const block = dv + (long long)slot * AREA;
  if (slot >= live) {
    for (int i = threadIdx.x; i < AREA; i += blockDim.x) block[i] = narrow(0.0f);
    return;
  }
  if (threadIdx.x == 0) groups = before = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < gm; i += blockDim.x) {
    const int count = groups_in(row_ptr[i + 1] - row_ptr[i]);
    atomicAdd(&groups, count);
    if (i < row) atomicAdd(&before, count);
  }
  __syncthreads();
  const Line line = {(long long)live + groups, int((tokens + 63) / 64), ctas};
  const int start = row_ptr[row], slots = row_ptr[row + 1] - start;
  int j = 0;
  Group group = group_of(start, slots, before, j);
  while (slot >= group.first + group.length) group = group_of(start, slots, before, ++j);
  // Parts are as long as the line allows, so that the group's lie between these two, with one to spare on either side.
  const int low = int(group.before * ctas / line.cost), high = int((group.before + group.length + 1) * ctas / line.cost);
  const int from = low > 0 ? low - 1 : 0, to = high + 1 < ctas ? high + 1 : ctas - 1;
  for (int c = from; c <= to; ++c) {
    const Range part = range_of(line, group, c);
    if (part.begin == 0 && part.end == line.stages) return;  // finished by one CTA, and stored
  }
  for (int i = threadIdx.x * 4; i < AREA; i += blockDim.x * 4) {
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int c = from; c <= to; ++c) {
      const Range part = range_of(line, group, c);
      if (part.begin == part.end) continue;
      const float4 v =
          *reinterpret_cast<const float4 *>(partial + place_of(c, part) + (slot - group.first) * AREA + i);
      sum[0] += v.x;
      sum[1] += v.y;
      sum[2] += v.z;
      sum[3] += v.w;
    }
    for (int e = 0; e < 4; ++e) block[i + e] = narrow(sum[e]);
  }
}
