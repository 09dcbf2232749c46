"""``torch.distributed`` in one process: a group of which this process is the only member, and collectives over it.

Programs written for several processes run as one of one: ``init_process_group`` with ``world_size=1`` (or with ``WORLD_SIZE=1`` in the
environment, as launchers set it) makes the group; more processes are refused. Before that, nothing is initialised.
"""
from __future__ import annotations

import datetime
import enum
import os
from collections.abc import Callable, Sequence
from typing import Any

from fusetorch.tensor import Tensor

__all__ = ["Backend", "P2POp", "ProcessGroup", "ReduceOp", "Work", "destroy_process_group", "get_backend", "get_global_rank",
           "get_group_rank", "get_node_local_rank", "get_process_group_ranks", "get_rank", "get_world_size", "group",
           "init_process_group", "is_available", "is_gloo_available", "is_initialized", "is_mpi_available", "is_nccl_available",
           "is_torchelastic_launched", "is_ucc_available", "new_group"]

default_pg_timeout = datetime.timedelta(minutes=30)


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


reduce_op = ReduceOp


class Backend(str):
    """Names of libraries that connect processes."""

    UNDEFINED, GLOO, NCCL, UCC, MPI, XCCL = "undefined", "gloo", "nccl", "ucc", "mpi", "xccl"

    def __new__(cls, name: str) -> Backend:
        if not isinstance(name, str):
            raise ValueError(f"Backend constructor parameter must be string-ish, got {name!r}")
        return str.__new__(cls, name.lower())


class ProcessGroup:
    """Processes that work together: this one alone."""

    def __init__(self, backend: str = "gloo") -> None:
        self.backend = backend

    def rank(self) -> int:
        """0."""
        return 0

    def size(self) -> int:
        """1."""
        return 1

    def name(self) -> str:
        """The backend's name."""
        return self.backend


class Work:
    """A collective that has been done."""

    def __init__(self, result: Any = None) -> None:
        self._result = result

    def wait(self, timeout: Any = None) -> bool:
        """True: it is done."""
        return True

    def is_completed(self) -> bool:
        """True."""
        return True

    is_success = is_completed

    def result(self) -> Any:
        """The tensors that it wrote."""
        return self._result

    def get_future(self) -> Any:
        """A future that holds the result."""
        from fusetorch.futures import Future
        f: Any = Future()
        f.set_result(self._result)
        return f


class _Groups(type):
    """The group of all processes, once there is one."""

    world: ProcessGroup | None = None

    @property
    def WORLD(cls) -> ProcessGroup | None:  # noqa: N802 - PyTorch's name
        """The group of all processes."""
        return _Groups.world


class group(metaclass=_Groups):
    """``group.WORLD``: the group of all processes, or ``None`` before there is one."""


class GroupMember(metaclass=_Groups):
    """PyTorch's former name of :class:`group`."""

    NON_GROUP_MEMBER: Any = -100


def is_available() -> bool:
    """Whether there is a process group, or a launcher that expects one. There is nothing to connect to other processes with."""
    return is_initialized() or "RANK" in os.environ


def is_initialized() -> bool:
    """Whether :func:`init_process_group` was called."""
    return _Groups.world is not None


def is_nccl_available() -> bool:
    """False: there is one process."""
    return False


def is_gloo_available() -> bool:
    """False: there is one process."""
    return False


def is_mpi_available() -> bool:
    """False: there is one process."""
    return False


def is_ucc_available() -> bool:
    """False: there is one process."""
    return False


def is_xccl_available() -> bool:
    """False: there is one process."""
    return False


def is_torchelastic_launched() -> bool:
    """Whether PyTorch's launcher started this process."""
    return os.environ.get("TORCHELASTIC_RUN_ID") is not None


# ---- groups


def init_process_group(backend: str | None = None, init_method: str | None = None, timeout: Any = None, world_size: int = -1,
                       rank: int = -1, store: Any = None, group_name: str = "", pg_options: Any = None, device_id: Any = None) -> None:
    """Makes the group of all processes, which is this one.

    Size and rank come from the arguments, or from ``WORLD_SIZE`` and ``RANK`` in the environment. Raises ``RuntimeError`` for more than one
    process, ``ValueError`` where size or rank are not given, or a second time.

    Example:
        >>> import fusetorch.distributed as dist
        >>> dist.init_process_group("gloo", world_size=1, rank=0)
        >>> dist.get_rank(), dist.get_world_size()
        (0, 1)
        >>> dist.destroy_process_group()
    """
    if is_initialized():
        raise ValueError("trying to initialize the default process group twice!")
    if store is None and (init_method is None or init_method.startswith("env://")):
        rank = _from_environment("RANK", rank)
        world_size = _from_environment("WORLD_SIZE", world_size)
    elif rank < 0 or world_size < 1:
        raise ValueError(f"Error initializing torch.distributed using {init_method or 'a store'}: rank and world_size must be given")
    if world_size != 1 or rank != 0:
        raise RuntimeError(f"torch.distributed.init_process_group: rank {rank} of {world_size} processes: fusetorch runs in one process. "
                           "Start the program with one (WORLD_SIZE=1, RANK=0), or leave init_process_group out")
    _Groups.world = ProcessGroup(Backend(backend or "gloo"))


