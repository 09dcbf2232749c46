"""Einstein summation."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..shapes import numel
from .joining import one_by_one
from .opdef import composite, fn


@composite(method=False, autocast="lower")
def einsum(equation, *operands):
    """Sums of products named by ``equation``, as in NumPy: ``einsum("bij,bjk->bik", a, b)``. Operands are contracted from left to right.

    Raises ``RuntimeError`` for an equation that does not fit the operands.
    """
    if not isinstance(equation, str):
        equation, operands = _sublist_form((equation, *operands))
    operands = one_by_one(operands)
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise RuntimeError("einsum(): " + ("fewer operands were provided than specified in the equation" if len(terms) > len(operands)
                                           else "more operands were provided than specified in the equation"))
    terms, dots = _expand_dots(terms, operands)
    if arrow:
        if "..." in right:
            right = right.replace("...", dots)
    else:
        letters = "".join(terms)
        right = dots + "".join(sorted(c for c in set(letters) if letters.count(c) == 1 and c not in dots))
    for c in right:
        if right.count(c) > 1:
            raise RuntimeError(f"einsum(): output subscript {c} appears more than once in the output")
        if c not in "".join(terms) and c not in dots:
            raise RuntimeError(f"einsum(): output subscript {c} does not appear in the equation for any input operand")
    xs = []
    for t, x in zip(terms, operands):
        t, x = _diagonals(t, x)
        xs.append((t, x))
    sizes: dict[str, int] = {}
    for t, x in xs:
        for c, n in zip(t, x._a.shape):
            if sizes.get(c, 1) != 1 and n not in (1, sizes[c]):
                raise RuntimeError(f"einsum(): operands do not broadcast with remapped shapes: subscript {c} has size {n} for one operand "
                                   f"and {sizes[c]} for another")
            sizes[c] = max(n, sizes.get(c, 1)) if n != 0 else 0
    t, x = xs[0]
    for k in range(1, len(xs)):
        later = set(right).union(*[set(u) for u, _ in xs[k + 1:]])
        t, x = _contract(t, x, *xs[k], later, sizes)
    summed = [i for i, c in enumerate(t) if c not in right]
    if summed:
        x = x.sum(summed)
        t = "".join(c for c in t if c in right)
    x = x.permute([t.index(c) for c in right]) if right != t else x
    want = [sizes[c] for c in right]
    return x if list(x._a.shape) == want else x.expand(want)


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _sublist_form(args: Sequence[Any]) -> tuple[str, tuple]:
    """``einsum(x, [0, 1], y, [1, 2], [0, 2])`` as an equation."""
    def name(sub: Sequence[Any]) -> str:
        return "".join("..." if i is Ellipsis else _LETTERS[i] for i in sub)
    n = len(args) // 2
    text = ",".join(name(args[2 * k + 1]) for k in range(n))
    if len(args) % 2:
        text += "->" + name(args[-1])
    return text, tuple(args[2 * k] for k in range(n))


def _expand_dots(terms: list[str], operands: Sequence[Any]) -> tuple[list[str], str]:
    """Replaces ``...`` by letters that the equation does not use."""
    used = set("".join(terms))
    widest = 0
    for k, (t, x) in enumerate(zip(terms, operands)):
        named = t.replace("...", "")
        bad = [c for c in named if c not in _LETTERS]
        if bad:
            raise RuntimeError(f"einsum(): invalid subscript given at index {t.index(bad[0])} in the equation string, subscripts must be "
                               "in [a-zA-Z]")
        if "..." in t:
            widest = max(widest, x.ndim - len(named))
        if len(named) != x.ndim and ("..." not in t or len(named) > x.ndim):
            raise RuntimeError(f"einsum(): the number of subscripts in the equation ({len(named)}) does not match the number of dimensions "
                               f"({x.ndim}) for operand {k}" + (" and no ellipsis was given" if "..." not in t else ""))
    dots = "".join(c for c in "αβγδεζηθικλμ" if c not in used)[:widest]
    out = []
    for t, x in zip(terms, operands):
        n = x.ndim - len(t.replace("...", ""))
        out.append(t.replace("...", dots[widest - n:] if n else ""))
    return out, dots


def _diagonals(t: str, x: Any) -> tuple[str, Any]:
    """Takes the diagonal where a subscript is repeated within one operand."""
    for c in dict.fromkeys(t):
        while t.count(c) > 1:
            a = t.index(c)
            b = t.index(c, a + 1)
            if x._a.shape[a] != x._a.shape[b]:
                raise RuntimeError(f"einsum(): subscript {c} is repeated for an operand but the sizes don't match, {x._a.shape[b]} != "
                                   f"{x._a.shape[a]}")
            x = fn.diagonal_dims(x, 0, a, b)
            t = t[:a] + t[a + 1:b] + t[b + 1:] + c
    return t, x


def _contract(ta: str, a: Any, tb: str, b: Any, later: set[str], sizes: dict[str, int]) -> tuple[str, Any]:
    """Multiplies two operands and sums over the subscripts that nothing later needs, as one batched matrix product."""
    # what only one of them has and nobody needs is summed first
    for _ in range(2):
        gone = [i for i, c in enumerate(ta) if c not in tb and c not in later]
        if gone:
            a, ta = a.sum(gone), "".join(c for i, c in enumerate(ta) if i not in gone)
        a, ta, b, tb = b, tb, a, ta
    batch = [c for c in ta if c in tb and c in later]
    inner = [c for c in ta if c in tb and c not in later]
    rows = [c for c in ta if c not in tb]
    cols = [c for c in tb if c not in ta]

    def arrange(x: Any, t: str, groups: Sequence[list[str]]) -> Any:
        order = [c for g in groups for c in g]
        x = x.permute([t.index(c) for c in order])
        shared = set(batch) | set(inner)
        x = x.expand([sizes[c] if c in shared else n for c, n in zip(order, x._a.shape)])
        return x.reshape([sizes[c] for c in batch] + [numel(x._a.shape[t2] for t2 in _span(groups, g)) for g in (1, 2)])

    left, right = arrange(a, ta, (batch, rows, inner)), arrange(b, tb, (batch, inner, cols))
    if inner:
        r = fn.bmm_general(left, right)
    else:
        r = left * right
    shape = [sizes[c] for c in batch + rows + cols]
    return "".join(batch + rows + cols), r.reshape(shape)


def _span(groups: Sequence[list[str]], g: int) -> range:
    start = sum(len(x) for x in groups[:g])
    return range(start, start + len(groups[g]))
