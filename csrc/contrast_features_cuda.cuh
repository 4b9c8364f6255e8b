// Kernels on rows of features, a warp a window: lengths, packing and positive logits before the
// pairs; the diagonal and the way back through the normalisation after the products.
#pragma once

#include "contrast_fragments_cuda.cuh"

namespace detach::cuda {

constexpr int row_threads = 256;
constexpr int rows_a_block = row_threads / warp_lanes;
constexpr float smallest_length = 1e-12F;  // as torch.nn.functional.normalize

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int step = warp_lanes / 2; step > 0; step /= 2) {
    x += __shfl_xor_sync(whole_warp, x, step);
  }
  return x;
}

/// Where the parts of a window are, and what makes an embedding of them: z = x * factor.
struct FeatureRows {
  const void* video[3];  ///< spatial, temporal, momentum; null where there is none
  const void* sensor[3];
  int width[3];
  int padded[3];  ///< numbers in whole slabs
  std::int64_t rows;
  bool normalize;
  double per_temperature;
  float* video_factor[2];  ///< spatial, temporal
  float* sensor_factor[2];
};

struct PrepareProblem {
  FeatureRows features;
  char* packed;
  std::int64_t row_bytes;
  std::int64_t packed_rows;
  float* cosine_video;
  float* cosine_sensor;
  double* positive;     ///< s_ii
  float* video_length;  ///< of the embeddings, for the range; null where it is known
  float* sensor_length;
};

template <class P>
__device__ __forceinline__ float feature(const void* part, std::int64_t row, int width,
                                         int column) {
  return P::widen(static_cast<const typename P::Number*>(part)[(row * width) + column]);
}

/// Squared lengths of a part's two rows, and their product.
struct PartSums {
  float video = 0.0F;
  float sensor = 0.0F;
  float both = 0.0F;
};

template <class P>
__device__ __forceinline__ PartSums part_sums(const FeatureRows& f, int part, std::int64_t row,
                                              int lane) {
  PartSums s;
  if (f.video[part] != nullptr && row < f.rows) {
#pragma unroll 4
    for (int column = lane; column < f.width[part]; column += warp_lanes) {
      const float v = feature<P>(f.video[part], row, f.width[part], column);
      const float x = feature<P>(f.sensor[part], row, f.width[part], column);
      s.video += v * v;
      s.sensor += x * x;
      s.both += v * x;
    }
  }
  return {warp_sum(s.video), warp_sum(s.sensor), warp_sum(s.both)};
}

/// Factors of both halves of one modality, and what turns a product of packed spatial halves into a
/// cosine.
struct RowFactors {
  float half[2];
  float cosine;

  __device__ __forceinline__ RowFactors(float spatial, float temporal, bool normalize) {
    const float unit_spatial = 1.0F / fmaxf(sqrtf(spatial), smallest_length);
    const float unit_temporal = 1.0F / fmaxf(sqrtf(temporal), smallest_length);
    if (!normalize) {
      half[0] = half[1] = 1.0F;
      cosine = unit_spatial;
      return;
    }
    const float length =
        sqrtf((spatial * unit_spatial * unit_spatial) + (temporal * unit_temporal * unit_temporal));
    // A NaN becomes 2, which no length is: the other half stays finite, and its cosines right.
    const float whole = fmaxf(fminf(length, 2.0F), smallest_length);
    half[0] = unit_spatial / whole;
    half[1] = unit_temporal / whole;
    cosine = whole;
  }
};

/// Writes row `row` of a part, times `factor`, to `to`; zeros behind its width and past the last
/// row.
template <class P>
__device__ __forceinline__ void pack_row(typename P::Number* to, const FeatureRows& f, int part,
                                         const void* from, std::int64_t row, float factor,
                                         int lane) {
#pragma unroll 4
  for (int column = lane; column < f.padded[part]; column += warp_lanes) {
    const bool inside = from != nullptr && row < f.rows && column < f.width[part];
    to[column] = P::round(inside ? feature<P>(from, row, f.width[part], column) * factor : 0.0F);
  }
}

template <class P>
__global__ void __launch_bounds__(row_threads)
    contrast_prepare(const __grid_constant__ PrepareProblem p) {
  const int lane = static_cast<int>(threadIdx.x) % warp_lanes;
  const std::int64_t row =
      (std::int64_t{blockIdx.x} * rows_a_block) + (static_cast<int>(threadIdx.x) / warp_lanes);
  if (row >= p.packed_rows) {
    return;  // the whole warp
  }
  const FeatureRows& f = p.features;
  const PartSums spatial = part_sums<P>(f, 0, row, lane);
  const PartSums temporal = part_sums<P>(f, 1, row, lane);
  const PartSums momentum = part_sums<P>(f, 2, row, lane);
  const RowFactors video(spatial.video, temporal.video, f.normalize);
  const RowFactors sensor(spatial.sensor, temporal.sensor, f.normalize);
  using Number = typename P::Number;
  Number* to = reinterpret_cast<Number*>(p.packed + (row * p.row_bytes));
  for (int half = 0; half < 2; to += f.padded[half], ++half) {
    pack_row<P>(to, f, half, f.video[half], row, video.half[half], lane);
  }
  for (int half = 0; half < 2; to += f.padded[half], ++half) {
    pack_row<P>(to, f, half, f.sensor[half], row, sensor.half[half], lane);
  }
  const float video_unit = 1.0F / fmaxf(sqrtf(momentum.video), smallest_length);
  const float sensor_unit = 1.0F / fmaxf(sqrtf(momentum.sensor), smallest_length);
  pack_row<P>(to, f, 2, f.video[2], row, video_unit, lane);
  pack_row<P>(to + f.padded[2], f, 2, f.sensor[2], row, sensor_unit, lane);
  if (lane == 0) {
    p.cosine_video[row] = video.cosine;
    p.cosine_sensor[row] = sensor.cosine;
    for (int half = 0; half < 2; ++half) {
      f.video_factor[half][row] = video.half[half];
      f.sensor_factor[half][row] = sensor.half[half];
    }
    p.positive[row] = ((static_cast<double>(video.half[0] * sensor.half[0]) * spatial.both) +
                       (static_cast<double>(video.half[1] * sensor.half[1]) * temporal.both)) *
                      f.per_temperature;
    if (p.video_length != nullptr) {
      p.video_length[row] = sqrtf(spatial.video + temporal.video);
      p.sensor_length[row] = sqrtf(spatial.sensor + temporal.sensor);
    }
  }
}

