"""LLVM IR from a loop kernel: scalar loops that LLVM's loop vectoriser makes wide.

A kernel becomes one or more functions ``void f(ptr block, i64 lo, i64 hi)``, each doing the *units* of work ``lo <= u < hi``.
Units are independent, so any split over threads gives the same bits. The *flavour* says what a unit is:

* ``map`` (no reduction): one block of the last axis of one row.
* ``rows``: one outer position; its reductions run one after another over rows that stay in the cache.
* ``split``: for few outer positions, one block of the reduced range. Each stage is a function that leaves one partial result
  a unit, followed by a function that combines them in order.
* ``columns``: the last outer axis is contiguous and the reduced ones are not: one block of columns, with one accumulator a column.

The *block* is an array of 8-byte slots: pointers, scalars (floating ones as double, others as int64), sizes, strides, then
:data:`EXTRAS`. Sums of floats accumulate in ``reassoc`` order inside a block of at most :data:`REDUCE_BLOCK` elements and in
double precision, in order, over the blocks. Nothing else is reordered or contracted: a fused loop computes what the operations
would one by one.
"""
from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ..dtypes import HALVES, bfloat16, bool_, dtype, float16, float32, float64, int64, uint8
from ..ops.expr import Expr, const, substitute, walk
from ..ops.primitives import PRIMITIVES
from . import llvm_math
from .loop import Access, LoopKernel, Store

#: Elements a reduction adds up before the sum goes into the double-precision total.
REDUCE_BLOCK = 8192

#: Slots after the strides: elements a block of the vector axis, number of such blocks, inner units per outer position, steps an
#: inner unit, address of the partial results, address of the combined results.
EXTRAS = ("block", "blocks", "units", "steps", "partials", "results")

_REGISTER = {"b1": "i1", "u8": "i8", "i8": "i8", "i16": "i16", "i32": "i32", "i64": "i64", "f16": "float", "bf16": "float",
             "f32": "float", "f64": "double"}
_MEMORY = {"b1": "i8", "f16": "half", "bf16": "i16"}


def register_type(dt: dtype) -> str:
    """The LLVM type of a value of ``dt``; half types are held as float."""
    return _REGISTER[dt.code]


def memory_type(dt: dtype) -> str:
    """The LLVM type of a stored element of ``dt``."""
    return _MEMORY.get(dt.code) or _REGISTER[dt.code]


def literal(value: bool | int | float, dt: dtype) -> str:
    """A constant of ``dt`` as LLVM text."""
    if dt is bool_:
        return "true" if value else "false"
    if dt.category == 1:
        return str(value)
    value = float(value)
    if dt is float16 or dt is bfloat16:
        value = float(dt.np.type(value))
    elif dt is float32:
        try:
            value = struct.unpack("f", struct.pack("f", value))[0]
        except OverflowError:
            value = math.copysign(math.inf, value)
    return f"0x{struct.unpack('>Q', struct.pack('>d', value))[0]:016x}"


