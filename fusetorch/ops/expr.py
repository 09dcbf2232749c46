"""Scalar expressions: what one element of an operation's result is, as a small typed graph.

An :class:`Expr` is the one language that operations, gradients, eager kernels and fused kernels share. Bodies of operations
are Python functions over expressions; gradients are derived by walking them (:mod:`fusetorch.ops.gradient`); the code
generators print them as NumPy calls, LLVM IR or Triton source. Nodes are interned, so equal expressions are the same object
and common subexpressions are found by construction.

Half-precision loads are widened to float32 where they enter, so arithmetic is in float32 and is rounded once, at the store.
"""
from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from ..dtypes import HALVES, bool_, dtype, float32, int64, of_number, promote_types

#: Leaf operations. Everything else is a primitive of :mod:`fusetorch.ops.primitives` or "reduce".
LEAVES = ("load", "scalar", "const", "iota", "count")

#: Reductions over the inner (reduced) dimensions. ``argmax`` and ``argmin`` give the row-major position among them.
REDUCTIONS = ("sum", "prod", "max", "min", "argmax", "argmin")


class Expr:
    """One node: ``op`` applied to ``args``, with a static ``attr`` and a result ``dtype``.

    ``op`` is one of

    * ``load`` (``attr``: input number): the element of that input at this position; half types arrive as they are stored
    * ``scalar`` (``attr``: number of the run-time scalar)
    * ``const`` (``attr``: the Python value)
    * ``iota`` (``attr``: ``"linear"``, position in the whole index space; ``"inner"``, position among the reduced
      dimensions; or ``("dim", k)``, the coordinate in dimension ``k``), int64
    * ``count``: how many elements one reduction covers, int64
    * ``reduce`` (``attr``: a name in :data:`REDUCTIONS`): over all reduced dimensions of its one argument
    * the name of a primitive
    """

    __slots__ = ("op", "args", "attr", "dtype", "__weakref__")
    _interned: weakref.WeakValueDictionary = weakref.WeakValueDictionary()

    op: str
    args: tuple[Expr, ...]
    attr: Any
    dtype: dtype

    def __new__(cls, op: str, args: tuple[Expr, ...], attr: Any, dt: dtype) -> Expr:
        # a const's key must tell 0.0 from -0.0, 1 from 1.0 and True; NaN equals itself here
        key = (op, tuple(map(id, args)), repr(attr) if op == "const" else attr, dt.name)
        self = cls._interned.get(key)
        if self is None:
            self = object.__new__(cls)
            self.op, self.args, self.attr, self.dtype = op, args, attr, dt
            cls._interned[key] = self
        return self

    def __repr__(self) -> str:
        inside = ", ".join([repr(a) for a in self.args] + ([] if self.attr is None else [repr(self.attr)]))
        return f"{self.op}({inside}):{self.dtype.code}"

    def __add__(self, o: Any) -> Expr: return _prim("add", self, o)
    def __radd__(self, o: Any) -> Expr: return _prim("add", o, self)
    def __sub__(self, o: Any) -> Expr: return _prim("sub", self, o)
    def __rsub__(self, o: Any) -> Expr: return _prim("sub", o, self)
    def __mul__(self, o: Any) -> Expr: return _prim("mul", self, o)
    def __rmul__(self, o: Any) -> Expr: return _prim("mul", o, self)
    def __truediv__(self, o: Any) -> Expr: return _prim("div", self, o)
    def __rtruediv__(self, o: Any) -> Expr: return _prim("div", o, self)
    def __pow__(self, o: Any) -> Expr: return _prim("pow", self, o)
    def __rpow__(self, o: Any) -> Expr: return _prim("pow", o, self)
    def __neg__(self) -> Expr: return _prim("neg", self)
    def __abs__(self) -> Expr: return _prim("abs", self)
    def __invert__(self) -> Expr: return _prim("bitwise_not", self)
    def __and__(self, o: Any) -> Expr: return _prim("bitwise_and", self, o)
    def __or__(self, o: Any) -> Expr: return _prim("bitwise_or", self, o)
    def __xor__(self, o: Any) -> Expr: return _prim("bitwise_xor", self, o)
    def __lt__(self, o: Any) -> Expr: return _prim("lt", self, o)
    def __le__(self, o: Any) -> Expr: return _prim("le", self, o)
    def __gt__(self, o: Any) -> Expr: return _prim("gt", self, o)
    def __ge__(self, o: Any) -> Expr: return _prim("ge", self, o)
    # == and hash stay identity: interning makes that structural equality. Use primitives.eq for the comparison.

    def __bool__(self) -> bool:
        raise TypeError("an Expr has no truth value: a body must use where(condition, a, b) instead of if")


def _prim(name: str, *args: Any) -> Expr:
    from .primitives import PRIMITIVES
    return PRIMITIVES[name](*args)


