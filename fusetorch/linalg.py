"""``torch.linalg``: linear algebra; the registry's operations with an alias ``linalg.<name>``."""
from __future__ import annotations

from .errors import LinAlgError as LinAlgError
from .functional import namespace as _namespace

globals().update(_namespace("linalg"))
