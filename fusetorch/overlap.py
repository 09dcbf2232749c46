"""Whether tensors share elements: what an operation writes must not change what it still reads, nor be written twice."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .tensor import Tensor, strides_of

ndarray = np.ndarray


def check_overlap(name: str, out: Tensor, inputs: Iterable[Any], apart: bool = False) -> None:
    """``RuntimeError`` where ``out`` shares some, but not all, of its elements with an input, as in PyTorch: writing the same elements in
    the same order is fine (unless they must be ``apart``). Inputs may be nested in lists; memory with gaps is not looked at."""
    a = out._a
    if not a.size or not _dense(a):
        return
    low, high = _span(a)
    for x in inputs:
        if isinstance(x, (list, tuple)):
            check_overlap(name, out, x, apart)
        elif isinstance(x, Tensor) and type(x._a) is type(a) and x._a.size and (apart or x is not out):
            b = x._a
            start, end = _span(b)
            same = not apart and start == low and end == high and strides_of(a) == strides_of(b)
            if start < high and low < end and not same and _dense(b):
                raise RuntimeError(f"{name}: unsupported operation: some elements of the input tensor (shape {list(b.shape)}) and the "
                                   f"written-to tensor (shape {list(a.shape)}) refer to a single memory location. Please clone() the "
                                   "tensor before performing the operation.")


def _span(a: Any) -> tuple[int, int]:
    start = a.__array_interface__["data"][0] if type(a) is ndarray else a.ptr
    return start, start + a.size * a.itemsize


def _dense(a: Any) -> bool:
    """Whether the elements lie side by side, in any order of the dimensions."""
    step = 1
    for stride, n in sorted((s, n) for s, n in zip(strides_of(a), a.shape) if n != 1):
        if stride != step:
            return False
        step *= n
    return True
