// The weighted contrastive loss with any numbers: whole batches, and pairs of blocks as the ring's.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "detach/contrast.h"
#include "fuzz_bytes.h"

inline detach::ContrastParams contrast_params(Bytes& in) {
  detach::ContrastParams params;
  params.temperature = in.below(4) != 0 ? 0.1 : in.raw<double>();
  params.lambda_hard = in.below(4) != 0 ? 3.0 : in.raw<double>();
  params.gate = static_cast<detach::ContrastGate>(in.below(2));
  params.power = in.below(4);
  params.temporal = static_cast<detach::ContrastTemporal>(in.below(3));
  params.normalize = in.below(2) != 0;
  return params;
}

template <typename T>
void losses(Bytes& in) {
  detach::ContrastBlock<T> batch;
  batch.rows = in.below(40);
  batch.spatial_width = in.below(12);
  batch.temporal_width = in.below(40);
  batch.momentum_width = in.below(24);
  const detach::ContrastParams params = contrast_params(in);
  const std::int64_t start = in.below(41);
  const std::int64_t stop = in.below(41);
  const int threads = in.below(5);
  const bool keeps = in.below(2) != 0;
  const int mask_kind = in.below(3);

  const auto spatial = in.numbers<T>(2 * batch.rows * batch.spatial_width);
  const auto temporal = in.numbers<T>(2 * batch.rows * batch.temporal_width);
  const auto momentum = in.numbers<T>(2 * batch.rows * batch.momentum_width);
  batch.video_spatial = spatial.data();
  batch.sensor_spatial = spatial.data() + (batch.rows * batch.spatial_width);
  batch.video_temporal = temporal.data();
  batch.sensor_temporal = temporal.data() + (batch.rows * batch.temporal_width);
  batch.video_momentum = momentum.data();
  batch.sensor_momentum = momentum.data() + (batch.rows * batch.momentum_width);

  const auto pairs = static_cast<std::size_t>(batch.rows * batch.rows);
  const std::unique_ptr<bool[]> dense(new bool[pairs]());
  std::vector<std::int64_t> group;
  std::vector<double> position;
  detach::PairMask mask;
  if (mask_kind == 1) {
    for (std::size_t i = 0; i < pairs; ++i) {
      dense[i] = in.below(3) == 0;
    }
    mask = {dense.get(), batch.rows, dense.get(), batch.rows, 0.0};
  } else if (mask_kind == 2) {
    for (std::int64_t i = 0; i < batch.rows; ++i) {
      group.push_back(in.below(3));
      position.push_back(in.number<double>());
    }
    batch.group = group.data();
    batch.position = position.data();
    mask.reach = in.number<double>();
  }

  const bool rows_are_there = start <= stop && stop <= batch.rows;
  const std::int64_t count = rows_are_there ? stop - start : 0;
  std::vector<double> loss(2 * count), log_denominator(2 * count), weight(2 * count);
  std::vector<T> saved(static_cast<std::size_t>(
      rows_are_there && keeps ? detach::contrast_batch_saved_size(batch.rows, start, stop) : 0));
  T* const kept = keeps ? saved.data() : nullptr;
  detach::contrast_batch(batch, params, mask, start, stop,
                         {loss.data(), log_denominator.data(), weight.data()}, kept, threads);
  std::vector<T> of_spatial(spatial.size()), of_temporal(temporal.size());
  const detach::ContrastGradients<T> gradients{
      of_spatial.data(), of_temporal.data(), of_spatial.data() + (batch.rows * batch.spatial_width),
      of_temporal.data() + (batch.rows * batch.temporal_width)};
  const std::vector<double> upstream(static_cast<std::size_t>(count), 0.5);
  detach::contrast_batch_gradient(batch, params, mask, start, stop, log_denominator.data(),
                                  upstream.data(), kept, gradients, threads);
}

/// The features of one block of windows, and where it stands in time.
template <typename T>
struct Features {
  Features(Bytes& in, std::int64_t rows, const std::int64_t (&widths)[3]) {
    for (const std::int64_t width : {widths[0], widths[1], widths[2]}) {
      for (int modality = 0; modality < 2; ++modality) {
        parts.push_back(in.numbers<T>(rows * width));
      }
    }
    for (std::int64_t i = 0; i < rows; ++i) {
      group.push_back(in.below(3));
      position.push_back(in.number<double>());
    }
    block = {rows,
             widths[0],
             widths[1],
             widths[2],
             parts[0].data(),
             parts[2].data(),
             parts[1].data(),
             parts[3].data(),
             parts[4].data(),
             parts[5].data(),
             group.data(),
             position.data()};
  }

  std::vector<std::vector<T>> parts;
  std::vector<std::int64_t> group;
  std::vector<double> position;
  detach::ContrastBlock<T> block;
};

