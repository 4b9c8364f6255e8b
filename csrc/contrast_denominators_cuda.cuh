// Kernels on one number a window: partial sums to denominators and losses, denominators and
// upstream gradients to factors, counts of pairs, and whether sums need maxima.
#pragma once

#include "contrast_launch_cuda.cuh"

namespace detach::cuda {

constexpr double log_of_2 = 0.69314718055994530942;

/// What partial sums [2, blocks, padded] of W exp(s) become; null where not wanted.
struct ReduceProblem {
  const float* sums;
  std::int64_t blocks;
  std::int64_t padded;
  std::int64_t rows;
  const double* positive;  ///< s_ii; null where the own pair is not in it
  Range range;
  double* log_sum[2];  ///< video to sensor, sensor to video
  double* positive_out;
  double* loss;  ///< [2, rows]
  double* log_denominator;
};

/// How many pairs of each window are not left out, and the weights of those; null where not wanted.
struct WeightProblem {
  PairSide a;
  PairSide b;
  PairRule rule;
  const float* sums;  ///< partial sums of W [2, blocks, padded]; null where all weights are 1
  std::int64_t blocks;
  std::int64_t padded;
  double* weight[2];
  double* count[2];
  double* mean[2];
};

/// Lengths of both blocks' embeddings; the second block may be missing.
struct RangeProblem {
  const float* video[2];
  const float* sensor[2];
  std::int64_t rows[2];
  float logit_scale;
  int* flag;  ///< becomes 1 where sums need maxima
};

/// One side's denominators and upstream gradients, and what becomes of them.
struct FactorSide {
  const double* log_video;
  const double* log_sensor;
  const double* upstream;  ///< null where no loss of these windows counts
  const double* positive;  ///< null where the own pair is not in it
  std::int64_t rows;
  std::int64_t padded;
  float* base2_video;  ///< the logarithms in base 2
  float* base2_sensor;
  float* scaled_video;  ///< upstream times the scale and what base2_video was rounded by
  float* scaled_sensor;
  float* video_factor;  ///< of W exp(s) in its row: scaled upstream / denominator
  float* sensor_factor;
  float* diagonal;  ///< gradient of s_ii, not scaled; null where there is none
};

struct FactorProblem {
  FactorSide side[2];  ///< rows 0 where there is one block only
  float* unscale;
};

void launch_reduce(const ReduceProblem& problem, cudaStream_t stream);
void launch_weights(const WeightProblem& problem, cudaStream_t stream);
void launch_range(const RangeProblem& problem, cudaStream_t stream);
void launch_factors(const FactorProblem& problem, cudaStream_t stream);

}  // namespace detach::cuda
