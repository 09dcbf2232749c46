"""Making a trained network's graph smaller: batch norm folded into convolutions, dropout left out."""
from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import fusetorch as torch
from fusetorch import fx, nn
from fusetorch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["fuse", "matches_module_pattern", "remove_dropout", "replace_node_module"]


def _parent_name(target: str) -> tuple[str, str]:
    """``"a.b.c"`` as ``("a.b", "c")``."""
    parent, _, name = target.rpartition(".")
    return parent, name


def matches_module_pattern(pattern: Iterable[type], node: fx.Node, modules: dict[str, Any]) -> bool:
    """Whether ``node`` calls a module of the second class of ``pattern`` on the result of one of the first."""
    if not node.args:
        return False
    for kind, at in zip(pattern, (node.args[0], node)):
        if not isinstance(at, fx.Node) or at.op != "call_module" or type(modules.get(at.target)) is not kind:
            return False
    return True


def replace_node_module(node: fx.Node, modules: dict[str, Any], new_module: nn.Module) -> None:
    """Puts another module where the one that ``node`` calls is."""
    parent, name = _parent_name(node.target)
    modules[node.target] = new_module
    setattr(modules[parent], name, new_module)


def fuse(model: nn.Module, inplace: bool = False, no_trace: bool = False) -> nn.Module:
    """A model in evaluation mode whose batch norms after convolutions are folded into their weights.

    Example:
        >>> import fusetorch as torch
        >>> from fusetorch.fx.experimental.optimization import fuse
        >>> fused = fuse(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).eval())
        >>> [type(m).__name__ for m in fused.children()]
        ['Conv2d']
    """
    patterns = [(nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d)]
    if not inplace:
        model = copy.deepcopy(model)
    traced = model if no_trace and isinstance(model, fx.GraphModule) else fx.symbolic_trace(model)
    modules = dict(traced.named_modules())
    for pattern in patterns:
        for node in list(traced.graph.nodes):
            if matches_module_pattern(pattern, node, modules):
                if len(node.args[0].users) > 1:  # the convolution's own result is used, too
                    continue
                conv, bn = modules[node.args[0].target], modules[node.target]
                if not bn.track_running_stats:
                    continue
                replace_node_module(node.args[0], modules, fuse_conv_bn_eval(conv, bn))
                node.replace_all_uses_with(node.args[0])
                traced.graph.erase_node(node)
    traced.recompile()
    traced.delete_all_unused_submodules()
    return traced


def remove_dropout(model: nn.Module) -> nn.Module:
    """The model's graph without dropout layers."""
    traced = fx.symbolic_trace(model)

    class Without(torch.fx.Transformer):
        """Hands the input of dropout on."""

        def call_module(self, target: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
            if isinstance(self.submodules[target], nn.Dropout):
                return args[0]
            return super().call_module(target, args, kwargs)

    return Without(traced).transform()
