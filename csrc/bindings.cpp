#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>

#include "contrast_workspace.h"
#include "detach/contrast.h"
#include "detach/contrast_cuda.h"
#include "detach/percentile.h"

#if DETACH_WITH_CUDA
#include <cuda_runtime.h>
#endif

namespace py = pybind11;

void define_window(py::module_& m);  // bindings_window.cpp

namespace {

using Address = std::uintptr_t;

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

void percentile_cpu(const std::string& type, Address x, Address out, std::int64_t outer,
                    std::int64_t length, std::int64_t inner, double q, bool absolute, int threads) {
  const py::gil_scoped_release release;
  detach::percentile_cpu(detach::percentile_type(type), at<const void>(x), at<void>(out),
                         {outer, length, inner}, {q, absolute}, threads);
}

// In the order of ContrastBlock: video and sensor spatial and temporal, then momentum.
using Features = std::tuple<Address, Address, Address, Address, Address, Address>;
using Widths = std::tuple<std::int64_t, std::int64_t, std::int64_t>;
using Params = std::tuple<double, double, int, int, int, bool>;
using Gradients = std::tuple<Address, Address, Address, Address>;
using Three = std::tuple<Address, Address, Address>;
using BatchMask = std::tuple<Address, Address, Address, double>;
using BlockPairMask = std::tuple<Address, std::int64_t, Address, std::int64_t, double>;
using Block = std::tuple<Features, std::int64_t, Address, Address>;
using Sums = std::tuple<Address, Address, Address, Address, Address, Address, Address>;

template <typename T>
detach::ContrastBlock<T> contrast_block(const Features& features, const Widths& widths,
                                        std::int64_t rows, Address group, Address position) {
  const auto& [vsp, vt, ssp, st, vm, sm] = features;
  const auto& [spatial, temporal, momentum] = widths;
  detach::ContrastBlock<T> block;
  block.rows = rows;
  block.spatial_width = spatial;
  block.temporal_width = temporal;
  block.momentum_width = momentum;
  block.video_spatial = at<const T>(vsp);
  block.video_temporal = at<const T>(vt);
  block.sensor_spatial = at<const T>(ssp);
  block.sensor_temporal = at<const T>(st);
  block.video_momentum = at<const T>(vm);
  block.sensor_momentum = at<const T>(sm);
  block.group = at<const std::int64_t>(group);
  block.position = at<const double>(position);
  return block;
}

template <typename T>
detach::ContrastBlock<T> contrast_block(const Block& block, const Widths& widths) {
  const auto& [features, rows, group, position] = block;
  return contrast_block<T>(features, widths, rows, group, position);
}

detach::ContrastParams contrast_params(const Params& params) {
  const auto& [temperature, lambda_hard, gate, power, temporal, normalize] = params;
  return {temperature,
          lambda_hard,
          static_cast<detach::ContrastGate>(gate),
          power,
          static_cast<detach::ContrastTemporal>(temporal),
          normalize};
}

template <typename T>
detach::ContrastGradients<T> contrast_gradients(const Gradients& gradients) {
  const auto& [vsp, vt, ssp, st] = gradients;
  return {at<T>(vsp), at<T>(vt), at<T>(ssp), at<T>(st)};
}

detach::PairMask batch_mask(const BatchMask& mask, std::int64_t rows) {
  const auto& [dense, group, position, reach] = mask;
  return {at<const bool>(dense), rows, at<const bool>(dense), rows, reach};
}

detach::PairMask pair_mask(const BlockPairMask& mask) {
  const auto& [dense, stride, back, back_stride, reach] = mask;
  return {at<const bool>(dense), stride, at<const bool>(back), back_stride, reach};
}

detach::ContrastSums contrast_sums_at(const Sums& sums) {
  const auto& [log_v, log_s, positive, weight_v, weight_s, count_v, count_s] = sums;
  return {at<double>(log_v),    at<double>(log_s),   at<double>(positive), at<double>(weight_v),
          at<double>(weight_s), at<double>(count_v), at<double>(count_s)};
}

detach::ContrastDenominators contrast_denominators(const Three& arrays) {
  const auto& [log_video, log_sensor, upstream] = arrays;
  return {at<const double>(log_video), at<const double>(log_sensor), at<const double>(upstream)};
}

/// Calls body(a number) with the type of the features.
template <class Body>
auto with_type(bool is_double, const Body& body) {
  const py::gil_scoped_release release;
  return is_double ? body(double{}) : body(float{});
}

/// Memory that the core keeps between calls, as bytes that NumPy and torch can look at.
class Workspace {
 public:
  explicit Workspace(std::int64_t bytes) : bytes_(bytes), memory_(bytes) {}
  py::buffer_info view() const {
    return {memory_.get(), 1, py::format_descriptor<unsigned char>::format(), bytes_};
  }

