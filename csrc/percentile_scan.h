// At most 8 values from either end: the largest are kept in registers, in one pass over the values.
// Private to the core; see percentile_block.h for what may stand here.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "percentile_block.h"
#include "percentile_elements.h"

namespace detach {

constexpr int most_together = 5;                ///< registers of lanes that are scanned at once
constexpr std::uintptr_t fetched_ahead = 4096;  ///< bytes
constexpr int values_in_tile = 64;              ///< of each lane, where values are converted first

/// How many registers of lanes are scanned at once: K of each should fit in 16, with room to work.
constexpr int scanned_together(std::int64_t k) {
  return k <= 2 ? most_together : (k <= 4 ? 4 : (k <= 6 ? 2 : 1));
}

/// Some registers of lanes, and what is known about them so far.
template <class V>
struct Scan {
  DETACH_INLINE explicit Scan(typename V::Reg* place) : largest(place) {}
  typename V::Reg* largest;  // K of each register, the largest first
  std::int64_t step = 0;     // from the first register to the second and so on,
  std::int64_t last = 0;     // and to the last one
  typename V::Mask bad{};    // where NaN was seen, in any of them
  bool started = false;
};

/// Puts x in its place among the K largest, which is known to be `from` or below.
template <class V, int K>
DETACH_INLINE void insert(typename V::Reg (&largest)[K], typename V::Reg x, int from = 0) {
  for (int k = from; k < K - 1; ++k) {
    const typename V::Reg larger = V::max(largest[k], x);
    x = V::min(largest[k], x);
    largest[k] = larger;
  }
  largest[K - 1] = V::max(largest[K - 1], x);
}

/// Scans more values of each lane of U registers: n at a distance of `stride`, and, where `rest` is
/// not 0, one more in the last `rest` lanes of a register that overlaps the one before it.
template <class V, int K, int U, bool Folded>
void scan_values(const typename V::Value* x, std::int64_t n, std::int64_t stride, std::int64_t rest,
                 const typename V::Fold& folding, Scan<V>& scan) {
  using Reg = typename V::Reg;
  const Reg lowest = V::broadcast(-std::numeric_limits<typename V::Value>::infinity());
  const typename V::Fold fold = folding;
  Reg largest[U][K];
  std::int64_t offset[U];
  for (int u = 0; u < U; ++u) {
    for (int k = 0; k < K; ++k) {
      largest[u][k] = scan.started ? scan.largest[(u * K) + k] : lowest;
    }
    offset[u] = u < U - 1 ? u * scan.step : scan.last;
  }
  typename V::Mask bad = scan.bad;
  for (std::int64_t t = 0; t < n; ++t, x += stride) {
    Reg before{};
    for (int u = 0; u < U; ++u) {
      const Reg now = V::load(x + offset[u]);
      if (u % 2 == 1 || u == U - 1) {  // two at once
        bad |= V::unordered(now, u % 2 == 1 ? before : now);
      }
      before = now;
      insert<V, K>(largest[u], Folded ? V::fold(now, fold) : now);
    }
  }
  if (rest > 0) {
    const typename V::Mask seen = V::first_lanes(V::width - rest);
    for (int u = 0; u < U; ++u) {
      const Reg now = V::load(x + offset[u] + rest - V::width);
      bad |= V::unordered(now, now);
      insert<V, K>(largest[u], V::choose(seen, lowest, Folded ? V::fold(now, fold) : now));
    }
  }
  for (int u = 0; u < U; ++u) {
    for (int k = 0; k < K; ++k) {
      scan.largest[(u * K) + k] = largest[u][k];
    }
  }
  scan.bad = bad;
  scan.started = true;
}

/// parts[i * K + k] is the k-th largest value in each lane of row i; the K largest of the whole row
/// go to lane i of parts[0 .. K - 1].
template <class V, int K>
void join_lanes(typename V::Reg* parts) {
  typename V::Reg lanes[K][V::width];
  typename V::Reg largest[K];
  for (int k = 0; k < K; ++k) {
    for (int i = 0; i < V::width; ++i) {
      lanes[k][i] = parts[(i * K) + k];
    }
    V::transpose(lanes[k]);
    largest[k] = lanes[k][0];
  }
  for (int j = 1; j < V::width; ++j) {
    for (int k = 0; k < K; ++k) {
      insert<V, K>(largest, lanes[k][j], k);  // the k-th of a part is at best the k-th of all
    }
  }
  for (int k = 0; k < K; ++k) {
    parts[k] = largest[k];
  }
}

/// The instances for k values from the end (and u registers).
template <class V, bool Folded, int K = 1, int U = 1>
auto scan_for(std::int64_t k, std::int64_t u) -> decltype(&scan_values<V, K, U, Folded>) {
  if constexpr (K < most_in_registers) {
    if (k > K) {
      return scan_for<V, Folded, K + 1, 1>(k, u);
    }
  }
  if constexpr (U < scanned_together(K)) {
    if (u > U) {
      return scan_for<V, Folded, K, U + 1>(k, u);
    }
  }
  return scan_values<V, K, U, Folded>;
}

template <class V>
auto scan_for(std::int64_t k, std::int64_t u, bool folded) {
  return folded ? scan_for<V, true>(k, u) : scan_for<V, false>(k, u);
}

template <class V, int K = 1>
auto join_for(std::int64_t k) -> decltype(&join_lanes<V, K>) {
  if constexpr (K < most_in_registers) {
    if (k > K) {
      return join_for<V, K + 1>(k);
    }
  }
  return join_lanes<V, K>;
}

/// Scanning only tells that there is a NaN; here is looked for where.
template <class V, typename In>
void mark_nan(const PercentileBlock<In>& in, std::int64_t begin, std::int64_t end,
              PercentilePairs<V>& pairs) {
  for (std::int64_t i = begin; i < end; ++i) {
    const In* x = in.values(i);
    for (std::int64_t t = 0; t < in.shape.length; ++t, x += in.shape.inner) {
      if (value_of(*x) != value_of(*x)) {
        pairs.put_nan(i);
      }
    }
  }
}

/// Lanes are neighbouring columns. The last register of them overlaps the one before it where their
/// number is not a multiple of the width.
template <class V, typename In>
void largest_of_columns(const PercentileBlock<In>& in, PercentilePairs<V>& pairs) {
  constexpr bool in_place = std::is_same_v<In, typename V::Value>;
  constexpr int part = values_in_tile * V::width;
  alignas(64) typename V::Value tile[in_place ? 1 : most_together * part];
  typename V::Reg largest[2 * most_in_registers];
  const std::int64_t k = in.rank.from_end;
  const std::int64_t last = in.count - V::width;  // where the last register begins
  const typename V::Fold fold(in.absolute, in.rank.mirror);
  for (std::int64_t item = 0, together = 0; item < in.count; item += together * V::width) {
    together = smaller((in.count - item + V::width - 1) / V::width, scanned_together(k));
    const auto begin = [&](std::int64_t u) { return smaller(item + (u * V::width), last); };
    Scan<V> scan(largest);
    if constexpr (in_place) {
      scan.step = V::width;
      scan.last = begin(together - 1) - begin(0);
      const auto scan_more = scan_for<V>(k, together, in.absolute || in.rank.mirror);
      scan_more(in.values(begin(0)), in.shape.length, in.shape.inner, 0, fold, scan);
    } else {
      scan.step = part;
      scan.last = (together - 1) * part;
      for (std::int64_t t = 0; t < in.shape.length; t += values_in_tile) {
        const std::int64_t n = smaller(in.shape.length - t, values_in_tile);
        for (std::int64_t u = 0; u < together; ++u) {
          fill_tile<V>(in, begin(u), t, n, tile + (u * part));
        }
        scan_for<V>(k, together, false)(tile, n, V::width, 0, fold, scan);
      }
    }
    for (std::int64_t u = 0; u < together; ++u) {
      pairs.put(begin(u), largest[(u * k) + k - 1], largest[(u * k) + (k > 1 ? k - 2 : 0)]);
    }
    if (V::any(scan.bad)) {
      mark_nan(in, begin(0), begin(together - 1) + V::width, pairs);
    }
  }
}

/// Copies values t .. t + n - 1 of one result, folded; fewer than a register holds are followed by
/// -infinity.
template <class V, typename In>
void fill_row(const PercentileBlock<In>& in, std::int64_t item, std::int64_t t, std::int64_t n,
              typename V::Value* row) {
  constexpr auto infinity = std::numeric_limits<typename V::Value>::infinity();
  const typename V::Fold fold(in.absolute, in.rank.mirror);
  const std::int64_t along = in.shape.inner;
  const In* const x = in.values(item) + (t * along);
  if (along == 1 && n >= V::width) {
    for (std::int64_t i = 0; i < n; i += V::width) {
      const std::int64_t at = smaller(i, n - V::width);
      V::store(row + at, V::fold(V::load(x + at), fold));
    }
    return;
  }
  for (std::int64_t i = 0; i < n; ++i) {
    row[i] = value_of(x[i * along]);
  }
  for (std::int64_t i = 0; i < n; i += V::width) {
    V::store(row + i, V::fold(V::load(row + i), fold));
  }
  for (std::int64_t i = n; i < V::width; ++i) {
    row[i] = -infinity;
  }
}

/// Fetches as many values as are about to be used, from further on. What the processor fetches by
/// itself ends with each page.
template <typename T>
DETACH_INLINE void prefetch_rows(const T* x, std::int64_t count) {
  const auto first = reinterpret_cast<std::uintptr_t>(x) + fetched_ahead;
  const auto last = first + (static_cast<std::uintptr_t>(count) * sizeof(T));
  for (std::uintptr_t at = first; at < last; at += 64) {
    DETACH_FETCH(at);
  }
}

/// Scans `together` rows from `item` on; lane j sees every width-th value.
template <class V, typename In>
void scan_rows(const PercentileBlock<In>& in, std::int64_t item, std::int64_t together,
               Scan<V>& scan) {
  const std::int64_t k = in.rank.from_end;
  const std::int64_t length = in.shape.length;
  const typename V::Fold fold(in.absolute, in.rank.mirror);
  if constexpr (std::is_same_v<In, typename V::Value>) {
    if (in.shape.inner == 1 && length >= V::width) {
      scan.step = length;
      scan.last = (together - 1) * length;
      const auto scan_more = scan_for<V>(k, together, in.absolute || in.rank.mirror);
      prefetch_rows(in.values(item), together * length);
      scan_more(in.values(item), length / V::width, V::width, length % V::width, fold, scan);
      return;
    }
  }
  alignas(64) typename V::Value tile[most_together * values_in_tile];
  scan.step = values_in_tile;
  scan.last = (together - 1) * values_in_tile;
  for (std::int64_t t = 0; t < length; t += values_in_tile) {
    const std::int64_t n = smaller(length - t, values_in_tile);
    for (std::int64_t u = 0; u < together; ++u) {
      fill_row<V>(in, item + u, t, n, tile + (u * values_in_tile));
    }
    const std::int64_t filled = n < V::width ? V::width : n;
    scan_for<V>(k, together, false)(tile, filled / V::width, V::width, filled % V::width, fold,
                                    scan);
  }
}

/// Lanes are parts of a row, joined in the end for as many rows as there are lanes.
template <class V, typename In>
void largest_of_rows(const PercentileBlock<In>& in, PercentilePairs<V>& pairs) {
  const std::int64_t k = in.rank.from_end;
  const std::int64_t most = smaller(scanned_together(k), 4);  // divides the width
  typename V::Reg parts[V::width * most_in_registers];
  if (in.count % V::width != 0) {
    for (auto& part : parts) {
      part = typename V::Reg{};  // rows past the last one: anything but uninitialised
    }
  }
  for (std::int64_t item = 0; item < in.count; item += V::width) {
    const std::int64_t rows = smaller(in.count - item, V::width);
    bool bad = false;
    for (std::int64_t row = 0, together = 0; row < rows; row += together) {
      together = smaller(rows - row, most);
      Scan<V> scan(parts + (row * k));
      scan_rows(in, item + row, together, scan);
      bad |= V::any(scan.bad);
    }
    join_for<V>(k)(parts);
    pairs.put(item, parts[k - 1], parts[k > 1 ? k - 2 : 0]);
    if (bad) {
      mark_nan(in, item, item + rows, pairs);
    }
  }
}

}  // namespace detach
