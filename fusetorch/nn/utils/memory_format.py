"""Changing the memory format of convolutions' weights."""
from __future__ import annotations

from typing import Any, TypeVar

from fusetorch.nn import conv
from fusetorch.nn.module import Module

M = TypeVar("M", bound=Module)


def _converted(module: M, layers: tuple[type[Module], ...], memory_format: Any) -> M:
    for layer in module.modules():
        if isinstance(layer, layers):
            layer.weight.data = layer.weight.detach().contiguous(memory_format=memory_format)
    return module


def convert_conv2d_weight_memory_format(module: M, memory_format: Any) -> M:
    """Lays the weights of all two-dimensional convolutions in ``module`` out in ``memory_format``; gives back ``module``.

    Example:
        >>> import fusetorch as torch
        >>> m = torch.nn.utils.convert_conv2d_weight_memory_format(torch.nn.Conv2d(8, 4, 3), torch.channels_last)
        >>> m.weight.is_contiguous(memory_format=torch.channels_last)
        True
    """
    return _converted(module, (conv.Conv2d, conv.ConvTranspose2d), memory_format)


def convert_conv3d_weight_memory_format(module: M, memory_format: Any) -> M:
    """Lays the weights of all three-dimensional convolutions in ``module`` out in ``memory_format``; gives back ``module``."""
    return _converted(module, (conv.Conv3d, conv.ConvTranspose3d), memory_format)
