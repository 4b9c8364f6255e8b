// The activation percentile on a GPU: one launch, and one read of the values where at most 8 from
// either end are needed or a row has at most 1024.
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "detach/percentile.h"
#include "percentile_elements.h"

namespace detach {
namespace {

constexpr int block_threads = 256;
constexpr int row_lanes = 8;  // threads that read one row: 32 bytes of float at a time
constexpr int warp_lanes = 32;
constexpr unsigned whole_warp = 0xffffffffU;
constexpr std::int64_t max_in_registers = 8;

template <typename In>
struct Problem {
  using T = typename Element<In>::Value;
  const In* x;
  typename Element<In>::Result* out;
  std::int64_t results;  // outer x inner
  std::int64_t length;
  std::int64_t inner;
  std::int64_t from_end;
  double weight;
  bool absolute;
  bool mirror;

  /// Address of the first value behind result i; the others are `inner` apart.
  __device__ const In* first(std::int64_t i) const {
    return inner == 1 ? x + (i * length) : x + (i / inner * inner * length) + (i % inner);
  }
  __device__ T fold(T value) const {
    value = absolute ? fabs(value) : value;
    return mirror ? -value : value;
  }
  __device__ void finish(std::int64_t i, T kth, T above, bool has_nan) const {
    const double low = kth;
    const double high = weight > 0 ? above : kth;
    const double between = ((1.0 - weight) * low) + (weight * high);
    const double result = (mirror ? -1.0 : 1.0) * (low == high ? low : between);
    store_value(out + i, has_nan ? static_cast<double>(NAN) : result);
  }
};

template <typename T, int K>
struct Largest {
  __device__ Largest() {
#pragma unroll
    for (int i = 0; i < K; ++i) {
      value[i] = -static_cast<T>(INFINITY);
    }
  }

  __device__ void insert(T x, int from = 0) {
#pragma unroll
    for (int i = 0; i < K; ++i) {
      if (i >= from) {
        const T larger = value[i] > x ? value[i] : x;
        x = value[i] > x ? x : value[i];
        value[i] = larger;
      }
    }
  }

  /// Joins the sets of the lanes that differ by `step`; each then has the K largest of both.
  __device__ void merge(int step) {
    T other[K];
#pragma unroll
    for (int j = 0; j < K; ++j) {
      other[j] = __shfl_xor_sync(whole_warp, value[j], step);
    }
#pragma unroll
    for (int j = 0; j < K; ++j) {
      insert(other[j], j);
    }
  }

