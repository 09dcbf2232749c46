"""What each operation means. Each module here defines a family; importing it files its operations in the registry."""
from __future__ import annotations

import importlib
import importlib.util
import pkgutil


def load_all() -> None:
    """Imports every family, so that the registry is complete."""
    for m in pkgutil.iter_modules(__path__):
        if m.name not in ("special", "philox"):
            importlib.import_module(f"{__name__}.{m.name}")


def __getattr__(name: str) -> object:
    """``torch.ops.load_library``, and ``torch.ops.<namespace>``: operators that programs register with ``torch.library``."""
    if name.startswith("_") or importlib.util.find_spec(f"{__name__}.{name}"):  # a family that is yet to be imported
        raise AttributeError(name)
    library = importlib.import_module("fusetorch.library")
    return library.load_library if name == "load_library" else library.namespace(name)
