"""Rectified Adam."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fusetorch as torch
from fusetorch.optim.optimizer import Optimizer, check_at_least_zero, check_betas
from fusetorch.tensor import Tensor


class RAdam(Optimizer):
    """Adam that takes plain momentum steps until the average of squares is reliable.

    Source: Liu et al., "On the variance of the adaptive learning rate and beyond", 2019.

    Args:
        params: tensors, or dicts with ``"params"`` and options of their own.
        decoupled_weight_decay: shrink the parameter itself, as AdamW does.
        foreach, capturable: taken for compatibility; the update is the same.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, decoupled_weight_decay: bool = False, *, foreach: bool | None = None,
                 maximize: bool = False, capturable: bool = False, differentiable: bool = False) -> None:
        check_at_least_zero(lr=lr, eps=eps)
        check_betas(betas)
        check_at_least_zero(weight_decay=weight_decay)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize,
                                      foreach=foreach, capturable=capturable, decoupled_weight_decay=decoupled_weight_decay,
                                      differentiable=differentiable))

    def _update_group(self, group: dict[str, Any]) -> None:
        lr, eps = self.number(group, "lr"), self.number(group, "eps")
        beta1, beta2 = self.number(group, "betas", 0), self.number(group, "betas", 1)
        weight_decay = self.number_or_none(group, "weight_decay")
        limit = 2 / (1 - beta2) - 1  # the length of the average of squares in the end
        for step, params, grads in self._by_step(group, lr, ("exp_avg", "exp_avg_sq")):
            decayed = beta2 ** step
            length = limit - 2 * step * decayed / (1 - decayed)
            size = lr / (1 - beta1 ** step)
            ratio = (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length) * (1 - decayed)
            if isinstance(length, Tensor):
                ready = length > 5
                adaptive = torch.where(ready, size * ratio.clamp(min=0) ** 0.5, 0.0)
                plain = torch.where(ready, 0.0, size)
            else:
                plain, adaptive = (0.0, size * ratio ** 0.5) if length > 5 else (size, 0.0)
            torch._radam_step_(params, self._buffers(params, "exp_avg"), self._buffers(params, "exp_avg_sq"), grads, lr, beta1, beta2,
                               eps, weight_decay, plain, adaptive, group["decoupled_weight_decay"], group["maximize"])
