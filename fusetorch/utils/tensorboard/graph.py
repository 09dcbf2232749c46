"""A model's operations as TensorBoard's graph: the model runs once as it is traced for compilation, on symbolic arrays."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.versions_pb2 import VersionDef

import fusetorch as torch
from fusetorch.compiler.ir import Node, Value
from fusetorch.compiler.trace import Tracer
from fusetorch.nn.module import Module, register_module_forward_hook, register_module_forward_pre_hook


def model_graph(model: Module, inputs: Any) -> GraphDef:
    """The graph of ``model(*inputs)`` (a lone tensor is one input), its nodes named by the modules that they ran in. ``RuntimeError`` where
    what the model does depends on values of tensors."""
    inputs = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
    tracer = Tracer(fullgraph=True)
    state = torch.get_rng_state()
    try:
        with torch.no_grad(), tracer, _scopes(model, tracer) as scopes:
            result = model(*inputs)
            tracer.graph.outputs = [tracer.read(t._a) for t in torch.utils._pytree.tree_leaves(result) if isinstance(t, torch.Tensor)]
    finally:
        tracer.restore()
        torch.set_rng_state(state)
    parameters = {id(array): name for name, t in (*model.named_parameters(), *model.named_buffers()) for array in (t._a,)}
    names = {id(s.value.node if s.initial is None else s.initial.node): parameters[id(s.real)].replace(".", "/")
             for s in tracer.inputs if id(s.real) in parameters}
    return _definition(tracer, scopes, names)


@contextmanager
def _scopes(model: Module, tracer: Tracer) -> Iterator[dict[int, str]]:
    """Node number to the path of the innermost module that was running when it was made."""
    paths = {id(m): "/".join([type(model).__name__, *(part for part in name.split(".") if part)]) for name, m in model.named_modules()}
    scopes: dict[int, str] = {}
    begun: list[int] = []

    def before(module: Module, args: Any) -> None:
        begun.append(len(tracer.graph.nodes))

    def after(module: Module, args: Any, output: Any) -> None:
        for k in range(begun.pop(), len(tracer.graph.nodes)):
            scopes.setdefault(k, paths.get(id(module), type(module).__name__))

    hooks = register_module_forward_pre_hook(before), register_module_forward_hook(after)
    try:
        yield scopes
    finally:
        for hook in hooks:
            hook.remove()


def _definition(tracer: Tracer, scopes: dict[int, str], given: dict[int, str]) -> GraphDef:
    graph, names, taken, made = tracer.graph, {}, {}, []
    for node in graph.live():
        scope = "input" if node.kind == "input" else scopes.get(node.id, "")
        base = given.get(id(node)) or "/".join(filter(None, (scope, node.attrs["name"] if node.kind == "input" else node.name)))
        taken[base] = n = taken.get(base, 0) + 1
        names[node.id] = base if n == 1 else f"{base}_{n}"
        made.append(NodeDef(name=names[node.id], op=_kind(node), input=[_input(v, names) for v in node.inputs], attr={
            "_output_shapes": AttrValue(list=AttrValue.ListValue(shape=[_shape(v) for v in node.outputs])),
            "dtype": AttrValue(s=str(node.outputs[0].dtype).encode())}))
    for k, v in enumerate(graph.outputs):
        made.append(NodeDef(name=f"output/output.{k + 1}", op="IO Node", input=[_input(v, names)]))
    return GraphDef(node=made, versions=VersionDef(producer=22))


def _kind(node: Node) -> str:
    return "IO Node" if node.kind == "input" else node.name


def _input(v: Value, names: dict[int, str]) -> str:
    return names[v.node.id] + (f":{v.index}" if v.index else "")


def _shape(v: Value) -> TensorShapeProto:
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=n) for n in v.shape])
