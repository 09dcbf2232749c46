"""Resilient backpropagation."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fusetorch as torch
from fusetorch.optim.optimizer import Optimizer, check_at_least_zero


class Rprop(Optimizer):
    """Each element steps by a size of its own, which grows while the gradient keeps its sign and shrinks when it changes.

    Source: Riedmiller and Braun, "A direct adaptive method for faster backpropagation learning", 1993. For whole batches.

    Args:
        params: tensors, or dicts with ``"params"`` and options of their own.
        lr: the first step sizes.
        etas: factors by which a step size shrinks and grows.
        step_sizes: the smallest and largest.
        foreach, capturable: taken for compatibility; the update is the same.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
                 step_sizes: tuple[float, float] = (1e-6, 50), *, capturable: bool = False, foreach: bool | None = None,
                 maximize: bool = False, differentiable: bool = False) -> None:
        check_at_least_zero(lr=lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        super().__init__(params, dict(lr=lr, etas=etas, step_sizes=step_sizes, foreach=foreach, maximize=maximize,
                                      differentiable=differentiable, capturable=capturable))

    def _update_group(self, group: dict[str, Any]) -> None:
        lr = self.number(group, "lr")  # read at each step: a schedule must not recompile a compiled one
        params, grads = self._gradients(group)
        for p in params:
            state = self.state[p]
            if not state:
                state["step"] = self._zero_step(p)
                state["prev"] = torch.zeros_like(p).detach()
                state["step_size"] = torch.full_like(p, 1 + 1j if p.is_complex() else 1).detach() * lr
            state["step"] += 1
        down, up = self.number(group, "etas", 0), self.number(group, "etas", 1)
        low, high = self.number(group, "step_sizes", 0), self.number(group, "step_sizes", 1)
        torch._rprop_step_(params, self._buffers(params, "prev"), self._buffers(params, "step_size"), grads, up, down, low, high,
                           group["maximize"])
