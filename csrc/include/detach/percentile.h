// Activation percentile: how strongly each sensor channel was active in a window.
//
// The q-quantile along one axis by numpy's rule "linear": with T values in ascending order v and
// rank r = q (T - 1), the result is v[floor r] + (r - floor r) (v[floor r + 1] - v[floor r]).
// Rank, weight and interpolation are in double whatever the values are.
//
//   memory      [outer, length, inner], contiguous; `length` is reduced, the result is
//               [outer, inner]. Windows stored [N, T, C] are (N, T, C): channels lie side by side.
//               Rows [.., T] are (rows, T, 1).
//   any q       in [0, 1]. Where at most 8 values from either end are needed (q = 0.99 up to
//               T = 700), they are kept in registers in one pass that reads at the speed of
//               memory. Up to T = 1024 values are counted in the cache (on a GPU: in registers), at
//               most once for each bit of a value and mostly about 10 times; beyond, quickselect
//               (on a GPU: radix select).
//   types       float32, float64, float16, bfloat16 and int16 are read as they are. Results are
//               rounded once.
//   absolute    takes |x| first, in the same pass.
//   NaN         in a row makes that row's result NaN. Infinities and ties are values as any other;
//               between two equal values the result is that value, also for infinities. Between
//               -inf and +inf it is NaN.
#pragma once

#include <cstdint>
#include <string>

namespace detach {

/// How the values lie in memory: [outer, length, inner], contiguous.
struct PercentileShape {
  std::int64_t outer = 0;
  std::int64_t length = 0;  ///< T, the axis that is reduced, >= 1
  std::int64_t inner = 1;
};

struct PercentileParams {
  double q = 0.99;        ///< in [0, 1]
  bool absolute = false;  ///< of |x| instead of x
};

/// Where the quantile lies among values counted from the nearer end.
///
/// With `mirror` the values are negated first, so that "from the end" always means "largest first".
/// The result is then -(lerp) of the from_end-th and (from_end - 1)-th largest negated values.
struct PercentileRank {
  std::int64_t from_end = 1;  ///< k: the lower of the two values is the k-th largest
  double weight = 0.0;        ///< share of the (k - 1)-th largest; 0 reads one value only
  bool mirror = false;
};

/// Rank of the q-quantile among `length` values; throws std::invalid_argument when length < 1 or q
/// is outside [0, 1] or NaN.
PercentileRank percentile_rank(std::int64_t length, double q);

/// What the values are. The result is of the same type; float32 for int16.
enum class PercentileType : int { float32, float64, float16, bfloat16, int16 };

/// Throws std::invalid_argument for any other name than those above.
PercentileType percentile_type(const std::string& name);

/// Writes the q-quantile over the middle axis of `x` to `out` [outer, inner].
///
/// `threads` >= 1 counts the calling one; the result does not depend on it. Throws
/// std::invalid_argument when a shape or parameter is out of range.
void percentile_cpu(PercentileType type, const void* x, void* out, const PercentileShape& shape,
                    const PercentileParams& params, int threads);

/// Instruction set that percentile_cpu runs with on this machine: "avx2", "neon" or "plain".
const char* percentile_simd();

/// The same on a GPU, in one launch on `stream` (a cudaStream_t) of the current device; does not
/// wait for it. Pointers are device pointers. Throws std::runtime_error when the launch fails.
void percentile_cuda(PercentileType type, const void* x, void* out, const PercentileShape& shape,
                     const PercentileParams& params, void* stream);

}  // namespace detach
