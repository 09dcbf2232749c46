"""Gradients through a compiled function that does not call ``backward`` itself.

The backward of the traced outputs is traced too, right after the forward, with the outputs' gradients (tangents) as inputs. The joint graph
is then cut in two plans: the forward also returns what the backward reads, and the outputs get a :class:`CompiledNode` that runs
the backward plan.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..autograd import GradMode, Node, _Sink, edge_of, grad, keep, run_backward, set_history
from ..shapes import contiguous_strides
from ..tensor import Tensor, wrap
from .effects import Rehearsal
from .interpret import filled
from .ir import Graph, Value, base_of, is_number
from .passes.partition import choose_saved
from .plan import Plan
from .symbolic import Source, Storage, TracedArray
from .trace import Boundary, Tracer
from .verify import checked

if TYPE_CHECKING:
    from .guards import StateGuard
    from .ir import Node as IRNode


class NotDifferentiable(Exception):
    """The backward of a traced function raised; run eagerly, it will do so where the user asks for it."""


class ConsumedNode(Node):
    """History of an output whose graph was already used by a ``backward()`` inside the compiled function."""

    def backward(self, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        """Always an error, as in eager mode."""
        raise RuntimeError("Trying to backward through the graph a second time: the compiled function already called backward() on it. "
                           "Specify retain_graph=True there, or return the gradients.")


class CompiledNode(Node):
    """Runs the backward plan of a compiled function."""

    def __init__(self, edges: tuple, shapes: list[tuple], plan: BackwardPlan, saved: list[Any], watched: list[Tensor],
                 again: Again | None) -> None:
        super().__init__(edges, len(shapes))
        self.again = again
        self.plan, self.saved, self.shapes = plan, saved, shapes
        # tensors whose memory is among the saved: writing to them before backward is an error
        self.watched = [keep(t, 0 if t.grad_fn is not None else None) for t in watched]

    def backward(self, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        """Feeds tangents and saved values to the plan."""
        for s in self.watched:
            s.get(self)
        if GradMode.enabled:
            if self.again is None:
                raise RuntimeError("torch.compile with aot_autograd does not currently support double backward where a call writes to what "
                                   "was there before: call the function eagerly where create_graph=True is needed")
            return self.again.gradients(grads)
        tangents = []
        for g, v in zip(grads, self.shapes):
            a = filled(v, 0) if g is None else g.to(v.dtype)._a
            tangents.append(a if _row_major(a) else g.contiguous()._a)
        out: list[Tensor | None] = [None] * len(self.edges)
        for i, a in zip(self.plan.targets, self.plan.plan.run([*self.saved, *tangents])):
            out[i] = wrap(a)
        return out

    def name(self) -> str:
        """PyTorch's name of it."""
        return "CompiledFunctionBackward"

    def release(self) -> None:
        """Drops the saved arrays."""
        self.saved, self.watched, self.again = [], [], None
        self.released = True


def _row_major(a: Any) -> bool:
    return a.flags.c_contiguous if hasattr(a, "flags") else a.is_contiguous


@dataclass
class Joint:
    """The traced backward: which outputs it starts from, the tangents, and the gradient of each lifted tensor."""

    outputs: list[Tensor]
    tangents: list[Storage]
    inputs: list[Tensor]
    grads: list[Tensor | None]


@dataclass
class BackwardPlan:
    """The backward plan and which edge each of its results belongs to."""

    plan: Plan
    targets: list[int]


@dataclass
class Backward:
    """What the forward entry needs to give its outputs a history."""

    sources: list[Source | int]     # of the tensors that get gradients; a number: of a leaf among the results
    outputs: list[int]
    values: list[Value]
    saved_values: list[Value]
    n_results: int
    plan: BackwardPlan
    saved_sources: list[Source]     # lifted tensors whose memory is saved
    saved_outputs: list[int]        # outputs whose memory is saved

    def attach(self, tensors: list[Tensor], outs: list[Tensor], results: list[Any], read: list[Tensor],
               again: Callable[[], list[Tensor]] | None) -> None:
        """Records a :class:`CompiledNode` on the outputs of one call. ``read``: the tensors of ``saved_sources`` in this call; ``again``:
        runs the function eagerly once more, if that changes nothing."""
        watched = [*read, *[outs[i] for i in self.saved_outputs]]
        node = CompiledNode(tuple([edge_of(t) for t in tensors]), self.values, self.plan, results[self.n_results:], watched,
                            None if again is None else Again(again, tensors, self.outputs))
        for k, i in enumerate(self.outputs):
            set_history(outs[i], node, k)


