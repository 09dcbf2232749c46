"""Puts the derived methods and operators on :class:`~fusetorch.tensor.Tensor`, and the short cuts for small CPU tensors and for CUDA."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import cpu_backend, dispatch, functional  # noqa: F401 - functional derives what is attached here
from .autograd import GradMode, edge_of, keep, next_order
from .dispatch import fast_limit
from .dtypes import uint8
from .errors import warn
from .ops.conversion import host_array
from .ops.opdef import REGISTRY, OpDef, fn, op_names
from .recorded import LoopNode, grad_plan
from .runtime.memory import DeviceArray
from .runtime.meta import empty as empty_meta
from .tensor import Meta, Tensor, announce

ndarray = np.ndarray
_new = object.__new__


def _reflected(name: str) -> str:
    return "__r" + name[2:]


def _inplace(name: str) -> str:
    return "__i" + name[2:]


_COMPARISONS = {"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"}


def _operator(op: OpDef, slow: Callable, reflected: bool = False) -> Callable:
    """An operator that refuses what it does not know, so that Python can try the other operand."""
    def method(self: Tensor, other: Any) -> Any:
        if isinstance(other, (Tensor, int, float, complex, np.number, np.bool_, np.ndarray)):
            if isinstance(other, np.ndarray):
                other = fn.tensor(other)
            return slow(other, self) if reflected else slow(self, other)
        if slow is _eq or slow is _ne:
            return slow is _ne if other is None or isinstance(other, (str, tuple, list, dict)) else NotImplemented
        if hasattr(type(other), "__torch_function__"):
            return type(other).__torch_function__(slow, (type(other),), (other, self) if reflected else (self, other), {})
        return NotImplemented
    return method


_eq, _ne = fn.eq, fn.ne


def _fast_binary(op: OpDef, slow: Callable, ufunc: Callable, kinds: str, numbers: bool) -> Callable:
    """``a op b`` for small CPU tensors of one dtype: straight to the ufunc; everything else takes the ordinary way."""
    recorded = op.differentiable

    def method(a: Tensor, b: Any) -> Any:
        x = a._a
        if type(x) is ndarray and x.size <= fast_limit[0]:
            if isinstance(b, Tensor):
                y = b._a
                if type(y) is ndarray and x.dtype is y.dtype and y.size <= fast_limit[0] and x.dtype.kind in kinds:
                    if not ((a._req or b._req) and recorded and GradMode.enabled):
                        try:
                            r = ufunc(x, y)
                        except ValueError:  # the shapes do not broadcast: the ordinary way says so
                            return general(a, b)
                        t = _new(Tensor)
                        t._a = r if type(r) is ndarray else np.asarray(r)
                        t._req = False
                        t._x = None
                        return t
                    return record(a, b, x, y)
            elif numbers and (type(b) is float or type(b) is int) and x.dtype.kind == "f" and x.itemsize > 2 and x.ndim:
                r = ufunc(x, b)
                t = _new(Tensor)
                t._a = r
                t._req = False
                t._x = None
                if a._req and recorded and GradMode.enabled:
                    record_number(a, b, x, t)
                return t
        if type(x) is DeviceArray and fast_limit[0] >= 0:
            t = on_device(a, b, x)
            if t is not None:
                return t
        return general(a, b)

    def on_device(a: Tensor, b: Any, x: DeviceArray) -> Tensor | None:
        """Row-major CUDA operands of one shape and dtype, or one and a float: straight to the kernel; ``None`` for all others."""
        number = type(b) is float and x.dtype.is_floating_point
        if not x.shape or not (number or (isinstance(b, Tensor) and type(b._a) is DeviceArray and b._a.dtype is x.dtype)):
            return None
        entry = shorts.get((x.dtype, number))
        if entry is None:
            from . import cuda_backend
            spec = dispatch.spec_and_args(op, (a, b), (None,) * (len(op.params) - 2))[0]
            entry = shorts[x.dtype, number] = spec, cuda_backend.short_way(spec)
        r = entry[1]((x,), (b,)) if number else entry[1]((x, b._a), ())
        if r is None:
            return None
        t = _new(Tensor)
        t._a = r
        t._req = False
        t._x = None
        if recorded and (a._req or (not number and b._req)) and GradMode.enabled:
            dispatch.record_loop(entry[0], (a,) if number else (a, b), (b,) if number else (), (t,))
        return t

    def record(a: Tensor, b: Tensor, x: ndarray, y: ndarray) -> Tensor:
        key = x.dtype.num << 2 | a._req | b._req << 1
        entry = specs.get(key)
        if entry is None:
            spec = dispatch.spec_and_args(op, (a, b), (None,) * (len(op.params) - 2))[0]
            entry = specs[key] = spec, grad_plan(spec, (0,) * a._req + (1,) * b._req, (True,))
        try:
            r = ufunc(x, y)
        except ValueError:
            return general(a, b)
        t = _new(Tensor)
        t._a = r if type(r) is ndarray else np.asarray(r)
        t._req = True
        t._x = m = _new(Meta)
        m.node = node = _new(LoopNode)
        node.order = next_order()
        ax, bx = a._x, b._x
        # the common edges in line: a leaf, or the output of a node that is no view
        node.edges = ((None if not a._req else a if ax is None else edge_of(a) if ax.base is not None or ax.node is None
                       else (ax.node, ax.index)),
                      (None if not b._req else b if bx is None else edge_of(b) if bx.base is not None or bx.node is None
                       else (bx.node, bx.index)))
        node.spec, node.plan = entry
        node.shapes = (x.shape, y.shape)
        inputs, results = node.plan.saves
        if inputs:
            node.inputs = {k: keep(b if k else a) for k in inputs}
        if results:
            node.outputs = {0: keep(t, 0)}
        return t

    def record_number(a: Tensor, b: float, x: ndarray, t: Tensor) -> None:
        key = x.dtype.num, type(b)
        plan = with_number.get(key)
        if plan is None:
            spec = dispatch.spec_and_args(op, (a, b), (None,) * (len(op.params) - 2))[0]
            plan = with_number[key] = grad_plan(spec, (0,), (True,)), spec
        t._req = True
        t._x = m = _new(Meta)
        m.node = node = _new(LoopNode)
        node.order = next_order()
        node.edges = (edge_of(a),)
        node.plan, node.spec = plan
        node.shapes = (x.shape,)
        node.scalars = (b,)
        if node.plan.saves != ((), ()):
            node.save((a,), (t,))

    specs: dict[int, Any] = {}
    with_number: dict[tuple, Any] = {}
    shorts: dict[tuple, Any] = {}
    general = _operator(op, slow)
    return method


#: operator: (ufunc, dtype kinds it may take, whether a Python float may be the right operand)
_FAST: dict[str, tuple[Callable, str, bool]] = {
    "__add__": (np.add, "fiu", True), "__sub__": (np.subtract, "fiu", True), "__mul__": (np.multiply, "fiu", True),
    "__truediv__": (np.true_divide, "f", True), "__lt__": (np.less, "fiub", True), "__le__": (np.less_equal, "fiub", True),
    "__gt__": (np.greater, "fiub", True), "__ge__": (np.greater_equal, "fiub", True), "__eq__": (np.equal, "fiub", True),
    "__ne__": (np.not_equal, "fiub", True),
}


class Method:
    """A method that is derived when it is first used, and then takes its own place."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def op(self) -> OpDef:
        """The operation."""
        return getattr(fn, self.name).op

    def __get__(self, t: Tensor | None, cls: type) -> Any:
        f = getattr(fn, self.name)
        if vars(Tensor).get(self.name) is self:
            setattr(Tensor, self.name, f)
        return f.__get__(t, cls)


