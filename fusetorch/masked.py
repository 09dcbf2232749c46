"""``torch.masked``: reductions over the elements that a mask keeps; the registry's operations with an alias ``masked.<name>``."""
from __future__ import annotations

from .functional import namespace as _namespace

globals().update(_namespace("masked"))
