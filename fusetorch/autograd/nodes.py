"""The tape's parts: nodes, what they keep for the backward pass, and where gradients go from them."""
from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from threading import get_ident
from typing import Any

from ..tensor import Meta, Tensor, meta, wrap
from .modes import GradMode, no_grad

_sequence = itertools.count()
next_order = _sequence.__next__


class Node:
    """One recorded operation.

    ``edges[i]`` says where the gradient of operand *i* goes: ``(node, output number)``, a leaf tensor, or ``None``. ``backward`` maps the
    outputs' gradients to the operands'. Subclasses hold what they need.
    """

    # recording is on the eager hot path: fields with a usual value are class attributes, set only where they differ
    n_outputs = 1
    released = False
    hooks: dict | None = None                       # by output: what :func:`watch` put there
    extra: NodeHooks | None = None                  # hooks of the node itself
    where: str | None = None                        # in anomaly mode: the stack of the forward call
    label: str | None = None                        # PyTorch's name of the operation that ended with this node
    part: Callable | None = None                    # of a view that shows some elements, each once: the view of another array
    edges: tuple
    order: int

    def __init__(self, edges: tuple, n_outputs: int = 1) -> None:
        self.edges = edges
        self.order = next(_sequence)
        if n_outputs != 1:
            self.n_outputs = n_outputs

    def backward(self, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        """Gradients of the operands from those of the outputs."""
        raise NotImplementedError

    def release(self) -> None:
        """Drops saved tensors."""
        self.released = True

    def name(self) -> str:
        """Such as ``MulBackward0``."""
        return self.label or type(self).__name__

    @property
    def next_functions(self) -> tuple:
        """Where gradients flow next, as PyTorch shows it."""
        return tuple((None, 0) if e is None else (shown(e[0]), e[1]) if isinstance(e, tuple) else (accumulator(e), 0)
                     for e in self.edges)

    @property
    def metadata(self) -> dict:
        """A dictionary for the user's notes."""
        return self._extra().metadata

    def _extra(self) -> NodeHooks:
        if self.extra is None:
            self.extra = NodeHooks()
        return self.extra

    def register_hook(self, fn: Callable) -> Any:
        """Calls ``fn(grad_inputs, grad_outputs)`` after this node ran in backward; what it returns replaces the ``grad_inputs``."""
        return _add_hook(self._extra().after, fn)

    def register_prehook(self, fn: Callable) -> Any:
        """Calls ``fn(grad_outputs)`` before this node runs in backward; what it returns replaces them."""
        return _add_hook(self._extra().before, fn)

    @property
    def _sequence_nr(self) -> int:
        return self.order

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self):#x}>"


_shown: dict[tuple[type, str], type] = {}


def shown(node: Node) -> Node:
    """The node, of a class with PyTorch's name: programs that draw graphs of gradients read ``type(node).__name__``."""
    cls, name = type(node), node.name()
    if cls.__name__ != name:
        own = cls.__mro__[1] if _shown.get((cls.__mro__[1], cls.__name__)) is cls else cls
        made = _shown.get((own, name))
        if made is None:
            made = _shown[own, name] = type(name, (own,), {"__module__": "builtins", "__doc__": own.__doc__})
        node.__class__ = made
    return node


class NodeHooks:
    """What was attached to a node."""

    __slots__ = ("before", "after", "metadata")

    def __init__(self) -> None:
        self.before: dict[int, Callable] = {}
        self.after: dict[int, Callable] = {}
        self.metadata: dict = {}


def _add_hook(hooks: dict[int, Callable], hook: Callable) -> Any:
    from ..ops.conversion import RemovableHandle
    key = next(_sequence)
    hooks[key] = hook
    return RemovableHandle(hooks, key)


class AccumulateGrad:
    """Shown for leaves in ``next_functions``; ``variable`` is the leaf. Its hooks run when the leaf's ``grad`` has been added to."""

    metadata: dict

    def __init__(self, variable: Tensor) -> None:
        self.variable = variable
        self.metadata = {}
        self.next_functions: tuple = ()

    def name(self) -> str:
        """PyTorch's name of this node."""
        return "torch::autograd::AccumulateGrad"

    def register_hook(self, fn: Callable) -> Any:
        """Calls ``fn((), (grad,))`` after the gradient was accumulated."""
        return _add_hook(post_hooks(self.variable), lambda leaf: fn((), (leaf.grad,)))

    def register_prehook(self, fn: Callable) -> Any:
        """Calls ``fn((grad,))`` before the gradient is accumulated; what it returns replaces it."""
        def hook(g: Tensor) -> Tensor | None:
            new = fn((g,))
            return new[0] if isinstance(new, tuple) else new
        return self.variable.register_hook(hook)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccumulateGrad) and other.variable is self.variable

    def __hash__(self) -> int:
        return hash((AccumulateGrad, id(self.variable)))

    def __repr__(self) -> str:
        return f"<AccumulateGrad object at {id(self.variable):#x}>"


