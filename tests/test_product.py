"""Native matrix products: every layout, batch and tail, against NumPy in double precision."""
from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable

import numpy as np
import pytest
from vectors_support import vectors

import fusetorch
from fusetorch.codegen import product
from fusetorch.ops import matmul as ops_matmul

SIZES = [(8, 1, 8), (9, 5, 8), (13, 70, 33), (64, 64, 64), (129, 3, 17), (200, 300, 65), (1, 7, 9), (7, 2100, 20), (140, 3000, 31),
         (300, 257, 90), (130, 2049, 100)]
BATCHES = [((), ()), ((3,), (3,)), ((1,), (3,)), ((2, 3), ()), ((), (2, 3)), ((2, 1), (2, 3))]
LAYOUTS: dict[str, Callable] = {
    "rows": lambda draw, r, c, batch: draw((*batch, r, c)),
    "columns": lambda draw, r, c, batch: draw((*batch, c, r)).swapaxes(-1, -2),
    "apart": lambda draw, r, c, batch: draw((*batch, 2 * r, 3 * c))[..., ::2, ::3],
}


def close(out: np.ndarray, expected: np.ndarray) -> bool:
    assert out.shape == expected.shape and out.flags.c_contiguous
    return np.abs(out - expected).max() <= (2e-6 if out.dtype == np.float32 else 1e-14) * max(1, np.abs(expected).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m, k, n", SIZES)
def test_every_layout_is_numpys_product(m, k, n, dtype):
    rng = np.random.default_rng(0)

    def draw(shape):
        return rng.standard_normal(shape).astype(dtype)
    for left, right in itertools.product(LAYOUTS, LAYOUTS):
        a, b, bias = LAYOUTS[left](draw, m, k, ()), LAYOUTS[right](draw, k, n, ()), draw(n)
        exact = a.astype(np.float64) @ b.astype(np.float64)
        for add in (None, bias):
            one, two = (product.ProductPlan(a.shape, a.strides, b.shape, b.strides, a.itemsize, add is not None, threads)(a, b, add)
                        for threads in (1, 2))
            assert close(one, exact if add is None else exact + add)
            assert np.array_equal(one, two)  # not a bit depends on the threads


@pytest.mark.parametrize("bits", [128, 256])
@pytest.mark.parametrize("m, k, n", SIZES[3:])
def test_narrower_vectors(m, k, n, bits):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((k, m), np.float32).T, rng.standard_normal((n, k), np.float32).T
    with vectors(bits):
        assert close(product.matmul(a, b), a.astype(np.float64) @ b.astype(np.float64))


@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("layouts", list(itertools.product(LAYOUTS, LAYOUTS)))
def test_batches_broadcast(batches, layouts):
    rng = np.random.default_rng(1)
    m, k, n = 33, 20, 18

    def draw(shape):
        return rng.standard_normal(shape)
    a, b = (LAYOUTS[layout](draw, r, c, batch) for layout, r, c, batch in zip(layouts, (m, k), (k, n), batches))
    assert close(product.matmul(a, b), np.matmul(a, b))


def test_neither_memory_beyond_an_operand_nor_beyond_the_result_is_touched():
    rng = np.random.default_rng(2)
    for m, k, n in ((130, 40, 50), (17, 33, 9)):
        for turned in itertools.product((False, True), (False, True)):
            a, b = (np.full(x * y + 64, np.nan, np.float32) for x, y in ((m, k), (k, n)))
            for x, size in ((a, m * k), (b, k * n)):
                x[32:32 + size] = rng.standard_normal(size)
            left = a[32:32 + m * k].reshape(k, m).T if turned[0] else a[32:32 + m * k].reshape(m, k)
            right = b[32:32 + k * n].reshape(n, k).T if turned[1] else b[32:32 + k * n].reshape(k, n)
            assert np.isfinite(product.matmul(left, right)).all()


def test_infinities_and_nans_stay_in_their_rows_and_columns():
    a, b = np.ones((40, 30), np.float32), np.ones((30, 50), np.float32)
    a[39, 3], b[2, 49] = np.nan, np.inf
    out = product.matmul(a, b)
    assert np.isnan(out[39]).all() and np.isinf(out[:39, 49]).all() and (out[:39, :49] == 30).all()


def test_large_products_and_layers_take_these_kernels(monkeypatch):
    calls = []
    monkeypatch.setattr(product, "matmul", lambda a, b, bias=None: calls.append((a.shape, bias is not None)) or a @ b + (
        0 if bias is None else bias))
    x, w = fusetorch.randn(128, 64), fusetorch.randn(96, 64)
    fusetorch.nn.functional.linear(x, w, fusetorch.zeros(96))
    x @ w.T
    assert calls == [((128, 64), True), ((128, 64), False)]
    x[:4] @ w.T
    assert len(calls) == 2 and 128 * 64 * 96 >= ops_matmul.NATIVE_FROM > 4 * 64 * 96


def test_threads_that_share_a_plan_do_not_disturb_each_other():
    from concurrent.futures import ThreadPoolExecutor
    rng = np.random.default_rng(3)
    pairs = [(rng.standard_normal((100, 90)), rng.standard_normal((90, 110))) for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            results = list(pool.map(lambda p: product.matmul(*p), pairs))
            assert all(close(r, a @ b) for r, (a, b) in zip(results, pairs))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m, k, n", [(1, 5, 7), (8, 64, 200), (13, 700, 33)])
def test_a_packed_operand_serves_many_products(m, k, n, dtype):
    rng = np.random.default_rng(4)
    for weight in (rng.standard_normal((k, n)).astype(dtype), rng.standard_normal((n, k)).astype(dtype).T):
        packed = product.PackedOperand(weight, m, k + 3)
        block, at = packed.block()
        multiply = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(packed.function)
        for _ in range(3):
            rows, out = rng.standard_normal((m, k + 3)).astype(dtype), np.empty((m, n), dtype)
            block[product.LEFT], block[product.RESULT] = rows.ctypes.data, out.ctypes.data
            multiply(at, 0, packed.units)
            assert close(out, rows[:, :k].astype(np.float64) @ weight.astype(np.float64))


def test_expanded_flipped_and_empty_operands():
    x = fusetorch.randn(200, 100)
    w = fusetorch.randn(100, 64)
    assert close((x[:1].expand(200, 100) @ w).numpy(), np.repeat(x[:1].numpy().astype(np.float64) @ w.numpy(), 200, 0))
    assert close((x @ w[:, :1].expand(100, 64)).numpy(), np.repeat(x.numpy().astype(np.float64) @ w[:, :1].numpy(), 64, 1))
    assert (x.expand(3, 200, 100) @ w).shape == (3, 200, 64)
    assert (fusetorch.randn(1, 500, 500) @ fusetorch.randn(0, 500, 500)).shape == (0, 500, 500)
    flipped = product.matmul(x.numpy()[::-1], w.numpy()[:, ::-1])
    assert close(flipped, (x.numpy().astype(np.float64) @ w.numpy())[::-1, ::-1])
