// counts[k] += number of scores whose exponent and top four mantissa bits are k: 16 bins an octave, 4096 in all
// scores (count) float32, not negative, -0.0 counts as 0 · counts (4096) int32, zero before.
// Grid-stride over the scores, any grid, 256 threads. Integer sums: the same counts in every run. 4 bytes a score.
extern "C" __global__ __launch_bounds__(256) void procosm_log_histogram(
    const float *__restrict__ scores, int *__restrict__ counts, long long count) {
  __shared__ int local[4096];
  for (int k = threadIdx.x; k < 4096; k += blockDim.x) local[k] = 0;
  __syncthreads();
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (long long)gridDim.x * blockDim.x)
    atomicAdd(&local[(__float_as_uint(scores[i]) & 0x7fffffffu) >> 19], 1);
  __syncthreads();
  for (int k = threadIdx.x; k < 4096; k += blockDim.x)
    if (local[k] != 0) atomicAdd(&counts[k], local[k]);
}
