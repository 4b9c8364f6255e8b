// The activation percentile on a GPU: one launch, one read of the values where at most 8 from
// either end are needed.
#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "detach/percentile.h"

namespace detach {
namespace {

constexpr int block_threads = 256;
constexpr int row_lanes = 8;  // threads that read one row: 32 bytes of float at a time
constexpr int warp_lanes = 32;
constexpr unsigned whole_warp = 0xffffffffU;
constexpr std::int64_t max_in_registers = 8;

template <typename T>
struct Problem {
  const T* x;
  T* out;
  std::int64_t results;  // outer x inner
  std::int64_t length;
  std::int64_t inner;
  std::int64_t from_end;
  double weight;
  bool absolute;
  bool mirror;

  /// Address of the first value behind result i; the others are `inner` apart.
  __device__ const T* first(std::int64_t i) const {
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
    out[i] = has_nan ? static_cast<T>(NAN) : static_cast<T>(result);
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
template <typename T, int K>
__global__ void __launch_bounds__(block_threads) percentile_columns(const Problem<T> p) {
  const std::int64_t i = (std::int64_t{blockIdx.x} * block_threads) + threadIdx.x;
  if (i >= p.results) {
    return;
  }
  const T* x = p.first(i);
  Largest<T, K> top;
  bool has_nan = false;
  for (std::int64_t t = 0; t < p.length; ++t, x += p.inner) {
    const T value = *x;
    has_nan |= isnan(value);
    top.insert(p.fold(value));
  }
  p.finish(i, top.value[K - 1], top.value[K > 1 ? K - 2 : 0], has_nan);
}

/// Eight threads a row. All threads of a warp stay for the exchange, also those past the last row.
template <typename T, int K>
__global__ void __launch_bounds__(block_threads) percentile_rows(const Problem<T> p) {
  const std::int64_t thread = (std::int64_t{blockIdx.x} * block_threads) + threadIdx.x;
  const std::int64_t row = thread / row_lanes;
  const int lane = static_cast<int>(threadIdx.x) % row_lanes;
  Largest<T, K> top;
  int has_nan = 0;
  if (row < p.results) {
    const T* const x = p.x + (row * p.length);
    for (std::int64_t t = lane; t < p.length; t += row_lanes) {
      const T value = x[t];
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

/// Unsigned numbers in the order of the values, and back. -0 comes before +0.
struct FloatKey {
  using Key = std::uint32_t;
  static constexpr int bits = 32;
  static __device__ Key of(float value) {
    const Key raw = __float_as_uint(value);
    return (raw >> 31U) != 0 ? ~raw : raw | 0x80000000U;
  }
  static __device__ float value(Key key) {
    return __uint_as_float((key >> 31U) != 0 ? key & 0x7fffffffU : ~key);
  }
};

struct DoubleKey {
  using Key = unsigned long long;
  static constexpr int bits = 64;
  static __device__ Key of(double value) {
    const Key raw = static_cast<Key>(__double_as_longlong(value));
    return (raw >> 63U) != 0 ? ~raw : raw | 0x8000000000000000ULL;
  }
  static __device__ double value(Key key) {
    const Key raw = (key >> 63U) != 0 ? key & 0x7fffffffffffffffULL : ~key;
    return __longlong_as_double(static_cast<long long>(raw));
  }
};

__device__ long long warp_sum(long long value) {
#pragma unroll
  for (int step = warp_lanes / 2; step > 0; step /= 2) {
    value += __shfl_xor_sync(whole_warp, value, step);
  }
  return value;
}

template <typename Key>
__device__ Key warp_min(Key value) {
#pragma unroll
  for (int step = warp_lanes / 2; step > 0; step /= 2) {
    const Key other = __shfl_xor_sync(whole_warp, value, step);
    value = other < value ? other : value;
  }
  return value;
}

/// Any rank: one warp a result finds the key bit by bit, counting the values that share its prefix.
template <typename T, typename Code>
__global__ void __launch_bounds__(block_threads) percentile_select(const Problem<T> p) {
  using Key = typename Code::Key;
  const std::int64_t thread = (std::int64_t{blockIdx.x} * block_threads) + threadIdx.x;
  const std::int64_t i = thread / warp_lanes;
  const int lane = static_cast<int>(threadIdx.x) % warp_lanes;
  if (i >= p.results) {
    return;  // the whole warp
  }
  const T* const x = p.first(i);
  Key prefix = 0;
  Key known = 0;
  long long rank = p.from_end;  // among the values that share the prefix, largest first
  for (int bit = Code::bits - 1; bit >= 0; --bit) {
    const Key one = Key{1} << bit;
    long long count = 0;
    for (std::int64_t t = lane; t < p.length; t += warp_lanes) {
      const Key key = Code::of(p.fold(x[t * p.inner]));
      count += (key & known) == prefix && (key & one) != 0 ? 1 : 0;
    }
    count = warp_sum(count);
    known |= one;
    if (count >= rank) {
      prefix |= one;
    } else {
      rank -= count;
    }
  }
  Key next = ~Key{0};
  long long nans = 0;
  for (std::int64_t t = lane; t < p.length; t += warp_lanes) {
    const T value = x[t * p.inner];
    nans += isnan(value) ? 1 : 0;
    const Key key = Code::of(p.fold(value));
    next = key > prefix && key < next ? key : next;
  }
  next = warp_min(next);
  nans = warp_sum(nans);
  if (lane == 0) {
    const Key above = rank > 1 || p.from_end == 1 ? prefix : next;
    p.finish(i, Code::value(prefix), Code::value(above), nans > 0);
  }
}

template <typename T, typename Code>
struct Launch {
  using Kernel = void (*)(Problem<T>);

  template <int K = 1>
  static Kernel registers(std::int64_t from_end, bool rows) {
    if constexpr (K < max_in_registers) {
      if (from_end > K) {
        return registers<K + 1>(from_end, rows);
      }
    }
    return rows ? percentile_rows<T, K> : percentile_columns<T, K>;
  }

  static void run(const Problem<T>& p, cudaStream_t stream) {
    const bool few = p.from_end <= max_in_registers;
    const bool rows = p.inner == 1;
    const Kernel kernel = few ? registers(p.from_end, rows) : percentile_select<T, Code>;
    const int lanes = few ? (rows ? row_lanes : 1) : warp_lanes;
    const std::int64_t results_a_block = block_threads / lanes;
    const std::int64_t blocks = (p.results + results_a_block - 1) / results_a_block;
    if (blocks > 0x7fffffff) {
      throw std::invalid_argument("shape has more results than one launch can hold");
    }
    kernel<<<static_cast<unsigned>(blocks), block_threads, 0, stream>>>(p);
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) {
      throw std::runtime_error(std::string("percentile kernel: ") + cudaGetErrorString(error));
    }
  }
};

template <typename T, typename Code>
void percentile(const T* x, T* out, const PercentileShape& shape, const PercentileParams& params,
                void* stream) {
  const PercentileRank rank = percentile_rank(shape.length, params.q);
  const std::int64_t results = shape.outer * shape.inner;
  if (results == 0) {
    return;
  }
  const Problem<T> problem{x,           out,           results,     shape.length,
                           shape.inner, rank.from_end, rank.weight, params.absolute,
                           rank.mirror};
  Launch<T, Code>::run(problem, static_cast<cudaStream_t>(stream));
}

}  // namespace

void percentile_cuda(const float* x, float* out, const PercentileShape& shape,
                     const PercentileParams& params, void* stream) {
  percentile<float, FloatKey>(x, out, shape, params, stream);
}

void percentile_cuda(const double* x, double* out, const PercentileShape& shape,
                     const PercentileParams& params, void* stream) {
  percentile<double, DoubleKey>(x, out, shape, params, stream);
}

}  // namespace detach
