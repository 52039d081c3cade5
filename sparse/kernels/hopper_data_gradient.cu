// dx[t][j b + c] = sum over slots s of block column j, and r, of grad[t][rows[s] b + r] * values[s][r][c]
// on sm_90a, b 64 or 128, 16-bit: hopper_product.cuh says how; wgmma reads the blocks transposed from the same memory.
// Maps as hopper_forward's: grad (tokens, gm b), values (capacity b, b), dx (tokens, gn b). col_ptr (gn + 1) · perm, rows
// (capacity) · places: ceil(gn / 2) pairs of columns, or gn columns alone. Grid: any; 384 threads. Operations, bytes,
// and floor as hopper_forward. Measured as there: 60 and 75 us.
#include "hopper_product.cuh"

extern "C" __global__ __launch_bounds__(THREADS, 1) void procosm_hopper_data_gradient(
    const __grid_constant__ TensorMap grad, const __grid_constant__ TensorMap values,
    const __grid_constant__ TensorMap dx, const int *__restrict__ col_ptr, const int *__restrict__ perm,
    const int *__restrict__ rows, long long tokens, int gn, int places) {
  multiply_lines<true>(grad, values, dx, nullptr, col_ptr, perm, rows, tokens, gn, places);
}
