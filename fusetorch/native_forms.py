"""Functions of ``torch`` in the form that ``torch.nn.functional`` calls: other orders of arguments, reductions by number; and what is left
of functions that PyTorch has removed.

``torch.embedding(weight, indices)`` looks up what ``nn.functional.embedding(indices, weight)`` does.
"""
from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fusetorch as torch

from .dtypes import dtype as dtype_class
from .errors import refusal
from .tensor import Tensor

F = torch.nn.functional

_REDUCTIONS = ("none", "mean", "sum")


def _way(reduction: int | str) -> str:
    """The name of a reduction given by PyTorch's number."""
    return reduction if isinstance(reduction, str) else _REDUCTIONS[reduction]


# ---- layers


def embedding(weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False) -> Tensor:
    """Rows of ``weight`` (n, d) at ``indices``: (..., d). The row ``padding_idx`` gets no gradient (-1: none is left out)."""
    return F.embedding(indices, weight, None if padding_idx == -1 else padding_idx, None, 2.0, scale_grad_by_freq, sparse)


def embedding_renorm_(input: Tensor, indices: Tensor, max_norm: float, norm_type: float = 2.0) -> Tensor:
    """Scales the rows at ``indices`` whose norm is larger than ``max_norm`` down to it, in place."""
    with torch.no_grad():
        F.embedding(indices, input, None, max_norm, norm_type)
    return input


def batch_norm(input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None, running_var: Tensor | None,
               training: bool, momentum: float, eps: float, cudnn_enabled: bool) -> Tensor:
    """``nn.functional.batch_norm``."""
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None, running_var: Tensor | None,
                  use_input_stats: bool, momentum: float, eps: float, cudnn_enabled: bool) -> Tensor:
    """``nn.functional.instance_norm``."""
    return F.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def adaptive_max_pool1d(input: Tensor, output_size: int | Sequence[int]) -> tuple[Tensor, Tensor]:
    """Maxima and where they are."""
    return F.adaptive_max_pool1d(input, output_size, return_indices=True)


def native_dropout(input: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    """The result of dropout, and which elements it kept."""
    if not train or not p:
        return input.clone(), torch.ones_like(input, dtype=torch.bool)
    kept = torch.rand_like(input.detach()) >= p
    return input * kept * (1 / (1 - p) if p < 1 else 0.0), kept


def _in_place(name: str) -> Callable[..., Tensor]:
    def f(input: Tensor, p: float, train: bool) -> Tensor:
        return getattr(F, name)(input, p, train, inplace=True)
    f.__name__ = f.__qualname__ = name + "_"
    f.__doc__ = f"``nn.functional.{name}`` in place."
    return f


dropout_, alpha_dropout_ = _in_place("dropout"), _in_place("alpha_dropout")
feature_dropout_, feature_alpha_dropout_ = _in_place("feature_dropout"), _in_place("feature_alpha_dropout")


# ---- losses


def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, weight: Tensor | None = None, pos_weight: Tensor | None = None,
                                     reduction: int = 1) -> Tensor:
    """``nn.functional.binary_cross_entropy_with_logits``; ``reduction`` 0: none, 1: mean, 2: sum."""
    return F.binary_cross_entropy_with_logits(input, target, weight, reduction=_way(reduction), pos_weight=pos_weight)


def kl_div(input: Tensor, target: Tensor, reduction: int = 1, *, log_target: bool = False) -> Tensor:
    """``nn.functional.kl_div``; ``reduction`` 0: none, 1: mean, 2: sum."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mean is over all elements
        return F.kl_div(input, target, reduction=_way(reduction), log_target=log_target)


def poisson_nll_loss(input: Tensor, target: Tensor, log_input: bool, full: bool, eps: float, reduction: int) -> Tensor:
    """``nn.functional.poisson_nll_loss``; ``reduction`` 0: none, 1: mean, 2: sum."""
    return F.poisson_nll_loss(input, target, log_input, full, eps=eps, reduction=_way(reduction))


def ctc_loss(log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any, blank: int = 0, reduction: int = 1,
             zero_infinity: bool = False) -> Tensor:
    """``nn.functional.ctc_loss``; ``reduction`` 0: none, 1: mean, 2: sum."""
    return F.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, _way(reduction), zero_infinity)


# ---- creation


def range(start: float, end: float, step: float = 1, *, out: Tensor | None = None, dtype: dtype_class | None = None,  # noqa: A001
          layout: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Deprecated: ``start, start + step, ...`` up to and including ``end``, of the default dtype. Use ``arange``."""
    warnings.warn("torch.range is deprecated and will be removed in a future release because its behavior is inconsistent with Python's "
                  "range builtin. Instead, use torch.arange, which produces values in [start, end).", UserWarning, stacklevel=2)
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    n = math.floor((end - start) / step) + 1
    made = start + step * torch.arange(n, dtype=torch.float64)
    made = made.to(dtype=dtype or (torch.get_default_dtype() if out is None else out.dtype), device=device or torch.get_default_device())
    return made.requires_grad_(requires_grad) if out is None else out.resize_(made.shape).copy_(made)


