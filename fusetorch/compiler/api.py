"""``fusetorch.compile``: the object that stands in for a function and decides, at each call, which plan runs."""
from __future__ import annotations

import functools
import gc
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import config, dispatch
from ..tensor import Tensor, meta, version_of, wrap
from . import aot
from .guards import StateGuard, explain_miss, signature
from .interpret import input_array
from .ir import Value
from .plan import Plan
from .trace import Source, Storage, TracedArray, Tracer, real_view, span_array
from .verify import checked

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def compile(model: Any = None, *, fullgraph: bool = False, dynamic: bool | None = None, backend: Any = "auto",
            mode: str | None = None, options: dict[str, Any] | None = None, disable: bool = False) -> Any:
    """Compiles a function or module: traced at the first call, fused, and replayed as generated kernels.

    Works as a decorator or a call. A whole training step (forward, ``backward()``, optimizer step) may be inside.

    Args:
        model: the function or ``nn.Module``; omit it to use this as a decorator with arguments.
        fullgraph: raise :class:`~fusetorch.errors.DataDependentError` where Python needs a tensor's value, instead of running eagerly.
        dynamic: accepted; sizes are specialised at present, a new size compiles once more.
        backend: ``"auto"``, ``"eager"`` (no compilation), or a callable ``backend(graph, example_inputs)`` that returns a callable over
            arrays.
        mode: one of ``default``, ``reduce-overhead``, ``max-autotune``, ``max-autotune-no-cudagraphs``.
        options: ``{"emulate_eager_casts": bool}``: round half types where eager would.

    Returns:
        an object that is called like ``model`` and has ``explain``, ``source``, ``verify``, ``compare``, ``warmup`` and ``cache_info``.

    Example:
        >>> import fusetorch as torch
        >>> f = torch.compile(lambda x: (x * 2 + 1).relu().sum())
        >>> f(torch.tensor([1.0, -4.0]))
        tensor(3.)
    """
    mode = mode or "default"
    if mode not in MODES:
        raise RuntimeError(f"Unrecognized mode={mode}, should be one of: {', '.join(MODES)}")
    if not (backend in ("auto", "eager", "inductor", "aot_eager") or callable(backend)):
        raise RuntimeError(f"Invalid backend: {backend!r}. Use 'auto', 'eager' or a callable.")
    known = {"emulate_eager_casts"}
    for k in options or ():
        if k not in known:
            raise RuntimeError(f"Unexpected optimization option {k}, known options are {sorted(known)}")
    if model is None:
        return functools.partial(compile, fullgraph=fullgraph, dynamic=dynamic, backend=backend, mode=mode, options=options,
                                 disable=disable)
    if disable:
        return model
    if not callable(model):
        raise TypeError(f"compile() takes a function or an nn.Module, got {type(model).__name__}")
    return CompiledFunction(model, fullgraph, backend, dict(options or {}))


class Output:
    """How one tensor of the result is rebuilt at replay."""

    __slots__ = ("kind", "index", "shape", "strides", "offset", "tensor", "whole")

    def __init__(self, kind: str, index: int = 0, shape: tuple = (), strides: tuple = (), offset: int = 0,
                 tensor: Tensor | None = None, whole: bool = False) -> None:
        # "object": always the same tensor; "arg": an argument itself; "state": a view of a lifted input's memory;
        # "result": a view of plan result ``index``
        self.kind, self.index, self.shape, self.strides, self.offset, self.tensor = kind, index, shape, strides, offset, tensor
        self.whole = whole  # the view is the array itself