def load(index: int, dt: dtype) -> Expr:
    """Input ``index`` of element type ``dt``, widened to float32 if it is a half type."""
    e = Expr("load", (), index, dt)
    return cast(e, float32) if dt in HALVES else e


def scalar(index: int, dt: dtype) -> Expr:
    """Run-time scalar number ``index``, passed to the kernel as ``dt``."""
    return Expr("scalar", (), index, dt)


def const(value: bool | int | float | complex, dt: dtype | None = None) -> Expr:
    """A constant of dtype ``dt`` (the number's own dtype unless given)."""
    dt = of_number(value) if dt is None else dt
    if isinstance(value, complex) and dt.category < 3 and dt is not bool_:
        value = value.real
    value = (bool, int, float, complex)[dt.category](value)
    return Expr("const", (), value, dt)


def iota(which: Any = "linear") -> Expr:
    """A position in the index space (see :class:`Expr`), int64."""
    return Expr("iota", (), which, int64)


def count() -> Expr:
    """The number of elements under one reduction, int64."""
    return Expr("count", (), None, int64)


def cast(e: Expr, dt: dtype) -> Expr:
    """``e`` converted to ``dt``."""
    if e.dtype is dt:
        return e
    if e.op == "const" and not (isinstance(e.attr, float) and not math.isfinite(e.attr) and dt.category < 2):
        if dt not in HALVES:
            return const(e.attr, dt) if dt is not float32 or e.dtype.category == 2 or abs(e.attr) < 2**24 else Expr(
                "cast", (e,), None, dt)
    return Expr("cast", (e,), None, dt)


def reduce(kind: str, e: Expr) -> Expr:
    """``e`` reduced over the inner dimensions by ``kind`` (one of :data:`REDUCTIONS`); ``arg*`` give int64."""
    if kind not in REDUCTIONS:
        raise ValueError(f"unknown reduction {kind!r}; one of {', '.join(REDUCTIONS)}")
    if e.dtype.is_complex and kind != "sum":
        raise NotImplementedError(f"\"{kind}\" not implemented for {e.dtype}: only sums of complex numbers are reductions of their parts")
    return Expr("reduce", (e,), kind, int64 if kind.startswith("arg") else e.dtype)


def lift(args: Iterable[Any]) -> list[Expr]:
    """Numbers among ``args`` become constants of the dtype that the expressions beside them have."""
    args = list(args)
    found: dtype | None = None
    for a in args:
        if isinstance(a, Expr):
            found = a.dtype if found is None else promote_types(found, a.dtype)
    out = []
    for a in args:
        if isinstance(a, Expr):
            out.append(a)
        else:
            own = of_number(a)
            out.append(const(a, own if found is None or own.category > found.category else found))
    return out


def walk(roots: Iterable[Expr]) -> Iterator[Expr]:
    """Every node reachable from ``roots`` once, arguments before their users."""
    seen: set[int] = set()
    for root in roots:
        stack = [(root, False)]
        while stack:
            e, done = stack.pop()
            if id(e) in seen:
                continue
            if done or not e.args:
                seen.add(id(e))
                yield e
            else:
                stack.append((e, True))
                stack.extend((a, False) for a in reversed(e.args) if id(a) not in seen)


def substitute(roots: Iterable[Expr], mapping: dict[Expr, Expr]) -> list[Expr]:
    """``roots`` rebuilt with nodes replaced as ``mapping`` says (the topmost match wins)."""
    roots = list(roots)
    done: dict[int, Expr] = {id(k): v for k, v in mapping.items()}

    def visit(root: Expr) -> Expr:
        stack = [root]
        while stack:
            e = stack[-1]
            if id(e) in done:
                stack.pop()
                continue
            todo = [a for a in e.args if id(a) not in done]
            if todo:
                stack.extend(todo)
                continue
            new = tuple(done[id(a)] for a in e.args)
            done[id(e)] = e if all(a is b for a, b in zip(new, e.args)) else rebuild(e, new)
            stack.pop()
        return done[id(root)]

    return [visit(r) for r in roots]


def rebuild(e: Expr, args: tuple[Expr, ...]) -> Expr:
    """The same operation over other arguments of the same dtypes."""
    if e.op == "cast":
        return cast(args[0], e.dtype)
    return Expr(e.op, args, e.attr, e.dtype)


def serialize(roots: Iterable[Expr]) -> str:
    """A text that is equal exactly for structurally equal expressions, in every process: the kernel cache key."""
    roots = list(roots)
    number: dict[int, int] = {}
    lines = []
    for e in walk(roots):
        number[id(e)] = len(number)
        args = ",".join(str(number[id(a)]) for a in e.args)
        lines.append(f"{e.op}({args}){'' if e.attr is None else repr(e.attr)}:{e.dtype.code}")
    return ";".join(lines) + "->" + ",".join(str(number[id(r)]) for r in roots)
