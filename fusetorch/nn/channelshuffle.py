"""Channels in another order."""
from __future__ import annotations

from fusetorch.nn import functional as F
from fusetorch.nn.module import Module
from fusetorch.tensor import Tensor


class ChannelShuffle(Module):
    """The channels dealt out: those of ``groups`` equal groups take turns (Zhang et al., "ShuffleNet", 2017).

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.ChannelShuffle(2)(torch.arange(4.0).reshape(1, 4, 1)).flatten()
        tensor([0., 2., 1., 3.])
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"
