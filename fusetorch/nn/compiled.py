"""What ``fusetorch.compile(module)`` returns: a module whose calls run compiled."""
from __future__ import annotations

from typing import Any

from .module import Module


class OptimizedModule(Module):
    """A module around another one. Calls go through the compiler; everything else is the original module's.

    As in PyTorch, its ``state_dict`` has the original's entries under ``_orig_mod.``, and attributes that are set become the original's.

    Example:
        >>> import fusetorch as torch
        >>> m = torch.compile(torch.nn.Linear(2, 3))
        >>> m(torch.ones(1, 2)).shape
        torch.Size([1, 3])
    """

    def __init__(self, module: Module, compiled: Any) -> None:
        super().__init__()
        self.training = module.training
        super().__setattr__("_orig_mod", module)
        object.__setattr__(self, "_compiled", compiled)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the original module, compiled."""
        return self._compiled(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name in ("explain", "source", "verify", "compare", "warmup", "cache_info"):
            return getattr(self._compiled, name)
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "_orig_mod":
                raise
            return getattr(self._orig_mod, name)

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__.get("_modules", ())
        if "_orig_mod" not in own or name in self.__dict__ or hasattr(type(self), name):
            super().__setattr__(name, value)
        else:
            setattr(own["_orig_mod"], name, value)

    def __delattr__(self, name: str) -> None:
        if name in self.__dict__:
            super().__delattr__(name)
        else:
            delattr(self._orig_mod, name)

    def __len__(self) -> int:
        return len(self._orig_mod)

    def __getitem__(self, i: Any) -> Any:
        return self._orig_mod[i]
