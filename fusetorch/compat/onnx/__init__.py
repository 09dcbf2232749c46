"""``torch.onnx``: models cannot be exported to ONNX."""
from __future__ import annotations

from typing import Any


class OnnxExporterError(RuntimeError):
    """Export failed."""


def is_in_onnx_export() -> bool:
    """False: models are never run for export."""
    return False


def export(*args: Any, **kwargs: Any) -> None:
    """Raises :class:`OnnxExporterError`."""
    raise OnnxExporterError("torch.onnx.export is not supported: fusetorch cannot write ONNX. Save model.state_dict() with torch.save and "
                            "export it from PyTorch.")


dynamo_export = export


def register_custom_op_symbolic(symbolic_name: str, symbolic_fn: Any, opset_version: int) -> None:
    """Does nothing: there is no export that would use it."""