class Builder:
    """Text of one module: appends instructions, remembers declarations, makes loops."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.declared: dict[str, None] = {}
        self.loops: list[str] = []
        self.current = "entry"
        self._n = 0

    def name(self, stem: str = "v") -> str:
        self._n += 1
        return f"%{stem}{self._n}"

    def do(self, text: str) -> None:
        self.lines.append("  " + text)

    def op(self, text: str) -> str:
        """Appends an instruction with a result; returns its name."""
        r = self.name()
        self.lines.append(f"  {r} = {text}")
        return r

    def start(self, label: str) -> None:
        self.lines.append(label[1:] + ":")
        self.current = label[1:]

    def call(self, name: str, ret: str, args: Sequence[tuple[str, str]], attributes: str = "") -> str:
        types = ", ".join(t for t, _ in args)
        self.declared[f"declare {ret} @{name}({types}){attributes}"] = None
        return self.op(f"call {ret} @{name}({', '.join(f'{t} {v}' for t, v in args)})")

    def intrinsic(self, name: str, t: str, *args: str) -> str:
        suffix = {"float": "f32", "double": "f64"}.get(t, t)
        return self.call(f"llvm.{name}.{suffix}", t, [(t, a) for a in args])

    def libm(self, name: str, t: str, *args: str) -> str:
        # memory(none): errno does not matter here, and a call that writes memory stops the vectoriser
        return self.call(name + ("f" if t == "float" else ""), t, [(t, a) for a in args],
                         " memory(none) nounwind willreturn")

    def loop(self, lo: str, hi: str, carried: Sequence[tuple[str, str]],
             body: Callable[[str, list[str]], list[str]], hints: Sequence[str] = ()) -> list[str]:
        """``for i in range(lo, hi)`` with carried ``(type, start)`` values; returns their values at the end.

        With ``hints`` (metadata of the vectoriser) the loop is one whose iterations touch no common memory.
        """
        before, i, following = self.current, self.name("i"), self.name("n")
        top, end = self.name("loop"), self.name("end")
        self.do(f"br i1 {self.op(f'icmp slt i64 {lo}, {hi}')}, label {top}, label {end}")
        self.start(top)
        values = [self.name("c") for _ in carried]
        at = len(self.lines)
        new = body(i, values)
        latch = self.current
        self.do(f"{following} = add nsw i64 {i}, 1")
        mark = ""
        if hints:
            mark = f", !llvm.loop !{self._loop_metadata(hints)}"
        self.do(f"br i1 {self.op(f'icmp slt i64 {following}, {hi}')}, label {top}, label {end}{mark}")
        self.lines[at:at] = [f"  {i} = phi i64 [ {lo}, %{before} ], [ {following}, %{latch} ]"] + [
            f"  {v} = phi {t} [ {s}, %{before} ], [ {n}, %{latch} ]" for v, (t, s), n in zip(values, carried, new)]
        self.start(end)
        return [self.op(f"phi {t} [ {s}, %{before} ], [ {n}, %{latch} ]") for (t, s), n in zip(carried, new)]

    def _loop_metadata(self, hints: Sequence[str]) -> int:
        number = 10 + len(self.loops)
        nodes = ", ".join(f"!{{{h}}}" for h in hints)
        self.loops.append(f'!{number} = distinct !{{!{number}, {nodes}, !{{!"llvm.loop.parallel_accesses", !1}}}}')
        return number


# ---- conversions

def convert(b: Builder, v: str, src: dtype, dst: dtype) -> str:
    """Register value ``v`` of ``src`` as ``dst``. Floats out of an integer's range give its nearest end, NaN gives 0."""
    if src is dst:
        return v
    s, d = register_type(src), register_type(dst)
    if dst is bool_:
        if src.category == 2:
            return b.op(f"fcmp une {s} {v}, {literal(0.0, src)}")
        return b.op(f"icmp ne {s} {v}, 0")
    if src.category == 2 and dst.category == 2:
        if dst in HALVES:
            return round_half(b, v, src, dst)
        if s == d:
            return v
        return b.op(f"{'fpext' if d == 'double' else 'fptrunc'} {s} {v} to {d}")
    if src.category == 2:
        wide = "i32" if dst.itemsize < 4 else d  # narrow integers wrap, as C compilers make them on common machines
        n = b.call(f"llvm.fptosi.sat.{wide}.{'f32' if s == 'float' else 'f64'}", wide, [(s, v)])
        return n if wide == d else b.op(f"trunc {wide} {n} to {d}")
    if dst.category == 2:
        f = b.op(f"{'sitofp' if src.is_signed else 'uitofp'} {s} {v} to {d}")
        return round_half(b, f, float32, dst) if dst in HALVES else f
    if src.bits < dst.bits or src is bool_:
        return v if s == d else b.op(f"{'sext' if src.is_signed else 'zext'} {s} {v} to {d}")
    return v if s == d else b.op(f"trunc {s} {v} to {d}")


def round_half(b: Builder, v: str, src: dtype, dst: dtype) -> str:
    """``v`` rounded once to the half type ``dst``, as float."""
    if src is dst:
        return v
    return _widen(b, _narrow(b, v, src, dst), dst)


def _narrow(b: Builder, v: str, src: dtype, dst: dtype) -> str:
    """``v`` rounded to nearest even, as stored bits of the half type ``dst``."""
    if src is float64:
        v = _round_to_odd(b, v)
    if dst is float16:
        return b.op(f"fptrunc float {v} to half")
    bits = b.op(f"bitcast float {v} to i32")
    high = b.op(f"lshr i32 {bits}, 16")
    odd = b.op(f"and i32 {high}, 1")
    bias = b.op(f"add i32 {odd}, 32767")
    rounded = b.op(f"lshr i32 {b.op(f'add i32 {bits}, {bias}')}, 16")
    quiet = b.op(f"or i32 {high}, 64")
    nan = b.op(f"fcmp uno float {v}, {v}")
    return b.op(f"trunc i32 {b.op(f'select i1 {nan}, i32 {quiet}, i32 {rounded}')} to i16")


