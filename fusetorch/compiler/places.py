"""Places that a function fills anew at each call: an attribute, a variable, a list's items that hold other tensors afterwards.

What such a place holds is an argument of the next call like any other (:mod:`fusetorch.compiler.signatures` sums it up), and what
the function puts there is one more result: that is how a recurrent state, a cache or a layer's kept output is replayed.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..tensor import Tensor, structure_changed

if TYPE_CHECKING:
    from .guards import StateGuard

MISSING = object()


class Place:
    """Where a value is kept: an entry of a dict, a closure's variable, or the items of a list (``key`` is ``None`` for the latter two).

    ``structural``: the dict is a module's table of parameters or buffers, which all compiled functions watch.
    """

    __slots__ = ("holder", "key", "structural")

    def __init__(self, holder: Any, key: Any, structural: bool = False) -> None:
        self.holder, self.key, self.structural = holder, key, structural

    def get(self) -> Any:
        """What is there now."""
        if isinstance(self.holder, dict):
            return self.holder.get(self.key, MISSING)
        if isinstance(self.holder, list):
            return self.holder
        try:
            return self.holder.cell_contents
        except ValueError:
            return MISSING

    def set(self, value: Any, refill: bool) -> None:
        """Puts a value there; ``refill``: into the list or dict that is there."""
        if refill:
            container = self.get()
            container.clear()
            container.extend(value) if isinstance(container, list) else container.update(value)
        elif isinstance(self.holder, dict):
            self.holder[self.key] = value
        else:
            self.holder.cell_contents = value
        if self.structural:
            structure_changed()

    @property
    def id(self) -> tuple[int, Any]:
        """What tells places apart."""
        return id(self.holder), self.key


def tensors_of(x: Any) -> list[Tensor] | None:
    """The tensors of a tree of tuples, lists and dicts; ``None`` where it holds anything else but them and simple values."""
    if isinstance(x, Tensor):
        return [x]
    if x is None or x is MISSING or type(x) in (bool, int, float, str):
        return []
    if type(x) is dict:
        x = list(x.values())
    elif not (type(x) in (tuple, list) or (isinstance(x, tuple) and hasattr(x, "_fields"))):
        return None
    found: list[Tensor] = []
    for item in x:
        inner = tensors_of(item)
        if inner is None:
            return None
        found += inner
    return found


class Filled:
    """What is in some places before a trace."""

    def __init__(self, places: list[Place]) -> None:
        self.places = places
        self.values = [p.get() for p in places]
        self._tensors = [tensors_of(v) for v in self.values]

    def stores(self) -> list[tuple[Place, Any, bool]]:
        """The places that hold something else now, what, and whether it is in the same list or dict as before."""
        out = []
        for p, was, before in zip(self.places, self.values, self._tensors):
            now = p.get()
            after = tensors_of(now)
            if now is not was or before is None or after is None or len(before) != len(after) or any(
                    a is not b for a, b in zip(before, after)):
                out.append((p, now, now is was))
        return out


def moved(guard: StateGuard) -> list[Place]:
    """The places that hold other tensors than when ``guard`` was made. They are taken out of it; it may still fail for other reasons."""
    found: list[Place] = []

    def changed(old: Any, now: Any) -> bool:
        if now is old:
            return False
        a, b = tensors_of(old), tensors_of(now)
        return a is not None and b is not None and bool(a or b)

    def place(holder: Any, key: Any, old: Any, structural: bool = False) -> bool:
        p = Place(holder, key, structural)
        is_moved = changed(old, p.get())
        if is_moved:
            found.append(p)
        return is_moved

    guard.fast = [e for e in guard.fast if not (isinstance(e[0], dict) and place(*e))]
    guard.same = [e for e in guard.same if not (isinstance(e[0], dict) and place(*e))]
    guard.modules = [e for e in guard.modules if not place(*e, True)]
    guard.cells = [e for e in guard.cells if not place(e[0], None, e[1])]
    for now, old in guard.items:
        if isinstance(now, list) and len(now) == len(old) and any(a is not b for a, b in zip(now, old)) and changed(old, list(now)):
            found.append(Place(now, None))
    lists = {id(p.holder) for p in found if isinstance(p.holder, list)}
    if lists:
        guard.items = [e for e in guard.items if id(e[0]) not in lists]
        guard.lengths = [e for e in guard.lengths if id(e[0]) not in lists]
    return found
