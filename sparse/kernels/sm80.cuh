// Ampere's asynchronous copies, one thin function each; PTX ISA 9.7.9.25 (cp.async). As with sm90.cuh the kernels hold the
// logic, and the tests run it against a model of these instructions (tests/sparse/kernels/host/sm80.cuh).
#pragma once

// 16 bytes from memory to shared memory, or 16 zeros; both addresses are multiples of 16. Seen by this thread after
// copies_wait, by others after a barrier behind that.
__device__ inline void copy16(void *to, const void *from, bool zeros) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from),
               "r"(zeros ? 0 : 16)
               : "memory");
}
// Close the group of the copies that this thread has issued since the last one.
__device__ inline void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Wait for all groups of this thread but the last `PENDING`.
template <int PENDING> __device__ inline void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
