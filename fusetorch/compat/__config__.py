"""``torch.__config__``: how the library was built, as text."""
from __future__ import annotations

import platform
from importlib.metadata import version

__all__ = ["parallel_info", "show"]


def show() -> str:
    """Versions of what computes, and PyTorch's switches for what is not there: no MKL, no oneDNN, no processes in groups."""
    parts = [f"  - {name} {version(name)}" for name in ("numpy", "llvmlite", "ml_dtypes")]
    return "\n".join(["fusetorch built with:", f"  - Python {platform.python_version()}", *parts,
                      "  - Settings: USE_DISTRIBUTED=OFF, USE_MKL=OFF, USE_MKLDNN=OFF, USE_MPI=OFF, USE_NCCL=OFF, USE_OPENMP=OFF", ""])


def parallel_info() -> str:
    """How many threads native loops use."""
    import fusetorch as torch
    return f"fusetorch parallel backend: native threads\n\ttorch.get_num_threads() : {torch.get_num_threads()}\n"
