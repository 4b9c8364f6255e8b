// Threads that outlive a call, so that a kernel of 50 us can use them.
//
// There is one pool in a process. It grows to the largest count ever asked for and is never torn
// down: at exit the system ends it. A child after fork() starts with an empty pool of its own.
#pragma once

#include <cstdint>
#include <functional>

namespace detach {

/// Calls body(begin, end) on disjoint ranges that cover [0, items), from `threads` threads
/// including the calling one, and returns when all are done.
///
/// Ranges hold `grain` items (the last may hold fewer) and are handed out as threads become free.
/// When the pool is busy with another caller's work, or this is a call from within a body, the
/// calling thread does everything itself, as one range. The first exception thrown by a body is
/// rethrown here.
void parallel_for(int threads, std::int64_t items, std::int64_t grain,
                  const std::function<void(std::int64_t, std::int64_t)>& body);

}  // namespace detach
