"""``fusetorch.compile``: the object that stands in for a function and decides, at each call, which plan runs."""
from __future__ import annotations

import functools
import time
import warnings
import weakref
from typing import Any

from .. import config, dispatch
from ..errors import DataDependentError, InvalidBackend
from ..tensor import Tensor, grad_of
from . import aot, stance
from .alias import find_spans
from .effects import Effects
from .entry import Busy, Entry
from .finish import finish
from .guards import StateGuard
from .parts import Parts
from .places import Filled, Place, moved
from .signatures import Unguardable, explain_miss, signature, without_numbers
from .symbolic import Source
from .trace import Tracer, one_at_a_time
from .undo import Snapshot, undo

MODES = ("default", "lite", "reduce-overhead", "max-autotune-no-cudagraphs", "max-autotune")
#: Backends by name: those that run eagerly, and those that compile.
EAGER_BACKENDS = ("eager", "aot_eager", "aot_eager_decomp_partition", "eager_noexcept")
BACKENDS = ("auto", "inductor", "cudagraphs", *EAGER_BACKENDS)
#: Options of PyTorch's code generator that programs set; they choose how it works, never results, and nothing here.
WITHOUT_EFFECT = frozenset((
    "aggressive_fusion", "allow_buffer_reuse", "benchmark_kernel", "conv_1x1_as_mm", "coordinate_descent_check_all_directions",
    "coordinate_descent_tuning", "cpp.simdlen", "cpp.threads", "cpp.weight_prepack", "cpp_wrapper", "cuda.enable_cuda_lto", "dce", "debug",
    "epilogue_fusion", "fallback_random", "force_fuse_int_mm_with_mul", "freezing", "fx_graph_cache", "group_fusion", "inplace_buffers",
    "layout_optimization", "max_autotune", "max_autotune_gemm", "max_autotune_gemm_backends", "max_autotune_pointwise", "memory_planning",
    "pattern_matcher", "permute_fusion", "shape_padding", "size_asserts", "split_reductions", "trace.enabled", "trace.graph_diagram",
    "triton.autotune_pointwise", "triton.cudagraph_trees", "triton.cudagraphs", "triton.unique_kernel_names", "use_mixed_mm"))
_all: weakref.WeakSet[CompiledFunction] = weakref.WeakSet()


def compile(model: Any = None, *, fullgraph: bool = False, dynamic: bool | None = None, backend: Any = "auto",
            mode: str | None = None, options: dict[str, Any] | None = None, disable: bool = False) -> Any:
    """Compiles a function or module: traced at the first call, fused, and replayed as generated kernels.

    Works as a decorator or a call. A whole training step (forward, ``backward()``, optimizer step) may be inside.

    Args:
        model: the function or ``nn.Module``; omit it to use this as a decorator with arguments.
        fullgraph: raise :class:`~fusetorch.errors.DataDependentError` where Python needs a tensor's value, instead of running eagerly.
        dynamic: accepted; sizes are specialised. Another size compiles once more, and what has many sizes is compiled for those that recur.
        backend: ``"auto"`` or ``"inductor"``, ``"eager"`` (no compilation), or a callable ``backend(graph, example_inputs)`` that returns a
            callable: arrays of the graph's inputs in, arrays of its outputs out. Gradients run on plans of fusetorch's own.
        mode: one of ``default``, ``lite``, ``reduce-overhead``, ``max-autotune``, ``max-autotune-no-cudagraphs``; accepted, and all run the
            same plans at present. Not together with ``options``.
        options: ``{"emulate_eager_casts": bool}``, or PyTorch's ``emulate_precision_casts``: round half types where eager would. PyTorch's
            other common options are accepted and change nothing.

    Returns:
        an object that is called like ``model`` and has ``explain``, ``source``, ``verify``, ``compare``, ``warmup`` and ``cache_info``.

    Example:
        >>> import fusetorch as torch
        >>> f = torch.compile(lambda x: (x * 2 + 1).relu().sum())
        >>> f(torch.tensor([1.0, -4.0]))
        tensor(3.)
    """
    if mode is not None and options is not None:
        raise RuntimeError("Either mode or options can be specified, but both can't be specified at the same time.")
    if mode not in (None, *MODES):
        raise RuntimeError(f"Unrecognized mode={mode}, should be one of: {', '.join(MODES)}")
    if not (backend in BACKENDS or callable(backend)):
        raise InvalidBackend(f"Invalid backend: {backend!r}. Use one of {', '.join(BACKENDS)} or a callable.")
    chosen: dict[str, Any] = {}
    for k, v in (options or {}).items():
        k = k.replace("-", "_")
        if k in ("emulate_eager_casts", "emulate_precision_casts"):
            chosen["emulate_eager_casts"] = v
        elif k not in WITHOUT_EFFECT:
            raise RuntimeError(f"Unexpected optimization option {k}, known options are {sorted(WITHOUT_EFFECT | {'emulate_eager_casts'})}")
    if model is None:
        return functools.partial(compile, fullgraph=fullgraph, dynamic=dynamic, backend=backend, mode=mode, options=options,
                                 disable=disable)
    if disable:
        return model
    if not callable(model):
        raise TypeError(f"compile() takes a function or an nn.Module, got {type(model).__name__}")
    return CompiledFunction(model, fullgraph, backend, chosen)


