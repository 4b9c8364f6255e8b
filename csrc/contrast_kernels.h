// What contrast_avx2.cpp, contrast_neon.cpp and contrast_plain.cpp offer to the rest: the inner
// loops of the weighted contrastive loss, as a table of functions for float and double.
//
// Private to the core. A tile is a pair of row blocks, some rows of block A by some of block B,
// row-major with `stride` between rows. Rows of B are its columns; they are padded to the width of
// a register, and padded columns have weight 0. Logits are in units of log 2, so that exp is exp2.
#pragma once

#include <cstdint>

namespace detach {

constexpr std::int64_t contrast_group = 6;  ///< rows of a micro-tile

/// c (rows x columns) = or += a b, where b comes in panels of ContrastKernels::panel columns.
/// Element (i, k) of `a` is a[i / 6 * group_step + i % 6 * row_step + k * depth_step], the last
/// step 1 or 6; `a` and
/// `c` have rows up to a multiple of 6, `c` has columns up to a multiple of the panel.
template <typename T>
struct ContrastProduct {
  const T* a = nullptr;
  std::int64_t group_step = 0;
  std::int64_t row_step = 0;
  std::int64_t depth_step = 0;
  const T* b = nullptr;  ///< element (k, j) is b[(j / panel) * panel_step + k * panel + j % panel]
  std::int64_t panel_step = 0;
  std::int64_t depth = 0;
  T* c = nullptr;
  std::int64_t c_stride = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  bool add = false;
  bool upper = false;  ///< below the diagonal c may be left as it is
  /// What the next product will read, to have it near by then; may be null.
  const T* next_a = nullptr;
  std::int64_t next_a_size = 0;
  const T* next_b = nullptr;
};

/// W = (1 + hard S) (1 - (gate_one + gate_place S) (linear t + square t^2)), t = relu(scale T).
template <typename T>
struct ContrastWeight {
  T hard = 0;
  T gate_one = 0;
  T gate_place = 0;
  T linear = 0;
  T square = 0;
  T scale = 0;
};

/// One direction of a tile, turned from products into what the loss needs.
///
/// Logit (i, j) is product[i][j] * row_scale[i] * column_scale[j]; pairs of weight 0 are skipped.
template <typename T>
struct ContrastTile {
  std::int64_t rows = 0;
  std::int64_t columns = 0;  ///< with padding
  std::int64_t stride = 0;   ///< of product and weight
  T* product = nullptr;
  const T* weight = nullptr;
  const T* row_scale = nullptr;
  const T* column_scale = nullptr;
  T* out = nullptr;  ///< may be `product`
  std::int64_t out_stride = 0;
  int shift = 0;  ///< exp2 of logits is divided by 2^shift (sums)
  /// Relative to the largest logit of each row and column (wide_sums) or to a given number near it
  /// (wide_gradient); what is summed, or what the exponentials are multiplied by.
  T* row_top = nullptr;
  T* column_top = nullptr;
  const T* row_factor = nullptr;
  const T* column_factor = nullptr;
  double* row_sum = nullptr;
  double* column_sum = nullptr;
};

/// Saved exponentials made into the matrix that multiplies features in the gradient:
/// out = in (own[i] factor[k] + other[k]), i an output row, k a window that is summed over.
template <typename T>
struct ContrastGather {
  const T* in = nullptr;
  std::int64_t stride = 0;
  std::int64_t rows = 0;
  std::int64_t depth = 0;
  const T* own = nullptr;
  const T* factor = nullptr;
  const T* other = nullptr;
  T* out = nullptr;
  std::int64_t out_stride = 0;  ///< from row to row, or from one group of 6 rows to the next
};

/// One row of a gradient through the normalisation of its half:
/// g = sum + own_pair * x_other;  out = or += (g - h (h g) project) * scale,  h = x * unit.
template <typename T>
struct ContrastFinish {
  const T* sum = nullptr;
  const T* x = nullptr;
  const T* x_other = nullptr;
  T* out = nullptr;
  bool add = true;
  std::int64_t width = 0;
  double own_pair = 0.0;
  double unit = 0.0;
  double project = 0.0;
  double scale = 0.0;
};

template <typename T>
struct ContrastKernels {
  std::int64_t panel;
  double (*dot)(const T* a, const T* b, std::int64_t n);
  double (*square)(const T* x, std::int64_t n);
  /// out[i][k] = x[i][k] * scale[i], rows side by side.
  void (*scale_rows)(const T* x, std::int64_t rows, std::int64_t width, const T* scale, T* out);
  /// Panels of rows, for products summed over features: out[r / panel][k][r % panel].
  void (*pack_windows)(const T* x, std::int64_t rows, std::int64_t width, const T* scale, T* out);
  /// Panels of features, for products summed over rows: out[f / panel][row][f % panel], panels
  /// `panel_step` apart.
  void (*pack_features)(const T* x, std::int64_t rows, std::int64_t width, const T* scale, T* out,
                        std::int64_t panel_step);
  void (*multiply)(const ContrastProduct<T>& product);
  /// Weights of a tile (rows x columns) from Gram tiles, of which any may be null.
  void (*weigh)(const ContrastWeight<T>& form, const ContrastTile<T>& shape, const T* video_place,
                const T* sensor_place, const T* motion, T* weight);
  /// x[i][j] *= row_scale[i] * column_scale[j].
  void (*scale_tile)(const ContrastTile<T>& tile, T* x);
  /// Sums of x over rows and columns.
  void (*sum_tile)(const ContrastTile<T>& tile, const T* x);
  void (*sums)(const ContrastTile<T>& tile);
  void (*wide_sums)(const ContrastTile<T>& tile);
  /// out = weight (row_factor exp2(logit - row_top) + column_factor exp2(logit - column_top)).
  void (*wide_gradient)(const ContrastTile<T>& tile);
  void (*gather_rows)(const ContrastGather<T>& gather);     ///< in[i][k] to out[i][k]
  void (*gather_columns)(const ContrastGather<T>& gather);  ///< in[k][i] to out[i / 6][k][i % 6]
  void (*finish)(const ContrastFinish<T>& row);
};

/// What serves on this machine.
template <typename T>
const ContrastKernels<T>& contrast_kernels();

const ContrastKernels<float>& contrast_avx2_float();
const ContrastKernels<double>& contrast_avx2_double();
const ContrastKernels<float>& contrast_neon_float();
const ContrastKernels<double>& contrast_neon_double();

}  // namespace detach
