// Weights and exponentials of a tile, over the same types V as contrast_tiles.h, whose rules hold.
#pragma once

#include <cstdint>

#include "contrast_kernels.h"
#include "contrast_tiles.h"

namespace detach {

/// 2^f on [-1/2, 1/2], relative error 2e-9 (float) and 3e-18 (double) before rounding.
template <typename T>
struct Exp2Terms;

template <>
struct Exp2Terms<float> {
  static constexpr int degree = 6;
  static constexpr float term[degree + 1] = {1.0F,
                                             0.69314720573719575134F,
                                             0.24022646890645520696F,
                                             0.05550328777105324799F,
                                             0.0096184889563311816196F,
                                             0.0013399931177239737967F,
                                             0.00015345812161311629759F};
  static constexpr float lowest = -126.0F;
};

template <>
struct Exp2Terms<double> {
  static constexpr int degree = 11;
  static constexpr double term[degree + 1] = {1.0,
                                              0.69314718055994533046,
                                              0.24022650695910156204,
                                              0.055504108664819921605,
                                              0.0096181291075883352443,
                                              0.0013333558146789921722,
                                              0.00015403530462514432062,
                                              0.000015252733489988525649,
                                              1.321543308967639918e-6,
                                              1.0178198021671930844e-7,
                                              7.0741056135081427963e-9,
                                              4.4352827069572771511e-10};
  static constexpr double lowest = -1022.0;
};

/// Coefficients in registers, all divided by 2^shift: the shift then costs nothing.
template <class V>
struct Exp2 {
  using T = typename V::Value;
  using Reg = typename V::Reg;
  using Terms = Exp2Terms<T>;

  explicit DETACH_INLINE Exp2(int shift) {
    T factor = 1;
    for (int i = 0; i < shift; ++i) {
      factor *= T(0.5);
    }
    for (int i = 0; i <= Terms::degree; ++i) {
      term[i] = V::broadcast(Terms::term[i] * factor);
    }
  }

  /// 2^(x y), with the product rounded once. Nothing may over- or underflow; NaN stays.
  DETACH_INLINE Reg of_product(Reg x, Reg y) const {
    const Reg magic = V::broadcast(V::magic);
    const Reg whole = V::fma(x, y, magic);
    const Reg part = V::fma(x, y, V::sub(magic, whole));
    Reg value = term[Terms::degree];
    for (int i = Terms::degree - 1; i >= 0; --i) {
      value = V::fma(value, part, term[i]);
    }
    return V::shift_in(value, whole);
  }

  /// 2^x, and 0 where that is below the normal numbers. What is meant to be at most 0 may exceed it
  /// by rounding, and by much where logits are huge: 64 is enough to stay finite.
  DETACH_INLINE Reg of(Reg x) const {
    const Reg lowest = V::broadcast(Terms::lowest);
    const Reg inside = V::min(V::broadcast(64), V::max(lowest, x));
    return V::where_below(x, lowest, V::broadcast(0), of_product(inside, V::broadcast(1)));
  }