class Again:
    """Gradients that can themselves be differentiated: the function runs eagerly once more, on the same tensors."""

    def __init__(self, run: Callable[[], list[Tensor]], inputs: list[Tensor], outputs: list[int]) -> None:
        self.run, self.inputs, self.outputs = run, inputs, outputs

    def gradients(self, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        """The gradients of the inputs, recorded."""
        found = self.run()
        pairs = [(found[i], g) for i, g in zip(self.outputs, grads) if g is not None]
        return grad([t for t, _ in pairs], self.inputs, [g for _, g in pairs], create_graph=True, allow_unused=True)


def consumed(t: Tensor) -> bool:
    """Whether a backward has already run through the history of ``t``."""
    stack, seen = [t.grad_fn], set()
    while stack:
        n = stack.pop()
        if n is None or id(n) in seen:
            continue
        seen.add(id(n))
        if n.released:
            return True
        stack += [e[0] for e in n.edges if isinstance(e, tuple) and type(n) is not Boundary]
    return False


def hooked_inside(outputs: list[Tensor]) -> bool:
    """Whether the history of ``outputs`` that was recorded in the trace has hooks."""
    stack, seen = [t.grad_fn for t in outputs], set()
    while stack:
        n = stack.pop()
        if n is None or id(n) in seen:
            continue
        seen.add(id(n))
        if n.hooks and any(x.hooks or x.retain for x in n.hooks.values()):
            return True
        stack += [e[0] for e in n.edges if isinstance(e, tuple) and type(n) is not Boundary]
    return False


def trace_backward(tracer: Tracer, outputs: list[Tensor], leaves: list[Tensor], guard: StateGuard) -> Joint | None:
    """Traces the gradients of ``outputs`` with respect to every lifted tensor that wants one, and to the ``leaves`` that were made. A
    backward that does more than compute gradients is not for a plan: Python has to run it each time."""
    used = [t for t in outputs if consumed(t)]
    for t in used:
        set_history(t, ConsumedNode(()))
    outputs = [t for t in outputs if not any(t is u for u in used)]
    if not outputs:
        return None
    if hooked_inside(outputs):
        raise NotDifferentiable("a gradient hook or retain_grad() inside it has to run at each backward")
    wanted = [*[t for t, _, _ in list(tracer.lifted.values()) if t._req], *leaves]
    boundaries = [t._x.node for t in wanted if t._x is not None and type(t._x.node) is Boundary]
    hooked = [(t._x, t._x.hooks, t._x.post_hooks) for t in wanted if t._x is not None and (t._x.hooks or t._x.post_hooks)]
    tangents = []
    with tracer:
        roots = []
        for i, t in enumerate(outputs):
            v = tracer.graph.input(f"tangent{i}", t._a.shape, t.dtype, t._a.device)
            s = Storage(v, v)
            s.source = Source("tangent", i, None)
            tangents.append(s)
            roots.append(wrap(TracedArray(tracer, s, v.shape, contiguous_strides(v.shape), 0)))
        sink = _Sink(wanted)
        for b in boundaries:
            b.closed = True
        for x, _, _ in hooked:
            x.hooks = x.post_hooks = None  # they run when the backward does
        tracer.must_trace = True
        rehearsal = Rehearsal(guard, tracer)
        try:
            with rehearsal:
                run_backward(outputs, roots, True, False, sink)
            if rehearsal.seen:
                raise NotDifferentiable(f"its backward {rehearsal.seen}, which Python has to do each time")
        except NotDifferentiable:
            rehearsal.undo()
            raise
        except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
            rehearsal.undo()
            raise NotDifferentiable(f"its backward cannot be traced: {e}") from e
        finally:
            tracer.must_trace = False
            for b in boundaries:
                b.closed = False
            for x, hooks, post in hooked:
                x.hooks, x.post_hooks = hooks, post
    for t in outputs:
        t._x.node = None
    return Joint(outputs, tangents, wanted, sink.grads)


def split(joint: Joint, tracer: Tracer, wanted: list[Value], updates: list[tuple[Value, Value]], source_of: dict[int, Source],
          found: list[Tensor], emulate: bool) -> Backward:
    """Cuts the joint graph: decides what the forward saves and plans the backward."""
    tangent_values = [s.value for s in joint.tangents]
    targets = [i for i, g in enumerate(joint.grads) if g is not None]
    grads = [tracer.read(joint.grads[i]._a) for i in targets]
    late = set(tangent_values)
    for n in tracer.graph.nodes:
        if any(v in late for v in n.inputs):
            late.update(n.outputs)
    saved: list[Value] = []
    stack, seen = [v.node for v in grads if v in late], set()
    direct = [v for v in grads if v not in late]
    for v in direct:
        stack.append(v.node)
    while stack:
        n = stack.pop()
        if n.id in seen:
            continue
        seen.add(n.id)
        if not any(v in late for v in n.outputs) and n.kind != "view":
            continue
        for v in n.inputs:
            base = base_of(v)[0]
            if base in late:
                stack.append(base.node)
                if v is not base:
                    stack.append(v.node)
            elif base.node.kind not in ("full", "constant") and base not in saved:
                saved.append(base)
    for v in direct:
        base = base_of(v)[0]
        if base.node.kind not in ("full", "constant") and base not in saved:
            saved.append(base)
    saved = choose_saved(saved)
    graph, inputs = extract(tracer.graph, grads, [*saved, *tangent_values])
    plan = BackwardPlan(Plan(graph, inputs, emulate_casts=emulate), targets)
    position = {id(t): i for i, t in enumerate(found)}
    return Backward([source_of[id(t)] if id(t) in source_of else position[id(t)] for t in joint.inputs],
                    [position[id(t)] for t in joint.outputs], tangent_values, saved, len(wanted), plan,
                    [source_of[id(t)] for t, _, a in tracer.lifted.values() if a.storage.initial in saved and a.storage.value in saved
                     and a.storage.source.kind in ("arg", "object")],
                    [i for i, t in enumerate(found) if isinstance(t._a, TracedArray) and t._a.storage.initial is None
                     and t._a.storage.value in saved])


def extract(graph: Graph, outputs: list[Value], boundary: list[Value]) -> tuple[Graph, list[Value]]:
    """A graph of its own that computes ``outputs`` from the values ``boundary``, which become its inputs."""
    new = Graph()
    env: dict[Value, Value] = {}
    inputs = []
    for i, v in enumerate(boundary):
        env[v] = new.input(f"saved{i}", v.shape, v.dtype, v.device, is_number(v))
        inputs.append(env[v])
    keep, graph.outputs = graph.outputs, list(outputs)
    nodes = graph.live()
    graph.outputs = keep
    need: set[IRNode] = set()
    stack = [v.node for v in outputs if v not in env]
    while stack:
        n = stack.pop()
        if n not in need:
            need.add(n)
            stack += [v.node for v in n.inputs if v not in env]
    for n in nodes:
        if n not in need:
            continue
        args = [env[v] for v in n.inputs]
        outs = [(v.shape, v.dtype, v.device) for v in n.outputs]
        made = new._add(n.kind, n.op, args, n.attrs, outs, None)
        made.structure, made.location = n.structure, n.location
        for a, b in zip(n.outputs, made.outputs):
            if a not in env:
                env[a] = b
    new.outputs = [env[v] for v in outputs]
    return checked(new, "cutting out the backward"), inputs


def restore_history(tracer: Tracer) -> None:
    """Gives lifted tensors back the history they had before the trace."""
    for t, node, index, base, chain in tracer.histories:
        t._x.node, t._x.index, t._x.base, t._x.chain = node, index, base, chain
