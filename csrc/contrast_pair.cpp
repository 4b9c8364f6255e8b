#include "contrast_pair.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "contrast_features.h"
#include "contrast_kernels.h"
#include "contrast_workspace.h"
#include "detach/contrast.h"

namespace detach {
namespace {

constexpr double log2_e = 1.4426950408889634074;

/// Exponentials of 2 shift must be normal numbers, with room for a loss scale of 2^24.
template <typename T>
constexpr double most_shift() {
  return sizeof(T) == 4 ? 43.0 : 430.0;
}

template <typename T>
ContrastWeight<T> weight_of(const ContrastParams& params) {
  ContrastWeight<T> form;
  form.hard = static_cast<T>(params.lambda_hard - 1.0);
  (params.gate == ContrastGate::spatial ? form.gate_place : form.gate_one) = T(1);
  (params.power == 2 ? form.square : form.linear) = T(1);
  form.scale = params.temporal == ContrastTemporal::intra ? T(0.5) : T(1);
  return form;
}

void check_params(const ContrastParams& params, const PairMask& mask, int threads) {
  if (!(params.temperature > 0.0) || std::isinf(params.temperature)) {
    throw std::invalid_argument("temperature must be > 0 and finite, got " +
                                std::to_string(params.temperature));
  }
  if (!std::isfinite(params.lambda_hard) || params.lambda_hard < 0.0) {
    throw std::invalid_argument("lambda_hard must be >= 0 and finite, got " +
                                std::to_string(params.lambda_hard));
  }
  if (params.power != 1 && params.power != 2) {
    throw std::invalid_argument("power must be 1 or 2, got " + std::to_string(params.power));
  }
  if (threads < 1) {
    throw std::invalid_argument("threads must be >= 1, got " + std::to_string(threads));
  }
  if ((mask.dense == nullptr) != (mask.back == nullptr)) {
    throw std::invalid_argument("mask must have both directions or none");
  }
}

template <typename T>
void check_block(const ContrastBlock<T>& block, const ContrastParams& params,
                 const PairMask& mask) {
  constexpr auto most = std::int64_t{1} << 31;
  if (block.rows < 0 || block.rows > most) {
    throw std::invalid_argument("rows must be in [0, 2^31], got " + std::to_string(block.rows));
  }
  const bool with_momentum = params.temporal != ContrastTemporal::none;
  for (const std::int64_t width : {block.spatial_width, block.temporal_width,
                                   with_momentum ? block.momentum_width : std::int64_t{1}}) {
    if (width < 1 || width > most) {
      throw std::invalid_argument("width must be in [1, 2^31], got " + std::to_string(width));
    }
  }
  if (mask.reach > 0.0 && block.rows > 0 && (block.group == nullptr || block.position == nullptr)) {
    throw std::invalid_argument("reach needs group and position of every window");
  }
}

template <typename T>
void check_widths(const ContrastBlock<T>& a, const ContrastBlock<T>& b,
                  const ContrastParams& params) {
  if (a.spatial_width != b.spatial_width || a.temporal_width != b.temporal_width ||
      (params.temporal != ContrastTemporal::none && a.momentum_width != b.momentum_width)) {
    throw std::invalid_argument("both blocks must have the same widths");
  }
}

}  // namespace

template <typename T>
ContrastRange range_of(const ContrastRows<T>& a, const ContrastRows<T>& b, double temperature) {
  const double video_length = std::max(a.longest[video], b.longest[video]);
  const double sensor_length = std::max(a.longest[sensor], b.longest[sensor]);
  const double largest = video_length * sensor_length / temperature * log2_e;
  if (!(largest <= most_shift<T>())) {
    return {true, 0};
  }
  return {false, static_cast<int>(std::ceil(largest))};
}

std::array<bool, features> features_of_tiles(const ContrastParams& params) {
  std::array<bool, features> wanted{true, true, true, true, true, true};
  wanted[feature(video, momentum)] = wanted[feature(sensor, momentum)] =
      params.temporal != ContrastTemporal::none;
  return wanted;
}

template <typename T>
void check_call(const ContrastBlock<T>& a, const ContrastBlock<T>* b, const ContrastParams& params,
                const PairMask& mask, int threads) {
  check_params(params, mask, threads);
  check_block(a, params, mask);
  if (b != nullptr) {
    check_block(*b, params, mask);
    check_widths(a, *b, params);
  }
}

template <typename T>
ContrastPair<T>::ContrastPair(const ContrastRows<T>& rows_a, const ContrastRows<T>& rows_b,
                              const ContrastBlock<T>& first, const ContrastBlock<T>& second,
                              const ContrastParams& parameters, const PairMask& pair_mask)
    : kernels(contrast_kernels<T>()),
      a(rows_a),
      b(rows_b),
      block_a(first),
      block_b(second),
      params(parameters),
      mask(pair_mask),
      grid(rows_a.rows, rows_b.rows, &rows_a == &rows_b),
      range(range_of(rows_a, rows_b, parameters.temperature)),
      weight(weight_of<T>(parameters)),
      uses_place(parameters.lambda_hard != 1.0 || (parameters.gate == ContrastGate::spatial &&
                                                   parameters.temporal != ContrastTemporal::none)),
      uses_motion(parameters.temporal != ContrastTemporal::none),
      row_scale(modalities * rows_a.stride) {
  const double to_log2 = log2_e / params.temperature;
  for (std::int64_t i = 0; i < modalities * a.stride; ++i) {
    const bool there = i % a.stride < a.rows;
    row_scale[i] = there ? static_cast<T>(a.embedding[i] * to_log2) : T(0);
  }
}

template ContrastRange range_of(const ContrastRows<float>&, const ContrastRows<float>&, double);
template ContrastRange range_of(const ContrastRows<double>&, const ContrastRows<double>&, double);
template struct ContrastPair<float>;
template struct ContrastPair<double>;
template void check_call(const ContrastBlock<float>&, const ContrastBlock<float>*,
                         const ContrastParams&, const PairMask&, int);
template void check_call(const ContrastBlock<double>&, const ContrastBlock<double>*,
                         const ContrastParams&, const PairMask&, int);

}  // namespace detach
