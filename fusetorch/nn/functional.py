"""``torch.nn.functional``: the registry's neural-network functions."""
from __future__ import annotations

from ..functional import functions as _functions

globals().update(_functions(nn=True))
