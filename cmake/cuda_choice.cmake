# Sets DETACH_WITH_CUDA, DETACH_CUDA_REASON (one sentence, shown by `detach doctor`) and
# DETACH_BUILT_ARCHITECTURES from the option DETACH_CUDA or, where it is empty, the variable of the
# same name in the environment.

set(choice "${DETACH_CUDA}")
if(choice STREQUAL "")
  set(choice "$ENV{DETACH_CUDA}")
endif()
if(choice STREQUAL "")
  set(choice AUTO)
endif()
string(TOUPPER "${choice}" choice)
if(NOT choice MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "DETACH_CUDA must be AUTO, ON or OFF, got ${choice}")
endif()

include(CheckLanguage)
set(DETACH_WITH_CUDA OFF)
set(DETACH_BUILT_ARCHITECTURES "")
if(choice STREQUAL "OFF")
  set(DETACH_CUDA_REASON "DETACH_CUDA=OFF")
elseif(choice STREQUAL "ON")
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    message(FATAL_ERROR "DETACH_CUDA=ON needs nvcc; it is neither on PATH nor in CUDACXX")
  endif()
  set(DETACH_WITH_CUDA ON)
  set(DETACH_CUDA_REASON "DETACH_CUDA=ON")
elseif(
  NOT EXISTS "/dev/nvidiactl"
  AND NOT EXISTS "/dev/nvhost-ctrl-gpu"
  AND NOT EXISTS "/dev/nvgpu"
)
  set(DETACH_CUDA_REASON "no NVIDIA GPU was seen when it was built")
else()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(DETACH_WITH_CUDA ON)
    set(DETACH_CUDA_REASON "nvcc and a GPU were seen when it was built")
  else()
    set(DETACH_CUDA_REASON "a GPU was seen when it was built, but no nvcc")
  endif()
endif()
if(DETACH_WITH_CUDA)
  string(REPLACE ";" " " DETACH_BUILT_ARCHITECTURES "${DETACH_CUDA_ARCHITECTURES}")
endif()
message(
  STATUS
  "CUDA kernels: ${DETACH_WITH_CUDA} (${DETACH_CUDA_REASON}) ${DETACH_BUILT_ARCHITECTURES}"
)
