"""The tape: nodes recorded by :mod:`fusetorch.dispatch`, walked backwards here.

Gradients are computed with public operations, so a backward pass can itself be recorded (``create_graph=True``) or traced.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from heapq import heappop as pop
from heapq import heappush as push
from sys import getrefcount
from typing import Any

from numpy import add, ndarray, ones

from .. import casting
from ..errors import warn
from ..runtime.cpu_memory import Lease, empty
from ..tensor import Meta, Tensor, _watchers, meta, version_of, wrap
from .modes import GradMode, enable_grad, no_grad
from .nodes import AccumulateGrad, Node, edge_of, set_history

# ---------------------------------------------------------------------------------------------------- views and in-place


class CopySlices(Node):
    """History of a base tensor after an in-place write through one of its views."""

    def __init__(self, base: Tensor, chain: tuple, inner: Node | None, inner_index: int) -> None:
        super().__init__((edge_of(base), (inner, inner_index)) if inner is not None else (edge_of(base),))
        self.chain, self.inner = chain, inner
        strides = base.stride()
        self.dims = sorted(range(len(strides)), key=lambda d: -strides[d])

    def backward(self, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        """The written part's gradient goes to the write, the rest to the old base."""
        g = grads[0].permute(self.dims).contiguous()  # in the order of the base's dimensions, so that it can be viewed as the base was
        g = g.permute([self.dims.index(d) for d in range(g.dim())])
        rest = g.clone()
        with no_grad():
            replay(self.chain, rest).zero_()
        return (rest, replay(self.chain, g)) if self.inner is not None else (rest,)


def replay(chain: tuple, base: Tensor) -> Tensor:
    """Applies the view operations ``chain`` to ``base``."""
    for apply, op, attrs in chain:
        base = apply(op, base, attrs)
    return base


def rebase(t: Tensor, node: Node | None, index: int = 0) -> None:
    """Records that ``t`` was overwritten in place by output ``index`` of ``node`` (``None``: by a constant)."""
    x = meta(t)
    if x.base is None:
        if node is not None:
            set_history(t, node, index)
        else:
            x.node = None
        return
    base = x.base
    if node is not None or base._req:
        copy = CopySlices(base, x.chain, node, index)
        set_history(base, copy)
        t._req = True
        refresh_view(t)


def refresh_view(t: Tensor) -> None:
    """Makes a view's history follow its base after an in-place write."""
    x = t._x
    x.seen = x.base._x.version[0]
    if not x.base._req:
        return
    with enable_grad():
        again = replay(x.chain, x.base)
    t._req = again._req
    x.node, x.index = (again._x.node, again._x.index) if again._x is not None else (None, 0)


def check_inplace(t: Tensor, op: str) -> None:
    """PyTorch's refusals of in-place writes: to memory seen more than once, and to leaves while gradients are recorded."""
    a = t._a
    if 0 in a.strides and 0 not in a.shape and any([s == 0 and n > 1 for s, n in zip(a.strides, a.shape)]):
        raise RuntimeError(f"{op}: unsupported operation: more than one element of the written-to tensor (shape "
                           f"{list(a.shape)}) refers to a "
                           "single memory location. Please clone() the tensor before performing the operation.")
    if not (GradMode.enabled and t._req):
        return
    if t.grad_fn is None:
        raise RuntimeError(f"a leaf Variable that requires grad is being used in an in-place operation ({op}). "
                           "Use torch.no_grad() around it, or the out-of-place form.")
    x = t._x
    if x.frozen:
        raise RuntimeError(f"{op}: a result of a compiled function that shares memory with another tensor is being modified in place, "
                           "which would "
                           "give wrong gradients. Clone it first, or modify it inside the compiled function.")
    if x.base is not None and x.base._req and x.base.grad_fn is None:
        raise RuntimeError(f"a view of a leaf Variable that requires grad is being used in an in-place operation ({op}).")


# ---------------------------------------------------------------------------------------------------- the engine


def _run_hooks(t: Meta, g: Tensor) -> Tensor:
    for hook in list(t.hooks.values()):
        new = hook(g)
        if new is not None:
            g = new
    return g


#: In anomaly mode, what runs a node and checks its result; see :mod:`fusetorch.autograd.anomaly_mode`.
anomaly: list[Callable | None] = [None]

