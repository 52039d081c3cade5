// out[t][line b + r] = bias + sum over the slots s of a line, and k, of in[t][blocks[s] b + k] * V_s[r][k]: the product of
// hopper_forward (lines are block rows, V_s = values[s]) and hopper_data_gradient (block columns, V_s = values[s]ᵀ).
//
// An item is a tile of TOKENS tokens and a heavy and a light line; each CTA walks items with the grid's stride. wgmma
// computes the tile transposed, out[r][t]: the weight block is A (M = its rows), the tokens are B (N = 256), so blocks
// of 64 fill the tensor cores and each weight read from shared memory meets 256 tokens.
//   b = 128: both warpgroups share 256 tokens and take 64 of the block's rows each; a stage is 16 + 32 KiB.
//   b = 64: both share the block and take 256 tokens each; a stage is 8 + 64 KiB.
// A stage holds 64 values of k: half a block, or one.
#pragma once
#include "hopper.cuh"

constexpr bool SHARE_TOKENS = BLOCK == 128;
constexpr int NEAR = 256, TOKENS = SHARE_TOKENS ? NEAR : GROUPS * NEAR;
constexpr int WEIGHTS = HALVES * BOX, STAGE = WEIGHTS + TOKENS * 128;
constexpr int PIECE = SHARE_TOKENS ? 64 : 16;  // tokens a warpgroup stores at a time, through PIECE * 128 bytes
constexpr int PIECES = 2;                      // that it may have under way

// order: lines by falling number of slots, equal ones by index. scratch: 2 bytes a line.
__device__ inline void sort_lines(unsigned short *order, unsigned short *scratch, const int *ptr, int lines) {
  for (int i = threadIdx.x; i < lines; i += THREADS) scratch[i] = (unsigned short)(ptr[i + 1] - ptr[i]);
  __syncthreads();
  for (int i = threadIdx.x; i < lines; i += THREADS) {
    const int mine = scratch[i];
    int rank = 0;
    for (int j = 0; j < lines; ++j) rank += scratch[j] > mine || (scratch[j] == mine && j < i);
    order[rank] = (unsigned short)i;
  }
  publish();  // bulk copies will overwrite scratch
  __syncthreads();
}

// The line an item does in its turn, or -1: alone by falling weight, or the i-th with the i-th from the end.
__device__ inline int line_of(const unsigned short *order, int lines, int places, int place, int turn) {
  if (turn == 0) return order[place];
  return places < lines && lines - 1 - place > place ? order[lines - 1 - place] : -1;
}

template <bool COLUMNS>
__device__ inline void copy_line(const TensorMap &in, const TensorMap &values, Ring &ring, Place &at,
                                 unsigned char *stages, const int *perm, const int *blocks, int begin, int end,
                                 int first_token) {
  int slot = begin < end ? (COLUMNS ? perm[begin] : begin) : 0, block = begin < end ? blocks[slot] : 0;
  for (int i = begin; i < end; ++i) {
    const int here = slot, from = block;
    if (i + 1 < end) {  // looked up before the wait, which hides it
      slot = COLUMNS ? perm[i + 1] : i + 1;
      block = blocks[slot];
    }
    for (int h = 0; h < HALVES; ++h) {
      unsigned char *to = stages + at.stage * STAGE;
      barrier_wait(&ring.empty[at.stage], at.phase ^ 1);
      barrier_expect(&ring.full[at.stage], STAGE);
      for (int part = 0; part < HALVES; ++part) {  // 64 x 64 of the block: its rows part by part, k = 64 h to 64 h + 63
        const int r = COLUMNS ? h : part, c = COLUMNS ? part : h;
        load_box(to + part * BOX, &values, c * WIDE, here * BLOCK + r * 64, &ring.full[at.stage]);
      }
      for (int t = 0; t < TOKENS; t += NEAR)
        load_box(to + WEIGHTS + t * 128, &in, from * BLOCK + h * WIDE, first_token + t, &ring.full[at.stage]);
      at.advance();
    }
  }
}

