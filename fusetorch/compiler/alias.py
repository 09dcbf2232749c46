"""Arguments and state that share memory: found before tracing, and given one storage.

Two tensors that see the same elements through different shapes, strides or offsets become views of one row-major *span*, the stretch of
memory that holds them all. A write through one is then a write to all, in the trace as in memory.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..runtime.cpu_memory import address
from ..tensor import Tensor, strides_of

if TYPE_CHECKING:
    from .symbolic import Source, Storage


def start_of(a: Any) -> int:
    """The address of an array's first element; -1 for one that another thread is tracing."""
    return address(a) if isinstance(a, np.ndarray) else getattr(a, "ptr", -1)


def end_of(a: Any) -> int:
    """The address just after an array's last element."""
    return start_of(a) + a.itemsize * (1 + sum((n - 1) * s for n, s in zip(a.shape, strides_of(a))))


def overlap(a: Any, b: Any) -> bool:
    """Whether two real arrays have an element's memory in common (or it would take too long to know)."""
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray):
        if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) or a.storage is not b.storage:
            return False
        return start_of(a) < end_of(b) and start_of(b) < end_of(a)
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=10_000)
    except np.exceptions.TooHardError:
        return True


class Span:
    """Tensors in one stretch of memory: ``members`` with their offsets (elements) from the lowest, and its length."""

    def __init__(self, members: list[Tensor]) -> None:
        self.members = sorted(members, key=lambda t: start_of(t._a))
        low = start_of(self.members[0]._a)
        item = self.members[0]._a.itemsize
        self.offsets = [(start_of(t._a) - low) // item for t in self.members]
        self.length = (max(end_of(t._a) for t in self.members) - low) // item
        self.storage: Storage | None = None
        self.sources: list[Source] = []

    def array(self, lowest: Any) -> Any:
        """The stretch, from the array of the lowest member."""
        if isinstance(lowest, np.ndarray):
            return np.lib.stride_tricks.as_strided(lowest, (self.length,), (lowest.itemsize,))
        return lowest.view((self.length,), (1,), lowest.offset)

    def same(self, arrays: list[Any]) -> bool:
        """Whether these arrays lie to each other as the members did."""
        low, item = start_of(arrays[0]), arrays[0].itemsize
        return all(start_of(a) - low == o * item for a, o in zip(arrays, self.offsets))


def find_spans(tensors: Iterable[Tensor]) -> dict[int, Span]:
    """Groups tensors of one dtype that overlap without being laid out alike: ``{id(tensor): span}``."""
    unique = {id(t): t for t in tensors if t._a.size}.values()
    ordered = sorted(unique, key=lambda t: start_of(t._a))
    groups: list[list[Tensor]] = []
    open_: list[list[Tensor]] = []
    for t in ordered:
        here = start_of(t._a)
        open_ = [g for g in open_ if max(end_of(m._a) for m in g) > here]
        hits = [g for g in open_ if any(overlap(m._a, t._a) for m in g)]
        merged = [t]
        for g in hits:
            merged += g
            # by identity: tensors compare elementwise
            open_ = [o for o in open_ if o is not g]
            groups = [o for o in groups if o is not g]
        open_.append(merged)
        groups.append(merged)
    out: dict[int, Span] = {}
    for g in groups:
        layouts = {(start_of(t._a), tuple(t._a.shape), strides_of(t._a)) for t in g}
        if len(layouts) > 1 and len({t.dtype for t in g}) == 1:
            span = Span(g)
            out.update((id(t), span) for t in g)
    return out
