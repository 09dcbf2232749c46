"""The CPU backend: NumPy where NumPy does it in one pass or the tensor is small, a native loop otherwise."""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import config, formats
from .dtypes import FROM_NUMPY, dtype
from .ops.expr import load, walk
from .ops.opdef import LoopSpec, OpDef
from .shapes import broadcast_shapes, dense_strides_like, numel
from .tensor import Tensor

name = "cpu"


def empty(shape: Sequence[int], d: dtype) -> np.ndarray:
    """Uninitialised memory; large blocks are recycled."""
    if numel(shape) * d.itemsize < 65536:
        return np.empty(shape, d.np)
    from .runtime.cpu_memory import empty as pooled
    return pooled(tuple(shape), d.np)


def loop(spec: LoopSpec, arrays: Sequence[np.ndarray], scalars: Sequence[Any], axes: tuple[int, ...] | None,
         outs: Sequence[np.ndarray] | None) -> list[np.ndarray]:
    """Runs an elementwise (``axes`` is ``None``) or reduction spec; reduced outputs keep the axes with size 1.

    With ``outs``, the results are written there; they may alias inputs exactly.
    """
    if spec.launchers and config.parallel_threshold:
        if outs is None:
            short = spec.launchers.get((axes, *[(a.shape, a.strides) for a in arrays]))
            if short is not None:
                return _launch(short, arrays, scalars)
        else:
            launch = spec.launchers.get(_place(arrays, outs))
            if launch is not None and _apart(arrays, outs):
                launch(*arrays, *outs, *scalars)
                return list(outs)
    shape = arrays[0].shape
    for a in arrays:
        if a.shape != shape:
            shape = tuple(broadcast_shapes(*[x.shape for x in arrays]))
            break
    n = numel(shape)
    if outs is not None:
        for o in outs:
            if o.shape != shape:
                raise RuntimeError(f"{spec.name}: output with shape {list(o.shape)} doesn't match the broadcast shape {list(shape)}")
    if outs is None:
        plainly = by_numpy(spec, n) or (spec.single and (spec.complex or (n < config.parallel_threshold and not spec.reduces)))
    else:
        plainly = spec.complex or (n * spec.passes < config.native_threshold and not spec.writes)
    if plainly:
        results = spec.numpy(shape, axes, *arrays, *scalars)
        if axes is None:
            results = [r if r.shape == shape else np.array(np.broadcast_to(r, shape)) for r in results]
        if outs is None:
            rule = "" if spec.op is None else spec.op.layout
            if rule:
                return [_by_rule(r, rule, arrays) if f else _in_row_major(r) for r, f in zip(results, spec.full)]
            if axes is not None or (spec.op is not None and spec.op.row_major):
                return [_in_row_major(r) for r in results]
            if len(arrays) == 1 or all([a.flags.c_contiguous or not any(a.strides) for a in arrays]):
                return results  # NumPy keeps one operand's order, and row-major
            strides = _strides_like(shape, arrays)
            return [_with_strides(r, strides) for r in results]
        for o, r in zip(outs, results):
            copy(o, r)
        return list(outs)
    return native(spec, arrays, scalars, shape, axes, outs)


def _place(arrays: Sequence[np.ndarray], outs: Sequence[np.ndarray]) -> tuple:
    """What of operands and results decides how a loop that writes into given memory is called."""
    return ("into", *[(a.shape, a.strides) for a in arrays], *[(o.dtype.num, o.strides) for o in outs])


def _apart(arrays: Sequence[np.ndarray], outs: Sequence[np.ndarray]) -> bool:
    """Whether each operand is one of the results or shares no memory with any."""
    for o in outs:
        for a in arrays:
            if a is not o and (a.base is not None or o.base is not None) and np.may_share_memory(a, o):
                return False
    return True


def reduced(spec: LoopSpec, arrays: Sequence[np.ndarray], scalars: Sequence[Any], axes: tuple[int, ...], keepdim: bool) -> list[np.ndarray]:
    """:func:`loop` for a reduction; without ``keepdim`` its reduced outputs lose the axes."""
    if keepdim or not axes:
        return loop(spec, arrays, scalars, axes, None)
    seen = [(a.shape, a.strides) for a in arrays]
    key = ("dropped", axes, *seen)
    short = spec.launchers.get(key)
    if short is not None and config.parallel_threshold:
        return _launch(short, arrays, scalars)
    results = loop(spec, arrays, scalars, axes, None)
    results = [r if f else r.reshape([n for d, n in enumerate(r.shape) if d not in axes]) for r, f in zip(results, spec.full)]
    short = spec.launchers.get((axes, *seen))
    if short is not None:
        _remember(spec.launchers, key, (short[0], _made(results)))
    return results


