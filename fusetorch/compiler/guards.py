"""Guards: what must still hold for a compiled plan to be the function.

Two parts. The *signature* of a call (:mod:`fusetorch.compiler.signatures`) is a hashable summary of its arguments and of global modes:
another signature is another plan. The *state* that the function reaches by itself, through closures, globals and attributes
(:class:`StateGuard`), is walked before tracing; numbers and strings are guarded by value, objects by identity, and the tensors met there
are known to be re-read through the object that holds them.
"""
from __future__ import annotations

import collections
import datetime
import dis
import enum
import functools
import io
import itertools
import operator
import os
import random
import sys
import time
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ..tensor import Tensor, grad_of, structure_version
from .effects import CLOCKS, IMPURE
from .places import MISSING as _MISSING
from .places import Place
from .signatures import SIMPLE, Unguardable, by_identity, contents, is_record

#: Modules with functions that are told things from outside.
_TOLD = (time, os)
#: Code of these packages is taken to have no state that a user changes.
_SKIP_MODULES = frozenset(("fusetorch", "numpy", "torch", "_pytest", "pytest")) | sys.stdlib_module_names - {"__main__"}

#: Code that uses these may read any attribute.
_DYNAMIC = frozenset(("getattr", "vars", "__dict__", "eval", "exec", "globals", "locals", "dir", "attrgetter", "asdict", "astuple",
                      "replace", "copy", "deepcopy", "__getattribute__"))
#: Where the classes of modules are defined that have no attributes of their own which their code reads.
_BARE_MODULES = tuple(f"{package}.{file}" for file in ("module", "calls", "state_dict", "container")
                      for package in ("fusetorch.nn", "torch.nn.modules"))
#: Instructions that look up a global name.
_LOOKUPS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}


class _Clock:
    """A method that reads a clock, in words."""

    def __init__(self, call: str) -> None:
        self.call = call


def _environment() -> Any:
    """The variables of the environment: the dict behind ``os.environ``, which is the quicker to compare."""
    return getattr(os.environ, "_data", os.environ)


def _items(d: dict) -> dict[Any, int]:
    """Which objects a dict holds."""
    return {k: id(v) for k, v in dict.items(d)}


