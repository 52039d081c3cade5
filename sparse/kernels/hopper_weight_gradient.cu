// dv[s][r][c] = sum over tokens t of grad[t][rows[s] b + r] * x[t][cols[s] b + c] for the live slots s
// on sm_90a, b 64 or 128, 16-bit: hopper_gradient.cuh says how, shares.cuh how the work is cut. Maps (64 columns by 64
// rows): grad (tokens, gm b), x (tokens, gn b). rows, cols (capacity) · row_ptr (gm + 1), its last entry counts the live
// slots, gm <= MOST_LINES · dv (capacity, b, b): what a CTA finishes alone · partial (chunks, TOGETHER grid + capacity, b, b)
// float32: what it does not; sum_shares adds that up in order, so results repeat bit for bit. per_chunk: stages of a
// chunk. Grid: any; 384 threads.
// FLOPs 2 tokens n b². Bytes from memory: grad and x once, 2 tokens (gm + gn) b, dv 2 n b². From L2: 2 tokens b (n +
// groups), b k / (k + 1) FLOPs a byte for groups of k blocks (85 at b = 128, 57 at 64, when full), and partial.
// Floor on an H200 (assumed as in hopper_forward.cu), d = 4096, density .1, 8192 tokens, with partial written and read:
// 55 us at b = 128, 79 us at b = 64. H200 before chunks and the new sum_shares: 160 us at b = 128, 210 us at b = 64.
#include "hopper_gradient.cuh"

// The runs of one CTA's share.
struct Share {
  const int *row_ptr, *before;
  long long tokens;
  int gm, per_chunk, cta, ctas;
  template <class Do> __device__ __forceinline__ void operator()(const Do &do_run) const {
    for (int chunk = 0; chunk * per_chunk < stages_of(tokens); ++chunk)
      walk_line(line_of((long long)row_ptr[gm] + before[gm], tokens, per_chunk, chunk, ctas), do_run);
  }
  template <class Do> __device__ __forceinline__ void walk_line(const Line &line, const Do &do_run) const {
    const long long low = edge(line, cta), high = edge(line, cta + 1);
    int row = 0;
    for (int end = gm; row < end;) {  // the first row that reaches past low
      const int middle = (row + end) / 2;
      if ((row_ptr[middle + 1] + before[middle + 1]) * (long long)line.stages > low)
        end = middle;
      else
        row = middle + 1;
    }
    for (; row < gm && (row_ptr[row] + before[row]) * (long long)line.stages < high; ++row) {
      const int start = row_ptr[row], slots = row_ptr[row + 1] - start;
      for (int j = 0; j < groups_in(slots); ++j) {
        const Group group = group_of(start, slots, before[row], j);
        const Range part = range_of(line, group, cta);
        if (part.begin < part.end) do_run(group.first, group.length, part);
      }
    }
  }
};

extern "C" __global__ __launch_bounds__(THREADS, 1) void procosm_hopper_weight_gradient(
    const __grid_constant__ TensorMap grad, const __grid_constant__ TensorMap x, const int *__restrict__ rows,
    const int *__restrict__ cols, const int *__restrict__ row_ptr, T *__restrict__ dv, float *__restrict__ partial,
    long long tokens, int gm, int capacity, int per_chunk) {
  __shared__ int before[MOST_LINES + 1];  // hopper.py; groups in the rows before
  for (int i = threadIdx.x; i <= gm; i += THREADS) {
    int sum = 0;
    for (int j = 0; j < i; ++j) sum += groups_in(row_ptr[j + 1] - row_ptr[j]);
    before[i] = sum;
  }
  __syncthreads();
  const int cta = blockIdx.x, ctas = gridDim.x, r0 = first_row(), c0 = threadIdx.x % 4 * 2;
  const Share walk = {row_ptr, before, tokens, gm, per_chunk, cta, ctas};
  each_gradient(grad, x, rows, cols, walk, [&](int first, int e, const float(&d)[128], int from, const Range &part) {
    const bool whole = part.end - part.begin == stages_of(tokens);
    T *const direct = dv + (long long)(first + e) * AREA + r0 * BLOCK + c0;
    float *const open_sum =
        partial + place_of(cta, ctas, capacity, part.first / per_chunk, first + e) + r0 * BLOCK + c0;
#pragma unroll
    for (int j = 0; j < BLOCK / 8; ++j)
#pragma unroll
      for (int second = 0; second < 2; ++second) {
        const int i = from + 4 * j + 2 * second, offset = 8 * second * BLOCK + 8 * j;
        if (whole)
          *reinterpret_cast<unsigned *>(direct + offset) = pack(d[i], d[i + 1]);
        else
          *reinterpret_cast<float2 *>(open_sum + offset) = float2{d[i], d[i + 1]};
      }
  });
}
