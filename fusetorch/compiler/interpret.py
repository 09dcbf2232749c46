"""Runs a graph op by op with the eager kernels: what a broken trace falls back to, and the reference that plans are checked against."""
from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import cpu_backend
from .ir import Graph, Node, Value

if TYPE_CHECKING:
    from .symbolic import Storage
    from .trace import Tracer


def backend(device: Any) -> Any:
    """The eager backend of a device."""
    if device.type == "cpu":
        return cpu_backend
    from .. import cuda_backend
    return cuda_backend


def evaluate(graph: Graph, wanted: Iterable[Value], given: dict[Value, Any], on_node: Any = None) -> dict[Value, Any]:
    """Arrays of all values that ``wanted`` needs, from those ``given`` for the inputs."""
    keep = graph.outputs
    graph.outputs = list(wanted)
    nodes = graph.live()
    graph.outputs = keep
    env: dict[Value, Any] = dict(given)
    for node in nodes:
        if all(v in env for v in node.outputs):
            continue
        for v, a in zip(node.outputs, run_node(node, [env[v] for v in node.inputs])):
            env[v] = a
        if on_node is not None:
            on_node(node, env)
    return env


def run_node(node: Node, arrays: list[Any]) -> list[Any]:
    """Runs one node on arrays of its inputs."""
    from .symbolic import real_view
    out = node.outputs[0]
    b = backend(out.device)
    if node.kind == "input":
        raise KeyError(f"no array was given for the graph's input {node.attrs['name']}")
    if node.kind == "constant":
        return [b.from_host(node.attrs["array"])]
    if node.kind == "full":
        return [filled(out, node.attrs["value"])]
    if node.kind == "view":
        return [real_view(arrays[0], out.shape, node.attrs["strides"], node.attrs["offset"])]
    if node.kind == "write":
        return [run_write(node, arrays)]
    if node.kind == "loop":
        results = b.loop(node.op, arrays, node.attrs["scalars"], node.attrs["axes"], None)
        return [contiguous(b, r, v) for r, v in zip(results, node.outputs)]
    results = run_opaque(node, arrays)
    return [contiguous(b, r, v) for r, v in zip(results, node.outputs)]


def run_write(node: Node, arrays: list[Any]) -> Any:
    """New memory with what a write node lays into it."""
    from .symbolic import real_view
    out, fill = node.outputs[0], node.attrs["fill"]
    b = backend(out.device)
    if fill is None:
        fresh = b.empty(out.shape, out.dtype)
        b.copy(fresh, arrays[0])
        arrays = arrays[1:]
    else:
        fresh = b.empty(out.shape, out.dtype) if node.attrs["covered"] else filled(out, fill)
    for a, place in zip(arrays, node.attrs["places"]):
        b.copy(real_view(fresh, *place), a)
    return fresh


def run_opaque(node: Node, arrays: list[Any]) -> list[Any]:
    """Calls an opaque node's kernel."""
    device = node.inputs[0].device if node.inputs else node.outputs[0].device
    kernel = node.op.kernels.get(device.type)
    if kernel is None:
        raise NotImplementedError(f"{node.op.name}: no kernel for {device} (at {node.location})")
    operands = [None if s is None else [arrays[i] for i in s] if isinstance(s, tuple) else arrays[s] for s in node.structure]
    out = kernel(*operands, *node.attrs["attrs"])
    return list(out) if isinstance(out, (tuple, list)) else [out]


def contiguous(b: Any, a: Any, v: Value) -> Any:
    """The array row-major and of the value's shape: what the IR promises."""
    if isinstance(a, np.generic):
        return np.asarray(a)  # NumPy makes numbers of 0-d arrays
    if tuple(a.shape) != v.shape:
        fresh = b.empty(v.shape, v.dtype)
        b.copy(fresh, np.broadcast_to(a, v.shape) if isinstance(a, np.ndarray) else a)
        return fresh
    ok = a.flags.c_contiguous if hasattr(a, "flags") else a.is_contiguous
    if ok:
        return a
    fresh = b.empty(v.shape, v.dtype)
    b.copy(fresh, a)
    return fresh


def filled(v: Value, number: Any) -> Any:
    """A new array of one number."""
    if v.device.type == "cpu":
        a = cpu_backend.empty(v.shape, v.dtype)
        a.fill(number)
        return a
    return backend(v.device).full(v.shape, number, v.dtype, v.device.index or 0)


def input_array(storage: Storage) -> Any:
    """The row-major memory of a lifted storage."""
    from .symbolic import span_array
    a = storage.real
    place = storage.initial.device
    if place.type == "cpu":
        return span_array(a, storage.initial.shape)
    return span_array(a, storage.initial.shape)


def run_eagerly(tracer: Tracer) -> None:
    """Gives every living tensor of a broken trace its value, and the lifted ones what was written to them."""
    from .symbolic import TracedArray, other_dtype, real_view
    tensors = [t for t in tracer.made if type(t._a) is TracedArray and t._a.tracer is tracer]
    tensors += [t for t, _, traced in tracer.lifted.values() if type(t._a) is TracedArray and t._a is not traced]
    tensors += [t for t in tracer.holders.values() if type(t._a) is TracedArray and id(t) not in tracer.lifted]
    known = {s.initial for s in tracer.inputs}
    without = {v for n in tracer.graph.nodes if n.kind == "input" for v in n.outputs if v not in known}
    for n in tracer.graph.nodes:  # what hangs on a gradient that never came cannot be run, and nobody can ask for it
        if any(v in without for v in n.inputs):
            without.update(n.outputs)
    tensors = [t for t in tensors if t._a.storage.value not in without]
    storages = {id(t._a.storage): t._a.storage for t in tensors}
    changed = [s for s in tracer.inputs if s.value is not s.initial]
    given = {s.initial: input_array(s) for s in tracer.inputs}
    wanted = [s.value for s in [*storages.values(), *changed]]
    env = evaluate(tracer.graph, wanted, given)
    real: dict[int, Any] = {}
    taken = {id(g) for g in given.values()}
    for s in storages.values():
        a = env[s.value]
        # equal contents are one value of the graph, but each storage has memory of its own
        shared = id(a) in taken or s.value.node.kind in ("constant", "view", "full")
        b = backend(s.value.device)
        if s.initial is None and shared:
            fresh = b.empty(s.value.shape, s.value.dtype)
            b.copy(fresh, a)
            a = fresh
        taken.add(id(a))
        real[id(s)] = a
    new = [(s, env[s.value]) for s in changed]
    new = [(s, _detached(a, s)) for s, a in new]
    for s, a in new:
        backend(s.initial.device).copy(given[s.initial], a)
        real[id(s)] = given[s.initial]
    for t in tensors:
        traced = t._a
        a = real[id(traced.storage)]
        t._a = real_view(a, traced.shape, traced.strides, traced.offset, other_dtype(traced))
    tracer.restore()
    for t, node, index, base, chain in tracer.histories:
        t._x.node, t._x.index, t._x.base, t._x.chain = node, index, base, chain


def _detached(a: Any, s: Storage) -> Any:
    # the new contents may be another lifted tensor's memory, about to be written itself
    b = backend(s.initial.device)
    fresh = b.empty(s.value.shape, s.value.dtype)
    b.copy(fresh, a)
    return fresh


