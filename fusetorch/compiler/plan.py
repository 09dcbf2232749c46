"""Plans: a fused graph as a flat list of launches over planned memory.

Values that live only between launches get blocks of one arena, reused as soon as their last reader has run; the arena belongs to the plan
and is kept between calls. What opaque operations make is let go as soon. Results are new memory each time. A value that replaces an
input in place (a parameter update) is written straight into that input's memory when no launch could still read the old contents.
"""
from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import cpu_backend
from ..shapes import contiguous_strides
from .fuse import Fusion, Group
from .interpret import backend, filled, run_opaque, run_write
from .ir import Graph, Node, Value, base_of
from .lower import Lowered, lower
from .passes.writes import merge_writes
from .symbolic import real_view

ALIGN = 64
_building = threading.Lock()    # plans of one graph are made one at a time


class Plan:
    """Executable form of a graph.

    ``run(arrays)`` takes one row-major array per graph input and returns one per output. ``updates`` pairs inputs with the values
    that replace their contents. Without ``compiled`` the plan can be looked at but not run. The first ``own`` results (all unless
    given) never share memory.
    """

    def __init__(self, graph: Graph, inputs: Sequence[Value], updates: Sequence[tuple[Value, Value]] = (),
                 limit: int | None = None, emulate_casts: bool = False, compiled: bool = True,
                 own: int | None = None) -> None:
        self.graph, self.inputs, self.updates = graph, list(inputs), list(updates)
        self.results = list(graph.outputs)
        self.emulate_casts, self.own = emulate_casts, own
        bases = [base_of(v)[0] for v in self.results]
        #: results that need memory of their own: frozen data, or contents that an earlier result has too
        self.shared = {i for i, b in enumerate(bases[:own]) if b.node.kind in ("constant", "full", "input") or b in bases[:i]}
        old = {v for v, _ in self.updates}
        #: results that are contents of an input from before this call overwrites it
        self.before = [(i, b) for i, b in enumerate(bases) if b in old]
        graph.outputs = list(dict.fromkeys([*self.results, *(v for _, v in self.updates)]))
        merge_writes(graph)
        self.fusion = Fusion(graph, limit)
        self.lowered: dict[Group, Lowered] = {g: lower(g, self.fusion, emulate_casts) for g in self.fusion.groups if g.fusible}
        self.slot: dict[Value, int] = {}
        self.static: list[Any] = []
        self.lock = threading.Lock()
        self._number()
        self._place_updates()
        self._plan_memory(compiled)
        self.steps = self._compile() if compiled else []

    # ---- slots

    def _new_slot(self, v: Value) -> int:
        s = self.slot.get(v)
        if s is None:
            s = self.slot[v] = len(self.static)
            self.static.append(None)
        return s

    def _number(self) -> None:
        for v in self.inputs:
            self._new_slot(v)
        for n in self.fusion.live:
            if n.kind == "constant":
                out = n.outputs[0]
                self.static[self._new_slot(out)] = backend(out.device).from_host(np.ascontiguousarray(n.attrs["array"]))
            elif n.kind == "full" and self._materialised(n.outputs[0]):
                self.static[self._new_slot(n.outputs[0])] = filled(n.outputs[0], n.attrs["value"])
        for g in self.fusion.groups:
            for v in self.writes(g):
                self._new_slot(v)

    def _materialised(self, v: Value) -> bool:
        return v in self.fusion.wanted or any(r.kind != "loop" for r in self.fusion.readers(v)) or any(
            u.kind == "view" and u.outputs[0] in self.fusion.wanted for u in self.fusion.users.get(v, ()))

    def writes(self, g: Group) -> list[Value]:
        """The values a group stores."""
        return self.lowered[g].writes if g.fusible else list(g.nodes[0].outputs)

    def reads(self, g: Group) -> list[Value]:
        """The stored values a group reads."""
        if g.fusible:
            return [v for v, _ in self.lowered[g].reads]
        return [base_of(v)[0] for v in g.nodes[0].inputs]

    # ---- in-place updates

    def _place_updates(self) -> None:
        """Aliases an updated input with its new value where the old contents are dead by then."""
        order = {g: i for i, g in enumerate(self.fusion.groups)}
        self.copies: list[tuple[Value, Value]] = []
        aliased: set[Value] = set()
        for old, new in self.updates:
            g = self.fusion.group.get(new.node)
            ok = (g is not None and g.fusible and not g.space.reduced and new not in aliased
                  and new.node.kind == "loop" and old.node.kind == "input"
                  and new not in self.results and new.shape == old.shape and new.dtype is old.dtype and old not in self.fusion.wanted)
            if ok:
                for reader in self.fusion.readers(old):
                    h = self.fusion.group[reader]
                    if h is g:
                        own = g.space.own_strides(new)
                        for v in reader.inputs:
                            base, access, offset = g.space.access(reader, v)
                            ok = ok and (base is not old or (access == own and offset == 0))
                    else:
                        ok = ok and order[h] < order[g]
                ok = ok and not any(u.kind == "view" and u.outputs[0] in self.fusion.wanted
                                    for u in self.fusion.users.get(old, ()))
            if ok:
                aliased.add(new)
                self.slot[new] = self.slot[old]
            else:
                self.copies.append((old, new))
        self.aliased = aliased

    # ---- memory

    def _plan_memory(self, compiled: bool) -> None:
        """Gives intermediate loop results places in an arena per device; everything else is allocated per call."""
        last: dict[int, int] = {}
        for i, g in enumerate(self.fusion.groups):
            for v in [*self.reads(g), *(self.lowered[g].numbers if g.fusible else ())]:
                if v in self.slot:
                    last[self.slot[v]] = i
        wanted = {self.slot[b] for b in (base_of(v)[0] for v in self.graph.outputs) if b in self.slot}
        top: dict[Any, int] = {}
        occupied: list[tuple[int, Any, int, int]] = []      # (last reader, device, size, offset)
        places: dict[Value, int] = {}
        fresh: list[tuple[int, Value]] = []
        for i, g in enumerate(self.fusion.groups):
            occupied = [x for x in occupied if x[0] >= i]
            if not g.fusible:
                continue
            for v in self.writes(g):
                s = self.slot[v]
                if v in self.aliased:
                    continue
                if s in wanted:
                    fresh.append((s, v))
                    continue
                size = -(-max(v.nbytes, 1) // ALIGN) * ALIGN
                offset = _gap(size, sorted((o, n) for _, d, n, o in occupied if d == v.device))
                top[v.device] = max(top.get(v.device, 0), offset + size)
                places[v] = offset
                occupied.append((last.get(s, i), v.device, size, offset))
        arenas = {d: _arena(d, n) for d, n in top.items()} if compiled else {}
        for v, offset in places.items():
            if compiled:
                self.static[self.slot[v]] = _in_arena(arenas[v.device], offset, v)
        self.allocate = [(s, _allocator(v)) for s, v in fresh]
        self.arena_bytes = sum(top.values())
        self.peak_bytes = self.arena_bytes + sum(v.nbytes for _, v in fresh) + self._plan_ends(last, wanted)

    def _plan_ends(self, last: dict[int, int], wanted: set[int]) -> int:
        """After which launch the plan lets go of what opaque operations made; the most that they hold at one time, in bytes."""
        self.dead: list[list[int]] = [[] for _ in self.fusion.groups]
        freed = [0] * len(self.dead)
        held = most = 0
        for i, g in enumerate(self.fusion.groups):
            for v in () if g.fusible else g.nodes[0].outputs:
                s, held = self.slot[v], held + v.nbytes
                if s not in wanted:
                    end = last.get(s, i)
                    self.dead[end].append(s)
                    freed[end] += v.nbytes
            most = max(most, held)
            held -= freed[i]
        return most

    # ---- launches

    def _compile(self) -> list[Callable[[list[Any]], None]]:
        loops = [self.lowered[g] for g in self.fusion.groups if g.fusible]
        cpu = [x for x in loops if x.writes[0].device.type == "cpu"]
        native: dict[int, Any] = {}
        if cpu:
            from ..codegen.native import native_loops
            native = {id(x): loop for x, loop in zip(cpu, native_loops([x.call.kernel for x in cpu], [x.call.sizes for x in cpu]))}
        steps = []
        for g in self.fusion.groups:
            if not g.fusible:
                steps.append(self._opaque_step(g.nodes[0]))
                continue
            low = self.lowered[g]
            slots = [(self.slot[v], offset) for v, offset in low.reads + low.stores]
            numbers = [self.slot[v] for v in low.numbers]
            if id(low) in native:
                steps.append(_cpu_step(native[id(low)].bind(low.call.sizes, low.call.strides), slots, numbers))
            else:
                from ..codegen.triton import triton_loop
                steps.append(_cuda_step(triton_loop(low.call.kernel).bind(low.call.sizes, low.call.strides), slots, numbers))
        return steps

    def _fetch(self, v: Value) -> Callable[[list[Any]], Any]:
        base, strides, offset = base_of(v)
        s, shape = self.slot[base], v.shape
        if base is v:
            return lambda env: env[s]
        if self.static[s] is not None:
            ready = real_view(self.static[s], shape, strides, offset)
            return lambda env: ready
        if v.device.type == "cpu" and 0 not in shape:  # quicker than stride tricks, and memory is row-major here
            n, d = v.dtype.itemsize, v.dtype.np
            start, steps = offset * n, tuple([k * n for k in strides])
            return lambda env: np.ndarray(shape, d, env[s], start, steps)
        return lambda env: real_view(env[s], shape, strides, offset)

    def _opaque_step(self, node: Node) -> Callable[[list[Any]], None]:
        fetch = [self._fetch(v) for v in node.inputs]
        slots = [self.slot[v] for v in node.outputs]
        b = backend(node.outputs[0].device)
        if node.kind == "write":
            return _cpu_write(node, fetch, slots[0]) if b is cpu_backend else _cuda_write(node, fetch, slots[0])

        from .interpret import contiguous

        def step(env: list[Any]) -> None:
            results = run_opaque(node, [f(env) for f in fetch])
            for s, r, v in zip(slots, results, node.outputs):
                env[s] = contiguous(b, r, v)
        return step

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """Executes the plan; updated inputs are overwritten."""
        if not self.lock.acquire(blocking=False):
            # the arena is in use by another call (or by this one, recursively): take a private one
            with _building:
                self.graph.outputs = list(self.results)
                private = Plan(self.graph, self.inputs, self.updates, self.fusion.limit, self.emulate_casts, own=self.own)
            return private.run(arrays)
        try:
            env = self.static.copy()
            for i, a in enumerate(arrays):
                env[i] = a
            kept = [(i, v, _copy_of(env[self.slot[v]], v)) for i, v in self.before]
            for s, make in self.allocate:
                env[s] = make()
            for step, dead in zip(self.steps, self.dead):
                step(env)
                for s in dead:
                    env[s] = None
            if self.copies:
                fetched = [(old, self._fetch(new)(env)) for old, new in self.copies]
                if len(fetched) > 1:
                    fetched = [(old, _copy_of(a, old)) for old, a in fetched]
                for old, a in fetched:
                    backend(old.device).copy(env[self.slot[old]], a)
            results = [self._result(i, v, env) for i, v in enumerate(self.results)]
            for i, base, a in kept:
                v = self.results[i]
                results[i] = a if v is base else real_view(a, v.shape, v.node.attrs["strides"], v.node.attrs["offset"])
            return results
        finally:
            self.lock.release()

    def _result(self, i: int, v: Value, env: list[Any]) -> Any:
        base, strides, offset = base_of(v)
        a = env[self.slot[base]]
        if i in self.shared:
            fresh = backend(v.device).empty(base.shape, base.dtype)
            backend(v.device).copy(fresh, a)
            a = fresh
        return a if base is v else real_view(a, v.shape, strides, offset)

    # ---- figures

    def traffic(self, g: Group) -> tuple[int, int]:
        """Bytes a group reads and writes, each buffer once."""
        return sum(v.nbytes for v in dict.fromkeys(self.reads(g))), sum(v.nbytes for v in self.writes(g))


def _gap(size: int, taken: Sequence[tuple[int, int]]) -> int:
    """The offset of the smallest gap of ``size`` bytes between the ``(offset, size)`` that are taken, in order; else the end of them."""
    found: tuple[int, int] | None = None
    end = 0
    for offset, length in taken:
        if offset - end >= size and (found is None or offset - end < found[0]):
            found = offset - end, end
        end = max(end, offset + length)
    return end if found is None else found[1]


def _arena(device: Any, size: int) -> Any:
    if device.type == "cpu":
        raw = np.empty(size + ALIGN, np.uint8)
        start = -raw.__array_interface__["data"][0] % ALIGN
        return raw[start:start + size]
    from ..dtypes import uint8
    return backend(device).empty((size,), uint8)


def _in_arena(arena: Any, offset: int, v: Value) -> Any:
    if isinstance(arena, np.ndarray):
        return arena[offset:offset + v.nbytes].view(v.dtype.np).reshape(v.shape)
    from ..runtime.memory import DeviceArray
    return DeviceArray(arena.storage, v.shape, contiguous_strides(v.shape), offset // v.dtype.itemsize, v.dtype)


def _allocator(v: Value) -> Callable[[], Any]:
    """How a new result is made, decided once."""
    if v.device.type == "cpu" and v.nbytes < 65536:
        return partial(np.empty, v.shape, v.dtype.np)
    return partial(backend(v.device).empty, v.shape, v.dtype)


def _copy_of(a: Any, v: Value) -> Any:
    fresh = backend(v.device).empty(v.shape, v.dtype)
    backend(v.device).copy(fresh, a)
    return fresh


def _cpu_write(node: Node, fetch: list[Callable], slot: int) -> Callable[[list[Any]], None]:
    """As :func:`run_write`, with the places looked up once."""
    out, fill = node.outputs[0], node.attrs["fill"]
    n, d = out.dtype.itemsize, out.dtype.np
    base = fetch[0] if fill is None else None
    number = None if fill is None or node.attrs["covered"] else fill
    parts = [(f, shape, offset * n, tuple([s * n for s in strides]))
             for f, (shape, strides, offset) in zip(fetch[base is not None:], node.attrs["places"]) if 0 not in shape]

    def write(env: list[Any]) -> None:
        env[slot] = fresh = cpu_backend.empty(out.shape, out.dtype)
        if base is not None:
            cpu_backend.copy(fresh, base(env))
        elif number is not None:
            fresh.fill(number)
        for f, shape, offset, strides in parts:
            cpu_backend.copy(np.ndarray(shape, d, fresh, offset, strides), f(env))
    return write


def _cuda_write(node: Node, fetch: list[Callable], slot: int) -> Callable[[list[Any]], None]:
    def write(env: list[Any]) -> None:
        env[slot] = run_write(node, [f(env) for f in fetch])
    return write


def _cpu_step(bound: Callable, slots: list[tuple[int, int]], numbers: list[int]) -> Callable[[list[Any]], None]:
    from ..runtime.cpu_memory import address

    def step(env: list[Any]) -> None:
        bound([address(env[s]) + o for s, o in slots], [env[s].item() for s in numbers])
    return step


def _cuda_step(bound: Callable, slots: list[tuple[int, int]], numbers: list[int]) -> Callable[[list[Any]], None]:
    def step(env: list[Any]) -> None:
        bound([env[s].ptr + o for s, o in slots], [env[s].item() for s in numbers])
    return step
