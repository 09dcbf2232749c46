"""The ways of reducing losses, as losses written for PyTorch look them up."""
from __future__ import annotations

from fusetorch.ops.losses import loss_reduction


def get_enum(reduction: str) -> int:
    """PyTorch's number of a reduction: 0 none, 1 mean, 2 sum."""
    if reduction == "elementwise_mean":
        reduction = "mean"
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return ("none", "mean", "sum").index(reduction)


def legacy_get_string(size_average: bool | None, reduce: bool | None, emit_warning: bool = True) -> str:
    """The reduction that the deprecated arguments ask for."""
    if emit_warning:
        return loss_reduction("mean", True if size_average is None else size_average, reduce)
    return "none" if reduce is False else "sum" if size_average is False else "mean"


def legacy_get_enum(size_average: bool | None, reduce: bool | None, emit_warning: bool = True) -> int:
    """The same as a number."""
    return get_enum(legacy_get_string(size_average, reduce, emit_warning))
