"""One operation of a :class:`~fusetorch.fx.Graph`."""
from __future__ import annotations

import builtins
import inspect
import operator
from collections.abc import Callable
from typing import Any

import fusetorch as torch

from .immutable_collections import immutable_dict, immutable_list

__all__ = ["Argument", "Node", "Target", "has_side_effect", "map_aggregate", "map_arg"]

Argument = Any
Target = Callable[..., Any] | str
base_types = (str, int, float, bool, complex, torch.dtype, torch.Tensor, torch.device, torch.memory_format, torch.layout)

#: Functions that do something beside giving a result: their nodes are not dead where nothing uses the result.
_side_effectful_functions: set[Any] = {torch._assert, print, setattr, operator.setitem}


def has_side_effect(fn: Callable) -> Callable:
    """Marks a function, so that :meth:`Graph.eliminate_dead_code` keeps its calls."""
    _side_effectful_functions.add(fn)
    return fn


def map_aggregate(a: Argument, fn: Callable[[Argument], Argument]) -> Argument:
    """``a`` with ``fn`` applied to all that is no tuple, list, dict or slice; lists and dicts become immutable ones."""
    if isinstance(a, tuple):
        made = [map_aggregate(x, fn) for x in a]
        return type(a)(*made) if hasattr(a, "_fields") else tuple(made)
    if isinstance(a, list):
        return immutable_list([map_aggregate(x, fn) for x in a])
    if isinstance(a, dict):
        return immutable_dict({k: map_aggregate(v, fn) for k, v in a.items()})
    if isinstance(a, slice):
        return slice(map_aggregate(a.start, fn), map_aggregate(a.stop, fn), map_aggregate(a.step, fn))
    return fn(a)


def map_arg(a: Argument, fn: Callable[[Node], Argument]) -> Argument:
    """``a`` with ``fn`` applied to its nodes."""
    return map_aggregate(a, lambda x: fn(x) if isinstance(x, Node) else x)


def _qualified_name(func: Callable) -> str:
    """A function's name as code would write it; PyTorch's names for this library's functions."""
    if getattr(builtins, getattr(func, "__name__", ""), None) is func:
        return func.__name__
    if getattr(torch, getattr(func, "__name__", ""), None) is func:
        return f"torch.{func.__name__}"
    name = getattr(func, "__qualname__", None) or getattr(func, "__name__", None) or repr(func)
    module = getattr(func, "__module__", None) or "builtins"
    if module == "_operator":
        module = "operator"
    if module == "fusetorch" or module.startswith("fusetorch."):
        module = "torch" + module[len("fusetorch"):]
    return name if module == "builtins" else f"{module}.{name}"


