"""Builds the compiled module with nvcc and g++ alone, for a GPU machine that has only torch.

No CMake, no pip: sources are compiled side by side, pybind11's headers come with torch. The package
is copied next to the module, so that the source tree stays as it is.
"""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
X86 = platform.machine().lower() in ("x86_64", "amd64")
FOREIGN = "_neon.cpp" if X86 else "_avx2.cpp"  # files for the other kind of processor


def build(folder: Path, architecture: str) -> Path:
    """Compiles for one ``architecture`` ("90"); returns what to put on PYTHONPATH.

    Raises:
        RuntimeError: Something does not compile, with the compiler's words.
    """
    package = folder / "detach"
    shutil.rmtree(package, ignore_errors=True)
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "python" / "detach", package, ignore=ignored)
    objects = folder / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    core = ROOT / "csrc"
    sources = [s for s in sorted(core.glob("*.cpp")) if not s.name.endswith(FOREIGN)]
    sources += sorted(core.glob("*.cu"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = list(pool.map(lambda s: _compile(s, objects, architecture), sources))
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    libraries = [f"-L{_cuda() / d}" for d in ("lib64", "lib") if (_cuda() / d).is_dir()]
    libraries += ["-lcudart_static", "-lpthread", "-ldl", "-lrt"]
    _run(["g++", "-shared", "-o", str(package / f"_C{suffix}"), *map(str, made), *libraries])
    return folder


def _compile(source: Path, objects: Path, architecture: str) -> Path:
    target = objects / f"{source.name}.o"
    common = ["-std=c++17", "-O3", f"-I{ROOT / 'csrc' / 'include'}", "-c", str(source)]
    if source.suffix == ".cu":
        code = f"arch=compute_{architecture},code=sm_{architecture}"
        command = [_nvcc(), *common, "-gencode", code, "-Xcompiler", "-fPIC"]
    else:
        command = ["g++", *common, "-fPIC", f"-I{_cuda() / 'include'}"]
        command += ["-DDETACH_WITH_AVX2"] if X86 else []
        command += (
            ["-mavx2", "-mfma", "-mf16c", "-fno-trapping-math"]
            if source.name.endswith("_avx2.cpp")
            else []
        )
        if source.name.startswith("bindings"):
            command += _binding_flags(architecture)
    _run([*command, "-o", str(target)])
    return target


def _binding_flags(architecture: str) -> list[str]:
    includes = [Path(torch.__file__).parent / "include", Path(sysconfig.get_path("include"))]
    defines = {
        "DETACH_WITH_CUDA": "1",
        "DETACH_CUDA_ARCHITECTURES": f'"{architecture}"',
        "DETACH_CUDA_REASON": '"benchmarks/gpu_build.py"',
    }
    flags = [f"-D{name}={value}" for name, value in defines.items()]
    return flags + [f"-I{folder}" for folder in includes] + ["-fvisibility=hidden"]


def _nvcc() -> str:
    found = shutil.which("nvcc")
    for root in (os.environ.get("CUDA_HOME"), "/usr/local/cuda"):
        if found is None and root and (Path(root) / "bin" / "nvcc").is_file():
            found = str(Path(root) / "bin" / "nvcc")
    if found is None:
        raise RuntimeError("nvcc is neither on PATH nor in CUDA_HOME")
    return found


def _cuda() -> Path:
    """The toolkit: nvcc may be a script that starts the real one."""
    words = subprocess.run(  # noqa: S603
        [_nvcc(), "--dryrun", "-x", "cu", "-c", os.devnull, "-o", os.devnull],
        capture_output=True, text=True, check=False,
    ).stderr.splitlines()  # fmt: skip
    top = next((w.partition("TOP=")[2] for w in words if "TOP=" in w), "")
    return Path(top).resolve() if top else Path(_nvcc()).resolve().parents[1]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:2])} failed:\n{done.stderr[-3000:]}")


if __name__ == "__main__":
    number = (
        sys.argv[2] if len(sys.argv) > 2 else "".join(map(str, torch.cuda.get_device_capability()))
    )
    print(build(Path(sys.argv[1]).resolve(), number))
