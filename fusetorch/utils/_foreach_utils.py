"""``torch.utils._foreach_utils``: lists of tensors sorted for ``torch._foreach_*``."""
from __future__ import annotations

from typing import Any

from fusetorch.tensor import Tensor

__all__: list[str] = []


def _group_tensors_by_device_and_dtype(tensorlistlist: list[list[Tensor | None]], with_indices: bool = False) -> dict:
    """Lists of equal length, cut into those of one device and dtype, that of the first list's tensors:
    ``{(device, dtype): (lists, indices)}``. The indices are the places in the lists, or empty unless asked for."""
    groups: dict[Any, tuple[list[list], list[int]]] = {}
    for i, row in enumerate(zip(*tensorlistlist)):
        lists, indices = groups.setdefault((row[0].device, row[0].dtype), ([[] for _ in tensorlistlist], []))
        for column, t in zip(lists, row):
            column.append(t)
        if with_indices:
            indices.append(i)
    return {key: ([column if any(t is not None for t in column) else [] for column in lists], indices)
            for key, (lists, indices) in groups.items()}
