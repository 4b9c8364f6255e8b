#include "detach/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
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
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace detach {
namespace {

using Body = std::function<void()>;

constexpr int max_threads = 256;

thread_local bool in_body = false;  // a nested call must not wait for its own thread

/// The largest range is the share of a thread in what is left, divided by this.
constexpr std::int64_t ranges_left = 4;

/// Tells the core that a loop waits.
void pause() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
  __asm__ __volatile__("yield");
#endif
}

/// The regions of one call follow each other within this time, and waking a thread takes longer.
constexpr auto most_spinning = std::chrono::microseconds(100);

/// Waits for `ready` without sleeping, as long as that is worth it.
template <class Ready>
void spin_until(const Ready& ready) {
  const auto end = std::chrono::steady_clock::now() + most_spinning;
  while (!ready() && std::chrono::steady_clock::now() < end) {
    for (int i = 0; i < 16 && !ready(); ++i) {
      pause();
    }
  }
}

/// One call of on_threads, shared by the threads that work on it.
struct Job {
  explicit Job(const Body& job_body) : body(job_body) {}

  void work() {
    in_body = true;
    try {
      body();
    } catch (...) {
      const std::lock_guard<std::mutex> lock(error_mutex);
      if (!error) {
        error = std::current_exception();
      }
    }
    in_body = false;
  }

  const Body& body;
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
    lock.unlock();
    spin_until([this] { return working_ == 0; });
    lock.lock();
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
      lock.unlock();
      spin_until([&] { return generation_ != seen; });
      lock.lock();
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
  // Written while the mutex is held; who spins reads the two of them without it.
  std::atomic<std::uint64_t> generation_{0};
  std::atomic<int> working_{0};
  int wanted_ = 0;
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

bool Ranges::take(std::int64_t& begin, std::int64_t& end) {
  begin = next_.load(std::memory_order_relaxed);
  do {
    if (begin >= items_) {
      return false;
    }
    const std::int64_t share = (items_ - begin) / (std::int64_t{threads_} * ranges_left);
    end = std::min(items_, begin + (std::max(std::int64_t{1}, share / grain_) * grain_));
  } while (!next_.compare_exchange_weak(begin, end, std::memory_order_relaxed));
  return true;
}

void on_threads(int threads, const Body& body) {
  threads = std::min(threads, max_threads);
  if (threads <= 1 || in_body) {
    body();
    return;
  }
  Job job(body);
  if (!pool().run(job, threads - 1)) {
    body();
    return;
  }
  if (job.error) {
    std::rethrow_exception(job.error);
  }
}

void parallel_for(int threads, std::int64_t items, std::int64_t grain,
                  const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (items <= 0) {
    return;
  }
  grain = std::max<std::int64_t>(grain, 1);
  const std::int64_t most = ((items - 1) / grain) + 1;
  const auto useful = static_cast<int>(std::min<std::int64_t>(threads, most));
  if (useful <= 1) {
    body(0, items);
    return;
  }
  Ranges ranges(items, grain, useful);
  on_threads(useful, [&] {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    while (ranges.take(begin, end)) {
      body(begin, end);
    }
  });
}

}  // namespace detach
