"""RMSprop."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fusetorch as torch
from fusetorch.optim.optimizer import (
    Optimizer,
    add_ratio_,
    add_scaled,
    add_scaled_,
    average_,
    average_square_,
    check_at_least_zero,
    unsupported,
)


class RMSprop(Optimizer):
    """Steps divided by the root of a running average of squared gradients.

    ``centered`` subtracts the square of the averaged gradient, an estimate of the variance. Source: Hinton's lecture
    "Neural networks for machine learning", 6e; the centred form by Graves, arXiv:1308.0850.

    Args:
        params: tensors, or dicts with ``"params"`` and options of their own.
        alpha: decay of the averages.
        eps: added to the denominator, after the root.
        momentum: of the steps.
        foreach, capturable: taken for compatibility; the update is the same.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0, momentum: float = 0, centered: bool = False, capturable: bool = False,
                 foreach: bool | None = None, maximize: bool = False, differentiable: bool = False) -> None:
        check_at_least_zero(lr=lr, eps=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        unsupported(differentiable)
        super().__init__(params, dict(lr=lr, momentum=momentum, alpha=alpha, eps=eps, centered=centered,
                                      weight_decay=weight_decay, capturable=capturable, foreach=foreach,
                                      maximize=maximize, differentiable=differentiable))

    def _update_group(self, group: dict[str, Any]) -> None:
        descent = -self.number(group, "lr")
        alpha = self.number(group, "alpha")
        eps = self.number(group, "eps")
        weight_decay = self.number(group, "weight_decay") if group["weight_decay"] != 0 else None
        momentum = self.number(group, "momentum") if group["momentum"] > 0 else None
        for p, grad in self._gradients(group):
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
                state["square_avg"] = torch.zeros_like(p)
                if momentum is not None:
                    state["momentum_buffer"] = torch.zeros_like(p)
                if group["centered"]:
                    state["grad_avg"] = torch.zeros_like(p)
            state["step"] += 1
            if weight_decay is not None:
                grad = add_scaled(grad, p, weight_decay)
            square = average_square_(state["square_avg"], grad, alpha)
            if group["centered"]:
                mean = average_(state["grad_avg"], grad, alpha)
                square = square - mean * mean
            denominator = square.sqrt().add_(eps)
            if momentum is None:
                add_ratio_(p, grad, denominator, descent)
            else:
                add_scaled_(p, state["momentum_buffer"].mul_(momentum).addcdiv_(grad, denominator), descent)
