// One tile after the other: products, weights, and what is left out.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "contrast_features.h"
#include "contrast_kernels.h"
#include "contrast_pair.h"
#include "contrast_workspace.h"
#include "detach/contrast.h"

namespace detach {
namespace {

constexpr std::int64_t slab = 256;  // depth whose panel of 16 columns stays in a 32 KiB cache

}  // namespace

template <typename T>
TileWorker<T>::TileWorker(const ContrastPair<T>& pair)
    : pair_(pair),
      tiles_((6 * pair.grid.size * pair.grid.size) + saved_slack),
      counts_(4 * tile_columns_),
      sums_(2 * tile_columns_),
      tops_(2 * tile_columns_) {
  const std::int64_t size = pair.grid.size * pair.grid.size;
  video_place_ = tiles_.get();
  sensor_place_ = tiles_ + size;
  motion_ = tiles_ + (2 * size);
  motion_back_ = tiles_ + (3 * size);
  logit_ = tiles_ + (4 * size);
  logit_back_ = tiles_ + (5 * size);
  const std::array<bool, features> wanted = features_of_tiles(pair.params);
  for (std::size_t f = 0; f < features; ++f) {
    if (wanted[f]) {
      left_[f] = Buffer<T>(pair.grid.size * pair.a.width[f]);
    }
  }
}

template <typename T>
void TileWorker<T>::load_rows(std::int64_t i) {
  const std::int64_t begin = pair_.grid.begin(i);
  const std::int64_t rows = pair_.grid.rows_of_a(i);
  const std::int64_t padded = (rows + contrast_group - 1) / contrast_group * contrast_group;
  for (std::size_t f = 0; f < features; ++f) {
    if (left_[f].get() != nullptr) {
      const std::int64_t width = pair_.a.width[f];
      pair_.kernels.scale_rows(pair_.a.x[f] + (begin * width), rows, width,
                               pair_.a.unit_of(static_cast<int>(f)) + begin, left_[f].get());
      std::fill(left_[f] + (rows * width), left_[f] + (padded * width), T(0));
    }
  }
}

template <typename T>
void TileWorker<T>::plan(int rows_feature, int columns_feature, T* out, bool add, bool upper) {
  const auto f = static_cast<std::size_t>(rows_feature);
  const std::int64_t width = pair_.a.width[f];
  const std::int64_t pieces = (width + slab - 1) / slab;
  const std::int64_t depth = (width + pieces - 1) / pieces;
  const T* const panels = pair_.b.panels_of(columns_feature, pair_.grid.begin(j_));
  for (std::int64_t k = 0; k < width; k += depth) {
    ContrastProduct<T> product;
    product.a = left_[f] + k;
    product.group_step = contrast_group * width;
    product.row_step = width;
    product.depth_step = 1;
    product.b = panels + (k * pair_.kernels.panel);
    product.panel_step = width * pair_.kernels.panel;
    product.depth = std::min(depth, width - k);
    product.c = out;
    product.c_stride = pair_.grid.size;
    product.rows = rows_;
    product.columns = columns_;
    product.add = add || k > 0;
    product.upper = upper;
    planned_.push_back(product);
  }
}

/// Every product fetches what the next one reads; the last one what the next tile begins with.
template <typename T>
void TileWorker<T>::multiply_planned() {
  const std::size_t count = planned_.size();
  for (std::size_t n = 0; n < count; ++n) {
    ContrastProduct<T>& product = planned_[n];
    const ContrastProduct<T>& next = planned_[(n + 1) % count];
    const bool last = n + 1 == count;
    product.next_a = next.a;
    product.next_a_size = rows_ * next.row_step;
    if (!last || pair_.grid.begin(j_ + 1) < pair_.b.panels_last) {
      product.next_b = next.b + (last ? pair_.grid.size * next.row_step : 0);
    }
    pair_.kernels.multiply(product);
  }
  planned_.clear();
}

template <typename T>
void TileWorker<T>::scale_place(T* tile, int modality) {
  if (pair_.params.normalize) {
    return;
  }
  ContrastTile<T> shape = direction(false);
  shape.row_scale = pair_.a.place_of(modality) + pair_.grid.begin(i_);
  shape.column_scale = pair_.b.place_of(modality) + pair_.grid.begin(j_);
  pair_.kernels.scale_tile(shape, tile);
}

template <typename T>
void TileWorker<T>::compute(std::int64_t i, std::int64_t j) {
  if (i != i_) {
    load_rows(i);
  }
  i_ = i;
  j_ = j;
  rows_ = pair_.grid.rows_of_a(i);
  columns_ = pair_.grid.rows_of_b(j);
  plan_weights();
  plan_logits();
  multiply_planned();
  compute_weights();
}

template <typename T>
void TileWorker<T>::plan_logits() {
  plan(feature(video, spatial), feature(sensor, spatial), logit_, false);
  plan(feature(video, temporal), feature(sensor, temporal), logit_, true);
  if (has_back()) {
    plan(feature(sensor, spatial), feature(video, spatial), logit_back_, false);
    plan(feature(sensor, temporal), feature(video, temporal), logit_back_, true);
  }
}

/// On the diagonal of the grid W is symmetric, unless it is from video to sensor.
template <typename T>
void TileWorker<T>::plan_weights() {
  const bool cross = pair_.params.temporal == ContrastTemporal::cross;
  const bool upper = !has_back() && !cross;
  if (pair_.uses_place) {
    plan(feature(video, spatial), feature(video, spatial), video_place_, false, upper);
    plan(feature(sensor, spatial), feature(sensor, spatial), sensor_place_, false, upper);
  }
  if (cross) {
    plan(feature(video, momentum), feature(sensor, momentum), motion_, false);
    if (has_back()) {
      plan(feature(sensor, momentum), feature(video, momentum), motion_back_, false);
    }
  } else if (pair_.uses_motion) {
    plan(feature(video, momentum), feature(video, momentum), motion_, false, upper);
    plan(feature(sensor, momentum), feature(sensor, momentum), motion_, true, upper);
  }
}

template <typename T>
void TileWorker<T>::mirror(T* tile) const {
  for (std::int64_t r = 1; r < rows_; ++r) {
    for (std::int64_t c = 0; c < r; ++c) {
      tile[(r * pair_.grid.size) + c] = tile[(c * pair_.grid.size) + r];
    }
  }
}

template <typename T>
void TileWorker<T>::compute_weights() {
  const bool cross = pair_.params.temporal == ContrastTemporal::cross;
  if (pair_.uses_place) {
    scale_place(video_place_, video);
    scale_place(sensor_place_, sensor);
  }
  const T* const video_place = pair_.uses_place ? video_place_ : nullptr;
  const ContrastTile<T> shape = direction(false);
  pair_.kernels.weigh(pair_.weight, shape, video_place, sensor_place_,
                      pair_.uses_motion ? motion_ : nullptr, motion_);
  weight_ = weight_back_ = motion_;
  if (!has_back() && !cross) {
    mirror(weight_);
  }
  if (cross && has_back()) {
    pair_.kernels.weigh(pair_.weight, shape, video_place, sensor_place_, motion_back_,
                        motion_back_);
    weight_back_ = motion_back_;
  } else if (pair_.mask.dense != nullptr && has_back()) {
    std::memcpy(motion_back_, motion_,
                static_cast<std::size_t>(rows_ * pair_.grid.size) * sizeof(T));
    weight_back_ = motion_back_;
  }
  leave_out(false);
  if (has_back() && weight_back_ != weight_) {
    leave_out(true);
  } else if (has_back()) {
    std::copy_n(counts_.get(), 2 * tile_columns_, counts_ + (2 * tile_columns_));
  }
}

template <typename T>
void TileWorker<T>::drop(T* weight, bool back, std::int64_t row, std::int64_t column) {
  weight[(row * pair_.grid.size) + column] = T(0);
  counts_[((back ? 2 : 0) * tile_columns_) + row] -= 1.0;
  counts_[((back ? 3 : 1) * tile_columns_) + column] -= 1.0;
}

/// Weight 0 for columns of padding, for the diagonal and for pairs that the mask leaves out.
template <typename T>
void TileWorker<T>::leave_out(bool back) {
  T* const weight = back ? weight_back_ : weight_;
  std::fill_n(counts_ + ((back ? 2 : 0) * tile_columns_), rows_, static_cast<double>(columns_));
  std::fill_n(counts_ + ((back ? 3 : 1) * tile_columns_), columns_, static_cast<double>(rows_));
  const std::int64_t stride = pair_.grid.size;
  const std::int64_t padded = TileGrid::padded(columns_);
  for (std::int64_t r = 0; r < rows_ && padded != columns_; ++r) {
    std::fill(weight + (r * stride) + columns_, weight + (r * stride) + padded, T(0));
  }
  const PairMask& mask = pair_.mask;
  const bool diagonal = !has_back();
  for (std::int64_t r = 0; r < rows_ && diagonal; ++r) {
    drop(weight, back, r, r);
  }
  if (mask.dense == nullptr && !(mask.reach > 0.0)) {
    return;
  }
  const std::int64_t i = pair_.grid.begin(i_);
  const std::int64_t j = pair_.grid.begin(j_);
  for (std::int64_t r = 0; r < rows_; ++r) {
    for (std::int64_t c = 0; c < columns_; ++c) {
      bool out = false;
      if (mask.dense != nullptr) {
        out = back ? mask.back[((j + c) * mask.back_stride) + i + r]
                   : mask.dense[((i + r) * mask.stride) + j + c];
      }
      if (mask.reach > 0.0) {
        out = out || (pair_.block_a.group[i + r] == pair_.block_b.group[j + c] &&
                      std::fabs(pair_.block_a.position[i + r] - pair_.block_b.position[j + c]) <
                          mask.reach);
      }
      if (out && !(diagonal && r == c)) {
        drop(weight, back, r, c);
      }
    }
  }
}

template <typename T>
ContrastTile<T> TileWorker<T>::direction(bool back) {
  ContrastTile<T> tile;
  tile.rows = rows_;
  tile.columns = TileGrid::padded(columns_);
  tile.stride = pair_.grid.size;
  tile.product = back ? logit_back_ : logit_;
  tile.weight = back ? weight_back_ : weight_;
  const std::int64_t i = pair_.grid.begin(i_);
  const std::int64_t j = pair_.grid.begin(j_);
  tile.row_scale = pair_.row_scale + ((back ? sensor : video) * pair_.a.stride) + i;
  tile.column_scale = pair_.b.scale_of(back ? video : sensor) + j;
  tile.out = tile.product;
  tile.out_stride = tile.stride;
  tile.shift = pair_.range.shift;
  tile.row_top = row_top();
  tile.column_top = column_top();
  tile.row_sum = row_sum();
  tile.column_sum = column_sum();
  return tile;
}

template class TileWorker<float>;
template class TileWorker<double>;

}  // namespace detach
