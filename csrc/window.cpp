#include "detach/window.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "detach/percentile.h"

namespace detach {
namespace {

constexpr double same_time_s = 1e-6;
constexpr float smallest_std = 1e-8F;
constexpr float missing = std::numeric_limits<float>::quiet_NaN();
constexpr std::int64_t most_samples = std::int64_t{1} << 20;
constexpr std::int64_t most_capacity = std::int64_t{1} << 24;
constexpr std::int64_t most_kept = std::int64_t{1} << 26;
constexpr std::int64_t most_written = std::int64_t{1} << 28;

void require(bool holds, const std::string& otherwise) {
  if (!holds) {
    throw std::invalid_argument(otherwise);
  }
}

void require_in(const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most) {  // builds no text where all is well: every push comes here
    throw std::invalid_argument(std::string(name) + " must be in [" + std::to_string(least) + ", " +
                                std::to_string(most) + "], got " + std::to_string(value));
  }
}

void check(const WindowParams& params, std::int64_t width) {
  require(params.rate_hz > 0 && params.rate_hz <= 10000,
          "rate_hz must be in (0, 10000], got " + std::to_string(params.rate_hz));
  require_in("samples", params.samples, 1, most_samples);
  require_in("capacity", params.capacity, 2, most_capacity);
  require(width >= 1, "channels must not be empty");
  require(width <= most_kept / params.capacity,
          "channels x capacity must be at most 2^26 values, got " + std::to_string(width) + " x " +
              std::to_string(params.capacity));
  require(width <= most_written / params.samples, "channels x samples must be at most 2^28, got " +
                                                      std::to_string(width) + " x " +
                                                      std::to_string(params.samples));
  require(params.std_floor > 0, "std_floor must be > 0");
  require(params.clip > 0, "clip must be > 0");
  percentile_rank(params.samples, params.percentile.q);
}

void check(const WindowChannel& channel) {
  require(channel.hz >= 0 && std::isfinite(channel.hz), "hz must be finite and >= 0");
  require(std::isfinite(channel.mean), "mean must be finite");
  require(channel.std >= 0 && std::isfinite(channel.std), "std must be finite and >= 0");
  require(channel.max_gap_s >= 0, "max_gap_s must be >= 0");
  require(channel.polarity == 1 || channel.polarity == -1, "polarity must be 1 or -1");
}

/// The longest silence that is none.
double gap_of(const WindowChannel& channel) {
  return channel.hz > 0 ? std::max(channel.max_gap_s, 2.5 / channel.hz) : channel.max_gap_s;
}

/// The line through (t0, x0) and (t1, x1) at `at`.
double on_line(double t0, double x0, double t1, double x1, double at) {
  return ((x1 - x0) / (t1 - t0) * (at - t0)) + x0;
}

/// Each point takes the newest value at most 1 us after it; `masked`, only up to `gap_s` after it.
/// Returns how many points from `fresh` on stand although they are older.
std::int64_t hold(const WindowRing& ring, const std::vector<double>& grid_s, double gap_s,
                  bool masked, std::int64_t fresh, float* x) {
  std::int64_t next = ring.place(grid_s.front() + same_time_s);
  std::int64_t old = 0;
  for (std::size_t k = 0; k < grid_s.size(); ++k) {
    while (next < ring.size() && ring.time(next) <= grid_s[k] + same_time_s) {
      ++next;
    }
    x[k] = next > 0 ? ring.value(next - 1) : missing;
    if (std::isnan(x[k]) || grid_s[k] - ring.time(next - 1) <= gap_s + same_time_s) {
      continue;
    }
    if (masked) {
      x[k] = missing;
    } else {
      old += static_cast<std::int64_t>(static_cast<std::int64_t>(k) >= fresh);
    }
  }
  return old;
}

/// Value at `point_s`, which lies between the values `after` - 1 and `after`, or beyond all.
double between(const WindowRing& ring, std::int64_t after, double point_s) {
  if (after == ring.size()) {
    return ring.value(after - 1);
  }
  if (ring.time(after) == point_s) {  // the last of several at one time
    while (after + 1 < ring.size() && ring.time(after + 1) == point_s) {
      ++after;
    }
    return ring.value(after);
  }
  if (after == 0) {
    return ring.value(0);
  }
  return on_line(ring.time(after - 1), ring.value(after - 1), ring.time(after), ring.value(after),
                 point_s);
}

/// Lines between neighbours at most `gap_s` apart; the ends reach `edge_s` outwards.
void interpolate(const WindowRing& ring, const std::vector<double>& grid_s, double gap_s,
                 double edge_s, float* x) {
  const std::int64_t last = ring.size() - 1;
  if (last < 0) {
    std::fill_n(x, grid_s.size(), missing);
    return;
  }
  const double first_s = ring.time(0) - edge_s;
  const double last_s = ring.time(last) + edge_s;
  std::int64_t after = ring.first_from(grid_s.front());
  for (const double point_s : grid_s) {
    while (after <= last && ring.time(after) < point_s) {
      ++after;
    }
    const double left_s = ring.time(std::max<std::int64_t>(after - 1, 0));
    const double right_s = ring.time(std::min(after, last));
    const bool joined = right_s - left_s <= gap_s || std::abs(right_s - point_s) < same_time_s;
    const bool known = joined && point_s >= first_s && point_s <= last_s;
    *x++ = known ? static_cast<float>(between(ring, after, point_s)) : missing;
  }
}

void round_to_even(float* x, std::int64_t count) {
  for (std::int64_t k = 0; k < count; ++k) {
    x[k] = std::nearbyint(x[k]);
  }
}

/// Fills the points between the known ones at `left` and `right`, both excluded.
void fill_between(float* x, std::int64_t left, std::int64_t right, bool binary) {
  const double slope =
      (static_cast<double>(x[right]) - x[left]) / static_cast<double>(right - left);
  for (std::int64_t k = left + 1; k < right; ++k) {
    const double value = (slope * static_cast<double>(k - left)) + x[left];
    x[k] = static_cast<float>(binary ? std::nearbyint(value) : value);
  }
}

/// Fills gaps linearly with flat ends; returns false, and zeros, where more than half is missing.
bool fill(float* x, std::int64_t count, bool binary) {
  const std::int64_t gaps = std::count_if(x, x + count, [](float v) { return std::isnan(v); });
  if (gaps > count - gaps) {
    std::fill_n(x, count, 0.0F);
    return false;
  }
  if (gaps == 0) {
    return true;
  }
  std::int64_t left = -1;
  for (std::int64_t k = 0; k < count; ++k) {
    if (std::isnan(x[k])) {
      continue;
    }
    if (left < 0) {
      std::fill_n(x, k, x[k]);
    } else {
      fill_between(x, left, k, binary);
    }
    left = k;
  }
  std::fill(x + left + 1, x + count, x[left]);
  return true;
}

/// Scales by the channel's statistics, and leaves an exact 0 alone where that is asked for.
void scale(float* x, std::int64_t count, float mean, float std, bool keep_zero) {
  const float by = std > smallest_std ? 1.0F / std::max(std, smallest_std) : 0.0F;
  for (std::int64_t k = 0; k < count; ++k) {
    const float scaled = (x[k] - mean) * by;
    x[k] = keep_zero && x[k] == 0.0F ? 0.0F : scaled;
  }
}

void normalise(float* x, const WindowParams& params, const WindowChannel& channel) {
  const auto mean = static_cast<float>(channel.mean);
  const auto std = static_cast<float>(channel.std);
  if (params.zscore != WindowZscore::binary_unscaled) {
    scale(x, params.samples, mean, std, params.zscore == WindowZscore::keep_zero);
    return;
  }
  if (channel.binary) {
    return;
  }
  const float by = std::max(std, static_cast<float>(params.std_floor));
  const auto limit = static_cast<float>(params.clip);
  for (std::int64_t k = 0; k < params.samples; ++k) {
    x[k] = std::min(std::max((x[k] - mean) / by, -limit), limit);
  }
}

}  // namespace

