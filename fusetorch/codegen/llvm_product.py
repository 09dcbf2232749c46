"""LLVM IR of matrix products: a tile of the result in registers, the right operand packed in panels.

A function is ``void f(ptr block, i64 lo, i64 hi)`` over independent units, as :mod:`fusetorch.runtime.cpu_pool` runs them; all functions
of a product share one ``block`` of 8-byte ``FIELDS``. Offsets and strides count elements.

* ``pack``: the right operand as panels of V vectors of columns, a step of the sum after another, zeros where there is no column. A unit is
  a panel's block of ``pack_k`` steps.
* ``tiles``: R rows by V vectors of the result. Each step of the sum multiplies R numbers of the left operand with V vectors of a panel. A
  unit is a panel and a group of tiles; the last tile overlaps its neighbour rather than being smaller. A panel that one unit alone
  reads is packed there (``own``). A left operand whose rows are adjacent (``down``) may be packed in ``strips``, a vector of rows wide:
  then a unit is a group of tiles with all panels. What a unit packs for itself lies on its thread's stack, where it stays in the cache.
* ``add_parts``: the sum of partial results, where a long sum was cut in parts.
"""
from __future__ import annotations

from functools import partial
from typing import NamedTuple

from .llvm_vectors import VectorWriter

FIELDS = ("a", "b", "out", "bias", "packed", "sums", "m", "n", "k", "a_row", "a_k", "a_n", "b_k", "b_n", "packed_n", "panels",
          "pack_k", "pack_blocks", "tiles", "groups", "per_group", "batches", "parts", "per_part", "size", "block", "strip", "scratch")


class Variant(NamedTuple):
    """What a function is compiled for."""

    kind: str
    double: bool
    r: int = 1             # rows of a tile
    v: int = 1             # vectors of a tile
    across: bool = False   # the columns of the right operand are adjacent, rather than its rows
    down: bool = False     # the rows of the left operand are adjacent, rather than its columns
    strips: bool = False   # the left operand is packed
    own: bool = False      # a unit packs its panel
    masked: bool = False   # the last panel is not whole
    bias: bool = False     # the sums start at a row of numbers


def emit(variant: Variant, name: str, width: int) -> str:
    """The text of a module with one function, for vectors of ``width`` bits."""
    w = _Writer(variant, width)
    getattr(w, variant.kind)()
    return w.module(name)


