// The contrastive loss' inner loops for 64-bit ARM, where every processor has NEON with doubles.
#include <arm_neon.h>

#include <cstdint>
#include <limits>

#include "contrast_kernels.h"
#include "contrast_table.h"

namespace detach {
namespace {

// 6 x 4 accumulators of 32 registers. max and min are comparisons, because the instructions of that
// name return NaN where either argument is NaN, not the second one.
struct NeonFloat {
  using Value = float;
  using Reg = float32x4_t;
  static constexpr int width = 4;
  static constexpr int vectors = 4;
  static constexpr Value magic = 12582912.0F;
  static constexpr Value infinity = std::numeric_limits<Value>::infinity();

  static DETACH_INLINE Reg load(const Value* p) { return vld1q_f32(p); }
  static DETACH_INLINE void store(Value* p, Reg x) { vst1q_f32(p, x); }
  static DETACH_INLINE Reg broadcast(Value v) { return vdupq_n_f32(v); }
  static DETACH_INLINE Reg broadcast_from(const Value* p) { return vld1q_dup_f32(p); }
  static DETACH_INLINE Reg add(Reg a, Reg b) { return vaddq_f32(a, b); }
  static DETACH_INLINE Reg sub(Reg a, Reg b) { return vsubq_f32(a, b); }
  static DETACH_INLINE Reg mul(Reg a, Reg b) { return vmulq_f32(a, b); }
  static DETACH_INLINE Reg fma(Reg a, Reg b, Reg c) { return vfmaq_f32(c, a, b); }
  static DETACH_INLINE void accumulate(Reg& c, Reg a, Reg b) { c = vfmaq_f32(c, a, b); }
  static DETACH_INLINE Reg max(Reg a, Reg b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  static DETACH_INLINE Reg min(Reg a, Reg b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
  static DETACH_INLINE Reg where_nonzero(Reg w, Reg x, Reg y) {
    return vbslq_f32(vceqq_f32(w, vdupq_n_f32(0)), y, x);
  }
  static DETACH_INLINE Reg where_below(Reg x, Reg limit, Reg y, Reg z) {
    return vbslq_f32(vcltq_f32(x, limit), y, z);
  }
  static DETACH_INLINE Reg shift_in(Reg p, Reg r) {
    const int32x4_t exponent = vshlq_n_s32(vreinterpretq_s32_f32(r), 23);
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), exponent));
  }
  static DETACH_INLINE float64x2_t low(Reg x) { return vcvt_f64_f32(vget_low_f32(x)); }
  static DETACH_INLINE float64x2_t high(Reg x) { return vcvt_high_f64_f32(x); }
  static DETACH_INLINE double total(Reg x) { return vaddvq_f64(vaddq_f64(low(x), high(x))); }
  static DETACH_INLINE void add_to(Reg x, double* sums) {
    vst1q_f64(sums, vaddq_f64(vld1q_f64(sums), low(x)));
    vst1q_f64(sums + 2, vaddq_f64(vld1q_f64(sums + 2), high(x)));
  }
  struct Sum {
    float64x2_t low;
    float64x2_t high;
  };
  static DETACH_INLINE Sum no_sum() { return {vdupq_n_f64(0), vdupq_n_f64(0)}; }
  static DETACH_INLINE void add_product(const Value* p, const Value* q, Sum& sum) {
    const Reg a = load(p);
    const Reg b = load(q);
    sum.low = vfmaq_f64(sum.low, low(a), low(b));
    sum.high = vfmaq_f64(sum.high, high(a), high(b));
  }
  static DETACH_INLINE void add_square(const Value* p, Sum& sum) { add_product(p, p, sum); }
  static DETACH_INLINE double total(const Sum& sum) {
    return vaddvq_f64(vaddq_f64(sum.low, sum.high));
  }
  static DETACH_INLINE void transpose(const Value* from, std::int64_t stride, Reg f, Value* to,
                                      std::int64_t to_stride) {
    const float32x4x2_t ab = vtrnq_f32(load(from), load(from + stride));
    const float32x4x2_t cd = vtrnq_f32(load(from + (2 * stride)), load(from + (3 * stride)));
    for (int i = 0; i < 2; ++i) {
      const Reg first = vcombine_f32(vget_low_f32(ab.val[i]), vget_low_f32(cd.val[i]));
      const Reg second = vcombine_f32(vget_high_f32(ab.val[i]), vget_high_f32(cd.val[i]));
      store(to + (i * to_stride), mul(first, f));
      store(to + ((i + 2) * to_stride), mul(second, f));
    }
  }
};

struct NeonDouble {
  using Value = double;
  using Reg = float64x2_t;
  static constexpr int width = 2;
  static constexpr int vectors = 4;
  static constexpr Value magic = 6755399441055744.0;
  static constexpr Value infinity = std::numeric_limits<Value>::infinity();

