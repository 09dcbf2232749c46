"""Convolutions on the CPU: plans of native kernels (:mod:`fusetorch.codegen.llvm_convolution`), kept by shape.

Nothing is unrolled in memory. The input gets a border of zeros where taps reach beyond it; each tap is then one offset, each tile of
positions another, so any number of dimensions, strides and dilations are two tables of numbers. A strided convolution's adjoint is a
dense convolution for each remainder of the output position modulo the stride. Which form a kernel takes, and the size of its tiles, is
what an estimate of its cycles says. Results depend on shapes alone, not on the number of threads.
"""
from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np

from ..dtypes import FROM_NUMPY, HALVES
from ..ops import convolution as by_windows
from ..runtime import cpu_pool
from ..runtime.cpu_memory import address, empty
from .llvm_convolution import FIELDS, Variant, emit
from .vector_functions import function, lane_count, registers

#: Multiply-adds below which one thread does the work.
_SMALL = 400_000
#: Bytes of the padded images that are worked on at a time: they should stay in the cache.
_PADDED = 4 << 20
#: Bytes of a gradient that should stay in the cache while a weight gradient is summed.
_CACHED = 512 << 10

Triple = tuple[int, int, int]
Step = Callable[[dict[str, int]], None]


# ---------------------------------------------------------------------------------------------------- the operations


def forward(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, stride: tuple, padding: tuple, dilation: tuple,
            groups: int) -> np.ndarray:
    """The convolution of ``x`` (N, C, *size) with ``w`` (O, C / groups, *kernel), plus ``bias`` (O)."""
    d = FROM_NUMPY[x.dtype]
    if d in HALVES:
        b = None if bias is None else bias.astype(np.float32)
        return forward(x.astype(np.float32), w.astype(np.float32), b, stride, padding, dilation, groups).astype(x.dtype)
    size = by_windows.output_size(x.shape[2:], w.shape[2:], stride, padding, dilation)
    shape = (x.shape[0], w.shape[0], *size)
    if d.category != 2 or not (prod(shape) and w.size):
        return _biased(by_windows.forward_by_windows(x, w, stride, padding, dilation, groups), bias)
    plan = _forward_plan(x.shape, w.shape, stride, padding, dilation, groups, x.itemsize == 8, cpu_pool.get_num_threads())
    return plan(x, w, bias, empty(shape, x.dtype))


def input_grad(grad: np.ndarray, w: np.ndarray, bias: np.ndarray | None, size: tuple, stride: tuple, padding: tuple, dilation: tuple,
               groups: int) -> np.ndarray:
    """The adjoint of :func:`forward` with respect to ``x``, of spatial ``size``; plus ``bias`` (C)."""
    d = FROM_NUMPY[grad.dtype]
    if d in HALVES:
        b = None if bias is None else bias.astype(np.float32)
        return input_grad(grad.astype(np.float32), w.astype(np.float32), b, size, stride, padding, dilation, groups).astype(grad.dtype)
    shape = (grad.shape[0], w.shape[1] * groups, *size)
    if d.category != 2 or not (prod(shape) and w.size and grad.size):
        return _biased(by_windows.input_grad_by_windows(grad, w, size, stride, padding, dilation, groups), bias)
    plan = _input_plan(grad.shape, w.shape, size, stride, padding, dilation, groups, grad.itemsize == 8, cpu_pool.get_num_threads())
    return plan(grad, w, bias, empty(shape, grad.dtype))


