"""The same calls in PyTorch: values, dtypes, shapes, gradients, error classes, printing. Skipped where PyTorch is not installed.

Where PyTorch's own operator database can be imported (it needs ``expecttest``), every operation that both have is also run on its
samples and on its erroneous inputs.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from op_samples import ELSEWHERE, RANDOM, SAMPLES, samples_of

import fusetorch as ft
from fusetorch.ops.opdef import REGISTRY, OpDef, Sample, fn

pytestmark = pytest.mark.peer
torch = pytest.importorskip("torch")

DTYPES = {
    torch.float32: ft.float32,
    torch.float64: ft.float64,
    torch.float16: ft.float16,
    torch.bfloat16: ft.bfloat16,
    torch.int64: ft.int64,
    torch.int32: ft.int32,
    torch.int16: ft.int16,
    torch.int8: ft.int8,
    torch.uint8: ft.uint8,
    torch.bool: ft.bool,
    torch.complex64: ft.complex64,
    torch.complex128: ft.complex128,
}
BACK = {v: k for k, v in DTYPES.items()}
TOLERANCE = {
    torch.float32: (1e-4, 2e-5),
    torch.float64: (1e-7, 1e-9),
    torch.float16: (2e-3, 2e-3),
    torch.bfloat16: (2e-2, 1e-2),
    torch.complex64: (1e-4, 2e-5),
    torch.complex128: (1e-7, 1e-9),
}


class Untranslatable(Exception):
    """A value that fusetorch has no counterpart of (complex32, sparse layouts, generators ...)."""


def array(t: Any) -> np.ndarray:
    """A PyTorch tensor's numbers."""
    t = t.detach() + 0 if t._is_zerotensor() else t.detach().resolve_conj().resolve_neg()
    if t.dtype not in DTYPES or t.layout is not torch.strided or t.is_meta:
        raise Untranslatable(str(t.dtype))
    return t.float().numpy().astype(ml_dtypes.bfloat16) if t.dtype is torch.bfloat16 else t.numpy()


def translate(x: Any, leaves: list) -> Any:
    """PyTorch's arguments as ours; pairs of tensors that want gradients are noted in ``leaves``."""
    if isinstance(x, torch.Tensor):
        t = ft.from_numpy(np.array(array(x), order="C"))
        if x.ndim == 2 and x.stride() == (1, x.shape[0]) and x.shape[0] > 1:
            t = t.t().contiguous().t()
        if x.requires_grad:
            t.requires_grad_()
            leaves.append((x, t))
        return t
    if isinstance(x, torch.dtype):
        if x not in DTYPES:
            raise Untranslatable(str(x))
        return DTYPES[x]
    if isinstance(x, torch.device):
        return ft.device(str(x))
    if isinstance(x, torch.Size):
        return ft.Size(x)
    if isinstance(x, (list, tuple)):
        return (
            type(x)(translate(v, leaves) for v in x)
            if type(x) in (list, tuple)
            else tuple(translate(v, leaves) for v in x)
        )
    if isinstance(x, dict):
        return {k: translate(v, leaves) for k, v in x.items()}
    if isinstance(x, (torch.memory_format, torch.layout, torch.Generator)):
        raise Untranslatable(str(x))
    return x


def flat(x: Any) -> list[Any]:
    """The leaves of nested sequences."""
    return [v for y in x for v in flat(y)] if isinstance(x, (list, tuple)) and not isinstance(x, torch.Size) else [x]


def same(theirs: Any, ours: Any, slack: float = 1.0, positions: bool = True) -> None:
    """Asserts that results agree. ``positions=False`` leaves out all but the first: PyTorch's choice among equals is not defined."""
    a, b = flat(theirs), flat(ours)
    if not positions:
        a, b = a[:1], b[:1]
    if isinstance(ours, ft.Size) or isinstance(theirs, torch.Size):
        assert tuple(theirs) == tuple(ours)
        return
    assert len(a) == len(b), f"{len(a)} results in PyTorch, {len(b)} here"
    for p, q in zip(a, b):
        if not isinstance(p, torch.Tensor):
            assert (DTYPES.get(p, p) == q) or (isinstance(p, (float, complex)) and np.isclose(p, q, equal_nan=True)), (
                f"{p!r} in PyTorch, {q!r} here"
            )
            continue
        x, y = array(p), q.detach().numpy()
        assert x.shape == y.shape, f"shape {x.shape} in PyTorch, {y.shape} here"
        assert DTYPES[p.dtype] is q.dtype, f"{p.dtype} in PyTorch, {q.dtype} here"
        if p.dtype in TOLERANCE:
            rtol, atol = TOLERANCE[p.dtype]
            wide = np.complex128 if p.is_complex() else np.float64
            np.testing.assert_allclose(
                y.astype(wide), x.astype(wide), rtol * slack, atol * slack, equal_nan=True
            )
        else:
            np.testing.assert_array_equal(y, x)


