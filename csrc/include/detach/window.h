// Streaming window: raw sensor values in as they come, the samples of one window out when asked.
//
// Each channel keeps its raw values (time in double, value in float) in a ring, in order of time. A
// window is resampled from them when it is asked for, so that the order in which values arrived,
// the chunks they came in and how often a window is asked for change nothing: the result is that of
// the offline path (detach.data.sensors) on all values pushed so far, step by step in its order and
// precision.
//
//   grid        point k stands at k / rate_hz seconds, k >= 0; a window is T points from `first`.
//   events      (hz = 0) hold: the newest value at most 1 us after the point; missing before the
//               first. A value that is not finite means that the state is unknown from there on.
//               With WindowSilence::mask a value more than max_gap_s old is missing too.
//   sampled     joined by lines where neighbours are at most max(max_gap_s, 2.5 / hz) apart, or
//               where the right one lies within 1 us of the point. The first value reaches
//               max(1 / hz, 1 / rate_hz) backwards, the newest as far forwards. Values that are not
//               finite are no values. 0/1 channels are then rounded, half to even. With
//               WindowSilence::hold they are events instead, however long the silence.
//   gaps        in a window are filled linearly, ends flat, 0/1 channels rounded. A channel missing
//               in more than half of the points is not observed: its samples are 0.
//   normalised  in one of three forms, see WindowZscore.
//   activation  the percentile of the normalised samples, see percentile.h.
//
// The newest value of a sampled channel stands for its last one, as at the end of a recording. A
// window is final once every sampled channel has a value after the last point (at it will do where
// no two share a time) or has ended, and every event channel has all its events: nothing that
// arrives later in order changes it. Asked earlier, the points after the newest value hold it for
// max(1 / hz, 1 / rate_hz) and are missing beyond.
//
//   memory      12 capacity C + 12 T + 128 C bytes, all of it allocated by the constructor: 12 for
//               each value that may be kept. Afterwards only the percentile kernel allocates, and
//               frees again: the 40 bytes of its call, and T floats where T > 1024 and q is far
//               from 0 and 1.
//   time        push O(1) in order, otherwise O(values that are newer); release O(C + values
//               dropped); window O(C (T + values in it + log capacity)).
//   threads     calls on one object must not overlap; different objects share nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "detach/percentile.h"

namespace detach {

/// What becomes of a channel that is silent for longer than max_gap_s.
enum class WindowSilence : int {
  usual,  ///< events hold, samples are missing
  hold,   ///< each value stands until the next one
  mask    ///< it is missing
};

/// What is known about one column of the samples.
struct WindowChannel {
  double hz = 0.0;         ///< nominal rate of a sampled channel; 0 for events
  bool binary = false;     ///< values are 0 and 1
  double mean = 0.0;       ///< of the pretraining part
  double std = 1.0;        ///< of the pretraining part, >= 0
  double max_gap_s = 1.0;  ///< longest silence; of a sampled channel never below 2.5 / hz
  int polarity = 1;        ///< -1: values are negated, those of 0/1 channels inverted
  WindowSilence silence = WindowSilence::usual;

  /// Whether values hold until the next one, instead of being joined by lines.
  bool holds() const { return hz == 0 || silence == WindowSilence::hold; }
};

/// Grid points of one channel, each counted in the first window that has it; points that windows
/// passed over are in none.
struct WindowPoints {
  std::int64_t held = 0;     ///< stand although their value is more than max_gap_s old
  std::int64_t missing = 0;  ///< before gaps are filled
};

/// x' of a sample x, all in float.
enum class WindowZscore : int {
  plain,           ///< (x - mean) / std; 0 where std <= 1e-8
  keep_zero,       ///< the same, but an exact 0 stays 0
  binary_unscaled  ///< 0/1 channels stay; (x - mean) / max(std, std_floor) within +-clip otherwise
};

struct WindowParams {
  double rate_hz = 64.0;         ///< of the grid, in (0, 10000]
  std::int64_t samples = 128;    ///< T, grid points of a window, in [1, 2^20]
  std::int64_t capacity = 2048;  ///< values kept of each channel, in [2, 2^24]
  WindowZscore zscore = WindowZscore::binary_unscaled;
  double std_floor = 1e-2;  ///< > 0
  double clip = 10.0;       ///< > 0
  PercentileParams percentile;
};

/// Values that were not taken, or lost.
struct WindowCounters {
  std::int64_t late = 0;      ///< no window that may still be asked for needs them
  std::int64_t overflow = 0;  ///< oldest ones dropped from a full ring
  std::int64_t invalid = 0;   ///< time not finite, or neither 0 nor 1 on a 0/1 channel
};

/// The values of one channel, oldest first, in a ring.
class WindowRing {
 public:
  explicit WindowRing(std::int64_t capacity);

