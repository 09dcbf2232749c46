"""Signatures: what a compiled plan depends on in the arguments of a call, and in global modes, as a key."""
from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .. import casting, config, dtypes
from ..autograd import GradMode
from ..tensor import Tensor

SIMPLE = (int, float, str, bool, bytes, type(None), complex, dtypes.dtype)


class Unguardable(Exception):
    """The function depends on something whose changes cannot be seen; the message says what."""


def signature(args: tuple, kwargs: dict[str, Any], leaves: list[Tensor]) -> tuple:
    """A hashable summary of a call; the tensors found are appended to ``leaves`` in order."""
    grad = GradMode.enabled
    parts: list[Any] = [grad, dtypes.get_default_dtype(), (config.simulate_cuda, casting.key())]
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
        if a.__dict__:  # attributes that the user gave this tensor
            wants = (wants, tuple([(k, _attribute(v)) for k, v in a.__dict__.items()]))
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


def _attribute(v: Any) -> Any:
    return (type(v), repr(v) if isinstance(v, float) else v) if isinstance(v, SIMPLE) else id(v)


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
    if type(a) is functools.partial:
        return (functools.partial, *[_summary(x, leaves, grad) for x in (a.func, a.args, a.keywords)])
    if is_record(a):
        return (type(a), *[(k, _summary(v, leaves, grad)) for k, v in vars(a).items()])
    if isinstance(a, Iterator):
        raise Unguardable(f"it is given an iterator ({type(a).__name__}), which each call advances")
    return (type(a), id(a))


def is_record(x: Any) -> bool:
    """Whether an argument is known by what its fields hold, as an instance of a dataclass is, and not by its identity."""
    return hasattr(type(x), "__dataclass_fields__") and type(getattr(x, "__dict__", None)) is dict and not isinstance(x, dict)


def without_numbers(key: Any) -> Any:
    """A signature in which numbers and strings are nothing but their types."""
    if type(key) is not tuple:
        return key
    if len(key) == 2 and type(key[0]) is type and key[0] in SIMPLE:
        return key[:1]
    return tuple([without_numbers(k) for k in key])


def contents(a: np.ndarray) -> tuple:
    """What a NumPy array holds, in short: its values are constants to a trace."""
    data = np.ascontiguousarray(a)
    if data.dtype.hasobject:
        return (id(a),)
    raw = data.tobytes()
    return (a.dtype.str, a.shape, raw if len(raw) <= 64 else hashlib.blake2b(raw, digest_size=16).digest())


def by_identity(x: Any) -> Iterator[Any]:
    """The objects that a signature knows by their id: they must stay alive, or another object may get that id."""
    if isinstance(x, (list, tuple)):
        for v in x:
            yield from by_identity(v)
    elif isinstance(x, dict):
        for k, v in x.items():
            yield k
            yield from by_identity(v)
    elif isinstance(x, types.MethodType):
        yield x.__self__
        yield x.__func__
    elif type(x) is functools.partial:
        for v in (x.func, x.args, x.keywords):
            yield from by_identity(v)
    elif is_record(x):
        yield type(x)
        for v in vars(x).values():
            yield from by_identity(v)
    elif not isinstance(x, (Tensor, *SIMPLE, np.ndarray, np.generic)):
        yield x


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
        return f"{('grad mode', 'default dtype', 'device simulation or autocast')[i]} changed from {a} to {b}"
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        if len(a) == 2 and a[0] is b[0] and isinstance(a[0], type) and a[0] not in SIMPLE:
            return f"argument {i - 3}: another {a[0].__name__}"
        inner = [f"{x} -> {y}" for x, y in zip(a, b) if x != y]
        return f"argument {i - 3}: {', '.join(inner)}"
    return f"argument {i - 3} changed"