def forget() -> None:
    """Makes all compiled functions as new."""
    for f in list(_all):
        f._forget()


class CompiledFunction:
    """What :func:`compile` returns."""

    def __init__(self, fn: Any, fullgraph: bool, backend: Any, options: dict[str, Any], within: CompiledFunction | None = None) -> None:
        self._within = within   # the function that calls this module, and runs eagerly itself
        self._fn, self._fullgraph, self._backend, self._options = fn, fullgraph, backend, options
        self._forget()
        _all.add(self)
        for name in ("__name__", "__qualname__", "__doc__", "__module__"):
            if hasattr(fn, name):
                setattr(self, name, getattr(fn, name))
        if not hasattr(fn, "__name__"):
            self.__name__ = type(fn).__name__
        self.__wrapped__ = fn

    def _forget(self) -> None:
        self._entries: dict[tuple, list[Entry]] = {}
        self._order: list[Entry] = []
        self._parts: Parts | None = None
        self._second_order = False
        self._eager: str | None = f"backend={self._backend!r}" if self._backend in EAGER_BACKENDS else None
        self._one_shots = 0
        self._once: str | None = None   # why the last trace could not be kept
        self._hits = 0
        self._misses: list[str] = []
        self._places: list[Place] = []      # what it fills anew at each call
        self._sightings: dict[tuple, tuple[int, int]] = {}  # by signature: calls without a plan since the last one, and how many it takes
        self._shapes: set[tuple] = set()    # signatures without numbers that were compiled
        self._made = 0
        self._seconds = 0.0
        self._warned = False

    # ---- calling

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if dispatch.tracer[0] is not None and dispatch.active_tracer() is not None:
            return self._fn(*args, **kwargs)
        if self._eager is not None or stance[0] == "force_eager":
            return self._run_eagerly(*args, **kwargs)
        leaves: list[Tensor] = []
        try:
            key = self._key(args, kwargs, leaves)
            entries = self._entries.get(key)
        except TypeError:
            return self._give_up("an argument of the call cannot be hashed")(*args, **kwargs)
        except Unguardable as why:
            return self._unguardable(why)(*args, **kwargs)
        busy = False
        if entries is not None:
            for e in entries:
                if e.fits(leaves) is None:
                    e.used = self._hits = self._hits + 1
                    try:
                        return e.run(leaves, self._fn, args, kwargs)
                    except Busy:
                        busy = True
                        break
        if self._made and not busy and stance[0] != "default":
            if stance[0] == "eager_on_recompile":
                return self._fn(*args, **kwargs)
            if stance[0] == "fail_on_recompile":
                raise RuntimeError("Detected recompile when torch.compile stance is 'fail_on_recompile': "
                                   f"{self.__name__} has no plan for this call ({explain_miss(self._entries, key)})")
        if not (busy or self._worth_it(key)):
            if key in self._entries or without_numbers(key) in self._shapes:  # only numbers are new, and its modules may not care
                self._take_apart()
                return self._run_eagerly(*args, **kwargs)
            return self._fn(*args, **kwargs)
        with one_at_a_time:  # another thread's trace may hold tensors that this call reads, or make the plan that it needs
            reason = None
            for e in self._entries.get(key, ()):
                failure = e.fits(leaves)
                if failure is None:
                    e.used = self._hits = self._hits + 1
                    return e.run(leaves, self._fn, args, kwargs)
                reason = reason or failure  # the newest plan's
            return self._compile(args, kwargs, key, leaves, reason)

    def _key(self, args: tuple, kwargs: dict, leaves: list[Tensor]) -> tuple:
        """The signature of a call. What is in the places that the function fills counts as arguments."""
        if not self._places:
            return signature(args, kwargs, leaves)
        return signature((*args, *[p.get() for p in self._places]), kwargs, leaves)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "_fn" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self._fn, name)

    def __reduce__(self) -> tuple:
        return CompiledFunction, (self._fn, self._fullgraph, self._backend, self._options)  # copies make plans of their own

    def __repr__(self) -> str:
        return f"<fusetorch.compile of {self.__name__}: {self._made} plans>"

    def _unguardable(self, why: Unguardable) -> Any:
        if self._fullgraph:
            raise DataDependentError(f"fullgraph=True, but {self.__name__} cannot be replayed: {why}")
        return self._give_up(str(why))

    def _give_up(self, why: str) -> Any:
        self._eager = why
        self._take_apart()
        if self._within is None:  # else that has been said of the whole
            warnings.warn(f"fusetorch.compile: {self.__name__} runs eagerly from now on, its modules compiled one by one: {why}",
                          RuntimeWarning, stacklevel=3)
        return self._run_eagerly

    def _take_apart(self) -> None:
        if self._parts is None and not self._second_order:  # which a compiled module may refuse
            self._parts = Parts(self._fn, lambda call: CompiledFunction(call, False, self._backend, self._options, self))

    def _run_eagerly(self, *args: Any, **kwargs: Any) -> Any:
        if self._parts is None:
            return self._fn(*args, **kwargs)
        with self._parts:
            return self._fn(*args, **kwargs)

    def _compile(self, args: tuple, kwargs: dict, key: tuple, leaves: list[Tensor], reason: str | None) -> Any:
        reason = reason or self._once or explain_miss(self._entries, key)
        new = [p for e in self._entries.get(key, ())[:1] for p in moved(e.guard)]
        if new and self._filled_anew(new):  # tensors were replaced from outside, as may happen again
            self._entries.clear()
            self._order = self._order[-1:]
            leaves = []
            key = self._key(args, kwargs, leaves)
        if self._made:
            self._misses.append(reason)
            if config.debug >= 1:
                import sys
                print(f"fusetorch: recompiling {self.__name__}: {reason}", file=sys.stderr)
            if len(self._misses) > config.recompile_limit and not self._warned:
                self._warned = True
                warnings.warn(f"fusetorch.compile: {self.__name__} was compiled {len(self._misses) + 1} times; the last reason: {reason}. "
                              "From now on it is compiled for what recurs; the rest runs eagerly", RuntimeWarning, stacklevel=3)
        start = time.perf_counter()
        try:
            filled = Filled(self._places)
            guard = StateGuard(self._fn, [*args, *kwargs.values(), *filled.values], self._places)
        except Unguardable as why:
            return self._unguardable(why)(*args, **kwargs)
        self._second_order = self._second_order or guard.second_order
        if guard.shapeless:  # this call gives them their shapes
            return self._fn(*args, **kwargs)
        before = [(t._a, t._req) for t in leaves]
        snapshot = Snapshot(guard, self._places) if self._fullgraph else None
        tracer = Tracer(self._fullgraph)
        for i, t in enumerate(leaves):
            tracer.sources[id(t)] = Source("arg", i, t)
        tracer.spans = find_spans((*leaves, *guard.tensors.values()))
        for t in (*guard.tensors.values(), *leaves):
            tracer.grads_before[id(t)] = grad_of(t)
            tracer.holders[id(t._a)] = t
        try:
            with Effects(guard.clocks, guard.generators) as effects, tracer:
                result = self._fn(*args, **kwargs)
            if effects.clock is not None and self._fullgraph and not tracer.broken_at:
                raise DataDependentError(f"fullgraph=True, but {self.__name__} cannot be replayed: it uses {effects.clock}, which may "
                                         "differ from call to call")
        except DataDependentError:
            if not tracer.broken_at:
                undo(tracer, snapshot, (*guard.tensors.values(), *leaves))
            raise
        except BaseException:
            if not tracer.broken_at:
                tracer.flush()  # what ran before the error has happened, as it would have eagerly
            raise
        if tracer.broken_at:
            self._give_up(f"at {tracer.broken_at} {tracer.broken_why}")
            return result
        entry = Entry()
        entry.guard, entry.reason = guard, reason
        entry.flags = [(i, t._req) for i, (t, (_, req)) in enumerate(zip(leaves, before)) if t._req is not req]
        entry.same_tensors = [(i, t) for i, t in enumerate(leaves) if id(t) in guard.reached]
        try:
            lasting = finish(entry, tracer, result, leaves, filled.stores(),
                             functools.partial(self._fn, *args, **kwargs), self._options,
                             self._backend if callable(self._backend) else None)
        except aot.NotDifferentiable as why:
            tracer.flush()
            self._give_up(str(why))
            return result
        except BaseException:
            tracer.restore()
            aot.restore_history(tracer)
            raise
        for t in leaves:  # an entry must not keep the first call's arguments alive
            guard.tensors.pop(id(t), None)
            if (g := grad_of(t)) is not None:
                guard.tensors.pop(id(g), None)
        given = set(map(id, leaves)) - guard.reached
        guard.unhooked = [t for t in guard.unhooked if id(t) not in given]  # the signature tells arguments with hooks
        entry.seconds = time.perf_counter() - start
        for holder, name in [s.where for s in entry.sources if s.kind == "number"]:
            guard.forget(holder, name)
        if effects.clock is not None:
            self._give_up(f"it uses {effects.clock}, which may differ from call to call")
            return result
        new = moved(guard)
        if new and guard.failure() is None and self._filled_anew(new):
            self._once = "places that each call fills anew were found"
            self._keep(entry)
            return result
        self._once = lasting = lasting or effects.seen() or self._changed(guard, key, args, kwargs, filled.values, leaves, before)
        if lasting is None:
            self._one_shots = 0
        else:
            self._one_shots += 1
            if self._one_shots > 3:
                self._give_up(f"{lasting}, which a replay could not do")
        self._keep(entry, key if lasting is None else None)
        if config.debug >= 2 or config.dump_dir:
            from .explain import announce
            announce(self.__name__, len(self._order), entry)
        return result

    def _worth_it(self, key: tuple) -> bool:
        """Whether a call without a plan is to be compiled. Once a function has been compiled often, only what recurs is, and the more often
        a signature was compiled, the more often it must recur."""
        if self._fullgraph or len(self._misses) <= config.recompile_limit:
            return True
        if len(self._sightings) > 4096:
            self._sightings.clear()
        seen, needed = self._sightings.get(key, (0, 4))
        due = seen + 1 >= needed
        self._sightings[key] = (0, 2 * needed) if due else (seen + 1, needed)
        return due

    def _filled_anew(self, places: list[Place]) -> bool:
        """From now on, takes what these places hold as arguments; False where there are too many."""
        if len(self._places) + len(places) > 1000:
            return False
        self._places = self._places + places
        return True

    def _keep(self, entry: Entry, key: tuple | None = None) -> None:
        """Files a plan under its signature (``None``: it cannot be used again), in place of the one that was not used for longest where
        there are many."""
        self._made += 1
        self._seconds += entry.seconds
        if self._order and self._order[-1].key is None:
            self._order.pop()
        self._order.append(entry)
        if key is None:
            return
        entry.key, entry.used = key, self._hits
        self._shapes.add(without_numbers(key))
        self._entries.setdefault(key, []).insert(0, entry)
        if len(self._order) > 8 * max(config.recompile_limit, 1):
            old = min(self._order[:-1], key=lambda e: e.used)
            self._order.remove(old)
            same = self._entries[old.key]
            same.remove(old)
            if not same:
                del self._entries[old.key]

    def _changed(self, guard: StateGuard, key: tuple, args: tuple, kwargs: dict, filled: list[Any], leaves: list[Tensor],
                 before: list[tuple[Any, bool]]) -> str | None:
        """What Python did in a call that only Python can do again, or ``None``."""
        failure = guard.failure()
        if failure is not None:
            return f"each call changes what it reads ({failure})"
        after = [(t._a, t._req) for t in leaves]  # what became of the arguments, a replay does again
        try:
            _put(leaves, before)
            same = signature((*args, *filled), kwargs, []) == key
        finally:
            _put(leaves, after)
        if not same:
            return "each call changes its arguments, or a mode, in Python"
        return None

    # ---- looking inside

    def _entry_for(self, args: tuple, kwargs: dict) -> Entry:
        if not args and not kwargs and self._order:
            return self._order[-1]
        leaves: list[Tensor] = []
        key = self._key(args, kwargs, leaves)
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
        self._key(args, kwargs, leaves)
        return verify(entry, leaves)

    def compare(self, *args: Any, **kwargs: Any) -> Any:
        """Fused against unfused: time, kernels, bytes, peak memory, largest difference. State is left as it was."""
        from .explain import compare
        leaves: list[Tensor] = []
        entry = self._entry_for(args, kwargs)
        self._key(args, kwargs, leaves)
        return compare(entry, leaves)

    def warmup(self, *shapes: Any) -> CompiledFunction:
        """Compiles for float32 arguments of the given shapes ahead of the first call: ``warmup(((2, 3), (3, 4)), ...)``."""
        from ..ops.opdef import fn
        for call in shapes:
            self(*[fn.zeros(tuple(s)) for s in call])
        return self

    def cache_info(self) -> dict[str, Any]:
        """Hits, plans made, seconds spent compiling, and the reason of each recompilation."""
        return {"hits": self._hits, "plans": self._made, "seconds": self._seconds,
                "recompiles": list(self._misses), "eager": self._eager}


def _put(tensors: list[Tensor], states: list[tuple[Any, bool]]) -> None:
    for t, (a, req) in zip(tensors, states):
        t._a, t._req = a, req
