"""Stochastic gradient descent."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fusetorch.optim.optimizer import Optimizer, add_scaled, add_scaled_, check_at_least_zero, unsupported


class SGD(Optimizer):
    """``p -= lr * g``, with momentum, Nesterov momentum, dampening and weight decay as in PyTorch.

    With momentum the buffer is ``buf = momentum * buf + (1 - dampening) * g``, starting at the first gradient.
    Source of the Nesterov form: Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.

    Args:
        params: tensors, or dicts with ``"params"`` and options of their own.
        weight_decay: added to the gradient, times the parameter.
        maximize: ascend instead.
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
        unsupported(differentiable)
        super().__init__(params, dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                                      nesterov=nesterov, maximize=maximize, foreach=foreach,
                                      differentiable=differentiable, fused=fused))

    def _update_group(self, group: dict[str, Any]) -> None:
        descent = -self.number(group, "lr")
        weight_decay = self.number(group, "weight_decay") if group["weight_decay"] != 0 else None
        momentum = self.number(group, "momentum") if group["momentum"] != 0 else None
        dampening = self.number(group, "dampening")
        for p, grad in self._gradients(group):
            if weight_decay is not None:
                grad = add_scaled(grad, p, weight_decay)
            if momentum is not None:
                state = self.state[p]
                buffer = state.get("momentum_buffer")
                if buffer is None:
                    buffer = state["momentum_buffer"] = grad.clone()
                else:
                    add_scaled_(buffer.mul_(momentum), grad, 1 - dampening)
                grad = add_scaled(grad, buffer, momentum) if group["nesterov"] else buffer
            add_scaled_(p, grad, descent)
