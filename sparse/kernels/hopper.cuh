// What the kernels for sm_90a share: two warpgroups multiply with wgmma, one warp copies with TMA, and a ring of stages
// in shared memory joins them.
#pragma once
#include "dtype.cuh"
#include <sm90.cuh>

#ifndef STAGES
#define STAGES 3
#endif

constexpr int GROUPS = 2, GROUP = 128;            // warpgroups that multiply, threads of each
constexpr int THREADS = GROUPS * GROUP + GROUP;   // and a third, of which one thread copies
constexpr int WIDE = 64;                          // 16-bit elements in a swizzled row of 128 bytes
constexpr int BOX = 64 * 128;                     // bytes of 64 such rows
constexpr int HALVES = BLOCK / WIDE;              // rows of a block are this many swizzled rows side by side
constexpr int STEPS = WIDE / 16;                  // wgmma steps of 16 terms in a stage

// Matrix descriptor of an operand in swizzled rows of 128 bytes (PTX ISA 9.7.15.5.1.2.2). Eight rows, 1024 bytes, are
// the period of the swizzle, and every tile starts at a multiple of it, so the base offset (bits 49-51) is 0.
//   K contiguous: a row is one m (or n). Stride: 1024 bytes to the next eight. Leading: unused, 1 by convention.
//   M or N contiguous: a row is one k. Stride: 1024 bytes to the next eight k. Leading: bytes to the next 64 of M or N.
// bits 0-13 address / 16 · 16-29 leading / 16 · 32-45 stride / 16 · 62-63 swizzle: 1 is 128 bytes.
__device__ inline unsigned long long describe(unsigned address, unsigned leading) {
  return (unsigned long long)((address & 0x3ffff) >> 4) | (unsigned long long)(leading >> 4) << 16 |
         (unsigned long long)(1024 >> 4) << 32 | 1ull << 62;
}
// Bytes from one wgmma step to the next: 16 elements along a row, or 16 rows. The swizzle is a function of the address
// alone, so a start inside the first row of a period still reads the right 16-byte units.
template <bool ACROSS> constexpr int STRIDE = ACROSS ? 16 * 128 : 16 * 2;

struct Ring {
  Barrier full[STAGES];   // 1 arrival, the copying thread's, and the bytes of the stage
  Barrier empty[STAGES];  // 1 arrival of each multiplying warp
};

// Where a thread stands in the ring. A fresh barrier is in phase 0: waiting for parity 0 waits for its first
// completion, waiting for parity 1 returns at once. Readers therefore start with parity 0, the writer with 1.
struct Place {
  int stage = 0;
  unsigned phase = 0;
  __device__ inline void advance() {
    if (++stage == STAGES) {
      stage = 0;
      phase ^= 1;
    }
  }
};

__device__ inline void open(Ring &ring) {
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; ++s) {
      barrier_init(&ring.full[s], 1);
      barrier_init(&ring.empty[s], GROUPS * GROUP / 32);
    }
    publish();  // the copies, too, must see initialised barriers
  }
  __syncthreads();
}
// The third warpgroup hands registers to the other two: 128 * 56 + 256 * 224 <= 65536. The compiler follows only if the
// two roles share no code after it, hence two functions. copy() is run by one thread, compute() by GROUPS * GROUP.
template <class Copy, class Compute> __device__ __forceinline__ void split_roles(const Copy &copy, const Compute &compute) {
  if (threadIdx.x >= GROUPS * GROUP) {
    fewer_registers<56>();
    if (threadIdx.x == GROUPS * GROUP) copy();
  } else {
    more_registers<224>();
    compute();
  }
}
// A warp has read a stage: its part of the products is done. No lane may still be waiting for the stage's bytes, or it
// could miss the phase that its neighbour's arrival helps to end.
__device__ inline void release(Barrier *empty) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) barrier_arrive(empty);
}

// d (+)= the next `chunks` stages, A at `a` and B at `b` bytes into each; every multiplying thread takes part, and all
// warps release every stage. A stage is released once the products of the following one are under way.
template <int N, bool A_M, bool B_N, int COUNT>
__device__ __forceinline__ void multiply(float (&d)[COUNT], Ring &ring, Place &at, unsigned stages, int stage_bytes,
                                         int a, int b, unsigned leading, int chunks) {
  int before = 0;
  for (int c = 0; c < chunks; ++c) {
    barrier_wait(&ring.full[at.stage], at.phase);
    const unsigned base = stages + at.stage * stage_bytes;
    products_begin();
#pragma unroll
    for (int k = 0; k < STEPS; ++k)
      product<N, A_M, B_N>(d, describe(base + a + k * STRIDE<A_M>, A_M ? leading : 16),
                           describe(base + b + k * STRIDE<B_N>, B_N ? leading : 16), c + k);
    products_commit();
    products_wait<1>();
    if (c > 0) release(&ring.empty[before]);
    before = at.stage;
    at.advance();
  }
  products_wait<0>();
  if (chunks > 0) release(&ring.empty[before]);
}

__device__ inline unsigned pack(float low, float high) {
  const T pair[2] = {narrow(low), narrow(high)};
  return *reinterpret_cast<const unsigned *>(pair);
}

// Dynamic shared memory from its first multiple of 1024.
__device__ inline unsigned char *stages_in(unsigned char *memory) {
  return memory + (1024 - shared_address(memory) % 1024) % 1024;
}
