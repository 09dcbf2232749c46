"""One compiled specialisation of a function, and how it is replayed. :mod:`fusetorch.compiler.finish` makes it from a finished trace."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .. import casting, dispatch
from ..autograd import GradMode, enable_grad, set_history
from ..ops.opdef import REGISTRY
from ..tensor import Tensor, grad_of, memory_of, meta, version_of, wrap
from . import aot
from .alias import overlap, start_of
from .guards import StateGuard
from .places import Place
from .plan import Plan
from .results import Shape, fill
from .symbolic import Source, TracedArray, real_view, span_array


class Output:
    """How one tensor of the result is rebuilt at replay."""

    __slots__ = ("kind", "index", "shape", "strides", "offset", "source", "whole", "dtype", "cls", "requires_grad", "consumed")

    def __init__(self, kind: str, index: int = 0, shape: tuple = (), strides: tuple = (), offset: int = 0,
                 source: Source | None = None, whole: bool = False, dtype: Any = None) -> None:
        # "source": a tensor from outside itself; "state": a view of a lifted input's memory; "result": a view of plan result ``index``
        self.kind, self.index, self.shape, self.strides, self.offset, self.source = kind, index, shape, strides, offset, source
        self.whole = whole  # the view is the array itself
        self.dtype = dtype  # of the view, where it is not that of the memory
        self.cls: type | None = None  # a subclass of Tensor that it is
        self.requires_grad = False  # a leaf made here, or a result whose history a backward inside the function has used up:
        self.consumed = False


def owner(a: Any) -> Any:
    """What owns an array's memory."""
    if not isinstance(a, np.ndarray):
        return a.storage
    while (base := getattr(a, "base", None)) is not None:
        a = base
    return a


class Busy(Exception):
    """Another thread's trace has taken hold of a tensor that a plan reads; nothing was done."""


