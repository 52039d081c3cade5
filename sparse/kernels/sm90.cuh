// Hopper's asynchronous instructions, one thin function each; PTX ISA 9.7.9 (bulk copies), 9.7.13 (mbarrier), 9.7.15
// (wgmma). Nothing here decides anything: the kernels hold the logic, so that the tests can run it against a model of
// these instructions (tests/sparse/kernels/host/sm90.cuh).
#pragma once

typedef unsigned long long Barrier;
struct __align__(64) TensorMap { unsigned long long words[16]; };  // CUtensorMap, encoded by the host

__device__ inline unsigned char *dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char memory[];
  return memory;
}
__device__ inline unsigned shared_address(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }

// --- mbarrier: a phase ends when all arrivals and all announced bytes are in; waits name the phase by its parity.
__device__ inline void barrier_init(Barrier *b, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(arrivals) : "memory");
}
__device__ inline void barrier_arrive(Barrier *b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}
__device__ inline void barrier_expect(Barrier *b, unsigned bytes) {  // arrives, and announces bytes of bulk copies
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes) : "memory");
}
__device__ inline void barrier_wait(Barrier *b, unsigned parity) {
  asm volatile(
      "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}" ::"r"(
          shared_address(b)),
      "r"(parity)
      : "memory");
}
// Writes of ordinary instructions to shared memory, seen by bulk copies and wgmma issued after it.
__device__ inline void publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// Registers a thread of this warpgroup may use from here on, a multiple of 8; every warp of it must take part.
template <int COUNT> __device__ inline void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT> __device__ inline void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}
__device__ inline void group_sync(int barrier, int threads) {  // barrier 1 to 15; 0 is __syncthreads
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// --- bulk tensor copies of the map's box; x counts columns (the contiguous dimension), y rows.
__device__ inline void load_box(void *to, const TensorMap *map, int x, int y, Barrier *b) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
          shared_address(to)),
      "l"(map), "r"(x), "r"(y), "r"(shared_address(b))
      : "memory");
}
__device__ inline void store_box(const TensorMap *map, const void *from, int x, int y) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];" ::"l"(map), "r"(x), "r"(y),
               "r"(shared_address(from))
               : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
// All but this thread's last `PENDING` stores have read their shared memory, which may be written again.
template <int PENDING> __device__ inline void stores_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}

// --- four 8 x 8 matrices of 16-bit pairs, stored transposed: lane l gives the address of row l % 8 of matrix l / 8.
__device__ inline void store_transposed(void *row, const unsigned (&v)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)),
               "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3])
               : "memory");
}

// --- wgmma: D (64 x N, float32, in the registers of a warpgroup) (+)= A (64 x 16) B (16 x N), both in shared memory.
// A_M, B_N: the operand is stored with M (or N) contiguous instead of K.
__device__ inline void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING> __device__ inline void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}
// The compiler does not know that D changes until the wait: no use of it may move above this.
template <int COUNT> __device__ __forceinline__ void settle(float (&d)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

#if DTYPE == 1
#define WGMMA_TYPES "f32.f16.f16"
#else
#define WGMMA_TYPES "f32.bf16.bf16"
#endif
#define NAMES0 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"  \
                "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define NAMES1 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"  \
                "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define NAMES2 "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"  \
                "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define NAMES3 "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"  \
                "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define OUT8(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
                "+f"(d[i + 6]), "+f"(d[i + 7])
#define OUT32(i) OUT8(i), OUT8(i + 8), OUT8(i + 16), OUT8(i + 24)
#define WGMMA(N, NAMES, A, B, KEEP, A_TRANS, B_TRANS, ...)                                                         \
  asm volatile("{\n.reg .pred keep;\nsetp.ne.b32 keep, %" #KEEP ", 0;\n"                                           \
               "wgmma.mma_async.sync.aligned.m64n" #N "k16." WGMMA_TYPES " {" NAMES "}, %" #A ", %" #B             \
               ", keep, 1, 1, %" #A_TRANS ", %" #B_TRANS ";\n}"                                                    \
               : __VA_ARGS__                                                                                       \
               : "l"(a), "l"(b), "r"(keep), "n"(int(A_M)), "n"(int(B_N))                                           \
               : "memory")

// D is the first N / 2 elements of d.
template <int N, bool A_M, bool B_N, int COUNT>
__device__ __forceinline__ void product(float (&d)[COUNT], unsigned long long a, unsigned long long b, int keep) {
  static_assert(N % 64 == 0 && N <= 256 && N <= 2 * COUNT, "the widths that are written out here");
  if constexpr (N == 64) WGMMA(64, NAMES0, 32, 33, 34, 35, 36, OUT32(0));
  if constexpr (N == 128) WGMMA(128, NAMES0 "," NAMES1, 64, 65, 66, 67, 68, OUT32(0), OUT32(32));
  if constexpr (N == 192)
    WGMMA(192, NAMES0 "," NAMES1 "," NAMES2, 96, 97, 98, 99, 100, OUT32(0), OUT32(32), OUT32(64));
  if constexpr (N == 256)
    WGMMA(256, NAMES0 "," NAMES1 "," NAMES2 "," NAMES3, 128, 129, 130, 131, 132, OUT32(0), OUT32(32), OUT32(64),
          OUT32(96));
}
