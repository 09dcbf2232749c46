"""Padding layers."""
from __future__ import annotations

from collections.abc import Sequence

from fusetorch.nn import functional as F
from fusetorch.nn.module import Module
from fusetorch.nn.sizes import each
from fusetorch.tensor import Tensor


class _Pad(Module):
    """``padding``: one number for all sides, or (left, right, top, bottom, front, back) as far as there are dimensions."""

    _n: int
    _mode: str

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        self.padding = each(padding, 2 * self._n)

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self._mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """``value`` before and after the last dimension.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.ConstantPad1d((1, 2), 9.0)(torch.zeros(1, 2))
        tensor([[9., 0., 0., 9., 9.]])
    """

    _n = 1


class ConstantPad2d(_ConstantPad):
    """``value`` around the last two dimensions.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.ConstantPad2d(1, 9.0)(torch.zeros(1, 2, 2)).shape
        torch.Size([1, 4, 4])
    """

    _n = 2


class ConstantPad3d(_ConstantPad):
    """``value`` around the last three dimensions.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.ConstantPad3d(1, 9.0)(torch.zeros(1, 2, 2, 2)).shape
        torch.Size([1, 4, 4, 4])
    """

    _n = 3


class _ZeroPad(_ConstantPad):
    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad1d(_ZeroPad, ConstantPad1d):
    """Zeros before and after the last dimension.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.ZeroPad1d(1)(torch.ones(1, 2))
        tensor([[0., 1., 1., 0.]])
    """


class ZeroPad2d(_ZeroPad, ConstantPad2d):
    """Zeros around the last two dimensions.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.ZeroPad2d((1, 1, 0, 2))(torch.ones(1, 2, 2)).shape
        torch.Size([1, 4, 4])
    """


class ZeroPad3d(_ZeroPad, ConstantPad3d):
    """Zeros around the last three dimensions.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.ZeroPad3d(1)(torch.ones(1, 2, 2, 2)).shape
        torch.Size([1, 4, 4, 4])
    """


class ReflectionPad1d(_Pad):
    """The input mirrored at the ends of the last dimension.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.ReflectionPad1d(1)(torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[2., 1., 2., 3., 2.]])
    """

    _n, _mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """The input mirrored at the ends of the last two dimensions.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.ReflectionPad2d(1)(torch.ones(1, 2, 2)).shape
        torch.Size([1, 4, 4])
    """

    _n, _mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """The input mirrored at the ends of the last three dimensions.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.ReflectionPad3d(1)(torch.ones(1, 2, 2, 2)).shape
        torch.Size([1, 4, 4, 4])
    """

    _n, _mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """The end elements of the last dimension repeated.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.ReplicationPad1d(1)(torch.tensor([[1.0, 2.0]]))
        tensor([[1., 1., 2., 2.]])
    """

    _n, _mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """The end elements of the last two dimensions repeated.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.ReplicationPad2d(1)(torch.ones(1, 2, 2)).shape
        torch.Size([1, 4, 4])
    """

    _n, _mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """The end elements of the last three dimensions repeated.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.ReplicationPad3d(1)(torch.ones(1, 2, 2, 2)).shape
        torch.Size([1, 4, 4, 4])
    """

    _n, _mode = 3, "replicate"


class _CircularPad(_Pad):
    _mode = "circular"

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in (self._n + 1, self._n + 2):
            raise ValueError(f"expected {self._n + 1}D or {self._n + 2}D input (got {input.ndim}D input)")
        return super().forward(input)


class CircularPad1d(_CircularPad):
    """The last dimension continued from its other end.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.CircularPad1d(1)(torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[3., 1., 2., 3., 1.]])
    """

    _n = 1


class CircularPad2d(_CircularPad):
    """The last two dimensions continued from their other ends.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.CircularPad2d(1)(torch.ones(1, 2, 2)).shape
        torch.Size([1, 4, 4])
    """

    _n = 2


class CircularPad3d(_CircularPad):
    """The last three dimensions continued from their other ends.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.CircularPad3d(1)(torch.ones(1, 2, 2, 2)).shape
        torch.Size([1, 4, 4, 4])
    """

    _n = 3
