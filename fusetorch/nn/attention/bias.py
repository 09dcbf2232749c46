"""``torch.nn.attention.bias``: masks for ``scaled_dot_product_attention`` where queries and keys differ in number."""
from __future__ import annotations

import enum

import fusetorch as torch
from fusetorch.tensor import Tensor

__all__ = ["CausalVariant", "causal_lower_right", "causal_upper_left"]


class CausalVariant(enum.IntEnum):
    """From which corner a causal mask is drawn."""

    UPPER_LEFT = 1
    LOWER_RIGHT = 2


def causal_upper_left(*size: int) -> Tensor:
    """The mask (bool) of ``size`` queries and keys in which query ``i`` sees keys 0 to ``i``.

    Example:
        >>> from fusetorch.nn.attention.bias import causal_upper_left
        >>> causal_upper_left(2, 3)
        tensor([[ True, False, False],
                [ True,  True, False]])
    """
    rows, columns = _two(size)
    return torch.ones(rows, columns, dtype=torch.bool).tril()


def causal_lower_right(*size: int) -> Tensor:
    """The mask (bool) of ``size`` queries and keys in which the last query sees all keys, and each before one less.

    Example:
        >>> from fusetorch.nn.attention.bias import causal_lower_right
        >>> causal_lower_right(2, 3)
        tensor([[ True,  True, False],
                [ True,  True,  True]])
    """
    rows, columns = _two(size)
    return torch.ones(rows, columns, dtype=torch.bool).tril(columns - rows)


def _two(size: tuple[int, ...]) -> tuple[int, int]:
    if len(size) != 2:
        raise AssertionError(f"causal masks have two sizes, queries and keys; got {size}")
    return size[0], size[1]
