"""Every operation through every mode that applies: NumPy for small tensors, native loops, compiled; cpu and simulated cuda; gradients
against finite differences, once and twice. And every definition must be complete."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import families
import numpy as np
import pytest
from op_oracles import oracle_of
from op_samples import ELSEWHERE, RANDOM, SAMPLES, all_ops, samples_of

import fusetorch as torch
from fusetorch import config, dtypes
from fusetorch.ops.opdef import REGISTRY, OpDef, Sample, fn
from fusetorch.tensor import Tensor

NAMES = [op.name for op in all_ops()]

#: relative and absolute tolerance by dtype
TOLERANCE = {
    dtypes.float64: (1e-9, 1e-11),
    dtypes.float32: (2e-5, 2e-6),
    dtypes.float16: (4e-3, 4e-3),
    dtypes.bfloat16: (3e-2, 3e-2),
}

#: Give Python values or depend on values: tracing them is the compiler's tests' business.
NOT_TRACED = {
    "item",
    "tolist",
    "equal",
    "allclose",
    "is_same_size",
    "numel",
    "is_floating_point",
    "is_tensor",
    "storage_offset",
    "result_type",
    "broadcast_shapes",
    "nonzero",
    "argwhere",
    "masked_select",
    "unique",
    "unique_consecutive",
    "bincount",
    "repeat_interleave",
}

#: Make tensors from nothing: ``device=`` says where.
CREATE = {
    "tensor",
    "as_tensor",
    "asarray",
    "scalar_tensor",
    "zeros",
    "ones",
    "full",
    "arange",
    "linspace",
    "logspace",
    "eye",
    "tril_indices",
    "triu_indices",
    "rand",
    "randn",
    "randint",
    "randperm",
}
for _family in families.ALL:
    NOT_TRACED |= getattr(_family, "NOT_TRACED", set())
    CREATE |= getattr(_family, "CREATE", set())


# ---------------------------------------------------------------------------------------------------- calling


def tensors(x: Any, d: dtypes.dtype, device: str, found: list[Tensor]) -> Any:
    """Arrays as tensors; strides are kept."""
    if isinstance(x, np.ndarray):
        wanted = {"f": d, "c": dtypes.complex128 if d is dtypes.float64 else dtypes.complex64}.get(x.dtype.kind)
        t = torch.from_numpy(x if wanted is None or x.dtype.itemsize < 8 else x.astype(wanted.np))
        if device != "cpu":
            t = t.to(device)
        found.append(t)
        return t
    if isinstance(x, (list, tuple)) and any(isinstance(v, np.ndarray) for v in x):
        return type(x)(tensors(v, d, device, found) for v in x)
    return x


def prepare(op: OpDef, sample: Sample, d: dtypes.dtype, device: str) -> tuple[Any, list[Tensor]]:
    """The call as a function of its tensors, and the tensors."""
    found: list[Tensor] = []
    args = tuple(tensors(a, d, device, found) for a in sample.args)
    kwargs = {k: tensors(v, d, device, found) for k, v in sample.kwargs.items()}
    if op.name in CREATE:
        kwargs["device"] = device
    if op.name == "move_to_device":
        args = (args[0], torch.device(device))
    f = getattr(fn, op.name)

    def call(*given: Tensor) -> Any:
        it = iter(given)

        def put(x: Any) -> Any:
            if isinstance(x, Tensor):
                return next(it)
            if isinstance(x, (list, tuple)) and any(isinstance(v, Tensor) for v in x):
                return type(x)(put(v) for v in x)
            return x

        return f(*[put(a) for a in args], **{k: put(v) for k, v in kwargs.items()})

    return call, found


def flat(x: Any) -> list[Any]:
    """The leaves of nested sequences."""
    if isinstance(x, (list, tuple)) and not isinstance(x, torch.Size):
        return [v for y in x for v in flat(y)]
    return [x]


def expected(op: OpDef, sample: Sample) -> list[Any]:
    """The oracle's result."""
    with np.errstate(all="ignore"):
        return flat(oracle_of(op)(*sample.args, **sample.kwargs))


