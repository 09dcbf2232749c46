"""Scaled dot product attention: shapes, masks, groups of heads, derivatives, threads, narrower vectors; against its formula in float64."""
from __future__ import annotations

import math

import numpy as np
import pytest
from vectors_support import vectors

import fusetorch as torch
from fusetorch.codegen import attention
from fusetorch.runtime import cpu_pool

F = torch.nn.functional
INF = math.inf


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape) + len(shape)).standard_normal(shape)


def formula(q, k, v, mask=None, causal=False, scale=None):
    """The result in NumPy; heads of keys are repeated for their groups."""
    if k.ndim > 2 and k.shape[-3] not in (1, q.shape[-3]):
        k, v = (np.repeat(x, q.shape[-3] // x.shape[-3], -3) for x in (k, v))
    s = q @ np.swapaxes(k, -1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        s = np.where(mask, s, -INF) if mask.dtype == bool else s + mask
    if causal:
        s = np.where(np.tril(np.ones(s.shape[-2:], bool)), s, -INF)
    largest = s.max(-1, keepdims=True)
    e = np.exp(s - np.where(np.isinf(largest), 0, largest))
    total = e.sum(-1, keepdims=True)
    return e / np.where(total == 0, 1, total) @ v


def some_rows_see_nothing(*shape: int) -> np.ndarray:
    m = numbers(*shape) > -0.5
    m[..., 1, :] = False
    return m


CASES = {
    "two dimensions": ((9, 8), (7, 8), (7, 5), None, {}),
    "three": ((3, 9, 8), (3, 7, 8), (3, 7, 5), numbers(3, 1, 7), {}),
    "four": ((2, 4, 70, 24), (2, 4, 90, 24), (2, 4, 90, 40), None, {}),
    "five": ((2, 3, 2, 9, 8), (2, 3, 2, 7, 8), (2, 3, 2, 7, 5), numbers(3, 1, 9, 1), {}),
    "causal": ((1, 2, 150, 64), (1, 2, 150, 64), (1, 2, 150, 64), None, {"is_causal": True}),
    "causal, more rows": ((1, 2, 130, 16), (1, 2, 60, 16), (1, 2, 60, 16), None, {"is_causal": True}),
    "causal, more keys": ((1, 2, 60, 16), (1, 2, 130, 16), (1, 2, 130, 16), None, {"is_causal": True, "scale": 0.3}),
    "groups": ((2, 6, 20, 8), (2, 2, 20, 8), (2, 2, 20, 5), None, {"enable_gqa": True, "is_causal": True}),
    "unlike groups": ((2, 4, 9, 8), (2, 2, 7, 8), (2, 1, 7, 5), None, {"enable_gqa": True}),
    "broadcast heads": ((2, 3, 9, 8), (2, 1, 7, 8), (1, 3, 7, 5), None, {}),
    "broadcast keys": ((2, 3, 9, 8), (7, 8), (7, 5), numbers(7), {}),
    "rows that see nothing": ((2, 2, 9, 8), (2, 2, 7, 8), (2, 2, 7, 5), some_rows_see_nothing(9, 7), {}),
    "mask of each head": ((2, 2, 40, 8), (2, 2, 50, 8), (2, 2, 50, 130), numbers(2, 2, 40, 50), {"is_causal": True}),
    "one": ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1), None, {}),
}


def tensors(case: str, dtype=torch.float64) -> tuple[list, object, dict]:
    *shapes, mask, options = CASES[case]
    made = [torch.tensor(numbers(*s), dtype=dtype, requires_grad=True) for s in shapes]
    if mask is not None:
        mask = torch.tensor(mask)
        mask = mask if mask.dtype is torch.bool else mask.to(dtype)
    return made, mask, options


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_values_and_derivatives(case, compiled):
    (q, k, v), mask, options = tensors(case)

    def call(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, mask, **options)
    f = torch.compile(call) if compiled else call
    out = f(q, k, v)
    arrays = [t.detach().numpy() for t in (q, k, v)]
    own = None if mask is None else mask.numpy()
    causal, scale = options.get("is_causal", False), options.get("scale")
    if case == "unlike groups":
        arrays[2] = np.repeat(arrays[2], 2, -3)
    np.testing.assert_allclose(out.detach().numpy(), formula(*arrays, own, causal, scale), rtol=1e-9, atol=1e-12)
    w = torch.tensor(numbers(*out.shape))
    found = torch.autograd.grad((out * w).sum(), (q, k, v))
    slope, h = [torch.tensor(numbers(*t.shape)) for t in (q, k, v)], 1e-6
    with torch.no_grad():
        ends = [float((call(*[t + e * s for t, s in zip((q, k, v), slope)]) * w).sum()) for e in (h, -h)]
    got = sum(float((g * s).sum()) for g, s in zip(found, slope))
    assert got == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("case", ["groups", "three", "causal, more keys", "rows that see nothing"])
def test_second_derivatives(case):
    (q, k, v), mask, options = tensors(case)
    assert torch.autograd.gradgradcheck(lambda *t: F.scaled_dot_product_attention(*t, mask, **options), tuple(
        t.detach()[..., :4, :].requires_grad_() if t is q and mask is None else t for t in (q, k, v)), atol=1e-4, rtol=1e-3, fast_mode=True)


def test_gradient_of_a_mask():
    q, k, v = (torch.tensor(numbers(2, 2, n, 4), requires_grad=True) for n in (5, 6, 6))
    mask = torch.tensor(numbers(2, 1, 5, 6), requires_grad=True)
    assert torch.autograd.gradcheck(lambda *t: F.scaled_dot_product_attention(*t, is_causal=True), (q, k, v, mask))


@pytest.mark.parametrize("causal", [False, True])
def test_results_do_not_depend_on_threads(causal):
    q, k, v, g = (np.float32(numbers(1, 3, 500, 64)) for _ in range(4))
    before, results = cpu_pool.get_num_threads(), []
    try:
        for n in (1, 2, 5):
            cpu_pool.set_num_threads(n)
            out, lse = attention.forward(q, k, v, None, 0.1, causal)
            results.append((out, lse, *attention.backward(g, q, k, v, None, out, lse, 0.1, causal)))
    finally:
        cpu_pool.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("bits", [128, 256])
def test_narrower_vectors(bits):
    q, k, v = (np.float32(numbers(1, 2, n, 20)) for n in (37, 53, 53))
    with vectors(bits):
        out, lse = attention.forward(q, k, v, None, 0.3, True)
        np.testing.assert_allclose(out, formula(q, k, v, None, True, 0.3), rtol=2e-5, atol=2e-5)
        dq, dk, dv = attention.backward(out, q, k, v, None, out, lse, 0.3, True)
    t = [torch.tensor(np.float64(x), requires_grad=True) for x in (q, k, v)]
    wanted = torch.autograd.grad(F.scaled_dot_product_attention(*t, is_causal=True, scale=0.3), t, torch.tensor(np.float64(out)))
    for got, want in zip((dq, dk, dv), wanted):
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-5)


