// The contrastive loss' inner loops for AVX2. This file is compiled with -mavx2 -mfma; it is called
// only where the machine has both.
#include <immintrin.h>

#include <cstdint>
#include <limits>

#include "contrast_kernels.h"
#include "contrast_table.h"

namespace detach {
namespace {

struct Avx2Float {
  using Value = float;
  using Reg = __m256;
  static constexpr int width = 8;
  static constexpr int vectors = 2;
  static constexpr Value magic = 12582912.0F;
  static constexpr Value infinity = std::numeric_limits<Value>::infinity();

  static DETACH_INLINE Reg load(const Value* p) { return _mm256_loadu_ps(p); }
  static DETACH_INLINE void store(Value* p, Reg x) { _mm256_storeu_ps(p, x); }
  static DETACH_INLINE Reg broadcast(Value v) { return _mm256_set1_ps(v); }
  static DETACH_INLINE Reg broadcast_from(const Value* p) { return _mm256_broadcast_ss(p); }
  static DETACH_INLINE Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  static DETACH_INLINE Reg sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
  static DETACH_INLINE Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
  static DETACH_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  static DETACH_INLINE void accumulate(Reg& c, Reg a, Reg b) {
    // The intrinsic lets GCC put the sum where `a` was, which costs it moves and spills.
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
  }
  static DETACH_INLINE Reg max(Reg a, Reg b) { return _mm256_max_ps(a, b); }
  static DETACH_INLINE Reg min(Reg a, Reg b) { return _mm256_min_ps(a, b); }
  static DETACH_INLINE Reg where_nonzero(Reg w, Reg x, Reg y) {
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(w, _mm256_setzero_ps(), _CMP_NEQ_UQ));
  }
  static DETACH_INLINE Reg where_below(Reg x, Reg limit, Reg y, Reg z) {
    return _mm256_blendv_ps(z, y, _mm256_cmp_ps(x, limit, _CMP_LT_OQ));
  }
  static DETACH_INLINE Reg shift_in(Reg p, Reg r) {
    const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(r), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
  }
  static DETACH_INLINE __m256d low(Reg x) { return _mm256_cvtps_pd(_mm256_castps256_ps128(x)); }
  static DETACH_INLINE __m256d high(Reg x) { return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)); }
  static DETACH_INLINE double total(Reg x) { return total(_mm256_add_pd(low(x), high(x))); }
  static DETACH_INLINE void add_to(Reg x, double* sums) {
    _mm256_storeu_pd(sums, _mm256_add_pd(_mm256_loadu_pd(sums), low(x)));
    _mm256_storeu_pd(sums + 4, _mm256_add_pd(_mm256_loadu_pd(sums + 4), high(x)));
  }
  struct Sum {
    __m256d low;
    __m256d high;
  };
  static DETACH_INLINE Sum no_sum() { return {_mm256_setzero_pd(), _mm256_setzero_pd()}; }
  static DETACH_INLINE __m256d four(const Value* p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
  static DETACH_INLINE void add_product(const Value* p, const Value* q, Sum& sum) {
    sum.low = _mm256_fmadd_pd(four(p), four(q), sum.low);
    sum.high = _mm256_fmadd_pd(four(p + 4), four(q + 4), sum.high);
  }
  static DETACH_INLINE void add_square(const Value* p, Sum& sum) {
    const __m256d low_half = four(p);
    const __m256d high_half = four(p + 4);
    sum.low = _mm256_fmadd_pd(low_half, low_half, sum.low);
    sum.high = _mm256_fmadd_pd(high_half, high_half, sum.high);
  }
  static DETACH_INLINE double total(const Sum& sum) {
    return total(_mm256_add_pd(sum.low, sum.high));
  }
  static DETACH_INLINE double total(__m256d four) {
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  }
  static DETACH_INLINE void transpose(const Value* from, std::int64_t stride, Reg f, Value* to,
                                      std::int64_t to_stride) {
    Reg pair[8];
    for (int i = 0; i < 8; i += 2) {
      const Reg even = load(from + (i * stride));
      const Reg odd = load(from + ((i + 1) * stride));
      pair[i] = _mm256_unpacklo_ps(even, odd);
      pair[i + 1] = _mm256_unpackhi_ps(even, odd);
    }
    Reg four[8];
    for (int i = 0; i < 8; i += 4) {
      four[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
      four[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xEE);
      four[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
      four[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xEE);
    }
    for (int i = 0; i < 4; ++i) {
      store(to + (i * to_stride), mul(_mm256_permute2f128_ps(four[i], four[i + 4], 0x20), f));
      store(to + ((i + 4) * to_stride), mul(_mm256_permute2f128_ps(four[i], four[i + 4], 0x31), f));
    }
  }
};

struct Avx2Double {
  using Value = double;
  using Reg = __m256d;
  static constexpr int width = 4;
  static constexpr int vectors = 2;
  static constexpr Value magic = 6755399441055744.0;
  static constexpr Value infinity = std::numeric_limits<Value>::infinity();

  static DETACH_INLINE Reg load(const Value* p) { return _mm256_loadu_pd(p); }
  static DETACH_INLINE void store(Value* p, Reg x) { _mm256_storeu_pd(p, x); }
  static DETACH_INLINE Reg broadcast(Value v) { return _mm256_set1_pd(v); }
  static DETACH_INLINE Reg broadcast_from(const Value* p) { return _mm256_broadcast_sd(p); }
  static DETACH_INLINE Reg add(Reg a, Reg b) { return _mm256_add_pd(a, b); }
  static DETACH_INLINE Reg sub(Reg a, Reg b) { return _mm256_sub_pd(a, b); }
  static DETACH_INLINE Reg mul(Reg a, Reg b) { return _mm256_mul_pd(a, b); }
  static DETACH_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_pd(a, b, c); }
  static DETACH_INLINE void accumulate(Reg& c, Reg a, Reg b) {
    // The intrinsic lets GCC put the sum where `a` was, which costs it moves and spills.
    __asm__("vfmadd231pd %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
  }
  static DETACH_INLINE Reg max(Reg a, Reg b) { return _mm256_max_pd(a, b); }
  static DETACH_INLINE Reg min(Reg a, Reg b) { return _mm256_min_pd(a, b); }
  static DETACH_INLINE Reg where_nonzero(Reg w, Reg x, Reg y) {
    return _mm256_blendv_pd(y, x, _mm256_cmp_pd(w, _mm256_setzero_pd(), _CMP_NEQ_UQ));
  }
  static DETACH_INLINE Reg where_below(Reg x, Reg limit, Reg y, Reg z) {
    return _mm256_blendv_pd(z, y, _mm256_cmp_pd(x, limit, _CMP_LT_OQ));
  }
  static DETACH_INLINE Reg shift_in(Reg p, Reg r) {
    const __m256i exponent = _mm256_slli_epi64(_mm256_castpd_si256(r), 52);
    return _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(p), exponent));
  }
  static DETACH_INLINE double total(Reg x) {
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  }
  static DETACH_INLINE void add_to(Reg x, double* sums) { store(sums, add(load(sums), x)); }
  using Sum = Reg;
  static DETACH_INLINE Sum no_sum() { return _mm256_setzero_pd(); }
  static DETACH_INLINE void add_product(const Value* p, const Value* q, Sum& sum) {
    sum = fma(load(p), load(q), sum);
  }
  static DETACH_INLINE void add_square(const Value* p, Sum& sum) { add_product(p, p, sum); }
  static DETACH_INLINE void transpose(const Value* from, std::int64_t stride, Reg f, Value* to,
                                      std::int64_t to_stride) {
    const Reg a = load(from);
    const Reg b = load(from + stride);
    const Reg c = load(from + (2 * stride));
    const Reg d = load(from + (3 * stride));
    const Reg ab_even = _mm256_unpacklo_pd(a, b);
    const Reg ab_odd = _mm256_unpackhi_pd(a, b);
    const Reg cd_even = _mm256_unpacklo_pd(c, d);
    const Reg cd_odd = _mm256_unpackhi_pd(c, d);
    store(to, mul(_mm256_permute2f128_pd(ab_even, cd_even, 0x20), f));
    store(to + to_stride, mul(_mm256_permute2f128_pd(ab_odd, cd_odd, 0x20), f));
    store(to + (2 * to_stride), mul(_mm256_permute2f128_pd(ab_even, cd_even, 0x31), f));
    store(to + (3 * to_stride), mul(_mm256_permute2f128_pd(ab_odd, cd_odd, 0x31), f));
  }
};

}  // namespace

const ContrastKernels<float>& contrast_avx2_float() {
  static constexpr ContrastKernels<float> table = contrast_table<Avx2Float>();
  return table;
}

const ContrastKernels<double>& contrast_avx2_double() {
  static constexpr ContrastKernels<double> table = contrast_table<Avx2Double>();
  return table;
}

}  // namespace detach
