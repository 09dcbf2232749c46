"""What a launch hands to the driver, on a stub: parameter block, specialisation, threads, errors."""
from __future__ import annotations

import math
import re
import struct
import threading
import timeit

import numpy as np
import pytest
import runtime_support
from runtime_support import (
    add_fn,
    binary_kernel,
    descriptor_copy_kernel,
    fill_kernel,
    scale_kernel,
    softmax_kernel,
    tanh_mul_fn,
    values,
)

from fusetorch import config, dtypes
from fusetorch.errors import CudaUnavailableError, FusetorchError
from fusetorch.runtime import device as D
from fusetorch.runtime import launch, memory
from fusetorch.runtime import triton_compile as tc
from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.stub import stub_gpu

cache_dir = runtime_support.cache_dir


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
