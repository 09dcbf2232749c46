"""Autocast's state, and what it does to an operation: the policy is the ``autocast`` attribute of the operation's definition.

``lower`` casts floating operands to the region's dtype, ``float32`` widens half types, ``promote`` takes the widest of the operands'
dtypes, ``banned`` refuses; a word such as ``float32:cuda`` holds for tensors on that device only. float64 is never cast. What an
operation with a policy does inside runs without autocast. :mod:`fusetorch.amp` offers this to programs.
"""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .autograd.modes import GradMode
from .dtypes import HALVES, bfloat16, dtype, float16, float32, float64, promote_types
from .tensor import Tensor

#: In how many threads and for how many devices autocast is on: operations look here first.
on = [0]


class _State(threading.local):
    def __init__(self) -> None:
        self.enabled: frozenset[str] = frozenset()          # device types
        self.dtypes: dict[str, dtype] = {"cpu": bfloat16, "cuda": float16}
        self.cache_enabled = True
        self.nesting = 0
        self.cache: dict[Any, tuple[Tensor, Tensor]] = {}   # weights cast in this region


state = _State()


def set_enabled(kinds: frozenset[str]) -> None:
    """Makes autocast on for these device types in this thread, and off for all others."""
    on[0] += len(kinds) - len(state.enabled)
    state.enabled = kinds


@contextmanager
def suspended() -> Iterator[None]:
    """Autocast off for all devices."""
    before = state.enabled
    set_enabled(frozenset())
    try:
        yield
    finally:
        set_enabled(before)


def key() -> Any:
    """What a compiled function must know of the state."""
    return tuple(sorted((k, state.dtypes[k]) for k in state.enabled)) if on[0] else ()


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for v in values:
        if isinstance(v, Tensor):
            yield v
        elif isinstance(v, (list, tuple)):
            yield from _tensors(v)


def _eligible(t: Tensor, kind: str) -> bool:
    d = t.dtype
    return d.is_floating_point and d is not float64 and t.device.type == kind


def _cast(v: Any, kind: str, to: dtype) -> Any:
    """``v`` with the tensors in it cast; a weight only once in a region."""
    if isinstance(v, (list, tuple)):
        if not any(isinstance(x, (Tensor, list, tuple)) for x in v):
            return v
        made = [_cast(x, kind, to) for x in v]
        return made if isinstance(v, list) else type(v)(*made) if hasattr(v, "_fields") else tuple(made)
    if not isinstance(v, Tensor) or not _eligible(v, kind) or v.dtype is to:
        return v
    from .dispatch import active_tracer
    weight = state.cache_enabled and v._req and v.dtype is float32 and to in HALVES and v.is_leaf and (v._x is None or v._x.base is None)
    if not weight or active_tracer() is not None:  # a trace makes equal casts once anyway
        return v.to(to)
    at = id(v), to, GradMode.enabled
    found = state.cache.get(at)
    if found is None:
        found = state.cache[at] = v, v.to(to)
    return found[1]


def _policy(policies: str, kind: str) -> str:
    for word in policies.split():
        policy, _, only = word.partition(":")
        if only in ("", kind):
            return policy
    return ""


def prepared(name: str, policies: str, values: Sequence[Any]) -> Sequence[Any] | None:
    """The operands cast as the policy says; ``None`` where it does not apply."""
    kind = next((k for k in (t.device.type for t in _tensors(values)) if k in state.enabled), None)
    policy = "" if kind is None else _policy(policies, kind)
    if not policy:
        return None
    if policy == "banned":
        raise RuntimeError(f"{name} is unsafe to autocast: in half precision its result or gradient overflows. Use its form with "
                           "logits, such as binary_cross_entropy_with_logits, or leave autocast for this call.")
    if policy == "lower":
        to = state.dtypes[kind]
    elif policy == "float32":
        to = float32
    else:
        to = None
        for t in _tensors(values):
            if _eligible(t, kind):
                to = t.dtype if to is None else promote_types(to, t.dtype)
        if to is None:
            return values
    return [_cast(v, kind, to) for v in values]


def dispatched(call: Callable, op: Any, operands: Sequence[Any], *rest: Any) -> Any:
    """``call(op, operands, *rest)`` under the op's policy, as the derived functions do where autocast is on."""
    made = prepared(op.name, op.autocast, operands) if rest[-1] is None else None  # with out= nothing is cast
    if made is None:
        return call(op, operands, *rest)
    with suspended():
        return call(op, tuple(made), *rest)


def composed(op: Any, f: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
    """``f(*args, **kwargs)``, a composite, under the op's policy."""
    made = prepared(op.name, op.autocast, [*args, *kwargs.values()]) if kwargs.get("out") is None else None
    if made is None:
        return f(*args, **kwargs)
    with suspended():
        return f(*made[:len(args)], **dict(zip(kwargs, made[len(args):])))
