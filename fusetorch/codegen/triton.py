"""Generated Triton loops: a :class:`LoopKernel` compiled for the GPU, and launched.

How a call runs (:class:`Geometry`) follows from its sizes and strides alone, so results do not vary between runs. Floating-point
contraction is always off: a fused loop gives the bits of the same operations run one by one.
"""
from __future__ import annotations

import contextlib
import linecache
import os
import tempfile
import threading
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

from .. import config
from ..dtypes import dtype
from ..runtime import device as _device
from ..runtime import launch as _launch
from ..runtime.launch import Kernel
from ..runtime.memory import DeviceArray, empty
from ..runtime.triton_compile import CompiledKernel
from ..triton_kernels.layout import cdiv, pow2
from .loop import LoopCall, LoopKernel
from .triton_analysis import Layout
from .triton_geometry import Geometry, choose, factor, is_wide
from .triton_source import Module, Param, write

__all__ = ["TritonLoop", "BoundLoop", "Geometry", "triton_loop"]


class TritonLoop:
    """A generated kernel, written in the flavours its calls need.

    Calling it takes ``buffers`` (device arrays or addresses: inputs, then outputs; the address is that of logical index 0), ``sizes``
    (outer, inner), ``strides`` in elements (every axis of every input, output and iota) and ``scalars``. To repeat a call, keep what
    :meth:`bind` returns. Raises ``CompileError`` and what a launch raises.
    """

    def __init__(self, kernel: LoopKernel) -> None:
        self.kernel = kernel
        self.layout = Layout(kernel)
        self._modules: dict[str, tuple[Module, list[Kernel]]] = {}
        self._bound: dict[tuple, BoundLoop] = {}
        self._lock = threading.Lock()

    def __call__(self, buffers: Sequence[DeviceArray | int], sizes: Sequence[int], strides: Sequence[int],
                 scalars: Sequence[Any] = ()) -> None:
        key = (config.simulate_cuda, tuple(sizes), tuple(strides))
        bound = self._bound.get(key)
        if bound is None:
            if len(self._bound) > 64:
                self._bound.clear()
            bound = self._bound[key] = self.bind(sizes, strides)
        bound(buffers, scalars)

    def bind(self, sizes: Sequence[int], strides: Sequence[int], geometry: Geometry | None = None) -> BoundLoop:
        """The loop at fixed sizes and strides; ``geometry`` overrides the choice of how it runs."""
        return BoundLoop(self, tuple(sizes), tuple(strides), geometry)

    @property
    def source(self) -> str:
        """The source, in the flavour for rows of ordinary length."""
        return self.module("block" if self.kernel.n_inner else "map")[0].text

    def module(self, flavour: str) -> tuple[Module, list[Kernel]]:
        """The generated module of a flavour and its kernels, ready to launch."""
        found = self._modules.get(flavour)
        if found is None:
            with self._lock:
                found = self._modules.get(flavour)
                if found is None:
                    module = write(self.kernel, flavour)
                    scope = _load(module)
                    kernels = [Kernel(scope[x.name], fp_fusion=False) for x in module.launches]
                    found = self._modules[flavour] = module, kernels
        return found

    def compile(self, call: LoopCall, capability: int, aligned: bool = True) -> tuple[CompiledKernel, ...]:
        """The compiled kernels, one per launch, that ``call`` would run on ``sm_<capability>``; needs no GPU. ``aligned``: all
        buffers start at multiples of 16 bytes."""
        with config.override(simulate_cuda=False):
            return self.bind(call.sizes, call.strides).compile(capability, aligned)


