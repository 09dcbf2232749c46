"""Devices: the CPU, NVIDIA GPUs through CuPy, and a GPU simulated on the CPU.

With ``config.simulate_cuda`` (``FUSETORCH_SIMULATE_CUDA=1``) ``cuda`` means NumPy memory and Triton's interpreter: one
device, of compute capability 9.0. The setting is read at each use, so that it can be switched for a while.
"""
from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable
from typing import Any

from fusetorch import config
from fusetorch.errors import CudaUnavailableError

__all__ = ["device", "simulated", "cuda_available", "require_cuda", "cuda_missing", "compute_capability",
           "current_device", "set_device", "device_count", "device_name", "synchronize"]

SIMULATED_CAPABILITY = 90


class _Defaults(threading.local):
    """The device of creation functions without ``device=``: the last of this thread's contexts, or the thread's setting."""

    def __init__(self) -> None:
        self.stack: list[device | None] = [None]


default_devices = _Defaults()


#: What a device may be called: PyTorch's names. Tensors live on the first two and on ``meta``.
NAMES = ("cpu", "cuda", "ipu", "xpu", "mkldnn", "opengl", "opencl", "ideep", "hip", "ve", "fpga", "maia", "xla", "lazy", "vulkan", "mps",
         "meta", "hpu", "mtia", "privateuseone")


