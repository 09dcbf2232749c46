"""How a generated Triton loop runs at given sizes: flavour, tile, warps, splits."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from ..ops.expr import Expr
from ..runtime import device
from ..triton_kernels.layout import cdiv, common_factor, pow2, span
from .loop import LoopKernel
from .triton_analysis import Layout, full_nodes, stages

BLOCK = 1024  # elements of a pointwise tile
TILE = 2048  # elements of a tile that reduces
ROW = 16384  # elements of a row that may stay in registers
ENOUGH = 264  # programs that fill a GPU (two for each of an H100's multiprocessors)
SPLIT_TILES = 8  # tiles of a row from which it may be split
SIMULATED = 32  # the interpreter's time is in the number of programs, not in their size: tiles are so many times larger


@dataclass(frozen=True)
class Geometry:
    """Flavour (see :mod:`fusetorch.codegen.triton_source`), rows and columns of a tile, warps; split: into how many parts of how many
    tiles a row is cut."""

    flavour: str
    bm: int
    bn: int
    num_warps: int = 4
    splits: int = 1
    chunk: int = 1


def choose(kernel: LoopKernel, layout: Layout, sizes: Sequence[int], strides: Sequence[int]) -> Geometry:
    """The geometry of a call. It depends on nothing but the arguments (and whether the GPU is simulated)."""
    rows, columns = (prod(sizes[a] for a in axes) for axes in (layout.rows, layout.columns))
    larger = SIMULATED if device.simulated() else 1
    if not kernel.n_inner:
        return _map(kernel, layout, rows, columns, larger)
    if device.simulated():
        bn = min(pow2(columns), TILE * larger)
        return Geometry("block" if columns <= bn else "loop", min(pow2(rows), max(1, TILE * larger // bn)), bn)
    weight = _weight(kernel)
    bn = pow2(columns)
    if layout.vertical:
        bm = min(pow2(sizes[layout.rows[-1]]), 64)
        if bn <= 64 and bn * bm * weight <= 8 * TILE:
            return Geometry("block", bm, bn)
        bn = max(1, TILE // bm)
    else:
        warps = _row_warps(bn, weight)
        if warps:
            # a thread that keeps much takes fewer rows, or its registers spill
            return Geometry("block", min(pow2(rows), max(1, 2 * TILE // (bn * pow2(max(2, weight))))), bn, warps)
        bm, bn = 1, TILE
    tiles, programs = cdiv(columns, bn), cdiv(rows, bm)
    if programs < ENOUGH and tiles >= SPLIT_TILES:
        splits = min(cdiv(2 * ENOUGH, programs), cdiv(tiles, SPLIT_TILES // 2))
        chunk = cdiv(tiles, splits)
        if cdiv(tiles, chunk) > 1:
            return Geometry("split", bm, bn, 4, cdiv(tiles, chunk), chunk)
    return Geometry("loop", bm, bn, 4) if layout.vertical else Geometry("loop", bm, 2 * bn if weight <= 3 else bn, 8)


def _row_warps(bn: int, weight: int) -> int:
    """Warps of a program that keeps a row of ``bn`` elements in registers; 0 if there are not enough registers."""
    for warps, registers in ((4, 128), (8, 128), (16, 64)):  # for the row, of the 255, 255 and 128 that a thread may have
        if bn <= {4: 2048, 8: 8192, 16: ROW}[warps] and bn * weight <= 32 * warps * registers:
            return warps
    return 0


def _map(kernel: LoopKernel, layout: Layout, rows: int, columns: int, larger: int) -> Geometry:
    block = (BLOCK if len(kernel.inputs) + len(kernel.stores) <= 8 else BLOCK // 2) * larger
    if layout.flat:
        return Geometry("map", 1, block if larger == 1 else min(pow2(columns), block))
    if layout.transposes and larger == 1:
        return Geometry("map", min(pow2(rows), 32), min(pow2(columns), 64 if block == BLOCK else 32))
    bn = min(pow2(columns), block)
    return Geometry("map", min(pow2(rows), block // bn), bn)


def _weight(kernel: LoopKernel) -> int:
    """How many 32-bit registers an element of a row takes, roughly: what waits for a reduction and one to compute with, or half of what
    is read and stored."""
    found = full_nodes(kernel)
    levels = stages(kernel)
    first: dict[Expr, int] = {}  # the stage that computes a node; the stores come last
    last: dict[Expr, int] = {}  # the last stage that reads it
    roots = [(k, e.args[0]) for k, level in enumerate(levels) for e in level]
    roots += [(len(levels), s.value) for s in kernel.stores]
    for k, root in roots:
        stack = [root]
        while stack:
            e = stack.pop()
            if e not in found or e in first:
                continue
            first[e] = k
            stack.extend(e.args)
    for e, k in first.items():
        for a in e.args:
            last[a] = max(last.get(a, 0), k)
    for k, root in roots:
        last[root] = max(last.get(root, 0), k)
    waiting = [sum(max(1, e.dtype.itemsize // 4) for e in first if first[e] <= k < last.get(e, 0)) for k in range(len(levels))]
    moved = sum(e.op == "load" for e in first) + sum(s.full for s in kernel.stores)
    return max(1 + max(waiting), moved // 2)


def factor(kernel: LoopKernel, layout: Layout, sizes: Sequence[int], strides: Sequence[int]) -> int:
    """The number VEC that divides the sizes and strides on which the width of loads depends."""
    if layout.flat:
        return 1
    n = kernel.n_outer + kernel.n_inner
    patterns = [a.pattern for a in kernel.inputs] + [s.access.pattern for s in kernel.stores]
    found = [sizes[a] for a in layout.fast]
    for t, (pattern, wide) in enumerate(zip(patterns, layout.wide)):
        if wide:
            found += [strides[t * n + a] for a in range(n) if pattern[a] == "s"]
    return common_factor(*found)


def is_wide(kernel: LoopKernel, sizes: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether indices need 64 bits."""
    n = kernel.n_outer + kernel.n_inner
    limit = 2**31 - 2**20  # the last tile reaches past the end
    return prod(sizes) >= limit or any(span(sizes, strides[t * n:t * n + n]) >= limit
                                       for t in range(len(kernel.inputs) + len(kernel.stores)))
