// The number types that the percentile reads and writes, and how they become values. Private to the
// core; everything is forced inline, see percentile_block.h.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define DETACH_INLINE __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define DETACH_INLINE inline __attribute__((always_inline))
#else
#define DETACH_INLINE inline
#endif
#if defined(__GNUC__) && !defined(__CUDACC__)
#define DETACH_FETCH(address) __builtin_prefetch(reinterpret_cast<const void*>(address))
#else
#define DETACH_FETCH(address) static_cast<void>(address)
#endif

namespace detach {

struct Half {  ///< IEEE binary16
  std::uint16_t bits;
};

struct Bfloat16 {  ///< the upper half of a float
  std::uint16_t bits;
};

/// What an element is computed in, and what its results are stored as.
template <typename In>
struct Element {
  using Value = float;
  using Result = In;
};
template <>
struct Element<double> {
  using Value = double;
  using Result = double;
};
template <>
struct Element<std::int16_t> {
  using Value = float;
  using Result = float;
};

template <typename To, typename From>
DETACH_INLINE To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "bits are not cut off");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

DETACH_INLINE float value_of(float x) { return x; }
DETACH_INLINE double value_of(double x) { return x; }
DETACH_INLINE float value_of(std::int16_t x) { return x; }
DETACH_INLINE float value_of(Bfloat16 x) {
  return same_bits<float>(static_cast<std::uint32_t>(x.bits) << 16U);
}
DETACH_INLINE float value_of(Half x) {
  // Read as a float, the exponent is 112 too small; then only infinity and NaN are not right yet.
  const std::uint32_t magnitude = x.bits & 0x7fffU;
  const float scaled = same_bits<float>(magnitude << 13U) * 0x1p112F;
  const std::uint32_t special = magnitude >= 0x7c00U ? 0x7f800000U : 0U;
  const std::uint32_t sign = (x.bits & 0x8000U) << 16U;
  return same_bits<float>(same_bits<std::uint32_t>(scaled) | special | sign);
}

/// |x| rounded to `digits` binary digits after the first one, ties to even, and to multiples of
/// 2^(min_exponent - digits): by adding a number whose last place that is.
template <int digits, int min_exponent>
DETACH_INLINE double rounded_magnitude(double x) {
  const std::uint64_t raw = same_bits<std::uint64_t>(x) & 0x7fffffffffffffffU;
  const std::uint64_t lowest = 1023 + min_exponent;
  const std::uint64_t exponent = (raw >> 52U) > lowest ? raw >> 52U : lowest;
  const double magnitude = same_bits<double>(raw);
  const double shift = same_bits<double>((exponent + 52 - digits) << 52U);
  return raw < 0x7ff0000000000000U ? (magnitude + shift) - shift : magnitude;
}

DETACH_INLINE std::uint16_t sign_of(double x) {
  return static_cast<std::uint16_t>((same_bits<std::uint64_t>(x) >> 48U) & 0x8000U);
}

DETACH_INLINE void store_value(float* to, double x) { *to = static_cast<float>(x); }
DETACH_INLINE void store_value(double* to, double x) { *to = x; }
DETACH_INLINE void store_value(Bfloat16* to, double x) {
  const auto value = static_cast<float>(rounded_magnitude<7, -126>(x));
  to->bits = static_cast<std::uint16_t>((same_bits<std::uint32_t>(value) >> 16U) | sign_of(x));
}
DETACH_INLINE void store_value(Half* to, double x) {
  const float value = static_cast<float>(rounded_magnitude<10, -14>(x)) * 0x1p-112F;
  const std::uint32_t magnitude = (same_bits<std::uint32_t>(value) >> 13U) & 0x7fffU;
  to->bits = static_cast<std::uint16_t>(magnitude | sign_of(x));
}

}  // namespace detach