def _widen(b: Builder, v: str, src: dtype) -> str:
    if src is float16:
        return b.op(f"fpext half {v} to float")
    wide = b.op(f"zext i16 {v} to i32")
    return b.op(f"bitcast i32 {b.op(f'shl i32 {wide}, 16')} to float")


def _round_to_odd(b: Builder, v: str) -> str:
    """A double as float, inexact results made odd, so that a second rounding rounds as one would (Boldo and Melquiond, 2008)."""
    f = b.op(f"fptrunc double {v} to float")
    back = b.op(f"fpext float {f} to double")
    bits = b.op(f"bitcast float {f} to i32")
    above = b.op(f"fcmp ogt double {b.intrinsic('fabs', 'double', back)}, {b.intrinsic('fabs', 'double', v)}")
    lower = b.op(f"sub i32 {bits}, {b.op(f'zext i1 {above} to i32')}")
    inexact = b.op(f"fcmp one double {back}, {v}")
    odd = b.op(f"select i1 {inexact}, i32 {b.op(f'or i32 {lower}, 1')}, i32 {bits}")
    return b.op(f"bitcast i32 {odd} to float")


# ---- reductions

def _combine(b: Builder, kind: str, dt: dtype, t: str, a: str, v: str, flags: str = "") -> str:
    if t in ("float", "double"):
        if kind in ("sum", "prod"):
            return b.op(f"{'fadd' if kind == 'sum' else 'fmul'} {flags}{t} {a}, {v}")
        return b.intrinsic(kind + "imum", t, a, v)
    if kind in ("sum", "prod"):
        return b.op(f"{'add' if kind == 'sum' else 'mul'} {t} {a}, {v}") if dt is not bool_ else b.op(
            f"{'or' if kind == 'sum' else 'and'} i1 {a}, {v}")
    if dt is bool_:
        return b.op(f"{'or' if kind == 'max' else 'and'} i1 {a}, {v}")
    return b.intrinsic(("u" if dt is uint8 else "s") + kind, t, a, v)


def _identity(kind: str, dt: dtype) -> str:
    if kind in ("sum", "prod"):
        return literal(0 if kind == "sum" else 1, dt)
    if dt.category == 2:
        return literal(-math.inf if kind == "max" else math.inf, dt)
    if dt is bool_:
        return "false" if kind == "max" else "true"
    low, high = (0, 255) if dt is uint8 else (-(1 << dt.bits - 1), (1 << dt.bits - 1) - 1)
    return str(low if kind == "max" else high)


def _total_dtype(e: Expr) -> dtype:
    """What the blocks of reduction ``e`` are added up in."""
    return float64 if e.dtype.category == 2 and e.attr in ("sum", "prod") else e.dtype


# ---- analysis

UNIFORM, OUTER, STEP, VECTOR = range(4)


@dataclass
class Analysis:
    """A kernel made ready for emission: arg-reductions rewritten, each node given its stage and what it varies over."""

    kernel: LoopKernel
    stores: list[Store]
    reduces: list[list[Expr]]  # per stage
    stage: dict[Expr, int]
    varies: dict[Expr, frozenset[int]]  # axes of the kernel

    @property
    def stages(self) -> int:
        """How many passes over the inner axes there are."""
        full = [self.stage[s.value] + 1 for s in self.stores if s.full]
        return max([len(self.reduces), *full])


def analyse(kernel: LoopKernel) -> Analysis:
    """Stages and variation of every node of ``kernel``."""
    values = _without_arg_reductions([s.value for s in kernel.stores])
    stores = [Store(s.access, v, s.full) for s, v in zip(kernel.stores, values)]
    outer = frozenset(range(kernel.n_outer))
    inner = frozenset(range(kernel.n_outer, kernel.n_outer + kernel.n_inner))
    stage: dict[Expr, int] = {}
    varies: dict[Expr, frozenset[int]] = {}
    reduces: list[list[Expr]] = []
    for e in walk(values):
        stage[e] = max((stage[a] for a in e.args), default=0)
        varies[e] = frozenset().union(*(varies[a] for a in e.args))
        if e.op == "load":
            varies[e] = _axes(kernel.inputs[e.attr].pattern)
        elif e.op == "iota":
            varies[e] = inner if e.attr == "position" else _axes(kernel.iotas[e.attr])
        elif e.op == "reduce":
            level = stage[e]
            while len(reduces) <= level:
                reduces.append([])
            reduces[level].append(e)
            stage[e] = level + 1
            varies[e] &= outer
    return Analysis(kernel, stores, reduces, stage, varies)


