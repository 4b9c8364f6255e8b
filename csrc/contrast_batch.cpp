// The loss of a batch, or of some rows of it against all, put together from pairs of blocks.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "contrast_workspace.h"
#include "detach/contrast.h"
#include "detach/thread_pool.h"

namespace detach {
namespace {

constexpr std::int64_t rows_together = 48;

/// Windows [begin, end) of a batch.
struct Range {
  std::int64_t begin;
  std::int64_t end;
  std::int64_t rows() const { return end - begin; }
};

template <typename T>
ContrastBlock<T> part_of(const ContrastBlock<T>& batch, const Range& range) {
  const auto from = [&](const auto* rows, std::int64_t width) {
    return rows == nullptr ? nullptr : rows + (range.begin * width);
  };
  ContrastBlock<T> part = batch;
  part.rows = range.rows();
  part.video_spatial = from(batch.video_spatial, batch.spatial_width);
  part.sensor_spatial = from(batch.sensor_spatial, batch.spatial_width);
  part.video_temporal = from(batch.video_temporal, batch.temporal_width);
  part.sensor_temporal = from(batch.sensor_temporal, batch.temporal_width);
  part.video_momentum = from(batch.video_momentum, batch.momentum_width);
  part.sensor_momentum = from(batch.sensor_momentum, batch.momentum_width);
  part.group = from(batch.group, 1);
  part.position = from(batch.position, 1);
  return part;
}

PairMask part_of(const PairMask& mask, const Range& a, const Range& b) {
  PairMask part = mask;
  if (mask.dense != nullptr) {
    part.dense = mask.dense + (a.begin * mask.stride) + b.begin;
    part.back = mask.back + (b.begin * mask.back_stride) + a.begin;
  }
  return part;
}

template <typename T>
ContrastGradients<T> part_of(const ContrastGradients<T>& gradients, const ContrastBlock<T>& batch,
                             const Range& range) {
  const auto from = [&](T* rows, std::int64_t width) {
    return rows == nullptr ? nullptr : rows + (range.begin * width);
  };
  return {from(gradients.video_spatial, batch.spatial_width),
          from(gradients.video_temporal, batch.temporal_width),
          from(gradients.sensor_spatial, batch.spatial_width),
          from(gradients.sensor_temporal, batch.temporal_width), gradients.add};
}

/// By all threads, since a fresh array's pages cost more than its zeros.
template <typename T>
void clear(const ContrastGradients<T>& gradients, const ContrastBlock<T>& batch, int threads) {
  parallel_for(threads, batch.rows, rows_together, [&](std::int64_t begin, std::int64_t end) {
    const ContrastGradients<T> part = part_of(gradients, batch, {begin, end});
    const auto zero = [&](T* rows, std::int64_t width) {
      if (rows != nullptr) {
        std::fill_n(rows, (end - begin) * width, T(0));
      }
    };
    zero(part.video_spatial, batch.spatial_width);
    zero(part.sensor_spatial, batch.spatial_width);
    zero(part.video_temporal, batch.temporal_width);
    zero(part.sensor_temporal, batch.temporal_width);
  });
}

void check_range(std::int64_t rows, std::int64_t start, std::int64_t stop) {
  if (start < 0 || start > stop || stop > rows) {
    throw std::invalid_argument("rows must be 0 <= start <= stop <= " + std::to_string(rows) +
                                ", got " + std::to_string(start) + " and " + std::to_string(stop));
  }
}

/// What the windows that are asked for meet: those before and those after them.
std::array<Range, 2> others(std::int64_t rows, std::int64_t start, std::int64_t stop) {
  return {Range{0, start}, Range{stop, rows}};
}

/// Where in `saved` the pair with `other` begins; the windows among themselves come first.
template <typename T>
T* saved_of(T* saved, const Range& range, const Range& other) {
  if (saved == nullptr) {
    return nullptr;
  }
  const std::int64_t rows = range.rows();
  const bool after = other.begin == range.end && other.begin != 0;
  return saved + contrast_saved_size(rows, rows, true) +
         (after ? contrast_saved_size(rows, range.begin, false) : 0);
}

/// Arrays of one pair's sums, 7 of them.
ContrastSums sums_in(const Buffer<double>& memory, std::int64_t rows, bool weights) {
  ContrastSums sums;
  sums.log_video = memory + (0 * rows);
  sums.log_sensor = memory + (1 * rows);
  sums.positive = memory + (2 * rows);
  if (weights) {
    sums.weight_video = memory + (3 * rows);
    sums.weight_sensor = memory + (4 * rows);
    sums.count_video = memory + (5 * rows);
    sums.count_sensor = memory + (6 * rows);
  }
  return sums;
}

double log_add(double a, double b) {
  const double larger = std::max(a, b);
  if (std::isnan(a) || std::isnan(b) || std::isinf(larger)) {
    return std::isnan(a) ? a : (std::isnan(b) ? b : larger);
  }
  return larger + std::log1p(std::exp(std::min(a, b) - larger));
}

void merge(const ContrastSums& into, const ContrastSums& from, std::int64_t rows) {
  for (std::int64_t i = 0; i < rows; ++i) {
    into.log_video[i] = log_add(into.log_video[i], from.log_video[i]);
    into.log_sensor[i] = log_add(into.log_sensor[i], from.log_sensor[i]);
    if (into.weight_video != nullptr) {
      into.weight_video[i] += from.weight_video[i];
      into.weight_sensor[i] += from.weight_sensor[i];
      into.count_video[i] += from.count_video[i];
      into.count_sensor[i] += from.count_sensor[i];
    }
  }
}

/// log(1 + exp(x)), without overflow.
double softplus(double x) {
  return x > 0.0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
}

void write(const ContrastSums& sums, std::int64_t rows, const ContrastStats& stats, int threads) {
  const double* const logs[2] = {sums.log_video, sums.log_sensor};
  const double* const weights[2] = {sums.weight_video, sums.weight_sensor};
  const double* const counts[2] = {sums.count_video, sums.count_sensor};
  parallel_for(threads, 2 * rows, rows_together, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t at = begin; at < end; ++at) {
      const std::int64_t direction = at / rows;
      const std::int64_t i = at % rows;
      stats.loss[at] = softplus(logs[direction][i] - sums.positive[i]);
      stats.log_denominator[at] = sums.positive[i] + stats.loss[at];
      if (stats.mean_weight != nullptr) {
        const double count = counts[direction][i];
        stats.mean_weight[at] = count > 0.0 ? weights[direction][i] / count : 0.0;
      }
    }
  });
}

}  // namespace

