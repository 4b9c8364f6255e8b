// What the contrastive loss has to know of a block's rows: lengths, scales and packed copies.
#pragma once

#include <array>
#include <cstdint>

#include "contrast_kernels.h"
#include "contrast_workspace.h"
#include "detach/contrast.h"

namespace detach {

constexpr double shortest_length = 1e-12;  // as torch.nn.functional.normalize

enum Modality : int { video = 0, sensor = 1 };
enum Part : int { spatial = 0, temporal = 1, momentum = 2 };
constexpr int modalities = 2;
constexpr int halves = 2;  // spatial and temporal
constexpr int parts = 3;
constexpr int features = modalities * parts;

/// Number of a feature in the arrays below.
constexpr int feature(int modality, int part) { return (part * modalities) + modality; }

/// Rows of a block. Packed rows are x * unit; the embedding is z = length_scale * [packed spatial,
/// packed temporal]. With `normalize` packed rows have length 1; without, they are x times a power
/// of two, and place_scale makes unit rows of the packed spatial ones.
template <typename T>
struct ContrastRows {
  std::int64_t rows = 0;
  bool normalized = true;
  std::int64_t stride = 0;  ///< of the arrays, with room for a register behind the end
  std::array<const T*, features> x{};
  std::array<std::int64_t, features> width{};
  Buffer<double> length;                     ///< [features][stride]
  Buffer<T> unit;                            ///< [features][stride]
  Buffer<double> embedding;                  ///< [modalities][stride]: length_scale
  Buffer<T> length_scale;                    ///< [modalities][stride]
  Buffer<T> place_scale;                     ///< [modalities][stride]; only without `normalize`
  std::array<double, modalities> longest{};  ///< longest embedding
  bool has_tiny = false;  ///< some half is not 0 but shorter than shortest_length
  std::array<bool, features> used{};
  /// Packed rows [panels_first, panels_last) of the used features, for products over features.
  Buffer<T> panels;
  std::array<std::int64_t, features> panels_begin{};
  std::int64_t panels_first = 0;
  std::int64_t panels_last = 0;

  const double* length_of(int f) const { return length + (f * stride); }
  const T* unit_of(int f) const { return unit + (f * stride); }
  const T* scale_of(int modality) const { return length_scale + (modality * stride); }
  const T* place_of(int modality) const { return place_scale + (modality * stride); }
  /// The panel that begins with a row.
  T* panels_of(int f, std::int64_t row) const {
    const auto at = static_cast<std::size_t>(f);
    return panels + panels_begin[at] + ((row - panels_first) * width[at]);
  }
};

/// What prepare_rows does beside measuring: nothing of it by default.
struct RowsWanted {
  std::array<bool, features> used{};      ///< at least both halves of both modalities
  bool panels = false;                    ///< of all rows, while they are in a cache
  const double* known_lengths = nullptr;  ///< [4][rows], instead of measuring the halves
  double* own_logits = nullptr;           ///< [rows], of each row with its own partner, in double
  double temperature = 1.0;
};

/// Measures and packs the rows of a block.
template <typename T>
ContrastRows<T> prepare_rows(const ContrastBlock<T>& block, bool normalize,
                             const RowsWanted& wanted, int threads);

/// Packs rows [first, last) in place of those that were packed before.
template <typename T>
void pack_panels(ContrastRows<T>& rows, std::int64_t first, std::int64_t last, int threads);

}  // namespace detach