  T value[K];
};

/// One thread a column: neighbouring threads read neighbouring channels.
template <typename In, int K>
__global__ void __launch_bounds__(block_threads) percentile_columns(const Problem<In> p) {
  using T = typename Element<In>::Value;
  const std::int64_t i = (std::int64_t{blockIdx.x} * block_threads) + threadIdx.x;
  if (i >= p.results) {
    return;
  }
  const In* x = p.first(i);
  Largest<T, K> top;
  bool has_nan = false;
  for (std::int64_t t = 0; t < p.length; ++t, x += p.inner) {
    const T value = value_of(*x);
    has_nan |= isnan(value);
    top.insert(p.fold(value));
  }
  p.finish(i, top.value[K - 1], top.value[K > 1 ? K - 2 : 0], has_nan);
}

/// Eight threads a row. All threads of a warp stay for the exchange, also those past the last row.
template <typename In, int K>
__global__ void __launch_bounds__(block_threads) percentile_rows(const Problem<In> p) {
  using T = typename Element<In>::Value;
  const std::int64_t thread = (std::int64_t{blockIdx.x} * block_threads) + threadIdx.x;
  const std::int64_t row = thread / row_lanes;
  const int lane = static_cast<int>(threadIdx.x) % row_lanes;
  Largest<T, K> top;
  int has_nan = 0;
  if (row < p.results) {
    const In* const x = p.x + (row * p.length);
    for (std::int64_t t = lane; t < p.length; t += row_lanes) {
      const T value = value_of(x[t]);
      has_nan |= isnan(value) ? 1 : 0;
      top.insert(p.fold(value));
    }
  }
#pragma unroll
  for (int step = row_lanes / 2; step > 0; step /= 2) {
    has_nan |= __shfl_xor_sync(whole_warp, has_nan, step);
    top.merge(step);
  }
  if (row < p.results && lane == 0) {
    p.finish(row, top.value[K - 1], top.value[K > 1 ? K - 2 : 0], has_nan != 0);
  }
}

/// Unsigned numbers in the order of the values, and back. -0 comes before +0; no number has key 0.
template <typename T>
struct Order;
template <>
struct Order<float> {
  using Key = std::uint32_t;
};
template <>
struct Order<double> {
  using Key = std::uint64_t;
};
template <typename T>
using Key = typename Order<T>::Key;

template <typename T>
constexpr int key_bits = 8 * sizeof(T);

template <typename T>
__device__ Key<T> key_of(T value) {
  constexpr Key<T> sign = Key<T>{1} << (key_bits<T> - 1);
  const auto raw = same_bits<Key<T>>(value);
  return (raw & sign) != 0 ? ~raw : raw | sign;
}

template <typename T>
__device__ T value_of_key(Key<T> key) {
  constexpr Key<T> sign = Key<T>{1} << (key_bits<T> - 1);
  return same_bits<T>((key & sign) != 0 ? key ^ sign : ~key);
}

__device__ int warp_sum(int value) {
#pragma unroll
  for (int step = warp_lanes / 2; step > 0; step /= 2) {
    value += __shfl_xor_sync(whole_warp, value, step);
  }
  return value;
}

template <typename Number>
__device__ Number warp_min(Number value) {
#pragma unroll
  for (int step = warp_lanes / 2; step > 0; step /= 2) {
    const Number other = __shfl_xor_sync(whole_warp, value, step);
    value = other < value ? other : value;
  }
  return value;
}

/// Any rank among at most 32 P values: one warp a result keeps their keys in registers and finds
/// the k-th largest bit by bit, counting how many are not below; it ends early where exactly k are.
template <typename In, int P>
__global__ void __launch_bounds__(block_threads) percentile_count(const Problem<In> p) {
  using T = typename Element<In>::Value;
  const std::int64_t thread = (std::int64_t{blockIdx.x} * block_threads) + threadIdx.x;
  const std::int64_t i = thread / warp_lanes;
  const int lane = static_cast<int>(threadIdx.x) % warp_lanes;
  if (i >= p.results) {
    return;  // the whole warp
  }
  const In* const x = p.first(i);
  const int from_end = static_cast<int>(p.from_end);
  Key<T> keys[P];
  int nans = 0;
#pragma unroll
  for (int j = 0; j < P; ++j) {
    const std::int64_t t = (j * warp_lanes) + lane;
    keys[j] = 0;  // below all numbers
    if (t < p.length) {
      const T value = value_of(x[t * p.inner]);
      nans |= isnan(value) ? 1 : 0;
      keys[j] = key_of<T>(p.fold(value));
    }
  }
  Key<T> low = 0;
  for (Key<T> bit = Key<T>{1} << (key_bits<T> - 1); bit != 0; bit >>= 1) {
    int count = 0;
#pragma unroll
    for (int j = 0; j < P; ++j) {
      count += keys[j] >= (low | bit) ? 1 : 0;
    }
    count = warp_sum(count);
    low |= count >= from_end ? bit : 0;
    if (count == from_end) {
      break;
    }
  }
  Key<T> kth = ~Key<T>{0};
#pragma unroll
  for (int j = 0; j < P; ++j) {
    kth = keys[j] >= low && keys[j] < kth ? keys[j] : kth;
  }
  kth = warp_min(kth);
  Key<T> above = ~Key<T>{0};
  int larger = 0;
#pragma unroll
  for (int j = 0; j < P; ++j) {
    larger += keys[j] > kth ? 1 : 0;
    above = keys[j] > kth && keys[j] < above ? keys[j] : above;
  }
  above = warp_min(above);
  larger = warp_sum(larger);
  nans = warp_sum(nans);
  if (lane == 0) {
    above = larger >= from_end - 1 ? above : kth;
    p.finish(i, value_of_key<T>(kth), value_of_key<T>(above), nans > 0);
  }
}

/// Any rank among any number of values: one block a result finds the key of the k-th largest eight
/// bits at a time, from a histogram of the values that share the bits found so far.
template <typename In>
__global__ void __launch_bounds__(block_threads) percentile_radix(const Problem<In> p) {
  using T = typename Element<In>::Value;
  constexpr int digits = 256;  // also the threads of a block: one clears and reads one count
  static_assert(digits == block_threads, "a digit a thread");
  __shared__ unsigned counts[digits];
  __shared__ unsigned digit_found;
  __shared__ unsigned rank_left;
  __shared__ Key<T> next[block_threads / warp_lanes];
  const std::int64_t i = blockIdx.x;
  const int me = static_cast<int>(threadIdx.x);
  const In* const x = p.first(i);
  Key<T> prefix = 0;
  unsigned rank = static_cast<unsigned>(p.from_end);  // among those with the prefix, largest first
  int nans = 0;
  for (int shift = key_bits<T> - 8; shift >= 0; shift -= 8) {
    counts[me] = 0;
    __syncthreads();
    const Key<T> known = shift == key_bits<T> - 8 ? Key<T>{0} : ~Key<T>{0} << (shift + 8);
    for (std::int64_t t = me; t < p.length; t += block_threads) {
      const T value = value_of(x[t * p.inner]);
      const Key<T> key = key_of<T>(p.fold(value));
      nans |= isnan(value) ? 1 : 0;
      if ((key & known) == prefix) {
        atomicAdd(&counts[(key >> shift) % digits], 1U);
      }
    }
    __syncthreads();
    unsigned larger = 0;
    for (int digit = me + 1; digit < digits; ++digit) {
      larger += counts[digit];
    }
    if (larger < rank && rank <= larger + counts[me]) {  // of one thread only
      digit_found = static_cast<unsigned>(me);
      rank_left = rank - larger;
    }
    __syncthreads();
    prefix |= Key<T>{digit_found} << shift;
    rank = rank_left;
  }
  Key<T> above = ~Key<T>{0};
  for (std::int64_t t = me; t < p.length; t += block_threads) {
    const Key<T> key = key_of<T>(p.fold(value_of(x[t * p.inner])));
    above = key > prefix && key < above ? key : above;
  }
  above = warp_min(above);
  if (me % warp_lanes == 0) {
    next[me / warp_lanes] = above;
  }
  nans = __syncthreads_or(nans);
  if (me == 0) {
    for (const Key<T> other : next) {
      above = other < above ? other : above;
    }
    above = rank > 1 ? prefix : above;
    p.finish(i, value_of_key<T>(prefix), value_of_key<T>(above), nans != 0);
  }
}

template <typename In>
struct Launch {
  using Kernel = void (*)(Problem<In>);
  Kernel kernel;
  int threads_a_result;