def both(theirs: Callable, ours: Callable, args: Any, kwargs: Any, positions: bool = True, values: bool = True) -> None:
    """Calls both and compares results and gradients, or the classes of errors."""
    leaves: list = []
    my_args, my_kwargs = translate(list(args), leaves), translate(dict(kwargs), leaves)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            want = theirs(*args, **kwargs)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            if "not differentiable with respect to" in str(error):
                return
            with pytest.raises(type(error)):
                ours(*my_args, **my_kwargs)
            return
        got = ours(*my_args, **my_kwargs)
    if not values:
        for p, q in zip(flat(want), flat(got)):
            assert tuple(p.shape) == tuple(q.shape) and DTYPES[p.dtype] is q.dtype
        return
    same(want, got, positions=positions)
    pairs = [
        (p, q)
        for p, q in zip(flat(want), flat(got))
        if isinstance(p, torch.Tensor) and p.dtype in TOLERANCE and p.requires_grad
    ]
    if not (leaves and pairs):
        return
    rng = np.random.default_rng(0)
    slopes = [rng.standard_normal(tuple(p.shape)) for p, _ in pairs]
    slopes = [s + 1j * rng.standard_normal(s.shape) if p.is_complex() else s for s, (p, _) in zip(slopes, pairs)]
    try:
        theirs_g = torch.autograd.grad(
            [p for p, _ in pairs],
            [x for x, _ in leaves],
            [torch.tensor(s, dtype=p.dtype) for s, (p, _) in zip(slopes, pairs)],
            allow_unused=True,
        )
    except RuntimeError as error:
        assert "not implemented" in str(error)  # PyTorch has no derivative here
        return
    ours_g = ft.autograd.grad(
        [q for _, q in pairs],
        [t for _, t in leaves],
        [ft.tensor(s, dtype=q.dtype) for s, (_, q) in zip(slopes, pairs)],
        allow_unused=True,
    )
    for x, y in zip(theirs_g, ours_g):
        if x is None or y is None:
            other = y if x is None else x
            assert other is None or not bool((other != 0).any()), f"a gradient is missing: {x} in PyTorch, {y} here"
        else:
            same(x, y, slack=4)


# ---------------------------------------------------------------------------------------------------- our samples


def counterpart(name: str) -> Callable | None:
    """PyTorch's function of this name."""
    if name in ("__getitem__", "reshape", "permute", "tile", "flip", "unfold"):
        return getattr(torch.Tensor, name)  # the functions take no separate sizes
    return getattr(torch.nn.functional, name, None) or getattr(torch, name, None) or getattr(torch.Tensor, name, None)


#: The names differ in meaning, or their samples are ours alone.
NOT_COMPARED = {
    "cfloat",
    "cdouble",
    "view_as_complex",  # of no elements PyTorch refuses some strides
    "index",
    "scalar_tensor",
    "tensor",
    "sort_dim",
    "rms_norm",
    "normalize",
    "logsumexp",
    "float",
    "double",
    "half",
    "bfloat16",
    "long",
    "int",
    "short",
    "char",
    "byte",
    "bool",
    "is_tensor",
    "tolist",
    "detach",
    "new_tensor",
    "type",
    "svd",
    "as_strided_scatter",
}
POSITIONS_UNDEFINED = {"kthvalue", "topk", "mode", "median", "nanmedian"}
OURS = [
    n
    for n, op in REGISTRY.items()
    if n not in ELSEWHERE | RANDOM | NOT_COMPARED and (op.function or op.method or op.nn) and counterpart(n) is not None
]


def theirs(x: Any, d: Any, grad: bool) -> Any:
    """A sample's argument as PyTorch's."""
    if isinstance(x, np.ndarray):
        t = torch.from_numpy(x.copy())
        if x.dtype == np.float64:
            t = t.to(d)
            if grad:
                t.requires_grad_()
        return t
    if isinstance(x, ft.dtype):
        return BACK[x]
    return type(x)(theirs(v, d, grad) for v in x) if isinstance(x, (list, tuple)) else x


