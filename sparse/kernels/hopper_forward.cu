// y[t][i b + r] = bias[i b + r] + sum over slots s of block row i, and c, of x[t][cols[s] b + c] * values[s][r][c]
// on sm_90a, b 64 or 128, 16-bit: hopper_product.cuh says how. Maps (64 columns wide): x (tokens, gn b) by 256 rows,
// values (capacity b, b) by 64, y (tokens, gm b) by PIECE. bias (gm b) or null · row_ptr (gm + 1) · cols (capacity).
// places: ceil(gm / 2) pairs of rows, or gm rows alone. Grid: any; 384 threads; dynamic shared memory from the binding.
// FLOPs 2 tokens n b². Bytes from memory: x, values and y once, 2 tokens (gm + gn) b + 2 n b². From L2, each item: 128 b
// tokens in and b² weights a slot, 85 FLOPs a byte at b = 128 and 57 at 64.
// Floor on an H200 (assumed: 989 TFLOP/s, 4.8 TB/s, 7 TB/s from L2): the L2 side, 597 TFLOP/s at b = 128 and 398 at 64;
// d = 4096, density .1, 8192 tokens: 27.5 GFLOP in 46 and 69 us (memory 29 us).
// Measured on an H200, when one store could be under way: 57 and 76 us.
#include "hopper_product.cuh"

extern "C" __global__ __launch_bounds__(THREADS, 1) void procosm_hopper_forward(
    const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap values, const __grid_constant__ TensorMap y,
    const T *__restrict__ bias, const int *__restrict__ row_ptr, const int *__restrict__ cols, long long tokens, int gm,
    int places) {
  multiply_lines<false>(x, values, y, bias, row_ptr, nullptr, cols, tokens, gm, places);
}