  std::int64_t size() const { return size_; }
  double time(std::int64_t i) const { return times_[slot(i)]; }
  float value(std::int64_t i) const { return values_[slot(i)]; }

  /// Where a value at `t_s` belongs: behind all that are not newer.
  std::int64_t place(double t_s) const;
  /// The first value at `t_s` or later; `size` if there is none.
  std::int64_t first_from(double t_s) const;
  /// Puts a value at `place(t_s)`. A full ring loses its oldest value, which is this one at place
  /// 0. Returns whether none was lost.
  bool insert(std::int64_t place, double t_s, float value);
  void drop_oldest();

 private:
  std::size_t slot(std::int64_t i) const;

  std::vector<double> times_;
  std::vector<float> values_;
  std::int64_t head_ = 0;
  std::int64_t size_ = 0;
};

class StreamingWindow {
 public:
  /// Throws std::invalid_argument when a parameter is out of range, or there are more than 2^26
  /// values to keep or 2^28 samples in a window.
  StreamingWindow(const WindowParams& params, std::vector<WindowChannel> channels);

  /// Takes `count` raw values of one channel at their times in seconds; negative times lie before
  /// the grid. Returns how many were taken: not those that are no values, late, lost or invalid.
  /// Of values at one time the later arrival counts. Throws std::invalid_argument for a channel
  /// that does not exist.
  std::int64_t push(std::int64_t channel, const double* t_s, const double* value,
                    std::int64_t count);

  /// Writes samples [T, C], observed [C] and activation [C] of the grid points from `first`.
  ///
  /// Throws std::invalid_argument for a `first` that is negative, was released, or whose window
  /// ends beyond the range of std::int64_t.
  void window(std::int64_t first, float* samples, bool* observed, float* activation);

  /// Forgets what no window from `first` on needs. The value an event channel holds and the value
  /// left of the grid stay. An earlier `first` than before changes nothing; throws
  /// std::invalid_argument for a negative one.
  void release(std::int64_t first);

  /// Time of the newest value of a channel; minus infinity before there is one. Throws
  /// std::invalid_argument for a channel that does not exist.
  double reached_s(std::int64_t channel) const;

  const WindowCounters& counters() const { return counters_; }
  /// Of each channel.
  const std::vector<WindowPoints>& points() const { return points_; }
  std::int64_t samples() const { return params_.samples; }
  std::int64_t channels() const { return static_cast<std::int64_t>(channels_.size()); }

 private:
  const WindowRing& ring(std::int64_t channel) const;
  bool push_one(const WindowChannel& channel, WindowRing& ring, double t_s, double value);
  bool before_grid(const WindowChannel& channel, double t_s) const;
  std::int64_t resample(const WindowChannel& channel, const WindowRing& ring, std::int64_t fresh,
                        float* x) const;

  WindowParams params_;
  std::vector<WindowChannel> channels_;
  std::vector<WindowRing> rings_;
  std::vector<double> grid_s_;
  std::vector<float> column_;
  WindowCounters counters_;
  std::vector<WindowPoints> points_;
  std::int64_t counted_ = 0;  // points before this one were in a window
  std::int64_t released_ = 0;
};

}  // namespace detach
