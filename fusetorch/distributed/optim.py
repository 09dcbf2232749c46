"""``torch.distributed.optim``: optimizers whose state is spread over processes; over one, it is all here."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fusetorch.optim import Optimizer

__all__ = ["ZeroRedundancyOptimizer"]


class ZeroRedundancyOptimizer(Optimizer):
    """An ``optimizer_class(params, **defaults)`` whose state is spread over the processes: over this one.

    Example:
        >>> import fusetorch as torch
        >>> from fusetorch.distributed.optim import ZeroRedundancyOptimizer
        >>> w = torch.ones(1, requires_grad=True)
        >>> opt = ZeroRedundancyOptimizer([w], torch.optim.SGD, lr=0.5)
        >>> w.sum().backward()
        >>> opt.step()
        >>> w.item()
        0.5
    """

    def __init__(self, params: Iterable[Any], optimizer_class: type[Optimizer], process_group: Any = None,
                 parameters_as_bucket_view: bool = False, overlap_with_ddp: bool = False, **defaults: Any) -> None:
        self.optim = optimizer_class(params, **defaults)
        super().__init__(self.optim.param_groups, self.optim.defaults)
        self.param_groups, self.state = self.optim.param_groups, self.optim.state

    def step(self, closure: Any = None, **kwargs: Any) -> Any:
        """The inner optimizer's step."""
        return self.optim.step(closure, **kwargs) if closure is not None else self.optim.step(**kwargs)

    def add_param_group(self, param_group: dict) -> None:
        """Adds parameters."""
        if param_group not in self.optim.param_groups:
            self.optim.add_param_group(param_group)
        self.param_groups = self.optim.param_groups

    def consolidate_state_dict(self, to: int = 0) -> None:
        """Collects the state of all processes: it is all here."""

    def state_dict(self) -> dict:
        """The inner optimizer's state."""
        return self.optim.state_dict()

    def load_state_dict(self, state_dict: dict) -> None:
        """Takes over a state."""
        self.optim.load_state_dict(state_dict)
        self.param_groups, self.state = self.optim.param_groups, self.optim.state
