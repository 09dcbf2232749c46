"""Parametrisations: parameters computed from others whenever they are read."""
from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import fusetorch as torch
from fusetorch.nn.container import ModuleDict, ModuleList
from fusetorch.nn.module import Module
from fusetorch.nn.parameter import Buffer, Parameter
from fusetorch.tensor import Tensor, structure_changed

_depth = 0
_cache: dict[tuple[int, str], Tensor] = {}


@contextmanager
def cached() -> Iterator[None]:
    """Within this context a parametrised tensor is computed once and then remembered.

    Example:
        >>> import fusetorch as torch
        >>> import fusetorch.nn.utils.parametrize as P
        >>> m = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2))
        >>> with P.cached():
        ...     m.weight is m.weight
        True
    """
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            _cache.clear()


def _register(module: Module, name: str, tensor: Tensor) -> None:
    if isinstance(tensor, Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)


class ParametrizationList(ModuleList):
    """The parametrisations of one tensor, applied in order to ``original`` (or ``original0``, ``original1``, ...).

    ``unsafe`` leaves out the checks that shape and dtype stay as they are.
    """

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        if not modules:
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = original.shape, original.dtype
        with torch.no_grad():
            new: Any = original
            for module in reversed(list(self)):
                if hasattr(module, "right_inverse"):
                    try:
                        new = module.right_inverse(new)
                    except NotImplementedError:
                        pass
        if not isinstance(new, (Tensor, Sequence)):
            raise ValueError(f"'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). Got {type(new).__name__}")
        self.is_tensor = isinstance(new, Tensor)
        self.ntensors = 1 if self.is_tensor else len(new)
        if self.is_tensor:
            if original.dtype != new.dtype:
                raise ValueError("When `right_inverse` outputs one tensor, it may not change the dtype.\n"
                                 f"original.dtype: {original.dtype}\nright_inverse(original).dtype: {new.dtype}")
            with torch.no_grad():
                # the parameter itself is kept, so that optimizers still know it
                if new is not original:
                    original.data = new.detach()
            _register(self, "original", original)
        else:
            for i, part in enumerate(new):
                if not isinstance(part, Tensor):
                    raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                                     f"Got element {i} of the sequence with type {type(part).__name__}.")
                if isinstance(original, Parameter):
                    part = Parameter(part, original.requires_grad)
                _register(self, f"original{i}", part)
        if not unsafe:
            with torch.no_grad():
                made = self()
            if not isinstance(made, Tensor):
                raise ValueError(f"A parametrization must return a tensor. Got {type(made).__name__}.")
            if made.dtype != dtype:
                raise ValueError(f"Registering a parametrization may not change the dtype of the tensor, unless `unsafe` flag is enabled.\n"
                                 f"unparametrized dtype: {dtype}\nparametrized dtype: {made.dtype}")
            if made.shape != shape:
                raise ValueError(f"Registering a parametrization may not change the shape of the tensor, unless `unsafe` flag is enabled.\n"
                                 f"unparametrized shape: {shape}\nparametrized shape: {made.shape}")

    def _originals(self) -> list[Tensor]:
        return [self.original] if self.is_tensor else [getattr(self, f"original{i}") for i in range(self.ntensors)]

    def forward(self) -> Tensor:
        """The parametrised tensor."""
        first, *rest = self
        x = first(*self._originals())
        for module in rest:
            x = module(x)
        return x

    def right_inverse(self, value: Tensor) -> None:
        """Sets the originals so that the parametrised tensor becomes ``value``, by the modules' ``right_inverse``."""
        with torch.no_grad():
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(f"parametrization {type(module).__name__} does not implement right_inverse.")
                value = module.right_inverse(value)
            values = [value] if self.is_tensor else list(value)
            if len(values) != self.ntensors:
                raise ValueError(f"'right_inverse' must return a sequence of tensors of length {self.ntensors}. Got {len(values)}.")
            for original, new in zip(self._originals(), values):
                if not isinstance(new, Tensor):
                    raise ValueError(f"`right_inverse` should return a tensor. Got {type(new).__name__}")
                if new.dtype != original.dtype:
                    raise ValueError(f"The tensor returned by `right_inverse` has dtype {new.dtype} while `original` has dtype "
                                     f"{original.dtype}")
                original.data = new.detach()


def _get_state(self: Module) -> dict[str, Any]:
    raise RuntimeError("Serialization of parametrized modules is only supported through state_dict(). See torch.nn.Module.state_dict.")


def _deepcopy(self: Module, memo: dict[int, Any]) -> Module:
    if id(self) in memo:
        return memo[id(self)]
    new = self.__new__(type(self))
    memo[id(self)] = new
    new.__dict__ = copy.deepcopy(self.__dict__, memo)
    return new


def _inject_class(module: Module) -> None:
    """Gives the module a class of its own, which properties can be put on."""
    cls = type(module)
    members = {"__getstate__": _get_state, "__module__": cls.__module__}
    if "__deepcopy__" not in vars(cls):
        members["__deepcopy__"] = _deepcopy
    module.__class__ = type(f"Parametrized{cls.__name__}", (cls,), members)


