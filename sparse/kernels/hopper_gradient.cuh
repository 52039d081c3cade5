// G_e[r][c] = sum over tokens t of grad[t][rows[e] b + r] * x[t][cols[e] b + c] for entries e of a list: what
// hopper_weight_gradient stores and hopper_block_norms only measures.
//
// Work comes in runs: up to TOGETHER neighbouring entries of one row, over a range of stages of 64 tokens. The row's slice
// of grad is loaded once for all of them, and wgmma takes it as A and the gathered slices of x, side by side, as B (N up
// to 256). Both lie with M and N contiguous.
//   b = 128: each warpgroup takes 64 rows of the blocks, all columns; up to 2 entries.
//   b = 64: each takes half of the run's blocks, all rows; up to 8.
#pragma once
#include "hopper.cuh"
#include "shares.cuh"

constexpr bool SHARE_BLOCKS = BLOCK == 128;
constexpr int STAGE = HALVES * BOX * (1 + TOGETHER);

__device__ inline void copy_run(const TensorMap &grad, const TensorMap &x, Ring &ring, Place &at, unsigned char *stages,
                                const int *rows, const int *cols, int first, int length, Range part) {
  int col[TOGETHER];
#pragma unroll
  for (int e = 0; e < TOGETHER; ++e) col[e] = e < length ? cols[first + e] * BLOCK : 0;
  const int row = rows[first] * BLOCK;
  for (int s = part.first + part.begin; s < part.first + part.end; ++s) {
    unsigned char *to = stages + at.stage * STAGE;
    Barrier *full = &ring.full[at.stage];
    barrier_wait(&ring.empty[at.stage], at.phase ^ 1);
    barrier_expect(full, HALVES * BOX * (1 + length));
    for (int h = 0; h < HALVES; ++h) load_box(to + h * BOX, &grad, row + h * WIDE, s * 64, full);
#pragma unroll
    for (int e = 0; e < TOGETHER; ++e)
      for (int h = 0; h < HALVES && e < length; ++h)
        load_box(to + ((1 + e) * HALVES + h) * BOX, &x, col[e] + h * WIDE, s * 64, full);
    at.advance();
  }
}
// A warpgroup without a block in this run still releases the run's stages.
__device__ inline void pass_by(Ring &ring, Place &at, int count) {
  for (int s = 0; s < count; ++s, at.advance()) {
    barrier_wait(&ring.full[at.stage], at.phase);
    release(&ring.empty[at.stage]);
  }
}

__device__ inline int first_row() {
  return (SHARE_BLOCKS ? threadIdx.x / GROUP * 64 : 0) + threadIdx.x % GROUP / 32 * 16 + threadIdx.x % 32 / 4;
}

// walk(do_run): calls do_run(first entry, length, part) for the runs of this CTA, none with an empty part.
// visit(first, e, d, from, part) by the threads that multiply it: BLOCK / 2 elements of the block of entry first + e start
// at d[from]. Those at rows r = first_row() (+ 8) and columns c = 8 j + lane % 4 * 2 (+ 1) are
// d[from + 4 j + 2 (second row) + (second column)].
template <class Walk, class Visit>
__device__ __forceinline__ void each_gradient(const TensorMap &grad, const TensorMap &x, const int *rows, const int *cols,
                                              const Walk &walk, const Visit &visit) {
  __shared__ Ring ring;
  unsigned char *stages = stages_in(dynamic_shared());
  open(ring);
  const auto copy = [&] {
    Place at;
    walk([&](int first, int length, Range part) {
      copy_run(grad, x, ring, at, stages, rows, cols, first, length, part);
    });
  };
  const auto compute = [&] {
    const int group = threadIdx.x / GROUP;
    const unsigned base = shared_address(stages);
    Place at;
    walk([&](int first, int length, Range part) {
      const int low = SHARE_BLOCKS ? length : (length + 1) / 2;  // blocks of the first warpgroup
      const int mine = group == 0 || SHARE_BLOCKS ? low : length - low, offset = group == 0 || SHARE_BLOCKS ? 0 : low;
      const int a = SHARE_BLOCKS ? group * BOX : 0, b = HALVES * BOX * (1 + offset), count = part.end - part.begin;
      float d[128];  // the same registers whatever the width: blocks side by side, BLOCK / 2 each
      switch (mine * BLOCK) {
        case 0: pass_by(ring, at, count); break;
        case 64: multiply<64, true, true>(d, ring, at, base, STAGE, a, b, BOX, count); break;
        case 128: multiply<128, true, true>(d, ring, at, base, STAGE, a, b, BOX, count); break;
        case 192: multiply<192, true, true>(d, ring, at, base, STAGE, a, b, BOX, count); break;
        case 256: multiply<256, true, true>(d, ring, at, base, STAGE, a, b, BOX, count); break;
      }
      settle(d);
#pragma unroll
      for (int e = 0; e < 256 / BLOCK; ++e)
        if (e < mine) visit(first, offset + e, d, e * (BLOCK / 2), part);
    });
  };
  split_roles(copy, compute);
}
