// Any number of values from the end of a row that fits in a cache: selection by counting.
// Private to the core; see percentile_block.h for what may stand here.
#pragma once

#include <cstdint>
#include <limits>

#include "percentile_block.h"
#include "percentile_elements.h"
#include "percentile_scan.h"

namespace detach {

/// U registers of lanes, a result each; `tile` holds their `length` values, register by register.
///
/// The k-th largest value of each lane is sought in an interval [low, high): a step counts the
/// values from its middle on and halves it. Steps are no more than a value has bits, mostly about
/// 10: they end where exactly k values are counted, and now and then the interval is drawn together
/// to the values within, which also ends them where only equal ones are left.
template <class V, int U>
struct Counting {
  using Value = typename V::Value;
  using Signed = typename V::Signed;
  using Reg = typename V::Reg;
  using Mask = typename V::Mask;
  static constexpr Value infinity = std::numeric_limits<Value>::infinity();

  Value* tile;
  std::int64_t length;
  Reg low[U];
  Reg high[U];
  Mask bad[U];  // where there is a NaN

  DETACH_INLINE Reg at(std::int64_t t, int u) const {
    return V::load(tile + (((t * U) + u) * V::width));
  }

  DETACH_INLINE void set_limits() {
    for (int u = 0; u < U; ++u) {
      low[u] = V::broadcast(infinity);
      high[u] = V::broadcast(-infinity);
      bad[u] = Mask{};
    }
    for (std::int64_t t = 0; t < length; ++t) {
      for (int u = 0; u < U; ++u) {
        const Reg x = at(t, u) + V::broadcast(0);  // -0 becomes +0: as keys they differ
        V::store(tile + (((t * U) + u) * V::width), x);
        bad[u] |= V::unordered(x, x);
        low[u] = V::min(low[u], x);
        high[u] = V::max(high[u], x);
      }
    }
  }

  /// How many values of each lane are `from` or larger; a true lane of a comparison is -1.
  DETACH_INLINE void count(const Reg (&from)[U], Mask (&counted)[U]) const {
    Mask even[U] = {};
    Mask odd[U] = {};
    std::int64_t t = 0;
    for (; t + 4 <= length; t += 4) {
      for (int u = 0; u < U; ++u) {
        even[u] += (at(t, u) >= from[u]) + (at(t + 1, u) >= from[u]);
        odd[u] += (at(t + 2, u) >= from[u]) + (at(t + 3, u) >= from[u]);
      }
    }
    for (; t < length; ++t) {
      for (int u = 0; u < U; ++u) {
        even[u] += at(t, u) >= from[u];
      }
    }
    for (int u = 0; u < U; ++u) {
      counted[u] = -(even[u] + odd[u]);
    }
  }

  DETACH_INLINE void draw_together() {
    Reg smallest[U];
    Reg largest[U];
    for (int u = 0; u < U; ++u) {
      smallest[u] = V::broadcast(infinity);
      largest[u] = V::broadcast(-infinity);
    }
    for (std::int64_t t = 0; t < length; ++t) {
      for (int u = 0; u < U; ++u) {
        const Reg x = at(t, u);
        smallest[u] = V::min(smallest[u], V::choose(x >= low[u], x, V::broadcast(infinity)));
        largest[u] = V::max(largest[u], V::choose(x < high[u], x, V::broadcast(-infinity)));
      }
    }
    for (int u = 0; u < U; ++u) {
      low[u] = smallest[u];
      high[u] = V::next_above(largest[u]);
    }
  }

  /// Raises `low` until the k-th largest value is the smallest one from there on.
  DETACH_INLINE void separate(Signed k) {
    Reg middle[U];
    Mask counted[U];
    Mask done[U];
    set_limits();
    for (int u = 0; u < U; ++u) {
      middle[u] = high[u];  // first of all: are there k values as large as the largest?
      done[u] = bad[u];
    }
    for (int step = 0; step <= V::value_bits; ++step) {
      count(middle, counted);
      for (int u = 0; u < U; ++u) {
        const Mask enough = counted[u] >= k;
        low[u] = V::choose(enough & ~done[u], middle[u], low[u]);
        high[u] = V::choose(enough, high[u], middle[u]);
        done[u] |= counted[u] == k;
      }
      if (step == 3 || step % 8 == 7) {
        draw_together();
      }
      Mask all_done = ~Mask{};
      for (int u = 0; u < U; ++u) {
        middle[u] = V::halfway(low[u], high[u]);
        done[u] |= Mask(middle[u]) == Mask(low[u]);
        all_done &= done[u];
      }
      if (!V::any(~all_done)) {
        break;
      }
    }
  }

  DETACH_INLINE void find(Signed k, Reg (&kth)[U], Reg (&above)[U]) {
    separate(k);
    Mask larger[U] = {};
    for (int u = 0; u < U; ++u) {
      kth[u] = above[u] = V::broadcast(infinity);
    }
    for (std::int64_t t = 0; t < length; ++t) {
      for (int u = 0; u < U; ++u) {
        const Reg x = at(t, u);
        kth[u] = V::min(kth[u], V::choose(x >= low[u], x, V::broadcast(infinity)));
      }
    }
    for (std::int64_t t = 0; t < length; ++t) {
      for (int u = 0; u < U; ++u) {
        const Reg x = at(t, u);
        larger[u] -= x > kth[u];
        above[u] = V::min(above[u], V::choose(x > kth[u], x, V::broadcast(infinity)));
      }
    }
    const Reg nan = V::broadcast(std::numeric_limits<Value>::quiet_NaN());
    for (int u = 0; u < U; ++u) {
      above[u] = V::choose(bad[u], nan, V::choose(larger[u] >= k - 1, above[u], kth[u]));
      kth[u] = V::choose(bad[u], nan, kth[u]);
    }
  }
};

template <class V, int U, typename In>
void select_by_counting(const PercentileBlock<In>& in, typename V::Value* tile,
                        PercentilePairs<V>& pairs) {
  const std::int64_t last = in.count > V::width ? in.count - V::width : 0;
  for (std::int64_t item = 0; item < in.count; item += U * V::width) {
    const auto begin = [&](int u) { return smaller(item + (u * V::width), last); };
    for (int u = 0; u < U; ++u) {
      fill_tile<V, U>(in, begin(u), 0, in.shape.length, tile + (u * V::width));
    }
    typename V::Reg kth[U];
    typename V::Reg above[U];
    Counting<V, U> counting{tile, in.shape.length, {}, {}, {}};
    counting.find(static_cast<typename V::Signed>(in.rank.from_end), kth, above);
    for (int u = 0; u < U; ++u) {
      pairs.put(begin(u), kth[u], above[u]);
    }
  }
}

template <class V, typename In>
void select_by_counting(const PercentileBlock<In>& in, PercentilePairs<V>& pairs) {
  alignas(64) typename V::Value tile[longest_counted * V::width];
  if (in.shape.length <= longest_counted / 2 && in.count > V::width) {
    select_by_counting<V, 2>(in, tile, pairs);  // two at once hide what a step waits for
  } else {
    select_by_counting<V, 1>(in, tile, pairs);
  }
}

template <class V, typename In>
void percentile_block(const PercentileBlock<In>& in, typename Element<In>::Result* out) {
  PercentilePairs<V> pairs;
  if (in.rank.from_end > most_in_registers) {
    select_by_counting(in, pairs);
  } else if (in.columns) {
    largest_of_columns(in, pairs);
  } else {
    largest_of_rows(in, pairs);
  }
  interpolate(in.rank, pairs, in.count, out);
}

}  // namespace detach