def weight_grad(grad: np.ndarray, x: np.ndarray, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple, groups: int) -> np.ndarray:
    """The gradient of ``w`` in :func:`forward`."""
    d = FROM_NUMPY[grad.dtype]
    if d in HALVES:
        return weight_grad(grad.astype(np.float32), x.astype(np.float32), kernel, stride, padding, dilation, groups).astype(grad.dtype)
    shape = (grad.shape[1], x.shape[1] // groups, *kernel)
    if d.category != 2 or not (prod(shape) and x.size and grad.size):
        return by_windows.weight_grad_by_windows(grad, x, kernel, stride, padding, dilation, groups)
    plan = _weight_plan(grad.shape, x.shape, kernel, stride, padding, dilation, groups, grad.itemsize == 8, cpu_pool.get_num_threads())
    return plan(grad, x, empty(shape, grad.dtype))


def _biased(out: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    return out if bias is None else out + bias.reshape(-1, *(1,) * (out.ndim - 2))


# ---------------------------------------------------------------------------------------------------- kernels


def _launch(v: Variant, units: int, threads: int, **fields: int) -> Step:
    """A launch of a kernel: ``step(pointers)`` with the addresses that were not known before."""
    at = {name: i for i, name in enumerate(FIELDS[v.kind])}
    values = [fields.get(name, 0) for name in at]
    address_of = function(emit, v)
    n = len(values)
    record = cpu_pool.record(0, threads, [(address_of, units, 1)])[1:]
    make = ctypes.c_int64 * (n + 1 + len(record))

    def step(pointers: dict[str, int]) -> None:
        block = make(*values, 0, *record)
        for name, p in pointers.items():
            block[at[name]] = p
        base = ctypes.addressof(block)
        block[n] = base
        cpu_pool.run(base + 8 * n, threads)
    return step


def _table(numbers: Any) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(numbers, np.int64).ravel())


def _triple(*sizes: Sequence[int], fill: Sequence[int]) -> list[Triple]:
    return [tuple([f] * (3 - len(s)) + list(s)) for s, f in zip(sizes, fill)]  # type: ignore[misc]


def _simple(size: tuple, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple, out: tuple) -> list[Triple]:
    """The same convolution in three dimensions, as long a last one as there is."""
    rows = list(zip(size, kernel, stride, padding, dilation, out))
    if all(k == s == 1 and p == 0 and n == o for n, k, s, p, _, o in rows):
        rows = [(prod(size), 1, 1, 0, 1, prod(size))]
    rows = [r for r in rows if not (r[0] == r[1] == r[5] == 1 and r[3] == 0)] or [(1, 1, 1, 0, 1, 1)]
    return _triple(*zip(*rows), fill=(1, 1, 1, 0, 1, 1))


@dataclass
class Border:
    """Zeros around images: sizes with them, and how many come before."""

    size: Triple
    padded: Triple
    before: Triple
    plane: int  # distance of neighbouring planes

    @property
    def steps(self) -> Triple:
        """Distances of neighbours along each dimension."""
        return self.padded[1] * self.padded[2], self.padded[2], 1

    @property
    def needed(self) -> bool:
        return self.plane != prod(self.size)

    def offset(self, at: Sequence[int]) -> int:
        """Where a position, which may lie in the border, is in the padded plane."""
        return sum((a + b) * s for a, b, s in zip(at, self.before, self.steps))

    def launch(self, planes: int, double: bool, threads: int) -> Step:
        (d, h, w), (_, ph, pw), (bd, bh, bw) = self.size, self.padded, self.before
        return _launch(Variant("pad", double), planes, threads if planes * self.plane > 1 << 15 else 1, d=d, h=h, w=w, to_h=ph, to_w=pw,
                       at_d=bd, at_h=bh, at_w=bw, plane=self.plane)


def _border(size: Triple, lowest: Sequence[int], highest: Sequence[int], item: int, uses: int) -> Border:
    """The border that positions from ``lowest`` to ``highest`` need. Planes a multiple of a page apart would fall on the same few sets
    of the cache: where each number is used often enough, they are moved apart too."""
    before = tuple(max(0, -a) for a in lowest)
    after = [max(0, b + 1 - n) for b, n in zip(highest, size)]
    padded = tuple(n + a + b for n, a, b in zip(size, before, after))
    plane, line = prod(padded), 64 // item
    if plane != prod(size) or (uses >= 64 and not 128 <= plane * item % 4096 <= 3968 and plane * item >= 2048):
        plane = (-(-plane // line) | 1) * line
    return Border(size, padded, before, plane)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------- forward, and to the input


@dataclass
class Phase:
    """A dense part of the result: positions ``origin + step * j`` for ``j < count``, each a sum over ``taps``, ``(number, offset)``."""

    origin: Triple
    step: Triple
    count: Triple
    taps: list[tuple[int, Triple]]


class SumPlan:
    """Sums of products over channels and taps: the convolution and its adjoint.

    ``c`` channels a group are read and ``o`` written; ``move``: from one position of a phase to the next, in the input. ``flipped``: the
    weight's first channels are those that are read.
    """

    def __init__(self, n: int, groups: int, c: int, o: int, taps: int, size: Triple, out: Triple, move: Triple, phases: list[Phase],
                 flipped: bool, double: bool, threads: int) -> None:
        phases = [p for p in phases if prod(p.count)]
        lowest = [min([0, *(off[d] for p in phases for _, off in p.taps)]) for d in range(3)]
        highest = [max([0, *(off[d] + (p.count[d] - 1) * move[d] for p in phases for _, off in p.taps)]) for d in range(3)]
        self.border = _border(size, lowest, highest, 8 if double else 4, o * taps)
        self.n, self.groups, self.c, self.o, self.double, self.item = n, groups, c, o, double, 8 if double else 4
        work = n * groups * o * c * sum(prod(p.count) * len(p.taps) for p in phases)
        self.threads = threads if work >= _SMALL else 1
        b = self.border
        per_image = groups * c * b.plane * self.item
        self.chunk = max(1, min(n, _PADDED // per_image)) if b.needed else n
        self.padding = {m: b.launch(m * groups * c, double, self.threads) for m in self._chunks()} if b.needed else {}
        self.in_image, self.out_plane, self.out_image = groups * c * prod(size), prod(out), groups * o * prod(out)
        steps_out = (out[1] * out[2], out[2], 1)
        self.keep: list[np.ndarray] = []
        self.packs: dict[int, tuple[Step, int, int]] = {}       # vectors: how weights are packed, their size and blocks
        self.launches: list[tuple[int, dict[int, Step]]] = []   # vectors of packed weights (0: as they are), and the kernel
        for p in phases:
            steps = sum(1 for _ in p.taps) * c
            lanes, wide = _lanes_tile(p.count, o, steps, double), _wide_tile(p.count[2], o, double, move[2])
            narrow = wide[0] < lanes[0]
            q = wide[2] if narrow else lanes[1]
            starts = [min(i * q, p.count[2] - q) for i in range(-(-p.count[2] // q))]
            lines = list(product(range(p.count[0]), range(p.count[1]), starts))
            rows = 1 if narrow else lanes[3]
            tiles = [min(i, len(lines) - rows) for i in range(0, len(lines), rows)]
            lines = [lines[i + r] for i in tiles for r in range(rows)]
            pa = _table([sum(j * m * s for j, m, s in zip(line, move, b.steps)) for line in lines])
            po = _table([sum((r + j * k) * s for r, j, k, s in zip(p.origin, line, p.step, steps_out)) for line in lines])
            offsets, numbers = [b.offset(off) for _, off in p.taps], [t for t, _ in p.taps]
            common = {"pa": address(pa), "po": address(po), "kc": c, "kt": len(p.taps), "tiles": len(tiles), "n_groups": groups,
                      "a_n": groups * c * b.plane, "a_g": c * b.plane, "out_n": self.out_image, "out_g": o * self.out_plane,
                      "out_row": self.out_plane, "channels": o, "out_step": p.step[2]}
            if narrow:
                r, v = wide[1], -(-q // lane_count(double))
                variant = Variant("wide", double, r=r, q=q, v=v, full=p.step[2] == 1, apart=move[2] > 2, pairs=move[2] == 2,
                                  one=len(p.taps) == 1)
                ta, tb, blocks = _table(numbers), _table(offsets), o // r
                common |= {"b_c": b.plane, "b_block": o * c * taps, "x_step": move[2],
                           **({"a_row": taps, "a_c": o * taps} if flipped else {"a_row": c * taps, "a_c": taps})}
            else:
                v = lanes[2]
                vl = v * lane_count(double)
                blocks = -(-o // vl)
                variant = Variant("lanes", double, r=rows, q=q, v=v, step=move[2], full=o % vl == 0,
                                  apart=p.step[2] != 1, one=len(p.taps) == 1)
                ta, tb = _table(offsets), _table([t * vl for t in numbers])
                common |= {"a_c": b.plane, "b_c": taps * vl, "b_block": c * taps * vl, "out_block": vl * self.out_plane}
                if v not in self.packs:
                    self.packs[v] = self._pack(vl, blocks, taps, flipped), groups * blocks * c * taps * vl, groups * blocks * vl
            self.keep += [pa, po, ta, tb]
            # large weights: a block of them should stay in the cache while all images pass by
            variant = variant._replace(by_block=groups * o * c * taps * self.item > _CACHED)
            made = {}
            for m in self._chunks():
                whole = m * groups * blocks
                per = len(tiles) if whole >= 16 else max(1, -(-len(tiles) * whole // 16))
                parts = -(-len(tiles) // per)
                made[m] = _launch(variant, whole * parts, self.threads, **common, ta=address(ta), tb=address(tb), blocks=blocks,
                                  images=m, groups_of_tiles=parts, per_group=per)
            self.launches.append((0 if narrow else v, made))

    def _chunks(self) -> set[int]:
        return {self.chunk, self.n % self.chunk or self.chunk}

    def _pack(self, vl: int, blocks: int, taps: int, flipped: bool) -> Step:
        c, o, g = self.c, self.o, self.groups
        common = {"n1": blocks, "s0": o * c * taps, "d0": blocks * c * taps * vl, "d1": c * taps * vl, "dst_row": vl, "rows": o,
                  "max_rows": vl, "row_step": vl, "fill": vl, "parts": 1}
        if flipped:
            return _launch(Variant("turn", self.double), g * blocks * c, self.threads, **common, n2=c, s1=vl * taps, s2=o * taps,
                           d2=taps * vl, src_row=taps, cols=taps, max_cols=taps)
        return _launch(Variant("turn", self.double), g * blocks, self.threads, **common, n2=1, s1=vl * c * taps, src_row=c * taps,
                       cols=c * taps, max_cols=c * taps)

    def __call__(self, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, out: np.ndarray) -> np.ndarray:
        x, w = np.ascontiguousarray(x), np.ascontiguousarray(w)
        weights: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for v, (pack, size, channels) in self.packs.items():
            packed = empty((size,), w.dtype)
            pack({"src": address(w), "dst": address(packed)})
            start = np.zeros((self.groups, channels // self.groups), w.dtype)
            if bias is not None:
                start[:, :self.o] = bias.reshape(self.groups, self.o)
            weights[v] = packed, start
        weights[0] = w, np.zeros(self.groups * self.o, w.dtype) if bias is None else np.ascontiguousarray(bias)
        padded = empty((self.chunk * self.groups * self.c * self.border.plane,), x.dtype) if self.padding else x
        for i in range(0, self.n, self.chunk):
            m = min(self.chunk, self.n - i)
            source = address(x) + i * self.in_image * self.item
            if self.padding:
                self.padding[m]({"src": source, "dst": address(padded)})
                source = address(padded)
            to = address(out) + i * self.out_image * self.item
            for v, launches in self.launches:
                packed, start = weights[v]
                a, b = (source, address(packed)) if v else (address(packed), source)
                launches[m]({"a": a, "b": b, "out": to, "bias": address(start)})
        return out


def _lanes_tile(count: Triple, o: int, steps: int, double: bool) -> tuple[float, int, int, int]:
    """(cycles for each line and step, positions Q, vectors V, lines R) of the best tile in the form ``lanes``."""
    n, best, line = lane_count(double), (float("inf"), 1, 1, 1), count[2]
    for v, r in product(range(1, 5), range(1, 5)):
        most = min(n, line, (registers() - v) // v // r)
        if most < 1 or (v > 1 and (v - 1) * n >= o):
            continue
        for pieces in range(-(-line // most), min(-(-line // most) + 3, line) + 1):
            q = -(-line // pieces)
            pieces = -(-line // q)
            lines = count[0] * count[1] * pieces
            if r > lines:
                continue
            fetch = v * n * (8 if double else 4) / 24 if steps * v * n * 4 > 32768 else 0  # weights from the second cache
            step = max(r * q * v / 2, (r * q + v + 2) / 2, 4, fetch)
            store = v * n * (1 + n.bit_length()) / max(steps, 1)  # shuffles and stores of a tile, for each of its steps
            # several lines at once cost addresses
            cost = (step * (1 + (r - 1) / 30) + store) * -(-lines // r) / (count[0] * count[1]) * -(-o // (v * n))
            best = min(best, (cost, q, v, r))
    return best


def _wide_tile(line: int, o: int, double: bool, stride: int) -> tuple[float, int, int]:
    """(cycles for each line and step, channels R, positions Q) of the best tile in the form ``wide``."""
    n, best = lane_count(double), (float("inf"), 1, 1)
    for r in (8, 6, 4, 3, 2, 1):
        if o % r:
            continue
        for v in range(1, 5):
            if r * v + v + 1 > registers():
                continue
            q = -(-line // -(-line // min(v * n, line)))
            vectors = -(-q // n)
            # most loads along a line straddle two lines of the cache
            step = 1.25 * max(r * vectors / 2, (r + 2 * vectors * min(stride, 2) + 2) / 2, 2) + (n * vectors if stride > 2 else 0)
            best = min(best, (step * -(-line // q) * (o // r), r, q))
    return best


@functools.lru_cache(512)
def _forward_plan(x: tuple, w: tuple, stride: tuple, padding: tuple, dilation: tuple, groups: int, double: bool, threads: int) -> SumPlan:
    out = by_windows.output_size(x[2:], w[2:], stride, padding, dilation)
    size, kernel, stride, padding, dilation, out = _simple(x[2:], w[2:], stride, padding, dilation, out)
    taps = [(i, tuple(a * d - p for a, d, p in zip(k, dilation, padding))) for i, k in enumerate(product(*map(range, kernel)))]
    return SumPlan(x[0], groups, w[1], w[0] // groups, prod(kernel), size, out, stride, [Phase((0, 0, 0), (1, 1, 1), out, taps)], False,
                   double, threads)


@functools.lru_cache(512)
def _input_plan(g: tuple, w: tuple, size: tuple, stride: tuple, padding: tuple, dilation: tuple, groups: int, double: bool,
                threads: int) -> SumPlan:
    size, kernel, stride, padding, dilation, out = _simple(size, w[2:], stride, padding, dilation, g[2:])
    phases = []
    for origin in product(*map(range, stride)):
        taps = []
        for i, k in enumerate(product(*map(range, kernel))):
            at = [r + p - a * d for r, p, a, d in zip(origin, padding, k, dilation)]
            if not any(a % s for a, s in zip(at, stride)):
                taps.append((i, tuple(a // s for a, s in zip(at, stride))))
        count = tuple(max(0, -(-(n - r) // s)) for n, r, s in zip(size, origin, stride))
        phases.append(Phase(origin, stride, count, taps))
    return SumPlan(g[0], groups, w[0] // groups, w[1], prod(kernel), out, size, (1, 1, 1), phases, True, double, threads)


# ---------------------------------------------------------------------------------------------------- to the weight


class WeightPlan:
    """The sum over images and positions that is a weight's gradient."""

    def __init__(self, n: int, groups: int, c: int, o: int, size: Triple, kernel: Triple, stride: Triple, padding: Triple,
                 dilation: Triple, out: Triple, double: bool, threads: int) -> None:
        reach = [(m - 1) * s + (k - 1) * d - p for m, s, k, d, p in zip(out, stride, kernel, dilation, padding)]
        positions, taps = prod(out), prod(kernel)
        b = self.border = _border(size, [-p for p in padding], reach, 8 if double else 4, o * taps)
        self.threads = threads if n * groups * o * c * taps * positions >= _SMALL else 1
        self.double, self.shape = double, (n, groups, c, o)
        self.padding = b.launch(n * groups * c, double, self.threads) if b.needed else None
        lanes, wide = _weight_tile(kernel[2], c * kernel[0] * kernel[1], o, double), _weight_wide_tile(
            kernel[2], c * kernel[0] * kernel[1], double, stride[2])
        # cycles for each position
        self.narrow = wide[0] * o * -(-out[2] // lane_count(double)) < lanes[0] * out[2]
        _, r, q, v = wide if self.narrow else lanes
        rows = [(i * b.plane + b.offset((-padding[0] + kd * dilation[0], -padding[1] + kh * dilation[1],
                                         -padding[2] + kw * q * dilation[2])))
                for i, kd, kh, kw in product(range(c), range(kernel[0]), range(kernel[1]), range(kernel[2] // q))]
        tiles = -(-len(rows) // r)
        ro, rt = _table(rows), _table([min(t * r, len(rows) - r) for t in range(tiles)])
        kk, vl = c * taps, v * lane_count(double)
        blocks = o * groups if self.narrow else -(-o // vl)
        steps, width = (out[0] * out[1], out[2]) if self.narrow else (positions, vl)  # of the sum over an image, and numbers in each
        cached = max(1, _CACHED // (width * (8 if double else 4)))
        units = tiles * blocks * (1 if self.narrow else groups)
        room = max(1, (64 << 20) // (blocks * groups * kk * vl * 8))  # parts of the result that may be kept
        pieces = min(-(-steps // cached), room)
        per_piece = -(-steps // pieces)
        pieces = -(-steps // per_piece)
        parts = max(-(-n // max(1, cached // steps)), min(n, -(-16 // (units * pieces))))
        per_part = -(-n // max(1, min(parts, room // pieces)))
        parts = self.parts = -(-n // per_part) * pieces
        common = {"ro": address(ro), "rt": address(rt), "a_c": groups * c * b.plane, "n": n, "per_part": per_part, "tiles": tiles,
                  "a_g": c * b.plane, "pieces": pieces, "per_piece": per_piece}
        if self.narrow:
            lines = list(product(range(out[0]), range(out[1])))
            ta = _table([sum(i * s * e for i, s, e in zip(line, stride, b.steps)) for line in lines])
            tb = _table([i * out[2] for i in range(len(lines))])
            variant = Variant("weight_wide", double, r=r, q=q, step=dilation[2], apart=stride[2] > 2, pairs=stride[2] == 2,
                              one=len(lines) == 1)
            common |= {"kt": len(lines), "b_c": groups * o * positions, "blocks": blocks, "per_group": o, "g_row": positions,
                       "line": out[2], "x_step": stride[2], "out_part": blocks * kk, "out_block": kk}
            self.sums = parts * blocks * kk
        else:
            ta = _table([sum(i * s * e for i, s, e in zip(at, stride, b.steps)) for at in product(*map(range, out))])
            tb = _table(np.arange(positions) * vl)
            variant = Variant("weight_lanes", double, r=r, q=q, v=v, step=dilation[2], one=positions == 1)
            common |= {"kt": positions, "b_c": positions * vl, "blocks": blocks, "n_groups": groups, "b_block": n * positions * vl,
                       "out_part": groups * blocks * kk * vl, "out_block": kk * vl}
            self.sums = parts * groups * blocks * kk * vl
            self.turned = groups * blocks * n * positions * vl
            turn = Variant("turn", double)
            self.turn = _launch(turn, n * blocks * groups, self.threads, n1=blocks, n2=groups, s0=groups * o * positions,
                                s1=vl * positions, s2=o * positions, d0=positions * vl, d1=n * positions * vl,
                                d2=blocks * n * positions * vl, src_row=positions, dst_row=vl, rows=o, max_rows=vl, row_step=vl, fill=vl,
                                cols=positions, max_cols=positions, parts=1)
            self.back = _launch(turn, groups * blocks, self.threads, n1=blocks, n2=1, s0=blocks * kk * vl, s1=kk * vl, d0=o * kk,
                                d1=vl * kk, src_row=vl, dst_row=kk, rows=kk, max_rows=kk, cols=o, max_cols=vl, col_step=vl, parts=parts,
                                part=groups * blocks * kk * vl)
        self.keep = [ro, rt, ta, tb]
        self.launch = _launch(variant, parts * units, self.threads, **common, ta=address(ta), tb=address(tb))

    def __call__(self, grad: np.ndarray, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        grad, x = np.ascontiguousarray(grad), np.ascontiguousarray(x)
        n, groups, c, _ = self.shape
        if self.padding is not None:
            padded = empty((n * groups * c * self.border.plane,), x.dtype)
            self.padding({"src": address(x), "dst": address(padded)})
            x = padded
        if self.narrow:
            sums = out if self.parts == 1 else empty((self.parts, *out.shape), out.dtype)
            self.launch({"a": address(x), "b": address(grad), "out": address(sums)})
            if self.parts > 1:
                np.sum(sums, 0, out=out)
            return out
        turned, sums = empty((self.turned,), x.dtype), empty((self.sums,), x.dtype)
        self.turn({"src": address(grad), "dst": address(turned)})
        self.launch({"a": address(x), "b": address(turned), "out": address(sums)})
        self.back({"src": address(sums), "dst": address(out)})
        return out


def _divisors(n: int, most: int) -> list[int]:
    return [q for q in range(1, min(n, most) + 1) if n % q == 0]


def _weight_tile(line: int, rows: int, o: int, double: bool) -> tuple[float, int, int, int]:
    """(cycles for each position, rows R, taps Q, vectors V) of the best tile in the form ``weight_lanes``."""
    n, best = lane_count(double), (float("inf"), 1, 1, 1)
    for v, q, r in product(range(1, 5), _divisors(line, 16), range(1, 7)):
        total = rows * (line // q)
        if r > total or r * q * v + v + 1 > registers() or (v > 1 and (v - 1) * n >= o):
            continue
        step = max(r * q * v / 2, (r * q + v + 2) / 2, 4)
        best = min(best, (step * -(-total // r) * -(-o // (v * n)), r, q, v))
    return best


def _weight_wide_tile(line: int, rows: int, double: bool, stride: int) -> tuple[float, int, int, int]:
    """(cycles for each vector of positions and channel, rows R, taps Q, 1) of the best tile in the form ``weight_wide``."""
    best = (float("inf"), 1, 1, 1)
    for q, r in product(_divisors(line, 16), range(1, 7)):
        total = rows * (line // q)
        if r > total or r * q + 2 > registers():
            continue
        step = max((r * q * min(stride, 2) + 1) / 2 * (lane_count(double) if stride > 2 else 1), 4)
        best = min(best, (step * -(-total // r), r, q, 1))
    return best


@functools.lru_cache(512)
def _weight_plan(g: tuple, x: tuple, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple, groups: int, double: bool,
                 threads: int) -> WeightPlan:
    size, kernel, stride, padding, dilation, out = _simple(x[2:], kernel, stride, padding, dilation, g[2:])
    return WeightPlan(x[0], groups, x[1] // groups, g[1] // groups, size, kernel, stride, padding, dilation, out, double, threads)
