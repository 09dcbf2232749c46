"""``torch.ao``: of PyTorch's tools for quantization, what models need to run with floating numbers."""
from . import quantization

__all__ = ["quantization"]