def compare(got: Any, want: list[Any], d: dtypes.dtype, where: str) -> None:
    """Asserts equal structure, shapes and values."""
    got = flat(got)
    assert len(got) == len(want), f"{where}: {len(got)} results, expected {len(want)}"
    for k, (g, w) in enumerate(zip(got, want)):
        if not isinstance(g, Tensor):
            assert g == w or np.isclose(g, w), f"{where}: {g!r}, expected {w!r}"
            continue
        w = np.asarray(w)
        assert tuple(g.shape) == w.shape, f"{where}[{k}]: shape {g.shape}, expected {w.shape}"
        a = g.detach().cpu().numpy()
        if g.dtype.is_floating_point or g.dtype.is_complex:
            own = g.dtype.to_real()
            rtol, atol = TOLERANCE[max((own, d), key=lambda t: TOLERANCE[t][0]) if d.is_floating_point else own]
            wide = np.complex128 if g.dtype.is_complex else np.float64
            np.testing.assert_allclose(
                a.astype(wide),
                w.astype(wide),
                rtol=rtol,
                atol=atol,
                equal_nan=True,
                err_msg=f"{where}[{k}]",
            )
        else:
            np.testing.assert_array_equal(
                a,
                w.astype(a.dtype) if w.dtype.kind != "f" else w.astype(np.int64).astype(a.dtype),
                err_msg=f"{where}[{k}]",
            )


@contextlib.contextmanager
def mode(name: str) -> Iterator[str]:
    """Settings of a mode; gives the device."""
    if name.endswith("cuda"):
        pytest.importorskip("triton")
        with config.override(simulate_cuda=True):
            yield "cuda"
    elif name == "native":
        with config.override(native_threshold=0, parallel_threshold=0):
            yield "cpu"
    else:
        yield "cpu"


def run(op: OpDef, sample: Sample, d: dtypes.dtype, name: str) -> Any:
    """The operation's result in a mode."""
    with mode(name) as device:
        call, found = prepare(op, sample, d, device)
        if name.startswith("compiled"):
            call = torch.compile(call, fullgraph=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.manual_seed(5)
                call(*found)
                torch.manual_seed(5)
                return host(call(*found), device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(5)
            return host(call(*found), device)


def host(x: Any, device: str) -> list[Any]:
    """Results on the CPU, after a look at where they were."""
    for v in flat(x):
        assert not isinstance(v, Tensor) or v.device.type == device, f"a result is on {v.device}"
    return [v.detach().cpu() if isinstance(v, Tensor) else v for v in flat(x)]


def check(name: str, way: str, d: dtypes.dtype = dtypes.float32, limit: int | None = None) -> None:
    """Runs an operation's samples in a mode and compares."""
    op = REGISTRY[name]
    samples = samples_of(op)
    for k, sample in enumerate(samples[:limit]):
        where = f"{name} sample {k} ({way}, {d.name})"
        got = run(op, sample, d, way)
        if name in RANDOM:
            same = run(op, sample, d, "eager")
            compare(got, [v.numpy() if isinstance(v, Tensor) else v for v in flat(same)], d, where)
        else:
            compare(got, expected(op, sample), d, where)


# ---------------------------------------------------------------------------------------------------- the modes


@pytest.mark.parametrize("name", NAMES)
def test_eager(name: str) -> None:
    check(name, "eager")


@pytest.mark.parametrize("name", [n for n in NAMES if REGISTRY[n].kind in ("elementwise", "reduction")])
def test_native_loops(name: str) -> None:
    check(name, "native", limit=2)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in NOT_TRACED])
def test_compiled(name: str) -> None:
    check(name, "compiled", limit=2)


@pytest.mark.parametrize("name", NAMES)
def test_simulated_cuda(name: str) -> None:
    check(name, "eager cuda", limit=4)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in NOT_TRACED])
def test_compiled_simulated_cuda(name: str) -> None:
    check(name, "compiled cuda", limit=1)


_FLOATING = [
    n
    for n in NAMES
    if REGISTRY[n].kind != "view"
    and n not in RANDOM
    and n not in CREATE
    and n != "result_type"
    and any(isinstance(a, np.ndarray) and a.dtype == np.float64 for s in samples_of(REGISTRY[n]) for a in s.args)
]

#: have no half-precision form, as in PyTorch
_NO_HALVES = {"quantile", "nanquantile", "histc", "bincount"}.union(*(getattr(m, "NO_HALVES", ()) for m in families.ALL))
#: depend on the exact values that rounding to half changes
_ROUNDING_DECIDES = {
    "isclose",
    "floor_divide",
    "trunc_divide",
    "remainder",
    "fmod",
    "div",
    "round",
    "unique",
    "allclose",
    "searchsorted",
    "bucketize",
    "search_sorted",
    "frac",
    "floor",
    "ceil",
    "trunc",
    "cumprod",
    "cumprod_dim",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "nan_to_num",
    "erfinv",
    "logit",
    "item",
    "equal",
    "long",
    "int",
    "short",
    "char",
    "byte",
    "var_mean",
    "prod",
    "prod_dims",
    "tan",
    "digamma",
    "lgamma",
    "acosh",
    "xlogy",
    "layer_norm_grad",
    "convert",
    "pow",
}