#: Functions to be called when the backward pass that runs now is done, one list for each pass under way.
callbacks: list[list[Callable[[], None]]] = []


def edge_to(e: Any) -> Any:
    """The edge that a ``GradientEdge`` (a node and an output number) names."""
    node = e[0]
    return node.variable if isinstance(node, AccumulateGrad) else (node, e[1])


class _Sink:
    """Collects gradients of chosen tensors for :func:`grad`, instead of accumulating into ``.grad``."""

    def __init__(self, inputs: Sequence[Any]) -> None:
        self.leaves: dict[int, list[int]] = {}
        self.inner: dict[tuple[int, int], list[int]] = {}
        for i, t in enumerate(inputs):
            e = edge_of(t) if isinstance(t, Tensor) else edge_to(t)
            if isinstance(e, tuple):
                self.inner.setdefault((id(e[0]), e[1]), []).append(i)
            else:
                self.leaves.setdefault(id(t if e is None else e), []).append(i)
        self.grads: list[Tensor | None] = [None] * len(inputs)

    def needed(self, roots: Sequence[Any]) -> set[int]:
        """The nodes below ``roots`` that lead to a chosen tensor, by id: no others have to run."""
        found: dict[int, bool] = {}
        stack: list[tuple[Node, bool]] = []
        for t in roots:
            e = edge_of(t) if isinstance(t, Tensor) else edge_to(t)
            if isinstance(e, tuple):
                stack.append((e[0], False))
        while stack:
            node, done = stack.pop()
            if done:
                found[id(node)] = any([e is not None and (id(e) in self.leaves if not isinstance(e, tuple) else
                                                          found[id(e[0])] or (id(e[0]), e[1]) in self.inner) for e in node.edges])
            elif id(node) not in found:
                found[id(node)] = False
                stack.append((node, True))
                stack.extend([(e[0], False) for e in node.edges if isinstance(e, tuple) and id(e[0]) not in found])
        return {k for k, v in found.items() if v}


def run_backward(roots: Sequence[Tensor], grads: Sequence[Tensor], retain_graph: bool, create_graph: bool,
                 sink: _Sink | None = None) -> None:
    """Walks the tape from ``roots``, newest node first, adding gradients up on the way."""
    if casting.on[0]:  # gradients have the dtypes of what they belong to
        with casting.suspended():
            return run_backward(roots, grads, retain_graph, create_graph, sink)
    pending: dict[int, list[Tensor | None]] = {}
    heap: list[tuple[int, int, Node]] = []
    leaves: dict[int, tuple[Tensor, Tensor]] = {}

    needed = None if sink is None else sink.needed(roots)
    after: list[Callable[[], None]] = []
    callbacks.append(after)

    def send(edge: Any, g: Tensor) -> None:
        if isinstance(edge, tuple):
            node, index = edge
            if needed is not None and id(node) not in needed and (id(node), index) not in sink.inner:
                return
            slot = pending.get(id(node))
            if slot is None:
                slot = pending[id(node)] = [None] * node.n_outputs
                push(heap, (-node.order, id(node), node))
            slot[index] = g if slot[index] is None else slot[index] + g
        else:
            seen = leaves.get(id(edge))
            leaves[id(edge)] = (edge, g if seen is None else seen[1] + g)

    try:
        _walk(roots, grads, retain_graph, create_graph, sink, needed, send, heap, pending, leaves)
    finally:
        callbacks.pop()
    for f in after:
        f()


