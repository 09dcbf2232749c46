"""Layers that take their input's size from the first input, and the parameters without a shape that they start with."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fusetorch as torch
from fusetorch.nn.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from fusetorch.nn.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from fusetorch.nn.instancenorm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from fusetorch.nn.linear import Linear
from fusetorch.nn.module import Module
from fusetorch.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy
from fusetorch.tensor import Tensor, structure_changed


class LazyModuleMixin:
    """Makes a module whose parameters get their shapes at the first forward.

    A subclass names in ``cls_to_become`` the class that its instances are of from then on, makes :class:`UninitializedParameter` s, and
    defines ``initialize_parameters(*args, **kwargs)``, which gets what ``forward`` gets.

    Example:
        >>> import fusetorch as torch
        >>> layer = torch.nn.LazyLinear(2)
        >>> layer
        LazyLinear(in_features=0, out_features=2, bias=True)
        >>> layer(torch.zeros(3, 5)).shape, layer
        (torch.Size([3, 2]), Linear(in_features=5, out_features=2, bias=True))
    """

    cls_to_become: type[Module] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._register_load_state_dict_pre_hook(_take_shapes, with_module=True)
        self.register_forward_pre_hook(_infer_parameters, with_kwargs=True)

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Gives the parameters their shapes and values, from the arguments of ``forward``."""
        raise NotImplementedError(f"initialize_parameters is not implemented for {type(self).__name__}")

    def has_uninitialized_params(self) -> bool:
        """Whether a parameter or buffer of this module has no shape yet."""
        return any(is_lazy(t) for t in (*self._parameters.values(), *self._buffers.values()))


