"""LLVM IR of the convolution kernels: explicit vectors, accumulators in registers.

A function is ``void f(ptr block, i64 lo, i64 hi)`` over independent units, as :mod:`fusetorch.runtime.cpu_pool` runs them; ``block`` is an
array of 8-byte fields, named in ``FIELDS``. Offsets and strides count elements.

* ``pad``: copies planes into larger ones with a border of zeros.
* ``turn``: transposes matrices, so that what was apart lies side by side; a matrix may be a sum of parts.
* ``lanes``: a tile of R lines of Q positions by V vectors of output channels. Each step of the sum multiplies R * Q numbers of the input,
  wherever they are, with V vectors of packed weights. The result is transposed on its way out.
* ``wide``: a tile of R output channels by V vectors of positions along a line; for few channels in a group.
* ``weight_lanes``, ``weight_wide``: the weight gradient in the same two ways. The sum runs over positions: a tile is R rows of the kernel
  by Q taps along the line, by V vectors of output channels; or by lanes of positions, added up at the end.
"""
from __future__ import annotations

from typing import NamedTuple

from .llvm_vectors import VectorWriter

FIELDS = {
    "pad": ("src", "dst", "d", "h", "w", "to_h", "to_w", "at_d", "at_h", "at_w", "plane"),
    "turn": ("src", "dst", "n1", "n2", "s0", "s1", "s2", "d0", "d1", "d2", "src_row", "dst_row", "rows", "max_rows", "row_step", "fill",
             "cols", "max_cols", "col_step", "parts", "part"),
    "lanes": ("a", "b", "out", "bias", "ta", "tb", "pa", "po", "kc", "kt", "a_c", "b_c", "tiles", "groups_of_tiles", "per_group",
              "blocks", "n_groups", "a_n", "a_g", "b_block", "out_n", "out_g", "out_block", "out_row", "channels", "out_step", "images"),
    "weight_lanes": ("a", "b", "out", "ta", "tb", "ro", "rt", "kt", "a_c", "b_c", "n", "per_part", "tiles", "blocks", "n_groups", "a_g",
                     "b_block", "out_part", "out_block", "pieces", "per_piece"),
}
FIELDS["wide"] = (*FIELDS["lanes"], "a_row", "x_step")
FIELDS["weight_wide"] = (*FIELDS["weight_lanes"], "g_row", "line", "x_step", "per_group")


class Variant(NamedTuple):
    """What a function is compiled for."""

    kind: str
    double: bool
    r: int = 1          # rows of a tile
    q: int = 1          # positions or taps of a tile
    v: int = 1          # vectors
    step: int = 1       # distance of a tile's positions or taps
    full: bool = False  # every block of channels is whole
    apart: bool = False  # neighbours in the line are not adjacent in memory
    one: bool = False   # one tap
    pairs: bool = False  # every second one along the line is read
    by_block: bool = False  # all images with one block of weights, rather than all blocks with one image


def emit(variant: Variant, name: str, width: int) -> str:
    """The text of a module with one function, for vectors of ``width`` bits."""
    w = _Writer(variant, width)
    getattr(w, variant.kind)()
    return w.module(name)


