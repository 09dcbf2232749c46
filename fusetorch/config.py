"""Settings: one table, each also an environment variable ``FUSETORCH_<NAME>``.

Read a setting as ``config.debug``; change it in code by assignment, or for a while with :func:`override`.
"""
from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any


def _cache_dir() -> str:
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(root, "fusetorch")


#: name: (default, meaning). The type of the default is the type of the setting.
SETTINGS: dict[str, tuple[Any, str]] = {
    "debug": (0, "1 recompiles, 2 fusion groups, 3 generated code, 4 IR after each pass; printed to stderr"),
    "cache_dir": (_cache_dir(), "folder of compiled kernels"),
    "cache": (True, "keep compiled kernels on disk"),
    "num_threads": (0, "CPU threads for native loops; 0 means all cores this process may use"),
    "simulate_cuda": (False, "make 'cuda' tensors live in NumPy memory and run Triton kernels in its interpreter"),
    "native_threshold": (64, "elements times steps from which a multi-step op on the CPU runs as a native loop instead of NumPy calls"),
    "parallel_threshold": (32768, "CPU elements from which a native loop uses several threads"),
    "fuse_limit": (-1, "fusion fuel: at most this many fusions are made; -1 means no limit"),
    "dump_dir": ("", "folder that receives IR and generated code of each compilation; empty means none"),
    "verify_ir": (False, "check every IR graph after tracing and after each pass (debug 4 does so too)"),
    "recompile_limit": (8, "compilations of one function after which a warning names the failing guard and only calls that recur are "
                           "compiled; eight times as many plans are kept"),
}

_values: dict[str, Any] = {}


def _parse(name: str, text: str, default: Any) -> Any:
    try:
        if isinstance(default, bool):
            return {"0": False, "false": False, "no": False, "": False, "1": True, "true": True, "yes": True}[text.lower()]
        return type(default)(text)
    except (KeyError, ValueError):
        raise ValueError(f"FUSETORCH_{name.upper()}={text!r}: expected a {type(default).__name__}") from None


for _name, (_default, _) in SETTINGS.items():
    _env = os.environ.get("FUSETORCH_" + _name.upper())
    _values[_name] = _default if _env is None else _parse(_name, _env, _default)
globals().update(_values)


@contextlib.contextmanager
def override(**settings: Any) -> Iterator[None]:
    """Changes settings inside a ``with`` block.

    Example:
        >>> from fusetorch import config
        >>> with config.override(num_threads=1):
        ...     config.num_threads
        1
    """
    unknown = [k for k in settings if k not in SETTINGS]
    if unknown:
        raise AttributeError(f"no setting named {unknown[0]!r}; the settings are: {', '.join(SETTINGS)}")
    g = globals()
    before = {k: g[k] for k in settings}
    g.update(settings)
    try:
        yield
    finally:
        g.update(before)
