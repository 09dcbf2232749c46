"""``torch.fx.experimental.proxy_tensor``: asked whether tensors are being traced into a graph of ``torch.fx``, the answer is no."""
from __future__ import annotations

__all__ = ["get_proxy_mode"]


def get_proxy_mode() -> None:
    """None: no such mode is on."""
