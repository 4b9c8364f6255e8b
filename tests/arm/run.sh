#!/usr/bin/env bash
# The core and the whole runtime on 64-bit Arm without a board: cross-compiled, run by qemu on two
# processors, and compared with this machine. Leaves everything under build/arm and build/aarch64.
# Usage: tests/arm/run.sh [BUNDLE], one that fits models/sample.
# Needs g++-aarch64-linux-gnu and qemu-user-static of Debian, .venv (or PYTHON), and the network.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=$PWD/build/arm
root=$out/root # Debian's arm64 Python
site=$out/site # packages for it
python=${PYTHON:-$PWD/.venv/bin/python}
bundle=${1:-models/home.detach}
processors="cortex-a57 cortex-a76"   # without and with dot products and fp16, as a Nano and an Orin
onnxruntime="onnxruntime==1.22.1"    # newer ones crash when imported under qemu 7.2
wheels=(manylinux_2_28_aarch64 manylinux_2_17_aarch64 manylinux2014_aarch64)

apt_arm64() { # apt with a state of its own: the machine's packages and architectures stay as they are
  local sources=/etc/apt/sources.list.d/debian.sources
  [ -f "$sources" ] || sources=/etc/apt/sources.list
  mkdir -p "$out/apt/lists/partial" "$out/apt/archives/partial"
  touch "$out/apt/status"
  apt-get -q -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Install-Recommends=0 \
    -o Dir::Etc::SourceList="$sources" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$out/apt/lists" -o Dir::State::status="$out/apt/status" \
    -o Dir::Cache="$out/apt" -o Debug::NoLocking=1 "$@"
}

fetch_python() {
  [ ! -f "$root/complete" ] || return 0
  rm -rf "$root" && mkdir -p "$root"
  apt_arm64 update
  apt_arm64 install -y --download-only python3 libpython3-dev libstdc++6
  for package in "$out"/apt/archives/*.deb; do
    dpkg-deb --extract "$package" "$root"
  done
  touch "$root/complete"
} >"$out/apt.log" 2>&1

fetch_packages() { # what requirements/edge.txt says, for Arm, and the same ONNX Runtime for this machine
  local key
  key="$onnxruntime $(python_of_arm) $(sha256sum requirements/edge.txt)"
  [ "$(cat "$site/complete" 2>/dev/null)" != "$key" ] || return 0
  rm -rf "$site" "$out/host"
  "$python" -m pip install --quiet --disable-pip-version-check --no-compile --target "$site" \
    "${wheels[@]/#/--platform=}" --python-version "$(python_of_arm)" --only-binary=:all: \
    -r requirements/edge.txt "$onnxruntime" opencv-python-headless pytest hypothesis
  "$python" -m pip install --quiet --disable-pip-version-check --no-compile --target "$out/host" \
    --no-deps "$onnxruntime"
  echo "$key" >"$site/complete"
}

python_of_arm() { (cd "$root/usr/include" && echo python3.* | cut -c 7-); }

build() {
  cmake --preset aarch64 -DPython_EXECUTABLE="$python"
  cmake --build --preset aarch64
  rm -rf "$out/built"
  mkdir "$out/built"
  cp -r python/detach "$out/built/detach"
  cmake --install build/aarch64 --prefix "$out/built" >/dev/null
} >"$out/cmake.log" 2>&1

emulated() { # emulated PROCESSOR ARGUMENTS...: Python on Arm
  local processor=$1
  shift
  PYTHONPATH=$out/built:$site PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 DETACH_ARM_EXPECTED=$out/expected.npz \
    qemu-aarch64-static -cpu "$processor" -L "$root" "$root/usr/bin/python$(python_of_arm)" "$@"
}

check() { # the window's own tests, and tests/arm/check.py
  emulated "$1" -m pytest -q --durations=5 -c /dev/null --rootdir=. -p no:cacheprovider --import-mode=importlib \
    -k "not numpy" tests/arm/check.py tests/test_window.py tests/test_window_input.py \
    >"$out/$1.log" 2>&1
}

said() { echo "aarch64: $1, ${SECONDS} s"; }

command -v qemu-aarch64-static >/dev/null && command -v aarch64-linux-gnu-g++ >/dev/null ||
  { echo "run first: apt-get install qemu-user-static g++-aarch64-linux-gnu"; exit 1; }
mkdir -p "$out"
[ -f "$bundle" ] || { echo "no bundle $bundle"; exit 1; }
trap '[ $? = 0 ] || tail -n 40 "$(ls -t "$out"/*.log | head -n 1)"' EXIT
fetch_python
said "Python is there"
fetch_packages &
packages=$!
build
wait $packages
said "extension and packages are there"
PYTHONPATH="$out/host:$PWD/tests${PYTHONPATH:+:$PYTHONPATH}" \
  "$python" tests/arm/expect.py "$bundle" "$out/expected.npz"
said "results of this machine are there"
checks=()
for processor in $processors; do
  check "$processor" &
  checks+=($!)
done
for number in "${!checks[@]}"; do wait "${checks[number]}" || failed=1; done
[ -z "${failed:-}" ] || { tail -n 40 "$out"/cortex-*.log; trap - EXIT; exit 1; }
tail -n 1 "$out"/cortex-*.log
said "done"
