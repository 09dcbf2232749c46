"""Results that go to memory which is already there: in-place forms, ``out=``, and results in the layout that a rule asks for."""
from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from .autograd import GradMode, check_inplace, edge_of, rebase, set_history
from .dispatch import apply_loop, backend_for, elementwise, ndarray, spec_and_args
from .dtypes import COMPLEX, can_cast
from .formats import RESULT_LAYOUTS
from .ops.opdef import LoopSpec, OpDef, fn
from .overlap import check_overlap
from .recorded import grad_plan
from .shapes import contiguous_strides
from .tensor import Tensor, active_tracer, strides_of, version_of, wrap


def write_out(name: str, result: Any, out: Any, rule: bool | str = False, inputs: Sequence[Any] = ()) -> Any:
    """Puts ``result`` into the tensor(s) given as ``out=``, resizing them if need be, as PyTorch does.

    ``rule``: with ``"exact"`` and ``"apart"`` they must have the result's dtype, else any that the result's may be cast to; with ``"made"``
    (by what makes new tensors) they are resized without a warning. ``RuntimeError`` where they overlap ``inputs`` in part.
    """
    if isinstance(result, tuple):
        if not isinstance(out, (tuple, list)) or len(out) != len(result):
            raise TypeError(f"{name}(): argument 'out' must be tuple of {len(result)} Tensors, not {type(out).__name__}")
        for r, o in zip(result, out):
            write_out(name, r, o, "exact" if name in ("max", "min") else rule, inputs)
        return out
    if not isinstance(out, Tensor):
        raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(out).__name__}")
    if GradMode.enabled and (out._req or result._req):
        raise RuntimeError(f"{name}(): functions with out=... arguments don't support automatic differentiation, but one of the "
                           "arguments requires grad.")
    if rule in ("exact", "apart") and result.dtype is not out.dtype:
        raise RuntimeError(f"{name}: Expected out tensor to have dtype {result.dtype}, but got {out.dtype} instead")
    if not can_cast(result.dtype, out.dtype):
        raise RuntimeError(f"{name}: result type {result.dtype} can't be cast to the desired output type {out.dtype}")
    if result.device != out.device:
        raise RuntimeError(f"{name}: Expected out tensor to be on {result.device}, but got {out.device} instead")
    check_inplace(out, name)
    if inputs and active_tracer() is None:
        check_overlap(name, out, inputs, rule == "apart")
    if out._a.shape != result._a.shape:
        if out.numel() and rule != "made":
            warnings.warn(f"An output with one or more elements was resized since it had shape {list(out.shape)}, which does not match the "
                          f"required output shape {list(result.shape)}. This behavior is deprecated; resize it to zero elements with "
                          "t.resize_(0) first.", UserWarning, stacklevel=4)
        out._a = result.to(out.dtype)._a
        bump(out)
    else:
        out.copy_(result)
    return out


def lay_out(rule: str, result: Any, args: Sequence[Any]) -> Any:
    """A composite's results as its rule wants them."""
    if isinstance(result, tuple):
        return type(result)(*[lay_out(rule, r, args) for r in result]) if hasattr(result, "_fields") else tuple(
            [lay_out(rule, r, args) for r in result])
    operands = [t for a in args for t in (a if isinstance(a, (list, tuple)) else (a,)) if isinstance(t, Tensor)]
    a = result._a
    if type(a) is ndarray and a.flags.c_contiguous and all([type(t._a) is ndarray and t._a.flags.c_contiguous for t in operands]):
        return result  # row-major comes from row-major by every rule
    strides = RESULT_LAYOUTS[rule](a.shape, [(t._a.shape, t._a.strides) for t in operands]) or contiguous_strides(a.shape)
    if all([n < 2 or s == t for n, s, t in zip(a.shape, strides, strides_of(a))]):
        return result
    order = sorted(range(len(strides)), key=lambda k: -strides[k])
    return fn.permute_dims(fn.clone_contiguous(fn.permute_dims(result, tuple(order))), tuple([order.index(k) for k in range(len(order))]))