def attach() -> None:
    """Attaches every method of the registry."""
    for op in REGISTRY.values():
        if op.method:
            for name in op_names(op):
                setattr(Tensor, name, Method(name))
        if op.inplace:
            for name in op_names(op):
                setattr(Tensor, name + "_", Method(name + "_"))
        if not op.operators:
            continue
        f, g = getattr(fn, op.name), getattr(fn, op.name + "_") if op.inplace else None
        for operator in op.operators:
            fast = _FAST.get(operator)
            setattr(Tensor, operator, _operator(op, f) if fast is None else _fast_binary(op, f, *fast))
            if operator in _COMPARISONS:
                continue
            setattr(Tensor, _reflected(operator), _operator(op, f, reflected=True))
            if op.inplace:
                setattr(Tensor, _inplace(operator), _operator(op, g))
    for operator, name in (("__neg__", "neg"), ("__abs__", "abs"), ("__pos__", "positive"), ("__invert__", "bitwise_not")):
        setattr(Tensor, operator, getattr(fn, name))
    for name, method in _SPECIAL.items():
        setattr(Tensor, name, method)


# ---------------------------------------------------------------------------------------------------- Python protocols


def _bool(self: Tensor) -> bool:
    n = self.numel()
    if n == 1:
        return bool(self.item())
    raise RuntimeError("Boolean value of Tensor with no values is ambiguous" if n == 0 else
                       "Boolean value of Tensor with more than one value is ambiguous")


