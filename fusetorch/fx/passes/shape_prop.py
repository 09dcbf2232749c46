"""Notes shape, dtype and layout of every node's result."""
from __future__ import annotations

from typing import Any, NamedTuple

import fusetorch as torch
from fusetorch.fx.interpreter import Interpreter
from fusetorch.fx.node import Node, map_aggregate

__all__ = ["ShapeProp", "TensorMetadata"]


class TensorMetadata(NamedTuple):
    """What is known of a result."""

    shape: torch.Size
    dtype: torch.dtype
    requires_grad: bool
    stride: tuple[int, ...]
    memory_format: Any
    is_quantized: bool
    qparams: dict[str, Any]


def _extract_tensor_metadata(result: torch.Tensor, include_contiguity: bool = True) -> TensorMetadata:
    formats = (torch.contiguous_format, torch.channels_last, torch.channels_last_3d)
    fits = {torch.channels_last: 4, torch.channels_last_3d: 5}
    memory_format = next((f for f in formats if result.dim() == fits.get(f, result.dim()) and result.is_contiguous(memory_format=f)), None)
    return TensorMetadata(result.shape, result.dtype, result.requires_grad, result.stride(), memory_format, False, {})


class ShapeProp(Interpreter):
    """Runs a graph and puts ``tensor_meta`` (a :class:`TensorMetadata`, or a nest of them) and ``type`` into each node's ``meta``.

    Example:
        >>> import fusetorch as torch
        >>> from fusetorch.fx.passes.shape_prop import ShapeProp
        >>> gm = torch.fx.symbolic_trace(lambda x: x.sum(0))
        >>> _ = ShapeProp(gm).propagate(torch.ones(2, 3))
        >>> [n.meta["tensor_meta"].shape for n in gm.graph.nodes]
        [torch.Size([2, 3]), torch.Size([3]), torch.Size([3])]
    """

    def __init__(self, gm: Any, fake_mode: Any = None) -> None:
        super().__init__(gm)

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        found = [False]

        def described(x: Any) -> Any:
            if isinstance(x, torch.Tensor):
                found[0] = True
                return _extract_tensor_metadata(x)
            return x

        meta = map_aggregate(result, described)
        if found[0]:
            n.meta["tensor_meta"] = meta
        n.meta["type"] = type(result)
        return result

    def propagate(self, *args: Any) -> Any:
        """Runs the graph on ``args``; its result."""
        return super().run(*args)
