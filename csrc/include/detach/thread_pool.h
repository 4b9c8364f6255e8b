// Threads that outlive a call, so that a kernel of 50 us can use them.
//
// There is one pool in a process. It grows to the largest count ever asked for and is never torn
// down: at exit the system ends it. A child after fork() starts with an empty pool of its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace detach {

/// Items [0, items) in ranges that threads take: large ones first, so that work which is done once
/// for a range is done seldom, and small ones in the end, so that nobody waits long for the others.
/// They begin at multiples of `grain`; the last one may hold fewer.
class Ranges {
 public:
  Ranges(std::int64_t items, std::int64_t grain, int threads)
      : items_(items), grain_(grain), threads_(threads) {}
  /// False when all are taken.
  bool take(std::int64_t& begin, std::int64_t& end);

 private:
  const std::int64_t items_;
  const std::int64_t grain_;
  const int threads_;
  std::atomic<std::int64_t> next_{0};
};

/// Calls body() from up to `threads` threads including the calling one, and returns when all are
/// done: for work that shares a Ranges and keeps something between them. When the pool is busy with
/// another caller's work, or this is a call from within a body, only the calling thread does. The
/// first exception thrown by a body is rethrown here, when the others have ended.
void on_threads(int threads, const std::function<void()>& body);

/// Calls body(begin, end) on disjoint ranges that cover [0, items), on_threads, and returns when
/// all are done. A thread that works alone gets one range.
void parallel_for(int threads, std::int64_t items, std::int64_t grain,
                  const std::function<void(std::int64_t, std::int64_t)>& body);

}  // namespace detach
