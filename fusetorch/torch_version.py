"""``torch.torch_version``: a version that compares by its numbers."""
from __future__ import annotations

import re
from typing import Any


class TorchVersion(str):
    """A version as a string; ``<``, ``>=``, ``==`` and the like compare its numbers with a string's, a tuple's or a packaging Version's.

    Example:
        >>> from fusetorch.torch_version import TorchVersion
        >>> TorchVersion("2.10.1") > "2.9", TorchVersion("2.10.1") >= (2, 10), TorchVersion("2.10.1+cpu") == "2.10.1"
        (True, True, False)
    """

    __slots__ = ()

    def _compared(self, other: Any) -> tuple[tuple, tuple] | None:
        if isinstance(other, str) or hasattr(other, "release"):
            return _key(self), _key(str(other))
        if isinstance(other, (tuple, list)):
            return _key(self), _key(".".join(str(part) for part in other))
        return None

    def __lt__(self, other: Any) -> bool:
        both = self._compared(other)
        return NotImplemented if both is None else both[0] < both[1]

    def __le__(self, other: Any) -> bool:
        both = self._compared(other)
        return NotImplemented if both is None else both[0] <= both[1]

    def __gt__(self, other: Any) -> bool:
        both = self._compared(other)
        return NotImplemented if both is None else both[0] > both[1]

    def __ge__(self, other: Any) -> bool:
        both = self._compared(other)
        return NotImplemented if both is None else both[0] >= both[1]

    def __eq__(self, other: object) -> bool:
        both = self._compared(other)
        return False if both is None else both[0] == both[1]

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def _key(version: str) -> tuple:
    """The numbers, four at least; then the local part: none comes first."""
    public, _, local = version.partition("+")
    match = re.match(r"v?(\d+(?:\.\d+)*)", public)
    numbers = [int(n) for n in match[1].split(".")] if match else []
    before = 0 if match is None or re.match(r"\.?(a|b|rc|dev)", public[match.end():]) else 1
    return (*numbers, *(0,) * (4 - len(numbers))), before, local
