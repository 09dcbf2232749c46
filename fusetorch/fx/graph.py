"""A list of nodes, in an order in which each stands after those it uses, and the Python code that it means."""
from __future__ import annotations

import builtins
import copy
import inspect
import keyword
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import fusetorch as torch

from .node import Argument, Node, Target, _qualified_name, map_aggregate, map_arg

__all__ = ["CodeGen", "Graph", "PythonCode"]

_ILLEGAL = re.compile(r"[^0-9a-zA-Z_]+")
_NUMBERED = re.compile(r"(.*)_(\d+)$")
#: Names that code may use without an import.
_GLOBALS: dict[str, Any] = {"inf": math.inf, "nan": math.nan, "NoneType": type(None), "torch": torch, "device": torch.device}
_INFIX = {operator.add: "+", operator.sub: "-", operator.mul: "*", operator.floordiv: "//", operator.truediv: "/", operator.mod: "%",
          operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=", operator.eq: "==", operator.ne: "!=",
          operator.and_: "&", operator.or_: "|", operator.xor: "^", operator.lshift: "<<", operator.rshift: ">>", operator.pow: "**",
          operator.matmul: "@"}
_PREFIX = {operator.neg: "-", operator.invert: "~"}
_IN_PLACE = {operator.iadd: "+=", operator.isub: "-=", operator.imul: "*=", operator.itruediv: "/=", operator.ifloordiv: "//=",
             operator.imod: "%=", operator.iand: "&=", operator.ior: "|=", operator.ixor: "^=", operator.ipow: "**=",
             operator.ilshift: "<<=", operator.irshift: ">>=", operator.imatmul: "@="}


class PythonCode(NamedTuple):
    """A graph's code: the source of a function ``forward``, and the globals that it needs."""

    src: str
    globals: dict[str, Any]


class _Namespace:
    """Gives names that are no keywords, hide no builtins, and occur once."""

    def __init__(self) -> None:
        self.owner: dict[Any, str] = {}
        self.used: set[str] = set()

    def create_name(self, candidate: str, obj: Any) -> str:
        """A name like ``candidate`` for ``obj`` (the same one if it has one)."""
        if obj is not None and obj in self.owner:
            return self.owner[obj]
        candidate = _ILLEGAL.sub("_", candidate) or "_unnamed"
        if candidate[0].isdigit():
            candidate = f"_{candidate}"
        match = _NUMBERED.match(candidate)
        base, number = (candidate, 0) if match is None else (match.group(1), int(match.group(2)))
        while candidate in self.used or self._illegal(candidate, obj):
            number += 1
            candidate = f"{base}_{number}"
        self.used.add(candidate)
        if obj is not None:
            self.owner[obj] = candidate
        return candidate

    @staticmethod
    def _illegal(name: str, obj: Any) -> bool:
        if name in keyword.kwlist:
            return True
        if name in builtins.__dict__:
            return obj is not builtins.__dict__[name]
        return name in _GLOBALS and obj is not _GLOBALS[name]


