"""The half-Cauchy distribution."""
from __future__ import annotations

import math
from typing import Any

import fusetorch as torch
from fusetorch.distributions.cauchy import Cauchy
from fusetorch.distributions.half import _Half
from fusetorch.tensor import Tensor


class HalfCauchy(_Half):
    """Sizes of Cauchy numbers around 0."""

    def __init__(self, scale: Any, validate_args: bool | None = None) -> None:
        super().__init__(Cauchy(0, scale, validate_args=False), validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> HalfCauchy:
        return super().expand(batch_shape, self._get_checked_instance(HalfCauchy, _instance))

    mean = property(lambda self: torch.full_like(self.scale, math.inf))
    variance = property(lambda self: self.base_dist.variance)

    def log_prob(self, value: Tensor | float) -> Tensor:
        return super().log_prob(torch.as_tensor(value, dtype=self.scale.dtype, device=self.scale.device))
