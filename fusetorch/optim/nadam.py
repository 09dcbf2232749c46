"""Adam with Nesterov momentum."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fusetorch as torch
from fusetorch.optim.optimizer import Optimizer, check_at_least_zero, check_betas
from fusetorch.tensor import Tensor


class NAdam(Optimizer):
    """Adam with Nesterov momentum.

    Source: Dozat, "Incorporating Nesterov momentum into Adam", 2016.

    Args:
        params: tensors, or dicts with ``"params"`` and options of their own.
        momentum_decay: how fast the momentum's schedule reaches ``betas[0]``.
        decoupled_weight_decay: shrink the parameter itself, as AdamW does.
        foreach, capturable: taken for compatibility; the update is the same.
    """

    def __init__(self, params: Iterable[Any], lr: float = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False, *,
                 foreach: bool | None = None, maximize: bool = False, capturable: bool = False,
                 differentiable: bool = False) -> None:
        check_at_least_zero(lr=lr, eps=eps)
        check_betas(betas)
        check_at_least_zero(weight_decay=weight_decay, momentum_decay=momentum_decay)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
                                      momentum_decay=momentum_decay, decoupled_weight_decay=decoupled_weight_decay,
                                      maximize=maximize, foreach=foreach, capturable=capturable, differentiable=differentiable))

    def _started(self, p: Tensor, names: Iterable[str]) -> dict[str, Any]:
        state = self.state[p]
        if not state:
            super()._started(p, ())
            state["mu_product"] = torch.ones_like(state["step"])
            state.update((name, torch.zeros_like(p).detach()) for name in names)
        return state

    def _update_group(self, group: dict[str, Any]) -> None:
        lr, eps = self.number(group, "lr"), self.number(group, "eps")
        beta1, beta2 = self.number(group, "betas", 0), self.number(group, "betas", 1)
        decay = self.number(group, "momentum_decay")
        weight_decay = self.number_or_none(group, "weight_decay")
        for step, params, grads in self._by_step(group, lr, ("exp_avg", "exp_avg_sq")):
            momentum = beta1 * (1.0 - 0.5 * 0.96 ** (step * decay))
            ahead = beta1 * (1.0 - 0.5 * 0.96 ** ((step + 1) * decay))
            for p, grad in zip(params, grads):
                product = self.state[p]["mu_product"]
                product *= momentum if isinstance(momentum, float) else momentum.to(product.dtype)
                done = product.item() if isinstance(step, float) else product.to(torch.float64)
                torch._nadam_step_([p], self._buffers([p], "exp_avg"), self._buffers([p], "exp_avg_sq"), [grad], lr, beta1, beta2, eps,
                                   weight_decay, (1 - beta2 ** step) ** 0.5, lr * (1.0 - momentum) / (1.0 - done),
                                   lr * ahead / (1.0 - done * ahead), group["decoupled_weight_decay"], group["maximize"])
