"""The logistic-normal distribution."""
from __future__ import annotations

from typing import Any

from fusetorch.distributions import constraints
from fusetorch.distributions.normal import Normal
from fusetorch.distributions.transformed_distribution import TransformedDistribution
from fusetorch.distributions.transforms import StickBreakingTransform


class LogisticNormal(TransformedDistribution):
    """K probabilities made of K - 1 normal numbers by :class:`StickBreakingTransform`."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.simplex
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        base = Normal(loc, scale, validate_args=validate_args)
        if not base.batch_shape:
            base = base.expand([1])
        super().__init__(base, StickBreakingTransform(), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> LogisticNormal:
        return super().expand(batch_shape, self._get_checked_instance(LogisticNormal, _instance))

    loc = property(lambda self: self.base_dist.base_dist.loc)
    scale = property(lambda self: self.base_dist.base_dist.scale)
