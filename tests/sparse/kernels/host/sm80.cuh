// Ampere's asynchronous copies by their documented meaning (PTX ISA 9.7.9.25), on the fibers of machine.h. What a device
// does at some time it pleases happens here at one extreme or the other: with an even order copies are done at once, with
// an odd one only when their thread waits for their group.
#pragma once

namespace host {
struct Copy16 {
  void *to;
  const void *from;
  bool zeros;
  int group;
};
inline Copy16 copies16[MOST][256];
inline int waiting16[MOST], committed16[MOST];  // copies not done yet; groups closed so far
inline void perform(const Copy16 &c) {
  if (c.zeros)
    memset(c.to, 0, 16);
  else
    memcpy(c.to, c.from, 16);
}
inline void start16() {
  for (int t = 0; t < MOST; ++t) waiting16[t] = committed16[t] = 0;
}
inline void finish16() {
  for (int t = 0; t < block_size.x; ++t)
    if (waiting16[t]) failure = "a CTA ended before its copies";
}
inline const bool installed16 = (begin_cta = start16, end_cta = finish16, true);
}  // namespace host

inline void copy16(void *to, const void *from, bool zeros) {
  const int me = host::running;
  if (uintptr_t(to) % 16 || uintptr_t(from) % 16) host::fail("an asynchronous copy off a multiple of 16 bytes");
  const host::Copy16 copy = {to, from, zeros, host::committed16[me]};
  if (host::order % 2 == 0) return host::perform(copy);
  if (host::waiting16[me] == 256) host::fail("copies that nobody waits for");
  host::copies16[me][host::waiting16[me]++] = copy;
}
inline void copies_commit() { ++host::committed16[host::running]; }
template <int PENDING> inline void copies_wait() {
  const int me = host::running;
  int done = 0;
  while (done < host::waiting16[me] && host::copies16[me][done].group < host::committed16[me] - PENDING)
    host::perform(host::copies16[me][done++]);
  host::waiting16[me] -= done;
  memmove(host::copies16[me], host::copies16[me] + done, host::waiting16[me] * sizeof(host::Copy16));
}
