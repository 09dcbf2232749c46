"""Weight normalisation with a hook before the forward; ``parametrizations.weight_norm`` is its successor.

Source: Salimans and Kingma, "Weight Normalization", 2016.
"""
from __future__ import annotations

from typing import Any, TypeVar

from fusetorch.errors import warn
from fusetorch.nn.module import Module
from fusetorch.nn.parameter import Parameter
from fusetorch.nn.utils.parameter_hooks import ParameterHook
from fusetorch.tensor import Tensor

M = TypeVar("M", bound=Module)


def norm_except_dim(v: Tensor, pow: int = 2, dim: int = 0) -> Tensor:
    """The ``pow``-norm over all dimensions but ``dim`` (-1: over all), kept as 1."""
    if dim == -1:
        return v.norm(pow)
    rows = v.transpose(0, dim)
    norms = rows.reshape(rows.shape[0], -1).norm(pow, 1)
    return norms.reshape(rows.shape[0], *[1] * (v.dim() - 1)).transpose(0, dim)


def weight_norm_of(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """``g * v / |v|``, the norm over all dimensions but ``dim`` (-1: over all)."""
    return v * (g / norm_except_dim(v, 2, dim))


class WeightNorm(ParameterHook):
    """The hook: computes the weight from its magnitude ``<name>_g`` and direction ``<name>_v`` before each forward."""

    kind = "weight_norm"

    def __init__(self, name: str, dim: int) -> None:
        self.name = name
        self.dim = -1 if dim is None else dim

    def compute_weight(self, module: Module) -> Tensor:
        """The weight of ``module``."""
        return weight_norm_of(getattr(module, self.name + "_v"), getattr(module, self.name + "_g"), self.dim)

    @staticmethod
    def apply(module: Module, name: str, dim: int) -> WeightNorm:
        """Puts the hook on ``module``."""
        WeightNorm.check_free(module, name)
        made = WeightNorm(name, dim)
        weight = getattr(module, name)
        delattr(module, name)
        module.register_parameter(name + "_g", Parameter(norm_except_dim(weight.detach(), 2, made.dim)))
        module.register_parameter(name + "_v", Parameter(weight.detach()))
        setattr(module, name, made.compute_weight(module))
        module.register_forward_pre_hook(made)
        return made

    def remove(self, module: Module) -> None:
        """Makes the weight an ordinary parameter again."""
        weight = self.compute_weight(module)
        for name in (self.name, self.name + "_g", self.name + "_v"):
            delattr(module, name)
        setattr(module, self.name, Parameter(weight.detach()))

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module))


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """Replaces the parameter ``name`` by its magnitude ``<name>_g`` along ``dim`` (``None``: one number) and direction ``<name>_v``.

    Example:
        >>> import fusetorch as torch
        >>> m = torch.nn.utils.weight_norm(torch.nn.Linear(20, 40))
        >>> m.weight_g.shape, m.weight_v.shape
        (torch.Size([40, 1]), torch.Size([40, 20]))
    """
    warn("`torch.nn.utils.weight_norm` is deprecated in favor of `torch.nn.utils.parametrizations.weight_norm`.", FutureWarning)
    WeightNorm.apply(module, name, dim)
    return module


def remove_weight_norm(module: M, name: str = "weight") -> M:
    """Undoes :func:`weight_norm`; the weight keeps its value."""
    WeightNorm.take_off(module, name)
    return module
