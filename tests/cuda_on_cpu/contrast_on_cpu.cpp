// The contrast kernels as a plain C library, for ctypes.
#include <cstdint>

#include "contrast_bfloat16_cuda.cu"
#include "contrast_call_cuda.cu"
#include "contrast_cuda.cu"
#include "contrast_denominators_cuda.cu"
#include "contrast_float16_cuda.cu"
#include "contrast_float32_cuda.cu"
#include "contrast_gradient_cuda.cu"
#include "contrast_kernels_cuda.cuh"
#include "contrast_tf32_cuda.cu"

namespace {

using detach::ContrastBlock;
using detach::ContrastPrecision;

template <typename T>
T* at(std::int64_t address) {
  return reinterpret_cast<T*>(address);
}

/// Numbers of one block: six addresses of features, group, position, rows.
ContrastBlock<void> block_of(const std::int64_t* b, const std::int64_t* widths) {
  return {b[8],
          widths[0],
          widths[1],
          widths[2],
          at<void>(b[0]),
          at<void>(b[1]),
          at<void>(b[2]),
          at<void>(b[3]),
          at<void>(b[4]),
          at<void>(b[5]),
          at<std::int64_t>(b[6]),
          at<double>(b[7])};
}

detach::ContrastParams params_of(const double* p) {
  return {p[0],
          p[1],
          static_cast<detach::ContrastGate>(static_cast<int>(p[2])),
          static_cast<int>(p[3]),
          static_cast<detach::ContrastTemporal>(static_cast<int>(p[4])),
          p[5] != 0.0};
}

detach::PairMask mask_of(const std::int64_t* m, double reach) {
  return {at<bool>(m[0]), m[1], at<bool>(m[2]), m[3], reach};
}

detach::ContrastSums sums_of(const std::int64_t* s) {
  return {at<double>(s[0]), at<double>(s[1]), at<double>(s[2]), at<double>(s[3]),
          at<double>(s[4]), at<double>(s[5]), at<double>(s[6])};
}

detach::ContrastDenominators denominators_of(const std::int64_t* d) {
  return {at<double>(d[0]), at<double>(d[1]), at<double>(d[2])};
}

template <typename T>
detach::ContrastGradients<T> gradients_of(const std::int64_t* g) {
  return {at<T>(g[0]), at<T>(g[1]), at<T>(g[2]), at<T>(g[3])};
}

ContrastPrecision precision_of(int dtype) { return static_cast<ContrastPrecision>(dtype); }

/// Runs `call`; what it throws is left in `message`.
template <class F>
int guarded(char* message, F&& call) {
  try {
    call();
    return 0;
  } catch (const std::exception& error) {
    std::snprintf(message, 500, "%s", error.what());
    return 1;
  }
}

/// What `call` counts; -1 where it throws.
template <class F>
std::int64_t counted(F&& call) {
  std::int64_t count = -1;
  char message[500];
  guarded(message, [&] { count = call(); });
  return count;
}

}  // namespace

