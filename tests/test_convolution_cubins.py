"""The convolution kernels compiled for sm_80 and sm_90: no spills, tensor cores for half types, wide loads of channels."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cubin_report import Report, report

from fusetorch import dtypes
from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.memory import DeviceArray, empty
from fusetorch.runtime.stub import StubDriver, stub_gpu
from fusetorch.triton_kernels import convolution, folding

f16, bf16, f32, f64 = dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64
OURS = {v.fn.__name__ for module in (convolution, folding) for v in vars(module).values() if isinstance(v, Kernel)}


class Gpu:
    """``gpu(f)`` calls f on a stub GPU and reports our kernels that it launched: by name, the first launch of each."""

    def __init__(self, stub: StubDriver, capability: int) -> None:
        self.stub = stub
        self.capability = capability

    def __call__(self, f: Callable[[], Any]) -> dict[str, Report]:
        before = len(self.stub.launches)
        f()
        kernels: dict[str, Any] = {}
        for launch in self.stub.launches[before:]:
            if launch.kernel.name in OURS:
                kernels.setdefault(launch.kernel.name, launch.kernel)
        reports = {name: report(kernel.cubin) for name, kernel in kernels.items()}
        for name, r in reports.items():
            assert r.spills == 0 and r.stack == 0, (name, r)
        return reports


@pytest.fixture(params=[80, 90], ids=["sm_80", "sm_90"])
def gpu(request: Any) -> Iterator[Gpu]:
    with stub_gpu(request.param) as stub:
        yield Gpu(stub, request.param)


def new(*shape: int, dt: dtypes.dtype) -> DeviceArray:
    return empty(shape, dt)


def step(dt: dtypes.dtype, n: int, c: int, o: int, size: int, k: int, stride: int = 1, groups: int = 1) -> None:
    """Forward and both gradients of one layer."""
    x, w, b = new(n, c, size, size, dt=dt), new(o, c // groups, k, k, dt=dt), new(o, dt=dt)
    how = ((stride, stride), (k // 2, k // 2), (1, 1), groups)
    y = convolution.forward(x, w, b, *how)
    convolution.input_grad(y, w, None, (size, size), *how)
    convolution.weight_grad(y, x, (k, k), *how)


@pytest.mark.parametrize("dt", [f16, bf16])
def test_half_types_use_tensor_cores(gpu: Gpu, dt: dtypes.dtype) -> None:
    got = gpu(lambda: step(dt, 32, 256, 256, 32, 3))
    assert set(got) == {"_sum", "_weight"}
    for name, r in got.items():
        assert r.async_copies_128, (name, r)  # a tile of channels is read 16 bytes at a time
        assert r.hgmma if gpu.capability == 90 else r.hmma, (name, r)


@pytest.mark.parametrize("dt", [f32, f64])
def test_wide_types_are_exact(gpu: Gpu, dt: dtypes.dtype) -> None:
    for name, r in gpu(lambda: step(dt, 32, 128, 128, 32, 3)).items():
        assert r.async_copies_128 and not r.hgmma and not r.hmma, (name, r)


@pytest.mark.parametrize("dt", [f16, f32, f64])
def test_few_input_channels(gpu: Gpu, dt: dtypes.dtype) -> None:
    assert set(gpu(lambda: step(dt, 32, 3, 64, 64, 7, 2))) == {"_sum", "_weight", "_direct"}


@pytest.mark.parametrize("dt", [bf16, f32])
def test_small_layers_and_strides(gpu: Gpu, dt: dtypes.dtype) -> None:
    gpu(lambda: step(dt, 4, 24, 40, 15, 3, 2))


@pytest.mark.parametrize("dt", [bf16, f32, f64])
def test_depthwise(gpu: Gpu, dt: dtypes.dtype) -> None:
    assert set(gpu(lambda: step(dt, 32, 64, 64, 32, 3, groups=64))) == {"_direct", "_direct_weight"}


def test_folding(gpu: Gpu) -> None:
    x = new(8, 16, 32, 32, dt=f32)
    how = ((3, 3), (1, 1), (1, 1), (2, 2))
    assert set(gpu(lambda: folding.col2im(folding.im2col(x, *how), (32, 32), *how))) == {"_im2col", "_col2im"}
