"""Native loops: a :class:`LoopKernel` compiled for this CPU, and called."""
from __future__ import annotations

import ctypes
import hashlib
import struct
import threading
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import numpy as np

from .. import config
from ..errors import CompileError
from ..runtime import cpu_jit, cpu_pool
from ..runtime.cpu_memory import address
from . import llvm
from .loop import LoopKernel

#: A map's block of elements, where a row is cut for several threads.
_MAP_BLOCK = 16384
#: A vector loop shorter than this is masked.
_SHORT = 64
#: Fewer outer positions than this, over at least so many inner ones, are reduced block by block.
_FEW, _LONG = 32, 32768


class NativeLoop:
    """A kernel, compiled in the flavours its calls need (see :mod:`fusetorch.codegen.llvm`).

    Calling it takes ``buffers`` (arrays: inputs, then outputs; their first element is logical index 0), ``sizes`` (outer, inner),
    ``strides`` in elements (every axis of every input, output and iota) and ``scalars``.
    """

    def __init__(self, kernel: LoopKernel) -> None:
        self.kernel = kernel
        self.compiled: dict[str, list[tuple[str, int, Any]]] = {}
        self._bound: dict[tuple, BoundLoop] = {}

    def __call__(self, buffers: Sequence[np.ndarray], sizes: Sequence[int], strides: Sequence[int],
                 scalars: Sequence[Any] = ()) -> None:
        key = (tuple(sizes), tuple(strides))
        bound = self._bound.get(key)
        if bound is None:
            if len(self._bound) > 64:
                self._bound.clear()
            bound = self._bound[key] = self.bind(*key)
        bound([address(b) for b in buffers], scalars)

    def bind(self, sizes: Sequence[int], strides: Sequence[int], threads: int | None = None) -> BoundLoop:
        """The loop at fixed sizes and strides; ``threads`` fixes the number of threads, too."""
        return BoundLoop(self, tuple(sizes), tuple(strides), threads)

    def flavour(self, sizes: Sequence[int]) -> str:
        """How a call with these sizes runs. It depends on the sizes alone, so bits do not depend on threads."""
        k = self.kernel
        if not k.n_inner:
            return "map!" if k.n_outer > 1 and sizes[-1] < _SHORT else "map"
        if prod(sizes[:k.n_outer]) < _FEW and prod(sizes[k.n_outer:]) >= _LONG:
            return "split"
        return "rows!" if sizes[-1] < _SHORT else "rows"

    def functions(self, flavour: str) -> list[tuple[str, int, Any]]:
        """``(name, address, ctypes function)`` in the order they run; compiled at first use."""
        found = self.compiled.get(flavour)
        if found is None:
            _compile([(self, flavour)])
            found = self.compiled[flavour]
        return found


