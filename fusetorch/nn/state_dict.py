"""Saving and loading a module's parameters and buffers (the state-dict half of Module)."""
from __future__ import annotations

import warnings
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import fusetorch as torch
from fusetorch.nn.hooks import RemovableHandle
from fusetorch.nn.parameter import Parameter, is_lazy
from fusetorch.tensor import Tensor, structure_changed

if TYPE_CHECKING:
    from fusetorch.nn.module import Module

_EXTRA_STATE = "_extra_state"


class _IncompatibleKeys(namedtuple("_IncompatibleKeys", ["missing_keys", "unexpected_keys"])):
    """What ``load_state_dict`` returns: the names it did not find and the names it had no use for."""

    __slots__ = ()

    def __repr__(self) -> str:
        return super().__repr__() if self.missing_keys or self.unexpected_keys else "<All keys matched successfully>"

    __str__ = __repr__


class StateDict:
    """The methods of ``Module`` that save and load its state. Expects Module's tables of parameters and buffers."""

    _version = 1

    def get_extra_state(self) -> Any:
        """What else belongs into ``state_dict``; override together with :meth:`set_extra_state`."""
        raise RuntimeError("Reached a code path in Module.get_extra_state() that should never be called.")

    def set_extra_state(self, state: Any) -> None:
        """Takes back what :meth:`get_extra_state` returned."""
        raise RuntimeError("Reached a code path in Module.set_extra_state() that should never be called.")

    def register_state_dict_pre_hook(self, hook: Callable[[Module, str, bool], None]) -> RemovableHandle:
        """Calls ``hook(module, prefix, keep_vars)`` before :meth:`state_dict` collects this module."""
        return RemovableHandle(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable[[Module, dict, str, dict], None]) -> RemovableHandle:
        """Calls ``hook(module, state_dict, prefix, local_metadata)`` after this module was collected; it changes the dict in place."""
        return RemovableHandle(self._state_dict_hooks, (hook, False))

    def register_load_state_dict_pre_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Calls ``hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)``
        before this module is loaded."""
        return RemovableHandle(self._load_state_dict_pre_hooks, hook)

    def register_load_state_dict_post_hook(self, hook: Callable[[Module, _IncompatibleKeys], None]) -> RemovableHandle:
        """Calls ``hook(module, incompatible_keys)`` after this module was loaded; it may change the two lists."""
        return RemovableHandle(self._load_state_dict_post_hooks, hook)

    def _register_state_dict_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """As :meth:`register_state_dict_post_hook`; a dict that ``hook`` returns takes the place of the state dict."""
        return RemovableHandle(self._state_dict_hooks, (hook, True))

    def _register_load_state_dict_pre_hook(self, hook: Callable[..., None], with_module: bool = False) -> RemovableHandle:
        """As :meth:`register_load_state_dict_pre_hook`, without the module unless ``with_module``."""
        def without_module(module: Any, *args: Any) -> None:
            hook(*args)

        return RemovableHandle(self._load_state_dict_pre_hooks, hook if with_module else without_module)

    def _own_persistent_buffers(self) -> dict[str, Tensor]:
        """This module's own parameters and persistent buffers, ``None`` entries left out."""
        left_out = self._non_persistent_buffers_set
        own = {**self._parameters, **{k: v for k, v in self._buffers.items() if k not in left_out}}
        return {k: v for k, v in own.items() if v is not None}

    def _has_extra_state(self, method: str) -> bool:
        return getattr(type(self), method) is not getattr(StateDict, method)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, value in self._own_persistent_buffers().items():
            destination[prefix + name] = value if keep_vars else value.detach()
        if self._has_extra_state("get_extra_state"):
            destination[prefix + _EXTRA_STATE] = self.get_extra_state()

    def state_dict(self, *args: Any, destination: dict[str, Any] | None = None, prefix: str = "",
                   keep_vars: bool = False) -> dict[str, Any]:
        """An ordered dict of all parameters and persistent buffers by dotted name.

        The tensors share memory with the module's; they are detached unless ``keep_vars``.

        Example:
            >>> import fusetorch as torch
            >>> list(torch.nn.Linear(2, 3).state_dict())
            ['weight', 'bias']
        """
        if args:  # PyTorch's deprecated order of arguments
            destination, prefix, keep_vars = (*args, *(destination, prefix, keep_vars)[len(args):])
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        local = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = local
        for hook in self._state_dict_pre_hooks.values():
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=prefix + name + ".", keep_vars=keep_vars)
        for hook, may_replace in self._state_dict_hooks.values():
            changed = hook(self, destination, prefix, local)
            if changed is not None and not may_replace:
                raise RuntimeError("state_dict post-hook must return None")
            destination = destination if changed is None else changed
        return destination

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, local_metadata: dict, strict: bool,
                              missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str]) -> None:
        for hook in self._load_state_dict_pre_hooks.values():
            hook(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        assign = local_metadata.get("assign_to_params_buffers", False)
        own = self._own_persistent_buffers()
        for name, value in own.items():
            key = prefix + name
            if key not in state_dict:
                if strict:
                    missing_keys.append(key)
            elif is_lazy(value) and is_lazy(state_dict[key]):
                continue
            elif problem := _mismatch(key, value, state_dict[key]):
                error_msgs.append(problem)
            elif assign:
                self._assign(name, value, state_dict[key])
            else:
                error_msgs += _copied(key, value, state_dict[key])
        extra = prefix + _EXTRA_STATE
        if self._has_extra_state("set_extra_state"):
            if extra in state_dict:
                self.set_extra_state(state_dict[extra])
            elif strict:
                missing_keys.append(extra)
        elif strict and extra in state_dict:
            unexpected_keys.append(extra)
        if strict:
            for key in state_dict:
                if key.startswith(prefix) and key != extra:
                    head = key[len(prefix):].split(".", 1)
                    if not (head[0] in self._modules if len(head) > 1 else head[0] in own):
                        unexpected_keys.append(key)

    def _assign(self, name: str, old: Tensor, new: Tensor) -> None:
        if name not in self._parameters:
            self._buffers[name] = new
        elif isinstance(new, Parameter):
            self._parameters[name] = new
        else:
            self._parameters[name] = Parameter(new, requires_grad=old.requires_grad)
        structure_changed()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True,
                        assign: bool = False) -> _IncompatibleKeys:
        """Copies parameters and buffers from ``state_dict`` into this module and its children.

        Args:
            state_dict: tensors by dotted name, as :meth:`state_dict` returns them.
            strict: raise if a name is missing or unexpected.
            assign: put the given tensors in place of the module's own instead of copying their values.

        Returns:
            The missing and the unexpected names.

        Raises:
            RuntimeError: listing each missing and unexpected name (if ``strict``) and each tensor of another shape.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        missing: list[str] = []
        unexpected: list[str] = []
        errors: list[str] = []
        metadata = getattr(state_dict, "_metadata", None)
        state_dict = OrderedDict(state_dict)

        def load(module: StateDict, entries: Mapping[str, Any], prefix: str) -> None:
            local = {} if metadata is None else dict(metadata.get(prefix[:-1], {}))
            if assign:
                local["assign_to_params_buffers"] = True
            module._load_from_state_dict(entries, prefix, local, True, missing, unexpected, errors)
            for name, child in module._modules.items():
                if child is not None:
                    inner = prefix + name + "."
                    load(child, {k: v for k, v in entries.items() if k.startswith(inner)}, inner)
            keys = _IncompatibleKeys(missing, unexpected)
            for hook in module._load_state_dict_post_hooks.values():
                if hook(module, keys) is not None:
                    raise AssertionError("Hooks registered with ``register_load_state_dict_post_hook`` are not expected to return new "
                                         "values, if incompatible_keys need to be modified, it should be done inplace.")

        load(self, state_dict, "")
        if strict:
            if unexpected:
                errors.insert(0, f"Unexpected key(s) in state_dict: {_quoted(unexpected)}. ")
            if missing:
                errors.insert(0, f"Missing key(s) in state_dict: {_quoted(missing)}. ")
        if errors:
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t" + "\n\t".join(errors))
        return _IncompatibleKeys(missing, unexpected)


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _mismatch(key: str, own: Tensor, given: Any) -> str | None:
    """Why ``given`` cannot be copied into ``own``; None when it can."""
    if not isinstance(given, Tensor):
        return (f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like object from checkpoint '
                f"but received {type(given)}")
    if given.shape != own.shape:
        return (f"size mismatch for {key}: copying a param with shape {given.shape} from checkpoint, the shape in current "
                f"model is {own.shape}.")
    return None


def _copied(key: str, own: Tensor, given: Tensor) -> list[str]:
    """Copies ``given`` into ``own``; what went wrong."""
    if own.is_meta and not given.is_meta:
        warnings.warn(f"for {key}: copying from a non-meta parameter in the checkpoint to a meta parameter in the current model, which is "
                      "a no-op. (Did you mean to pass `assign=True` to assign items in the state dictionary to their corresponding key in "
                      "the module instead of copying them in place?)", UserWarning, stacklevel=2)
    try:
        with torch.no_grad():
            own.copy_(given)
    except RuntimeError as error:
        return [f'While copying the parameter named "{key}", whose dimensions in the model are {own.shape} and whose dimensions in the '
                f"checkpoint are {given.shape}, an exception occurred : {error.args}."]
    return []
