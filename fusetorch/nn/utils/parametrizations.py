"""Parametrisations of weights: by norm, by spectral norm, and to orthogonal matrices.

Sources: weight normalisation, Salimans and Kingma 2016; spectral normalisation, Miyato et al. 2018; orthogonal parametrisations and
their trivialisation, Lezcano-Casado 2019.
"""
from __future__ import annotations

from typing import Any

import fusetorch as torch
from fusetorch.nn import functional as F
from fusetorch.nn.module import Module
from fusetorch.nn.utils import parametrize
from fusetorch.nn.utils.spectral_norm import as_matrix, output_dim
from fusetorch.nn.utils.weight_norm import norm_except_dim, weight_norm_of
from fusetorch.tensor import Tensor


class _WeightNorm(Module):
    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return weight_norm_of(weight_v, weight_g, self.dim)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return norm_except_dim(weight, 2, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Has the tensor ``name`` computed from its norms over all dimensions but ``dim`` (``original0``) and direction (``original1``).

    Example:
        >>> import fusetorch as torch
        >>> m = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(20, 40))
        >>> m.parametrizations.weight.original0.shape, m.parametrizations.weight.original1.shape
        (torch.Size([40, 1]), torch.Size([40, 20]))
    """
    parametrize.register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def from_hooks(state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # what torch.nn.utils.weight_norm saved
        old = [f"{prefix}{name}_{part}" for part in "gv"]
        if all(key in state_dict for key in old):
            for i, key in enumerate(old):
                state_dict[f"{prefix}parametrizations.{name}.original{i}"] = state_dict.pop(key)

    module._register_load_state_dict_pre_hook(from_hooks)
    return module


class _SpectralNorm(Module):
    def __init__(self, weight: Tensor, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        super().__init__()
        if not -weight.dim() <= dim < weight.dim():
            raise IndexError(f"Dimension out of range (expected to be in range of [-{weight.dim()}, {weight.dim() - 1}] but got {dim})")
        if n_power_iterations <= 0:
            raise ValueError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
        self.dim = dim % weight.dim()
        self.eps = eps
        if weight.dim() > 1:
            self.n_power_iterations = n_power_iterations
            matrix = as_matrix(weight.detach(), self.dim)
            for name, size in zip(("_u", "_v"), matrix.shape):
                self.register_buffer(name, F.normalize(matrix.new_empty(size).normal_(0, 1), dim=0, eps=eps))
            self._power_method(matrix, 15)

    def _power_method(self, matrix: Tensor, iterations: int) -> None:
        with torch.no_grad():
            for _ in range(iterations):
                self._u.copy_(F.normalize(torch.mv(matrix, self._v), dim=0, eps=self.eps))
                self._v.copy_(F.normalize(torch.mv(matrix.t(), self._u), dim=0, eps=self.eps))

    def forward(self, weight: Tensor) -> Tensor:
        if weight.dim() == 1:  # the spectral norm of a vector is its norm
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            self._power_method(matrix.detach(), self.n_power_iterations)
        u, v = self._u.clone(), self._v.clone()  # the next call changes the buffers, and this one's gradient needs them
        return weight / torch.dot(u, torch.mv(matrix, v))

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def spectral_norm(module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None) -> Module:
    """Has the tensor ``name`` divided by its largest singular value, estimated by power iteration in training.

    ``dim`` is the dimension that counts the outputs: by default 1 for transposed convolutions and 0 for others.
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    parametrize.register_parametrization(
        module, name, _SpectralNorm(weight, n_power_iterations, output_dim(module) if dim is None else dim, eps))
    return module


def _is_orthogonal(q: Tensor) -> bool:
    n, k = q.shape[-2:]
    one = torch.eye(k, dtype=q.dtype, device=q.device)
    return torch.allclose(q.mT @ q, one, atol=10.0 * n * torch.finfo(q.dtype).eps)


def _nearest_orthogonal(a: Tensor) -> Tensor:
    """Orthogonal columns that span what those of ``a`` span, the way PyTorch chooses them: the QR factorisation with a positive R."""
    q, r = torch.linalg.qr(a)
    return q * r.diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)