 private:
  std::int64_t bytes_;
  detach::Buffer<unsigned char> memory_;
};

double contrast_batch(const Features& features, bool is_double, std::int64_t rows,
                      const Widths& widths, const Params& params, const BatchMask& mask,
                      std::int64_t start, std::int64_t stop, const Three& stats, Address saved,
                      int threads) {
  return with_type(is_double, [&](auto number) {
    using T = decltype(number);
    const auto& [loss, log_denominator, mean_weight] = stats;
    const auto block =
        contrast_block<T>(features, widths, rows, std::get<1>(mask), std::get<2>(mask));
    return detach::contrast_batch<T>(
        block, contrast_params(params), batch_mask(mask, rows), start, stop,
        {at<double>(loss), at<double>(log_denominator), at<double>(mean_weight)}, at<T>(saved),
        threads);
  });
}

void contrast_batch_gradient(const Features& features, bool is_double, std::int64_t rows,
                             const Widths& widths, const Params& params, const BatchMask& mask,
                             std::int64_t start, std::int64_t stop, Address log_denominator,
                             Address upstream, Address saved, const Gradients& gradients,
                             int threads) {
  with_type(is_double, [&](auto number) {
    using T = decltype(number);
    const auto block =
        contrast_block<T>(features, widths, rows, std::get<1>(mask), std::get<2>(mask));
    detach::contrast_batch_gradient<T>(block, contrast_params(params), batch_mask(mask, rows),
                                       start, stop, at<const double>(log_denominator),
                                       at<const double>(upstream), at<const T>(saved),
                                       contrast_gradients<T>(gradients), threads);
  });
}

void contrast_sums(const Block& block_a, const std::optional<Block>& block_b, bool is_double,
                   const Widths& widths, const Params& params, const BlockPairMask& mask,
                   const Sums& sums_a, const std::optional<Sums>& sums_b, Address saved,
                   int threads) {
  with_type(is_double, [&](auto number) {
    using T = decltype(number);
    const auto a = contrast_block<T>(block_a, widths);
    const auto b = contrast_block<T>(block_b.value_or(block_a), widths);
    const auto to_b = contrast_sums_at(sums_b.value_or(Sums{}));
    detach::contrast_sums<T>(a, block_b ? &b : nullptr, contrast_params(params), pair_mask(mask),
                             contrast_sums_at(sums_a), sums_b ? &to_b : nullptr, at<T>(saved),
                             threads);
  });
}

void contrast_gradient(const Block& block_a, const std::optional<Block>& block_b, bool is_double,
                       const Widths& widths, const Params& params, const BlockPairMask& mask,
                       const Three& denominators_a, const std::optional<Three>& denominators_b,
                       Address saved, const Gradients& gradients_a,
                       const std::optional<Gradients>& gradients_b, int threads) {
  with_type(is_double, [&](auto number) {
    using T = decltype(number);
    const auto a = contrast_block<T>(block_a, widths);
    const auto b = contrast_block<T>(block_b.value_or(block_a), widths);
    const auto of_b = contrast_denominators(denominators_b.value_or(Three{}));
    const auto to_b = contrast_gradients<T>(gradients_b.value_or(Gradients{}));
    detach::contrast_gradient<T>(
        a, block_b ? &b : nullptr, contrast_params(params), pair_mask(mask),
        contrast_denominators(denominators_a), denominators_b ? &of_b : nullptr, at<const T>(saved),
        contrast_gradients<T>(gradients_a), gradients_b ? &to_b : nullptr, threads);
  });
}

#if DETACH_WITH_CUDA
void percentile_cuda(const std::string& type, Address x, Address out, std::int64_t outer,
                     std::int64_t length, std::int64_t inner, double q, bool absolute,
                     Address stream) {
  const py::gil_scoped_release release;
  detach::percentile_cuda(detach::percentile_type(type), at<const void>(x), at<void>(out),
                          {outer, length, inner}, {q, absolute}, at<void>(stream));
}

using BatchMaskCuda =
    std::tuple<Address, std::int64_t, Address, std::int64_t, Address, Address, double>;

detach::ContrastPrecision precision_of(int dtype) {
  return static_cast<detach::ContrastPrecision>(dtype);
}

std::int64_t contrast_cuda_workspace(int dtype, std::int64_t rows, const Widths& widths,
                                     std::int64_t start, std::int64_t stop, bool saved) {
  const auto& [spatial, temporal, momentum] = widths;
  return detach::contrast_cuda_batch_workspace(precision_of(dtype), rows,
                                               {spatial, temporal, momentum}, start, stop, saved);
}

std::int64_t contrast_cuda_pair_workspace(int dtype, std::int64_t rows_a, std::int64_t rows_b,
                                          bool same, const Widths& widths, bool saved) {
  const auto& [spatial, temporal, momentum] = widths;
  return detach::contrast_cuda_workspace(precision_of(dtype), rows_a, rows_b, same,
                                         {spatial, temporal, momentum}, saved);
}

auto contrast_cuda_layout(int dtype, std::int64_t rows, const Widths& widths) {
  const auto& [spatial, temporal, momentum] = widths;
  const detach::ContrastCudaLayout l =
      detach::contrast_cuda_layout(precision_of(dtype), rows, {spatial, temporal, momentum});
  return std::make_tuple(l.rows_padded, l.row_numbers, l.spatial_width_padded,
                         l.temporal_width_padded, l.video_column, l.sensor_column, l.packed,
                         l.product_video, l.product_sensor, l.product_width);
}

void contrast_cuda_batch(const Features& features, int dtype, std::int64_t rows,
                         const Widths& widths, const Params& params, const BatchMaskCuda& mask,
                         std::int64_t start, std::int64_t stop, const Three& stats, Address saved,
                         Address workspace, Address stream) {
  const py::gil_scoped_release release;
  const auto& [dense, stride, back, back_stride, group, position, reach] = mask;
  const auto& [loss, log_denominator, mean_weight] = stats;
  detach::contrast_cuda_batch(
      precision_of(dtype), contrast_block<void>(features, widths, rows, group, position),
      contrast_params(params), pair_mask({dense, stride, back, back_stride, reach}), start, stop,
      {at<double>(loss), at<double>(log_denominator), at<double>(mean_weight)}, at<void>(saved),
      at<void>(workspace), at<void>(stream));
}

void contrast_cuda_batch_gradient(const Features& features, int dtype, std::int64_t rows,
                                  const Widths& widths, const Params& params,
                                  const BatchMaskCuda& mask, std::int64_t start, std::int64_t stop,
                                  Address log_denominator, Address upstream, Address saved,
                                  const Gradients& gradients, Address workspace, Address stream,
                                  bool prepared, int step) {
  const py::gil_scoped_release release;
  const auto& [dense, stride, back, back_stride, group, position, reach] = mask;
  detach::contrast_cuda_batch_gradient(
      precision_of(dtype), contrast_block<void>(features, widths, rows, group, position),
      contrast_params(params), pair_mask({dense, stride, back, back_stride, reach}), start, stop,
      at<const double>(log_denominator), at<const double>(upstream), at<void>(saved),
      contrast_gradients<void>(gradients), at<void>(workspace), at<void>(stream), prepared,
      static_cast<detach::ContrastStep>(step));
}

void contrast_cuda_sums(const Block& block_a, const std::optional<Block>& block_b, int dtype,
                        const Widths& widths, const Params& params, const BlockPairMask& mask,
                        const Sums& sums_a, const std::optional<Sums>& sums_b, Address saved,
                        Address workspace, Address stream) {
  const py::gil_scoped_release release;
  const auto b = contrast_block<void>(block_b.value_or(block_a), widths);
  const auto to_b = contrast_sums_at(sums_b.value_or(Sums{}));
  detach::contrast_cuda_sums(precision_of(dtype), contrast_block<void>(block_a, widths),
                             block_b ? &b : nullptr, contrast_params(params), pair_mask(mask),
                             contrast_sums_at(sums_a), sums_b ? &to_b : nullptr, at<void>(saved),
                             at<void>(workspace), at<void>(stream));
}

void contrast_cuda_gradient(const Block& block_a, const std::optional<Block>& block_b, int dtype,
                            const Widths& widths, const Params& params, const BlockPairMask& mask,
                            const Three& denominators_a, const std::optional<Three>& denominators_b,
                            Address saved, const Gradients& gradients_a,
                            const std::optional<Gradients>& gradients_b, Address workspace,
                            Address stream) {
  const py::gil_scoped_release release;
  const auto b = contrast_block<void>(block_b.value_or(block_a), widths);
  const auto of_b = contrast_denominators(denominators_b.value_or(Three{}));
  const auto to_b = contrast_gradients<float>(gradients_b.value_or(Gradients{}));
  detach::contrast_cuda_gradient(
      precision_of(dtype), contrast_block<void>(block_a, widths), block_b ? &b : nullptr,
      contrast_params(params), pair_mask(mask), contrast_denominators(denominators_a),
      denominators_b ? &of_b : nullptr, at<void>(saved), contrast_gradients<float>(gradients_a),
      gradients_b ? &to_b : nullptr, at<void>(workspace), at<void>(stream));
}

void define_contrast_cuda(py::module_& m) {
  m.def(
      "contrast_cuda_saved_size",
      [](int dtype, std::int64_t rows, std::int64_t start, std::int64_t stop) {
        return detach::contrast_cuda_batch_saved_size(precision_of(dtype), rows, start, stop);
      },
      py::arg("dtype"), py::arg("rows"), py::arg("start"), py::arg("stop"));
  m.def(
      "contrast_cuda_pair_saved_size",
      [](int dtype, std::int64_t rows_a, std::int64_t rows_b, bool same) {
        return detach::contrast_cuda_saved_size(precision_of(dtype), rows_a, rows_b, same);
      },
      py::arg("dtype"), py::arg("rows_a"), py::arg("rows_b"), py::arg("same"));
  m.def("contrast_cuda_workspace", &contrast_cuda_workspace, py::arg("dtype"), py::arg("rows"),
        py::arg("widths"), py::arg("start"), py::arg("stop"), py::arg("saved"));
  m.def("contrast_cuda_pair_workspace", &contrast_cuda_pair_workspace, py::arg("dtype"),
        py::arg("rows_a"), py::arg("rows_b"), py::arg("same"), py::arg("widths"), py::arg("saved"));
  m.def("contrast_cuda_layout", &contrast_cuda_layout, py::arg("dtype"), py::arg("rows"),
        py::arg("widths"));
  m.def("contrast_cuda_batch", &contrast_cuda_batch, py::arg("features"), py::arg("dtype"),
        py::arg("rows"), py::arg("widths"), py::arg("params"), py::arg("mask"), py::arg("start"),
        py::arg("stop"), py::arg("stats"), py::arg("saved"), py::arg("workspace"),
        py::arg("stream"));
  m.def("contrast_cuda_batch_gradient", &contrast_cuda_batch_gradient, py::arg("features"),
        py::arg("dtype"), py::arg("rows"), py::arg("widths"), py::arg("params"), py::arg("mask"),
        py::arg("start"), py::arg("stop"), py::arg("log_denominator"), py::arg("upstream"),
        py::arg("saved"), py::arg("gradients"), py::arg("workspace"), py::arg("stream"),
        py::arg("prepared") = false, py::arg("step") = 0);
  m.def("contrast_cuda_sums", &contrast_cuda_sums, py::arg("block_a"), py::arg("block_b"),
        py::arg("dtype"), py::arg("widths"), py::arg("params"), py::arg("mask"), py::arg("sums_a"),
        py::arg("sums_b"), py::arg("saved"), py::arg("workspace"), py::arg("stream"));
  m.def("contrast_cuda_gradient", &contrast_cuda_gradient, py::arg("block_a"), py::arg("block_b"),
        py::arg("dtype"), py::arg("widths"), py::arg("params"), py::arg("mask"),
        py::arg("denominators_a"), py::arg("denominators_b"), py::arg("saved"),
        py::arg("gradients_a"), py::arg("gradients_b"), py::arg("workspace"), py::arg("stream"));
}

/// GPUs this process can use; 0 also where there is no driver.
int cuda_devices() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}
#endif

}  // namespace

