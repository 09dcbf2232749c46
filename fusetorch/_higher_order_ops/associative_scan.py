"""All prefixes of a sequence under an associative operation."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fusetorch as torch
from fusetorch.tensor import Tensor
from fusetorch.utils._pytree import tree_flatten, tree_unflatten

__all__ = ["associative_scan"]


def associative_scan(combine_fn: Callable[[Any, Any], Any], xs: Any, dim: int, reverse: bool = False,
                     combine_mode: str = "pointwise") -> Any:
    """The results of combining the first 1, 2, 3 ... slices of ``xs`` (tensors in any nesting) along ``dim``.

    ``combine_fn(a, b)`` must be associative and work on several slices at once; it is called about ``2 log2(n)`` times, not ``n``.
    ``combine_mode`` says how PyTorch may compute it, and changes nothing here.

    Source: Blelloch, "Prefix Sums and Their Applications" (1990).

    Example:
        >>> import fusetorch as torch
        >>> from fusetorch._higher_order_ops import associative_scan
        >>> associative_scan(lambda a, b: a * b, torch.tensor([1.0, 2.0, 3.0, 4.0]), 0)
        tensor([ 1.,  2.,  6., 24.])
    """
    if not callable(combine_fn):
        raise ValueError(f"Combine_fn must be a callable, but got {combine_fn}")
    if combine_mode not in ("pointwise", "generic"):
        raise ValueError(f"Combine_mode must either 'pointwise' or 'generic', but got {combine_mode}")
    leaves, spec = tree_flatten(xs)
    if not leaves or not all(isinstance(x, Tensor) for x in leaves):
        raise ValueError("xs leaves must be Tensors, and at least one")
    dims = [dim if dim >= 0 else x.dim() + dim for x in leaves]
    for x, d in zip(leaves, dims):
        x.size(d)  # IndexError out of range
    n = leaves[0].size(dims[0])
    if not n or any(x.size(d) != n for x, d in zip(leaves, dims)):
        raise ValueError(f"xs leaves must have one size along dim {dim}, larger than 0, got {[tuple(x.shape) for x in leaves]}")
    if reverse:
        leaves = [x.flip(d) for x, d in zip(leaves, dims)]

    def combine(a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
        made = tree_flatten(combine_fn(tree_unflatten(a, spec), tree_unflatten(b, spec)))[0]
        if len(made) != len(leaves):
            raise ValueError(f"combine_fn must give {len(leaves)} tensors, as xs has, got {len(made)}")
        return made

    def part(given: list[Tensor], start: int, stop: int | None, step: int = 1) -> list[Tensor]:
        return [x[(slice(None),) * d + (slice(start, stop, step),)] for x, d in zip(given, dims)]

    def prefixes(given: list[Tensor]) -> list[Tensor]:
        n = given[0].size(dims[0])
        if n < 2:
            return given
        odd = prefixes(combine(part(given, 0, n - 1, 2), part(given, 1, None, 2)))  # of pairs: the prefixes of even length
        even = part(given, 0, 1)
        if n > 2:
            rest = combine(part(odd, 0, (n - 1) // 2), part(given, 2, None, 2))
            even = [torch.cat(two, d) for two, d in zip(zip(even, rest), dims)]
        return [_interleaved(e, o, d) for e, o, d in zip(even, odd, dims)]

    results = prefixes(leaves)
    if reverse:
        results = [x.flip(d) for x, d in zip(results, dims)]
    return tree_unflatten(results, spec)


def _interleaved(even: Tensor, odd: Tensor, dim: int) -> Tensor:
    """Slices of both in turn, beginning with ``even``, which may have one more."""
    k = odd.size(dim)
    pairs = torch.stack([even.narrow(dim, 0, k), odd], dim + 1).flatten(dim, dim + 1)
    return torch.cat([pairs, even.narrow(dim, k, 1)], dim) if even.size(dim) > k else pairs
