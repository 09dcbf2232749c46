"""Matrix products on the CPU: plans of native kernels (:mod:`fusetorch.codegen.llvm_product`), kept by shape.

The right operand is packed in panels, which also transposes it where it is stored the other way; the left one is read where it is. What
runs is one job of two phases on the threads of native loops, so that even products of a tenth of a millisecond gain from a second
thread, which they do not from threads of a BLAS library. Small products, vectors and other dtypes are NumPy's
(:mod:`fusetorch.runtime.blas`). The size of tiles is what an estimate of their cycles says. Results depend on shapes alone, not on the
number of threads.
"""
from __future__ import annotations

import ctypes
import functools
import threading
from math import prod

import numpy as np

from ..runtime import cpu_pool
from ..runtime.cpu_memory import address, empty
from ..shapes import broadcast_shapes
from .llvm_product import FIELDS, Variant, emit
from .vector_functions import function, lane_count, registers

#: Multiply-adds from which two threads are quicker than one.
PARALLEL_FROM = 2_000_000
#: Rows of the sum in one part, and of packed panels in a unit.
_PART, _PACK = 512, 64
#: Rows from which adjacent ones are packed in strips, and bytes that a unit may pack for itself.
_STRIPS, _SCRATCH = 128, 256 << 10
#: Numbers that one unit of a final sum over parts writes.
_ADD = 4096
#: Where in a block the addresses of the left operand and of the result are.
LEFT, RESULT = FIELDS.index("a"), FIELDS.index("out")


