"""Adagrad."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fusetorch as torch
from fusetorch.optim.optimizer import Optimizer, add_ratio_, add_scaled, check_at_least_zero, elapsed, unsupported


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients so far.

    Source: Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization", 2011.

    Args:
        params: tensors, or dicts with ``"params"`` and options of their own.
        lr_decay: the learning rate at step t is ``lr / (1 + (t - 1) * lr_decay)``.
        initial_accumulator_value: where the sums start.
        eps: added to the denominator, after the root.
        foreach, fused: taken for compatibility; the update is the same.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
                 initial_accumulator_value: float = 0, eps: float = 1e-10, foreach: bool | None = None, *,
                 maximize: bool = False, differentiable: bool = False, fused: bool | None = None) -> None:
        check_at_least_zero(lr=lr, lr_decay=lr_decay, weight_decay=weight_decay,
                            initial_accumulator_value=initial_accumulator_value, eps=eps)
        unsupported(differentiable)
        super().__init__(params, dict(lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay,
                                      initial_accumulator_value=initial_accumulator_value, foreach=foreach,
                                      maximize=maximize, differentiable=differentiable, fused=fused))
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p].update(step=torch.zeros((), dtype=torch.float32, device=p.device),
                                     sum=torch.full_like(p, group["initial_accumulator_value"]).detach())

    def _update_group(self, group: dict[str, Any]) -> None:
        lr = self.number(group, "lr")
        eps = self.number(group, "eps")
        lr_decay = self.number(group, "lr_decay") if group["lr_decay"] != 0 else None
        weight_decay = self.number(group, "weight_decay") if group["weight_decay"] != 0 else None
        for p, grad in self._gradients(group):
            state = self.state[p]
            state["step"] += 1
            rate = lr
            if lr_decay is not None:
                rate = lr / (1 + (elapsed(state["step"], lr) - 1) * lr_decay)
            if weight_decay is not None:
                grad = add_scaled(grad, p, weight_decay)
            state["sum"].addcmul_(grad, grad)
            add_ratio_(p, grad, state["sum"].sqrt().add_(eps), -rate)
