"""Normalisation layers."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fusetorch as torch
from fusetorch.nn import functional as F
from fusetorch.nn import init
from fusetorch.nn.affine import _Affine
from fusetorch.nn.module import Module
from fusetorch.nn.parameter import Parameter
from fusetorch.nn.sizes import each
from fusetorch.tensor import Tensor


class LayerNorm(_Affine):
    """Normalises over the last ``len(normalized_shape)`` dimensions, then scales and shifts.

    ``weight`` (starting at one) and ``bias`` (at zero) have shape ``normalized_shape``. Variance is the biased one.
    Source: Ba, Kiros and Hinton, "Layer Normalization", 2016.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.LayerNorm(4)(torch.randn(2, 3, 4)).shape
        torch.Size([2, 3, 4])
    """

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True,
                 bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.normalized_shape = each(normalized_shape, 1)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self._register(self.normalized_shape, elementwise_affine, elementwise_affine and bias, device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        shown = f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        return shown + f", bias={self.bias is not None}"


class RMSNorm(Module):
    """Divides by the root of the mean square over the last ``len(normalized_shape)`` dimensions, then scales.

    ``weight`` (starting at one) has shape ``normalized_shape``; ``eps`` None means the dtype's machine epsilon.
    Source: Zhang and Sennrich, "Root mean square layer normalization", 2019.
    """

    def __init__(self, normalized_shape: int | Sequence[int], eps: float | None = None, elementwise_affine: bool = True,
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.normalized_shape = each(normalized_shape, 1)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        weight = Parameter(torch.empty(self.normalized_shape, device=device, dtype=dtype)) if elementwise_affine else None
        self.register_parameter("weight", weight)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets the weight to one."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(_Affine):
    """Normalises each of ``num_groups`` groups of the channels of each sample of (N, C, ...); then scales and shifts each channel.

    ``weight`` (starting at one) and ``bias`` (at zero) have shape (num_channels,). Source: Wu and He, "Group Normalization", 2018.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.GroupNorm(3, 6)(torch.randn(20, 6, 10)).shape
        torch.Size([20, 6, 10])
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, device: Any = None, dtype: Any = None, *,
                 bias: bool = True) -> None:
        super().__init__()
        if num_channels % num_groups:
            raise ValueError(f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})")
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self._register(num_channels, affine, affine and bias, device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, bias={self.bias is not None}"


class LocalResponseNorm(Module):
    """``input / (k + alpha * m) ** beta``, with ``m`` the mean square over ``size`` neighbouring channels of (N, C, ...).

    Source: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks", 2012.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, input: Tensor) -> Tensor:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class CrossMapLRN2d(LocalResponseNorm):
    """Local response normalisation of (N, C, H, W), as Lua Torch had it."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1) -> None:
        super().__init__(size, alpha, beta, k)
