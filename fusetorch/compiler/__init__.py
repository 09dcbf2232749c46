"""The compiler: ``torch.compiler``'s names, and behind them trace -> IR -> fusion -> plan (see ``docs/architecture.md``)."""
from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any


def is_compiling() -> bool:
    """Whether this code is being traced by ``fusetorch.compile``."""
    from ..dispatch import active_tracer
    return active_tracer() is not None


def disable(fn: Callable | None = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """Returns ``fn`` as it is: outside a compiled function it runs eagerly. Inside one it is traced like the rest, which changes no
    result."""
    return disable if fn is None else fn


def allow_in_graph(fn: Any) -> Any:
    """``fn`` (or the list of functions) as it is: it is traced like the rest."""
    return fn


def assume_constant_result(fn: Callable) -> Callable:
    """``fn`` as it is: what it returns is looked at while a call is traced."""
    return fn


def is_dynamo_compiling() -> bool:
    """Whether this code is being traced by ``fusetorch.compile``."""
    return is_compiling()


def is_exporting() -> bool:
    """False: there is no ``torch.export``."""
    return False


def cudagraph_mark_step_begin() -> None:
    """Does nothing: results of a compiled function are never overwritten by its next call."""


def list_backends(exclude_tags: Any = ("debug", "experimental")) -> list[str]:
    """``["inductor"]``: the name that stands for fusetorch's compiler."""
    return ["inductor"]


class set_stance(contextlib.ContextDecorator):  # noqa: N801
    """Takes PyTorch's stances (``"default"``, ``"force_eager"``, ``"eager_on_recompile"``, ``"fail_on_recompile"``) as a call, a block or a
    decorator. They choose when to compile, never results, and here compile as ever."""

    def __init__(self, stance: str = "default", *, skip_guard_eval_unsafe: bool = False, force_backend: Any = None) -> None:
        if stance not in ("default", "force_eager", "eager_on_recompile", "fail_on_recompile", "aot_eager_then_compile",
                          "eager_then_compile"):
            raise RuntimeError(f"invalid torch.compile stance '{stance}'")

    def __enter__(self) -> set_stance:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def reset() -> None:
    """Present for PyTorch's programs; each compiled function owns its plans, so there is nothing global to forget."""
