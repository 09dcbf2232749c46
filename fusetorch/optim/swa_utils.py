"""Averages of a model's parameters over training."""
from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import fusetorch as torch
from fusetorch.nn.module import Module
from fusetorch.optim.lr_scheduler.base import LRScheduler, _per_group
from fusetorch.optim.optimizer import Optimizer
from fusetorch.tensor import Tensor

__all__ = ["SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn", "get_swa_multi_avg_fn", "update_bn"]


def _check_decay(decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable[[list[Tensor], list[Tensor], Any], None]:
    """``f(averages, values, n)`` that moves averages by ``1 - decay`` of the way to the values."""
    _check_decay(decay)

    @torch.no_grad()
    def ema_update(ema_param_list: list[Tensor], current_param_list: list[Tensor], _: Any) -> None:
        for a, p in zip(ema_param_list, current_param_list):
            if a.is_floating_point():
                a.lerp_(p.to(a.dtype), 1 - decay)
            else:
                a.copy_(a * decay + p * (1 - decay))
    return ema_update


def get_swa_multi_avg_fn() -> Callable[[list[Tensor], list[Tensor], Any], None]:
    """``f(averages, values, n)`` that makes averages of ``n`` values those of ``n + 1``."""
    @torch.no_grad()
    def swa_update(averaged_param_list: list[Tensor], current_param_list: list[Tensor], num_averaged: Any) -> None:
        for a, p in zip(averaged_param_list, current_param_list):
            a.add_((p - a) / (float(num_averaged) + 1)) if a.is_floating_point() else a.add_((p - a) // (int(num_averaged) + 1))
    return swa_update


def get_ema_avg_fn(decay: float = 0.999) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """``f(average, value, n)``: ``decay * average + (1 - decay) * value``."""
    _check_decay(decay)

    @torch.no_grad()
    def ema_update(ema_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return decay * ema_param + (1 - decay) * current_param
    return ema_update


def get_swa_avg_fn() -> Callable[[Tensor, Tensor, Any], Tensor]:
    """``f(average, value, n)``: the average of ``n + 1`` values from that of ``n``."""
    @torch.no_grad()
    def swa_update(averaged_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)
    return swa_update


class AveragedModel(Module):
    """A copy of a model whose parameters are averages: call :meth:`update_parameters` after each step of the model itself.

    Source: Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018; Polyak averaging (EMA).

    Args:
        model: what to average; copied.
        device: where the copy goes.
        avg_fn: ``f(average, value, n)`` for one tensor; the running mean by default.
        multi_avg_fn: ``f(averages, values, n)`` for lists of tensors, in place.
        use_buffers: average buffers too; otherwise they are copied.
    """

    def __init__(self, model: Module, device: Any = None, avg_fn: Callable[[Tensor, Tensor, Any], Tensor] | None = None,
                 multi_avg_fn: Callable[[list[Tensor], list[Tensor], Any], None] | None = None, use_buffers: bool = False) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", torch.tensor(0, dtype=torch.long, device=device))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The averaged model's output."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Takes the parameters of ``model`` into the averages."""
        def of(m: Module) -> list[Tensor]:
            return [*m.parameters(), *(m.buffers() if self.use_buffers else ())]
        averages = [t.detach() for t in of(self.module)]
        values = [t.detach().to(a.device) for a, t in zip(averages, of(model))]
        with torch.no_grad():
            if self.n_averaged == 0:
                for a, v in zip(averages, values):
                    a.copy_(v)
            elif self.avg_fn is not None:
                for a, v in zip(averages, values):
                    a.copy_(self.avg_fn(a, v, self.n_averaged.to(a.device)))
            else:
                (self.multi_avg_fn or get_swa_multi_avg_fn())(averages, values, self.n_averaged)
            if not self.use_buffers:
                for a, v in zip(self.module.buffers(), model.buffers()):
                    a.detach().copy_(v.detach().to(a.device))
            self.n_averaged += 1


@torch.no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Computes the running statistics of batch normalisation anew from one pass over ``loader``."""
    layers = [m for m in model.modules() if hasattr(m, "running_mean") and hasattr(m, "momentum") and m.running_mean is not None]
    if not layers:
        return
    momenta = [m.momentum for m in layers]
    for m in layers:
        m.reset_running_stats()
    was_training = model.training
    model.train()
    for m in layers:
        m.momentum = None  # a cumulative average
    for batch in loader:
        x = batch[0] if isinstance(batch, (list, tuple)) else batch
        model(x if device is None else x.to(device))
    for m, momentum in zip(layers, momenta):
        m.momentum = momentum
    model.train(was_training)


class SWALR(LRScheduler):
    """Anneals the rates to ``swa_lr`` in ``anneal_epochs`` (``"cos"`` or ``"linear"``) and keeps them there."""

    def __init__(self, optimizer: Optimizer, swa_lr: Any, anneal_epochs: int = 10, anneal_strategy: str = "cos",
                 last_epoch: int = -1) -> None:
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must by one of 'cos' or 'linear', instead got {anneal_strategy}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        for group, rate in zip(optimizer.param_groups, _per_group("swa_lr", optimizer, swa_lr)):
            group["swa_lr"] = rate
        self._anneal_strategy = anneal_strategy
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _share(self, epoch: int) -> float:
        t = max(0.0, min(1.0, epoch / max(1, self.anneal_epochs)))
        return t if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self) -> list[Any]:
        """The rate of each group: from where it was before annealing, recovered from the last share."""
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = self._share(step - 1), self._share(step)
        rates = []
        for group in self.optimizer.param_groups:
            target, rate = group["swa_lr"], group["lr"]
            first = target if before == 1 else (rate - before * target) / (1 - before)
            rates.append(target * now + first * (1 - now))
        return rates
