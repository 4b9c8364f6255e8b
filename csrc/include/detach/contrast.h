// Weighted contrastive loss between two modalities: Eq. 7 to 13 of DETACH (arXiv 2512.20409).
//
// N windows; window i has a spatial, a temporal and a momentum feature from the video and from the
// sensors. Embeddings are z = [spatial, temporal] (Eq. 5 and 6), logits s_ij = z_video,i z_sensor,j
// / temperature, and window i has two losses (Eq. 12), one a direction:
//
//   video to sensor   log(exp(s_ii) + sum_j W_ij exp(s_ij)) - s_ii
//   sensor to video   log(exp(s_ii) + sum_j W_ji exp(s_ji)) - s_ii            j != i
//
//   W_ij = [1 + (lambda - 1) S_ij] [1 - g relu(T_ij)^power]                   Eq. 8, 10 and 11
//   S_ij = max(relu cos(video i, video j), relu cos(sensor i, sensor j))      spatial, Eq. 7
//   T_ij = mean of both modalities' cosines of momentum features, Eq. 9 (intra), or the cosine of
//          video i and sensor j (cross), or 0 (none)
//   g    = S_ij (gate spatial) or 1 (gate none)
//
// W is clamped at 0, is 0 on the diagonal, and is a constant to the gradient. Cosines divide by
// max(length, 1e-12), as torch.nn.functional.normalize does.
//
// Everything is built from two functions on a pair of blocks of windows, A and B:
// contrast_sums (logarithms of what B's windows add to A's denominators and A's to B's) and
// contrast_gradient (what the pair adds to all gradients, given whole denominators). The batch is
// the pair (A, A); some rows against all are the pairs (rows, rows), (rows, before), (rows, after);
// a ring of processes visits each pair of ranks once. No N x N matrix of W, S or T is formed.
//
//   memory       features are row-major and contiguous. `saved` holds one number a pair of windows,
//                W exp(s - shift); without it the gradient computes the pair again.
//   cost         multiply-adds a pair (i, j), widths d: 6 d forward, 2 d backward for each half
//   that
//                needs a gradient, 6 d more where nothing was saved.
//   determinism  results do not depend on the number of threads.
//   range        any temperature > 0: where exp(-2 |z_video| |z_sensor| / temperature) would leave
//                the number format, sums are kept relative to each row's and column's own maximum.
#pragma once

#include <cstdint>