PYBIND11_MODULE(_C, m, py::mod_gil_not_used()) {
  m.doc() =
      "Kernels of the detach core on raw addresses. Private: detach.kernels and detach.ops "
      "check what they pass.";
  m.attr("cuda_built") = DETACH_WITH_CUDA != 0;
  m.attr("cuda_architectures") = DETACH_CUDA_ARCHITECTURES;
  m.attr("cuda_reason") = DETACH_CUDA_REASON;

  m.def("simd", &detach::percentile_simd);
  m.def("percentile_cpu", &percentile_cpu, py::arg("dtype"), py::arg("x"), py::arg("out"),
        py::arg("outer"), py::arg("length"), py::arg("inner"), py::arg("q"), py::arg("absolute"),
        py::arg("threads"));

  py::class_<Workspace>(m, "Workspace", py::buffer_protocol())
      .def(py::init<std::int64_t>(), py::arg("size"))
      .def_buffer(&Workspace::view);
  m.def("contrast_simd", &detach::contrast_simd);
  m.def("contrast_saved_size", &detach::contrast_saved_size, py::arg("rows_a"), py::arg("rows_b"),
        py::arg("same"));
  m.def("contrast_batch_saved_size", &detach::contrast_batch_saved_size, py::arg("rows"),
        py::arg("start"), py::arg("stop"));
  m.def("contrast_batch", &contrast_batch, py::arg("features"), py::arg("is_double"),
        py::arg("rows"), py::arg("widths"), py::arg("params"), py::arg("mask"), py::arg("start"),
        py::arg("stop"), py::arg("stats"), py::arg("saved"), py::arg("threads"));
  m.def("contrast_batch_gradient", &contrast_batch_gradient, py::arg("features"),
        py::arg("is_double"), py::arg("rows"), py::arg("widths"), py::arg("params"),
        py::arg("mask"), py::arg("start"), py::arg("stop"), py::arg("log_denominator"),
        py::arg("upstream"), py::arg("saved"), py::arg("gradients"), py::arg("threads"));
  m.def("contrast_sums", &contrast_sums, py::arg("block_a"), py::arg("block_b"),
        py::arg("is_double"), py::arg("widths"), py::arg("params"), py::arg("mask"),
        py::arg("sums_a"), py::arg("sums_b"), py::arg("saved"), py::arg("threads"));
  m.def("contrast_gradient", &contrast_gradient, py::arg("block_a"), py::arg("block_b"),
        py::arg("is_double"), py::arg("widths"), py::arg("params"), py::arg("mask"),
        py::arg("denominators_a"), py::arg("denominators_b"), py::arg("saved"),
        py::arg("gradients_a"), py::arg("gradients_b"), py::arg("threads"));
  define_window(m);
#if DETACH_WITH_CUDA
  m.def("percentile_cuda", &percentile_cuda, py::arg("dtype"), py::arg("x"), py::arg("out"),
        py::arg("outer"), py::arg("length"), py::arg("inner"), py::arg("q"), py::arg("absolute"),
        py::arg("stream"));
  m.def("cuda_devices", &cuda_devices);
  define_contrast_cuda(m);
#else
  m.def("cuda_devices", [] { return 0; });
#endif
}