/// From products of pairs' gradients with packed features to gradients of features.
struct FinishProblem {
  FeatureRows features;
  const float* video;  ///< products of all rows; null where the block only gave its upstream's
  const float* sensor;
  const float* own_video;  ///< products of the rows [start, stop) alone, added; may be null
  const float* own_sensor;
  std::int64_t start;
  std::int64_t stop;
  std::int64_t width;     ///< numbers of a product's row
  const float* diagonal;  ///< gradient of s_ii of the rows [start, stop); may be null
  const float* unscale;   ///< one number that takes the upstream's scale out again
  void* video_out[2];     ///< null where no gradient is wanted
  void* sensor_out[2];
  bool add;  ///< to float; otherwise written in the features' type
};

/// One half of one modality.
struct FinishHalf {
  const void* x;
  const void* other;  ///< the same half of the other modality
  float factor;
  float other_factor;
  const float* product;
  const float* own_product;
  float diagonal;
  float unscale;
  int width;
};

template <class P>
__device__ __forceinline__ float embedding_gradient(const FinishHalf& h, std::int64_t row,
                                                    int column, float per_temperature) {
  float sum = h.product != nullptr ? h.product[column] : 0.0F;
  sum += h.own_product != nullptr ? h.own_product[column] : 0.0F;
  const float other = feature<P>(h.other, row, h.width, column) * h.other_factor;
  return ((sum * h.unscale) + (h.diagonal * other)) * per_temperature;
}

/// The gradient through z = x factor: what lies along x is lost where the length was divided by.
template <class P>
__device__ __forceinline__ void finish_half(const FinishHalf& h, const FinishProblem& p,
                                            std::int64_t row, void* out, int lane) {
  const float per_temperature = static_cast<float>(p.features.per_temperature);
  float along = 0.0F;
  if (p.features.normalize) {
    float squares = 0.0F;
    for (int column = lane; column < h.width; column += warp_lanes) {
      const float x = feature<P>(h.x, row, h.width, column);
      squares += x * x;
      along += x * embedding_gradient<P>(h, row, column, per_temperature);
    }
    squares = warp_sum(squares);
    along = warp_sum(along);
    along = sqrtf(squares) > smallest_length ? along / squares : 0.0F;
  }
  for (int column = lane; column < h.width; column += warp_lanes) {
    const float x = feature<P>(h.x, row, h.width, column);
    const float g =
        (embedding_gradient<P>(h, row, column, per_temperature) - (along * x)) * h.factor;
    const std::int64_t at = (row * h.width) + column;
    if (p.add) {
      static_cast<float*>(out)[at] += g;
    } else if constexpr (P::bytes == 2) {
      static_cast<typename P::Number*>(out)[at] = P::round(g);
    } else {
      static_cast<float*>(out)[at] = g;
    }
  }
}

template <class P>
__global__ void __launch_bounds__(row_threads)
    contrast_finish(const __grid_constant__ FinishProblem p) {
  const int lane = static_cast<int>(threadIdx.x) % warp_lanes;
  const std::int64_t row =
      (std::int64_t{blockIdx.x} * rows_a_block) + (static_cast<int>(threadIdx.x) / warp_lanes);
  const FeatureRows& f = p.features;
  if (row >= f.rows) {
    return;  // the whole warp
  }
  const bool own = row >= p.start && row < p.stop;
  const float diagonal = own && p.diagonal != nullptr ? p.diagonal[row - p.start] : 0.0F;
#pragma unroll 1
  for (int which = 0; which < 4; ++which) {
    const int half = which % 2;
    const bool video = which < 2;
    void* const out = video ? p.video_out[half] : p.sensor_out[half];
    if (out == nullptr) {
      continue;
    }
    const float* const product = video ? p.video : p.sensor;
    const float* const own_product = video ? p.own_video : p.own_sensor;
    const int first = half == 0 ? 0 : f.padded[0];
    const FinishHalf h{
        video ? f.video[half] : f.sensor[half],
        video ? f.sensor[half] : f.video[half],
        video ? f.video_factor[half][row] : f.sensor_factor[half][row],
        video ? f.sensor_factor[half][row] : f.video_factor[half][row],
        product != nullptr ? product + (row * p.width) + first : nullptr,
        own && own_product != nullptr ? own_product + ((row - p.start) * p.width) + first : nullptr,
        diagonal,
        *p.unscale,
        f.width[half]};
    finish_half<P>(h, p, row, out, lane);
  }
}

}  // namespace detach::cuda
