"""Parameters as one vector, and back."""
from __future__ import annotations

from collections.abc import Iterable

import fusetorch as torch
from fusetorch.tensor import Tensor


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All ``parameters``, flattened and joined: shape (sum of their element counts,)."""
    return torch.cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Makes consecutive pieces of ``vec`` the values of ``parameters``, in order."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected torch.Tensor, but got: {type(vec).__name__}")
    start = 0
    for p in parameters:
        p.data = vec[start:start + p.numel()].reshape(p.shape).data
        start += p.numel()
