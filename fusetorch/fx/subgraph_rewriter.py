"""Exchanging every occurrence of one piece of a graph for another."""
from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import fusetorch as torch

from ._symbolic_trace import symbolic_trace
from .graph import Graph
from .graph_module import GraphModule, _assign_attr
from .node import Node, map_arg

__all__ = ["Match", "ReplacedPatterns", "replace_pattern", "replace_pattern_with_filters"]


class Match(NamedTuple):
    """An occurrence: its last node, and for each node of the pattern the one that it is."""

    anchor: Node
    nodes_map: dict[Node, Node]


class ReplacedPatterns:
    """An occurrence that was exchanged, with the nodes put in its place."""

    def __init__(self, anchor: Node, nodes_map: dict[Node, Node], replacements: list[Node]) -> None:
        self.anchor, self.nodes_map, self.replacements = anchor, nodes_map, replacements


def replace_pattern(gm: GraphModule, pattern: Callable | GraphModule, replacement: Callable | GraphModule) -> list[Match]:
    """Exchanges the nodes that do what ``pattern`` does for those of ``replacement``, both functions or modules of the same inputs.

    Occurrences do not overlap, and nothing else may use what is computed inside one. Returns where they were.

    Example:
        >>> import fusetorch as torch
        >>> gm = torch.fx.symbolic_trace(lambda x: torch.relu(x) + torch.sigmoid(x))
        >>> _ = torch.fx.replace_pattern(gm, lambda x: torch.relu(x), lambda x: torch.neg(x))
        >>> gm(torch.zeros(1))
        tensor([0.5000])
    """
    return [Match(m.anchor, m.nodes_map) for m in replace_pattern_with_filters(gm, pattern, replacement)]


def replace_pattern_with_filters(gm: GraphModule, pattern: Any, replacement: Any = None, match_filters: list[Callable] | None = None,
                                 ignore_literals: bool = False, *, replacement_callback: Callable | None = None) -> list[ReplacedPatterns]:
    """:func:`replace_pattern` of the occurrences that all ``match_filters`` (called with match, graph and pattern graph) let through.
    ``ignore_literals``: numbers in the pattern stand for any. ``replacement_callback`` makes the replacement of each."""
    wanted = _graph_of(pattern)
    if isinstance(replacement, torch.nn.Module):
        for name, m in replacement.named_modules():
            if name and "." not in name and not hasattr(gm, name):
                gm.add_submodule(name, m)
        for name, p in (*replacement.named_parameters(), *replacement.named_buffers()):
            if _found(gm, name) is None:
                _assign_attr(p, gm, name)
    fixed = None if replacement is None else _graph_of(replacement)
    done: list[ReplacedPatterns] = []
    changed: dict[Node, Node] = {}
    for match in _matches(gm, wanted, ignore_literals):
        if match_filters and not all(f(match, gm.graph, wanted) for f in match_filters):
            continue
        made = replacement_callback(match, gm.graph, wanted) if replacement_callback is not None else fixed
        done.append(_exchange(gm.graph, wanted, made, match, changed))
    gm.recompile()
    return done


def _graph_of(given: Any) -> Graph:
    if isinstance(given, Graph):
        return given
    return given.graph if isinstance(given, GraphModule) else symbolic_trace(given).graph


def _found(module: Any, name: str) -> Any:
    for part in name.split("."):
        module = getattr(module, part, None)
    return module


def _matches(gm: GraphModule, pattern: Graph, any_number: bool) -> list[Match]:
    ends: list[Node] = []
    map_arg(pattern.output_node().args[0], lambda n: ends.append(n) or n)
    if len(ends) != 1:  # an occurrence is found by its last result
        ends = ends[-1:]
    found: list[Match] = []
    taken: set[Node] = set()
    for candidate in gm.graph.nodes:
        nodes: dict[Node, Node] = {}
        if not _same(ends[0], candidate, nodes, gm, any_number):
            continue
        inner = {n for p, n in nodes.items() if p.op not in ("placeholder", "output")}
        returned: set[Node] = set()
        map_arg(pattern.output_node().args[0], lambda p, nodes=nodes, returned=returned: returned.add(nodes.get(p)) or p)
        closed = all(set(n.users) <= inner for n in inner if n not in returned)
        if inner and closed and not inner & taken:
            taken |= inner
            found.append(Match(candidate, nodes))
    return found


