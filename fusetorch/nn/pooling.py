"""Pooling layers."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fusetorch.nn import functional as F
from fusetorch.nn.module import Module
from fusetorch.nn.sizes import each
from fusetorch.tensor import Tensor

Size = int | Sequence[int]


class _MaxPool(Module):
    _n: int

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1, return_indices: bool = False,
                 ceil_mode: bool = False) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride if stride is not None else kernel_size
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Any:
        pool = getattr(F, f"max_pool{self._n}d")
        return pool(input, self.kernel_size, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode,
                    return_indices=self.return_indices)

    def extra_repr(self) -> str:
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
                f"ceil_mode={self.ceil_mode}")


class MaxPool1d(_MaxPool):
    """The largest element of each window of a signal (N, C, L) or (C, L); see ``nn.functional.max_pool1d``.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.MaxPool1d(2)(torch.tensor([[1.0, 3.0, 2.0, 0.0]]))
        tensor([[3., 2.]])
    """

    _n = 1


class MaxPool2d(_MaxPool):
    """The largest element of each window of an image (N, C, H, W) or (C, H, W); see ``nn.functional.max_pool2d``.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.MaxPool2d(2)(torch.zeros(1, 3, 8, 8)).shape
        torch.Size([1, 3, 4, 4])
    """

    _n = 2


class MaxPool3d(_MaxPool):
    """The largest element of each window of a volume (N, C, D, H, W) or (C, D, H, W); see ``nn.functional.max_pool3d``.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.MaxPool3d(2)(torch.zeros(1, 3, 8, 8, 8)).shape
        torch.Size([1, 3, 4, 4, 4])
    """

    _n = 3


class _MaxUnpool(Module):
    _n: int

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> None:
        super().__init__()
        self.kernel_size = each(kernel_size, self._n)
        self.stride = each(kernel_size if stride is None else stride, self._n)
        self.padding = each(padding, self._n)

    def forward(self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        unpool = getattr(F, f"max_unpool{self._n}d")
        return unpool(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """The inverse of ``MaxPool1d`` by its indices, with zeros elsewhere.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.MaxUnpool1d(2)(torch.tensor([[3.0, 2.0]]), torch.tensor([[1, 2]]))
        tensor([[0., 3., 2., 0.]])
    """

    _n = 1


class MaxUnpool2d(_MaxUnpool):
    """The inverse of ``MaxPool2d`` by its indices, with zeros elsewhere.

    Example:
        >>> import fusetorch as torch
        >>> y, at = torch.nn.MaxPool2d(2, return_indices=True)(torch.randn(1, 3, 8, 8))
        >>> torch.nn.MaxUnpool2d(2)(y, at).shape
        torch.Size([1, 3, 8, 8])
    """

    _n = 2


class MaxUnpool3d(_MaxUnpool):
    """The inverse of ``MaxPool3d`` by its indices, with zeros elsewhere.

    Example:
        >>> import fusetorch as torch
        >>> y, at = torch.nn.MaxPool3d(2, return_indices=True)(torch.randn(1, 3, 4, 4, 4))
        >>> torch.nn.MaxUnpool3d(2)(y, at).shape
        torch.Size([1, 3, 4, 4, 4])
    """

    _n = 3


class _AvgPool(Module):
    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """The mean of each window of a signal (N, C, L) or (C, L); see ``nn.functional.avg_pool1d``.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.AvgPool1d(2)(torch.tensor([[1.0, 3.0, 2.0, 0.0]]))
        tensor([[2., 1.]])
    """

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True) -> None:
        super().__init__()
        self.kernel_size = each(kernel_size, 1)
        self.stride = each(kernel_size if stride is None else stride, 1)
        self.padding = each(padding, 1)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class _AvgPoolDivisor(_AvgPool):
    _n: int

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True, divisor_override: int | None = None) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride if stride is not None else kernel_size
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        pool = getattr(F, f"avg_pool{self._n}d")
        return pool(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad, self.divisor_override)


class AvgPool2d(_AvgPoolDivisor):
    """The mean of each window of an image (N, C, H, W) or (C, H, W); see ``nn.functional.avg_pool2d``.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.AvgPool2d(3, stride=2, padding=1)(torch.zeros(1, 3, 8, 8)).shape
        torch.Size([1, 3, 4, 4])
    """

    _n = 2


class AvgPool3d(_AvgPoolDivisor):
    """The mean of each window of a volume (N, C, D, H, W) or (C, D, H, W); see ``nn.functional.avg_pool3d``.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.AvgPool3d(2)(torch.zeros(1, 3, 8, 8, 8)).shape
        torch.Size([1, 3, 4, 4, 4])
    """

    _n = 3


class _LPPool(Module):
    _n: int

    def __init__(self, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False) -> None:
        super().__init__()
        self.norm_type = norm_type
        self.kernel_size = kernel_size
        self.stride = stride
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        return getattr(F, f"lp_pool{self._n}d")(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        return f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, ceil_mode={self.ceil_mode}"


class LPPool1d(_LPPool):
    """``sum(x ** p) ** (1 / p)`` of each window of a signal.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.LPPool1d(2, 2)(torch.tensor([[3.0, 4.0]]))
        tensor([[5.]])
    """

    _n = 1


class LPPool2d(_LPPool):
    """``sum(x ** p) ** (1 / p)`` of each window of an image.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.LPPool2d(2, 2)(torch.ones(1, 2, 2))
        tensor([[[2.]]])
    """

    _n = 2


class LPPool3d(_LPPool):
    """``sum(x ** p) ** (1 / p)`` of each window of a volume.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.LPPool3d(1, 2)(torch.ones(1, 2, 2, 2))
        tensor([[[[8.]]]])
    """

    _n = 3


class _FractionalMaxPool(Module):
    _n: int

    def __init__(self, kernel_size: Size, output_size: Size | None = None, output_ratio: float | Sequence[float] | None = None,
                 return_indices: bool = False, _random_samples: Tensor | None = None) -> None:
        super().__init__()
        name = type(self).__name__
        self.kernel_size = each(kernel_size, self._n)
        self.return_indices = return_indices
        self.register_buffer("_random_samples", _random_samples)
        self.output_size = each(output_size, self._n) if output_size is not None else None
        self.output_ratio = each(output_ratio, self._n) if output_ratio is not None else None
        if output_size is None and output_ratio is None:
            raise ValueError(f"{name} requires specifying either an output size, or a pooling ratio")
        if output_size is not None and output_ratio is not None:
            raise ValueError("only one of output_size and output_ratio may be specified")
        if self.output_ratio is not None and not all(0 < r < 1 for r in self.output_ratio):
            raise ValueError(f"output_ratio must be between 0 and 1 (got {output_ratio})")

    def forward(self, input: Tensor) -> Any:
        pool = getattr(F, f"fractional_max_pool{self._n}d")
        return pool(input, self.kernel_size, self.output_size, self.output_ratio, self.return_indices, _random_samples=self._random_samples)


class FractionalMaxPool2d(_FractionalMaxPool):
    """The largest element of windows at random places of an image (Graham, "Fractional max-pooling", 2014).

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.FractionalMaxPool2d(2, output_ratio=0.7)(torch.zeros(1, 3, 10, 10)).shape
        torch.Size([1, 3, 7, 7])
    """

    _n = 2


class FractionalMaxPool3d(_FractionalMaxPool):
    """The largest element of windows at random places of a volume (Graham, "Fractional max-pooling", 2014).

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.FractionalMaxPool3d(2, output_size=3)(torch.zeros(1, 3, 5, 5, 5)).shape
        torch.Size([1, 3, 3, 3, 3])
    """

    _n = 3


class _AdaptivePool(Module):
    _n: int

    def __init__(self, output_size: int | Sequence[int | None] | None) -> None:
        super().__init__()
        self.output_size = output_size

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class _AdaptiveMaxPool(_AdaptivePool):
    def __init__(self, output_size: int | Sequence[int | None] | None, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        return getattr(F, f"adaptive_max_pool{self._n}d")(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest element of each of ``output_size`` near-equal parts of a signal.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.AdaptiveMaxPool1d(2)(torch.tensor([[1.0, 3.0, 2.0]]))
        tensor([[3., 3.]])
    """

    _n = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest element of each of ``output_size`` near-equal parts of an image; ``None`` keeps a size.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.AdaptiveMaxPool2d((3, None))(torch.zeros(1, 8, 5, 7)).shape
        torch.Size([1, 8, 3, 7])
    """

    _n = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The largest element of each of ``output_size`` near-equal parts of a volume; ``None`` keeps a size.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.AdaptiveMaxPool3d(2)(torch.zeros(1, 8, 5, 6, 7)).shape
        torch.Size([1, 8, 2, 2, 2])
    """

    _n = 3


class _AdaptiveAvgPool(_AdaptivePool):
    def forward(self, input: Tensor) -> Tensor:
        return getattr(F, f"adaptive_avg_pool{self._n}d")(input, self.output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The mean of each of ``output_size`` near-equal parts of a signal.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.AdaptiveAvgPool1d(1)(torch.tensor([[1.0, 3.0, 2.0]]))
        tensor([[2.]])
    """

    _n = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The mean of each of ``output_size`` near-equal parts of an image; ``None`` keeps a size.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.AdaptiveAvgPool2d((1, 1))(torch.zeros(2, 8, 7, 7)).shape
        torch.Size([2, 8, 1, 1])
    """

    _n = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """The mean of each of ``output_size`` near-equal parts of a volume; ``None`` keeps a size.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.AdaptiveAvgPool3d((2, None, 3))(torch.zeros(1, 8, 5, 6, 7)).shape
        torch.Size([1, 8, 2, 6, 3])
    """

    _n = 3
