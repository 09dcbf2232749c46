"""From a finished trace to an entry.

:func:`finish` decides what becomes of everything the trace touched: the function's results, state written in place, gradients that were
set, and tensors made on the way that outlive the call.
"""
from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np

from ..shapes import contiguous_strides
from ..tensor import Tensor, grad_of
from . import aot
from .custom import CustomPlan
from .entry import Entry, Output, owner, place
from .guards import StateGuard
from .interpret import input_array
from .ir import Value
from .places import Place
from .plan import Plan
from .results import Shape
from .symbolic import Source, Storage, TracedArray, other_dtype
from .trace import Tracer
from .verify import checked


def finish(entry: Entry, tracer: Tracer, result: Any, leaves: list[Tensor], stores: list[tuple[Place, Any, bool]],
           call: Callable[[], Any], options: dict[str, Any], make: Callable | None = None) -> str | None:
    """Turns a finished trace into an entry, runs it for the first time, and makes every tensor real.

    ``stores``: what the function left in its places (:mod:`fusetorch.compiler.places`); ``call`` runs it again; ``make``: the user's
    backend, if any. Returns why the entry cannot be used again, or ``None``.
    """
    graph = tracer.graph
    shape = Shape(entry.guard.keep)
    found, fresh = shape.found, shape.fresh
    entry.template = shape.template(result)
    entry.stores = [(p, shape.template(value), refill) for p, value, refill in stores]
    for t in found:  # an alias of memory that nothing here has touched, as of a gradient that came back as it was given
        if type(t._a) is not TracedArray and tracer.holders.get(id(t._a), t) is not t and id(t) not in tracer.grads_before:
            tracer.lift(t)
    tracked = [t for t, _, _ in tracer.lifted.values()]
    by_tensor = {id(t): tracer.lifted[id(t)][2].storage for t in tracked}
    source_of = {id(t): tracer.in_span.get(id(t)) or tracer.sources.get(id(t)) or Source("object", None, t) for t in tracked}
    everything = {id(t): t for t in (*tracked, *entry.guard.tensors.values(), *leaves)}

    def source_for(t: Tensor) -> Source:
        s = source_of.get(id(t))
        if s is None:
            s = source_of[id(t)] = tracer.sources.get(id(t)) or Source("object", None, t)
        return s

    owners = {id(g): t for t in everything.values() if (g := tracer.grads_before.get(id(t))) is not None and id(g) not in tracer.sources}
    for k, t in owners.items():
        if (k in source_of or k in everything) and source_for(everything[k]).kind == "object":
            source_for(everything[k]).owner = source_for(t)
    entry.same_grads = [(source_for(t), s.where) for t in everything.values()
                        if (g := tracer.grads_before.get(id(t))) is not None and (s := tracer.sources.get(id(g))) is not None]
    needs = [t for t in found if t._req and t.grad_fn is not None and id(t) not in everything]
    own = [t for t in tracer.living() if t._req and t.grad_fn is None] if needs else []
    for t in own:
        if not any(t is u for u in found):
            source_of[id(t)] = Source("object", None, t)  # it stays behind, so that this run is the only one
    joint = aot.trace_backward(tracer, needs, own, entry.guard) if needs else None
    del own
    ties = view_ties(found, tracer, joint)
    for t in (*found, *[g for t in tracked if (g := grad_of(t)) is not None]):
        if id(t) not in tracer.lifted and t._x is not None:
            t._x.base, t._x.chain = None, ()  # a view must not keep alive what it was cut from: a replay could not
    wanted: list[Value] = []
    strangers: list[Tensor] = []
    place: dict[int, int] = {}

    def result_of(t: Tensor) -> Output:
        if id(t) in everything or type(t._a) is not TracedArray:
            if id(t) not in everything and id(t) not in owners:
                strangers.append(t)
            return Output("source", source=source_for(t))
        return made(t)

    def made(t: Tensor) -> Output:
        a = t._a
        if a.storage.initial is not None:
            return leaf(t, Output("state", tracer.inputs.index(a.storage), a.shape, a.strides, a.offset, dtype=other_dtype(a)))
        # one result a storage: two tensors with equal contents are still two pieces of memory
        index = place.setdefault(id(a.storage), len(wanted))
        if index == len(wanted):
            wanted.append(a.storage.value)
        return leaf(t, Output("result", index, a.shape, a.strides, a.offset, None, a.whole and a.shape == a.storage.value.shape,
                              other_dtype(a)))

    def leaf(t: Tensor, o: Output) -> Output:
        if type(t) is not Tensor:
            o.cls = type(t)
        if t._req and not any(t is u for u in (joint.outputs if joint is not None else ())):
            o.requires_grad, o.consumed = True, t.grad_fn is not None
        return o

    entry.outputs = [result_of(t) for t in found]
    read = set(map(id, tracer.grad_reads))
    for t in everything.values():
        before, now = tracer.grads_before[id(t)], grad_of(t)
        source = source_for(t)
        if now is not before:
            at = next((i for i, u in enumerate(found) if u is now), None)
            entry.grads.append((source, None if now is None else result_of(now) if at is None else entry.outputs[at], at))
        if now is not before or before is not None or id(t) in read:
            entry.grad_state.append((source, before is not None))
    rebound = [t for t in everything.values() if type(t._a) is TracedArray and not (
        id(t) in tracer.lifted and t._a is tracer.lifted[id(t)][2])]
    entry.rebinds = [(source_for(t), made(t), t._version - tracer.versions.get(id(t), t._version)) for t in rebound]
    for t in rebound:
        if t._x is not None and not t._req:
            t._x.base, t._x.chain = None, ()  # what it was is not to be kept alive
    known = {id(t) for t in found} | {id(t._x.grad) for t in tracked if t._x is not None and t._x.grad is not None}
    if joint is not None:
        known |= {id(t) for t in joint.grads}
    lasting = [t for t in tracer.living() if id(t) not in known and type(t._a) is TracedArray]
    if lasting:
        lasting = None  # or it would keep them alive itself
        gc.collect()
        lasting = [t for t in tracer.living() if id(t) not in known and type(t._a) is TracedArray]
    lasting_outputs = [result_of(t) for t in lasting]
    changed = [s for s in tracer.inputs if s.value is not s.initial]
    entry.written = [source_of[id(t)] for t in tracked if any(by_tensor[id(t)] is s for s in changed)
                     and source_of[id(t)].kind in ("arg", "object")]
    entry.rebinds = [(s, o, n - 1 if s in entry.written else n) for s, o, n in entry.rebinds]  # a write is counted already
    entry.same_memory = [(a, b) for a, b in tracer.shared if a.kind in ("arg", "object") and b.kind in ("arg", "object")]
    state = [tracer.lifted[id(s.tensor)][1] for s in entry.written if s.kind == "object" and s.tensor is not None and s.owner is None]
    entry.roots = {id(r): r for r in map(owner, state)}
    entry.generators = [(g, g._offset - start) for g, start in tracer.generators.values()]
    updates = [(s.initial, s.value) for s in changed]
    emulate = bool(options.get("emulate_eager_casts"))
    if joint is not None:
        entry.backward = aot.split(joint, tracer, wanted, updates, source_of, found, emulate)
        wanted = wanted + entry.backward.saved_values
    graph.outputs = list(wanted)
    checked(graph, "tracing")
    own = len(wanted) if entry.backward is None else entry.backward.n_results
    used = [s for s in tracer.inputs]
    if make is None:
        entry.plan = Plan(graph, [s.initial for s in used], updates, emulate_casts=emulate, own=own)
    else:
        entry.plan = CustomPlan(make, [input_array(s) for s in used], graph, [s.initial for s in used], updates, own)
    entry.sources = [source_of_storage(s, source_of, tracked, by_tensor) for s in used]
    entry.base_shapes = [s.initial.shape for s in used]
    entry.sharing = sharing(entry, found, joint)
    entry.views = [(i, b if b is None or isinstance(b, int) else source_for(b), layout) for i, b, layout in ties
                   if b is None or isinstance(b, int) or source_for(b).kind in ("arg", "object")]
    real_of = {id(s): real for s, real in ((tracer.lifted[id(t)][2].storage, tracer.lifted[id(t)][1]) for t in tracked)}
    entry.layouts = [_layout(real_of.get(id(s)), src) for s, src in zip(used, entry.sources)]

    # first run: on the arrays the tensors had, then everything alive becomes real
    arrays = [input_array(s) for s in used]
    results = entry.plan.run(arrays)
    for t, o in [*zip(found, entry.outputs), *zip(lasting, lasting_outputs)]:
        _realise(t, o, results, arrays)
    for source, o, _ in entry.grads:
        t = source.tensor
        g = t._x.grad
        if g is not None:
            _realise(g, o, results, arrays)
    for t, (_, o, _) in zip(rebound, entry.rebinds):
        _realise(t, o, results, arrays)
    tracer.restore()
    aot.restore_history(tracer)
    entry.share(found, leaves, results)
    if entry.backward is not None:
        entry.backward.attach([found[s] if isinstance(s, int) else s.tensor for s in entry.backward.sources], found, results,
                              [s.tensor for s in entry.backward.saved_sources],
                              entry.rerun(call, [s.tensor for s in entry.sources if s.kind in ("arg", "object")]))
    unguarded = [s.tensor for s in entry.sources if s.kind == "object" and id(s.tensor) not in entry.guard.tensors and s.owner is None
                 and not (s not in entry.written and _in_guarded_array(s.tensor, entry.guard))]
    for s in (*tracer.sources.values(), *source_of.values()):
        if s.kind == "arg" or s.owner is not None:
            s.tensor = None  # an entry must not keep the first call's arguments alive
    if lasting:
        return f"every call leaves a new tensor of shape {list(lasting[0].shape)} behind"
    if fresh:
        return f"it returns a {type(fresh[0]).__name__} made in the call"
    if strangers:
        return f"it returns a tensor of shape {list(strangers[0].shape)} that was made outside of the trace"
    if unguarded:
        return f"it reads a tensor of shape {list(unguarded[0].shape)} from a place that cannot be watched"
    return None


