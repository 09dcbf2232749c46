"""Control flow as functions: ``torch.cond``, ``torch.while_loop``, and loops over a dimension (``scan``, ``associative_scan``, ``map``).

PyTorch offers them so that a compiler sees both branches of a program. Here they are what they say: Python that calls the functions given.
Where a value of a tensor decides, a trace by ``fusetorch.compile`` ends, as at any ``if``.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import fusetorch as torch
from fusetorch.tensor import Tensor
from fusetorch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from .associative_scan import associative_scan

__all__ = ["associative_scan", "cond", "map", "scan", "while_loop"]


def cond(pred: Any, true_fn: Callable, false_fn: Callable, operands: tuple | list = ()) -> Any:
    """``true_fn(*operands) if pred else false_fn(*operands)``; ``pred`` is a number or a tensor of one element.

    Example:
        >>> import fusetorch as torch
        >>> torch.cond(torch.tensor(2) > 1, lambda x: x + 1, lambda x: x - 1, (torch.zeros(1),))
        tensor([1.])
    """
    if not isinstance(pred, (bool, int, float, Tensor)) or (isinstance(pred, Tensor) and pred.numel() != 1):
        raise RuntimeError(f"Expected pred to be bool or single-element tensor, but got {pred}.")
    if not callable(true_fn) or not callable(false_fn):
        raise RuntimeError("Expect both branches to be callable.")
    if not isinstance(operands, (tuple, list)):
        raise RuntimeError(f"Expect operands to be a tuple of possibly nested dict/list/tuple that only consists of tensor leaves, but got "
                           f"{operands}.")
    return (true_fn if bool(pred) else false_fn)(*operands)


def while_loop(cond_fn: Callable, body_fn: Callable, carried_inputs: tuple | list) -> tuple:
    """Calls ``carried = body_fn(*carried)`` as long as ``cond_fn(*carried)``; the last one.

    Example:
        >>> import fusetorch as torch
        >>> torch.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * 2), (torch.tensor(0), torch.ones(1)))
        (tensor(3), tensor([8.]))
    """
    if not isinstance(carried_inputs, (tuple, list)):
        raise RuntimeError(f"carried_inputs must be a tuple or list, got {type(carried_inputs)}")
    carried = tuple(carried_inputs)
    while bool(cond_fn(*carried)):
        made = body_fn(*carried)
        made = made if isinstance(made, (tuple, list)) else (made,)
        if len(made) != len(carried):
            raise RuntimeError(f"body_fn should return {len(carried)} elements, as many as carried_inputs, got {len(made)}")
        carried = tuple(made)
    return carried


def scan(combine_fn: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any, *, dim: int = 0,
         reverse: bool = False) -> tuple[Any, Any]:
    """Walks over ``dim`` of ``xs`` (tensors in any nesting): ``carry, y = combine_fn(carry, x)``. The last carry, and the results stacked
    along a new first dimension; ``reverse`` walks from the end, and the results keep the places of what they were made from.

    Example:
        >>> import fusetorch as torch
        >>> from fusetorch._higher_order_ops import scan
        >>> scan(lambda carry, x: (carry + x, carry * x), torch.tensor(1.0), torch.tensor([1.0, 2.0, 3.0]))
        (tensor(7.), tensor([ 1.,  4., 12.]))
    """
    leaves, spec = tree_flatten(xs)
    if not callable(combine_fn):
        raise RuntimeError("Combine_fn must be a callable, but got {combine_fn}")
    if not leaves:
        raise RuntimeError("xs leaves must have a scan dimension > 0")
    n = _length(leaves, dim)
    if not n:
        raise RuntimeError("All xs leaves must at least have 'dim' number of dimensions and scan dimension > 0")
    carry, results = init, [None] * n
    for k in range(n)[::-1] if reverse else range(n):
        carry, results[k] = combine_fn(carry, tree_unflatten([x.select(dim, k) for x in leaves], spec))
    return carry, tree_map(lambda *parts: torch.stack(parts), results[0], *results[1:])


def map(f: Callable, xs: Any, *args: Any) -> Any:  # noqa: A001 - PyTorch's name
    """``f(x, *args)`` for each slice of ``xs`` along the first dimension, the results stacked."""
    leaves, spec = tree_flatten(xs)
    n = _length(leaves, 0)
    if not n:
        raise RuntimeError("Leading dimensions of mapped xs cannot be 0.")
    results = [f(tree_unflatten([x[k] for x in leaves], spec), *args) for k in range(n)]
    return tree_map(lambda *parts: torch.stack(parts), results[0], *results[1:])


def _length(leaves: Sequence[Any], dim: int) -> int:
    for x in leaves:
        if not isinstance(x, Tensor):
            raise RuntimeError(f"All xs leaves must be a Tensor, got {type(x)}")
    sizes = {x.size(dim) for x in leaves}
    if len(sizes) != 1:
        raise RuntimeError(f"All xs leaves must have the same size along dim {dim}, got {[tuple(x.shape) for x in tree_leaves(leaves)]}")
    return sizes.pop()
