"""Spectral normalisation with a hook before the forward; ``parametrizations.spectral_norm`` is its successor.

Source: Miyato et al., "Spectral normalization for generative adversarial networks", 2018.
"""
from __future__ import annotations

from typing import Any, TypeVar

import fusetorch as torch
from fusetorch.nn import functional as F
from fusetorch.nn.module import Module
from fusetorch.nn.parameter import Parameter
from fusetorch.nn.utils.parameter_hooks import ParameterHook
from fusetorch.tensor import Tensor

M = TypeVar("M", bound=Module)

#: Modules whose output channels are the weight's second dimension.
_TRANSPOSED = ("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")


def output_dim(module: Module) -> int:
    """The dimension of a weight that counts the outputs."""
    return 1 if any(c.__name__ in _TRANSPOSED for c in type(module).__mro__) else 0


def as_matrix(weight: Tensor, dim: int) -> Tensor:
    """A weight as a matrix with ``dim`` as rows."""
    if dim:
        weight = weight.permute(dim, *[d for d in range(weight.dim()) if d != dim])
    return weight.reshape(weight.size(0), -1)


class SpectralNorm(ParameterHook):
    """The hook: divides the weight ``<name>_orig`` by its largest singular value, estimated by power iteration."""

    kind = "spectral_norm"

    def __init__(self, name: str = "weight", n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        if n_power_iterations <= 0:
            raise ValueError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
        self.name = name
        self.n_power_iterations = n_power_iterations
        self.dim = dim
        self.eps = eps

    def compute_weight(self, module: Module, do_power_iteration: bool) -> Tensor:
        """The normalised weight; the singular vectors in the buffers are improved in place if ``do_power_iteration``."""
        weight = getattr(module, self.name + "_orig")
        u, v = getattr(module, self.name + "_u"), getattr(module, self.name + "_v")
        matrix = as_matrix(weight, self.dim)
        if do_power_iteration:
            with torch.no_grad():
                for _ in range(self.n_power_iterations):
                    v.copy_(F.normalize(torch.mv(matrix.t(), u), dim=0, eps=self.eps))
                    u.copy_(F.normalize(torch.mv(matrix, v), dim=0, eps=self.eps))
                u, v = u.clone(), v.clone()  # the next call changes the buffers, and this one's gradient needs them
        return weight / torch.dot(u, torch.mv(matrix, v))

    def remove(self, module: Module) -> None:
        """Makes the weight an ordinary parameter again."""
        with torch.no_grad():
            weight = self.compute_weight(module, do_power_iteration=False)
        for name in ("", "_u", "_v", "_orig"):
            delattr(module, self.name + name)
        module.register_parameter(self.name, Parameter(weight.detach()))

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module, do_power_iteration=module.training))

    @staticmethod
    def apply(module: Module, name: str, n_power_iterations: int, dim: int, eps: float) -> SpectralNorm:
        """Puts the hook on ``module``."""
        SpectralNorm.check_free(module, name)
        made = SpectralNorm(name, n_power_iterations, dim, eps)
        weight = module._parameters[name]
        if weight is None:
            raise ValueError(f"`SpectralNorm` cannot be applied as parameter `{name}` is None")
        with torch.no_grad():
            rows, columns = as_matrix(weight, dim).shape
            u = F.normalize(weight.new_empty(rows).normal_(0, 1), dim=0, eps=eps)
            v = F.normalize(weight.new_empty(columns).normal_(0, 1), dim=0, eps=eps)
        delattr(module, name)
        module.register_parameter(name + "_orig", weight)
        setattr(module, name, weight.detach())  # an attribute, not a parameter: each forward computes it
        module.register_buffer(name + "_u", u)
        module.register_buffer(name + "_v", v)
        module.register_forward_pre_hook(made)
        return made


def spectral_norm(module: M, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None) -> M:
    """Divides the parameter ``name`` by its largest singular value in every forward.

    Args:
        n_power_iterations: steps of the power iteration in each forward in training.
        eps: what norms of the singular vectors are at least taken as.
        dim: the dimension that counts the outputs; by default 1 for transposed convolutions and 0 for others.
    """
    SpectralNorm.apply(module, name, n_power_iterations, output_dim(module) if dim is None else dim, eps)
    return module


def remove_spectral_norm(module: M, name: str = "weight") -> M:
    """Undoes :func:`spectral_norm`; the weight keeps its normalised value."""
    SpectralNorm.take_off(module, name)
    return module
