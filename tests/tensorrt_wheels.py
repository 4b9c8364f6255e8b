"""The real Python bindings of TensorRT, as far as they come without the libraries below them.

The wheels are fetched once into build/tensorrt-bindings; the libraries, which are not to be had
from there, are stood in for by empty ones, so that the classes can be looked at but not used.
"""

import contextlib
import functools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

WHEELS = {
    "10.3.0": "tensorrt-cu12-bindings",
    "10.13.3.9": "tensorrt-cu13-bindings",
    "10.16.1.11": "tensorrt-cu13-bindings",
    "11.4.0.106": "tensorrt-cu13-bindings",
}
KEPT = Path(__file__).parents[1] / "build" / "tensorrt-bindings"
LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin")
ENTRY_POINTS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
"""What the bindings must find when they are loaded."""


def absent(reason: str) -> None:
    """Skips the test; where DETACH_CI is 1, fails it."""
    if os.environ.get("DETACH_CI") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@functools.cache
def bindings(version: str) -> Path:
    """The folder that holds ``tensorrt_bindings`` of a version."""
    folder = KEPT / f"{version}-{sys.implementation.cache_tag}"
    if folder.is_dir():
        return folder
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        absent("the bindings of TensorRT are looked at on x86-64 Linux")
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KEPT) as part:
        command = [sys.executable, "-I", "-m", "pip", "download"]  # -I: unguarded, it may fetch
        command += [
            "--no-deps",
            "--only-binary=:all:",
            "--disable-pip-version-check",
            "-q",
            "-d",
            part,
            f"{WHEELS[version]}=={version}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)  # noqa: S603 -- pip
        if done.returncode:
            absent(f"{WHEELS[version]} {version} cannot be fetched: {done.stderr[-300:]}")
        (wheel,) = Path(part).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(Path(part) / "unpacked")
        with contextlib.suppress(OSError):  # another worker was faster
            (Path(part) / "unpacked").rename(folder)
    return folder


@functools.cache
def stand_ins() -> Path:
    """A folder of empty libraries for TensorRT 10 and 11."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        absent("no C compiler to make stand-ins of the TensorRT libraries with")
    folder = KEPT / "stand-ins"
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / f"stand_in.{os.getpid()}.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in ENTRY_POINTS))
    for major in (10, 11):
        for name in LIBRARIES:
            file = f"lib{name}.so.{major}"
            command = [str(compiler), "-shared", "-fPIC", f"-Wl,-soname,{file}"]
            part = source.with_suffix(".so")
            subprocess.run([*command, "-o", str(part), str(source)], check=True)  # noqa: S603 -- cc
            part.replace(folder / file)
    source.unlink()
    return folder
