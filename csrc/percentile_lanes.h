// The K largest values of many rows or columns at once, kept in vector registers.
//
// Private to the core. Written once over a type V that names an instruction set's operations, and
// compiled once for each: PlainLanes (percentile_cpu.cpp) and Avx2Lanes (percentile_avx2.cpp). The
// latter file is compiled for AVX2 as a whole, so nothing here may call a function that is shared
// with other files: the linker might keep the AVX2 copy for all.
//
//   Value  Reg  Fold  width      element, register, what `fold` does, number of lanes
//   load(p)  load_part(p, n)     n < width lanes are read, the others are 0
//   max  min  fill(x, n, v)      fill: lanes n, n + 1 .. become v
//   unordered(a, b)  either  any lanes where a or b is NaN; or of two such masks; whether one is
//   set fold(x, f)                   |x| and / or -x swap<S>(x)  first(x)         lane i takes lane
//   i ^ S; lane 0
#pragma once

#include <cstdint>
#include <limits>

#if defined(__GNUC__)
#define DETACH_INLINE inline __attribute__((always_inline))
#else
#define DETACH_INLINE inline
#endif

namespace detach {

/// Where results go, before interpolation: the K-th largest and the one above it (itself at K = 1).
template <typename T>
struct PercentilePair {
  T* kth = nullptr;
  T* above = nullptr;
};

/// One block: `count` rows of `length` values, or `count` columns whose values are `stride` apart.
template <typename T>
struct PercentileBlock {
  const T* x = nullptr;
  std::int64_t count = 0;
  std::int64_t length = 0;
  std::int64_t stride = 1;
  bool absolute = false;
  bool mirror = false;
};

/// The K largest values seen, one set a lane, value[0] the largest.
template <class V, int K>
struct Largest {
  using Reg = typename V::Reg;

  DETACH_INLINE void clear() {
    for (int i = 0; i < K; ++i) {
      value[i] = V::broadcast(-std::numeric_limits<typename V::Value>::infinity());
    }
  }

  /// Puts x in its place, which is known to be `from` or below.
  DETACH_INLINE void insert(Reg x, int from = 0) {
    for (int i = from; i < K - 1; ++i) {
      const Reg larger = V::max(value[i], x);
      x = V::min(value[i], x);
      value[i] = larger;
    }
    value[K - 1] = V::max(value[K - 1], x);
  }

  DETACH_INLINE void merge(const Largest& other) {
    for (int j = 0; j < K; ++j) {
      insert(other.value[j], j);
    }
  }

  template <int Step>
  DETACH_INLINE void merge_lanes() {
    Largest other;
    for (int j = 0; j < K; ++j) {
      other.value[j] = V::template swap<Step>(value[j]);
    }
    merge(other);
    if constexpr (Step > 1) {
      merge_lanes<Step / 2>();
    }
  }