// Write d[r][t] (64 x 256, this warpgroup's) to out[t][r] through a swizzled piece of shared memory. A thread holds rows
// r = 16 warp + lane / 4 and 8 more, tokens 8 j + lane % 4 * 2 and the next, in d[4 j] to d[4 j + 3].
__device__ __forceinline__ void store(const TensorMap &out, unsigned char *pieces, unsigned &stored,
                                      const float (&d)[NEAR / 2], bool none, float low_bias, float high_bias,
                                      int column, int first_token, long long tokens) {
  const int thread = threadIdx.x % GROUP, group = threadIdx.x / GROUP, warp = thread / 32, lane = thread % 32;
  const int half = lane / 8 % 2, row = lane / 16 * 8 + lane % 8;  // of the matrix whose row address this lane gives
#pragma unroll
  for (int p = 0; p < NEAR / PIECE; ++p) {
    if (first_token + p * PIECE >= tokens) break;
    if (thread == 0) stores_read<PIECES - 1>();
    group_sync(1 + group, GROUP);  // the piece is free
    unsigned char *const piece = pieces + stored++ % PIECES * PIECE * 128;
#pragma unroll
    for (int j = 0; j < PIECE / 8; j += 2) {
      unsigned v[4];
#pragma unroll
      for (int m = 0; m < 4; ++m) {  // matrices: rows low and high of tokens 8 j, then of the next eight
        const int e = 4 * (p * PIECE / 8 + j) + 2 * m;
        const float bias = m % 2 ? high_bias : low_bias;
        v[m] = pack((none ? 0.0f : d[e]) + bias, (none ? 0.0f : d[e + 1]) + bias);
      }
      const int line = j * 8 + row;
      store_transposed(piece + line * 128 + ((2 * warp + half) ^ (line % 8)) * 16, v);
    }
    publish();
    group_sync(1 + group, GROUP);  // the piece is whole
    if (thread == 0) store_box(&out, piece, column, first_token + p * PIECE);
  }
}

// do_line(line, first token) for the items of this CTA: both roles walk them in the same order.
template <class Do>
__device__ __forceinline__ void each_line(const unsigned short *order, long long tokens, int lines, int places,
                                          const Do &do_line) {
  const int items = int((tokens + TOKENS - 1) / TOKENS) * places;
  for (int item = blockIdx.x; item < items; item += gridDim.x)
    for (int turn = 0; turn < 2; ++turn) {
      const int line = line_of(order, lines, places, item % places, turn);
      if (line >= 0) do_line(line, item / places * TOKENS);
    }
}

template <bool COLUMNS>
__device__ __forceinline__ void multiply_lines(const TensorMap &in, const TensorMap &values, const TensorMap &out,
                                               const T *bias, const int *ptr, const int *perm, const int *blocks,
                                               long long tokens, int lines, int places) {
  __shared__ Ring ring;
  __shared__ unsigned short order[MOST_LINES];  // hopper.py
  unsigned char *stages = stages_in(dynamic_shared());
  open(ring);
  sort_lines(order, reinterpret_cast<unsigned short *>(stages), ptr, lines);
  const auto copy = [&] {
    Place at;
    each_line(order, tokens, lines, places, [&](int line, int first_token) {
      copy_line<COLUMNS>(in, values, ring, at, stages, perm, blocks, ptr[line], ptr[line + 1], first_token);
    });
  };
  const auto compute = [&] {
    const int group = threadIdx.x / GROUP, row = SHARE_TOKENS ? group * 64 : 0, token = SHARE_TOKENS ? 0 : group * NEAR;
    unsigned stored = 0;  // pieces
    Place at;
    each_line(order, tokens, lines, places, [&](int line, int first_token) {
      const int slots = ptr[line + 1] - ptr[line], column = line * BLOCK + row;
      float d[NEAR / 2];
      multiply<NEAR, COLUMNS, false>(d, ring, at, shared_address(stages), STAGE, row * 128, WEIGHTS + token * 128, 0,
                                     slots * HALVES);
      settle(d);
      const T *mine = bias == nullptr ? nullptr : bias + column + threadIdx.x % GROUP / 32 * 16 + threadIdx.x % 32 / 4;
      const float low = mine == nullptr ? 0.0f : widen(mine[0]), high = mine == nullptr ? 0.0f : widen(mine[8]);
      store(out, stages + STAGES * STAGE + group * PIECES * PIECE * 128, stored, d, slots == 0, low, high, column,
            first_token + token, tokens);
    });
    if (threadIdx.x % GROUP == 0) stores_read<0>();  // shared memory must outlive its readers
  };
  split_roles(copy, compute);
}
