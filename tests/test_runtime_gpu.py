"""The GPU side of the runtime without a GPU: compiled for real, launched on a stub, run in the interpreter."""
from __future__ import annotations

import builtins
import contextlib
import ctypes
import math
import os
import re
import stat
import struct
import subprocess
import sys
import textwrap
import threading
import timeit
import warnings
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
import triton
import triton.language as tl
from cubin_report import report
from triton.language.extra import libdevice

from fusetorch import config, dtypes
from fusetorch.errors import CompileError, CudaUnavailableError, FusetorchError
from fusetorch.runtime import device as D
from fusetorch.runtime import interpreter, launch, memory, streams, timing
from fusetorch.runtime import triton_compile as tc
from fusetorch.runtime.cuda_graph import CudaGraph
from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.stub import stub_gpu

# ---------------------------------------------------------------------------------------------------------------------
# kernels


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


@pytest.fixture
def simulated():
    with config.override(simulate_cuda=True):
        yield


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


# ---------------------------------------------------------------------------------------------------------------------
# devices


@pytest.mark.parametrize("args, text, name", [
    (("cuda",), "device(type='cuda')", "cuda"), (("cuda:1",), "device(type='cuda', index=1)", "cuda:1"),
    (("cuda", 0), "device(type='cuda', index=0)", "cuda:0"), (("cpu",), "device(type='cpu')", "cpu"),
    ((2,), "device(type='cuda', index=2)", "cuda:2")])
def test_device_names(args, text, name):
    d = D.device(*args)
    assert (repr(d), str(d)) == (text, name)
    assert D.device(d) == d and hash(D.device(d)) == hash(d)
    import copy
    import pickle
    assert pickle.loads(pickle.dumps(d)) == d == copy.deepcopy(d)


def test_device_equality():
    assert D.device("cuda:0") == D.device("cuda", 0)
    assert D.device("cuda") != D.device("cuda:0") and D.device("cpu") != "cpu"
    assert len({D.device("cuda:0"), D.device("cuda", 0), D.device("cpu")}) == 2


@pytest.mark.parametrize("bad, error", [("gpu", RuntimeError), ("cuda:", RuntimeError), ("cuda:x", RuntimeError),
                                        ("cuda:01", RuntimeError), (-1, RuntimeError), (None, TypeError),
                                        (1.5, TypeError)])
def test_device_rejects(bad, error):
    with pytest.raises(error):
        D.device(bad)
    with pytest.raises(RuntimeError, match="explicitly"):
        D.device("cuda:1", 1)


def test_simulated_device(simulated):
    assert D.cuda_available() and D.simulated() and D.device_count() == 1
    assert D.compute_capability() == 90 and D.current_device() == 0 and "simulated" in D.device_name()
    assert D.cuda_missing() == ""
    D.require_cuda(0)
    D.set_device(D.device("cuda:0"))
    D.synchronize()
    with pytest.raises(CudaUnavailableError, match=r"cuda:1 was asked for and there is 1 device"):
        D.require_cuda(1)


@pytest.mark.parametrize("driver, wanted", [(None, "and an NVIDIA driver"), (12080, r"fusetorch\[cuda12\]"),
                                            (13000, r"fusetorch\[cuda13\]")])
