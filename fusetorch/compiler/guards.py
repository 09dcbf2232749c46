"""Guards: what must still hold for a compiled plan to be the function.

Two parts. The *signature* of a call (:func:`signature`) is a hashable summary of its arguments and of global modes: another signature is
another plan. The *state* that the function reaches by itself, through closures, globals and attributes (:class:`StateGuard`), is
walked before tracing; numbers and strings are guarded by value, objects by identity, and the tensors met there are known to be
re-read through the object that holds them.
"""
from __future__ import annotations

import collections
import enum
import functools
import hashlib
import operator
import random
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from .. import config, dtypes
from ..autograd import GradMode
from ..tensor import Tensor, structure_version

SIMPLE = (int, float, str, bool, bytes, type(None), complex, dtypes.dtype)
_MISSING = object()
#: Code of these packages is taken to have no state that a user changes.
_SKIP_MODULES = frozenset(("fusetorch", "numpy", "torch")) | sys.stdlib_module_names - {"__main__"}


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
        wants = a._req and grad
        if wants and a._x is not None and (a._x.node is not None or a._x.hooks):  # a leaf's gradient stays with it, another's flows on
            wants = (a._x.node is not None, tuple(map(id, a._x.hooks.values())) if a._x.hooks else None)
        if type(x) is np.ndarray:
            return (x.dtype.num, x.shape, x.strides, wants, type(a))
        return (x.dtype, x.shape, x.strides, x.device, wants, type(a))
    if isinstance(a, SIMPLE):
        return (type(a), repr(a)) if isinstance(a, float) else (type(a), a)
    if isinstance(a, (list, tuple)):
        return (type(a), *[_summary(x, leaves, grad) for x in a])
    if isinstance(a, dict):
        return (dict, *[(k if isinstance(k, SIMPLE) else id(k), _summary(v, leaves, grad)) for k, v in a.items()])
    return _other_summary(a, leaves, grad)


def _other_summary(a: Any, leaves: list[Tensor], grad: bool) -> Any:
    if isinstance(a, (np.ndarray, np.generic)):
        return (type(a), contents(np.asarray(a)))
    if isinstance(a, slice):
        return (slice, *[_summary(x, leaves, grad) for x in (a.start, a.stop, a.step)])
    if isinstance(a, (set, frozenset)) and all(isinstance(x, SIMPLE) for x in a):
        return (type(a), frozenset((type(x), x) for x in a))
    if isinstance(a, range):
        return (range, a.start, a.stop, a.step)
    if isinstance(a, types.MethodType):
        return (types.MethodType, id(a.__self__), id(a.__func__))
    if isinstance(a, Iterator):
        raise Unguardable(f"it is given an iterator ({type(a).__name__}), which each call advances")
    return (type(a), id(a))


def contents(a: np.ndarray) -> tuple:
    """What a NumPy array holds, in short: its values are constants to a trace."""
    data = np.ascontiguousarray(a)
    if data.dtype.hasobject:
        return (id(a),)
    raw = data.tobytes()
    return (a.dtype.str, a.shape, raw if len(raw) <= 64 else hashlib.blake2b(raw, digest_size=16).digest())


def _by_identity(x: Any) -> Iterator[Any]:
    """The objects that a signature knows by their id: they must stay alive, or another object may get that id."""
    if isinstance(x, (list, tuple)):
        for v in x:
            yield from _by_identity(v)
    elif isinstance(x, dict):
        for k, v in x.items():
            yield k
            yield from _by_identity(v)
    elif isinstance(x, types.MethodType):
        yield x.__self__
        yield x.__func__
    elif not isinstance(x, (Tensor, *SIMPLE, np.ndarray, np.generic)):
        yield x


class Unguardable(Exception):
    """The function depends on something whose changes cannot be seen; the message says what."""


