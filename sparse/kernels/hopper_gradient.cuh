// G_e[r][c] = sum over tokens t of grad[t][rows[e] b + r] * x[t][cols[e] b + c] for entries e of a list: what
// hopper_weight_gradient stores and hopper_block_norms only measures.
//
// An item is `together` neighbouring entries and one of `splits` ranges of tokens. Entries of an item that share their
// row, at most MOST, are a run: the row's slice of grad is loaded once for all of them, and wgmma takes it as A and the
// gathered slices of x, side by side, as B (N up to 256). Both lie with M and N contiguous. A stage is 64 tokens.
//   b = 128: each warpgroup takes 64 rows of the blocks, all columns; MOST = 2.
//   b = 64: each takes half of the run's blocks, all rows; MOST = 8.
// Lists in any order are right; sorted by row they are fast.
#pragma once
#include "hopper.cuh"

constexpr bool SHARE_BLOCKS = BLOCK == 128;
constexpr int MOST = SHARE_BLOCKS ? 2 : 8;
constexpr int STAGE = HALVES * BOX * (1 + MOST);

struct List {
  const int *rows, *cols;
  int count;
};
struct Range {
  int begin, end;
};

// Neighbouring entries from `first` on, before `last`, that share a row.
__device__ inline int run_of(const List &list, int first, int last) {
  int length = 1;
  while (length < MOST && first + length < last && list.rows[first + length] == list.rows[first]) ++length;
  return length;
}
// The part of ceil(tokens / 64) stages that a split takes: the sizes of the parts differ by at most one.
__device__ inline Range part_of(long long tokens, int split, int splits) {
  const long long stages = (tokens + 63) / 64;
  return {int(stages * split / splits), int(stages * (split + 1) / splits)};
}

__device__ inline void copy_run(const TensorMap &grad, const TensorMap &x, Ring &ring, Place &at, unsigned char *stages,
                                const List &list, int first, int length, Range part) {
  int col[MOST];
#pragma unroll
  for (int e = 0; e < MOST; ++e) col[e] = e < length ? list.cols[first + e] * BLOCK : 0;
  const int row = list.rows[first] * BLOCK;
  for (int s = part.begin; s < part.end; ++s) {
    unsigned char *to = stages + at.stage * STAGE;
    Barrier *full = &ring.full[at.stage];
    barrier_wait(&ring.empty[at.stage], at.phase ^ 1);
    barrier_expect(full, HALVES * BOX * (1 + length));
    for (int h = 0; h < HALVES; ++h) load_box(to + h * BOX, &grad, row + h * WIDE, s * 64, full);
#pragma unroll
    for (int e = 0; e < MOST; ++e)
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

// do_run(first entry, length, split) for the runs of this CTA: both roles walk them in the same order.
template <class Do>
__device__ __forceinline__ void each_run(const List &list, int together, int items, int splits, const Do &do_run) {
  for (int item = blockIdx.x; item < items * splits; item += gridDim.x) {
    const int from = item % items * together, last = from + together < list.count ? from + together : list.count;
    for (int first = from, length; first < last; first += length) {
      length = run_of(list, first, last);
      do_run(first, length, item / items);
    }
  }
}

// visit(split, entry, d, from, none) by the threads that multiply it: BLOCK / 2 elements of the entry's block start at
// d[from], or are zero if none. Those at rows r = first_row() (+ 8) and columns c = 8 j + lane % 4 * 2 (+ 1) are
// d[from + 4 j + 2 (second row) + (second column)].
__device__ inline int first_row() {
  return (SHARE_BLOCKS ? threadIdx.x / GROUP * 64 : 0) + threadIdx.x % GROUP / 32 * 16 + threadIdx.x % 32 / 4;
}
template <class Visit>
__device__ __forceinline__ void each_gradient(const TensorMap &grad, const TensorMap &x, const List &list,
                                              long long tokens, int together, int items, int splits,
                                              const Visit &visit) {
  __shared__ Ring ring;
  unsigned char *stages = stages_in(dynamic_shared());
  open(ring);
  const auto copy = [&] {
    Place at;
    each_run(list, together, items, splits, [&](int first, int length, int split) {
      copy_run(grad, x, ring, at, stages, list, first, length, part_of(tokens, split, splits));
    });
  };
  const auto compute = [&] {
    const int group = threadIdx.x / GROUP;
    const unsigned base = shared_address(stages);
    Place at;
    each_run(list, together, items, splits, [&](int first, int length, int split) {
      const Range part = part_of(tokens, split, splits);
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
        if (e < mine) visit(split, first + offset + e, d, e * (BLOCK / 2), count == 0);
    });
  };
  split_roles(copy, compute);
}