def test_missing_cupy_is_named(monkeypatch, driver, wanted):
    real = builtins.__import__

    def without_cupy(name, *args, **kwargs):
        if name.partition(".")[0] == "cupy":
            raise ModuleNotFoundError("No module named 'cupy'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_cupy)
    monkeypatch.setattr(D, "_driver_version", lambda: driver)
    D._probe.cache_clear()
    try:
        assert not D.cuda_available() and D.device_count() == 0
        for ask in (D.require_cuda, D.current_device, D.synchronize, lambda: memory.empty((2,), dtypes.float32),
                    streams.Stream, lambda: streams.Event(), lambda: timing.bench(int, device="cuda")):
            with pytest.raises(CudaUnavailableError, match="pip install.*" + wanted):
                ask()
    finally:
        D._probe.cache_clear()


# ---------------------------------------------------------------------------------------------------------------------
# memory


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
def test_round_trip(cuda, dtype):
    host = values(dtype, 24).reshape(2, 3, 4)
    a = memory.from_numpy(host)
    assert a.shape == (2, 3, 4) and a.strides == (12, 4, 1) and a.dtype is dtype and a.is_contiguous
    assert (a.size, a.ndim, a.itemsize, a.nbytes) == (24, 3, dtype.itemsize, 24 * dtype.itemsize)
    assert a.ptr % 256 == 0
    got = memory.to_numpy(a)
    assert got.dtype == host.dtype and got.flags.c_contiguous and np.array_equal(got, host)
    got[...] = 0
    assert np.array_equal(memory.to_numpy(a), host)  # a copy


STRIDED = [((4, 3), (1, 4), 0), ((2,), (5,), 3), ((3, 4), (0, 1), 4), ((), (), 7), ((2, 2, 2), (6, 2, 1), 1),
           ((0, 3), (3, 1), 2)]


@pytest.mark.parametrize("where", ["simulated", "stub"])
@pytest.mark.parametrize("shape, strides, offset", STRIDED)
def test_to_numpy_of_strided_views(where, shape, strides, offset):
    host = np.arange(24, dtype=np.int64)
    wanted = np.lib.stride_tricks.as_strided(host[offset:], shape, [8 * s for s in strides])
    with config.override(simulate_cuda=True) if where == "simulated" else stub_gpu():
        a = memory.from_numpy(host).view(shape, strides, offset)
        got = memory.to_numpy(a)
        assert got.shape == shape and got.flags.c_contiguous and np.array_equal(got, wanted)
        assert a.ptr == a.storage.ptr + 8 * offset


def test_as_numpy_is_the_memory_itself(simulated):
    a = memory.from_numpy(np.arange(6, dtype=np.float32))
    memory.as_numpy(a.view((3,), (2,), 1))[...] = -1
    assert memory.to_numpy(a).tolist() == [0, -1, 2, -1, 4, -1]
    with stub_gpu(), pytest.raises(RuntimeError, match="use to_numpy"):
        memory.as_numpy(memory.empty((2,), dtypes.float32))


def test_fresh_memory_reads_as_nan(simulated):
    assert np.isnan(memory.to_numpy(memory.empty((3,), dtypes.float32))).all()


def test_copies(simulated):
    a, b = memory.empty((2, 2), dtypes.float32), memory.empty((2, 2), dtypes.float32)
    memory.copy_to_device(a, np.arange(4, dtype=np.float32).reshape(2, 2).T)
    memory.copy_device(b, a)
    assert memory.to_numpy(b).tolist() == [[0, 2], [1, 3]]
    with pytest.raises(RuntimeError, match=r"shape \(3,\), dtype float32 does not fit device array of shape \(2, 2\)"):
        memory.copy_to_device(a, np.zeros(3, np.float32))
    with pytest.raises(RuntimeError, match="not contiguous"):
        memory.copy_to_device(a.view((2, 2), (1, 2), 0), np.zeros((2, 2), np.float32))
    with pytest.raises(RuntimeError, match="contiguous arrays of equal shape"):
        memory.copy_device(a, memory.empty((4,), dtypes.float32))
    with pytest.raises(TypeError, match="complex"):
        memory.from_numpy(np.zeros(2, np.complex64))


def test_memory_statistics(simulated):
    before = memory.memory_allocated()
    memory.reset_peak_memory_stats()
    a = memory.empty((1000,), dtypes.float32)
    b = a.view((500,), (2,), 0)
    assert memory.memory_allocated() == memory.max_memory_allocated() == before + 4000
    del a
    assert memory.memory_allocated() == before + 4000  # the view keeps it
    del b
    memory.empty_cache()
    assert memory.memory_allocated() == before and memory.max_memory_allocated() == before + 4000
    assert memory.memory_reserved() == before
    memory.reset_peak_memory_stats()
    assert memory.max_memory_allocated() == before


# ---------------------------------------------------------------------------------------------------------------------
# compiling and its cache

SPECS = ["*fp32:16", "*fp32:16", "*fp32:16", "i32"]


def compile_add(**changes):
    given = {"specs": SPECS, "constexprs": {"FN": add_fn, "BLOCK": 1024}, "capability": 90} | changes
    return tc.compile_kernel(binary_kernel, given.pop("specs"), given.pop("constexprs"), **given)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("kind, width", [("fp32", 4), ("fp16", 8), ("bf16", 8)])
def test_cubin_has_wide_loads_and_no_spills(capability, kind, width):
    got = compile_add(specs=[f"*{kind}:16"] * 3 + ["i32"], capability=capability)
    assert got.name == "binary_kernel" and got.cubin[:4] == b"\x7fELF" and got.num_warps == 4 and got.shared == 0
    assert got.live == ((0, "*" + kind), (1, "*" + kind), (2, "*" + kind), (3, "i32"))
    r = report(got.cubin)
    assert r.spills == 0 and r.stack == 0 and r.loads_128 == 2 * 1024 // 128 // width
    assert r.stores_128 == 1024 // 128 // width


def test_unaligned_pointers_get_narrow_loads():
    assert report(compile_add(specs=["*fp32", "*fp32", "*fp32", "i32"]).cubin).loads_128 == 0


@pytest.mark.parametrize("capability", [80, 90])
def test_matmul_uses_the_tensor_cores(capability):
    got = tc.compile_kernel(matmul_kernel, ["*bf16:16"] * 3 + ["i32:16"] * 3, {"BM": 128, "BN": 128, "BK": 64},
                            capability=capability, num_warps=8, fp_fusion=True)
    r = report(got.cubin)
    assert r.spills == 0 and got.shared > 0 and got.num_warps == 8
    assert r.hgmma > 0 if capability == 90 else r.hmma > 0


def test_fp_fusion_is_chosen_by_the_caller():
    @triton.jit
    def fma(x_ptr, BLOCK: tl.constexpr):
        i = tl.arange(0, BLOCK)
        x = tl.load(x_ptr + i)
        tl.store(x_ptr + i, x * x + 3.0 * x)

    apart, fused = (report(tc.compile_kernel(fma, ["*fp32:16"], {"BLOCK": 128}, capability=90, fp_fusion=f).cubin)
                    for f in (False, True))
    assert apart.ffma == 0 < fused.ffma


def test_ones_and_none_leave_the_parameter_list():
    specs = {"x_ptr": "*fp32:16", "bias_ptr": "none", "out_ptr": "*fp32:16", "n": "1", "scale": "fp32", "flip": "u1"}
    got = tc.compile_kernel(scale_kernel, specs, {"BLOCK": 128}, capability=90)
    assert got.live == ((0, "*fp32"), (2, "*fp32"), (4, "fp32"), (5, "u1"))


def test_specs():
    specs = [tc.spec_of(v, True) for v in (None, True, 1, 0, 32, 7, -3, 2**31, -2**31, 2**40 + 1, 1.5)]
    assert specs == ["none", "u1", "1", "i32:16", "i32:16", "i32", "i32", "i64:16", "i32:16", "i64", "fp32"]
    with config.override(simulate_cuda=True):
        x = memory.empty((4,), dtypes.bfloat16)
        assert tc.spec_of(x, True) == "*bf16:16" and tc.spec_of(x, False) == "*bf16" and tc.type_of(x) == "*bf16"
    assert tc.type_of(1) == tc.type_of(None) == "constexpr" and tc.type_of(16) == "i32"
    for bad in ("text", 2**64, [1]):
        with pytest.raises(TypeError):
            tc.spec_of(bad, True)


def test_memory_and_disk_hits(cache_dir, monkeypatch):
    count = tc.compile_count()
    first = compile_add()
    assert tc.compile_count() == count + 1
    assert compile_add() is first
    files = list(cache_dir.iterdir())
    assert [f.name for f in files] == [first.key + ".cubin"]
    monkeypatch.setattr(tc, "_memory", {})
    assert compile_add() == first and tc.compile_count() == count + 1


def test_key_separates(monkeypatch):
    keys = {compile_add(**c).key for c in (
        {}, {"capability": 80}, {"num_warps": 8}, {"num_stages": 2}, {"fp_fusion": True},
        {"specs": ["*fp32"] * 3 + ["i32"]}, {"constexprs": {"FN": add_fn, "BLOCK": 512}},
        {"constexprs": {"FN": tanh_mul_fn, "BLOCK": 1024}})}
    assert len(keys) == 8
    assert tc._constant_key(1) != tc._constant_key(True) != tc._constant_key(1.0)
    assert tc._constant_key(tl.constexpr(4)) == tc._constant_key(4)


def load_kernel(folder, body):
    """The kernel of a module written to ``folder``, with a device function that returns ``body``."""
    import importlib.util
    path = folder / "generated.py"
    path.write_text(textwrap.dedent(f"""
        import triton
        import triton.language as tl

        @triton.jit
        def inner(x):
            return {body}

        @triton.jit
        def outer(x_ptr, BLOCK: tl.constexpr):
            i = tl.arange(0, BLOCK)
            tl.store(x_ptr + i, inner(tl.load(x_ptr + i)))
        """))
    import linecache
    linecache.clearcache()
    spec = importlib.util.spec_from_file_location("generated", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.outer


def test_key_follows_the_source_of_called_functions(tmp_path):
    first, second = (tc.compile_kernel(load_kernel(tmp_path, body), ["*fp32:16"], {"BLOCK": 128}, capability=90)
                     for body in ("x * 2.0", "x * 3.0"))
    assert first.key != second.key


@pytest.mark.parametrize("damage", [lambda d: d[:100], lambda d: b"", lambda d: d[:-1] + bytes([d[-1] ^ 1]),
                                    lambda d: b"x" + d[1:], lambda d: d[:60] + b"\xff" + d[61:]])
def test_damaged_entry_is_compiled_anew(cache_dir, monkeypatch, damage):
    first = compile_add()
    path = cache_dir / f"{first.key}.cubin"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    monkeypatch.setattr(tc, "_memory", {})
    count = tc.compile_count()
    again = compile_add()
    assert tc.compile_count() == count + 1 and again.live == first.live
    monkeypatch.setattr(tc, "_memory", {})
    assert compile_add() == again and tc.compile_count() == count + 1  # the file is whole again
    assert [p.name for p in cache_dir.iterdir()] == [path.name]


def test_entry_of_another_key_is_not_used(cache_dir, monkeypatch):
    one, other = compile_add(), compile_add(num_warps=8)
    (cache_dir / f"{one.key}.cubin").write_bytes((cache_dir / f"{other.key}.cubin").read_bytes())
    monkeypatch.setattr(tc, "_memory", {})
    assert compile_add().num_warps == 4


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with config.override(cache_dir=str(tmp_path / "file")):
        with pytest.warns(UserWarning, match="FUSETORCH_CACHE_DIR"):
            assert compile_add().cubin
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compile_add(num_warps=8)  # one warning is enough


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(cache_dir):
    cache_dir.mkdir(parents=True)
    cache_dir.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.warns(UserWarning, match="FUSETORCH_CACHE_DIR"):
        assert compile_add().cubin
    assert list(cache_dir.iterdir()) == []


def test_write_that_fails_leaves_nothing(cache_dir, monkeypatch):
    def refuse(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    kernel = tc.CompiledKernel("k", b"cubin", 90, 4, 3, 0, 0, 0, ((0, "i32"),), "f" * 64)
    with pytest.warns(UserWarning, match="No space left"):
        tc._save(kernel)
    assert list(cache_dir.iterdir()) == []


def test_cache_can_be_off(cache_dir):
    with config.override(cache=False):
        compile_add()
    assert not cache_dir.exists()


PROCESS = """
import sys
sys.path.insert(0, {tests!r})
from fusetorch import config
config.cache_dir = {cache!r}
import test_runtime_gpu as t
got = t.compile_add()
print(got.key, t.tc.compile_count())
"""


def test_processes_share_the_cache(cache_dir, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    code = PROCESS.format(tests=os.path.dirname(__file__), cache=str(cache_dir.parent))
    env = os.environ | {"HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    env.pop("TRITON_CACHE_DIR", None)

    def start():
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)

    both = [start(), start()]
    keys = {p.communicate(timeout=120)[0].split()[0] for p in both}
    assert [p.returncode for p in both] == [0, 0] and len(keys) == 1
    third = start()
    assert third.communicate(timeout=120)[0].split() == [*keys, "0"]  # nothing compiled
    assert [p.name for p in cache_dir.iterdir()] == [f"{keys.pop()}.cubin"]
    assert list(home.iterdir()) == []  # Triton keeps no files of its own


def test_threads_compile_at_once(monkeypatch):
    from triton import knobs
    before = knobs.cache.manager_class
    got: dict[int, tc.CompiledKernel] = {}

    def work(warps):
        got[warps] = compile_add(num_warps=warps)

    threads = [threading.Thread(target=work, args=(w,)) for w in (1, 2, 4, 8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert {w: k.num_warps for w, k in got.items()} == {1: 1, 2: 2, 4: 4, 8: 8}
    assert knobs.cache.manager_class is before


def test_compile_errors_name_the_kernel():
    with pytest.raises(CompileError, match=r"(?s)kernel broken_kernel \(.*test_runtime_gpu.py:\d+\) does not compile "
                                           r"for sm_90.*no_such_name"):
        tc.compile_kernel(broken_kernel, ["*fp32"], {"BLOCK": 128}, capability=90)
    with pytest.raises(TypeError, match="constexpr parameter 'BLOCK' has no value"):
        tc.compile_kernel(softmax_kernel, ["*fp32", "*fp32", "i32"], {}, capability=90)
    with pytest.raises(TypeError, match="need a description each"):
        tc.compile_kernel(softmax_kernel, {"x_ptr": "*fp32"}, {"BLOCK": 128}, capability=90)
    with pytest.raises(TypeError, match=r"expected a @triton.jit function"):
        tc.compile_kernel(values, [], {}, capability=90)


# ---------------------------------------------------------------------------------------------------------------------
# launching, on the stub


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


NULL = u64(0)


def test_parameter_block():
    kernel = Kernel(scale_kernel)
    with stub_gpu() as gpu:
        x, out = memory.from_numpy(values(dtypes.float32, 64)), memory.empty((64,), dtypes.float32)
        kernel((1,), x, None, out, -7, 0.5, True)
        kernel((2, 3), x, x, out, 1, 2.0, False, BLOCK=64, num_warps=2)
        kernel((2, 3, 4), x, None, out, 2**40, float("nan"), True)
    first, second, third = gpu.launches
    assert first.parameters == (u64(x.ptr), u64(out.ptr), struct.pack("<i4x", -7), struct.pack("<f4x", 0.5), u64(1),
                                NULL, NULL)
    assert (first.grid, first.threads, first.shared, first.stream) == ((1, 1, 1), 128, 0, gpu.stream.ptr)
    # n == 1 is compiled in; the bias is there
    assert second.parameters == (u64(x.ptr), u64(x.ptr), u64(out.ptr), struct.pack("<f4x", 2.0), u64(0), NULL, NULL)
    assert (second.grid, second.threads) == ((2, 3, 1), 64)
    assert third.parameters[2] == u64(2**40) and third.kernel.live[2] == (3, "i64")
    assert math.isnan(struct.unpack("<f4x", third.parameters[3])[0]) and third.grid == (2, 3, 4)


def test_ptx_takes_what_the_block_holds(tmp_path):
    specs = {"x_ptr": "*bf16:16", "bias_ptr": "none", "out_ptr": "*fp32", "n": "i64", "scale": "fp32", "flip": "u1"}
    with config.override(dump_dir=str(tmp_path)):
        got = tc.compile_kernel(scale_kernel, specs, {"BLOCK": 128}, capability=90)
    entry = re.search(r"\.entry scale_kernel\((.*?)\)", next(tmp_path.glob("*.ptx")).read_text(), re.DOTALL)[1]
    widths = [int(w) // 8 for w in re.findall(r"\.param \.[a-z]+(\d+)", entry)]
    codes = ["Q" if kind[0] == "*" else launch._CODES[kind] for _, kind in got.live]
    assert widths == [struct.calcsize("<" + c) for c in codes] + [8, 8] == [8, 8, 8, 4, 1, 8, 8]


def test_descriptors_made_in_a_kernel_get_scratch():
    kernel = Kernel(descriptor_copy_kernel)
    with stub_gpu() as gpu:
        x, out = memory.empty((64, 64), dtypes.float32), memory.empty((64, 64), dtypes.float32)
        kernel((2, 2), x, out, 64, 64, BLOCK=32)
    one = gpu.launches[-1]
    assert one.kernel.scratch >= 128 and one.parameters[-2] != NULL and one.parameters[-1] == NULL
    with config.override(simulate_cuda=True):
        host = values(dtypes.float32, 64 * 64).reshape(64, 64)
        out = memory.empty((64, 64), dtypes.float32)
        kernel((2, 2), memory.from_numpy(host), out, 64, 64, BLOCK=32)
        assert np.array_equal(memory.to_numpy(out), host)


def test_what_is_specialised():
    kernel = Kernel(binary_kernel)
    with stub_gpu() as gpu:
        x, out = memory.from_numpy(values(dtypes.float32, 64)), memory.empty((64,), dtypes.float32)
        odd = x.view((63,), (1,), 1)

        def key(a=x, n=64, **changes):
            kernel((1,), a, x, out, n, **({"FN": add_fn, "BLOCK": 64} | changes))
            return gpu.launches[-1].kernel.key

        aligned = key()
        assert key(n=32) == key(n=0) == aligned and key(n=33) == key(n=63) != aligned
        assert len({key(n=n) for n in (64, 63, 1, 2**35, 2**35 + 1)}) == 5
        assert key(odd) not in (aligned, key(n=63)) and "*fp32" in str(gpu.launches[-1].kernel.live)
        assert key(x.view((60,), (1,), 4)) == aligned  # 16 bytes on: aligned still
        assert len({key(BLOCK=b) for b in (64, 32)}) == 2
        assert len({key(), key(FN=tanh_mul_fn), key(BLOCK=32), key(num_warps=8), key(num_stages=1)}) == 5
        compiled = len(gpu.kernels)
        for _ in range(3):
            key(), key(odd), key(n=33)
        assert len(gpu.kernels) == compiled


def test_constants_that_compare_equal_are_told_apart():
    kernel = Kernel(fill_kernel)
    with stub_gpu() as gpu:
        x = memory.empty((64,), dtypes.float32)
        for value in (0.0, -0.0, 0, False, math.nan, math.nan, 0.0):
            kernel((1,), x, VALUE=value, BLOCK=64)
        keys = [one.kernel.key for one in gpu.launches]
        assert len(set(keys)) == len(gpu.kernels) == 5 and keys[0] == keys[-1] and keys[4] == keys[5]


def test_arguments_of_another_kind_later():
    kernel = Kernel(scale_kernel)
    with stub_gpu() as gpu:
        x = memory.from_numpy(values(dtypes.float32, 64))
        h = memory.from_numpy(values(dtypes.float16, 64))
        for bias, scale, flip in [(None, 2.0, True), (x, 2.0, True), (None, 3, True), (h, 3, 0), (None, 2.0, True)]:
            kernel((1,), x, bias, x, 64, scale, flip)
    kinds = [[kind for _, kind in one.kernel.live] for one in gpu.launches]
    assert kinds[0] == kinds[4] == ["*fp32", "*fp32", "i32", "fp32", "u1"]
    assert kinds[1] == ["*fp32", "*fp32", "*fp32", "i32", "fp32", "u1"]
    assert kinds[2] == ["*fp32", "*fp32", "i32", "i32", "u1"]
    assert kinds[3] == ["*fp32", "*fp16", "*fp32", "i32", "i32", "i32"]
    assert gpu.launches[0].kernel is gpu.launches[4].kernel


def test_empty_grid_launches_nothing():
    kernel = Kernel(binary_kernel)
    with stub_gpu() as gpu:
        x = memory.empty((0,), dtypes.float32)
        for grid in [(0,), (0, 4), (4, 0), (1, 1, 0)]:
            kernel(grid, x, x, x, 0, FN=add_fn, BLOCK=64)
        assert gpu.launches == []
    with config.override(simulate_cuda=True):
        x = memory.empty((0,), dtypes.float32)
        kernel((0,), x, x, x, 0, FN=add_fn, BLOCK=64)


@pytest.mark.parametrize("where", ["simulated", "stub"])
def test_wrong_arguments_are_named(where):
    kernel = Kernel(binary_kernel)
    with config.override(simulate_cuda=True) if where == "simulated" else stub_gpu():
        x = memory.empty((64,), dtypes.float32)
        with pytest.raises(TypeError, match=r"binary_kernel.*4 arguments \(x_ptr, y_ptr, out_ptr, n\).*got 3"):
            kernel((1,), x, x, x, FN=add_fn, BLOCK=64)
        for _ in range(2):  # before and after the first good launch
            with pytest.raises(TypeError, match="kernel binary_kernel.* argument"):
                kernel((1,), x, x, x, FN=add_fn, BLOCK=64)
            with pytest.raises(TypeError, match="kernel binary_kernel.*'BLOCK'"):
                kernel((1,), x, x, x, 64, FN=add_fn)
            with pytest.raises(TypeError, match="kernel binary_kernel.*'SIZE'"):
                kernel((1,), x, x, x, 64, FN=add_fn, BLOCK=64, SIZE=3)
            with pytest.raises(TypeError, match="kernel binary_kernel: argument 'n' must be.*not str"):
                kernel((1,), x, x, x, "64", FN=add_fn, BLOCK=64)
            memory.copy_to_device(x, np.zeros(64, np.float32))
            kernel((1,), x, x, x, 64, FN=add_fn, BLOCK=64)


def test_kernel_moves_between_drivers():
    kernel = Kernel(scale_kernel)
    gpus = []
    for capability in (90, 80):
        with stub_gpu(capability=capability) as gpu:
            x = memory.empty((64,), dtypes.float32)
            kernel((1,), x, None, x, 64, 1.0, False)
            kernel((1,), x, None, x, 64, 1.0, False)
            gpus.append(gpu)
        with config.override(simulate_cuda=True):
            x = memory.from_numpy(values(dtypes.float32, 64))
            kernel((1,), x, None, x, 64, 1.0, False)
            assert np.array_equal(memory.to_numpy(x), values(dtypes.float32, 64))
    assert [[one.kernel.capability for one in gpu.launches] for gpu in gpus] == [[90, 90], [80, 80]]


def test_driver_errors_say_what_was_launched():
    kernel = Kernel(softmax_kernel)
    with stub_gpu() as gpu:
        x = memory.empty((64,), dtypes.float32)

        def refuse(*args):
            raise OSError("CUDA_ERROR_INVALID_VALUE")

        gpu.launch = refuse
        with pytest.raises(FusetorchError, match=r"softmax_kernel failed on cuda:0: CUDA_ERROR_INVALID_VALUE \(grid "
                                                 r"\(1, 70000\)"):
            kernel((1, 70000), x, x, 64, BLOCK=64)
        gpu.load = refuse
        with pytest.raises(FusetorchError, match=r"softmax_kernel \(sm_90, .*cannot be loaded"):
            kernel((1,), x, x, 64, BLOCK=32)


def test_each_thread_has_its_own_block():
    kernel = Kernel(scale_kernel)
    with stub_gpu() as gpu:
        x = memory.from_numpy(values(dtypes.float32, 64))
        kernel((1,), x, None, x, 64, 1.5, False)
        inside, go = threading.Event(), threading.Event()
        plain = gpu.launch

        def slow(function, *args):
            if threading.current_thread() is not threading.main_thread():
                inside.set()
                go.wait(10)  # the driver call releases the GIL: the other thread launches meanwhile
            plain(function, *args)

        gpu.launch = slow
        other = Kernel(scale_kernel)
        other((1,), x, None, x, 64, 1.5, False)
        thread = threading.Thread(target=other, args=((1,), x, None, x, 64, 2.5, False))
        thread.start()
        assert inside.wait(10)
        other((1,), x, None, x, 64, 3.5, False)
        go.set()
        thread.join()
    scales = [struct.unpack("<f4x", one.parameters[3])[0] for one in gpu.launches]
    assert scales == [1.5, 1.5, 3.5, 2.5]


def test_bound_launch():
    kernel = Kernel(binary_kernel)
    with stub_gpu() as gpu:
        x, y, z = (memory.from_numpy(values(dtypes.float32, 64)) for _ in range(3))
        h = memory.from_numpy(values(dtypes.float16, 64))
        bound = kernel.bind((3,), (x, y, z, 64), {"FN": add_fn, "BLOCK": 64}, num_warps=2)
        assert bound.compiled.num_warps == 2 and gpu.launches == []
        bound()
        bound(z, y, x, 48)
        bound()
        bound(h, y, x.view((63,), (1,), 1), 1)
        bound(x, y, z, 64)
    pointers = [tuple(int.from_bytes(p, "little") for p in one.parameters[:3]) for one in gpu.launches]
    assert pointers == [(x.ptr, y.ptr, z.ptr), (z.ptr, y.ptr, x.ptr), (z.ptr, y.ptr, x.ptr), (h.ptr, y.ptr, x.ptr + 4),
                        (x.ptr, y.ptr, z.ptr)]
    assert [one.kernel.key == bound.compiled.key for one in gpu.launches] == [True, True, True, False, True]
    assert {one.grid for one in gpu.launches} == {(3, 1, 1)} and {one.threads for one in gpu.launches} == {64}


def test_scratch_memory_is_passed():
    kernel = tc.CompiledKernel("k", b"", 90, 4, 3, 0, 96, 0, ((0, "i32"),), "scratch")
    with stub_gpu() as gpu:
        launcher = launch._Launcher(kernel, 0, 1, ())
        launcher.launch((2, 5), 3)
        asked = []
        plain = gpu.alloc
        gpu.alloc = lambda n: asked.append(n) or plain(n)
        launcher.launch((2, 5), 3)
    assert asked == [960]
    assert [p == NULL for p in gpu.launches[-1].parameters] == [False, False, True]


def test_several_devices():
    kernel = Kernel(binary_kernel)
    with stub_gpu(devices=2) as gpu:
        arrays = [memory.empty((64,), dtypes.float32, i) for i in (0, 1)]
        for _ in range(2):
            for x in arrays:
                kernel((1,), x, x, x, 64, FN=add_fn, BLOCK=64)
            with pytest.raises(RuntimeError, match="binary_kernel: Expected all tensors to be on the same device"):
                kernel((1,), arrays[1], arrays[0], arrays[0], 64, FN=add_fn, BLOCK=64)
        kernel.bind((1,), (arrays[1],) * 3 + (64,), {"FN": add_fn, "BLOCK": 64})()
        assert gpu.device_index == 0 and len(gpu.kernels) == 2  # loaded once on each
        with pytest.raises(CudaUnavailableError, match="there are 2 devices"):
            D.require_cuda(2)
    assert [one.device_index for one in gpu.launches] == [0, 1, 0, 1, 1]


def test_out_of_memory_is_named():
    with stub_gpu() as gpu:
        def full(nbytes):
            raise MemoryError("Out of memory allocating")

        before = memory.memory_allocated()
        memory._cupy_alloc, plain = full, memory._cupy_alloc
        with pytest.raises(memory.OutOfMemoryError, match="Tried to allocate 4096 bytes on cuda:0"):
            memory.empty((1024,), dtypes.float32)
        memory._cupy_alloc = plain
        assert memory.memory_allocated() == before and gpu.launches == []


def test_launch_count():
    kernel = Kernel(binary_kernel)
    with config.override(simulate_cuda=True):
        x = memory.from_numpy(values(dtypes.float32, 64))
        launch.reset_launch_count()
        kernel((1,), x, x, x, 64, FN=add_fn, BLOCK=64)
    with stub_gpu():
        x = memory.from_numpy(values(dtypes.float32, 64))
        kernel((1,), x, x, x, 64, FN=add_fn, BLOCK=64)
        kernel((0,), x, x, x, 64, FN=add_fn, BLOCK=64)
    assert launch.launch_count() == 2


def test_launch_overhead(capsys):
    kernel = Kernel(binary_kernel)
    with stub_gpu(record=False):
        x, out = memory.empty((64,), dtypes.float32), memory.empty((64,), dtypes.float32)
        bound = kernel.bind((1,), (x, x, out, 64), {"FN": add_fn, "BLOCK": 64})
        cases = {"kernel(grid, ...)": lambda: kernel((1,), x, x, out, 64, FN=add_fn, BLOCK=64), "bound()": bound,
                 "bound(...)": lambda: bound(x, x, out, 64), "empty((64,))": lambda:
                 memory.empty((64,), dtypes.float32)}
        with capsys.disabled():
            for name, run in cases.items():
                run()
                print(f"\n  {name}: {min(timeit.repeat(run, number=20000, repeat=5)) / 20000 * 1e6:.2f} us", end="")


# ---------------------------------------------------------------------------------------------------------------------
# the simulated GPU


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64, dtypes.float16, dtypes.bfloat16, dtypes.int8,
                                   dtypes.uint8, dtypes.int16, dtypes.int32, dtypes.int64], ids=str)
@pytest.mark.parametrize("n", [1, 100, 512])
def test_run_add(cuda, dtype, n):
    x, y = values(dtype, n, 1), values(dtype, n, 2)
    out = memory.empty((n,), dtype)
    Kernel(binary_kernel)((-(-n // 256),), memory.from_numpy(x), memory.from_numpy(y), out, n, FN=add_fn, BLOCK=256)
    with np.errstate(over="ignore"):
        assert np.array_equal(memory.to_numpy(out), x + y)


def test_run_device_function_with_libdevice(cuda):
    x = values(dtypes.float32, 100)
    out = memory.empty((100,), dtypes.float32)
    a = memory.from_numpy(x)
    kernel = Kernel(binary_kernel)
    kernel((1,), a, a, out, 100, FN=tanh_mul_fn, BLOCK=128)
    assert np.allclose(memory.to_numpy(out), np.tanh(x) * x, rtol=2e-6)
    kernel((1,), a, a, out, 100, FN=add_fn, BLOCK=128)
    assert np.array_equal(memory.to_numpy(out), x + x)


def test_run_strided_arrays(cuda):
    host = values(dtypes.float32, 60).reshape(6, 10)
    a = memory.from_numpy(host).view((10, 3), (1, 20), 10)
    out = memory.empty((10, 3), dtypes.float32)
    Kernel(strided_copy_kernel)((1,), a, out, 10, 3, 1, 20, BLOCK=32)
    assert np.array_equal(memory.to_numpy(out), host[1::2].T)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("flip", [False, True])
def test_run_optional_pointer_and_scalars(cuda, bias, flip):
    x, b = values(dtypes.float16, 100, 1), values(dtypes.float16, 100, 2)
    out = memory.empty((100,), dtypes.float32)
    Kernel(scale_kernel)((1,), memory.from_numpy(x), memory.from_numpy(b) if bias else None, out, 100, 0.1, flip)
    wanted = x.astype(np.float32) * np.float32(0.1)  # a float argument is float32: the product is not rounded to half
    wanted = wanted + b.astype(np.float32) if bias else wanted
    assert np.array_equal(memory.to_numpy(out), -wanted if flip else wanted)


@pytest.mark.parametrize("dtype, tolerance", [(dtypes.float32, 2e-6), (dtypes.float16, 1e-3), (dtypes.bfloat16, 8e-3)],
                         ids=str)
def test_run_softmax(cuda, dtype, tolerance):
    x = values(dtype, 3 * 50).reshape(3, 50)
    out = memory.empty((3, 50), dtype)
    Kernel(softmax_kernel)((3,), memory.from_numpy(x), out, 50, BLOCK=64)
    e = np.exp(x.astype(np.float64))
    assert np.allclose(memory.to_numpy(out).astype(np.float64), e / e.sum(-1, keepdims=True), rtol=tolerance)


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float16, dtypes.bfloat16], ids=str)
def test_run_matmul(cuda, dtype):
    a, b = values(dtype, 32 * 64).reshape(32, 64), values(dtype, 64 * 32, 1).reshape(64, 32)
    c = memory.empty((32, 32), dtypes.float32)
    Kernel(matmul_kernel)((2, 2), memory.from_numpy(a), memory.from_numpy(b), c, 32, 32, 64, BM=16, BN=16, BK=32)
    assert np.allclose(memory.to_numpy(c), a.astype(np.float64) @ b.astype(np.float64), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("x, value, index", [
    ([1, 5, 5, 2], 5, 1), ([math.nan, 1, 3, 2], 3, 2), ([-math.inf] * 4, -math.inf, 0), ([math.nan] * 4, -math.inf, 0)])
def test_simulated_argmax(simulated, x, value, index):
    v, i = memory.empty((1,), dtypes.float32), memory.empty((1,), dtypes.int32)
    Kernel(argmax_kernel)((1,), memory.from_numpy(np.array(x, np.float32)), v, i, BLOCK=4)
    assert (memory.to_numpy(v)[0], memory.to_numpy(i)[0]) == (value, index)


def test_run_generic_reduce_and_scan(cuda):
    x = values(dtypes.float32, 256)
    out = memory.empty((2,), dtypes.float32)
    Kernel(welford_kernel)((1,), memory.from_numpy(x), out, BLOCK=256)
    assert np.allclose(memory.to_numpy(out), [x.mean(), x.var()], rtol=1e-5, atol=1e-6)
    gate = np.random.default_rng(1).random(64, np.float32)
    x, wanted, state = x[:64], [], 0.0
    for g, v in zip(gate, x, strict=True):
        state = state * float(g) + float(v)
        wanted.append(state)
    states, sums = memory.empty((64,), dtypes.float32), memory.empty((64,), dtypes.float32)
    Kernel(scan_kernel)((1,), memory.from_numpy(gate), memory.from_numpy(x), states, sums, BLOCK=64)
    assert np.allclose(memory.to_numpy(states), wanted, rtol=1e-5, atol=1e-6)
    assert np.allclose(memory.to_numpy(sums), np.cumsum(x.astype(np.float64)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float16, dtypes.bfloat16, dtypes.int32], ids=str)
def test_simulated_atomics(simulated, dtype):
    x = np.arange(16).astype(dtype.np)
    bins = (np.arange(16) % 3).astype(np.int32)
    out = memory.from_numpy(np.zeros(3, dtype.np))
    Kernel(atomic_kernel)((1,), memory.from_numpy(x), memory.from_numpy(bins), out, BLOCK=16)
    assert memory.to_numpy(out).astype(int).tolist() == [45, 35, 40]


def philox(seed: int, counter: int) -> list[int]:
    """Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), Triton's key and counter."""
    c, k, m = [counter, 0, 0, 0], [seed & 0xFFFFFFFF, seed >> 32], 0xFFFFFFFF
    for _ in range(10):
        a, b = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(b >> 32) ^ c[1] ^ k[0], b & m, (a >> 32) ^ c[3] ^ k[1], a & m]
        k = [(k[0] + 0x9E3779B9) & m, (k[1] + 0xBB67AE85) & m]
    return c


@pytest.mark.parametrize("seed", [0, 12345, 2**40 + 7])
def test_run_philox(cuda, seed):
    out = memory.empty((8, 4), dtypes.int32)
    Kernel(random_kernel)((1,), out, seed, BLOCK=8)
    assert memory.to_numpy(out).view(np.uint32).tolist() == [philox(seed, i) for i in range(8)]


def test_simulated_libdevice(simulated):
    x = np.array([0.3, -0.7, 2.5, -2.5, math.nan, 0.0, 1.0, 3.2], np.float32)
    out = memory.empty((8,), dtypes.float32)
    Kernel(libdevice_kernel)((1,), memory.from_numpy(x), out, BLOCK=8)
    wanted = [7.0 if math.isnan(v) else math.expm1(v) + math.log1p(abs(v)) + abs(v) ** 1.5 + math.atan2(v, 2)
              + math.erf(v) + math.copysign(math.floor(abs(v) + 0.5), v) for v in map(float, x)]
    assert np.allclose(memory.to_numpy(out), wanted, rtol=2e-6)
    with pytest.raises(NotImplementedError, match="libdevice.cyl_bessel_i0 has no NumPy form"):
        Kernel(unknown_libdevice_kernel)((1,), out, BLOCK=8)


def test_inverse_error_function():
    from fusetorch.runtime.interpreter_fixes import _erfinv
    x = np.array([-0.999999, -0.5, 0.0, 1e-8, 0.3, 0.9999, 1.0, -1.0, 1.5])
    with np.errstate(all="ignore"):
        got = _erfinv(x)
    assert np.allclose([math.erf(v) for v in got[:6]], x[:6], rtol=1e-14, atol=1e-17)
    assert got[6] == math.inf and got[7] == -math.inf and math.isnan(got[8])


@pytest.mark.parametrize("n", [0, 1, 5])
def test_run_loops(cuda, n):
    out = memory.empty((2,), dtypes.int32)
    Kernel(loop_kernel)((1,), out, n)
    assert memory.to_numpy(out).tolist() == [sum(range(n)), n + n % 2]


def test_simulated_closure_and_module_stay_clean(simulated):
    factor = tl.constexpr(3)

    @triton.jit
    def times(x_ptr, BLOCK: tl.constexpr):
        i = tl.arange(0, BLOCK)
        tl.store(x_ptr + i, tl.load(x_ptr + i) * factor)

    before = set(globals())
    a = memory.from_numpy(np.arange(4, dtype=np.int32))
    Kernel(times)((1,), a, BLOCK=4)
    assert memory.to_numpy(a).tolist() == [0, 3, 6, 9] and set(globals()) == before


def test_language_is_restored_after_a_run_and_a_failure(simulated):
    load, call = tl.load, triton.runtime.jit.JITFunction.__call__
    x = memory.from_numpy(values(dtypes.float32, 8))
    Kernel(binary_kernel)((1,), x, x, x, 8, FN=add_fn, BLOCK=8)
    with pytest.raises(NameError, match="no_such_name"):
        Kernel(broken_kernel)((1,), x, BLOCK=8)
    assert tl.load is load and triton.runtime.jit.JITFunction.__call__ is call
    assert compile_add().cubin


def test_interpreting_and_compiling_threads_do_not_disturb_each_other(simulated):
    failures: list[BaseException] = []

    def work(action):
        def run():
            try:
                for i in range(4):
                    action(i)
            except BaseException as error:  # handed to the main thread
                failures.append(error)
        return run

    def interpret(i):
        x = values(dtypes.float32, 64, i)
        a = memory.from_numpy(x)
        Kernel(binary_kernel)((1,), a, a, a, 64, FN=add_fn, BLOCK=64)
        assert np.array_equal(memory.to_numpy(a), x + x)

    threads = [threading.Thread(target=work(a)) for a in
               (interpret, interpret, lambda i: compile_add(constexprs={"FN": add_fn, "BLOCK": 16 << i}))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []


def test_gpu_memory_is_refused_by_the_simulation():
    with stub_gpu():
        x = memory.empty((8,), dtypes.float32)
    with config.override(simulate_cuda=True), pytest.raises(RuntimeError, match="lives in GPU memory"):
        Kernel(binary_kernel)((1,), x, x, x, 8, FN=add_fn, BLOCK=8)


def test_simulated_bound_launch(simulated):
    x = memory.from_numpy(np.arange(8, dtype=np.int32))
    y = memory.from_numpy(np.arange(8, dtype=np.int32))
    bound = Kernel(binary_kernel).bind((1,), (x, x, x, 8), {"FN": add_fn, "BLOCK": 8})
    bound()
    bound()
    bound(y, y, y, 8)
    assert bound.compiled is None
    assert memory.to_numpy(x).tolist() == [4 * i for i in range(8)] and memory.to_numpy(y)[7] == 14


# ---------------------------------------------------------------------------------------------------------------------
# streams, graphs, timing


def test_simulated_streams_and_events(simulated):
    s, start, end = streams.Stream(), streams.Event(enable_timing=True), streams.Event(enable_timing=True)
    with streams.stream(s):
        start.record()
        s.wait_event(s.record_event())
        end.record(s)
    s.wait_stream(streams.default_stream())
    s.synchronize(), end.synchronize(), end.wait(s)
    assert s.query() and end.query() and start.elapsed_time(end) >= 0
    assert streams.current_stream() == streams.default_stream() and streams.current_stream_ptr() == 0
    with pytest.raises(ValueError, match="enable_timing"):
        streams.Event().elapsed_time(end)
    with pytest.raises(ValueError, match="recorded"):
        streams.Event(enable_timing=True).elapsed_time(end)


def test_graph_replays_a_step(cuda):
    x = memory.from_numpy(np.zeros(8, np.int32))
    one = memory.from_numpy(np.ones(8, np.int32))
    kernel = Kernel(binary_kernel)

    def step():
        kernel((1,), x, one, x, 8, FN=add_fn, BLOCK=8)
        return x

    graph = CudaGraph(step, state=[x])
    with pytest.raises(FusetorchError, match="capture"):
        graph.replay()
    graph.capture()
    assert graph.captured and graph.kernel_count == 1
    assert memory.to_numpy(x).tolist() == [0] * 8  # warm-up does not count
    for i in range(3):
        memory.copy_to_device(one, np.full(8, i, np.int32))
        out = graph.replay()
    assert memory.to_numpy(out).tolist() == [3] * 8
    with pytest.raises(ValueError, match="warmup"):
        CudaGraph(step, warmup=0)


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


def test_launch_through_cupy(fake_cupy):
    x = memory.from_numpy(values(dtypes.float32, 64))
    assert np.array_equal(memory.to_numpy(x), values(dtypes.float32, 64))
    kernel = Kernel(matmul_kernel, num_warps=8)
    with streams.stream(streams.Stream()) as s:
        here = streams.current_stream_ptr()
        fake_cupy.calls.clear()
        a = memory.empty((128, 64), dtypes.bfloat16)
        kernel((1, 1), a, a, a, 128, 128, 64, BM=128, BN=128, BK=64)
    compiled = kernel.bind((1, 1), (a, a, a, 128, 128, 64), {"BM": 128, "BN": 128, "BK": 64}).compiled
    assert s is None and here != 0 and compiled.shared > 49152
    assert fake_cupy.calls[:3] == ["setDevice 0", "free 0", ("function matmul_kernel", 8, compiled.shared)]
    assert fake_cupy.calls[-1] == ("function matmul_kernel", 1, 1, 1, 256, 1, 1, compiled.shared, here)


def test_streams_through_cupy(fake_cupy):
    start, end = streams.Event(enable_timing=True), streams.Event(enable_timing=True)
    start.record()
    end.record(streams.current_stream())
    end.synchronize()
    assert start.elapsed_time(end) == 1.5
    with pytest.raises(NotImplementedError, match="needs CuPy 14"):
        streams.Stream(priority=-1)
    with timing.Timer("cuda") as timer:
        pass
    assert timer.seconds == 1.5e-3


def test_graph_through_cupy(fake_cupy):
    kernel = Kernel(scale_kernel)
    x = memory.from_numpy(values(dtypes.float32, 64))
    graph = CudaGraph(lambda: kernel((1,), x, None, x, 64, 2.0, False) or x, state=[x])
    launch.reset_launch_count()
    graph.capture()
    order = [c for c in fake_cupy.calls if c in ("pool on", "pool off", "begin_capture 1", "end_capture", "upload")]
    assert order == ["pool on", "begin_capture 1", "end_capture", "pool off", "upload"]
    launched = [c[8] for c in fake_cupy.calls if isinstance(c, tuple)]
    assert len(launched) == 3 and len(set(launched)) == 1 and launched[0] != 0  # two warm-ups and the recording
    assert graph.kernel_count == 1 and launch.launch_count() == 2 and graph.pool_bytes == 4096
    assert graph.replay() is x and fake_cupy.calls[-1] == "graph on 0"


def test_graph_that_cannot_be_recorded(fake_cupy):
    runs = []

    def step():
        runs.append(1)
        if len(runs) == 3:
            raise KeyError("third time")

    with pytest.raises(KeyError, match="third time"):
        CudaGraph(step).capture()
    assert fake_cupy.calls[-2:] == ["begin_capture 1", "end_capture"]  # the stream does not stay in recording mode
    fake_cupy.refuse = True
    with pytest.raises(FusetorchError, match="cannot be recorded as a CUDA graph.*CaptureInvalidated"):
        CudaGraph(lambda: None).capture()


def test_timing():
    got = timing.bench(lambda: sum(range(1000)), seconds=0.02)
    assert set(got) == {"median", "iqr", "n"} and 1e-7 < got["median"] < 1e-2 and got["n"] >= 5
    both = timing.compare_interleaved({"short": lambda: sum(range(100)), "long": lambda: sum(range(20000))},
                                      seconds=0.02)
    assert both["short"]["median"] < both["long"]["median"] and both["short"]["n"] == both["long"]["n"]
    assert timing.compare_interleaved({}) == {}
    with config.override(simulate_cuda=True):
        assert timing.bench(lambda: None, device="cuda", seconds=0.01)["median"] < 1e-3
    with pytest.raises(ValueError, match="device must be"):
        timing.bench(int, device="gpu")


def test_importing_the_runtime_is_light():
    code = ("import sys; import fusetorch.runtime.device, fusetorch.runtime.memory, fusetorch.runtime.launch, "
            "fusetorch.runtime.triton_compile, fusetorch.runtime.interpreter, fusetorch.runtime.streams, "
            "fusetorch.runtime.cuda_graph, fusetorch.runtime.timing; "
            "print([m for m in ('triton', 'cupy', 'llvmlite', 'networkx', 'torch') if m in sys.modules])")
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert got.stdout.strip() == "[]"


def test_bfloat16_rounds_once_to_nearest_even(cuda):
    x = np.array([1.0, 1.0 + 2**-7, 256.0, 3.0], ml_dtypes.bfloat16)
    y = np.array([2**-8, 2**-8, 1.0, 2**-7], ml_dtypes.bfloat16)
    out = memory.empty((4,), dtypes.bfloat16)
    Kernel(binary_kernel)((1,), memory.from_numpy(x), memory.from_numpy(y), out, 4, FN=add_fn, BLOCK=4)
    assert memory.to_numpy(out).astype(float).tolist() == [1.0, 1.0 + 2**-6, 256.0, 3.0]


def test_interpreter_refuses_to_compile_inside_a_run():
    with interpreter._gate.interpreting(), pytest.raises(RuntimeError, match="inside a simulated launch"):
        compile_add()