class BoundLoop:
    """A native loop at fixed sizes and strides: ``bound(pointers, scalars)`` runs it. Safe for concurrent callers."""

    __slots__ = ("loop", "sizes", "phases", "_pack", "_block", "_base", "_lock", "_keep", "_plain", "_n", "_tail")

    def __init__(self, loop: NativeLoop, sizes: tuple[int, ...], strides: tuple[int, ...], threads: int | None) -> None:
        k = loop.kernel
        n_axes = k.n_outer + k.n_inner
        if len(sizes) != n_axes or len(strides) != k.n_strides:
            raise ValueError(f"a kernel of {n_axes} axes and {k.n_strides} strides was given {len(sizes)} sizes and "
                             f"{len(strides)} strides")
        self.loop, self.sizes = loop, sizes
        flavour = loop.flavour(sizes)
        n_out, n_in = prod(sizes[:k.n_outer]), prod(sizes[k.n_outer:])
        threads = cpu_pool.get_num_threads() if threads is None else threads
        if n_out * n_in < config.parallel_threshold:
            threads = 1
        block, blocks, units, steps = sizes[-1], 1, 1, 1
        grain = 1
        work: list[int] = []
        names = loop.functions(flavour)
        self._keep = None
        partials = results = 0
        if flavour.startswith("map"):
            if threads > 1 and sizes[-1] > _MAP_BLOCK:
                block = _MAP_BLOCK
                blocks = -(-sizes[-1] // block)
            n = prod(sizes[:-1]) * blocks if sizes[-1] else 0
            grain = max(1, 8192 // max(1, block))
            work = [n]
        else:
            block = min(sizes[-1], llvm.REDUCE_BLOCK)
            blocks = -(-sizes[-1] // block) if block else 0
            n_steps = prod(sizes[k.n_outer:-1]) * blocks
            if flavour.startswith("rows"):
                grain = max(1, 8192 // max(1, n_in))
                work = [n_out]
            else:
                steps = max(1, llvm.REDUCE_BLOCK // block)
                units = -(-n_steps // steps)
                reduces = llvm.analyse(k).reduces
                partials = n_out * units * max(map(len, reduces), default=0)
                results = n_out * sum(map(len, reduces))
                work = [n_out * units if name.rsplit("_", 1)[1][0] == "s" else -n_out for name, _, _ in names]
        self.phases = [(fn, at, abs(n), threads if n > 0 else 1, grain) for (_, at, fn), n in zip(names, work)]
        n_ptr = len(k.inputs) + len(k.stores)
        self._n = n_ptr
        self._pack = struct.Struct(f"{n_ptr}P" + "".join("d" if d.category == 2 else "q" for d in k.scalars)).pack_into
        self._tail = (*sizes, *strides, block, blocks, units, steps)
        head = n_ptr + len(k.scalars)
        self._block, self._base, self._keep = self._make_block(head, partials, results)
        self._lock = threading.Lock()

    def _make_block(self, head: int, partials: int, results: int) -> tuple[Any, int, Any]:
        block = (ctypes.c_int64 * (head + len(self._tail) + 2))()
        scratch = (ctypes.c_int64 * (partials + results))() if partials + results else None
        at = ctypes.addressof(scratch) if scratch is not None else 0
        block[head:] = [*self._tail, at, at + 8 * partials]
        return block, ctypes.addressof(block), (head, partials, results, scratch)

    def __call__(self, pointers: Sequence[int], scalars: Sequence[Any] = ()) -> None:
        mine = self._lock.acquire(False)
        if mine:
            block, base = self._block, self._base
        else:  # another thread is inside: a block of our own
            block, base, keep = self._make_block(*self._keep[:3])
        try:
            self._pack(block, 0, *pointers, *scalars)
            for fn, at, n, threads, grain in self.phases:
                if threads == 1:
                    fn(base, 0, n)
                else:
                    cpu_pool.run(fn, at, base, n, threads, grain)
        finally:
            if mine:
                self._lock.release()


_loops: dict[str, NativeLoop] = {}
_lock = threading.RLock()


def native_loop(kernel: LoopKernel) -> NativeLoop:
    """The native loop of ``kernel``: one a process for each ``kernel.key``."""
    found = _loops.get(kernel.key)
    if found is None:
        with _lock:
            found = _loops.setdefault(kernel.key, NativeLoop(kernel))
    return found


def native_loops(kernels: Iterable[LoopKernel], sizes: Iterable[Sequence[int]] | None = None) -> list[NativeLoop]:
    """Native loops of several kernels, compiled together, which is faster than one by one.

    ``sizes`` (one per kernel) tells which flavours their calls will need; without them the usual ones are compiled.
    """
    loops = [native_loop(k) for k in kernels]
    if sizes is None:
        flavours = ["rows" if x.kernel.n_inner else "map" for x in loops]
    else:
        flavours = [x.flavour(s) for x, s in zip(loops, sizes)]
    _compile(list(zip(loops, flavours)))
    return loops


def _compile(wanted: list[tuple[NativeLoop, str]]) -> None:
    with _lock:
        todo = {(x.kernel.key, f): x for x, f in wanted if f not in x.compiled}
        if not todo:
            return
        jobs = [(x.kernel, "k" + hashlib.sha256(f"{key}|{f}".encode()).hexdigest()[:16] + "_0", f)
                for (key, f), x in todo.items()]
        ir, names = llvm.emit(jobs, cpu_jit.vector_bits())
        try:
            code = cpu_jit.compile_ir(ir, [n for own in names for n in own])
        except RuntimeError as error:
            raise CompileError(f"LLVM refused the code of {[k.key for k, _, _ in jobs]}: {error}") from error
        for ((_, f), x), own in zip(todo.items(), names):
            x.compiled[f] = [(n, code[n], cpu_pool.LOOP(code[n])) for n in own]