WindowRing::WindowRing(std::int64_t capacity)
    : times_(static_cast<std::size_t>(capacity)), values_(static_cast<std::size_t>(capacity)) {}

std::size_t WindowRing::slot(std::int64_t i) const {
  const auto at = static_cast<std::size_t>(head_ + i);
  return at < times_.size() ? at : at - times_.size();
}

std::int64_t WindowRing::place(double t_s) const {
  std::int64_t low = 0;
  std::int64_t high = size_;
  while (low < high) {
    const std::int64_t middle = low + ((high - low) / 2);
    if (time(middle) <= t_s) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

std::int64_t WindowRing::first_from(double t_s) const {
  return place(std::nextafter(t_s, -std::numeric_limits<double>::infinity()));
}

bool WindowRing::insert(std::int64_t place, double t_s, float value) {
  const bool full = static_cast<std::size_t>(size_) == times_.size();
  if (full) {
    if (place == 0) {
      return false;
    }
    drop_oldest();
    --place;
  }
  for (std::int64_t i = size_; i > place; --i) {
    times_[slot(i)] = times_[slot(i - 1)];
    values_[slot(i)] = values_[slot(i - 1)];
  }
  times_[slot(place)] = t_s;
  values_[slot(place)] = value;
  ++size_;
  return !full;
}

void WindowRing::drop_oldest() {
  head_ = static_cast<std::int64_t>(slot(1));
  --size_;
}

StreamingWindow::StreamingWindow(const WindowParams& params, std::vector<WindowChannel> channels)
    : params_(params), channels_(std::move(channels)) {
  check(params_, this->channels());
  for (const WindowChannel& channel : channels_) {
    check(channel);
  }
  points_.resize(channels_.size());
  rings_.reserve(channels_.size());
  for (std::size_t c = 0; c < channels_.size(); ++c) {
    rings_.emplace_back(params_.capacity);
  }
  grid_s_.resize(static_cast<std::size_t>(params_.samples));
  column_.resize(static_cast<std::size_t>(params_.samples));
}

const WindowRing& StreamingWindow::ring(std::int64_t channel) const {
  require_in("channel", channel, 0, channels() - 1);
  return rings_[static_cast<std::size_t>(channel)];
}

/// Whether a value at `t_s` makes all older ones needless from the released point on.
bool StreamingWindow::before_grid(const WindowChannel& channel, double t_s) const {
  const double start_s = static_cast<double>(released_) / params_.rate_hz;
  return t_s <= start_s + (channel.holds() ? same_time_s : 0.0);
}

bool StreamingWindow::push_one(const WindowChannel& channel, WindowRing& ring, double t_s,
                               double value) {
  auto x = static_cast<float>(value);
  const bool finite = std::isfinite(x);
  if (!std::isfinite(t_s) || (channel.binary && finite && x != 0.0F && x != 1.0F)) {
    ++counters_.invalid;
    return false;
  }
  if (!finite && !channel.holds()) {
    return false;
  }
  if (!finite) {
    x = missing;
  } else if (channel.polarity < 0) {
    x = channel.binary ? 1.0F - x : -x;
  }
  const std::int64_t size = ring.size();
  const bool in_order = size == 0 || ring.time(size - 1) <= t_s;
  const std::int64_t place = in_order ? size : ring.place(t_s);
  if (place < size && before_grid(channel, ring.time(place))) {
    ++counters_.late;
    return false;
  }
  const bool kept_all = ring.insert(place, t_s, x);
  counters_.overflow += static_cast<std::int64_t>(!kept_all);
  return kept_all || place > 0;
}

std::int64_t StreamingWindow::push(std::int64_t channel, const double* t_s, const double* value,
                                   std::int64_t count) {
  ring(channel);
  const auto c = static_cast<std::size_t>(channel);
  std::int64_t taken = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    taken += static_cast<std::int64_t>(push_one(channels_[c], rings_[c], t_s[i], value[i]));
  }
  return taken;
}

void StreamingWindow::window(std::int64_t first, float* samples, bool* observed,
                             float* activation) {
  const std::int64_t length = params_.samples;
  const std::int64_t width = channels();
  require_in("first", first, released_, std::numeric_limits<std::int64_t>::max() - length);
  const std::int64_t fresh = std::min(std::max<std::int64_t>(counted_ - first, 0), length);
  counted_ = std::max(counted_, first + length);
  for (std::int64_t k = 0; k < length; ++k) {
    grid_s_[static_cast<std::size_t>(k)] = static_cast<double>(first + k) / params_.rate_hz;
  }
  for (std::int64_t c = 0; c < width; ++c) {
    const WindowChannel& channel = channels_[static_cast<std::size_t>(c)];
    WindowPoints& points = points_[static_cast<std::size_t>(c)];
    float* x = column_.data();
    points.held += resample(channel, rings_[static_cast<std::size_t>(c)], fresh, x);
    points.missing += std::count_if(x + fresh, x + length, [](float v) { return std::isnan(v); });
    observed[c] = fill(x, length, channel.binary);
    if (observed[c]) {
      normalise(x, params_, channel);
    }
    for (std::int64_t k = 0; k < length; ++k) {
      samples[(k * width) + c] = x[k];
    }
  }
  percentile_cpu(PercentileType::float32, samples, activation, {1, length, width},
                 params_.percentile, 1);
}

/// Returns how many points from `fresh` on are held.
std::int64_t StreamingWindow::resample(const WindowChannel& channel, const WindowRing& ring,
                                       std::int64_t fresh, float* x) const {
  if (channel.holds()) {
    const bool masked = channel.silence == WindowSilence::mask;
    return hold(ring, grid_s_, gap_of(channel), masked, fresh, x);
  }
  const double edge_s = std::max(1 / channel.hz, 1 / params_.rate_hz);
  interpolate(ring, grid_s_, gap_of(channel), edge_s, x);
  if (channel.binary) {
    round_to_even(x, params_.samples);
  }
  return 0;
}

void StreamingWindow::release(std::int64_t first) {
  require_in("first", first, 0, std::numeric_limits<std::int64_t>::max());
  released_ = std::max(released_, first);
  for (std::size_t c = 0; c < rings_.size(); ++c) {
    while (rings_[c].size() > 1 && before_grid(channels_[c], rings_[c].time(1))) {
      rings_[c].drop_oldest();
    }
  }
}

double StreamingWindow::reached_s(std::int64_t channel) const {
  const WindowRing& values = ring(channel);
  return values.size() > 0 ? values.time(values.size() - 1)
                           : -std::numeric_limits<double>::infinity();
}

}  // namespace detach
