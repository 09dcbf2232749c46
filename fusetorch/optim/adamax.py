"""Adamax."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fusetorch as torch
from fusetorch.optim.optimizer import Optimizer, check_at_least_zero, check_betas


class Adamax(Optimizer):
    """Adam with a decaying maximum of gradients in place of the root of their mean square.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", 2014, section 7.

    Args:
        params: tensors, or dicts with ``"params"`` and options of their own.
        betas: decay of the average and of the maximum.
        eps: added to the gradient's size.
        foreach, capturable: taken for compatibility; the update is the same.
    """

    def __init__(self, params: Iterable[Any], lr: float = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, foreach: bool | None = None, *, maximize: bool = False, differentiable: bool = False,
                 capturable: bool = False) -> None:
        check_at_least_zero(lr=lr, eps=eps)
        check_betas(betas)
        check_at_least_zero(weight_decay=weight_decay)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, foreach=foreach,
                                      maximize=maximize, differentiable=differentiable, capturable=capturable))

    def _update_group(self, group: dict[str, Any]) -> None:
        lr, eps = self.number(group, "lr"), self.number(group, "eps")
        beta1, beta2 = self.number(group, "betas", 0), self.number(group, "betas", 1)
        weight_decay = self.number_or_none(group, "weight_decay")
        for step, params, grads in self._by_step(group, lr, ("exp_avg", "exp_inf")):
            torch._adamax_step_(params, self._buffers(params, "exp_avg"), self._buffers(params, "exp_inf"), grads, beta1, beta2, eps,
                                weight_decay, lr / (1 - beta1 ** step), group["maximize"])
