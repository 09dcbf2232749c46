"""``torch.utils.cpp_extension``: extensions in C++ and CUDA are written for PyTorch's own tensors, which are not here. The module can be
imported, so that programs with another way find out when they ask."""
from __future__ import annotations

import os
from typing import Any

from fusetorch.errors import refusal

__all__ = ["BuildExtension", "CUDA_HOME", "CUDAExtension", "CppExtension", "include_paths", "is_ninja_available", "library_paths", "load",
           "load_inline", "verify_ninja_availability"]

#: Where the CUDA toolkit is, or ``None``.
CUDA_HOME: str | None = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
ROCM_HOME: str | None = None
IS_WINDOWS = os.name == "nt"


def _refused(name: str) -> Any:
    return refusal(name, RuntimeError, f"torch.utils.cpp_extension.{name}: fusetorch cannot compile or load extensions written for "
                                       "PyTorch's C++ tensors. Write the operation with torch functions and torch.compile it, or as a "
                                       "Triton kernel")


load = _refused("load")
load_inline = _refused("load_inline")
CppExtension = _refused("CppExtension")
CUDAExtension = _refused("CUDAExtension")
include_paths = _refused("include_paths")
library_paths = _refused("library_paths")
verify_ninja_availability = _refused("verify_ninja_availability")


def is_ninja_available() -> bool:
    """False: nothing is built."""
    return False


class BuildExtension:
    """A command of setuptools that builds nothing here."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        load()

    @classmethod
    def with_options(cls, **options: Any) -> type:
        """The class itself."""
        return cls