std::int64_t contrast_batch_saved_size(std::int64_t rows, std::int64_t start, std::int64_t stop) {
  check_range(rows, start, stop);
  std::int64_t size = contrast_saved_size(stop - start, stop - start, true);
  for (const Range& other : others(rows, start, stop)) {
    size += contrast_saved_size(stop - start, other.rows(), false);
  }
  return size;
}

template <typename T>
double contrast_batch(const ContrastBlock<T>& batch, const ContrastParams& params,
                      const PairMask& mask, std::int64_t start, std::int64_t stop,
                      const ContrastStats& stats, T* saved, int threads) {
  check_range(batch.rows, start, stop);
  const Range range{start, stop};
  const std::int64_t rows = range.rows();
  const bool weights = stats.mean_weight != nullptr;
  const Buffer<double> memory(7 * rows);
  const ContrastSums sums = sums_in(memory, rows, weights);
  const ContrastBlock<T> asked = part_of(batch, range);
  contrast_sums<T>(asked, nullptr, params, part_of(mask, range, range), sums, nullptr, saved,
                   threads);
  const Buffer<double> more(7 * rows);
  const ContrastSums partial = sums_in(more, rows, weights);
  for (const Range& other : others(batch.rows, start, stop)) {
    if (other.rows() == 0 || rows == 0) {
      continue;
    }
    const ContrastBlock<T> block = part_of(batch, other);
    contrast_sums<T>(asked, &block, params, part_of(mask, range, other), partial, nullptr,
                     saved_of(saved, range, other), threads);
    merge(sums, partial, rows);
  }
  write(sums, rows, stats, threads);
  return std::accumulate(stats.loss, stats.loss + (2 * rows), 0.0);
}

template <typename T>
void contrast_batch_gradient(const ContrastBlock<T>& batch, const ContrastParams& params,
                             const PairMask& mask, std::int64_t start, std::int64_t stop,
                             const double* log_denominator, const double* upstream, const T* saved,
                             const ContrastGradients<T>& gradients, int threads) {
  check_range(batch.rows, start, stop);
  const Range range{start, stop};
  const std::int64_t rows = range.rows();
  const ContrastDenominators denominators{log_denominator, log_denominator + rows, upstream};
  const ContrastBlock<T> asked = part_of(batch, range);
  ContrastGradients<T> own = part_of(gradients, batch, range);
  own.add =
      rows < batch.rows || rows == 0;  // to zeros; else there is one pair, of the batch itself
  if (own.add) {
    clear(gradients, batch, threads);
  }
  contrast_gradient<T>(asked, nullptr, params, part_of(mask, range, range), denominators, nullptr,
                       saved, own, nullptr, threads);
  for (const Range& other : others(batch.rows, start, stop)) {
    if (other.rows() == 0 || rows == 0) {
      continue;
    }
    const ContrastBlock<T> block = part_of(batch, other);
    const ContrastGradients<T> theirs = part_of(gradients, batch, other);
    contrast_gradient<T>(asked, &block, params, part_of(mask, range, other), denominators, nullptr,
                         saved_of(saved, range, other), own, &theirs, threads);
  }
}

template double contrast_batch(const ContrastBlock<float>&, const ContrastParams&, const PairMask&,
                               std::int64_t, std::int64_t, const ContrastStats&, float*, int);
template double contrast_batch(const ContrastBlock<double>&, const ContrastParams&, const PairMask&,
                               std::int64_t, std::int64_t, const ContrastStats&, double*, int);
template void contrast_batch_gradient(const ContrastBlock<float>&, const ContrastParams&,
                                      const PairMask&, std::int64_t, std::int64_t, const double*,
                                      const double*, const float*, const ContrastGradients<float>&,
                                      int);
template void contrast_batch_gradient(const ContrastBlock<double>&, const ContrastParams&,
                                      const PairMask&, std::int64_t, std::int64_t, const double*,
                                      const double*, const double*,
                                      const ContrastGradients<double>&, int);

}  // namespace detach
