"""The generalized Pareto distribution."""
from __future__ import annotations

import math
from typing import Any

import fusetorch as torch
from fusetorch.distributions import constraints
from fusetorch.distributions.distribution import Distribution
from fusetorch.distributions.utils import broadcast_all
from fusetorch.tensor import Tensor


class GeneralizedPareto(Distribution):
    """Excesses over the threshold ``loc``, of size ``scale``; ``concentration`` says how heavy the tail is (0: exponential, below 0: it
    ends at ``loc - scale / concentration``).

    Example:
        >>> import fusetorch as torch
        >>> torch.distributions.GeneralizedPareto(0.0, 1.0, 0.0).cdf(torch.tensor(1.0))
        tensor(0.6321)
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive, "concentration": constraints.real}
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale, self.concentration = broadcast_all(loc, scale, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> GeneralizedPareto:
        return self._expanded(_instance, GeneralizedPareto, batch_shape, ("loc", "scale", "concentration"))

    def _exponential(self) -> Tensor:
        """Where the tail is that of the exponential distribution."""
        return torch.isclose(self.concentration, torch.zeros_like(self.concentration))

    def _shape(self) -> Tensor:
        """The concentration, 1 where it is 0: for formulae that divide by it."""
        return torch.where(self._exponential(), torch.ones_like(self.concentration), self.concentration)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        u = torch.rand(self._extended_shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.icdf(u)

    def icdf(self, value: Tensor) -> Tensor:
        c = self._shape()
        far = -torch.log1p(-value)
        return self.loc + self.scale * torch.where(self._exponential(), far, torch.expm1(c * far) / c)

    def _log_survival(self, value: Tensor) -> Tensor:
        z, c = (value - self.loc) / self.scale, self._shape()
        return torch.where(self._exponential(), -z, -torch.log1p(c * z) / c)

    def log_prob(self, value: Tensor) -> Tensor:
        self._checked(value)
        z = (value - self.loc) / self.scale
        tail = torch.where(self._exponential(), -z, -(1 + 1 / self._shape()) * torch.log1p(self.concentration * z))
        return tail - self.scale.log()

    def log_survival_function(self, value: Tensor) -> Tensor:
        """The logarithm of the probability of more than ``value``."""
        self._checked(value)
        return self._log_survival(value)

    def log_cdf(self, value: Tensor) -> Tensor:
        """The logarithm of the probability of at most ``value``."""
        self._checked(value)
        return torch.log1p(-self._log_survival(value).exp())

    def cdf(self, value: Tensor) -> Tensor:
        self._checked(value)
        return -torch.expm1(self._log_survival(value))

    @property
    def mean(self) -> Tensor:
        c = self.concentration
        return torch.where(c < 1, self.loc + self.scale / torch.where(c < 1, 1 - c, torch.ones_like(c)), torch.full_like(c, math.nan))

    @property
    def variance(self) -> Tensor:
        c = self.concentration
        inner = torch.where(c < 0.5, c, torch.zeros_like(c))
        return torch.where(c < 0.5, self.scale.pow(2) / ((1 - inner).pow(2) * (1 - 2 * inner)), torch.full_like(c, math.nan))

    def entropy(self) -> Tensor:
        return (self.scale.log() + self.concentration + 1).expand(self._batch_shape)

    @property
    def mode(self) -> Tensor:
        return self.loc

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        c = self._shape()
        end = torch.where(c < 0, self.loc - self.scale / c, torch.full_like(c, math.inf))
        return constraints.interval(self.loc, end)
