"""What each operation means. Each module here defines a family; importing it files its operations in the registry."""
from __future__ import annotations

import importlib
import pkgutil


def load_all() -> None:
    """Imports every family, so that the registry is complete."""
    for m in pkgutil.iter_modules(__path__):
        if m.name not in ("special", "philox"):
            importlib.import_module(f"{__name__}.{m.name}")
