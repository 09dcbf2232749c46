"""Dropout layers."""
from __future__ import annotations

from fusetorch.nn import functional as F
from fusetorch.nn.module import Module
from fusetorch.tensor import Tensor


class Dropout(Module):
    """While training, zeroes each element with probability ``p`` and divides the others by ``1 - p``.

    Source: Hinton et al., "Improving neural networks by preventing co-adaptation of feature detectors", 2012.
    ``ValueError`` unless 0 <= p <= 1.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p = p
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