@pytest.mark.parametrize("d", [dtypes.float64, dtypes.float16, dtypes.bfloat16], ids=lambda d: d.name)
@pytest.mark.parametrize("name", _FLOATING)
def test_floating_dtypes(name: str, d: dtypes.dtype) -> None:
    if d is not dtypes.float64 and name in _NO_HALVES:
        pytest.skip("no half-precision form, as in PyTorch")
    op = REGISTRY[name]
    if d is not dtypes.float64 and "half" in op.refuses:
        with pytest.raises(NotImplementedError, match="not implemented for '"):
            run(op, samples_of(op)[0], d, "eager")
        return
    for k, sample in enumerate(samples_of(op)[:2]):
        got = run(op, sample, d, "eager")
        if d is dtypes.float64:
            compare(got, expected(op, sample), d, f"{name} sample {k} ({d.name})")
            continue
        # the oracle sees what the operation sees: the rounded inputs
        rounded = Sample(
            tuple(_rounded(a, d) for a in sample.args), {k: _rounded(v, d) for k, v in sample.kwargs.items()}
        )
        want = expected(op, rounded)
        if name in _ROUNDING_DECIDES:
            assert [tuple(g.shape) for g in got if isinstance(g, Tensor)] == [
                np.shape(w) for g, w in zip(got, want) if isinstance(g, Tensor)
            ]
        else:
            compare(got, want, d, f"{name} sample {k} ({d.name})")


def _rounded(x: Any, d: dtypes.dtype) -> Any:
    if isinstance(x, np.ndarray) and x.dtype == np.float64:
        return x.astype(d.np).astype(np.float64)
    return type(x)(_rounded(v, d) for v in x) if isinstance(x, (list, tuple)) else x


# ---------------------------------------------------------------------------------------------------- gradients

#: No gradient by nature: integers, positions, booleans, copies of values, or new tensors.
NO_GRADIENT = {
    "argmax",
    "argmin",
    "count_nonzero",
    "argsort",
    "searchsorted",
    "bucketize",
    "isin",
    "nonzero",
    "argwhere",
    "unique",
    "unique_consecutive",
    "bincount",
    "histc",
    "zeros_like",
    "ones_like",
    "full_like",
    "new_zeros",
    "new_ones",
    "new_full",
    "new_tensor",
    "detach",
    "equal",
    "allclose",
    "item",
    "tolist",
    "is_tensor",
    "numel",
    "is_floating_point",
    "is_same_size",
    "result_type",
    "one_hot",
    "mode",
    "rand_like",
    "randn_like",
    "randint_like",
    "bernoulli",
    "multinomial",
    "to",
    "type_as",
    "storage_offset",
    "unravel_index",
}
for _family in families.ALL:
    NO_GRADIENT |= getattr(_family, "NO_GRADIENT", set())


def _differentiable(op: OpDef, sample: Sample) -> tuple[Any, list[Tensor], list[Tensor]]:
    call, found = prepare(op, sample, dtypes.float64, "cpu")
    leaves = [t for t in found if t.dtype.category >= 2]
    for t in leaves:
        t.requires_grad_()
    return call, found, leaves


def weighted(x: Tensor, angles: np.ndarray) -> Tensor:
    """A real sum of the elements (of both parts of complex ones) with different weights."""
    w = np.cos(angles) + 1j * np.sin(angles) if x.is_complex() else np.cos(angles)
    return (x * torch.from_numpy(w.reshape(x.shape)).to(x.device, x.dtype)).sum().real


def _loss(call: Any, found: list[Tensor]) -> Tensor | None:
    """A weighted sum of all floating results."""
    torch.manual_seed(5)
    total = None
    for k, out in enumerate(flat(call(*found))):
        if isinstance(out, Tensor) and out.requires_grad:
            part = weighted(out.cdouble() if out.is_complex() else out.double(), np.arange(out.numel()) + k)
            total = part if total is None else total + part
    return total


