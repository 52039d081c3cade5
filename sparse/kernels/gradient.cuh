// The gradient of one weight block, dV[r][c] = sum over tokens of grad[t][row * b + r] * x[t][col * b + c]:
// what weight_gradient stores and block_norms only measures. One CTA walks all tokens, so the sum has a fixed order.
#pragma once
#include "common.cuh"

constexpr int LD = BLOCK + VEC;  // one access of padding keeps rows in different banks
typedef T Stages[2][SPAN * LD];  // of tokens
typedef Tile<BLOCK / 16, BLOCK / 16> GradientTile;

__device__ inline void block_gradient(GradientTile &tile, Stages &a, Stages &b, const T *grad, const T *x, int row, int col,
                                      long long tokens, long long out, long long width) {
  tile.clear_all();
  const auto fill = [&](int c, int s) {
    const long long t = (long long)c * SPAN;
    stage<SPAN, BLOCK, LD>(a[s], grad + t * out + row * BLOCK, out, tokens - t);
    stage<SPAN, BLOCK, LD>(b[s], x + t * width + col * BLOCK, width, tokens - t);
  };
  in_turns(int((tokens + SPAN - 1) / SPAN), fill,
           [&](int s) { tile.template multiply<true, false, SPAN>(a[s], LD, b[s], LD); });
}
