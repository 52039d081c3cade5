// dv[s][r][c] = sum over tokens t of grad[t][rows[s] b + r] * x[t][cols[s] b + c] for the live slots s, 0 in the padding
// grad (tokens, gm b) · x (tokens, gn b) · rows, cols (capacity) · row_ptr (gm + 1), its last entry counts the live slots
// dv (capacity, b, b). Grid (capacity), 128 threads: one CTA a slot, so kept blocks balance by themselves.
// FLOPs 2 tokens n b². Bytes: 2 tokens b elements read a slot, b² written: b / 2 FLOPs a byte in 16 bits.
#include "gradient.cuh"

extern "C" __global__ __launch_bounds__(THREADS) void procosm_weight_gradient(
    const T *__restrict__ grad, const T *__restrict__ x, const int *__restrict__ rows, const int *__restrict__ cols,
    const int *__restrict__ row_ptr, T *__restrict__ dv, long long tokens, int gm, int gn) {
  __shared__ __align__(128) Stages a, b;
  __shared__ __align__(128) float scratch[WARPS * 256];
  const int slot = blockIdx.x;
  GradientTile tile;
  // A padding slot points at block (0, 0): walk no tokens and store the cleared tile.
  const long long walked = slot < row_ptr[gm] ? tokens : 0;
  block_gradient(tile, a, b, grad, x, rows[slot], cols[slot], walked, (long long)gm * BLOCK, (long long)gn * BLOCK);
  tile.each(scratch, [&](int r, int c, float *v) { store8(dv + (long long)slot * AREA + r * BLOCK + c, v); });
}
