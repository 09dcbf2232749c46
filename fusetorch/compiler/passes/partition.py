"""Which forward values a backward keeps, and which it computes again.

A minimum cut (Chen et al., *Training Deep Nets with Sublinear Memory Cost*, 2016, for the idea of recomputation; the cut as in Kirisame et
al. and in PyTorch's min-cut partitioner): every value is an edge whose capacity is the price of saving it; cheap elementwise nodes pass
their users' demand on to their operands, everything else must be saved itself. The cut is the cheapest set that the backward can start
from.
"""
from __future__ import annotations

from collections.abc import Iterable

from ..fuse import costly
from ..ir import Value, base_of

#: Inputs are alive anyway: saving one costs no memory, but reading it again costs traffic.
INPUT_PRICE = 0.01


def choose_saved(needed: Iterable[Value]) -> list[Value]:
    """The values to save so that all of ``needed`` (forward values that the backward reads) can be had, in graph order."""
    import networkx
    flow = networkx.DiGraph()
    stack, seen = [], set()
    for v in needed:
        flow.add_edge((v, "out"), "backward", capacity=float("inf"))
        stack.append(v)
    while stack:
        v = stack.pop()
        if v in seen:
            continue
        seen.add(v)
        price = v.nbytes * (INPUT_PRICE if v.node.kind == "input" else 1.0) + 1.0
        flow.add_edge((v, "in"), (v, "out"), capacity=price)
        node = v.node
        operands = [b for b in (base_of(x)[0] for x in node.inputs) if b.node.kind not in ("full", "constant")]
        if node.kind == "loop" and not node.op.reduces and not costly(node) and operands:
            for b in operands:
                flow.add_edge((b, "out"), (v, "in"), capacity=float("inf"))
                stack.append(b)
        else:
            flow.add_edge("forward", (v, "in"), capacity=float("inf"))
    if not seen:
        return []
    _, (reached, _) = networkx.minimum_cut(flow, "forward", "backward")
    saved = [v for v in seen if (v, "in") in reached and (v, "out") not in reached]
    return sorted(saved, key=lambda v: (v.node.id, v.index))