def calls(op: OpDef, d: Any) -> Iterator[tuple[list, dict]]:
    """The samples of an operation for PyTorch."""
    for s in samples_of(op):
        yield (
            [theirs(a, d, s.grad and op.differentiable) for a in s.args],
            {k: theirs(v, d, s.grad) for k, v in s.kwargs.items()},
        )


@pytest.mark.parametrize("name", OURS)
def test_samples(name: str) -> None:
    for args, kwargs in calls(REGISTRY[name], torch.float32):
        both(counterpart(name), getattr(fn, name), args, kwargs, positions=name not in POSITIONS_UNDEFINED)


@pytest.mark.parametrize("name", [n for n in OURS if REGISTRY[n].kind == "elementwise"])
@pytest.mark.parametrize("d", list(DTYPES), ids=str)
def test_elementwise_dtypes(name: str, d: Any) -> None:
    op = REGISTRY[name]
    if name in SAMPLES:
        pytest.skip("has samples of its own")
    lo, hi = op.domain
    for args, kwargs in calls(op, torch.float64):
        whole = [a.abs().ceil() if lo >= 0 else a.round() for a in args if isinstance(a, torch.Tensor)]
        whole = [a.detach().abs() if d in (torch.uint8, torch.bool) else a.detach() for a in whole]
        if name in ("true_divide", "floor_divide", "remainder", "fmod", "addcdiv"):
            whole = [torch.where(a == 0, torch.ones_like(a), a) for a in whole]
        both(counterpart(name), getattr(fn, name), [a.to(d) for a in whole], kwargs)


MIXED = [
    ("add", torch.int32, torch.float16),
    ("mul", torch.uint8, torch.int8),
    ("true_divide", torch.int64, torch.int16),
    ("pow", torch.float16, torch.float32),
    ("maximum", torch.bool, torch.int8),
    ("atan2", torch.int32, torch.float64),
    ("remainder", torch.int16, torch.float32),
    ("eq", torch.int8, torch.float16),
]


@pytest.mark.parametrize(("name", "a", "b"), MIXED, ids=lambda v: str(v))
def test_mixed_dtypes(name: str, a: Any, b: Any) -> None:
    x = torch.tensor([[3, 1], [2, 1]])
    for second in (torch.tensor([1, 2]), torch.tensor(2), 2, 2.5):
        for first in (x, torch.tensor(3)):
            args = [first.to(a), second.to(b) if isinstance(second, torch.Tensor) else second]
            both(counterpart(name), getattr(fn, name), args, {})


# ---------------------------------------------------------------------------------------------------- printing

_RNG = np.random.default_rng(0)
PRINTED = [
    np.array([1.0, 2.5]),
    np.array([1e10, 1.0]),
    np.array([1e-7]),
    np.array([np.nan, np.inf, -np.inf]),
    np.array(3.0),
    np.array(3),
    np.array([]),
    np.zeros((2, 0, 3)),
    _RNG.standard_normal((3, 4)),
    _RNG.standard_normal((2, 3, 4)),
    _RNG.standard_normal((2, 2, 2, 3)),
    _RNG.standard_normal(1500),
    _RNG.standard_normal((40, 40)),
    _RNG.integers(-99, 9999, (20, 30)),
    np.array([True, False]),
    np.array([[1e5, 1.0], [3.0, 4.0]]),
    np.array([123456789.0]),
    np.array([0.00012, 1.5]),
    np.array([1e38, 1e-38]),
    np.arange(2000).reshape(2, 1000),
    np.array([100000.5, 0.25]),
    np.array([-0.0, 0.0]),
    np.array([1e8 + 1]),
    np.array(1 - 2j),
    np.array([1 + 2j, -0.5 - 1e-7j, 1e9j]),
    np.array([], np.complex128),
    np.array([np.nan + 1j, 1 - 1j * np.inf]),
    _RNG.standard_normal((3, 4)) + 1j * _RNG.integers(-9, 9, (3, 4)),
    _RNG.standard_normal((40, 40)) * 1j,
]


@pytest.mark.parametrize("k", range(len(PRINTED)))
@pytest.mark.parametrize("d", [torch.float32, torch.float64, torch.float16, torch.int64], ids=str)
def test_printing(k: int, d: Any) -> None:
    a = PRINTED[k]
    t = torch.from_numpy(a)
    t = t.to(d) if t.dtype.is_floating_point and d.is_floating_point else t
    t = t.to(torch.complex64) if t.is_complex() and d is torch.float32 else t
    assert repr(translate(t, [])) == repr(t)
    if t.dtype.is_floating_point and t.numel():
        assert repr(translate(t, []).requires_grad_()) == repr(t.requires_grad_())


