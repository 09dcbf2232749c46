"""The transforms of ``torch.func``: derivatives of functions, and functions mapped over a dimension.

A derivative is taken on the ordinary tape: the function runs on fresh tensors, and what it returns keeps its history only where something
else that requires a gradient (an outer transform's tensor, a parameter) went into it. ``vmap`` runs the function once on
tensors of all slices where operations allow it, and else once per slice, so anything that runs on one slice is right.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import fusetorch as torch
from fusetorch.autograd.functional import push_forward
from fusetorch.batched_backend import NotBatched
from fusetorch.runtime.batched import BatchedArray
from fusetorch.tensor import Tensor, tracer, wrap
from fusetorch.utils._pytree import TreeSpec, broadcast_prefix, tree_flatten, tree_map_only, tree_unflatten

__all__ = ["grad", "grad_and_value", "vjp", "jvp", "jacrev", "jacfwd", "hessian", "linearize", "vmap", "functionalize"]


# ---------------------------------------------------------------------------------------------------- derivatives


def _fresh(t: Any) -> Any:
    """A tensor of its own node in place of ``t``."""
    if not isinstance(t, Tensor):
        return t
    if t.dtype.is_floating_point or t.dtype.is_complex:
        return t.view_as(t) if t.requires_grad else t.detach().requires_grad_()
    return t


def _free(t: Any, fresh: list[Tensor]) -> Any:
    """``t`` without a history that only leads to ``fresh``."""
    if not isinstance(t, Tensor) or not t.requires_grad:
        return t
    mine = {id(x) for x in fresh if x.grad_fn is None}
    if t.grad_fn is None:
        return t.detach() if id(t) in mine else t
    seen = set()
    stack = [t.grad_fn]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        for e in node.edges:
            if isinstance(e, tuple):
                stack.append(e[0])
            elif e is not None and id(e) not in mine:
                return t
    return t.detach()


def _release(tree: Any, fresh: list[Tensor]) -> Any:
    keep = torch.is_grad_enabled()
    return tree_map_only(Tensor, lambda t: _free(t, fresh) if keep else t.detach(), tree)


def _chosen(args: tuple, argnums: Any, name: str) -> tuple[tuple, Any, list[Tensor]]:
    """The arguments with fresh tensors at ``argnums``, the spec of those, and the fresh tensors."""
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if not all(isinstance(k, int) for k in numbers):
        raise RuntimeError(f"argnums should be int or Tuple[int, ...], got: {argnums!r}")
    if not numbers:
        raise RuntimeError("argnums must be non-empty")
    for k in numbers:
        if not -len(args) <= k < len(args):
            raise RuntimeError(f"Got argnum={k}, but only {len(args)} positional inputs")
    numbers = tuple([k % len(args) for k in numbers])
    leaves, spec = tree_flatten(args[numbers[0]] if isinstance(argnums, int) else tuple([args[k] for k in numbers]))
    for t in leaves:
        if not isinstance(t, Tensor):
            raise ValueError(f"{name}(f)(*args): argument at argnums must hold Tensors only, got {type(t)}")
    fresh = [_fresh(t) for t in leaves]
    made = tree_unflatten(fresh, spec)
    given = list(args)
    for k, x in zip(numbers, (made,) if isinstance(argnums, int) else made):
        given[k] = x
    return tuple(given), spec, fresh


def _zeros_for(found: Any, like: list[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(t) if g is None else g for t, g in zip(like, found)]


def _gradients(outputs: list[Tensor], inputs: list[Tensor], vectors: list[Tensor]) -> list[Tensor]:
    live = [(o, v) for o, v in zip(outputs, vectors) if o.requires_grad]
    if not live:
        return [torch.zeros_like(t) for t in inputs]
    wanted = [t for t in inputs if t.requires_grad]
    found = iter(torch.autograd.grad([o for o, _ in live], wanted, [v for _, v in live], create_graph=True, allow_unused=True))
    return _zeros_for([next(found) if t.requires_grad else None for t in inputs], inputs)


def grad_and_value(func: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable:
    """A function that returns the gradient of scalar ``func`` and its value (with ``has_aux``: ``(gradient, (value, aux))``)."""
    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with torch.enable_grad():
            given, spec, fresh = _chosen(args, argnums, "grad_and_value")
            out = func(*given, **kwargs)
            aux = None
            if has_aux:
                if not (isinstance(out, tuple) and len(out) == 2):
                    raise RuntimeError("grad_and_value(f)(*args): output of function f should be a tuple: (output, aux) if has_aux is True")
                out, aux = out
            if not isinstance(out, Tensor):
                raise RuntimeError(f"grad_and_value(f)(*args): Expected f(*args) to return a Tensor, got {type(out)}")
            if out.ndim:
                raise RuntimeError("grad_and_value(f)(*args): Expected f(*args) to return a scalar Tensor, got tensor with "
                                   f"{out.ndim} dims. Maybe you wanted to use the vjp or jacrev APIs instead?")
            found = _gradients([out], fresh, [torch.ones_like(out)])
        result = _release(tree_unflatten(found, spec), fresh)
        value = _release(out, fresh)
        return (result, (value, _release(aux, fresh))) if has_aux else (result, value)
    return wrapper


def grad(func: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable:
    """A function that returns the gradient of scalar ``func`` to its arguments ``argnums`` (tensors in any nesting of containers).

    With ``has_aux`` ``func`` returns ``(value, aux)`` and the result is ``(gradient, aux)``.

    Example:
        >>> import fusetorch as torch
        >>> torch.func.grad(torch.func.grad(torch.sin))(torch.tensor(0.5)) == -torch.sin(torch.tensor(0.5))
        tensor(True)
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        found, rest = both(*args, **kwargs)
        return (found, rest[1]) if has_aux else found
    return wrapper


