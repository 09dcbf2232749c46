"""Parameters by PyTorch's other names, and arguments and dtypes that operations refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fusetorch as ft
from fusetorch.ops.opdef import REGISTRY, fn, kind_of

M = ft.tensor([[2.0, 1.0], [1.0, 3.0]])
B = ft.tensor([[1.0], [2.0]])

SAME = {
    "inverse": (lambda: ft.inverse(input=M), lambda: ft.linalg.inv(A=M)),
    "det": (lambda: ft.det(input=M), lambda: M.det()),
    "slogdet": (lambda: ft.slogdet(input=M)[1], lambda: ft.linalg.slogdet(A=M)[1]),
    "matrix_exp": (lambda: ft.matrix_exp(input=M), lambda: ft.linalg.matrix_exp(A=M)),
    "matrix_power": (lambda: ft.matrix_power(input=M, n=2), lambda: M @ M),
    "cholesky_solve": (lambda: ft.cholesky_solve(input=B, input2=M), lambda: B.cholesky_solve(M)),
    "triangular_solve": (lambda: ft.triangular_solve(input=B, A=M)[0], lambda: B.triangular_solve(M)[0]),
    "swapaxes": (lambda: ft.swapaxes(M, axis0=0, axis1=1), lambda: M.t()),
    "swapdims": (lambda: ft.swapdims(M, dim0=0, dim1=1), lambda: M.t()),
    "tensor_split": (lambda: ft.tensor_split(M, sections=2)[0], lambda: M[:1]),
    "tensor_split, method": (lambda: M.tensor_split(indices=(1,))[1], lambda: M[1:]),
    "hsplit": (lambda: ft.hsplit(M, sections=2)[0], lambda: M[:, :1]),
    "vsplit": (lambda: M.vsplit(indices=[1])[0], lambda: M[:1]),
    "split": (lambda: M.split(split_size=1)[0], lambda: M[:1]),
    "cumsum": (lambda: M.cumsum(axis=1), lambda: M.cumsum(dim=1)),
    "arange": (lambda: ft.arange(end=4), lambda: ft.arange(4)),
    "norm": (lambda: ft.linalg.vector_norm(input=M), lambda: ft.linalg.vector_norm(x=M)),
    "isin": (lambda: ft.isin(elements=M, test_element=2), lambda: M == 2),
    "airy_ai": (lambda: ft.special.airy_ai(x=M), lambda: ft.special.airy_ai(M)),
}


@pytest.mark.parametrize("name", SAME)
def test_other_names(name: str) -> None:
    one, two = SAME[name]
    assert ft.equal(one(), two())


def test_names_are_given_once() -> None:
    with pytest.raises(TypeError, match="both"):
        ft.inverse(A=M, input=M)
    with pytest.raises(TypeError, match="arange"):
        ft.arange(step=2)
    assert ft.can_cast(from_=ft.int64, to=ft.float32)
    assert ft.promote_types(type1=ft.int8, type2=ft.float16) is ft.float16


# ---------------------------------------------------------------------------------------------------- dtypes that are refused

DTYPES = {"bool": ft.bool, "integer": ft.int64, "half": ft.bfloat16, "complex": ft.complex64}
REFUSED = [(n, k) for n, op in REGISTRY.items() if op.kind == "elementwise" and op.check_fn is None for k in op.refuses.split()]


@pytest.mark.parametrize(("name", "kind"), REFUSED, ids=lambda v: v)
def test_elementwise_operations_refuse(name: str, kind: str) -> None:
    op = REGISTRY[name]
    x = ft.ones(2, dtype=DTYPES[kind])
    given: dict[str, Any] = {p.name: x if p.role == "operand" else 1 for p in op.params if p.role != "static"}
    with pytest.raises(NotImplementedError, match="not implemented for '"):
        getattr(fn, name)(**given)


CALLS = {
    "histc": lambda: ft.histc(ft.tensor([1, 2])),
    "argmax": lambda: ft.tensor([True]).argmax(),
    "median": lambda: ft.tensor([1j]).median(),
    "unique": lambda: ft.tensor([1j]).unique(),
    "trapezoid": lambda: ft.trapezoid(ft.tensor([True, False])),
    "mse_loss": lambda: ft.nn.functional.mse_loss(ft.tensor([1, 2]), ft.tensor([1, 3])),
    "l1_loss": lambda: ft.nn.functional.l1_loss(ft.tensor([True]), ft.tensor([False])),
    "kl_div": lambda: ft.nn.functional.kl_div(ft.tensor([1]), ft.tensor([1]), reduction="sum"),
    "glu": lambda: ft.nn.functional.glu(ft.tensor([1, 2])),
    "max_pool1d": lambda: ft.nn.functional.max_pool1d(ft.ones(1, 1, 4, dtype=ft.int64), 2),
    "conv2d": lambda: ft.nn.functional.conv2d(ft.ones(1, 1, 4, 4, dtype=ft.uint8), ft.ones(1, 1, 2, 2, dtype=ft.uint8), dilation=2),
    "reflect": lambda: ft.nn.functional.pad(ft.ones(1, 4, dtype=ft.bool), (1, 1), mode="reflect"),
    "dropout2d": lambda: ft.nn.functional.dropout2d(ft.ones(1, 2, 3, 3, dtype=ft.int64)),
    "alpha_dropout": lambda: ft.nn.functional.alpha_dropout(ft.ones(3, dtype=ft.complex64), training=True),
    "lerp": lambda: ft.lerp(ft.tensor([1]), ft.tensor([2]), 0.5),
    "round": lambda: ft.round(ft.tensor([1]), decimals=2),
    "normal": lambda: ft.normal(ft.tensor([1]), 1.0),
    "bincount": lambda: ft.bincount(ft.tensor([1.0])),
    "scatter_reduce": lambda: ft.tensor([1j]).scatter_reduce(0, ft.tensor([0]), ft.tensor([2j]), "amax"),
    "index_reduce": lambda: ft.tensor([True]).index_reduce(0, ft.tensor([0]), ft.tensor([True]), "prod"),
    "logcumsumexp": lambda: ft.tensor([1]).logcumsumexp(0),
    "renorm": lambda: ft.tensor([[1, 2]]).renorm(2, 0, 1),
    "cross": lambda: ft.cross(ft.ones(3, dtype=ft.bool), ft.ones(3, dtype=ft.bool), dim=0),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_refused(name: str) -> None:
    with pytest.raises(NotImplementedError, match="not implemented for '"):
        CALLS[name]()


def test_what_is_not_refused() -> None:
    assert kind_of(ft.float32) == "single"
    assert ft.nn.functional.mse_loss(ft.tensor([1]), ft.tensor([3.0])).item() == 4  # the pair is promoted first
    assert ft.nn.functional.max_pool1d(ft.arange(4).reshape(1, 1, 4), 2, return_indices=True)[0].tolist() == [[[1, 3]]]
    ones = ft.ones(1, 1, 3, 3, dtype=ft.uint8)
    assert ft.nn.functional.conv2d(ones, ones).item() == 9
    assert ft.clamp(ft.tensor([True, False]), min=0.5).dtype is ft.float32
    assert ft.nn.functional.dropout2d(ft.ones(1, 2, 2, 2, dtype=ft.int64), training=False).dtype is ft.int64
    np.testing.assert_allclose(ft.lerp(ft.zeros(2), ft.ones(2), 0.25).numpy(), 0.25)


def test_bad_arguments() -> None:
    f = ft.nn.functional
    with pytest.raises(ValueError, match="eps must be positive"):
        f.batch_norm(ft.ones(2, 2), None, None, training=True, eps=0.0)
    with pytest.raises(RuntimeError, match="ignore_index is not supported"):
        f.cross_entropy(ft.ones(2, 3), ft.ones(2, 3), ignore_index=1)
    with pytest.raises(TypeError, match="delta must be"):
        ft.nn.HuberLoss(delta=1j)


def test_slices_without_elements() -> None:
    for f in (ft.unique, ft.unique_consecutive):
        values, inverse, counts = f(ft.zeros(0, 3), dim=0, return_inverse=True, return_counts=True)
        assert values.shape == (0, 3) and inverse.shape == counts.shape == (0,)
        for x, message in ((ft.zeros(2, 0), "aren't selected"), (ft.zeros(0, 0), "more than one")):
            with pytest.raises(RuntimeError, match=message):
                f(x, dim=0)


def test_complex_logcumsumexp() -> None:
    x = ft.randn(5, dtype=ft.complex128, requires_grad=True)
    y = x.logcumsumexp(0)
    assert ft.allclose(y.exp(), x.exp().cumsum(0))
    (a,), (b,) = (ft.autograd.grad(t.abs().sum(), x) for t in (y.exp(), x.exp().cumsum(0)))
    assert ft.allclose(a, b)


def test_bools_are_not_subtracted() -> None:
    mask, x = ft.tensor([True, False]), ft.ones(2)
    for call in (lambda: mask - mask, lambda: 1 - mask, lambda: mask - 1, lambda: x - mask, lambda: x - True, lambda: x.sub_(True),
                 lambda: ft.rsub(mask, 1)):
        with pytest.raises(RuntimeError, match="Subtraction, the `-` operator, with"):
            call()
    assert (x - 1).tolist() == [0, 0]


def test_numbers_that_do_not_fit() -> None:
    x, n = ft.ones(2), ft.tensor([1, 2])
    for call in (lambda: ft.addcmul(x, x, x, value=1j), lambda: ft.add(x, x, alpha=1j), lambda: x.clone().fill_(1j),
                 lambda: ft.full((2,), 1j, dtype=ft.float32)):
        with pytest.raises(RuntimeError, match="without overflow"):
            call()
    with pytest.raises(RuntimeError, match="argument alpha must not be"):
        ft.sub(n, n, alpha=1.5)
    for call in (lambda: n ** -1, lambda: n.pow(-2), lambda: n.clone().pow_(-1)):
        with pytest.raises(RuntimeError, match="negative integer powers"):
            call()
    assert (n ** -1.0).tolist() == [1, 0.5]
    assert ft.add(n, n, alpha=2).tolist() == [3, 6] and ft.add(n, 0.5, alpha=1.5).tolist() == [1.75, 2.75]
