"""Guards: what must still hold for a compiled plan to be the function.

Two parts. The *signature* of a call (:func:`signature`) is a hashable summary of its arguments and of global modes: another signature is
another plan. The *state* that the function reaches by itself, through closures, globals and attributes (:class:`StateGuard`), is
walked before tracing; numbers and strings are guarded by value, objects by identity, and the tensors met there are known to be
re-read through the object that holds them.
"""
from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import config, dtypes
from ..autograd import GradMode
from ..tensor import Tensor, structure_version

SIMPLE = (int, float, str, bool, bytes, type(None), complex, dtypes.dtype)
#: A container with more items than this is guarded by its length alone.
MAX_ITEMS = 512
_MISSING = object()
_SKIP_MODULES = ("fusetorch", "numpy", "builtins", "torch", "math", "functools", "itertools", "typing")


def signature(args: tuple, kwargs: dict[str, Any], leaves: list[Tensor]) -> tuple:
    """A hashable summary of a call; the tensors found are appended to ``leaves`` in order."""
    grad = GradMode.enabled
    parts: list[Any] = [grad, dtypes.get_default_dtype(), config.simulate_cuda]
    for a in args:
        parts.append(_summary(a, leaves, grad))
    for k in kwargs:
        parts.append(k)
        parts.append(_summary(kwargs[k], leaves, grad))
    return tuple(parts)


def _summary(a: Any, leaves: list[Tensor], grad: bool) -> Any:
    if isinstance(a, Tensor):
        for i, t in enumerate(leaves):
            if t is a:
                return ("same", i)
        leaves.append(a)
        x = a._a
        if type(x) is np.ndarray:
            return (x.dtype.num, x.shape, x.strides, a._req and grad, type(a))
        return (x.dtype, x.shape, x.strides, x.device, a._req and grad, type(a))
    if isinstance(a, SIMPLE):
        return (type(a), repr(a)) if isinstance(a, float) else (type(a), a)
    if isinstance(a, (list, tuple)):
        return (type(a), *[_summary(x, leaves, grad) for x in a])
    if isinstance(a, dict):
        return (dict, *[(k if isinstance(k, SIMPLE) else id(k), _summary(v, leaves, grad)) for k, v in a.items()])
    if isinstance(a, np.ndarray):
        return (np.ndarray, id(a))
    return (type(a), id(a))


