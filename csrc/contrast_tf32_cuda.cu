#include "contrast_kernels_cuda.cuh"

namespace detach::cuda {

const PrecisionKernels& tf32_kernels() { return KernelsOf<Tf32>::table; }

}  // namespace detach::cuda