def _walk(roots: Sequence[Any], grads: Sequence[Tensor], retain_graph: bool, create_graph: bool, sink: _Sink | None,
          needed: set[int] | None, send: Callable[[Any, Tensor], None], heap: list, pending: dict, leaves: dict) -> None:
    mode, GradMode.enabled = GradMode.enabled, create_graph
    wholes: dict[Any, Tensor] | None = None if create_graph or needed is not None or _watchers else {}
    try:
        for t, g in zip(roots, grads):
            e = edge_of(t) if isinstance(t, Tensor) else edge_to(t)
            if e is not None:
                send(e, g)
        while heap:
            node = pop(heap)[2]
            incoming = pending.pop(id(node))
            if wholes:
                for k in range(node.n_outputs):
                    wholes.pop((id(node), k), None)
            if node.hooks is not None or sink is not None:
                _look(node, incoming, sink)
            if needed is not None and id(node) not in needed:
                continue
            if node.released:
                raise RuntimeError("Trying to backward through the graph a second time (or directly access saved tensors after "
                                   "they have already been freed). Saved intermediate values of the graph are freed when you "
                                   "call .backward() or autograd.grad(). Specify retain_graph=True if you need to backward "
                                   "through the graph a second time.")
            extra = node.extra
            if extra is not None and extra.before:
                for hook in list(extra.before.values()):
                    new = hook(tuple(incoming))
                    if new is not None:
                        incoming = list(new) if isinstance(new, (tuple, list)) else [new]
            elif node.part is not None and wholes is not None and anomaly[0] is None and extra is None and _add_part(
                    node, incoming[0], heap, pending, leaves, wholes):
                continue
            out = node.backward(incoming) if anomaly[0] is None else anomaly[0](node, incoming)
            if extra is not None and extra.after:
                for hook in list(extra.after.values()):
                    new = hook(tuple(out), tuple(incoming))
                    if new is not None:
                        out = new if isinstance(new, (tuple, list)) else (new,)
            if not retain_graph:
                node.release()
            for e, g in zip(node.edges, out):
                if e is None or g is None:
                    continue
                if needed is not None:
                    send(e, g)
                elif type(e) is tuple:  # send, in line
                    to, index = e
                    slot = pending.get(id(to))
                    if slot is None:
                        slot = pending[id(to)] = [None] * to.n_outputs
                        push(heap, (-to.order, id(to), to))
                        slot[index] = g
                    else:
                        slot[index] = g if slot[index] is None else slot[index] + g
                else:
                    seen = leaves.get(id(e))
                    leaves[id(e)] = (e, g if seen is None else seen[1] + g)
        to = slot = out = incoming = node = seen = e = wholes = None  # what is counted below should not be held here
        traced = _traced_memory()
        for leaf, g in leaves.values():
            x = meta(leaf)
            if x.hooks:
                g = _run_hooks(x, g)
            if sink is not None:
                for i in sink.leaves.get(id(leaf), ()):
                    sink.grads[i] = g
                continue
            if x.grad is None:
                # the gradient must not share memory with anything else that may be written
                x.grad = g if create_graph else wrap(g._a) if getrefcount(g) == 3 and _sole_owner(g, traced) else g.detach().clone()
                if x.grad._a.strides != leaf._a.strides and not create_graph and traced is None:
                    x.grad = _in_order_of(leaf, x.grad)
            elif create_graph:
                x.grad = x.grad + g
            elif traced is not None or not _added(x.grad, g):
                x.grad.add_(g)
            if x.post_hooks:
                for hook in list(x.post_hooks.values()):
                    hook(leaf)
    finally:
        GradMode.enabled = mode


def _add_part(node: Any, g: Tensor, heap: list, pending: dict, leaves: dict, wholes: dict[Any, Tensor]) -> bool:
    """Adds the gradient of a part of a tensor into one of the whole that the walk has made, where it can: else each part would be padded
    with zeros and added to the others, as many elements for each as the whole has. ``wholes`` are those by where they go."""
    a, e = g._a, node.edges[0]
    if type(a) is not ndarray or type(g) is not Tensor:
        return False
    if type(e) is tuple:
        to, index = e
        key: Any = (id(to), index)
        slot = pending.get(id(to))
        known = None if slot is None else slot[index]
    else:
        key, slot, known = id(e), None, leaves.get(id(e))
        known = None if known is None else known[1]
    if known is None:
        whole = empty(node.operands[0][0], a.dtype)
        whole.fill(0)
        node.part(whole, *node.attrs.values())[...] = a
        wholes[key] = known = wrap(whole)
        if type(e) is not tuple:
            leaves[key] = (e, known)
            return True
        if slot is None:
            slot = pending[id(to)] = [None] * to.n_outputs
            push(heap, (-to.order, id(to), to))
        slot[index] = known
    elif wholes.get(key) is known and known._a.dtype is a.dtype:
        region = node.part(known._a, *node.attrs.values())
        region += a
    else:
        return False
    return True


