// How the contrast kernels are launched: one table of them for each number format, each made in a
// file of its own, so that they compile side by side.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>

#include "contrast_features_cuda.cuh"
#include "contrast_plan_cuda.cuh"

namespace detach::cuda {

struct ScaleProblem;

/// The kernels of one number format. `block` is the plan's.
struct PrecisionKernels {
  void (*prepare)(const PrepareProblem& problem, cudaStream_t stream);
  void (*pairs)(const PairProblem& problem, std::int64_t block, cudaStream_t stream);
  void (*products)(const ProductProblem& problem, std::int64_t block, cudaStream_t stream);
  void (*scale)(const ScaleProblem& problem, cudaStream_t stream);
  void (*finish)(const FinishProblem& problem, cudaStream_t stream);
};

const PrecisionKernels& float16_kernels();
const PrecisionKernels& bfloat16_kernels();
const PrecisionKernels& tf32_kernels();
const PrecisionKernels& float32_kernels();

inline void check(cudaError_t error) {
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string("contrast kernel: ") + cudaGetErrorString(error));
  }
}

#ifndef DETACH_CUDA_ON_CPU
/// Launches `kernel` on its one argument.
template <class Problem>
void launch(void (*kernel)(Problem), dim3 grid, int threads, int shared_bytes, cudaStream_t stream,
            const Problem& problem) {
  constexpr int without_asking = 48 * 1024;
  const void* const function = reinterpret_cast<const void*>(kernel);
  if (shared_bytes > without_asking) {
    check(
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  }
  void* arguments[] = {const_cast<Problem*>(&problem)};
  check(cudaLaunchKernel(function, grid, dim3(static_cast<unsigned>(threads)), arguments,
                         static_cast<std::size_t>(shared_bytes), stream));
}
#endif

/// Blocks of threads that all run at once, at most `wanted`.
inline unsigned resident_blocks(int an_sm, int shared_bytes, std::int64_t wanted) {
  int device = 0;
  int count = 0;
  int shared = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  check(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device));
  constexpr int reserved = 1024;  // of shared memory for each block
  const int fitting = std::max(1, std::min(an_sm, shared / (shared_bytes + reserved)));
  return static_cast<unsigned>(std::min<std::int64_t>(wanted, std::int64_t{fitting} * count));
}

inline unsigned blocks_for(std::int64_t items, std::int64_t a_block) {
  return static_cast<unsigned>((items + a_block - 1) / a_block);
}

}  // namespace detach::cuda
