"""Adagrad."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fusetorch as torch
from fusetorch.optim.optimizer import Optimizer, check_at_least_zero


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients so far.

    Source: Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization", 2011.

    Args:
        params: tensors, or dicts with ``"params"`` and options of their own.
        lr_decay: the learning rate at step t is ``lr / (1 + (t - 1) * lr_decay)``.
        initial_accumulator_value: where the sums start.
        eps: added to the denominator, after the root.
        differentiable: record the step for gradients.
        foreach, fused: taken for compatibility; the update is the same.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
                 initial_accumulator_value: float = 0, eps: float = 1e-10, foreach: bool | None = None, *,
                 maximize: bool = False, differentiable: bool = False, fused: bool | None = None) -> None:
        check_at_least_zero(lr=lr, lr_decay=lr_decay, weight_decay=weight_decay,
                            initial_accumulator_value=initial_accumulator_value, eps=eps)
        super().__init__(params, dict(lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay,
                                      initial_accumulator_value=initial_accumulator_value, foreach=foreach,
                                      maximize=maximize, differentiable=differentiable, fused=fused))
        for group in self.param_groups:
            for p in group["params"]:
                start = group["initial_accumulator_value"]
                start = complex(start, start) if p.is_complex() else start
                self.state[p].update(step=self._zero_step(p), sum=torch.full_like(p, start).detach())

    def share_memory(self) -> None:
        """Nothing to do: workers are threads of one process."""

    def _update_group(self, group: dict[str, Any]) -> None:
        lr, eps = self.number(group, "lr"), self.number(group, "eps")
        lr_decay = self.number_or_none(group, "lr_decay")
        weight_decay = self.number_or_none(group, "weight_decay")
        for step, params, grads in self._by_step(group, lr):
            rate = lr if lr_decay is None else lr / (1 + (step - 1) * lr_decay)
            torch._adagrad_step_(params, self._buffers(params, "sum"), grads, rate, eps, weight_decay, group["maximize"])
