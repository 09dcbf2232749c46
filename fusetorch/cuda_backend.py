"""The CUDA backend: hand-written Triton kernels where there is one for the operation, a generated one otherwise.

An operation that is one primitive, or one reduction, runs in the kernels of :mod:`fusetorch.triton_kernels`; a reduction may register
a kernel of its own with ``@op.cuda`` (see :func:`_own_plan`); every other body becomes a generated kernel, compiled at its first
use. Nothing here computes on the CPU.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import config
from .dtypes import HALVES, dtype, float32, int64
from .errors import NoTritonType
from .formats import RESULT_LAYOUTS
from .ops.expr import Expr, scalar, substitute, walk
from .ops.opdef import LoopSpec, OpDef, compute_dtype
from .runtime import device as _device
from .runtime import memory
from .runtime.memory import DeviceArray, Storage
from .shapes import broadcast_shapes, contiguous_strides, dense_strides_like, numel

name = "cuda"


def empty(shape: Sequence[int], d: dtype, device_index: int | None = None) -> DeviceArray:
    """Uninitialised memory on ``cuda:device_index`` (by default the current device)."""
    return memory.empty(tuple(shape), d, _device.current_device() if device_index is None else device_index)


def full(shape: Sequence[int], value: Any, d: dtype, device_index: int = 0) -> DeviceArray:
    """A row-major array filled with ``value``; uninitialised if that is ``None``."""
    out = memory.empty(tuple(shape), d, device_index)
    if value is not None:
        from .triton_kernels.pointwise import fill
        fill(out, value)
    return out


def loop(spec: LoopSpec, arrays: Sequence[Any], scalars: Sequence[Any], axes: tuple[int, ...] | None,
         outs: Sequence[DeviceArray] | None) -> list[DeviceArray]:
    """Runs an elementwise (``axes`` is ``None``) or reduction spec; reduced outputs keep the axes with size 1.

    Arrays in CPU memory (0-d: dispatch lets no others through) become run-time scalars of the kernel. With ``outs``, the results are
    written there; they may alias inputs exactly.
    """
    for a in arrays:
        if type(a) is not DeviceArray:
            spec, arrays, scalars = _host_as_scalars(spec, arrays, scalars)
            break
    at = arrays[0].storage.device_index
    if spec.complex:
        return _complex_loop(spec, arrays, scalars, axes, outs)
    if outs is not None:
        return _into(spec, arrays, scalars, axes, outs)
    if axes is None:
        result = (spec.kernel_cache.get("flat") or short_way(spec))(arrays, scalars)
        if result is not None:
            return [result]
    key = config.simulate_cuda, axes, *[(a.shape, a.strides) for a in arrays]
    plan = spec.plans.get(key)
    if plan is None:
        plan = _keep(spec, key, _plan(spec, arrays, axes))
    return plan(arrays, scalars, at)


def _host_as_scalars(spec: LoopSpec, arrays: Sequence[Any],
                     scalars: Sequence[Any]) -> tuple[LoopSpec, list[DeviceArray], list[Any]]:
    """The spec with scalars in place of the inputs that are in CPU memory, and its arguments."""
    host = tuple([i for i, a in enumerate(arrays) if type(a) is not DeviceArray])
    found = spec.kernel_cache.get(host)
    if found is None:
        rest = [i for i in range(len(arrays)) if i not in host]
        place = {i: k for k, i in enumerate(rest)} | {i: len(scalars) + k for k, i in enumerate(host)}
        new = {e: scalar(place[e.attr], compute_dtype(e.dtype)) if e.attr in host else Expr("load", (), place[e.attr], e.dtype)
               for e in walk(spec.values) if e.op == "load"}
        found = LoopSpec(spec.name, None if spec.reduces else spec.op, [spec.in_dtypes[i] for i in rest], substitute(spec.values, new),
                         spec.out_dtypes, spec.full, [*spec.scalars, *[compute_dtype(spec.in_dtypes[i]) for i in host]], spec.reduces)
        spec.kernel_cache[host] = found
    numbers = [(int, int, float, complex)[spec.in_dtypes[i].category](arrays[i]) for i in host]
    return found, [a for a in arrays if type(a) is DeviceArray], [*scalars, *numbers]


def _complex_loop(spec: LoopSpec, arrays: Sequence[DeviceArray], scalars: Sequence[Any], axes: tuple[int, ...] | None,
                  outs: Sequence[DeviceArray] | None) -> list[DeviceArray]:
    """Runs a spec over complex numbers as a generated kernel over their parts."""
    if outs is not None:
        for o, r in zip(outs, _complex_loop(spec, arrays, scalars, axes, None)):
            if o.shape != r.shape:
                raise RuntimeError(f"{spec.name}: output with shape {list(o.shape)} doesn't match the broadcast shape {list(r.shape)}")
            copy(o, r)
        return list(outs)
    form = spec.parts
    shape = tuple(broadcast_shapes(*[a.shape for a in arrays]))
    if axes is not None and not shape:
        arrays, shape, axes, scalar_result = [_as_row(a) for a in arrays], (1,), (0,), True
    else:
        scalar_result = False
    at = arrays[0].storage.device_index
    layouts = [shape if f or axes is None else tuple([1 if k in axes else n for k, n in enumerate(shape)]) for f in spec.full]
    results = [memory.empty(own, d, at) for own, d in zip(layouts, spec.out_dtypes)]
    reals = [arrays[i].part(part) for i, part in form.loads]
    parts = [results[j].part(part) for j, part in form.stores]
    key = config.simulate_cuda, axes, *[(a.shape, a.strides) for a in reals]
    plan = form.spec.plans.get(key)
    if plan is None:
        plan = _keep(form.spec, key, _Generated(form.spec, reals, shape, axes, [(p.shape, p.strides) for p in parts]))
    plan.bound([*reals, *parts], form.numbers(scalars))
    return [r.view((), (), r.offset) for r in results] if scalar_result else results


def _keep(spec: LoopSpec, key: tuple, plan: Any) -> Any:
    if len(spec.plans) >= 256:  # layouts that vary without end
        spec.plans.clear()
    spec.plans[key] = plan
    return plan


#: Runs a spec on arrays of known layouts: ``plan(arrays, scalars, device) -> results``.
Plan = Callable[[Sequence[DeviceArray], Sequence[Any], int], "list[DeviceArray]"]


def _plan(spec: LoopSpec, arrays: Sequence[DeviceArray], axes: tuple[int, ...] | None) -> Plan:
    shape = arrays[0].shape
    if any(a.shape != shape for a in arrays):
        shape = tuple(broadcast_shapes(*[a.shape for a in arrays]))
    if axes is not None:
        return _plan_reduction(spec, arrays, shape, axes)
    strides = _strides_by_rule(spec, shape, arrays)
    if strides is None:
        strides = dense_strides_like(shape, [] if spec.op is not None and spec.op.row_major else [(a.shape, a.strides) for a in arrays])
    how = _one_primitive(spec)
    if how is not None and strides == contiguous_strides(shape) and all(a.shape == shape and a.is_contiguous for a in arrays):
        return lambda arrays, scalars, at: [_primitive(how, arrays, scalars, memory.empty(shape, spec.out_dtypes[0], at))]
    return _Generated(spec, arrays, shape, None, [(shape, strides)] * len(spec.values))


def _strides_by_rule(spec: LoopSpec, shape: tuple[int, ...], arrays: Sequence[DeviceArray]) -> tuple[int, ...] | None:
    """Strides of a full result whose operation has a rule for its layout."""
    if spec.op is None or not spec.op.layout:
        return None
    return RESULT_LAYOUTS[spec.op.layout](shape, [(a.shape, a.strides) for a in arrays])


def _primitive(how: tuple[str, list[tuple[str, Any]], dtype], arrays: Sequence[DeviceArray], scalars: Sequence[Any],
               out: DeviceArray) -> DeviceArray:
    from .triton_kernels.pointwise import pointwise_into
    name, operands, compute = how
    pointwise_into(name, [v if kind == "const" else (arrays if kind == "load" else scalars)[v] for kind, v in operands], out, compute)
    return out


def short_way(spec: LoopSpec) -> Callable[..., DeviceArray | None]:
    """``f(arrays, scalars, out=None)``: the result of one primitive over row-major arrays, or ``None`` where ``loop`` must do it."""
    from .triton_kernels.flat import flat
    how = None if spec.complex else _one_primitive(spec)
    found = spec.kernel_cache["flat"] = (None if how is None else flat(*how, spec.out_dtypes[0])) or _no_short_way
    return found


def _no_short_way(arrays: Any, scalars: Any, out: Any = None) -> None:
    return None


class _Generated:
    """A plan that runs a generated kernel. ``layouts``: shape and strides of each result."""

    __slots__ = ("bound", "outs")

    def __init__(self, spec: LoopSpec, arrays: Sequence[DeviceArray], shape: tuple[int, ...], axes: tuple[int, ...] | None,
                 layouts: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
        from .codegen.loop import Operand, schedule
        from .codegen.triton import triton_loop

        def operand(d: dtype, own: tuple[int, ...], strides: tuple[int, ...]) -> Operand:
            return Operand(d, (0,) * (len(shape) - len(own)) + tuple([0 if n == 1 else s for n, s in zip(own, strides)]))

        self.outs = [(numel(own) * d.itemsize, own, strides, d) for d, (own, strides) in zip(spec.out_dtypes, layouts)]
        call = schedule(shape, axes or (), [operand(a.dtype, a.shape, a.strides) for a in arrays],
                        [operand(d, own, strides) for _, own, strides, d in self.outs], spec.values, spec.full, spec.scalars)
        self.bound = triton_loop(call.kernel).bind(call.sizes, call.strides)

    def __call__(self, arrays: Sequence[DeviceArray], scalars: Sequence[Any], at: int) -> list[DeviceArray]:
        results = [DeviceArray(Storage(n, at), shape, strides, 0, d) for n, shape, strides, d in self.outs]
        self.bound([*arrays, *results], scalars)
        return results


def _into(spec: LoopSpec, arrays: list[DeviceArray], scalars: Sequence[Any], axes: tuple[int, ...] | None,
          outs: Sequence[DeviceArray]) -> list[DeviceArray]:
    """Writes straight into ``outs`` unless an input overlaps one in another layout."""
    if axes is None:
        shape = tuple(broadcast_shapes(*[a.shape for a in arrays])) if any(a.shape != outs[0].shape for a in arrays) else outs[0].shape
        for o in outs:
            if o.shape != shape:
                raise RuntimeError(f"{spec.name}: output with shape {list(o.shape)} doesn't match the broadcast shape {list(shape)}")
    same = axes is None and all(o.dtype is d for o, d in zip(outs, spec.out_dtypes))
    if not same or any(_clash(a, o) for a in arrays for o in outs):
        for o, r in zip(outs, loop(spec, arrays, scalars, axes, None)):
            copy(o, r)
        return list(outs)
    if (spec.kernel_cache.get("flat") or short_way(spec))(arrays, scalars, outs[0]) is None:
        key = config.simulate_cuda, "into", *[(a.shape, a.strides) for a in (*arrays, *outs)]
        plan = spec.plans.get(key)
        if plan is None:
            plan = _keep(spec, key, _Generated(spec, arrays, shape, None, [(o.shape, o.strides) for o in outs]))
        plan.bound([*arrays, *outs], scalars)
    return list(outs)


def _clash(a: DeviceArray, o: DeviceArray) -> bool:
    """Whether writing ``o`` may change elements of ``a`` that are still to be read."""
    if a.storage is not o.storage or (a.ptr == o.ptr and a.strides == o.strides and a.shape == o.shape and a.dtype is o.dtype):
        return False
    return _range(a)[0] < _range(o)[1] and _range(o)[0] < _range(a)[1]


def _range(a: DeviceArray) -> tuple[int, int]:
    """The addresses between which the elements of ``a`` lie."""
    reach = [s * (n - 1) for n, s in zip(a.shape, a.strides)] if a.size else []
    return (a.ptr + a.itemsize * sum(r for r in reach if r < 0), a.ptr + a.itemsize * (sum(r for r in reach if r > 0) + 1))


# ---------------------------------------------------------------------------------------------------- reductions


def _plan_reduction(spec: LoopSpec, arrays: Sequence[DeviceArray], shape: tuple[int, ...], axes: tuple[int, ...]) -> Plan:
    if not shape:
        # reducing nothing: seen as one row of one element
        plan = _plan_reduction(spec, [_as_row(a) for a in arrays], (1,), (0,))
        return lambda arrays, scalars, at: [r.view((), (), r.offset) for r in plan([_as_row(a) for a in arrays], scalars, at)]
    reduced = tuple([1 if k in axes else n for k, n in enumerate(shape)])
    found = _one_reduction(spec) if numel([shape[k] for k in axes]) else None  # of nothing: whatever the kernel starts from
    if found is not None:
        return lambda arrays, scalars, at: [_one_reduced(*found, arrays, axes, memory.empty(reduced, spec.out_dtypes[0], at))]
    whole = _strides_by_rule(spec, shape, arrays) or contiguous_strides(shape)
    layouts = [(shape, whole) if f else (reduced, contiguous_strides(reduced)) for f in spec.full]
    own = None if spec.op is None or whole != contiguous_strides(shape) else spec.op.kernels.get("cuda")
    if own is None:
        return _Generated(spec, arrays, shape, axes, layouts)
    return _own_plan(own, spec, axes, lambda arrays: _Generated(spec, arrays, shape, axes, layouts))


def _as_row(a: DeviceArray) -> DeviceArray:
    return a.view((1,), (1,), a.offset)


def _one_reduced(kind: str, k: int, arrays: Sequence[DeviceArray], axes: tuple[int, ...], out: DeviceArray) -> DeviceArray:
    from .triton_kernels.reduce import reduce_into
    reduce_into(kind, arrays[k], axes, out)
    return out


def _own_plan(kernel: Callable[..., Any], spec: LoopSpec, axes: tuple[int, ...],
              otherwise: Callable[[Sequence[DeviceArray]], Plan]) -> Plan:
    """The kernel that the reduction registered with ``@op.cuda``: ``f(spec, arrays, scalars, axes)`` gives the results, with the reduced
    axes kept at size 1 in those that are not full, or ``None`` where a generated kernel must do it."""
    generated: list[Plan] = []

    def run(arrays: Sequence[DeviceArray], scalars: Sequence[Any], at: int) -> list[DeviceArray]:
        results = None if generated else kernel(spec, arrays, scalars, axes)
        if results is None:
            if not generated:
                generated.append(otherwise(arrays))
            results = generated[0](arrays, scalars, at)
        return results
    return run


def _plain_load(e: Expr) -> Expr | None:
    """The ``load`` of which ``e`` is the value, converted at most once (besides widening a half type)."""
    if e.op == "cast" and e.args[0].op == "cast" and e.args[0].dtype is float32 and e.args[0].args[0].dtype in HALVES:
        e = e.args[0]
    if e.op == "cast":
        e = e.args[0]
    return e if e.op == "load" else None


def _one_reduction(spec: LoopSpec) -> tuple[str, int] | None:
    """(kind, input) if the spec is one reduction of one input as :mod:`fusetorch.triton_kernels.reduce` does it."""
    if len(spec.values) != 1 or len(spec.in_dtypes) != 1:
        return None
    e, kind = spec.values[0], None
    if e.op == "div" and e.args[0].op == "reduce" and e.args[0].attr == "sum":
        n = e.args[1].args[0] if e.args[1].op == "cast" else e.args[1]
        e, kind = e.args[0], "mean" if n.op == "count" else None
        if kind is None:
            return None
    if e.op != "reduce":
        return None
    x, kind = e.args[0], kind or e.attr
    if x.op == "ne" and x.args[1].op == "const" and x.args[1].attr == 0 and kind in ("max", "min"):
        x, kind = x.args[0], {"max": "any", "min": "all"}[kind]
        own = None
    else:
        own = x.dtype
    leaf = _plain_load(x)
    if leaf is None:
        return None
    stored = leaf.dtype
    if own is None:  # the truth of a converted value is that of the stored one
        return kind, leaf.attr
    kept = int64 if kind in ("sum", "prod") and stored.category < 2 else compute_dtype(stored)
    return (kind, leaf.attr) if own is kept and (kind != "mean" or stored.is_floating_point) else None


def _one_primitive(spec: LoopSpec) -> tuple[str, list[tuple[str, Any]], dtype] | None:
    """(primitive, its operands, dtype it computes in) if the spec is one primitive as :mod:`fusetorch.triton_kernels.pointwise` does it.

    An operand is ``("load", input)``, ``("scalar", number)`` or ``("const", value)``.
    """
    if len(spec.values) != 1:
        return None
    e = spec.values[0]
    leaf = _plain_load(e)
    if leaf is not None and e.dtype is compute_dtype(spec.out_dtypes[0]):
        once = spec.out_dtypes[0] not in HALVES or leaf.dtype is float32 or leaf.dtype.itemsize <= 2  # else it is rounded twice
        return ("identity", [("load", leaf.attr)], spec.out_dtypes[0]) if once else None
    if e.op in ("load", "scalar", "const", "iota", "count", "reduce", "cast", "philox"):
        return None
    operands = []
    for a in e.args:
        leaf = _plain_load(a)
        if leaf is not None:
            operands.append(("load", leaf.attr))
        elif a.op in ("scalar", "const"):
            operands.append((a.op, a.attr))
        else:
            return None
    compute = e.args[-1].dtype
    return (e.op, operands, compute) if any(kind == "load" for kind, _ in operands) else None


# ---------------------------------------------------------------------------------------------------- the rest


def view(op: OpDef, a: DeviceArray, attrs: tuple) -> DeviceArray:
    """Runs a view op."""
    shape, strides, offset = op.body(a.shape, a.strides, a.offset, *attrs)
    if op.retype is not None:
        return DeviceArray(a.storage, tuple(shape), tuple(strides), offset, op.retype(a.dtype))
    return a.view(tuple(shape), tuple(strides), offset)


def opaque(op: OpDef, operands: Sequence[Any], attrs: tuple) -> list[DeviceArray]:
    """Runs an op's own kernel; ``NotImplementedError`` where it has none for this device."""
    kernel = op.kernels.get("cuda")
    if kernel is None:
        found = ", ".join(f"{x.dtype}{list(x.shape)}" for o in operands if o is not None
                          for x in (o if isinstance(o, (list, tuple)) else (o,)))
        raise NotImplementedError(f"{op.name}: not implemented for device 'cuda' yet (operands {found}). Move the operands with .cpu(), "
                                  "and the result back with .cuda()")
    arrays = [_arrays(o) for o in operands]
    at = next((a.storage.device_index for o in arrays for a in (o if isinstance(o, list) else [o]) if type(a) is DeviceArray), 0)
    arrays = [_here(a, at) for a in arrays]
    given = [a for o in arrays for a in (o if isinstance(o, list) else [o]) if type(a) is DeviceArray and a.dtype.is_complex]
    if given and op.name in _PART_BY_PART and not any(a in ("prod", "amax", "amin") for a in attrs):
        return _by_parts(kernel, arrays, attrs, given[0].dtype)
    try:
        out = kernel(*arrays, *attrs)
    except NoTritonType as error:
        found = ", ".join(f"{a.dtype}{list(a.shape)}" for a in given)
        raise NotImplementedError(f"{op.name}: {error} (operands {found}). Move the operands with .cpu(), and the result back with "
                                  ".cuda()") from None
    out = list(out) if isinstance(out, (tuple, list)) else [out]
    if not op.layout:
        return out
    layouts = [(a.shape, a.strides) for o in arrays for a in (o if isinstance(o, list) else [o]) if type(a) is DeviceArray]
    return [_with_strides(r, RESULT_LAYOUTS[op.layout](r.shape, layouts)) for r in out]


