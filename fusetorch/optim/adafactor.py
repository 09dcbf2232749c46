"""Adafactor."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fusetorch as torch
from fusetorch.optim.optimizer import Optimizer, check_at_least_zero
from fusetorch.tensor import Tensor


class Adafactor(Optimizer):
    """Adam without momentum whose average of squares is kept as row and column means: little memory for large matrices.

    Source: Shazeer and Stern, "Adafactor: adaptive learning rates with sublinear memory cost", 2018.

    Args:
        params: tensors, or dicts with ``"params"`` and options of their own.
        lr: the largest relative step.
        beta2_decay: power of the step by which the averages' decay approaches 1.
        eps: the least square (``None``: the dtype's epsilon) and the least root mean square of a parameter.
        d: the largest root mean square of an update.
        weight_decay: decoupled.
        foreach: taken for compatibility; the update is the same.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, beta2_decay: float = -0.8,
                 eps: tuple[float | None, float] = (None, 1e-3), d: float = 1.0, weight_decay: float = 0.0, *,
                 foreach: bool | None = None, maximize: bool = False) -> None:
        check_at_least_zero(lr=lr)
        if beta2_decay > 0:
            raise ValueError(f"beta2_decay should be <= 0 but is: {beta2_decay}")
        if eps[0] is not None and eps[0] < 0:
            raise ValueError(f"epsilon1 should be >= 0 but is: {eps[0]}")
        if eps[1] < 0:
            raise ValueError(f"epsilon2 should be >= 0 but is: {eps[1]}")
        if d < 1:
            raise ValueError(f"Clipping threshold d should be >= 1 but is: {d}")
        if weight_decay < 0:
            raise ValueError(f"weight_decay should be >= 0 but is: {weight_decay}")
        super().__init__(params, dict(lr=lr, beta2_decay=beta2_decay, eps=eps, d=d, weight_decay=weight_decay, foreach=foreach,
                                      maximize=maximize))

    def _start(self, p: Tensor, grad: Tensor) -> None:
        state = self.state[p]
        if state:
            return
        state["step"] = self._zero_step(p)
        if grad.ndim > 1:
            state["row_var"] = grad.new_zeros(*grad.shape[:-1], 1)
            state["col_var"] = grad.new_zeros(*grad.shape[:-2], 1, grad.shape[-1])
        else:
            state["variance"] = torch.zeros_like(grad)

    def _update_group(self, group: dict[str, Any]) -> None:
        lr, decay, d = self.number(group, "lr"), self.number(group, "beta2_decay"), self.number(group, "d")
        weight_decay = self.number_or_none(group, "weight_decay")
        for p, grad in zip(*self._gradients(group)):
            self._start(p, grad)
        for step, params, grads in self._by_step(group, lr):
            fresh = step ** decay
            largest = 1 / step ** 0.5
            rate = largest.clamp(max=lr) if isinstance(largest, Tensor) else min(float(lr), largest)
            for p, grad in zip(params, grads):
                state = self.state[p]
                grad = -grad if group["maximize"] else grad
                least = torch.finfo(p.dtype).eps if group["eps"][0] is None else group["eps"][0]
                size = _rms(p).clamp(min=group["eps"][1]) * rate
                if weight_decay is not None:
                    p.mul_(1 - lr * weight_decay)
                square = grad * grad
                if grad.ndim > 1:
                    row, column = state["row_var"], state["col_var"]
                    row.add_((square.mean(-1, keepdim=True) - row) * fresh)
                    column.add_((square.mean(-2, keepdim=True) - column) * fresh)
                    variance = row * column / row.mean(-2, keepdim=True).clamp(min=least)
                else:
                    variance = state["variance"]
                    variance.add_((square - variance) * fresh)
                update = variance.clamp(min=least * least).rsqrt() * grad
                p.sub_(update * (size / (_rms(update) / d).clamp(min=1.0)).to(p.dtype))


def _rms(x: Tensor) -> Tensor:
    """The root mean square."""
    return x.norm(2) / x.numel() ** 0.5
