// What the core does with any numbers: percentiles, losses and gradients of
// batches and of pairs of blocks, streaming windows.
//
//   tests/core/run.sh fuzz [SECONDS]
//
// Every buffer is as large as the headers say and no larger, so that the sanitizer sees one step
// too far. std::invalid_argument is an answer; so is NaN.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "detach/percentile.h"
#include "detach/window.h"
#include "fuzz_bytes.h"
#include "fuzz_contrast.h"

namespace {

void percentiles(Bytes& in) {
  const auto type = static_cast<detach::PercentileType>(in.below(5));
  const detach::PercentileShape shape{in.below(6), (in.below(2) != 0 ? 1 : 40) * in.below(40),
                                      in.below(12)};
  const detach::PercentileParams params{in.below(4) != 0 ? in.below(101) / 100.0 : in.raw<double>(),
                                        in.below(2) != 0};
  const int threads = in.below(4);
  const std::int64_t outputs = shape.outer * shape.inner;
  const std::int64_t values = outputs * shape.length;
  constexpr std::int64_t sizes[] = {4, 8, 2, 2, 2};
  const std::int64_t size = sizes[static_cast<int>(type)];
  const bool whole = type == detach::PercentileType::int16;
  std::vector<std::uint8_t> x(static_cast<std::size_t>(values * size));
  for (std::int64_t i = 0; i < values; ++i) {
    const auto wide = in.number<double>();
    const auto narrow = static_cast<float>(wide);
    std::uint8_t bits[8];
    if (size == 8) {
      std::memcpy(bits, &wide, 8);
    } else {
      std::memcpy(bits, &narrow, 4);
    }
    std::memcpy(&x[static_cast<std::size_t>(i * size)], size == 2 ? bits + 2 : bits,
                static_cast<std::size_t>(size));
  }
  std::vector<std::uint8_t> out(static_cast<std::size_t>(outputs * (whole ? 4 : size)));
  detach::percentile_cpu(type, x.data(), out.data(), shape, params, threads);
}

void windows(Bytes& in) {
  detach::WindowParams params;
  params.rate_hz = in.below(4) != 0 ? 1 + in.below(100) : in.raw<double>();
  params.samples = in.below(4) != 0 ? 1 + in.below(64) : in.raw<std::int16_t>();
  params.capacity = in.below(4) != 0 ? 2 + in.below(32) : in.raw<std::int16_t>();
  params.zscore = static_cast<detach::WindowZscore>(in.below(3));
  params.std_floor = in.number<double>();
  params.clip = in.number<double>();
  params.percentile = {in.below(101) / 100.0, in.below(2) != 0};
  std::vector<detach::WindowChannel> channels(static_cast<std::size_t>(in.below(5)));
  for (auto& channel : channels) {
    channel = {in.below(3) != 0 ? static_cast<double>(in.below(60)) : in.raw<double>(),
               in.below(2) != 0,
               in.number<double>(),
               std::fabs(in.number<double>()),
               in.below(3) != 0 ? 1.0 : in.raw<double>(),
               in.below(8) != 0 ? 1 : -1,
               static_cast<detach::WindowSilence>(in.below(3))};
  }
  const auto width = channels.size();
  detach::StreamingWindow window(params, channels);
  const auto wanted = static_cast<std::size_t>(params.samples) * width;
  std::vector<float> samples(wanted), activation(width);
  const std::unique_ptr<bool[]> observed(new bool[width]);
  double now_s = 0.0;
  for (int i = 0; i < 200 && !in.empty(); ++i) {
    const auto what = in.below(8);
    const std::int64_t first = what == 7 ? in.raw<std::int64_t>() : in.below(250);
    try {
      if (what < 5) {
        now_s += in.below(8) != 0 ? in.below(20) / 16.0 : in.number<double>();
        const double times[] = {now_s, now_s + in.number<double>()};
        const double values[] = {in.number<double>(), static_cast<double>(in.below(2))};
        window.push(in.below(static_cast<int>(width) + 1), times, values, 2);
      } else if (what == 5) {
        window.release(first);
      } else {
        window.window(first, samples.data(), observed.get(), activation.data());
      }
    } catch (const std::invalid_argument&) {
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes in(data, size);
  try {
    switch (in.below(6)) {
      case 0:
        percentiles(in);
        break;
      case 1:
        losses<float>(in);
        break;
      case 2:
        losses<double>(in);
        break;
      case 3:
        pairs<float>(in);
        break;
      case 4:
        pairs<double>(in);
        break;
      default:
        windows(in);
    }
  } catch (const std::invalid_argument&) {
  }
  return 0;
}