def accumulator(leaf: Tensor) -> AccumulateGrad:
    """What stands for a leaf among the nodes."""
    return AccumulateGrad(leaf)


def post_hooks(t: Tensor) -> dict[int, Callable]:
    """The functions that are called with this leaf after its gradient was accumulated."""
    x = meta(t)
    if x.post_hooks is None:
        x.post_hooks = {}
    return x.post_hooks


class Pass(Node):
    """Hands a gradient on: the history of a tensor that stands for another one."""

    def backward(self, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        """The gradient itself."""
        return grads

    def release(self) -> None:
        """Nothing is saved here."""


#: Pairs of functions that pack and unpack saved tensors, with the thread that wants them (``autograd.graph.saved_tensors_hooks``).
packers: list[tuple[int, Callable, Callable]] = []


class Packed:
    """A saved tensor in the keeping of the user's ``pack`` and ``unpack``."""

    __slots__ = ("value", "unpack", "edge", "output")

    def __init__(self, t: Tensor, output: int | None, pack: Callable, unpack: Callable) -> None:
        self.unpack, self.output = unpack, output
        self.edge = edge_of(t) if output is None else None
        with no_grad():
            self.value = pack(t if output is None and t.grad_fn is None else t.detach())

    def get(self, node: Node) -> Tensor:
        """The tensor, with the history that it was saved with."""
        with no_grad():
            t = self.unpack(self.value)
        if not isinstance(t, Tensor):
            raise TypeError("Output of saved tensor unpack_hook expected to be a Tensor but got result of type "
                            + type(t).__name__)
        if GradMode.enabled and (self.output is not None or self.edge is not None):
            seen = wrap(t._a)
            if self.output is not None:
                return set_history(seen, node, self.output)
            return set_history(seen, *self.edge) if isinstance(self.edge, tuple) else set_history(seen, Pass((self.edge,)))
        return t


def keep(t: Tensor, output: int | None = None) -> Any:
    """A :class:`Saved`, or what the hooks make of it that this thread has set."""
    if packers:
        ident = get_ident()
        for thread, pack, unpack in reversed(packers):
            if thread == ident:
                return Packed(t, output, pack, unpack)
    return Saved(t, output)


class Saved:
    """A tensor kept for backward with the version it had: an in-place write in between is an error, as in PyTorch. Made by :func:`keep`."""

    __slots__ = ("tensor", "version", "output")

    def __init__(self, t: Tensor, output: int | None = None) -> None:
        self.output = output
        x = t._x
        if output is None:
            self.tensor = t
            self.version = 0 if x is None or x.version is None else x.version[0]
            return
        # a node's own output is kept without its history, or the node would keep itself alive
        if x is None:
            x = t._x = Meta()
        if x.version is None:
            x.version = [0]
        self.tensor = own = wrap(t._a)
        own._x = m = Meta()
        m.version = x.version
        self.version = x.version[0]

    def get(self, node: Node) -> Tensor:
        """The tensor, or PyTorch's error if it was modified since."""
        t = self.tensor
        x = t._x
        if (0 if x is None or x.version is None else x.version[0]) != self.version:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an inplace operation: "
                f"[{t.dtype} {list(t.shape)}], which is an operand of {node.name()}, is at version {t._version}; expected version "
                f"{self.version} instead. Hint: clone it before the in-place operation, or use the out-of-place form.")
        if self.output is not None and GradMode.enabled:
            return set_history(wrap(t._a), node, self.output)
        return t


def edge_of(t: Tensor) -> Any:
    """Where this tensor's gradient goes: ``(node, index)``, the tensor itself for a leaf, ``None`` if it wants none."""
    if not t._req:
        return None
    x = t._x
    if x is None:
        return t
    if x.base is not None and x.base._x.version[0] != x.seen:  # written to since: the history is another one
        t.grad_fn  # noqa: B018
        x = t._x
    return t if x.node is None else (x.node, x.index)


def edges_of(tensors: Sequence[Tensor]) -> tuple:
    """:func:`edge_of` of each."""
    edges: list[Any] = []
    for t in tensors:
        if not t._req:
            edges.append(None)
            continue
        x = t._x
        if x is None:
            edges.append(t)
        elif x.base is None or x.base._x.version[0] == x.seen:
            edges.append(t if x.node is None else (x.node, x.index))
        else:
            edges.append(edge_of(t))
    return tuple(edges)


def set_history(t: Tensor, node: Node, index: int = 0) -> Tensor:
    """Makes ``t`` output ``index`` of ``node``."""
    t._req = True
    x = t._x
    if x is None:
        x = t._x = Meta()
    x.node = node
    if index or x.index:
        x.index = index
    return t