  template <int K = 1>
  static Kernel registers(std::int64_t from_end, bool rows) {
    if constexpr (K < max_in_registers) {
      if (from_end > K) {
        return registers<K + 1>(from_end, rows);
      }
    }
    return rows ? percentile_rows<In, K> : percentile_columns<In, K>;
  }

  static Launch for_problem(const Problem<In>& p) {
    if (p.from_end <= max_in_registers) {
      return {registers(p.from_end, p.inner == 1), p.inner == 1 ? row_lanes : 1};
    }
    if (p.length <= 2 * warp_lanes) {
      return {percentile_count<In, 2>, warp_lanes};
    }
    if (p.length <= 8 * warp_lanes) {
      return {percentile_count<In, 8>, warp_lanes};
    }
    if (p.length <= 32 * warp_lanes) {
      return {percentile_count<In, 32>, warp_lanes};
    }
    return {percentile_radix<In>, block_threads};
  }
};

template <typename In>
void percentile(const void* x, void* out, const PercentileShape& shape,
                const PercentileParams& params, cudaStream_t stream) {
  const PercentileRank rank = percentile_rank(shape.length, params.q);
  const std::int64_t results = shape.outer * shape.inner;
  if (results == 0) {
    return;
  }
  const Problem<In> problem{static_cast<const In*>(x),
                            static_cast<typename Element<In>::Result*>(out),
                            results,
                            shape.length,
                            shape.inner,
                            rank.from_end,
                            rank.weight,
                            params.absolute,
                            rank.mirror};
  const Launch<In> launch = Launch<In>::for_problem(problem);
  const std::int64_t results_a_block = block_threads / launch.threads_a_result;
  const std::int64_t blocks = (results + results_a_block - 1) / results_a_block;
  if (blocks > 0x7fffffff || shape.length > 0xffffffff) {
    throw std::invalid_argument("shape is more than one launch can hold");
  }
  launch.kernel<<<static_cast<unsigned>(blocks), block_threads, 0, stream>>>(problem);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string("percentile kernel: ") + cudaGetErrorString(error));
  }
}

}  // namespace

void percentile_cuda(PercentileType type, const void* x, void* out, const PercentileShape& shape,
                     const PercentileParams& params, void* stream) {
  const auto queue = static_cast<cudaStream_t>(stream);
  switch (type) {
    case PercentileType::float32:
      return percentile<float>(x, out, shape, params, queue);
    case PercentileType::float64:
      return percentile<double>(x, out, shape, params, queue);
    case PercentileType::float16:
      return percentile<Half>(x, out, shape, params, queue);
    case PercentileType::bfloat16:
      return percentile<Bfloat16>(x, out, shape, params, queue);
    case PercentileType::int16:
      return percentile<std::int16_t>(x, out, shape, params, queue);
  }
}

}  // namespace detach
