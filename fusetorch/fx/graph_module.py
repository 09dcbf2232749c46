"""A module whose ``forward`` is a graph's code."""
from __future__ import annotations

import copy
import linecache
from typing import Any

import fusetorch as torch
from fusetorch.nn.module import Module

from .graph import Graph, PythonCode
from .node import map_arg

__all__ = ["GraphModule"]


def _forward_from_src(src: str, names: dict[str, Any]) -> Any:
    """The function that a source defines; its lines show in tracebacks."""
    _forward_from_src.count += 1
    file = f"<eval_with_key>.{_forward_from_src.count}"
    linecache.cache[file] = (len(src), None, src.splitlines(True), file)
    space = dict(names)
    exec(compile(src, file, "exec"), space)  # noqa: S102
    return space["forward"]


_forward_from_src.count = 0


def _copy_attr(source: Any, to: Module, target: str) -> None:
    """Gives ``to`` the attribute with a dotted name that ``source`` has, and empty modules on the way."""
    *path, name = target.split(".")
    for part in path:
        source = getattr(source, part)
        if getattr(to, part, None) is None:
            setattr(to, part, Module())
        if getattr(to, part) is source:  # all below is there
            return
        to = getattr(to, part)
    value = getattr(source, name)
    if isinstance(value, torch.Tensor) and not isinstance(value, torch.nn.Parameter):
        to.register_buffer(name, value)
    else:
        setattr(to, name, value)


def _assign_attr(value: Any, to: Module, target: str) -> None:
    *path, name = target.split(".")
    for part in path:
        if not hasattr(to, part):
            setattr(to, part, Module())
        to = getattr(to, part)
    if isinstance(value, torch.Tensor) and not isinstance(value, torch.nn.Parameter):
        to.register_buffer(name, value)
    else:
        setattr(to, name, value)


