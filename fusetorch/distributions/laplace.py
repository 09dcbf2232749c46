"""The Laplace distribution."""
from __future__ import annotations

from typing import Any

import fusetorch as torch
from fusetorch.distributions.loc_scale import LocScale
from fusetorch.tensor import Tensor


class Laplace(LocScale):
    """Densities that fall exponentially on both sides of ``loc``."""

    variance = property(lambda self: 2 * self.scale.pow(2))
    stddev = property(lambda self: 2**0.5 * self.scale)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        info = torch.finfo(self.loc.dtype)
        u = torch.rand(self._extended_shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device) * 2 - 1
        u = u.clamp(min=info.eps - 1)
        return self.loc - self.scale * u.sign() * torch.log1p(-u.abs().clamp(max=1 - info.tiny))

    def log_prob(self, value: Tensor) -> Tensor:
        self._checked(value)
        return -torch.log(2 * self.scale) - torch.abs(value - self.loc) / self.scale

    def cdf(self, value: Tensor) -> Tensor:
        self._checked(value)
        return 0.5 - 0.5 * (value - self.loc).sign() * torch.expm1(-(value - self.loc).abs() / self.scale)

    def icdf(self, value: Tensor) -> Tensor:
        term = value - 0.5
        return self.loc - self.scale * term.sign() * torch.log1p(-2 * term.abs())

    def entropy(self) -> Tensor:
        return 1 + torch.log(2 * self.scale)
