// The percentile's inner loop for AVX2. This file alone is compiled with -mavx2 -mfma; it is called
// only where the machine has both.
#include <immintrin.h>

#include <cstdint>

#include "percentile_lanes.h"

namespace detach {
namespace {

alignas(64) constexpr std::int32_t lane_numbers[8] = {0, 1, 2, 3, 4, 5, 6, 7};

struct Avx2Float {
  using Value = float;
  using Reg = __m256;
  static constexpr int width = 8;

  struct Fold {
    DETACH_INLINE Fold(bool absolute, bool mirror)
        : keep(_mm256_castsi256_ps(_mm256_set1_epi32(absolute ? 0x7fffffff : -1))),
          flip(_mm256_set1_ps(mirror ? -0.0F : 0.0F)) {}
    Reg keep;
    Reg flip;
  };

  static DETACH_INLINE __m256i below(std::int64_t n) {
    const __m256i lane = _mm256_load_si256(reinterpret_cast<const __m256i*>(lane_numbers));
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<std::int32_t>(n)), lane);
  }
  static DETACH_INLINE Reg broadcast(Value v) { return _mm256_set1_ps(v); }
  static DETACH_INLINE Reg load(const Value* p) { return _mm256_loadu_ps(p); }
  static DETACH_INLINE Reg load_part(const Value* p, std::int64_t n) {
    return _mm256_maskload_ps(p, below(n));
  }
  static DETACH_INLINE void store(Value* p, Reg x) { _mm256_storeu_ps(p, x); }
  static DETACH_INLINE Reg max(Reg a, Reg b) { return _mm256_max_ps(a, b); }
  static DETACH_INLINE Reg min(Reg a, Reg b) { return _mm256_min_ps(a, b); }
  static DETACH_INLINE Reg fill(Reg x, std::int64_t n, Value v) {
    return _mm256_blendv_ps(broadcast(v), x, _mm256_castsi256_ps(below(n)));
  }
  static DETACH_INLINE Reg unordered(Reg a, Reg b) { return _mm256_cmp_ps(a, b, _CMP_UNORD_Q); }
  static DETACH_INLINE Reg either(Reg a, Reg b) { return _mm256_or_ps(a, b); }
  static DETACH_INLINE bool any(Reg mask) { return _mm256_movemask_ps(mask) != 0; }
  static DETACH_INLINE Reg fold(Reg x, const Fold& f) {
    return _mm256_xor_ps(_mm256_and_ps(x, f.keep), f.flip);
  }
  template <int Step>
  static DETACH_INLINE Reg swap(Reg x) {
    if constexpr (Step == 4) {
      return _mm256_permute2f128_ps(x, x, 1);
    } else {
      return _mm256_permute_ps(x, Step == 2 ? 0x4E : 0xB1);
    }
  }
  static DETACH_INLINE Value first(Reg x) { return _mm256_cvtss_f32(x); }
};

struct Avx2Double {
  using Value = double;
  using Reg = __m256d;
  static constexpr int width = 4;

  struct Fold {
    DETACH_INLINE Fold(bool absolute, bool mirror)
        : keep(_mm256_castsi256_pd(_mm256_set1_epi64x(absolute ? 0x7fffffffffffffff : -1))),
          flip(_mm256_set1_pd(mirror ? -0.0 : 0.0)) {}
    Reg keep;
    Reg flip;
  };

  static DETACH_INLINE __m256i below(std::int64_t n) {
    const __m128i lane = _mm_load_si128(reinterpret_cast<const __m128i*>(lane_numbers));
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_cvtepi32_epi64(lane));
  }
  static DETACH_INLINE Reg broadcast(Value v) { return _mm256_set1_pd(v); }
  static DETACH_INLINE Reg load(const Value* p) { return _mm256_loadu_pd(p); }
  static DETACH_INLINE Reg load_part(const Value* p, std::int64_t n) {
    return _mm256_maskload_pd(p, below(n));
  }
  static DETACH_INLINE void store(Value* p, Reg x) { _mm256_storeu_pd(p, x); }
  static DETACH_INLINE Reg max(Reg a, Reg b) { return _mm256_max_pd(a, b); }
  static DETACH_INLINE Reg min(Reg a, Reg b) { return _mm256_min_pd(a, b); }
  static DETACH_INLINE Reg fill(Reg x, std::int64_t n, Value v) {
    return _mm256_blendv_pd(broadcast(v), x, _mm256_castsi256_pd(below(n)));
  }
  static DETACH_INLINE Reg unordered(Reg a, Reg b) { return _mm256_cmp_pd(a, b, _CMP_UNORD_Q); }
  static DETACH_INLINE Reg either(Reg a, Reg b) { return _mm256_or_pd(a, b); }
  static DETACH_INLINE bool any(Reg mask) { return _mm256_movemask_pd(mask) != 0; }
  static DETACH_INLINE Reg fold(Reg x, const Fold& f) {
    return _mm256_xor_pd(_mm256_and_pd(x, f.keep), f.flip);
  }
  template <int Step>
  static DETACH_INLINE Reg swap(Reg x) {
    if constexpr (Step == 2) {
      return _mm256_permute2f128_pd(x, x, 1);
    } else {
      return _mm256_permute_pd(x, 0b0101);
    }
  }
  static DETACH_INLINE Value first(Reg x) { return _mm256_cvtsd_f64(x); }
};

}  // namespace

void largest_avx2(const PercentileBlock<float>& in, std::int64_t from_end, bool columns,
                  const PercentilePair<float>& out) {
  largest<Avx2Float>(in, from_end, columns, out);
}

void largest_avx2(const PercentileBlock<double>& in, std::int64_t from_end, bool columns,
                  const PercentilePair<double>& out) {
  largest<Avx2Double>(in, from_end, columns, out);
}

}  // namespace detach
