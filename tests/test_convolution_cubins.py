"""The convolution kernels compiled for sm_80 and sm_90: no spills, tensor cores for half types, wide loads of channels."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cubin_support
import pytest
from cubin_report import Report
from cubin_support import Gpu

from fusetorch import dtypes
from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.memory import DeviceArray, empty
from fusetorch.triton_kernels import convolution, folding

f16, bf16, f32, f64 = dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64
OURS = {v.fn.__name__ for module in (convolution, folding) for v in vars(module).values() if isinstance(v, Kernel)}


gpu = cubin_support.gpu


def reports(gpu: Gpu, f: Callable[[], Any]) -> dict[str, Report]:
    """Those of our kernels that ``f`` launches."""
    found = gpu(f, OURS)
    for name, r in found.items():
        assert r.spills == 0 and r.stack == 0, (name, r)
    return found


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
    got = reports(gpu, lambda: step(dt, 32, 256, 256, 32, 3))
    assert set(got) == {"_sum", "_weight"}
    for name, r in got.items():
        assert r.async_copies_128, (name, r)  # a tile of channels is read 16 bytes at a time
        assert r.hgmma if gpu.capability == 90 else r.hmma, (name, r)


@pytest.mark.parametrize("dt", [f32, f64])
def test_wide_types_are_exact(gpu: Gpu, dt: dtypes.dtype) -> None:
    for name, r in reports(gpu, lambda: step(dt, 32, 128, 128, 32, 3)).items():
        assert r.async_copies_128 and not r.hgmma and not r.hmma, (name, r)


@pytest.mark.parametrize("dt", [f16, f32, f64])
def test_few_input_channels(gpu: Gpu, dt: dtypes.dtype) -> None:
    assert set(reports(gpu, lambda: step(dt, 32, 3, 64, 64, 7, 2))) == {"_sum", "_weight", "_direct"}


@pytest.mark.parametrize("dt", [bf16, f32])
def test_small_layers_and_strides(gpu: Gpu, dt: dtypes.dtype) -> None:
    reports(gpu, lambda: step(dt, 4, 24, 40, 15, 3, 2))


@pytest.mark.parametrize("dt", [bf16, f32, f64])
def test_depthwise(gpu: Gpu, dt: dtypes.dtype) -> None:
    assert set(reports(gpu, lambda: step(dt, 32, 64, 64, 32, 3, groups=64))) == {"_direct", "_direct_weight"}


def test_folding(gpu: Gpu) -> None:
    x = new(8, 16, 32, 32, dt=f32)
    how = ((3, 3), (1, 1), (1, 1), (2, 2))
    assert set(reports(gpu, lambda: folding.col2im(folding.im2col(x, *how), (32, 32), *how))) == {"_im2col", "_col2im"}
