#!/usr/bin/env bash
# The core without Python or torch, under a sanitizer or as what a fuzzer feeds:
#   tests/core/run.sh [thread | address,undefined]
#   tests/core/run.sh fuzz [SECONDS]                 clang; found inputs go to tests/found/core
set -euo pipefail
cd "$(dirname "$0")/../.."
kind=${1:-thread}
out=build/core-${kind//,/-}
mkdir -p "$out"
compiler=${CXX:-g++} sanitize=$kind link=$kind program=callers
if [ "$kind" = fuzz ]; then
  compiler=${CXX:-clang++} program=fuzz
  sanitize=fuzzer-no-link,address,undefined link=fuzzer,address,undefined
fi
flags=(-std=c++17 -O1 -g1 -pthread -fsanitize="$sanitize" -fno-sanitize-recover=undefined
  -fno-omit-frame-pointer -Icsrc/include)
sources=(csrc/contrast_{batch,cpu,features,gradient,outputs,pair,plain,worker,workspace}.cpp
  csrc/percentile_cpu.cpp csrc/thread_pool.cpp csrc/window.cpp "tests/core/$program.cpp")
if [ "$(uname -m)" = x86_64 ]; then
  flags+=(-DDETACH_WITH_AVX2)
  sources+=(csrc/contrast_avx2.cpp csrc/percentile_avx2.cpp)
fi
objects=() compiling=()
for source in "${sources[@]}"; do
  object=$out/$(basename "$source" .cpp).o
  objects+=("$object")
  extra=()
  [[ $source == *_avx2.cpp ]] && extra=(-mavx2 -mfma -mf16c)
  if [ ! "$object" -nt "$source" ] ||
    [ -n "$(find csrc "$(dirname "$source")" -name '*.h' -newer "$object" -print -quit)" ]; then
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do sleep 0.1; done
    "$compiler" "${flags[@]}" "${extra[@]}" -c "$source" -o "$object" &
    compiling+=($!)
  fi
done
for job in "${compiling[@]}"; do wait "$job"; done
"$compiler" -fsanitize="$link" -pthread "${objects[@]}" -o "$out/$program"
export TSAN_OPTIONS=halt_on_error=1 ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
if [ "$kind" = fuzz ]; then
  mkdir -p "$out/corpus" tests/found/core
  exec "$out/fuzz" -max_total_time="${2:-60}" -max_len=4096 -len_control=0 -rss_limit_mb=512 -timeout=10 \
    -print_final_stats=1 -artifact_prefix=tests/found/core/ "$out/corpus" tests/found/core
fi
exec "$out/$program"
