// dx[t][j b + c] = sum over slots s of block column j, and r, of grad[t][rows[s] b + r] * values[s][r][c]
// grad (tokens, gm b) · values (capacity, b, b) · col_ptr (gn + 1) · perm, rows (capacity) · dx (tokens, gn b)
// The slots of column j are perm[col_ptr[j]] to perm[col_ptr[j + 1]]: one index permutation, no second copy of values.
// pairs (ceil(gn / 2), 2): block columns, heavy with light. Grid (token tiles, pairs), 128 threads. Cost as forward.cu.
#include "common.cuh"

constexpr int TOKENS = 64;
constexpr int PARTS = BLOCK / SPAN;  // of a block, along its rows
constexpr int LD_A = SPAN + VEC, LD_B = BLOCK + VEC;

extern "C" __global__ __launch_bounds__(THREADS) void procosm_data_gradient(
    const T *__restrict__ grad, const T *__restrict__ values, const int *__restrict__ col_ptr,
    const int *__restrict__ perm, const int *__restrict__ rows, const int *__restrict__ pairs, T *__restrict__ dx,
    long long tokens, int gm, int gn) {
  __shared__ __align__(128) T a[2][TOKENS * LD_A];
  __shared__ __align__(128) T b[2][SPAN * LD_B];
  __shared__ __align__(128) float scratch[WARPS * 256];
  const long long first = (long long)blockIdx.x * TOKENS, width = (long long)gn * BLOCK, out = (long long)gm * BLOCK;
  for (int half = 0; half < 2; ++half) {
    const int col = pairs[2 * blockIdx.y + half];
    if (col < 0) continue;
    Tile<TOKENS / 16, BLOCK / 16> tile;
    tile.clear_all();
    const int begin = col_ptr[col];
    const auto fill = [&](int c, int s) {
      const int slot = perm[begin + c / PARTS], k = c % PARTS * SPAN;
      stage<TOKENS, SPAN, LD_A>(a[s], grad + first * out + rows[slot] * BLOCK + k, out, tokens - first);
      stage<SPAN, BLOCK, LD_B>(b[s], values + (long long)slot * AREA + k * BLOCK, BLOCK, SPAN);
    };
    in_turns((col_ptr[col + 1] - begin) * PARTS, fill,
             [&](int s) { tile.template multiply<false, false, SPAN>(a[s], LD_A, b[s], LD_B); });
    tile.each(scratch, [&](int r, int c, float *v) {
      if (first + r < tokens) store8(dx + (first + r) * width + col * BLOCK + c, v);
    });
  }
}
