"""What a compiled function returns, as a template: its tensors are numbers, all else is made anew in each call or stays as it is."""
from __future__ import annotations

import copy
import enum
import types
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..formats import layout, memory_format
from ..runtime.device import device
from ..tensor import Tensor
from .signatures import SIMPLE

#: What may be given out again in every call.
_UNCHANGING = (*SIMPLE, device, layout, memory_format, np.generic, range, slice, type, types.FunctionType, types.BuiltinFunctionType,
               types.ModuleType, type(...), enum.Enum)


class _Leaf:
    """Stands for a tensor of the result."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


class _Object:
    """Stands for an object of a user's class with these attributes."""

    __slots__ = ("kind", "attributes")

    def __init__(self, kind: type, attributes: dict[str, Any]) -> None:
        self.kind, self.attributes = kind, attributes


class _Copy:
    """Stands for a copy of a NumPy array or a set: there can be no tensor's value in it."""

    __slots__ = ("original",)

    def __init__(self, original: Any) -> None:
        self.original = original


class Shape:
    """Makes templates of results. ``found``: their tensors; ``fresh``: objects in them that may be different ones in each call.

    Args:
        known: the objects that were there before the call: they stand for themselves.
    """

    def __init__(self, known: Iterable[Any]) -> None:
        self.found: list[Tensor] = []
        self.fresh: list[Any] = []
        self._known = set(map(id, known))
        self._open: list[Any] = []

    def template(self, x: Any) -> Any:
        """A result with its tensors replaced by their numbers; :func:`fill` undoes that."""
        if isinstance(x, Tensor):
            for i, t in enumerate(self.found):
                if t is x:
                    return _Leaf(i)
            self.found.append(x)
            return _Leaf(len(self.found) - 1)
        if isinstance(x, _UNCHANGING):
            return x
        if any(x is o for o in self._open):  # it contains itself
            self.fresh.append(x)
            return x
        self._open.append(x)
        try:
            return self._container(x)
        finally:
            self._open.pop()

    def _container(self, x: Any) -> Any:
        if isinstance(x, tuple) and hasattr(x, "_fields"):
            return type(x)(*map(self.template, x))
        if isinstance(x, (list, tuple)):
            return type(x)(map(self.template, x))
        if isinstance(x, dict):
            return _same_kind(x, {k: self.template(v) for k, v in x.items()})
        if id(x) in self._known:
            return x
        if isinstance(x, np.ndarray) or (isinstance(x, (set, frozenset)) and all(isinstance(v, _UNCHANGING) for v in x)):
            return _Copy(x.copy())
        if is_plain(x):
            return _Object(type(x), {k: self.template(v) for k, v in vars(x).items()})
        self.fresh.append(x)
        return x


def is_plain(x: Any) -> bool:
    """Whether an object of a user's class is nothing but its attributes."""
    kind = type(x)
    if kind is types.SimpleNamespace:
        return True
    if type(getattr(x, "__dict__", None)) is not dict or kind.__module__.partition(".")[0] in ("builtins", "fusetorch", "numpy", "torch"):
        return False
    return kind.__new__ is object.__new__ and not callable(x) and not hasattr(kind, "__next__") and not any(
        vars(c).get("__slots__") for c in kind.__mro__)


def fill(x: Any, tensors: list[Tensor]) -> Any:
    """A template with tensors in place of their numbers."""
    kind = type(x)
    if kind is _Leaf:
        return tensors[x.index]
    if kind is _Object:
        new = x.kind.__new__(x.kind)
        new.__dict__.update({k: fill(v, tensors) for k, v in x.attributes.items()})
        return new
    if kind is _Copy:
        return x.original.copy()
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return kind(*[fill(v, tensors) for v in x])
    if isinstance(x, (list, tuple)):
        return kind([fill(v, tensors) for v in x])
    if isinstance(x, dict):
        return _same_kind(x, {k: fill(v, tensors) for k, v in x.items()})
    return x


def _same_kind(x: dict, items: dict) -> dict:
    """``items`` as the kind of dict that ``x`` is."""
    if type(x) is dict:
        return items
    new = copy.copy(x)
    for k, v in items.items():  # not update: a kind whose items are attributes too may refuse it
        new[k] = v
    return new
