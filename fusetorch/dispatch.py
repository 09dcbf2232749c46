"""From an operation and tensors to a result: find the backend, run, wrap, record for autograd.

One function per kind of operation. They are what the derived public functions call (:mod:`fusetorch.functional`), and the only
place that decides between cpu, cuda and tracing.
"""
from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident
from typing import Any

import numpy as np

from . import cpu_backend
from .autograd import GradMode, Node, set_history
from .dtypes import dtype
from .ops.opdef import LoopSpec, OpDef, check_dtype, loop_spec
from .recorded import LoopNode, OpNode
from .runtime.batched import BatchedArray
from .runtime.meta import MetaArray
from .shapes import broadcast_shapes, reduced_shape, wrap_dims
from .tensor import Meta, Tensor, active_tracer, memory_of, tracer, wrap

ndarray = np.ndarray

#: Largest CPU tensor that the operators' short cut handles; -1 while tracing. See :mod:`fusetorch.attach`.
fast_limit = [1 << 16]


def backend_for(tensors: Sequence[Tensor], op: str, target: Tensor | None = None) -> Any:
    """The backend that runs an operation on these tensors; ``RuntimeError`` if they are on different devices. ``target``: the one
    that the operation writes to."""
    t = tracer[0]
    if t is not None and t.thread == get_ident():
        return t.backend(tensors, op, target)
    kind = None
    for x in tensors:
        a = x._a
        k = type(a)
        if k is ndarray:
            if kind is None:
                kind = k
            continue
        if k is not kind:
            if kind is not None and kind is not ndarray:
                _mixed(tensors, op)
            kind = k
    if kind is ndarray or kind is None:
        return cpu_backend
    if kind is MetaArray:
        if any(type(x._a) is ndarray and x._a.ndim for x in tensors):
            _mixed(tensors, op)
        from . import meta_backend
        return meta_backend
    if kind is BatchedArray:
        from . import batched_backend
        return batched_backend
    from . import cuda_backend
    if kind is not cuda_backend.DeviceArray:
        raise RuntimeError(f"{op}: a tensor traced by fusetorch.compile was used after its trace had ended; return it from "
                           "the compiled function instead of keeping it in a global or closure")
    devices = {x._a.storage.device_index for x in tensors if type(x._a) is not ndarray}
    if len(devices) > 1 or any(type(x._a) is ndarray and x._a.ndim for x in tensors):
        _mixed(tensors, op)
    return cuda_backend


def _mixed(tensors: Sequence[Tensor], op: str) -> None:
    found = ", ".join(f"{x.device}{list(x.shape)}" for x in tensors)
    raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices in {op}: {found}. "
                       "Move one with .to(device).")


def _small(spec: LoopSpec, arrays: Sequence[Any], scalars: Sequence[Any]) -> list[ndarray] | None:
    """The results on the CPU for few elements in operands of one shape; ``None`` for all others."""
    first = arrays[0]
    if type(first) is not ndarray or spec.own_layout or spec.reduces:
        return None
    shape = first.shape
    if len(arrays) > 1:
        for a in arrays:
            if type(a) is not ndarray or a.shape != shape or not a.flags.c_contiguous:
                return None
    if not cpu_backend.by_numpy(spec, first.size):
        if spec.complex or spec.single:
            return None
        if first.flags.c_contiguous:
            return cpu_backend.flat(spec, arrays, scalars)
        return cpu_backend.native(spec, arrays, scalars, shape, None, None)
    results = spec.numpy(shape, None, *arrays, *scalars)
    for r in results:
        if r.shape != shape:
            return None
    return results


def apply_loop(spec: LoopSpec, tensors: Sequence[Tensor], scalars: Sequence[Any] = (), record: bool = True) -> Any:
    """Runs an elementwise spec and records its derived gradient."""
    arrays = [t._a for t in tensors]
    results = _small(spec, arrays, scalars) if fast_limit[0] >= 0 else None
    if results is None:
        backend = backend_for(tensors, spec.name)
        results = backend.loop(spec, [t._a for t in tensors], scalars, None, None)  # a trace has put symbolic arrays there
    if len(results) == 1:
        out = wrap(results[0])
        if record and GradMode.enabled:
            for t in tensors:
                if t._req:
                    record_loop(spec, tensors, scalars, (out,))
                    break
        return out
    outs = tuple([wrap(a) for a in results])
    if record and GradMode.enabled and any([t._req for t in tensors]):
        record_loop(spec, tensors, scalars, outs)
    return outs


