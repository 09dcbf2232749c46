"""What distributions share whose spread is one matrix, given as covariance, as its inverse, or as its Cholesky factor."""
from __future__ import annotations

from typing import Any

import fusetorch as torch
from fusetorch.distributions import constraints
from fusetorch.distributions.utils import lazy_property
from fusetorch.tensor import Tensor

CONSTRAINTS = {"covariance_matrix": constraints.positive_definite, "precision_matrix": constraints.positive_definite,
               "scale_tril": constraints.lower_cholesky}


def one_matrix(error: type[Exception], *matrices: Tensor | None) -> tuple[str, Tensor]:
    """The name and value of the one that is given, in the order of ``CONSTRAINTS``; else raises ``error``."""
    given = [(n, m) for n, m in zip(CONSTRAINTS, matrices) if m is not None]
    if len(given) != 1:
        raise error("Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified.")
    return given[0]


def _precision_to_scale_tril(p: Tensor) -> Tensor:
    """The Cholesky factor of the inverse of ``p``."""
    flipped = torch.linalg.cholesky(torch.flip(p, (-2, -1)))
    inverse = torch.flip(flipped, (-2, -1)).mT
    return torch.linalg.solve_triangular(inverse, torch.eye(p.shape[-1], dtype=p.dtype, device=p.device).expand(p.shape), upper=False)


def cholesky_factor(name: str, matrix: Tensor) -> Tensor:
    """The covariance's Cholesky factor, from the matrix that is called ``name``."""
    if name == "scale_tril":
        return matrix
    return torch.linalg.cholesky(matrix) if name == "covariance_matrix" else _precision_to_scale_tril(matrix)


class OfCovariance:
    """The three matrices, each from the Cholesky factor unless it was given."""

    _unbroadcasted_scale_tril: Tensor
    _batch_shape: torch.Size
    _event_shape: torch.Size

    def _matrix(self, m: Tensor) -> Tensor:
        n = self._event_shape[-1]
        return m.expand(self._batch_shape + (n, n))

    def _expand_matrices(self, new: Any, batch_shape: Any) -> None:
        """Gives ``new`` the matrices that are known here."""
        n = self._event_shape[-1]
        for name in CONSTRAINTS:
            if name in self.__dict__:
                setattr(new, name, self.__dict__[name].expand(torch.Size(batch_shape) + (n, n)))

    @lazy_property
    def scale_tril(self) -> Tensor:
        """The covariance's Cholesky factor."""
        return self._matrix(self._unbroadcasted_scale_tril)

    @lazy_property
    def covariance_matrix(self) -> Tensor:
        """The covariance (of the normal vectors, for a Wishart distribution)."""
        return self._matrix(self._unbroadcasted_scale_tril @ self._unbroadcasted_scale_tril.mT)

    @lazy_property
    def precision_matrix(self) -> Tensor:
        """The inverse of the covariance."""
        return self._matrix(torch.cholesky_inverse(self._unbroadcasted_scale_tril))
