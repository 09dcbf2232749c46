"""What passes want to carry from node to node while a graph is run."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_state: dict[str, Any] = {"meta": {}, "kept": False}


@contextmanager
def preserve_node_meta(enable: bool = True) -> Iterator[None]:
    """A context in which :func:`get_current_meta` says what node is being run."""
    before = dict(_state)
    _state["kept"] = enable
    try:
        yield
    finally:
        _state.update(before)


@contextmanager
def set_current_meta(node: Any, pass_name: str = "") -> Iterator[None]:
    """A context in which ``node`` is the one being run."""
    before = _state["meta"]
    if _state["kept"] and node.meta:
        _state["meta"] = dict(node.meta)
    try:
        yield
    finally:
        _state["meta"] = before


def get_current_meta() -> dict[str, Any]:
    """The ``meta`` of the node that is being run."""
    return _state["meta"]


def has_preserved_node_meta() -> bool:
    """Whether inside :func:`preserve_node_meta`."""
    return _state["kept"]


def format_stack() -> list[str]:
    """Where the node that is being run stands in the program, if it is known."""
    trace = _state["meta"].get("stack_trace")
    return [trace] if trace else []
