// The gradient of one weight block, dV[r][c] = sum over tokens of grad[t][row * b + r] * x[t][col * b + c]:
// what weight_gradient stores and block_norms only measures. One CTA walks all tokens, so the sum has a fixed order.
#pragma once
#include "common.cuh"

constexpr int SPAN = 32;           // tokens staged at a time
constexpr int LD = BLOCK + VEC;    // one access of padding keeps rows in different banks
typedef Tile<BLOCK / 16, BLOCK / 16> GradientTile;

__device__ inline void block_gradient(GradientTile &tile, T *a, T *b, const T *grad, const T *x, int row, int col,
                                      long long tokens, long long out, long long width) {
  tile.clear_all();
  for (long long t = 0; t < tokens; t += SPAN) {
    stage<SPAN, BLOCK, LD>(a, grad + t * out + row * BLOCK, out, tokens - t);
    stage<SPAN, BLOCK, LD>(b, x + t * width + col * BLOCK, width, tokens - t);
    __syncthreads();
    tile.template multiply<true, false, SPAN>(a, LD, b, LD);
    __syncthreads();
  }
}
