"""``torch.nn.functional``: the registry's neural-network functions."""
from __future__ import annotations

from ..functional import namespace as _namespace
from ..functional import nn_functions as _nn_functions

globals().update(_nn_functions() | _namespace("nn.functional"))
