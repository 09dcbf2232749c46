"""Prints a graph as Python that runs: one assignment per node, over a small run-time library.

:func:`to_python` is the graph alone; :func:`to_script` is a file that runs by itself, with every operation's body spelt out.
"""
from __future__ import annotations

import base64
import keyword
import math
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dtypes import dtype
from ..ops.expr import Expr, walk
from ..ops.opdef import LoopSpec
from ..runtime.device import device

if TYPE_CHECKING:
    from .ir import Graph, Node, Value

#: Constants with more elements than this are kept out of the printed graph, in ``rt.constants``.
FEW = 32


def name_of(v: Value) -> str:
    """The variable a value is printed as."""
    return f"v{v.node.id}" + (f"_{v.index}" if len(v.node.outputs) > 1 else "")


def spec_names(nodes: Iterable[Node]) -> dict[int, str]:
    """``{id(spec): name}``: the same operation at other dtypes or options is another function."""
    names: dict[int, str] = {}
    used: dict[str, int] = {}
    for n in nodes:
        if n.kind == "loop" and id(n.op) not in names:
            name = n.op.name + "_" if keyword.iskeyword(n.op.name) else n.op.name
            count = used[name] = used.get(name, 0) + 1
            names[id(n.op)] = name if count == 1 else f"{name}_{count}"
    return names


def to_python(graph: Graph) -> str:
    """The graph as the source of a function ``graph(rt, *inputs)``; ``rt`` is :class:`fusetorch.compiler.repro.Runtime`."""
    nodes = graph.live()
    names = spec_names(nodes)
    inputs = [n for n in nodes if n.kind == "input"]
    lines = [f"def graph({', '.join(['rt', *[name_of(n.outputs[0]) for n in inputs]])}):"]
    for n in inputs:
        v = n.outputs[0]
        lines.append(f"    # {name_of(v)}: {n.attrs['name']} {v.dtype.name}{list(v.shape)} {v.device}")
    for n in nodes:
        if n.kind != "input":
            outs = ", ".join(name_of(v) for v in n.outputs)
            left = f"    {outs}{',' if len(n.outputs) > 1 else ''} = {_call(n, names)}"
            v = n.outputs[0]
            lines.append(f"{left}  # {v.dtype.name}{list(v.shape)}  {_short(n.location)}")
    lines.append(f"    return [{', '.join(name_of(v) for v in graph.outputs)}]")
    return "\n".join(lines) + "\n"


def to_script(graph: Graph) -> str:
    """A Python file that runs the graph on random inputs, or on those in an ``.npz`` file, and prints its results."""
    nodes = graph.live()
    names = spec_names(nodes)
    lines = ['"""A graph of fusetorch, op by op. Run it with an .npz of its inputs, in order, or without for random ones."""',
             "from fusetorch.compiler.repro import Runtime", "", "rt = Runtime()"]
    done: set[int] = set()
    for n in nodes:
        if n.kind == "loop" and id(n.op) not in done:
            done.add(id(n.op))
            lines += ["", "", _definition(n.op, names[id(n.op)])]
        elif n.kind == "constant" and n.attrs["array"].size > FEW:
            lines += ["", f"rt.constants[{n.id}] = rt.decode({encode(n.attrs['array'])!r}, {n.outputs[0].dtype.name!r}, "
                          f"{n.outputs[0].shape}{_place(n.outputs[0])})"]
    inputs = [n.outputs[0] for n in nodes if n.kind == "input"]
    shapes = ", ".join(f"({v.dtype.name!r}, {tuple(v.shape)}{_place(v)})" for v in inputs)
    return "\n".join([*lines, "", "", to_python(graph), "", 'if __name__ == "__main__":', f"    rt.main(graph, [{shapes}])", ""])


def encode(a: np.ndarray) -> str:
    """An array's bytes as text."""
    return base64.b85encode(zlib.compress(np.ascontiguousarray(a).tobytes())).decode()


def _definition(spec: LoopSpec, name: str) -> str:
    options = f"{[d.name for d in spec.in_dtypes]}, {[d.name for d in spec.out_dtypes]}, scalars={[d.name for d in spec.scalars]}"
    options += f", full={list(spec.full)}, reduces={spec.reduces}"
    lines = [f"@rt.define({options})", f"def {name}(e):"]
    number: dict[Expr, str] = {}
    for x in walk(spec.values):
        number[x] = f"t{len(number)}"
        lines.append(f"    {number[x]} = {_expression(x, number)}")
    return "\n".join([*lines, f"    return [{', '.join(number[v] for v in spec.values)}]"])


def _expression(x: Expr, number: dict[Expr, str]) -> str:
    args = [number[a] for a in x.args] + ([] if x.attr is None else [literal(x.attr)])
    return f"e.{x.op}({''.join(a + ', ' for a in args)}dtype={x.dtype.name!r})"


def literal(x: Any) -> str:
    """A static value as Python source."""
    if isinstance(x, dtype):
        return f"rt.dtype({x.name!r})"
    if isinstance(x, device):
        return f"rt.device({str(x)!r})"
    if isinstance(x, (np.generic,)):
        x = x.item()
    if isinstance(x, float) and not math.isfinite(x):
        return f"float({str(x)!r})"
    if isinstance(x, tuple):
        return f"({', '.join(map(literal, x))}{',' if len(x) == 1 else ''})"
    if isinstance(x, list):
        return f"[{', '.join(map(literal, x))}]"
    return repr(x)


def _place(v: Value) -> str:
    return "" if v.device.type == "cpu" else f", {str(v.device)!r}"


def _call(n: Node, names: dict[int, str]) -> str:
    args = [name_of(v) for v in n.inputs]
    a = n.attrs
    out = n.outputs[0]
    if n.kind == "constant":
        if a["array"].size > FEW:
            return f"rt.constants[{n.id}]"
        values = a["array"].astype(np.float64) if out.dtype.is_floating_point else a["array"]
        return f"rt.constant({literal(values.tolist())}, {out.dtype.name!r}{_place(out)})"
    if n.kind == "full":
        return f"rt.full({tuple(out.shape)}, {literal(a['value'])}, {out.dtype.name!r}{_place(out)})"
    if n.kind == "view":
        return f"rt.view({args[0]}, {a['shape']}, {a['strides']}, {a['offset']})"
    if n.kind == "write":
        if a["fill"] is None:
            return f"rt.write({args[0]}, [{', '.join(args[1:])}], {a['places']})"
        return f"rt.write(None, [{', '.join(args)}], {a['places']}, {literal(a['fill'])}, {tuple(out.shape)})"
    extra = []
    if n.kind == "loop":
        if a["axes"] is not None:
            extra.append(f"axes={a['axes']}")
        if a["scalars"]:
            extra.append(f"scalars={literal(tuple(a['scalars']))}")
        return f"rt.{names[id(n.op)]}({', '.join(args + extra)})"
    args = ["None" if s is None else "[" + ", ".join(args[i] for i in s) + "]" if isinstance(s, tuple) else args[s] for s in n.structure]
    shapes = literal(tuple([tuple(v.shape) for v in n.outputs]))
    return f"rt.opaque({n.name!r}, [{', '.join(args)}], {literal(tuple(a['attrs']))}, {shapes})"


def _short(location: str) -> str:
    return location.rsplit("/", 1)[-1]