class Entry:
    """One compiled specialisation: a plan, where its inputs come from, and what to do with its results."""

    def __init__(self) -> None:
        self.guard: StateGuard | None = None
        self.plan: Plan | None = None
        self.sources: list[Source] = []
        self.base_shapes: list[tuple[int, ...]] = []
        self.template: Any = None
        self.outputs: list[Output] = []
        self.grads: list[tuple[Source, Output | None]] = []
        self.rebinds: list[tuple[Source, Output]] = []
        self.written: list[Source] = []
        self.generators: list[tuple[Any, int]] = []
        self.backward: aot.Backward | None = None
        self.layouts: list[tuple | None] = []   # what lifted state must look like
        self.grad_state: list[tuple[Source, bool]] = []
        self.seconds = 0.0
        self.reason = ""

    def tensor_of(self, source: Source, leaves: list[Tensor]) -> Tensor:
        """The tensor object that a source stands for in this call."""
        if source.kind == "arg":
            return leaves[source.where]
        if source.owner is not None:
            return source.owner.grad
        return source.tensor

    def fits(self, leaves: list[Tensor]) -> str | None:
        """Why this entry cannot serve the call, or ``None``."""
        failure = self.guard.failure()
        if failure is not None:
            return failure
        for source, had in self.grad_state:
            t = self.tensor_of(source, leaves)
            if ((t._x.grad if t._x is not None else None) is not None) != had:
                return "a .grad was " + ("set" if had else "None") + " when the function was traced and is not now"
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
            elif kind == "tangent":
                out.append(None)
            else:
                a = self.tensor_of(source, leaves)._a
                out.append(a if a.shape == shape and type(a) is np.ndarray and a.flags.c_contiguous else span_array(a, shape))
        return out

    def run(self, leaves: list[Tensor]) -> Any:
        """Executes the plan and rebuilds the function's result."""
        arrays = self.arrays(leaves)
        results = self.plan.run(arrays)
        for source in self.written:
            version_of(self.tensor_of(source, leaves))[0] += 1
        for generator, n in self.generators:
            generator._offset += n
        tensors = [self._rebuild(o, results, arrays, leaves) for o in self.outputs]
        for source, o in self.rebinds:
            self.tensor_of(source, leaves)._a = self._rebuild(o, results, arrays, leaves)._a
        for source, o in self.grads:
            meta(self.tensor_of(source, leaves)).grad = None if o is None else self._rebuild(o, results, arrays, leaves)
        if self.backward is not None:
            self.backward.attach([self.tensor_of(s, leaves) for s in self.backward.sources], tensors, results,
                                 [self.tensor_of(s, leaves) for s in self.backward.saved_sources])
        return _fill(self.template, tensors)

    def _rebuild(self, o: Output, results: list[Any], arrays: list[Any], leaves: list[Tensor]) -> Tensor:
        if o.kind == "object":
            return o.tensor
        if o.kind == "arg":
            return leaves[o.index]
        if o.whole:
            return wrap(results[o.index])
        a = arrays[o.index] if o.kind == "state" else results[o.index]
        return wrap(real_view(a, o.shape, o.strides, o.offset))


