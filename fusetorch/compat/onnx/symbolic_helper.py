"""``torch.onnx.symbolic_helper``: the decorator with which libraries declare how their operations would be exported."""
from __future__ import annotations

from collections.abc import Callable

__all__ = ["parse_args"]


def parse_args(*arg_descriptors: str) -> Callable[[Callable], Callable]:
    """A decorator that leaves its function as it is: there is no export that would call it."""
    return lambda fn: fn
