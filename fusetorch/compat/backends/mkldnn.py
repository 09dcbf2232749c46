"""``torch.backends.mkldnn``: oneDNN is not used; the switches keep what they are given."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator

from fusetorch.backends.switches import exchange

enabled = True
deterministic = False
allow_tf32 = True
fp32_precision = "none"


def is_available() -> bool:
    """False: there is no oneDNN."""
    return False


def set_flags(_enabled: bool | None = None, _deterministic: bool | None = None, _allow_tf32: bool | None = None) -> tuple:
    """Sets the switches that are given; what all were."""
    return exchange(globals(), enabled=_enabled, deterministic=_deterministic, allow_tf32=_allow_tf32)


@contextlib.contextmanager
def flags(enabled: bool = False, deterministic: bool = False, allow_tf32: bool = True) -> Iterator[None]:
    """Sets the switches for a while."""
    before = set_flags(enabled, deterministic, allow_tf32)
    try:
        yield
    finally:
        set_flags(*before)