def test_views_are_read_in_place_and_halves_are_rounded_once():
    x = torch.tensor(numbers(2, 30, 3 * 4 * 16), dtype=torch.float16)
    q, k, v = (t.view(2, 30, 4, 16).transpose(1, 2) for t in x.split(64, 2))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    want = formula(*(t.numpy().astype(np.float64) for t in (q, k, v)), causal=True)
    assert out.dtype is torch.float16 and out.transpose(1, 2).is_contiguous()  # so that the heads are joined by a view
    assert F.scaled_dot_product_attention(q.contiguous(), k, v, is_causal=True).is_contiguous()
    np.testing.assert_allclose(out.numpy().astype(np.float64), want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shapes", [((2, 3, 0, 4), (2, 3, 5, 4)), ((2, 3, 5, 4), (2, 3, 0, 4)), ((2, 3, 5, 0), (2, 3, 4, 0)),
                                    ((0, 3, 5, 4), (0, 3, 5, 4))])
def test_empty(shapes):
    q, k, v = (torch.zeros(s, requires_grad=True) for s in (shapes[0], shapes[1], shapes[1]))
    out = F.scaled_dot_product_attention(q, k, v)
    assert tuple(out.shape) == (*shapes[0][:-1], shapes[1][-1]) and not out.sum().item()
    assert [tuple(g.shape) for g in torch.autograd.grad(out.sum(), (q, k, v))] == [tuple(t.shape) for t in (q, k, v)]


@pytest.mark.parametrize("shapes, options", [
    (((2, 3, 4, 8), (2, 3, 5, 7), (2, 3, 5, 7)), {}), (((2, 3, 4, 8), (2, 3, 5, 8), (2, 3, 6, 8)), {}),
    (((2, 3, 4, 8), (2, 2, 5, 8), (2, 2, 5, 8)), {}), (((2, 3, 4, 8), (2, 2, 5, 8), (2, 2, 5, 8)), {"enable_gqa": True})])
def test_shapes_that_do_not_fit(shapes, options):
    with pytest.raises(RuntimeError):
        F.scaled_dot_product_attention(*(torch.zeros(s) for s in shapes), **options)
