"""``torch.fft``: discrete Fourier transforms; the registry's operations with an alias ``fft.<name>``."""
from __future__ import annotations

from .functional import namespace as _namespace

globals().update(_namespace("fft"))