class StateGuard:
    """The state a function reaches, as a list of checks. Build it before tracing, ask for :meth:`failure` before each reuse.

    Args:
        fn: the function.
        extra: the arguments of the call, and what is in ``places``: their tensors are known by the signature, their objects are walked.
        places: what the function fills anew at each call; not walked.
    """

    def __init__(self, fn: Callable, extra: Iterable[Any] = (), places: Iterable[Place] = ()) -> None:
        self.fast: list[tuple[dict, Any, Any]] = []     # dict, key, expected simple value
        self.same: list[tuple[dict, Any, Any]] = []     # dict, key, expected object
        self.cells: list[tuple[Any, Any, bool]] = []    # closure cell, expected, by value
        self.lengths: list[tuple[Any, int]] = []
        self.items: list[tuple[list, list]] = []        # a list and a copy of it
        self.arrays: list[tuple[np.ndarray, tuple]] = []
        self.sets: list[tuple[set, frozenset]] = []
        self.slots: list[tuple[Any, str, Any]] = []     # object without a dict, attribute, expected
        self.told: list[tuple[Callable[[], Any], Any, str]] = []    # what gives a state, the state expected, its name
        self.modules: list[tuple[dict, Any, Any]] = []  # entries checked only when some module's structure changed
        self.tables: list[tuple[dict, int]] = []        # and so are these: tables of modules and their lengths,
        self.unhooked: list[Tensor] = []                # and tensors without gradient hooks
        self.tensors: dict[int, Tensor] = {}
        self.reached: set[int] = set()                  # those of them that are found without an argument's help, by id
        self.keep: list[Any] = []
        self.second_order = False                       # whether a call with create_graph= is in reach
        self.shapeless = False                          # whether a lazy module's parameter has no shape yet
        self.clocks = False                             # whether it may read a clock
        self.generators: list[types.GeneratorType] = []
        self.version = structure_version()
        self._seen: set[int] = set()
        self._todo: list[Any] = [fn]
        self._names: set[str] = set()                   # what the code that was found reads by name
        self._waiting: list[tuple[str, Any, Any, Any]] = []     # name, dict, key, value: guarded once some code names it
        self._left_out = {p.id for p in places}
        for x in extra:
            self.keep += by_identity(x)
            self._argument(x)
        self._reach()
        del self._seen, self._todo, self._waiting

    # ---- walking

    def _reach(self) -> None:
        while self._todo or self._waiting:
            while self._todo:
                self._visit(self._todo.pop())
            every = not _DYNAMIC.isdisjoint(self._names)
            ready = [w for w in self._waiting if every or w[0] in self._names]
            if not ready:
                return
            self._waiting = [w for w in self._waiting if not (every or w[0] in self._names)]
            for _, d, k, v in ready:
                if d is None:
                    self._todo.append(v)
                else:
                    self._entry(d, k, v)

    def _argument(self, x: Any) -> None:
        """The parts of an argument that its signature does not see through."""
        if isinstance(x, Tensor):
            self._tensor(x)
            self._todo += x.__dict__.values()
        elif type(x) in (list, tuple):
            for v in x:
                self._argument(v)
        elif type(x) is dict:
            for v in x.values():
                self._argument(v)
        elif type(x) is functools.partial:
            for v in (x.func, x.args, x.keywords):
                self._argument(v)
        elif is_record(x):
            self._class(type(x), None)
            for v in vars(x).values():
                self._argument(v)
        else:
            self._todo.append(x)

    def _entry(self, d: Any, key: Any, value: Any, names: tuple[str, ...] = ()) -> None:
        if (id(d), key) in self._left_out:
            return
        if isinstance(value, SIMPLE):
            self.fast.append((d, key, value))
        elif isinstance(value, types.ModuleType):
            self._names_of(value, names)
        else:
            self.same.append((d, key, value))
            self._todo.append(value)

    def _names_of(self, m: types.ModuleType, names: tuple[str, ...]) -> None:
        """What code that uses these names may read of a module, and of modules in it."""
        if m in _TOLD:
            for n in names:
                self._pure(m.__dict__.get(n))
        elif m is datetime:
            self._todo += CLOCKS
        key = id(m), names
        if key in self._seen or _package(m) in _SKIP_MODULES or (getattr(m, "__file__", None) or "").endswith(".so"):
            return
        self._seen.add(key)
        for n in names:
            if n in m.__dict__:
                self._entry(m.__dict__, n, m.__dict__[n], names)

    def _pure(self, x: Any) -> None:
        if x is os.environ or x is os.getenv:
            self.told.append((_environment, dict(_environment()), "os.environ"))
        elif id(x) in IMPURE:
            self._reaches(IMPURE[id(x)])

    def _reaches(self, call: str) -> None:
        """Notes that what gives another result each time is in reach; while tracing it is seen whether it is called."""
        if sys.getprofile() is not None:
            raise Unguardable(f"it uses {call}, which may differ from call to call")
        self.clocks = True

    def _visit(self, x: Any) -> None:
        if isinstance(x, SIMPLE) or x is _MISSING or id(x) in self._seen:
            return
        if isinstance(x, types.MethodType):  # made anew at each access: has no identity to remember
            self._todo += (x.__self__, x.__func__)
            return
        self._seen.add(id(x))
        if isinstance(x, Tensor):
            self.reached.add(id(x))
            self._tensor(x)
            return
        self.keep.append(x)
        if isinstance(x, types.FunctionType):
            self._function(x)
        elif isinstance(x, (list, tuple, collections.deque)):
            self._extras(x)
            if (id(x), None) in self._left_out:
                return
            if not isinstance(x, tuple):
                self.items.append((x, list(x)))
            self._todo.extend(x)
        elif isinstance(x, dict):
            self._extras(x)
            plain = collections.OrderedDict if isinstance(x, collections.OrderedDict) else dict
            if any(getattr(type(x), n) is not getattr(plain, n) for n in ("get", "items", "__len__")):  # which the checks below use
                self.keep.append(list(dict.values(x)))
                self.told.append((functools.partial(_items, x), _items(x), f"a {type(x).__name__}"))
                self._todo += dict.values(x)
                return
            self.lengths.append((x, len(x)))
            for k, v in x.items():
                self._entry(x, k, v)
        elif isinstance(x, (set, frozenset)):
            if isinstance(x, set):
                self.sets.append((x, frozenset(x)))
        elif isinstance(x, np.ndarray):
            self.arrays.append((x, contents(x)))
        elif x is random.random.__self__:
            pass  # Python's own generator: the trace itself sees whether it draws (effects.py)
        elif isinstance(x, random.Random):
            self.told.append((x.getstate, x.getstate(), "a random.Random"))
        elif isinstance(x, itertools.count):
            self.told.append((x.__repr__, repr(x), "an itertools.count"))
        elif isinstance(x, types.GeneratorType):
            self._reaches(f"the generator {x.__name__}")
            self.generators.append(x)
        elif isinstance(x, Iterator) or type(x).__module__.startswith("numpy.random"):
            if not isinstance(x, io.IOBase):  # what is written to a file is not read again
                raise Unguardable(f"it reaches a {type(x).__name__}, which changes when it is used")
        elif isinstance(x, functools.partial):
            self._todo += (x.func, x.args, x.keywords)
        elif isinstance(x, type):
            self._class(x, None)
            # a class of clocks, such as datetime: its methods count where code names them
            self._waiting += [(name, None, name, _Clock(f"{x.__name__}.{name}()")) for name in CLOCKS.get(x, ())]
        elif isinstance(x, _Clock):
            self._reaches(x.call)
        elif id(x) in IMPURE:
            self._pure(x)
        elif not isinstance(x, (types.ModuleType, types.BuiltinFunctionType)):
            self._object(x)

    def _extras(self, x: Any) -> None:
        """Attributes of a user's kind of container."""
        if _package(type(x)) not in _SKIP_MODULES:
            attributes = getattr(x, "__dict__", None)
            self._class(type(x), attributes)
            self._waiting += [(k, attributes, k, v) for k, v in (attributes or {}).items()]

    def _tensor(self, t: Tensor) -> None:
        if hasattr(type(t), "materialize"):
            self.shapeless = True
            return
        self.tensors[id(t)] = t
        if (g := grad_of(t)) is not None:
            self.tensors[id(g)] = g
        if t._req:
            if t._x is not None and t._x.hooks:
                self._todo.append(t._x.hooks)
            else:
                self.unhooked.append(t)

    def _function(self, fn: types.FunctionType) -> None:
        if hasattr(fn, "__wrapped__"):
            self._todo.append(fn.__wrapped__)
        if _package(fn) in _SKIP_MODULES:
            return
        for cell in fn.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:
                continue
            if (id(cell), None) in self._left_out:
                continue
            self.cells.append((cell, value, isinstance(value, SIMPLE)))
            if isinstance(value, types.ModuleType):
                self._names_of(value, fn.__code__.co_names)
            else:
                self._todo.append(value)
        self._todo += (*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values())
        self._waiting += [(k, fn.__dict__, k, v) for k, v in fn.__dict__.items() if k != "__wrapped__"]
        self._code(fn.__code__, fn.__globals__)

    def _code(self, code: types.CodeType, g: dict) -> None:
        self._names.update(code.co_names)
        for name in _global_names(code):
            if name in g:
                self._entry(g, name, g[name], code.co_names)
        for const in code.co_consts:
            if isinstance(const, types.CodeType):
                self._code(const, g)
            elif isinstance(const, str) and const.isidentifier():
                self._names.add(const)  # getattr(x, "name")
            elif isinstance(const, tuple) and "create_graph" in const:
                self.second_order = True

    def _class(self, c: type, attributes: dict | None) -> None:
        """What the classes that the user wrote hold, and what their methods reach. ``attributes``: of an instance, which go first."""
        bases = [k for k in c.__mro__ if _package(k) == "fusetorch"]
        for k in c.__mro__:
            if _package(k) in _SKIP_MODULES or issubclass(k, enum.Enum):
                continue
            for name, v in list(vars(k).items()):
                whole = v
                if isinstance(v, (staticmethod, classmethod)):
                    v = v.__func__
                elif isinstance(v, property):
                    v = v.fget
                if isinstance(v, types.FunctionType):
                    if name.startswith("__") and name.endswith("__"):
                        if attributes is not None and name in ("__init__", "__new__", "__repr__", "__str__", "__del__"):
                            continue
                        self._todo.append(v)  # called without being named
                    elif any(hasattr(b, name) for b in bases):
                        self._todo.append(v)  # overrides what fusetorch calls
                    else:
                        self._waiting.append((name, None, name, v))
                        if attributes is not None and name not in attributes and whole is v:
                            self._waiting.append((name, attributes, name, _MISSING))
                    self.same.append((vars(k), name, whole))  # methods may be replaced
                elif not name.startswith("__") and not isinstance(v, (types.GetSetDescriptorType, types.MemberDescriptorType)):
                    self._waiting.append((name, vars(k), name, v))
                    if attributes is not None and name not in attributes:
                        self._waiting.append((name, attributes, name, _MISSING))

    def _object(self, x: Any) -> None:
        attributes = getattr(x, "__dict__", None)
        self._class(type(x), attributes)
        own = _package(type(x)) in ("fusetorch", "numpy", "torch")
        if attributes is None:
            if not own and _package(type(x)) not in _SKIP_MODULES:
                for name in {n for k in type(x).__mro__ for n in _names(vars(k).get("__slots__", ()))}:
                    if hasattr(x, name):
                        v = getattr(x, name)
                        self.slots.append((x, name, v))
                        self._todo.append(v)
        elif "__wrapped__" in attributes:
            self._todo.append(attributes["__wrapped__"])
        elif "_parameters" in attributes and "_modules" in attributes:
            self._module(x, attributes)
        elif "param_groups" in attributes or (own and hasattr(x, "step")):  # optimizers, schedules
            for k, v in attributes.items():
                self._entry(attributes, k, v)
            self.lengths.append((attributes, len(attributes)))
        elif not own:
            self._waiting += [(k, attributes, k, v) for k, v in attributes.items()]
            if "hasattr" in self._names:
                self.lengths.append((attributes, len(attributes)))

    def _module(self, m: Any, attributes: dict) -> None:
        # what fusetorch's own layers read is not looked up: all of it counts
        layer = any(_package(c) == "fusetorch" and c.__module__ not in _BARE_MODULES for c in type(m).__mro__)
        if "forward" not in attributes:
            self.same.append((attributes, "forward", _MISSING))
        for k, v in attributes.items():
            if k in ("_parameters", "_buffers", "_modules"):
                self.modules.append((attributes, k, v))
                self.tables.append((v, len(v)))
                for name, item in v.items():
                    if (id(v), name) not in self._left_out:
                        self.modules.append((v, name, item))
                        self._todo.append(item)
            elif k in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
                self.lengths.append((v, len(v)))
                self._todo += v.values()
            elif k == "training" or (layer and not k.startswith("_")):
                self._entry(attributes, k, v)
            else:
                self._waiting.append((k, attributes, k, v))

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
                return f"{k!r} was {v!r} and is now {'deleted' if now is _MISSING else _short(now)}"
        for cell, v, simple in self.cells:
            now = cell.cell_contents
            if now is not v and not (simple and _interchangeable(now, v)):
                return f"a closure variable was {_short(v)} and is now {_short(now)}"
        for x, n in self.lengths:
            if len(x) != n:
                return f"a {type(x).__name__} that the function reads had {n} items and has {len(x)}"
        for d, k, v in self.same:
            if d.get(k, _MISSING) is not v:
                return f"{_short(k)} now holds another object ({_short(d.get(k))})"
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
        for read, v, name in self.told:
            if read() != v:
                return f"{name} that the function reads has changed"
        version = structure_version()
        if version != self.version:
            for d, k, v in self.modules:
                if d.get(k, _MISSING) is not v:
                    return f"module entry {k!r} was replaced"
            for d, n in self.tables:
                if len(d) != n:
                    return f"a module had {n} parameters, buffers or submodules and has {len(d)}"
            for t in self.unhooked:
                if t._x is not None and t._x.hooks:
                    return "a gradient hook was registered"
            self.version = version
        return None


def _package(x: Any) -> str:
    """The top package that a class, function or module belongs to. The demonstration counts as a user's."""
    name = getattr(x, "__name__", "") if isinstance(x, types.ModuleType) else getattr(x, "__module__", None)
    if (name or "").startswith("fusetorch.demo."):
        return "fusetorch.demo"
    top = (name or "").split(".")[0]
    return "fusetorch" if top == "torch" else top  # under run, classes have PyTorch's places


@functools.lru_cache(4096)
def _global_names(code: types.CodeType) -> tuple[str, ...]:
    """The global names that code looks up itself: ``co_names`` has those of attributes too."""
    return tuple(dict.fromkeys(i.argval for i in dis.get_instructions(code) if i.opname in _LOOKUPS))


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