# ---------------------------------------------------------------------------------------------------- PyTorch's operator database

try:
    from torch.testing._internal.common_methods_invocations import op_db
except ImportError:
    op_db = []

#: Not comparable: PyTorch draws other numbers, or leaves the result open.
DRAWN = RANDOM | {"nn.functional." + n for n in RANDOM} | {"empty", "empty_like", "new_empty", "uniform", "exponential"}
DRAWN |= {f"nn.functional.fractional_max_pool{n}d" for n in (2, 3)}
DRAWN.add("nn.functional.multi_head_attention_forward")  # the sample has dropout
DRAWN |= {"empty_strided", "new_empty_strided", "empty_permuted"}
#: The database calls these with operands in another order than the function.
ORDER: dict[str, Callable] = {
    "einsum": lambda operands, equation: ft.einsum(equation, operands),
    "where": lambda x, c, y, **k: ft.where(c, x, y, **k),
    "polygamma": lambda x, n, **k: ft.polygamma(n, x, **k),
    "special.polygamma": lambda x, n, **k: ft.polygamma(n, x, **k),
    "nn.functional.embedding": lambda w, i, **k: fn.embedding(i, w, **k),
    "nn.functional.embedding_bag": lambda w, i, **k: fn.embedding_bag(i, w, **k),
    "nn.functional.triplet_margin_with_distance_loss": lambda *a, distance_function=None, **k: (
        fn.triplet_margin_with_distance_loss(*a, distance_function=distance_function and ft.nn.PairwiseDistance(), **k)
    ),
    "zero_": lambda x: x.clone().zero_(),
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "H": lambda x: x.H,
    "mH": lambda x: x.mH,
    "linalg.lstsq.grad_oriented": lambda *a, **k: ft.linalg.lstsq(*a, **k)[:2],
    "_segment_reduce": ft.segment_reduce,
    "linalg.pinv.singular": lambda a, b: ft.linalg.pinv(a @ b.mT),
}


def _eigenvectors(r: Any) -> list:
    return [r[0], r[1].abs()]


def _singular_vectors(r: Any) -> list:
    u, s, v = r
    return [u.abs(), s, v.abs()] if u.shape[-1] == s.shape[-1] == v.shape[-1] else [s]


#: What of a result is defined: vectors have no sign, and those that fill up a basis are any.
INVARIANT: dict[str, Callable] = {
    "linalg.eig": _eigenvectors,
    "linalg.eigh": _eigenvectors,
    "linalg.svd": _singular_vectors,
    "svd": _singular_vectors,
}
#: Cases with a reason to differ: refused with an error that says so; half-precision results that PyTorch rounds once more or once less;
#: positions among equal elements; sums that cancel to rounding noise (cov); refusals of ``out=`` tensors that overlap the operands;
#: matrix_exp, which PyTorch computes in float32; the gradient of as_strided_scatter, which in PyTorch 2.13 is that of the part written
#: over; random projections.
EXEMPT = {"logcumsumexp", "as_strided.partial_views", "cov", "matrix_exp", "as_strided_scatter", "svd_lowrank", "pca_lowrank",
          "to_sparse"}


def entry(op: Any) -> Callable | None:
    """Our counterpart of a database entry."""
    name = op.name
    if name in ORDER or label(op) in ORDER:
        return ORDER.get(label(op)) or ORDER[name]
    if name == "normal" and op.variant_test_name == "in_place":
        return ft.Tensor.normal_
    if name in ("float", "double", "half", "bfloat16", "long", "int", "short", "char", "byte", "bool", "cfloat", "cdouble"):
        return getattr(ft.Tensor, name)
    if name.startswith("nn.functional."):
        return getattr(ft.nn.functional, name[14:], None)
    if "." in name:
        found: Any = ft
        for part in name.split("."):
            found = getattr(found, part, None)
        return found
    f = getattr(ft, name, None) or getattr(ft.Tensor, name, None)
    return f if callable(f) else None


def label(op: Any) -> str:
    """Name and variant."""
    return op.name + (f".{op.variant_test_name}" if op.variant_test_name else "")


KNOWN = [op for op in op_db if label(op) not in EXEMPT and entry(op) is not None]


#: Not compared over complex numbers: a window's slice that gets no gradient in PyTorch, NaN where the norm's is finite, phases of
#: eigenvectors, the gradient of imaginary parts on a Hermitian diagonal; and what takes real numbers only, with an error that says so.
NOT_COMPLEX = {
    "istft",
    "renorm",
    "cholesky",
    "linalg.cholesky",
    "linalg.cholesky_ex",
    "linalg.eig",
    "linalg.eigh",
    "masked.var",
    "masked.std",
    "masked.logsumexp",
}