class BoundLoop:
    """A loop at fixed sizes and strides: ``bound(buffers, scalars)`` runs it.

    ``buffers`` are device arrays, or addresses on the current device. Safe for concurrent callers. ``geometry`` says how it runs,
    ``launches`` how many kernels that takes, ``source`` is their source.
    """

    __slots__ = ("loop", "geometry", "source", "launches", "_steps", "_pointers")

    def __init__(self, loop: TritonLoop, sizes: tuple[int, ...], strides: tuple[int, ...], geometry: Geometry | None) -> None:
        k, layout = loop.kernel, loop.layout
        n_axes = k.n_outer + k.n_inner
        if len(sizes) != n_axes or len(strides) != k.n_strides:
            raise ValueError(f"a kernel of {n_axes} axes and {k.n_strides} strides was given {len(sizes)} sizes and "
                             f"{len(strides)} strides")
        self.loop = loop
        g = self.geometry = geometry or choose(k, layout, sizes, strides)
        module, kernels = loop.module(g.flavour)
        self.source = module.text
        rows, columns = (prod(sizes[a] for a in axes) for axes in (layout.rows, layout.columns))
        if columns > {"block": g.bn, "split": g.bn * g.chunk * g.splits}.get(g.flavour, columns):
            raise ValueError(f"{g} does not cover rows of {columns} elements")
        vec = factor(k, layout, sizes, strides)
        constants = {"INDEX": _index_type(is_wide(k, sizes, strides)), "VEC": vec, "BM": g.bm, "BN": g.bn,
                     "EVEN": columns == g.bn, "BS": min(pow2(g.splits), max(1, 4096 // g.bm))}
        fixed = {"splits": (g.splits,), "chunk": (g.chunk,), "size": sizes, "stride": strides}

        def argument(p: Param) -> str:
            if p.kind in fixed:
                return str(fixed[p.kind][p.index] // (vec if p.divided else 1))
            return {"in": f"p[{p.index}]", "out": f"p[{len(k.inputs) + p.index}]", "part": f"q[{p.index}]",
                    "scalar": f"s[{p.index}]"}[p.kind]

        self._pointers = [a.dtype for a in k.inputs] + [s.access.dtype for s in k.stores]
        parts = [d for launch in module.launches for d in launch.parts]
        self._steps = []
        for launch, kernel in zip(module.launches, kernels):
            if g.flavour == "map":
                grid = (cdiv(rows, g.bm) * cdiv(columns, g.bn),)
            else:
                grid = (cdiv(rows, g.bm), g.splits if g.flavour == "split" and launch.shares_rows else 1)
            types = [{"in": k.inputs, "out": [s.access for s in k.stores]}[p.kind][p.index].dtype if p.kind in ("in", "out")
                     else parts[p.index] if p.kind == "part" else None for p in launch.params]
            self._steps.append(_Step(kernel, grid, {n: constants[n] for n in launch.constexprs}, g.num_warps, types,
                                     [argument(p) for p in launch.params], [(d, rows * g.splits) for d in launch.parts]))
        self.launches = len(self._steps)

    def __call__(self, buffers: Sequence[DeviceArray | int], scalars: Sequence[Any] = ()) -> None:
        at = None
        if buffers and type(buffers[0]) is not int:
            at = buffers[0].storage.device_index
            buffers = [b.ptr for b in buffers]
        if self.launches == 1:
            self._steps[0].run(buffers, (), scalars, at)
            return
        at = _device.current_device() if at is None else at
        parts: list[DeviceArray] = []  # memory freed at the end is only handed out again to work queued behind this
        for step in self._steps:
            parts += [empty((n,), d, at) for d, n in step.parts]
            step.run(buffers, [x.ptr for x in parts], scalars, at)

    def compile(self, capability: int, aligned: bool = True) -> tuple[CompiledKernel, ...]:
        """The compiled kernels, one per launch; needs no GPU."""
        pointers, zeros = [256 if aligned else 4] * len(self._pointers), [0] * len(self.loop.kernel.scalars)
        return tuple(step.compile(pointers, [256] * 64, zeros, capability) for step in self._steps)


class _Place:
    """Stands for the storage of an address."""

    __slots__ = ("device_index", "simulated")

    def __init__(self, device_index: int) -> None:
        self.device_index = device_index
        self.simulated = config.simulate_cuda


def _pointer(ptr: int, d: dtype, place: _Place) -> DeviceArray:
    """An array of which address, dtype and device are known, which is all that a launch looks at."""
    out = object.__new__(DeviceArray)
    out.ptr, out.dtype, out.storage = ptr, d, place
    return out


class _Step:
    """One launch of a bound loop. ``types`` tells the pointers among its arguments; ``parts`` are the buffers it needs made."""

    __slots__ = ("kernel", "grid", "constants", "num_warps", "types", "parts", "values", "_aligned", "_ready", "_driver")

    def __init__(self, kernel: Kernel, grid: tuple[int, ...], constants: dict[str, Any], num_warps: int,
                 types: list[dtype | None], arguments: list[str], parts: list[tuple[dtype, int]]) -> None:
        self.kernel, self.grid, self.constants, self.num_warps = kernel, grid, constants, num_warps
        self.types, self.parts = types, parts
        addresses = [a for a, d in zip(arguments, types) if d is not None]
        self.values = eval(f"lambda p, q, s: ({''.join(a + ', ' for a in arguments)})")  # noqa: S307 - numbers and our names
        self._aligned = eval(f"lambda p, q: ({' | '.join(addresses)}) & 15 == 0")  # noqa: S307
        self._ready: dict[tuple[int | None, bool], Any] = {}
        self._driver: Any = None

    def run(self, p: Sequence[int], q: Sequence[int], s: Sequence[Any], at: int | None) -> None:
        """Launches on pointers ``p``, parts ``q`` and scalars ``s`` on device ``at``."""
        values = self.values(p, q, s)
        if config.simulate_cuda:
            self.kernel(self.grid, *self.arguments(values, 0), **self.constants)
            return
        key = at, self._aligned(p, q)
        launch = self._ready.get(key)
        if launch is None or self._driver is not _launch._driver:
            launch = self._resolve(key, values)
        launch(self.grid, *values)

    def arguments(self, values: Sequence[Any], at: int) -> list[Any]:
        """The arguments as :class:`Kernel` takes them."""
        place = _Place(at)
        return [v if d is None else _pointer(v, d, place) for v, d in zip(values, self.types)]

    def _resolve(self, key: tuple[int | None, bool], values: Sequence[Any]) -> Any:
        driver = _launch.driver()
        if self._driver is not driver:
            self._ready, self._driver = {}, driver
        args = tuple(self.arguments(values, _device.current_device() if key[0] is None else key[0]))
        found = self.kernel._variant(args, self.constants).launcher(args, self.constants, self.num_warps, None)
        self._ready[key] = found.launch
        return found.launch

    def compile(self, p: Sequence[int], q: Sequence[int], s: Sequence[Any], capability: int) -> CompiledKernel:
        """The compiled kernel, not launched."""
        return self.kernel.compile(tuple(self.arguments(self.values(p, q, s), 0)), self.constants, capability=capability,
                                   num_warps=self.num_warps)


def _index_type(wide: bool) -> Any:
    import triton.language as tl
    return tl.int64 if wide else tl.int32


def _load(module: Module) -> dict[str, Any]:
    """Runs generated source. Triton reads it back through ``inspect``: from the file, or, where none can be written, from
    ``linecache``."""
    folder = Path(config.cache_dir) / "triton_source"
    path = folder / f"{module.name}.py"
    if config.cache:
        _keep(folder, path, module.text)
    if config.dump_dir:
        _keep(Path(config.dump_dir), Path(config.dump_dir) / path.name, module.text)
    linecache.cache[str(path)] = len(module.text), None, module.text.splitlines(keepends=True), str(path)
    scope: dict[str, Any] = {"__name__": f"fusetorch.generated.{module.name}"}
    # our own future imports must not reach it: Triton reads the annotations as they are
    exec(compile(module.text, str(path), "exec", dont_inherit=True), scope)  # noqa: S102 - our own generated source
    return scope


def _keep(folder: Path, path: Path, text: str) -> None:
    with contextlib.suppress(OSError):  # the file is for people to read
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            handle, aside = tempfile.mkstemp(dir=folder, prefix=".new-")
            with os.fdopen(handle, "w") as file:
                file.write(text)
            os.replace(aside, path)


_loops: dict[str, TritonLoop] = {}
_loops_lock = threading.Lock()


def triton_loop(kernel: LoopKernel) -> TritonLoop:
    """The Triton loop of ``kernel``: one a process for each ``kernel.key``."""
    found = _loops.get(kernel.key)
    if found is None:
        with _loops_lock:
            found = _loops.setdefault(kernel.key, TritonLoop(kernel))
    return found
