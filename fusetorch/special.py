"""``torch.special``: special functions; the registry's operations with an alias ``special.<name>``."""
from __future__ import annotations

from .functional import namespace as _namespace

globals().update(_namespace("special"))
