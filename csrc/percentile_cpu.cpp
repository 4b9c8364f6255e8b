#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#if defined(DETACH_WITH_AVX2)
#include <cpuid.h>
#endif

#include "detach/percentile.h"
#include "detach/thread_pool.h"
#include "percentile_block.h"
#include "percentile_count.h"
#include "percentile_elements.h"
#include "percentile_lanes.h"

namespace detach {
namespace {

#if defined(DETACH_WITH_AVX2)
bool has_f16c() {  // clang 14 does not know it by name
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

bool has_avx2() {
  static const bool found =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  return found;
}
#endif

/// The two neighbours of a rank in the middle of a long row, by selection. `row` is used up.
template <class V>
void select(std::vector<typename V::Value>& row, std::int64_t from_end, std::int64_t i,
            PercentilePairs<V>& pairs) {
  if (std::any_of(row.begin(), row.end(), [](auto v) { return std::isnan(v); })) {
    pairs.kth[i] = pairs.above[i] = std::numeric_limits<typename V::Value>::quiet_NaN();
    return;
  }
  const auto kth = row.end() - from_end;
  std::nth_element(row.begin(), kth, row.end());
  pairs.kth[i] = *kth;
  pairs.above[i] = *std::min_element(kth + 1, row.end());
}

template <class V, typename In>
void select_block(const PercentileBlock<In>& in, typename Element<In>::Result* out) {
  PercentilePairs<V> pairs;
  std::vector<typename V::Value> row(static_cast<std::size_t>(in.shape.length));
  for (std::int64_t i = 0; i < in.count; ++i) {
    const In* x = in.values(i);
    for (auto& value : row) {
      value = value_of(*x);
      value = in.absolute ? std::fabs(value) : value;
      value = in.rank.mirror ? -value : value;
      x += in.shape.inner;
    }
    select(row, in.rank.from_end, i, pairs);
  }
  interpolate(in.rank, pairs, in.count, out);
}

template <typename In>
void block_here(const PercentileBlock<In>& in, typename Element<In>::Result* out) {
  using Plain = Lanes<typename Element<In>::Value, 16>;
  if (in.rank.from_end > most_in_registers && in.shape.length > longest_counted) {
    select_block<Plain>(in, out);
    return;
  }
#if defined(DETACH_WITH_AVX2)
  if (has_avx2()) {
    percentile_block_avx2(in, out);
    return;
  }
#endif
  percentile_block<Plain>(in, out);
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

/// Blocks of `fewest` to `most_in_block` - 1 results: of one outer index each where columns are
/// read side by side, otherwise of any.
template <typename In>
void percentile(const In* x, typename Element<In>::Result* out, const PercentileShape& shape,
                const PercentileParams& params, int threads) {
  constexpr std::int64_t fewest = most_in_block / 2;
  const PercentileRank rank = percentile_rank(shape.length, params.q);
  if (shape.outer == 0 || shape.inner == 0) {
    return;
  }
  const bool columns = shape.inner >= fewest_columns;
  const std::int64_t width = columns ? shape.inner : shape.outer * shape.inner;
  const std::int64_t panels = std::max<std::int64_t>(1, width / fewest);
  const std::int64_t blocks = columns ? shape.outer * panels : panels;
  const std::int64_t block_values = std::max<std::int64_t>(1, width / panels * shape.length);
  const std::int64_t grain = std::max<std::int64_t>(1, 65536 / block_values);
  parallel_for(threads, blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t outer = b / panels;  // 0 but for columns
      const std::int64_t first = split(width, panels, b % panels);
      const std::int64_t count = split(width, panels, (b % panels) + 1) - first;
      const std::int64_t at = (outer * width) + first;
      block_here<In>({x, shape, rank, params.absolute, columns, at, count}, out + at);
    }
  });
}

template <typename In>
void percentile_of(const void* x, void* out, const PercentileShape& shape,
                   const PercentileParams& params, int threads) {
  percentile(static_cast<const In*>(x), static_cast<typename Element<In>::Result*>(out), shape,
             params, threads);
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

PercentileType percentile_type(const std::string& name) {
  constexpr const char* names[] = {"float32", "float64", "float16", "bfloat16", "int16"};
  for (int i = 0; i < 5; ++i) {
    if (name == names[i]) {
      return static_cast<PercentileType>(i);
    }
  }
  throw std::invalid_argument("type must be float32, float64, float16, bfloat16 or int16, got " +
                              name);
}

void percentile_cpu(PercentileType type, const void* x, void* out, const PercentileShape& shape,
                    const PercentileParams& params, int threads) {
  check(shape, threads);
  switch (type) {
    case PercentileType::float32:
      return percentile_of<float>(x, out, shape, params, threads);
    case PercentileType::float64:
      return percentile_of<double>(x, out, shape, params, threads);
    case PercentileType::float16:
      return percentile_of<Half>(x, out, shape, params, threads);
    case PercentileType::bfloat16:
      return percentile_of<Bfloat16>(x, out, shape, params, threads);
    case PercentileType::int16:
      return percentile_of<std::int16_t>(x, out, shape, params, threads);
  }
}

const char* percentile_simd() {
#if defined(__aarch64__) || defined(_M_ARM64)
  return "neon";
#elif defined(DETACH_WITH_AVX2)
  return has_avx2() ? "avx2" : "plain";
#else
  return "plain";
#endif
}

}  // namespace detach
