// m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g², w -= lr (decay w + m / corr1 / (sqrt(v / corr2) + eps))
// values w, grad g, m, v (capacity, area) float32 · row_ptr (gm + 1): only the row_ptr[gm] live slots are touched.
// corr = 1 - beta^step, from the host. Grid-stride, any grid, 256 threads. 16 bytes read and 12 written a weight.
extern "C" __global__ __launch_bounds__(256) void procosm_adam(
    float *__restrict__ values, const float *__restrict__ grad, float *__restrict__ m, float *__restrict__ v,
    const int *__restrict__ row_ptr, int gm, int area, float lr, float beta1, float beta2, float eps, float decay,
    float corr1, float corr2) {
  const long long count = (long long)row_ptr[gm] * area, stride = (long long)gridDim.x * blockDim.x;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride) {
    const float g = grad[i], first = beta1 * m[i] + (1.0f - beta1) * g, second = beta2 * v[i] + (1.0f - beta2) * g * g;
    m[i] = first;
    v[i] = second;
    values[i] -= lr * (decay * values[i] + first / corr1 / (sqrtf(second / corr2) + eps));
  }
}
