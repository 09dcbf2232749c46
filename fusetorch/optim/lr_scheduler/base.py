"""What all schedules share."""
from __future__ import annotations

import warnings
from functools import wraps
from typing import Any
from weakref import ref

from fusetorch.optim.optimizer import Optimizer
from fusetorch.tensor import Tensor


def _rates(optimizer: Optimizer, key: str = "lr") -> list[Any]:
    return [g[key].clone() if isinstance(g[key], Tensor) else g[key] for g in optimizer.param_groups]


def _set(group: dict[str, Any], key: str, value: Any) -> None:
    """Sets a group's option; a rate that is a tensor keeps its identity."""
    if isinstance(group[key], Tensor):
        group[key].fill_(float(value))
    else:
        group[key] = value


def _per_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    groups = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * groups
    if len(value) != groups:
        raise ValueError(f"{name} must have the same length as optimizer.param_groups. {name} has {len(value)} values, "
                         f"param_groups has {groups}.")
    return list(value)


def _watch_steps(optimizer: Optimizer) -> None:
    """Notes in ``optimizer.step.called`` that a step was made, for the warning about the order of calls."""
    if hasattr(optimizer.step, "called"):
        return
    owner, step = ref(optimizer), optimizer.step.__func__

    @wraps(step)
    def watched(*args: Any, **kwargs: Any) -> Any:
        watched.called = True
        return step(owner(), *args, **kwargs)

    watched.called = False
    optimizer.step = watched


class LRScheduler:
    """The base of all schedules: subclasses define ``get_lr``, the rates of all groups at ``self.last_epoch``.

    Args:
        optimizer: whose groups' ``"lr"`` is set.
        last_epoch: -1 to start; otherwise the epoch to resume after, and the groups must have ``"initial_lr"``.
    """

    _is_initial = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"].clone() if isinstance(group["lr"], Tensor) else group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(f"param 'initial_lr' is not specified in param_groups[{i}] when resuming scheduler with "
                               "last_epoch >= 0; load the optimizer's state first")
        self.base_lrs = _rates(optimizer, "initial_lr")
        self.last_epoch = last_epoch
        _watch_steps(optimizer)
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer."""
        return {k: v for k, v in self.__dict__.items() if k != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what :meth:`state_dict` returned."""
        self.__dict__.update(state_dict)

    def get_last_lr(self) -> list[Any]:
        """The rates set last, one a group."""
        return self._last_lr

    def get_lr(self) -> list[Any]:
        """The rates to set now, one a group."""
        raise NotImplementedError

    def step(self, epoch: int | None = None) -> None:
        """Goes to the next epoch (or to ``epoch``, which is deprecated) and sets the rates."""
        if self._step_count == 1:
            if not hasattr(self.optimizer.step, "called"):
                warnings.warn("Seems like `optimizer.step()` has been overridden after learning rate scheduler "
                              "initialization. Please, make sure to call `optimizer.step()` before `lr_scheduler.step()`.",
                              stacklevel=2)
            elif not self.optimizer.step.called:
                warnings.warn("Detected call of `lr_scheduler.step()` before `optimizer.step()`. In PyTorch 1.1.0 and later, you "
                              "should call them in the opposite order: `optimizer.step()` before `lr_scheduler.step()`.  Failure to do "
                              "this will result in PyTorch skipping the first value of the learning rate schedule. See more details at "
                              "https://pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate", stacklevel=2)
        self._step_count += 1
        if epoch is not None:
            warnings.warn("The epoch parameter in `scheduler.step()` was not necessary and is being deprecated where possible. "
                          "Please use `scheduler.step()` to step the scheduler.", stacklevel=2)
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        closed_form = getattr(self, "_get_closed_form_lr", None)
        if epoch is None:
            self.last_epoch += 1
            values = self.get_lr()
        else:
            self.last_epoch = epoch
            values = closed_form() if closed_form else self.get_lr()
        for group, value in zip(self.optimizer.param_groups, values):
            _set(group, "lr", value)
        self._last_lr = _rates(self.optimizer)

    def _scaled(self, factor: float) -> list[Any]:
        return [group["lr"] * factor for group in self.optimizer.param_groups]
