"""``torch.backends.cpu``."""
from __future__ import annotations


def get_cpu_capability() -> str:
    """The CPU's name for LLVM, which compiles the loops for it."""
    import llvmlite.binding as llvm
    return llvm.get_host_cpu_name()
