"""Adam and AdamW."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fusetorch as torch
from fusetorch.optim.optimizer import Optimizer, check_at_least_zero, check_betas


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
        differentiable: record the step for gradients.
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
        check_betas(betas)
        check_at_least_zero(weight_decay=weight_decay)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
                                      maximize=maximize, foreach=foreach, capturable=capturable,
                                      differentiable=differentiable, fused=fused,
                                      decoupled_weight_decay=decoupled_weight_decay))

    def _update_group(self, group: dict[str, Any]) -> None:
        lr, eps = self.number(group, "lr"), self.number(group, "eps")
        beta1, beta2 = self.number(group, "betas", 0), self.number(group, "betas", 1)
        weight_decay = self.number_or_none(group, "weight_decay")
        amsgrad = group["amsgrad"]
        names = ["exp_avg", "exp_avg_sq", *["max_exp_avg_sq"] * amsgrad]
        for step, params, grads in self._by_step(group, lr, names):
            root = (1 - beta2 ** step) ** 0.5
            torch._adam_step_(params, self._buffers(params, "exp_avg"), self._buffers(params, "exp_avg_sq"),
                              self._buffers(params, "max_exp_avg_sq") if amsgrad else None, grads, lr, beta1, beta2, eps, weight_decay,
                              lr * root / (1 - beta1 ** step), root, group["decoupled_weight_decay"], group["maximize"])


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