class CompiledFunction:
    """What :func:`compile` returns."""

    def __init__(self, fn: Any, fullgraph: bool, backend: Any, options: dict[str, Any]) -> None:
        self._fn, self._fullgraph, self._backend, self._options = fn, fullgraph, backend, options
        self._entries: dict[tuple, list[Entry]] = {}
        self._order: list[Entry] = []
        self._eager: str | None = "backend='eager'" if backend in ("eager", "aot_eager") else None
        self._one_shots = 0
        self._hits = 0
        self._misses: list[str] = []
        self._warned = False
        for name in ("__name__", "__qualname__", "__doc__", "__module__"):
            if hasattr(fn, name):
                setattr(self, name, getattr(fn, name))
        if not hasattr(fn, "__name__"):
            self.__name__ = type(fn).__name__

    # ---- calling

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._eager is not None or (dispatch.tracer[0] is not None and dispatch.active_tracer() is not None):
            return self._fn(*args, **kwargs)
        leaves: list[Tensor] = []
        key = signature(args, kwargs, leaves)
        try:
            entries = self._entries.get(key)
        except TypeError:
            return self._give_up("an argument of the call cannot be hashed")(*args, **kwargs)
        reason = None
        if entries is not None:
            for e in entries:
                failure = e.fits(leaves)
                if failure is None:
                    self._hits += 1
                    return e.run(leaves)
                reason = reason or failure  # the newest plan's
        return self._compile(args, kwargs, key, leaves, reason)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "_fn" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self._fn, name)

    def __repr__(self) -> str:
        return f"<fusetorch.compile of {self.__name__}: {len(self._order)} plans>"

    def _give_up(self, why: str) -> Any:
        self._eager = why
        warnings.warn(f"fusetorch.compile: {self.__name__} runs eagerly from now on: {why}", RuntimeWarning, stacklevel=3)
        return self._fn

    def _compile(self, args: tuple, kwargs: dict, key: tuple, leaves: list[Tensor], reason: str | None) -> Any:
        reason = reason or explain_miss(self._entries, key)
        if self._order:
            self._misses.append(reason)
            if config.debug >= 1:
                import sys
                print(f"fusetorch: recompiling {self.__name__}: {reason}", file=sys.stderr)
            if len(self._misses) > config.recompile_limit and not self._warned:
                self._warned = True
                warnings.warn(f"fusetorch.compile: {self.__name__} was compiled {len(self._misses) + 1} times; the last reason: {reason}",
                              RuntimeWarning, stacklevel=3)
            if len(self._misses) > 8 * config.recompile_limit:
                return self._give_up(f"it was compiled {len(self._misses) + 1} times (last reason: {reason})")(*args, **kwargs)
        start = time.perf_counter()
        guard = StateGuard(self._fn, [*args, *kwargs.values()])
        tracer = Tracer(self._fullgraph)
        for i, t in enumerate(leaves):
            tracer.sources[id(t)] = Source("arg", i, t)
        for t in (*guard.tensors.values(), *leaves):
            tracer.grads_before[id(t)] = t.grad
            tracer.holders[id(t._a)] = t
        try:
            with tracer:
                result = self._fn(*args, **kwargs)
        except BaseException:
            if not tracer.broken_at:
                if self._fullgraph:
                    tracer.restore()
                else:
                    tracer.flush()  # what ran before the error has happened, as it would have eagerly
            raise
        if tracer.broken_at:
            self._give_up(f"the value of a tensor is needed at {tracer.broken_at} (.item(), bool(), print() or a NumPy conversion)")
            return result
        entry = Entry()
        entry.guard, entry.reason = guard, reason
        try:
            lasting = finish(entry, tracer, result, leaves, self._options)
        except aot.NotDifferentiable as why:
            tracer.flush()
            self._give_up(str(why))
            return result
        except BaseException:
            tracer.restore()
            aot.restore_history(tracer)
            raise
        entry.seconds = time.perf_counter() - start
        for holder, name in [s.where for s in entry.sources if s.kind == "number"]:
            guard.forget(holder, name)
        if lasting is None:
            self._entries.setdefault(key, []).insert(0, entry)
            self._one_shots = 0
        else:
            self._one_shots += 1
            if self._one_shots > 3:
                self._give_up(f"every call leaves a new tensor behind ({lasting}), which a replay could not do")
        self._order.append(entry)
        return result

    # ---- looking inside

    def _entry_for(self, args: tuple, kwargs: dict) -> Entry:
        if not args and not kwargs and self._order:
            return self._order[-1]
        leaves: list[Tensor] = []
        key = signature(args, kwargs, leaves)
        for e in self._entries.get(key, ()):
            return e
        self(*args, **kwargs)
        if not self._order:
            raise RuntimeError(f"{self.__name__} is not compiled: {self._eager}")
        return self._order[-1]

    def explain(self, *args: Any, **kwargs: Any) -> Any:
        """What was fused into which kernel, bytes moved, refusals with reasons (see :class:`~fusetorch.compiler.explain.Explanation`).

        Compiles for these arguments if need be, which runs the function once."""
        from .explain import explain
        return explain(self._entry_for(args, kwargs), self._misses)

    @property
    def source(self) -> str:
        """The generated code of the latest plan's kernels."""
        from .explain import explain
        if not self._order:
            return ""
        return "\n\n".join(g.source for g in explain(self._order[-1], []).groups if g.source)

    def verify(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the fused plan and the same graph op by op on copies of the inputs, and compares every stored value."""
        from .explain import verify
        leaves: list[Tensor] = []
        entry = self._entry_for(args, kwargs)
        signature(args, kwargs, leaves)
        return verify(entry, leaves)

    def compare(self, *args: Any, **kwargs: Any) -> Any:
        """Fused against unfused: time, kernels, bytes, peak memory, largest difference. State is left as it was."""
        from .explain import compare
        leaves: list[Tensor] = []
        entry = self._entry_for(args, kwargs)
        signature(args, kwargs, leaves)
        return compare(entry, leaves)

    def warmup(self, *shapes: Any) -> CompiledFunction:
        """Compiles for float32 arguments of the given shapes ahead of the first call: ``warmup(((2, 3), (3, 4)), ...)``."""
        from ..ops.opdef import fn
        for call in shapes:
            self(*[fn.zeros(tuple(s)) for s in call])
        return self

    def cache_info(self) -> dict[str, Any]:
        """Hits, plans made, seconds spent compiling, and the reason of each recompilation."""
        return {"hits": self._hits, "plans": len(self._order), "seconds": sum(e.seconds for e in self._order),
                "recompiles": list(self._misses), "eager": self._eager}


# ---------------------------------------------------------------------------------------------------- finishing a trace


def finish(entry: Entry, tracer: Tracer, result: Any, leaves: list[Tensor], options: dict[str, Any]) -> str | None:
    """Turns a finished trace into an entry, runs it for the first time, and makes every tensor real.

    Returns why the entry cannot be used again, or ``None``.
    """
    graph = tracer.graph
    found: list[Tensor] = []
    entry.template = _template(result, found)
    tracked = [t for t, _, _ in tracer.lifted.values()]
    by_tensor = {id(t): tracer.lifted[id(t)][2].storage for t in tracked}
    source_of = {id(t): tracer.sources.get(id(t)) or Source("object", None, t) for t in tracked}
    owners = {id(g): t for t in tracked if (g := tracer.grads_before.get(id(t))) is not None}
    for t in tracked:
        if id(t) in owners and source_of[id(t)].kind == "object":
            source_of[id(t)].owner = owners[id(t)]
    needs = [t for t in found if t._req and t.grad_fn is not None]
    joint = aot.trace_backward(tracer, needs) if needs else None
    for t in (*found, *[t.grad for t in tracked if t.grad is not None]):
        if id(t) not in tracer.lifted and t._x is not None:
            t._x.base, t._x.chain = None, ()  # a view must not keep alive what it was cut from: a replay could not
    wanted: list[Value] = []
    place: dict[int, int] = {}

    def result_of(t: Tensor) -> Output:
        if id(t) in tracer.lifted and t._a is tracer.lifted[id(t)][2]:
            s = source_of[id(t)]
            return Output("arg", s.where) if s.kind == "arg" else Output("object", tensor=t)
        if type(t._a) is not TracedArray:
            return Output("object", tensor=t)
        a = t._a
        if a.storage.initial is not None:
            return Output("state", tracer.inputs.index(a.storage), a.shape, a.strides, a.offset)
        # one result a storage: two tensors with equal contents are still two pieces of memory
        index = place.setdefault(id(a.storage), len(wanted))
        if index == len(wanted):
            wanted.append(a.storage.value)
        return Output("result", index, a.shape, a.strides, a.offset, None, a.whole and a.shape == a.storage.value.shape)

    entry.outputs = [result_of(t) for t in found]
    for t in {id(t): t for t in (*tracked, *entry.guard.tensors.values(), *leaves)}.values():
        before, now = tracer.grads_before[id(t)], t.grad
        source = source_of.get(id(t)) or tracer.sources.get(id(t)) or Source("object", None, t)
        if now is not before:
            entry.grads.append((source, None if now is None else result_of(now)))
        if now is not before or before is not None:
            entry.grad_state.append((source, before is not None))
    for t in tracked:
        if t._a is not tracer.lifted[id(t)][2]:
            entry.rebinds.append((source_of[id(t)], result_of(t)))
    known = {id(t) for t in found} | ({id(t) for t in joint.grads} if joint is not None else set()) | {id(t._x.grad) for t in tracked if t._x is not None and t._x.grad is not None}
    lasting = [t for t in tracer.living() if id(t) not in known and type(t._a) is TracedArray]
    if lasting:
        gc.collect()
        lasting = [t for t in tracer.living() if id(t) not in known and type(t._a) is TracedArray]
    lasting_outputs = [result_of(t) for t in lasting]
    changed = [s for s in tracer.inputs if s.value is not s.initial]
    entry.written = [next(source_of[id(t)] for t in tracked if by_tensor[id(t)] is s) for s in changed
                     if s.source.kind in ("arg", "object")]
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
    entry.plan = Plan(graph, [s.initial for s in used], updates, emulate_casts=emulate, own=own)
    entry.sources = [source_of_storage(s, source_of, tracked, by_tensor) for s in used]
    entry.base_shapes = [s.initial.shape for s in used]
    real_of = {id(s): real for s, real in ((tracer.lifted[id(t)][2].storage, tracer.lifted[id(t)][1]) for t in tracked)}
    entry.layouts = [_layout(real_of.get(id(s)), src) for s, src in zip(used, entry.sources)]

    # first run: on the arrays the tensors had, then everything alive becomes real
    arrays = [input_array(s) for s in used]
    results = entry.plan.run(arrays)
    for t, o in [*zip(found, entry.outputs), *zip(lasting, lasting_outputs)]:
        _realise(t, o, results, arrays)
    for source, o in entry.grads:
        t = source.tensor
        g = t._x.grad
        if g is not None:
            _realise(g, o, results, arrays)
    for t in tracked:
        if t._a is not tracer.lifted[id(t)][2]:
            o = next(o for s, o in entry.rebinds if s is source_of[id(t)])
            _realise(t, o, results, arrays)
    tracer.restore()
    aot.restore_history(tracer)
    if entry.backward is not None:
        entry.backward.attach([s.tensor for s in entry.backward.sources], found, results,
                              [s.tensor for s in entry.backward.saved_sources])
    unguarded = [s.tensor for s in entry.sources if s.kind == "object" and id(s.tensor) not in entry.guard.tensors and s.owner is None]
    for s in tracer.sources.values():
        s.tensor = None  # an entry must not keep the first call's arguments alive
    if lasting:
        return f"shape {list(lasting[0].shape)}"
    if unguarded:
        return f"it reads a tensor of shape {list(unguarded[0].shape)} from a place that cannot be watched"
    return None


def source_of_storage(s: Storage, source_of: dict[int, Source], tracked: list[Tensor], by_tensor: dict[int, Storage]) -> Source:
    """The source of a lifted storage: that of the first tensor which had this memory."""
    if s.source.kind in ("number", "rng", "tangent"):
        return s.source
    return next(source_of[id(t)] for t in tracked if by_tensor[id(t)] is s)


def _layout(real: Any, source: Source) -> tuple | None:
    if source.kind != "object" or real is None:
        return None
    return (real.dtype, real.shape, real.strides, source.tensor._req)


def _realise(t: Tensor, o: Output, results: list[Any], arrays: list[Any]) -> None:
    if type(t._a) is TracedArray and o.kind in ("state", "result"):
        a = arrays[o.index] if o.kind == "state" else results[o.index]
        t._a = real_view(a, o.shape, o.strides, o.offset)


# ---- results as trees


class _Leaf:
    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


def _template(x: Any, found: list[Tensor]) -> Any:
    if isinstance(x, Tensor):
        for i, t in enumerate(found):
            if t is x:
                return _Leaf(i)
        found.append(x)
        return _Leaf(len(found) - 1)
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*[_template(v, found) for v in x])
    if isinstance(x, (list, tuple)):
        return type(x)([_template(v, found) for v in x])
    if isinstance(x, dict):
        return {k: _template(v, found) for k, v in x.items()}
    return x


def _fill(x: Any, tensors: list[Tensor]) -> Any:
    if type(x) is _Leaf:
        return tensors[x.index]
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*[_fill(v, tensors) for v in x])
    if isinstance(x, (list, tuple)):
        return type(x)([_fill(v, tensors) for v in x])
    if isinstance(x, dict):
        return {k: _fill(v, tensors) for k, v in x.items()}
    return x


