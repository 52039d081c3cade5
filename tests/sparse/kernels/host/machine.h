// A CTA on one CPU thread: every CUDA thread is a fiber that runs until a barrier, in an order the test chooses.
// It executes the kernels' own source, so index formulas, bounds, barriers and epilogues are tested without a GPU; an
// order that changes the result is a missing barrier. It says nothing of speed, or of what the real compiler does.
#pragma once
#include <math.h>  // the C headers: a C++ one would triple the time to compile
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
#define __restrict__
#define __forceinline__ inline
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

struct uint4 { unsigned x, y, z, w; };
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
struct dim3 { int x, y, z; };

namespace host {
struct Barrier { int waiting = 0, generation = 0; };
struct Fiber {
  ucontext_t context;
  void *stack = nullptr;
  dim3 thread;
  bool done;
};
constexpr int MOST = 1024, STACK = 1 << 17;
inline Fiber fibers[MOST];
inline Barrier warps[MOST / 32];
inline Barrier block;
inline ucontext_t scheduler;
inline int running;
inline dim3 block_index, block_size, grid_size;
inline void (*enter)(const void *);
inline const void *kernel;
inline float exchanged[MOST];
inline Barrier named[16];
inline unsigned order;         // of the current run: whose turn is next, and when asynchronous work happens
inline const char *failure;    // what a kernel did that a device would punish with a hang or wrong numbers
inline long idle;              // turns since anything happened

constexpr int PATIENCE = 500, SHARED = 232448, GUARD = 4096;
constexpr unsigned FIRST = 512;  // address of dynamic shared memory: the kernels must align it themselves
inline unsigned char room[SHARED + GUARD + 1024];
inline unsigned char *dynamic = room + (1024 - uintptr_t(room) % 1024) % 1024 + FIRST;
inline int dynamic_bytes;

inline void yield() { swapcontext(&fibers[running].context, &scheduler); }
inline void fail(const char *what) {
  if (failure == nullptr) failure = what;
  for (;;) yield();
}
inline void rest() {
  if (++idle > long(block_size.x) * PATIENCE) fail("deadlock: every thread waits");
  yield();
}
inline void (*begin_cta)();  // set by sm90.cuh
inline void (*end_cta)();
inline void wait(Barrier &barrier, int members) {
  const int generation = barrier.generation;
  if (++barrier.waiting == members) {
    barrier.waiting = idle = 0;
    ++barrier.generation;
  } else {
    while (barrier.generation == generation) rest();
  }
}
inline void body() {
  enter(kernel);
  fibers[running].done = true;
  yield();
}
// Run every CTA of the grid; `order` shuffles which fiber goes next. Returns what went wrong, or null.
template <class Call> const char *run(dim3 grid, int threads, unsigned chosen, int shared, const Call &call) {
  order = chosen;
  failure = nullptr;
  dynamic_bytes = shared;
  if (shared > SHARED) return "more shared memory than Hopper has";
  kernel = &call;
  enter = [](const void *k) { (*static_cast<const Call *>(k))(); };
  grid_size = grid;
  block_size = {threads, 1, 1};
  for (int y = 0; y < grid.y; ++y)
    for (int x = 0; x < grid.x; ++x) {
      block_index = {x, y, 0};
      for (Barrier &warp : warps) warp = Barrier();
      block = Barrier();
      for (Barrier &barrier : named) barrier = Barrier();
      memset(dynamic, 0xff, shared + GUARD);  // NaN
      idle = 0;
      if (begin_cta != nullptr) begin_cta();
      for (int t = 0; t < threads; ++t) {
        Fiber &f = fibers[t];
        if (f.stack == nullptr) f.stack = malloc(STACK);
        f.thread = {t, 0, 0};
        f.done = false;
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack;
        f.context.uc_stack.ss_size = STACK;
        f.context.uc_link = nullptr;
        makecontext(&f.context, body, 0);
      }
      int left = threads;
      const int step = (order % 4 == 0) ? 1 : (order % 4 == 1) ? threads - 1 : (order % 4 == 2) ? 37 : 91;  // coprime
      for (int turn = 0; left > 0; turn = (turn + step) % threads) {
        if (fibers[turn].done) continue;
        running = turn;
        swapcontext(&scheduler, &fibers[turn].context);
        left -= fibers[turn].done;
        if (fibers[turn].done) idle = 0;
        if (failure != nullptr) return failure;
      }
      if (end_cta != nullptr) end_cta();
      for (int i = 0; i < GUARD / 2; ++i)
        if (dynamic[shared + i] != 0xff) return "written past the end of shared memory";
    }
  return failure;
}
}  // namespace host

#define threadIdx (host::fibers[host::running].thread)
#define blockIdx host::block_index
#define blockDim host::block_size
#define gridDim host::grid_size

inline void __syncthreads() { host::wait(host::block, host::block_size.x); }
inline void __syncwarp() { host::wait(host::warps[host::running / 32], 32); }
inline float __shfl_xor_sync(unsigned, float value, int mask) {
  const int me = host::running;
  host::exchanged[me] = value;
  __syncwarp();
  const float other = host::exchanged[me ^ mask];
  __syncwarp();
  return other;
}
inline int atomicAdd(int *address, int value) {
  const int before = *address;
  *address += value;
  return before;
}
inline unsigned __float_as_uint(float v) {
  unsigned bits;
  memcpy(&bits, &v, 4);
  return bits;
}
