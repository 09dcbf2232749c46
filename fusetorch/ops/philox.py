"""Philox4x32-10, the counter-based random generator, in NumPy.

The same numbers as Triton's ``tl.philox`` and as the native loops give, on every device (J. Salmon, M. Moraes, R. Dror, D. Shaw,
"Parallel random numbers: as easy as 1, 2, 3", SC 2011).
"""
from __future__ import annotations

from typing import Any

import numpy as np

_ROUND_A, _ROUND_B = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_A, _KEY_B = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def bits(seed: Any, counter: Any, stream: Any) -> np.ndarray:
    """32 random bits as int32, of the broadcast shape of the operands (int64 each).

    ``seed`` is the 64-bit key; the four counter words are ``counter`` (low, high) and ``stream`` (low, high); the result is word 0
    of the output.

    Example:
        >>> bits(0, 0, 0)
        np.int32(1713891541)
    """
    seed, counter, stream = (_words(v) for v in (seed, counter, stream))
    k0, k1 = seed
    (c0, c1), (c2, c3) = counter, stream
    for _ in range(10):
        a, b = _ROUND_A * c0, _ROUND_B * c2  # 32 x 32 bits: exact in 64
        c0, c1, c2, c3 = (b >> _32) ^ c1 ^ k0, b & _LOW, (a >> _32) ^ c3 ^ k1, a & _LOW
        k0, k1 = (k0 + np.uint64(_KEY_A)) & _LOW, (k1 + np.uint64(_KEY_B)) & _LOW
    return c0.astype(np.uint32).view(np.int32)


def _words(v: Any) -> tuple[Any, Any]:
    """Low and high 32 bits of an int64, as uint64."""
    v = np.asarray(v, np.int64).view(np.uint64)
    return v & _LOW, v >> _32
