"""``config.patch`` of modules that hold settings."""
from __future__ import annotations

import contextlib
from typing import Any


class Patch(contextlib.ContextDecorator):
    """``patch(name=value)``, ``patch({"name": value})`` or ``patch("name", value)``: settings for a block or in the decorated function.

    ``settings`` are the module's variables.
    """

    def __init__(self, settings: dict[str, Any], arg: str | dict[str, Any] | None = None, value: Any = None, /, **changes: Any) -> None:
        self._settings = settings
        self._changes = {arg: value} if isinstance(arg, str) else dict(arg or changes)
        self._before: list[dict[str, Any]] = []     # of blocks within each other

    def __enter__(self) -> None:
        self._before.append({k: self._settings[k] for k in self._changes if k in self._settings})
        self._settings.update(self._changes)

    def __exit__(self, *error: object) -> None:
        for k in self._changes:
            self._settings.pop(k, None)
        self._settings.update(self._before.pop())
