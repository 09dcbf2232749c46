"""``torch._foreach_*``: an operation on each tensor of a list, as optimizers of other packages are written.

``_foreach_add(tensors, other)`` is ``tuple(torch.add(t, other) for t in tensors)``; ``other`` may also be a list, with one entry for each
tensor. The names that end in ``_`` change the tensors and return their list. In a compiled function all of them fuse.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import fusetorch as torch
from fusetorch.tensor import Tensor

_UNARY = ("abs acos asin atan ceil cos cosh erf erfc exp expm1 floor frac lgamma log log10 log1p log2 neg reciprocal round rsqrt sigmoid "
          "sign sin sinh sqrt tan tanh trunc").split()
_BINARY = "add sub mul div clamp_min clamp_max minimum maximum pow".split()

__all__ = [f"_foreach_{name}{form}" for name in (*_UNARY, *_BINARY, "addcmul", "addcdiv", "lerp") for form in ("", "_")]
__all__ += ["_foreach_clone", "_foreach_copy_", "_foreach_max", "_foreach_mm", "_foreach_norm", "_foreach_powsum", "_foreach_zero_"]

Tensors = Sequence[Tensor]


def _checked(tensors: Tensors) -> Tensors:
    if not isinstance(tensors, (list, tuple)) or not all(isinstance(t, Tensor) for t in tensors):
        raise TypeError(f"a list or tuple of tensors is expected, not {type(tensors).__name__}")
    if not tensors:
        raise RuntimeError("Tensor list must have at least one tensor.")
    return tensors


def _each(tensors: Tensors, other: Any) -> Sequence[Any]:
    """``other`` for each tensor: a list as it stands, a number or a 0-d tensor repeated."""
    if isinstance(other, (list, tuple)):
        if len(other) != len(tensors):
            if other and not isinstance(other[0], Tensor):
                raise RuntimeError("Tensor list must have same number of elements as scalar list.")
            raise RuntimeError(f"Tensor lists must have the same number of tensors, got {len(tensors)} and {len(other)}")
        return other
    if isinstance(other, Tensor) and other.dim():
        raise RuntimeError(f"scalar tensor expected to be 0 dim but it has {other.dim()} dimensions and {other.numel()} elements.")
    return [other] * len(tensors)


def _forms(name: str, each: Callable[[str], Callable[..., tuple]]) -> None:
    """Defines ``_foreach_<name>`` and ``_foreach_<name>_`` from a function that gives the results of an operation's name."""
    new, in_place = each(name), each(name + "_")

    def inplace(self: Tensors, *args: Any, **kwargs: Any) -> Tensors:
        in_place(self, *args, **kwargs)
        return self

    for f, full in ((new, f"_foreach_{name}"), (inplace, f"_foreach_{name}_")):
        f.__name__ = f.__qualname__ = full
        f.__doc__ = f"``Tensor.{full[9:]}`` of each tensor of a list."
        globals()[full] = f


def _unary(name: str) -> Callable[..., tuple]:
    method = getattr(Tensor, name)

    def f(self: Tensors) -> tuple:
        return tuple([method(t) for t in _checked(self)])
    return f


def _binary(name: str) -> Callable[..., tuple]:
    own = name.rstrip("_")
    method = getattr(Tensor, {"minimum": "clamp_max", "maximum": "clamp_min"}.get(own, own) + name[len(own):])

    def f(self: Tensors, other: Any = None, *, scalar: Any = None, scalars: Any = None, exponent: Any = None, **kwargs: Any) -> tuple:
        other = next((o for o in (other, scalar, scalars, exponent) if o is not None), None)
        if name == "pow" and not isinstance(self, (list, tuple)):
            return tuple([torch.pow(self, t) for t in _checked(other)])
        others = _each(_checked(self), other)
        if kwargs and not isinstance(others[0], Tensor):
            raise TypeError(f"_foreach_{name}() received an invalid combination of arguments: {', '.join(kwargs)} goes with tensors")
        return tuple([method(t, o, **kwargs) for t, o in zip(self, others)])
    return f


def _pointwise(name: str) -> Callable[..., tuple]:
    method = getattr(Tensor, name)

    def f(self: Tensors, tensor1: Tensors, tensor2: Tensors, value: Any = 1, *, scalars: Any = None) -> tuple:
        value = value if scalars is None else scalars
        if isinstance(value, Tensor):
            if value.dim() != 1:
                raise RuntimeError(f"Expected packed scalar Tensor to be of dimension 1. Got {value.dim()} instead.")
            value = value.tolist()
        return tuple([method(t, a, b, value=v) for t, a, b, v in zip(_checked(self), _each(self, tensor1), _each(self, tensor2),
                                                                     _each(self, value))])
    return f


def _between(name: str) -> Callable[..., tuple]:
    method = getattr(Tensor, name)

    def f(self: Tensors, tensors1: Tensors, weight: Any = None, *, weights: Any = None) -> tuple:
        weight = weights if weight is None else weight
        return tuple([method(t, a, w) for t, a, w in zip(_checked(self), _each(self, tensors1), _each(self, weight))])
    return f


for _names, _make in ((_UNARY, _unary), (_BINARY, _binary), (["addcmul", "addcdiv"], _pointwise), (["lerp"], _between)):
    for _name in _names:
        _forms(_name, _make)


def _foreach_clone(self: Tensors) -> tuple[Tensor, ...]:
    """A copy of each tensor."""
    return tuple([t.clone() for t in _checked(self)])


def _foreach_copy_(self: Tensors, src: Tensors, non_blocking: bool = False) -> Tensors:
    """Copies each tensor of ``src`` into that of ``self``."""
    for t, s in zip(_checked(self), _each(self, src)):
        t.copy_(s)
    return self


def _foreach_zero_(self: Tensors) -> Tensors:
    """Fills each tensor with zeros."""
    for t in _checked(self):
        t.zero_()
    return self


def _foreach_max(self: Tensors) -> tuple[Tensor, ...]:
    """The largest element of each tensor."""
    return tuple([t.max() for t in _checked(self)])


def _foreach_mm(self: Tensors, mat2: Tensors) -> tuple[Tensor, ...]:
    """The matrix products of pairs."""
    return tuple([t.mm(m) for t, m in zip(_checked(self), _each(self, mat2))])


def _foreach_norm(self: Tensors, ord: Any = 2, dtype: Any = None) -> tuple[Tensor, ...]:
    """The norm of each tensor as a vector."""
    return tuple([torch.linalg.vector_norm(t, ord, dtype=dtype) for t in _checked(self)])


def _foreach_powsum(self: Tensors, ord: Any = 2, dtype: Any = None) -> tuple[Tensor, ...]:
    """The sum of ``abs(t) ** ord`` of each tensor."""
    return tuple([(t if dtype is None else t.to(dtype)).abs().pow(ord).sum() for t in _checked(self)])
