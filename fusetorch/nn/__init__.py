"""Layers, losses and containers, with the names and semantics of ``torch.nn``."""
from __future__ import annotations

from fusetorch.nn import functional, init, utils
from fusetorch.nn.activation import (
    CELU,
    ELU,
    GELU,
    SELU,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    Mish,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softmax2d,
    Softmin,
    Softplus,
    Softsign,
    Tanh,
    Tanhshrink,
)
from fusetorch.nn.container import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from fusetorch.nn.dropout import Dropout
from fusetorch.nn.flatten import Flatten, Unflatten
from fusetorch.nn.linear import Identity, Linear
from fusetorch.nn.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from fusetorch.nn.module import Module
from fusetorch.nn.normalization import LayerNorm
from fusetorch.nn.parameter import Buffer, Parameter
from fusetorch.nn.sparse import Embedding

__all__ = ["BCELoss", "BCEWithLogitsLoss", "Buffer", "CELU", "CrossEntropyLoss", "Dropout", "ELU", "Embedding", "Flatten",
           "GELU", "Hardsigmoid", "Hardswish", "Hardtanh", "HuberLoss", "Identity", "L1Loss", "LayerNorm", "LeakyReLU",
           "Linear", "LogSigmoid", "LogSoftmax", "MSELoss", "Mish", "Module", "ModuleDict", "ModuleList", "NLLLoss",
           "Parameter", "ParameterDict", "ParameterList", "ReLU", "ReLU6", "SELU", "Sequential", "SiLU", "Sigmoid",
           "SmoothL1Loss", "Softmax", "Softmax2d", "Softmin", "Softplus", "Softsign", "Tanh", "Tanhshrink", "Unflatten",
           "functional", "init", "utils"]
