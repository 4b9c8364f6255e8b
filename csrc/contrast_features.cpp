#include "contrast_features.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "contrast_kernels.h"
#include "contrast_workspace.h"
#include "detach/contrast.h"
#include "detach/thread_pool.h"

namespace detach {
namespace {

/// A multiple of every panel; their features are measured and packed while they are in a cache.
constexpr std::int64_t rows_together = 48;

/// Power of two near 1 / length, so that products of packed rows stay in range.
double tame(double length) {
  if (std::isnan(length) || length == 0.0) {
    return length == 0.0 ? 1.0 : length;
  }
  return std::isinf(length) ? 0.0 : std::ldexp(1.0, -std::clamp(std::ilogb(length), -120, 120));
}

template <typename T>
void pack_rows(const ContrastRows<T>& rows, std::int64_t first, std::int64_t last) {
  for (int f = 0; f < features; ++f) {
    const auto at = static_cast<std::size_t>(f);
    if (rows.used[at]) {
      contrast_kernels<T>().pack_windows(rows.x[at] + (first * rows.width[at]), last - first,
                                         rows.width[at], rows.unit_of(f) + first,
                                         rows.panels_of(f, first));
    }
  }
}

/// Room for packed rows [first, last).
template <typename T>
void allocate_panels(ContrastRows<T>& rows, std::int64_t first, std::int64_t last) {
  const std::int64_t panel = contrast_kernels<T>().panel;
  const std::int64_t padded = (last - first + panel - 1) / panel * panel;
  std::int64_t all = 0;
  for (std::size_t f = 0; f < features; ++f) {
    rows.panels_begin[f] = all;
    all += rows.used[f] ? padded * rows.width[f] : 0;
  }
  if (rows.panels.get() == nullptr || last - first > rows.panels_last - rows.panels_first) {
    rows.panels = Buffer<T>();  // first given back, then taken
    rows.panels = Buffer<T>(all);
  }
  rows.panels_first = first;
  rows.panels_last = last;
}

/// Does the work of prepare_rows, some rows at a time.
template <typename T>
class Preparation {
 public:
  Preparation(ContrastRows<T>& rows, const RowsWanted& wanted)
      : rows_(rows),
        wanted_(wanted),
        kernels_(contrast_kernels<T>()),
        chunks_(static_cast<std::size_t>((rows.rows + rows_together - 1) / rows_together)) {}

  void run(int threads) {
    parallel_for(threads, rows_.rows, rows_together, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t first = begin; first < end; first += rows_together) {
        prepare(first, std::min(end, first + rows_together));
      }
    });
    for (const Chunk& chunk : chunks_) {
      rows_.has_tiny = rows_.has_tiny || chunk.has_tiny;
      for (std::size_t m = 0; m < modalities; ++m) {
        rows_.longest[m] = std::max(rows_.longest[m], chunk.longest[m]);
      }
    }
  }

 private:
  struct Chunk {
    std::array<double, modalities> longest{};
    bool has_tiny = false;
  };

  const T* row(int f, std::int64_t i) const {
    return rows_.x[static_cast<std::size_t>(f)] + (i * width(f));
  }
  std::int64_t width(int f) const { return rows_.width[static_cast<std::size_t>(f)]; }
  double& length(int f, std::int64_t i) const { return rows_.length[(f * rows_.stride) + i]; }

  void prepare(std::int64_t first, std::int64_t last) {
    Chunk& chunk = chunks_[static_cast<std::size_t>(first / rows_together)];
    for (int f = 0; f < features; ++f) {
      if (wanted_.used[static_cast<std::size_t>(f)]) {
        measure(f, first, last);
      }
    }
    for (std::int64_t i = first; i < last; ++i) {
      scale(video, i, chunk);
      scale(sensor, i, chunk);
    }
    if (wanted_.panels) {
      pack_rows(rows_, first, last);
    }
    for (std::int64_t i = first; i < last && wanted_.own_logits != nullptr; ++i) {
      wanted_.own_logits[i] = own_logit(i);
    }
  }

  void measure(int f, std::int64_t first, std::int64_t last) {
    const bool known = wanted_.known_lengths != nullptr && f < modalities * halves;
    for (std::int64_t i = first; i < last; ++i) {
      length(f, i) = known ? wanted_.known_lengths[(f * rows_.rows) + i]
                           : std::sqrt(kernels_.square(row(f, i), width(f)));
      rows_.unit[(f * rows_.stride) + i] =
          static_cast<T>(1.0 / std::max(length(f, i), shortest_length));
    }
  }

