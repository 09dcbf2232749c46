"""``torch.backends.cuda``: precision of matrix products, and which attention kernels may run."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from fusetorch.backends.switches import pair
from fusetorch.settings import get_float32_matmul_precision, set_float32_matmul_precision


class _Matmul:
    """``torch.backends.cuda.matmul``."""

    allow_fp16_reduced_precision_reduction = True
    allow_bf16_reduced_precision_reduction = True
    allow_fp16_accumulation = False
    fp32_precision = "none"

    @property
    def allow_tf32(self) -> bool:
        """Whether float32 products may round to 10 bits: another name of ``torch.set_float32_matmul_precision``."""
        return get_float32_matmul_precision() != "highest"

    @allow_tf32.setter
    def allow_tf32(self, value: bool) -> None:
        set_float32_matmul_precision("high" if value else "highest")


class _PlanCache:
    """``torch.backends.cuda.cufft_plan_cache``: plans are CuPy's, and it keeps them."""

    max_size = 4096
    size = 0

    def __getitem__(self, device: Any) -> _PlanCache:
        return self

    def clear(self) -> None:
        """Nothing to clear."""


matmul = _Matmul()
cufft_plan_cache = _PlanCache()
_sdp = {"flash": True, "mem_efficient": True, "math": True, "cudnn": True}


def is_built() -> bool:
    """Whether GPUs can be used at all, which needs no build: whether one can be used now."""
    import fusetorch
    return fusetorch.cuda.is_available()


flash_sdp_enabled, enable_flash_sdp = pair(_sdp, "flash")
mem_efficient_sdp_enabled, enable_mem_efficient_sdp = pair(_sdp, "mem_efficient")
math_sdp_enabled, enable_math_sdp = pair(_sdp, "math")
cudnn_sdp_enabled, enable_cudnn_sdp = pair(_sdp, "cudnn")


def is_flash_attention_available() -> bool:
    """False: the flash-attention library is not used."""
    return False


@contextlib.contextmanager
def sdp_kernel(enable_flash: bool = True, enable_math: bool = True, enable_mem_efficient: bool = True,
               enable_cudnn: bool = True) -> Iterator[dict]:
    """Sets the switches for a while."""
    before = dict(_sdp)
    _sdp.update(flash=enable_flash, math=enable_math, mem_efficient=enable_mem_efficient, cudnn=enable_cudnn)
    try:
        yield {}
    finally:
        _sdp.update(before)


def preferred_linalg_library(backend: Any = None) -> str:
    """``"default"``: there is no choice."""
    return "default"


def preferred_blas_library(backend: Any = None) -> str:
    """``"default"``: there is no choice."""
    return "default"
