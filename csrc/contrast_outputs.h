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
  Buffer<T> sum;  ///< between begin() and end()
  T* out = nullptr;
  bool wanted = false;
  std::int64_t width = 0;
  std::int64_t stride = 0;
};

template <typename T>
struct ModalitySums {
  std::array<HalfSum<T>, halves> half;
  std::vector<char> started;  ///< of each row block: whether sums are there to add to
  bool wanted() const { return half[spatial].wanted || half[temporal].wanted; }
};

/// d loss / d logit (i, j) = E_ij (a_i + b_j): a_i from the one window's denominator, b_j from the
/// other's. In a wide range W (a_i 2^(logit - top_i) + b_j 2^(logit - top_j)), ready in the tile.
template <typename T>
class ContrastSide {
 public:
  ContrastSide(const ContrastRows<T>& rows, const ContrastDenominators& denominators,
               const ContrastGradients<T>& gradients, const ContrastRange& range,
               std::int64_t tile_rows, int threads);

  /// Takes memory for the sums of one modality's halves.
  void begin(int modality);
  /// Panels of windows [first, last) of this side's features, in place of those that were packed
  /// before, as far as the sums of some modalities of `reader` are made of them.
  void pack_for(const ContrastSide& reader, const std::vector<int>& of, std::int64_t first,
                std::int64_t last, int threads);
  /// Brings the sums of one modality for windows [first, last), with each window's own pair where
  /// `own_logits` is not null, to the results.
  void finish(const ContrastParams& params, int modality, const double* own_logits,
              std::int64_t first, std::int64_t last) const;
  /// Gives that memory back.
  void end(int modality);

  const ContrastRows<T>& rows() const { return rows_; }
  ModalitySums<T>& sums(int modality) { return sums_[static_cast<std::size_t>(modality)]; }
  int halves_wanted() const;
  /// Where window `i` of a packed feature begins.
  const T* panels(int f, std::int64_t i) const;
  std::int64_t panel_step() const;
  /// Derivatives as ContrastGather takes them: (own_i factor_k + other_k) E, with k's length_scale.
  const T* own(int modality) const { return own_ + (modality * rows_.stride); }
  const T* factor(int modality) const { return rows_.scale_of(modality); }
  const T* other(int modality) const { return other_ + (modality * rows_.stride); }
  T* top(int modality) const { return top_ + (modality * rows_.stride); }
  const T* multiple(int modality) const { return multiple_ + (modality * rows_.stride); }

 private:
  void set_factor(const ContrastRange& range, int modality, std::int64_t i);
  double own_derivative(const double* own_logits, std::int64_t i) const;
  void finish_row(const ContrastParams& params, int modality, std::int64_t i, double own) const;
  void finish_tiny_row(const ContrastParams& params, int modality, std::int64_t i,
                       double own) const;

  const ContrastRows<T>& rows_;
  std::int64_t tile_rows_;
  bool add_;
  ContrastDenominators denominators_;
  std::array<ModalitySums<T>, modalities> sums_;
  std::array<Buffer<T>, features> panels_;
  std::int64_t panels_first_ = 0;
  std::int64_t panels_room_ = 0;  ///< windows that the panels have room for
  Buffer<T> own_;
  Buffer<T> other_;
  Buffer<T> top_;
  Buffer<T> multiple_;
};

}  // namespace detach
