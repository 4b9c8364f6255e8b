#include "contrast_outputs.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "contrast_features.h"
#include "contrast_kernels.h"
#include "contrast_pair.h"
#include "contrast_workspace.h"
#include "detach/contrast.h"
#include "detach/thread_pool.h"

namespace detach {
namespace {

constexpr double log2_e = 1.4426950408889634074;
constexpr std::int64_t rows_together = 48;
constexpr std::int64_t odd_rows = 24;  // keeps panels from lying in the same sets of a cache

}  // namespace

template <typename T>
ContrastSide<T>::ContrastSide(const ContrastRows<T>& rows, const ContrastDenominators& denominators,
                              const ContrastGradients<T>& gradients, const ContrastRange& range,
                              std::int64_t tile_rows, int threads)
    : rows_(rows),
      tile_rows_(tile_rows),
      add_(gradients.add),
      denominators_(denominators),
      own_(modalities * rows.stride),
      other_(modalities * rows.stride),
      top_(modalities * rows.stride),
      multiple_(modalities * rows.stride) {
  T* const outs[modalities][halves] = {{gradients.video_spatial, gradients.video_temporal},
                                       {gradients.sensor_spatial, gradients.sensor_temporal}};
  const std::int64_t panel = contrast_kernels<T>().panel;
  for (int modality = 0; modality < modalities; ++modality) {
    const bool any = outs[modality][spatial] != nullptr || outs[modality][temporal] != nullptr;
    for (int part = 0; part < halves; ++part) {
      HalfSum<T>& half = sums(modality).half[static_cast<std::size_t>(part)];
      half.out = outs[modality][part];
      half.width = rows.width[static_cast<std::size_t>(feature(modality, part))];
      half.stride = (half.width + panel - 1) / panel * panel;
      // Rows that are nearly 0 mix the derivatives of both halves.
      half.wanted = half.out != nullptr || (any && rows.normalized && rows.has_tiny);
    }
  }
  parallel_for(threads, rows_.stride, rows_together, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      set_factor(range, video, i);
      set_factor(range, sensor, i);
    }
  });
}

template <typename T>
void ContrastSide<T>::begin(int modality) {
  for (HalfSum<T>& half : sums(modality).half) {
    if (half.wanted) {
      half.sum = Buffer<T>((rows_.rows + contrast_group) * half.stride);
    }
  }
  const std::int64_t blocks = (rows_.rows + tile_rows_ - 1) / tile_rows_;
  sums(modality).started.assign(static_cast<std::size_t>(blocks), 0);
}

template <typename T>
void ContrastSide<T>::set_factor(const ContrastRange& range, int modality, std::int64_t i) {
  const std::int64_t at = (modality * rows_.stride) + i;
  const double* const logs = modality == video ? denominators_.log_video : denominators_.log_sensor;
  const bool counts = i < rows_.rows && denominators_.upstream != nullptr;
  const double upstream = counts ? denominators_.upstream[i] : 0.0;
  const double log2_sum = counts ? logs[i] * log2_e : 0.0;
  if (!range.wide) {
    const double derivative = counts ? upstream * std::exp2(range.shift - log2_sum) : 0.0;
    own_[at] = static_cast<T>(derivative);
    other_[at] = static_cast<T>(derivative * (i < rows_.rows ? rows_.embedding[at] : 0.0));
    return;
  }
  own_[at] = T(1);
  other_[at] = T(0);
  top_[at] = counts ? static_cast<T>(log2_sum) : std::numeric_limits<T>::max() / 2;
  // The part of the logarithm that T cannot hold goes into the factor.
  const double rest = std::clamp(static_cast<double>(top_[at]) - log2_sum, -64.0, 64.0);
  multiple_[at] = counts ? static_cast<T>(upstream * std::exp2(rest)) : T(0);
}

template <typename T>
int ContrastSide<T>::halves_wanted() const {
  int wanted = 0;
  for (const ModalitySums<T>& of_modality : sums_) {
    for (const HalfSum<T>& half : of_modality.half) {
      wanted += half.wanted ? 1 : 0;
    }
  }
  return wanted;
}

template <typename T>
std::int64_t ContrastSide<T>::panel_step() const {
  return (panels_room_ + odd_rows) * contrast_kernels<T>().panel;
}

template <typename T>
const T* ContrastSide<T>::panels(int f, std::int64_t i) const {
  return panels_[static_cast<std::size_t>(f)] + ((i - panels_first_) * contrast_kernels<T>().panel);
}

template <typename T>
void ContrastSide<T>::pack_for(const ContrastSide& reader, const std::vector<int>& of,
                               std::int64_t first, std::int64_t last, int threads) {
  const ContrastKernels<T>& kernels = contrast_kernels<T>();
  if (last - first > panels_room_) {
    panels_room_ = last - first;
    for (Buffer<T>& panels : panels_) {
      panels = Buffer<T>();
    }
  }
  panels_first_ = first;
  const std::int64_t step = panel_step();
  std::vector<int> packed;
  for (const int modality : of) {
    for (int part = 0; part < halves; ++part) {
      const auto& half =
          reader.sums_[static_cast<std::size_t>(modality)].half[static_cast<std::size_t>(part)];
      if (half.wanted) {
        packed.push_back(feature(1 - modality, part));
      }
    }
  }
  for (const int f : packed) {
    const auto at = static_cast<std::size_t>(f);
    if (panels_[at].get() == nullptr) {
      panels_[at] = Buffer<T>((rows_.width[at] + kernels.panel - 1) / kernels.panel * step);
    }
  }
  parallel_for(threads, last - first, rows_together, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t row = first + begin;
    for (const int f : packed) {
      const auto at = static_cast<std::size_t>(f);
      const std::int64_t width = rows_.width[at];
      kernels.pack_features(rows_.x[at] + (row * width), end - begin, width, rows_.unit_of(f) + row,
                            panels_[at] + (begin * kernels.panel), step);
    }
  });
}

