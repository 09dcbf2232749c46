"""Tracing: the function runs once on tensors whose arrays are symbolic.

A :class:`TracedArray` is a strided look at a :class:`Storage`, and a storage is memory whose current contents are an IR value. Reading
goes through ``Graph.view``; writing in place gives the storage a new value. That is all the functionalisation there is:
autograd, modules and optimizers run unchanged on top.

A real tensor that the function touches (an argument, a parameter, optimizer state) is *lifted*: for the length of the trace its array
is replaced by a symbolic one over an input of the graph, and put back at the end.
"""
from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import dispatch
from ..autograd import GradMode, Node
from ..dtypes import FROM_NUMPY, dtype
from ..errors import DataDependentError
from ..formats import RESULT_LAYOUTS
from ..ops.opdef import LoopSpec, OpDef
from ..runtime.device import device as device_class
from ..runtime.meta import MetaArray
from ..runtime.rng import Counter
from ..shapes import broadcast_shapes, contiguous_strides
from ..tensor import Meta, Tensor, _grad_reads, _number_hook, _watchers, address_of, strides_of, wrap
from .alias import Span, end_of, start_of
from .ir import Graph, Value, base_of, is_number, user_location
from .symbolic import Source, Storage, TracedArray, inverse, layouts_of, memory_layout, order_of, permuted

#: The tracer is found through a global, so there is one trace at a time in a process.
one_at_a_time = threading.RLock()