class Node:
    """One operation: ``op`` says what kind it is, ``target`` what is called, ``args`` and ``kwargs`` with what.

    ``op`` is one of ``placeholder`` (an input; ``args`` may hold its default), ``get_attr`` (a parameter, by its dotted name),
    ``call_function`` (a function), ``call_module`` (a submodule, by its dotted name), ``call_method`` (a method, by its name, of the first
    argument) and ``output``. ``users`` are the nodes that use this one's result; ``meta`` is a dict for passes to write into.
    """

    def __init__(self, graph: Any, name: str, op: str, target: Target, args: tuple, kwargs: dict[str, Argument],
                 return_type: Any = None) -> None:
        if op not in ("placeholder", "call_method", "call_module", "call_function", "get_attr", "output", "root"):
            raise AssertionError(f"unknown kind of node: {op}")
        if op == "call_function" and not callable(target):
            raise ValueError(f"Node [graph = {graph}, name = '{name}'] target {target} has type {type(target)} but a Callable is expected")
        if op not in ("call_function", "root") and not isinstance(target, str):
            raise ValueError(f"Node [graph = {graph}, name = '{name}'] target {target} has type {type(target)} but a str is expected")
        self.graph, self.name, self.op, self.target = graph, name, op, target
        self.users: dict[Node, None] = {}
        self._input_nodes: dict[Node, None] = {}
        self.type = return_type
        self.meta: dict[str, Any] = {}
        self._prev = self._next = self
        self._erased = False
        self._args: tuple = ()
        self._kwargs: dict[str, Argument] = {}
        self._update(args, kwargs)

    def _update(self, args: tuple, kwargs: dict[str, Argument]) -> None:
        for old in self._input_nodes:
            old.users.pop(self, None)
        self._input_nodes = {}

        def seen(n: Node) -> Node:
            self._input_nodes.setdefault(n)
            n.users.setdefault(self)
            return n

        self._args, self._kwargs = map_arg(tuple(args), seen), map_arg(dict(kwargs), seen)

    @property
    def args(self) -> tuple:
        """The positional arguments; assign new ones to change them."""
        return self._args

    @args.setter
    def args(self, a: tuple) -> None:
        self._update(a, self._kwargs)

    @property
    def kwargs(self) -> dict[str, Argument]:
        """The keyword arguments; assign new ones to change them."""
        return self._kwargs

    @kwargs.setter
    def kwargs(self, k: dict[str, Argument]) -> None:
        self._update(self._args, k)

    @property
    def all_input_nodes(self) -> list[Node]:
        """The nodes whose results this one uses, each once."""
        return list(self._input_nodes)

    @property
    def next(self) -> Node:
        """The following node."""
        return self._next

    @property
    def prev(self) -> Node:
        """The node before."""
        return self._prev

    @property
    def stack_trace(self) -> str | None:
        """Where the operation stands in the program, if it was recorded."""
        return self.meta.get("stack_trace")

    @stack_trace.setter
    def stack_trace(self, trace: str | None) -> None:
        self.meta["stack_trace"] = trace

    def update_arg(self, idx: int, arg: Argument) -> None:
        """Exchanges one positional argument."""
        args = list(self.args)
        args[idx] = arg
        self.args = tuple(args)

    def insert_arg(self, idx: int, arg: Argument) -> None:
        """Puts a positional argument before the one at ``idx``."""
        if not 0 <= idx <= len(self.args):
            raise AssertionError("insert_args index must be between 0 and len(self.args)")
        self.args = (*self.args[:idx], arg, *self.args[idx:])

    def update_kwarg(self, key: str, arg: Argument) -> None:
        """Exchanges one keyword argument."""
        self.kwargs = {**self.kwargs, key: arg}

    def prepend(self, x: Node) -> None:
        """Moves ``x`` to before this node."""
        if self.graph is not x.graph:
            raise AssertionError("Attempting to move a Node into a different Graph")
        if x is self:
            return
        x._remove_from_list()
        p = self._prev
        p._next, x._prev = x, p
        x._next, self._prev = self, x

    def append(self, x: Node) -> None:
        """Moves ``x`` to after this node."""
        self._next.prepend(x)

    def _remove_from_list(self) -> None:
        self._prev._next, self._next._prev = self._next, self._prev

    def replace_all_uses_with(self, replace_with: Node, delete_user_cb: Callable[[Node], bool] = lambda user: True, *,
                              propagate_meta: bool = False) -> list[Node]:
        """Makes the users of this node (those for which ``delete_user_cb``) use ``replace_with``; which they were."""
        if propagate_meta:
            replace_with.meta.update(self.meta)
        changed = [user for user in list(self.users) if delete_user_cb(user)]
        for user in changed:
            user.replace_input_with(self, replace_with)
        return changed

    def replace_input_with(self, old_input: Node, new_input: Node) -> None:
        """Makes this node use ``new_input`` instead of ``old_input``."""
        def exchanged(n: Node) -> Node:
            return new_input if n is old_input else n
        self._update(map_arg(self.args, exchanged), map_arg(self.kwargs, exchanged))

    def is_impure(self, impure_random: bool = True) -> bool:
        """Whether the node does something beside giving a result."""
        if self.op in ("placeholder", "output"):
            return True
        if self.op == "call_function":
            name = getattr(self.target, "__name__", "")
            return self.target in _side_effectful_functions or "assert" in name or _in_place(name)
        if self.op == "call_method":
            return _in_place(self.target)
        if self.op == "call_module":
            owner = self.graph.owning_module
            if owner is None:
                return False
            return getattr(owner.get_submodule(self.target), "_is_impure", False)
        return False

    def normalized_arguments(self, root: Any, arg_types: Any = None, kwarg_types: Any = None,
                             normalize_to_only_use_kwargs: bool = False) -> Any:
        """``(args, kwargs)`` with defaults filled in as the target's signature says, or ``None`` where it cannot be known."""
        if self.op == "call_function":
            target: Any = self.target
        elif self.op == "call_module":
            target = root.get_submodule(self.target).forward
        else:
            return None
        try:
            signature = inspect.signature(getattr(target, "__wrapped__", target))
            bound = signature.bind(*self.args, **self.kwargs)
        except (TypeError, ValueError):
            return None
        bound.apply_defaults()
        if not normalize_to_only_use_kwargs:
            return bound.args, bound.kwargs
        kinds = {p.kind for p in signature.parameters.values()}
        if inspect.Parameter.VAR_POSITIONAL in kinds or inspect.Parameter.VAR_KEYWORD in kinds:
            return None
        return (), dict(bound.arguments)

    def _pretty_target(self) -> str:
        return self.target if isinstance(self.target, str) else _qualified_name(self.target)

    def format_node(self, placeholder_names: list[str] | None = None, maybe_return_typename: list[str] | None = None) -> str:
        """The node as a line of ``print(graph)``."""
        if self.op == "placeholder":
            if placeholder_names is not None:
                placeholder_names.append(self.target)
            default = f"(default={self.args[0]})" if self.args else ""
            return f"%{self.name} : [num_users={len(self.users)}] = {self.op}[target={self.target}]{default}"
        if self.op == "get_attr":
            return f"%{self.name} : [num_users={len(self.users)}] = {self.op}[target={self.target}]"
        if self.op == "output":
            return f"return {self.args[0]}"
        kwargs = "{" + ", ".join(f"{k}: {_shown(v)}" for k, v in self.kwargs.items()) + "}"
        return (f"%{self.name} : [num_users={len(self.users)}] = {self.op}[target={self._pretty_target()}]"
                f"(args = {_shown(self.args)}, kwargs = {kwargs})")

    def __repr__(self) -> str:
        return self.name

    def __lt__(self, other: Node) -> bool:
        """Whether this node stands before another one of its graph."""
        order = {n: k for k, n in enumerate(self.graph.nodes)}
        return order[self] < order[other]

    def __gt__(self, other: Node) -> bool:
        return other < self


def _in_place(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")


def _shown(a: Argument) -> str:
    if isinstance(a, Node):
        return f"%{a.name}"
    if isinstance(a, tuple):
        return "(" + ", ".join(map(_shown, a)) + ("," if len(a) == 1 else "") + ")"
    if isinstance(a, list):
        return "[" + ", ".join(map(_shown, a)) + "]"
    if isinstance(a, dict):
        return "{" + ", ".join(f"{k}: {_shown(v)}" for k, v in a.items()) + "}"
    return str(a)