class _Writer(VectorWriter):
    def __init__(self, variant: Variant, width: int) -> None:
        super().__init__(FIELDS[variant.kind], variant.double, width)
        self.k = variant

    # ---- moving data

    def pad(self) -> None:
        b = self.b
        src, dst = self.pointer("src"), self.pointer("dst")
        here = self.mul(self["d"], self.mul(self["h"], self["w"]))
        there = self["plane"]
        b.declared["declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)"] = None
        b.declared["declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)"] = None

        def plane(u: str) -> None:
            x, y = self.at(src, self.mul(u, here)), self.at(dst, self.mul(u, there))
            b.do(f"call void @llvm.memset.p0.i64(ptr {y}, i8 0, i64 {self.mul(there, str(self.size))}, i1 false)")

            def deep(d: str) -> None:
                def line(h: str) -> None:
                    to = self.add(self.mul(self.add(self.mul(self.add(d, self["at_d"]), self["to_h"]), h, self["at_h"]), self["to_w"]),
                                  self["at_w"])
                    came = self.mul(self.add(self.mul(d, self["h"]), h), self["w"])
                    b.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {self.at(y, to)}, ptr {self.at(x, came)}, "
                         f"i64 {self.mul(self['w'], str(self.size))}, i1 false)")
                self.each("0", self["h"], line)
            self.each("0", self["d"], deep)
        self.units(plane)

    def turn(self) -> None:
        """Unit (i0, i1, i2): ``dst[i * dst_row + j]`` = the sum over parts of ``src[j * src_row + i]``. Of ``rows`` and ``cols``, unit i1
        has what is left from ``i1 * step`` on; with ``fill`` the missing rows are zeros."""
        b = self.b
        src, dst = self.pointer("src"), self.pointer("dst")

        def unit(u: str) -> None:
            u1, i2 = self.split(u, self["n2"])
            i0, i1 = self.split(u1, self["n1"])
            x = self.at(src, self.add(*(self.mul(i, self[s]) for i, s in ((i0, "s0"), (i1, "s1"), (i2, "s2")))))
            y = self.at(dst, self.add(*(self.mul(i, self[s]) for i, s in ((i0, "d0"), (i1, "d1"), (i2, "d2")))))
            rows = self.least(self["max_rows"], b.op(f"sub i64 {self['rows']}, {self.mul(i1, self['row_step'])}"))
            cols = self.least(self["max_cols"], b.op(f"sub i64 {self['cols']}, {self.mul(i1, self['col_step'])}"))
            out_rows = b.intrinsic("smax", "i64", rows, self["fill"])
            blocks = [b.op(f"udiv i64 {self.add(m, str(self.n - 1))}, {self.n}") for m in (out_rows, cols)]

            def row_block(jb: str) -> None:
                j0 = self.mul(jb, str(self.n))
                stored = self.below(b.op(f"sub i64 {out_rows}, {j0}"))
                left = b.op(f"sub i64 {rows}, {j0}")
                here = [self.splat(b.op(f"icmp slt i64 {j}, {left}"), "i1") for j in range(self.n)]

                def col_block(ib: str) -> None:
                    i = self.mul(ib, str(self.n))
                    loaded = self.below(b.op(f"sub i64 {cols}, {i}"))
                    masks = [b.op(f"and {self.mask} {loaded}, {h}") for h in here]
                    corner = self.at(x, self.add(self.mul(j0, self["src_row"]), i))
                    lines = [self.at(corner, self.mul(self["src_row"], str(j))) for j in range(self.n)]

                    def part(p: str, sums: list[str]) -> list[str]:
                        o = self.mul(p, self["part"])
                        return [b.op(f"fadd {self.vector} {s}, {self.masked_load(self.at(line, o), m)}")
                                for s, line, m in zip(sums, lines, masks)]
                    sums = b.loop("1", self["parts"], [(self.vector, self.masked_load(line, m)) for line, m in zip(lines, masks)], part)
                    turned = self.transpose(sums)
                    to = self.at(y, self.add(self.mul(i, self["dst_row"]), j0))
                    more = b.op(f"sub i64 {cols}, {i}")
                    for k, v in enumerate(turned):
                        keep = b.op(f"and {self.mask} {stored}, {self.splat(b.op(f'icmp slt i64 {k}, {more}'), 'i1')}")
                        self.masked_store(v, self.at(to, self.mul(self["dst_row"], str(k))), keep)
                self.each("0", blocks[1], col_block)
            self.each("0", blocks[0], row_block)
        self.units(unit)

    # ---- sums

    def summed(self, outer: tuple[str, str], inner: tuple[str, str], start: list[str], a: str, b_: str, step: object) -> list[str]:
        """Runs ``step(a, b, sums)`` for every channel (or image) and tap (or position) of the two ranges."""
        ta, tb = self.pointer("ta"), self.pointer("tb")
        carried = [(self.vector, s) for s in start]
        if self.k.one:
            a, b_ = self.at(a, self.entry(ta, "0")), self.at(b_, self.entry(tb, "0"))

        def channel(c: str, sums: list[str]) -> list[str]:
            x, y = self.at(a, self.mul(c, self["a_c"])), self.at(b_, self.mul(c, self["b_c"]))
            if self.k.one:
                return step(x, y, sums)
            return self.b.loop(*inner, [(self.vector, s) for s in sums],
                               lambda t, sums: step(self.at(x, self.entry(ta, t)), self.at(y, self.entry(tb, t)), sums))
        return self.b.loop(*outer, carried, channel)

    def tiles(self, body: object) -> None:
        """``body(n, g, block, tile)`` for the tiles of each unit (n, g, block, group of tiles)."""
        def unit(u: str) -> None:
            u1, part = self.split(u, self["groups_of_tiles"])
            if self.k.by_block:
                u2, n = self.split(u1, self["images"])
                g, block = self.split(u2, self["blocks"])
            else:
                u2, block = self.split(u1, self["blocks"])
                n, g = self.split(u2, self["n_groups"])
            lo = self.mul(part, self["per_group"])
            body(n, g, block, lo, self.least(self["tiles"], self.add(lo, self["per_group"])))
        self.units(unit)

    def lanes(self) -> None:
        b, k = self.b, self.k
        a, w, out, bias, pa, po = (self.pointer(f) for f in ("a", "b", "out", "bias", "pa", "po"))

        def unit(n: str, g: str, block: str, lo: str, hi: str) -> None:
            x = self.at(a, self.add(self.mul(n, self["a_n"]), self.mul(g, self["a_g"])))
            at = self.add(self.mul(g, self["blocks"]), block)
            y = self.at(w, self.mul(at, self["b_block"]))
            start = [self.load(self.at(bias, self.add(self.mul(at, str(k.v * self.n)), str(v * self.n)))) for v in range(k.v)]
            o = self.at(out, self.add(self.mul(n, self["out_n"]), self.mul(g, self["out_g"]), self.mul(block, self["out_block"])))
            left = b.op(f"sub i64 {self['channels']}, {self.mul(block, str(k.v * self.n))}")

            def tile(t: str) -> None:
                number = self.mul(t, str(k.r))
                lines = [self.entry(pa, self.add(number, str(r))) for r in range(k.r)]

                def step(p: str, z: str, sums: list[str]) -> list[str]:
                    weights = [self.load(self.at(z, v * self.n)) for v in range(k.v)]
                    new = []
                    for r in range(k.r):
                        here = self.at(p, lines[r])
                        for q in range(k.q):
                            s, i = self.splat(self.number(self.at(here, q * k.step))), (r * k.q + q) * k.v
                            new += [self.fma(s, weights[v], sums[i + v]) for v in range(k.v)]
                    return new
                sums = self.summed(("0", self["kc"]), ("0", self["kt"]), start * (k.r * k.q), x, y, step)
                for r in range(0, k.r, self.n // k.q):
                    self.store_turned(sums, range(r, min(k.r, r + self.n // k.q)), o, po, number, left)
            self.each(lo, hi, tile)
        self.tiles(unit)

    def store_turned(self, sums: list[str], rows: range, out: str, po: str, number: str, left: str) -> None:
        """Stores rows of a tile of ``lanes``, as many as are transposed at once."""
        b, k = self.b, self.k
        to = [self.at(out, self.add(self.entry(po, self.add(number, str(r))), str(-i * k.q))) for i, r in enumerate(rows)]
        masks = ["<" + ", ".join(f"i1 {'true' if i * k.q <= lane < i * k.q + k.q else 'false'}" for lane in range(self.n)) + ">"
                 for i in range(len(rows))]
        for v in range(k.v):
            turned = self.transpose([sums[(rows[j // k.q] * k.q + j % k.q) * k.v + v] if j < len(rows) * k.q else "poison"
                                     for j in range(self.n)])
            for j, line in enumerate(turned):
                row = self.mul(self["out_row"], str(v * self.n + j))
                whole = "" if k.full else self.splat(b.op(f"icmp slt i64 {v * self.n + j}, {left}"), "i1")
                for i, mask in enumerate(masks):
                    p = self.at(to[i], row)
                    kept = b.op(f"and {self.mask} {whole}, {mask}") if whole else mask
                    if k.apart:  # lane i * q is the first of its row
                        p = self.at(p, self.mul(b.op(f"sub i64 1, {self['out_step']}"), str(i * k.q)))
                        self.scatter(line, p, self["out_step"], kept)
                    else:
                        self.masked_store(line, p, kept)

    def every_second(self, p: str, mask: str, more: str) -> str:
        """Numbers 0, 2, 4, ... from ``p`` on; the masks are of the two vectors that hold them."""
        both = [self.masked_load(self.at(p, i * self.n), m) for i, m in enumerate((mask, more))]
        lanes = ", ".join(f"i32 {2 * i}" for i in range(self.n))
        return self.b.op(f"shufflevector {self.vector} {both[0]}, {self.vector} {both[1]}, <{self.n} x i32> <{lanes}>")

    def line(self, p: str, v: int, count: int) -> str:
        """Vector ``v``, of which ``count`` lanes matter, of the numbers along a line from ``p`` on."""
        if self.k.pairs:
            reach = 2 * count - 1
            return self.every_second(self.at(p, 2 * v * self.n), self.first(min(reach, self.n)), self.first(max(0, reach - self.n)))
        if self.k.apart:
            return self.gather(self.at(p, self.mul(self["x_step"], str(v * self.n))), self["x_step"], self.first(count))
        return self.masked_load(self.at(p, v * self.n), self.first(count))

    def wide(self) -> None:
        b, k = self.b, self.k
        a, x0, out, bias, pa, po = (self.pointer(f) for f in ("a", "b", "out", "bias", "pa", "po"))
        counts = [min(self.n, k.q - v * self.n) for v in range(k.v)]
        tails = [self.first(c) for c in counts]

        def unit(n: str, g: str, block: str, lo: str, hi: str) -> None:
            x = self.at(x0, self.add(self.mul(n, self["a_n"]), self.mul(g, self["a_g"])))
            first = self.mul(block, str(k.r))
            y = self.at(a, self.add(self.mul(g, self["b_block"]), self.mul(first, self["a_row"])))
            rows = [self.mul(self["a_row"], str(r)) for r in range(k.r)]
            number = self.add(self.mul(g, self["channels"]), first)
            start = [s for r in range(k.r) for s in [self.splat(self.number(self.at(bias, self.add(number, str(r)))))] * k.v]
            o = self.at(out, self.add(self.mul(n, self["out_n"]), self.mul(number, self["out_row"])))

            def step(p: str, z: str, sums: list[str]) -> list[str]:
                lines = [self.line(z, v, counts[v]) for v in range(k.v)]
                new = []
                for r in range(k.r):
                    s = self.splat(self.number(self.at(p, rows[r])))
                    new += [self.fma(s, lines[v], sums[r * k.v + v]) for v in range(k.v)]
                return new

            def tile(t: str) -> None:
                sums = self.summed(("0", self["kc"]), ("0", self["kt"]), start, y, self.at(x, self.entry(pa, t)), step)
                to = self.at(o, self.entry(po, t))
                for r in range(k.r):
                    line = self.at(to, self.mul(self["out_row"], str(r)))
                    for v in range(k.v):
                        if k.full:
                            self.masked_store(sums[r * k.v + v], self.at(line, v * self.n), tails[v])
                        else:
                            p = self.at(line, self.mul(self["out_step"], str(v * self.n)))
                            self.scatter(sums[r * k.v + v], p, self["out_step"], tails[v])
            self.each(lo, hi, tile)
        del b
        self.tiles(unit)

    def part(self, part: str) -> tuple[str, str, tuple[str, str]]:
        """The images and the positions of a part."""
        some, piece = self.split(part, self["pieces"])
        lo, first = self.mul(some, self["per_part"]), self.mul(piece, self["per_piece"])
        last = self.least(self["kt"], self.add(first, self["per_piece"]))
        return lo, self.least(self["n"], self.add(lo, self["per_part"])), (first, last)

    def weight_lanes(self) -> None:
        k = self.k
        a, w, out, ro, rt = (self.pointer(f) for f in ("a", "b", "out", "ro", "rt"))

        def unit(u: str) -> None:
            u1, tile = self.split(u, self["tiles"])
            u2, block = self.split(u1, self["blocks"])
            part, g = self.split(u2, self["n_groups"])
            at = self.add(self.mul(g, self["blocks"]), block)
            lo, hi, inner = self.part(part)
            first = self.entry(rt, tile)
            starts = [self.entry(ro, self.add(first, str(r))) for r in range(k.r)]

            def step(x: str, y: str, sums: list[str]) -> list[str]:
                slopes = [self.load(self.at(y, v * self.n)) for v in range(k.v)]
                new = []
                for r in range(k.r):
                    row = self.at(x, starts[r])
                    for q in range(k.q):
                        s = self.splat(self.number(self.at(row, q * k.step)))
                        i = (r * k.q + q) * k.v
                        new += [self.fma(s, slopes[v], sums[i + v]) for v in range(k.v)]
                return new
            sums = self.summed((lo, hi), inner, ["zeroinitializer"] * (k.r * k.q * k.v), self.at(a, self.mul(g, self["a_g"])),
                               self.at(w, self.mul(at, self["b_block"])), step)
            to = self.at(out, self.add(self.mul(part, self["out_part"]), self.mul(at, self["out_block"]),
                                       self.mul(first, str(k.q * k.v * self.n))))
            for i, s in enumerate(sums):
                self.b.do(f"store {self.vector} {s}, ptr {self.at(to, i * self.n)}, align {self.size}")
        self.units(unit)

    def weight_wide(self) -> None:
        b, k = self.b, self.k
        a, w, out, ro, rt = (self.pointer(f) for f in ("a", "b", "out", "ro", "rt"))

        def unit(u: str) -> None:
            u1, tile = self.split(u, self["tiles"])
            part, channel = self.split(u1, self["blocks"])
            g, _ = self.split(channel, self["per_group"])
            lo, hi, inner = self.part(part)
            first = self.entry(rt, tile)
            starts = [self.entry(ro, self.add(first, str(r))) for r in range(k.r)]
            chunks = b.op(f"udiv i64 {self.add(self['line'], str(self.n - 1))}, {self.n}")

            def step(x: str, y: str, sums: list[str]) -> list[str]:
                def chunk(c: str, sums: list[str]) -> list[str]:
                    i = self.mul(c, str(self.n))
                    left = b.op(f"sub i64 {self['line']}, {i}")
                    mask = self.below(left)
                    reach = self.add(left, left, "-1")
                    twice = [self.below(r) for r in (reach, self.add(reach, str(-self.n)))] if k.pairs else []
                    slope = self.masked_load(self.at(y, i), mask)
                    here = self.at(x, self.mul(i, self["x_step"]))
                    new = []
                    for r in range(k.r):
                        row = self.at(here, starts[r])
                        for q in range(k.q):
                            p = self.at(row, q * k.step)
                            v = (self.every_second(p, *twice) if k.pairs else self.gather(p, self["x_step"], mask) if k.apart else
                                 self.masked_load(p, mask))
                            new.append(self.fma(v, slope, sums[r * k.q + q]))
                    return new
                return b.loop("0", chunks, [(self.vector, s) for s in sums], chunk)
            sums = self.summed((lo, hi), inner, ["zeroinitializer"] * (k.r * k.q), self.at(a, self.mul(g, self["a_g"])),
                               self.at(w, self.mul(channel, self["g_row"])), step)
            to = self.at(out, self.add(self.mul(part, self["out_part"]), self.mul(channel, self["out_block"]), self.mul(first, str(k.q))))
            for i, s in enumerate(sums):
                total = b.call(f"llvm.vector.reduce.fadd.{self.suffix}", self.t, [(self.t, "-0.0"), (self.vector, s)], flags="reassoc ")
                b.do(f"store {self.t} {total}, ptr {self.at(to, i)}, align {self.size}")
        self.units(unit)