def _numeric(f: Any, t: Tensor, eps: float = 1e-6) -> np.ndarray:
    """Central differences of a scalar function of ``t``'s memory; of complex numbers, along both axes."""
    a = t.detach().numpy()
    out = np.zeros(a.shape, a.dtype)
    for k in np.ndindex(a.shape):
        before = a[k]
        for step in (eps, 1j * eps) if t.is_complex() else (eps,):
            a[k] = before + step
            up = f()
            a[k] = before - step
            down = f()
            a[k] = before
            out[k] += (up - down) / (2 * eps) * (step / eps)
    return out


@pytest.mark.parametrize("name", [n for n in NAMES if REGISTRY[n].differentiable])
def test_gradient(name: str) -> None:
    op = REGISTRY[name]
    tried = False
    for k, sample in enumerate(s for s in samples_of(op) if s.grad):
        call, found, leaves = _differentiable(op, sample)
        loss = _loss(call, found)
        if loss is None or not leaves:
            continue
        tried = True
        grads = torch.autograd.grad(loss, leaves, allow_unused=True)
        for j, (t, g) in enumerate(zip(leaves, grads)):
            want = _numeric(lambda: float(_loss(call, found)), t)  # noqa: B023
            got = np.zeros(t.shape) if g is None else g.numpy()
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6, err_msg=f"{name} sample {k}, operand {j}")
    assert tried or name in NO_GRADIENT or name in CREATE or not _any_floats(op), f"{name}: no sample has a gradient"


def _any_floats(op: OpDef) -> bool:
    return any(isinstance(a, np.ndarray) and a.dtype == np.float64 for s in samples_of(op) if s.grad for a in s.args)


_GRADIENTS = [n for n in NAMES if REGISTRY[n].differentiable and n not in NO_GRADIENT and n not in CREATE]


def _gradients(op: OpDef, sample: Sample, way: str) -> list[np.ndarray | None]:
    """float32 gradients of the weighted sum of an operation's results, in a mode."""
    with mode(way) as device:
        call, found = prepare(op, sample, dtypes.float32, device)
        leaves = [t for t in found if t.dtype.category >= 2]

        def slope(*given: Tensor) -> Any:
            inside = [t.detach().requires_grad_() if t.dtype.category >= 2 else t for t in given]
            total = None
            for k, out in enumerate(flat(call(*inside))):
                if isinstance(out, Tensor) and out.requires_grad:
                    w = torch.arange(1 + k, out.numel() + 1 + k, device=device).reshape(out.shape)
                    part = (out * torch.polar(torch.ones_like(w.cos()), w.float())).sum().real if out.is_complex() else (
                        out * w.cos()
                    ).sum()
                    total = part if total is None else total + part
            wanted = [t for t in inside if t.requires_grad]
            if total is None or not wanted:
                return []
            return [
                torch.zeros_like(t) if g is None else g
                for t, g in zip(wanted, torch.autograd.grad(total, wanted, allow_unused=True))
            ]

        run_it = torch.compile(slope, fullgraph=True) if way.startswith("compiled") else slope
        torch.manual_seed(5)
        grads = run_it(*found)
        assert all(g.device.type == device and g.shape == t.shape for g, t in zip(grads, leaves))
        return [g.detach().cpu().numpy() for g in grads]


def _check_gradients(name: str, way: str) -> None:
    op = REGISTRY[name]
    for k, sample in enumerate([s for s in samples_of(op) if s.grad][:2]):
        for j, (g, want) in enumerate(zip(_gradients(op, sample, way), _gradients(op, sample, "eager"))):
            np.testing.assert_allclose(g, want, rtol=2e-4, atol=2e-5, err_msg=f"{name} sample {k}, operand {j} ({way})")


@pytest.mark.parametrize("name", [n for n in _GRADIENTS if REGISTRY[n].kind in ("elementwise", "reduction")])
def test_gradient_native(name: str) -> None:
    _check_gradients(name, "native")


@pytest.mark.parametrize("name", [n for n in _GRADIENTS if n not in NOT_TRACED])
def test_gradient_compiled(name: str) -> None:
    _check_gradients(name, "compiled")


@pytest.mark.parametrize("name", _GRADIENTS)
def test_gradient_simulated_cuda(name: str) -> None:
    _check_gradients(name, "eager cuda")


#: The second derivative is not implemented (a clear error says so), or the formula has a kink at the sample.
ONCE_ONLY: set[str] = {name for family in families.ALL for name in getattr(family, "ONCE_ONLY", ())}


