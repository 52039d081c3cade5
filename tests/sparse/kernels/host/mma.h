// WMMA by its documented meaning: lane 0 of a warp holds the whole fragment and does the work.
#pragma once
#include "cuda_bf16.h"
#include "cuda_fp16.h"
namespace nvcuda {
namespace wmma {
struct row_major {};
struct col_major {};
struct matrix_a {};
struct matrix_b {};
struct accumulator {};
enum layout_t { mem_row_major, mem_col_major };

inline float widened(__half v) { return __half2float(v); }
inline float widened(__nv_bfloat16 v) { return __bfloat162float(v); }
inline bool leads() { return host::running % 32 == 0; }

template <class Use, int M, int N, int K, class Element, class Layout = void> struct fragment { float at[16][16]; };

template <class F> void fill_fragment(F &f, float value) {
  if (leads())
    for (auto &row : f.at)
      for (float &v : row) v = value;
}
template <class Use, class E> void load_matrix_sync(fragment<Use, 16, 16, 16, E, row_major> &f, const E *p, int ld) {
  if (leads())
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 16; ++j) f.at[i][j] = widened(p[i * ld + j]);
}
template <class Use, class E> void load_matrix_sync(fragment<Use, 16, 16, 16, E, col_major> &f, const E *p, int ld) {
  if (leads())
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 16; ++j) f.at[i][j] = widened(p[j * ld + i]);
}
template <class D, class A, class B> void mma_sync(D &d, const A &a, const B &b, const D &c) {
  if (leads())
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 16; ++j) {
        float sum = c.at[i][j];
        for (int k = 0; k < 16; ++k) sum += a.at[i][k] * b.at[k][j];
        d.at[i][j] = sum;
      }
}
template <class F> void store_matrix_sync(float *p, const F &f, int ld, layout_t) {
  if (leads())
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 16; ++j) p[i * ld + j] = f.at[i][j];
}
}  // namespace wmma
}  // namespace nvcuda
