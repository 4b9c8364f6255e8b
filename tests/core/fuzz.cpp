// What the core does with any numbers: percentiles, losses and gradients, streaming windows.
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

#include "detach/contrast.h"
#include "detach/percentile.h"
#include "detach/window.h"

namespace {

/// The input, read from the front; zeros when it is used up.
class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}

  bool empty() const { return left_ == 0; }

  template <typename T>
  T raw() {
    T value{};
    const std::size_t taken = left_ < sizeof(T) ? left_ : sizeof(T);
    std::memcpy(&value, data_, taken);
    data_ += taken;
    left_ -= taken;
    return value;
  }

  int below(int limit) { return raw<std::uint8_t>() % limit; }

  /// Mostly numbers of ordinary size; any bits now and then, so NaN and infinity too.
  template <typename T>
  T number() {
    const auto way = raw<std::uint8_t>();
    return way < 8 ? raw<T>() : static_cast<T>((way - 128) / 16.0);
  }

  template <typename T>
  std::vector<T> numbers(std::int64_t count) {
    std::vector<T> found(static_cast<std::size_t>(count));
    for (T& x : found) {
      x = number<T>();
    }
    return found;
  }

 private:
  const std::uint8_t* data_;
  std::size_t left_;
};

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

template <typename T>
void losses(Bytes& in) {
  detach::ContrastBlock<T> batch;
  batch.rows = in.below(40);
  batch.spatial_width = in.below(12);
  batch.temporal_width = in.below(40);
  batch.momentum_width = in.below(24);
  detach::ContrastParams params;
  params.temperature = in.below(4) != 0 ? 0.1 : in.raw<double>();
  params.lambda_hard = in.below(4) != 0 ? 3.0 : in.raw<double>();
  params.gate = static_cast<detach::ContrastGate>(in.below(2));
  params.power = in.below(4);
  params.temporal = static_cast<detach::ContrastTemporal>(in.below(3));
  params.normalize = in.below(2) != 0;
  const std::int64_t start = in.below(41);
  const std::int64_t stop = in.below(41);
  const int threads = in.below(5);
  const bool keeps = in.below(2) != 0;
  const int mask_kind = in.below(3);

  const auto spatial = in.numbers<T>(2 * batch.rows * batch.spatial_width);
  const auto temporal = in.numbers<T>(2 * batch.rows * batch.temporal_width);
  const auto momentum = in.numbers<T>(2 * batch.rows * batch.momentum_width);
  batch.video_spatial = spatial.data();
  batch.sensor_spatial = spatial.data() + (batch.rows * batch.spatial_width);
  batch.video_temporal = temporal.data();
  batch.sensor_temporal = temporal.data() + (batch.rows * batch.temporal_width);
  batch.video_momentum = momentum.data();
  batch.sensor_momentum = momentum.data() + (batch.rows * batch.momentum_width);

  const auto pairs = static_cast<std::size_t>(batch.rows * batch.rows);
  const std::unique_ptr<bool[]> dense(new bool[pairs]());
  std::vector<std::int64_t> group;
  std::vector<double> position;
  detach::PairMask mask;
  if (mask_kind == 1) {
    for (std::size_t i = 0; i < pairs; ++i) {
      dense[i] = in.below(3) == 0;
    }
    mask = {dense.get(), batch.rows, dense.get(), batch.rows, 0.0};
  } else if (mask_kind == 2) {
    for (std::int64_t i = 0; i < batch.rows; ++i) {
      group.push_back(in.below(3));
      position.push_back(in.number<double>());
    }
    batch.group = group.data();
    batch.position = position.data();
    mask.reach = in.number<double>();
  }

  const bool rows_are_there = start <= stop && stop <= batch.rows;
  const std::int64_t count = rows_are_there ? stop - start : 0;
  std::vector<double> loss(2 * count), log_denominator(2 * count), weight(2 * count);
  std::vector<T> saved(static_cast<std::size_t>(
      rows_are_there && keeps ? detach::contrast_batch_saved_size(batch.rows, start, stop) : 0));
  T* const kept = keeps ? saved.data() : nullptr;
  detach::contrast_batch(batch, params, mask, start, stop,
                         {loss.data(), log_denominator.data(), weight.data()}, kept, threads);
  std::vector<T> of_spatial(spatial.size()), of_temporal(temporal.size());
  const detach::ContrastGradients<T> gradients{
      of_spatial.data(), of_temporal.data(), of_spatial.data() + (batch.rows * batch.spatial_width),
      of_temporal.data() + (batch.rows * batch.temporal_width)};
  const std::vector<double> upstream(static_cast<std::size_t>(count), 0.5);
  detach::contrast_batch_gradient(batch, params, mask, start, stop, log_denominator.data(),
                                  upstream.data(), kept, gradients, threads);
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
    switch (in.below(4)) {
      case 0:
        percentiles(in);
        break;
      case 1:
        losses<float>(in);
        break;
      case 2:
        losses<double>(in);
        break;
      default:
        windows(in);
    }
  } catch (const std::invalid_argument&) {
  }
  return 0;
}