def _snake_case(s: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", s).lower()


def _candidate(target: Target) -> str:
    """What a node of this target is called."""
    name = target if isinstance(target, str) else getattr(target, "__name__", type(target).__name__)
    if name.startswith("__") and name.endswith("__"):
        name = name[2:-2]
    return _snake_case(name)


class _NodeList:
    """The nodes of a graph in order; ``reversed`` works."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __len__(self) -> int:
        return self.graph._len

    def __iter__(self) -> Iterator[Node]:
        root = self.graph._root
        at = root._next
        while at is not root:
            if not at._erased:
                yield at
            at = at._next

    def __reversed__(self) -> Iterator[Node]:
        root = self.graph._root
        at = root._prev
        while at is not root:
            if not at._erased:
                yield at
            at = at._prev


class CodeGen:
    """Writes a graph as Python."""

    def gen_fn_def(self, free_vars: list[str], maybe_return_annotation: str = "") -> str:
        """The head of the function."""
        if not free_vars or free_vars[0] != "self":
            free_vars = ["self", *free_vars]
        return f"def forward({', '.join(free_vars)}){maybe_return_annotation}:"

    def _gen_python_code(self, nodes: Iterable[Node], root_module: str, namespace: _Namespace) -> PythonCode:
        nodes = list(nodes)
        needed: dict[str, Any] = {}
        names: list[str] = []
        body: list[str] = []
        last_use: dict[Node, list[Node]] = {}
        seen: set[Node] = set()
        for node in reversed(nodes):
            for n in (*node.all_input_nodes, node):
                if n not in seen:
                    seen.add(n)
                    last_use.setdefault(node, []).append(n)

        def of_global(hint: str, obj: Any) -> str:
            short = hint.rpartition(".")[0]
            if builtins.__dict__.get(hint) is obj:
                return hint
            if short == "torch" or short.startswith("torch."):
                if _reached(hint) is obj:
                    needed.setdefault("torch", torch)
                    return hint
            name = namespace.create_name(hint.replace(".", "_"), _Key(obj))
            needed[name] = obj
            return name

        def shown(a: Argument) -> str:
            if isinstance(a, tuple) and hasattr(a, "_fields"):
                return f"{of_global(_qualified_name(type(a)), type(a))}({', '.join(map(shown, a))})"
            if isinstance(a, tuple):
                return "(" + ", ".join(map(shown, a)) + ("," if len(a) == 1 else "") + ")"
            if isinstance(a, list):
                return "[" + ", ".join(map(shown, a)) + "]"
            if isinstance(a, dict):
                return "{" + ", ".join(f"{shown(k)}: {shown(v)}" for k, v in a.items()) + "}"
            if isinstance(a, slice):
                return f"slice({shown(a.start)}, {shown(a.stop)}, {shown(a.step)})"
            if isinstance(a, Node):
                return a.name
            if isinstance(a, torch.device):
                needed["device"] = torch.device
                return repr(a)
            if isinstance(a, (torch.dtype, torch.memory_format, torch.layout)):
                needed.setdefault("torch", torch)
                return str(a)
            if isinstance(a, float) and not math.isfinite(a):
                needed.update(inf=math.inf, nan=math.nan)
                return repr(a)
            if isinstance(a, torch.Size):
                needed.setdefault("torch", torch)
                return f"torch.Size({list(a)})"
            if a is None or a is Ellipsis or isinstance(a, (bool, int, float, complex, str, bytes)):
                return repr(a)
            if callable(a):
                return of_global(_qualified_name(a), a)
            return of_global(f"_constant_{type(a).__name__}", a)

        def call(node: Node, start: int = 0) -> str:
            return ", ".join([*map(shown, node.args[start:]), *(f"{k} = {shown(v)}" for k, v in node.kwargs.items())])

        for node in nodes:
            if node.op == "placeholder":
                star = re.match(r"\**", node.target).group()
                name = node.target[len(star):]
                names.append(star + name + (f" = {shown(node.args[0])}" if node.args else ""))
                if name != node.name:
                    body.append(f"{node.name} = {name}")
                continue
            if node.op == "output":
                body.append(f"return {shown(node.args[0])}")
                continue
            body.append(self._line(node, shown, call, of_global, root_module) + self._freed(node, last_use.get(node, [])))
        head = self.gen_fn_def(names)
        return PythonCode("\n\n\n" + head + "\n" + "".join(f"    {line}\n" for line in body or ["pass"]) + "    ", needed)

    @staticmethod
    def _line(node: Node, shown: Callable, call: Callable, of_global: Callable, root: str) -> str:
        target = node.target
        if node.op == "call_method":
            return f"{node.name} = {shown(node.args[0])}.{target}({call(node, 1)})"
        if node.op == "call_module":
            return f"{node.name} = {_attribute(root, target)}({call(node)})"
        if node.op == "get_attr":
            return f"{node.name} = {_attribute(root, target)}"
        if target in _INFIX and len(node.args) == 2 and not node.kwargs:
            return f"{node.name} = {shown(node.args[0])} {_INFIX[target]} {shown(node.args[1])}"
        if target in _PREFIX and len(node.args) == 1:
            return f"{node.name} = {_PREFIX[target]}{shown(node.args[0])}"
        if target in _IN_PLACE and len(node.args) == 2 and isinstance(node.args[0], Node):
            return f"{shown(node.args[0])} {_IN_PLACE[target]} {shown(node.args[1])};  {node.name} = {shown(node.args[0])}"
        if target is getattr and len(node.args) == 2 and isinstance(node.args[1], str) and node.args[1].isidentifier():
            return f"{node.name} = {shown(node.args[0])}.{node.args[1]}"
        if target is operator.getitem and len(node.args) == 2:
            return f"{node.name} = {shown(node.args[0])}[{shown(node.args[1])}]"
        return f"{node.name} = {of_global(_qualified_name(target), target)}({call(node)})"

    @staticmethod
    def _freed(node: Node, last: list[Node]) -> str:
        """Lets go of what is not used any more."""
        done = [n.name for n in last if n.op != "output"]
        return ";  " + " = ".join([*done, "None"]) if done else ""


class _Key:
    """Stands for an object by its identity."""

    def __init__(self, obj: Any) -> None:
        self.obj = obj

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.obj is self.obj

    def __hash__(self) -> int:
        return id(self.obj)


def _reached(name: str) -> Any:
    """What a dotted name that begins with ``torch`` means."""
    found: Any = torch
    for part in name.split(".")[1:]:
        found = getattr(found, part, None)
    return found


def _attribute(root: str, target: str) -> str:
    """Code for a dotted name below ``root``."""
    out = root
    for part in target.split("."):
        out = f"{out}.{part}" if part.isidentifier() and not keyword.iskeyword(part) else f'getattr({out}, "{part}")'
    return out


class Graph:
    """Nodes in an order in which each stands after those it uses.

    Example:
        >>> import fusetorch as torch
        >>> graph = torch.fx.Graph()
        >>> x = graph.placeholder("x")
        >>> _ = graph.output(graph.call_function(torch.relu, (x,)))
        >>> torch.fx.GraphModule(torch.nn.Module(), graph)(torch.tensor([-1.0, 2.0]))
        tensor([0., 2.])
    """

    def __init__(self, owning_module: Any = None, tracer_cls: type | None = None, tracer_extras: dict[str, Any] | None = None) -> None:
        self._root = Node(self, "", "root", "", (), {})
        self._insert: Callable[[Node], None] = self._root.prepend
        self._len = 0
        self._graph_namespace = _Namespace()
        self._owning_module = owning_module
        self._tracer_cls, self._tracer_extras = tracer_cls, tracer_extras
        self._codegen = CodeGen()

    @property
    def owning_module(self) -> Any:
        """The module whose code this graph is."""
        return self._owning_module

    @owning_module.setter
    def owning_module(self, module: Any) -> None:
        self._owning_module = module

    @property
    def nodes(self) -> _NodeList:
        """The nodes in order."""
        return _NodeList(self)

    def find_nodes(self, *, op: str, target: Target | None = None, sort: bool = True) -> list[Node]:
        """The nodes of a kind and, if given, of a target."""
        return [n for n in self.nodes if n.op == op and (target is None or n.target == target)]

    def output_node(self) -> Node:
        """The node that returns."""
        return next(n for n in reversed(self.nodes) if n.op == "output")

    # ---- nodes in and out

    def create_node(self, op: str, target: Target, args: tuple | None = None, kwargs: dict[str, Argument] | None = None,
                    name: str | None = None, type_expr: Any = None) -> Node:
        """Adds a node where the graph inserts: at the end, unless inside :meth:`inserting_before` or :meth:`inserting_after`."""
        node = Node(self, "", op, target, () if args is None else tuple(args), {} if kwargs is None else dict(kwargs), type_expr)
        node.name = self._graph_namespace.create_name(_candidate(target) if name is None else name, node)
        self._insert(node)
        self._len += 1
        return node

    def placeholder(self, name: str, type_expr: Any = None, default_value: Any = inspect.Signature.empty) -> Node:
        """Adds an input; ``*name`` and ``**name`` take the rest, as in Python."""
        args = () if default_value is inspect.Signature.empty else (default_value,)
        return self.create_node("placeholder", name, args, type_expr=type_expr)

    def get_attr(self, qualified_name: str, type_expr: Any = None) -> Node:
        """Adds a look at a parameter, a buffer or another attribute."""
        return self.create_node("get_attr", qualified_name, type_expr=type_expr)

    def call_module(self, module_name: str, args: tuple | None = None, kwargs: dict | None = None, type_expr: Any = None) -> Node:
        """Adds a call of a submodule."""
        return self.create_node("call_module", module_name, args, kwargs, type_expr=type_expr)

    def call_method(self, method_name: str, args: tuple | None = None, kwargs: dict | None = None, type_expr: Any = None) -> Node:
        """Adds a call of a method of the first argument."""
        return self.create_node("call_method", method_name, args, kwargs, type_expr=type_expr)

    def call_function(self, the_function: Callable, args: tuple | None = None, kwargs: dict | None = None, type_expr: Any = None,
                      name: str | None = None) -> Node:
        """Adds a call of a function."""
        return self.create_node("call_function", the_function, args, kwargs, name, type_expr)

    def output(self, result: Argument, type_expr: Any = None) -> Node:
        """Adds the return."""
        return self.create_node("output", "output", (result,), type_expr=type_expr)

    def node_copy(self, node: Node, arg_transform: Callable[[Node], Argument] = lambda x: x) -> Node:
        """Adds a copy of a node of another graph; ``arg_transform`` says which node here stands for one there."""
        made = self.create_node(node.op, node.target, map_arg(node.args, arg_transform), map_arg(node.kwargs, arg_transform), node.name,
                                node.type)
        made.meta = copy.copy(node.meta)
        return made

    def graph_copy(self, g: Graph, val_map: dict[Node, Node], return_output_node: bool = False) -> Any:
        """Adds copies of all nodes of ``g`` but its output, and notes them in ``val_map``; what the output would return."""
        for node in g.nodes:
            if node in val_map:
                continue
            if node.op == "output":
                result = map_arg(node.args[0], val_map.__getitem__)
                return (result, node) if return_output_node else result
            val_map[node] = self.node_copy(node, val_map.__getitem__)
        return None

    def erase_node(self, to_erase: Node) -> None:
        """Takes a node out; ``RuntimeError`` if something uses it."""
        if to_erase.users:
            raise RuntimeError(f"Tried to erase Node {to_erase} but it still had {len(to_erase.users)} users in the graph: "
                               f"{to_erase.users}!")
        if to_erase.graph is not self:
            raise RuntimeError(f"Attempting to remove {to_erase} from wrong graph!")
        if to_erase._erased:
            return
        to_erase._remove_from_list()
        to_erase._erased = True
        self._len -= 1
        to_erase._update((), {})

    def inserting_before(self, n: Node | None = None) -> Any:
        """A context in which new nodes are put before ``n`` (the first node by default); without ``with``, from now on."""
        if n is None:
            return self.inserting_after(self._root)
        if n.graph is not self:
            raise AssertionError("Node to insert before is not in graph.")
        return _Inserting(self, n.prepend)

    def inserting_after(self, n: Node | None = None) -> Any:
        """A context in which new nodes are put after ``n`` (the last node by default)."""
        if n is None:
            return self.inserting_before(self._root)
        if n.graph is not self:
            raise AssertionError("Node to insert after is not in graph.")
        return _Inserting(self, n.append)

    # ---- passes

    def lint(self) -> None:
        """Raises ``RuntimeError`` where a node uses a later one or one of another graph, where names are not unique, or where targets are
        not there."""
        seen: set[Node] = set()
        names: set[str] = set()
        for node in self.nodes:
            if node.graph is not self:
                raise RuntimeError(f"Node '{node}' does not belong to this Graph!")
            for n in node.all_input_nodes:
                if n.graph is not self:
                    raise RuntimeError(f"Argument '{n}' of Node '{node}' does not belong to this Graph, but was used as an argument! If "
                                       "you are copying nodes from another graph, make sure to use ``arg_transform`` on node_copy() to "
                                       "remap values")
                if n not in seen:
                    raise RuntimeError(f"Argument '{n}' of Node '{node}' was used before it has been defined! Please check that Nodes in "
                                       f"the graph are topologically ordered\n{self}")
            if node.name in names:
                raise RuntimeError(f"Node redefined name {node.name}!")
            seen.add(node)
            names.add(node.name)
            if self.owning_module is not None and node.op in ("get_attr", "call_module"):
                found = self.owning_module
                for part in node.target.split("."):
                    if not hasattr(found, part):
                        raise RuntimeError(f"Node {node} target {node.target} references nonexistent attribute {part}")
                    found = getattr(found, part)
                if node.op == "call_module" and not isinstance(found, torch.nn.Module):
                    raise RuntimeError(f"Node {node} target {node.target} is not a Module")

    def eliminate_dead_code(self, is_impure_node: Callable[[Node], bool] | None = None) -> bool:
        """Takes out the nodes whose results nothing uses; whether there were some."""
        self.lint()
        impure = is_impure_node or (lambda n: n.is_impure())
        changed = False
        for node in list(reversed(self.nodes)):
            if not node.users and not impure(node):
                self.erase_node(node)
                changed = True
        return changed

    # ---- as text and code

    def python_code(self, root_module: str, *, verbose: bool = False, **_: Any) -> PythonCode:
        """The graph as the source of a function ``forward`` whose attributes are looked for in ``root_module`` (usually ``"self"``)."""
        namespace = _Namespace()
        for node in self.nodes:
            namespace.create_name(node.name, node)
            node.name = namespace.owner[node]
        return self._codegen._gen_python_code(self.nodes, root_module, namespace)

    def set_codegen(self, codegen: CodeGen) -> None:
        """Lets another object write the code."""
        self._codegen = codegen

    def print_tabular(self) -> None:
        """Prints the nodes as a table."""
        rows = [("opcode", "name", "target", "args", "kwargs")]
        rows += [(n.op, n.name, str(n.target), str(n.args), str(n.kwargs)) for n in self.nodes]
        widths = [max(len(row[k]) for row in rows) for k in range(5)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]
        print("\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]]))

    def __str__(self) -> str:
        return "graph():" + "".join(f"\n    {n.format_node()}" for n in self.nodes)

    def __deepcopy__(self, memo: dict | None = None) -> Graph:
        g = Graph(tracer_cls=self._tracer_cls)
        value, output = g.graph_copy(self, {}, return_output_node=True) or (None, None)
        g._codegen = copy.deepcopy(self._codegen)
        if output is not None:
            made = g.output(map_aggregate(value, lambda v: v), output.type)
            made.meta = copy.copy(output.meta)
        return g


class _Inserting:
    """Where a graph inserts, until the block ends."""

    def __init__(self, graph: Graph, insert: Callable[[Node], None]) -> None:
        self.graph, self.before = graph, graph._insert
        graph._insert = insert

    def __enter__(self) -> _Inserting:
        return self

    def __exit__(self, *exc: object) -> None:
        self.graph._insert = self.before