def _axes(pattern: str) -> frozenset[int]:
    return frozenset(k for k, c in enumerate(pattern) if c != "0")


def _without_arg_reductions(values: Sequence[Expr]) -> list[Expr]:
    """argmax(e) as the smallest position where e equals max(e) (or is NaN): two plain reductions, which vectorise."""
    P = PRIMITIVES
    while True:
        found = [e for e in walk(values) if e.op == "reduce" and e.attr in ("argmax", "argmin")
                 and not any(a.op == "reduce" and a.attr in ("argmax", "argmin") for a in walk(e.args))]
        if not found:
            return list(values)
        mapping = {}
        for e in found:
            x = e.args[0]
            hit = P["eq"](x, Expr("reduce", (x,), e.attr[3:], x.dtype))
            if x.dtype.category == 2:
                hit = P["bitwise_or"](hit, P["isnan"](x))
            position = P["where"](hit, Expr("iota", (), "position", int64), const((1 << 63) - 1, int64))
            mapping[e] = Expr("reduce", (position,), "min", int64)
        values = substitute(values, mapping)


# ---- emission

@dataclass
class _Frame:
    """Where code is being written: axis coordinates, and the values that exist there."""

    coords: dict[int, str] = field(default_factory=dict)
    values: dict[Expr, str] = field(default_factory=dict)
    bases: dict[int, str] = field(default_factory=dict)  # operand number -> pointer or, for an iota, its value

    def child(self) -> _Frame:
        return _Frame(dict(self.coords), dict(self.values), dict(self.bases))


