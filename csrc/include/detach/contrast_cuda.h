// The weighted contrastive loss of contrast.h on a GPU: the same equations, blocks, masks and sums.
//
//   pointers     are device pointers, also those inside ContrastBlock, PairMask, ContrastSums,
//                ContrastDenominators and ContrastStats. Features are row-major and contiguous.
//   precision    what features are stored in and multiplied in. Sums are in float, denominators and
//                losses in double. float16 and bfloat16 keep a pair's weight as half and what is
//                saved as bfloat16; tf32 and float32 save float. float32 multiplies each number as
//                the sum of two TF32 numbers and keeps all but the smallest of the four products.
//   launches     go to `stream` (a cudaStream_t) of the current device. Nothing is allocated,
//   waited
//                for or read by the host, so that a call can be captured in a CUDA graph.
//   workspace    comes from the caller, 256-byte aligned; what a call leaves in it may be lost
//                before the next, except with `prepared`. Bytes, for N windows, d a part, b bytes a
//                number: 6 N d b, and N^2 / 16 more forward; 16 N d more backward and, where
//                nothing was saved, 4096 N for the pairs of a stripe of windows.
//   saved        one number a pair in both orders, [P, P] row-major with P windows (rows rounded up
//                to 64 or 128), or for two different blocks first [P_a, P_b], then [P_b, P_a].
//                Where the numbers' range forbids it (see below) it is not written, and the
//                gradient uses it as scratch memory: hand over the same bytes.
//   determinism  no atomics: results are bit-equal from call to call on one kind of GPU.
//   range        where |z_video| |z_sensor| / temperature < 55, sums are taken without a shift;
//                elsewhere relative to maxima, with two exponentials a pair, and partial sums pass
//                through float as logarithms: up to 2^-24 |logit| of relative error in gradients.
//                With `normalize` the host knows; without, the kernels decide by the rows' lengths.
//
// A gradient differs from the CPU's in where it goes: that of a batch is written (all rows of all
// parts asked for, in the features' type); that of a block pair is added to arrays of float.
#pragma once

#include <cstdint>

#include "detach/contrast.h"

