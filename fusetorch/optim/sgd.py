"""Stochastic gradient descent."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fusetorch as torch
from fusetorch.optim.optimizer import Optimizer, check_at_least_zero


class SGD(Optimizer):
    """``p -= lr * g``, with momentum, Nesterov momentum, dampening and weight decay as in PyTorch.

    With momentum the buffer is ``buf = momentum * buf + (1 - dampening) * g``, starting at the first gradient.
    Source of the Nesterov form: Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.

    Args:
        params: tensors, or dicts with ``"params"`` and options of their own.
        weight_decay: added to the gradient, times the parameter.
        maximize: ascend instead.
        differentiable: record the step for gradients.
        foreach, fused: taken for compatibility; the update is the same.

    Example:
        >>> import fusetorch as torch
        >>> w = torch.nn.Parameter(torch.tensor([1.0]))
        >>> opt = torch.optim.SGD([w], lr=0.1)
        >>> (w * w).sum().backward(); opt.step(); w.tolist()
        [0.800000011920929]
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0, dampening: float = 0,
                 weight_decay: float = 0, nesterov: bool = False, *, maximize: bool = False, foreach: bool | None = None,
                 differentiable: bool = False, fused: bool | None = None) -> None:
        check_at_least_zero(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(params, dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                                      nesterov=nesterov, maximize=maximize, foreach=foreach,
                                      differentiable=differentiable, fused=fused))

    def _update_group(self, group: dict[str, Any]) -> None:
        lr = self.number(group, "lr")
        weight_decay = self.number_or_none(group, "weight_decay")
        maximize = group["maximize"]
        params, grads = self._gradients(group)
        if group["momentum"] == 0:
            torch._sgd_step_(params, grads, lr, weight_decay, maximize)
            return
        momentum, dampening = self.number(group, "momentum"), self.number(group, "dampening")
        started: tuple[list, list, list] = ([], [], [])
        fresh: tuple[list, list, list] = ([], [], [])
        for p, grad in zip(params, grads):
            state = self.state[p]
            buffer = state.get("momentum_buffer")
            first = buffer is None
            if first:
                buffer = state["momentum_buffer"] = torch.zeros_like(grad).detach()
            for values, value in zip(fresh if first else started, (p, buffer, grad)):
                values.append(value)
        for (ps, buffers, gs), keep in ((fresh, 1.0), (started, 1 - dampening)):  # the first gradient enters whole
            if ps:
                torch._momentum_step_(ps, buffers, gs, lr, weight_decay, momentum, keep, group["nesterov"], maximize)