def matmul(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """``a @ b`` for float32 or float64 operands of two or more dimensions, none of size 0, plus ``bias`` (columns)."""
    return _plan(a.shape, a.strides, b.shape, b.strides, a.itemsize, bias is not None, cpu_pool.get_num_threads())(a, b, bias)


@functools.lru_cache(1024)
def _plan(a: tuple, a_strides: tuple, b: tuple, b_strides: tuple, item: int, bias: bool, threads: int) -> ProductPlan:
    return ProductPlan(a, a_strides, b, b_strides, item, bias, threads)


class ProductPlan:
    """A product of operands with these shapes and strides (bytes)."""

    def __init__(self, a: tuple, a_strides: tuple, b: tuple, b_strides: tuple, item: int, bias: bool, threads: int) -> None:
        m, k, n = a[-2], a[-1], b[-1]
        double = item == 8
        batch = tuple(broadcast_shapes(a[:-2], b[:-2]))
        self.shape, self.dtype = (*batch, m, n), np.dtype(np.float64 if double else np.float32)
        count = prod(batch)
        left, right = _Layout(a, a_strides, batch, item), _Layout(b, b_strides, batch, item)
        self.left, self.right = left, right
        self.threads = threads if count * m * k * n >= PARALLEL_FROM else 1
        down, across = left.column != 1, right.column == 1
        strips = down and m > _STRIPS
        lanes = lane_count(double)
        r, v = _tile(m, n, k, double, strips)
        wide = v * lanes
        panels, tiles, parts = -(-n // wide), -(-m // r), -(-k // _PART)
        per_part = -(-k // parts)
        strip = (per_part + 1 - per_part % 2) * lanes  # an odd number of vectors, lest strips fall on the same sets of the cache
        # enough groups of tiles to share among threads; with strips, no more in one than stay in the cache
        enough = 1 if self.threads == 1 else (4 if strips else 8) * self.threads
        groups = max(1, min(tiles, -(-enough // (count * parts * (1 if strips else panels)))))
        per_group = -(-tiles // groups)
        if strips:
            per_strip = lanes // r
            per_group = min(-(-per_group // per_strip), max(1, _SCRATCH // (strip * item))) * per_strip
        groups = -(-tiles // per_group)
        own = groups == 1 and not strips and (right.step > 0 or count == 1) and per_part * wide * item <= _SCRATCH
        packs = count if right.step else 1
        self.packed = 0 if own else packs * panels * k * wide
        self.partial = parts * count * m * n if parts > 1 else 0
        masked = n % wide != 0
        blocks = -(-k // _PACK)
        self._fields = _fields(
            m=m, n=n, k=k, a_row=left.row, a_k=left.column, a_n=left.step, b_k=right.row if across else right.column, b_n=right.step,
            packed_n=panels * k * wide if right.step else 0, panels=panels, pack_k=_PACK, pack_blocks=blocks, tiles=tiles, groups=groups,
            per_group=per_group, batches=count, parts=parts, per_part=per_part, size=count * m * n, block=_ADD, strip=strip,
            scratch=per_group * r // lanes * strip if strips else per_part * wide)
        tile = Variant("tiles", double, r, v, across and own, down, strips, own, masked, bias)
        phases = [(function(emit, tile), parts * count * groups * (1 if strips else panels), 1)]
        if not own:
            pack = Variant("pack", double, v=v, across=across, masked=masked)
            phases.insert(0, (function(emit, pack), packs * panels * blocks, max(1, 16384 // (_PACK * wide))))
        if parts > 1:
            phases.append((function(emit, Variant("add_parts", double)), -(-count * m * n // _ADD), 1))
        self._record = cpu_pool.record(0, self.threads, phases)[1:]
        self._lock = threading.Lock()
        self._block, self._base = self._new_block()

    def _new_block(self) -> tuple[ctypes.Array, int]:
        n = len(FIELDS)
        block = (ctypes.c_int64 * (n + 1 + len(self._record)))(*self._fields, 0, *self._record)
        base = block[n] = ctypes.addressof(block)
        return block, base

    def __call__(self, a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        a, b = self.left.ready(a), self.right.ready(b)
        out, packed = empty(self.shape, self.dtype), empty((self.packed,), self.dtype)
        partial = empty((self.partial,), self.dtype) if self.partial else None
        if bias is not None:
            bias = np.ascontiguousarray(bias)
        pointers = (address(a), address(b), address(out if partial is None else partial), 0 if bias is None else address(bias),
                    address(packed), address(out))
        if not self._lock.acquire(False):  # another thread is inside: a block of our own
            block, base = self._new_block()
            block[:6] = pointers
            cpu_pool.run(base + 8 * len(FIELDS), self.threads)
            return out
        try:
            self._block[:6] = pointers
            cpu_pool.run(self._base + 8 * len(FIELDS), self.threads)
        finally:
            self._lock.release()
        return out


class PackedOperand:
    """The right operand ``b`` (k, n) of many products with ``m`` rows, packed once, for native code that computes one after another.

    ``function(block, 0, units)`` computes one; before it is called, the addresses of the left operand, whose rows are ``row`` elements
    apart, and of the result go to :data:`LEFT` and :data:`RESULT` of the block.
    """

    def __init__(self, b: np.ndarray, m: int, row: int) -> None:
        (k, n), double = b.shape, b.itemsize == 8
        right = _Layout(b.shape, b.strides, (), b.itemsize)
        b, across = right.ready(b), right.column == 1
        r, v = _tile(m, n, k, double, False)
        wide = v * lane_count(double)
        self.units, tiles, masked = -(-n // wide), -(-m // r), n % wide != 0
        self.packed = empty((self.units * k * wide,), b.dtype)
        self.function = function(emit, Variant("tiles", double, r, v, masked=masked))
        self._fields = _fields(b=address(b), packed=address(self.packed), m=m, n=n, k=k, a_row=row, a_k=1, panels=self.units, pack_k=k,
                               b_k=right.row if across else right.column, pack_blocks=1, tiles=tiles, groups=1, per_group=tiles, batches=1,
                               parts=1, per_part=k)
        _block, at = self.block()
        job = (ctypes.c_int64 * 7)(*cpu_pool.record(at, 1, [
            (function(emit, Variant("pack", double, v=v, across=across, masked=masked)), self.units, 1)]))
        cpu_pool.run(ctypes.addressof(job), 1)

    def block(self) -> tuple[ctypes.Array, int]:
        """A new argument block and its address. What it points to lives as long as this object."""
        block = (ctypes.c_int64 * len(FIELDS))(*self._fields)
        return block, ctypes.addressof(block)


def _fields(**values: int) -> list[int]:
    return [values.get(f, 0) for f in FIELDS]


class _Layout:
    """How an operand is read: steps (elements) along its rows, its columns and the batch; the shape that is copied first, if any."""

    def __init__(self, shape: tuple, strides: tuple, batch: tuple, item: int) -> None:
        missing = len(batch) + 2 - len(shape)
        rows, columns = (0 if n == 1 else s for n, s in zip(shape[-2:], strides[-2:]))
        step = _one_step(batch, (0,) * missing + tuple(0 if n == 1 else s for n, s in zip(shape[:-2], strides)))
        if shape[-1] == 1 or (shape[-2] == 1 and columns != item):
            rows, columns = (rows, item) if shape[-1] == 1 else (item, columns)
        self.copied: tuple | None = None
        if step is None or item not in (rows, columns) or any(s % item or s < 0 for s in (rows, columns, step)):
            whole = prod(shape[:-2]) > 1
            self.copied = (*batch, *shape[-2:]) if whole else shape
            rows, columns, step = shape[-1] * item, item, prod(shape[-2:]) * item if whole else 0
        self.row, self.column, self.step = rows // item, columns // item, step // item

    def ready(self, x: np.ndarray) -> np.ndarray:
        return x if self.copied is None else np.ascontiguousarray(np.broadcast_to(x, self.copied))


def _one_step(sizes: tuple, strides: tuple) -> int | None:
    """The step from one position of a batch to the next, in row-major order, where there is one."""
    found, count = 0, 1
    for n, s in zip(reversed(sizes), reversed(strides)):
        if n == 1:
            continue
        if count == 1:
            found = s
        elif s != found * count:
            return None
        count *= n
    return found


def _tile(m: int, n: int, k: int, double: bool, strips: bool) -> tuple[int, int]:
    """(rows R, vectors V) of the tile with the fewest cycles for each step of the sum. Of strips, R rows are an even part."""
    best, width = (float("inf"), 1, 1), lane_count(double)
    for v in range(1, 7):
        panel = v * width * (8 if double else 4)
        fetch = panel / 24 if panel * k > 32768 else 0  # from the second cache
        for r in range(1, min(m, 14, (registers() - v) // v) + 1):
            if strips and width % r:
                continue
            # two sums or two loads a cycle; a sum takes four; rows beyond nine have no registers for their addresses
            step = max(r * v / 2, (r + v) / 2, 4, fetch) + max(0, r - 9) / 2
            best = min(best, ((step + 0.5) * -(-m // r) * -(-n // (v * width)), r, v))
    return best[1:]