class device:
    """Where a tensor lives: ``device("cuda")``, ``device("cuda:1")``, ``device("cuda", 1)``, ``device("cpu")``.

    Attributes: ``type`` and ``index`` (an int, or ``None`` for the current device). A tensor on ``"meta"`` has a shape and a dtype, but no
    memory. PyTorch's other devices (``"mps"`` ...) can be named and compared; tensors on them cannot be made. Raises ``RuntimeError`` for a
    name that PyTorch does not know.

    Example:
        >>> import fusetorch as torch
        >>> torch.device("cuda", 0)
        device(type='cuda', index=0)
    """

    __slots__ = ("type", "index")

    def __init__(self, type: str | int | device, index: int | None = None) -> None:
        if isinstance(type, device):
            type, index = type.type, type.index if index is None else index
        elif isinstance(type, int) and not isinstance(type, bool):
            if index is not None:
                raise RuntimeError("type (string) must not be an int when an index is given")
            type, index = "cuda", type
        elif isinstance(type, str):
            name, colon, number = type.partition(":")
            if colon:
                if index is not None:
                    raise RuntimeError("type (string) must not include an index because index was passed explicitly: "
                                       + type)
                if not (number.isascii() and number.isdigit()) or (len(number) > 1 and number[0] == "0"):
                    raise RuntimeError(f"Invalid device string: '{type}'")
                type, index = name, int(number)
        else:
            raise TypeError(f"device(): argument 'type' must be a str, int or device, not {type.__class__.__name__}")
        if type not in NAMES:
            raise RuntimeError(f"Expected one of {', '.join(NAMES)} device type at start of device string: {type}")
        if index is not None and index < 0:
            raise RuntimeError(f"Device index must not be negative: {index}")
        self.type: str = type
        self.index: int | None = index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and self.type == other.type and self.index == other.index

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __repr__(self) -> str:
        return f"device(type='{self.type}'" + (")" if self.index is None else f", index={self.index})")

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __reduce__(self) -> tuple:
        return (device, (self.type, self.index))

    def __enter__(self) -> device:
        default_devices.stack.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        default_devices.stack.pop()

    def __call__(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """``f`` with this as the default device inside."""
        @functools.wraps(f)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self:
                return f(*args, **kwargs)
        return wrapper


#: The device of most tensors: devices do not change, so one will do.
CPU = device("cpu")


def simulated() -> bool:
    """Whether ``cuda`` is simulated on the CPU (``config.simulate_cuda``)."""
    return config.simulate_cuda


def _driver_version() -> int | None:
    """CUDA version of the installed NVIDIA driver (13000 for 13.0), or ``None`` without one."""
    try:
        libcuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    version = ctypes.c_int(0)
    libcuda.cuDriverGetVersion(ctypes.byref(version))
    return version.value


@functools.cache
def _probe() -> tuple[int, str]:
    """(number of usable GPUs, what is missing); the second is empty when there is at least one."""
    driver = _driver_version()
    try:
        from cupy.cuda import runtime
    except ImportError as error:
        if driver is None:
            how = "pip install 'fusetorch[cuda13]' (or [cuda12] for a CUDA 12 driver), and an NVIDIA driver"
        else:
            how = f"pip install 'fusetorch[cuda{13 if driver >= 13000 else 12}]'"
        return 0, f"CuPy cannot be imported ({error}). Install it: {how}"
    if driver is None:
        return 0, ("Found no NVIDIA driver on your system (libcuda.so.1 cannot be loaded). Please check that you have "
                   "an NVIDIA GPU and installed a driver from http://www.nvidia.com/Download/index.aspx")
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if "InsufficientDriver" in str(error):
            return 0, (f"The NVIDIA driver supports CUDA {driver // 1000}.{driver % 1000 // 10}, too old for the installed CuPy ({error}). "
                       f"Update the driver, or pip install 'fusetorch[cuda{max(12, driver // 1000)}]'")
        return 0, f"No CUDA GPUs are available ({error}). Check nvidia-smi and CUDA_VISIBLE_DEVICES"
    return count, "" if count else "No CUDA GPUs are available. Check nvidia-smi and CUDA_VISIBLE_DEVICES"


def cuda_available() -> bool:
    """Whether ``cuda`` tensors can be made, really or simulated. The first answer about the machine is kept."""
    return config.simulate_cuda or _probe()[0] > 0


def cuda_missing() -> str:
    """What stands between this machine and ``cuda`` tensors, and how to get it; empty if nothing does."""
    return "" if config.simulate_cuda else _probe()[1]


def require_cuda(index: int | None = None) -> None:
    """Returns if ``cuda`` (or ``cuda:index``) can be used; else :class:`CudaUnavailableError` says what is missing."""
    if not cuda_available():
        raise CudaUnavailableError("Torch not compiled with CUDA enabled: the device 'cuda' cannot be used. "
                                   f"{cuda_missing()}. To run the GPU path on the CPU, set FUSETORCH_SIMULATE_CUDA=1")
    if index is not None and not 0 <= index < device_count():
        raise CudaUnavailableError(f"CUDA error: invalid device ordinal: cuda:{index} was asked for and there "
                                   f"{'is 1 device' if device_count() == 1 else f'are {device_count()} devices'}")


def device_count() -> int:
    """The number of ``cuda`` devices: 0 without a usable GPU, 1 when simulated."""
    return 1 if config.simulate_cuda else _probe()[0]


def current_device() -> int:
    """Index of the calling thread's current ``cuda`` device."""
    if config.simulate_cuda:
        return 0
    require_cuda()
    from cupy.cuda import runtime
    return runtime.getDevice()


def set_device(index: int | device) -> None:
    """Makes ``cuda:index`` the calling thread's current device."""
    if isinstance(index, device):
        index = index.index or 0
    require_cuda(index)
    if not config.simulate_cuda:
        from cupy.cuda import runtime
        runtime.setDevice(index)


def compute_capability(index: int | None = None) -> int:
    """Compute capability as one number: 80 for an A100, 90 for an H100 (and for the simulated device)."""
    if config.simulate_cuda:
        return SIMULATED_CAPABILITY
    return _capability(current_device() if index is None else index)


@functools.cache
def _capability(index: int) -> int:
    require_cuda(index)
    from cupy.cuda import Device
    return int(Device(index).compute_capability)


def device_name(index: int | None = None) -> str:
    """The GPU's name, such as ``"NVIDIA H100 80GB HBM3"``."""
    if config.simulate_cuda:
        return "simulated GPU (Triton's interpreter on the CPU)"
    return _properties(current_device() if index is None else index)["name"].decode()


@functools.cache
def _properties(index: int) -> dict[str, Any]:
    require_cuda(index)
    from cupy.cuda import runtime
    return runtime.getDeviceProperties(index)


def synchronize(index: int | None = None) -> None:
    """Waits until everything queued on the device has finished."""
    if config.simulate_cuda:
        return
    require_cuda(index)
    from cupy.cuda import Device
    Device(current_device() if index is None else index).synchronize()