def _infer_parameters(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
    """The hook before the first forward."""
    module.initialize_parameters(*args, **kwargs)
    if module.has_uninitialized_params():
        raise RuntimeError(f"module {module._get_name()} has not been fully initialized")
    for table, hook in ((module._forward_pre_hooks, _infer_parameters), (module._load_state_dict_pre_hooks, _take_shapes)):
        for key in [k for k, h in table.items() if h is hook]:
            del table[key]
            module._forward_pre_hooks_with_kwargs.pop(key, None)
    if module.cls_to_become is not None:
        module.__class__ = module.cls_to_become
    structure_changed()


def _take_shapes(module: Any, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
    """The hook before loading: parameters without a shape take the loaded ones'."""
    for name, value in (*module._parameters.items(), *module._buffers.items()):
        given = state_dict.get(prefix + name)
        if is_lazy(value) and given is not None and not is_lazy(given):
            with torch.no_grad():
                value.materialize(given.shape)


class _Lazy(LazyModuleMixin):
    """A layer whose constructor does not get the input's channels, which it takes from the first input."""

    _size: str  # the attribute that holds their number

    def __init__(self, *args: Any, device: Any = None, dtype: Any = None, **kwargs: Any) -> None:
        made = {"device": device, "dtype": dtype}
        super().__init__(0, *args, **made, **kwargs)
        for name, value in list(self._parameters.items()):
            if value is not None:
                self._parameters[name] = UninitializedParameter(**made)
        for name in ("running_mean", "running_var"):
            if self._buffers.get(name) is not None:
                self._buffers[name] = UninitializedBuffer(**made)

    def reset_parameters(self) -> None:
        """Draws the starting values, once the parameters have shapes."""
        if not self.has_uninitialized_params() and getattr(self, self._size) != 0:
            super().reset_parameters()

    def _channels(self, input: Tensor) -> int:
        return input.shape[1]

    def _shape(self, name: str) -> tuple[int, ...]:
        """The shape of a parameter or buffer, when the channels are known."""
        return (getattr(self, self._size),)

    def initialize_parameters(self, input: Tensor, *args: Any, **kwargs: Any) -> None:
        """Takes the number of channels from ``input``."""
        fresh = self.has_uninitialized_params()
        if fresh or getattr(self, self._size) == 0:  # loading a state gives shapes, but not the number
            setattr(self, self._size, self._channels(input))
        if fresh:
            with torch.no_grad():
                for name, value in (*self._parameters.items(), *self._buffers.items()):
                    if is_lazy(value):
                        value.materialize(self._shape(name))
                self.reset_parameters()


class LazyLinear(_Lazy, Linear):
    """:class:`Linear` that takes ``in_features`` from its first input."""

    cls_to_become = Linear
    _size = "in_features"

    def __init__(self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(out_features, bias, device=device, dtype=dtype)

    def _channels(self, input: Tensor) -> int:
        return input.shape[-1]

    def _shape(self, name: str) -> tuple[int, ...]:
        return (self.out_features, self.in_features) if name == "weight" else (self.out_features,)


class _LazyConv(_Lazy):
    _size = "in_channels"

    def _channels(self, input: Tensor) -> int:
        n = self._dims
        if input.dim() not in (n + 1, n + 2):
            raise RuntimeError(f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {type(self).__name__}, but got input of "
                               f"size: {input.shape}")
        channels = input.shape[-n - 1]
        if channels % self.groups:
            raise ValueError("in_channels must be divisible by groups")
        return channels

    def _shape(self, name: str) -> tuple[int, ...]:
        if name == "bias":
            return (self.out_channels,)
        first, second = (self.in_channels, self.out_channels) if self.transposed else (self.out_channels, self.in_channels)
        return first, second // self.groups, *self.kernel_size


class LazyConv1d(_LazyConv, Conv1d):
    """:class:`Conv1d` that takes ``in_channels`` from its first input."""

    cls_to_become = Conv1d


class LazyConv2d(_LazyConv, Conv2d):
    """:class:`Conv2d` that takes ``in_channels`` from its first input."""

    cls_to_become = Conv2d


class LazyConv3d(_LazyConv, Conv3d):
    """:class:`Conv3d` that takes ``in_channels`` from its first input."""

    cls_to_become = Conv3d


class LazyConvTranspose1d(_LazyConv, ConvTranspose1d):
    """:class:`ConvTranspose1d` that takes ``in_channels`` from its first input."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyConv, ConvTranspose2d):
    """:class:`ConvTranspose2d` that takes ``in_channels`` from its first input."""

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyConv, ConvTranspose3d):
    """:class:`ConvTranspose3d` that takes ``in_channels`` from its first input."""

    cls_to_become = ConvTranspose3d


class _LazyNorm(_Lazy):
    _size = "num_features"

    def __init__(self, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True, track_running_stats: bool = True,
                 device: Any = None, dtype: Any = None, *, bias: bool = True) -> None:
        super().__init__(eps, momentum, affine, track_running_stats, device=device, dtype=dtype, bias=bias)


class LazyBatchNorm1d(_LazyNorm, BatchNorm1d):
    """:class:`BatchNorm1d` that takes ``num_features`` from its first input."""

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, BatchNorm2d):
    """:class:`BatchNorm2d` that takes ``num_features`` from its first input."""

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_LazyNorm, BatchNorm3d):
    """:class:`BatchNorm3d` that takes ``num_features`` from its first input."""

    cls_to_become = BatchNorm3d


class LazyInstanceNorm1d(_LazyNorm, InstanceNorm1d):
    """:class:`InstanceNorm1d` that takes ``num_features`` from its first input; affine and with running statistics by default."""

    cls_to_become = InstanceNorm1d


class LazyInstanceNorm2d(_LazyNorm, InstanceNorm2d):
    """:class:`InstanceNorm2d` that takes ``num_features`` from its first input; affine and with running statistics by default."""

    cls_to_become = InstanceNorm2d


class LazyInstanceNorm3d(_LazyNorm, InstanceNorm3d):
    """:class:`InstanceNorm3d` that takes ``num_features`` from its first input; affine and with running statistics by default."""

    cls_to_become = InstanceNorm3d
