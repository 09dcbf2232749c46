"""Folding a batch normalisation in evaluation mode into the convolution or linear layer before it."""
from __future__ import annotations

import copy
from typing import TypeVar

import fusetorch as torch
from fusetorch.nn.module import Module
from fusetorch.nn.parameter import Parameter
from fusetorch.tensor import Tensor

M = TypeVar("M", bound=Module)


def _fused(layer: M, bn: Module, transpose: bool) -> M:
    if layer.training or bn.training:
        raise AssertionError("Fusion only for eval!")
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError("the batch normalisation has no running statistics")
    new = copy.deepcopy(layer)
    statistics = bn.running_mean, bn.running_var, bn.eps
    new.weight, new.bias = fuse_conv_bn_weights(new.weight, new.bias, *statistics, bn.weight, bn.bias, transpose)
    return new


def fuse_conv_bn_eval(conv: M, bn: Module, transpose: bool = False) -> M:
    """A copy of the convolution ``conv`` that also does what the batch normalisation ``bn`` after it does; both in evaluation mode.

    ``transpose`` for transposed convolutions.
    """
    return _fused(conv, bn, transpose)


def fuse_conv_bn_weights(conv_w: Tensor, conv_b: Tensor | None, bn_rm: Tensor, bn_rv: Tensor, bn_eps: float, bn_w: Tensor | None,
                         bn_b: Tensor | None, transpose: bool = False) -> tuple[Parameter, Parameter]:
    """Weight and bias of a convolution followed by a batch normalisation with these running statistics, weight and bias."""
    trained = conv_w.requires_grad
    with torch.no_grad():
        scale = (bn_rv + bn_eps).rsqrt() if bn_w is None else bn_w * (bn_rv + bn_eps).rsqrt()
        shape = [-1 if d == int(transpose) else 1 for d in range(conv_w.dim())]
        weight = (conv_w * scale.reshape(shape)).to(conv_w.dtype)
        bias = (-bn_rm if conv_b is None else conv_b - bn_rm) * scale
        bias = (bias if bn_b is None else bias + bn_b).to(conv_w.dtype if conv_b is None else conv_b.dtype)
    return Parameter(weight, trained), Parameter(bias, trained if conv_b is None else conv_b.requires_grad)


def fuse_linear_bn_eval(linear: M, bn: Module) -> M:
    """A copy of the linear layer that also does what the batch normalisation after it does; both in evaluation mode."""
    if linear.out_features != bn.num_features and bn.num_features != 1:
        raise AssertionError("To fuse, linear.out_features == bn.num_features or bn.num_features == 1")
    return _fused(linear, bn, False)


def fuse_linear_bn_weights(linear_w: Tensor, linear_b: Tensor | None, bn_rm: Tensor, bn_rv: Tensor, bn_eps: float, bn_w: Tensor,
                           bn_b: Tensor) -> tuple[Parameter, Parameter]:
    """Weight and bias of a linear layer followed by a batch normalisation."""
    return fuse_conv_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b)