class _Writer(VectorWriter):
    def __init__(self, variant: Variant, width: int) -> None:
        super().__init__(FIELDS, variant.double, width)
        self.k = variant
        self.wide = variant.v * self.n  # columns of a panel

    # ---- packing

    def pack(self) -> None:
        def unit(u: str) -> None:
            u1, block = self.split(u, self["pack_blocks"])
            batch, panel = self.split(u1, self["panels"])
            first = self.mul(block, self["pack_k"])
            self.pack_panel(batch, panel, first, self.least(self["pack_k"], self.b.op(f"sub i64 {self['k']}, {first}")))
        self.units(unit)

    def panel(self, batch: str, panel: str, first: str) -> str:
        """Where a panel is, from a step of the sum on."""
        if self.k.own:
            return self.scratch
        return self.at(self.pointer("packed"), self.add(self.mul(batch, self["packed_n"]),
                                                        self.mul(self.add(self.mul(panel, self["k"]), first), str(self.wide))))

    def pack_panel(self, batch: str, panel: str, first: str, steps: str) -> None:
        b, column = self.b, self.mul(panel, str(self.wide))
        along, down = (column, self.mul(first, self["b_k"])) if self.k.across else (self.mul(column, self["b_k"]), first)
        x = self.at(self.pointer("b"), self.add(self.mul(batch, self["b_n"]), along, down))
        y = self.panel(batch, panel, first)
        columns = b.op(f"sub i64 {self['n']}, {column}")

        def row(i: str) -> None:
            p, q = self.at(x, self.mul(i, self["b_k"])), self.at(y, self.mul(i, str(self.wide)))
            for v in range(self.k.v):
                here = self.at(p, v * self.n)
                self.store(self.masked_load(here, masks[v]) if masks else self.load(here), self.at(q, v * self.n))

        def square(i: str) -> None:
            start = self.mul(i, str(self.n))
            left = b.op(f"sub i64 {steps}, {start}")
            mask = self.below(left)
            for v in range(self.k.v):
                corner = self.at(x, start)
                lines = [self.masked_load(self.at(corner, self.mul(self["b_k"], str(v * self.n + j))),
                                          b.op(f"and {self.mask} {mask}, {inside[v][j]}") if inside else mask) for j in range(self.n)]
                to = self.at(y, self.add(self.mul(start, str(self.wide)), str(v * self.n)))
                for r, line in enumerate(self.transpose(lines)):
                    self.when(b.op(f"icmp slt i64 {r}, {left}"), partial(self.store, line, self.at(to, r * self.wide)))

        if self.k.across:
            masks = [self.below(self.add(columns, str(-v * self.n))) for v in range(self.k.v)] if self.k.masked else []
            self.each("0", steps, row)
        else:
            inside = [[self.splat(b.op(f"icmp slt i64 {v * self.n + j}, {columns}"), "i1") for j in range(self.n)]
                      for v in range(self.k.v)] if self.k.masked else []
            self.each("0", b.op(f"udiv i64 {self.add(steps, str(self.n - 1))}, {self.n}"), square)

    def pack_strips(self, batch: str, lo: str, hi: str, first: str, steps: str) -> None:
        b, row = self.b, self.mul(lo, str(self.k.r))
        x = self.at(self.pointer("a"), self.add(self.mul(batch, self["a_n"]), self.mul(first, self["a_k"]), row))
        rows = b.op(f"sub i64 {self.least(self['m'], self.mul(hi, str(self.k.r)))}, {row}")
        strips = b.op(f"udiv i64 {self.add(rows, str(self.n - 1))}, {self.n}")

        def step(i: str) -> None:
            p, q = self.at(x, self.mul(i, self["a_k"])), self.at(self.scratch, self.mul(i, str(self.n)))

            def strip(s: str) -> None:
                at = self.mul(s, str(self.n))
                inside = self.below(b.op(f"sub i64 {rows}, {at}"))
                self.store(self.masked_load(self.at(p, at), inside), self.at(q, self.mul(s, self["strip"])))
            self.each("0", strips, strip)
        self.each("0", steps, step)

    # ---- products

    def tiles(self) -> None:
        b, k = self.b, self.k
        if k.own or k.strips:
            self.scratch = b.op(f"alloca {self.t}, i64 {self['scratch']}, align 64")

        def unit(u: str) -> None:
            u1, panel = (u, "") if k.strips else self.split(u, self["panels"])
            u2, group = self.split(u1, self["groups"])
            part, batch = self.split(u2, self["batches"])
            first = self.mul(part, self["per_part"])
            steps = self.least(self["per_part"], b.op(f"sub i64 {self['k']}, {first}"))
            lo = self.mul(group, self["per_group"])
            hi = self.least(self["tiles"], self.add(lo, self["per_group"]))
            if k.own:
                self.pack_panel(batch, panel, first, steps)
            if k.strips:
                self.pack_strips(batch, lo, hi, first, steps)
                self.each("0", self["panels"], lambda p: self.column_of_tiles(part, batch, p, lo, hi, first, steps))
            else:
                self.column_of_tiles(part, batch, panel, lo, hi, first, steps)
        self.units(unit)

    def column_of_tiles(self, part: str, batch: str, panel: str, lo: str, hi: str, first: str, steps: str) -> None:
        b, k = self.b, self.k
        column = self.mul(panel, str(self.wide))
        x0 = self.at(self.pointer("a"), self.add(self.mul(batch, self["a_n"]), self.mul(first, self["a_k"])))
        y0 = self.panel(batch, panel, first)
        o0 = self.at(self.pointer("out"), self.add(self.mul(self.add(self.mul(part, self["batches"]), batch),
                                                            self.mul(self["m"], self["n"])), column))
        left = b.op(f"sub i64 {self['n']}, {column}")
        masks = [self.below(self.add(left, str(-v * self.n))) for v in range(k.v)] if k.masked else []
        start = ["zeroinitializer"] * k.v
        if k.bias:
            at = [self.at(self.pointer("bias"), self.add(column, str(v * self.n))) for v in range(k.v)]
            only = self.splat(b.op(f"icmp eq i64 {part}, 0"), "i1")  # the first part alone
            start = [self.masked_load(p, b.op(f"and {self.mask} {only}, {m}")) for p, m in zip(at, masks or [only] * k.v)]
        last = b.op(f"sub i64 {self['m']}, {k.r}")

        def tile(t: str) -> None:
            row = self.mul(t, str(k.r))
            if k.strips:
                strip, at = self.split(self.mul(b.op(f"sub i64 {t}, {lo}"), str(k.r)), str(self.n))
                x = self.at(self.scratch, self.add(self.mul(strip, self["strip"]), at))
            else:
                row = self.least(row, last)
                x = self.at(x0, row if k.down else self.mul(row, self["a_row"]))
            lines = [self.at(x, r if k.down else self.mul(self["a_row"], str(r))) for r in range(k.r)]

            def step(i: str, sums: list[str]) -> list[str]:
                y = self.at(y0, self.mul(i, str(self.wide)))
                vectors = [self.load(self.at(y, v * self.n)) for v in range(k.v)]
                offset = self.mul(i, str(self.n)) if k.strips else self.mul(i, self["a_k"]) if k.down else i
                new = []
                for r in range(k.r):
                    # loads stay in this order: moved to the front they would need more registers than there are
                    b.do('call void asm sideeffect "", "~{memory}"()')
                    s = self.splat(self.number(self.at(lines[r], offset)))
                    new += [self.fma(s, vectors[v], sums[r * k.v + v]) for v in range(k.v)]
                return new
            sums = b.loop("0", steps, [(self.vector, s) for s in start * k.r], step)
            to = self.at(o0, self.mul(row, self["n"]))

            def store(r: int) -> None:
                line = self.at(to, self.mul(self["n"], str(r)))
                for v in range(k.v):
                    p = self.at(line, v * self.n)
                    if masks:
                        self.masked_store(sums[r * k.v + v], p, masks[v])
                    else:
                        self.store(sums[r * k.v + v], p)
            for r in range(k.r):
                if k.strips and r:
                    self.when(b.op(f"icmp slt i64 {self.add(row, str(r))}, {self['m']}"), partial(store, r))
                else:
                    store(r)
        self.each(lo, hi, tile)

    def add_parts(self) -> None:
        """``sums[i]`` = the sum over parts of ``out[part][i]``, a unit being ``block`` numbers."""
        b = self.b
        src, dst = self.pointer("out"), self.pointer("sums")

        def unit(u: str) -> None:
            first = self.mul(u, self["block"])
            stop = self.least(self["size"], self.add(first, self["block"]))
            vectors = b.op(f"udiv i64 {self.add(b.op(f'sub i64 {stop}, {first}'), str(self.n - 1))}, {self.n}")

            def vector(i: str) -> None:
                at = self.add(first, self.mul(i, str(self.n)))
                mask = self.below(b.op(f"sub i64 {stop}, {at}"))
                p = self.at(src, at)
                (total,) = b.loop("1", self["parts"], [(self.vector, self.masked_load(p, mask))], lambda j, s: [b.op(
                    f"fadd {self.vector} {s[0]}, {self.masked_load(self.at(p, self.mul(j, self['size'])), mask)}")])
                self.masked_store(total, self.at(dst, at), mask)
            self.each("0", vectors, vector)
        self.units(unit)
