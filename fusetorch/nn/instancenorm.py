"""Instance normalisation layers."""
from __future__ import annotations

import warnings
from typing import Any

from fusetorch.nn import functional as F
from fusetorch.nn.batchnorm import _NormBase
from fusetorch.tensor import Tensor


class _InstanceNorm(_NormBase):
    rank: int  # dimensions of one sample, channels included

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = False, track_running_stats: bool = False,
                 device: Any = None, dtype: Any = None, *, bias: bool = True) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (self.rank, self.rank + 1):
            raise ValueError(f"expected {self.rank}D or {self.rank + 1}D input (got {input.dim()}D input)")

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        channels = input.size(-self.rank)
        if channels != self.num_features:
            if self.affine:
                raise ValueError(f"expected input's size at dim={input.dim() - self.rank} to match num_features ({self.num_features}), "
                                 f"but got: {channels}.")
            warnings.warn(f"input's size at dim={input.dim() - self.rank} does not match num_features. You can silence this warning by not "
                          "passing in num_features, which is not used because affine=False", stacklevel=2)
        x = input.unsqueeze(0) if input.dim() == self.rank else input
        y = F.instance_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training or not self.track_running_stats,
                            0.0 if self.momentum is None else self.momentum, self.eps)
        return y.squeeze(0) if input.dim() == self.rank else y


class InstanceNorm1d(_InstanceNorm):
    """Normalises each channel of each sample of (N, C, L) or (C, L) over its positions.

    Args:
        num_features: C.
        affine, bias: whether there are a weight (starting at one) and a bias (at zero).
        track_running_stats: whether there are running statistics, which evaluation uses.

    Source: Ulyanov, Vedaldi and Lempitsky, "Instance Normalization", 2016.
    """

    rank = 2


class InstanceNorm2d(_InstanceNorm):
    """Normalises each channel of each sample of (N, C, H, W) or (C, H, W); see :class:`InstanceNorm1d`."""

    rank = 3


class InstanceNorm3d(_InstanceNorm):
    """Normalises each channel of each sample of (N, C, D, H, W) or (C, D, H, W); see :class:`InstanceNorm1d`."""

    rank = 4
