"""Anomaly detection: where in the forward pass a bad gradient comes from."""
from __future__ import annotations

import os
import traceback
import warnings
from pathlib import Path
from typing import Any

from .. import dispatch
from ..ops.opdef import fn
from ..tensor import Tensor
from . import engine
from .nodes import Node

__all__ = ["detect_anomaly", "set_detect_anomaly", "is_anomaly_enabled", "is_anomaly_check_nan_enabled", "set_anomaly_enabled"]


class _State:
    enabled = False
    check_nan = True
    limit = 0


_plain_init = Node.__init__
_PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep


def _recording_init(self: Node, edges: tuple, n_outputs: int = 1) -> None:
    _plain_init(self, edges, n_outputs)
    frames = [f for f in traceback.extract_stack() if not f.filename.startswith((_PACKAGE, "<fusetorch functions>"))]
    self.where = "".join(traceback.format_list(frames))


def _run(node: Node, incoming: list[Tensor | None]) -> Any:
    try:
        out = node.backward(incoming)
    except RuntimeError:
        _tell(node)
        raise
    if _State.check_nan:
        for i, g in enumerate(out):
            if g is not None and g.dtype.category >= 2 and bool(fn.isnan(g).any()):
                _tell(node)
                raise RuntimeError(f"Function '{node.name()}' returned nan values in its {i}th output.")
    return out


def _tell(node: Node) -> None:
    if node.where is None:
        warnings.warn(f"Error detected in {node.name()}. No forward pass information available. Enable detect anomaly during forward pass "
                      "for more information.", UserWarning, stacklevel=4)
    else:
        warnings.warn(f"Error detected in {node.name()}. Traceback of forward call that caused the error:\n{node.where}", UserWarning,
                      stacklevel=4)


def set_anomaly_enabled(mode: bool, check_nan: bool = True) -> None:
    """Switches anomaly detection for the whole process. While it is on, operations take no short cuts."""
    if mode and not _State.enabled:
        _State.limit, dispatch.fast_limit[0] = dispatch.fast_limit[0], -1
        Node.__init__ = _recording_init  # type: ignore[method-assign]
        engine.anomaly[0] = _run
    elif not mode and _State.enabled:
        dispatch.fast_limit[0] = _State.limit
        Node.__init__ = _plain_init  # type: ignore[method-assign]
        engine.anomaly[0] = None
    _State.enabled, _State.check_nan = bool(mode), check_nan


def is_anomaly_enabled() -> bool:
    """Whether anomaly detection is on."""
    return _State.enabled


def is_anomaly_check_nan_enabled() -> bool:
    """Whether it looks for NaN."""
    return _State.check_nan


class set_detect_anomaly:
    """Switches anomaly detection, as a call or for a block: each operation remembers its stack, a backward pass that fails or (with
    ``check_nan``) gives NaN names it in a warning, and NaN raises ``RuntimeError``.

    Example:
        >>> import fusetorch as torch
        >>> x = torch.tensor(-1.0, requires_grad=True)
        >>> with torch.autograd.set_detect_anomaly(True):
        ...     y = x.sqrt()
    """

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self.before = _State.enabled, _State.check_nan
        set_anomaly_enabled(mode, check_nan)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        set_anomaly_enabled(*self.before)


class detect_anomaly:
    """Anomaly detection for a block; see :class:`set_detect_anomaly`."""

    def __init__(self, check_nan: bool = True) -> None:
        self.check_nan = check_nan
        self.before = _State.enabled, _State.check_nan
        warnings.warn("Anomaly Detection has been enabled. This mode will increase the runtime and should only be enabled for debugging.",
                      stacklevel=2)

    def __enter__(self) -> None:
        self.before = _State.enabled, _State.check_nan
        set_anomaly_enabled(True, self.check_nan)

    def __exit__(self, *exc: object) -> None:
        set_anomaly_enabled(*self.before)
