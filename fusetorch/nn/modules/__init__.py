"""``torch.nn.modules``: the layers again, under the paths that PyTorch keeps them at, such as ``torch.nn.modules.batchnorm``."""
from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec

import fusetorch.nn as _nn
from fusetorch.nn.modules import utils

#: PyTorch's files of layers; fusetorch keeps them in ``fusetorch.nn`` itself.
_FILES = ("activation", "adaptive", "batchnorm", "channelshuffle", "container", "conv", "distance", "dropout", "flatten", "fold",
          "instancenorm", "lazy", "linear", "loss", "module", "normalization", "padding", "pixelshuffle", "pooling", "rnn", "sparse",
          "transformer", "upsampling")

for _name in _FILES:
    if find_spec(f"fusetorch.nn.{_name}") is not None:
        globals()[_name] = sys.modules[f"{__name__}.{_name}"] = import_module(f"fusetorch.nn.{_name}")

activation.MultiheadAttention = _nn.MultiheadAttention  # noqa: F821

__all__ = ["utils"]
for _name in list(vars(_nn)):
    _value = getattr(_nn, _name)
    if isinstance(_value, type) and issubclass(_value, _nn.Module):
        globals()[_name] = _value
        __all__ += [_name]
