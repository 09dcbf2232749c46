"""Layers, losses and containers, with the names and semantics of ``torch.nn``."""
from __future__ import annotations

from fusetorch.nn import _reduction, attention, common_types, functional, init, parallel, utils
from fusetorch.nn.activation import (
    CELU,
    ELU,
    GELU,
    GLU,
    SELU,
    Hardshrink,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    Mish,
    PReLU,
    ReLU,
    ReLU6,
    RReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softmax2d,
    Softmin,
    Softplus,
    Softshrink,
    Softsign,
    Tanh,
    Tanhshrink,
    Threshold,
)
from fusetorch.nn.adaptive import AdaptiveLogSoftmaxWithLoss
from fusetorch.nn.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm
from fusetorch.nn.channelshuffle import ChannelShuffle
from fusetorch.nn.container import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from fusetorch.nn.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from fusetorch.nn.distance import CosineSimilarity, PairwiseDistance
from fusetorch.nn.dropout import AlphaDropout, Dropout, Dropout1d, Dropout2d, Dropout3d, FeatureAlphaDropout
from fusetorch.nn.flatten import Flatten, Unflatten
from fusetorch.nn.fold import Fold, Unfold
from fusetorch.nn.instancenorm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from fusetorch.nn.lazy import (
    LazyBatchNorm1d,
    LazyBatchNorm2d,
    LazyBatchNorm3d,
    LazyConv1d,
    LazyConv2d,
    LazyConv3d,
    LazyConvTranspose1d,
    LazyConvTranspose2d,
    LazyConvTranspose3d,
    LazyInstanceNorm1d,
    LazyInstanceNorm2d,
    LazyInstanceNorm3d,
    LazyLinear,
)
from fusetorch.nn.linear import Bilinear, Identity, Linear
from fusetorch.nn.linear_cross_entropy import LinearCrossEntropyLoss, LinearCrossEntropyOptions
from fusetorch.nn.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CosineEmbeddingLoss,
    CrossEntropyLoss,
    CTCLoss,
    GaussianNLLLoss,
    HingeEmbeddingLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MarginRankingLoss,
    MSELoss,
    MultiLabelMarginLoss,
    MultiLabelSoftMarginLoss,
    MultiMarginLoss,
    NLLLoss,
    NLLLoss2d,
    PoissonNLLLoss,
    SmoothL1Loss,
    SoftMarginLoss,
    TripletMarginLoss,
    TripletMarginWithDistanceLoss,
)
from fusetorch.nn.module import Module
from fusetorch.nn.multihead_attention import MultiheadAttention
from fusetorch.nn.normalization import CrossMapLRN2d, GroupNorm, LayerNorm, LocalResponseNorm, RMSNorm
from fusetorch.nn.padding import (
    CircularPad1d,
    CircularPad2d,
    CircularPad3d,
    ConstantPad1d,
    ConstantPad2d,
    ConstantPad3d,
    ReflectionPad1d,
    ReflectionPad2d,
    ReflectionPad3d,
    ReplicationPad1d,
    ReplicationPad2d,
    ReplicationPad3d,
    ZeroPad1d,
    ZeroPad2d,
    ZeroPad3d,
)
from fusetorch.nn.parallel import DataParallel
from fusetorch.nn.parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter
from fusetorch.nn.pixelshuffle import PixelShuffle, PixelUnshuffle
from fusetorch.nn.pooling import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveAvgPool3d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AdaptiveMaxPool3d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    FractionalMaxPool2d,
    FractionalMaxPool3d,
    LPPool1d,
    LPPool2d,
    LPPool3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
    MaxUnpool1d,
    MaxUnpool2d,
    MaxUnpool3d,
)
from fusetorch.nn.rnn import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNBase, RNNCell, RNNCellBase
from fusetorch.nn.sparse import Embedding, EmbeddingBag
from fusetorch.nn.transformer import (
    Transformer,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)
from fusetorch.nn.upsampling import Upsample, UpsamplingBilinear2d, UpsamplingNearest2d

#: What a star imports: the classes above, and the modules that PyTorch has here.
__all__ = ["attention", "functional", "init", "modules", "parallel", "parameter", "utils",
           *(_name for _name, _value in list(globals().items()) if isinstance(_value, type))]

from fusetorch.nn import modules  # noqa: E402 - last, as it gathers the others


def __getattr__(name: str) -> object:
    if name == "quantized":
        import importlib
        return importlib.import_module("fusetorch.nn.quantized")
    raise AttributeError(f"module 'fusetorch.nn' has no attribute {name!r}: fusetorch does not have torch.nn.{name}"
                         if not name.startswith("__") else name)
