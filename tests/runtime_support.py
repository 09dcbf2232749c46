"""Kernels, fixtures and a stand-in for CuPy that the tests of the GPU runtime share.

A test file takes the fixtures by name: ``cache_dir = runtime_support.cache_dir``.
"""
from __future__ import annotations

import contextlib
import ctypes
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import triton
import triton.language as tl
from triton.language.extra import libdevice

from fusetorch import config, dtypes
from fusetorch.runtime import device as D
from fusetorch.runtime import launch, memory
from fusetorch.runtime import triton_compile as tc


@triton.jit
def add_fn(a, b):
    return a + b


@triton.jit
def tanh_mul_fn(a, b):
    return libdevice.tanh(a) * b


@triton.jit
def binary_kernel(x_ptr, y_ptr, out_ptr, n, FN: tl.constexpr, BLOCK: tl.constexpr):
    pid = tl.program_id(0)
    i = pid * BLOCK + tl.arange(0, BLOCK)
    if (pid + 1) * BLOCK <= n:
        tl.store(out_ptr + i, FN(tl.load(x_ptr + i), tl.load(y_ptr + i)))
    else:
        mask = i < n
        tl.store(out_ptr + i, FN(tl.load(x_ptr + i, mask), tl.load(y_ptr + i, mask)), mask)


