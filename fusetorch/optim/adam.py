"""Adam and AdamW."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fusetorch as torch
from fusetorch.optim.optimizer import (
    Optimizer,
    add_ratio_,
    add_scaled,
    average_,
    average_square_,
    check_at_least_zero,
    elapsed,
    unsupported,
)
from fusetorch.tensor import Tensor


class Adam(Optimizer):
    """Adam: steps scaled by running averages of the gradient and of its square.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", 2014; ``amsgrad`` by Reddi, Kale and Kumar, "On the
    convergence of Adam and beyond", 2018; ``decoupled_weight_decay`` makes it :class:`AdamW`.

    Args:
        params: tensors, or dicts with ``"params"`` and options of their own.
        betas: decay of the two averages.
        eps: added to the denominator.
        weight_decay: added to the gradient, times the parameter.
        amsgrad: divide by the largest average of squares so far.
        maximize: ascend instead.
        foreach, capturable, fused: taken for compatibility; the update is the same.

    Example:
        >>> import fusetorch as torch
        >>> w = torch.nn.Parameter(torch.tensor([1.0]))
        >>> opt = torch.optim.Adam([w], lr=0.1)
        >>> (w * w).sum().backward(); opt.step(); round(w.item(), 4)
        0.9
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, amsgrad: bool = False, *, foreach: bool | None = None,
                 maximize: bool = False, capturable: bool = False, differentiable: bool = False,
                 fused: bool | None = None, decoupled_weight_decay: bool = False) -> None:
        check_at_least_zero(lr=lr, eps=eps)
        for i, beta in enumerate(betas):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
        check_at_least_zero(weight_decay=weight_decay)
        unsupported(differentiable)
        super().__init__(params, dict(lr=lr, betas=tuple(map(float, betas)), eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
                                      maximize=maximize, foreach=foreach, capturable=capturable,
                                      differentiable=differentiable, fused=fused,
                                      decoupled_weight_decay=decoupled_weight_decay))

    def _state(self, p: Tensor, amsgrad: bool) -> dict[str, Tensor]:
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
            state["exp_avg"] = torch.zeros_like(p)
            state["exp_avg_sq"] = torch.zeros_like(p)
            if amsgrad:
                state["max_exp_avg_sq"] = torch.zeros_like(p)
        return state

    def _update_group(self, group: dict[str, Any]) -> None:
        lr = self.number(group, "lr")
        beta1 = self.number(group, "betas", 0)
        beta2 = self.number(group, "betas", 1)
        eps = self.number(group, "eps")
        decays = group["weight_decay"] != 0
        weight_decay = self.number(group, "weight_decay") if decays else None
        decoupled = group["decoupled_weight_decay"]
        amsgrad = group["amsgrad"]
        for p, grad in self._gradients(group):
            state = self._state(p, amsgrad)
            exp_avg, exp_avg_sq = state["exp_avg"], state["exp_avg_sq"]
            state["step"] += 1
            t = elapsed(state["step"], lr)
            if decays and decoupled:
                p.mul_(1 - lr * weight_decay)
            elif decays:
                grad = add_scaled(grad, p, weight_decay)
            average_(exp_avg, grad, beta1)
            average_square_(exp_avg_sq, grad, beta2)
            if amsgrad:
                largest = state["max_exp_avg_sq"]
                exp_avg_sq = largest.copy_(torch.maximum(largest, exp_avg_sq))
            # (m / c1) / (sqrt(v / c2) + eps), its numerator and denominator multiplied by sqrt(c2)
            root = (1 - beta2 ** t) ** 0.5
            add_ratio_(p, exp_avg, exp_avg_sq.sqrt().add_(eps * root), -lr * root / (1 - beta1 ** t))


class AdamW(Adam):
    """Adam with decoupled weight decay: the parameter itself shrinks by ``lr * weight_decay`` of its value.

    Arguments as for :class:`Adam`. Source: Loshchilov and Hutter, "Decoupled weight decay regularization", 2017.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False,
                 foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
                 fused: bool | None = None) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize,
                         capturable=capturable, differentiable=differentiable, fused=fused, decoupled_weight_decay=True)
