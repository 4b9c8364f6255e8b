// One block of results: what its values are, how they come into lanes, how results go out.
//
// Private to the core, as percentile_scan.h and percentile_count.h, which hold the two ways to find
// order statistics. All three are written once over a type V that names an instruction set's
// operations (percentile_lanes.h) and compiled once for each. percentile_avx2.cpp is compiled for
// AVX2 as a whole, so nothing here may call a function that is shared with other files: the linker
// might keep the AVX2 copy for all. Hence V is a parameter of all that is not forced inline.
#pragma once

#include <cstdint>
#include <limits>

#include "detach/percentile.h"
#include "percentile_elements.h"

namespace detach {

constexpr int most_in_registers = 8;   ///< values from the end; beyond, they are counted
constexpr int longest_counted = 1024;  ///< values a row; beyond, quickselect
constexpr int most_in_block = 128;     ///< results a block
constexpr int fewest_columns = 8;      ///< lanes of the widest register

/// Results first .. first + count - 1 of a whole problem. With `columns` they are neighbours in
/// memory, at least `fewest_columns` of them.
template <typename In>
struct PercentileBlock {
  const In* x = nullptr;
  PercentileShape shape;
  PercentileRank rank;
  bool absolute = false;
  bool columns = false;
  std::int64_t first = 0;
  std::int64_t count = 0;

  /// The first value behind result i of the block; the others follow at a distance of shape.inner.
  DETACH_INLINE const In* values(std::int64_t i) const {
    const std::int64_t n = first + i;
    return shape.inner == 1
               ? x + (n * shape.length)
               : x + (n / shape.inner * shape.inner * shape.length) + (n % shape.inner);
  }
};

/// The results of a block, for rank.from_end <= most_in_registers or length <= longest_counted;
/// compiled for AVX2 (percentile_avx2.cpp).
template <typename In>
void percentile_block_avx2(const PercentileBlock<In>& in, typename Element<In>::Result* out);

/// The order statistics of a block before interpolation: the k-th largest and the one above it
/// (itself at k = 1). Registers are stored whole, so their last lanes may lie past the block.
template <class V>
struct PercentilePairs {
  typename V::Value kth[most_in_block];
  typename V::Value above[most_in_block];

  DETACH_INLINE void put(std::int64_t i, typename V::Reg k, typename V::Reg a) {
    V::store(kth + i, k);
    V::store(above + i, a);
  }
  DETACH_INLINE void put_nan(std::int64_t i) {
    kth[i] = above[i] = std::numeric_limits<typename V::Value>::quiet_NaN();
  }
};

/// Rank r lies between the k-th and the (k - 1)-th largest; both are values of x, perhaps negated.
template <class V, typename Result>
void interpolate(const PercentileRank& rank, const PercentilePairs<V>& pairs, std::int64_t count,
                 Result* out) {
  const double sign = rank.mirror ? -1.0 : 1.0;
  const double weight = rank.weight;
  const typename V::Value* const above = weight > 0 ? pairs.above : pairs.kth;
  for (std::int64_t i = 0; i < count; ++i) {
    const double low = pairs.kth[i];
    const double high = above[i];
    // As a sum of two products: the difference of two values may overflow, or be inf - inf.
    const double between = ((1.0 - weight) * low) + (weight * high);
    store_value(out + i, sign * (low == high ? low : between));
  }
}

DETACH_INLINE std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

/// Copies values t0 .. t0 + n - 1 of the V::width results from `item` on to a tile: lane i of
/// register t U is value t of result i, folded. Lanes past the last result repeat it.
template <class V, int U = 1, typename In>
void fill_tile(const PercentileBlock<In>& in, std::int64_t item, std::int64_t t0, std::int64_t n,
               typename V::Value* tile) {
  constexpr int width = V::width;
  const std::int64_t along = in.shape.inner;
  const typename V::Fold fold(in.absolute, in.rank.mirror);
  const auto put = [&](std::int64_t t, typename V::Reg x) {
    V::store(tile + (t * U * width), V::fold(x, fold));
  };
  const In* from[width];
  for (int i = 0; i < width; ++i) {
    from[i] = in.values(smaller(item + i, in.count - 1)) + (t0 * along);
  }
  if (in.columns) {
    for (std::int64_t t = 0; t < n; ++t) {
      put(t, V::load(from[0] + (t * along)));
    }
  } else if (along == 1 && n >= width) {
    typename V::Reg square[width];
    for (std::int64_t t = 0; t < n; t += width) {
      const std::int64_t at = smaller(t, n - width);  // the last square overlaps
      for (int i = 0; i < width; ++i) {
        square[i] = V::load(from[i] + at);
      }
      V::transpose(square);
      for (int i = 0; i < width; ++i) {
        put(at + i, square[i]);
      }
    }
  } else {
    for (std::int64_t t = 0; t < n; ++t) {
      typename V::Value lane[width];
      for (int i = 0; i < width; ++i) {
        lane[i] = value_of(from[i][t * along]);
      }
      put(t, V::load(lane));
    }
  }
}

}  // namespace detach
