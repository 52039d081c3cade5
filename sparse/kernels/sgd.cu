// u = momentum u + g + decay w, w -= lr u
// values w, grad g, velocity u (capacity, area) float32 · row_ptr (gm + 1): only the row_ptr[gm] live slots are touched.
// Grid-stride, any grid, 256 threads. 12 bytes read and 8 written a weight.
extern "C" __global__ __launch_bounds__(256) void procosm_sgd(
    float *__restrict__ values, const float *__restrict__ grad, float *__restrict__ velocity,
    const int *__restrict__ row_ptr, int gm, int area, float lr, float momentum, float decay) {
  const long long count = (long long)row_ptr[gm] * area, stride = (long long)gridDim.x * blockDim.x;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride) {
    const float u = momentum * velocity[i] + grad[i] + decay * values[i];
    velocity[i] = u;
    values[i] -= lr * u;
  }
}
