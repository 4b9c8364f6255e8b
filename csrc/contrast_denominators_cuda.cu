#include "contrast_denominators_cuda.cuh"
#include "contrast_walk_cuda.cuh"

namespace detach::cuda {
namespace {

constexpr int line_rows = 32;  // rows that a block reduces, side by side in memory
constexpr int line_lanes = 8;  // threads that share a row's partial sums
constexpr int single_threads = 1024;
constexpr double per_log_of_2 = 1.0 / log_of_2;

/// A sum of powers of two, relative to the largest.
struct PowerSum {
  double largest = -INFINITY;
  double sum = 0.0;

  __device__ __forceinline__ void add(double exponent, double count = 1.0) {
    if (exponent > largest) {
      sum = (sum * exp2(largest - exponent)) + count;
      largest = exponent;
    } else if (exponent > -INFINITY) {
      sum += count * exp2(exponent - largest);
    } else if (isnan(exponent)) {
      sum = exponent;
      largest = 0.0;
    }
  }
};

/// Base-2 logarithm of one row's sum; all threads that share it have a part.
__device__ __forceinline__ double row_logarithm(const ReduceProblem& p, std::int64_t row,
                                                int direction, int lane, double* shared,
                                                bool wide) {
  PowerSum total;
  if (row < p.rows) {
    for (std::int64_t block = lane; block < p.blocks; block += line_lanes) {
      const double part = p.sums[(((direction * p.blocks) + block) * p.padded) + row];
      if (wide) {
        total.add(part);
      } else {
        total.sum += part;
      }
    }
  }
  double* const own = shared + (static_cast<std::int64_t>(threadIdx.x) * 2);
  own[0] = wide ? total.largest : 0.0;
  own[1] = total.sum;
  __syncthreads();
  PowerSum whole;
  for (int other = 0; other < line_lanes; ++other) {
    const double* const part =
        shared + (((other * line_rows) + (static_cast<int>(threadIdx.x) % line_rows)) * 2);
    whole.add(part[0], part[1]);
  }
  return whole.sum == 0.0 ? -INFINITY : whole.largest + log2(whole.sum);
}

__global__ void __launch_bounds__(line_rows* line_lanes)
    contrast_reduce(const __grid_constant__ ReduceProblem p) {
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t row = (std::int64_t{blockIdx.x} * line_rows) + (thread % line_rows);
  const int direction = static_cast<int>(blockIdx.y);
  double* const shared = reinterpret_cast<double*>(shared_memory());
  const double log_sum =
      log_of_2 * row_logarithm(p, row, direction, thread / line_rows, shared, is_wide(p.range));
  if (thread >= line_rows || row >= p.rows) {
    return;
  }
  if (p.log_sum[direction] != nullptr) {
    p.log_sum[direction][row] = log_sum;
  }
  if (p.positive == nullptr) {
    return;
  }
  const double positive = p.positive[row];
  const double ahead = log_sum - positive;  // of the negatives
  const double loss = fmax(ahead, 0.0) + log1p(exp(-fabs(ahead)));
  const std::int64_t at = (direction * p.rows) + row;
  if (p.loss != nullptr) {
    p.loss[at] = isnan(ahead) ? ahead : loss;
  }
  if (p.log_denominator != nullptr) {
    p.log_denominator[at] = positive + (isnan(ahead) ? ahead : loss);
  }
  if (p.positive_out != nullptr && direction == 0) {
    p.positive_out[row] = positive;
  }
}

/// A warp a window and direction.
__global__ void __launch_bounds__(row_threads)
    contrast_weights(const __grid_constant__ WeightProblem p) {
  const int lane = static_cast<int>(threadIdx.x) % warp_lanes;
  const std::int64_t row =
      (std::int64_t{blockIdx.x} * rows_a_block) + (static_cast<int>(threadIdx.x) / warp_lanes);
  const int direction = static_cast<int>(blockIdx.y);
  if (row >= p.a.rows) {
    return;  // the whole warp
  }
  float count = 0.0F;  // whole numbers, exact
  for (std::int64_t j = lane; j < p.b.rows; j += warp_lanes) {
    count += left_out(p.rule, p.a, p.b, row, j, direction == 1) ? 0.0F : 1.0F;
  }
  count = warp_sum(count);
  if (lane != 0) {
    return;
  }
  double weight = count;
  if (p.sums != nullptr) {
    weight = 0.0;
    for (std::int64_t block = 0; block < p.blocks; ++block) {
      weight += p.sums[(((direction * p.blocks) + block) * p.padded) + row];
    }
  }
  if (p.weight[direction] != nullptr) {
    p.weight[direction][row] = weight;
  }
  if (p.count[direction] != nullptr) {
    p.count[direction][row] = count;
  }
  if (p.mean[direction] != nullptr) {
    // One step of Newton's after a float's reciprocal: a division would be a call.
    const double close = count > 0.0F ? reciprocal(count) : 0.0F;
    p.mean[direction][row] = weight * close * (2.0 - (count * close));
  }
}

__device__ __forceinline__ float block_largest(float x, float* shared) {
#pragma unroll
  for (int step = warp_lanes / 2; step > 0; step /= 2) {
    x = fmaxf(x, __shfl_xor_sync(whole_warp, x, step));
  }
  const int thread = static_cast<int>(threadIdx.x);
  if (thread % warp_lanes == 0) {
    shared[thread / warp_lanes] = x;
  }
  __syncthreads();
  x = shared[0];
  for (int warp = 1; warp < single_threads / warp_lanes; ++warp) {
    x = fmaxf(x, shared[warp]);
  }
  __syncthreads();
  return x;
}

/// One block of threads.
__global__ void __launch_bounds__(single_threads)
    contrast_range(const __grid_constant__ RangeProblem p) {
  float* const shared = reinterpret_cast<float*>(shared_memory());
  float video = 0.0F;
  float sensor = 0.0F;
  bool finite = true;
  for (int block = 0; block < 2; ++block) {
    for (std::int64_t i = threadIdx.x; i < p.rows[block]; i += single_threads) {
      const float v = p.video[block][i];
      const float s = p.sensor[block][i];
      finite = finite && v < INFINITY && s < INFINITY;  // false for NaN, which fmaxf would drop
      video = fmaxf(video, v);
      sensor = fmaxf(sensor, s);
    }
  }
  video = block_largest(finite ? video : INFINITY, shared);
  sensor = block_largest(sensor, shared);
  if (threadIdx.x == 0) {
    *p.flag = video * sensor * p.logit_scale <= log2_range ? 0 : 1;
  }
}

__device__ __forceinline__ void write_factors(const FactorSide& s, std::int64_t i, double scale) {
  const bool counts = i < s.rows && s.upstream != nullptr;
  const double upstream = counts ? s.upstream[i] : 0.0;
  const double video = counts ? s.log_video[i] * per_log_of_2 : no_denominator;
  const double sensor = counts ? s.log_sensor[i] * per_log_of_2 : no_denominator;
  s.base2_video[i] = static_cast<float>(video);
  s.base2_sensor[i] = static_cast<float>(sensor);
  const double rounded_video = static_cast<double>(s.base2_video[i]) - video;
  const double rounded_sensor = static_cast<double>(s.base2_sensor[i]) - sensor;
  s.scaled_video[i] = counts ? static_cast<float>(upstream * scale * exp2(rounded_video)) : 0.0F;
  s.scaled_sensor[i] = counts ? static_cast<float>(upstream * scale * exp2(rounded_sensor)) : 0.0F;
  s.video_factor[i] = counts ? static_cast<float>(upstream * scale * exp2(-video)) : 0.0F;
  s.sensor_factor[i] = counts ? static_cast<float>(upstream * scale * exp2(-sensor)) : 0.0F;
  if (s.diagonal != nullptr) {
    s.diagonal[i] = counts ? static_cast<float>(upstream * (expm1(s.positive[i] - s.log_video[i]) +
                                                            expm1(s.positive[i] - s.log_sensor[i])))
                           : 0.0F;
  }
}

/// One block of threads. The scale brings the largest upstream gradient to [2^12, 2^13), so that
/// gradients of pairs use all of a half's range: at most 2^14 in the sum over a row.
__global__ void __launch_bounds__(single_threads)
    contrast_factors(const __grid_constant__ FactorProblem p) {
  float largest = 0.0F;
  for (const FactorSide& side : p.side) {
    for (std::int64_t i = threadIdx.x; side.upstream != nullptr && i < side.rows;
         i += single_threads) {
      largest = fmaxf(largest, static_cast<float>(fabs(side.upstream[i])));
    }
  }
  largest = block_largest(largest, reinterpret_cast<float*>(shared_memory()));
  int exponent = 13;
  if (largest > 0.0F && largest < INFINITY) {
    frexpf(largest, &exponent);
  }
  const double scale = exp2(static_cast<double>(13 - exponent));
  for (const FactorSide& side : p.side) {
    for (std::int64_t i = threadIdx.x; i < side.padded; i += single_threads) {
      write_factors(side, i, scale);
    }
  }
  if (threadIdx.x == 0) {
    *p.unscale = static_cast<float>(exp2(static_cast<double>(exponent - 13)));
  }
}

}  // namespace

void launch_reduce(const ReduceProblem& problem, cudaStream_t stream) {
  const dim3 grid(blocks_for(problem.rows, line_rows), 2);
  constexpr int threads = line_rows * line_lanes;
  launch(&contrast_reduce, grid, threads, threads * 2 * static_cast<int>(sizeof(double)), stream,
         problem);
}

void launch_weights(const WeightProblem& problem, cudaStream_t stream) {
  const dim3 grid(blocks_for(problem.a.rows, rows_a_block), 2);
  launch(&contrast_weights, grid, row_threads, 0, stream, problem);
}

void launch_range(const RangeProblem& problem, cudaStream_t stream) {
  launch(&contrast_range, dim3(1), single_threads, warp_lanes * static_cast<int>(sizeof(float)),
         stream, problem);
}

void launch_factors(const FactorProblem& problem, cudaStream_t stream) {
  launch(&contrast_factors, dim3(1), single_threads, warp_lanes * static_cast<int>(sizeof(float)),
         stream, problem);
}

}  // namespace detach::cuda
