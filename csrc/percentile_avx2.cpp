// The percentile's inner loops for AVX2. This file alone is compiled with -mavx2 -mfma -mf16c; it
// is called only where the machine has all three.
#include <immintrin.h>

#include <cstdint>
#include <type_traits>

#include "percentile_block.h"
#include "percentile_count.h"
#include "percentile_lanes.h"

namespace detach {
namespace {

DETACH_INLINE __m128i load_16_bytes(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}

struct Avx2Float : Lanes<float, 32> {
  using Lanes::load;
  static DETACH_INLINE Reg load(const Half* p) { return _mm256_cvtph_ps(load_16_bytes(p)); }
  static DETACH_INLINE Reg load(const Bfloat16* p) {
    return Reg(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_16_bytes(p)), 16));
  }
  static DETACH_INLINE Reg load(const std::int16_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(load_16_bytes(p)));
  }
  static DETACH_INLINE Mask unordered(Reg a, Reg b) {
    return Mask(_mm256_cmp_ps(a, b, _CMP_UNORD_Q));
  }
  static DETACH_INLINE bool any(Mask mask) { return _mm256_movemask_ps(Reg(mask)) != 0; }

  static DETACH_INLINE void transpose(Reg (&x)[8]) {
    Reg pairs[8];
    for (int i = 0; i < 8; i += 2) {
      pairs[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
      pairs[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
    }
    Reg fours[8];
    for (int i = 0; i < 8; i += 4) {
      for (int j = 0; j < 2; ++j) {
        fours[i + (2 * j)] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0x44);
        fours[i + (2 * j) + 1] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0xEE);
      }
    }
    for (int i = 0; i < 4; ++i) {
      x[i] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20);
      x[i + 4] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31);
    }
  }
};

struct Avx2Double : Lanes<double, 32> {
  static DETACH_INLINE Mask unordered(Reg a, Reg b) {
    return Mask(_mm256_cmp_pd(a, b, _CMP_UNORD_Q));
  }
  static DETACH_INLINE bool any(Mask mask) { return _mm256_movemask_pd(Reg(mask)) != 0; }

  static DETACH_INLINE void transpose(Reg (&x)[4]) {
    const Reg a = _mm256_unpacklo_pd(x[0], x[1]);
    const Reg b = _mm256_unpackhi_pd(x[0], x[1]);
    const Reg c = _mm256_unpacklo_pd(x[2], x[3]);
    const Reg d = _mm256_unpackhi_pd(x[2], x[3]);
    x[0] = _mm256_permute2f128_pd(a, c, 0x20);
    x[1] = _mm256_permute2f128_pd(b, d, 0x20);
    x[2] = _mm256_permute2f128_pd(a, c, 0x31);
    x[3] = _mm256_permute2f128_pd(b, d, 0x31);
  }
};

template <typename In>
using Avx2 = std::conditional_t<std::is_same_v<In, double>, Avx2Double, Avx2Float>;

}  // namespace

template <typename In>
void percentile_block_avx2(const PercentileBlock<In>& in, typename Element<In>::Result* out) {
  percentile_block<Avx2<In>>(in, out);
}

template void percentile_block_avx2(const PercentileBlock<float>&, float*);
template void percentile_block_avx2(const PercentileBlock<double>&, double*);
template void percentile_block_avx2(const PercentileBlock<Half>&, Half*);
template void percentile_block_avx2(const PercentileBlock<Bfloat16>&, Bfloat16*);
template void percentile_block_avx2(const PercentileBlock<std::int16_t>&, float*);

}  // namespace detach