def _from_environment(name: str, given: int) -> int:
    if given >= 0:
        return given
    if name not in os.environ:
        raise ValueError(f"Error initializing torch.distributed using env:// rendezvous: environment variable {name} expected, but not set")
    return int(os.environ[name])


def destroy_process_group(group: Any = None) -> None:
    """Gives the group up."""
    if group is None or group is _Groups.world:
        _Groups.world = None


def _group(given: Any = None) -> ProcessGroup:
    found = _Groups.world if given is None else given
    if not isinstance(found, ProcessGroup):
        raise ValueError("Default process group has not been initialized, please make sure to call init_process_group.")
    return found


def new_group(ranks: Sequence[int] | None = None, timeout: Any = None, backend: str | None = None, pg_options: Any = None,
              use_local_synchronization: bool = False, group_desc: str | None = None, device_id: Any = None) -> ProcessGroup:
    """A group of this process."""
    world = _group()
    if ranks is not None and list(ranks) != [0]:
        raise ValueError(f"new_group: there is only rank 0, got {list(ranks)}")
    return ProcessGroup(Backend(backend or world.backend))


def get_rank(group: Any = None) -> int:
    """The number of this process: 0."""
    return _group(group).rank()


def get_world_size(group: Any = None) -> int:
    """How many processes there are: 1."""
    return _group(group).size()


def get_backend(group: Any = None) -> str:
    """The backend that the group was made with."""
    return _group(group).backend


def get_process_group_ranks(group: Any) -> list[int]:
    """``[0]``."""
    _group(group)
    return [0]


def get_global_rank(group: Any, group_rank: int) -> int:
    """The number of a member among all processes."""
    return _rank(group_rank, group)


def get_group_rank(group: Any, global_rank: int) -> int:
    """The number of a process in a group."""
    return _rank(global_rank, group)


def get_node_local_rank(fallback_rank: int | None = None) -> int:
    """The number that a launcher gave this process on its machine."""
    if "LOCAL_RANK" in os.environ:
        return int(os.environ["LOCAL_RANK"])
    if fallback_rank is None:
        raise RuntimeError("LOCAL_RANK is not in the environment. Consider passing fallback_rank to allow `get_node_local_rank` to work")
    return int(fallback_rank)


def _rank(rank: Any, group: Any = None) -> int:
    _group(group)
    if rank not in (0, None):
        raise ValueError(f"invalid rank {rank}: there is only rank 0")
    return 0


# ---- collectives: over one process, each gives it its own share


def _done(async_op: bool, result: Any) -> Work | None:
    return Work(result) if async_op else None


def _one(tensors: Any, what: str) -> Any:
    if not isinstance(tensors, (list, tuple)) or len(tensors) != 1:
        raise ValueError(f"{what} must be a list of one, as there is one process")
    return tensors[0]


def all_reduce(tensor: Tensor, op: ReduceOp = ReduceOp.SUM, group: Any = None, async_op: bool = False) -> Work | None:
    """Sums (or ``op``) over all processes: leaves the tensor as it is."""
    _group(group)
    return _done(async_op, [tensor])


def reduce(tensor: Tensor, dst: int | None = None, op: ReduceOp = ReduceOp.SUM, group: Any = None, async_op: bool = False,
           group_dst: int | None = None) -> Work | None:
    """:func:`all_reduce` for one process."""
    _rank(dst, group)
    return _done(async_op, [tensor])


def broadcast(tensor: Tensor, src: int | None = None, group: Any = None, async_op: bool = False,
              group_src: int | None = None) -> Work | None:
    """Makes the tensor that of process ``src``: leaves it as it is."""
    _rank(src, group)
    return _done(async_op, [tensor])


def all_gather(tensor_list: list[Tensor], tensor: Tensor, group: Any = None, async_op: bool = False) -> Work | None:
    """Puts the tensors of all processes into a list: copies this one's."""
    _group(group)
    _one(tensor_list, "tensor_list").copy_(tensor)
    return _done(async_op, tensor_list)


def all_gather_into_tensor(output_tensor: Tensor, input_tensor: Tensor, group: Any = None, async_op: bool = False) -> Work | None:
    """Puts the tensors of all processes one after the other."""
    _group(group)
    output_tensor.view(-1).copy_(input_tensor.reshape(-1))
    return _done(async_op, [output_tensor])


def gather(tensor: Tensor, gather_list: list[Tensor] | None = None, dst: int | None = None, group: Any = None, async_op: bool = False,
           group_dst: int | None = None) -> Work | None:
    """:func:`all_gather` for one process."""
    _rank(dst, group)
    return all_gather(gather_list, tensor, group, async_op)


