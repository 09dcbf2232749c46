"""``torch.backends.mkldnn``: oneDNN is not used; the switches keep what they are given."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator

enabled = True
deterministic = False
allow_tf32 = True
fp32_precision = "none"


def is_available() -> bool:
    """False: there is no oneDNN."""
    return False


def set_flags(_enabled: bool | None = None, _deterministic: bool | None = None, _allow_tf32: bool | None = None) -> tuple:
    """Sets the switches that are given; what all were."""
    names = ("enabled", "deterministic", "allow_tf32")
    before = tuple(globals()[n] for n in names)
    for name, value in zip(names, (_enabled, _deterministic, _allow_tf32)):
        if value is not None:
            globals()[name] = value
    return before


@contextlib.contextmanager
def flags(enabled: bool = False, deterministic: bool = False, allow_tf32: bool = True) -> Iterator[None]:
    """Sets the switches for a while."""
    before = set_flags(enabled, deterministic, allow_tf32)
    try:
        yield
    finally:
        set_flags(*before)