class Boundary(Node):
    """During a trace, the history of a tensor that was recorded outside. Gradients pass on to it, unless ``closed``: a backward that is
    traced for the compiled function ends here."""

    __slots__ = ("closed",)

    def __init__(self, node: Node, index: int) -> None:
        super().__init__(((node, index),))
        self.closed = False

    def backward(self, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        """The gradient itself."""
        return (None,) if self.closed else grads

    def release(self) -> None:
        """Nothing is saved here."""


class Tracer:
    """Records one run of a function. Use as a context manager; it is also the backend of everything called inside."""

    name = "trace"

    def __init__(self, fullgraph: bool = False) -> None:
        self.graph = Graph()
        self.fullgraph = fullgraph
        self.lifted: dict[int, tuple[Tensor, Any, TracedArray]] = {}    # id(tensor): tensor, its array, the symbolic one
        self.storages: dict[Any, Storage] = {}                          # by memory, so that aliases share one
        self.inputs: list[Storage] = []
        self.sources: dict[int, Source] = {}                            # id(tensor): source, for arguments
        self.grads_before: dict[int, Tensor | None] = {}
        self.holders: dict[int, Tensor] = {}                            # id(array): a tensor known before the trace that has it
        self.made: weakref.WeakSet = weakref.WeakSet()
        self.broken_at = self.broken_why = ""
        self.rng_draws: list[tuple[Any, int, Storage, Storage]] = []
        self.generators: dict[int, tuple[Any, int]] = {}
        self.states: list[bytes] = []                                   # of generators, taken during the trace
        self.numbers: dict[tuple[int, str], Tensor] = {}
        self.number_guards: list[tuple[dict, str]] = []
        self.written: list[Storage] = []                                # lifted memory that was written to
        self.spans: dict[int, Span] = {}                                # id(tensor): memory it shares with others
        self.in_span: dict[int, Source] = {}                            # id(tensor): its source, for members of spans
        self.shared: list[tuple[Source, Source]] = []                   # different tensors, the same memory
        self.conflict = False
        self.grad_reads: list[Tensor] = []                              # tensors whose .grad was looked at
        self.must_trace = False                                         # where the trace cannot end, wanting a value is an error
        self.histories: list[tuple] = []                                # lifted tensors that had a history outside
        self.versions: dict[int, int] = {}                              # id(tensor): writes to a lifted tensor before the trace
        self.active = False

    # ---- begin and end

    def __enter__(self) -> Tracer:
        one_at_a_time.acquire()
        self.thread = threading.get_ident()
        self._limit = dispatch.fast_limit[0]
        self._outer = dispatch.tracer[0]
        dispatch.tracer[0] = self
        dispatch.fast_limit[0] = -1
        _watchers.append(self.made)
        _grad_reads.append(self.grad_reads)
        _number_hook[0] = self.number
        Counter.on_restart, Counter.on_state = self._restarted, self._state_taken
        self.active = True
        return self

    def __exit__(self, kind: Any, error: BaseException | None, tb: Any) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the trace: everything called from now on is eager again."""
        if self.active:
            self.active = False
            dispatch.tracer[0] = self._outer
            dispatch.fast_limit[0] = self._limit
            _watchers.remove(self.made)
            _grad_reads.pop()
            _number_hook[0] = None
            Counter.on_restart = Counter.on_state = None
            one_at_a_time.release()

    # ---- tensors in

    def backend(self, tensors: Sequence[Tensor], op: str, target: Tensor | None = None) -> Any:
        """Lifts what is still real and checks devices; the tracer is its own backend.

        Memory that is reached through two differently laid out tensors may be read, but once it is written the trace ends: what
        each of them holds then is left to the memory itself.
        """
        place = None
        for t in tensors:
            if type(t._a) is MetaArray:
                self.stop_tracing("a tensor on the meta device has no memory for a kernel to read or write")
                return dispatch.backend_for(tensors, op, target)
            if type(t._a) is not TracedArray:
                self.lift(t)
            elif t._a.tracer is not self:
                raise RuntimeError(f"{op}: a tensor traced by another compiled function was used after its trace had ended")
            d = t._a.device
            if place is None or (place.type == "cpu" and d.type != "cpu"):
                place = d if place is None or not t._a.shape or d.type != "cpu" else place
        if place is not None:
            for t in tensors:
                d = t._a.device
                if d != place and not (d.type == "cpu" and not t._a.shape):
                    dispatch._mixed(tensors, op)
        if self.conflict or (target is not None and self._write_conflicts(target._a.storage)):
            self.stop_tracing("two tensors share memory and one of them is written")
            return dispatch.backend_for(tensors, op, target)
        if target is not None and GradMode.enabled and target._a.storage.initial is not None and any([t._req for t in tensors]):
            self.stop_tracing("a tensor from outside is written in place and the write is recorded for gradients")
            return dispatch.backend_for(tensors, op, target)
        return self

    def before_rebinding(self, t: Tensor) -> None:
        """Called before ``t`` becomes another view of its memory in place and that is recorded."""
        if type(t._a) is not TracedArray or t._a.storage.initial is not None:
            self.stop_tracing("a tensor from outside is given another shape in place and that is recorded for gradients")

    def _write_conflicts(self, s: Storage) -> bool:
        if s.initial is None or s in self.written:
            return False
        self.written.append(s)
        return any(o is not s and s.meets(o) for o in self.inputs)

    def lift(self, t: Tensor, source: Source | None = None) -> TracedArray:
        """Makes a real tensor an input of the graph and gives it a symbolic array until the trace ends."""
        real = t._a
        holder = None if source is not None or id(t) in self.grads_before else self.holders.get(id(real))
        if holder is not None:  # made during the trace around memory that was not lifted yet, as by detach()
            a = self.lift(holder) if holder._a is real else holder._a
            t._a = TracedArray(self, a.storage, a.shape, a.strides, a.offset, a.dtype)
            return t._a
        source = source or self.sources.get(id(t)) or Source("object", None, t)
        span = self.spans.get(id(t))
        if span is not None:
            return self._lifted(t, real, self._in_span(t, span))
        strides = strides_of(real)
        address = address_of(real)
        key = (address, real.shape, strides, t.dtype)
        storage = self.storages.get(key)
        shape = tuple(real.shape)
        base_shape, view_strides = memory_layout(shape, strides)
        if storage is None:
            name = f"arg{source.where}" if source.kind == "arg" else f"state{len(self.inputs)}"
            v = self.graph.input(name, base_shape, t.dtype, t.device, source.kind in ("number", "rng"))
            storage = self.storages[key] = Storage(v, v)
            storage.real, storage.source = real, source
            self.inputs.append(storage)
            storage.extent = address, end_of(real)
            self.conflict = self.conflict or any(map(storage.meets, self.written))
        elif source is not storage.source:
            self.shared.append((source, storage.source))
        return self._lifted(t, real, TracedArray(self, storage, shape, view_strides, 0))

    def _in_span(self, t: Tensor, span: Span) -> TracedArray:
        if span.storage is None:
            v = self.graph.input(f"span{len(self.inputs)}", (span.length,), t.dtype, t.device)
            s = span.storage = Storage(v, v)
            s.real, s.source = span.array(span.members[0]._a), Source("span", span, None)
            s.extent = start_of(s.real), end_of(s.real)
            span.sources = [self.sources.get(id(m)) or Source("object", None, m) for m in span.members]
            self.inputs.append(s)
        k = next(i for i, m in enumerate(span.members) if m is t)
        self.in_span[id(t)] = span.sources[k]
        return TracedArray(self, span.storage, tuple(t._a.shape), strides_of(t._a), span.offsets[k])

    def _lifted(self, t: Tensor, real: Any, traced: TracedArray) -> TracedArray:
        self.lifted[id(t)] = (t, real, traced)
        self.versions[id(t)] = t._version
        self.grads_before.setdefault(id(t), None if t._x is None else t._x.grad)
        t._a = traced
        if t._req and t.grad_fn is not None:
            x = t._x
            self.histories.append((t, x.node, x.index, x.base, x.chain))
            x.node, x.index, x.base, x.chain = Boundary(x.node, x.index), 0, None, ()
        return traced

    def number(self, holder: dict, key: str) -> Any:
        """A number that is re-read from ``holder[key]`` at each call, as a 0-d tensor that promotes like a number."""
        value = holder[key]
        if isinstance(value, bool) or not isinstance(value, float):
            return value
        k = (id(holder), key)
        if k not in self.numbers:
            t = wrap(np.array(value, np.float64))
            self.lift(t, Source("number", (holder, key), t))
            t._x = Meta()
            t._x.wrapped = True
            self.numbers[k] = t
        return self.numbers[k]

    def rng_offset(self, generator: Any, n: int) -> tuple[Tensor, Tensor]:
        """Seed and offset of a draw of ``n`` numbers, as 0-d tensors read from the generator at each call."""
        seed, offset = generator._seed, generator._offset
        pair = []
        for what, value in (("seed", seed), ("offset", offset)):
            t = wrap(np.array(np.uint64(value & 0xFFFFFFFFFFFFFFFF).astype(np.int64)))
            start = self.generators.setdefault(id(generator), (generator, offset))[1]
            self.lift(t, Source("rng", (generator, what, offset - start), t))
            pair.append(t)
        generator._offset = offset + n
        return pair[0], pair[1]

    def _state_taken(self, generator: Counter, state: bytes) -> None:
        if threading.get_ident() == self.thread:
            self.generators.setdefault(id(generator), (generator, generator._offset))
            self.states.append(state)

    def _restarted(self, generator: Counter, state: bytes | None) -> None:
        # back to a state of this very call, as checkpoints do, is a matter of the draws' positions
        if threading.get_ident() == self.thread and not any(s is state for s in self.states):
            self.stop_tracing("a random generator is seeded, which a replay would not do again")

    def _wrap(self, v: Value) -> TracedArray:
        return TracedArray(self, Storage(v), v.shape, contiguous_strides(v.shape), 0)

    def read(self, a: TracedArray) -> Value:
        """The value of a symbolic array now."""
        value = a.storage.value if a.dtype is a.storage.value.dtype else self._seen_as(a.storage.value, a.dtype)
        return self.graph.view(value, a.shape, a.strides, a.offset)

    def _seen_as(self, v: Value, d: dtype) -> Value:
        """Row-major memory ``v`` of complex numbers as the real numbers that it consists of, or the other way around."""
        flat, n = (v, v.size) if len(v.shape) == 1 else (self.graph.view(v, (v.size,), (1,), 0), v.size)
        if d.is_complex:
            shape = (*v.shape[:-1], v.shape[-1] // 2) if v.shape and v.shape[-1] % 2 == 0 else (n // 2,)
            strides = tuple(2 * s for s in contiguous_strides(shape))
            pair = [self.graph.view(flat, shape, strides, k) for k in (0, 1)]
            return self.graph.loop(_spec("complex", [v.dtype, v.dtype]), pair, shape, None, ())[0]
        twice = self.graph.view(flat, (*v.shape, 2), (*contiguous_strides(v.shape), 0), 0)
        return self.graph.loop(_spec("interleaved_parts", [v.dtype]), [twice], (*v.shape, 2), None, ())[0]

    def constant(self, a: np.ndarray, device: device_class) -> Tensor:
        """A tensor made from host data during the trace; frozen into the graph."""
        return wrap(self._wrap(self.graph.constant(a, FROM_NUMPY[a.dtype], _numbered(device))))

    def full(self, shape: tuple[int, ...], value: Any, d: dtype, device: device_class) -> Tensor:
        """A filled tensor made during the trace (uninitialised memory is zeros here)."""
        return wrap(self._wrap(self.graph.full(shape, 0 if value is None else value, d, _numbered(device))))

    # ---- the backend's functions

    def loop(self, spec: LoopSpec, arrays: Sequence[TracedArray], scalars: Sequence[Any], axes: tuple[int, ...] | None,
             outs: Sequence[TracedArray] | None) -> list[TracedArray]:
        """Records an elementwise or reduction operation."""
        shape = tuple(broadcast_shapes(*[a.shape for a in arrays]))
        order = self._dense_order(spec, shape, arrays) if axes is None and outs is None else None
        if order is not None:  # results lie as eager ones do: the loop runs over their memory in order
            arrays = [permuted(a, len(shape), order) for a in arrays]
            shape = tuple([shape[d] for d in order])
        inputs = [self.read(a) for a in arrays]
        place = next((v.device for v in inputs if v.device.type != "cpu"), inputs[0].device)
        inputs = [v if v.device == place or is_number(base_of(v)[0]) else self._move(v, place) for v in inputs]
        values = self.graph.loop(spec, inputs, shape, axes, tuple(scalars), place)
        if order is not None:
            return [permuted(self._wrap(v), len(shape), inverse(order)) for v in values]
        if outs is None:
            rule = "" if axes is None or spec.op is None else spec.op.layout
            return [self._laid_out(v, rule if f else "", arrays) for v, f in zip(values, spec.full)]
        for o, v in zip(outs, values):
            if o.shape != v.shape:
                raise RuntimeError(f"{spec.name}: output with shape {list(o.shape)} doesn't match the broadcast shape {list(v.shape)}")
            self.copy(o, self._wrap(v))
        return list(outs)

    def _dense_order(self, spec: LoopSpec, shape: tuple[int, ...], arrays: Sequence[TracedArray]) -> list[int] | None:
        """The dimensions of an elementwise result from the slowest to the fastest where that is another order than row-major."""
        if len(shape) < 2 or (spec.op is not None and spec.op.row_major) or "iota" in spec.primitives:  # positions count in that order
            return None
        rule = RESULT_LAYOUTS["elementwise" if spec.op is None else spec.op.layout or "elementwise"]
        return order_of(shape, rule(shape, layouts_of(arrays)))

    def _laid_out(self, v: Value, rule: str, arrays: Sequence[TracedArray]) -> TracedArray:
        """A row-major result in the order that its operation's rule wants."""
        order = order_of(v.shape, RESULT_LAYOUTS[rule](v.shape, layouts_of(arrays))) if rule else None
        if order is None:
            return self._wrap(v)
        a = permuted(self._wrap(v), len(v.shape), order)
        return permuted(self._wrap(self._convert(self.read(a), v.dtype)), len(v.shape), inverse(order))

    def view(self, op: OpDef, a: TracedArray, attrs: tuple) -> TracedArray:
        """A view op: other strides over the same storage."""
        shape, strides, offset = op.body(a.shape, a.strides, a.offset, *attrs)
        return TracedArray(self, a.storage, tuple(shape), tuple(strides), offset, a.dtype if op.retype is None else op.retype(a.dtype))

    def opaque(self, op: OpDef, operands: Sequence[Any], attrs: tuple) -> list[TracedArray]:
        """Records an op with its own kernel."""
        inputs: list[Value] = []
        structure: list[Any] = []
        metas: list[Any] = []
        for o in operands:
            if o is None:
                structure.append(None)
                metas.append(None)
            elif isinstance(o, (list, tuple)):
                structure.append(tuple(range(len(inputs), len(inputs) + len(o))))
                inputs += [self.read(t._a) for t in o]
                metas.append([t._a for t in o])
            else:
                structure.append(len(inputs))
                inputs.append(self.read(o._a))
                metas.append(o._a)
        try:
            rule = op.body(*metas, *attrs)
        except DynamicShape:
            self.need_value(next(o for o in operands if isinstance(o, Tensor)))
            raise
        device = next((v.device for v in inputs if v.device.type != "cpu"), inputs[0].device if inputs else device_class("cpu"))
        if op.name == "move_to_device":
            device = _numbered(attrs[0])
        values = self.graph.opaque(op, inputs, tuple(structure), attrs, [(s, d, device) for s, d in rule])
        arrays = [a for m in metas if m is not None for a in (m if isinstance(m, list) else (m,))]
        return [self._laid_out(v, op.layout, arrays) for v in values]

    def reshape(self, a: TracedArray, shape: tuple[int, ...]) -> TracedArray:
        """A row-major array with another shape."""
        return TracedArray(self, a.storage, shape, contiguous_strides(shape), a.offset, a.dtype)

    def copy(self, dst: TracedArray, src: TracedArray) -> None:
        """Writes in place: the storage gets a new value."""
        value = self.read(src)
        if value.device != dst.device:
            value = self._move(value, dst.device)
        if value.dtype is not dst.dtype or (dst.whole and value.node.kind == "view"):  # contents are never a view: views do not nest
            value = self._convert(value, dst.dtype)
        if dst.dtype is not dst.storage.value.dtype:
            whole = dst.storage.value
            if dst.dtype.is_complex and whole.size % 2:
                self.stop_tracing("memory of an odd number of elements is written as complex numbers")
                raise NotImplementedError("writing complex numbers into memory of an odd number of elements while tracing; clone it first")
            new = self.graph.write(self._seen_as(whole, dst.dtype), value, dst.shape, dst.strides, dst.offset)
            new = self._seen_as(new, whole.dtype)
            dst.storage.value = new if new.shape == whole.shape else self._convert_shape(new, whole.shape)
        elif dst.whole:
            base = dst.storage.value.shape
            dst.storage.value = self.graph.view(value, base, contiguous_strides(base), 0)
        else:
            dst.storage.value = self.graph.write(dst.storage.value, value, dst.shape, dst.strides, dst.offset)

    def _move(self, v: Value, device: device_class) -> Value:
        from ..ops.opdef import REGISTRY
        node = v.node
        if is_number(v):
            return v
        if node.kind == "view":
            return self.graph.view(self._move(node.inputs[0], device), v.shape, node.attrs["strides"], node.attrs["offset"])
        if node.kind == "full":
            return self.graph.full(v.shape, node.attrs["value"], v.dtype, device)
        if node.kind == "loop" and self._from_numbers(v):  # made of numbers alone: make it where it is wanted
            a = node.attrs
            return self.graph.loop(node.op, [self._move(x, device) for x in node.inputs], a["shape"], a["axes"], a["scalars"],
                                   device)[v.index]
        return self.graph.opaque(REGISTRY["move_to_device"], [v], (0,), (device,), [(v.shape, v.dtype, device)])[0]

    def _from_numbers(self, v: Value) -> bool:
        return is_number(v) or v.node.kind == "full" or (
            v.node.kind in ("loop", "view") and v.size == 1 and all(map(self._from_numbers, v.node.inputs)))

    def _convert(self, v: Value, d: dtype) -> Value:
        return self.graph.loop(_spec("convert", [v.dtype], d), [v], v.shape, None, ())[0]

    def _convert_shape(self, v: Value, shape: tuple[int, ...]) -> Value:
        """Row-major memory in another shape, as a value of its own: contents of storages are never views."""
        return self._convert(self.graph.view(v, shape, contiguous_strides(shape), 0), v.dtype)

    # ---- values wanted

    def need_value(self, t: Tensor) -> None:
        """Called where Python needs a tensor's numbers: the trace cannot go on."""
        self.stop_tracing(f"the value of a tensor (shape {list(t.shape)}, {t.dtype}) is needed; .item(), bool(), print() and NumPy "
                          "conversions end a graph")

    def stop_tracing(self, why: str) -> None:
        """Gives up the trace here and lets the same run go on eagerly; with ``fullgraph`` an error."""
        where = user_location()
        if self.must_trace:
            raise RuntimeError(f"{why} (at {where})")
        if self.fullgraph:
            raise DataDependentError(f"fullgraph=True, but the graph ends at {where}: {why}. Change that line, or compile with "
                                     "fullgraph=False")
        self.broken_at, self.broken_why = where, why
        self.flush()

    def flush(self) -> None:
        """Ends the trace early: runs what was recorded, op by op, and makes every living tensor real, so that the same Python run
        can go on eagerly."""
        from .interpret import run_eagerly
        self.stop()
        run_eagerly(self)

    def restore(self) -> None:
        """Puts the real arrays back into the lifted tensors."""
        for t, real, traced in self.lifted.values():
            if t._a is traced:
                t._a = real

    def living(self) -> list[Tensor]:
        """Tensors made during the trace that are still referenced."""
        return [t for t in self.made if type(t._a) is TracedArray and id(t) not in self.lifted]


def _spec(name: str, dtypes: Sequence[dtype], *params: Any) -> LoopSpec:
    """The spec of an elementwise operation over tensors of these dtypes."""
    from ..ops.opdef import REGISTRY, loop_spec
    op = REGISTRY[name]
    kinds = [(d, 2) for d in dtypes]
    key = (*kinds, *params)
    spec = op.specs.get(key)
    if spec is None:
        spec = op.specs[key] = loop_spec(op, kinds, params)
    return spec


def _numbered(place: device_class) -> device_class:
    """The device that memory is on: ``cuda`` is ``cuda:0``."""
    return device_class("cuda", 0) if place.type == "cuda" and place.index is None else place


class DynamicShape(RuntimeError):
    """Raised by a shape rule whose result depends on values (``nonzero``)."""
