"""What distributions of one shape share that is moved by ``loc`` and stretched by ``scale``."""
from __future__ import annotations

from typing import Any

from fusetorch.distributions import constraints
from fusetorch.distributions.distribution import Distribution
from fusetorch.distributions.utils import broadcast_all


class LocScale(Distribution):
    """Real numbers around ``loc``, where the density is highest."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.size(), validate_args=validate_args)

    mean = property(lambda self: self.loc)
    mode = property(lambda self: self.loc)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return self._expanded(_instance, LocScale, batch_shape, ("loc", "scale"))