@pytest.mark.parametrize("d", [torch.float32, torch.int64, torch.complex64], ids=str)
@pytest.mark.parametrize("op", KNOWN, ids=label)
def test_operator_database(op: Any, d: Any) -> None:
    if d not in op.dtypes:
        pytest.skip("PyTorch does not have it for this dtype")
    if d.is_complex and label(op) in NOT_COMPLEX:
        pytest.skip("not compared over complex numbers")
    torch.manual_seed(0)
    limit = int(os.environ.get("FUSETORCH_PEER_SAMPLES", "40"))
    for k, s in enumerate(op.sample_inputs("cpu", d, requires_grad=(d.is_floating_point or d.is_complex) and op.supports_autograd)):
        if k >= limit:
            break
        if s.kwargs.get("dropout_p"):
            continue
        what = INVARIANT.get(op.name, lambda r: r)
        try:
            both(
                lambda *a, **k: what(op.op(*a, **k)),  # noqa: B023
                lambda *a, **k: what(entry(op)(*a, **k)),  # noqa: B023
                [s.input, *s.args],
                s.kwargs,
                positions=op.name not in POSITIONS_UNDEFINED,
                values=op.name not in DRAWN,
            )
        except Untranslatable:
            continue


@pytest.mark.parametrize("op", [op for op in KNOWN if op.error_inputs_func], ids=label)
def test_operator_database_errors(op: Any) -> None:
    for e in op.error_inputs("cpu"):
        s = e.sample_input
        if "out" in s.kwargs or (isinstance(s.input, int) and op.name.startswith("__r")):
            continue
        try:
            args, kwargs = translate([s.input, *s.args], []), translate(s.kwargs, [])
        except (Untranslatable, ValueError):  # NumPy has no arrays of more than 64 dimensions
            continue
        try:
            op.op(s.input, *s.args, **s.kwargs)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            with pytest.raises(type(error)):
                entry(op)(*args, **kwargs)


#: Second gradients that are not compared: PyTorch 2.13 has none or wrong ones (``linear_cross_entropy`` in chunks, ``as_strided`` of
#: views), gives NaN where ours are finite, or leaves the numbers open (draws, phases, the upper triangle of a Hermitian operand).
NOT_TWICE = {
    "nn.functional.linear_cross_entropy.chunked",
    "nn.functional.linear_cross_entropy.chunked_none",
    "nn.functional.multi_head_attention_forward",
    "native_layer_norm",
    "linalg.norm.subgradients_at_zero",
    "masked.logaddexp",
    "scatter_reduce.prod",
    "index_reduce.prod",
    "linalg.det.singular",
    "to_sparse",
}


@pytest.mark.parametrize(
    "op",
    [op for op in KNOWN if op.supports_gradgrad and torch.float64 in op.dtypes and label(op) not in NOT_TWICE and op.name not in DRAWN],
    ids=label,
)
def test_operator_database_second_gradients(op: Any) -> None:
    torch.manual_seed(0)
    what = INVARIANT.get(op.name, lambda r: r)
    for k, s in enumerate(op.sample_inputs("cpu", torch.float64, requires_grad=True)):
        if k >= 5:
            break
        if s.kwargs.get("dropout_p"):
            continue
        leaves: list = []
        try:
            args, kwargs = translate([s.input, *s.args], leaves), translate(dict(s.kwargs), leaves)
        except Untranslatable:
            continue
        one = [t for t in flat(what(op.op(s.input, *s.args, **s.kwargs))) if isinstance(t, torch.Tensor) and t.dtype in TOLERANCE]
        two = [t for t in flat(what(entry(op)(*args, **kwargs))) if isinstance(t, ft.Tensor) and t.dtype.category >= 2]
        pairs = [(p, q) for p, q in zip(one, two) if p.requires_grad]
        if not pairs or not leaves:
            continue
        rng = np.random.default_rng(0)
        torch_in, ft_in = [x for x, _ in leaves], [t for _, t in leaves]
        for again in range(2):
            slopes = [rng.standard_normal(tuple(p.shape)) for p, _ in pairs]
            slopes = [g + 1j * rng.standard_normal(g.shape) if p.is_complex() else g for g, (p, _) in zip(slopes, pairs)]
            g1 = [torch.tensor(g, dtype=p.dtype, requires_grad=not again) for g, (p, _) in zip(slopes, pairs)]
            g2 = [ft.tensor(g, dtype=q.dtype, requires_grad=not again) for g, (_, q) in zip(slopes, pairs)]
            try:
                one = torch.autograd.grad([p for p, _ in pairs], torch_in, g1, create_graph=not again, allow_unused=True)
            except RuntimeError as error:
                assert "not implemented" in str(error)  # PyTorch has no derivative here
                break
            ours = [(q, g) for (_, q), g in zip(pairs, g2) if q.requires_grad]
            two = (
                ft.autograd.grad([q for q, _ in ours], ft_in, [g for _, g in ours], create_graph=not again, allow_unused=True)
                if ours
                else [None] * len(ft_in)
            )
            for x, y in zip(one, two):
                if x is None or y is None:
                    other = y if x is None else x
                    assert other is None or not bool((other != 0).any()), f"a gradient is missing: {x} in PyTorch, {y} here"
                else:
                    same(x, y, slack=40 if again else 4)
            pairs = [(x, y) for x, y in zip(one, two) if x is not None and y is not None and x.requires_grad]
            if not pairs:
                break
            torch_in, ft_in = [*torch_in, *g1], [*ft_in, *g2]


