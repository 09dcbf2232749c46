"""``torch.autograd.graph``: looking at the tape and having a say in what it keeps."""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from threading import get_ident
from typing import Any, NamedTuple

from ..tensor import Tensor, version_of
from . import engine
from .nodes import AccumulateGrad, Node, accumulator, edge_of, packers

__all__ = ["saved_tensors_hooks", "save_on_cpu", "disable_saved_tensors_hooks", "register_multi_grad_hook", "Node", "GradientEdge",
           "get_gradient_edge", "increment_version"]


class GradientEdge(NamedTuple):
    """Where a gradient enters the tape: a node and which of its outputs. ``backward`` and ``grad`` take one for a tensor."""

    node: Node | AccumulateGrad
    output_nr: int


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The edge of a tensor that requires a gradient."""
    if not tensor.requires_grad:
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    e = edge_of(tensor)
    return GradientEdge(*e) if isinstance(e, tuple) else GradientEdge(accumulator(e), 0)


def increment_version(tensor: Tensor | Sequence[Tensor]) -> None:
    """Counts a write in place that autograd did not see."""
    for t in (tensor,) if isinstance(tensor, Tensor) else tensor:
        version_of(t)[0] += 1


class saved_tensors_hooks:
    """Inside, each tensor kept for backward goes through ``pack_hook`` now and ``unpack_hook`` when it is needed.

    Example:
        >>> import fusetorch as torch
        >>> x = torch.ones(2, requires_grad=True)
        >>> with torch.autograd.graph.saved_tensors_hooks(lambda t: t * 10, lambda t: t):
        ...     y = (x * x).sum()
        >>> y.backward()
        >>> x.grad
        tensor([20., 20.])
    """

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]) -> None:
        self.hooks = pack_hook, unpack_hook
        self.entries: list[tuple] = []

    def __enter__(self) -> None:
        ident = get_ident()
        if (message := _disabled.get(ident)) is not None:
            raise RuntimeError(message)
        self.entries.append((ident, *self.hooks))
        packers.append(self.entries[-1])

    def __exit__(self, *exc: object) -> None:
        entry = self.entries.pop()
        del packers[next(i for i in reversed(range(len(packers))) if packers[i] is entry)]


_disabled: dict[int, str] = {}


@contextlib.contextmanager
def disable_saved_tensors_hooks(error_message: str) -> Iterator[None]:
    """Inside, :class:`saved_tensors_hooks` raise ``RuntimeError`` with this message."""
    ident = get_ident()
    if any(thread == ident for thread, _, _ in packers):
        raise RuntimeError(error_message)
    before = _disabled.get(ident)
    _disabled[ident] = error_message
    try:
        yield
    finally:
        if before is None:
            del _disabled[ident]
        else:
            _disabled[ident] = before


class save_on_cpu(saved_tensors_hooks):
    """Inside, tensors kept for backward wait in CPU memory (``pin_memory`` is accepted; there is no pinned memory)."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        super().__init__(lambda t: (t.device, t.cpu()), lambda kept: kept[1].to(kept[0]))


class _Handles:
    """Removes several hooks at once."""

    def __init__(self, handles: Sequence[Any]) -> None:
        self.handles = handles

    def remove(self) -> None:
        """Takes the hooks off."""
        for h in self.handles:
            h.remove()

    def __enter__(self) -> _Handles:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def register_multi_grad_hook(tensors: Sequence[Tensor], fn: Callable[..., None], *, mode: str = "all") -> _Handles:
    """Calls ``fn`` in each backward pass that reaches ``tensors``: with the list of all their gradients (``None`` for those not reached)
    once they are known, or with ``mode="any"`` with the first of them."""
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    seen: dict[int, list] = {}  # by backward pass: the gradients, and whether fn was called

    def make(i: int) -> Callable[[Tensor], None]:
        def hook(g: Tensor) -> None:
            run = engine.callbacks[-1]
            state = seen.get(id(run))
            if state is None:
                state = seen[id(run)] = [[None] * len(tensors), False]
                run.append(lambda: finish(id(run)))
            state[0][i] = g
            if not state[1] and (mode == "any" or all(x is not None for x in state[0])):
                state[1] = True
                fn(g if mode == "any" else state[0])
        return hook

    def finish(key: int) -> None:
        grads, called = seen.pop(key)
        if not called:
            fn(grads)

    return _Handles([t.register_hook(make(i)) for i, t in enumerate(tensors)])
