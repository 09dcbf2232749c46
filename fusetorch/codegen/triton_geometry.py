"""How a generated Triton loop runs at given sizes: flavour, tile, warps, splits."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from ..ops.expr import walk
from ..runtime import device
from ..triton_kernels.layout import cdiv, common_factor, pow2, span
from .loop import LoopKernel
from .triton_source import Layout, full_nodes

BLOCK = 1024  # elements of a pointwise tile
TILE = 2048  # elements of a tile that reduces
ROW = 16384  # elements of a row that stays in registers, with one or two values per element
LIVE = 65536 * 4  # bytes of registers
ENOUGH = 264  # programs that fill a GPU (two for each of an H100's multiprocessors)
SPLIT_TILES = 8  # tiles from which a row may be split
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
    if layout.vertical:
        last = sizes[layout.rows[-1]]
        bm = min(pow2(last), 64)
        if columns <= min(64, ROW // weight // bm):
            return Geometry("block", bm, pow2(columns))
        bn = max(1, TILE // bm)
    else:
        limit = max(ROW * 2 // max(2, weight), 2048)
        if columns <= limit:
            bn = pow2(columns)
            # a thread that keeps many operands takes fewer rows, or its registers spill
            share = max(1, (weight + sum(s.full for s in kernel.stores)) // 2)
            return Geometry("block", min(pow2(rows), max(1, TILE // (bn * pow2(share)))), bn, 4 if bn <= 2048 else 8 if bn <= 8192 else 16)
        bm, bn = 1, TILE
    tiles, programs = cdiv(columns, bn), cdiv(rows, bm)
    if programs < ENOUGH and tiles >= SPLIT_TILES:
        splits = min(cdiv(2 * ENOUGH, programs), cdiv(tiles, SPLIT_TILES // 2))
        chunk = cdiv(tiles, splits)
        if cdiv(tiles, chunk) > 1:
            return Geometry("split", bm, bn, 4, cdiv(tiles, chunk), chunk)
    return Geometry("loop", bm, bn, 4) if layout.vertical else Geometry("loop", bm, 2 * bn, 8)


def _map(kernel: LoopKernel, layout: Layout, rows: int, columns: int, larger: int) -> Geometry:
    block = (BLOCK if len(kernel.inputs) + len(kernel.stores) <= 8 else BLOCK // 2) * larger
    if layout.flat:
        return Geometry("map", 1, block if larger == 1 else min(pow2(columns), block))
    if layout.transposes and larger == 1:
        return Geometry("map", min(pow2(rows), 32), min(pow2(columns), 64 if block == BLOCK else 32))
    bn = min(pow2(columns), block)
    return Geometry("map", min(pow2(rows), block // bn), bn)


def _weight(kernel: LoopKernel) -> int:
    """Registers that a row's element takes at the same time, roughly: what is read full and what is kept between stages."""
    found = full_nodes(kernel)
    read = [e for e in walk(s.value for s in kernel.stores) if e.op == "load" and e in found]
    wide = 2 if any(e.dtype.itemsize == 8 for e in found) else 1
    return wide * max(1, len(read))


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
