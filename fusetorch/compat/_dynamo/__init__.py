"""``torch._dynamo``: the names that programs use of PyTorch's tracer, for ``fusetorch.compile``. Its settings are accepted and change
nothing; see ``fusetorch.config`` for those that exist."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fusetorch.compiler import (
    allow_in_graph,
    assume_constant_result,
    disable,
    is_compiling,
    list_backends,
    reset,
    set_stance,
    substitute_in_graph,
)
from fusetorch.nn.compiled import OptimizedModule

from . import config, exc, utils

__all__ = ["ExplainOutput", "OptimizedModule", "allow_in_graph", "assume_constant_result", "config", "disable", "disallow_in_graph", "exc",
           "explain", "forbid_in_graph", "graph_break", "is_compiling", "is_dynamo_supported", "is_inductor_supported", "list_backends",
           "mark_dynamic", "mark_static", "mark_static_address", "maybe_mark_dynamic", "optimize", "optimize_assert", "reset",
           "reset_code_caches", "run", "set_stance", "skip_frame", "substitute_in_graph", "utils"]

reset_code_caches = reset
disallow_in_graph = forbid_in_graph = disable


def optimize(backend: Any = "inductor", *, nopython: bool = False, guard_export_fn: Any = None, guard_fail_fn: Any = None,
             disable: bool = False, dynamic: bool | None = None) -> Callable:
    """A decorator that compiles; the form of ``torch.compile`` of PyTorch's first releases."""
    import fusetorch as torch
    return lambda fn: torch.compile(fn, backend=backend, fullgraph=nopython, dynamic=dynamic, disable=disable)


def optimize_assert(backend: Any = "inductor", **options: Any) -> Callable:
    """:func:`optimize` that raises where the function is not one graph."""
    return optimize(backend, nopython=True)


def run(fn: Any = None) -> Any:
    """``fn`` as it is: a compiled function uses the plans that it has in any case."""
    return run if fn is None else fn


def graph_break(msg: str = "") -> None:
    """Ends the trace: a compiled function that calls this runs eagerly, with its modules compiled one by one."""
    from fusetorch.dispatch import active_tracer
    tracer = active_tracer()
    if tracer is not None:
        tracer.stop_tracing("torch._dynamo.graph_break() is called" + (f": {msg}" if msg else ""))


def skip_frame(msg: str = "") -> None:
    """:func:`graph_break`."""
    graph_break(msg)


class ExplainOutput(NamedTuple):
    """What :func:`explain` found."""

    graphs: list
    graph_count: int
    graph_break_count: int
    break_reasons: list
    op_count: int

    def __str__(self) -> str:
        reasons = "".join(f"\n  Break Reason {i}: {r}" for i, r in enumerate(self.break_reasons, 1))
        return (f"Graph Count: {self.graph_count}\nGraph Break Count: {self.graph_break_count}\nOp Count: {self.op_count}\n"
                f"Break Reasons:{reasons}")


def explain(f: Callable, *extra_args: Any, **extra_kwargs: Any) -> Any:
    """``explain(f)(*args)`` compiles ``f`` for these arguments, running it once, and says whether it is one graph. More is to be had from
    the compiled function's own ``explain``."""
    from fusetorch.compiler.api import CompiledFunction

    def inner(*args: Any, **kwargs: Any) -> ExplainOutput:
        import warnings
        c = CompiledFunction(f, False, "auto", {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            c(*args, **kwargs)
        why = c.cache_info()["eager"]
        graphs = [] if why else [c.explain().graph]
        return ExplainOutput(graphs, len(graphs), 1 if why else 0, [why] if why else [], sum(len(g.live()) for g in graphs))
    return inner(*extra_args, **extra_kwargs) if extra_args or extra_kwargs else inner


def is_dynamo_supported() -> bool:
    """True."""
    return True


def is_inductor_supported() -> bool:
    """True."""
    return True


def mark_dynamic(t: Any, index: Any, **bounds: Any) -> None:
    """Does nothing: sizes are specialised, and another size compiles once more."""


def mark_static(t: Any, index: Any = None) -> None:
    """Does nothing: sizes are specialised."""


def mark_static_address(t: Any, guard: bool = True) -> None:
    """Does nothing: inputs may lie anywhere."""


maybe_mark_dynamic = mark_dynamic