def _launch(short: tuple, arrays: Sequence[np.ndarray], scalars: Sequence[Any]) -> list[np.ndarray]:
    launch, made = short
    if len(made) == 1:
        make, shape, d = made[0]
        r = make(shape, d)
        launch(*arrays, r, *scalars)
        return [r]
    results = [make(shape, d) for make, shape, d in made]
    launch(*arrays, *results, *scalars)
    return results


def _made(results: Sequence[np.ndarray]) -> list[tuple]:
    """How memory like that of these arrays is made: ``(function, shape, dtype)``."""
    out = []
    for r in results:
        make: Any = np.empty
        if r.nbytes >= 65536:
            from .runtime.cpu_memory import empty as make
        out.append((make, r.shape, r.dtype))
    return out


def by_numpy(spec: LoopSpec, n: int) -> bool:
    """Whether ``n`` elements are so few that NumPy is the cheaper way: one or two of its passes cost less than a call of a native loop, and
    nothing is compiled for a handful of elements."""
    threshold = config.native_threshold
    if spec.complex:  # loops over the parts have no launcher
        return n * spec.passes < 32 * threshold
    return n * spec.passes < threshold or (spec.passes < 3 and n < 64 * threshold and not spec.reduces)


def flat(spec: LoopSpec, arrays: Sequence[np.ndarray], scalars: Sequence[Any]) -> list[np.ndarray]:
    """Runs an elementwise spec of real numbers over row-major arrays of one shape: one launcher serves all shapes."""
    shape, n, limit = arrays[0].shape, arrays[0].size, config.parallel_threshold
    launch = spec.flat
    if launch is None:
        launch = spec.flat = _flat_launcher(spec) or False
    if not launch or not 0 < n <= 2 * limit or n * spec.passes > 8 * limit:
        return native(spec, arrays, scalars, shape, None, None)
    results = [empty(shape, d) for d in spec.out_dtypes]
    launch(*arrays, *results, *scalars, n, n)
    return results


def _flat_launcher(spec: LoopSpec) -> Any:
    if spec.own_layout or any([e.op == "iota" for e in walk(spec.values)]):
        return None
    from .codegen.loop import Operand, schedule
    from .codegen.native import native_loop
    inputs, outputs = [[Operand(d, (1,)) for d in dtypes] for dtypes in (spec.in_dtypes, spec.out_dtypes)]
    kernel = schedule((2,), (), inputs, outputs, spec.values, spec.full, spec.scalars).kernel
    return native_loop(kernel).flat_launcher() if (kernel.n_outer, kernel.n_inner) == (1, 0) else None


def native(spec: LoopSpec, arrays: Sequence[np.ndarray], scalars: Sequence[Any], shape: tuple[int, ...],
           axes: tuple[int, ...] | None, outs: Sequence[np.ndarray] | None) -> list[np.ndarray]:
    """Runs a spec as a native loop, compiled at first use and kept on disk."""
    if outs is not None:
        return _into(spec, arrays, scalars, shape, axes, outs)
    key = (axes, *[(a.shape, a.strides) for a in arrays])
    short = spec.launchers.get(key)
    if short is not None and config.parallel_threshold:
        return _launch(short, arrays, scalars)
    rule = "" if spec.op is None else spec.op.layout
    row_major = bool(rule) or axes is not None or (spec.op is not None and spec.op.row_major)
    strides = _strides_by_rule(rule, shape, arrays) if rule else None
    results = [_like(shape, d, arrays) if not row_major else _strided(shape, strides, d) if f and strides is not None else empty(
        shape if f or axes is None else tuple(1 if k in axes else s for k, s in enumerate(shape)), d)
        for d, f in zip(spec.out_dtypes, spec.full)]
    everything = list(arrays) + results
    if not spec.complex and all([r.flags.c_contiguous for r in results]):
        launch = _launcher(spec, everything, len(arrays), shape, axes)
        _remember(spec.launchers, key, (launch, _made(results)))
        launch(*everything, *scalars)
        return results
    if spec.complex:
        form = spec.parts
        spec, scalars = form.spec, form.numbers(scalars)
        arrays = [_part(arrays[i], part) for i, part in form.loads]
        everything = arrays + [_part(results[j], part) for j, part in form.stores]
    run, sizes, strides = native_plan(spec, everything, len(arrays), shape, axes)
    run(everything, sizes, strides, scalars)
    return results


