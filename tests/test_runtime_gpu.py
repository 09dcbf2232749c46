"""Devices, memory, streams, graphs and timing of the GPU runtime, without a GPU (and on one where there is one)."""
from __future__ import annotations

import builtins
import os
import subprocess
import sys

import numpy as np
import pytest
import runtime_support
from runtime_support import add_fn, binary_kernel, matmul_kernel, scale_kernel, values

from fusetorch import config, dtypes
from fusetorch.errors import CudaUnavailableError, FusetorchError
from fusetorch.runtime import device as D
from fusetorch.runtime import launch, memory, streams, timing
from fusetorch.runtime.cuda_graph import CudaGraph
from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.stub import stub_gpu

cache_dir = runtime_support.cache_dir
cuda = runtime_support.cuda
fake_cupy = runtime_support.fake_cupy


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
        memory.from_numpy(np.zeros(2, np.clongdouble))


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