namespace detach {

enum class ContrastGate : int { none = 0, spatial = 1 };
enum class ContrastTemporal : int { none = 0, intra = 1, cross = 2 };

struct ContrastParams {
  double temperature = 0.10;
  double lambda_hard = 3.0;  ///< >= 0; at 1, and with no temporal similarity, W is 1
  ContrastGate gate = ContrastGate::spatial;
  int power = 1;  ///< 1, or 2 as Eq. 10 is printed
  ContrastTemporal temporal = ContrastTemporal::intra;
  bool normalize = true;  ///< each half and then the whole embedding to length 1
};

/// Consecutive windows. Pointers are to `rows` rows; both modalities have the same widths.
template <typename T>
struct ContrastBlock {
  std::int64_t rows = 0;
  std::int64_t spatial_width = 0;
  std::int64_t temporal_width = 0;
  std::int64_t momentum_width = 0;
  const T* video_spatial = nullptr;
  const T* video_temporal = nullptr;
  const T* sensor_spatial = nullptr;
  const T* sensor_temporal = nullptr;
  const T* video_momentum = nullptr;    ///< may be null where temporal is none
  const T* sensor_momentum = nullptr;   ///< may be null where temporal is none
  const std::int64_t* group = nullptr;  ///< for PairMask::reach
  const double* position = nullptr;
};

/// Pairs that are left out in both directions; a window's own pair never is.
struct PairMask {
  /// dense[i * stride + j] for video i of A and sensor j of B; back[j * back_stride + i] for video
  /// j of B and sensor i of A. Both or neither; the same pointer where B is A.
  const bool* dense = nullptr;
  std::int64_t stride = 0;
  const bool* back = nullptr;
  std::int64_t back_stride = 0;
  /// > 0: windows of one group whose positions are nearer than this.
  double reach = 0.0;
};

/// What a pair adds to the denominators of one block's windows; arrays of `rows`, written, not
/// added to. weight_* and count_* may be null.
struct ContrastSums {
  double* log_video = nullptr;      ///< log sum_j W_ij exp(s_ij); -inf where nothing is left
  double* log_sensor = nullptr;     ///< log sum_j W_ji exp(s_ji)
  double* positive = nullptr;       ///< s_ii; written only where B is A
  double* weight_video = nullptr;   ///< sum_j W_ij over the pairs that are not left out
  double* weight_sensor = nullptr;  ///< sum_j W_ji
  double* count_video = nullptr;    ///< how many pairs those are
  double* count_sensor = nullptr;
};

/// Whole denominators of one block's windows and how much each of its losses counts.
struct ContrastDenominators {
  const double* log_video = nullptr;  ///< log(exp(s_ii) + sum over all negatives)
  const double* log_sensor = nullptr;
  const double* upstream = nullptr;  ///< d result / d (loss_video + loss_sensor) of each window;
                                     ///< null where none of them is a term of the result
};

/// Where gradients go; null where none is wanted.
template <typename T>
struct ContrastGradients {
  T* video_spatial = nullptr;
  T* video_temporal = nullptr;
  T* sensor_spatial = nullptr;
  T* sensor_temporal = nullptr;
  bool add = true;  ///< to what is there, or written over it
};

/// Numbers of type T that `saved` must hold for a pair of blocks; `same` where B is A. What it
/// holds is for contrast_gradient with the same features, parameters and mask, on the same machine.
std::int64_t contrast_saved_size(std::int64_t rows_a, std::int64_t rows_b, bool same);

/// Partial sums of the block pair (a, b); `b` null means b is a, and pairs are visited once.
///
/// `sums_b` may be null where only a's windows are asked for. `saved` may be null. `threads` >= 1
/// counts the calling one. Throws std::invalid_argument when a shape or parameter is out of range.
template <typename T>
void contrast_sums(const ContrastBlock<T>& a, const ContrastBlock<T>* b,
                   const ContrastParams& params, const PairMask& mask, const ContrastSums& sums_a,
                   const ContrastSums* sums_b, T* saved, int threads);

/// Adds the block pair's share of the gradients. `saved` as contrast_sums left it, or null.
template <typename T>
void contrast_gradient(const ContrastBlock<T>& a, const ContrastBlock<T>* b,
                       const ContrastParams& params, const PairMask& mask,
                       const ContrastDenominators& denominators_a,
                       const ContrastDenominators* denominators_b, const T* saved,
                       const ContrastGradients<T>& gradients_a,
                       const ContrastGradients<T>* gradients_b, int threads);

/// What one call on a batch returns about the windows [start, stop): arrays of 2 x (stop - start),
/// video to sensor first.
struct ContrastStats {
  double* loss = nullptr;
  double* log_denominator = nullptr;
  double* mean_weight = nullptr;  ///< over the negatives that are not left out, 0 where there are
                                  ///< none; may be null
};

/// Losses of the windows [start, stop) of a batch against all of it; returns the sum of all of
/// them. `saved` (may be null) holds contrast_batch_saved_size numbers.
template <typename T>
double contrast_batch(const ContrastBlock<T>& batch, const ContrastParams& params,
                      const PairMask& mask, std::int64_t start, std::int64_t stop,
                      const ContrastStats& stats, T* saved, int threads);
std::int64_t contrast_batch_saved_size(std::int64_t rows, std::int64_t start, std::int64_t stop);

/// Its gradient, written to `gradients` (all rows of the batch). `upstream` [stop - start] as in
/// ContrastDenominators; `log_denominator` as contrast_batch left it.
template <typename T>
void contrast_batch_gradient(const ContrastBlock<T>& batch, const ContrastParams& params,
                             const PairMask& mask, std::int64_t start, std::int64_t stop,
                             const double* log_denominator, const double* upstream, const T* saved,
                             const ContrastGradients<T>& gradients, int threads);

/// Instruction set that these run with on this machine: "avx2", "neon" or "plain".
const char* contrast_simd();

}  // namespace detach
