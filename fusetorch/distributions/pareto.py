"""The Pareto distribution."""
from __future__ import annotations

from typing import Any

from fusetorch.distributions import constraints
from fusetorch.distributions.exponential import Exponential
from fusetorch.distributions.transformed_distribution import TransformedDistribution
from fusetorch.distributions.transforms import AffineTransform, ExpTransform
from fusetorch.distributions.utils import broadcast_all
from fusetorch.tensor import Tensor


class Pareto(TransformedDistribution):
    """Numbers from ``scale`` on whose densities fall as ``x ** -(alpha + 1)``."""

    arg_constraints = {"alpha": constraints.positive, "scale": constraints.positive}

    def __init__(self, scale: Any, alpha: Any, validate_args: bool | None = None) -> None:
        self.scale, self.alpha = broadcast_all(scale, alpha)
        super().__init__(Exponential(self.alpha, validate_args=validate_args), [ExpTransform(), AffineTransform(0, self.scale)],
                         validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Pareto:
        new = self._get_checked_instance(Pareto, _instance)
        new.scale, new.alpha = self.scale.expand(batch_shape), self.alpha.expand(batch_shape)
        new = super().expand(batch_shape, new)
        new.transforms = [ExpTransform(), AffineTransform(0, new.scale)]
        return new

    @property
    def mean(self) -> Tensor:
        a = self.alpha.clamp(min=1)
        return a * self.scale / (a - 1)

    mode = property(lambda self: self.scale)

    @property
    def variance(self) -> Tensor:
        a = self.alpha.clamp(min=2)
        return self.scale.pow(2) * a / ((a - 1).pow(2) * (a - 2))

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        return constraints.greater_than_eq(self.scale)

    def entropy(self) -> Tensor:
        return (self.scale / self.alpha).log() + (1 + self.alpha.reciprocal())
