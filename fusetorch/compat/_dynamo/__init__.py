"""``torch._dynamo``: the names that programs use of PyTorch's tracer, for ``fusetorch.compile``. Its settings are accepted and change
nothing; see ``fusetorch.config`` for those that exist."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fusetorch.compiler import allow_in_graph, assume_constant_result, disable, is_compiling, list_backends, reset

from . import config, exc

__all__ = ["allow_in_graph", "assume_constant_result", "config", "disable", "exc", "graph_break", "is_compiling", "list_backends",
           "mark_dynamic", "mark_static", "mark_static_address", "maybe_mark_dynamic", "optimize", "reset", "reset_code_caches"]

reset_code_caches = reset


def optimize(backend: Any = "inductor", *, nopython: bool = False, **options: Any) -> Callable:
    """A decorator that compiles; the form of ``torch.compile`` of PyTorch's first releases."""
    import fusetorch as torch
    return lambda fn: torch.compile(fn, fullgraph=nopython)


def graph_break(msg: str = "") -> None:
    """Does nothing: a compiled function is one graph."""


def mark_dynamic(t: Any, index: Any, **bounds: Any) -> None:
    """Does nothing: sizes are specialised, and another size compiles once more."""


def mark_static(t: Any, index: Any = None) -> None:
    """Does nothing: sizes are specialised."""


def mark_static_address(t: Any, guard: bool = True) -> None:
    """Does nothing: inputs may lie anywhere."""


maybe_mark_dynamic = mark_dynamic
