"""Sizes of numbers that are as often below zero as above."""
from __future__ import annotations

import math

import fusetorch as torch
from fusetorch.distributions import constraints
from fusetorch.distributions.distribution import Distribution
from fusetorch.distributions.transformed_distribution import TransformedDistribution
from fusetorch.distributions.transforms import AbsTransform
from fusetorch.tensor import Tensor


class _Half(TransformedDistribution):
    """The upper half of a distribution that is symmetric around 0, with doubled densities."""

    arg_constraints = {"scale": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, whole: Distribution, validate_args: bool | None = None) -> None:
        super().__init__(whole, AbsTransform(), validate_args=validate_args)

    scale = property(lambda self: self.base_dist.scale)
    mode = property(lambda self: torch.zeros_like(self.scale))

    def log_prob(self, value: Tensor) -> Tensor:
        self._checked(value)
        return torch.where(value >= 0, self.base_dist.log_prob(value) + math.log(2), -math.inf)

    def cdf(self, value: Tensor) -> Tensor:
        self._checked(value)
        return 2 * self.base_dist.cdf(value) - 1

    def icdf(self, prob: Tensor) -> Tensor:
        return self.base_dist.icdf((prob + 1) / 2)

    def entropy(self) -> Tensor:
        return self.base_dist.entropy() - math.log(2)
