"""``torch.ao.quantization``: the marks that models carry for quantization. With floating numbers they change nothing; there are no
quantized tensors, and the functions that would prepare or convert a model raise."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fusetorch import Tensor, nn
from fusetorch.errors import refusal

__all__ = ["DeQuantStub", "QConfig", "QuantStub", "QuantWrapper", "convert", "fuse_modules", "fuse_modules_qat", "prepare", "prepare_qat",
           "quantize", "quantize_dynamic"]


class QConfig(NamedTuple):
    """How activations and weights would be observed."""

    activation: Any
    weight: Any


class QuantStub(nn.Module):
    """Where a model's numbers would become integers: gives back its input.

    Example:
        >>> import fusetorch as torch
        >>> torch.ao.quantization.QuantStub()(torch.ones(2))
        tensor([1., 1.])
    """

    def __init__(self, qconfig: QConfig | None = None) -> None:
        super().__init__()
        if qconfig:
            self.qconfig = qconfig

    def forward(self, x: Tensor) -> Tensor:
        """``x``."""
        return x


class DeQuantStub(QuantStub):
    """Where a model's numbers would become floating again: gives back its input."""


class QuantWrapper(nn.Module):
    """A module between a :class:`QuantStub` and a :class:`DeQuantStub`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.add_module("quant", QuantStub())
        self.add_module("dequant", DeQuantStub())
        self.add_module("module", module)
        self.train(module.training)

    def forward(self, X: Tensor) -> Tensor:
        """The module's result."""
        return self.dequant(self.module(self.quant(X)))


def _refused(name: str) -> Callable[..., Any]:
    return refusal(name, NotImplementedError, f"torch.ao.quantization.{name} is not supported: fusetorch has no quantized tensors. Run the "
                                              "model with floating numbers (torch.bfloat16 or torch.float16 are half the size)")


convert = _refused("convert")
fuse_modules = _refused("fuse_modules")
fuse_modules_qat = _refused("fuse_modules_qat")
prepare = _refused("prepare")
prepare_qat = _refused("prepare_qat")
quantize = _refused("quantize")
quantize_dynamic = _refused("quantize_dynamic")