def _with_strides(a: DeviceArray, strides: tuple[int, ...] | None) -> DeviceArray:
    """A row-major array, or a copy with other dense strides."""
    if strides is None or strides == a.strides:
        return a
    out = DeviceArray(Storage(a.nbytes, a.storage.device_index), a.shape, strides, 0, a.dtype)
    copy(out, a)
    return out


#: Operations that move elements or add them up: what they do to a complex array, they do to either part.
_PART_BY_PART = frozenset({"gather_dim", "scatter_dim", "index", "put_at", "cumsum_dim", "im2col", "col2im", "embedding_rows",
                           "embedding_grad"})


def _by_parts(kernel: Callable[..., Any], arrays: list[Any], attrs: tuple, d: dtype) -> list[DeviceArray]:
    """Runs a kernel for real numbers on both parts of its complex operands."""
    def part(a: Any, k: int) -> Any:
        if isinstance(a, list):
            return [part(x, k) for x in a]
        return a.part(k) if type(a) is DeviceArray and a.dtype.is_complex else a

    real, imag = [kernel(*[part(a, k) for a in arrays], *attrs) for k in (0, 1)]
    out = memory.empty(real.shape, d, real.storage.device_index)
    copy(out.part(0), real)
    copy(out.part(1), imag)
    return [out]


