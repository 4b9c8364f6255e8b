// One block's part in a gradient: factors that make exponentials into derivatives, the sums that
// tiles add to, and the way from those through the normalisation to the caller's arrays.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "contrast_features.h"
#include "contrast_kernels.h"
#include "contrast_pair.h"
#include "contrast_workspace.h"
#include "detach/contrast.h"

namespace detach {

/// Sums over windows for the rows of one half, [rows, with room for 6 more][stride].
template <typename T>
struct HalfSum {
  Buffer<T> sum;
  T* out = nullptr;
  std::int64_t width = 0;
  std::int64_t stride = 0;
  bool wanted() const { return sum.get() != nullptr; }
};

template <typename T>
struct ModalitySums {
  std::array<HalfSum<T>, halves> half;
  std::vector<char> started;  ///< of each row block: whether sums are there to add to
  bool wanted() const { return half[spatial].wanted() || half[temporal].wanted(); }
};

/// d loss / d logit (i, j) = E_ij (a_i + b_j): a_i from the one window's denominator, b_j from the
/// other's. In a wide range W (a_i 2^(logit - top_i) + b_j 2^(logit - top_j)), ready in the tile.
template <typename T>
class ContrastSide {
 public:
  ContrastSide(const ContrastRows<T>& rows, const ContrastDenominators& denominators,
               const ContrastGradients<T>& gradients, const ContrastRange& range,
               std::int64_t tile_rows);

  /// Panels of this side's features, as far as `reader` multiplies by them.
  void pack_for(const ContrastSide& reader, int threads);
  /// Adds the sums, with each window's own pair where `own_logits` is not null, to the results.
  void finish(const ContrastParams& params, const double* own_logits, int threads) const;

  const ContrastRows<T>& rows() const { return rows_; }
  ModalitySums<T>& sums(int modality) { return sums_[static_cast<std::size_t>(modality)]; }
  int halves_wanted() const;
  const T* panels(int f) const { return panels_[static_cast<std::size_t>(f)].get(); }
  std::int64_t panel_step() const;
  /// Derivatives as ContrastGather takes them: (own_i factor_k + other_k) E, with k's length_scale.
  const T* own(int modality) const { return own_ + (modality * rows_.stride); }
  const T* factor(int modality) const { return rows_.scale_of(modality); }
  const T* other(int modality) const { return other_ + (modality * rows_.stride); }
  T* top(int modality) const { return top_ + (modality * rows_.stride); }
  const T* multiple(int modality) const { return multiple_ + (modality * rows_.stride); }

 private:
  void set_factors(const ContrastRange& range);
  void set_factor(const ContrastRange& range, int modality, std::int64_t i);
  double own_derivative(const double* own_logits, std::int64_t i) const;
  void finish_row(const ContrastParams& params, int modality, std::int64_t i, double own) const;
  void finish_tiny_row(const ContrastParams& params, int modality, std::int64_t i,
                       double own) const;

  const ContrastRows<T>& rows_;
  ContrastDenominators denominators_;
  std::array<ModalitySums<T>, modalities> sums_;
  std::array<Buffer<T>, features> panels_;
  Buffer<T> own_;
  Buffer<T> other_;
  Buffer<T> top_;
  Buffer<T> multiple_;
};

}  // namespace detach
