#!/usr/bin/env bash
# The core without Python or torch under a sanitizer: tests/core/run.sh [thread | address,undefined]
set -euo pipefail
cd "$(dirname "$0")/../.."
kind=${1:-thread}
out=build/core-${kind//,/-}
mkdir -p "$out"
flags=(-std=c++17 -O1 -g1 -pthread -fsanitize="$kind" -fno-omit-frame-pointer -Icsrc/include)
sources=(csrc/contrast_{batch,cpu,features,gradient,outputs,pair,plain,worker,workspace}.cpp
  csrc/percentile_cpu.cpp csrc/thread_pool.cpp tests/core/callers.cpp)
if [ "$(uname -m)" = x86_64 ]; then
  flags+=(-DDETACH_WITH_AVX2)
  sources+=(csrc/contrast_avx2.cpp csrc/percentile_avx2.cpp)
fi
objects=()
for source in "${sources[@]}"; do
  object=$out/$(basename "$source" .cpp).o
  objects+=("$object")
  extra=()
  [[ $source == *_avx2.cpp ]] && extra=(-mavx2 -mfma -mf16c)
  if [ ! "$object" -nt "$source" ]; then
    "${CXX:-g++}" "${flags[@]}" "${extra[@]}" -c "$source" -o "$object"
  fi
done
"${CXX:-g++}" -fsanitize="$kind" -pthread "${objects[@]}" -o "$out/callers"
TSAN_OPTIONS=halt_on_error=1 ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1 "$out/callers"