class Emitter:
    """Writes the functions of one kernel in one flavour."""

    def __init__(self, kernel: LoopKernel, name: str, flavour: str, hints: Sequence[str]) -> None:
        self.k, self.name, self.flavour, self.hints = kernel, name, flavour, hints
        self.a = analyse(kernel)
        self.n_axes = kernel.n_outer + kernel.n_inner
        self.outer_axes = list(range(kernel.n_outer))
        self.inner_axes = list(range(kernel.n_outer, self.n_axes))
        self.b = Builder()
        self.functions: list[str] = []
        self.n_in = len(kernel.inputs)
        self.patterns = [a.pattern for a in kernel.inputs] + [s.access.pattern for s in kernel.stores] + list(kernel.iotas)

    # -- module and functions

    def module(self) -> tuple[str, list[str]]:
        """The text of the module, without target lines, and the names of its functions in the order they run."""
        k = self.k
        if self.flavour == "map":
            self._function(self.name, self._map)
            names = [self.name]
        elif self.flavour == "rows":
            self._function(self.name, self._rows)
            names = [self.name]
        else:
            names = []
            for s in range(self.a.stages):
                names.append(f"{self.name}_s{s}")
                self._function(names[-1], lambda lo, hi, s=s: self._split_stage(s, lo, hi))
                if s < len(self.a.reduces) and self.a.reduces[s]:
                    names.append(f"{self.name}_c{s}")
                    self._function(names[-1], lambda lo, hi, s=s: self._split_combine(s, lo, hi))
            if not all(s.full for s in k.stores):
                names.append(f"{self.name}_o")
                self._function(names[-1], self._split_outer)
        return "\n".join(self.functions), names

    def _function(self, name: str, body: Callable[[str, str], None]) -> None:
        b = self.b
        b.lines, b.current = [], "entry"
        self.root = _Frame()
        self._arguments()
        body("%lo", "%hi")
        text = "\n".join(b.lines)
        self.functions.append(f"define void @{name}(ptr noalias readonly %block, i64 %lo, i64 %hi) #0 {{\nentry:\n{text}\n"
                              "  ret void\n}")

    def _slot(self, t: str) -> str:
        g = self.b.op(f"getelementptr i64, ptr %block, i64 {self._at}")
        self._at += 1
        return self.b.op(f"load {t}, ptr {g}, align 8")

    def _arguments(self) -> None:
        b, k = self.b, self.k
        self._at = 0
        self.pointers = [self._slot("ptr") for _ in range(self.n_in + len(k.stores))]
        self.scalars = []
        for dt in k.scalars:
            v = self._slot("double" if dt.category == 2 else "i64")
            self.scalars.append(convert(b, v, float64 if dt.category == 2 else int64, dt))
        self.sizes = [self._slot("i64") for _ in range(self.n_axes)]
        self.strides: list[list[str]] = []
        for p in self.patterns:
            row = []
            for c in p:
                row.append(self._slot("i64") if c == "s" else {"0": "0", "1": "1"}[c])
                self._at += c != "s"
            self.strides.append(row)
        for which in EXTRAS:
            setattr(self, which, self._slot("ptr" if which in ("partials", "results") else "i64"))

    # -- units of each flavour

    def _digits(self, lo: str, axes: Sequence[int], last: str | None) -> list[tuple[str, str]]:
        """Start values ``(coordinate, size)`` of an odometer over ``axes`` (then ``last`` blocks) at linear position ``lo``."""
        b = self.b
        sizes = [self.sizes[x] for x in axes] + ([last] if last else [])
        out, rest = [], lo
        for n in reversed(sizes[1:]):
            out.append((b.op(f"urem i64 {rest}, {n}"), n))
            rest = b.op(f"udiv i64 {rest}, {n}")
        if sizes:
            out.append((rest, sizes[0]))
        return out[::-1]

    def _advance(self, digits: Sequence[str], sizes: Sequence[str]) -> list[str]:
        b = self.b
        out, carry = [], "1"
        for d, n in zip(reversed(digits), reversed(sizes)):
            up = b.op(f"add i64 {d}, {carry}")
            wrap = b.op(f"icmp eq i64 {up}, {n}")
            out.append(b.op(f"select i1 {wrap}, i64 0, i64 {up}"))
            carry = b.op(f"zext i1 {wrap} to i64")
        return out[::-1]

    def _odometer(self, lo: str, hi: str, axes: Sequence[int], last: str | None, carried: Sequence[tuple[str, str]],
                  body: Callable[[list[str], list[str]], list[str]], guard: bool = False) -> list[str]:
        """Runs ``body(digits, carried)`` for the linear positions ``lo <= u < hi`` over ``axes`` and ``last`` blocks."""
        b = self.b
        if guard:  # a range may be empty, with axes of size 0 that must not be divided by
            work, end = b.name("work"), b.name("none")
            b.do(f"br i1 {b.op(f'icmp slt i64 {lo}, {hi}')}, label {work}, label {end}")
            before = b.current
            b.start(work)
        digits = self._digits(lo, axes, last)
        sizes = [n for _, n in digits]

        def step(_: str, values: list[str]) -> list[str]:
            n = len(digits)
            new = body(values[:n], values[n:])
            return self._advance(values[:n], sizes) + new

        out = b.loop(lo, hi, [("i64", d) for d, _ in digits] + list(carried), step)[len(digits):]
        if guard:
            after = b.current
            b.do(f"br label {end}")
            b.start(end)
            out = [b.op(f"phi {t} [ {s}, %{before} ], [ {v}, %{after} ]") for (t, s), v in zip(carried, out)]
        return out

    def _map(self, lo: str, hi: str) -> None:
        b, vector = self.b, self.k.n_outer - 1
        row_axes = self.outer_axes[:-1]

        def unit(digits: list[str], _: list[str]) -> list[str]:
            f = self._enter(self.root, dict(zip(row_axes, digits)))
            j0, j1 = self._range(digits[-1], self.block, self.sizes[vector])
            self._vector_loop(f, vector, j0, j1, self.a.stores, [])
            return []

        self._odometer(lo, hi, row_axes, self.blocks, [], unit, guard=True)

    def _range(self, index: str, length: str, limit: str) -> tuple[str, str]:
        b = self.b
        j0 = b.op(f"mul nsw i64 {index}, {length}")
        return j0, b.intrinsic("smin", "i64", b.op(f"add nsw i64 {j0}, {length}"), limit)

    def _rows(self, lo: str, hi: str) -> None:
        def unit(digits: list[str], _: list[str]) -> list[str]:
            f = self._enter(self.root, dict(zip(self.outer_axes, digits)))
            for s in range(self.a.stages):
                reduces = self.a.reduces[s] if s < len(self.a.reduces) else []
                totals = self._stage(f, s, "0", self._steps())
                for e, v in zip(reduces, totals):
                    f.values[e] = convert(self.b, v, _total_dtype(e), e.dtype)
            self._outer_stores(f)
            return []

        self._odometer(lo, hi, self.outer_axes, None, [], unit, guard=True)

    def _steps(self) -> str:
        """Number of steps (blocks of the last inner axis, over the other inner axes) of one reduction."""
        n = self.blocks
        for x in self.inner_axes[:-1]:
            n = self.b.op(f"mul i64 {n}, {self.sizes[x]}")
        return n

    def _stage(self, f: _Frame, s: int, lo: str, hi: str) -> list[str]:
        """One pass over the inner steps ``lo <= step < hi``: the totals of the reductions of stage ``s``; stores what is ready."""
        b, vector = self.b, self.inner_axes[-1]
        reduces = self.a.reduces[s] if s < len(self.a.reduces) else []
        stores = [x for x in self.a.stores if x.full and self.a.stage[x.value] == s]
        if not reduces and not stores:
            return []
        roots = [e.args[0] for e in reduces] + [x.value for x in stores]
        self._hoist(f, roots, frozenset(self.inner_axes))
        kinds = [(e, _total_dtype(e)) for e in reduces]
        start = [(register_type(dt), _identity(e.attr, dt)) for e, dt in kinds]

        def step(digits: list[str], totals: list[str]) -> list[str]:
            inner = self._enter(f, dict(zip(self.inner_axes[:-1], digits)))
            j0, j1 = self._range(digits[-1], self.block, self.sizes[vector])
            accs = self._vector_loop(inner, vector, j0, j1, stores, reduces)
            return [_combine(b, e.attr, dt, register_type(dt), t, convert(b, v, _acc_dtype(e), dt))
                    for (e, dt), t, v in zip(kinds, totals, accs)]

        return self._odometer(lo, hi, self.inner_axes[:-1], self.blocks, start, step, guard=True)

    def _split_stage(self, s: int, lo: str, hi: str) -> None:
        b = self.b
        reduces = self.a.reduces[s] if s < len(self.a.reduces) else []
        steps = self._steps()

        def unit(u: str, _: list[str]) -> list[str]:
            o = b.op(f"udiv i64 {u}, {self.units}")
            f = self._at_outer(o)
            self._combined(f, o, s)
            s0, s1 = self._range(b.op(f"urem i64 {u}, {self.units}"), getattr(self, "steps"), steps)
            for r, (e, v) in enumerate(zip(reduces, self._stage(f, s, s0, s1))):
                b.do(f"store {register_type(_total_dtype(e))} {v}, "
                     f"ptr {self._cell(self.partials, u, len(reduces), r)}, align 8")
            return []

        b.loop(lo, hi, [], unit)

    def _split_combine(self, s: int, lo: str, hi: str) -> None:
        b, reduces = self.b, self.a.reduces[s]

        def outer(o: str, _: list[str]) -> list[str]:
            u0 = b.op(f"mul i64 {o}, {self.units}")
            u1 = b.op(f"add i64 {u0}, {self.units}")
            types = [(register_type(_total_dtype(e)), _total_dtype(e)) for e in reduces]

            def add(u: str, totals: list[str]) -> list[str]:
                return [_combine(b, e.attr, dt, t, v, b.op(
                    f"load {t}, ptr {self._cell(self.partials, u, len(reduces), r)}, align 8"))
                    for r, (e, (t, dt), v) in enumerate(zip(reduces, types, totals))]

            totals = b.loop(u0, u1, [(t, _identity(e.attr, dt)) for e, (t, dt) in zip(reduces, types)], add)
            for r, (e, (_, dt), v) in enumerate(zip(reduces, types, totals)):
                v = convert(b, v, dt, e.dtype)
                b.do(f"store {register_type(e.dtype)} {v}, ptr {self._cell(self.results, o, self._n_results, self._index(e))}, align 8")
            return []

        b.loop(lo, hi, [], outer)

    def _split_outer(self, lo: str, hi: str) -> None:
        def outer(o: str, _: list[str]) -> list[str]:
            f = self._at_outer(o)
            self._combined(f, o, len(self.a.reduces))
            self._outer_stores(f)
            return []

        self.b.loop(lo, hi, [], outer)

    @property
    def _n_results(self) -> int:
        return sum(map(len, self.a.reduces))

    def _index(self, e: Expr) -> int:
        return [x for level in self.a.reduces for x in level].index(e)

    def _cell(self, base: str, row: str, width: int, column: int) -> str:
        b = self.b
        at = b.op(f"add i64 {b.op(f'mul i64 {row}, {width}')}, {column}")
        return b.op(f"getelementptr i64, ptr {base}, i64 {at}")

    def _combined(self, f: _Frame, o: str, s: int) -> None:
        """Loads the results of the reductions before stage ``s``."""
        for level in self.a.reduces[:s]:
            for e in level:
                p = self._cell(self.results, o, self._n_results, self._index(e))
                f.values[e] = self.b.op(f"load {register_type(e.dtype)}, ptr {p}, align 8")

    def _at_outer(self, o: str) -> _Frame:
        digits = self._digits(o, self.outer_axes, None)
        return self._enter(self.root, {x: d for x, (d, _) in zip(self.outer_axes, digits)})

    # -- frames, values

    def _enter(self, parent: _Frame, coords: dict[int, str]) -> _Frame:
        """A frame at further coordinates: operand addresses move on by coordinate times stride."""
        b, f = self.b, parent.child()
        f.coords.update(coords)
        n_buffers = self.n_in + len(self.k.stores)
        for k, pattern in enumerate(self.patterns):
            base = f.bases.get(k) or (self.pointers[k] if k < n_buffers else "0")
            offset = None
            for x, c in coords.items():
                if pattern[x] == "0":
                    continue
                term = c if pattern[x] == "1" else b.op(f"mul nsw i64 {c}, {self.strides[k][x]}")
                offset = term if offset is None else b.op(f"add nsw i64 {offset}, {term}")
            if offset is not None:
                base = (b.op(f"getelementptr {memory_type(self._access(k).dtype)}, ptr {base}, i64 {offset}") if k < n_buffers
                        else b.op(f"add i64 {base}, {offset}"))
            f.bases[k] = base
        return f

    def _access(self, k: int) -> Access:
        return self.k.inputs[k] if k < self.n_in else self.k.stores[k - self.n_in].access

    def _hoist(self, f: _Frame, roots: Iterable[Expr], moving: frozenset[int]) -> None:
        """Computes now what does not change along the axes ``moving``."""
        need: set[Expr] = set()

        def mark(e: Expr) -> None:
            stack = [e]
            while stack:
                x = stack.pop()
                if x in need or x in f.values:
                    continue
                need.add(x)
                stack.extend(x.args)

        for r in roots:
            mark(r)
        for e in walk(roots):
            if e in need and e not in f.values and not self.a.varies[e] & moving and e.op != "const":
                self._value(f, e)

    def _vector_loop(self, f: _Frame, axis: int, j0: str, j1: str, stores: Sequence[Store],
                     reduces: Sequence[Expr]) -> list[str]:
        """The innermost loop over ``axis``; returns the accumulators of ``reduces``."""
        b = self.b
        roots = [e.args[0] for e in reduces] + [s.value for s in stores]
        self._hoist(f, roots, frozenset((axis,)))

        def body(j: str, accs: list[str]) -> list[str]:
            inner = self._enter(f, {axis: j})
            out = []
            for e, acc in zip(reduces, accs):
                t = register_type(_acc_dtype(e))
                out.append(_combine(b, e.attr, e.dtype, t, acc, self._value(inner, e.args[0], True), "reassoc "))
            values = [self._value(inner, s.value, True) for s in stores]
            for s, v in zip(stores, values):
                self._store(inner, s, v, True)
            return out

        return b.loop(j0, j1, [(register_type(_acc_dtype(e)), _identity(e.attr, _acc_dtype(e))) for e in reduces], body,
                      self.hints)

    def _outer_stores(self, f: _Frame) -> None:
        stores = [s for s in self.a.stores if not s.full]
        for s, v in zip(stores, [self._value(f, s.value) for s in stores]):
            self._store(f, s, v, False)

    def _store(self, f: _Frame, s: Store, v: str, grouped: bool) -> None:
        b, dt = self.b, s.access.dtype
        k = self.n_in + next(i for i, x in enumerate(self.a.stores) if x is s)
        if dt in HALVES:
            if s.value.dtype.category != 2:
                v = convert(b, v, s.value.dtype, float32)
            v = _narrow(b, v, float64 if s.value.dtype is float64 else float32, dt)
        else:
            v = convert(b, v, s.value.dtype, dt)
            if dt is bool_:
                v = b.op(f"zext i1 {v} to i8")
        b.do(f"store {memory_type(dt)} {v}, ptr {f.bases[k]}, align {dt.itemsize}"
             + (", !llvm.access.group !1" if grouped else ""))

    def _value(self, f: _Frame, root: Expr, grouped: bool = False) -> str:
        if root.op == "const":
            return literal(root.attr, root.dtype)
        have = f.values.get(root)
        if have is not None:
            return have
        stack = [root]
        while stack:
            e = stack[-1]
            if e in f.values or e.op == "const":
                stack.pop()
                continue
            todo = [] if e.op == "reduce" else [a for a in e.args if a not in f.values and a.op != "const"]
            if todo:
                stack.extend(reversed(todo))
                continue
            f.values[e] = self._emit(f, e, grouped)
            stack.pop()
        return f.values[root]

    def _emit(self, f: _Frame, e: Expr, grouped: bool) -> str:
        b = self.b
        if e.op == "load":
            dt = e.dtype
            v = b.op(f"load {memory_type(dt)}, ptr {f.bases[e.attr]}, align {dt.itemsize}"
                     + (", !llvm.access.group !1" if grouped else ""))
            if dt in HALVES:
                return _widen(b, v, dt)
            return b.op(f"icmp ne i8 {v}, 0") if dt is bool_ else v
        if e.op == "scalar":
            return self.scalars[e.attr]
        if e.op == "count":
            n = "1"
            for x in self.inner_axes:
                n = b.op(f"mul i64 {n}, {self.sizes[x]}")
            return n
        if e.op == "iota":
            if e.attr == "position":
                return self._position(f)
            return f.bases[self.n_in + len(self.k.stores) + e.attr]
        args = [literal(a.attr, a.dtype) if a.op == "const" else f.values[a] for a in e.args]
        if e.op == "cast":
            return convert(b, args[0], e.args[0].dtype, e.dtype)
        v = self._primitive(e, args)
        return round_half(b, v, float32, e.dtype) if e.dtype in HALVES and e.op not in ("where", "neg", "abs") else v

    def _position(self, f: _Frame) -> str:
        """Row-major position among the inner axes."""
        b, v = self.b, None
        for x in self.inner_axes:
            v = f.coords[x] if v is None else b.op(f"add i64 {b.op(f'mul i64 {v}, {self.sizes[x]}')}, {f.coords[x]}")
        return v

    def _primitive(self, e: Expr, args: list[str]) -> str:
        dt = e.args[-1].dtype
        kinds = {2: "f", 0: "b"}.get(dt.category) or ("ui" if dt is uint8 else "si")
        table = PRIMITIVES[e.op].llvm
        form = next((table[k] for k in kinds if k in table), None)
        if form is None:
            raise NotImplementedError(f"{e.op} on {dt} has no native form")
        t = register_type(dt)
        if form[0] == "@":
            return llvm_math.call(self.b, form[1:], dt, args)
        if form[0] == "%":
            return self.b.intrinsic(form[1:], t, *args)
        return self.b.op(form.format(*args, t=t))