def sharing(entry: Entry, found: list[Tensor], joint: aot.Joint | None) -> list[tuple[int, Source | int, bool]]:
    """Which results are views of outside memory or of each other, for :meth:`Entry.share`."""
    recorded = set(map(id, joint.outputs)) if joint is not None else set()
    first: dict[int, int] = {}
    out: list[tuple[int, Source | int, bool]] = []
    for i, (t, o) in enumerate(zip(found, entry.outputs)):
        if o.kind == "state":
            source = entry.sources[o.index]
            source = source.where.sources[0] if source.kind == "span" else source
            if source.kind in ("arg", "object"):
                out.append((i, source, id(t) in recorded))
        elif o.kind == "result":
            j = first.setdefault(o.index, i)
            if j != i:
                out.append((i, j, id(t) in recorded))
                if id(found[j]) in recorded and (j, j, True) not in out:
                    out.append((j, j, True))
    return out


def view_ties(found: list[Tensor], tracer: Tracer, joint: aot.Joint | None) -> list[tuple[int, Tensor | int | None, tuple]]:
    """For :meth:`Entry._tie`: the results that are views and have no history of their own. Their bases: tensors from outside, numbers of
    other results, or ``None`` for a tensor that is not returned."""
    recorded = set(map(id, joint.outputs)) if joint is not None else set()
    number = {id(t): i for i, t in enumerate(found)}
    out: list[tuple[int, Tensor | int | None, tuple]] = []
    for i, t in enumerate(found):
        base = None if t._x is None or id(t) in tracer.lifted else t._x.base
        if base is not None and type(base._a) is not TracedArray:  # an argument is a view of it
            base = next((x for x, _, _ in tracer.lifted.values() if x._x is not None and x._x.base is base
                         and x._a.storage is t._a.storage), base)
        if base is None or t._req or id(t) in recorded or type(t._a) is not TracedArray or type(base._a) is not TracedArray:
            continue
        a, b = t._a, base._a
        if a.storage is not b.storage or a.dtype is not b.dtype or id(base) in recorded:
            continue
        if b.storage.initial is None and id(base) not in number:
            out.append((i, None, (a.shape, a.strides, a.offset, contiguous_strides(b.storage.value.shape))))
        elif id(base) in number or id(base) in tracer.lifted:
            out.append((i, number.get(id(base), base), (a.shape, a.strides, a.offset - b.offset, b.strides)))
    return out


def source_of_storage(s: Storage, source_of: dict[int, Source], tracked: list[Tensor], by_tensor: dict[int, Storage]) -> Source:
    """The source of a lifted storage: that of the first tensor which had this memory."""
    if s.source.kind in ("number", "rng", "tangent", "span"):
        return s.source
    return next(source_of[id(t)] for t in tracked if by_tensor[id(t)] is s)


def _in_guarded_array(t: Tensor, guard: StateGuard) -> bool:
    """Whether a tensor's memory is that of a NumPy array whose contents are compared before each use, as of ``torch.from_numpy``."""
    return isinstance(t._a, np.ndarray) and any(np.may_share_memory(t._a, a) for a, _ in guard.arrays)


def _layout(real: Any, source: Source) -> tuple | None:
    if source.kind != "object" or real is None:
        return None
    return (real.dtype, real.shape, real.strides, source.tensor._req)


def _realise(t: Tensor, o: Output, results: list[Any], arrays: list[Any]) -> None:
    if type(t._a) is TracedArray and o.kind in ("state", "result"):
        place(t, o, arrays[o.index] if o.kind == "state" else results[o.index])
