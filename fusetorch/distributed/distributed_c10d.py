"""``torch.distributed.distributed_c10d``: the names of ``torch.distributed`` at their path in PyTorch."""
from . import *  # noqa: F403
from . import GroupMember, _group, default_pg_timeout, group

__all__ = ["GroupMember", "default_pg_timeout", "group"]


def _get_default_group() -> object:
    """The group of all processes; ``ValueError`` before there is one."""
    return _group()
