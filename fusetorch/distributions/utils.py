"""What distributions share: broadcasting of parameters, and probabilities as logits."""
from __future__ import annotations

from functools import update_wrapper
from typing import Any

import fusetorch as torch
from fusetorch.tensor import Tensor

__all__ = ["broadcast_all", "clamp_probs", "lazy_property", "logits_to_probs", "probs_to_logits", "tril_matrix_to_vec",
           "vec_to_tril_matrix"]

euler_constant = 0.57721566490153286060


def broadcast_all(*values: Any) -> tuple[Tensor, ...]:
    """Tensors and numbers as tensors of one shape; numbers take the dtype and device of the tensors."""
    if not all(isinstance(v, (Tensor, int, float)) for v in values):
        raise ValueError("Input arguments must all be instances of Number, torch.Tensor or objects implementing __torch_function__.")
    like = next((v for v in values if isinstance(v, Tensor)), None)
    if like is None:
        made = [torch.tensor(v, dtype=torch.get_default_dtype()) for v in values]
    else:
        made = [v if isinstance(v, Tensor) else torch.tensor(v, dtype=like.dtype, device=like.device) for v in values]
    return tuple(torch.broadcast_tensors(*made))


def one_of(probs: Any, logits: Any) -> None:
    """``ValueError`` unless exactly one of them is given."""
    if (probs is None) == (logits is None):
        raise ValueError("Either `probs` or `logits` must be specified, but not both.")


def standard_normal(shape: Any, dtype: Any, device: Any) -> Tensor:
    """Normal numbers."""
    return torch.randn(shape, dtype=dtype, device=device)


def sum_rightmost(value: Any, dim: int) -> Any:
    """Sums over the last ``dim`` dimensions."""
    return value if dim == 0 or not isinstance(value, Tensor) else value.reshape(value.shape[:value.ndim - dim] + (-1,)).sum(-1)


_standard_normal, _sum_rightmost = standard_normal, sum_rightmost  # PyTorch's names, which libraries of distributions import


def clamp_probs(probs: Tensor) -> Tensor:
    """Probabilities away from 0 and 1 by the dtype's epsilon."""
    eps = torch.finfo(probs.dtype).eps
    return probs.clamp(min=eps, max=1 - eps)


def logits_to_probs(logits: Tensor, is_binary: bool = False) -> Tensor:
    """Softmax over the last dimension, or sigmoid."""
    return torch.sigmoid(logits) if is_binary else torch.softmax(logits, -1)


def probs_to_logits(probs: Tensor, is_binary: bool = False) -> Tensor:
    """Logarithms of probabilities, or log odds."""
    clamped = clamp_probs(probs)
    return torch.log(clamped) - torch.log1p(-clamped) if is_binary else torch.log(clamped)


def tril_matrix_to_vec(mat: Tensor, diag: int = 0) -> Tensor:
    """The entries on and below a diagonal, row by row."""
    n = mat.shape[-1]
    if not -n <= diag < n:
        raise ValueError(f"diag ({diag}) provided is outside [{-n}, {n - 1}].")
    rows, columns = _below(n, diag, mat.device)
    return mat[..., rows, columns]


def vec_to_tril_matrix(vec: Tensor, diag: int = 0) -> Tensor:
    """The matrix whose entries on and below a diagonal, row by row, are these; zero elsewhere."""
    n = (-(1 + 2 * diag) + ((1 + 2 * diag) ** 2 + 8 * vec.shape[-1] + 4 * abs(diag) * (diag + 1)) ** 0.5) / 2
    if round(n) - n > torch.finfo(vec.dtype).eps:
        raise ValueError(f"The size of last dimension is {vec.shape[-1]} which cannot be expressed as the lower triangular part of a "
                         "square D x D matrix.")
    n = round(n)
    rows, columns = _below(n, diag, vec.device)
    flat = torch.zeros(vec.shape[:-1] + (n * n,), dtype=vec.dtype, device=vec.device)
    at = (rows * n + columns).expand(vec.shape)
    return flat.scatter(-1, at, vec).reshape(vec.shape[:-1] + (n, n))


def _below(n: int, diag: int, device: Any) -> tuple[Tensor, Tensor]:
    pairs = [(i, j) for i in range(n) for j in range(n) if j <= i + diag]
    return tuple(torch.tensor([p[k] for p in pairs], dtype=torch.int64, device=device) for k in (0, 1))


class lazy_property:
    """A property that is computed at its first use and then kept."""

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped
        update_wrapper(self, wrapped)

    def __get__(self, instance: Any, obj_type: Any = None) -> Any:
        if instance is None:
            return _Described(self.wrapped)
        with torch.enable_grad():
            value = self.wrapped(instance)
        setattr(instance, self.wrapped.__name__, value)
        return value


class _Described(lazy_property, property):
    def __init__(self, wrapped: Any) -> None:
        property.__init__(self, wrapped)