namespace detach {

/// The type of all features of a call and what their products are computed in.
enum class ContrastPrecision : int { float16 = 0, bfloat16 = 1, tf32 = 2, float32 = 3 };

/// Part of a gradient, so that a caller can use its own matrix product.
enum class ContrastStep : int {
  all = 0,
  pairs = 1,   ///< prepares, and turns `saved` in place into the pairs' gradients
  finish = 2,  ///< from the products in the workspace to the gradients
};

/// Where a caller that does the products finds things after ContrastStep::pairs, for a whole batch.
///
///   product_video [P, width]  = pairs [P, P] @ sensor columns of packed
///   product_sensor [P, width] = pairs^T @ video columns of packed
///
/// pairs are in the compute type (float for tf32 and float32); packed is [P, row_numbers] of it.
/// Products are float, in the columns that are wanted: spatial_width_padded of the first half, then
/// the second. The diagonal of pairs is 0; finish adds it in float.
struct ContrastCudaLayout {
  std::int64_t rows_padded = 0;  ///< P
  std::int64_t row_numbers = 0;  ///< numbers from one row of packed to the next
  std::int64_t spatial_width_padded = 0;
  std::int64_t temporal_width_padded = 0;
  std::int64_t video_column = 0;  ///< numbers before the video's embedding in a row
  std::int64_t sensor_column = 0;
  std::int64_t packed = 0;         ///< bytes from the start of the workspace
  std::int64_t product_video = 0;  ///< bytes from the start of the workspace
  std::int64_t product_sensor = 0;
  std::int64_t product_width = 0;  ///< both halves, whichever are wanted
};

/// Bytes that `saved` must hold for a pair of blocks; `same` where B is A.
std::int64_t contrast_cuda_saved_size(ContrastPrecision precision, std::int64_t rows_a,
                                      std::int64_t rows_b, bool same);

/// Bytes of workspace for both functions on a pair of blocks. `saved`: the gradient gets it.
std::int64_t contrast_cuda_workspace(ContrastPrecision precision, std::int64_t rows_a,
                                     std::int64_t rows_b, bool same,
                                     const std::int64_t (&widths)[3], bool saved);

/// As contrast_sums.
void contrast_cuda_sums(ContrastPrecision precision, const ContrastBlock<void>& a,
                        const ContrastBlock<void>* b, const ContrastParams& params,
                        const PairMask& mask, const ContrastSums& sums_a,
                        const ContrastSums* sums_b, void* saved, void* workspace, void* stream);

/// As contrast_gradient, but in float: the pair's share is added to `gradients`.
void contrast_cuda_gradient(ContrastPrecision precision, const ContrastBlock<void>& a,
                            const ContrastBlock<void>* b, const ContrastParams& params,
                            const PairMask& mask, const ContrastDenominators& denominators_a,
                            const ContrastDenominators* denominators_b, void* saved,
                            const ContrastGradients<float>& gradients_a,
                            const ContrastGradients<float>* gradients_b, void* workspace,
                            void* stream);

/// The windows [start, stop) of a batch against all of it: bytes, as above.
std::int64_t contrast_cuda_batch_saved_size(ContrastPrecision precision, std::int64_t rows,
                                            std::int64_t start, std::int64_t stop);
std::int64_t contrast_cuda_batch_workspace(ContrastPrecision precision, std::int64_t rows,
                                           const std::int64_t (&widths)[3], std::int64_t start,
                                           std::int64_t stop, bool saved);

/// As contrast_batch. mean_weight costs about half as much again; null where it is not needed.
void contrast_cuda_batch(ContrastPrecision precision, const ContrastBlock<void>& batch,
                         const ContrastParams& params, const PairMask& mask, std::int64_t start,
                         std::int64_t stop, const ContrastStats& stats, void* saved,
                         void* workspace, void* stream);

/// As contrast_batch_gradient, but written, in the features' type. `prepared`: the workspace is as
/// contrast_cuda_batch (or ContrastStep::pairs) left it. Steps other than all need `saved`, and the
/// whole batch: start 0, stop rows.
void contrast_cuda_batch_gradient(ContrastPrecision precision, const ContrastBlock<void>& batch,
                                  const ContrastParams& params, const PairMask& mask,
                                  std::int64_t start, std::int64_t stop,
                                  const double* log_denominator, const double* upstream,
                                  void* saved, const ContrastGradients<void>& gradients,
                                  void* workspace, void* stream, bool prepared = false,
                                  ContrastStep step = ContrastStep::all);

ContrastCudaLayout contrast_cuda_layout(ContrastPrecision precision, std::int64_t rows,
                                        const std::int64_t (&widths)[3]);

}  // namespace detach

// Bindings (detach._C), on addresses as integers, 0 for null; tuples are
//   features   video_spatial, video_temporal, sensor_spatial, sensor_temporal, video_momentum,
//              sensor_momentum; the same order, without momentum, for gradients
//   widths     spatial, temporal, momentum
//   params     temperature, lambda_hard, gate, power, temporal, normalize
//   mask       dense, stride, back, back_stride, group, position, reach
//   stats      loss, log_denominator, mean_weight
//   block      features, rows, group, position
//   pair_mask  dense, stride, back, back_stride, reach
//   sums       log_video, log_sensor, positive, weight_video, weight_sensor, count_video,
//              count_sensor
//
//   contrast_cuda_saved_size(dtype, rows, start, stop) -> bytes
//   contrast_cuda_workspace(dtype, rows, widths, start, stop, saved) -> bytes
//   contrast_cuda_layout(dtype, rows, widths) -> ContrastCudaLayout's numbers in order
//   contrast_cuda_batch(features, dtype, rows, widths, params, mask, start, stop, stats, saved,
//                       workspace, stream)
//   contrast_cuda_batch_gradient(features, dtype, rows, widths, params, mask, start, stop,
//                                log_denominator, upstream, saved, gradients, workspace, stream,
//                                prepared=False, step=0)
//   contrast_cuda_pair_saved_size(dtype, rows_a, rows_b, same) -> bytes
//   contrast_cuda_pair_workspace(dtype, rows_a, rows_b, same, widths, saved) -> bytes
//   contrast_cuda_sums(block_a, block_b or None, dtype, widths, params, pair_mask, sums_a,
//                      sums_b or None, saved, workspace, stream)
//   contrast_cuda_gradient(block_a, block_b or None, dtype, widths, params, pair_mask,
//                          denominators_a, denominators_b or None, saved, gradients_a,
//                          gradients_b or None, workspace, stream)
//              denominators: log_video, log_sensor, upstream; gradients: float