def _acc_dtype(e: Expr) -> dtype:
    return float32 if e.dtype in HALVES else e.dtype


def emit(kernels: Sequence[tuple[LoopKernel, str, str]], width: int) -> tuple[str, list[list[str]]]:
    """Module text for ``(kernel, function name, flavour)``s, and per kernel the names of the functions to run in order.

    ``width`` is the preferred vector width of the machine in bits. A flavour ending in ``!`` has short vector loops: they are
    masked instead of leaving their tail to a scalar loop.
    """
    declared: dict[str, None] = {}
    functions, names, loops = [], [], []
    for kernel, name, flavour in kernels:
        hints = ['!"llvm.loop.mustprogress"']
        if flavour.endswith("!"):
            hints += ['!"llvm.loop.vectorize.predicate.enable", i1 true', '!"llvm.loop.interleave.count", i32 1']
        e = Emitter(kernel, name, flavour.rstrip("!"), hints)
        e.b.loops = loops
        text, own = e.module()
        functions.append(text)
        names.append(own)
        declared |= e.b.declared
    head = "\n".join(declared)
    tail = f'attributes #0 = {{ nounwind "prefer-vector-width"="{width}" "min-legal-vector-width"="0" }}\n!1 = distinct !{{}}\n'
    return f"{head}\n" + "\n".join(functions) + f"\n{tail}" + "\n".join(loops) + "\n", names
