#include "contrast_kernels_cuda.cuh"

namespace detach::cuda {

const PrecisionKernels& bfloat16_kernels() { return KernelsOf<BFloat16>::table; }

}  // namespace detach::cuda