class StateGuard:
    """The state a function reaches, as a list of checks. Build it before tracing, :meth:`holds` before each reuse."""

    def __init__(self, fn: Callable, extra: Iterable[Any] = ()) -> None:
        self.fast: list[tuple[dict, Any, Any]] = []     # dict, key, expected simple value
        self.same: list[tuple[dict, Any, Any]] = []     # dict, key, expected object
        self.cells: list[tuple[Any, Any, bool]] = []    # closure cell, expected, by value
        self.lengths: list[tuple[Any, int]] = []
        self.items: list[tuple[Any, int, Any, bool]] = []
        self.modules: list[tuple[dict, Any, Any]] = []  # entries checked only when some module's structure changed
        self.tensors: dict[int, Tensor] = {}
        self.keep: list[Any] = []
        self.version = structure_version()
        self._seen: set[int] = set()
        self._function(fn)
        for x in extra:
            self._walk(x, 0)
        del self._seen

    # ---- walking

    def _function(self, fn: Any) -> None:
        while isinstance(fn, types.MethodType):
            self._walk(fn.__self__, 0)
            fn = fn.__func__
        wrapped = getattr(fn, "__wrapped__", None)
        if wrapped is not None:
            self._function(wrapped)
        if not isinstance(fn, types.FunctionType):  # a module, or another callable object
            self._walk(fn, 0)
            call = vars(type(fn)).get("__call__")
            if isinstance(call, types.FunctionType) and call.__module__.split(".")[0] not in _SKIP_MODULES:
                self._function(call)
            return
        if id(fn) in self._seen:
            return
        self._seen.add(id(fn))
        for cell in fn.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:
                continue
            self.cells.append((cell, value, isinstance(value, SIMPLE)))
            self._walk(value, 0)
        for v in fn.__defaults__ or ():
            self._walk(v, 0)
        self._code(fn.__code__, fn.__globals__)

    def _code(self, code: types.CodeType, g: dict) -> None:
        for name in code.co_names:
            if name in g:
                self._entry(g, name, g[name], 0, code.co_names)
        for const in code.co_consts:
            if isinstance(const, types.CodeType):
                self._code(const, g)

    def _entry(self, d: dict, key: Any, value: Any, depth: int, names: tuple[str, ...] = ()) -> None:
        if isinstance(value, SIMPLE):
            self.fast.append((d, key, value))
            return
        if isinstance(value, types.ModuleType):
            root = value.__name__.split(".")[0]
            if root not in _SKIP_MODULES and not getattr(value, "__file__", "").endswith((".so",)):
                for n in names:
                    v = value.__dict__.get(n, _MISSING)
                    if v is not _MISSING and not isinstance(v, types.ModuleType):
                        self._entry(value.__dict__, n, v, depth + 1)
            return
        self.same.append((d, key, value))
        self._walk(value, depth)

    def _walk(self, x: Any, depth: int) -> None:
        if isinstance(x, SIMPLE) or id(x) in self._seen or depth > 6:
            return
        if isinstance(x, Tensor):
            self.tensors[id(x)] = x
            if x.grad is not None:
                self.tensors[id(x.grad)] = x.grad
            return
        if isinstance(x, (types.FunctionType, types.MethodType)):
            owner = getattr(x, "__module__", None) or ""
            if owner.split(".")[0] not in _SKIP_MODULES:
                self._function(x)
            elif isinstance(x, types.MethodType):
                self._walk(x.__self__, depth)
            return
        self._seen.add(id(x))
        self.keep.append(x)
        if isinstance(x, (list, tuple)):
            if isinstance(x, list):
                self.lengths.append((x, len(x)))
            if len(x) <= MAX_ITEMS:
                for i, v in enumerate(x):
                    if isinstance(x, list):
                        self.items.append((x, i, v, isinstance(v, SIMPLE)))
                    self._walk(v, depth + 1)
            return
        if isinstance(x, dict):
            self.lengths.append((x, len(x)))
            if len(x) <= MAX_ITEMS:
                for k, v in x.items():
                    self._entry(x, k, v, depth + 1)
            return
        if isinstance(x, (type, types.ModuleType, types.BuiltinFunctionType)) or callable(getattr(x, "_compile_skip", None)):
            return
        attributes = getattr(x, "__dict__", None)
        if attributes is None:
            return
        if "_parameters" in attributes and "_modules" in attributes:
            self._module(x, attributes, depth)
            return
        if type(x).__module__.split(".")[0] in _SKIP_MODULES and not hasattr(x, "step"):  # optimizers, schedules
            return
        for k, v in attributes.items():
            self._entry(attributes, k, v, depth + 1)
        self.lengths.append((attributes, len(attributes)))

    def _module(self, m: Any, attributes: dict, depth: int) -> None:
        for k, v in attributes.items():
            if k in ("_parameters", "_buffers", "_modules"):
                self.modules.append((attributes, k, v))
                for name, item in v.items():
                    self.modules.append((v, name, item))
                    self._walk(item, depth if k == "_modules" else depth + 1)
            elif isinstance(v, SIMPLE):
                self.fast.append((attributes, k, v))
            elif isinstance(v, (list, tuple, Tensor)) or (isinstance(v, dict) and not k.startswith("_")):
                self._entry(attributes, k, v, depth + 1)
        forward = getattr(type(m), "forward", None)
        if isinstance(forward, types.FunctionType) and not forward.__module__.startswith("fusetorch"):
            self._function(forward)

    # ---- checking

    def forget(self, holder: dict, key: str) -> None:
        """Drops the check of a number that the plan reads again at each call."""
        self.fast = [e for e in self.fast if not (e[0] is holder and e[1] == key)]
        owner = getattr(holder, "owner", None)  # the number is an item of a tuple, which a dict holds
        if owner is not None:
            self.same = [e for e in self.same if not (e[0] is owner[0] and e[1] == owner[1])]

    def failure(self) -> str | None:
        """The first check that no longer holds, in words; ``None`` if all do."""
        for d, k, v in self.fast:
            now = d.get(k, _MISSING)
            if now is not v and (type(now) is not type(v) or not (now == v or now != now and v != v)):
                return f"{k!r} was {v!r} and is now {'deleted' if now is _MISSING else repr(now)}"
        for cell, v, simple in self.cells:
            now = cell.cell_contents
            if now is not v and not (simple and type(now) is type(v) and now == v):
                return f"a closure variable was {_short(v)} and is now {_short(now)}"
        for x, n in self.lengths:
            if len(x) != n:
                return f"a {type(x).__name__} that the function reads had {n} items and has {len(x)}"
        for d, k, v in self.same:
            if d.get(k, _MISSING) is not v:
                return f"{k!r} now holds another object ({_short(d.get(k))})"
        for x, i, v, simple in self.items:
            if x[i] is not v and not (simple and type(x[i]) is type(v) and x[i] == v):
                return f"item {i} of a list changed to {_short(x[i])}"
        version = structure_version()
        if version != self.version:
            for d, k, v in self.modules:
                if d.get(k, _MISSING) is not v:
                    return f"module entry {k!r} was replaced"
            self.version = version
        return None


def _short(x: Any) -> str:
    text = repr(x) if isinstance(x, SIMPLE) else f"a {type(x).__name__}"
    return text if len(text) < 60 else text[:57] + "..."


def explain_miss(old: Iterable[tuple], new: tuple) -> str:
    """Which part of the signature differs from those seen so far, in words."""
    best: list[str] | None = None
    for sig in old:
        if len(sig) != len(new):
            diff = ["the number of arguments changed"]
        else:
            diff = [_difference(i, a, b) for i, (a, b) in enumerate(zip(sig, new)) if a != b]
        if best is None or len(diff) < len(best):
            best = diff
    return "; ".join(best or ["first call"])


def _difference(i: int, a: Any, b: Any) -> str:
    if i < 3:
        return f"{('grad mode', 'default dtype', 'device simulation')[i]} changed from {a} to {b}"
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        inner = [f"{x} -> {y}" for x, y in zip(a, b) if x != y]
        return f"argument {i - 3}: {', '.join(inner)}"
    return f"argument {i - 3} changed"
