"""Prints a graph as Python that runs: one assignment per node, over a small run-time library."""
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ir import Graph, Node, Value


def name_of(v: Value) -> str:
    """The variable a value is printed as."""
    return f"v{v.node.id}" + (f"_{v.index}" if len(v.node.outputs) > 1 else "")


def to_python(graph: Graph) -> str:
    """The graph as the source of a function ``graph(rt, **inputs)``; ``rt`` is :class:`fusetorch.compiler.repro.Runtime`."""
    nodes = graph.live()
    inputs = [n for n in nodes if n.kind == "input"]
    lines = [f"def graph(rt, {', '.join(name_of(n.outputs[0]) for n in inputs)}):"]
    for n in inputs:
        v = n.outputs[0]
        lines.append(f"    # {name_of(v)}: {n.attrs['name']} {v.dtype.name}{list(v.shape)} {v.device}")
    for n in nodes:
        if n.kind != "input":
            outs = ", ".join(name_of(v) for v in n.outputs)
            left = f"    {outs}{',' if len(n.outputs) > 1 else ''} = {_call(n)}"
            v = n.outputs[0]
            lines.append(f"{left}  # {v.dtype.name}{list(v.shape)}  {_short(n.location)}")
    lines.append(f"    return [{', '.join(name_of(v) for v in graph.outputs)}]")
    return "\n".join(lines) + "\n"


def _call(n: Node) -> str:
    args = [name_of(v) for v in n.inputs]
    a = n.attrs
    if n.kind == "constant":
        return f"rt.constant({a['array'].tolist()!r}, {a['array'].dtype.name!r})" if a["array"].size <= 32 else f"rt.constants[{n.id}]"
    if n.kind == "full":
        v = n.outputs[0]
        return f"rt.full({v.shape}, {a['value']!r}, {v.dtype.name!r})"
    if n.kind == "view":
        return f"rt.view({args[0]}, {a['shape']}, {a['strides']}, {a['offset']})"
    if n.kind == "write":
        return f"rt.write({args[0]}, {args[1]}, {a['shape']}, {a['strides']}, {a['offset']})"
    extra = []
    if n.kind == "loop":
        if a["axes"] is not None:
            extra.append(f"axes={a['axes']}")
        if a["scalars"]:
            extra.append(f"scalars={a['scalars']}")
    else:
        extra += [repr(x) for x in a["attrs"]]
        args = ["None" if s is None else "[" + ", ".join(args[i] for i in s) + "]" if isinstance(s, tuple) else args[s]
                for s in n.structure]
    return f"rt.{n.name}({', '.join(args + extra)})"


def _short(location: str) -> str:
    return location.rsplit("/", 1)[-1]