def _launcher(spec: LoopSpec, everything: list[np.ndarray], inputs: int, shape: tuple[int, ...], axes: tuple[int, ...] | None) -> Any:
    """The loop for these shapes and layouts as a function of arrays and scalars: without ``ctypes`` where it ends soon."""
    run, sizes, strides = native_plan(spec, everything, inputs, shape, axes)
    n, limit = numel(shape), config.parallel_threshold
    if n <= 2 * limit and n * spec.passes <= 8 * limit:
        launch = run.launcher(sizes, strides)
        if launch is not None:
            return launch
    count = len(everything)
    return lambda *operands: run(operands[:count], sizes, strides, operands[count:])


def _remember(plans: dict, key: Any, plan: Any) -> None:
    if len(plans) >= 1024:
        plans.pop(next(iter(plans)), None)
    plans[key] = plan


def _part(a: np.ndarray, part: int | None) -> np.ndarray:
    """A view of the real or imaginary part of a complex array; a real array itself (``None``)."""
    return a if part is None else a.imag if part else a.real


def native_plan(spec: LoopSpec, everything: list[np.ndarray], inputs: int, shape: tuple[int, ...],
          axes: tuple[int, ...] | None) -> tuple[Any, Any, Any]:
    """The loop for these shapes and layouts, remembered: ``(function, sizes, strides)``."""
    key = (shape, axes, tuple([(a.shape, a.strides) for a in everything]))
    plan = spec.plans.get(key)
    if plan is None:
        from .codegen.loop import schedule
        from .codegen.native import native_loop
        operands = [_operand(a, shape) for a in everything]
        call = schedule(shape, axes or (), operands[:inputs], operands[inputs:], spec.values, spec.full, spec.scalars)
        plan = native_loop(call.kernel), call.sizes, call.strides
        _remember(spec.plans, key, plan)
    return plan


