"""What normalisations end with: a weight that scales and a bias that shifts."""
from __future__ import annotations

from typing import Any

import fusetorch as torch
from fusetorch.nn import init
from fusetorch.nn.module import Module
from fusetorch.nn.parameter import Parameter


class _Affine(Module):
    """A layer with ``weight`` (starting at one) and ``bias`` (at zero) of one shape, each ``None`` where it is not wanted."""

    def _register(self, shape: int | tuple[int, ...], weight: bool, bias: bool, device: Any, dtype: Any) -> None:
        for name, wanted in (("weight", weight), ("bias", bias)):
            self.register_parameter(name, Parameter(torch.empty(shape, device=device, dtype=dtype)) if wanted else None)

    def reset_parameters(self) -> None:
        """Sets the weight to one and the bias to zero."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)
