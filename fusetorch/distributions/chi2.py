"""The chi-squared distribution."""
from __future__ import annotations

from typing import Any

from fusetorch.distributions import constraints
from fusetorch.distributions.gamma import Gamma


class Chi2(Gamma):
    """Sums of ``df`` squared standard normal numbers."""

    arg_constraints = {"df": constraints.positive}

    def __init__(self, df: Any, validate_args: bool | None = None) -> None:
        super().__init__(0.5 * df, 0.5, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Chi2:
        return super().expand(batch_shape, self._get_checked_instance(Chi2, _instance))

    df = property(lambda self: self.concentration * 2)