class StateGuard:
    """The state a function reaches, as a list of checks. Build it before tracing, :meth:`holds` before each reuse."""

    def __init__(self, fn: Callable, extra: Iterable[Any] = ()) -> None:
        self.fast: list[tuple[dict, Any, Any]] = []     # dict, key, expected simple value
        self.same: list[tuple[dict, Any, Any]] = []     # dict, key, expected object
        self.cells: list[tuple[Any, Any, bool]] = []    # closure cell, expected, by value
        self.lengths: list[tuple[Any, int]] = []
        self.items: list[tuple[list, list]] = []        # a list and a copy of it
        self.arrays: list[tuple[np.ndarray, tuple]] = []
        self.sets: list[tuple[set, frozenset]] = []
        self.slots: list[tuple[Any, str, Any]] = []     # object without a dict, attribute, expected
        self.modules: list[tuple[dict, Any, Any]] = []  # entries checked only when some module's structure changed
        self.tensors: dict[int, Tensor] = {}
        self.keep: list[Any] = []
        self.version = structure_version()
        self._seen: set[int] = set()
        self._function(fn)
        for x in extra:
            self.keep += _by_identity(x)
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
            return
        if id(fn) in self._seen:
            return
        self._seen.add(id(fn))
        self.keep.append(fn)
        for cell in fn.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:
                continue
            self.cells.append((cell, value, isinstance(value, SIMPLE)))
            self._walk(value, 0)
        for v in (*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values()):
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
            self._seen.add(id(x))
            self.tensors[id(x)] = x
            if x.grad is not None:
                self.tensors[id(x.grad)] = x.grad
            if x._req and x._x is not None and x._x.hooks:
                self._walk(x._x.hooks, depth + 1)
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
        if isinstance(x, (list, tuple, collections.deque)):
            if not isinstance(x, tuple):
                self.items.append((x, list(x)))
            for v in x:
                self._walk(v, depth + 1)
            return
        if isinstance(x, dict):
            self.lengths.append((x, len(x)))
            for k, v in x.items():
                self._entry(x, k, v, depth + 1)
            return
        if isinstance(x, (set, frozenset)):
            if isinstance(x, set):
                self.sets.append((x, frozenset(x)))
            return
        if isinstance(x, np.ndarray):
            self.arrays.append((x, contents(x)))
            return
        if isinstance(x, (Iterator, random.Random)) or type(x).__module__.startswith("numpy.random"):
            raise Unguardable(f"it reaches a {type(x).__name__}, which changes when it is used")
        if isinstance(x, functools.partial):
            for v in (x.func, x.args, x.keywords):
                self._walk(v, depth)
            return
        if isinstance(x, type):
            self._class(x, depth)
            return
        if isinstance(x, (types.ModuleType, types.BuiltinFunctionType)) or callable(getattr(x, "_compile_skip", None)):
            return
        self._class(type(x), depth)
        attributes = getattr(x, "__dict__", None)
        if attributes is None:
            if type(x).__module__.split(".")[0] in _SKIP_MODULES:
                return
            for name in {n for k in type(x).__mro__ for n in _names(vars(k).get("__slots__", ()))}:
                if hasattr(x, name):
                    v = getattr(x, name)
                    self.slots.append((x, name, v))
                    self._walk(v, depth + 1)
            return
        if "__wrapped__" in attributes:
            self._function(attributes["__wrapped__"])
            return
        if "_parameters" in attributes and "_modules" in attributes:
            self._module(x, attributes, depth)
            return
        if type(x).__module__.split(".")[0] in ("fusetorch", "numpy", "torch") and not hasattr(x, "step"):  # optimizers, schedules
            return
        for k, v in attributes.items():
            self._entry(attributes, k, v, depth + 1)
        self.lengths.append((attributes, len(attributes)))

    def _class(self, c: type, depth: int) -> None:
        """Guards what the classes that the user wrote hold, and what their methods reach."""
        for k in c.__mro__:
            if k.__module__.split(".")[0] in _SKIP_MODULES or (k is not c and id(k) in self._seen) or issubclass(k, enum.Enum):
                continue
            self._seen.add(id(k))
            for name, v in list(vars(k).items()):
                if isinstance(v, (staticmethod, classmethod)):
                    v = v.__func__
                elif isinstance(v, property):
                    v = v.fget
                if isinstance(v, types.FunctionType):
                    self._function(v)
                elif not (name.startswith("__") and name.endswith("__")) and not isinstance(
                        v, (type, types.GetSetDescriptorType, types.MemberDescriptorType)):
                    self._entry(vars(k), name, v, depth + 1)

    def _module(self, m: Any, attributes: dict, depth: int) -> None:
        for k, v in attributes.items():
            if k in ("_parameters", "_buffers", "_modules"):
                self.modules.append((attributes, k, v))
                for name, item in v.items():
                    self.modules.append((v, name, item))
                    self._walk(item, depth if k == "_modules" else depth + 1)
            elif k in ("_forward_hooks", "_forward_pre_hooks"):
                self.lengths.append((v, len(v)))
                for hook in v.values():
                    self._walk(hook, depth + 1)
            elif not k.startswith("_"):
                self._entry(attributes, k, v, depth + 1)
        self.lengths.append((attributes, len(attributes)))

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
            if now is not v and not _interchangeable(now, v):
                return f"{k!r} was {v!r} and is now {'deleted' if now is _MISSING else repr(now)}"
        for cell, v, simple in self.cells:
            now = cell.cell_contents
            if now is not v and not (simple and _interchangeable(now, v)):
                return f"a closure variable was {_short(v)} and is now {_short(now)}"
        for x, n in self.lengths:
            if len(x) != n:
                return f"a {type(x).__name__} that the function reads had {n} items and has {len(x)}"
        for d, k, v in self.same:
            if d.get(k, _MISSING) is not v:
                return f"{k!r} now holds another object ({_short(d.get(k))})"
        for x, old in self.items:
            if len(x) != len(old):
                return f"a list that the function reads had {len(old)} items and has {len(x)}"
            if not all(map(operator.is_, x, old)):
                for i, (now, v) in enumerate(zip(x, old)):
                    if now is not v and not _interchangeable(now, v):
                        return f"item {i} of a list changed from {_short(v)} to {_short(now)}"
        for x, digest in self.arrays:
            if contents(x) != digest:
                return f"a NumPy array that the function reads (shape {list(x.shape)}) changed"
        for x, old in self.sets:
            if x != old:
                return f"a set that the function reads had {len(old)} items and has others now"
        for x, name, v in self.slots:
            now = getattr(x, name, _MISSING)
            if now is not v and not _interchangeable(now, v):
                return f"attribute {name!r} changed from {_short(v)} to {_short(now)}"
        version = structure_version()
        if version != self.version:
            for d, k, v in self.modules:
                if d.get(k, _MISSING) is not v:
                    return f"module entry {k!r} was replaced"
            self.version = version
        return None


def python_randomness() -> list[Any]:
    """The state of Python's and NumPy's global random numbers: where a trace has moved it, a replay would not."""
    state: list[Any] = [random.getstate()]
    if "numpy.random" in sys.modules:
        kind, keys, *rest = np.random.get_state()
        state.append((kind, keys.tobytes(), rest))
    return state


def _names(slots: str | Iterable[str]) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _interchangeable(a: Any, b: Any) -> bool:
    """Whether two objects are equal simple values of one type; 0.0 and -0.0 are not, NaN is NaN."""
    if type(a) is not type(b) or not isinstance(a, SIMPLE):
        return False
    return repr(a) == repr(b) if isinstance(a, (float, complex)) else a == b


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
