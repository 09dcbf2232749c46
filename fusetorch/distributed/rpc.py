"""``torch.distributed.rpc``: calls into other processes. There are none, as in PyTorch where it was built without them."""
from __future__ import annotations

__all__ = ["is_available"]


def is_available() -> bool:
    """False."""
    return False
