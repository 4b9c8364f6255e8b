#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "detach/percentile.h"
#include "detach/thread_pool.h"
#include "percentile_lanes.h"

namespace detach {

#if defined(DETACH_WITH_AVX2)
void largest_avx2(const PercentileBlock<float>& in, std::int64_t from_end, bool columns,
                  const PercentilePair<float>& out);
void largest_avx2(const PercentileBlock<double>& in, std::int64_t from_end, bool columns,
                  const PercentilePair<double>& out);
#endif

namespace {

constexpr std::int64_t max_in_registers = 8;  // beyond, selection takes over
constexpr std::int64_t panel = 64;            // columns or rows whose results wait together

/// 16 bytes of lanes as plain loops, which compilers turn into SSE2 or NEON.
template <typename T>
struct PlainLanes {
  using Value = T;
  static constexpr int width = 16 / sizeof(T);
  struct Reg {
    T lane[width];
  };

  struct Fold {
    Fold(bool is_absolute, bool is_mirror) : absolute(is_absolute), sign(is_mirror ? -1 : 1) {}
    bool absolute;
    T sign;
  };

  template <class Each>
  static DETACH_INLINE Reg each(Each value_of) {
    Reg result;
    for (int i = 0; i < width; ++i) {
      result.lane[i] = value_of(i);
    }
    return result;
  }
  static DETACH_INLINE Reg broadcast(T v) {
    return each([&](int) { return v; });
  }
  static DETACH_INLINE Reg load(const T* p) {
    return each([&](int i) { return p[i]; });
  }
  static DETACH_INLINE Reg load_part(const T* p, std::int64_t n) {
    return each([&](int i) { return i < n ? p[i] : T(0); });
  }
  static DETACH_INLINE void store(T* p, const Reg& x) {
    for (int i = 0; i < width; ++i) {
      p[i] = x.lane[i];
    }
  }
  static DETACH_INLINE Reg max(const Reg& a, const Reg& b) {
    return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static DETACH_INLINE Reg min(const Reg& a, const Reg& b) {
    return each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static DETACH_INLINE Reg fill(const Reg& x, std::int64_t n, T v) {
    return each([&](int i) { return i < n ? x.lane[i] : v; });
  }
  static DETACH_INLINE Reg unordered(const Reg& a, const Reg& b) {
    return each(
        [&](int i) { return a.lane[i] != a.lane[i] || b.lane[i] != b.lane[i] ? T(1) : T(0); });
  }
  static DETACH_INLINE Reg either(const Reg& a, const Reg& b) { return max(a, b); }
  static DETACH_INLINE bool any(const Reg& mask) {
    T sum = 0;
    for (int i = 0; i < width; ++i) {
      sum += mask.lane[i];
    }
    return sum != 0;
  }
  static DETACH_INLINE Reg fold(const Reg& x, const Fold& f) {
    return each([&](int i) { return f.sign * (f.absolute ? std::fabs(x.lane[i]) : x.lane[i]); });
  }
  template <int Step>
  static DETACH_INLINE Reg swap(const Reg& x) {
    return each([&](int i) { return x.lane[i ^ Step]; });
  }
  static DETACH_INLINE T first(const Reg& x) { return x.lane[0]; }
};

bool has_avx2() {
#if defined(DETACH_WITH_AVX2)
  static const bool found = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return found;
#else
  return false;
#endif
}

/// Fewer columns than a register has lanes are copied to rows first.
template <typename T>
void largest_here(const PercentileBlock<T>& in, std::int64_t from_end, bool columns,
                  const PercentilePair<T>& out) {
  constexpr int lanes = 16 / sizeof(T);
  if (columns && in.count < (has_avx2() ? 2 * lanes : lanes)) {
    std::vector<T> rows(static_cast<std::size_t>(in.count * in.length));
    for (std::int64_t t = 0; t < in.length; ++t) {
      for (std::int64_t c = 0; c < in.count; ++c) {
        rows[static_cast<std::size_t>((c * in.length) + t)] = in.x[(t * in.stride) + c];
      }
    }
    const PercentileBlock<T> turned{rows.data(), in.count,    in.length,
                                    in.length,   in.absolute, in.mirror};
    largest_here(turned, from_end, false, out);
    return;
  }
#if defined(DETACH_WITH_AVX2)
  if (has_avx2()) {
    largest_avx2(in, from_end, columns, out);
    return;
  }
#endif
  largest<PlainLanes<T>>(in, from_end, columns, out);
}

/// Rank r lies between the k-th and the (k - 1)-th largest; both are values of x, perhaps negated.
template <typename T>
void interpolate(const PercentileRank& rank, const PercentilePair<T>& pair, std::int64_t count,
                 T* out) {
  const double sign = rank.mirror ? -1.0 : 1.0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double low = pair.kth[i];
    const double high = rank.weight > 0 ? pair.above[i] : low;
    // As a sum of two products: the difference of two values may overflow, or be inf - inf.
    const double between = ((1.0 - rank.weight) * low) + (rank.weight * high);
    out[i] = static_cast<T>(sign * (low == high ? low : between));
  }
}

/// The two neighbours of a rank in the middle of a row, by selection. `row` is used up.
template <typename T>
void select(std::vector<T>& row, const PercentileBlock<T>& in, std::int64_t from_end,
            const PercentilePair<T>& out, std::int64_t i) {
  if (std::any_of(row.begin(), row.end(), [](T v) { return std::isnan(v); })) {
    mark_nan(out, i);
    return;
  }
  std::transform(row.begin(), row.end(), row.begin(), [&](T v) {
    const T folded = in.absolute ? std::fabs(v) : v;
    return in.mirror ? -folded : folded;
  });
  const auto kth = row.end() - from_end;
  std::nth_element(row.begin(), kth, row.end());
  out.kth[i] = *kth;
  out.above[i] = from_end > 1 ? *std::min_element(kth + 1, row.end()) : *kth;
}

template <typename T>
void select_block(const PercentileBlock<T>& in, std::int64_t from_end, bool columns,
                  const PercentilePair<T>& out) {
  std::vector<T> row(static_cast<std::size_t>(in.length));
  for (std::int64_t i = 0; i < in.count; ++i) {
    const T* const x = in.x + (columns ? i : i * in.stride);
    const std::int64_t step = columns ? in.stride : 1;
    for (std::int64_t t = 0; t < in.length; ++t) {
      row[static_cast<std::size_t>(t)] = x[t * step];
    }
    select(row, in, from_end, out, i);
  }
}

template <typename T>
void percentile_block(const PercentileBlock<T>& in, const PercentileRank& rank, bool columns,
                      T* out) {
  std::array<T, 2 * panel> kth;
  std::array<T, 2 * panel> above;
  const PercentilePair<T> pair{kth.data(), above.data()};
  if (rank.from_end <= max_in_registers) {
    largest_here(in, rank.from_end, columns, pair);
  } else {
    select_block(in, rank.from_end, columns, pair);
  }
  interpolate(rank, pair, in.count, out);
}

void check(const PercentileShape& shape, int threads) {
  if (shape.outer < 0 || shape.inner < 0) {
    throw std::invalid_argument("shape must have no negative axis");
  }
  constexpr auto most = std::numeric_limits<std::int64_t>::max() / 8;
  if (shape.inner > 0 &&
      (shape.outer > most / shape.inner ||
       shape.outer * shape.inner > most / std::max<std::int64_t>(shape.length, 1))) {
    throw std::invalid_argument("shape has more values than can be addressed");
  }
  if (threads < 1) {
    throw std::invalid_argument("threads must be >= 1, got " + std::to_string(threads));
  }
}

/// Even share of `total`: where part `i` of `parts` begins.
std::int64_t split(std::int64_t total, std::int64_t parts, std::int64_t i) {
  return (total / parts * i) + std::min(i, total % parts);
}

template <typename T>
void percentile(const T* x, T* out, const PercentileShape& shape, const PercentileParams& params,
                int threads) {
  check(shape, threads);
  const PercentileRank rank = percentile_rank(shape.length, params.q);
  if (shape.outer == 0 || shape.inner == 0) {
    return;
  }
  const bool columns = shape.inner > 1;
  const std::int64_t width = columns ? shape.inner : shape.outer;
  const std::int64_t panels = std::max<std::int64_t>(1, width / panel);
  const std::int64_t blocks = columns ? shape.outer * panels : panels;
  const std::int64_t block_values = std::max<std::int64_t>(1, width / panels * shape.length);
  const std::int64_t grain = std::max<std::int64_t>(1, 65536 / block_values);
  parallel_for(threads, blocks, grain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t b = first; b < last; ++b) {
      const std::int64_t begin = split(width, panels, b % panels);
      const std::int64_t end = split(width, panels, (b % panels) + 1);
      const std::int64_t outer = columns ? b / panels : 0;
      const T* const from =
          columns ? x + (outer * shape.length * width) + begin : x + (begin * shape.length);
      const PercentileBlock<T> block{
          from,       end - begin, shape.length, columns ? width : shape.length, params.absolute,
          rank.mirror};
      percentile_block(block, rank, columns, out + (outer * width) + begin);
    }
  });
}

}  // namespace

