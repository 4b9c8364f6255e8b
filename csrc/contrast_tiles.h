// Packing, products and gradients of the weighted contrastive loss, written once over a type V that
// names an instruction set's operations (contrast_avx2.cpp, contrast_neon.cpp, contrast_plain.cpp).
//
// Private to the core, and included by files that are compiled for more than the base instruction
// set: nothing here may call a function that is shared with other files, the linker might keep the
// wrong copy for all. V is from an unnamed namespace, so that instances stay in their file.
//
//   Value  Reg  width  vectors           element, register, its lanes, registers in a panel
//   load(p)  store(p, x)  broadcast(v)  broadcast_from(p)
//   add  sub  mul  fma(a, b, c)          fma: a b + c
//   accumulate(c, a, b)                  c += a b, in the register that c is in
//   max(a, b)  min(a, b)                 b where either is NaN
//   where_nonzero(w, x, y)               x where w is not 0 (NaN is not 0), else y
//   where_below(x, limit, y, z)          y where x < limit, else z
//   magic  shift_in(p, r)                1.5 2^m for a mantissa of m bits; p 2^(r - magic)
//   total(x)  add_to(x, sums)            sum of the lanes; each added to a double of its own
//   Sum  no_sum()  add_product(p, q, sum)  add_square(p, sum)    products in double, of the
//                                        registers at p and q
//   transpose(from, stride, f, to, to_stride)    width x width elements, row r times lane r of f
//
// Arguments are copied first: a store of a register may change anything that has an address, and
// all would be loaded again after it.
#pragma once

#include <cstdint>

#include "contrast_kernels.h"

#if defined(__GNUC__)
#define DETACH_INLINE inline __attribute__((always_inline))
#define DETACH_INLINE_LAMBDA __attribute__((always_inline))
#define DETACH_PREFETCH(p) __builtin_prefetch(p)
#define DETACH_PREFETCH_FAR(p) __builtin_prefetch(p, 0, 2)
#else
#define DETACH_INLINE inline
#define DETACH_INLINE_LAMBDA
#define DETACH_PREFETCH(p) static_cast<void>(p)
#define DETACH_PREFETCH_FAR(p) static_cast<void>(p)
#endif

namespace detach {

/// One accumulator row after the other as members, not as an array: GCC keeps arrays that loops
/// index in memory.
template <class V, int Rows>
struct MicroTile {
  using T = typename V::Value;
  using Reg = typename V::Reg;
  static_assert(V::vectors == 2 || V::vectors == 4);

  DETACH_INLINE void clear(const T* c, std::int64_t c_stride) {
    DETACH_PREFETCH(c);
    first = second = third = fourth = V::broadcast(0);
    rest.clear(c + c_stride, c_stride);
  }

  /// a: the numbers of rows 0, 1 and 2 are `step` apart; `lower` has those of rows 3, 4 and 5.
  DETACH_INLINE void add_product(const T* a, const T* lower, std::int64_t step, const Reg* b) {
    const Reg left = V::broadcast_from(a);
    V::accumulate(first, left, b[0]);
    V::accumulate(second, left, b[1]);
    if constexpr (V::vectors == 4) {
      V::accumulate(third, left, b[2]);
      V::accumulate(fourth, left, b[3]);
    }
    rest.add_product(Rows == 4 ? lower : a + step, lower, step, b);
  }

  DETACH_INLINE void store(T* c, std::int64_t c_stride, bool add) const {
    store_one(c, first, add);
    store_one(c + V::width, second, add);
    if constexpr (V::vectors == 4) {
      store_one(c + (2 * V::width), third, add);
      store_one(c + (3 * V::width), fourth, add);
    }
    rest.store(c + c_stride, c_stride, add);
  }

  static DETACH_INLINE void store_one(T* c, Reg x, bool add) {
    V::store(c, add ? V::add(V::load(c), x) : x);
  }

