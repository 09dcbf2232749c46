"""Convolution layers."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import fusetorch as torch
from fusetorch.nn import functional as F
from fusetorch.nn import init
from fusetorch.nn.module import Module
from fusetorch.nn.parameter import Parameter
from fusetorch.nn.sizes import each
from fusetorch.tensor import Tensor

Sizes = int | Sequence[int]


class _ConvNd(Module):
    __constants__ = ["stride", "padding", "dilation", "groups", "padding_mode", "output_padding", "in_channels", "out_channels",
                     "kernel_size"]

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple[int, ...], stride: tuple[int, ...],
                 padding: str | tuple[int, ...], dilation: tuple[int, ...], transposed: bool, output_padding: tuple[int, ...],
                 groups: int, bias: bool, padding_mode: str, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups != 0:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups != 0:
            raise ValueError("out_channels must be divisible by groups")
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {padding!r}, should be one of {{'valid', 'same'}}")
            if padding == "same" and any(s != 1 for s in stride):
                raise ValueError("padding='same' is not supported for strided convolutions")
        modes = ("circular", "reflect", "replicate", "zeros")
        if padding_mode not in modes:
            raise ValueError(f"padding_mode must be one of {{{', '.join(map(repr, modes))}}}, but got padding_mode={padding_mode!r}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.transposed = transposed
        self.output_padding = output_padding
        self.groups = groups
        self.padding_mode = padding_mode
        # what F.pad takes: the last dimension first
        if isinstance(padding, str):
            total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel_size)]
            self._reversed_padding_repeated_twice = tuple(v for t in reversed(total) for v in (t // 2, t - t // 2))
        else:
            self._reversed_padding_repeated_twice = tuple(p for p in reversed(padding) for _ in range(2))
        first, second = (in_channels, out_channels) if transposed else (out_channels, in_channels)
        self.weight = Parameter(torch.empty((first, second // groups, *kernel_size), device=device, dtype=dtype))
        self.register_parameter("bias", Parameter(torch.empty(out_channels, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the starting values anew."""
        # kaiming_uniform with a = sqrt(5) is uniform in ±1/sqrt(fan_in)
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = math.prod(self.weight.shape[1:])
            if fan_in != 0:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        shown = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        n = len(self.kernel_size)
        if self.padding != (0,) * n:
            shown += f", padding={self.padding}"
        if self.dilation != (1,) * n:
            shown += f", dilation={self.dilation}"
        if self.output_padding != (0,) * n:
            shown += f", output_padding={self.output_padding}"
        if self.groups != 1:
            shown += f", groups={self.groups}"
        if self.bias is None:
            shown += ", bias=False"
        if self.padding_mode != "zeros":
            shown += f", padding_mode={self.padding_mode}"
        return shown


class _Conv(_ConvNd):
    """A convolution of ``_dims`` dimensions."""

    _dims: int

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1, padding: str | Sizes = 0,
                 dilation: Sizes = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None,
                 dtype: Any = None) -> None:
        n = self._dims
        super().__init__(in_channels, out_channels, each(kernel_size, n), each(stride, n),
                         padding if isinstance(padding, str) else each(padding, n), each(dilation, n), False, (0,) * n, groups, bias,
                         padding_mode, device, dtype)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        convolve = (F.conv1d, F.conv2d, F.conv3d)[self._dims - 1]
        if self.padding_mode == "zeros":
            return convolve(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        padded = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        return convolve(padded, weight, bias, self.stride, 0, self.dilation, self.groups)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight, self.bias)


class Conv1d(_Conv):
    """A convolution along one dimension: (N, C, L) or (C, L) to (N, out_channels, L').

    ``weight`` has shape (out_channels, in_channels / groups, kernel_size), ``bias`` (out_channels) or is None; both start uniform in
    ±1/sqrt(in_channels / groups * kernel_size), as in PyTorch. ``padding``: a number, ``"same"`` or ``"valid"``; ``padding_mode``:
    ``zeros``, ``reflect``, ``replicate`` or ``circular``.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.Conv1d(16, 33, 3, stride=2)(torch.randn(20, 16, 50)).shape
        torch.Size([20, 33, 24])
    """

    _dims = 1


class Conv2d(_Conv):
    """A convolution over two dimensions: (N, C, H, W) or (C, H, W) to (N, out_channels, H', W'). See :class:`Conv1d`.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.Conv2d(3, 8, 3, padding=1)(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 8, 32, 32])
    """

    _dims = 2


class Conv3d(_Conv):
    """A convolution over three dimensions: (N, C, D, H, W) or (C, D, H, W). See :class:`Conv1d`."""

    _dims = 3


class _ConvTransposeNd(_ConvNd):
    _dims: int

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1, padding: Sizes = 0,
                 output_padding: Sizes = 0, groups: int = 1, bias: bool = True, dilation: Sizes = 1, padding_mode: str = "zeros",
                 device: Any = None, dtype: Any = None) -> None:
        if padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {type(self).__name__}')
        n = self._dims
        super().__init__(in_channels, out_channels, each(kernel_size, n), each(stride, n), each(padding, n), each(dilation, n), True,
                         each(output_padding, n), groups, bias, padding_mode, device, dtype)

    def _output_padding(self, input: Tensor, output_size: Sequence[int] | None) -> tuple[int, ...]:
        """What to add at the end for a result of ``output_size``, which may have batch and channels before it."""
        if output_size is None:
            return self.output_padding
        n = self._dims
        wanted, have = tuple(output_size), input.shape[input.ndim - n:]
        if len(wanted) == n + 2 or (len(wanted) == n + 1 and input.ndim == n + 1):
            wanted = wanted[-n:]
        if len(wanted) != n:
            raise ValueError(f"ConvTranspose{n}D: for {input.ndim}D input, output_size must have {n} or {input.ndim} elements "
                             f"(got {len(wanted)})")
        lowest = [(a - 1) * s - 2 * p + d * (k - 1) + 1
                  for a, s, p, d, k in zip(have, self.stride, self.padding, self.dilation, self.kernel_size)]
        highest = [a + s - 1 for a, s in zip(lowest, self.stride)]
        if any(not a <= w <= b for w, a, b in zip(wanted, lowest, highest)):
            raise ValueError(f"requested an output size of {wanted}, but valid sizes range from {lowest} to {highest} (for an input of "
                             f"{have})")
        return tuple(w - a for w, a in zip(wanted, lowest))

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[self._dims - 1]
        return convolve(input, self.weight, self.bias, self.stride, self.padding, self._output_padding(input, output_size), self.groups,
                        self.dilation)


class ConvTranspose1d(_ConvTransposeNd):
    """The adjoint of :class:`Conv1d` ("deconvolution"): (N, C, L) or (C, L) to (N, out_channels, L').

    ``weight`` has shape (in_channels, out_channels / groups, kernel_size). A strided convolution gives several input sizes the same
    output size: ``output_padding``, or ``output_size`` at the call, says which is meant.
    """

    _dims = 1


class ConvTranspose2d(_ConvTransposeNd):
    """The adjoint of :class:`Conv2d`: (N, C, H, W) or (C, H, W) to (N, out_channels, H', W'). See :class:`ConvTranspose1d`.

    Example:
        >>> import fusetorch as torch
        >>> up = torch.nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1)
        >>> up(torch.randn(1, 16, 6, 6), output_size=(12, 12)).shape
        torch.Size([1, 8, 12, 12])
    """

    _dims = 2


class ConvTranspose3d(_ConvTransposeNd):
    """The adjoint of :class:`Conv3d`: (N, C, D, H, W) or (C, D, H, W). See :class:`ConvTranspose1d`."""

    _dims = 3