class _Orthogonal(Module):
    base: Tensor | None

    def __init__(self, weight: Tensor, orthogonal_map: str, *, use_trivialization: bool = True) -> None:
        super().__init__()
        self.shape = weight.shape
        self.orthogonal_map = orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, X: Tensor) -> Tensor:
        wide = X.size(-2) < X.size(-1)
        x = X.mT if wide else X
        n, k = x.shape[-2:]
        if self.orthogonal_map == "householder":
            a = x.tril(-1)
            tau = 2.0 / (1.0 + (a * a).sum(-2))
            q = torch.linalg.householder_product(a, tau) * x.diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)
        else:
            a = x.tril()
            if n != k:
                a = torch.cat([a, a.new_zeros(*a.shape[:-2], n, n - k)], -1)
            a = a - a.mT
            if self.orthogonal_map == "matrix_exp":
                q = torch.linalg.matrix_exp(a)
            else:
                one = torch.eye(n, dtype=a.dtype, device=a.device)
                q = torch.linalg.solve(one - a * 0.5, one + a * 0.5)
            q = q[..., :k]
        base = getattr(self, "base", None)
        if base is not None:
            q = base @ q
        return q.mT if wide else q

    def right_inverse(self, Q: Tensor) -> Tensor:
        if Q.shape != self.shape:
            raise ValueError(f"Expected a matrix or batch of matrices of shape {self.shape}. Got a tensor of shape {Q.shape}.")
        wide = Q.size(-2) < Q.size(-1)
        q = Q.mT if wide else Q
        n, k = q.shape[-2:]
        if not hasattr(self, "base"):
            if self.orthogonal_map != "householder":
                raise NotImplementedError("It is not possible to assign to the matrix exponential or the Cayley parametrizations when "
                                          "use_trivialization=False.")
            a, tau = torch.geqrf(q)
            signs = a.diagonal(dim1=-2, dim2=-1).sgn() * torch.where(tau == 0, -1.0, 1.0).to(a.dtype)
            a = a.tril(-1) + a.triu(1)
            a = a + F.pad(torch.diag_embed(signs), (0, 0, 0, n - k))
            return a.mT if wide else a
        if n == k:
            q = q.clone() if _is_orthogonal(q) else _nearest_orthogonal(q)
        else:  # any completion to a square matrix will do
            q = _nearest_orthogonal(torch.cat([q, q.new_empty(*q.shape[:-2], n, n - k).normal_()], -1))
        self.base = q
        # all maps send minus the identity to the identity, up to columns that base completes
        one = torch.zeros_like(Q)
        one.diagonal(dim1=-2, dim2=-1).fill_(-1.0)
        return one


def orthogonal(module: Module, name: str = "weight", orthogonal_map: str | None = None, *, use_trivialization: bool = True) -> Module:
    """Has the matrix (or batch of matrices) ``name`` orthogonal: ``Q.mT @ Q`` is the identity, or ``Q @ Q.mT`` if it is wide.

    Args:
        orthogonal_map: ``matrix_exp``, ``cayley`` or ``householder``; by default ``matrix_exp`` for square matrices, else ``householder``.
        use_trivialization: keep the assigned matrix as ``base`` and parametrise around it.
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if weight.dim() < 2:
        raise ValueError(f"Expected a matrix or batch of matrices. Got a tensor of {weight.dim()} dimensions.")
    if orthogonal_map is None:
        orthogonal_map = "matrix_exp" if weight.size(-2) == weight.size(-1) else "householder"
    if orthogonal_map not in ("matrix_exp", "cayley", "householder"):
        raise ValueError(f"orthogonal_map has to be one of \"matrix_exp\", \"cayley\", \"householder\". Got: {orthogonal_map}")
    parametrize.register_parametrization(module, name, _Orthogonal(weight, orthogonal_map, use_trivialization=use_trivialization),
                                         unsafe=True)
    return module