def _number(kind: Callable[[Any], Any]) -> Callable[[Tensor], Any]:
    def convert(self: Tensor) -> Any:
        return kind(self.item())
    return convert


def _index(self: Tensor) -> int:
    if self.dtype.category >= 2 or self.numel() != 1:
        raise TypeError("only integer tensors of a single element can be converted to an index")
    return int(self.item())


def _iter(self: Tensor) -> Any:
    if not self._a.shape:
        raise TypeError("iteration over a 0-d tensor")
    return iter(self.unbind(0))


def _array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    a = self.numpy()
    return a if dtype is None else a.astype(dtype)


def _array_wrap(self: Tensor, array: np.ndarray, context: Any = None, return_scalar: bool = False) -> Tensor:
    return fn.from_numpy(np.asarray(array))


def _contains(self: Tensor, element: Any) -> bool:
    return bool((self == element).any())


def _repr(self: Tensor) -> str:
    from .printing import tensor_repr
    return tensor_repr(self)


def _to_sparse(self: Tensor, sparse_dim: int | None = None, *, layout: Any = None) -> Tensor:
    """The entries that are not zero, in coordinate format; see :mod:`fusetorch.sparse`."""
    import importlib
    return importlib.import_module("fusetorch.sparse").to_sparse(self, sparse_dim, layout=layout)


def _in_layout(name: str) -> Callable[..., Tensor]:
    def convert(self: Tensor, dense_dim: int | None = None) -> Tensor:
        from .formats import sparse_coo, sparse_csc, sparse_csr
        return _to_sparse(self, layout={"coo": sparse_coo, "csr": sparse_csr, "csc": sparse_csc}[name])
    convert.__name__ = convert.__qualname__ = f"to_sparse_{name}"
    convert.__doc__ = f"The entries that are not zero, in the layout ``torch.sparse_{name}``."
    return convert


def _no_entries(name: str, wanted: str) -> Callable[[Tensor], Any]:
    def refuse(self: Tensor) -> Any:
        raise RuntimeError(f"{name} expected sparse {wanted}tensor layout but got Strided")
    refuse.__name__ = refuse.__qualname__ = name
    refuse.__doc__ = "Offered by sparse tensors."
    return refuse


def _format(self: Tensor, spec: str) -> str:
    """A 0-d tensor is formatted as the number that it holds."""
    if self.ndim == 0 and type(self) is Tensor and not self.is_meta:
        return format(self.item(), spec)
    return object.__format__(self, spec)


def _copied(t: Tensor, memo: dict) -> Any:
    """The array of a deep copy: a CPU memory is copied once, and its views become views of the copy."""
    if dispatch.active_tracer() is not None or type(t._a) is not ndarray or t._a.size == 0:
        return t.detach().clone()._a
    from .ops.memory import from_bytes, memory_bytes, offset_in_memory
    held = memory_bytes(t)
    key = "memory", held.__array_interface__["data"][0], held.nbytes
    if key not in memo:
        memo[key] = cpu_backend.empty((held.nbytes,), uint8)
        memo[key][...] = held
    return from_bytes(memo[key], t.dtype, t._a.shape, t.stride(), offset_in_memory(t))


