"""Averaged stochastic gradient descent."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fusetorch as torch
from fusetorch.optim.optimizer import Optimizer, check_at_least_zero, scalar_dtype
from fusetorch.tensor import Tensor


class ASGD(Optimizer):
    """SGD with a falling rate; ``state[p]["ax"]`` is the average of the parameters from step ``t0`` on.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992.

    Args:
        params: tensors, or dicts with ``"params"`` and options of their own.
        lambd: by how much parameters shrink at each step, in units of the rate.
        alpha: the power with which the rate falls.
        t0: where averaging starts.
        foreach, capturable: taken for compatibility; the update is the same.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, lambd: float = 1e-4, alpha: float = 0.75, t0: float = 1e6,
                 weight_decay: float = 0, foreach: bool | None = None, maximize: bool = False, differentiable: bool = False,
                 capturable: bool = False) -> None:
        check_at_least_zero(lr=lr, weight_decay=weight_decay)
        super().__init__(params, dict(lr=lr, lambd=lambd, alpha=alpha, t0=t0, weight_decay=weight_decay, foreach=foreach,
                                      maximize=maximize, differentiable=differentiable, capturable=capturable))

    def _update_group(self, group: dict[str, Any]) -> None:
        lr, lambd, alpha, t0 = (self.number(group, key) for key in ("lr", "lambd", "alpha", "t0"))
        weight_decay = self.number_or_none(group, "weight_decay")
        for p in self._gradients(group)[0]:
            state = self.state[p]
            if not state:
                state["step"] = self._zero_step(p)
                state["eta"] = (torch.ones((), device=p.device) * lr).to(scalar_dtype()) if isinstance(lr, Tensor) else torch.full(
                    (), lr, dtype=scalar_dtype(), device=p.device)
                state["mu"] = torch.ones((), dtype=scalar_dtype(), device=p.device)
                state["ax"] = torch.zeros_like(p).detach()
        for step, params, grads in self._by_step(group, lr):
            known = isinstance(step, float)
            for p, grad in zip(params, grads):
                state = self.state[p]
                eta, mu = (s.item() if known else s.to(torch.float64) for s in (state["eta"], state["mu"]))
                torch._asgd_step_([p], [state["ax"]], [grad], weight_decay, eta, 1 - lambd * eta, mu, group["maximize"])
                eta = lr / ((1 + lambd * lr * step) ** alpha)
                mu = 1 / max(1.0, step - t0) if known else 1 / (step - t0).clamp(min=1.0)
                state["eta"].fill_(eta) if known else state["eta"].copy_(eta)
                state["mu"].fill_(mu) if known else state["mu"].copy_(mu)
