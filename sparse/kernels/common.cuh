// What the kernels share: the dtype, tiles staged in shared memory, and 16 x 16 fragments of a product in float32.
// A CTA has 4 warps. A tile of MF x NF fragments is dealt to them in row-major order, PER each; a lane then sees 8
// neighbouring elements of a fragment row: row lane / 2, columns (lane % 2) * 8 to + 7.
// float16 and bfloat16 run on tensor cores through WMMA; float32 in plain FMA, since TF32 would lose 13 bits.
#pragma once
#include <mma.h>

#include <sm80.cuh>

#include "dtype.cuh"

constexpr int WARPS = 4, THREADS = 32 * WARPS;
constexpr int VEC = 16 / sizeof(T);  // elements in a 16-byte access

// Values of the summed index that are staged at a time: two stages, and scratch, in the 48 KiB a kernel may declare.
constexpr int SPAN = BLOCK == 16 || (BLOCK == 128 && sizeof(T) == 4) ? 16 : 32;

// Begin to copy a ROWS x COLS tile, row stride `stride` elements, to shared memory with row stride LD; rows >= valid
// become 0. Every address is a multiple of 16 bytes: widths are multiples of 16 elements, the binding checks the base.
template <int ROWS, int COLS, int LD>
__device__ inline void stage(T *to, const T *from, long long stride, long long valid) {
  constexpr int PER_ROW = COLS / VEC;
  for (int i = threadIdx.x; i < ROWS * PER_ROW; i += THREADS) {
    const int r = i / PER_ROW, c = i % PER_ROW * VEC;
    copy16(to + r * LD + c, r < valid ? from + r * stride + c : from, r >= valid);
  }
}

// fill(c, s) begins to copy chunk c to stage s, use(s) multiplies it: chunk c + 1 is under way while c is multiplied.
template <class Fill, class Use> __device__ __forceinline__ void in_turns(int chunks, const Fill &fill, const Use &use) {
  if (chunks > 0) fill(0, 0);
  copies_commit();
  for (int c = 0; c < chunks; ++c) {
    if (c + 1 < chunks) fill(c + 1, (c + 1) % 2);
    copies_commit();  // after the last chunk a group of none, so that all but one have arrived means chunk c has
    copies_wait<1>();
    __syncthreads();  // everybody's copies of chunk c
    use(c % 2);
    __syncthreads();  // chunk c + 2 takes the place of chunk c
  }
}

// One 16 x 16 x 16 step, acc += A B. A is stored [m][k], or [k][m] if A_T; B is stored [k][n], or [n][k] if B_T.
#if DTYPE == 0
struct Accumulator { float v[8]; };
template <bool A_T> struct Left { const T *p; int ld; };

__device__ inline void clear(Accumulator &acc) {
  for (int e = 0; e < 8; ++e) acc.v[e] = 0.0f;
}
template <bool A_T> __device__ inline void load(Left<A_T> &a, const T *p, int ld) { a.p = p; a.ld = ld; }
template <bool A_T, bool B_T>
__device__ inline void step(Accumulator &acc, const Left<A_T> &a, const T *b, int ldb) {
  const int lane = threadIdx.x % 32, m = lane / 2, n = lane % 2 * 8;
#pragma unroll 1
  for (int k = 0; k < 16; ++k) {
    const float left = A_T ? a.p[k * a.ld + m] : a.p[m * a.ld + k];
    for (int e = 0; e < 8; ++e) acc.v[e] += left * (B_T ? b[(n + e) * ldb + k] : b[k * ldb + n + e]);
  }
}
__device__ inline void unload(const Accumulator &acc, float *, float *v) {
  for (int e = 0; e < 8; ++e) v[e] = acc.v[e];
}
#else
using namespace nvcuda;
template <bool TRANSPOSED> struct Order { typedef wmma::row_major type; };
template <> struct Order<true> { typedef wmma::col_major type; };
typedef wmma::fragment<wmma::accumulator, 16, 16, 16, float> Accumulator;
template <bool A_T> using Left = wmma::fragment<wmma::matrix_a, 16, 16, 16, T, typename Order<A_T>::type>;
template <bool B_T> using Right = wmma::fragment<wmma::matrix_b, 16, 16, 16, T, typename Order<B_T>::type>;

__device__ inline void clear(Accumulator &acc) { wmma::fill_fragment(acc, 0.0f); }
template <bool A_T> __device__ inline void load(Left<A_T> &a, const T *p, int ld) { wmma::load_matrix_sync(a, p, ld); }
template <bool A_T, bool B_T>
__device__ inline void step(Accumulator &acc, const Left<A_T> &a, const T *b, int ldb) {
  Right<B_T> right;
  wmma::load_matrix_sync(right, b, ldb);
  wmma::mma_sync(acc, a, right, acc);
}
// The layout of an accumulator is the hardware's secret: it passes through 1 KiB of the warp's own shared memory.
__device__ inline void unload(const Accumulator &acc, float *scratch, float *v) {
  const int lane = threadIdx.x % 32;
  __syncwarp();
  wmma::store_matrix_sync(scratch, acc, 16, wmma::mem_row_major);
  __syncwarp();
  for (int e = 0; e < 8; ++e) v[e] = scratch[lane * 8 + e];
}
#endif

// The product of one CTA: 16 MF x 16 NF elements.
template <int MF, int NF> struct Tile {
  static constexpr int COUNT = MF * NF, PER = (COUNT + WARPS - 1) / WARPS;
  Accumulator acc[PER];

  __device__ inline void clear_all() {
#pragma unroll
    for (int j = 0; j < PER; ++j) clear(acc[j]);
  }

  // acc += A B over K more terms; a and b are staged tiles with row strides lda and ldb.
  template <bool A_T, bool B_T, int K> __device__ inline void multiply(const T *a, int lda, const T *b, int ldb) {
    const int first = threadIdx.x / 32 * PER;
#pragma unroll 1  // unrolled, the float32 form takes minutes to compile
    for (int k = 0; k < K; k += 16) {
      Left<A_T> left;
#pragma unroll
      for (int j = 0; j < PER; ++j) {
        const int f = first + j, m = f / NF * 16, n = f % NF * 16;
        if (f >= COUNT) break;
        if (j == 0 || f % NF == 0) load<A_T>(left, a + (A_T ? k * lda + m : m * lda + k), lda);
        step<A_T, B_T>(acc[j], left, b + (B_T ? n * ldb + k : k * ldb + n), ldb);
      }
    }
  }

  // visit(row, column, v) for each run of 8 elements this lane sees; scratch holds 256 floats a warp.
  template <class Visit> __device__ inline void each(float *scratch, Visit visit) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j < PER; ++j) {
      const int f = warp * PER + j;
      if (f >= COUNT) break;
      float v[8];
      unload(acc[j], scratch + warp * 256, v);
      visit(f / NF * 16 + lane / 2, f % NF * 16 + lane % 2 * 8, v);
    }
  }
};

__device__ inline void store8(T *to, const float *v) {
  for (int e = 0; e < 8; ++e) to[e] = narrow(v[e]);
}