  Reg value[K];
};

template <typename T>
DETACH_INLINE void mark_nan(const PercentilePair<T>& out, std::int64_t i) {
  out.kth[i] = out.above[i] = std::numeric_limits<T>::quiet_NaN();
}

template <typename T>
DETACH_INLINE bool column_has_nan(const PercentileBlock<T>& in, std::int64_t column) {
  for (std::int64_t t = 0; t < in.length; ++t) {
    const T value = in.x[(t * in.stride) + column];
    if (value != value) {
      return true;
    }
  }
  return false;
}

/// U registers of neighbouring columns from `column` on. NaN is only detected here, and looked for
/// again where there is one.
template <class V, int K, int U, bool Folded>
DETACH_INLINE void scan_columns(const PercentileBlock<typename V::Value>& in, std::int64_t column,
                                const PercentilePair<typename V::Value>& out) {
  using Reg = typename V::Reg;
  const typename V::Fold fold(in.absolute, in.mirror);
  Largest<V, K> top[U];
  for (int u = 0; u < U; ++u) {
    top[u].clear();
  }
  Reg bad = V::broadcast(0);
  const typename V::Value* x = in.x + column;
  for (std::int64_t t = 0; t < in.length; ++t, x += in.stride) {
    Reg now[U];
    for (int u = 0; u < U; ++u) {
      now[u] = V::load(x + (u * V::width));
    }
    for (int u = 0; u < U; u += 2) {
      bad = V::either(bad, V::unordered(now[u], now[u + 1 < U ? u + 1 : u]));
    }
    for (int u = 0; u < U; ++u) {
      top[u].insert(Folded ? V::fold(now[u], fold) : now[u]);
    }
  }
  for (int u = 0; u < U; ++u) {
    V::store(out.kth + column + (u * V::width), top[u].value[K - 1]);
    V::store(out.above + column + (u * V::width), top[u].value[K > 1 ? K - 2 : 0]);
  }
  if (V::any(bad)) {
    for (std::int64_t c = column; c < column + (U * V::width); ++c) {
      if (column_has_nan(in, c)) {
        mark_nan(out, c);
      }
    }
  }
}

/// All columns of a block; needs at least V::width of them. The last register overlaps the one
/// before it where the count is not a multiple of the width.
template <class V, int K, bool Folded>
inline void largest_of_columns(const PercentileBlock<typename V::Value>& in,
                               const PercentilePair<typename V::Value>& out) {
  constexpr int together = K <= 3 ? 4 : (K <= 6 ? 2 : 1);  // K x together accumulators in 16
  std::int64_t column = 0;
  for (; column + (together * V::width) <= in.count; column += together * V::width) {
    scan_columns<V, K, together, Folded>(in, column, out);
  }
  for (; column < in.count; column += V::width) {
    const std::int64_t last = in.count - V::width;
    scan_columns<V, K, 1, Folded>(in, column < last ? column : last, out);
  }
}

/// One row, read as two interleaved streams of registers to hide the latency of min and max.
template <class V, int K, bool Folded>
DETACH_INLINE void scan_row(const PercentileBlock<typename V::Value>& in, std::int64_t row,
                            const PercentilePair<typename V::Value>& out) {
  using Reg = typename V::Reg;
  const typename V::Fold fold(in.absolute, in.mirror);
  const typename V::Value* x = in.x + (row * in.stride);
  Largest<V, K> even;
  Largest<V, K> odd;
  even.clear();
  odd.clear();
  Reg bad = V::broadcast(0);
  std::int64_t t = 0;
  for (; t + (2 * V::width) <= in.length; t += 2 * V::width) {
    const Reg a = V::load(x + t);
    const Reg b = V::load(x + t + V::width);
    bad = V::either(bad, V::unordered(a, b));
    even.insert(Folded ? V::fold(a, fold) : a);
    odd.insert(Folded ? V::fold(b, fold) : b);
  }
  for (; t < in.length; t += V::width) {
    const bool whole = t + V::width <= in.length;
    const Reg a = whole ? V::load(x + t) : V::load_part(x + t, in.length - t);
    bad = V::either(bad, V::unordered(a, a));
    const Reg folded = Folded ? V::fold(a, fold) : a;
    even.insert(whole ? folded
                      : V::fill(folded, in.length - t,
                                -std::numeric_limits<typename V::Value>::infinity()));
  }
  even.merge(odd);
  if constexpr (V::width > 1) {
    even.template merge_lanes<V::width / 2>();
  }
  out.kth[row] = V::first(even.value[K - 1]);
  out.above[row] = V::first(even.value[K > 1 ? K - 2 : 0]);
  if (V::any(bad)) {
    mark_nan(out, row);
  }
}

template <class V, int K, bool Folded>
inline void largest_of_rows(const PercentileBlock<typename V::Value>& in,
                            const PercentilePair<typename V::Value>& out) {
  for (std::int64_t row = 0; row < in.count; ++row) {
    scan_row<V, K, Folded>(in, row, out);
  }
}

template <class V, int K, bool Folded>
inline void largest_of_block(const PercentileBlock<typename V::Value>& in, bool columns,
                             const PercentilePair<typename V::Value>& out) {
  if (columns) {
    largest_of_columns<V, K, Folded>(in, out);
  } else {
    largest_of_rows<V, K, Folded>(in, out);
  }
}

/// Picks the kernel for k = `from_end`, 1 to 8.
template <class V, int K = 1>
inline void largest(const PercentileBlock<typename V::Value>& in, std::int64_t from_end,
                    bool columns, const PercentilePair<typename V::Value>& out) {
  if constexpr (K < 8) {
    if (from_end > K) {
      largest<V, K + 1>(in, from_end, columns, out);
      return;
    }
  }
  if (in.absolute || in.mirror) {
    largest_of_block<V, K, true>(in, columns, out);
  } else {
    largest_of_block<V, K, false>(in, columns, out);
  }
}

}  // namespace detach
