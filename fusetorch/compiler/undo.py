"""Putting back what a trace did to the world, for ``fullgraph=True``: an error there leaves everything as it was."""
from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..tensor import Tensor, grad_of, meta
from .aot import restore_history
from .places import MISSING
from .trace import Tracer

if TYPE_CHECKING:
    from .guards import StateGuard
    from .places import Place


class Snapshot:
    """The contents, by reference, of all containers and objects that a function reaches."""

    def __init__(self, guard: StateGuard, places: Iterable[Place] = ()) -> None:
        self.guard = guard
        self.places = [(p, v, list(v) if isinstance(v, list) else None) for p in places if (v := p.get()) is not MISSING]
        self.contents: list[tuple[Any, Any]] = []
        for x in [*guard.keep, *[d for d, _ in guard.tables]]:
            if isinstance(x, (list, collections.deque)):
                self.contents.append((x, list(x)))
            elif isinstance(x, (dict, set)):
                self.contents.append((x, x.copy()))
            elif isinstance(getattr(x, "__dict__", None), dict):
                self.contents.append((x.__dict__, dict(x.__dict__)))
        self.cells = [(cell, value) for cell, value, _ in guard.cells]
        self.globals = [(d, k, v) for d, k, v in (*guard.fast, *guard.same) if type(d) is dict]
        self.slots = list(guard.slots)

    def restore(self) -> None:
        """Puts everything back."""
        for x, old in self.contents:
            x.clear()
            x.extend(old) if isinstance(old, list) else x.update(old)
        for cell, value in self.cells:
            cell.cell_contents = value
        for d, k, v in self.globals:
            if k in d and d[k] is not v:
                d[k] = v
        for x, name, v in self.slots:
            setattr(x, name, v)
        for p, v, items in self.places:
            if p.get() is not v:
                p.set(v, False)
            if items is not None:
                v[:] = items


def undo(tracer: Tracer, snapshot: Snapshot, tensors: Iterable[Tensor]) -> None:
    """As if the trace had not been: arrays, histories, gradients, generators and Python state."""
    everything = {id(t): t for t in (*tensors, *[t for t, _, _ in tracer.lifted.values()])}
    tracer.restore()
    restore_history(tracer)
    for t in everything.values():
        before = tracer.grads_before.get(id(t))
        if grad_of(t) is not before:
            meta(t).grad = before
    for generator, offset in tracer.generators.values():
        generator._offset = offset
    snapshot.restore()
