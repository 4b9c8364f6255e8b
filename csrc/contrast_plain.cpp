// The contrastive loss' inner loops as plain loops over 16 bytes, which compilers turn into SSE2 or
// whatever else there is; and the choice between these and the others.
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "contrast_kernels.h"
#include "contrast_table.h"
#include "detach/contrast.h"

namespace detach {
namespace {

template <typename T>
struct PlainLanes {
  using Value = T;
  static constexpr int width = 16 / sizeof(T);
  static constexpr int vectors = 2;
  static constexpr T magic = static_cast<T>(sizeof(T) == 4 ? 12582912.0 : 6755399441055744.0);
  static constexpr T infinity = std::numeric_limits<T>::infinity();
  struct Reg {
    T lane[width];
  };

  template <class Each>
  static DETACH_INLINE Reg each(Each value_of) {
    Reg result;
    for (int i = 0; i < width; ++i) {
      result.lane[i] = value_of(i);
    }
    return result;
  }
  static DETACH_INLINE Reg load(const T* p) {
    return each([&](int i) { return p[i]; });
  }
  static DETACH_INLINE void store(T* p, const Reg& x) {
    for (int i = 0; i < width; ++i) {
      p[i] = x.lane[i];
    }
  }
  static DETACH_INLINE Reg broadcast(T v) {
    return each([&](int) { return v; });
  }
  static DETACH_INLINE Reg broadcast_from(const T* p) { return broadcast(*p); }
  static DETACH_INLINE Reg add(const Reg& a, const Reg& b) {
    return each([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static DETACH_INLINE Reg sub(const Reg& a, const Reg& b) {
    return each([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static DETACH_INLINE Reg mul(const Reg& a, const Reg& b) {
    return each([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static DETACH_INLINE Reg fma(const Reg& a, const Reg& b, const Reg& c) {
    return each([&](int i) { return (a.lane[i] * b.lane[i]) + c.lane[i]; });
  }
  static DETACH_INLINE void accumulate(Reg& c, const Reg& a, const Reg& b) { c = fma(a, b, c); }
  static DETACH_INLINE Reg max(const Reg& a, const Reg& b) {
    return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static DETACH_INLINE Reg min(const Reg& a, const Reg& b) {
    return each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static DETACH_INLINE Reg where_nonzero(const Reg& w, const Reg& x, const Reg& y) {
    return each([&](int i) { return w.lane[i] != 0 ? x.lane[i] : y.lane[i]; });
  }
  static DETACH_INLINE Reg where_below(const Reg& x, const Reg& limit, const Reg& y, const Reg& z) {
    return each([&](int i) { return x.lane[i] < limit.lane[i] ? y.lane[i] : z.lane[i]; });
  }
  static DETACH_INLINE Reg shift_in(const Reg& p, const Reg& r) {
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    constexpr int mantissa = std::numeric_limits<T>::digits - 1;
    return each([&](int i) {
      Bits value;
      Bits whole;
      std::memcpy(&value, &p.lane[i], sizeof(T));
      std::memcpy(&whole, &r.lane[i], sizeof(T));
      value += whole << mantissa;
      T result;
      std::memcpy(&result, &value, sizeof(T));
      return result;
    });
  }
  static DETACH_INLINE double total(const Reg& x) {
    double sum = 0.0;
    for (int i = 0; i < width; ++i) {
      sum += x.lane[i];
    }
    return sum;
  }
  static DETACH_INLINE void add_to(const Reg& x, double* sums) {
    for (int i = 0; i < width; ++i) {
      sums[i] += x.lane[i];
    }
  }
  struct Sum {
    double lane[width];
  };
  static DETACH_INLINE Sum no_sum() { return {}; }
  static DETACH_INLINE void add_product(const T* p, const T* q, Sum& sum) {
    for (int i = 0; i < width; ++i) {
      sum.lane[i] += static_cast<double>(p[i]) * static_cast<double>(q[i]);
    }
  }
  static DETACH_INLINE void add_square(const T* p, Sum& sum) { add_product(p, p, sum); }
  static DETACH_INLINE double total(const Sum& sum) {
    double all = 0.0;
    for (int i = 0; i < width; ++i) {
      all += sum.lane[i];
    }
    return all;
  }
  static DETACH_INLINE void transpose(const T* from, std::int64_t stride, const Reg& f, T* to,
                                      std::int64_t to_stride) {
    for (int i = 0; i < width; ++i) {
      for (int r = 0; r < width; ++r) {
        to[(i * to_stride) + r] = from[(r * stride) + i] * f.lane[r];
      }
    }
  }
};

bool has_avx2() {
#if defined(DETACH_WITH_AVX2)
  static const bool found = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return found;
#else
  return false;
#endif
}

const ContrastKernels<float>& kernels_here(float /*number*/) {
#if defined(DETACH_WITH_NEON)
  return contrast_neon_float();
#elif defined(DETACH_WITH_AVX2)
  if (has_avx2()) {
    return contrast_avx2_float();
  }
#endif
  static constexpr ContrastKernels<float> plain = contrast_table<PlainLanes<float>>();
  return plain;
}

const ContrastKernels<double>& kernels_here(double /*number*/) {
#if defined(DETACH_WITH_NEON)
  return contrast_neon_double();
#elif defined(DETACH_WITH_AVX2)
  if (has_avx2()) {
    return contrast_avx2_double();
  }
#endif
  static constexpr ContrastKernels<double> plain = contrast_table<PlainLanes<double>>();
  return plain;
}

}  // namespace

template <typename T>
const ContrastKernels<T>& contrast_kernels() {
  return kernels_here(T{});
}

template const ContrastKernels<float>& contrast_kernels();
template const ContrastKernels<double>& contrast_kernels();

const char* contrast_simd() {
#if defined(DETACH_WITH_NEON)
  constexpr const char* otherwise = "neon";
#else
  constexpr const char* otherwise = "plain";
#endif
  return has_avx2() ? "avx2" : otherwise;
}

}  // namespace detach