PercentileRank percentile_rank(std::int64_t length, double q) {
  if (length < 1) {
    throw std::invalid_argument("length must be >= 1, got " + std::to_string(length));
  }
  if (!(q >= 0.0 && q <= 1.0)) {
    throw std::invalid_argument("q must be in [0, 1], got " + std::to_string(q));
  }
  const double position = q * static_cast<double>(length - 1);
  const auto low = std::min(static_cast<std::int64_t>(position), length - 1);
  const double weight = low + 1 < length ? position - static_cast<double>(low) : 0.0;
  const std::int64_t from_top = length - low;
  const std::int64_t from_bottom = weight > 0 ? low + 2 : low + 1;
  if (from_top <= from_bottom) {
    return {from_top, weight, false};
  }
  return {from_bottom, weight > 0 ? 1.0 - weight : 0.0, true};
}

void percentile_cpu(const float* x, float* out, const PercentileShape& shape,
                    const PercentileParams& params, int threads) {
  percentile(x, out, shape, params, threads);
}

void percentile_cpu(const double* x, double* out, const PercentileShape& shape,
                    const PercentileParams& params, int threads) {
  percentile(x, out, shape, params, threads);
}

const char* percentile_simd() {
#if defined(__aarch64__) || defined(_M_ARM64)
  return "neon";
#else
  return has_avx2() ? "avx2" : "plain";
#endif
}

}  // namespace detach