def record_loop(spec: LoopSpec, tensors: Sequence[Tensor], scalars: Sequence[Any], outs: Sequence[Tensor]) -> Node | None:
    """Gives ``outs`` their history."""
    if True not in spec.differentiable:
        return None
    if spec.op is not None and spec.op.vjp_fn is not None:
        raise AssertionError(f"{spec.name} has a hand-written vjp: record it as an OpNode")
    node = LoopNode(spec, tensors, scalars, outs)
    if len(outs) == 1:
        set_history(outs[0], node)
        return node
    for j, smooth in enumerate(spec.differentiable):
        if smooth:
            set_history(outs[j], node, j)
    return node


# ---------------------------------------------------------------------------------------------------- elementwise


_NUMBERS = (float, int, bool)


def spec_and_args(op: OpDef, operands: Sequence[Any], params: Sequence[Any]) -> tuple[LoopSpec, list[Tensor], list[Any]]:
    if len(operands) == 1 and params == op.unset and isinstance(operands[0], Tensor):
        a = operands[0]._a
        if type(a) is ndarray and a.ndim:
            spec = op.specs.get((a.dtype.num << 2 | 2, *op.unset_key))
            if spec is not None:
                return spec, [operands[0]], []
    key: list[Any] = []
    tensors: list[Tensor] = []
    scalars: list[Any] = []
    for o in operands:
        if isinstance(o, Tensor):
            a = o._a
            if type(a) is ndarray:  # a number, which hashes faster than a dtype
                key.append(a.dtype.num << 2 | (2 if a.ndim else 0 if o._x is not None and o._x.wrapped else 1))
            else:
                key.append(_kind(o))
            tensors.append(o)
        elif o is None:
            key.append(None)
        elif type(o) in _NUMBERS and (key or op.numbers == "any") and op.numbers != "none":
            key.append(type(o))
            scalars.append(o)
        else:
            if isinstance(o, (np.number, np.bool_)):
                o = o.item()
            if (op.numbers != "any" and (op.numbers == "none" or not key)) or not isinstance(o, (int, float, complex)):
                raise _not_a_tensor(op, len(key), o)
            key.append(_number_kind(o))
            scalars.append(o)
    odd = False
    if params:
        for is_scalar, v in zip(op.scalar_params, params):
            if not is_scalar:
                key.append(v)
            elif v is None:
                key.append(True)
            else:
                key.append(False)
                scalars.append(v.item() if isinstance(v, Tensor) else v)
                odd = odd or type(v) is complex or (type(v) is float and op.name in _WITH_ALPHA)
    key_t = tuple(key)
    spec = op.specs.get(key_t)
    if spec is None:
        kinds = [None if o is None else _kind(o) if isinstance(o, Tensor) else _number_kind(o) for o in operands]
        spec = op.specs[key_t] = loop_spec(op, kinds, params)
    if odd:
        _check_scalars(op, spec.out_dtypes[0], scalars)
    return spec, tensors, scalars


_WITH_ALPHA = ("add", "sub")


def _check_scalars(op: OpDef, d: dtype, scalars: Sequence[Any]) -> None:
    """Raises PyTorch's errors where a number would lose its fraction or imaginary part."""
    for v in scalars:
        if type(v) is complex and not d.is_complex:
            raise RuntimeError(f"{op.name}: value cannot be converted to type {d} without overflow: {v}")
        if type(v) is float and d.category < 2:
            raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")


def _kind(t: Tensor) -> tuple[dtype, int]:
    """What of a tensor decides about promotion; see :func:`loop_spec`."""
    return t.dtype, 2 if t._a.shape else 0 if t._x is not None and t._x.wrapped else 1


def _number_kind(o: Any) -> type:
    if isinstance(o, (bool, np.bool_)):
        return bool
    return int if isinstance(o, (int, np.integer)) else float if isinstance(o, (float, np.floating)) else complex


def _not_a_tensor(op: OpDef, k: int, o: Any) -> TypeError:
    wanted = "Tensor" if op.numbers == "none" or (op.numbers == "rest" and k == 0) else "Tensor or Number"
    return TypeError(f"{op.name}(): argument '{op.operands[k]}' (position {k + 1}) must be {wanted}, not {type(o).__name__}")


def elementwise(op: OpDef, operands: Sequence[Any], params: Sequence[Any] = (), out: Tensor | None = None) -> Any:
    """Calls an elementwise op: broadcasting, promotion, run, record."""
    if op.check_fn is not None:
        op.check_fn(*operands, *params)
    if op.instead_fn is not None and (result := op.instead_fn(*operands, *params)) is not None:
        return result if out is None else _into(op, result, out, operands)
    spec, tensors, scalars = spec_and_args(op, operands, params)
    if not tensors:
        from .ops.creation import tensor
        return elementwise(op, [None if o is None else tensor(o) for o in operands], params, out)
    if op.vjp_fn is None:
        result = apply_loop(spec, tensors, scalars, op.differentiable)
    else:
        backend = backend_for(tensors, op.name)
        outs = [wrap(a) for a in backend.loop(spec, [t._a for t in tensors], scalars, None, None)]
        _record(op, tensors, operands, _attrs(op, params), outs)
        result = outs[0] if len(outs) == 1 else tuple(outs)
    return result if out is None else _into(op, result, out, operands)


