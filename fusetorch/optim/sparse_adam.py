"""Adam for sparse gradients."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fusetorch.optim.optimizer import Optimizer, check_at_least_zero, check_betas


class SparseAdam(Optimizer):
    """Adam for sparse gradients, which fusetorch does not have: a step with a dense gradient raises PyTorch's ``RuntimeError``."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 maximize: bool = False) -> None:
        check_at_least_zero(lr=lr, eps=eps)
        if lr == 0 or eps == 0:
            raise ValueError(f"Invalid {'learning rate' if lr == 0 else 'epsilon value'}: 0")
        check_betas(betas)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, maximize=maximize))

    def _update_group(self, group: dict[str, Any]) -> None:
        if self._gradients(group)[0]:
            raise RuntimeError("SparseAdam does not support dense gradients, please consider Adam instead")
