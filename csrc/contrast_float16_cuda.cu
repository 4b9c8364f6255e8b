#include "contrast_kernels_cuda.cuh"

namespace detach::cuda {

const PrecisionKernels& float16_kernels() { return KernelsOf<Float16>::table; }

}  // namespace detach::cuda
