"""Batch normalisation layers, and what they share with instance normalisation."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fusetorch as torch
from fusetorch.nn import functional as F
from fusetorch.nn.affine import _Affine
from fusetorch.nn.module import Module
from fusetorch.tensor import Tensor


class _NormBase(_Affine):
    """Weight, bias and running statistics of a normalisation over channels."""

    _version = 2

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, device: Any = None, dtype: Any = None, *, bias: bool = True) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        made = {"device": device, "dtype": dtype}
        self._register(num_features, affine, affine and bias, **made)
        if track_running_stats:
            self.register_buffer("running_mean", torch.zeros(num_features, **made))
            self.register_buffer("running_var", torch.ones(num_features, **made))
            self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.int64, device=device))
        else:
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                self.register_buffer(name, None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forgets what was seen: mean 0, variance 1, no batches."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Forgets the running statistics; sets the weight to one and the bias to zero."""
        self.reset_running_stats()
        super().reset_parameters()

    def _check_input_dim(self, input: Tensor) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not say which inputs it takes")

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, bias={self.bias is not None}, "
                f"track_running_stats={self.track_running_stats}")

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, local_metadata: dict, *rest: Any) -> None:
        version = local_metadata.get("version")
        key = prefix + "num_batches_tracked"
        if (version is None or version < 2) and self.track_running_stats and key not in state_dict:
            state_dict[key] = torch.tensor(0, dtype=torch.int64) if self.num_batches_tracked is None else self.num_batches_tracked
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


class _BatchNorm(_NormBase):
    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # the average over all batches; a tensor, so that compiled code follows it
                momentum = 1.0 / self.num_batches_tracked.to(torch.float32)
        # statistics that are not tracked are not updated, but used if they are there
        kept = not self.training or self.track_running_stats
        return F.batch_norm(input, self.running_mean if kept else None, self.running_var if kept else None, self.weight, self.bias,
                            self.training or (self.running_mean is None and self.running_var is None), momentum, self.eps)


def _dimensions(input: Tensor, *allowed: int) -> None:
    if input.dim() not in allowed:
        raise ValueError(f"expected {' or '.join(f'{d}D' for d in allowed)} input (got {input.dim()}D input)")


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L) over all but the channels.

    Args:
        num_features: C.
        momentum: how far the running statistics move to those of a batch; ``None`` averages over all batches.
        affine, bias: whether there are a weight (starting at one) and a bias (at zero).
        track_running_stats: whether there are running statistics, which evaluation uses; without them it uses the batch's.

    Source: Ioffe and Szegedy, "Batch Normalization", 2015.

    Example:
        >>> import fusetorch as torch
        >>> torch.nn.BatchNorm1d(2)(torch.tensor([[1.0, 5.0], [3.0, 5.0]])).round()
        tensor([[-1.,  0.],
                [ 1.,  0.]], grad_fn=<RoundBackward0>)
    """

    def _check_input_dim(self, input: Tensor) -> None:
        _dimensions(input, 2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W) over all but the channels; see :class:`BatchNorm1d`."""

    def _check_input_dim(self, input: Tensor) -> None:
        _dimensions(input, 4)


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of (N, C, D, H, W) over all but the channels; see :class:`BatchNorm1d`."""

    def _check_input_dim(self, input: Tensor) -> None:
        _dimensions(input, 5)


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation of (N, C, ...) with statistics over all processes; here there is one process, so that it is a batch norm."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, process_group: Any = None, device: Any = None, dtype: Any = None, *,
                 bias: bool = True) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.process_group = process_group

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: Any = None) -> Module:
        """``module`` with every batch normalisation below it, or itself, replaced by a SyncBatchNorm with the same tensors."""
        result = module
        if isinstance(module, _BatchNorm):
            result = cls(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats, process_group,
                         bias=module.bias is not None)
            result.weight, result.bias = module.weight, module.bias
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                setattr(result, name, getattr(module, name))
            result.training = module.training
        for name, child in module.named_children():
            result.add_module(name, cls.convert_sync_batchnorm(child, process_group))
        return result
