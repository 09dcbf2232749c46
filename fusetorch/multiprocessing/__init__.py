"""``torch.multiprocessing``: :mod:`multiprocessing`. A tensor sent to another process is copied, unless ``share_memory_()`` was called."""
from __future__ import annotations

import multiprocessing
import multiprocessing.connection
from collections.abc import Callable
from multiprocessing import *  # noqa: F403
from typing import Any

from fusetorch.multiprocessing.spawn import (
    ProcessContext,
    ProcessException,
    ProcessExitedException,
    ProcessRaisedException,
    spawn,
)

__all__ = [*multiprocessing.__all__, "ProcessContext", "ProcessException", "ProcessExitedException", "ProcessRaisedException",
           "get_all_sharing_strategies", "get_sharing_strategy", "set_sharing_strategy", "spawn", "start_processes"]

connection = multiprocessing.connection


def get_all_sharing_strategies() -> set[str]:
    """The strategies that may be named; tensors are copied with any."""
    return {"file_descriptor", "file_system"}


_strategy = ["file_descriptor"]


def set_sharing_strategy(new_strategy: str) -> None:
    """Keeps the name; tensors are copied with any."""
    if new_strategy not in get_all_sharing_strategies():
        raise AssertionError(f"unknown sharing strategy {new_strategy!r}")
    _strategy[0] = new_strategy


def get_sharing_strategy() -> str:
    """What :func:`set_sharing_strategy` set."""
    return _strategy[0]


def start_processes(fn: Callable, args: tuple = (), nprocs: int = 1, join: bool = True, daemon: bool = False,
                    start_method: str = "spawn") -> Any:
    """:func:`spawn` with a choice of how processes start."""
    return spawn(fn, args, nprocs, join, daemon, start_method)