def _same(p: Node, n: Any, nodes: dict[Node, Node], gm: GraphModule, any_number: bool) -> bool:
    """Whether ``n`` is what the pattern's node ``p`` says; ``nodes`` holds what is known so far."""
    if p in nodes:
        return nodes[p] is n
    if not isinstance(n, Node):
        return False
    if p.op == "placeholder":
        nodes[p] = n
        return True
    if n in nodes.values() or p.op != n.op:
        return False
    if p.op == "get_attr":
        equal = type(_found(p.graph.owning_module, p.target)) is type(_found(gm, n.target))
    else:
        equal = p.target == n.target
    if not equal:
        return False
    before = dict(nodes)
    nodes[p] = n
    pa, na = _arguments(p), _arguments(n)
    if len(pa) == len(na) and all(_equal(a, b, nodes, gm, any_number) for a, b in zip(pa, na)):
        return True
    nodes.clear()
    nodes.update(before)
    return False


def _arguments(n: Node) -> list[Any]:
    return [*n.args, *(n.kwargs[k] for k in sorted(n.kwargs)), *sorted(n.kwargs)]


def _equal(a: Any, b: Any, nodes: dict[Node, Node], gm: GraphModule, any_number: bool) -> bool:
    if isinstance(a, Node):
        return _same(a, b, nodes, gm, any_number)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(_equal(x, y, nodes, gm, any_number) for x, y in zip(a, b))
    if isinstance(a, slice) and isinstance(b, slice):
        return all(_equal(getattr(a, k), getattr(b, k), nodes, gm, any_number) for k in ("start", "stop", "step"))
    if any_number and not isinstance(b, Node):
        return True
    return type(a) is type(b) and a == b


def _exchange(graph: Graph, pattern: Graph, replacement: Graph, match: Match, changed: dict[Node, Node]) -> ReplacedPatterns:
    inputs = [n for n in pattern.nodes if n.op == "placeholder"]
    theirs = [n for n in replacement.nodes if n.op == "placeholder"]
    if len(inputs) != len(theirs):
        raise AssertionError(f"the pattern has {len(inputs)} inputs and the replacement {len(theirs)}")

    def now(n: Node) -> Node:
        while n in changed:
            n = changed[n]
        return n

    values = {mine: now(match.nodes_map[p]) for p, mine in zip(inputs, theirs) if p in match.nodes_map}
    before = set(graph.nodes)
    inner = [n for p, n in match.nodes_map.items() if p.op not in ("placeholder", "output")]
    order = {n: k for k, n in enumerate(graph.nodes)}
    with graph.inserting_after(max(inner, key=order.__getitem__)):
        result = None
        for node in replacement.nodes:
            if node in values:
                continue
            if node.op == "output":
                result = map_arg(node.args[0], values.__getitem__)
                break
            values[node] = made = graph.node_copy(node, values.__getitem__)
            made.meta = copy.copy(made.meta)
            graph.inserting_after(made)
    old: list[Node] = []
    map_arg(pattern.output_node().args[0], lambda p: old.append(match.nodes_map[p]) or p)
    new: list[Node] = []
    map_arg(result, lambda n: new.append(n) or n)
    if len(old) != len(new):
        raise AssertionError(f"the pattern returns {len(old)} values and the replacement {len(new)}")
    for o, r in zip(old, new):
        o.replace_all_uses_with(r)
        changed[o] = r
    for n in sorted(inner, key=order.__getitem__, reverse=True):
        if not n.users:
            graph.erase_node(n)
    return ReplacedPatterns(match.anchor, match.nodes_map, [n for n in graph.nodes if n not in before])
