"""A GPU that takes launches and does nothing, over host memory: to test and time everything up to the driver call.

Example:
    >>> with stub_gpu() as gpu:                          # doctest: +SKIP
    ...     kernel((4,), x, y, out, n, BLOCK=1024)
    >>> gpu.launches[-1].parameters                      # doctest: +SKIP
"""
from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from fusetorch import config
from fusetorch.runtime import device, launch, memory
from fusetorch.runtime.triton_compile import CompiledKernel


@dataclass(frozen=True)
class Launch:
    """What ``cuLaunchKernel`` would have got. ``parameters`` holds the 8 bytes of each slot, scratch pointers last."""

    kernel: CompiledKernel
    grid: tuple[int, int, int]
    threads: int
    shared: int
    stream: int
    device_index: int
    parameters: tuple[bytes, ...]


class StubDriver:
    """In place of :class:`~fusetorch.runtime.launch.CupyDriver`. With ``record=False`` launches and allocations do
    nothing at all (every allocation has the same address), for taking the time of what is before them."""

    error = OSError

    def __init__(self, record: bool = True) -> None:
        self.kernels: list[CompiledKernel] = []
        self.launches: list[Launch] = []
        self.device_index = 0
        self.stream = SimpleNamespace(ptr=7)
        self.current_stream = lambda: self.stream
        if not record:
            self.launch = lambda function, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra: None
            block = self.alloc(1 << 20)
            self.alloc = lambda nbytes: block

    @contextlib.contextmanager
    def on_device(self, index: int) -> Iterator[None]:
        """Makes ``cuda:index`` current."""
        before, self.device_index = self.device_index, index
        try:
            yield
        finally:
            self.device_index = before

    def enter_thread(self) -> None:
        """Nothing to make current."""

    def load(self, kernel: CompiledKernel) -> int:
        self.kernels.append(kernel)
        return len(self.kernels)

    def alloc(self, nbytes: int) -> Any:
        data = np.zeros(nbytes + 512, np.uint8)
        return SimpleNamespace(ptr=data.ctypes.data + -data.ctypes.data % 512, data=data)

    def launch(self, function: int, gx: int, gy: int, gz: int, bx: int, by: int, bz: int, shared: int, stream: int,
               parameters: int, extra: int) -> None:
        kernel = self.kernels[function - 1]
        slots = (ctypes.c_void_p * (len(kernel.live) + 2)).from_address(parameters)
        self.launches.append(Launch(kernel, (gx, gy, gz), bx * by * bz, shared, stream, self.device_index,
                                    tuple(ctypes.string_at(slot, 8) for slot in slots)))


def _host_copy(dst: int, src: int, nbytes: int, device_index: int, wait: bool = False) -> None:
    ctypes.memmove(dst, src, nbytes)


@contextlib.contextmanager
def stub_gpu(capability: int = 90, record: bool = True, devices: int = 1) -> Iterator[StubDriver]:
    """Inside the block there are ``cuda`` devices of this capability; kernels compile, launches are recorded."""
    stub = StubDriver(record)
    replaced = [(device, "_probe", lambda: (devices, "")), (device, "_capability", lambda index: capability),
                (device, "current_device", lambda: stub.device_index), (device, "synchronize", lambda index=None: None),
                (memory, "_cupy_alloc", stub.alloc),
                (memory, "_first_or_other", lambda nbytes, index: stub.alloc(nbytes)),
                (memory, "_copy", _host_copy)]
    saved = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    before = launch.use_driver(stub)
    for module, name, value in replaced:
        setattr(module, name, value)
    try:
        with config.override(simulate_cuda=False):
            yield stub
    finally:
        launch.use_driver(before)
        for module, name, value in saved:
            setattr(module, name, value)