def _into(spec: LoopSpec, arrays: Sequence[np.ndarray], scalars: Sequence[Any], shape: tuple[int, ...],
          axes: tuple[int, ...] | None, outs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """In-place form: writes straight into ``outs`` unless an input overlaps one in another layout."""
    same = all(o.dtype == d.np for o, d in zip(outs, spec.out_dtypes))
    clash = any(a is not o and np.may_share_memory(a, o) and (a.strides != o.strides or _start(a) != _start(o))
                for a in arrays for o in outs)
    if not same or clash or axes is not None:
        results = native(spec, arrays, scalars, shape, axes, None)
        for o, r in zip(outs, results):
            np.copyto(o, r, casting="unsafe")
        return list(outs)
    everything = [*arrays, *outs]
    if not spec.complex and _apart(arrays, outs):
        launch = _launcher(spec, everything, len(arrays), shape, None)
        _remember(spec.launchers, _place(arrays, outs), launch)
        launch(*everything, *scalars)
        return list(outs)
    run, sizes, strides = native_plan(spec, everything, len(arrays), shape, None)
    run(everything, sizes, strides, scalars)
    return list(outs)


def _start(a: np.ndarray) -> int:
    return a.__array_interface__["data"][0]


def _operand(a: np.ndarray, shape: tuple[int, ...]) -> Any:
    from .codegen.loop import Operand
    item = a.itemsize
    lead = len(shape) - a.ndim
    strides = (0,) * lead + tuple([0 if n == 1 else s // item for n, s in zip(a.shape, a.strides)])
    return Operand(FROM_NUMPY[a.dtype], strides)


def _in_row_major(a: np.ndarray) -> np.ndarray:
    return a if a.flags.c_contiguous else np.asarray(a, order="C")


def _strides_like(shape: Sequence[int], arrays: Sequence[np.ndarray]) -> tuple[int, ...]:
    """Strides in elements of an elementwise result over these operands."""
    return dense_strides_like(shape, [(a.shape, a.strides) for a in arrays])  # in bytes: only the order of an operand's strides counts


def _with_strides(a: np.ndarray, strides: tuple[int, ...]) -> np.ndarray:
    """``a``, or a dense copy of it with these strides (elements) where its own are others."""
    size = a.itemsize
    if all([n < 2 or s * size == t for n, s, t in zip(a.shape, strides, a.strides)]):
        return a
    out = _strided(a.shape, strides, FROM_NUMPY[a.dtype])
    out[...] = a
    return out


def _strided(shape: Sequence[int], strides: tuple[int, ...], d: dtype) -> np.ndarray:
    """Uninitialised memory with these dense strides (elements)."""
    order = sorted(range(len(shape)), key=lambda k: -strides[k])
    back = sorted(range(len(shape)), key=order.__getitem__)
    return empty([shape[k] for k in order], d).transpose(back)


def _like(shape: tuple[int, ...], d: dtype, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Memory for an elementwise result over these operands."""
    if all([a.flags.c_contiguous or not any(a.strides) for a in arrays]):
        return empty(shape, d)
    return _strided(shape, _strides_like(shape, arrays), d)


def _strides_by_rule(rule: str, shape: Sequence[int], arrays: Sequence[np.ndarray]) -> tuple[int, ...] | None:
    """Strides in elements of a result whose operation has a rule for its layout; ``None``: row-major."""
    return formats.RESULT_LAYOUTS[rule](shape, [(a.shape, a.strides) for a in arrays])


def _by_rule(a: np.ndarray, rule: str, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """A result as its operation's rule wants it."""
    strides = _strides_by_rule(rule, a.shape, arrays)
    return _in_row_major(a) if strides is None else _with_strides(a, strides)


def view(op: OpDef, a: np.ndarray, attrs: tuple) -> np.ndarray:
    """Runs a view op."""
    return op.kernels["numpy"](a, *attrs)


def opaque(op: OpDef, operands: Sequence[Any], attrs: tuple) -> list[np.ndarray]:
    """Runs an op's own kernel; results are row-major unless the operation says otherwise."""
    kernel = op.kernels.get("cpu")
    if kernel is None:
        raise NotImplementedError(f"{op.name}: no CPU kernel")
    out = kernel(*[o._a if isinstance(o, Tensor) else unwrap(o) for o in operands], *attrs)
    if type(out) is np.ndarray and not op.layout and out.flags.c_contiguous:
        return [out]
    out = out if isinstance(out, (tuple, list)) else [out]
    # a move to a device gives that device's array
    out = [np.asarray(a, order="C") if isinstance(a, (np.ndarray, np.generic)) else a for a in out]
    if op.layout:
        arrays = [a for o in operands if o is not None for a in (unwrap(o) if isinstance(o, (list, tuple)) else (o._a,))]
        if all([a.flags.c_contiguous for a in arrays]):
            return out  # row-major comes from row-major by every rule
        return [_by_rule(a, op.layout, arrays) for a in out]
    return out


def unwrap(o: Any) -> Any:
    """The arrays of an operand: one, a list, or ``None``."""
    return o if o is None else [t._a for t in o] if isinstance(o, (list, tuple)) else o._a


def reshape(a: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A contiguous array seen with another shape."""
    return a.reshape(shape)


def copy(dst: np.ndarray, src: np.ndarray) -> None:
    """Writes ``src`` into ``dst``, converting."""
    if src.dtype.kind == "c" and dst.dtype.kind not in "cb":
        src = src.real
    if (dst.size >= _COPIED and dst.dtype == src.dtype and dst.dtype.char in _WIDE and dst.flags.aligned and src.flags.aligned
            and not np.may_share_memory(dst, src)):
        _into(_copies(FROM_NUMPY[dst.dtype]), [np.broadcast_to(src, dst.shape)], (), dst.shape, None, [dst])
        return
    np.copyto(dst, src, casting="unsafe")


#: Elements from which a copy is a native loop: on several threads, and in tiles where it transposes.
_COPIED, _WIDE = 1 << 16, "fdilq"


@functools.cache
def _copies(d: dtype) -> LoopSpec:
    return LoopSpec("copy", None, [d], [load(0, d)], [d], [True], [], False)


def from_host(a: np.ndarray) -> np.ndarray:
    """An array on this device with the contents of a NumPy array (here: itself)."""
    return a


def to_host(a: np.ndarray) -> np.ndarray:
    """The contents as a NumPy array (here: itself)."""
    return a
