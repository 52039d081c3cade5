// Hopper's asynchronous instructions by their documented meaning (PTX ISA 9.7.9, 9.7.13, 9.7.15), on the fibers of
// machine.h. What a device does at some time it pleases happens here at one extreme or the other: with an odd order
// bulk copies arrive as late as possible, the last issued first, and products are computed at once; with an even order
// copies are done at once, and products read their operands, and stores their source, only when somebody waits.
#pragma once

namespace host {
inline bool lazy_copies() { return order % 2 == 1; }
inline unsigned offset_of(const void *p) { return unsigned((const unsigned char *)p - dynamic) + FIRST; }
// Shared memory by its address, a 16-byte unit swizzled with the row of 128 bytes it lies in.
inline unsigned char *swizzled(unsigned address) {
  const unsigned at = (address ^ ((address >> 7 & 7) << 4)) - FIRST;
  if (at + 2 > unsigned(dynamic_bytes)) fail("an access outside shared memory");
  return dynamic + at;
}
inline float element(unsigned address) {
  T v;
  memcpy(&v, swizzled(address), 2);
  return widen(v);
}
}  // namespace host

struct Barrier {
  int arrivals, pending;
  long bytes;
  unsigned phase;
  void settle_down() {
    if (pending < 0) host::fail("more arrivals at a barrier than it expects");
    if (pending > 0 || bytes != 0) return;
    pending = arrivals;
    ++phase;
    host::idle = 0;
  }
};
struct TensorMap { unsigned long long words[16]; };  // address, rows, columns, height of a box

inline unsigned char *dynamic_shared() { return host::dynamic; }
inline unsigned shared_address(const void *p) { return host::offset_of(p); }

namespace host {
struct Copy {
  void *to;
  const TensorMap *map;
  int x, y;
  ::Barrier *barrier;
};
inline Copy copies[256];
inline int waiting_copies;
// The box in memory and in swizzled shared memory, element by element: move(in shared memory, in memory or null).
template <class Move> void each_in_box(const TensorMap &map, unsigned shared, int x, int y, const Move &move) {
  const long rows = map.words[1], columns = map.words[2], height = map.words[3];
  if (shared % 1024 || height > 256) fail("a box that is not at a multiple of 1024 bytes, or is too high");
  for (int r = 0; r < height; ++r)
    for (int c = 0; c < 64; ++c) {
      const bool inside = y + r < rows && x + c < columns;
      move(swizzled(shared + r * 128 + c * 2), inside ? (char *)map.words[0] + ((y + r) * columns + x + c) * 2 : nullptr);
    }
}
inline void perform(const Copy &c) {
  const short zero = 0;
  each_in_box(*c.map, offset_of(c.to), c.x, c.y,
              [&](void *shared, const void *memory) { memcpy(shared, memory == nullptr ? &zero : memory, 2); });
  c.barrier->bytes -= c.map->words[3] * 128;
  c.barrier->settle_down();
  idle = 0;
}

struct Store {
  const TensorMap *map;
  const void *from;
  int x, y;
};
inline Store stores[MOST][8];
inline int waiting_stores[MOST];
inline bool unpublished[MOST];  // wrote shared memory that bulk stores may not see yet
inline void perform(const Store &s) {
  each_in_box(*s.map, offset_of(s.from), s.x, s.y, [&](const void *shared, void *memory) {
    if (memory != nullptr) memcpy(memory, shared, 2);
  });
}

struct Product {
  float *d;
  unsigned long long a, b;
  int keep, n, group;
  bool a_m, b_n;
};
inline Product products[MOST][64];
inline int issued[MOST], committed[MOST];  // products waiting; groups of them closed so far
inline bool fenced[MOST];

// Bytes from a descriptor: 14 bits, in units of 16.
inline unsigned field(unsigned long long descriptor, int bit) { return unsigned(descriptor >> bit & 0x3fff) << 4; }
// Address of element (i, k) of an operand whose i counts M or N, before the swizzle.
inline unsigned place(unsigned long long descriptor, bool across, int i, int k) {
  const unsigned start = field(descriptor, 0), leading = field(descriptor, 16), stride = field(descriptor, 32);
  if (!across) return start + i / 8 * stride + i % 8 * 128 + k * 2;
  return start + i / 64 * leading + k / 8 * stride + k % 8 * 128 + i % 64 * 2;
}
inline void perform(const Product &p, int thread) {
  if (p.a >> 62 != 1 || p.b >> 62 != 1 || (p.a >> 49 & 7) || (p.b >> 49 & 7)) fail("a descriptor without 128-byte swizzle");
  const int lane = thread % 32, first = thread % 128 / 32 * 16 + lane / 4;
  float a[2][16];
  for (int half = 0; half < 2; ++half)
    for (int k = 0; k < 16; ++k) a[half][k] = element(place(p.a, p.a_m, first + 8 * half, k));
  for (int j = 0; j < p.n / 8; ++j)
    for (int e = 0; e < 2; ++e) {
      const int column = 8 * j + lane % 4 * 2 + e;
      float sum[2] = {p.keep ? p.d[4 * j + e] : 0.0f, p.keep ? p.d[4 * j + 2 + e] : 0.0f};
      for (int k = 0; k < 16; ++k) {
        const float b = element(place(p.b, p.b_n, column, k));
        sum[0] += a[0][k] * b;
        sum[1] += a[1][k] * b;
      }
      p.d[4 * j + e] = sum[0];
      p.d[4 * j + 2 + e] = sum[1];
    }
}

inline void start() {
  waiting_copies = 0;
  for (int t = 0; t < MOST; ++t) waiting_stores[t] = issued[t] = committed[t] = unpublished[t] = fenced[t] = 0;
}
inline void finish() {
  if (waiting_copies) failure = "a CTA ended before its copies";
  for (int t = 0; t < block_size.x; ++t)
    if (waiting_stores[t] || issued[t]) failure = "a CTA ended before its stores or products";
}
inline const bool installed = (begin_cta = start, end_cta = finish, true);
}  // namespace host