def elementwise_(op: OpDef, operands: Sequence[Any], params: Sequence[Any] = ()) -> Tensor:
    """Calls an elementwise op in place on its first operand."""
    if op.check_fn is not None:
        op.check_fn(*operands, *params)
    target = operands[0]
    spec, tensors, scalars = spec_and_args(op, operands, params)
    name = op.name + "_"
    if spec.out_dtypes[0] is not target.dtype and not can_cast(spec.out_dtypes[0], target.dtype):
        raise RuntimeError(f"{name}: result type {spec.out_dtypes[0]} can't be cast to the desired output type {target.dtype}")
    check_inplace(target, name)
    recorded = GradMode.enabled and any([t._req for t in tensors])
    if not recorded:
        backend = backend_for(tensors, name, target)
        backend.loop(spec, [t._a for t in tensors], scalars, None, [target._a])
        bump(target)
        return target
    # backward may need the value from before the write
    before = _alias_with_history(target)
    safe = before.clone() if _reads_input(op, spec) else before
    result = elementwise(op, [safe if o is target else o for o in operands], params)
    assign(target, result, name)
    return target


#: Complex dtypes, as arrays of any backend name them.
_PAIRS = {*COMPLEX, *(d.np for d in COMPLEX)}


def update(op: OpDef, operands: Sequence[Any], params: Sequence[Any] = ()) -> None:
    """Calls an elementwise op once for each place of its operands' lists; its outputs are the new values of the first operands.

    An operand that is no list (a number, a 0-d tensor, ``None``) is the same for all places.
    """
    name = op.name
    each = [i for i, o in enumerate(operands) if isinstance(o, list)]
    found: Any = None
    for place in zip(*[operands[i] for i in each]):
        tensors = list(place)
        if tensors[0]._a.dtype in _PAIRS:  # a rule for real numbers, for either part
            tensors = [fn.view_as_real(t) if t.dtype.is_complex else t for t in tensors]
        kind = [(a.dtype, not a.shape) for a in [t._a for t in tensors]]
        if found is None or found[0] != kind:
            row = list(operands)
            for i, t in zip(each, tensors):
                row[i] = t
            spec, used, scalars = spec_and_args(op, row, params)
            found = kind, spec, used[len(tensors):], scalars, len(spec.values)
        _, spec, shared, scalars, count = found
        targets = tensors[:count]
        if shared:
            tensors += shared
        for t in targets:
            check_inplace(t, name)
        if GradMode.enabled and any([t._req for t in tensors]):
            kept = [t.clone() for t in targets] + tensors[count:]
            results = apply_loop(spec, kept, scalars)
            for t, r in zip(targets, results if isinstance(results, tuple) else (results,)):
                assign(t, r, name)
            continue
        backend = backend_for(tensors, name, targets[0])
        arrays = [t._a for t in tensors]
        backend.loop(spec, arrays, scalars, None, arrays[:count])
        for t in targets:
            bump(t)


def _reads_input(op: OpDef, spec: LoopSpec) -> bool:
    if op.vjp_fn is not None:
        return bool(op.saves) and op.saves != ("out",)
    plan = grad_plan(spec, tuple(range(len(spec.in_dtypes))), spec.differentiable)
    return ("in", 0) in plan.reads


def _alias_with_history(t: Tensor) -> Tensor:
    a = wrap(t._a)
    a._req = t._req
    node = t.grad_fn
    if node is not None:
        set_history(a, node, t._x.index)
    return a


def bump(t: Tensor) -> None:
    """Counts an in-place write."""
    version_of(t)[0] += 1


def assign(target: Tensor, result: Tensor, name: str) -> None:
    """Writes ``result`` into ``target``'s memory and makes its history ``target``'s."""
    if tuple(target._a.shape) != tuple(result._a.shape):
        raise RuntimeError(f"{name}: output with shape {list(target.shape)} doesn't match the broadcast shape {list(result.shape)}")
    if result.dtype is not target.dtype:
        result = result.to(target.dtype)
    backend = backend_for([target, result], name, target)
    backend.copy(target._a, result._a)
    bump(target)
    if GradMode.enabled:
        e = edge_of(result)
        if e is None:
            if target._x is not None and (target._x.node is not None or target._x.base is not None):
                rebase(target, None)
        elif isinstance(e, tuple):
            rebase(target, *e)
        else:
            rebase(target, *edge_of(result.clone()))


def inplace(name: str, target: Tensor, make: Any) -> Tensor:
    """The in-place form of any op: ``make(before)`` gives the new value from one that is safe to read and save."""
    check_inplace(target, name)
    before = _alias_with_history(target)
    if GradMode.enabled and target._req:
        before = before.clone()
    made = make(before)
    if not can_cast(made.dtype, target.dtype):
        raise RuntimeError(f"{name}: result type {made.dtype} can't be cast to the desired output type {target.dtype}")
    assign(target, made, name)
    return target