def variants(op: Any) -> Iterator[tuple[Callable, Callable]]:
    """PyTorch's and our method, in-place method and operators."""
    name = getattr(op.method_variant, "__name__", "")
    if hasattr(torch.Tensor, name):
        yield op.method_variant, getattr(ft.Tensor, name)
    name = getattr(op.inplace_variant, "__name__", "")
    if hasattr(torch.Tensor, name):
        for act in (lambda f, x, *a, **k: f(x.clone(), *a, **k), lambda f, x, *a, **k: f(x, *a, **k)):  # the second: on leaves
            yield (lambda *a, act=act, **k: act(op.inplace_variant, *a, **k)), (
                lambda *a, act=act, name=name, **k: act(getattr(ft.Tensor, name), *a, **k)
            )
    if op.operator_variant is not None:
        yield op.operator_variant, op.operator_variant
    if op.inplace_operator_variant is not None:
        f = op.inplace_operator_variant
        yield (lambda x, *a, **k: f(x.clone(), *a, **k)), (lambda x, *a, **k: f(x.clone(), *a, **k))


#: In place with a shape of PyTorch's own making (``addbmm_`` of a smaller tensor), or a 0-d tensor's gradient by ``index_fill_``.
NOT_VARIED = {"addbmm", "index_fill", "polygamma", "special.polygamma", "resize_", "resize_as_"}


@pytest.mark.parametrize("d", [torch.float32, torch.int64], ids=str)
@pytest.mark.parametrize("op", [op for op in KNOWN if op.name not in DRAWN | NOT_VARIED], ids=label)
def test_operator_database_variants(op: Any, d: Any) -> None:
    if d not in op.dtypes:
        pytest.skip("PyTorch does not have it for this dtype")
    torch.manual_seed(0)
    what = INVARIANT.get(op.name, lambda r: r)
    for k, s in enumerate(op.sample_inputs("cpu", d, requires_grad=d.is_floating_point and op.supports_autograd)):
        if k >= 4:
            break
        if not isinstance(s.input, torch.Tensor):
            continue
        for theirs, ours in variants(op):
            try:
                both(
                    lambda *a, **k: what(theirs(*a, **k)),  # noqa: B023
                    lambda *a, **k: what(ours(*a, **k)),  # noqa: B023
                    [s.input, *s.args],
                    s.kwargs,
                    positions=op.name not in POSITIONS_UNDEFINED,
                )
            except Untranslatable:
                continue


#: ``out=`` that PyTorch leaves open (phases, results that are no tensors, ``ihfftn``, which leaves it empty), whose dtype it checks for
#: some values of other arguments only, or that fusetorch does not offer.
NOT_OUT = {
    "diff",
    "fft.ihfftn",
    "histogram",
    "inner",
    "linalg.matrix_power",
    "equal",
    "histogramdd",
    "linalg.eig",
    "native_batch_norm",
    "_native_batch_norm_legit",
    "nn.functional.linear",
    "nonzero",
    "where",
    "max",
    "min",
}