def _look(node: Node, incoming: list[Tensor | None], sink: _Sink | None) -> None:
    """Runs the hooks of a node's outputs, and takes the gradients that are asked for."""
    for k in range(node.n_outputs):
        x = None if node.hooks is None else node.hooks.get(k)
        if x is not None and incoming[k] is not None:
            if x.hooks:
                incoming[k] = _run_hooks(x, incoming[k])
            if x.retain:
                x.grad = incoming[k] if x.grad is None else x.grad + incoming[k]
        if sink is not None:
            for i in sink.inner.get((id(node), k), ()):
                sink.grads[i] = incoming[k]


def _in_order_of(leaf: Tensor, g: Tensor) -> Tensor:
    """A gradient with its dimensions in the order of its leaf's, as PyTorch keeps them: it can be viewed as the leaf can."""
    from ..writing import lay_out
    return lay_out("like", g, (leaf,)).detach() if type(g) is Tensor and g._a.shape == leaf._a.shape else g


def _added(total: Tensor, g: Tensor) -> bool:
    """Adds a gradient to a small one of its kind, where that is one call of NumPy."""
    a, b = total._a, g._a
    if not (type(a) is type(b) is ndarray and a.size <= 4096 and a.dtype is b.dtype and a.shape == b.shape and a.dtype.char in "fd"
            and a.flags.c_contiguous and a.flags.writeable) or total._req or type(total) is not Tensor:
        return False
    add(a, b, a)
    version_of(total)[0] += 1
    return True


def _sole_owner(g: Tensor, traced: Counter | None) -> bool:
    """Whether nothing else can see this memory. (Whoever calls has counted the references to the tensor: its own and the collection's.)
    ``traced``: while tracing, how many tensors see each memory."""
    a, x = g._a, g._x
    if not g.is_contiguous() or (x is not None and x.base is not None):
        return False
    if traced is not None and type(a) is not ndarray:
        return a.storage.initial is None and traced[id(a.storage)] == 1
    if type(a) is not ndarray:
        return getrefcount(a) == 3 and getrefcount(a.storage) == 2
    if getrefcount(a) != 3:
        return False
    whole = a.base
    if type(whole) is ndarray:  # a reshaped result: the tensor before has gone
        if whole.size != a.size or getrefcount(whole) != (3 if x is None or x.memory is not whole else 4):
            return False
        whole = whole.base
    return whole is None or (type(whole) is Lease and getrefcount(whole) == 3)


def _traced_memory() -> Counter | None:
    """How many live tensors see each traced memory; ``None`` if nothing is traced."""
    if not _watchers:
        return None
    return Counter([id(t._a.storage) for t in list(_watchers[-1]) if hasattr(t._a, "storage")])


def watch(t: Tensor) -> None:
    """Has the engine look at this non-leaf tensor's hooks and ``retain_grad``."""
    node = t.grad_fn
    if node is not None:
        if node.hooks is None:
            node.hooks = {}
        node.hooks[t._x.index] = t._x


def backward(tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
             inputs: Any = None) -> None:
    """Adds the gradients of ``tensors`` to the leaves' ``grad`` (see ``torch.autograd.backward``)."""
    roots = _listed(tensors)
    grads = _root_grads(roots, grad_tensors)
    if create_graph:
        warn("Using backward() with create_graph=True will create a reference cycle between the parameter and its gradient which can cause "
             "a memory leak. We recommend using autograd.grad when creating the graph to avoid this. If you have to use this function, "
             "make sure to reset the .grad fields of your parameters to None after use to break the cycle and avoid the leak.")
    retain = create_graph if retain_graph is None else retain_graph
    if inputs is None:
        run_backward(roots, grads, retain, create_graph)
        return
    wanted = _listed(inputs)
    if not wanted:
        raise RuntimeError("'inputs' argument to backward cannot be empty.")
    sink = _Sink(wanted)
    run_backward(roots, grads, retain, create_graph, sink)
    for t, g in zip(wanted, sink.grads):
        if g is not None:
            leaf = t if isinstance(t, Tensor) else edge_to(t)
            leaf.grad = g if leaf.grad is None else leaf.grad + g
            for hook in list((meta(leaf).post_hooks or {}).values()):
                hook(leaf)


