"""``torch.distributed``: fusetorch runs in one process. What asks whether there are others answers no; what needs them raises."""
from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from fusetorch.errors import refusal

__all__ = ["Backend", "ProcessGroup", "ReduceOp", "get_rank", "get_world_size", "init_process_group", "is_available", "is_initialized"]


class ReduceOp(enum.Enum):
    """Kinds of reduction over processes."""

    SUM = 0
    AVG = 1
    PRODUCT = 2
    MIN = 3
    MAX = 4
    BAND = 5
    BOR = 6
    BXOR = 7


class Backend(str):
    """Names of libraries that connect processes."""

    UNDEFINED, GLOO, NCCL, UCC, MPI, XCCL = "undefined", "gloo", "nccl", "ucc", "mpi", "xccl"


class ProcessGroup:
    """Several processes; there is none."""


class group:
    """The group of all processes; there is none."""

    WORLD: Any = None


class GroupMember:
    """PyTorch's former name of :class:`group`."""

    WORLD: Any = None
    NON_GROUP_MEMBER: Any = object()


def is_available() -> bool:
    """False: there is only one process."""
    return False


def is_initialized() -> bool:
    """False."""
    return False


def is_nccl_available() -> bool:
    """False."""
    return False


def is_gloo_available() -> bool:
    """False."""
    return False


def is_mpi_available() -> bool:
    """False."""
    return False


def is_ucc_available() -> bool:
    """False."""
    return False


def is_torchelastic_launched() -> bool:
    """False."""
    return False


def init_process_group(*args: Any, **kwargs: Any) -> None:
    """Raises ``RuntimeError``: there is no training on several processes."""
    raise RuntimeError("torch.distributed is not available: fusetorch runs in one process. Programs that ask "
                       "torch.distributed.is_available() run without it; otherwise leave init_process_group out.")


def destroy_process_group(group: Any = None) -> None:
    """Nothing to destroy."""


def _needs_group(name: str) -> Callable[..., Any]:
    return refusal(name, ValueError, f"torch.distributed.{name}: Default process group has not been initialized, please make sure to call "
                                     "init_process_group. (fusetorch runs in one process and has none.)")


get_rank = _needs_group("get_rank")
get_world_size = _needs_group("get_world_size")
for _name in ("all_gather", "all_gather_into_tensor", "all_gather_object", "all_reduce", "all_to_all", "all_to_all_single", "barrier",
              "broadcast", "broadcast_object_list", "gather", "gather_object", "get_backend", "irecv", "isend", "monitored_barrier",
              "new_group", "recv", "reduce", "reduce_scatter", "reduce_scatter_tensor", "scatter", "scatter_object_list", "send"):
    globals()[_name] = _needs_group(_name)
    __all__.append(_name)
del _name
