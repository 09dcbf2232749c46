"""Cholesky factors of correlation matrices."""
from __future__ import annotations

import math
from typing import Any

import fusetorch as torch
from fusetorch.distributions import constraints
from fusetorch.distributions.beta import Beta
from fusetorch.distributions.distribution import Distribution
from fusetorch.distributions.utils import broadcast_all
from fusetorch.tensor import Tensor


class LKJCholesky(Distribution):
    """Lower Cholesky factors L of ``dim`` x ``dim`` correlation matrices, whose density is ``det(L @ L.T) ** (concentration - 1)`` times a
    constant: uniform over correlation matrices for 1, near the identity for large concentrations.

    Samples are made row by row (the onion method) of Lewandowski, Kurowicka and Joe, "Generating random correlation matrices based on vines
    and extended onion method", 2009.

    Raises:
        ValueError: for ``dim`` less than 2, or a concentration that is not positive.

    Example:
        >>> import fusetorch as torch
        >>> L = torch.distributions.LKJCholesky(3, 0.5).sample()
        >>> torch.allclose((L @ L.T).diagonal(), torch.ones(3))
        True
    """

    arg_constraints = {"concentration": constraints.positive}
    support = constraints.corr_cholesky

    def __init__(self, dim: int, concentration: Any = 1.0, validate_args: bool | None = None) -> None:
        if dim < 2:
            raise ValueError(f"Expected dim to be an integer greater than or equal to 2. Found dim={dim}.")
        self.dim = dim
        (self.concentration,) = broadcast_all(concentration)
        rows = torch.cat([torch.zeros(1), torch.arange(dim - 1)]).to(self.concentration)
        marginal = self.concentration + 0.5 * (dim - 2)
        # the squared length of each row's part below the diagonal; the first row has none
        self._beta = Beta(rows + 0.5, marginal.unsqueeze(-1) - 0.5 * rows)
        super().__init__(self.concentration.shape, (dim, dim), validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> LKJCholesky:
        new = self._get_checked_instance(LKJCholesky, _instance)
        batch_shape = torch.Size(batch_shape)
        new.dim = self.dim
        new.concentration = self.concentration.expand(batch_shape)
        new._beta = self._beta.expand(batch_shape + (self.dim,))
        super(LKJCholesky, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Any = ()) -> Tensor:
        squared = self._beta.sample(sample_shape).unsqueeze(-1)
        direction = torch.randn(self._extended_shape(sample_shape), dtype=squared.dtype, device=squared.device).tril(-1)
        direction = direction / direction.norm(dim=-1, keepdim=True)
        direction[..., 0, :].fill_(0.0)
        below = squared.sqrt() * direction
        left = (1 - below.square().sum(-1)).clamp(min=torch.finfo(below.dtype).tiny)
        return below + torch.diag_embed(left.sqrt())

    def log_prob(self, value: Tensor) -> Tensor:
        self._checked(value)
        n = self.dim - 1
        powers = 2 * (self.concentration - 1).unsqueeze(-1) + n + 1 - torch.arange(2, self.dim + 1, device=self.concentration.device)
        density = (powers * value.diagonal(dim1=-1, dim2=-2)[..., 1:].log()).sum(-1)
        alpha = self.concentration + 0.5 * n
        return density - (0.5 * n * math.log(math.pi) + torch.mvlgamma(alpha - 0.5, n) - n * torch.lgamma(alpha))