def _listed(tensors: Any) -> list[Any]:
    edge = isinstance(tensors, tuple) and len(tensors) == 2 and isinstance(tensors[0], (Node, AccumulateGrad))
    one = edge or isinstance(tensors, Tensor)
    return [tensors] if one else list(tensors)


def _root_grads(roots: list[Any], given: Any) -> list[Tensor]:
    given = [given] if given is None or isinstance(given, Tensor) else list(given)
    if len(given) > len(roots) or (len(given) < len(roots) and given != [None]):
        raise RuntimeError(f"got {len(roots)} tensors and {len(given)} gradients")
    given += [None] * (len(roots) - len(given))
    for i, (t, g) in enumerate(zip(roots, given)):
        if isinstance(t, Tensor) and not t._req:
            raise RuntimeError(f"element {i} of tensors does not require grad and does not have a grad_fn")
        if not isinstance(t, Tensor) and g is None:
            raise RuntimeError("grad can be implicitly created only for scalar outputs; a GradientEdge needs its gradient")
    return [_root_grad(t, g) if isinstance(t, Tensor) else g for t, g in zip(roots, given)]


def _root_grad(t: Tensor, g: Tensor | None) -> Tensor:
    if g is None:
        if t.numel() != 1:
            raise RuntimeError(f"grad can be implicitly created only for scalar outputs (this one has shape {list(t.shape)}; "
                               "pass gradient= of that shape)")
        if t.dtype.is_complex:
            raise RuntimeError(f"grad can be implicitly created only for real scalar outputs but got {t.dtype}")
        if type(t._a) is ndarray:
            return wrap(ones(t._a.shape, t._a.dtype))
        from ..ops.opdef import fn
        return fn.ones_like(t)
    if g.shape != t.shape:
        raise RuntimeError(f"Mismatch in shape: grad_output[0] has a shape of {g.shape} and output[0] has a shape of {t.shape}.")
    return g


def grad(outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
         only_inputs: bool = True, allow_unused: bool | None = None, is_grads_batched: bool = False,
         materialize_grads: bool = False) -> tuple[Tensor | None, ...]:
    """The gradients of ``outputs`` with respect to ``inputs``, returned instead of accumulated.

    Raises ``RuntimeError`` if an input was not used, unless ``allow_unused`` (then ``None``) or ``materialize_grads`` (then zeros).

    Example:
        >>> import fusetorch as torch
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> torch.autograd.grad(x * x, x)
        (tensor(6.),)
    """
    allow_unused = materialize_grads if allow_unused is None else allow_unused
    if materialize_grads and not allow_unused:
        raise ValueError("Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False.")
    roots, wanted = _listed(outputs), _listed(inputs)
    if is_grads_batched:
        return _grad_of_each(roots, wanted, grad_outputs, retain_graph, create_graph, allow_unused, materialize_grads)
    for t in wanted:
        if isinstance(t, Tensor) and not t._req:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    sink = _Sink(wanted)
    run_backward(roots, _root_grads(roots, grad_outputs), create_graph if retain_graph is None else retain_graph, create_graph, sink)
    out = []
    for t, g in zip(wanted, sink.grads):
        if g is None and materialize_grads:
            from ..ops.opdef import fn
            g = fn.zeros_like(t)
        if g is None and not allow_unused:
            raise RuntimeError(f"The differentiated Tensor at index {len(out)} appears to not have been used in the graph. "
                               "Set allow_unused=True if this is the desired behavior.")
        out.append(g)
    return tuple(out)


def _grad_of_each(roots: list[Any], wanted: list[Any], batches: Any, retain_graph: bool | None, create_graph: bool, allow_unused: bool,
                  materialize_grads: bool) -> tuple[Tensor | None, ...]:
    """``grad`` for each gradient along the first dimension of ``batches``, stacked."""
    from ..ops.opdef import fn
    given = _listed(batches)
    n = next(g.shape[0] for g in given if g is not None)
    keep = create_graph if retain_graph is None else retain_graph
    rows = [grad(roots, wanted, [None if g is None else g[k] for g in given], keep or k + 1 < n, create_graph,
                 allow_unused=allow_unused, materialize_grads=materialize_grads) for k in range(n)]
    return tuple([None if column[0] is None else fn.stack(list(column)) for column in zip(*rows)])
