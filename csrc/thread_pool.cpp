#include "detach/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace detach {
namespace {

using Body = std::function<void(std::int64_t, std::int64_t)>;

constexpr int max_threads = 256;

thread_local bool in_body = false;  // a nested call must not wait for its own thread

/// One call of parallel_for, shared by the threads that work on it.
struct Job {
  Job(const Body& job_body, std::int64_t job_items, std::int64_t job_grain)
      : body(job_body), items(job_items), grain(job_grain) {}

  void work() {
    in_body = true;
    take_ranges();
    in_body = false;
  }

  void take_ranges() {
    for (;;) {
      const std::int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
      if (begin >= items) {
        return;
      }
      try {
        body(begin, std::min(items, begin + grain));
      } catch (...) {
        const std::lock_guard<std::mutex> lock(error_mutex);
        if (!error) {
          error = std::current_exception();
        }
        next.store(items, std::memory_order_relaxed);
      }
    }
  }

  const Body& body;
  const std::int64_t items;
  const std::int64_t grain;
  std::atomic<std::int64_t> next{0};
  std::mutex error_mutex;
  std::exception_ptr error;
};

class ThreadPool {
 public:
  /// False when the pool is busy or has no threads: the caller then works alone.
  bool run(Job& job, int helpers) {
    const std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    if (!turn.owns_lock()) {
      return false;
    }
    std::unique_lock<std::mutex> lock(mutex_);
    grow(helpers);
    if (size_ == 0) {
      return false;
    }
    job_ = &job;
    wanted_ = std::min(helpers, size_);
    ++generation_;
    lock.unlock();
    wake_.notify_all();
    job.work();
    lock.lock();
    wanted_ = 0;  // whoever has not started yet need not
    done_.wait(lock, [this] { return working_ == 0; });
    job_ = nullptr;
    return true;
  }

 private:
  void grow(int helpers) {
    try {
      for (; size_ < helpers; ++size_) {
        std::thread([this] { serve(); }).detach();
      }
    } catch (const std::system_error&) {
      // The system gives no more threads: the ones there are do the work.
    }
  }

  [[noreturn]] void serve() {
    std::uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return wanted_ > 0 && generation_ != seen; });
      seen = generation_;
      --wanted_;
      ++working_;
      Job* const job = job_;
      lock.unlock();
      job->work();
      lock.lock();
      if (--working_ == 0) {
        done_.notify_one();
      }
    }
  }

  std::mutex turn_;  // held by the caller whose job is running
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  Job* job_ = nullptr;
  std::uint64_t generation_ = 0;
  int wanted_ = 0;
  int working_ = 0;
  int size_ = 0;
};

std::atomic<ThreadPool*> the_pool{nullptr};

// After fork() the threads are gone and a mutex may be held by one of them: the child leaves the
// old pool where it is and makes a new one when it needs it.
void forget_pool() { the_pool.store(nullptr, std::memory_order_relaxed); }

ThreadPool& pool() {
#if !defined(_WIN32)
  static const int registered = pthread_atfork(nullptr, nullptr, forget_pool);
  static_cast<void>(registered);
#endif
  ThreadPool* current = the_pool.load(std::memory_order_acquire);
  if (current == nullptr) {
    auto* const fresh = new ThreadPool;  // never deleted: its threads use it until the process ends
    if (the_pool.compare_exchange_strong(current, fresh, std::memory_order_acq_rel)) {
      return *fresh;
    }
    delete fresh;
  }
  return *current;
}

}  // namespace

void parallel_for(int threads, std::int64_t items, std::int64_t grain, const Body& body) {
  if (items <= 0) {
    return;
  }
  grain = std::max<std::int64_t>(grain, 1);
  const std::int64_t ranges = ((items - 1) / grain) + 1;
  const auto useful = static_cast<int>(std::min<std::int64_t>({threads, ranges, max_threads}));
  if (useful <= 1 || in_body) {
    body(0, items);
    return;
  }
  Job job(body, items, grain);
  if (!pool().run(job, useful - 1)) {
    body(0, items);
    return;
  }
  if (job.error) {
    std::rethrow_exception(job.error);
  }
}

}  // namespace detach