def scatter(tensor: Tensor, scatter_list: list[Tensor] | None = None, src: int | None = None, group: Any = None, async_op: bool = False,
            group_src: int | None = None) -> Work | None:
    """Gives each process one of a list's tensors."""
    _rank(src, group)
    tensor.copy_(_one(scatter_list, "scatter_list"))
    return _done(async_op, [tensor])


def reduce_scatter(output: Tensor, input_list: list[Tensor], op: ReduceOp = ReduceOp.SUM, group: Any = None,
                   async_op: bool = False) -> Work | None:
    """Reduces lists over all processes and gives each one element."""
    _group(group)
    output.copy_(_one(input_list, "input_list"))
    return _done(async_op, [output])


def reduce_scatter_tensor(output: Tensor, input: Tensor, op: ReduceOp = ReduceOp.SUM, group: Any = None,
                          async_op: bool = False) -> Work | None:
    """Reduces tensors over all processes and gives each its part."""
    return all_gather_into_tensor(output, input, group, async_op)


def all_to_all(output_tensor_list: list[Tensor], input_tensor_list: list[Tensor], group: Any = None,
               async_op: bool = False) -> Work | None:
    """Sends each process one of a list's tensors and takes one from each."""
    _group(group)
    _one(output_tensor_list, "output_tensor_list").copy_(_one(input_tensor_list, "input_tensor_list"))
    return _done(async_op, output_tensor_list)


def all_to_all_single(output: Tensor, input: Tensor, output_split_sizes: list[int] | None = None,
                      input_split_sizes: list[int] | None = None, group: Any = None, async_op: bool = False) -> Work | None:
    """Sends each process a part of a tensor and takes one from each."""
    _group(group)
    output.copy_(input)
    return _done(async_op, [output])


all_gather_single, reduce_scatter_single = all_gather_into_tensor, reduce_scatter_tensor


def barrier(group: Any = None, async_op: bool = False, device_ids: Any = None) -> Work | None:
    """Waits for all processes."""
    _group(group)
    return _done(async_op, None)


def monitored_barrier(group: Any = None, timeout: Any = None, wait_all_ranks: bool = False) -> None:
    """Waits for all processes."""
    _group(group)


def all_gather_object(object_list: list[Any], obj: Any, group: Any = None) -> None:
    """Puts the objects of all processes into a list."""
    _group(group)
    object_list[0] = obj


def gather_object(obj: Any, object_gather_list: list[Any] | None = None, dst: int | None = None, group: Any = None,
                  group_dst: int | None = None) -> None:
    """Puts the objects of all processes into a list of one process."""
    _rank(dst, group)
    object_gather_list[0] = obj


def broadcast_object_list(object_list: list[Any], src: int | None = None, group: Any = None, device: Any = None,
                          group_src: int | None = None) -> None:
    """Makes a list that of process ``src``."""
    _rank(src, group)


def scatter_object_list(scatter_object_output_list: list[Any], scatter_object_input_list: list[Any] | None = None,
                        src: int | None = None, group: Any = None, group_src: int | None = None) -> None:
    """Gives each process one of a list's objects."""
    _rank(src, group)
    scatter_object_output_list[0] = _one(scatter_object_input_list, "scatter_object_input_list")


def _no_partner(name: str) -> Callable[..., Any]:
    def f(tensor: Any, rank: int | None = None, group: Any = None, *args: Any, **kwargs: Any) -> Any:
        _group(group)
        raise ValueError(f"torch.distributed.{name}: there is no other process: this one, rank 0, is the only one")
    f.__name__ = f.__qualname__ = name
    f.__doc__ = "Raises ``ValueError``: there is no other process."
    return f


send, recv, isend, irecv = map(_no_partner, ("send", "recv", "isend", "irecv"))


class P2POp:
    """A message to another process, for :func:`batch_isend_irecv`."""

    def __init__(self, op: Callable, tensor: Tensor, peer: int | None = None, group: Any = None, tag: int = 0,
                 group_peer: int | None = None) -> None:
        self.op, self.tensor, self.peer, self.group, self.tag = op, tensor, peer, group, tag


def batch_isend_irecv(p2p_op_list: list[P2POp]) -> list[Work]:
    """Sends and receives messages: raises ``ValueError`` as there is no other process."""
    return [p.op(p.tensor, p.peer, p.group) for p in p2p_op_list]


__all__ += ["all_gather", "all_gather_into_tensor", "all_gather_object", "all_gather_single", "all_reduce", "all_to_all",
            "all_to_all_single", "barrier", "batch_isend_irecv", "broadcast", "broadcast_object_list", "gather", "gather_object", "irecv",
            "isend", "monitored_barrier", "recv", "reduce", "reduce_scatter", "reduce_scatter_single", "reduce_scatter_tensor", "scatter",
            "scatter_object_list", "send"]


def __getattr__(name: str) -> Any:
    if name in ("distributed_c10d", "elastic", "nn", "optim"):
        import importlib
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'fusetorch.distributed' has no attribute {name!r}: fusetorch does not have torch.distributed.{name}")
