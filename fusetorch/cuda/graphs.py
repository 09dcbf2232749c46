"""``torch.cuda.CUDAGraph``: recording by hand is not offered."""
from __future__ import annotations

from typing import Any

_WHY = ("{} is not supported: fusetorch does not record CUDA graphs of eager code. Compile the step with torch.compile, which launches its "
        "few kernels from one plan.")


class CUDAGraph:
    """A type for annotations; making one raises ``NotImplementedError``."""

    def __init__(self, keep_graph: bool = False) -> None:
        raise NotImplementedError(_WHY.format("torch.cuda.CUDAGraph"))


def graph(*args: Any, **kwargs: Any) -> None:
    """Raises ``NotImplementedError``."""
    raise NotImplementedError(_WHY.format("torch.cuda.graph"))


def make_graphed_callables(*args: Any, **kwargs: Any) -> None:
    """Raises ``NotImplementedError``."""
    raise NotImplementedError(_WHY.format("torch.cuda.make_graphed_callables"))


def graph_pool_handle() -> None:
    """Raises ``NotImplementedError``."""
    raise NotImplementedError(_WHY.format("torch.cuda.graph_pool_handle"))
