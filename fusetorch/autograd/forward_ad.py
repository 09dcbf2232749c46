"""``torch.autograd.forward_ad``: tangents beside values.

A dual tensor is ``primal + e * tangent`` on the tape, with a number ``e`` that is zero and belongs to the level; the tangent of a result is
its derivative by ``e``, taken by differentiating the backward pass. So every operation that can be differentiated twice has a tangent,
a tangent costs about two backward passes, nothing is followed under ``no_grad``, and a custom Function's ``jvp`` is called only if it has
no ``backward``. Tangents carry no history of their own.
"""
from __future__ import annotations

from typing import NamedTuple

import fusetorch as torch
from fusetorch.tensor import Tensor

__all__ = ["UnpackedDualTensor", "dual_level", "enter_dual_level", "exit_dual_level", "make_dual", "unpack_dual"]


class UnpackedDualTensor(NamedTuple):
    """A value, and its tangent or None."""

    primal: Tensor
    tangent: Tensor | None


class _Level:
    def __init__(self) -> None:
        self.zero = torch.zeros((), requires_grad=True)
        self.made: dict[int, tuple[Tensor, Tensor, Tensor]] = {}


_levels: list[_Level] = []


def enter_dual_level() -> int:
    """Begins a level; its number. There is one at a time."""
    if _levels:
        raise RuntimeError("Nested forward mode AD is not supported at the moment")
    _levels.append(_Level())
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """Ends the level: its tangents are forgotten."""
    if not _levels:
        raise RuntimeError("Trying to exit a forward AD level that was never entered")
    _levels.pop()


class dual_level:
    """The level as a context manager.

    Example:
        >>> import fusetorch as torch
        >>> import fusetorch.autograd.forward_ad as fwAD
        >>> with fwAD.dual_level():
        ...     x = fwAD.make_dual(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.0]))
        ...     fwAD.unpack_dual(x ** 3).tangent
        tensor([3., 0.])
    """

    def __enter__(self) -> int:
        return enter_dual_level()

    def __exit__(self, *exc: object) -> None:
        exit_dual_level()


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """A tensor of the value of ``tensor`` with a tangent of the same shape and dtype."""
    if not _levels:
        raise RuntimeError("Trying to create a dual Tensor for forward AD but no level exists, make sure to enter_dual_level() first.")
    if not (tensor.is_floating_point() and tangent.is_floating_point()):
        raise ValueError(f"make_dual: expected floating point tensors, got {tensor.dtype} and {tangent.dtype}")
    if tensor.shape != tangent.shape:
        raise RuntimeError(f"make_dual: expected a tangent of the tensor's shape {tuple(tensor.shape)}, got {tuple(tangent.shape)}")
    here = _levels[-1]
    with torch.enable_grad():
        dual = tensor + here.zero.to(device=tensor.device, dtype=tensor.dtype) * tangent
    here.made[id(dual)] = dual, tensor, tangent
    return dual


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """The value of a tensor, and its tangent: None outside of a level, or if it does not depend on a dual tensor."""
    if not _levels:
        return UnpackedDualTensor(tensor, None)
    here = _levels[-1]
    if id(tensor) in here.made:
        return UnpackedDualTensor(*here.made[id(tensor)][1:])
    if not tensor.requires_grad:
        return UnpackedDualTensor(tensor, None)
    with torch.enable_grad():
        weights = torch.zeros_like(tensor, requires_grad=True)
        (by_zero,) = torch.autograd.grad(tensor, here.zero, weights, create_graph=True, allow_unused=True)
        if by_zero is None:
            return UnpackedDualTensor(tensor, None)
        if not by_zero.requires_grad:
            return UnpackedDualTensor(tensor.detach(), torch.zeros_like(tensor))
        (tangent,) = torch.autograd.grad(by_zero, weights, retain_graph=True, allow_unused=True)
    return UnpackedDualTensor(tensor.detach(), torch.zeros_like(tensor) if tangent is None else tangent)
