"""What all optimizers share: parameter groups, state, saving and loading."""
from __future__ import annotations

import copy
import functools
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import fusetorch as torch
from fusetorch.nn.hooks import RemovableHandle
from fusetorch.nn.parameter import zero_grads
from fusetorch.tensor import Tensor, runtime_number, structure_changed

required: Any = type("required", (), {"__repr__": lambda self: "<required parameter>"})()


class _Item:
    """A tuple that a group holds, as a holder of its items: ``holder[i]`` is read anew each time."""

    def __init__(self, group: dict[str, Any], key: str) -> None:
        self.owner = (group, key)  # a compiled step that reads the items anew need not guard the tuple

    def __getitem__(self, index: int) -> Any:
        group, key = self.owner
        return group[key][index]


#: Of all optimizers.
_global_pre_hooks: OrderedDict[int, Callable] = OrderedDict()
_global_post_hooks: OrderedDict[int, Callable] = OrderedDict()


def _add(hooks: OrderedDict[int, Callable], hook: Callable, prepend: bool = False) -> RemovableHandle:
    structure_changed()
    return RemovableHandle(hooks, hook, prepend)


def register_optimizer_step_pre_hook(hook: Callable) -> RemovableHandle:
    """As :meth:`Optimizer.register_step_pre_hook`, for all optimizers."""
    return _add(_global_pre_hooks, hook)


def register_optimizer_step_post_hook(hook: Callable) -> RemovableHandle:
    """As :meth:`Optimizer.register_step_post_hook`, for all optimizers."""
    return _add(_global_post_hooks, hook)


