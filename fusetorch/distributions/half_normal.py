"""The half-normal distribution."""
from __future__ import annotations

import math
from typing import Any

from fusetorch.distributions.half import _Half
from fusetorch.distributions.normal import Normal


class HalfNormal(_Half):
    """Sizes of normal numbers of mean 0."""

    def __init__(self, scale: Any, validate_args: bool | None = None) -> None:
        super().__init__(Normal(0, scale, validate_args=False), validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> HalfNormal:
        return super().expand(batch_shape, self._get_checked_instance(HalfNormal, _instance))

    mean = property(lambda self: self.scale * math.sqrt(2 / math.pi))
    variance = property(lambda self: self.scale.pow(2) * (1 - 2 / math.pi))