def unary(op: OpDef, t: Any, out: Tensor | None = None) -> Any:
    """:func:`elementwise` for one operand and no parameters: small CPU tensors go straight to NumPy."""
    if out is None and isinstance(t, Tensor) and type(t._a) is ndarray and t._a.ndim and fast_limit[0] >= 0:
        a = t._a
        spec = op.specs.get((a.dtype.num << 2 | 2,))
        if spec is not None and spec.direct:
            if cpu_backend.by_numpy(spec, a.size) or (spec.single and a.size <= fast_limit[0]):
                made = spec.numpy(a.shape, None, a)
            elif spec.complex or spec.single:
                return elementwise(op, (t,), (), out)
            else:
                made = cpu_backend.flat(spec, (a,), ()) if a.flags.c_contiguous else cpu_backend.native(spec, (a,), (), a.shape, None, None)
            r = wrap(made[0])
            if t._req and GradMode.enabled:
                if op.vjp_fn is not None:
                    if op.differentiable and spec.differentiable[0]:
                        OpNode.of_one(op, t, {}, r)
                elif op.differentiable and spec.differentiable[0]:
                    LoopNode.of_one(spec, t, r)
            return r
    return elementwise(op, (t,), (), out)


def _into(op: OpDef, result: Any, out: Any, inputs: Sequence[Any] = ()) -> Any:
    from .writing import write_out
    return write_out(op.name, result, out, op.out, inputs)


def _attrs(op: OpDef, params: Sequence[Any]) -> dict[str, Any]:
    return dict(zip([p.name for p in op.params if p.role in ("scalar", "static")], params))


def _record(op: OpDef, tensors: Sequence[Tensor], operands: Sequence[Any], attrs: dict[str, Any],
            outs: Sequence[Tensor]) -> Node | None:
    """Gives ``outs`` a history with the op's own vjp, if gradients are being recorded."""
    if not GradMode.enabled or not op.differentiable:
        return None
    for t in tensors:
        if t._req:
            break
    else:
        return None
    live = [j for j, o in enumerate(outs) if (o._a.dtype.kind not in "iub" if type(o._a) is ndarray else o.dtype.category >= 2)]
    if not live:
        return None
    node = OpNode(op, tensors, attrs, len(outs))
    if op.saves:
        node.save(dict(zip(op.operands, operands)), outs)
    for j in live:
        set_history(outs[j], node, j)
    return node


# ---------------------------------------------------------------------------------------------------- reductions


def _reduced(op: OpDef, t: Any, params: Sequence[Any], dim: Any, keepdim: bool) -> Any:
    """:func:`reduction` of one CPU tensor with elements, of a kind that was seen before; ``None`` for all others."""
    if not isinstance(t, Tensor) or type(t._a) is not ndarray:
        return None
    a = t._a
    rank = a.ndim
    if params == op.unset:
        key = op.unset_key
    else:
        key = tuple([v is None if s else v for s, v in zip(op.scalar_params, params)])
        if False in [k for s, k in zip(op.scalar_params, key) if s]:  # a number is given
            return None
    spec = op.specs.get((a.dtype.num << 2 | 2, *key))
    if spec is None or not rank or not a.size:
        return None
    if dim is None:
        axes = _AXES[rank]
    elif type(dim) is int and -rank <= dim < rank:
        axes = (dim % rank,)
    else:
        axes = wrap_dims(dim, rank)
    results = cpu_backend.reduced(spec, (a,), (), axes, keepdim)
    outs = [wrap(r) for r in results]
    if t._req and GradMode.enabled and op.differentiable:
        attrs = {"dim": axes, "keepdim": keepdim}
        if params:
            attrs = _attrs(op, params) | attrs
        if len(outs) > 1 or not spec.differentiable[0]:
            _record(op, (t,), (t,), attrs, outs)
        else:
            OpNode.of_one(op, t, attrs, outs[0])
    return outs[0] if len(outs) == 1 else tuple(outs)


#: The dimensions of a tensor, by how many they are.
_AXES = [tuple(range(rank)) for rank in range(65)]


