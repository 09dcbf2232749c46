"""Adadelta."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fusetorch as torch
from fusetorch.optim.optimizer import Optimizer, check_at_least_zero


class Adadelta(Optimizer):
    """Steps in the unit of the parameters: the rate is a ratio of running averages of past steps and gradients.

    Source: Zeiler, "ADADELTA: an adaptive learning rate method", 2012.

    Args:
        params: tensors, or dicts with ``"params"`` and options of their own.
        rho: decay of the averages.
        eps: added before the roots.
        foreach, capturable: taken for compatibility; the update is the same.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0,
                 foreach: bool | None = None, *, capturable: bool = False, maximize: bool = False,
                 differentiable: bool = False) -> None:
        check_at_least_zero(lr=lr)
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"Invalid rho value: {rho}")
        check_at_least_zero(eps=eps, weight_decay=weight_decay)
        super().__init__(params, dict(lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize, capturable=capturable,
                                      foreach=foreach, differentiable=differentiable))

    def _update_group(self, group: dict[str, Any]) -> None:
        params, grads = self._gradients(group)
        for p in params:
            state = self._started(p, ("square_avg", "acc_delta"))
            state["step"] += 1
        torch._adadelta_step_(params, self._buffers(params, "square_avg"), self._buffers(params, "acc_delta"), grads,
                              self.number(group, "lr"), self.number(group, "rho"), self.number(group, "eps"),
                              self.number_or_none(group, "weight_decay"), group["maximize"])