@pytest.mark.parametrize(
    "name", [n for n in NAMES if REGISTRY[n].differentiable and n not in NO_GRADIENT and n not in CREATE]
)
def test_double_backward(name: str) -> None:
    op = REGISTRY[name]
    for k, sample in enumerate([s for s in samples_of(op) if s.grad][:2]):
        call, found, leaves = _differentiable(op, sample)

        def sloped(create: bool) -> Tensor | None:
            loss = _loss(call, found)  # noqa: B023
            if loss is None:
                return None
            grads = torch.autograd.grad(loss, leaves, allow_unused=True, create_graph=create)  # noqa: B023
            parts = [
                weighted(g, np.arange(g.numel()) + 0.5)
                for g in grads
                if g is not None and (g.requires_grad or not create)
            ]
            return sum(parts[1:], parts[0]) if parts else None

        slope = sloped(True)
        if slope is None or not slope.requires_grad:
            continue
        seconds = torch.autograd.grad(slope, leaves, allow_unused=True)
        for j, (t, g) in enumerate(zip(leaves, seconds)):
            want = _numeric(lambda: float(sloped(False).detach()), t)  # noqa: B023
            got = np.zeros(t.shape) if g is None else g.numpy()
            np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5, err_msg=f"{name} sample {k}, operand {j}")


# ---------------------------------------------------------------------------------------------------- completeness


@pytest.mark.parametrize("name", list(REGISTRY))
def test_definition_is_complete(name: str) -> None:
    op = REGISTRY[name]
    assert op.doc and op.doc[0] != " " and op.doc.rstrip().endswith((".", "`", ")", ":", "``")), f"{name}: no docstring"
    if name in ELSEWHERE:
        return
    assert name in RANDOM or oracle_of(op) is not None, f"{name}: no oracle"
    assert samples_of(op), f"{name}: no samples"
    if op.kind == "opaque":
        assert "cpu" in op.kernels and "cuda" in op.kernels, f"{name}: a kernel is missing"
        assert op.vjp_fn is not None or not op.differentiable, (
            f"{name}: no gradient, and not marked differentiable=False"
        )
    if op.kind == "view":
        assert "numpy" in op.kernels and op.vjp_fn is not None, f"{name}: NumPy form or gradient is missing"
    if op.kind == "reduction":
        assert op.vjp_fn is not None or not op.differentiable, (
            f"{name}: no gradient, and not marked differentiable=False"
        )


def test_tables_name_real_operations() -> None:
    for table in (SAMPLES, ELSEWHERE, RANDOM, NOT_TRACED, CREATE, NO_GRADIENT, ONCE_ONLY):
        unknown = [n for n in table if n not in REGISTRY and n != "requires_grad_"]
        assert not unknown, unknown


@pytest.mark.parametrize("name", [op.name for op in REGISTRY.values() if op.kind == "opaque"])
def test_shape_rules_are_exact(name: str) -> None:
    op = REGISTRY[name]
    for d in (dtypes.float32, dtypes.float16):
        if d is dtypes.float16 and name in _NO_HALVES:
            continue
        for sample in samples_of(op):
            found: list[Tensor] = []
            args = [tensors(a, d, "cpu", found) for a in sample.args]
            if name == "move_to_device":
                args[1] = torch.device("cpu")
            rule = op.body(*args, **sample.kwargs)
            results = flat(getattr(fn, name)(*args, **sample.kwargs))
            assert [(tuple(s), t) for s, t in rule] == [(tuple(r.shape), r.dtype) for r in results], name
            assert all(r.is_contiguous() for r in results), f"{name}: a result is not row-major"


@pytest.mark.parametrize("name", [op.name for op in REGISTRY.values() if op.kind == "view"])
def test_view_rules_agree_with_numpy(name: str) -> None:
    op = REGISTRY[name]
    for sample in samples_of(op):
        x = torch.from_numpy(sample.args[0])
        got = getattr(fn, name)(x, *sample.args[1:])
        shape, strides, offset = op.body(tuple(x.shape), x.stride(), 0, *sample.args[1:])
        assert tuple(got.shape) == tuple(shape)
        if got.numel():
            assert got.data_ptr() == x.data_ptr() + offset * 8, f"{name}: offset"
            moving = [k for k, n in enumerate(shape) if n > 1]
            assert [got.stride(k) for k in moving] == [strides[k] for k in moving], f"{name}: strides"
