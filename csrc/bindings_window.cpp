#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "detach/window.h"

namespace py = pybind11;

void define_window(py::module_& m);

namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;
// hz (0: events), binary, mean, std, max_gap_s, polarity, silence
using Channel = std::tuple<double, bool, double, double, double, int, std::string>;

/// A window that several threads may call: it takes them one after the other.
struct Guarded {
  Guarded(const detach::WindowParams& params, std::vector<detach::WindowChannel> channels)
      : window(params, std::move(channels)) {}

  detach::StreamingWindow window;
  std::mutex busy;
};

detach::WindowZscore zscore_of(const std::string& name) {
  if (name == "plain") {
    return detach::WindowZscore::plain;
  }
  if (name == "keep-zero") {
    return detach::WindowZscore::keep_zero;
  }
  if (name == "binary-unscaled") {
    return detach::WindowZscore::binary_unscaled;
  }
  throw std::invalid_argument("zscore must be plain, keep-zero or binary-unscaled, got " + name);
}

detach::WindowSilence silence_of(const std::string& name) {
  if (name == "usual") {
    return detach::WindowSilence::usual;
  }
  if (name == "hold") {
    return detach::WindowSilence::hold;
  }
  if (name == "mask") {
    return detach::WindowSilence::mask;
  }
  throw std::invalid_argument("silence must be usual, hold or mask, got " + name);
}

auto make(double rate_hz, std::int64_t samples, const std::vector<Channel>& channels,
          std::int64_t capacity, const std::string& zscore, double std_floor, double clip, double q,
          bool absolute) {
  std::vector<detach::WindowChannel> columns;
  columns.reserve(channels.size());
  for (const auto& [hz, binary, mean, std, max_gap_s, polarity, silence] : channels) {
    columns.push_back({hz, binary, mean, std, max_gap_s, polarity, silence_of(silence)});
  }
  const detach::WindowParams params{rate_hz,   samples, capacity,     zscore_of(zscore),
                                    std_floor, clip,    {q, absolute}};
  return std::make_unique<Guarded>(params, std::move(columns));
}

std::int64_t push_one(Guarded& self, std::int64_t channel, double t_s, double value) {
  const std::lock_guard<std::mutex> alone(self.busy);
  return self.window.push(channel, &t_s, &value, 1);
}

std::int64_t push(Guarded& self, std::int64_t channel, const Array<double>& t_s,
                  const Array<double>& value) {
  if (t_s.size() != value.size()) {
    throw std::invalid_argument("t_s and value must be equally long");
  }
  const double* times = t_s.data();
  const double* values = value.data();
  const std::int64_t count = t_s.size();
  const py::gil_scoped_release release;
  const std::lock_guard<std::mutex> alone(self.busy);
  return self.window.push(channel, times, values, count);
}

void window(Guarded& self, std::int64_t first, Array<float>& samples, Array<bool>& observed,
            Array<float>& activation) {
  const std::int64_t width = self.window.channels();
  if (samples.size() != self.window.samples() * width || observed.size() != width ||
      activation.size() != width) {
    throw std::invalid_argument("samples, observed or activation is of another size");
  }
  float* x = samples.mutable_data();  // throws where it is read-only
  bool* seen = observed.mutable_data();
  float* active = activation.mutable_data();
  const py::gil_scoped_release release;
  const std::lock_guard<std::mutex> alone(self.busy);
  self.window.window(first, x, seen, active);
}

void release(Guarded& self, std::int64_t first) {
  const std::lock_guard<std::mutex> alone(self.busy);
  self.window.release(first);
}

double reached_s(Guarded& self, std::int64_t channel) {
  const std::lock_guard<std::mutex> alone(self.busy);
  return self.window.reached_s(channel);
}

auto counters(Guarded& self) {
  const std::lock_guard<std::mutex> alone(self.busy);
  const detach::WindowCounters& now = self.window.counters();
  return std::make_tuple(now.late, now.overflow, now.invalid);
}

auto points(Guarded& self) {
  const std::lock_guard<std::mutex> alone(self.busy);
  std::vector<std::tuple<std::int64_t, std::int64_t>> found;
  for (const detach::WindowPoints& of : self.window.points()) {
    found.emplace_back(of.held, of.missing);
  }
  return found;
}

}  // namespace

void define_window(py::module_& m) {
  py::class_<Guarded>(m, "StreamingWindow")
      .def(py::init(&make), py::arg("rate_hz"), py::arg("samples"), py::arg("channels"),
           py::arg("capacity"), py::arg("zscore"), py::arg("std_floor"), py::arg("clip"),
           py::arg("q"), py::arg("absolute"))
      .def("push_one", &push_one, py::arg("channel"), py::arg("t_s"), py::arg("value"))
      .def("push", &push, py::arg("channel"), py::arg("t_s").noconvert(),
           py::arg("value").noconvert())
      .def("window", &window, py::arg("first"), py::arg("samples").noconvert(),
           py::arg("observed").noconvert(), py::arg("activation").noconvert())
      .def("release", &release, py::arg("first"))
      .def("reached_s", &reached_s, py::arg("channel"))
      .def("counters", &counters)
      .def("points", &points);
}
