"""The kernels of pooling, resampling and grid sampling compiled for sm_80 and sm_90 through the launch path: no spills."""
from __future__ import annotations

import cubin_support
import pytest
from cubin_report import Report
from cubin_support import Gpu

from fusetorch import dtypes
from fusetorch.runtime.memory import empty
from fusetorch.triton_kernels import pool, resample, weighted_gather

f16, bf16, f32, f64, i64, i32, u8 = (dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64, dtypes.int64, dtypes.int32,
                                     dtypes.uint8)


gpu = cubin_support.gpu


def check(reports: dict[str, Report], *names: str) -> None:
    assert set(names) <= set(reports)
    for name in names:
        assert reports[name].spills == 0 and reports[name].stack == 0, (name, reports[name])


@pytest.mark.parametrize("dt", [f32, f64, f16, bf16, i64, u8], ids=lambda d: d.name)
def test_max_windows(gpu: Gpu, dt: dtypes.dtype) -> None:
    x = empty((8, 16, 32, 32), dt)
    geometry = ((3, 3), (2, 2), (1, 1), (1, 1))
    check(gpu(lambda: pool.max_windows(x, *geometry, (16, 16))), "_max_windows")
    g, at = empty((8, 16, 16, 16), dt), empty((8, 16, 16, 16), i64)
    check(gpu(lambda: pool.max_windows_grad(g, at, (32, 32), *geometry)), "_max_windows_grad")


@pytest.mark.parametrize("dt", [f32, f64, f16, bf16, i64], ids=lambda d: d.name)
def test_resample(gpu: Gpu, dt: dtypes.dtype) -> None:
    x, index = empty((8, 16, 32, 32), dt), empty((64, 2), i32)
    weight = empty((64, 2), f64 if dt is f64 else f32)
    for dim in (2, 3):
        check(gpu(lambda dim=dim: resample.resample(x, dim, index, None)), "_resample")
        if dt.is_floating_point:
            check(gpu(lambda dim=dim: resample.resample(x, dim, index, weight)), "_resample")


def test_resample_bytes(gpu: Gpu) -> None:
    x, index, weight = empty((8, 3, 32, 32), u8), empty((64, 4), i32), empty((64, 4), i32)
    check(gpu(lambda: resample.resample_bytes(x, 2, index, weight, 14)), "_resample_bytes")


@pytest.mark.parametrize("dt", [f32, f64, f16, bf16], ids=lambda d: d.name)
def test_weighted_gather(gpu: Gpu, dt: dtypes.dtype) -> None:
    x, g, at, w = empty((8, 16, 1000), dt), empty((8, 16, 500), dt), empty((8, 4, 500), i64), empty((8, 4, 500), dt)
    check(gpu(lambda: weighted_gather.weighted_gather(x, at, w)), "_weighted_gather")
    check(gpu(lambda: weighted_gather.weighted_scatter(g, at, w, 1000)), "_weighted_scatter")
    check(gpu(lambda: weighted_gather.gathered_dot(g, x, at)), "_gathered_dot")