@pytest.mark.parametrize("op", [op for op in KNOWN if op.supports_out and op.name not in DRAWN | NOT_OUT], ids=label)
def test_operator_database_out(op: Any) -> None:
    """The same, empty and wider ``out=``: results, and whether they are refused."""
    if torch.float32 not in op.dtypes:
        pytest.skip("PyTorch does not have it for float32")
    torch.manual_seed(0)
    what = INVARIANT.get(op.name, lambda r: r)
    for k, s in enumerate(op.sample_inputs("cpu", torch.float32)):
        if k >= 3:
            break
        kwargs = {name: v for name, v in s.kwargs.items() if name != "out"}
        try:
            args, my_kwargs = translate([s.input, *s.args], []), translate(kwargs, [])
        except Untranslatable:
            continue
        results = flat(op.op(s.input, *s.args, **kwargs))
        for how in ("same", "empty", "wider"):
            d = [torch.float64 if how == "wider" and r.dtype is torch.float32 else r.dtype for r in results]
            theirs = [torch.zeros(0 if how == "empty" else r.shape, dtype=t) for r, t in zip(results, d)]
            ours = [ft.zeros(*r.shape, dtype=DTYPES[r.dtype]) for r in theirs]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    op.op(s.input, *s.args, **kwargs, out=theirs[0] if len(theirs) == 1 else tuple(theirs))
                except (RuntimeError, TypeError) as error:
                    if how != "wider":
                        continue  # a result of several tensors that PyTorch does not write as one
                    with pytest.raises(type(error)):
                        entry(op)(*args, **my_kwargs, out=ours[0] if len(ours) == 1 else tuple(ours))
                    continue
                entry(op)(*args, **my_kwargs, out=ours[0] if len(ours) == 1 else tuple(ours))
            for p, q in zip(flat(what(theirs)), flat(what(ours))):
                assert tuple(p.shape) == tuple(q.shape) and DTYPES[p.dtype] is q.dtype
                np.testing.assert_allclose(q.numpy(), p.numpy(), 4e-4, 8e-5, equal_nan=True)


# ---------------------------------------------------------------------------------------------------- names, dtypes, layouts


def keywords(op: Any) -> list[list[str]]:
    """What PyTorch calls the parameters: the signature of a Python function, or each overload's."""
    found = []
    if op.op.__name__ == "<lambda>":  # calls a method
        return found
    if inspect.isfunction(inspect.unwrap(op.op)):
        parameters = inspect.signature(inspect.unwrap(op.op)).parameters
        if all(p.kind is p.POSITIONAL_OR_KEYWORD or p.kind is p.KEYWORD_ONLY for p in parameters.values()):
            found.append(list(parameters))
    for schema in torch._C._jit_get_schemas_for_operator("aten::" + op.name.replace(".", "_")):
        names = ["input" if a.name == "self" else a.name for a in schema.arguments if not a.is_out]
        if "Dimname" not in str(schema) and names not in found and names[:1] != ["a"]:  # NumPy's name of an input
            found.append(names)
    return found


#: What PyTorch takes by a name that is another function's.
NOT_BY_NAME = {"_native_batch_norm_legit", "as_strided"}


@pytest.mark.parametrize("op", [op for op in KNOWN if not {op.name, label(op)} & ({*ORDER} | NOT_BY_NAME)], ids=label)
def test_operator_database_keywords(op: Any) -> None:
    d = torch.float32 if torch.float32 in op.dtypes else next(iter(op.dtypes), None)
    torch.manual_seed(0)
    for _, s in zip(range(8), op.sample_inputs("cpu", d) if d else []):
        for names in keywords(op):
            given = {**dict(zip(names, [s.input, *s.args])), **s.kwargs}
            try:
                op.op(**given)
                mine = translate(given, [])
            except (TypeError, RuntimeError, ValueError, IndexError, AttributeError, Untranslatable):
                continue
            entry(op)(**mine)


def as_dtype(x: Any, old: Any, new: Any) -> Any:
    """A sample's argument with its tensors of one dtype converted to another."""
    if isinstance(x, torch.Tensor):
        return x.detach().to(new) if x.dtype is old else x.detach()
    return type(x)(as_dtype(v, old, new) for v in x) if isinstance(x, (list, tuple)) else x


#: Where PyTorch refuses what fusetorch takes: halves on the CPU that it takes on CUDA, integers in some forms of a call, masks of bools.
NOT_REFUSED = {"nn.functional.avg_pool3d", "nn.functional.rms_norm", "nn.functional.local_response_norm", "_upsample_bilinear2d_aa",
               "clamp", "nn.functional.multi_margin_loss", "nn.functional.multilabel_margin_loss", "nn.functional.rrelu",
               "round.decimals_0", "randint_like", "histogram", "histogramdd", "nn.functional.hinge_embedding_loss", "masked.amax",
               "masked.amin", "masked.logaddexp", "masked.logsumexp"}