def from_file(filename: str | os.PathLike, shared: bool | None = None, size: int = 0, *, dtype: dtype_class | None = None,
              layout: Any = None, device: Any = None, pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """The first ``size`` elements of a file, mapped into memory. ``shared``: what is written to the tensor is written to the file, which
    grows to that size if need be; else the file stays as it is."""
    d = dtype or torch.get_default_dtype()
    if shared:
        with open(filename, "ab") as file:
            if file.tell() < size * d.itemsize:
                file.truncate(size * d.itemsize)
    t = torch.from_numpy(np.memmap(filename, np.uint8, "r+" if shared else "c", 0, (size * d.itemsize,)).view(np.ndarray)).view(d)
    return t.requires_grad_(requires_grad)


def view_as_real_copy(input: Tensor) -> Tensor:
    """``view_as_real`` in new memory."""
    return torch.view_as_real(input).clone()


def view_as_complex_copy(input: Tensor) -> Tensor:
    """``view_as_complex`` in new memory."""
    return torch.view_as_complex(input).clone()


# ---- questions


def is_inference(input: Tensor) -> bool:
    """Whether this is an inference tensor."""
    return input.is_inference()


def is_distributed(input: Tensor) -> bool:
    """Whether the tensor is in several processes (never)."""
    return False


def cudnn_is_acceptable(tensor: Tensor) -> bool:
    """Whether cuDNN would compute with it (never: kernels are this library's own)."""
    return False


def get_device_module(device: Any = None) -> Any:
    """``torch.cuda`` or ``torch.cpu``: the module of a device; by default of the GPU if there is one."""
    import importlib
    if device is None:
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    else:
        kind = torch.device(device).type
    if kind not in ("cpu", "cuda", "mps", "xpu"):
        raise RuntimeError(f"Device '{kind}' does not have a corresponding module registered as 'torch.{kind}'.")
    return importlib.import_module(f"fusetorch.{kind}")


has_lapack, has_mkl, has_openmp, has_spectral = True, False, False, True


# ---- sizes: numbers here, for shapes are known while a function is traced


class SymInt:
    """PyTorch's size that is not known yet. There are none: functions are compiled for the shapes that they get."""

    def __init__(self, node: Any) -> None:
        raise TypeError("torch.SymInt cannot be made: sizes are plain integers in fusetorch")


class SymFloat:
    """PyTorch's number that is not known yet. There are none."""

    __init__ = SymInt.__init__


class SymBool:
    """PyTorch's truth that is not known yet. There are none."""

    __init__ = SymInt.__init__


def sym_int(a: Any) -> int:
    """``int(a)``."""
    return int(a)


def sym_float(a: Any) -> float:
    """``float(a)``."""
    return float(a)


def sym_not(a: Any) -> bool:
    """``not a``."""
    return not a


def sym_max(a: Any, b: Any) -> Any:
    """The larger one; floating if one is."""
    return type(a + b)(max(a, b))


def sym_min(a: Any, b: Any) -> Any:
    """The smaller one; floating if one is."""
    return type(a + b)(min(a, b))


def sym_sqrt(a: Any) -> float:
    """The square root."""
    return math.sqrt(a)


def sym_sum(args: Sequence[Any]) -> Any:
    """The sum of numbers."""
    return sum(args)


def sym_ite(b: Any, t: Any, f: Any) -> Any:
    """``t if b else f``."""
    return t if b else f


# ---- eigenvalues, and numbers as coarse as integers


def lobpcg(A: Tensor, k: int | None = None, B: Tensor | None = None, X: Tensor | None = None, n: int | None = None,
           iK: Tensor | None = None, niter: int | None = None, tol: float | None = None, largest: bool | None = None,
           method: str | None = None, tracker: Any = None, ortho_iparams: Any = None, ortho_fparams: Any = None,
           ortho_bparams: Any = None) -> tuple[Tensor, Tensor]:
    """The ``k`` largest (or smallest) eigenvalues of symmetric matrices ``A`` and their eigenvectors: ``A @ v = value * B @ v``, with ``B``
    positive definite (the identity by default). ``A`` may be sparse.

    They are taken from the factorisation of the whole matrix, so that what steers PyTorch's iteration (``X``, ``iK``, ``niter``, ``tol``,
    ``method``) changes nothing but, for ``X``, how many are wanted by default.
    """
    a, b = [None if m is None else m.to_dense() for m in (A, B)]
    m = a.shape[-1]
    k = (1 if X is None else X.shape[-1]) if k is None else k
    if m < 3 * k:
        raise ValueError(f"LPBPCG algorithm is not applicable when the number of A rows (={m}) is smaller than 3 x the number of requested "
                         f"eigenpairs (={k})")
    if b is None:
        values, vectors = torch.linalg.eigh(a)
    else:  # with B = L L': of L^-1 A L^-H
        low = torch.linalg.cholesky(b)
        half = torch.linalg.solve_triangular(low, a, upper=False)
        values, vectors = torch.linalg.eigh(torch.linalg.solve_triangular(low, half.mH, upper=False))
        vectors = torch.linalg.solve_triangular(low.mH, vectors, upper=True)
    if largest is False:
        return values[..., :k], vectors[..., :k]
    return values[..., m - k:].flip(-1), vectors[..., m - k:].flip(-1)


class _FakeQuantize(torch.autograd.Function):
    """Rounds to a grid; gradients pass where nothing was cut off."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Any, zero_point: Any, low: int, high: int) -> Tensor:
        place = torch.round(x * (1.0 / scale)) + zero_point
        ctx.save_for_backward((place >= low) & (place <= high))
        return (place.clamp(low, high) - zero_point) * scale

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple:
        inside, = ctx.saved_tensors
        return g * inside, None, None, None, None


def fake_quantize_per_tensor_affine(input: Tensor, scale: float | Tensor, zero_point: int | Tensor, quant_min: int,
                                    quant_max: int) -> Tensor:
    """``input`` rounded to what integers from ``quant_min`` to ``quant_max`` can stand for: ``(integer - zero_point) * scale``. Gradients
    pass where nothing is cut off."""
    _check_grid("fake_quantize_per_tensor_affine", quant_min, quant_max)
    return _FakeQuantize.apply(input, scale, zero_point, quant_min, quant_max)


def fake_quantize_per_channel_affine(input: Tensor, scale: Tensor, zero_point: Tensor, axis: int, quant_min: int, quant_max: int) -> Tensor:
    """:func:`fake_quantize_per_tensor_affine` with a scale and a zero point for each place along ``axis``."""
    _check_grid("fake_quantize_per_channel_affine", quant_min, quant_max)
    if scale.dim() != 1 or scale.shape != zero_point.shape or scale.shape[0] != input.shape[axis]:
        raise RuntimeError("fake_quantize_per_channel_affine: scale and zero_point need one element for each of the "
                           f"{input.shape[axis]} places along axis {axis}, got {tuple(scale.shape)} and {tuple(zero_point.shape)}")
    shape = [1] * input.dim()
    shape[axis] = -1
    return _FakeQuantize.apply(input, scale.reshape(shape), zero_point.reshape(shape), quant_min, quant_max)


def _check_grid(name: str, low: int, high: int) -> None:
    if low > high:
        raise RuntimeError(f"{name}: `quant_min` should be less than or equal to `quant_max`, got {low} and {high}")


# ---- removed from PyTorch


def _removed(name: str, instead: str) -> Callable[..., Any]:
    return refusal(name, RuntimeError, "This function was deprecated since version 1.9 and is now removed. "
                                       f"`torch.{name}` is deprecated in favor of {instead}.")


matrix_rank = _removed("matrix_rank", "`torch.linalg.matrix_rank`")
lstsq = _removed("lstsq", "`torch.linalg.lstsq`, whose arguments are the other way around")
eig = _removed("eig", "`torch.linalg.eig`")
symeig = _removed("symeig", "`torch.linalg.eigh` or `torch.linalg.eigvalsh`")
solve = _removed("solve", "`torch.linalg.solve`, whose arguments are the other way around")