def _deepcopy(self: Tensor, memo: dict) -> Tensor:
    if id(self) in memo:
        return memo[id(self)]
    if self.grad_fn is not None:
        raise RuntimeError("Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment.")
    new = _new(type(self))
    new._a, new._req, new._x = _copied(self, memo), self._req, None
    memo[id(self)] = announce(new)
    if self.grad is not None:
        new.grad = _deepcopy(self.grad, memo)
    for k, v in self.__dict__.items():
        import copy
        new.__dict__[k] = copy.deepcopy(v, memo)
    return new


def _rebuild(cls: type, array: np.ndarray, device: str, requires_grad: bool, extra: dict) -> Tensor:
    t = _new(cls)
    t._a, t._req, t._x = fn.from_numpy(array).to(device=device)._a, requires_grad, None
    t.__dict__.update(extra)
    return announce(t)


def _rebuild_meta(cls: type, d: Any, shape: tuple, strides: tuple, requires_grad: bool, extra: dict) -> Tensor:
    t = _new(cls)
    t._a, t._req, t._x = empty_meta(shape, d, strides), requires_grad, None
    t.__dict__.update(extra)
    return announce(t)


def _reduce(self: Tensor, protocol: int) -> tuple:
    if self.is_meta:
        return _rebuild_meta, (type(self), self.dtype, tuple(self._a.shape), self.stride(), self._req, dict(self.__dict__))
    return _rebuild, (type(self), np.ascontiguousarray(host_array(self.detach())), str(self.device), self._req, dict(self.__dict__))


def _transposed(self: Tensor) -> Tensor:
    if self.ndim not in (0, 2):
        warn("The use of `x.T` on tensors of dimension other than 2 to reverse their shape is deprecated and it will throw an error in a "
             "future release. Consider `x.mT` to transpose batches of matrices or `x.permute(*torch.arange(x.ndim - 1, -1, -1))` to "
             "reverse the dimensions of a tensor.")
    return fn.permute_dims(self, tuple(range(self.ndim))[::-1])


def _matrix_transposed(self: Tensor) -> Tensor:
    if self.ndim < 2:
        raise RuntimeError(f"tensor.mT is only supported on matrices or batches of matrices. Got {self.ndim}-D tensor.")
    return self.transpose(-1, -2)


def _adjoint(self: Tensor) -> Tensor:
    if self.ndim not in (0, 2):
        raise RuntimeError(f"tensor.H is only supported on matrices (2-D tensors). Got {self.ndim}-D tensor.")
    return fn.adjoint(self)


def _matrix_adjoint(self: Tensor) -> Tensor:
    if self.ndim < 2:
        raise RuntimeError(f"tensor.mH is only supported on matrices or batches of matrices. Got {self.ndim}-D tensor.")
    return fn.adjoint(self)


def _set_part(part: str) -> Callable[[Tensor, Any], None]:
    def assign(self: Tensor, value: Any) -> None:
        getattr(fn, part)(self).copy_(value)
    return assign


def _where(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    """``self`` where ``condition``, else ``other``."""
    return fn.where(condition, self, other)


def _is_pinned(self: Tensor) -> bool:
    return False


def _same(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return self


_SPECIAL: dict[str, Any] = {
    "__bool__": _bool, "__int__": _number(int), "__float__": _number(float), "__complex__": _number(complex),
    "__index__": _index, "__iter__": _iter,
    "__array__": _array, "__array_wrap__": _array_wrap, "__contains__": _contains, "__repr__": _repr, "__format__": _format,
    "to_sparse": _to_sparse, **{f"to_sparse_{name}": _in_layout(name) for name in ("coo", "csr", "csc")},
    **{name: _no_entries(name, wanted) for name, wanted in {
        "coalesce": "coordinate ", "is_coalesced": "coordinate ", "indices": "coordinate ", "values": "", "crow_indices": "row compressed ",
        "col_indices": "row compressed ", "ccol_indices": "column compressed ", "row_indices": "column compressed "}.items()},
    "__deepcopy__": _deepcopy, "__reduce_ex__": _reduce, "T": property(_transposed), "mT": property(_matrix_transposed),
    "H": property(_adjoint), "mH": property(_matrix_adjoint), "real": property(fn.real, _set_part("real")),
    "imag": property(fn.imag, _set_part("imag")),
    "__hash__": Tensor.__hash__, "where": _where, "is_pinned": _is_pinned, "pin_memory": _same,
}

attach()