/// Sums of one block, some of them not wanted; then what the gradient takes as denominators.
struct Sums {
  Sums(Bytes& in, std::int64_t rows) : numbers(static_cast<std::size_t>(8 * rows), 0.5) {
    double* const at = numbers.data();
    const bool weights = in.below(2) != 0;
    sums = {at, at + rows, in.below(2) != 0 ? at + (2 * rows) : nullptr};
    if (weights) {
      sums.weight_video = at + (3 * rows);
      sums.weight_sensor = at + (4 * rows);
      sums.count_video = at + (5 * rows);
      sums.count_sensor = at + (6 * rows);
    }
    denominators = {at, at + rows, in.below(4) != 0 ? at + (7 * rows) : nullptr};
  }

  std::vector<double> numbers;
  detach::ContrastSums sums;
  detach::ContrastDenominators denominators;
};

/// Gradients of one block; each half is wanted or not.
template <typename T>
struct Gradients {
  Gradients(Bytes& in, const Features<T>& of) {
    T* to[4] = {};
    for (std::size_t k = 0; k < 4; ++k) {
      parts.emplace_back(of.parts[k].size());
      to[k] = in.below(4) != 0 ? parts[k].data() : nullptr;
    }
    gradients = {to[0], to[2], to[1], to[3], in.below(2) != 0};
  }

  std::vector<std::vector<T>> parts;
  detach::ContrastGradients<T> gradients;
};

/// A dense mask of two blocks in both directions, its rows further apart than they are long.
struct DenseMask {
  DenseMask(Bytes& in, std::int64_t rows_a, std::int64_t rows_b)
      : stride(rows_b + in.below(3)), back_stride(rows_a + in.below(3)) {
    const auto there = static_cast<std::size_t>(rows_a * stride);
    const auto back_again = static_cast<std::size_t>(rows_b * back_stride);
    dense.reset(new bool[there]());
    back.reset(new bool[back_again]());
    for (std::size_t i = 0; i < there; ++i) {
      dense[i] = in.below(3) == 0;
    }
    for (std::size_t i = 0; i < back_again; ++i) {
      back[i] = in.below(3) == 0;
    }
  }

  std::int64_t stride;
  std::int64_t back_stride;
  std::unique_ptr<bool[]> dense;
  std::unique_ptr<bool[]> back;
};

/// Two blocks as a visit of the ring has them, or one by itself: sums, then gradients.
template <typename T>
void pairs(Bytes& in) {
  const std::int64_t rows_a = in.below(2) != 0 ? in.below(12) : in.below(110);
  const bool same = in.below(4) == 0;
  const std::int64_t rows_b = same ? rows_a : (in.below(2) != 0 ? in.below(12) : in.below(110));
  const std::int64_t widths[3] = {in.below(12), in.below(40), in.below(24)};
  const detach::ContrastParams params = contrast_params(in);
  const int threads = in.below(5);
  const bool keeps = in.below(2) != 0;
  const bool two_sums = in.below(4) != 0;
  const bool two_gradients = in.below(4) != 0;
  const int mask_kind = in.below(3);

  const Features<T> a(in, rows_a, widths);
  Features<T> b(in, same ? 0 : rows_b, widths);
  b.block.temporal_width += in.below(32) == 31 ? 1 : 0;  // refused
  const detach::ContrastBlock<T>* const other = same ? nullptr : &b.block;
  Sums sums_a(in, rows_a);
  Sums sums_b(in, rows_b);
  Gradients<T> gradients_a(in, a);
  Gradients<T> gradients_b(in, b);
  detach::PairMask mask;
  const DenseMask dense(in, mask_kind == 1 ? rows_a : 0, mask_kind == 1 ? rows_b : 0);
  if (mask_kind == 1) {
    mask = {dense.dense.get(), dense.stride, dense.back.get(), dense.back_stride, 0.0};
    if (same) {
      mask.back = mask.dense;
      mask.back_stride = mask.stride;
    }
  } else if (mask_kind == 2) {
    mask.reach = in.number<double>();
  }

  std::vector<T> saved(
      static_cast<std::size_t>(keeps ? detach::contrast_saved_size(rows_a, rows_b, same) : 0));
  T* const kept = keeps ? saved.data() : nullptr;
  detach::contrast_sums<T>(a.block, other, params, mask, sums_a.sums,
                           !same && two_sums ? &sums_b.sums : nullptr, kept, threads);
  detach::contrast_gradient<T>(a.block, other, params, mask, sums_a.denominators,
                               !same && two_sums ? &sums_b.denominators : nullptr, kept,
                               gradients_a.gradients,
                               !same && two_gradients ? &gradients_b.gradients : nullptr, threads);
}