  Reg first;
  Reg second;
  Reg third;
  Reg fourth;
  MicroTile<V, Rows - 1> rest;
};

template <class V>
struct MicroTile<V, 0> {
  using T = typename V::Value;
  DETACH_INLINE void clear(const T*, std::int64_t) {}
  DETACH_INLINE void add_product(const T*, const T*, std::int64_t, const typename V::Reg*) {}
  DETACH_INLINE void store(T*, std::int64_t, bool) const {}
};

constexpr std::int64_t unrolled = 8;

/// A region of memory that is fetched in equal steps over a number of micro-tiles. Where there is
/// nothing to fetch it stays where it is.
struct Ahead {
  template <typename T>
  DETACH_INLINE Ahead(const T* from, std::int64_t size, std::int64_t tiles, std::int64_t depth)
      : at(reinterpret_cast<const char*>(from)),
        step(size * static_cast<std::int64_t>(sizeof(T)) /
             (tiles * (depth < unrolled ? 1 : depth / unrolled))) {}

  DETACH_INLINE void pass(std::int64_t depth) { at += step * (depth / unrolled); }

  const char* at;
  std::int64_t step;
};

/// 6 rows by a panel: c = or += a b. Everything is in registers for the whole depth. The step in
/// depth is a template argument where it is known, so that addresses need no arithmetic.
template <class V, int DepthStep>
inline void multiply_group(const ContrastProduct<typename V::Value>& p, const typename V::Value* a,
                           const typename V::Value* b, typename V::Value* c, Ahead ahead_a,
                           Ahead ahead_b) {
  using Reg = typename V::Reg;
  constexpr int panel = V::width * V::vectors;
  const std::int64_t step = p.row_step;
  const std::int64_t depth = p.depth;
  const auto* lower = a + (3 * step);
  MicroTile<V, static_cast<int>(contrast_group)> tile;
  tile.clear(c, p.c_stride);
  const auto one = [&](int k) DETACH_INLINE_LAMBDA {
    Reg right[V::vectors];
    for (int j = 0; j < V::vectors; ++j) {
      right[j] = V::load(b + (k * panel) + (j * V::width));
    }
    tile.add_product(a + (k * DepthStep), lower + (k * DepthStep), step, right);
  };
  std::int64_t k = 0;
  for (; k + unrolled <= depth; k += unrolled) {
    DETACH_PREFETCH_FAR(ahead_a.at);
    DETACH_PREFETCH_FAR(ahead_b.at);
    ahead_a.at += ahead_a.step;
    ahead_b.at += ahead_b.step;
    one(0);
    one(1);
    one(2);
    one(3);
    one(4);
    one(5);
    one(6);
    one(7);
    a += unrolled * DepthStep;
    lower += unrolled * DepthStep;
    b += unrolled * panel;
  }
  for (; k < depth; ++k) {
    one(0);
    a += DepthStep;
    lower += DepthStep;
    b += panel;
  }
  tile.store(c, p.c_stride, p.add);
}

/// While one panel is used the next one is fetched, and what the next product reads of `a`.
template <class V>
inline void multiply(const ContrastProduct<typename V::Value>& p) {
  constexpr std::int64_t panel = V::width * V::vectors;
  const std::int64_t groups = (p.rows + contrast_group - 1) / contrast_group;
  const std::int64_t panels = (p.columns + panel - 1) / panel;
  Ahead ahead_a(p.next_a, p.next_a == nullptr ? 0 : p.next_a_size, groups * panels, p.depth);
  for (std::int64_t j = 0; j < panels; ++j) {
    const auto* const b = p.b + (j * p.panel_step);
    const auto* const next = j + 1 < panels ? b + p.panel_step : p.next_b;
    Ahead ahead_b(next, next == nullptr ? 0 : p.depth * panel, groups, p.depth);
    const auto* a = p.a;
    // Of a symmetric product only what touches the upper triangle.
    const std::int64_t above = (((j + 1) * panel) + contrast_group - 1) / contrast_group;
    const std::int64_t last = p.upper && above < groups ? above : groups;
    for (std::int64_t i = 0; i < last; ++i, a += p.group_step) {
      auto* const c = p.c + (i * contrast_group * p.c_stride) + (j * panel);
      if (p.depth_step == 1) {
        multiply_group<V, 1>(p, a, b, c, ahead_a, ahead_b);
      } else {
        multiply_group<V, contrast_group>(p, a, b, c, ahead_a, ahead_b);
      }
      ahead_a.pass(p.depth);
      ahead_b.pass(p.depth);
    }
  }
}

/// Two sums in turn, because each waits for the one before.
template <class V>
inline double dot(const typename V::Value* a, const typename V::Value* b, std::int64_t n) {
  typename V::Sum even = V::no_sum();
  typename V::Sum odd = V::no_sum();
  std::int64_t k = 0;
  for (; k + (2 * V::width) <= n; k += 2 * V::width) {
    V::add_product(a + k, b + k, even);
    V::add_product(a + k + V::width, b + k + V::width, odd);
  }
  double total = 0.0;
  for (; k < n; ++k) {
    total += static_cast<double>(a[k]) * static_cast<double>(b[k]);
  }
  return total + (V::total(even) + V::total(odd));
}

/// dot(x, x, n), with half the conversions.
template <class V>
inline double square(const typename V::Value* x, std::int64_t n) {
  typename V::Sum even = V::no_sum();
  typename V::Sum odd = V::no_sum();
  std::int64_t k = 0;
  for (; k + (2 * V::width) <= n; k += 2 * V::width) {
    V::add_square(x + k, even);
    V::add_square(x + k + V::width, odd);
  }
  double total = 0.0;
  for (; k < n; ++k) {
    total += static_cast<double>(x[k]) * static_cast<double>(x[k]);
  }
  return total + (V::total(even) + V::total(odd));
}

template <class V>
inline void scale_rows(const typename V::Value* x, std::int64_t rows, std::int64_t width,
                       const typename V::Value* scale, typename V::Value* out) {
  for (std::int64_t i = 0; i < rows; ++i, x += width, out += width) {
    const typename V::Reg factor = V::broadcast(scale[i]);
    std::int64_t k = 0;
    for (; k + V::width <= width; k += V::width) {
      V::store(out + k, V::mul(V::load(x + k), factor));
    }
    for (; k < width; ++k) {
      out[k] = x[k] * scale[i];
    }
  }
}

/// Whole lines of `out` at a time: the parts of a panel are in the inner loop.
template <class V>
inline void pack_windows(const typename V::Value* x, std::int64_t rows, std::int64_t width,
                         const typename V::Value* scale, typename V::Value* out) {
  using T = typename V::Value;
  constexpr std::int64_t panel = V::width * V::vectors;
  for (std::int64_t first = 0; first < rows; first += panel, out += panel * width) {
    const T* const from = x + (first * width);
    const std::int64_t there = rows - first < panel ? rows - first : panel;
    std::int64_t k = 0;
    for (; there == panel && k + V::width <= width; k += V::width) {
      for (std::int64_t part = 0; part < panel; part += V::width) {
        V::transpose(from + (part * width) + k, width, V::load(scale + first + part),
                     out + (k * panel) + part, panel);
      }
    }
    for (; k < width; ++k) {
      for (std::int64_t r = 0; r < panel; ++r) {
        out[(k * panel) + r] = r < there ? from[(r * width) + k] * scale[first + r] : T(0);
      }
    }
  }
}

template <class V>
inline void pack_features(const typename V::Value* x, std::int64_t rows, std::int64_t width,
                          const typename V::Value* scale, typename V::Value* out,
                          std::int64_t panel_step) {
  using T = typename V::Value;
  constexpr std::int64_t panel = V::width * V::vectors;
  for (std::int64_t row = 0; row < rows; ++row, x += width) {
    const typename V::Reg factor = V::broadcast(scale[row]);
    T* to = out + (row * panel);
    for (std::int64_t f = 0; f < width; f += panel, to += panel_step) {
      for (std::int64_t part = 0; part < panel; part += V::width) {
        const std::int64_t left = width - f - part;
        if (left >= V::width) {
          V::store(to + part, V::mul(V::load(x + f + part), factor));
          continue;
        }
        for (std::int64_t r = 0; r < V::width; ++r) {
          to[part + r] = r < left ? x[f + part + r] * scale[row] : T(0);
        }
      }
    }
  }
}

/// The last register of a row may reach beyond `depth`; `out` and `in` have room for it.
template <class V>
inline void gather_rows(const ContrastGather<typename V::Value>& gather) {
  const ContrastGather<typename V::Value> g = gather;
  for (std::int64_t i = 0; i < g.rows; ++i) {
    const typename V::Reg own = V::broadcast(g.own[i]);
    const auto* const in = g.in + (i * g.stride);
    auto* const out = g.out + (i * g.out_stride);
    for (std::int64_t k = 0; k < g.depth; k += V::width) {
      const typename V::Reg factor = V::fma(own, V::load(g.factor + k), V::load(g.other + k));
      V::store(out + k, V::mul(V::load(in + k), factor));
    }
  }
}

/// Registers overlap where 6 is not a multiple of their width; the next store mends what one wrote
/// too much, and `out` has room behind its end.
template <class V>
inline void gather_columns(const ContrastGather<typename V::Value>& gather) {
  const ContrastGather<typename V::Value> g = gather;
  constexpr int parts = (static_cast<int>(contrast_group) + V::width - 1) / V::width;
  for (std::int64_t i = 0; i < g.rows; i += contrast_group) {
    const auto* in = g.in + i;
    auto* out = g.out + (i / contrast_group * g.out_stride);
    typename V::Reg own[parts];
    for (int part = 0; part < parts; ++part) {
      own[part] = V::load(g.own + i + (part * V::width));
    }
    for (std::int64_t k = 0; k < g.depth; ++k, in += g.stride, out += contrast_group) {
      const typename V::Reg factor = V::broadcast(g.factor[k]);
      const typename V::Reg other = V::broadcast(g.other[k]);
      for (int part = 0; part < parts; ++part) {
        const typename V::Reg x = V::load(in + (part * V::width));
        V::store(out + (part * V::width), V::mul(x, V::fma(own[part], factor, other)));
      }
    }
  }
}

template <class V>
inline void finish(const ContrastFinish<typename V::Value>& row) {
  const ContrastFinish<typename V::Value> f = row;
  using T = typename V::Value;
  using Reg = typename V::Reg;
  const Reg own_pair = V::broadcast(static_cast<T>(f.own_pair));
  const Reg unit = V::broadcast(static_cast<T>(f.unit));
  Reg sum = V::broadcast(0);
  std::int64_t k = 0;
  for (; k + V::width <= f.width; k += V::width) {
    const Reg g = V::fma(own_pair, V::load(f.x_other + k), V::load(f.sum + k));
    sum = V::fma(g, V::mul(unit, V::load(f.x + k)), sum);
  }
  double along = V::total(sum);
  for (; k < f.width; ++k) {
    along += (f.sum[k] + (f.own_pair * f.x_other[k])) * (f.unit * f.x[k]);
  }
  const double back = f.project == 0.0 ? 0.0 : along * f.project * f.unit * f.scale;
  const Reg scale = V::broadcast(static_cast<T>(f.scale));
  const Reg remove = V::broadcast(static_cast<T>(-back));
  for (k = 0; k + V::width <= f.width; k += V::width) {
    const Reg g = V::fma(own_pair, V::load(f.x_other + k), V::load(f.sum + k));
    const Reg through = V::fma(remove, V::load(f.x + k), V::mul(g, scale));
    V::store(f.out + k, f.add ? V::add(V::load(f.out + k), through) : through);
  }
  for (; k < f.width; ++k) {
    const double g = f.sum[k] + (f.own_pair * f.x_other[k]);
    const auto through = static_cast<T>((g * f.scale) - (back * f.x[k]));
    f.out[k] = f.add ? f.out[k] + through : through;
  }
}

}  // namespace detach
