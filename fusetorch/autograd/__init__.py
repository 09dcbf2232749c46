"""``torch.autograd``: the tape and its engine, modes, functions with gradients of one's own, and helpers."""
from __future__ import annotations

import importlib
from typing import Any

from .engine import (
    CopySlices,
    _Sink,
    backward,
    check_inplace,
    grad,
    rebase,
    refresh_view,
    replay,
    run_backward,
    watch,
)
from .gradcheck import gradcheck, gradgradcheck
from .modes import (
    GradMode,
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
    set_multithreading_enabled,
)
from .nodes import AccumulateGrad, Node, Saved, edge_of, edges_of, keep, next_order, set_history

__all__ = ["AccumulateGrad", "CopySlices", "GradMode", "Node", "Saved", "_Sink", "backward", "check_inplace", "edge_of", "enable_grad",
           "grad", "gradcheck", "gradgradcheck", "inference_mode", "is_grad_enabled", "is_inference_mode_enabled", "next_order", "no_grad",
           "rebase", "refresh_view", "replay", "run_backward", "set_grad_enabled", "set_history", "set_multithreading_enabled", "watch"]

# Above the engine in the layers, and seldom used: loaded on demand. Not so gradcheck: a later import of that module would put it in the
# place of the function.
_MODULES = ("anomaly_mode", "forward_ad", "function", "functional", "grad_mode", "graph", "profiler", "variable")
_NAMES = {"Function": "function", "once_differentiable": "function", "FunctionCtx": "function",
          "Variable": "variable", "detect_anomaly": "anomaly_mode", "set_detect_anomaly": "anomaly_mode"}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
        return value
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'fusetorch.autograd' has no attribute {name!r}")