class GraphModule(Module):
    """A module that does what ``graph`` says, with the submodules and parameters that its nodes name.

    Args:
        root: the module that has them, or a dict from dotted name to each.
        graph: after changing it, call :meth:`recompile`.
        class_name: the name of the module's class.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> GraphModule:
        # a class of its own for each: its forward is code of its own
        for base in cls.__mro__:
            name = base.__qualname__.split(".")[-1]
            if name != "GraphModuleImpl":
                cls = base
                break

        class GraphModuleImpl(cls):  # type: ignore[misc, valid-type]
            pass

        return super().__new__(GraphModuleImpl)

    def __init__(self, root: Module | dict[str, Any], graph: Graph, class_name: str = "GraphModule") -> None:
        super().__init__()
        type(self).__name__ = class_name
        targets = [n.target for n in graph.nodes if n.op in ("get_attr", "call_module")]
        if isinstance(root, Module):
            self.training = root.training
            for target in targets:
                _copy_attr(root, self, target)
        elif isinstance(root, dict):
            for target in sorted(set(targets), key=lambda t: t.count(".")):
                if target not in root:
                    raise RuntimeError(f"Node referenced target {target} but that target was not provided in ``root``!")
                _assign_attr(root[target], self, target)
        else:
            raise RuntimeError(f"Unsupported type {root} passed for root!")
        self.meta: dict[str, Any] = {}
        self._graph = graph if graph.owning_module is None else copy.deepcopy(graph)
        self._graph.owning_module = self
        self.recompile()

    @property
    def graph(self) -> Graph:
        """The graph; assigning another one writes new code."""
        return self._graph

    @graph.setter
    def graph(self, g: Graph) -> None:
        self._graph = g
        g.owning_module = self
        self.recompile()

    @property
    def code(self) -> str:
        """The source of ``forward``."""
        return self._code

    def recompile(self) -> PythonCode:
        """Writes ``forward`` anew from the graph."""
        made = self._graph.python_code(root_module="self")
        self._code = made.src
        type(self).forward = _forward_from_src(made.src, made.globals)
        return made

    # ---- submodules

    def add_submodule(self, target: str, m: Module) -> bool:
        """Adds a submodule by its dotted name, with empty modules on the way; False where something else is in the way."""
        *path, name = target.split(".")
        at: Any = self
        for part in path:
            if not hasattr(at, part):
                at.add_module(part, Module())
            at = getattr(at, part)
            if not isinstance(at, Module):
                return False
        at.add_module(name, m)
        return True

    def delete_submodule(self, target: str) -> bool:
        """Takes a submodule away; False where there is none."""
        *path, name = target.split(".")
        at: Any = self
        for part in path:
            at = getattr(at, part, None)
            if not isinstance(at, Module):
                return False
        if not isinstance(getattr(at, name, None), Module):
            return False
        delattr(at, name)
        return True

    def delete_all_unused_submodules(self) -> None:
        """Takes away the submodules that no node needs."""
        used: set[str] = set()
        for node in self.graph.nodes:
            if node.op in ("call_module", "get_attr"):
                parts = node.target.split(".")
                used.update(".".join(parts[:k]) for k in range(1, len(parts) + 1))
                if node.op == "call_module":
                    used.update(f"{node.target}.{name}" for name, _ in self.get_submodule(node.target).named_modules() if name)
        for name in [name for name, _ in self.named_modules() if name and name not in used]:
            self.delete_submodule(name)

    # ---- copies

    def __deepcopy__(self, memo: dict) -> GraphModule:
        held = Module()
        held.__dict__ = copy.deepcopy({k: v for k, v in self.__dict__.items() if k not in ("_graph", "_code")}, memo)
        made = GraphModule.__new__(type(self))
        GraphModule.__init__(made, held, copy.deepcopy(self._graph, memo), type(self).__name__)
        for k, v in held.__dict__.items():
            if k not in ("_modules", "_parameters", "_buffers"):
                made.__dict__[k] = v
        for table in ("_modules", "_parameters", "_buffers"):
            for k, v in getattr(held, table).items():
                getattr(made, table).setdefault(k, v)
        memo[id(self)] = made
        return made

    def __copy__(self) -> GraphModule:
        return GraphModule(self, copy.deepcopy(self._graph), type(self).__name__)

    def __reduce__(self) -> tuple:
        held = {k: v for k, v in self.__dict__.items() if k not in ("_graph", "_code")}
        nodes = list(self._graph.nodes)
        number = {n: _Place(k) for k, n in enumerate(nodes)}
        rows = [(n.op, n.target, map_arg(n.args, number.__getitem__), map_arg(n.kwargs, number.__getitem__), n.name) for n in nodes]
        return _rebuild, (held, rows, type(self).__name__)

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return self.__reduce__()

    # ---- display

    def print_readable(self, print_output: bool = True, **_: Any) -> str:
        """The module's code, under the head of a class."""
        body = "\n".join("    " + line if line else line for line in self.code.strip().split("\n"))
        text = f"class {self._get_name()}(torch.nn.Module):\n{body}\n"
        if print_output:
            print(text)
        return text

    def __str__(self) -> str:
        return "\n".join([super().__repr__(), self._code, "# To see more debug info, please use `graph_module.print_readable()`"])


class _Place:
    """A node in a pickle: its number."""

    def __init__(self, k: int) -> None:
        self.k = k


def _rebuild(held: dict[str, Any], rows: list[tuple], name: str) -> GraphModule:
    from .node import map_aggregate
    module = Module()
    module.__dict__.update(held)
    graph, nodes = Graph(), []
    for op, target, args, kwargs, label in rows:
        put = lambda a: nodes[a.k] if isinstance(a, _Place) else a  # noqa: E731
        nodes.append(graph.create_node(op, target, map_aggregate(args, put), map_aggregate(kwargs, put), label))
    made = GraphModule(module, graph, name)
    made.__dict__.update({k: v for k, v in held.items() if k not in ("_modules", "_parameters", "_buffers")})
    return made
