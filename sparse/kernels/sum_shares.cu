// dv[s] = sum over chunks, and the CTAs of each in order, of what they left of slot s in partial; 0 in the padding
// partial (chunks, TOGETHER ctas + capacity, b, b) float32 from hopper_weight_gradient, whose grid had `ctas` CTAs · dv
// (capacity, b, b), left alone where one CTA finished the group · rows (capacity) · row_ptr (gm + 1) · per_chunk: stages of a
// chunk. Grid (capacity, parts of a block), 256 threads; each CTA adds up one part of one block.
// Bytes: 4 for each CTA that shares and 2 an element; about (ctas + groups) / groups CTAs share a group in each chunk.
#include "shares.cuh"

constexpr int THREADS = 256, QUADS = 4;  // float4 a thread adds up: AREA / (4 THREADS QUADS) parts

// Where the CTAs that worked on `group` left it, in order; -1 for a CTA that did not. One candidate each thread.
__device__ inline long long candidate(const Group &group, long long cost, long long tokens, int per_chunk, int ctas,
                                      int capacity, int slot, int from, int count, int i) {
  const int chunk = i / count, cta = from + i % count;
  if (chunk * per_chunk >= stages_of(tokens)) return -1;
  const Range part = range_of(line_of(cost, tokens, per_chunk, chunk, ctas), group, cta);
  return part.begin < part.end ? place_of(cta, ctas, capacity, chunk, slot) : -1;
}

extern "C" __global__ __launch_bounds__(THREADS) void procosm_sum_shares(
    const float *__restrict__ partial, T *__restrict__ dv, const int *__restrict__ rows, const int *__restrict__ row_ptr,
    long long tokens, int gm, int ctas, int per_chunk) {
  __shared__ int groups, before, finished;
  __shared__ long long places[THREADS];
  const int slot = blockIdx.x, capacity = gridDim.x, live = row_ptr[gm], row = rows[slot];
  const int at = (blockIdx.y * THREADS * QUADS + threadIdx.x) * 4;
  T *const block = dv + (long long)slot * AREA;
  if (slot >= live) {
    for (int q = 0; q < QUADS; ++q)
      for (int e = 0; e < 4; ++e) block[at + q * THREADS * 4 + e] = narrow(0.0f);
    return;
  }
  if (threadIdx.x == 0) groups = before = finished = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < gm; i += THREADS) {
    const int count = groups_in(row_ptr[i + 1] - row_ptr[i]);
    atomicAdd(&groups, count);
    if (i < row) atomicAdd(&before, count);
  }
  __syncthreads();
  const long long cost = (long long)live + groups;
  const int start = row_ptr[row], slots = row_ptr[row + 1] - start;
  int j = 0;
  Group group = group_of(start, slots, before, j);
  while (slot >= group.first + group.length) group = group_of(start, slots, before, ++j);
  // Parts are as long as the line allows, so that the group's lie between these two, with one to spare on either side.
  const int low = int(group.before * ctas / cost), high = int((group.before + group.length + 1) * ctas / cost);
  const int from = low > 0 ? low - 1 : 0, to = high + 1 < ctas ? high + 1 : ctas - 1, count = to - from + 1;
  const int all = count * ((stages_of(tokens) + per_chunk - 1) / per_chunk);
  float4 sum[QUADS] = {};
  for (int first = 0; first < all; first += THREADS) {
    const int i = first + threadIdx.x;
    places[threadIdx.x] = i < all ? candidate(group, cost, tokens, per_chunk, ctas, capacity, slot, from, count, i) : -1;
    if (i < all && stages_of(tokens) <= per_chunk) {  // one chunk: did one CTA finish the group, and store it?
      const Range part = range_of(line_of(cost, tokens, per_chunk, 0, ctas), group, from + i);
      if (part.end - part.begin == stages_of(tokens)) finished = 1;
    }
    __syncthreads();
    if (finished) return;
    const int filled = all - first < THREADS ? all - first : THREADS;
    for (int k = 0; k < filled; ++k) {
      if (places[k] < 0) continue;
#pragma unroll
      for (int q = 0; q < QUADS; ++q) {
        const float4 v = *reinterpret_cast<const float4 *>(partial + places[k] + at + q * THREADS * 4);
        sum[q].x += v.x;
        sum[q].y += v.y;
        sum[q].z += v.z;
        sum[q].w += v.w;
      }
    }
    __syncthreads();
  }
  for (int q = 0; q < QUADS; ++q) {
    T *const to_block = block + at + q * THREADS * 4;
    to_block[0] = narrow(sum[q].x);
    to_block[1] = narrow(sum[q].y);
    to_block[2] = narrow(sum[q].z);
    to_block[3] = narrow(sum[q].w);
  }
}
