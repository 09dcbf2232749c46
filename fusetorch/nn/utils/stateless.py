"""Calling a module with other parameters and buffers than its own."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fusetorch.nn.module import Module
from fusetorch.tensor import Tensor, structure_changed


def _owners(module: Module) -> dict[str, tuple[dict[str, Any], str]]:
    """Where each parameter and buffer is kept, by dotted name, those shared under each of their names."""
    return {(path + "." if path else "") + name: (table, name)
            for path, owner in module.named_modules(remove_duplicate=False)
            for table in (owner._parameters, owner._buffers) for name, value in table.items() if value is not None}


@contextmanager
def swapped(module: Module, tensors: Mapping[str, Tensor], tie_weights: bool, strict: bool) -> Iterator[None]:
    """Has ``module`` use ``tensors`` in place of its own parameters and buffers of these names."""
    owners = _owners(module)
    unexpected = [name for name in tensors if name not in owners]
    missing = [name for name in owners if name not in tensors]
    new = dict(tensors)
    if tie_weights:  # a tensor that is kept under several names is replaced under all of them
        given: dict[int, Tensor] = {}
        for name, t in tensors.items():
            if name in owners:
                table, key = owners[name]
                if given.setdefault(id(table[key]), t) is not t:
                    raise ValueError(f"functional_call got multiple values for the tied tensor '{name}'. Consider using tie_weights=False")
        for name, (table, key) in owners.items():
            if name not in new and id(table[key]) in given:
                new[name] = given[id(table[key])]
        missing = [name for name in missing if name not in new]
    if unexpected or (strict and missing):
        lines = (["Unexpected key(s): " + ", ".join(unexpected) + "."] if unexpected else []) + (
            ["Missing key(s): " + ", ".join(missing) + "."] if strict and missing else [])
        raise RuntimeError(f"Error(s) in swapping tensors of {type(module).__name__}:\n\t" + "\n\t".join(lines))
    before = [(*owners[name], owners[name][0][owners[name][1]]) for name in new]
    try:
        for name, t in new.items():
            table, key = owners[name]
            table[key] = t
        structure_changed()
        yield
    finally:
        for table, key, t in before:
            table[key] = t
        structure_changed()


def functional_call(module: Module, parameters_and_buffers: Mapping[str, Tensor], args: Any = None, kwargs: dict[str, Any] | None = None,
                    *, tie_weights: bool = True, strict: bool = False) -> Any:
    """Calls ``module`` with ``parameters_and_buffers`` in place of its own; see ``fusetorch.func.functional_call``."""
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    with swapped(module, parameters_and_buffers, tie_weights, strict):
        return module(*args, **({} if kwargs is None else kwargs))
