"""``torch.fx``: a module's operations as a graph of nodes that programs read and rewrite, and code made from it again.

A function is run once on proxies; each call of a function, method or submodule becomes a node. This is a tool for changing programs;
``fusetorch.compile`` has a graph of its own and needs none of it.
"""
from . import immutable_collections, traceback
from ._symbolic_trace import PH, ProxyableClassMeta, Tracer, symbolic_trace, wrap
from .graph import CodeGen, Graph
from .graph_module import GraphModule
from .interpreter import Interpreter, Transformer
from .node import Node, has_side_effect, map_arg
from .proxy import Proxy
from .subgraph_rewriter import replace_pattern

__all__ = ["PH", "CodeGen", "Graph", "GraphModule", "Interpreter", "Node", "Proxy", "ProxyableClassMeta", "Tracer", "Transformer",
           "has_side_effect", "immutable_collections", "map_arg", "replace_pattern", "symbolic_trace", "traceback", "wrap"]