def _hooked(step: Callable) -> Callable:
    """A class's ``step`` with the hooks around it."""
    @functools.wraps(step)
    def stepped(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        before, after = self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks
        if not (before or after or _global_pre_hooks or _global_post_hooks):
            return step(self, *args, **kwargs)
        for hook in (*_global_pre_hooks.values(), *before.values()):
            changed = hook(self, args, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(f"{hook} must return None or a tuple of (new_args, new_kwargs), but got {changed}.")
                args, kwargs = changed
        out = step(self, *args, **kwargs)
        for hook in (*after.values(), *_global_post_hooks.values()):
            hook(self, args, kwargs)
        return out
    return stepped


class Optimizer:
    """The base of all optimizers: subclasses give ``defaults`` and define ``_update_group`` (or ``step``).

    Args:
        params: tensors, or (name, tensor) pairs, or dicts with ``"params"`` and options of their own.
        defaults: options of the groups that do not set them.

    A step is made of tensor operations only, in place on parameters and state, and numbers that change from step to step
    are read through :meth:`number`; so a compiled step stays right when a scheduler changes the learning rate.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError("params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                            f"{type(params).__name__}")
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._make_hooks()
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in vars(cls):
            cls.step = _hooked(cls.step)

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "_optimizer_step_pre_hooks" not in self.__dict__:
            self._make_hooks()
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)

    def __repr__(self) -> str:
        text = f"{type(self).__name__} ("
        for i, group in enumerate(self.param_groups):
            text += f"\nParameter Group {i}\n"
            text += "".join(f"    {key}: {group[key]}\n" for key in sorted(group) if key != "params")
        return text + ")"

    # ---------------------------------------------------------------------------------------------------- hooks

    def _make_hooks(self) -> None:
        self._optimizer_step_pre_hooks: OrderedDict[int, Callable] = OrderedDict()
        self._optimizer_step_post_hooks: OrderedDict[int, Callable] = OrderedDict()
        self._state_dict_hooks: dict[str, OrderedDict[int, Callable]] = {}

    def register_step_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Calls ``hook(optimizer, args, kwargs)`` before each step; it may return other ``(args, kwargs)``."""
        return _add(self._optimizer_step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable) -> RemovableHandle:
        """Calls ``hook(optimizer, args, kwargs)`` after each step."""
        return _add(self._optimizer_step_post_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Calls ``hook(optimizer)`` before :meth:`state_dict`."""
        return _add(self._state_dict_hooks.setdefault("save", OrderedDict()), hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Calls ``hook(optimizer, state_dict)`` after :meth:`state_dict`; it may return another dict."""
        return _add(self._state_dict_hooks.setdefault("saved", OrderedDict()), hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Calls ``hook(optimizer, state_dict)`` before :meth:`load_state_dict`; it may return another dict."""
        return _add(self._state_dict_hooks.setdefault("load", OrderedDict()), hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Calls ``hook(optimizer)`` after :meth:`load_state_dict`."""
        return _add(self._state_dict_hooks.setdefault("loaded", OrderedDict()), hook, prepend)

    def _state_hooks(self, when: str) -> list[Callable]:
        return list(self._state_dict_hooks.get(when, {}).values())

    # ------------------------------------------------------------------------------------------------- stepping

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates the parameters from their gradients; returns what ``closure``, if given, returned.

        ``closure`` computes the loss anew, gradients included; parameters without a gradient are left alone.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.set_grad_enabled(self.defaults.get("differentiable", False)):
            for group in self.param_groups:
                self._update_group(group)
        return loss

    step = _hooked(step)

    def _update_group(self, group: dict[str, Any]) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not define step()")

    @staticmethod
    def number(group: dict[str, Any], key: str, index: int | None = None) -> Any:
        """``group[key]``, or its item ``index``: a Python number, or a 0-d tensor while a step is being traced.

        Read through this what enters the arithmetic; what only decides which operations run is read plainly.
        """
        if index is not None:
            if type(group[key][index]) is int:
                group[key] = tuple([float(n) if isinstance(n, int) else n for n in group[key]])
            return runtime_number(_Item(group, key), index)
        if type(group[key]) is int:  # a trace re-reads floats only
            group[key] = float(group[key])
        return runtime_number(group, key)

    @classmethod
    def number_or_none(cls, group: dict[str, Any], key: str) -> Any:
        """:meth:`number`, or ``None`` where it is 0 and the operations that it enters can be left out."""
        value = group[key]
        return cls.number(group, key) if isinstance(value, Tensor) or value != 0 else None

    @staticmethod
    def _gradients(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
        """The parameters that have a gradient, and these gradients."""
        params, grads = [], []
        for p in group["params"]:
            grad = p.grad
            if grad is not None:
                params.append(p)
                grads.append(grad)
        return params, grads

    @staticmethod
    def _zero_step(p: Tensor) -> Tensor:
        return torch.zeros((), dtype=scalar_dtype(), device=p.device)

    def _started(self, p: Tensor, names: Iterable[str]) -> dict[str, Any]:
        """The state of a parameter; before its first step a count and buffers of zeros."""
        state = self.state[p]
        if not state:
            state["step"] = self._zero_step(p)
            for name in names:
                state[name] = torch.zeros_like(p).detach()
        return state

    def _buffers(self, params: list[Tensor], name: str) -> list[Tensor]:
        return [self.state[p][name] for p in params]

    def _by_step(self, group: dict[str, Any], number: Any,
                 names: Iterable[str] = ()) -> list[tuple[Any, list[Tensor], list[Tensor]]]:
        """Counts a step of each parameter that has a gradient; ``(step, parameters, gradients)`` for those that share a count.

        The count is a float where reading it costs nothing, else a 0-d float64 tensor: on a GPU reading it would wait for the device,
        and while a step is traced (``number``, an option read by :meth:`number`, is a tensor then) it would freeze it. Bias corrections
        would lose half their digits in the count's own float32.
        """
        found: dict[Any, tuple[Any, list[Tensor], list[Tensor]]] = {}
        for p, grad in zip(*self._gradients(group)):
            step = self._started(p, names)["step"]
            step += 1
            count = step.to(torch.float64) if isinstance(number, Tensor) or step.device.type != "cpu" else step.item()
            entry = found.setdefault(id(count) if isinstance(count, Tensor) else count, (count, [], []))
            entry[1].append(p)
            entry[2].append(grad)
        return list(found.values())

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops the gradients of all parameters, or zeroes them if ``set_to_none`` is False."""
        for group in self.param_groups:
            zero_grads(group["params"], set_to_none)

    # ------------------------------------------------------------------------------------------ groups and state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a dict with ``"params"`` and options; options that it lacks come from the optimizer's defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError("optimizer parameters need to be organized in ordered collections, but the ordering of tensors "
                            "in sets will change between runs. Please use a list instead.")
        params = [params] if isinstance(params, Tensor) else list(params)
        names = [p[0] for p in params if isinstance(p, tuple)]
        if names and len(names) != len(params):
            raise ValueError("all optimizer params should be with/without names. Some param names are missing")
        params = [p[1] for p in params] if names else params
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError("can't optimize a non-leaf Tensor")
        param_group["params"] = params
        if names:
            param_group["param_names"] = names
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            param_group.setdefault(name, default)
        if len({id(p) for p in params}) != len(params):
            warnings.warn("optimizer contains a parameter group with duplicate parameters; in future, this will cause an "
                          "error; see github.com/pytorch/pytorch/issues/40967 for more information", stacklevel=3)
        known = {id(p) for group in self.param_groups for p in group["params"]}
        if any(id(p) in known for p in params):
            raise ValueError("some parameters appear in more than one parameter group")
        if self.param_groups and bool(names) != ("param_names" in self.param_groups[0]):
            raise ValueError("all optimizer param groups should be with/without names. "
                             f"cannot add param group {'with' if names else 'without'} names to the optimizer")
        self.param_groups.append(param_group)
        structure_changed()

    def state_dict(self) -> dict[str, Any]:
        """``{"state": {index: values}, "param_groups": [options with "params": indices]}``; tensors are not copied."""
        for hook in self._state_hooks("save"):
            hook(self)
        index: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for p in group["params"]:
                index.setdefault(id(p), len(index))
            groups.append({**{k: v for k, v in group.items() if k != "params"},
                           "params": [index[id(p)] for p in group["params"]]})
        state = {index[id(k)] if isinstance(k, Tensor) else k: v for k, v in self.state.items()}
        saved = {"state": state, "param_groups": groups}
        for hook in self._state_hooks("saved"):
            saved = hook(self, saved) or saved
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over options and state that :meth:`state_dict` returned; ``ValueError`` if the groups do not match."""
        state_dict = dict(state_dict)
        for hook in self._state_hooks("load"):
            state_dict = hook(self, state_dict) or state_dict
        saved = copy.deepcopy(state_dict["param_groups"])
        if len(saved) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(a["params"]) != len(b["params"]) for a, b in zip(saved, self.param_groups)):
            raise ValueError("loaded state dict contains a parameter group that doesn't match the size of optimizer's group")
        params = dict(zip(chain.from_iterable(g["params"] for g in saved),
                          chain.from_iterable(g["params"] for g in self.param_groups)))
        state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in params:
                state[params[key]] = _fit(params[key], value)
            else:
                state[key] = value
        for group, new in zip(self.param_groups, saved):
            new["params"] = group["params"]
            if "param_names" in group:
                new.setdefault("param_names", group["param_names"])
        self.__setstate__({"state": state, "param_groups": saved})
        structure_changed()
        for hook in self._state_hooks("loaded"):
            hook(self)


def _fit(param: Tensor, value: Any, key: str | None = None) -> Any:
    """A copy of a saved state value with the device and, step counts apart, the dtype of its parameter."""
    if isinstance(value, Tensor):
        dtype = param.dtype if param.is_floating_point() and key != "step" else value.dtype
        return value.detach().to(device=param.device, dtype=dtype).clone()
    if isinstance(value, dict):
        return {k: _fit(param, v, k) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_fit(param, v) for v in value)
    return value


def scalar_dtype() -> torch.dtype:
    """The dtype of step counts and other numbers in a state: float64 if that is the default dtype, else float32."""
    return torch.float64 if torch.get_default_dtype() is torch.float64 else torch.float32


def check_at_least_zero(**numbers: Any) -> None:
    """``ValueError`` naming the first of ``numbers`` that is negative or not a number."""
    for name, value in numbers.items():
        if not 0.0 <= value:
            what = {"lr": "learning rate", "eps": "epsilon value"}.get(name, f"{name} value")
            raise ValueError(f"Invalid {what}: {value}")


def check_betas(betas: Any, upper: float = 1.0) -> None:
    """``ValueError`` naming the first of ``betas`` outside [0, 1)."""
    for i, beta in enumerate(betas):
        if not 0.0 <= beta < upper:
            raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
