"""Gradients of expressions, by reverse accumulation over the graph (Griewank and Walther, *Evaluating Derivatives*, 2008).

The gradient of a real value L with respect to a complex z = x + iy is dL/dx + i dL/dy, as in PyTorch. A holomorphic f then takes the
gradient g to g conj(f'(z)). Rules are written for real numbers as g f'(z), so they are called on conj(g), and their result is conjugated.
"""
from __future__ import annotations

from collections.abc import Sequence

from ..dtypes import HALVES, dtype, float32
from .expr import Expr, cast, load, substitute, walk
from .primitives import OWN_WAY, PRIMITIVES, conj


def derive(values: Sequence[Expr], out_dtypes: Sequence[dtype], n_inputs: int, wanted: Sequence[int]) -> list[Expr | None]:
    """The gradient expression for each wanted input of an elementwise body.

    In the result, ``load`` 0 .. n_inputs-1 are the inputs, then come the outputs' incoming gradients, then the outputs
    themselves: an output value that the gradient needs is read back instead of being computed again. ``None`` stands for
    an input that the values do not depend on differentiably.
    """
    adjoint: dict[Expr, Expr] = {}

    def accumulate(e: Expr, g: Expr) -> None:
        adjoint[e] = adjoint[e] + g if e in adjoint else g

    order = list(walk(values))
    for j, (v, d) in enumerate(zip(values, out_dtypes)):
        if d.category >= 2:
            accumulate(v, cast(load(n_inputs + j, d), v.dtype))
    for e in reversed(order):
        g = adjoint.get(e)
        if g is None or not e.args:
            continue
        if e.op == "reduce":
            raise NotImplementedError("the gradient of a body with reductions is written with ops, not derived")
        vjp = PRIMITIVES[e.op].vjp
        if e.op == "cast" and e.args[0].dtype in HALVES:
            accumulate(e.args[0], cast(g, float32))  # rounded once, at the store
            continue
        if vjp is None:
            if e.dtype.category >= 2:
                raise NotImplementedError(f"derivative for {e.op} is not implemented")
            continue
        if e.dtype.category == 3 and e.op not in OWN_WAY:
            found = [None if d is None else conj(d) for d in vjp(conj(g), e, *e.args)]
        else:
            found = vjp(g, e, *e.args)
        for a, d in zip(e.args, found):
            if d is not None and a.dtype.category >= 2 and a.op != "const":
                accumulate(a, d)
    loads = {e.attr: e for e in order if e.op == "load"}
    grads = [adjoint.get(loads[i]) if i in loads else None for i in wanted]
    first = n_inputs + len(values)
    outputs = {v: load(first + j, d) for j, (v, d) in enumerate(zip(values, out_dtypes))
               if v.args and v.op != "cast" and d.category >= 2}
    rewritten = iter(substitute([g for g in grads if g is not None], outputs))
    return [None if g is None else next(rewritten) for g in grads]
