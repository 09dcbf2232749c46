"""RMSprop."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fusetorch as torch
from fusetorch.optim.optimizer import Optimizer, check_at_least_zero


class RMSprop(Optimizer):
    """Steps divided by the root of a running average of squared gradients.

    ``centered`` subtracts the square of the averaged gradient, an estimate of the variance. Source: Hinton's lecture
    "Neural networks for machine learning", 6e; the centred form by Graves, arXiv:1308.0850.

    Args:
        params: tensors, or dicts with ``"params"`` and options of their own.
        alpha: decay of the averages.
        eps: added to the denominator, after the root.
        momentum: of the steps.
        differentiable: record the step for gradients.
        foreach, capturable: taken for compatibility; the update is the same.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0, momentum: float = 0, centered: bool = False, capturable: bool = False,
                 foreach: bool | None = None, maximize: bool = False, differentiable: bool = False) -> None:
        check_at_least_zero(lr=lr, eps=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        super().__init__(params, dict(lr=lr, momentum=momentum, alpha=alpha, eps=eps, centered=centered,
                                      weight_decay=weight_decay, capturable=capturable, foreach=foreach,
                                      maximize=maximize, differentiable=differentiable))

    def _update_group(self, group: dict[str, Any]) -> None:
        lr, alpha, eps = self.number(group, "lr"), self.number(group, "alpha"), self.number(group, "eps")
        momentum = self.number(group, "momentum") if group["momentum"] > 0 else None
        params, grads = self._gradients(group)
        names = ["square_avg", *["momentum_buffer"] * (momentum is not None), *["grad_avg"] * group["centered"]]
        for p in params:
            state = self._started(p, names)
            state["step"] += 1
        torch._rmsprop_step_(params, self._buffers(params, "square_avg"),
                             self._buffers(params, "grad_avg") if group["centered"] else None,
                             None if momentum is None else self._buffers(params, "momentum_buffer"), grads, lr, alpha, eps,
                             self.number_or_none(group, "weight_decay"), momentum, group["maximize"])
