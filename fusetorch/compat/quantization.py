"""``torch.quantization``: the former place of :mod:`fusetorch.ao.quantization`."""
from __future__ import annotations

from fusetorch.ao.quantization import *  # noqa: F403
