#!/usr/bin/env bash
# Tests of the compiled module through Python under AddressSanitizer and UBSan (g++):
#   tests/core/python.sh [PYTEST ARGUMENTS]          without any: operators, kernels and windows
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-$PWD/.venv/bin/python}
cmake --preset asan -DPython_EXECUTABLE="$python"
cmake --build --preset asan
[ $# -gt 0 ] || set -- tests/test_contrast*.py tests/test_info_nce.py tests/test_percentile*.py \
  tests/test_window.py tests/test_window_input.py
# The interpreter is not built for it: its leaks are its own, and the runtimes must come first.
preload="$(g++ -print-file-name=libasan.so):$(g++ -print-file-name=libstdc++.so.6)"
core=$(ls build/asan/_C.*.so)
env LD_PRELOAD="$preload" ASAN_OPTIONS=detect_leaks=0 \
  UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 OMP_NUM_THREADS=1 \
  DETACH_CORE="$PWD/$core" PYTHONPATH="$PWD/tests/guards:${PYTHONPATH:-$PWD/python}" \
  "$python" -X faulthandler -m pytest -q -p no:cacheprovider "$@"
