"""``torch._dynamo.eval_frame``: what ``torch.compile`` makes of modules."""
from __future__ import annotations

from . import OptimizedModule, is_dynamo_supported

__all__ = ["OptimizedModule", "is_dynamo_supported"]
