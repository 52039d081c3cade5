// The element type of a kernel: DTYPE picks it, narrow and widen convert from and to float.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#ifndef DTYPE
#define DTYPE 2  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef BLOCK
#define BLOCK 64
#endif

#if DTYPE == 0
typedef float T;
__device__ inline T narrow(float v) { return v; }
__device__ inline float widen(T v) { return v; }
#elif DTYPE == 1
typedef __half T;
__device__ inline T narrow(float v) { return __float2half(v); }
__device__ inline float widen(T v) { return __half2float(v); }
#else
typedef __nv_bfloat16 T;
__device__ inline T narrow(float v) { return __float2bfloat16(v); }
__device__ inline float widen(T v) { return __bfloat162float(v); }
#endif

constexpr int AREA = BLOCK * BLOCK;
