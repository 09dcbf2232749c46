"""``torch.nn.quantized``: of the layers for quantized numbers, the one that models use with floating ones."""
from __future__ import annotations

from collections.abc import Sequence

import fusetorch as torch
from fusetorch import Tensor
from fusetorch.nn.module import Module

__all__ = ["FloatFunctional"]


class FloatFunctional(Module):
    """Sums, products and joins as a module, so that quantization could observe their results: call its methods, not itself.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.quantized.FloatFunctional().add(torch.ones(2), 1)
        tensor([2., 2.])
    """

    def __init__(self) -> None:
        super().__init__()
        self.activation_post_process = torch.nn.Identity()

    def forward(self, x: Tensor) -> None:
        """Raises ``RuntimeError``."""
        raise RuntimeError("FloatFunctional is not intended to use the 'forward'. Please use the underlying operation")

    def add(self, x: Tensor, y: Tensor | float) -> Tensor:
        """``x + y``."""
        return self.activation_post_process(torch.add(x, y))

    def mul(self, x: Tensor, y: Tensor | float) -> Tensor:
        """``x * y``."""
        return self.activation_post_process(torch.mul(x, y))

    add_scalar, mul_scalar = add, mul

    def cat(self, x: Sequence[Tensor], dim: int = 0) -> Tensor:
        """The tensors one after the other."""
        return self.activation_post_process(torch.cat(x, dim=dim))

    def add_relu(self, x: Tensor, y: Tensor) -> Tensor:
        """``relu(x + y)``."""
        return self.activation_post_process(torch.relu(torch.add(x, y)))

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        """``x @ y``."""
        return self.activation_post_process(torch.matmul(x, y))