  Reg term[Terms::degree + 1];
};

template <class V, bool Place, bool Motion>
inline void weigh_tile(const ContrastWeight<typename V::Value>& given,
                       const ContrastTile<typename V::Value>& shape,
                       const typename V::Value* video_place, const typename V::Value* sensor_place,
                       const typename V::Value* motion, typename V::Value* weight) {
  using Reg = typename V::Reg;
  const ContrastWeight<typename V::Value> form = given;
  const ContrastTile<typename V::Value> tile = shape;
  const Reg zero = V::broadcast(0);
  const Reg one = V::broadcast(1);
  for (std::int64_t i = 0; i < tile.rows; ++i) {
    for (std::int64_t j = i * tile.stride; j < (i * tile.stride) + tile.columns; j += V::width) {
      Reg place = zero;
      Reg value = one;
      if (Place) {
        const Reg video = V::load(video_place + j);
        const Reg sensor = V::load(sensor_place + j);
        // max drops a NaN in its first argument; 0 x brings it back.
        place = V::fma(video, zero, V::max(zero, V::max(video, sensor)));
        value = V::fma(V::broadcast(form.hard), place, one);
      }
      if (Motion) {
        const Reg alike = V::max(zero, V::mul(V::load(motion + j), V::broadcast(form.scale)));
        const Reg damping =
            V::mul(alike, V::fma(V::broadcast(form.square), alike, V::broadcast(form.linear)));
        const Reg gate = V::fma(V::broadcast(form.gate_place), place, V::broadcast(form.gate_one));
        value = V::mul(value, V::sub(one, V::mul(gate, damping)));
      }
      V::store(weight + j, V::max(zero, value));
    }
  }
}

template <class V>
inline void weigh(const ContrastWeight<typename V::Value>& form,
                  const ContrastTile<typename V::Value>& tile, const typename V::Value* video_place,
                  const typename V::Value* sensor_place, const typename V::Value* motion,
                  typename V::Value* weight) {
  if (video_place != nullptr && motion != nullptr) {
    weigh_tile<V, true, true>(form, tile, video_place, sensor_place, motion, weight);
  } else if (video_place != nullptr) {
    weigh_tile<V, true, false>(form, tile, video_place, sensor_place, motion, weight);
  } else if (motion != nullptr) {
    weigh_tile<V, false, true>(form, tile, video_place, sensor_place, motion, weight);
  } else {
    weigh_tile<V, false, false>(form, tile, video_place, sensor_place, motion, weight);
  }
}

template <class V>
inline void scale_tile(const ContrastTile<typename V::Value>& tile, typename V::Value* x) {
  for (std::int64_t i = 0; i < tile.rows; ++i, x += tile.stride) {
    const typename V::Reg row = V::broadcast(tile.row_scale[i]);
    for (std::int64_t j = 0; j < tile.columns; j += V::width) {
      V::store(x + j, V::mul(V::mul(V::load(x + j), row), V::load(tile.column_scale + j)));
    }
  }
}

/// Column sums stay in T for this many rows, then go on in double.
constexpr std::int64_t rows_in_short = 16;
constexpr std::int64_t tile_columns = 96;

/// Calls value(i, j) for each register of a tile and sums what it returns.
template <class V, class Value>
DETACH_INLINE void sum_up(const ContrastTile<typename V::Value>& tile, const Value& value) {
  using T = typename V::Value;
  using Reg = typename V::Reg;
  for (std::int64_t j = 0; j < tile.columns; ++j) {
    tile.column_sum[j] = 0.0;
  }
  for (std::int64_t first = 0; first < tile.rows; first += rows_in_short) {
    const std::int64_t last = first + rows_in_short < tile.rows ? first + rows_in_short : tile.rows;
    alignas(64) T columns[tile_columns] = {};
    for (std::int64_t i = first; i < last; ++i) {
      Reg row = V::broadcast(0);
      for (std::int64_t j = 0; j < tile.columns; j += V::width) {
        const Reg x = value(i, j);
        row = V::add(row, x);
        V::store(columns + j, V::add(V::load(columns + j), x));
      }
      tile.row_sum[i] = V::total(row);
    }
    for (std::int64_t j = 0; j < tile.columns; j += V::width) {
      V::add_to(V::load(columns + j), tile.column_sum + j);
    }
  }
}

template <class V>
inline void sum_tile(const ContrastTile<typename V::Value>& given, const typename V::Value* x) {
  const ContrastTile<typename V::Value> tile = given;
  sum_up<V>(tile, [&](std::int64_t i, std::int64_t j)
                      DETACH_INLINE_LAMBDA { return V::load(x + (i * tile.stride) + j); });
}

/// E = W exp2(logit) / 2^shift to `out`, with its sums.
template <class V>
inline void sums(const ContrastTile<typename V::Value>& given) {
  using Reg = typename V::Reg;
  const ContrastTile<typename V::Value> tile = given;
  const Exp2<V> exp2(tile.shift);
  sum_up<V>(tile, [&](std::int64_t i, std::int64_t j) DETACH_INLINE_LAMBDA {
    const Reg weight = V::load(tile.weight + (i * tile.stride) + j);
    const Reg product =
        V::mul(V::load(tile.product + (i * tile.stride) + j), V::broadcast(tile.row_scale[i]));
    const Reg power = exp2.of_product(product, V::load(tile.column_scale + j));
    const Reg value = V::where_nonzero(weight, V::mul(weight, power), V::broadcast(0));
    V::store(tile.out + (i * tile.out_stride) + j, value);
    return value;
  });
}

template <class V>
DETACH_INLINE void find_tops(const ContrastTile<typename V::Value>& tile) {
  using T = typename V::Value;
  using Reg = typename V::Reg;
  const T least = -V::infinity;
  for (std::int64_t j = 0; j < tile.columns; ++j) {
    tile.column_top[j] = least;
  }
  for (std::int64_t i = 0; i < tile.rows; ++i) {
    Reg top = V::broadcast(least);
    for (std::int64_t j = 0; j < tile.columns; j += V::width) {
      T* const at = tile.product + (i * tile.stride) + j;
      const Reg logit = V::mul(V::mul(V::load(at), V::broadcast(tile.row_scale[i])),
                               V::load(tile.column_scale + j));
      V::store(at, logit);
      const Reg counted = V::where_nonzero(V::load(tile.weight + (i * tile.stride) + j), logit,
                                           V::broadcast(least));
      top = V::max(counted, top);
      V::store(tile.column_top + j, V::max(counted, V::load(tile.column_top + j)));
    }
    alignas(64) T lanes[V::width];
    V::store(lanes, top);
    tile.row_top[i] = lanes[0];
    for (int lane = 1; lane < V::width; ++lane) {
      tile.row_top[i] = lanes[lane] > tile.row_top[i] ? lanes[lane] : tile.row_top[i];
    }
  }
}

/// Sums relative to 2^row_top and 2^column_top, the largest logits that have a weight.
template <class V>
inline void wide_sums(const ContrastTile<typename V::Value>& given) {
  using Reg = typename V::Reg;
  const ContrastTile<typename V::Value> tile = given;
  find_tops<V>(tile);
  const Exp2<V> exp2(0);
  const Reg zero = V::broadcast(0);
  for (std::int64_t j = 0; j < tile.columns; ++j) {
    tile.column_sum[j] = 0.0;
  }
  for (std::int64_t i = 0; i < tile.rows; ++i) {
    const Reg top = V::broadcast(tile.row_top[i]);
    double row = 0.0;
    for (std::int64_t j = 0; j < tile.columns; j += V::width) {
      const Reg weight = V::load(tile.weight + (i * tile.stride) + j);
      const Reg logit = V::load(tile.product + (i * tile.stride) + j);
      row += V::total(V::where_nonzero(weight, V::mul(weight, exp2.of(V::sub(logit, top))), zero));
      const Reg under = V::sub(logit, V::load(tile.column_top + j));
      V::add_to(V::where_nonzero(weight, V::mul(weight, exp2.of(under)), zero),
                tile.column_sum + j);
    }
    tile.row_sum[i] = row;
  }
}

template <class V>
inline void wide_gradient(const ContrastTile<typename V::Value>& given) {
  using Reg = typename V::Reg;
  const ContrastTile<typename V::Value> tile = given;
  const Exp2<V> exp2(0);
  for (std::int64_t i = 0; i < tile.rows; ++i) {
    const Reg row_top = V::broadcast(tile.row_top[i]);
    const Reg row_factor = V::broadcast(tile.row_factor[i]);
    for (std::int64_t j = 0; j < tile.columns; j += V::width) {
      const Reg weight = V::load(tile.weight + (i * tile.stride) + j);
      const Reg logit = V::mul(
          V::mul(V::load(tile.product + (i * tile.stride) + j), V::broadcast(tile.row_scale[i])),
          V::load(tile.column_scale + j));
      const Reg row = exp2.of(V::sub(logit, row_top));
      const Reg column = exp2.of(V::sub(logit, V::load(tile.column_top + j)));
      const Reg both = V::fma(row_factor, row, V::mul(V::load(tile.column_factor + j), column));
      V::store(tile.out + (i * tile.out_stride) + j,
               V::where_nonzero(weight, V::mul(weight, both), V::broadcast(0)));
    }
  }
}

}  // namespace detach