class Entry:
    """One compiled specialisation: a plan, where its inputs come from, and what to do with its results."""

    def __init__(self) -> None:
        self.guard: StateGuard | None = None
        self.plan: Plan | None = None
        self.sources: list[Source] = []
        self.base_shapes: list[tuple[int, ...]] = []
        self.template: Any = None
        self.outputs: list[Output] = []
        self.grads: list[tuple[Source, Output | None, int | None]] = []     # also: which result it is, if it is one
        self.rebinds: list[tuple[Source, Output, int]] = []     # tensors that see other memory, or other shapes of it, afterwards
        self.flags: list[tuple[int, bool]] = []                 # arguments whose requires_grad is set
        self.sharing: list[tuple[int, Source | int, bool]] = []     # result, whose memory it shares, whether gradients depend on that
        self.views: list[tuple[int, Source | int | None, tuple]] = []   # result, what it is a view of, the layout over that
        self.written: list[Source] = []
        self.generators: list[tuple[Any, int]] = []
        self.backward: aot.Backward | None = None
        self.layouts: list[tuple | None] = []   # what lifted state must look like
        self.grad_state: list[tuple[Source, bool]] = []
        self.same_tensors: list[tuple[int, Tensor]] = []    # arguments that the function reaches by itself too
        self.same_grads: list[tuple[Source, int]] = []      # tensors whose gradient is an argument too
        self.stores: list[tuple[Place, Any, bool]] = []     # what each call puts where, and whether into the container that is there
        self.same_memory: list[tuple[Source, Source]] = []
        self.roots: dict[int, Any] = {}     # what owns the memory of the state that is written, by id
        self.seconds = 0.0
        self.key: tuple | None = None   # the signature under which it is filed
        self.used = 0                   # when it was used last, in calls that hit
        self.reason = ""

    def tensor_of(self, source: Source, leaves: list[Tensor]) -> Tensor:
        """The tensor object that a source stands for in this call."""
        if source.kind == "arg":
            return leaves[source.where]
        if source.owner is not None:
            return self.tensor_of(source.owner, leaves).grad
        return source.tensor

    def fits(self, leaves: list[Tensor]) -> str | None:
        """Why this entry cannot serve the call, or ``None``."""
        failure = self.guard.failure()
        if failure is not None:
            return failure
        for i, t in self.same_tensors:
            if leaves[i] is not t:
                return "an argument is another tensor than the one that the function reaches by itself"
        for source, i in self.same_grads:
            if (t := self.tensor_of(source, leaves)) is None or grad_of(t) is not leaves[i]:
                return "an argument is no longer the gradient of a tensor that the function reads"
        for source, had in self.grad_state:
            t = self.tensor_of(source, leaves)
            if t is None:
                return "a gradient that the function reads is gone"
            if ((t._x.grad if t._x is not None else None) is not None) != had:
                return "a .grad was " + ("set" if had else "None") + " when the function was traced and is not now"
        if self.written and self._overlaps(leaves):
            return "tensors share memory that the function writes to, and did not when it was traced"
        for source in self.sources:
            if source.kind == "span" and not source.where.same([self.tensor_of(s, leaves)._a for s in source.where.sources]):
                return "tensors shared memory in another way when the function was traced"
        for a, b in self.same_memory:
            if start_of(self.tensor_of(a, leaves)._a) != start_of(self.tensor_of(b, leaves)._a):
                return "two tensors shared memory when the function was traced and do not now"
        for source, layout in zip(self.sources, self.layouts):
            if layout is not None:
                kind, shape, strides, req = layout
                t = self.tensor_of(source, leaves)
                if t is None:
                    return "a gradient that the function reads is gone"
                a = t._a
                if a.shape != shape or a.strides != strides or a.dtype != kind or t._req != req:
                    return f"a tensor that the function reaches changed: shape {list(shape)} to {list(a.shape)}, or its dtype or layout"
        return None

    def _overlaps(self, leaves: list[Tensor]) -> bool:
        """Whether memory that is written may be reached through another argument. Arrays of different owners never overlap."""
        seen = dict(self.roots)
        for source in self.sources:
            if source.kind == "arg":
                a = leaves[source.where]._a
                root = owner(a)
                if id(root) in seen:
                    break
                seen[id(root)] = root
            elif source.kind == "span":
                root = owner(self.tensor_of(source.where.sources[0], leaves)._a)
                if id(root) in seen:
                    break
                seen[id(root)] = root
        else:
            return False
        own = [[s] if s.kind in ("arg", "object") else s.where.sources if s.kind == "span" else [] for s in self.sources]
        reached = [(k, s, self.tensor_of(s, leaves)._a) for k, group in enumerate(own) for s in group]
        return any(j != k and overlap(a, b) for k, w, b in reached if w in self.written for j, s, a in reached)

    def arrays(self, leaves: list[Tensor]) -> list[Any]:
        """The plan's input arrays for this call."""
        out = []
        for source, shape in zip(self.sources, self.base_shapes):
            kind = source.kind
            if kind == "number":
                holder, key = source.where
                out.append(np.array(holder[key], np.float64))
            elif kind == "rng":
                generator, what, delta = source.where
                value = generator._seed if what == "seed" else generator._offset + delta
                out.append(np.array(np.uint64(value & 0xFFFFFFFFFFFFFFFF).astype(np.int64)))
            elif kind == "span":
                a = self.tensor_of(source.where.sources[0], leaves)._a
                if type(a) is TracedArray:
                    raise Busy
                out.append(source.where.array(a))
            elif kind == "tangent":
                out.append(None)
            else:
                a = self.tensor_of(source, leaves)._a
                if type(a) is TracedArray:
                    raise Busy
                out.append(a if a.shape == shape and type(a) is np.ndarray and a.flags.c_contiguous else span_array(a, shape))
        return out

    def run(self, leaves: list[Tensor], fn: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Executes the plan and rebuilds the function's result. ``fn``, ``args`` and ``kwargs``: the call that this stands for."""
        arrays = self.arrays(leaves)
        results = self.plan.run(arrays)
        for i, req in self.flags:
            leaves[i]._req = req
        for source in self.written:
            version_of(self.tensor_of(source, leaves))[0] += 1
        for generator, n in self.generators:
            generator._offset += n
        tensors = [self._rebuild(o, results, arrays, leaves) for o in self.outputs]
        self.share(tensors, leaves, results)
        for source, o, writes in self.rebinds:
            t = self.tensor_of(source, leaves)
            t._a = self._rebuild(o, results, arrays, leaves)._a
            if writes:
                version_of(t)[0] += writes
        for source, o, at in self.grads:
            g = None if o is None else self._rebuild(o, results, arrays, leaves) if at is None else tensors[at]
            meta(self.tensor_of(source, leaves)).grad = g
        if self.backward is not None:
            read = [self.tensor_of(s, leaves) for s in self.sources if s.kind in ("arg", "object")]
            self.backward.attach([tensors[s] if isinstance(s, int) else self.tensor_of(s, leaves) for s in self.backward.sources],
                                 tensors, results,
                                 [self.tensor_of(s, leaves) for s in self.backward.saved_sources],
                                 self.rerun(partial(fn, *args, **kwargs), read))
        for place, template, refill in self.stores:
            place.set(fill(template, tensors), refill)
        return fill(self.template, tensors)

    def rerun(self, call: Callable[[], Any], inputs: list[Tensor]) -> Callable[[], list[Tensor]] | None:
        """Runs the function eagerly on the tensors of this call, later; ``None`` where that would change anything."""
        if self.written or self.stores or self.rebinds or self.grads or self.flags or any(
                s.kind in ("span", "number") for s in self.sources):
            return None
        mode = casting.key()
        versions = [(t, t._version) for t in inputs]
        starts = [(g, g._offset - n) for g, n in self.generators]

        def run() -> list[Tensor]:
            failure = self.guard.failure() or next((f"a tensor of shape {list(t.shape)} was written to" for t, v in versions
                                                    if t._version != v), None)
            failure = failure or (None if casting.key() == mode else "autocast is in another state")
            if failure is not None:
                raise RuntimeError(f"double backward through a compiled function runs it again, but {failure} since it was called")
            ends = [(g, g._offset) for g, _ in starts]
            try:
                for g, at in starts:
                    g._offset = at
                with enable_grad():
                    shape = Shape(self.guard.keep)
                    shape.template(call())
                return shape.found
            finally:
                for g, at in ends:
                    g._offset = at
        return run

    def share(self, tensors: list[Tensor], leaves: list[Tensor], results: list[Any]) -> None:
        """Lets results count the writes to memory they share, and forbids those that would need a history they do not have."""
        for i, other, frozen in self.sharing:
            x = meta(tensors[i])
            source = tensors[other] if isinstance(other, int) else self.tensor_of(other, leaves)
            x.version, x.frozen = version_of(source), frozen
            if type(source._a) is np.ndarray:
                x.memory = memory_of(source)
        if self.views and GradMode.enabled:
            self._tie(tensors, leaves, results)

    def _tie(self, tensors: list[Tensor], leaves: list[Tensor], results: list[Any]) -> None:
        """Lets results know what they are views of, so that a recorded write through one of them is seen by all."""
        hidden: dict[int, Tensor] = {}
        for i, other, layout in self.views:
            x = meta(tensors[i])
            if other is None:  # of a tensor that was not returned
                at = self.outputs[i].index
                base = hidden[at] = hidden[at] if at in hidden else wrap(results[at])
            else:
                base = tensors[other] if isinstance(other, int) else self.tensor_of(other, leaves)
            b = meta(base)
            x.version = version_of(base)
            x.base, x.chain = base if b.base is None else b.base, (*b.chain, (dispatch.view, REGISTRY["as_strided_view"], layout))
            x.seen = x.version[0]

    def _rebuild(self, o: Output, results: list[Any], arrays: list[Any], leaves: list[Tensor]) -> Tensor:
        if o.kind == "source":
            return self.tensor_of(o.source, leaves)
        if o.whole:
            t = wrap(results[o.index])
        else:
            t = wrap(())
            place(t, o, arrays[o.index] if o.kind == "state" else results[o.index])
        if o.cls is not None:
            t.__class__ = o.cls
        if o.requires_grad:
            t._req = True
            if o.consumed:
                set_history(t, aot.ConsumedNode(()))
        return t


def place(t: Tensor, o: Output, a: Any) -> None:
    """Makes ``t`` the view ``o`` of ``a``."""
    t._a = real_view(a, o.shape, o.strides, o.offset, o.dtype)
    if t._a is not a and type(a) is np.ndarray:
        meta(t).memory = a
