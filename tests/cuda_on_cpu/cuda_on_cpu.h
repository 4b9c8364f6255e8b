// Runs CUDA kernels on a CPU, for tests: the threads of a block are coroutines that switch at
// barriers and at whatever a warp does together. Blocks run one after the other.
//
// It is stricter than a GPU where that finds mistakes: shared memory starts as NaN, asynchronous
// copies arrive either at once or as late as is allowed (`copies_are_late`), threads run in either
// order (`threads_run_backwards`), all threads must reach a barrier, all lanes the same
// instruction, and addresses are checked.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <driver_types.h>
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#undef __global__
#define __global__
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __grid_constant__
#define __grid_constant__
#define DETACH_TUNABLE inline

struct Index {
  unsigned x = 0;
  unsigned y = 0;
};
inline Index threadIdx;
inline Index blockIdx;
inline Index gridDim;

namespace cuda_on_cpu {

inline const char* error_string(cudaError_t) { return ""; }
inline cudaError_t device(int* number) {
  *number = 0;
  return cudaSuccess;
}
/// Two multiprocessors: blocks of threads must take more than one unit of work.
inline cudaError_t attribute(int* value, cudaDeviceAttr which, int) {
  *value = which == cudaDevAttrMultiProcessorCount ? 2 : 100 * 1024;
  return cudaSuccess;
}

}  // namespace cuda_on_cpu
#define cudaGetErrorString cuda_on_cpu::error_string
#define cudaGetDevice cuda_on_cpu::device
#define cudaDeviceGetAttribute cuda_on_cpu::attribute

inline float __uint_as_float(std::uint32_t x) {
  float y;
  std::memcpy(&y, &x, sizeof(y));
  return y;
}
inline std::uint32_t __float_as_uint(float x) {
  std::uint32_t y;
  std::memcpy(&y, &x, sizeof(y));
  return y;
}

namespace cuda_on_cpu {

inline bool copies_are_late = true;
inline bool threads_run_backwards = false;

[[noreturn]] inline void fail(const char* what) {
  std::fprintf(stderr, "kernel: %s (block %u, thread %u)\n", what, blockIdx.x, threadIdx.x);
  std::fflush(stderr);
  std::abort();
}

struct Copy {
  char* to;
  const char* from;
};

struct Fiber {
  std::unique_ptr<char[]> stack;
  ucontext_t context;
  jmp_buf resume;
  bool started = false;
  bool done = false;
  std::vector<Copy> group;
  std::vector<std::vector<Copy>> groups;
};

struct Warp {
  int arrived = 0;
  unsigned generation = 0;
  const void* instruction = nullptr;
  void* arguments[32];
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<char> memory;
  std::function<void()> body;
  jmp_buf scheduler;
  int size = 0;
  int current = 0;
  int arrived = 0;
  unsigned generation = 0;
  std::uint64_t progress = 0;
};
inline Block block;

inline void yield() {
  if (_setjmp(block.fibers[static_cast<std::size_t>(block.current)].resume) == 0) {
    _longjmp(block.scheduler, 1);
  }
}

inline void enter() {
  block.body();
  Fiber& own = block.fibers[static_cast<std::size_t>(block.current)];
  if (!own.group.empty()) {
    fail("ends with copies that were not committed");
  }
  own.done = true;
  ++block.progress;
  _longjmp(block.scheduler, 1);
}

inline void run_fiber(int i) {
  constexpr std::size_t stack_bytes = 256 * 1024;
  block.current = i;
  threadIdx.x = static_cast<unsigned>(i);
  Fiber& fiber = block.fibers[static_cast<std::size_t>(i)];
  if (_setjmp(block.scheduler) != 0) {
    return;
  }
  if (fiber.started) {
    _longjmp(fiber.resume, 1);
  }
  fiber.started = true;
  if (!fiber.stack) {
    fiber.stack.reset(new char[stack_bytes]);
  }
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = stack_bytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, enter, 0);
  setcontext(&fiber.context);
}

inline void start_block(int threads, int shared_bytes) {
  block.size = threads;
  block.fibers.resize(static_cast<std::size_t>(threads));
  for (Fiber& fiber : block.fibers) {
    fiber.started = fiber.done = false;
    fiber.groups.clear();
  }
  block.warps.assign(static_cast<std::size_t>((threads + 31) / 32), Warp{});
  block.memory.assign(static_cast<std::size_t>(shared_bytes) + 128, '\xff');
  block.arrived = 0;
}

inline void run_block() {
  for (int left = block.size; left > 0;) {
    const std::uint64_t before = block.progress;
    left = 0;
    for (int n = 0; n < block.size; ++n) {
      const int i = threads_run_backwards ? block.size - 1 - n : n;
      if (!block.fibers[static_cast<std::size_t>(i)].done) {
        run_fiber(i);
        left += block.fibers[static_cast<std::size_t>(i)].done ? 0 : 1;
      }
    }
    if (left > 0 && block.progress == before) {
      fail("threads wait for others that never come");
    }
  }
}

inline Fiber& self() { return block.fibers[static_cast<std::size_t>(block.current)]; }

/// All lanes of a warp bring an argument; the last to arrive computes for all.
template <class Argument>
void together(Argument& argument, void (*compute)(Argument* const (&)[32])) {
  Warp& warp = block.warps[static_cast<std::size_t>(block.current / 32)];
  const void* const instruction = reinterpret_cast<const void*>(compute);
  if (warp.arrived > 0 && warp.instruction != instruction) {
    fail("lanes of a warp are at different instructions");
  }
  warp.instruction = instruction;
  warp.arguments[block.current % 32] = &argument;
  ++block.progress;
  const unsigned generation = warp.generation;
  if (++warp.arrived == 32) {
    Argument* all[32];
    for (int lane = 0; lane < 32; ++lane) {
      all[lane] = static_cast<Argument*>(warp.arguments[lane]);
    }
    compute(all);
    warp.arrived = 0;
    ++warp.generation;
    return;
  }
  while (warp.generation == generation) {
    yield();
  }
}

inline char* shared_start() {
  const auto start = reinterpret_cast<std::uintptr_t>(block.memory.data());
  return block.memory.data() + ((128 - (start % 128)) % 128);
}

inline char* shared_at(std::uint32_t address) {
  if (address % 16 != 0 || address + 16 + 128 > block.memory.size()) {
    fail("an address of shared memory is out of range or not aligned");
  }
  return shared_start() + address;
}

inline void arrive(const std::vector<Copy>& copies) {
  for (const Copy& copy : copies) {
    std::memcpy(copy.to, copy.from, 16);
  }
}

}  // namespace cuda_on_cpu

inline void __syncthreads() {
  using cuda_on_cpu::block;
  ++block.progress;
  const unsigned generation = block.generation;
  if (++block.arrived == block.size) {
    block.arrived = 0;
    ++block.generation;
    return;
  }
  while (block.generation == generation) {
    cuda_on_cpu::yield();
  }
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int step) {
  struct Exchange {
    T value;
    int step;
    T result;
  };
  if (mask != 0xffffffffU) {
    cuda_on_cpu::fail("a shuffle without all lanes");
  }
  Exchange exchange{value, step, value};
  cuda_on_cpu::together<Exchange>(exchange, [](Exchange* const(&lane)[32]) {
    for (int i = 0; i < 32; ++i) {
      lane[i]->result = lane[i ^ lane[i]->step]->value;
    }
  });
  return exchange.result;
}

#include "instructions_on_cpu.h"