def _aux(out: Any, has_aux: bool, name: str) -> tuple[Any, Any]:
    if not has_aux:
        return out, None
    if not (isinstance(out, tuple) and len(out) == 2):
        raise RuntimeError(f"{name}(f, *primals): output of function f should be a tuple: (output, aux) if has_aux is True")
    return out


def _tensors_only(tree: Any, what: str) -> tuple[list[Tensor], TreeSpec]:
    leaves, spec = tree_flatten(tree)
    for t in leaves:
        if not isinstance(t, Tensor):
            raise RuntimeError(f"{what} to be a Tensor, or a pytree of Tensors, got {type(t)}")
    if not leaves:
        raise RuntimeError(f"{what} to be a non-empty tuple or pytree of Tensors")
    return leaves, spec


def vjp(func: Callable, *primals: Any, has_aux: bool = False) -> Any:
    """``func``'s output at ``primals`` and a function that multiplies a cotangent of the output with the Jacobian.

    Example:
        >>> import fusetorch as torch
        >>> out, pull_back = torch.func.vjp(torch.square, torch.tensor([1.0, 2.0]))
        >>> pull_back(torch.ones(2))
        (tensor([2., 4.]),)
    """
    with torch.enable_grad():
        leaves, spec = _tensors_only(primals, "vjp(f, *primals): Expected primals")
        fresh = [_fresh(t) for t in leaves]
        out, aux = _aux(func(*tree_unflatten(fresh, spec)), has_aux, "vjp")
        outputs, out_spec = _tensors_only(out, "vjp(f, *primals): Expected f(*primals)")

    def pull_back(cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        vectors, have = tree_flatten(cotangents)
        if have != out_spec:
            raise RuntimeError("Expected pytree structure of cotangents to be the same as pytree structure of outputs to the function. "
                               f"cotangents: {have}, primal output: {out_spec}")
        for v, o in zip(vectors, outputs):
            if v.shape != o.shape:
                raise RuntimeError(f"Mismatch in shape: grad_output has a shape of {v.shape} and output has a shape of {o.shape}.")
        with torch.enable_grad():
            found = _gradients(outputs, fresh, vectors)
        return _release(tree_unflatten(found, spec), fresh)

    result = _release(out, fresh)
    return (result, pull_back, _release(aux, fresh)) if has_aux else (result, pull_back)


def jvp(func: Callable, primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False) -> Any:
    """``func``'s output at the tuple ``primals`` and its Jacobian times the tuple ``tangents``.

    The product comes from differentiating a backward pass, so ``func``'s operations must be twice differentiable.
    """
    if not isinstance(primals, tuple):
        raise RuntimeError(f"jvp(f, primals, tangents): Expected primals to be a tuple. E.g. it should be valid to call f(*primals), got "
                           f"{type(primals)}")
    with torch.enable_grad():
        leaves, spec = _tensors_only(primals, "jvp(f, primals, tangents): Expected primals")
        vectors, have = _tensors_only(tangents, "jvp(f, primals, tangents): Expected tangents")
        if have != spec:
            raise RuntimeError("jvp(f, primals, tangents): Expected primals and tangents to have the same python structure. For example, "
                               "if primals is a tuple of 3 tensors, tangents also must be.")
        fresh = [_fresh(t) for t in leaves]
        out, aux = _aux(func(*tree_unflatten(fresh, spec)), has_aux, "jvp")
        outputs, out_spec = _tensors_only(out, "jvp(f, primals, tangents): Expected f(*primals)")
        pairs = [(t, v) for t, v in zip(fresh, vectors) if t.requires_grad]
        found, helpers = push_forward(tuple(outputs), tuple([t for t, _ in pairs]), tuple([v for _, v in pairs]), True)
    result, product = _release(out, fresh), _release(tree_unflatten(found, out_spec), [*fresh, *helpers])
    return (result, product, _release(aux, fresh)) if has_aux else (result, product)


def linearize(func: Callable, *primals: Any) -> tuple[Any, Callable]:
    """``func``'s output at ``primals`` and the function that multiplies its Jacobian there with tangents."""
    out = func(*primals)

    def product(*tangents: Any) -> Any:
        return jvp(func, primals, tangents)[1]

    return out, product


def jacrev(func: Callable, argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False, chunk_size: int | None = None,
           _preallocate_and_copy: bool = False) -> Callable:
    """A function that returns the Jacobian of ``func`` to its arguments ``argnums``: per output, per input, of shape
    ``(*output, *input)``. ``chunk_size`` is accepted; rows are computed all at once, or one at a time.

    Example:
        >>> import fusetorch as torch
        >>> torch.func.jacrev(torch.square)(torch.tensor([1.0, 2.0]))
        tensor([[2., 0.],
                [0., 4.]])
    """
    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with torch.enable_grad():
            given, spec, fresh = _chosen(args, argnums, "jacrev")
            out, aux = _aux(func(*given, **kwargs), has_aux, "jacrev")
            outputs, out_spec = _tensors_only(out, "jacrev(f)(*args): Expected f(*args)")
            per_output = []
            for o in outputs:
                flat = o.reshape(-1)
                columns = _rows_at_once(flat, fresh)
                if columns is None:
                    rows = [_gradients([flat], fresh, [_unit(flat, k)]) for k in range(flat.shape[0])]
                    columns = [torch.stack([r[i] for r in rows]) if rows else None for i in range(len(fresh))]
                per_output.append(tree_unflatten([o.new_zeros((*o.shape, *t.shape)) if c is None else c.reshape(*o.shape, *t.shape)
                                                  for c, t in zip(columns, fresh)], spec))
        result = _release(tree_unflatten(per_output, out_spec), fresh)
        return (result, _release(aux, fresh)) if has_aux else result
    return wrapper


def _rows_at_once(flat: Tensor, fresh: list[Tensor]) -> list[Tensor | None] | None:
    """The gradients of each element of ``flat``, in one backward pass over all of them; ``None`` where that cannot be, or where something
    outside wants to differentiate them."""
    n = flat.shape[0]
    if not n or tracer[0] is not None or type(flat._a) is not np.ndarray or not flat.requires_grad or _free(flat, fresh).requires_grad:
        return None
    unit = wrap(BatchedArray(np.eye(n, dtype=flat._a.dtype)))
    try:
        found = iter(torch.autograd.grad([flat], [t for t in fresh if t.requires_grad], [unit], retain_graph=True, allow_unused=True))
        rows = [next(found) if t.requires_grad else None for t in fresh]
        return [None if g is None else _gathered(g, 0, n) for g in rows]
    except _OBSTACLES:
        return None


def _unit(flat: Tensor, k: int) -> Tensor:
    e = torch.zeros_like(flat.detach())
    e[k] = 1
    return e


def jacfwd(func: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False, *, randomness: str = "error") -> Callable:
    """The same numbers as :func:`jacrev`; there is no separate forward mode."""
    return jacrev(func, argnums, has_aux=has_aux)


def hessian(func: Callable, argnums: int | tuple[int, ...] = 0) -> Callable:
    """A function that returns the second derivatives of ``func``."""
    return jacfwd(jacrev(func, argnums), argnums)


def functionalize(func: Callable, *, remove: str = "mutations") -> Callable:
    """``func`` itself: writes in place are right under every transform here."""
    return func


# ---------------------------------------------------------------------------------------------------- vmap


def vmap(func: Callable, in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error", *, chunk_size: int | None = None) -> Callable:
    """``func`` mapped over a dimension of its arguments.

    Args:
        in_dims: the mapped dimension of each argument (or nested as the arguments are); ``None`` for one that is not mapped.
        out_dims: where the mapped dimension goes in the outputs; ``None`` for one that is the same for all.
        randomness: ``"error"`` refuses random operations, ``"different"`` lets each slice draw, ``"same"`` gives all the same draws.
        chunk_size: accepted; slices are computed all at once, or one at a time.

    Example:
        >>> import fusetorch as torch
        >>> torch.vmap(torch.dot)(torch.ones(2, 3), torch.ones(2, 3))
        tensor([3., 3.])
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}")
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")
    name = getattr(func, "__name__", repr(func))

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        leaves, spec = tree_flatten(args)
        dims = _in_dims(in_dims, args, leaves, spec, name)
        sizes = {t.shape[d] for t, d in zip(leaves, dims) if d is not None}
        if not sizes:
            raise ValueError("vmap: Expected at least one Tensor to vmap over")
        if len(sizes) > 1:
            raise ValueError("vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
                             f"{[t.shape[d] for t, d in zip(leaves, dims) if d is not None]} for the mapped dimension")
        n = sizes.pop()
        if n == 0:
            raise ValueError("vmap: the mapped dimension has size 0, so there is no slice to run the function on")
        if _batchable(leaves, dims):
            done, result = _at_once(func, leaves, dims, spec, kwargs, randomness, out_dims)
            if done:
                return result
        slices = [t if d is None else t.unbind(d) for t, d in zip(leaves, dims)]
        results = _each([tree_unflatten([s if d is None else s[k] for s, d in zip(slices, dims)], spec) for k in range(n)], func, kwargs,
                        randomness)
        return _stacked(results, out_dims, name)
    return wrapper


def _batchable(leaves: list, dims: list[int | None]) -> bool:
    """Whether all slices may be computed at once: on the CPU, outside of traces and other maps, and nothing outside wants gradients."""
    keep = torch.is_grad_enabled()
    return tracer[0] is None and all([d is None or (type(t) is Tensor and type(t._a) is np.ndarray and not (keep and t.requires_grad))
                                      for t, d in zip(leaves, dims)])


#: What stands in the way of computing all slices at once. The slices, run one by one, then say whether it is a mistake.
_OBSTACLES = (NotBatched, RuntimeError, TypeError, ValueError, IndexError, AttributeError, NotImplementedError, AssertionError)


def _at_once(func: Callable, leaves: list, dims: list[int | None], spec: TreeSpec, kwargs: dict, randomness: str,
             out_dims: Any) -> tuple[bool, Any]:
    """Runs ``func`` once on tensors of all slices (:mod:`fusetorch.batched_backend`): ``(True, result)``, or False where that cannot be."""
    given = [t if d is None else wrap(BatchedArray(np.moveaxis(t._a, d, 0))) for t, d in zip(leaves, dims)]
    n = next(t.shape[d] for t, d in zip(leaves, dims) if d is not None)
    generator = torch.default_generator
    before = generator.state_bytes()
    try:
        flat, made = tree_flatten(func(*tree_unflatten(given, spec), **kwargs))
        places = broadcast_prefix(out_dims, made)
        drawn = generator.state_bytes() != before
        fine = not (drawn and randomness != "same") and all([type(t) is Tensor and not t.requires_grad for t in flat])
        outs = [_gathered(t, d, n) for t, d in zip(flat, places)] if fine else []
    except _OBSTACLES:
        fine = False
    if not fine:
        generator.load_bytes(before)
        return False, None
    return True, tree_unflatten(outs, made)


def _gathered(t: Tensor, d: int | None, n: int) -> Tensor:
    """A result of all slices as one tensor, with the slices along ``d``."""
    a = t._a
    if d is None:
        return wrap(a.memory[0]) if type(a) is BatchedArray else t
    if type(a) is not BatchedArray:
        return torch.stack([t] * n, d)
    whole = np.moveaxis(a.memory, 0, d if d >= 0 else d + a.memory.ndim)
    return wrap(np.array(whole, order="C"))


def _in_dims(in_dims: Any, args: tuple, leaves: list, spec: TreeSpec, name: str) -> list[int | None]:
    where = f"vmap({name}, in_dims={in_dims}, ...)(<inputs>)"
    if not isinstance(in_dims, (int, tuple)):
        raise ValueError(f"{where}: expected `in_dims` to be int or a (potentially nested) tuple matching the structure of inputs, got: "
                         f"{type(in_dims)}.")
    if not args:
        raise ValueError(f"{where}: got no inputs. Maybe you forgot to add inputs, or you are trying to vmap over a function with no "
                         "inputs. The latter is unsupported.")
    try:
        dims = broadcast_prefix(in_dims, spec)
    except ValueError:
        raise ValueError(f"{where}: in_dims is not compatible with the structure of inputs. in_dims has structure {in_dims} but inputs has "
                         f"structure {spec}.") from None
    out = []
    for t, d in zip(leaves, dims):
        if d is not None and not isinstance(d, int):
            raise ValueError(f"{where}: Got in_dim={d} for an input but in_dim must be either an integer dimension or None.")
        if d is not None and not isinstance(t, Tensor):
            raise ValueError(f"{where}: Got in_dim={d} for an input but the input is of type {type(t)}. We cannot vmap over non-Tensor "
                             "arguments, please use None as the respective in_dim")
        if d is not None and not -t.ndim <= d < t.ndim:
            raise ValueError(f"{where}: Got in_dim={d} for some input, but that input is a Tensor of dimensionality {t.ndim} so expected "
                             f"in_dim to satisfy -{t.ndim} <= in_dim < {t.ndim}.")
        out.append(d)
    return out


def _each(calls: list[Any], func: Callable, kwargs: dict, randomness: str) -> list[Any]:
    generator = torch.default_generator
    before = generator.state_bytes()
    results = []
    for args in calls:
        if randomness == "same" and results:
            generator.load_bytes(before)
        results.append(func(*args, **kwargs))
        if randomness == "error" and generator.state_bytes() != before:
            raise RuntimeError("vmap: called random operation while in randomness error mode. Please either use the 'same' or 'different' "
                               "randomness flags on vmap or perform the randomness operation out of vmap")
    return results


def _stacked(results: list[Any], out_dims: Any, name: str) -> Any:
    flat = [tree_flatten(r) for r in results]
    spec = flat[0][1]
    try:
        dims = broadcast_prefix(out_dims, spec)
    except ValueError:
        raise ValueError(f"vmap({name}, ..., out_dims={out_dims})(<inputs>): out_dims is not compatible with the structure of outputs. "
                         f"out_dims has structure {out_dims} but outputs has structure {spec}.") from None
    outs = []
    for k, d in enumerate(dims):
        column = [leaves[k] for leaves, _ in flat]
        if d is None:
            outs.append(column[0])
            continue
        if not isinstance(column[0], Tensor):
            raise ValueError(f"vmap({name}, ...): `{name}` must only return Tensors, got type {type(column[0])}. Did you mean to set "
                             "out_dims= to None for output?")
        outs.append(torch.stack(column, d))
    return tree_unflatten(outs, spec)
