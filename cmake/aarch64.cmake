# Cross-compiles for 64-bit Arm with Debian's g++-aarch64-linux-gnu. Python's headers are those of
# Debian's arm64 packages, which tests/arm/run.sh unpacks into build/arm/root.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

set(arm_root "${CMAKE_CURRENT_LIST_DIR}/../build/arm/root")
file(GLOB arm_headers "${arm_root}/usr/include/python3.*")
if(NOT arm_headers)
  message(
    FATAL_ERROR
    "no Python headers under ${arm_root}/usr/include; tests/arm/run.sh puts them there"
  )
endif()
list(GET arm_headers 0 Python_INCLUDE_DIR)
# Debian's pyconfig.h includes the one of the architecture, which lies beside it.
set(CMAKE_CXX_FLAGS_INIT "-idirafter ${arm_root}/usr/include")
# The interpreter that CMake asks is this machine's; every Python loads a plain .so.
set(PYTHON_MODULE_EXTENSION .so)
