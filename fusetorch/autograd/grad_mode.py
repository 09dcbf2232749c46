"""``torch.autograd.grad_mode``: the modes under the name of PyTorch's module."""
from __future__ import annotations

from .modes import enable_grad, inference_mode, no_grad, set_grad_enabled, set_multithreading_enabled

__all__ = ["enable_grad", "inference_mode", "no_grad", "set_grad_enabled", "set_multithreading_enabled"]