@pytest.mark.parametrize("op", [op for op in KNOWN if label(op) not in NOT_REFUSED], ids=label)
def test_operator_database_refused_dtypes(op: Any) -> None:
    made = next((d for d in (torch.float32, torch.int64, torch.bool, torch.complex64) if d in op.dtypes), None)
    for d in DTYPES:
        if made is None or d in op.dtypes:
            continue
        torch.manual_seed(0)
        for _, s in zip(range(3), op.sample_inputs("cpu", made)):
            args, kwargs = as_dtype([s.input, *s.args], made, d), {k: as_dtype(v, made, d) for k, v in s.kwargs.items()}
            try:
                mine, my_kwargs = translate(args, []), translate(kwargs, [])
            except Untranslatable:
                continue
            try:
                op.op(*args, **kwargs)
            except (RuntimeError, TypeError, ValueError, IndexError):
                with pytest.raises((RuntimeError, TypeError, ValueError, IndexError, OverflowError)):
                    entry(op)(*mine, **my_kwargs)


def in_order(x: Any, how: str) -> Any:
    """A sample's argument with its tensors channels-last, or with their last two dimensions swapped in memory."""
    if isinstance(x, (list, tuple)):
        return type(x)(in_order(v, how) for v in x)
    if not isinstance(x, torch.Tensor) or x.ndim < 2 or x.layout is not torch.strided:
        return x
    if how == "swapped":
        return x.detach().mT.contiguous().mT
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.detach().contiguous(memory_format=formats.get(x.ndim, torch.contiguous_format))


def with_strides(x: Any) -> Any:
    """PyTorch's arguments as ours, with the same strides."""
    if isinstance(x, torch.Tensor):
        order = sorted(range(x.ndim), key=lambda k: -x.stride(k))
        back = [order.index(k) for k in range(x.ndim)]
        return ft.from_numpy(np.ascontiguousarray(array(x.permute(order)))).permute(back) if x.ndim else translate(x, [])
    if isinstance(x, (list, tuple)) and not isinstance(x, torch.Size):
        return [with_strides(v) for v in x]
    return getattr(ft, str(x)[6:]) if isinstance(x, torch.memory_format) else translate(x, [])


def strides(r: Any) -> list[tuple]:
    """What strides say: those of dimensions of one element, and of no elements, say nothing."""
    return [tuple(0 if n < 2 else s for n, s in zip(t.shape, t.stride())) if t.numel() else () for t in flat(r) if hasattr(t, "stride")]


#: Where PyTorch's layout comes from a library (LAPACK's columns, FFT's inner dimension), from chance (a gradient's kernel instead of
#: another), or from an indexed tensor's gaps.
OWN_LAYOUT = {"cholesky", "cholesky_inverse", "cholesky_solve", "geqrf", "lu", "lu_solve", "ormqr", "qr", "triangular_solve", "svd", "stft",
              "lu_unpack", "addmm", "addbmm", "baddbmm", "ldexp", "matmul", "__rmatmul__", "masked_fill", "unravel_index", "index_add",
              "index_copy", "__getitem__", "normal", "bernoulli", "stack", "kron", "view_copy", "rot90", "einsum", "float", "to_sparse",
              "nn.functional.max_pool1d", "nn.functional.pad.circular", "nn.functional.conv_transpose3d", "nn.functional.interpolate.area",
              "nn.functional.instance_norm", "nn.functional.normalize", "nn.functional.rms_norm",
              "nn.functional.scaled_dot_product_attention"}


LAID_OUT = [op for op in KNOWN if not {op.name, label(op)} & OWN_LAYOUT and not op.name.startswith(("linalg.", "fft."))]


@pytest.mark.parametrize("how", ["channels_last", "swapped"])
@pytest.mark.parametrize("op", LAID_OUT, ids=label)
def test_operator_database_layouts(op: Any, how: str) -> None:
    d = torch.float32 if torch.float32 in op.dtypes else next(iter(op.dtypes), None)
    torch.manual_seed(0)
    for _, s in zip(range(12), op.sample_inputs("cpu", d) if d else []):
        args, kwargs = in_order([s.input, *s.args], how), {k: in_order(v, how) for k, v in s.kwargs.items()}
        try:
            want, mine = op.op(*args, **kwargs), with_strides([args, list(kwargs.values())])
        except (RuntimeError, Untranslatable):
            continue
        assert strides(want) == strides(entry(op)(*mine[0], **dict(zip(kwargs, mine[1]))))


def test_sample_type_is_used() -> None:
    assert all(isinstance(s, Sample) for n in OURS for s in samples_of(REGISTRY[n]))
