"""Muon."""
from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import fusetorch as torch
from fusetorch.optim.optimizer import Optimizer, check_at_least_zero
from fusetorch.tensor import Tensor


class Muon(Optimizer):
    """Momentum whose update is made nearly orthogonal, for the matrices of hidden layers.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.

    Args:
        params: matrices, or dicts with ``"params"`` and options of their own.
        weight_decay: decoupled.
        ns_coefficients: of the quintic polynomial that is iterated ``ns_steps`` times, in bfloat16.
        eps: least norm to divide by.
        adjust_lr_fn: ``"original"`` (default) scales the rate by ``sqrt(max(1, rows / columns))``, ``"match_rms_adamw"`` by
            ``0.2 sqrt(max(rows, columns))``.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95, nesterov: bool = True,
                 ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315), eps: float = 1e-7, ns_steps: int = 5,
                 adjust_lr_fn: str | None = None) -> None:
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        for name, value in (("Learning rate", lr), ("momentum", momentum), ("weight decay", weight_decay)):
            if not 0.0 <= value:
                raise ValueError(f"{name} should be >= 0 but is: {value}")
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        check_at_least_zero(eps=eps)
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov,
                                      ns_coefficients=ns_coefficients, eps=eps, ns_steps=ns_steps, adjust_lr_fn=adjust_lr_fn))
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(f"Muon only supports 2D parameters whereas we found a parameter with size: {p.size()}")

    def _update_group(self, group: dict[str, Any]) -> None:
        lr, momentum, weight_decay = (self.number(group, key) for key in ("lr", "momentum", "weight_decay"))
        for p, grad in zip(*self._gradients(group)):
            state = self.state[p]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(grad)
            buffer = state["momentum_buffer"]
            buffer.add_((grad - buffer) * (1 - momentum))
            update = grad + (buffer - grad) * momentum if group["nesterov"] else buffer
            update = orthogonalized(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
            rows, columns = p.shape
            scale = 0.2 * math.sqrt(max(rows, columns)) if group["adjust_lr_fn"] == "match_rms_adamw" else math.sqrt(max(1, rows / columns))
            p.mul_(1 - lr * weight_decay)
            p.sub_(update.to(p.dtype) * (lr * scale))


def orthogonalized(g: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """A bfloat16 matrix near to the orthogonal factor of ``g``: Newton and Schulz's iteration moves all singular values towards 1."""
    if steps >= 100:
        raise ValueError("Number of steps must be less than 100 for computational efficiency")
    if len(coefficients) != 3:
        raise ValueError("Coefficients must be a tuple of exactly 3 values")
    a, b, c = coefficients
    x = g.to(torch.bfloat16)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
