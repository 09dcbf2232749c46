"""Native loops: a :class:`LoopKernel` compiled for this CPU, and called."""
from __future__ import annotations

import ctypes
import hashlib
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from .. import config
from ..errors import CompileError
from ..runtime import cpu_jit, cpu_pool
from ..runtime.cpu_call import launcher
from ..runtime.cpu_memory import address
from . import llvm, llvm_columns
from .llvm_analysis import analyse, prefers_columns, tiled_axis
from .loop import LoopKernel

#: A map's block of elements, where a row is cut for several threads.
_MAP_BLOCK = 16384
#: Fewer outer positions than this, over at least so many inner ones, are reduced block by block.
_FEW, _LONG = 32, 32768
#: Fewer columns than this are not worth vectors of columns.
_NARROW = 8
#: Units that keep any number of threads busy.
_MANY = 64


class NativeLoop:
    """A kernel, compiled in the flavours its calls need (see :mod:`fusetorch.codegen.llvm`).

    Calling it takes ``buffers`` (arrays: inputs, then outputs; their first element is logical index 0), ``sizes`` (outer, inner),
    ``strides`` in elements (every axis of every input, output and iota) and ``scalars``.

    An output may be the same memory as an input, with the same strides, if the kernel has no reduction; otherwise outputs must
    not overlap inputs or each other.
    """

    def __init__(self, kernel: LoopKernel) -> None:
        self.kernel = kernel
        self.columns, self.tiled = prefers_columns(kernel), tiled_axis(kernel)
        reduces = analyse(kernel).reduces
        self.most_reduces, self.n_reduces = max(map(len, reduces), default=0), sum(map(len, reduces))
        self.passes = len(reduces) + any(s.full for s in kernel.stores)
        self.compiled: dict[str, list[tuple[str, int]]] = {}
        self._bound: dict[tuple, BoundLoop] = {}

    def __call__(self, buffers: Sequence[np.ndarray], sizes: Sequence[int], strides: Sequence[int],
                 scalars: Sequence[Any] = ()) -> None:
        key = (tuple(sizes), tuple(strides), cpu_pool.get_num_threads())
        bound = self._bound.get(key)
        if bound is None:
            if len(self._bound) >= 1024:
                del self._bound[next(iter(self._bound))]
            bound = self._bound[key] = self.bind(*key)
        bound([address(b) for b in buffers], scalars)

    def bind(self, sizes: Sequence[int], strides: Sequence[int], threads: int | None = None) -> BoundLoop:
        """The loop at fixed sizes and strides, to run on ``threads`` threads (by default, as many as are allowed; small loops use
        one). Results do not depend on the number of threads."""
        k = self.kernel
        n_axes = k.n_outer + k.n_inner
        if len(sizes) != n_axes or len(strides) != k.n_strides:
            raise ValueError(f"a kernel of {n_axes} axes and {k.n_strides} strides was given {len(sizes)} sizes and "
                             f"{len(strides)} strides")
        return BoundLoop(self, tuple(sizes), tuple(strides), threads)

    def launcher(self, sizes: Sequence[int], strides: Sequence[int]) -> Callable[..., None] | None:
        """The loop at fixed sizes and strides as a built-in function of its arrays and scalars, for loops that end soon: it runs on the
        calling thread and holds the interpreter lock. ``None`` where there is none; see :mod:`fusetorch.runtime.cpu_call`."""
        k = self.kernel
        block, at, scratch = self.bind(sizes, strides, 1)._new_block()
        return launcher(block, at, len(k.inputs) + len(k.stores), [d.category == 2 for d in k.scalars], scratch)

    def flat_launcher(self) -> Callable[..., None] | None:
        """The same for a map over one axis along which all operands are contiguous, of any size: the size comes last, twice."""
        k = self.kernel
        block, at, scratch = self.bind((1,), (1,) * k.n_strides, 1)._new_block()
        pointers = len(k.inputs) + len(k.stores)
        size = pointers + len(k.scalars)  # and the elements of the only block, first of what follows the strides
        return launcher(block, at, pointers, [d.category == 2 for d in k.scalars], scratch, (size, size + 1 + k.n_strides))

    def flavour(self, sizes: Sequence[int]) -> str:
        """How a call with these sizes runs. It depends on the sizes alone, so bits do not depend on threads."""
        k = self.kernel
        if not k.n_inner:
            return "map" if self.tiled is None or prod(sizes) < _LONG else "tiles"
        outer, inner = prod(sizes[:k.n_outer]), prod(sizes[k.n_outer:])
        if self.columns and sizes[k.n_outer - 1] >= _NARROW:
            few = prod(sizes[:k.n_outer - 1]) * -(-sizes[k.n_outer - 1] // 128) < _MANY // 4
            return "column_split" if few and inner >= 2 * llvm_columns.ROW_BLOCK and outer * inner >= _LONG else "columns"
        return "split" if outer < _FEW and inner >= _LONG else "rows"

    def functions(self, flavour: str) -> list[tuple[str, int]]:
        """``(name, address)`` of the functions in the order they run; compiled at first use."""
        found = self.compiled.get(flavour)
        if found is None:
            with _lock:
                found = self.compiled.get(flavour) or self.compiled.setdefault(flavour, _compile(self.kernel, flavour))
        return found


class BoundLoop:
    """A native loop at fixed sizes and strides: ``bound(pointers, scalars)`` runs it, with the addresses of the first elements of
    inputs, then outputs. Safe for concurrent callers."""

    __slots__ = ("loop", "sizes", "threads", "_pack", "_make", "_block", "_at", "_keep", "_lock")

    def __init__(self, loop: NativeLoop, sizes: tuple[int, ...], strides: tuple[int, ...], threads: int | None) -> None:
        k = loop.kernel
        self.loop, self.sizes = loop, sizes
        n_out, n_in = prod(sizes[:k.n_outer]), prod(sizes[k.n_outer:])
        if threads is None:
            threads = cpu_pool.get_num_threads() if n_out * n_in >= config.parallel_threshold else 1
        self.threads = threads
        flavour = loop.flavour(sizes)
        extras, units, grain, partials, results = _divide(loop, flavour, sizes, n_out, n_in, threads)
        phases = [(at, units[name[-1]], grain if name[-1] == "u" else units[name[-1]]) for name, at in loop.functions(flavour)]
        n_pointers = len(k.inputs) + len(k.stores)
        self._pack = struct.Struct(f"{n_pointers}P" + "".join("d" if d.category == 2 else "q" for d in k.scalars)).pack_into
        self._make = (n_pointers + len(k.scalars), (*sizes, *strides, *extras), phases, partials, results)
        self._block, self._at, self._keep = self._new_block()
        self._lock = threading.Lock()

    def _new_block(self) -> tuple[Any, int, Any]:
        """An argument block with its job record behind it: ``(block, address of the record, memory to keep)``."""
        head, tail, phases, partials, results = self._make
        scratch = np.empty(partials + results, np.int64)
        at = address(scratch)
        tail = [*tail, at, at + 8 * partials]
        block = (ctypes.c_int64 * (head + len(tail) + 3 + 4 * len(phases)))()
        base = ctypes.addressof(block)
        block[head:] = tail + cpu_pool.record(base, self.threads, phases)
        return block, base + 8 * (head + len(tail)), scratch

    def block(self) -> tuple[int, int, int, Any]:
        """For callers in native code: ``(function, address of an argument block, units, memory to keep)``; the block starts with the
        pointers, which the caller writes. Only for loops of one function and no scalars."""
        ((fn, units, _),) = self._make[2]
        block, _, scratch = self._new_block()
        return fn, ctypes.addressof(block), units, (block, scratch)

    def __call__(self, pointers: Sequence[int], scalars: Sequence[Any] = ()) -> None:
        if not self._lock.acquire(False):  # another thread is inside: a block of our own
            block, at, keep = self._new_block()
            self._pack(block, 0, *pointers, *scalars)
            cpu_pool.run(at, self.threads)
            del keep
            return
        try:
            self._pack(self._block, 0, *pointers, *scalars)
            cpu_pool.run(self._at, self.threads)
        finally:
            self._lock.release()


def _divide(loop: NativeLoop, flavour: str, sizes: tuple[int, ...], n_out: int, n_in: int,
            threads: int) -> tuple[tuple[int, ...], dict[str, int], int, int, int]:
    """How work is cut: ``((block, blocks, units, per_unit), units by kind of function, grain, partial slots, result slots)``."""
    k, last = loop.kernel, sizes[-1]
    if flavour == "map":
        block = min(last, _MAP_BLOCK) if threads > 1 else last
        blocks = -(-last // block) if last else 0
        return (block, blocks, 1, 1), {"u": prod(sizes[:-1]) * blocks}, max(1, 8192 // max(1, block)), 0, 0
    if flavour == "tiles":
        blocks, units = -(-last // llvm.TILE), -(-sizes[loop.tiled] // llvm.TILE)
        rest = prod(n for x, n in enumerate(sizes[:-1]) if x != loop.tiled)
        return (llvm.TILE, blocks, units, 1), {"u": rest * units * blocks}, 1, 0, 0
    if flavour in ("rows", "split"):
        block = min(last, llvm.REDUCE_BLOCK)
        blocks = -(-last // block) if last else 0
        if flavour == "rows":
            return (block, blocks, 1, 1), {"u": n_out}, max(1, 8192 // max(1, n_in)), 0, 0
        per_unit = max(1, llvm.REDUCE_BLOCK // block)
        units = -(-prod(sizes[k.n_outer:-1]) * blocks // per_unit)
        return (block, blocks, units, per_unit), {"u": n_out * units, "o": n_out}, 1, n_out * units * loop.most_reduces, (
            n_out * loop.n_reduces)
    columns, rows = sizes[k.n_outer - 1], prod(sizes[:k.n_outer - 1])
    if loop.passes > 1:  # a block of columns should stay in the cache from one pass to the next
        block = min(llvm_columns.LANES, max(64, 65536 // max(1, n_in) // 64 * 64))
    else:
        block = llvm_columns.LANES if rows * columns >= _MANY * llvm_columns.LANES or flavour != "columns" else 128
    block = max(1, min(block, columns))
    blocks = -(-columns // block)
    n = rows * blocks
    grain = max(1, 8192 // max(1, n_in * block))
    if flavour == "columns":
        return (block, blocks, 1, 1), {"u": n}, grain, 0, 0
    units = max(1, min(n_in // llvm_columns.ROW_BLOCK, -(-_MANY // max(1, n))))
    per_unit = -(-n_in // units)
    units = -(-n_in // per_unit)
    return (block, blocks, units, per_unit), {"u": n * units, "c": n}, 1, n_out * units * loop.most_reduces, n_out * loop.n_reduces


_loops: dict[str, NativeLoop] = {}
_lock = threading.RLock()


def native_loop(kernel: LoopKernel) -> NativeLoop:
    """The native loop of ``kernel``: one a process for each ``kernel.key``. It is compiled when first bound or called."""
    found = _loops.get(kernel.key)
    if found is None:
        with _lock:
            found = _loops.setdefault(kernel.key, NativeLoop(kernel))
    return found


def native_loops(kernels: Iterable[LoopKernel], sizes: Iterable[Sequence[int]] | None = None) -> list[NativeLoop]:
    """Native loops of several kernels, compiled now rather than when they are first called.

    ``sizes`` (one per kernel) tells which flavours their calls will need; without them the usual ones are compiled. Each kernel
    is its own entry of the disk cache: LLVM takes as long for one module of many kernels as for many modules.
    """
    loops = [native_loop(k) for k in kernels]
    if sizes is None:
        flavours = ["map" if not x.kernel.n_inner else "columns" if x.columns else "rows" for x in loops]
    else:
        flavours = [x.flavour(s) for x, s in zip(loops, sizes)]
    for x, f in zip(loops, flavours):
        x.functions(f)
    return loops


def _compile(kernel: LoopKernel, flavour: str) -> list[tuple[str, int]]:
    name = "k" + hashlib.sha256(f"{kernel.key}|{flavour}".encode()).hexdigest()[:16]
    ir, names = llvm.emit(kernel, name, flavour, cpu_jit.vector_bits(), cpu_jit.has_halves())
    if config.debug >= 3:
        print(f"; {kernel.key} as {flavour}\n{ir}", file=sys.stderr)
    if config.dump_dir:
        Path(config.dump_dir).mkdir(parents=True, exist_ok=True)
        (Path(config.dump_dir) / f"{name}.ll").write_text(f"; {kernel.key} as {flavour}\n{ir}")
    try:
        code = cpu_jit.compile_ir(ir, names)
    except RuntimeError as error:
        raise CompileError(f"LLVM refused the native loop of {kernel.key}: {error}") from error
    return [(n, code[n]) for n in names]