def _arrays(o: Any) -> Any:
    return o if o is None else [t._a for t in o] if isinstance(o, (list, tuple)) else o._a


def _here(a: Any, at: int) -> Any:
    if isinstance(a, list):
        return [_here(x, at) for x in a]
    return memory.from_numpy(a, at) if isinstance(a, np.ndarray) else a


def reshape(a: DeviceArray, shape: tuple[int, ...]) -> DeviceArray:
    """A contiguous array seen with another shape."""
    return a.view(tuple(shape), contiguous_strides(shape), a.offset)


def copy(dst: DeviceArray, src: DeviceArray | np.ndarray) -> None:
    """Writes ``src`` (broadcast) into ``dst``, converting."""
    from .triton_kernels import pointwise
    if not isinstance(src, DeviceArray):
        src = memory.from_numpy(src, dst.storage.device_index)
    if src.dtype is dst.dtype and src.shape == dst.shape and src.ptr == dst.ptr and src.strides == dst.strides:
        return
    if src.storage.device_index != dst.storage.device_index:
        src = pointwise.contiguous(src)
        here = memory.empty(src.shape, src.dtype, dst.storage.device_index)
        memory.copy_device(here, src)
        src = here
    if _clash(src, dst):
        aside = memory.empty(src.shape, src.dtype, src.storage.device_index)
        pointwise.copy(src, aside)
        src = aside
    pointwise.copy(src, dst)


def from_host(a: np.ndarray, device_index: int | None = None) -> DeviceArray:
    """An array on ``cuda:device_index`` (by default the current device) with the contents of a NumPy array."""
    return memory.from_numpy(a, _device.current_device() if device_index is None else device_index)


def to_host(a: DeviceArray) -> np.ndarray:
    """A copy of the contents as a NumPy array; waits for the device."""
    return memory.to_numpy(a)
