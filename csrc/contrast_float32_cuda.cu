#include "contrast_kernels_cuda.cuh"

namespace detach::cuda {

const PrecisionKernels& float32_kernels() { return KernelsOf<Float32>::table; }

}  // namespace detach::cuda