  static DETACH_INLINE Reg load(const Value* p) { return vld1q_f64(p); }
  static DETACH_INLINE void store(Value* p, Reg x) { vst1q_f64(p, x); }
  static DETACH_INLINE Reg broadcast(Value v) { return vdupq_n_f64(v); }
  static DETACH_INLINE Reg broadcast_from(const Value* p) { return vld1q_dup_f64(p); }
  static DETACH_INLINE Reg add(Reg a, Reg b) { return vaddq_f64(a, b); }
  static DETACH_INLINE Reg sub(Reg a, Reg b) { return vsubq_f64(a, b); }
  static DETACH_INLINE Reg mul(Reg a, Reg b) { return vmulq_f64(a, b); }
  static DETACH_INLINE Reg fma(Reg a, Reg b, Reg c) { return vfmaq_f64(c, a, b); }
  static DETACH_INLINE void accumulate(Reg& c, Reg a, Reg b) { c = vfmaq_f64(c, a, b); }
  static DETACH_INLINE Reg max(Reg a, Reg b) { return vbslq_f64(vcgtq_f64(a, b), a, b); }
  static DETACH_INLINE Reg min(Reg a, Reg b) { return vbslq_f64(vcltq_f64(a, b), a, b); }
  static DETACH_INLINE Reg where_nonzero(Reg w, Reg x, Reg y) {
    return vbslq_f64(vceqq_f64(w, vdupq_n_f64(0)), y, x);
  }
  static DETACH_INLINE Reg where_below(Reg x, Reg limit, Reg y, Reg z) {
    return vbslq_f64(vcltq_f64(x, limit), y, z);
  }
  static DETACH_INLINE Reg shift_in(Reg p, Reg r) {
    const int64x2_t exponent = vshlq_n_s64(vreinterpretq_s64_f64(r), 52);
    return vreinterpretq_f64_s64(vaddq_s64(vreinterpretq_s64_f64(p), exponent));
  }
  using Sum = Reg;
  static DETACH_INLINE double total(Reg x) { return vaddvq_f64(x); }
  static DETACH_INLINE void add_to(Reg x, double* sums) { store(sums, add(load(sums), x)); }
  static DETACH_INLINE Sum no_sum() { return vdupq_n_f64(0); }
  static DETACH_INLINE void add_product(const Value* p, const Value* q, Sum& sum) {
    sum = fma(load(p), load(q), sum);
  }
  static DETACH_INLINE void add_square(const Value* p, Sum& sum) { add_product(p, p, sum); }
  static DETACH_INLINE void transpose(const Value* from, std::int64_t stride, Reg f, Value* to,
                                      std::int64_t to_stride) {
    const Reg a = load(from);
    const Reg b = load(from + stride);
    store(to, mul(vtrn1q_f64(a, b), f));
    store(to + to_stride, mul(vtrn2q_f64(a, b), f));
  }
};

}  // namespace

const ContrastKernels<float>& contrast_neon_float() {
  static constexpr ContrastKernels<float> table = contrast_table<NeonFloat>();
  return table;
}

const ContrastKernels<double>& contrast_neon_double() {
  static constexpr ContrastKernels<double> table = contrast_table<NeonDouble>();
  return table;
}

}  // namespace detach