inline void barrier_init(Barrier *b, unsigned arrivals) { *b = {int(arrivals), int(arrivals), 0, 0}; }
inline void barrier_arrive(Barrier *b) {
  --b->pending;
  b->settle_down();
}
inline void barrier_expect(Barrier *b, unsigned bytes) {
  b->bytes += bytes;
  barrier_arrive(b);
}
inline void barrier_wait(Barrier *b, unsigned parity) {
  for (int polls = 0; (b->phase & 1) == parity; ++polls) {
    if (polls > 3 && host::waiting_copies) {
      host::perform(host::copies[--host::waiting_copies]);
      polls = 0;
    }
    host::rest();
  }
}
inline void publish() { host::unpublished[host::running] = false; }
inline void group_sync(int barrier, int threads) { host::wait(host::named[barrier], threads); }
template <int COUNT> inline void fewer_registers() {}
template <int COUNT> inline void more_registers() {}

inline void load_box(void *to, const TensorMap *map, int x, int y, Barrier *b) {
  const host::Copy copy = {to, map, x, y, b};
  if (!host::lazy_copies()) return host::perform(copy);
  if (host::waiting_copies == 256) host::fail("too many copies under way");
  host::copies[host::waiting_copies++] = copy;
}
inline void store_box(const TensorMap *map, const void *from, int x, int y) {
  const int me = host::running;
  for (int t = me / 128 * 128; t < me / 128 * 128 + 128; ++t)
    if (host::unpublished[t]) host::fail("a store of shared memory that was not published");
  if (host::waiting_stores[me] == 8) host::fail("stores that nobody waits for");
  const host::Store store = {map, from, x, y};
  if (host::lazy_copies()) return host::perform(store);
  host::stores[me][host::waiting_stores[me]++] = store;
}
template <int PENDING> inline void stores_read() {
  const int me = host::running;
  int done = 0;
  while (host::waiting_stores[me] - done > PENDING) host::perform(host::stores[me][done++]);
  host::waiting_stores[me] -= done;
  memmove(host::stores[me], host::stores[me] + done, host::waiting_stores[me] * sizeof(host::Store));
}

namespace host {
inline unsigned char *given[MOST];
}
inline void store_transposed(void *row, const unsigned (&v)[4]) {
  const int me = host::running, lane = me % 32;
  host::given[me] = (unsigned char *)row;
  host::unpublished[me] = true;
  __syncwarp();
  for (int m = 0; m < 4; ++m)
    for (int e = 0; e < 2; ++e)  // this lane holds (lane / 4, 2 (lane % 4) + e) of matrix m
      memcpy(host::given[me - lane + 8 * m + lane % 4 * 2 + e] + lane / 4 * 2, (const char *)&v[m] + 2 * e, 2);
  __syncwarp();
}

inline void products_begin() {  // .sync.aligned: no lane passes before its whole warp is there
  __syncwarp();
  host::fenced[host::running] = true;
}
template <int N, bool A_M, bool B_N, int COUNT>
inline void product(float (&d)[COUNT], unsigned long long a, unsigned long long b, int keep) {
  const int me = host::running;
  if (!host::fenced[me]) host::fail("a product without wgmma.fence");
  const host::Product p = {d, a, b, keep, N, host::committed[me], A_M, B_N};
  if (host::lazy_copies()) return host::perform(p, me);
  if (host::issued[me] == 64) host::fail("products that nobody waits for");
  host::products[me][host::issued[me]++] = p;
}
inline void products_commit() {
  ++host::committed[host::running];
  host::fenced[host::running] = false;
}
template <int PENDING> inline void products_wait() {
  __syncwarp();
  const int me = host::running;
  int done = 0;
  while (done < host::issued[me] && host::products[me][done].group < host::committed[me] - PENDING)
    host::perform(host::products[me][done++], me);
  host::issued[me] -= done;
  memmove(host::products[me], host::products[me] + done, host::issued[me] * sizeof(host::Product));
}
template <int COUNT> inline void settle(float (&)[COUNT]) {}