def reduction(op: OpDef, operands: Sequence[Any], params: Sequence[Any], dim: Any, keepdim: bool = False,
              out: Any = None) -> Any:
    """Calls a reduction over ``dim`` (``None``: all dimensions)."""
    if out is None and len(operands) == 1 and fast_limit[0] >= 0:
        made = _reduced(op, operands[0], params, dim, keepdim)
        if made is not None:
            return made
    spec, tensors, scalars = spec_and_args(op, operands, params)
    shape = tensors[0]._a.shape if len(tensors) == 1 else broadcast_shapes(*[t._a.shape for t in tensors])
    axes = _AXES[len(shape)] if dim is None else wrap_dims(dim, len(shape))
    if op.nonempty and any([shape[d] == 0 for d in axes]):
        if dim is None:
            raise RuntimeError(f"{op.name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim "
                               "with the 'dim' argument.")
        raise IndexError(f"{op.name}(): Expected reduction dim {next(d for d in axes if shape[d] == 0)} to have non-zero size.")
    backend = backend_for(tensors, op.name)
    arrays = [t._a for t in tensors]  # a tracer makes them its own
    if backend is cpu_backend:
        results = cpu_backend.reduced(spec, arrays, scalars, axes, keepdim)
    else:
        results = backend.loop(spec, arrays, scalars, axes, None)
        if not keepdim and axes:
            left = reduced_shape(shape, axes, False)
            results = [backend.reshape(r, left) if not f else r for r, f in zip(results, spec.full)]
    outs = [wrap(a) for a in results]
    if GradMode.enabled and op.differentiable:
        if len(outs) == len(tensors) == 1 and fast_limit[0] >= 0:
            if tensors[0]._req and spec.differentiable[0]:
                attrs = _attrs(op, params) if params else {}
                attrs["dim"], attrs["keepdim"] = axes, keepdim
                OpNode.of_one(op, tensors[0], attrs, outs[0])
            return outs[0] if out is None else _into(op, outs[0], out, operands)
        attrs = _attrs(op, params) if params else {}
        attrs["dim"], attrs["keepdim"] = axes, keepdim
        _record(op, tensors, operands, attrs, outs)
    result = outs[0] if len(outs) == 1 else tuple(outs)
    return result if out is None else _into(op, result, out, operands)


# ---------------------------------------------------------------------------------------------------- views


def view(op: OpDef, t: Tensor, attrs: tuple) -> Tensor:
    """Calls a view op: shares memory, version counter and history."""
    tr = None if tracer[0] is None else active_tracer()
    a = t._a
    if tr is not None:
        r = tr.backend((t,), op.name).view(op, t._a, attrs)
    elif type(a) is ndarray:
        r = op.kernels["numpy"](a, *attrs)
    else:
        r = backend_for((t,), op.name).view(op, a, attrs)
    out = wrap(r)
    x = out._x = Meta()
    tx = t._x
    if tx is None:
        tx = t._x = Meta()
    count = tx.version
    if count is None:
        count = tx.version = [0]
    x.version = count
    if GradMode.enabled:
        if tx.base is None:
            x.base, x.chain = t, ((view, op, attrs),)
        else:
            x.base, x.chain = tx.base, (*tx.chain, (view, op, attrs))
        x.seen = count[0]
        if t._req:
            out._req = True
            x.node = OpNode.of_view(op, t, attrs) if fast_limit[0] >= 0 else OpNode(op, (t,), dict(zip(op.statics, attrs)))
    elif type(a) is ndarray:
        x.memory = memory_of(t)
    return out


# ---------------------------------------------------------------------------------------------------- opaque operations


def opaque(op: OpDef, operands: Sequence[Any], attrs: tuple, out: Any = None) -> Any:
    """Calls an op with its own kernels. An operand may be a tensor, ``None`` or (role ``tensors``) a list of tensors."""
    tensors: list[Tensor] = []
    for o in operands:
        if isinstance(o, Tensor):
            tensors.append(o)
        elif isinstance(o, (list, tuple)):
            tensors.extend(o)
        elif o is not None:
            name = op.operands[next(k for k, given in enumerate(operands) if given is o)]
            raise TypeError(f"{op.name}(): argument '{name}' must be Tensor, not {type(o).__name__}")
    if op.refuses and tensors:
        check_dtype(op, tensors[0].dtype)
    outs = [wrap(a) for a in backend_for(tensors, op.name).opaque(op, operands, attrs)]
    if GradMode.enabled and op.differentiable:
        for t in tensors:
            if t._req:
                _record(op, tensors, operands, dict(zip(op.statics, attrs)), outs)
                break
    result = outs[0] if len(outs) == 1 else tuple(outs)
    return result if out is None else _into(op, result, out)
