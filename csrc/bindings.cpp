#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>

#include "detach/percentile.h"

#if DETACH_WITH_CUDA
#include <cuda_runtime.h>
#endif

namespace py = pybind11;

namespace {

using Address = std::uintptr_t;

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

void percentile_cpu(Address x, Address out, bool is_double, std::int64_t outer, std::int64_t length,
                    std::int64_t inner, double q, bool absolute, int threads) {
  const py::gil_scoped_release release;
  const detach::PercentileShape shape{outer, length, inner};
  if (is_double) {
    detach::percentile_cpu(at<const double>(x), at<double>(out), shape, {q, absolute}, threads);
  } else {
    detach::percentile_cpu(at<const float>(x), at<float>(out), shape, {q, absolute}, threads);
  }
}

#if DETACH_WITH_CUDA
void percentile_cuda(Address x, Address out, bool is_double, std::int64_t outer,
                     std::int64_t length, std::int64_t inner, double q, bool absolute,
                     Address stream) {
  const py::gil_scoped_release release;
  const detach::PercentileShape shape{outer, length, inner};
  if (is_double) {
    detach::percentile_cuda(at<const double>(x), at<double>(out), shape, {q, absolute},
                            at<void>(stream));
  } else {
    detach::percentile_cuda(at<const float>(x), at<float>(out), shape, {q, absolute},
                            at<void>(stream));
  }
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
  m.def("percentile_cpu", &percentile_cpu, py::arg("x"), py::arg("out"), py::arg("is_double"),
        py::arg("outer"), py::arg("length"), py::arg("inner"), py::arg("q"), py::arg("absolute"),
        py::arg("threads"));
#if DETACH_WITH_CUDA
  m.def("percentile_cuda", &percentile_cuda, py::arg("x"), py::arg("out"), py::arg("is_double"),
        py::arg("outer"), py::arg("length"), py::arg("inner"), py::arg("q"), py::arg("absolute"),
        py::arg("stream"));
  m.def("cuda_devices", &cuda_devices);
#else
  m.def("cuda_devices", [] { return 0; });
#endif
}