def _inject_property(module: Module, name: str) -> None:
    def get(self: Module) -> Tensor:
        if not _depth:
            return self.parametrizations[name]()
        key = (id(self), name)
        if key not in _cache:
            _cache[key] = self.parametrizations[name]()
        return _cache[key]

    def put(self: Module, value: Tensor) -> None:
        self.parametrizations[name].right_inverse(value)

    setattr(type(module), name, property(get, put))


def register_parametrization(module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False) -> Module:
    """Has the parameter or buffer ``tensor_name`` of ``module`` computed by ``parametrization``, which takes and gives a tensor.

    The tensor itself moves to ``module.parametrizations.<tensor_name>.original``. If ``parametrization`` has ``right_inverse``, it gives
    the original's first value, and the attribute can be assigned to. Several parametrisations are applied one after the other.

    Raises:
        ValueError: shape or dtype would change, and not ``unsafe``; or there is no such parameter or buffer.

    Example:
        >>> import fusetorch as torch
        >>> import fusetorch.nn.utils.parametrize as P
        >>> class Symmetric(torch.nn.Module):
        ...     def forward(self, x):
        ...         return x.triu() + x.triu(1).T
        >>> m = P.register_parametrization(torch.nn.Linear(3, 3), "weight", Symmetric())
        >>> bool((m.weight == m.weight.T).all())
        True
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        chain = module.parametrizations[tensor_name]
        if not unsafe:
            with torch.no_grad():
                before = getattr(module, tensor_name)
                after = parametrization(before)
                if not isinstance(after, Tensor) or after.dtype != before.dtype or after.shape != before.shape:
                    raise ValueError("Registering a parametrization may not change the type, dtype or shape of the tensor, unless the "
                                     f"`unsafe` flag is enabled: {tensor_name} of {type(module).__name__}")
                if hasattr(parametrization, "right_inverse"):
                    back = parametrization.right_inverse(after)
                    if not isinstance(back, Tensor) or back.dtype != before.dtype or back.shape != before.shape:
                        raise ValueError("parametrization.right_inverse may not change the type, dtype or shape of the tensor, unless the "
                                         f"`unsafe` flag is enabled: {tensor_name} of {type(module).__name__}")
        chain.append(parametrization)
        chain.unsafe |= unsafe
    elif tensor_name in module._buffers or tensor_name in module._parameters:
        chain = ParametrizationList([parametrization], getattr(module, tensor_name), unsafe=unsafe)
        delattr(module, tensor_name)
        if not is_parametrized(module):
            _inject_class(module)
            module.parametrizations = ModuleDict()
        _inject_property(module, tensor_name)
        module.parametrizations[tensor_name] = chain
    else:
        raise ValueError(f"Module '{module}' does not have a parameter, a buffer, or a parametrized element with name '{tensor_name}'")
    structure_changed()
    return module


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether ``module`` has a parametrisation, of ``tensor_name`` if given."""
    chains = module.__dict__.get("_modules", {}).get("parametrizations")
    if not isinstance(chains, ModuleDict):
        return False
    return len(chains) > 0 if tensor_name is None else tensor_name in chains


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Takes the parametrisations of ``tensor_name`` away; the tensor keeps its parametrised value, or gets the original's.

    ``ValueError`` if there is none, or if the original is several tensors and ``leave_parametrized`` is False.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    chain = module.parametrizations[tensor_name]
    if chain.is_tensor:
        original = chain.original
        if leave_parametrized:
            with torch.no_grad():
                original.data = getattr(module, tensor_name).detach().clone()
    elif leave_parametrized:
        value = getattr(module, tensor_name).detach()
        trained = any(t.requires_grad for t in chain._originals())
        original = Parameter(value, trained) if trained or isinstance(chain._originals()[0], Parameter) else Buffer(value)
    else:
        raise ValueError("Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is parametrized in terms of a sequence of "
                         "tensors.")
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    _register(module, tensor_name, original)
    if not is_parametrized(module):
        delattr(module, "parametrizations")
        module.__class__ = type(module).__bases__[0]
    structure_changed()
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class that ``module`` had before it was parametrised."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(from_module: Module, to_module: Module, tensor_name: str | None = None) -> Module:
    """Puts copies of the parametrisations of ``from_module`` (of ``tensor_name``, or all), with their originals, on ``to_module``."""
    if not is_parametrized(from_module):
        return to_module
    chains = from_module.parametrizations
    for name in list(chains) if tensor_name is None else [tensor_name]:
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name).detach().clone()))
        for parametrization in chains[name]:
            register_parametrization(to_module, name, copy.deepcopy(parametrization), unsafe=chains[name].unsafe)
        for mine, theirs in zip(to_module.parametrizations[name]._originals(), chains[name]._originals()):
            mine.data = theirs.detach().clone()
    return to_module
