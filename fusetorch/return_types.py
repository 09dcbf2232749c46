"""``torch.return_types``: the tuples with named fields that operations such as ``max`` and ``topk`` give."""
from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Any


class Result(tuple):
    """A tuple whose fields have names too; ``type(r)(values)`` and ``type(r)(*values)`` make another one.

    Example:
        >>> import fusetorch as torch
        >>> torch.tensor([[1, 3, 2]]).max(dim=1).indices
        tensor([1])
    """

    __slots__ = ()
    _fields: tuple[str, ...] = ()

    def __new__(cls, *values: Any) -> Result:
        if len(values) == 1:
            values = tuple(values[0])
        if len(values) != len(cls._fields):
            raise TypeError(f"torch.return_types.{cls.__name__}() takes a {len(cls._fields)}-sequence ({len(values)}-sequence given)")
        return tuple.__new__(cls, values)

    @classmethod
    def _make(cls, values: Iterable[Any]) -> Result:
        return cls(*values)

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self))

    def _replace(self, **changes: Any) -> Result:
        return type(self)(*[changes.get(name, value) for name, value in zip(self._fields, self)])

    def __getnewargs__(self) -> tuple:
        return tuple(self)

    def __repr__(self) -> str:
        return f"torch.return_types.{type(self).__name__}(\n" + ",\n".join(f"{n}={v!r}" for n, v in zip(self._fields, self)) + ")"


def result(name: str, fields: str) -> type[Result]:
    """A new kind of result, offered as ``torch.return_types.<name>``."""
    names = tuple(fields.split())
    space: dict[str, Any] = {n: property(itemgetter(i), doc=n) for i, n in enumerate(names)}
    made = type(name, (Result,), {"__slots__": (), "_fields": names, "__module__": __name__, "n_fields": len(names), **space})
    globals()[name] = made
    return made
