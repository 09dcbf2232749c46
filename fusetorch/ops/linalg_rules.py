"""What families over NumPy's and CuPy's common interface share: one kernel for both devices, and checks of matrices."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..dtypes import HALVES
from ..runtime import solver
from .opdef import OpDef


def kernel(op: OpDef) -> Callable[[Callable], Callable]:
    """Registers ``f(xp, *arrays, *attributes)``, written for NumPy's and CuPy's common interface, on both devices."""
    def register(f: Callable) -> Callable:
        op.cpu(lambda *args: f(np, *args))
        op.cuda(lambda *args: solver.on_device(f, *args))
        return f
    return register


def floating(name: str, a: Any) -> None:
    """Refuses what LAPACK has no routine for."""
    if a.dtype.category < 2:
        raise NotImplementedError(f"{name}: Expected a floating point or complex tensor as input. Got {a.dtype}. Convert it with .float()")
    if a.dtype in HALVES:
        raise NotImplementedError(f"{name}: Low precision dtypes not supported. Got {a.dtype}. Convert it with .float()")


def matrix(name: str, a: Any, letter: str = "A") -> None:
    """Needs two dimensions or more, of a floating dtype."""
    if a.ndim < 2:
        raise RuntimeError(f"{name}: The input tensor {letter} must have at least 2 dimensions.")
    floating(name, a)


def square(name: str, a: Any, letter: str = "A") -> None:
    """Needs square matrices of a floating dtype."""
    matrix(name, a, letter)
    m, n = a._a.shape[-2:]
    if m != n:
        raise RuntimeError(f"{name}: {letter} must be batches of square matrices, but they are {m} by {n} matrices")


def same_dtype(name: str, a: Any, b: Any) -> None:
    """Needs one dtype."""
    if a.dtype is not b.dtype:
        raise RuntimeError(f"{name}: Expected A and B to have the same dtype, but found A of type {a.dtype} and B of type {b.dtype} "
                           "instead")


def H(a: Any) -> Any:
    """The conjugate transpose."""
    return a.transpose(-1, -2).conj()


def sizes(a: Any) -> tuple[int, ...]:
    """The shape as plain integers."""
    return tuple(a.shape)


def batched(shape: Sequence[int], *tail: int) -> tuple[int, ...]:
    """The batch of a matrix shape, and other last sizes."""
    return (*shape[:-2], *tail)