extern "C" {

void set_order(int copies_are_late, int threads_run_backwards) {
  cuda_on_cpu::copies_are_late = copies_are_late != 0;
  cuda_on_cpu::threads_run_backwards = threads_run_backwards != 0;
}

/// Sizes that decide which kernels run.
void set_sizes(std::int64_t small_rows, std::int64_t stripe_bytes, int enough_product_tiles) {
  detach::cuda::small_rows = small_rows;
  detach::cuda::stripe_bytes = stripe_bytes;
  detach::cuda::enough_product_tiles = enough_product_tiles;
}

std::int64_t saved_size(int dtype, std::int64_t rows, std::int64_t start, std::int64_t stop) {
  return counted([&] {
    return detach::contrast_cuda_batch_saved_size(precision_of(dtype), rows, start, stop);
  });
}

std::int64_t workspace(int dtype, std::int64_t rows, const std::int64_t* w, std::int64_t start,
                       std::int64_t stop, int saved) {
  return counted([&] {
    return detach::contrast_cuda_batch_workspace(precision_of(dtype), rows, {w[0], w[1], w[2]},
                                                 start, stop, saved != 0);
  });
}

std::int64_t pair_saved_size(int dtype, std::int64_t rows_a, std::int64_t rows_b, int same) {
  return counted([&] {
    return detach::contrast_cuda_saved_size(precision_of(dtype), rows_a, rows_b, same != 0);
  });
}

std::int64_t pair_workspace(int dtype, std::int64_t rows_a, std::int64_t rows_b, int same,
                            const std::int64_t* w, int saved) {
  return counted([&] {
    return detach::contrast_cuda_workspace(precision_of(dtype), rows_a, rows_b, same != 0,
                                           {w[0], w[1], w[2]}, saved != 0);
  });
}

void layout(int dtype, std::int64_t rows, const std::int64_t* w, std::int64_t* out) {
  const detach::ContrastCudaLayout l =
      detach::contrast_cuda_layout(precision_of(dtype), rows, {w[0], w[1], w[2]});
  const std::int64_t all[] = {l.rows_padded,
                              l.row_numbers,
                              l.spatial_width_padded,
                              l.temporal_width_padded,
                              l.video_column,
                              l.sensor_column,
                              l.packed,
                              l.product_video,
                              l.product_sensor,
                              l.product_width};
  std::copy(std::begin(all), std::end(all), out);
}

int batch(const std::int64_t* block, int dtype, const std::int64_t* widths, const double* params,
          const std::int64_t* mask, double reach, std::int64_t start, std::int64_t stop,
          const std::int64_t* stats, std::int64_t saved, std::int64_t space, char* message) {
  return guarded(message, [&] {
    detach::contrast_cuda_batch(precision_of(dtype), block_of(block, widths), params_of(params),
                                mask_of(mask, reach), start, stop,
                                {at<double>(stats[0]), at<double>(stats[1]), at<double>(stats[2])},
                                at<void>(saved), at<void>(space), nullptr);
  });
}

int batch_gradient(const std::int64_t* block, int dtype, const std::int64_t* widths,
                   const double* params, const std::int64_t* mask, double reach, std::int64_t start,
                   std::int64_t stop, std::int64_t log_denominator, std::int64_t upstream,
                   std::int64_t saved, const std::int64_t* gradients, std::int64_t space,
                   int prepared, int step, char* message) {
  return guarded(message, [&] {
    detach::contrast_cuda_batch_gradient(
        precision_of(dtype), block_of(block, widths), params_of(params), mask_of(mask, reach),
        start, stop, at<double>(log_denominator), at<double>(upstream), at<void>(saved),
        gradients_of<void>(gradients), at<void>(space), nullptr, prepared != 0,
        static_cast<detach::ContrastStep>(step));
  });
}

int sums(const std::int64_t* a, const std::int64_t* b, int dtype, const std::int64_t* widths,
         const double* params, const std::int64_t* mask, double reach, const std::int64_t* sums_a,
         const std::int64_t* sums_b, std::int64_t saved, std::int64_t space, char* message) {
  return guarded(message, [&] {
    const ContrastBlock<void> second = block_of(b != nullptr ? b : a, widths);
    const detach::ContrastSums of_b = sums_of(sums_b != nullptr ? sums_b : sums_a);
    detach::contrast_cuda_sums(
        precision_of(dtype), block_of(a, widths), b != nullptr ? &second : nullptr,
        params_of(params), mask_of(mask, reach), sums_of(sums_a),
        sums_b != nullptr ? &of_b : nullptr, at<void>(saved), at<void>(space), nullptr);
  });
}

int gradient(const std::int64_t* a, const std::int64_t* b, int dtype, const std::int64_t* widths,
             const double* params, const std::int64_t* mask, double reach,
             const std::int64_t* denominators_a, const std::int64_t* denominators_b,
             std::int64_t saved, const std::int64_t* gradients_a, const std::int64_t* gradients_b,
             std::int64_t space, char* message) {
  return guarded(message, [&] {
    const ContrastBlock<void> second = block_of(b != nullptr ? b : a, widths);
    const detach::ContrastDenominators of_b =
        denominators_of(denominators_b != nullptr ? denominators_b : denominators_a);
    const detach::ContrastGradients<float> to_b =
        gradients_of<float>(gradients_b != nullptr ? gradients_b : gradients_a);
    detach::contrast_cuda_gradient(
        precision_of(dtype), block_of(a, widths), b != nullptr ? &second : nullptr,
        params_of(params), mask_of(mask, reach), denominators_of(denominators_a),
        denominators_b != nullptr ? &of_b : nullptr, at<void>(saved),
        gradients_of<float>(gradients_a), gradients_b != nullptr ? &to_b : nullptr, at<void>(space),
        nullptr);
  });
}

}  // extern "C"
