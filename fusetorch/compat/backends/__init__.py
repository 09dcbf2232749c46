"""``torch.backends``: the switches of libraries that programs set. fusetorch has kernels of its own and uses none of these libraries, so
that what a switch says about them is kept and changes nothing; each says so."""
from __future__ import annotations

from fusetorch.backends import cpu, cuda, cudnn, mkl, mkldnn, mps, openmp, opt_einsum, quantized

__all__ = ["cpu", "cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp", "opt_einsum", "quantized"]
