"""LLVM IR from a loop kernel: scalar loops that LLVM's loop vectoriser makes wide.

A kernel becomes one or more functions ``void f(ptr block, i64 lo, i64 hi)``, each doing the *units* of work ``lo <= u < hi``.
Units are independent, so any split over threads gives the same bits. The *flavour* says what a unit is:

* ``map`` (no reduction): one block of the last axis of one row.
* ``tiles``: a map where an operand is transposed: a tile of :data:`TILE` by :data:`TILE` elements of the last axis and the one along
  which that operand is contiguous, so that each cache line is read once.
* ``rows``: one outer position; its reductions run one after another over a row that stays in the cache.
* ``split``: for few outer positions, one block of the reduced range (:mod:`fusetorch.codegen.llvm_split`).
* ``columns``, ``column_split``: the same two where the last outer axis is contiguous and the reduced ones are not: the vector
  loop runs over a block of columns (:mod:`fusetorch.codegen.llvm_columns`).

The *block* is an array of 8-byte slots: pointers, scalars (floating ones as double, others as int64), sizes, strides, then
:data:`EXTRAS`. Sums of floats accumulate in ``reassoc`` order inside a block of at most :data:`REDUCE_BLOCK` elements and in
double precision, in order, over the blocks. Nothing else is reordered or contracted: a fused loop computes what the operations
would one by one.

Memory: an output of a kernel without reductions may be the very memory of an input (same strides). With reductions no output may
overlap an input, since passes may keep values in an output until it is written.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ..dtypes import HALVES, bool_, dtype, float32, float64, int64, uint8
from ..ops.expr import Expr, walk
from ..ops.primitives import PRIMITIVES
from . import llvm_math
from .llvm_analysis import analyse, inside, kept, tiled_axis
from .llvm_builder import (
    ATTRIBUTES,
    GROUP,
    MASKED,
    PROGRESS,
    SINGLE,
    Builder,
    acc_dtype,
    combine,
    convert,
    identity,
    literal,
    memory_type,
    narrow,
    pack,
    register_type,
    round_half,
    total_dtype,
    widen,
)
from .loop import Access, LoopKernel, Store

#: Elements a reduction adds up before the sum goes into the double-precision total.
REDUCE_BLOCK = 4096

#: Rows and columns of a tile.
TILE = 64

#: Slots after the strides: elements a block of the vector axis, number of such blocks, inner units per outer position, steps an
#: inner unit, address of the partial results, address of the combined results.
EXTRAS = ("block", "blocks", "units", "per_unit", "partials", "results")


@dataclass
class Frame:
    """Where code is being written: axis coordinates, the values that exist there, operand addresses (and iota values)."""

    coords: dict[int, str] = field(default_factory=dict)
    values: dict[Expr, str] = field(default_factory=dict)
    bases: dict[int, str] = field(default_factory=dict)
    lane: str = ""  # position in the block of columns

    def child(self) -> Frame:
        return Frame(dict(self.coords), dict(self.values), dict(self.bases), self.lane)


class Emitter:
    """Writes the functions of one kernel in one flavour."""

    def __init__(self, kernel: LoopKernel, name: str, flavour: str, b: Builder) -> None:
        self.k, self.name, self.flavour = kernel, name, flavour
        self.a = analyse(kernel, frozenset([self.vector_axis]) if flavour.startswith("column") else frozenset())
        self.kept = kept(self.a, self.vector_axis) if flavour in ("rows", "columns") else {}
        self.stage = 0
        self.n_axes = kernel.n_outer + kernel.n_inner
        self.outer_axes = list(range(kernel.n_outer))
        self.inner_axes = list(range(kernel.n_outer, self.n_axes))
        self.b = b
        self.functions: list[str] = []
        self.n_in = len(kernel.inputs)
        self.patterns = [a.pattern for a in kernel.inputs] + [s.access.pattern for s in kernel.stores] + list(kernel.iotas)
        self.results = [e for level in self.a.reduces for e in level]
        self.extrema = any(e.attr in ("max", "min") for e in self.results)
        # arrays over the lanes of a block of columns: reduction results and other values of the outer position
        self.arrays: dict[Expr, str] = {}

    @property
    def vector_axis(self) -> int:
        """The axis of the innermost loop."""
        return self.k.n_outer - 1 if self.flavour in ("map", "tiles", "columns", "column_split") else self.k.n_outer + self.k.n_inner - 1

    # -- module and functions

    def module(self) -> tuple[str, list[str]]:
        """The text of the functions, and their names in the order they run."""
        names = []
        for suffix, body in self.parts():
            names.append(f"{self.name}_{suffix}")
            b = self.b
            b.begin()
            self._arguments()
            body("%lo", "%hi")
            self.functions.append(f"define void @{names[-1]}(ptr noalias readonly %block, i64 %lo, i64 %hi) #0 {{\n{b.end()}\n}}")
        return "\n".join(self.functions), names

    def parts(self) -> list[tuple[str, Callable[[str, str], None]]]:
        """``(suffix of the name, body)`` of each function. A suffix tells its units: ``u`` as the flavour's, ``o`` outer positions."""
        if self.flavour == "map":
            return [("u", self._map)]
        if self.flavour == "tiles":
            return [("u", self._tiles)]
        return [("u", self._rows)]

    def reduces(self, s: int) -> list[Expr]:
        """The reductions that pass ``s`` computes."""
        return self.a.reduces[s] if s < len(self.a.reduces) else []

    def stores(self, s: int) -> list[Store]:
        """The full stores that pass ``s`` does."""
        return [x for x in self.a.stores if x.full and self.a.stage[x.value] == s]

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
            wide = float64 if dt.category == 2 else int64
            self.scalars.append(convert(b, self._slot(register_type(wide)), wide, dt))
        self.sizes = [self._slot("i64") for _ in range(self.n_axes)]
        self.strides: list[list[str]] = []
        for p in self.patterns:
            row = []
            for c in p:
                row.append(self._slot("i64") if c == "s" else c)
                self._at += c != "s"
            self.strides.append(row)
        self.extra = {name: self._slot("ptr" if name in ("partials", "results") else "i64") for name in EXTRAS}
        self.root = Frame()

    # -- positions

    def digits(self, lo: str, sizes: Sequence[str]) -> list[str]:
        """Coordinates of linear position ``lo`` in an index space of ``sizes``."""
        b, out, rest = self.b, [], lo
        for n in reversed(sizes[1:]):
            out.append(b.op(f"urem i64 {rest}, {n}"))
            rest = b.op(f"udiv i64 {rest}, {n}")
        return ([rest] + out[::-1]) if sizes else []

    def _advance(self, digits: Sequence[str], sizes: Sequence[str]) -> list[str]:
        b, out, carry = self.b, [], "1"
        for d, n in zip(reversed(digits), reversed(sizes)):
            up = b.op(f"add i64 {d}, {carry}")
            wrap = b.op(f"icmp eq i64 {up}, {n}")
            out.append(b.op(f"select i1 {wrap}, i64 0, i64 {up}"))
            carry = b.op(f"zext i1 {wrap} to i64")
        return out[::-1]

    def odometer(self, lo: str, hi: str, sizes: Sequence[str], carried: Sequence[tuple[str, str]],
                 body: Callable[[list[str], list[str]], list[str]]) -> list[str]:
        """Runs ``body(coordinates, carried)`` for the linear positions ``lo <= u < hi``; returns the carried values."""
        b = self.b
        # a range may be empty because an axis is, and then there is nothing to divide by
        work, end = b.name("work"), b.name("none")
        b.do(f"br i1 {b.op(f'icmp slt i64 {lo}, {hi}')}, label {work}, label {end}")
        before = b.current
        b.start(work)
        start = self.digits(lo, sizes)
        n = len(start)

        def step(_: str, values: list[str]) -> list[str]:
            new = body(values[:n], values[n:])
            return self._advance(values[:n], sizes) + new

        out = b.loop(lo, hi, [("i64", d) for d in start] + list(carried), step)[n:]
        after = b.current
        b.do(f"br label {end}")
        b.start(end)
        return [b.op(f"phi {t} [ {s}, %{before} ], [ {v}, %{after} ]") for (t, s), v in zip(carried, out)]

    def range(self, index: str, length: str, limit: str) -> tuple[str, str]:
        """First and last + 1 position of block ``index``."""
        b = self.b
        first = b.op(f"mul nsw i64 {index}, {length}")
        return first, b.intrinsic("smin", "i64", b.op(f"add nsw i64 {first}, {length}"), limit)

    def inner_sizes(self) -> list[str]:
        """The index space of steps: the inner axes but the last, and the blocks of that."""
        return [self.sizes[x] for x in self.inner_axes[:-1]] + [self.extra["blocks"]]

    def n_steps(self) -> str:
        """How many steps one reduction has."""
        sizes = self.inner_sizes()
        n = sizes[0]
        for x in sizes[1:]:
            n = self.b.op(f"mul i64 {n}, {x}")
        return n

    # -- flavours

    def _map(self, lo: str, hi: str) -> None:
        axis = self.vector_axis

        def unit(digits: list[str], _: list[str]) -> list[str]:
            f = self.enter(self.root, dict(zip(self.outer_axes, digits[:-1])))
            j0, j1 = self.range(digits[-1], self.extra["block"], self.sizes[axis])
            self._vector_pass(f, axis, j0, j1, self.a.stores, [])
            return []

        self.odometer(lo, hi, [self.sizes[x] for x in self.outer_axes[:-1]] + [self.extra["blocks"]], [], unit)

    def _tiles(self, lo: str, hi: str) -> None:
        axis, other, b = self.vector_axis, tiled_axis(self.k), self.b
        rest = [x for x in self.outer_axes if x not in (axis, other)]
        turned = [k for k in range(self.n_in) if self.patterns[k][axis] == "s" and self.patterns[k][other] == "1"]
        patterns, strides = self.patterns, self.strides
        buffers = {k: b.alloca(f"[{TILE * TILE} x {memory_type(self._access(k).dtype)}]") for k in turned}

        def unit(digits: list[str], _: list[str]) -> list[str]:
            f = self.enter(self.root, dict(zip(rest, digits)))
            i0, i1 = self.range(digits[-2], str(TILE), self.sizes[other])
            j0, j1 = self.range(digits[-1], self.extra["block"], self.sizes[axis])
            corner = self.enter(f, {other: i0, axis: j0})
            back = b.op(f"sub i64 {b.op(f'mul i64 {i0}, {-TILE}')}, {j0}")
            for k, buffer in buffers.items():
                t = memory_type(self._access(k).dtype)
                pack(b, t, TILE, corner.bases[k], strides[k][axis], buffer, b.op(f"sub i64 {i1}, {i0}"), b.op(f"sub i64 {j1}, {j0}"))
                f.bases[k] = b.op(f"getelementptr {t}, ptr {buffer}, i64 {back}")
            # the rows read the packed tiles
            self.patterns = [("0" * other + "s" + "0" * (axis - other - 1) + "1") if k in buffers else p
                             for k, p in enumerate(patterns)]
            self.strides = [[str(TILE)] * self.n_axes if k in buffers else row for k, row in enumerate(strides)]

            def row(i: str, _: list[str]) -> list[str]:
                self._vector_pass(self.enter(f, {other: i}), axis, j0, j1, self.a.stores, [])
                return []

            b.loop(i0, i1, [], row)
            self.patterns, self.strides = patterns, strides
            return []

        self.odometer(lo, hi, [self.sizes[x] for x in rest] + [self.extra["units"], self.extra["blocks"]], [], unit)

    def _rows(self, lo: str, hi: str) -> None:
        def unit(digits: list[str], _: list[str]) -> list[str]:
            f = self.enter(self.root, dict(zip(self.outer_axes, digits)))
            for s in range(self.a.stages):
                for e, v in zip(self.reduces(s), self.stage_pass(f, s, "0", self.n_steps())):
                    f.values[e] = convert(self.b, v, total_dtype(e), e.dtype)
            self.outer_stores(f)
            return []

        self.odometer(lo, hi, [self.sizes[x] for x in self.outer_axes], [], unit)

    def stage_pass(self, f: Frame, s: int, lo: str, hi: str) -> list[str]:
        """Pass ``s`` over the inner steps ``lo <= step < hi``: totals of its reductions; stores what is ready."""
        b, axis, reduces, stores = self.b, self.inner_axes[-1], self.reduces(s), self.stores(s)
        self.stage = s
        if not reduces and not stores:
            return []
        self.hoist(f, [e.args[0] for e in reduces] + [x.value for x in stores], frozenset(self.inner_axes))

        def step(digits: list[str], totals: list[str]) -> list[str]:
            inner = self.enter(f, dict(zip(self.inner_axes[:-1], digits)))
            j0, j1 = self.range(digits[-1], self.extra["block"], self.sizes[axis])
            accs = self._vector_pass(inner, axis, j0, j1, stores, reduces)
            return [combine(b, e.attr, total_dtype(e), t, convert(b, v, acc_dtype(e), total_dtype(e)))
                    for e, t, v in zip(reduces, totals, accs)]

        start = [(register_type(total_dtype(e)), identity(e.attr, total_dtype(e))) for e in reduces]
        return self.odometer(lo, hi, self.inner_sizes(), start, step)

    def cell(self, base: str, row: str, width: int | str, column: int | str) -> str:
        """Address of an 8-byte slot of a table with ``width`` columns."""
        b = self.b
        at = b.op(f"add i64 {b.op(f'mul i64 {row}, {width}')}, {column}")
        return b.op(f"getelementptr i64, ptr {base}, i64 {at}")

    # -- loops

    def _vector_pass(self, f: Frame, axis: int, j0: str, j1: str, stores: Sequence[Store],
                     reduces: Sequence[Expr]) -> list[str]:
        """The innermost loop, over ``axis``; returns the accumulators of ``reduces``."""
        b = self.b
        roots = [e.args[0] for e in reduces] + [s.value for s in stores]
        self.hoist(f, roots, frozenset((axis,)))

        def body(j: str, accs: list[str]) -> list[str]:
            inner = self.enter(f, {axis: j})
            out = [combine(b, e.attr, acc_dtype(e), acc, self.value(inner, e.args[0]), "reassoc ") for e, acc in zip(reduces, accs)]
            self.write_all(inner, stores)
            return out

        return self.vector_loop(j0, j1, [(register_type(acc_dtype(e)), identity(e.attr, acc_dtype(e))) for e in reduces], roots, body)

    def vector_loop(self, j0: str, j1: str, carried: Sequence[tuple[str, str]], roots: Sequence[Expr],
                    body: Callable[[str, list[str]], list[str]]) -> list[str]:
        """A loop to vectorise: whole vectors first, which needs no scalar tail, then a masked loop for what is left."""
        b = self.b
        widest = max((4 if e.dtype in HALVES else e.dtype.itemsize for e in inside(roots)), default=4)
        whole = b.op(f"and i64 {b.op(f'sub nsw i64 {j1}, {j0}')}, {-(256 // widest)}")
        middle = b.op(f"add nsw i64 {j0}, {whole}")
        accs = b.loop(j0, middle, carried, body, [PROGRESS])
        return b.loop(middle, j1, [(t, a) for (t, _), a in zip(carried, accs)], body, [PROGRESS, MASKED, SINGLE])

    def write_all(self, f: Frame, stores: Sequence[Store]) -> None:
        """Stores of this pass at one position; all values are computed before the first is written."""
        values = [self.value(f, s.value) for s in stores]
        for e, (stage, home) in self.kept.items():
            if stage == self.stage:
                self.write(f, home, self.value(f, e), e.dtype)
        for s, v in zip(stores, values):
            self.write(f, next(i for i, x in enumerate(self.a.stores) if x is s), v, s.value.dtype)

    def outer_stores(self, f: Frame) -> None:
        self.write_all(f, [s for s in self.a.stores if not s.full])

    def write(self, f: Frame, number: int, v: str, src: dtype) -> None:
        """Stores ``v`` of dtype ``src`` at this position of output ``number``."""
        b, dt = self.b, self.a.stores[number].access.dtype
        if dt in HALVES:
            if src.category != 2:
                v = convert(b, v, src, float32)
            v = narrow(b, v, float64 if src is float64 else float32, dt)
        else:
            v = convert(b, v, src, dt)
            if dt is bool_:
                v = b.op(f"zext i1 {v} to i8")
        b.do(f"store {memory_type(dt)} {v}, ptr {f.bases[self.n_in + number]}, align {dt.itemsize}{GROUP}")

    # -- frames and values

    def enter(self, parent: Frame, coords: dict[int, str]) -> Frame:
        """A frame at further coordinates: operand addresses move on by coordinate times stride."""
        b, f = self.b, parent.child()
        for x, c in coords.items():
            f.coords[x] = b.op(f"add nsw i64 {f.coords[x]}, {c}") if x in f.coords else c
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

    def hoist(self, f: Frame, roots: Iterable[Expr], moving: frozenset[int]) -> None:
        """Computes now what does not change along the axes ``moving``."""
        need = set()
        stack = list(roots)
        while stack:
            e = stack.pop()
            if e not in need and e not in f.values:
                need.add(e)
                stack.extend(() if e.op == "reduce" else e.args)
        for e in walk(roots):
            if e in need and e not in f.values and not self.a.varies[e] & moving and e.op != "const":
                self.value(f, e)

    def value(self, f: Frame, root: Expr) -> str:
        """The register that holds ``root`` at this position; writes the code if there is none yet."""
        if root.op == "const":
            return literal(root.attr, root.dtype)
        stack = [root]
        while stack:
            e = stack[-1]
            if e in f.values or e.op == "const":
                stack.pop()
                continue
            ready = e.op == "reduce" or self._waiting(e) or (f.lane and e in self.arrays)
            todo = [] if ready else [a for a in e.args if a not in f.values and a.op != "const"]
            if todo:
                stack.extend(reversed(todo))
                continue
            f.values[e] = self._emit(f, e)
            stack.pop()
        return f.values[root]

    def _waiting(self, e: Expr) -> bool:
        """Whether an earlier pass left ``e`` in an output."""
        return e in self.kept and self.kept[e][0] < self.stage

    def _emit(self, f: Frame, e: Expr) -> str:
        b = self.b
        if f.lane and e in self.arrays:
            return self.get(self.arrays[e], f.lane, e.dtype)
        if self._waiting(e):
            return b.op(f"load {memory_type(e.dtype)}, ptr {f.bases[self.n_in + self.kept[e][1]]}, align {e.dtype.itemsize}{GROUP}")
        if e.op == "load":
            v = b.op(f"load {memory_type(e.dtype)}, ptr {f.bases[e.attr]}, align {e.dtype.itemsize}{GROUP}")
            if e.dtype in HALVES:
                return widen(b, v, e.dtype)
            return b.op(f"icmp ne i8 {v}, 0") if e.dtype is bool_ else v
        if e.op == "scalar":
            return self.scalars[e.attr]
        if e.op == "count":
            n = "1"
            for x in self.inner_axes:
                n = b.op(f"mul i64 {n}, {self.sizes[x]}")
            return n
        if e.op == "iota":
            return self._position(f) if e.attr == "position" else f.bases[self.n_in + len(self.k.stores) + e.attr]
        args = [literal(a.attr, a.dtype) if a.op == "const" else f.values[a] for a in e.args]
        if e.op == "cast":
            return convert(b, args[0], e.args[0].dtype, e.dtype)
        if e.op == "where" and self.extrema:
            # LLVM turns max(acc, where(m, x, -inf)) into where(m, max(acc, x), acc), which it then does not know as a maximum to vectorise
            args[1:] = [self.b.hidden(register_type(a.dtype), v) if a.op == "const" and a.dtype.category == 2 and math.isinf(a.attr) else v
                        for a, v in zip(e.args[1:], args[1:])]
        v = self._primitive(e, args)
        return round_half(b, v, float32, e.dtype) if e.dtype in HALVES and e.op not in ("where", "neg", "abs") else v

    def _position(self, f: Frame) -> str:
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

    # -- arrays over lanes

    def get(self, array: str, lane: str, dt: dtype) -> str:
        """Element ``lane`` of a lane array of ``dt``."""
        b, t = self.b, "i8" if dt is bool_ else register_type(dt)
        v = b.op(f"load {t}, ptr {b.op(f'getelementptr {t}, ptr {array}, i64 {lane}')}{GROUP}")
        return b.op(f"icmp ne i8 {v}, 0") if dt is bool_ else v

    def put(self, array: str, lane: str, dt: dtype, v: str) -> None:
        """Sets element ``lane`` of a lane array of ``dt``."""
        b, t = self.b, "i8" if dt is bool_ else register_type(dt)
        if dt is bool_:
            v = b.op(f"zext i1 {v} to i8")
        b.do(f"store {t} {v}, ptr {b.op(f'getelementptr {t}, ptr {array}, i64 {lane}')}{GROUP}")


def emit(kernel: LoopKernel, name: str, flavour: str, width: int, halves: bool = True) -> tuple[str, list[str]]:
    """Text of a module with the functions of ``kernel`` in one flavour, and their names in the order they run.

    ``width`` is the preferred vector width of the machine in bits; ``halves`` tells whether it converts float16 itself.
    """
    from .llvm_columns import ColumnEmitter
    from .llvm_split import SplitEmitter
    kind = {"split": SplitEmitter, "columns": ColumnEmitter, "column_split": ColumnEmitter}.get(flavour, Emitter)
    e = kind(kernel, name, flavour, Builder(width, halves))
    text, names = e.module()
    return "\n".join([*e.b.declared, *e.b.helpers, text, ATTRIBUTES.format(width=width), *e.b.loops, ""]), names
