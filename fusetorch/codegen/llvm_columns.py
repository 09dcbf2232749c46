"""Loops whose vectors run over columns: reductions over axes that are not contiguous, beside an outer axis that is.

A unit is a block of up to :data:`LANES` neighbouring columns. Each reduction has an array of one accumulator a column; the inner
axes are walked row by row, every row adding its block to the accumulators. In the ``column_split`` flavour a unit covers one part
of the rows, and a second function combines the parts in order.
"""
from __future__ import annotations

from collections.abc import Callable

from ..dtypes import dtype
from ..ops.expr import Expr
from .llvm import Emitter, Frame
from .llvm_analysis import inside
from .llvm_builder import acc_dtype, combine, convert, identity, total_dtype

#: Most columns a unit may have.
LANES = 512

#: Rows taken together where one is little work.
ROWS = 4

#: Rows a float column adds up before its sum goes into the double-precision total.
ROW_BLOCK = 256


class ColumnEmitter(Emitter):
    """The ``columns`` and ``column_split`` flavours."""

    def parts(self) -> list[tuple[str, Callable[[str, str], None]]]:
        if self.flavour == "columns":
            return [("u", self._columns)]
        parts: list[tuple[str, Callable[[str, str], None]]] = []
        for s in range(self.a.stages):
            parts.append((f"{s}u", lambda lo, hi, s=s: self._part_of_stage(s, lo, hi)))
            if self.reduces(s):
                parts.append((f"{s}c", lambda lo, hi, s=s: self._combine_columns(s, lo, hi)))
        if not all(s.full for s in self.k.stores):
            parts.append(("c", self._outer_columns))
        return parts

    def inner_sizes(self) -> list[str]:
        return [self.sizes[x] for x in self.inner_axes]

    def _blocks(self, lo: str, hi: str, body: Callable[[Frame, str, str], None], parts: str = "") -> None:
        """Runs ``body(frame at the first column, number of columns, part of the rows)`` for each unit."""
        axis = self.vector_axis
        sizes = [self.sizes[x] for x in self.outer_axes[:-1]] + [self.extra["blocks"]] + ([parts] if parts else [])

        def unit(digits: list[str], _: list[str]) -> list[str]:
            part = digits.pop() if parts else ""
            c0, c1 = self.range(digits[-1], self.extra["block"], self.sizes[axis])
            f = self.enter(self.root, dict(zip(self.outer_axes, [*digits[:-1], c0])))
            self.arrays = {}
            body(f, self.b.op(f"sub nsw i64 {c1}, {c0}"), part)
            return []

        self.odometer(lo, hi, sizes, [], unit)

    def _columns(self, lo: str, hi: str) -> None:
        def unit(f: Frame, width: str, _: str) -> None:
            for s in range(self.a.stages):
                for e, total in zip(self.reduces(s), self._pass(f, s, width, "0", self.n_steps())):
                    self.arrays[e] = self._converted(width, total, total_dtype(e), e.dtype)
            self._write_outer(f, width)

        self._blocks(lo, hi, unit)

    def _each(self, width: str, roots: list[Expr], body: Callable[[str], None]) -> None:
        """A vector loop over the lanes."""
        self.vector_loop("0", width, [], roots, lambda lane, _: body(lane) or [])

    def _at_lane(self, f: Frame, lane: str) -> Frame:
        inner = self.enter(f, {self.vector_axis: lane})
        inner.lane = lane
        return inner

    def _array(self, dt: dtype) -> str:
        return self.b.alloca(f"[{LANES} x i64]" if dt.itemsize == 8 else f"[{LANES} x i32]")

    def _converted(self, width: str, array: str, src: dtype, dst: dtype) -> str:
        if src is dst:
            return array
        out = self._array(dst)
        self._each(width, [], lambda lane: self.put(out, lane, dst, convert(self.b, self.get(array, lane, src), src, dst)))
        return out

    def _write_outer(self, f: Frame, width: str) -> None:
        stores = [s for s in self.a.stores if not s.full]
        if stores:
            self._each(width, [s.value for s in stores], lambda lane: self.write_all(self._at_lane(f, lane), stores))

    def _precompute(self, f: Frame, roots: list[Expr], width: str) -> None:
        """What depends on the column alone becomes a lane array, once for all rows."""
        nodes, inner, axis = inside(roots), frozenset(self.inner_axes), self.vector_axis

        def of_column(e: Expr) -> bool:
            return axis in self.a.varies[e] and not self.a.varies[e] & inner

        todo = [a for e in nodes if not of_column(e) for a in e.args if of_column(a)]
        todo = [e for e in dict.fromkeys(todo) if e not in self.arrays and e.op not in ("load", "iota", "reduce")]
        arrays = {e: self._array(e.dtype) for e in todo}

        def compute(lane: str) -> None:
            at = self._at_lane(f, lane)
            for e, array in arrays.items():
                self.put(array, lane, e.dtype, self.value(at, e))

        if todo:
            self._each(width, todo, compute)
            self.arrays |= arrays

    def _pass(self, f: Frame, s: int, width: str, lo: str, hi: str) -> list[str]:
        """Pass ``s`` over the rows ``lo <= row < hi``: lane arrays of the totals of its reductions; stores what is ready."""
        b, reduces, stores = self.b, self.reduces(s), self.stores(s)
        self.stage = s
        if not reduces and not stores:
            return []
        roots = [e.args[0] for e in reduces] + [x.value for x in stores]
        axis = self.vector_axis
        self.hoist(f, roots, frozenset([*self.inner_axes, axis]))
        self._precompute(f, roots, width)
        totals = [self._array(total_dtype(e)) for e in reduces]
        # integers, maxima and minima need no second accumulator
        accs = [t if acc_dtype(e) is total_dtype(e) else self._array(acc_dtype(e)) for e, t in zip(reduces, totals)]

        def clear(arrays: list[tuple[Expr, str, dtype]]) -> None:
            if arrays:
                self._each(width, [], lambda lane: [self.put(a, lane, dt, identity(e.attr, dt)) for e, a, dt in arrays] and None)

        clear([(e, t, total_dtype(e)) for e, t in zip(reduces, totals)])
        twofold = [(e, t, a) for e, t, a in zip(reduces, totals, accs) if t != a]

        def together(rows: list[Frame]) -> None:
            for row in rows:
                self.hoist(row, roots, frozenset((axis,)))

            def lane_body(lane: str) -> None:
                held = [self.get(acc, lane, acc_dtype(e)) for e, acc in zip(reduces, accs)]
                for row in rows:
                    at = self._at_lane(row, lane)
                    held = [combine(b, e.attr, acc_dtype(e), v, self.value(at, e.args[0])) for e, v in zip(reduces, held)]
                    self.write_all(at, stores)
                for e, acc, v in zip(reduces, accs, held):
                    self.put(acc, lane, acc_dtype(e), v)

            self._each(width, roots, lane_body)

        def one(digits: list[str], _: list[str]) -> list[str]:
            together([self.enter(f, dict(zip(self.inner_axes, digits)))])
            return []

        def several(i: str, first: str) -> list[str]:
            at = b.op(f"add i64 {first}, {b.op(f'mul i64 {i}, {ROWS}')}")
            together([self.enter(f, {self.inner_axes[0]: b.op(f"add i64 {at}, {k}")}) for k in range(ROWS)])
            return []

        def run(r0: str, r1: str) -> None:
            # several rows at once where a row is little work, so that accumulators are loaded and stored less often
            if len(self.inner_axes) == 1 and not stores and len(inside(roots)) < 16:
                n = b.op(f"udiv i64 {b.op(f'sub i64 {r1}, {r0}')}, {ROWS}")
                b.loop("0", n, [], lambda i, _: several(i, r0))
                r0 = b.op(f"add i64 {r0}, {b.op(f'mul i64 {n}, {ROWS}')}")
            self.odometer(r0, r1, self.inner_sizes(), [], one)

        def add(lane: str) -> None:
            for e, t, a in twofold:
                dt = total_dtype(e)
                v = convert(b, self.get(a, lane, acc_dtype(e)), acc_dtype(e), dt)
                self.put(t, lane, dt, combine(b, e.attr, dt, self.get(t, lane, dt), v))

        def block(i: str, _: list[str]) -> list[str]:
            clear([(e, a, acc_dtype(e)) for e, _, a in twofold])
            r0 = b.op(f"add i64 {lo}, {b.op(f'mul i64 {i}, {ROW_BLOCK}')}")
            r1 = b.intrinsic("smin", "i64", b.op(f"add i64 {r0}, {ROW_BLOCK}"), hi)
            run(r0, r1)
            self._each(width, [], add)
            return []

        if twofold:
            n = b.op(f"sub i64 {hi}, {lo}")
            b.loop("0", b.op(f"udiv i64 {b.op(f'add i64 {n}, {ROW_BLOCK - 1}')}, {ROW_BLOCK}"), [], block)
        else:
            run(lo, hi)
        return totals

    # -- two phases

    def _copy(self, width: str, src: str, dst: str, dt: dtype) -> None:
        self._each(width, [], lambda lane: self.put(dst, lane, dt, self.get(src, lane, dt)))

    def _part_of_stage(self, s: int, lo: str, hi: str) -> None:
        n_rows = self.n_steps()

        def unit(f: Frame, width: str, part: str) -> None:
            self._use_results(f, s)
            totals = self._pass(f, s, width, *self.range(part, self.extra["per_unit"], n_rows))
            for r, (e, t) in enumerate(zip(self.reduces(s), totals)):
                self._copy(width, t, self._partials(f, part, r, len(totals)), total_dtype(e))

        self._blocks(lo, hi, unit, self.extra["units"])

    def _combine_columns(self, s: int, lo: str, hi: str) -> None:
        b, reduces = self.b, self.reduces(s)

        def one(f: Frame, width: str, r: int, e: Expr) -> None:
            dt, total = total_dtype(e), self._array(total_dtype(e))
            self._each(width, [], lambda lane: self.put(total, lane, dt, identity(e.attr, dt)))

            def add(part: str, _: list[str]) -> list[str]:
                source = self._partials(f, part, r, len(reduces))
                self._each(width, [], lambda lane: self.put(
                    total, lane, dt, combine(b, e.attr, dt, self.get(total, lane, dt), self.get(source, lane, dt))))
                return []

            b.loop("0", self.extra["units"], [], add)
            self._copy(width, self._converted(width, total, dt, e.dtype), self._result(f, e), e.dtype)

        def unit(f: Frame, width: str, _: str) -> None:
            for r, e in enumerate(reduces):
                one(f, width, r, e)

        self._blocks(lo, hi, unit)

    def _outer_columns(self, lo: str, hi: str) -> None:
        def unit(f: Frame, width: str, _: str) -> None:
            self._use_results(f, len(self.a.reduces))
            self._write_outer(f, width)

        self._blocks(lo, hi, unit)

    def _use_results(self, f: Frame, s: int) -> None:
        for level in self.a.reduces[:s]:
            for e in level:
                self.arrays[e] = self._result(f, e)

    def _outer_position(self, f: Frame) -> str:
        """Linear position of the block's first column among the outer positions."""
        b, v = self.b, f.coords[self.outer_axes[0]]
        for x in self.outer_axes[1:]:
            v = b.op(f"add i64 {b.op(f'mul i64 {v}, {self.sizes[x]}')}, {f.coords[x]}")
        return v

    def _n_outer(self) -> str:
        n = "1"
        for x in self.outer_axes:
            n = self.b.op(f"mul i64 {n}, {self.sizes[x]}")
        return n

    def _result(self, f: Frame, e: Expr) -> str:
        return self.cell(self.extra["results"], str(self.results.index(e)), self._n_outer(), self._outer_position(f))

    def _partials(self, f: Frame, part: str, r: int, n: int) -> str:
        row = self.b.op(f"add i64 {self.b.op(f'mul i64 {part}, {n}')}, {r}")
        return self.cell(self.extra["partials"], row, self._n_outer(), self._outer_position(f))
