"""``torch.signal.windows``; the registry's operations with an alias ``signal.windows.<name>``."""
from __future__ import annotations

from ..functional import namespace as _namespace

globals().update(_namespace("signal.windows"))
