"""The modules that a function calls, each compiled by itself: what remains to be gained where the function as a whole runs eagerly."""
from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import Any

from .. import dispatch
from ..autograd.nodes import packers
from ..tensor import module_hook

#: A function that makes ever new modules does not get plans for more than so many of them.
_MOST = 1000


class Parts:
    """A context manager in which the modules that this thread calls run compiled, but for ``root``, whose own forward it is.

    A module counts if it has modules of its own or is of a user's class: a single layer gains nothing. One that cannot be compiled as a
    whole is taken apart in the same way.

    Args:
        root: the function, method or module that runs eagerly.
        make: compiles a callable.
    """

    def __init__(self, root: Any, make: Callable[[Any], Callable]) -> None:
        self._root, self._make = getattr(root, "__self__", root), make
        self._made: dict[int, tuple[Any, Callable | None]] = {}     # by id: the module, what is called instead
        self._threads: list[int] = []

    def __enter__(self) -> None:
        self._threads.append(get_ident())
        module_hook.append(self._compiled)

    def __exit__(self, *error: object) -> None:
        self._threads.remove(get_ident())
        module_hook.remove(self._compiled)

    def _compiled(self, module: Any) -> Callable | None:
        """What a module's call runs instead of the module."""
        if get_ident() not in self._threads or dispatch.active_tracer() is not None or packers or module is self._root:
            return None
        found = self._made.get(id(module))
        if found is None:
            if len(self._made) >= _MOST:
                return None
            own = type(module).__module__.partition(".")[0] == "fusetorch"
            fits = "_compiled" not in module.__dict__ and (bool(module._modules) or not own)
            found = self._made[id(module)] = module, self._make(module._call_impl) if fits else None
        return found[1]