/// d loss / d own logit: how far each window's own pair is from having all the probability.
template <typename T>
double ContrastSide<T>::own_derivative(const double* own_logits, std::int64_t i) const {
  if (own_logits == nullptr || denominators_.upstream == nullptr) {
    return 0.0;
  }
  return denominators_.upstream[i] * (std::expm1(own_logits[i] - denominators_.log_video[i]) +
                                      std::expm1(own_logits[i] - denominators_.log_sensor[i]));
}

template <typename T>
void ContrastSide<T>::end(int modality) {
  for (HalfSum<T>& half : sums(modality).half) {
    half.sum = Buffer<T>();
  }
}

template <typename T>
void ContrastSide<T>::finish(const ContrastParams& params, int modality, const double* own_logits,
                             std::int64_t first, std::int64_t last) const {
  for (std::int64_t i = first; i < last; ++i) {
    const double own = own_derivative(own_logits, i);
    if (rows_.normalized && rows_.has_tiny) {
      finish_tiny_row(params, modality, i, own);
    } else {
      finish_row(params, modality, i, own);
    }
  }
}

template <typename T>
void ContrastSide<T>::finish_row(const ContrastParams& params, int modality, std::int64_t i,
                                 double own) const {
  const int partner = 1 - modality;
  for (int part = 0; part < halves; ++part) {
    const auto& half =
        sums_[static_cast<std::size_t>(modality)].half[static_cast<std::size_t>(part)];
    if (half.out == nullptr) {
      continue;
    }
    const auto f = static_cast<std::size_t>(feature(modality, part));
    const auto g = static_cast<std::size_t>(feature(partner, part));
    ContrastFinish<T> row;
    row.sum = half.sum + (i * half.stride);
    row.x = rows_.x[f] + (i * half.width);
    row.x_other = rows_.x[g] + (i * half.width);
    row.out = half.out + (i * half.width);
    row.width = half.width;
    row.add = add_;
    if (rows_.normalized) {
      const double length = rows_.length_of(static_cast<int>(f))[i];
      const double other = rows_.length_of(static_cast<int>(g))[i];
      row.own_pair =
          own * rows_.embedding[(partner * rows_.stride) + i] / std::max(other, shortest_length);
      row.unit = 1.0 / std::max(length, shortest_length);
      // What the whole's normalisation takes away lies along the half, and is taken away here.
      row.project = length >= shortest_length ? 1.0 : 0.0;
      row.scale = rows_.embedding[(modality * rows_.stride) + i] * row.unit / params.temperature;
    } else {
      row.own_pair = own;
      row.scale = 1.0 / params.temperature;
    }
    contrast_kernels<T>().finish(row);
  }
}

/// Everything by the book, in double: some half of this block is not 0, but too short to have
/// length 1 after normalisation, so that the halves' derivatives mix.
template <typename T>
void ContrastSide<T>::finish_tiny_row(const ContrastParams& params, int modality, std::int64_t i,
                                      double own) const {
  const auto& both = sums_[static_cast<std::size_t>(modality)].half;
  if (both[spatial].out == nullptr && both[temporal].out == nullptr) {
    return;
  }
  const int partner = 1 - modality;
  const double scale = rows_.embedding[(modality * rows_.stride) + i];
  const double partner_scale = rows_.embedding[(partner * rows_.stride) + i];
  std::array<std::vector<double>, halves> derivative;
  std::array<std::vector<double>, halves> unit;
  double along_whole = 0.0;
  double square = 0.0;
  for (std::size_t part = 0; part < halves; ++part) {
    const int f = feature(modality, static_cast<int>(part));
    const int g = feature(partner, static_cast<int>(part));
    const double length = std::max(rows_.length_of(f)[i], shortest_length);
    const double other = std::max(rows_.length_of(g)[i], shortest_length);
    const T* const x = rows_.x[static_cast<std::size_t>(f)] + (i * both[part].width);
    const T* const y = rows_.x[static_cast<std::size_t>(g)] + (i * both[part].width);
    for (std::int64_t k = 0; k < both[part].width; ++k) {
      const double total =
          both[part].sum[(i * both[part].stride) + k] + (own * partner_scale * y[k] / other);
      derivative[part].push_back(total / params.temperature);
      unit[part].push_back(x[k] / length);
      along_whole += derivative[part].back() * unit[part].back() * scale;
      square += unit[part].back() * unit[part].back();
    }
  }
  const bool whole_counts = std::sqrt(square) >= shortest_length;
  for (std::size_t part = 0; part < halves; ++part) {
    if (both[part].out == nullptr) {
      continue;
    }
    const double length = rows_.length_of(feature(modality, static_cast<int>(part)))[i];
    double along = 0.0;
    for (std::size_t k = 0; k < unit[part].size(); ++k) {
      const double back = whole_counts ? unit[part][k] * scale * along_whole : 0.0;
      derivative[part][k] = (derivative[part][k] - back) * scale;
      along += derivative[part][k] * unit[part][k];
    }
    for (std::size_t k = 0; k < unit[part].size(); ++k) {
      const double back = length >= shortest_length ? unit[part][k] * along : 0.0;
      T& out = both[part].out[(i * both[part].width) + static_cast<std::int64_t>(k)];
      out = (add_ ? out : T(0)) +
            static_cast<T>((derivative[part][k] - back) / std::max(length, shortest_length));
    }
  }
}

template class ContrastSide<float>;
template class ContrastSide<double>;

}  // namespace detach