@triton.jit
def strided_copy_kernel(x_ptr, out_ptr, rows, cols, stride_r, stride_c, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < rows * cols
    value = tl.load(x_ptr + (i // cols) * stride_r + (i % cols) * stride_c, mask)
    tl.store(out_ptr + i, value, mask)


@triton.jit
def scale_kernel(x_ptr, bias_ptr, out_ptr, n, scale, flip, BLOCK: tl.constexpr = 128):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    x = tl.load(x_ptr + i, mask) * scale
    if bias_ptr is not None:
        x += tl.load(bias_ptr + i, mask)
    if flip:
        x = -x
    tl.store(out_ptr + i, x, mask)


@triton.jit
def fill_kernel(x_ptr, VALUE: tl.constexpr, BLOCK: tl.constexpr):
    tl.store(x_ptr + tl.arange(0, BLOCK), VALUE)


@triton.jit
def softmax_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * n + i, i < n, other=-float("inf")).to(tl.float32)
    e = tl.exp(x - tl.max(x, 0))
    tl.store(out_ptr + row * n + i, (e / tl.sum(e, 0)).to(out_ptr.dtype.element_ty), i < n)


@triton.jit
def matmul_kernel(a_ptr, b_ptr, c_ptr, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    acc = tl.zeros((BM, BN), tl.float32)
    for start in range(0, K, BK):
        a = tl.load(a_ptr + m[:, None] * K + (start + k)[None, :])
        b = tl.load(b_ptr + (start + k)[:, None] * N + n[None, :])
        acc = tl.dot(a, b, acc, input_precision="ieee")
    tl.store(c_ptr + m[:, None] * N + n[None, :], acc.to(c_ptr.dtype.element_ty))


@triton.jit
def descriptor_copy_kernel(x_ptr, out_ptr, rows, cols, BLOCK: tl.constexpr):
    x = tl.make_tensor_descriptor(x_ptr, [rows, cols], [cols, 1], [BLOCK, BLOCK])
    out = tl.make_tensor_descriptor(out_ptr, [rows, cols], [cols, 1], [BLOCK, BLOCK])
    r, c = tl.program_id(0) * BLOCK, tl.program_id(1) * BLOCK
    out.store([r, c], x.load([r, c]))


@triton.jit
def argmax_kernel(x_ptr, value_ptr, index_ptr, BLOCK: tl.constexpr):
    x = tl.load(x_ptr + tl.arange(0, BLOCK))
    value, index = tl.max(x, 0, return_indices=True)
    tl.store(value_ptr, value)
    tl.store(index_ptr, index)


@triton.jit
def welford_combine(mean_a, m2_a, n_a, mean_b, m2_b, n_b):
    n = n_a + n_b
    delta = mean_b - mean_a
    return mean_a + delta * n_b / n, m2_a + m2_b + delta * delta * n_a * n_b / n, n


@triton.jit
def decay_combine(a_gate, a_value, b_gate, b_value):
    return a_gate * b_gate, a_value * b_gate + b_value


@triton.jit
def welford_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    x = tl.load(x_ptr + tl.arange(0, BLOCK))
    mean, m2, n = tl.reduce((x, tl.zeros_like(x), tl.full((BLOCK,), 1.0, tl.float32)), 0, welford_combine)
    tl.store(out_ptr, mean)
    tl.store(out_ptr + 1, m2 / n)


@triton.jit
def scan_kernel(gate_ptr, x_ptr, out_ptr, sums_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i)
    _, state = tl.associative_scan((tl.load(gate_ptr + i), x), 0, decay_combine)
    tl.store(out_ptr + i, state)
    tl.store(sums_ptr + i, tl.cumsum(x, 0))


@triton.jit
def atomic_kernel(x_ptr, bins_ptr, out_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.atomic_add(out_ptr + tl.load(bins_ptr + i), tl.load(x_ptr + i))


@triton.jit
def random_kernel(out_ptr, seed, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a, b, c, d = tl.randint4x(seed, i)
    tl.store(out_ptr + i * 4, a)
    tl.store(out_ptr + i * 4 + 1, b)
    tl.store(out_ptr + i * 4 + 2, c)
    tl.store(out_ptr + i * 4 + 3, d)


@triton.jit
def libdevice_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i)
    y = libdevice.expm1(x) + libdevice.log1p(tl.abs(x)) + libdevice.pow(tl.abs(x), 1.5) + libdevice.atan2(x, 2.0)
    y = tl.where(libdevice.isnan(x), 7.0, y + tl.erf(x) + libdevice.round(x))
    tl.store(out_ptr + i, y)


@triton.jit
def unknown_libdevice_kernel(x_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(x_ptr + i, libdevice.cyl_bessel_i0(tl.load(x_ptr + i)))


@triton.jit
def loop_kernel(out_ptr, n):
    total = 0
    for i in range(n):
        total += i
    j = 0
    while j < n:
        j += 2
    tl.store(out_ptr, total)
    tl.store(out_ptr + 1, j)


@triton.jit
def broken_kernel(x_ptr, BLOCK: tl.constexpr):
    tl.store(x_ptr + tl.arange(0, BLOCK), no_such_name)  # noqa: F821


@pytest.fixture(autouse=True)
def cache_dir(tmp_path, monkeypatch):
    """A cache of its own for each test, on disk and in memory."""
    monkeypatch.setattr(tc, "_memory", {})
    monkeypatch.setattr(tc, "_unwritable", set())
    with config.override(cache_dir=str(tmp_path / "cache"), simulate_cuda=False):
        yield tmp_path / "cache" / "triton"


@pytest.fixture(params=["simulated", pytest.param("gpu", marks=pytest.mark.gpu)])
def cuda(request):
    """The simulated GPU, and the machine's own where there is one."""
    if request.param == "gpu" and not D.cuda_available():
        pytest.skip("needs a GPU")
    with config.override(simulate_cuda=request.param == "simulated"):
        yield request.param


def values(dtype: dtypes.dtype, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype.is_floating_point:
        return rng.standard_normal(n).astype(dtype.np)
    return rng.integers(0, 2 if dtype is dtypes.bool_ else 100, n).astype(dtype.np)


SPECS = ["*fp32:16", "*fp32:16", "*fp32:16", "i32"]


def compile_add(**changes):
    given = {"specs": SPECS, "constexprs": {"FN": add_fn, "BLOCK": 1024}, "capability": 90} | changes
    return tc.compile_kernel(binary_kernel, given.pop("specs"), given.pop("constexprs"), **given)


class FakeCupy:
    """CuPy's streams, events, graphs and driver as far as the runtime uses them: writes down what is called."""

    def __init__(self):
        calls = self.calls = []
        fake = self

        class Stream:
            def __init__(self, non_blocking=False):
                self.ptr = 16 + len(calls)
                self.done = True

            def __enter__(self):
                self.before, fake.current = fake.current, self

            def __exit__(self, *exc):
                fake.current = self.before

            def wait_event(self, event):
                calls.append("wait_event")

            def synchronize(self):
                calls.append("synchronize")

            def begin_capture(self, mode):
                calls.append(f"begin_capture {mode}")

            def end_capture(self):
                calls.append("end_capture")
                if fake.refuse:
                    raise FakeCupy.Error("cudaErrorStreamCaptureInvalidated")
                return SimpleNamespace(upload=lambda stream: calls.append("upload"),
                                       launch=lambda stream: calls.append(f"graph on {stream.ptr}"))

        class Event:
            def __init__(self, disable_timing=False):
                self.done = True

            def record(self, stream):
                calls.append("record")

            def synchronize(self):
                calls.append("event synchronize")

        @contextlib.contextmanager
        def using_allocator(malloc):
            calls.append("pool on")
            yield
            calls.append("pool off")

        self.refuse = False
        self.current = null = Stream()
        null.ptr = 0
        Stream.null = null
        self.__version__ = "13.6.0"
        pool = SimpleNamespace(malloc=None, total_bytes=lambda: 4096)
        runtime = SimpleNamespace(
            streamCaptureModeThreadLocal=1, memcpyDefault=4, CUDARuntimeError=FakeCupy.Error, getDevice=lambda: 0,
            setDevice=lambda i: calls.append(f"setDevice {i}"), free=lambda p: calls.append(f"free {p}"),
            memcpyAsync=lambda dst, src, n, kind, stream: ctypes.memmove(dst, src, n),
            streamSynchronize=lambda s: calls.append(f"synchronize {s}"))
        driver = SimpleNamespace(
            CUDADriverError=FakeCupy.Error, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8,
            moduleLoadData=lambda cubin: 1, moduleGetFunction=lambda module, name: f"function {name}",
            funcSetAttribute=lambda *a: calls.append(a), launchKernel=lambda *a: calls.append(a[:9]))
        self.cuda = SimpleNamespace(
            Stream=Stream, Event=Event, MemoryPool=lambda: pool, using_allocator=using_allocator, runtime=runtime,
            driver=driver, get_current_stream=lambda index=-1: fake.current, alloc=launch_stub_alloc,
            get_elapsed_time=lambda a, b: 1.5, Device=lambda i: contextlib.nullcontext())

    class Error(RuntimeError):
        pass


def launch_stub_alloc(nbytes):
    data = np.zeros(nbytes + 16, np.uint8)
    return SimpleNamespace(ptr=data.ctypes.data + -data.ctypes.data % 16, data=data)


@pytest.fixture
def fake_cupy(monkeypatch):
    """The runtime on a machine with one GPU, as far as it can tell."""
    fake = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setitem(sys.modules, "cupy.cuda", fake.cuda)
    monkeypatch.setattr(D, "_probe", lambda: (1, ""))
    monkeypatch.setattr(D, "_capability", lambda index: 90)
    monkeypatch.setattr(memory, "_cupy_alloc", None)
    before = launch.use_driver(None)
    yield fake
    launch.use_driver(before)