  void scale(int modality, std::int64_t i, Chunk& chunk) {
    const int place = feature(modality, spatial);
    const int motion = feature(modality, temporal);
    const double a = length(place, i);
    const double b = length(motion, i);
    double scale = std::sqrt(0.5);
    double whole = 1.0;
    if (rows_.normalized && a >= shortest_length && b >= shortest_length) {
      // The usual case: both halves have length 1.
    } else if (rows_.normalized) {
      const double unit_a = a / std::max(a, shortest_length);
      const double unit_b = b / std::max(b, shortest_length);
      const double joined = std::sqrt((unit_a * unit_a) + (unit_b * unit_b));
      scale = 1.0 / std::max(joined, shortest_length);
      whole = joined * scale;
    } else {
      whole = std::sqrt((a * a) + (b * b));
      const double shrink = tame(std::max(a, b));
      rows_.unit[(place * rows_.stride) + i] = static_cast<T>(shrink);
      rows_.unit[(motion * rows_.stride) + i] = static_cast<T>(shrink);
      scale = shrink > 0.0 ? 1.0 / shrink : 1.0;
      rows_.place_scale[(modality * rows_.stride) + i] =
          static_cast<T>(1.0 / (std::max(a, shortest_length) * shrink));
    }
    rows_.embedding[(modality * rows_.stride) + i] = scale;
    rows_.length_scale[(modality * rows_.stride) + i] = static_cast<T>(scale);
    double& longest = chunk.longest[static_cast<std::size_t>(modality)];
    longest = whole > longest ? whole : longest;  // not NaN
    for (const double part : {a, b}) {
      chunk.has_tiny = chunk.has_tiny || (part > 0.0 && part < shortest_length);
    }
  }

  double own_logit(std::int64_t i) const {
    double logit = 0.0;
    for (const Part part : {spatial, temporal}) {
      const int f = feature(video, part);
      const int g = feature(sensor, part);
      const double product = kernels_.dot(row(f, i), row(g, i), width(f));
      logit += rows_.normalized ? product / std::max(length(f, i), shortest_length) /
                                      std::max(length(g, i), shortest_length)
                                : product;
    }
    if (rows_.normalized) {
      logit *= rows_.embedding[i] * rows_.embedding[rows_.stride + i];
    }
    return logit / wanted_.temperature;
  }

  ContrastRows<T>& rows_;
  const RowsWanted& wanted_;
  const ContrastKernels<T>& kernels_;
  std::vector<Chunk> chunks_;
};

}  // namespace

template <typename T>
ContrastRows<T> prepare_rows(const ContrastBlock<T>& block, bool normalize,
                             const RowsWanted& wanted, int threads) {
  ContrastRows<T> rows;
  rows.rows = block.rows;
  rows.normalized = normalize;
  rows.stride = ((block.rows + 7) / 8 * 8) + 8;
  rows.x = {block.video_spatial,   block.sensor_spatial, block.video_temporal,
            block.sensor_temporal, block.video_momentum, block.sensor_momentum};
  rows.width = {block.spatial_width,  block.spatial_width,  block.temporal_width,
                block.temporal_width, block.momentum_width, block.momentum_width};
  rows.length = Buffer<double>(features * rows.stride);
  rows.unit = Buffer<T>(features * rows.stride);
  rows.embedding = Buffer<double>(modalities * rows.stride);
  rows.length_scale = Buffer<T>(modalities * rows.stride);
  std::fill_n(rows.length_scale.get(), modalities * rows.stride, T(0));
  if (!normalize) {
    rows.place_scale = Buffer<T>(modalities * rows.stride);
    std::fill_n(rows.place_scale.get(), modalities * rows.stride, T(0));
  }
  rows.used = wanted.used;
  if (wanted.panels) {
    allocate_panels(rows, 0, rows.rows);
  }
  Preparation<T>(rows, wanted).run(threads);
  return rows;
}

template <typename T>
void pack_panels(ContrastRows<T>& rows, std::int64_t first, std::int64_t last, int threads) {
  allocate_panels(rows, first, last);
  parallel_for(threads, last - first, rows_together, [&](std::int64_t begin, std::int64_t end) {
    pack_rows(rows, first + begin, first + end);
  });
}

template ContrastRows<float> prepare_rows(const ContrastBlock<float>&, bool, const RowsWanted&,
                                          int);
template ContrastRows<double> prepare_rows(const ContrastBlock<double>&, bool, const RowsWanted&,
                                           int);
template void pack_panels(ContrastRows<float>&, std::int64_t, std::int64_t, int);
template void pack_panels(ContrastRows<double>&, std::int64_t, std::int64_t, int);

}  // namespace detach
