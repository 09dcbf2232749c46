"""``torch._subclasses.fake_tensor``: asked whether something is a fake tensor, the answer is no."""
from __future__ import annotations

from typing import Any

__all__ = ["FakeTensor", "is_fake"]


class FakeTensor:
    """PyTorch's tensor without memory; here nothing is one."""


def is_fake(x: Any) -> bool:
    """False."""
    return False
