"""The simulated GPU: kernels in Triton's interpreter (and on a GPU where there is one)."""
from __future__ import annotations

import math
import threading

import ml_dtypes
import numpy as np
import pytest
import runtime_support
import triton
import triton.language as tl
from runtime_support import (
    add_fn,
    argmax_kernel,
    atomic_kernel,
    binary_kernel,
    broken_kernel,
    compile_add,
    libdevice_kernel,
    loop_kernel,
    matmul_kernel,
    random_kernel,
    scale_kernel,
    scan_kernel,
    softmax_kernel,
    strided_copy_kernel,
    tanh_mul_fn,
    unknown_libdevice_kernel,
    values,
    welford_kernel,
)

from fusetorch import config, dtypes
from fusetorch.runtime import interpreter, memory
from fusetorch.runtime.launch import Kernel
from fusetorch.runtime.stub import stub_gpu

cache_dir = runtime_support.cache_dir
cuda = runtime_support.cuda


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


def test_bfloat16_rounds_once_to_nearest_even(cuda):
    x = np.array([1.0, 1.0 + 2**-7, 256.0, 3.0], ml_dtypes.bfloat16)
    y = np.array([2**-8, 2**-8, 1.0, 2**-7], ml_dtypes.bfloat16)
    out = memory.empty((4,), dtypes.bfloat16)
    Kernel(binary_kernel)((1,), memory.from_numpy(x), memory.from_numpy(y), out, 4, FN=add_fn, BLOCK=4)
    assert memory.to_numpy(out).astype(float).tolist() == [1.0, 1.0 + 2**-6, 256.0, 3.0]


def test_interpreter_refuses_to_compile_inside_a_run():
    with interpreter._gate.interpreting(), pytest.raises(RuntimeError, match="inside a simulated launch"):
        compile_add()
