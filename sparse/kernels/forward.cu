// y[t][i b + r] = bias[i b + r] + sum over slots s of block row i, and c, of x[t][cols[s] b + c] * values[s][r][c]
// x (tokens, gn b) · values (capacity, b, b) · bias (gm b) or null · row_ptr (gm + 1) · cols (capacity) · y (tokens, gm b)
// pairs (ceil(gm / 2), 2): a heavy and a light block row for each CTA to do in turn, -1 for none (see pairing.py).
// Grid (token tiles, pairs), 128 threads. FLOPs 2 tokens n b². Bytes: x tile once per slot, values once per token tile,
// y once; per CTA and slot 2 TOKENS b² FLOPs for (TOKENS + b) b elements: 32 FLOPs a byte at b = 64 in 16 bits.
#include "common.cuh"

constexpr int TOKENS = 64;
constexpr int PARTS = BLOCK / SPAN;  // of a block, along its features
constexpr int LD = SPAN + VEC;

extern "C" __global__ __launch_bounds__(THREADS) void procosm_forward(
    const T *__restrict__ x, const T *__restrict__ values, const T *__restrict__ bias, const int *__restrict__ row_ptr,
    const int *__restrict__ cols, const int *__restrict__ pairs, T *__restrict__ y, long long tokens, int gm, int gn) {
  __shared__ __align__(128) T a[2][TOKENS * LD];
  __shared__ __align__(128) T b[2][BLOCK * LD];
  __shared__ __align__(128) float scratch[WARPS * 256];
  const long long first = (long long)blockIdx.x * TOKENS, width = (long long)gn * BLOCK, out = (long long)gm * BLOCK;
  for (int half = 0; half < 2; ++half) {
    const int row = pairs[2 * blockIdx.y + half];
    if (row < 0) continue;
    Tile<TOKENS / 16, BLOCK / 16> tile;
    tile.clear_all();
    const int begin = row_ptr[row];
    const auto fill = [&](int c, int s) {
      const int slot = begin + c / PARTS, k = c % PARTS * SPAN;
      stage<TOKENS, SPAN, LD>(a[s], x + first * width + cols[slot] * BLOCK + k, width, tokens - first);
      stage<BLOCK, SPAN, LD>(b[s], values + (long long)slot * AREA + k, BLOCK, BLOCK);
    };
    in_turns((row_ptr[row + 1] - begin) * PARTS, fill,
             [&](int s) { tile.template multiply<false, true, SPAN>(a[s], LD, b[s], LD); });
    tile.each(scratch, [&](int r, int c, float *v) {
      if (first + r >= tokens) return;
      if (bias != nullptr)
        for (int e = 0; e < 8; ++e) v[e] += widen(bias[row * BLOCK + c + e]);
      store8(y + (first + r) * out + row * BLOCK + c, v);
    });
  }
}
