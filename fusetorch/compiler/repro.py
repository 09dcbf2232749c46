"""What printed graphs run on: eager kernels under the names that :mod:`fusetorch.compiler.printer` uses.

A script that the compiler dumps needs nothing of the program it came from: the bodies of its operations are written in it.
"""
from __future__ import annotations

import base64
import hashlib
import os
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import config, dtypes
from ..ops.expr import Expr
from ..ops.opdef import REGISTRY, LoopSpec
from ..runtime.device import device as device_class
from .interpret import backend, contiguous, filled
from .ir import Graph, Value
from .printer import FEW, spec_names, to_script
from .symbolic import real_view


class Expressions:
    """Builds scalar expressions by name: ``e.load(0, dtype="float32")``, ``e.mul(a, b, dtype="float32")``."""

    def __getattr__(self, op: str) -> Callable[..., Expr]:
        def build(*args: Any, dtype: str) -> Expr:
            operands = tuple([a for a in args if isinstance(a, Expr)])
            rest = [a for a in args if not isinstance(a, Expr)]
            return Expr(op, operands, rest[0] if rest else None, dtypes.by_name(dtype))
        return build


class Runtime:
    """Runs printed graphs; with ``graph``, one that was printed in this process.

    Example:
        >>> import fusetorch as torch
        >>> f = torch.compile(lambda x: (x * 2).sum(0))
        >>> _ = f(torch.ones(3))
        >>> graph = f.explain().graph
        >>> scope = {}
        >>> exec(str(graph), scope)
        >>> scope["graph"](Runtime(graph), torch.ones(3).numpy())[0].item()
        6.0
    """

    def __init__(self, graph: Graph | None = None) -> None:
        self.constants: dict[int, Any] = {}
        self._specs: dict[str, LoopSpec] = {}
        nodes = [] if graph is None else graph.live()
        names = spec_names(nodes)
        for n in nodes:
            if n.kind == "loop":
                self._specs[names[id(n.op)]] = n.op
            elif n.kind == "constant" and n.attrs["array"].size > FEW:
                self.constants[n.id] = backend(n.outputs[0].device).from_host(n.attrs["array"])

    # ---- what a script says before its graph

    def define(self, inputs: Sequence[str], outputs: Sequence[str], *, scalars: Sequence[str], full: Sequence[bool],
               reduces: bool) -> Callable[[Callable], Callable]:
        """Defines a loop operation from a function that builds its expressions; its name is the function's."""
        def decorate(body: Callable[[Expressions], list[Expr]]) -> Callable:
            def named(names: Sequence[str]) -> list[dtypes.dtype]:
                return [dtypes.by_name(n) for n in names]
            self._specs[body.__name__] = LoopSpec(body.__name__, None, named(inputs), body(Expressions()), named(outputs), list(full),
                                                  named(scalars), reduces)
            return body
        return decorate

    def decode(self, text: str, dtype: str, shape: tuple[int, ...], device: str = "cpu") -> Any:
        """An array from the text that :func:`fusetorch.compiler.printer.encode` made of it."""
        raw = zlib.decompress(base64.b85decode(text))
        return backend(device_class(device)).from_host(np.frombuffer(raw, dtypes.by_name(dtype).np).reshape(shape).copy())

    dtype = staticmethod(dtypes.by_name)
    device = staticmethod(device_class)

    # ---- nodes

    def constant(self, values: Any, dtype: str, device: str = "cpu") -> Any:
        """A host array."""
        return backend(device_class(device)).from_host(np.array(values, dtypes.by_name(dtype).np))

    def full(self, shape: tuple[int, ...], value: Any, dtype: str, device: str = "cpu") -> Any:
        """One number everywhere."""
        return filled(_value(shape, dtypes.by_name(dtype), device_class(device)), value)

    def view(self, a: Any, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Any:
        """Row-major memory seen with a shape, strides and offset (elements)."""
        return real_view(a, shape, strides, offset)

    def write(self, base: Any, values: list[Any], places: tuple, fill: Any = 0, shape: tuple[int, ...] = ()) -> Any:
        """A copy of ``base`` (``None``: new memory of ``shape`` full of ``fill``) with ``values`` written at views of it."""
        like = values[0] if base is None else base
        b = _backend_of(like)
        if base is None:
            fresh = filled(_value(shape, _dtype_of(like), _place_of(like)), fill)
        else:
            fresh = b.empty(tuple(base.shape), _dtype_of(base))
            b.copy(fresh, base)
        for value, place in zip(values, places):
            b.copy(real_view(fresh, *place), value)
        return fresh

    def opaque(self, name: str, operands: list[Any], attrs: tuple, shapes: tuple[tuple[int, ...], ...]) -> Any:
        """An operation with its own kernel; results are row-major."""
        flat = [x for o in operands for x in (o if isinstance(o, list) else [o]) if x is not None]
        place = next((_place_of(a) for a in flat if not isinstance(a, np.ndarray)), _place_of(flat[0]) if flat else device_class("cpu"))
        kernel = REGISTRY[name].kernels.get(place.type)
        if kernel is None:
            raise NotImplementedError(f"{name}: no kernel for {place}")
        out = kernel(*operands, *attrs)
        out = list(out) if isinstance(out, (tuple, list)) else [out]
        made = [np.asarray(a) if isinstance(a, np.generic) else a for a in out]
        made = [contiguous(_backend_of(a), a, _value(s, _dtype_of(a), _place_of(a))) for a, s in zip(made, shapes)]
        return made[0] if len(made) == 1 else made

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name == "_specs" or name not in self._specs:
            raise AttributeError(f"no loop operation {name!r} was defined")
        spec = self._specs[name]

        def run(*arrays: Any, axes: tuple[int, ...] | None = None, scalars: tuple = ()) -> Any:
            b = next((_backend_of(a) for a in arrays if not isinstance(a, np.ndarray)), backend(device_class("cpu")))
            results = b.loop(spec, arrays, scalars, axes, None)
            out = [contiguous(b, r, _value(tuple(r.shape), d, _place_of(r))) for r, d in zip(results, spec.out_dtypes)]
            return out[0] if len(out) == 1 else out
        return run

    # ---- running a script

    def inputs(self, kinds: Sequence[tuple], path: str | None = None, seed: int = 0) -> list[Any]:
        """Arrays for ``(dtype, shape)`` or ``(dtype, shape, device)`` each: those of an ``.npz`` file in order, or random ones."""
        stored = None if path is None else np.load(path)
        rng = np.random.default_rng(seed)
        out = []
        for i, (name, shape, *place) in enumerate(kinds):
            d = dtypes.by_name(name)
            if stored is not None:
                a = stored[stored.files[i]].astype(d.np).reshape(shape)
            elif d.is_floating_point:
                a = rng.standard_normal(shape).astype(d.np)
            else:
                a = rng.integers(0, 2, shape).astype(d.np)
            out.append(backend(device_class(place[0] if place else "cpu")).from_host(np.asarray(a)))
        return out

    def main(self, graph: Callable, kinds: Sequence[tuple]) -> None:
        """What a script does when it is run: ``python script.py [inputs.npz]``."""
        for i, a in enumerate(graph(self, *self.inputs(kinds, sys.argv[1] if len(sys.argv) > 1 else None))):
            host = np.asarray(_backend_of(a).to_host(a))
            print(f"result {i}: {_dtype_of(a).name}{list(host.shape)}")
            print(host)


def _value(shape: Sequence[int], d: dtypes.dtype, place: Any) -> Value:
    return Value(None, 0, tuple(shape), d, place)  # type: ignore[arg-type]  # a value of no graph: what an array must look like


def _dtype_of(a: Any) -> dtypes.dtype:
    return dtypes.from_numpy(a.dtype) if isinstance(a, np.ndarray) else a.dtype


def _place_of(a: Any) -> Any:
    return device_class("cpu") if isinstance(a, np.ndarray) else a.device


def _backend_of(a: Any) -> Any:
    return backend(_place_of(a))


def dump(graph: Graph, stage: str) -> Path:
    """Writes the graph as a script to ``config.dump_dir``; the same graph goes to the same file."""
    text = to_script(graph)
    folder = Path(config.dump_dir)
    folder.mkdir(parents=True, exist_ok=True)
    name = "_".join(stage.split()) + "_" + hashlib.blake2b(text.encode(), digest_size=6).hexdigest() + ".py"
    aside = folder / f".{name}.{os.getpid()}"
    aside.write_text(text)
    os.replace(aside, folder / name)
    return folder / name
