"""One CUDA device for an engine: its identity, memory and a stream, through the driver library.

The driver's own C API and nothing else: libcuda.so.1 is there wherever a driver is, on a JetPack
too, in one place and with entry points that have not changed since CUDA 11, while libcudart comes
in a version for each toolkit, or not at all. TensorRT uses the same primary context.
https://docs.nvidia.com/cuda/cuda-driver-api
"""

import ctypes
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detach.errors import MachineError

LIBRARY = "libcuda.so.1"
MULTIPROCESSORS, MAJOR, MINOR = 16, 75, 76
"""CUdevice_attribute."""
KERNEL_DRIVER = Path("/sys/module/nvidia/version")

ENTRY_POINTS: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (c_void_p,),
    "cuDeviceGet": (c_void_p, c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (c_void_p, c_int, c_int),
    "cuDeviceTotalMem_v2": (c_void_p, c_int),
    "cuDevicePrimaryCtxRetain": (c_void_p, c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuStreamCreate": (c_void_p, c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuMemAlloc_v2": (c_void_p, c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuGetErrorString": (c_int, c_void_p),
}


@dataclass(frozen=True, kw_only=True)
class DeviceIdentity:
    """What an engine is tied to."""

    name: str
    compute_capability: str
    multiprocessors: int
    memory_bytes: int
    cuda: int
    """Version of the driver's API, 12060 for 12.6."""
    driver: str
    """Of the kernel; empty on a board that does not say."""


class CudaDevice:
    """The first device; ``CUDA_VISIBLE_DEVICES`` chooses another.

    Raises:
        MachineError: No driver or no device.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
            for name, types in ENTRY_POINTS.items():
                getattr(self._library, name).argtypes = types
        except (OSError, AttributeError) as error:
            raise MachineError(f"no NVIDIA driver that can be used: {error}") from error
        self._device, self._context, self.stream = c_int(), c_void_p(), c_void_p()
        self._held: list[int] = []
        self._call("cuInit", 0)
        self._call("cuDeviceGet", byref(self._device), 0)
        self._call("cuDevicePrimaryCtxRetain", byref(self._context), self._device)
        try:
            self.use()
            self._call("cuStreamCreate", byref(self.stream), 1)  # not ordered with the null stream
        except MachineError:
            self.close()
            raise

    def identity(self) -> DeviceIdentity:
        """What is known of the device."""
        name, memory, cuda = ctypes.create_string_buffer(256), c_size_t(), c_int()
        self._call("cuDeviceGetName", name, len(name), self._device)
        self._call("cuDeviceTotalMem_v2", byref(memory), self._device)
        self._call("cuDriverGetVersion", byref(cuda))
        return DeviceIdentity(
            name=name.value.decode(errors="replace"),
            compute_capability=f"{self._attribute(MAJOR)}.{self._attribute(MINOR)}",
            multiprocessors=self._attribute(MULTIPROCESSORS),
            memory_bytes=memory.value,
            cuda=cuda.value,
            driver=KERNEL_DRIVER.read_text().strip() if KERNEL_DRIVER.is_file() else "",
        )

    def use(self) -> None:
        """Makes this the device of the calling thread."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        """The address of ``size`` bytes of device memory, freed by `close`.

        Raises:
            MachineError: There is not so much.
        """
        address = c_uint64()
        self._call("cuMemAlloc_v2", byref(address), size)
        self._held.append(address.value)
        return address.value

    def copy_in(self, address: int, array: NDArray[np.float32]) -> None:
        """Queues a copy to the device; ``array`` must live until `wait`."""
        self._call("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, self.stream)

    def copy_out(self, array: NDArray[np.float32], address: int) -> None:
        """Queues a copy from the device; ``array`` is filled after `wait`."""
        self._call("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, self.stream)

    def wait(self) -> None:
        """Until all that was queued is done.

        Raises:
            MachineError: Something of it failed.
        """
        self._call("cuStreamSynchronize", self.stream)

    def close(self) -> None:
        """Frees memory, stream and context; safe to call twice. Errors are of no more use here."""
        library = self._library
        if not self._context.value:
            return
        library.cuCtxSetCurrent(self._context)
        for address in self._held:
            library.cuMemFree_v2(address)
        if self.stream.value:
            library.cuStreamDestroy_v2(self.stream)
        library.cuDevicePrimaryCtxRelease_v2(self._device)
        self._held, self._context, self.stream = [], c_void_p(), c_void_p()

    def _attribute(self, which: int) -> int:
        value = c_int()
        self._call("cuDeviceGetAttribute", byref(value), which, self._device)
        return value.value

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            text = c_char_p()
            self._library.cuGetErrorString(code, byref(text))
            what = (text.value or b"unknown error").decode(errors="replace")
            raise MachineError(f"CUDA: {name} failed with {code}, {what}")
