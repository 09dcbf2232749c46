"""LLVM IR of attention on the CPU: explicit vectors, scores that never leave the cache.

A unit is a range of heads, one after another in scratch memory of its own. Keys and values of a head are packed once: transposed in tiles
of V vectors of keys, or as rows of whole vectors. Then blocks of query rows pass by: scores against all keys that the block may see,
softmax in place, products with the values. Nothing above the diagonal of a causal mask is computed, but for the rest of a vector. The
backward computes the scores again from the saved logarithms of the sums (Dao, "FlashAttention-2", 2023).

All products are one micro-kernel: R rows by V vectors in registers, ``c = (c +) sum over k of a[r * ar + k * ak] * b[k * bk + lane]``.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from ..dtypes import float32, float64
from . import llvm_math
from .llvm_builder import ATTRIBUTES, GROUP, MASKED, PROGRESS, SINGLE, combine, identity, literal
from .llvm_vectors import VectorWriter

FIELDS = ("q", "k", "v", "grad", "mask", "out", "lse", "dq", "dk", "dv", "table", "scratch", "scratch_size", "parts", "splits", "units",
          "group", "rows", "keys", "width", "v_width", "padded", "v_padded", "p_row", "q_row", "k_row", "v_row", "grad_row", "mask_row",
          "causal", "scale", "block", "at_kt", "at_k", "at_vt", "at_v", "at_p", "at_ds", "at_q", "at_grad", "at_dq", "at_dk", "at_dv",
          "at_sums")


class Variant(NamedTuple):
    """What a function is compiled for."""

    kind: str       # forward | backward
    double: bool
    masked: bool    # a mask is added to the scores
    registers: int  # for a tile


def tile_size(vectors: int, registers: int) -> int:
    """Rows of a tile that is so many vectors wide."""
    return min(8, (registers - vectors) // vectors)


def tile_vectors(registers: int) -> int:
    """Vectors of the widest tile."""
    return 4 if registers > 16 else 2


def emit(variant: Variant, name: str, width: int) -> str:
    """The text of a module with one function, for vectors of ``width`` bits."""
    registers = variant.registers
    w = _Writer(variant, width)
    getattr(w, variant.kind)()
    main, b = w.b.end(), w.b
    most = tile_size(1, registers)
    names, tiles = [], []
    for v in range(1, w.v + 1):
        for r in range(1, most + 1):
            names.append(f"ptr @tile_{v}_{r}" if r <= tile_size(v, registers) else "ptr null")
            if r <= tile_size(v, registers):
                tiles.append(w.tile(r, v))
    sizes = ", ".join(f"i64 {tile_size(v, registers)}" for v in range(1, w.v + 1))
    return "\n".join([*b.declared, *tiles, f"@tiles = internal constant [{len(names)} x ptr] [{', '.join(names)}]",
                      f"@sizes = internal constant [{w.v} x i64] [{sizes}]",
                      f"define void @{name}(ptr %block, i64 %lo, i64 %hi) #0 {{", main, "}", ATTRIBUTES.format(width=width), *b.loops, ""])


class _Writer(VectorWriter):
    def __init__(self, variant: Variant, width: int) -> None:
        super().__init__(FIELDS, variant.double, width)
        self.kind, self.masked = variant.kind, variant.masked
        self.v, self.most = tile_vectors(variant.registers), tile_size(1, variant.registers)
        self.dt = float64 if variant.double else float32
        scale = self.b.op(f"bitcast i64 {self['scale']} to double")
        self.scale = scale if variant.double else self.b.op(f"fptrunc double {scale} to float")
        self.causal = self.b.op(f"icmp ne i64 {self['causal']}, 0")

    # ---- small things

    def sub(self, x: str, y: str) -> str:
        return self.b.op(f"sub i64 {x}, {y}")

    def up(self, x: str, y: str) -> str:
        """x / y rounded up."""
        return self.b.op(f"sdiv i64 {self.sub(self.add(x, y), '1')}, {y}")

    def most_of(self, x: str, y: str) -> str:
        return self.b.intrinsic("smax", "i64", x, y)

    def choose(self, c: str, x: str, y: str, t: str = "i64") -> str:
        return self.b.op(f"select i1 {c}, {t} {x}, {t} {y}")

    def f(self, op: str, x: str, y: str) -> str:
        return self.b.op(f"{op} {self.t} {x}, {y}")

    def get(self, p: str, j: str) -> str:
        return self.b.op(f"load {self.t}, ptr {self.at(p, j)}, align {self.size}{GROUP}")

    def put(self, x: str, p: str, j: str) -> None:
        self.b.do(f"store {self.t} {x}, ptr {self.at(p, j)}, align {self.size}{GROUP}")

    def math(self, name: str, x: str) -> str:
        return llvm_math.call(self.b, name, self.dt, [x])

    def const(self, x: float) -> str:
        return literal(x, self.dt)

    def lanes(self, lo: str, hi: str, start: list[str], body: Callable[[str, list[str]], list[str]]) -> list[str]:
        """A loop to be vectorised over numbers: whole vectors, then a masked rest."""
        whole = self.b.op(f"and i64 {self.sub(hi, lo)}, {-4 * self.n}")
        middle = self.add(lo, whole)
        carried = self.b.loop(lo, middle, [(self.t, s) for s in start], body, [PROGRESS])
        return self.b.loop(middle, hi, [(self.t, s) for s in carried], body, [PROGRESS, MASKED, SINGLE])

    def zeros(self, p: str, lo: str, hi: str) -> None:
        def body(j: str, _: list[str]) -> list[str]:
            self.put(self.const(0.0), p, j)
            return []
        self.b.loop(lo, hi, [], body, [PROGRESS, MASKED, SINGLE])

    # ---- the micro-kernel

    def tile(self, r: int, v: int) -> str:
        b = self.b
        b.begin()
        rows = [self.at("%a", self.mul("%ar", str(i))) for i in range(r)]
        to = [[self.at(p, j * self.n) for j in range(v)] for p in (self.at("%c", self.mul("%cr", str(i))) for i in range(r))]
        b.do("br i1 %more, label %old, label %new")
        b.start("%old")
        old = [self.load(p) for row in to for p in row]
        b.do("br label %new")
        b.start("%new")
        first = [b.op(f"phi {self.vector} [ zeroinitializer, %entry ], [ {x}, %old ]") for x in old]

        def step(k: str, sums: list[str]) -> list[str]:
            line = self.at("%b", self.mul(k, "%bk"))
            x = [self.load(self.at(line, j * self.n)) for j in range(v)]
            off, out = self.mul(k, "%ak"), []
            for i in range(r):
                a = self.splat(self.number(self.at(rows[i], off)))
                out += [self.fma(a, x[j], sums[i * v + j]) for j in range(v)]
            return out

        sums = b.loop("0", "%k", [(self.vector, x) for x in first], step)
        for p, x in zip((p for row in to for p in row), sums):
            b.do(f"store {self.vector} {x}, ptr {p}, align {self.size}")
        arguments = "ptr noalias %a, i64 %ar, i64 %ak, ptr noalias %b, i64 %bk, ptr noalias %c, i64 %cr, i64 %k, i1 %more"
        return f"define internal void @tile_{v}_{r}({arguments}) #0 {{\n{b.end()}\n}}"

    def run_tile(self, v: str, r: str, a: str, ar: str, ak: str, line: str, bk: str, c: str, cr: str, k: str, more: str) -> None:
        b = self.b
        at = self.add(self.mul(self.sub(v, "1"), str(self.most)), self.sub(r, "1"))
        f = b.op(f"load ptr, ptr {b.op(f'getelementptr ptr, ptr @tiles, i64 {at}')}")
        b.do(f"call void {f}(ptr {a}, i64 {ar}, i64 {ak}, ptr {line}, i64 {bk}, ptr {c}, i64 {cr}, i64 {k}, i1 {more})")

    def product(self, a: str, ar: str, ak: str, matrix: str, bk: str, c: str, rows: str, span: Callable[[str, str], tuple[str, str]],
                more: str) -> None:
        """``c[rows, bk] (+)= a @ matrix`` where row r of ``matrix``, ``bk`` numbers wide, starts at ``r * bk``. ``span(r0, r)``: the first
        and last + 1 of the steps that count for rows ``r0 .. r0 + r``."""
        def columns(t: str) -> None:
            col = self.mul(t, str(self.v))
            v = self.least(self.sub(self.b.op(f"sdiv i64 {bk}, {self.n}"), col), str(self.v))
            size = self.entry("@sizes", self.sub(v, "1"))
            off = self.mul(col, str(self.n))

            def group(g: str) -> None:
                r0 = self.mul(g, size)
                r = self.least(self.sub(rows, r0), size)
                k0, k1 = span(r0, r)
                self.run_tile(v, r, self.at(a, self.add(self.mul(r0, ar), self.mul(k0, ak))), ar, ak,
                              self.at(matrix, self.add(self.mul(k0, bk), off)), bk, self.at(c, self.add(self.mul(r0, bk), off)), bk,
                              self.sub(k1, k0), more)
            self.each("0", self.up(rows, size), group)
        self.each("0", self.up(bk, str(self.v * self.n)), columns)

    def scores(self, a: str, ar: str, width: str, padded: str, packed: str, c: str, i0: str, m: str, seen: str) -> None:
        """``c`` = rows ``a`` (m, width) times the transposed tiles at ``packed``, as far as each group of rows may see."""
        wide, size = self.v * self.n, str(self.entry("@sizes", str(self.v - 1)))

        def tile(t: str) -> None:
            first = self.mul(t, str(wide))

            def group(g: str) -> None:
                r0 = self.mul(g, size)
                r = self.least(self.sub(m, r0), size)
                last = self.least(self["keys"], self.choose(self.causal, self.add(i0, r0, r), self["keys"]))
                v = self.least(self.up(self.sub(last, first), str(self.n)), str(self.v))
                self.when(self.b.op(f"icmp sgt i64 {v}, 0"), lambda: self.run_tile(
                    v, r, self.at(a, self.mul(r0, ar)), ar, "1", self.at(packed, self.mul(first, padded)), str(wide),
                    self.at(c, self.add(self.mul(r0, self["p_row"]), first)), self["p_row"], width, "false"))
            self.each("0", self.up(m, size), group)
        self.each("0", self.up(seen, str(wide)), tile)

    # ---- packing

    def pack_rows(self, src: str, row: str, rows: str, width: str, padded: str, dst: str) -> None:
        """Rows of whole vectors, zeros at their ends."""
        def line(i: str) -> None:
            x, y = self.at(src, self.mul(i, row)), self.at(dst, self.mul(i, padded))

            def vector(j: str) -> None:
                at = self.mul(j, str(self.n))
                value = self.masked_load(self.at(x, at), self.below(self.sub(width, at)))
                self.b.do(f"store {self.vector} {value}, ptr {self.at(y, at)}, align {self.size}")
            self.each("0", self.b.op(f"sdiv i64 {padded}, {self.n}"), vector)
        self.each("0", rows, line)

    def pack_turned(self, src: str, row: str, width: str, padded: str, dst: str) -> None:
        """All keys' rows transposed, in tiles of V vectors of keys by ``padded`` lines."""
        wide = self.v * self.n

        def vector(j: str) -> None:
            first = self.mul(j, str(self.n))
            left = self.sub(self["keys"], first)
            here = [self.splat(self.b.op(f"icmp slt i64 {i}, {left}"), "i1") for i in range(self.n)]
            tile, lane = self.split(first, str(wide))
            to = self.at(dst, self.add(self.mul(tile, self.mul(padded, str(wide))), lane))

            def lines(d: str) -> None:
                at = self.mul(d, str(self.n))
                inside = self.below(self.sub(width, at))
                corner = self.at(src, self.add(self.mul(first, row), at))
                x = [self.masked_load(self.at(corner, self.mul(row, str(i))), self.b.op(f"and {self.mask} {inside}, {h}"))
                     for i, h in enumerate(here)]
                there = self.at(to, self.mul(at, str(wide)))
                for i, y in enumerate(self.transpose(x)):
                    self.b.do(f"store {self.vector} {y}, ptr {self.at(there, i * wide)}, align {self.size}")
            self.each("0", self.b.op(f"sdiv i64 {padded}, {self.n}"), lines)
        self.each("0", self.up(self["keys"], str(self.n)), vector)

    # ---- the walk

    def heads(self, head: Callable[[str, str, str, str], None]) -> None:
        """``head(u, part of the rows, offsets, scratch)`` for each head of keys and part of its query rows. ``offsets``: of the keys, the
        values, then for each query head of the group of query, gradient and mask."""
        tables, scratch, entries = self.pointer("table"), self.pointer("scratch"), self.add(self.mul(self["group"], "3"), "2")

        def part(p: str) -> None:
            mine = self.at(scratch, self.mul(p, self["scratch_size"]))
            ends = [self.b.op(f"sdiv i64 {self.mul(x, self['units'])}, {self['parts']}") for x in (p, self.add(p, "1"))]

            def unit(i: str) -> None:
                u, split = self.split(i, self["splits"])
                row = self.b.op(f"getelementptr i64, ptr {tables}, i64 {self.mul(u, entries)}")
                head(u, split, row, mine)
            self.each(*ends, unit)
        self.units(part)

    def blocks(self, split: str, body: Callable[[str, str, str], None]) -> None:
        """``body(i0, m, seen)`` for each block of query rows: the first, how many, and how many keys they may see."""
        total = self.up(self["rows"], self["block"])
        ends = [self.b.op(f"sdiv i64 {self.mul(x, total)}, {self['splits']}") for x in (split, self.add(split, "1"))]

        def block(j: str) -> None:
            i0 = self.mul(j, self["block"])
            m = self.least(self["block"], self.sub(self["rows"], i0))
            seen = self.least(self["keys"], self.choose(self.causal, self.add(i0, m), self["keys"]))
            body(i0, m, seen)
        self.each(*ends, block)

    def seen_by(self, i: str) -> str:
        """How many keys query row ``i`` may see."""
        return self.least(self["keys"], self.choose(self.causal, self.add(i, "1"), self["keys"]))

    def score(self, p: str, mask: str, j: str) -> str:
        t = self.f("fmul", self.get(p, j), self.scale)
        return self.f("fadd", t, self.get(mask, j)) if self.masked else t

    def forward(self) -> None:
        q, k, v, mask, out, lse = (self.pointer(n) for n in ("q", "k", "v", "mask", "out", "lse"))

        def head(u: str, split: str, table: str, mine: str) -> None:
            kt, vs, p, o, sums = (self.at(mine, self[n]) for n in ("at_kt", "at_v", "at_p", "at_dq", "at_sums"))
            self.pack_turned(self.at(k, self.entry(table, "0")), self["k_row"], self["width"], self["padded"], kt)
            self.pack_rows(self.at(v, self.entry(table, "1")), self["v_row"], self["keys"], self["v_width"], self["v_padded"], vs)

            def query_head(g: str) -> None:
                at = self.add(self.mul(g, "3"), "2")
                queries = self.at(q, self.entry(table, at))
                masks = self.at(mask, self.entry(table, self.add(at, "2"))) if self.masked else ""
                first = self.mul(self.add(self.mul(u, self["group"]), g), self["rows"])

                def block(i0: str, m: str, seen: str) -> None:
                    self.scores(self.at(queries, self.mul(i0, self["q_row"])), self["q_row"], self["width"], self["padded"], kt, p, i0, m,
                                seen)

                    def row(r: str) -> None:
                        i = self.add(i0, r)
                        self.softmax(self.at(p, self.mul(r, self["p_row"])), self.at(masks, self.mul(i, self["mask_row"])) if masks else "",
                                     self.seen_by(i), seen, self.at(sums, r), self.at(lse, self.add(first, i)))
                    self.each("0", m, row)
                    self.product(p, self["p_row"], "1", vs, self["v_padded"], o, m, lambda r0, r: ("0", self.choose(
                        self.causal, self.least(self["keys"], self.add(i0, r0, r)), self["keys"])), "false")
                    self.write(o, self["v_padded"], self.at(out, self.mul(self.add(first, i0), self["v_width"])), self["v_width"], m, sums)
                self.blocks(split, block)
            self.each("0", self["group"], query_head)
        self.heads(head)

    def softmax(self, p: str, mask: str, n: str, seen: str, inverse: str, lse: str) -> None:
        """exp(score - largest) in place for the first ``n``, zeros up to ``seen``; the sum's inverse, and the logarithm of the sum."""
        def largest(j: str, acc: list[str]) -> list[str]:
            t = self.score(p, mask, j)
            if self.masked:
                self.put(t, p, j)
            return [combine(self.b, "max", self.dt, acc[0], t)]
        [m] = self.lanes("0", n, [identity("max", self.dt)], largest)
        nothing = self.b.op(f"fcmp oeq {self.t} {m}, {self.const(-math.inf)}")
        shift = self.choose(nothing, self.const(0.0), m, self.t)

        def weigh(j: str, acc: list[str]) -> list[str]:
            t = self.get(p, j) if self.masked else self.f("fmul", self.get(p, j), self.scale)
            e = self.math("exp", self.f("fsub", t, shift))
            self.put(e, p, j)
            return [combine(self.b, "sum", self.dt, acc[0], e, "reassoc ")]
        [total] = self.lanes("0", n, [self.const(0.0)], weigh)
        self.zeros(p, n, seen)
        inv = self.choose(nothing, self.const(0.0), self.f("fdiv", self.const(1.0), total), self.t)
        self.b.do(f"store {self.t} {inv}, ptr {inverse}")
        log = self.choose(nothing, self.const(math.inf), self.f("fadd", m, self.math("log", total)), self.t)
        self.b.do(f"store {self.t} {log}, ptr {lse}")

    def write(self, src: str, padded: str, dst: str, width: str, rows: str, factors: str = "") -> None:
        """Rows of ``width`` numbers out of padded ones, times their factors."""
        def row(r: str) -> None:
            x, y = self.at(src, self.mul(r, padded)), self.at(dst, self.mul(r, width))
            factor = self.number(self.at(factors, r)) if factors else ""

            def one(j: str, _: list[str]) -> list[str]:
                value = self.get(x, j)
                self.put(self.f("fmul", value, factor) if factor else value, y, j)
                return []
            self.lanes("0", width, [], one)
        self.each("0", rows, row)

    # ---- backward

    def backward(self) -> None:
        q, k, v, grad, mask, out, lse, dq, dk, dv = map(self.pointer, ("q", "k", "v", "grad", "mask", "out", "lse", "dq", "dk", "dv"))
        d, e, keys = self["padded"], self["v_padded"], self["keys"]

        def head(u: str, split: str, table: str, mine: str) -> None:
            kt, ks, vt, p, ds, qs, gs, sums, sum_k, sum_v = (self.at(mine, self[n]) for n in (
                "at_kt", "at_k", "at_vt", "at_p", "at_ds", "at_q", "at_grad", "at_dq", "at_dk", "at_dv"))
            own_k, own_v = self.at(k, self.entry(table, "0")), self.at(v, self.entry(table, "1"))
            self.pack_turned(own_k, self["k_row"], self["width"], d, kt)
            self.pack_rows(own_k, self["k_row"], keys, self["width"], d, ks)
            self.pack_turned(own_v, self["v_row"], self["v_width"], e, vt)
            for s, w in ((sum_k, d), (sum_v, e)):
                self.lanes("0", self.mul(keys, w), [], lambda j, _, s=s: self.put(self.const(0.0), s, j) or [])

            def query_head(g: str) -> None:
                at = self.add(self.mul(g, "3"), "2")
                queries, grads = self.at(q, self.entry(table, at)), self.at(grad, self.entry(table, self.add(at, "1")))
                masks = self.at(mask, self.entry(table, self.add(at, "2"))) if self.masked else ""
                first = self.mul(self.add(self.mul(u, self["group"]), g), self["rows"])

                def block(i0: str, m: str, seen: str) -> None:
                    self.pack_rows(self.at(queries, self.mul(i0, self["q_row"])), self["q_row"], m, self["width"], d, qs)
                    self.pack_rows(self.at(grads, self.mul(i0, self["grad_row"])), self["grad_row"], m, self["v_width"], e, gs)
                    self.scores(qs, d, self["width"], d, kt, p, i0, m, seen)
                    self.scores(gs, e, self["v_width"], e, vt, ds, i0, m, seen)

                    def row(r: str) -> None:
                        i = self.add(i0, r)
                        at = self.mul(r, self["p_row"])
                        self.softmax_grad(self.at(p, at), self.at(ds, at), self.at(masks, self.mul(i, self["mask_row"])) if masks else "",
                                          self.at(gs, self.mul(r, e)), self.at(out, self.mul(self.add(first, i), self["v_width"])),
                                          self.number(self.at(lse, self.add(first, i))), self.seen_by(i), seen)
                    self.each("0", m, row)
                    self.product(ds, self["p_row"], "1", ks, d, sums, m, lambda r0, r: ("0", self.choose(
                        self.causal, self.least(keys, self.add(i0, r0, r)), keys)), "false")
                    self.write(sums, d, self.at(dq, self.mul(self.add(first, i0), self["width"])), self["width"], m)

                    def below(r0: str, _: str) -> tuple[str, str]:
                        return self.choose(self.causal, self.most_of("0", self.sub(r0, i0)), "0"), m
                    self.product(p, "1", self["p_row"], gs, e, sum_v, seen, below, "true")
                    self.product(ds, "1", self["p_row"], qs, d, sum_k, seen, below, "true")
                self.blocks(split, block)
            self.each("0", self["group"], query_head)
            self.write(sum_k, d, self.at(dk, self.mul(u, self.mul(keys, self["width"]))), self["width"], keys)
            self.write(sum_v, e, self.at(dv, self.mul(u, self.mul(keys, self["v_width"]))), self["v_width"], keys)
        self.heads(head)

    def softmax_grad(self, p: str, ds: str, mask: str, grad: str, out: str, lse: str, n: str, seen: str) -> None:
        """Weights in place of the scores at ``p``, and the scores' gradient in place of that of the weights at ``ds``."""
        [delta] = self.lanes("0", self["v_width"], [self.const(0.0)], lambda j, acc: [
            combine(self.b, "sum", self.dt, acc[0], self.f("fmul", self.get(grad, j), self.get(out, j)), "reassoc ")])

        def one(j: str, _: list[str]) -> list[str]:
            w = self.math("exp", self.f("fsub", self.score(p, mask, j), lse))
            self.put(w, p, j)
            self.put(self.f("fmul", self.f("fmul", w, self.f("fsub", self.get(ds, j), delta)), self.scale), ds, j)
            return []
        self.lanes("0", n, [], one)
        self.zeros(p, n, seen)
        self.zeros(ds, n, seen)
