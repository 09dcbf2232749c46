"""What weight and spectral normalisation by hooks share: a parameter has at most one hook of a kind, which can be taken off again."""
from __future__ import annotations

from typing import Any

from fusetorch.nn.module import Module


class ParameterHook:
    """A hook before the forward that computes the parameter ``name``; ``remove(module)`` makes it an ordinary one again."""

    kind: str  #: what errors call it
    name: str

    def remove(self, module: Module) -> None:
        """Makes the parameter an ordinary one."""
        raise NotImplementedError

    @classmethod
    def _on(cls, module: Module, name: str) -> list[tuple[int, Any]]:
        return [(key, hook) for key, hook in module._forward_pre_hooks.items() if isinstance(hook, cls) and hook.name == name]

    @classmethod
    def check_free(cls, module: Module, name: str) -> None:
        """``RuntimeError`` where the parameter has such a hook."""
        if cls._on(module, name):
            raise RuntimeError(f"Cannot register two {cls.kind} hooks on the same parameter {name}")

    @classmethod
    def take_off(cls, module: Module, name: str) -> None:
        """Removes the hook of a parameter; ``ValueError`` where there is none."""
        found = cls._on(module, name)
        if not found:
            raise ValueError(f"{cls.kind} of '{name}' not found in {module}")
        key, hook = found[0]
        hook.remove(module)
        del module._forward_pre_hooks[key]
