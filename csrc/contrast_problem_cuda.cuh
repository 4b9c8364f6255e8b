// What the contrast kernels are told. Filled on the host, read as kernel arguments.
//
// Both embeddings and both momentum features of a window lie side by side in one packed row:
// [video spatial | video temporal | sensor spatial | sensor temporal | video momentum | sensor
// momentum], each padded with zeros to whole slabs of 128 bytes; rows are padded to whole blocks.
#pragma once

#include <cstdint>

namespace detach::cuda {

constexpr int slab_bytes = 128;
constexpr int warp_lanes = 32;
constexpr unsigned whole_warp = 0xffffffffU;

/// Above this many powers of two a sum without a shift could leave the range of float.
constexpr float log2_range = 80.0F;
/// The logarithm of a denominator that nothing is divided by: makes exponentials of it 0.
constexpr float no_denominator = 1e30F;

/// Whether sums need maxima: known to the host, or decided on the device where `flag` is set.
struct Range {
  const int* flag;
  bool wide;
};

/// One block of windows as the pair kernel reads it. Arrays are as long as the padded rows.
struct PairSide {
  const char* packed;
  const float* cosine_video;  ///< a cosine is the product of packed halves times both of these
  const float* cosine_sensor;
  const float* log_video;  ///< base-2 logarithms of whole denominators; for gradients
  const float* log_sensor;
  const float* upstream_video;  ///< scaled, times what float leaves out of the logarithms
  const float* upstream_sensor;
  const std::int64_t* group;
  const double* position;
  std::int64_t rows;
};

/// Which pairs are left out.
struct PairRule {
  std::int64_t own;  ///< window i of A is window i + own of B; `disjoint` where none is
  const bool* dense;
  std::int64_t stride;
  const bool* back;
  std::int64_t back_stride;
  double reach;
};
constexpr std::int64_t disjoint = std::int64_t{1} << 40;

/// Steps of a pair tile: first what the weight needs, then both directions.
enum class StepKind : int { video_place, sensor_place, motion, forward, motion_back, back };

/// One matrix product of a tile: slabs of A's rows times slabs of B's rows.
struct PairStep {
  StepKind kind;
  int slab_a;
  int slab_b;
  int slabs;
};

enum class PairMode : int { sums, weights, gradient };

struct PairProblem {
  PairSide a;
  PairSide b;
  std::int64_t row_bytes;  ///< of a packed row
  PairStep steps[6];
  int step_count;
  int steps_once;  ///< where both orders of a block pair are visited: up to `forward`
  PairMode mode;
  // Blocks of A from i_begin on against blocks of B from j_begin on.
  int i_begin, i_end;
  int j_begin, j_end;
  bool triangular;  ///< B is A: each pair of blocks once
  int j_once;       ///< blocks of B below this are visited in both orders (a stripe's own square)
  PairRule rule;
  // Eq. 7 to 11.
  float lambda_minus_one;
  float motion_scale;  ///< 1/2 for the mean of two cosines
  bool two_weights;    ///< the second direction's differs: motion across modalities
  bool gated;
  bool squared;
  float logit_scale;       ///< log2(e) / temperature
  float logit_scale_rest;  ///< what float leaves out of it
  Range range;
  bool only_wide;
  // Partial sums [2, blocks of the partner, padded rows]; base-2 logarithms in the wide range.
  float* sums_a;
  float* sums_b;
  std::int64_t padded_a;
  std::int64_t padded_b;
  int blocks_a;
  int blocks_b;
  // Pairs' numbers: upper[i][j] of video i of A and sensor j of B, lower[j][i] of video j and
  // sensor i, counted from i_begin and j_begin.
  void* upper;
  void* lower;
  std::int64_t upper_stride;
  std::int64_t lower_stride;
};

/// c [m, n] (+)= a b, or a^T b; with factors, a's number (r, c) is first multiplied by
/// row_factor[r] + column_factor[c].
struct MatrixProduct {
  const char* a;
  std::int64_t a_bytes;  ///< from one row to the next
  const char* b;
  std::int64_t b_bytes;
  float* c;
  std::int64_t c_numbers;
  const float* row_factor;
  const float* column_factor;
  int m;
  int n;
  int k;
  bool transposed;
  bool accumulate;
};

struct ProductProblem {
  MatrixProduct list[4];
  int count;
  bool saved;  ///< what contrast_cuda_sums saved, unless in the wide range; else gradients
  Range range;
};

}  // namespace detach::cuda
