"""Handles of registered hooks."""
from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable, MutableMapping
from typing import Any

_ids = itertools.count()


class RemovableHandle:
    """What ``register_*_hook`` returns: ``remove()`` unregisters the hook; as a context manager it does so on exit.

    Example:
        >>> import fusetorch as torch
        >>> layer = torch.nn.ReLU()
        >>> with layer.register_forward_hook(lambda module, args, output: output + 1):
        ...     layer(torch.zeros(2))
        tensor([1., 1.])
        >>> layer(torch.zeros(2))
        tensor([0., 0.])
    """

    def __init__(self, hooks: MutableMapping[int, Any], entry: Any, prepend: bool = False,
                 flags: Iterable[MutableMapping[int, bool]] = ()) -> None:
        self.id = next(_ids)
        self._hooks = weakref.ref(hooks)
        self._flags = [weakref.ref(flag) for flag in flags]
        hooks[self.id] = entry
        for flag in flags:
            flag[self.id] = True
        if prepend:
            hooks.move_to_end(self.id, last=False)

    def remove(self) -> None:
        """Unregisters the hook; does nothing when it is already gone."""
        for ref in (self._hooks, *self._flags):
            table = ref()
            if table is not None:
                table.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()
