// Vector registers as a type, for the percentile's inner loops. Private to the core.
//
// Written with the vector types of GCC and Clang, which the compiler turns into SSE2, NEON or AVX2;
// Lanes says of which size, and percentile_avx2.cpp overrides what is better said in intrinsics. A
// mask has all bits of a lane set or none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "percentile_elements.h"

namespace detach {

template <typename T, int bytes>
struct Lanes {
  using Value = T;
  using Signed = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  using Unsigned = std::make_unsigned_t<Signed>;
  using Reg __attribute__((vector_size(bytes))) = T;
  using Mask __attribute__((vector_size(bytes))) = Signed;
  using Bits __attribute__((vector_size(bytes))) = Unsigned;
  static constexpr int width = bytes / sizeof(T);
  static constexpr int value_bits = 8 * sizeof(T);
  static constexpr Unsigned top_bit = Unsigned{1} << (value_bits - 1);

  /// What |x| and -x do to the bits of x.
  struct Fold {
    DETACH_INLINE Fold(bool absolute, bool mirror)
        : keep(Bits{} + (absolute ? ~top_bit : ~Unsigned{0})),
          flip(Bits{} + (mirror ? top_bit : Unsigned{0})) {}
    Bits keep;
    Bits flip;
  };

  static DETACH_INLINE Reg broadcast(T v) { return Reg{} + v; }
  static DETACH_INLINE Reg load(const T* p) {
    Reg x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
  template <typename In>
  static DETACH_INLINE Reg load(const In* p) {
    Reg x;
    for (int i = 0; i < width; ++i) {
      x[i] = value_of(p[i]);
    }
    return x;
  }
  static DETACH_INLINE void store(T* p, Reg x) { std::memcpy(p, &x, sizeof x); }

  static DETACH_INLINE Mask first_lanes(std::int64_t count) {
    Mask lane;
    for (int i = 0; i < width; ++i) {
      lane[i] = i;
    }
    return lane < static_cast<Signed>(count);
  }
  static DETACH_INLINE Reg choose(Mask where, Reg a, Reg b) { return where ? a : b; }
  static DETACH_INLINE Reg max(Reg a, Reg b) { return a > b ? a : b; }
  static DETACH_INLINE Reg min(Reg a, Reg b) { return a < b ? a : b; }
  static DETACH_INLINE Reg fold(Reg x, const Fold& f) { return Reg((Bits(x) & f.keep) ^ f.flip); }
  static DETACH_INLINE Mask unordered(Reg a, Reg b) { return (a != a) | (b != b); }
  static DETACH_INLINE bool any(Mask mask) {
    Signed found = 0;
    for (int i = 0; i < width; ++i) {
      found |= mask[i];
    }
    return found != 0;
  }

  /// Lane i of register j becomes lane j of register i.
  static DETACH_INLINE void transpose(Reg (&x)[width]) {
    T turned[width][width];
    for (int j = 0; j < width; ++j) {
      for (int i = 0; i < width; ++i) {
        turned[i][j] = x[j][i];
      }
    }
    std::memcpy(x, turned, sizeof x);
  }

  /// Unsigned numbers in the order of the values, and back. -0 comes before +0.
  static DETACH_INLINE Bits key(Reg x) {
    return Bits(x) ^ (Bits(Mask(x) < 0) | (Bits{} + top_bit));
  }
  static DETACH_INLINE Reg value(Bits key) {
    return Reg(key ^ (~Bits(Mask(key) < 0) | (Bits{} + top_bit)));
  }
  /// The value in the middle between two in their order, which halves the number of floating-point
  /// numbers in between; `low` where none lies between.
  static DETACH_INLINE Reg halfway(Reg low, Reg high) {
    const Bits a = key(low);
    const Bits b = key(high);
    return value((a & b) + ((a ^ b) >> 1U));
  }
  static DETACH_INLINE Reg next_above(Reg x) { return value(key(x) + 1U); }
};

}  // namespace detach
