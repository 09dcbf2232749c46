"""Calling a module: its forward, and the hooks around it (the calling half of Module)."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from fusetorch.autograd import Function
from fusetorch.nn.hooks import RemovableHandle
from fusetorch.tensor import Tensor, module_hook, structure_changed

#: Hooks of every module, run before a module's own.
FORWARD_PRE: OrderedDict[int, Any] = OrderedDict()
FORWARD: OrderedDict[int, Any] = OrderedDict()
BACKWARD_PRE: OrderedDict[int, Any] = OrderedDict()
BACKWARD: OrderedDict[int, Any] = OrderedDict()
#: Hooks on what modules are given: ``hook(module, name, value)``.
PARAMETERS: OrderedDict[int, Any] = OrderedDict()
BUFFERS: OrderedDict[int, Any] = OrderedDict()
MODULES: OrderedDict[int, Any] = OrderedDict()


def registered(hooks: OrderedDict[int, Any], module: Any, name: str, value: Any) -> Any:
    """``value`` as the registration hooks leave it."""
    for hook in hooks.values():
        changed = hook(module, name, value)
        value = value if changed is None else changed
    return value


class _Identity(Function):
    """Hands tensors on, and shows their gradients to a function when all have come."""

    @staticmethod
    def forward(ctx: Any, seen: Callable[[tuple], tuple], fill: bool, *tensors: Tensor) -> tuple:
        ctx.set_materialize_grads(fill)
        ctx.seen = seen
        out = tuple([t.view_as(t) for t in tensors])
        ctx.mark_non_differentiable(*[o for t, o in zip(tensors, out) if not t.requires_grad])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple:
        return None, None, *ctx.seen(grads)


def _watch(values: tuple, seen: Callable[[tuple], tuple], fill: bool) -> tuple | None:
    """``values`` with their tensors replaced so that ``seen`` gets the gradients (``None`` for the rest) and may replace them; ``None``
    if no gradient can come. With ``fill``, tensors without a gradient get zeros."""
    places = [i for i, v in enumerate(values) if isinstance(v, Tensor)]
    if not any(values[i].requires_grad for i in places):
        return None

    def spread(grads: tuple) -> tuple:
        full: list[Any] = [None] * len(values)
        for i, g in zip(places, grads):
            full[i] = g
        changed = seen(tuple(full))
        return tuple([changed[i] for i in places])

    tensors = _Identity.apply(spread, fill, *[values[i] for i in places])
    out = list(values)
    for i, t in zip(places, tensors):
        out[i] = t
    return tuple(out)


class _BackwardHooks:
    """The backward hooks of one call of a module."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.before = [*BACKWARD_PRE.values(), *module._backward_pre_hooks.values()]
        self.after = [*BACKWARD.values(), *module._backward_hooks.values()]
        self.grad_outputs: Any = None
        self.inputs = 0
        self.input_watched = False

    def on_input(self, args: tuple) -> tuple:
        self.inputs = len(args)
        watched = _watch(args, self._inputs_ready, True) if self.after else None
        self.input_watched = watched is not None
        return args if watched is None else watched

    def on_output(self, output: Any) -> Any:
        single = not isinstance(output, tuple)
        watched = _watch((output,) if single else output, self._outputs_ready, False)
        return output if watched is None else watched[0] if single else watched

    def _outputs_ready(self, grads: tuple) -> tuple:
        for hook in self.before:
            changed = hook(self.module, grads)
            if changed is not None:
                grads = changed if isinstance(changed, tuple) else (changed,)
        self.grad_outputs = grads
        if not self.input_watched:
            for hook in self.after:
                if hook(self.module, (None,) * self.inputs, grads) is not None:
                    raise RuntimeError("Backward hook for Modules where no input requires gradient should always return None or None for "
                                       "all gradients.")
        return grads

    def _inputs_ready(self, grads: tuple) -> tuple:
        if self.grad_outputs is None:
            return grads
        for hook in self.after:
            changed = hook(self.module, grads, self.grad_outputs)
            if changed is not None:
                changed = changed if isinstance(changed, tuple) else (changed,)
                if len(changed) != len(grads):
                    raise RuntimeError(f"Backward hook returned an invalid number of grad_input, got {len(changed)}, but expected "
                                       f"{len(grads)}")
                grads = changed
        self.grad_outputs = None
        return grads


class Calls:
    """The methods of ``Module`` that call it and register hooks on calls."""

    _compiled_call_impl: Callable | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every subclass defines it."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if (self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks or FORWARD or FORWARD_PRE
                or BACKWARD or BACKWARD_PRE or self._compiled_call_impl is not None or module_hook):
            run = self._compiled_call_impl
            if run is None and module_hook:
                run = module_hook[-1](self)
            return (run or self._call_impl)(*args, **kwargs)
        return self.forward(*args, **kwargs)

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        """``forward`` with the hooks around it."""
        own = [(hook, key in self._forward_pre_hooks_with_kwargs) for key, hook in self._forward_pre_hooks.items()]
        for hook, with_kwargs in (*FORWARD_PRE.values(), *own):
            if with_kwargs:
                changed = hook(self, args, kwargs)
                if changed is not None:
                    if not (isinstance(changed, tuple) and len(changed) == 2):
                        raise RuntimeError(f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but "
                                           f"got {changed}.")
                    args, kwargs = changed
            else:
                changed = hook(self, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
        backward = None
        if self._backward_hooks or self._backward_pre_hooks or BACKWARD or BACKWARD_PRE:
            backward = _BackwardHooks(self)
            args = backward.on_input(args)
        hooks = (*FORWARD.items(), *[(key, (hook, key in self._forward_hooks_with_kwargs, key in self._forward_hooks_always_called))
                                     for key, hook in self._forward_hooks.items()])
        done = set()
        finished = False
        output = None
        try:
            output = self.forward(*args, **kwargs)
            for key, (hook, with_kwargs, _) in hooks:
                done.add(key)
                changed = hook(self, args, kwargs, output) if with_kwargs else hook(self, args, output)
                output = output if changed is None else changed
            finished = True
        finally:
            if not finished:  # the error goes on; hooks registered with always_call still run
                for key, (hook, with_kwargs, always_call) in hooks:
                    if always_call and key not in done:
                        hook(self, args, kwargs, output) if with_kwargs else hook(self, args, output)
        return output if backward is None else backward.on_output(output)

    def register_forward_pre_hook(self, hook: Callable[..., Any], *, prepend: bool = False,
                                  with_kwargs: bool = False) -> RemovableHandle:
        """Calls ``hook(module, args)`` before ``forward``; what it returns, if not None, replaces the arguments.

        With ``with_kwargs`` it is ``hook(module, args, kwargs)``, returning None or ``(args, kwargs)``.
        """
        return RemovableHandle(self._forward_pre_hooks, hook, prepend, [self._forward_pre_hooks_with_kwargs] if with_kwargs else ())

    def register_forward_hook(self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False,
                              always_call: bool = False) -> RemovableHandle:
        """Calls ``hook(module, args, output)`` after ``forward``; what it returns, if not None, replaces the output.

        With ``with_kwargs`` it is ``hook(module, args, kwargs, output)``; with ``always_call`` it also runs when
        ``forward`` raised (then ``output`` is None).
        """
        flags = [flag for flag, wanted in ((self._forward_hooks_with_kwargs, with_kwargs), (self._forward_hooks_always_called, always_call))
                 if wanted]
        return RemovableHandle(self._forward_hooks, hook, prepend, flags)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Calls ``hook(module, grad_output)`` when the gradients of the outputs are known; it may return others, as a tuple."""
        return RemovableHandle(self._backward_pre_hooks, hook, prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Calls ``hook(module, grad_input, grad_output)`` when the gradients of the positional arguments are known.

        Both are tuples, with None for what is no tensor or has no gradient; a tuple that the hook returns replaces ``grad_input``.

        Example:
            >>> import fusetorch as torch
            >>> layer = torch.nn.ReLU()
            >>> _ = layer.register_full_backward_hook(lambda module, grad_input, grad_output: print(grad_input, grad_output))
            >>> layer(torch.tensor([1.0, -1.0], requires_grad=True)).sum().backward()
            (tensor([1., 0.]),) (tensor([1., 1.]),)
        """
        return self._register_backward(hook, True, prepend)

    def register_backward_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """The deprecated form of :meth:`register_full_backward_hook`; here it does the same."""
        return self._register_backward(hook, False)

    def _register_backward(self, hook: Callable[..., Any], full: bool, prepend: bool = False) -> RemovableHandle:
        if self._is_full_backward_hook is (not full):
            raise RuntimeError("Cannot use both regular backward hooks and full backward hooks on a single Module. Please use only one of "
                               "them.")
        self._is_full_backward_hook = full
        structure_changed()
        return RemovableHandle(self._backward_hooks, hook, prepend)


def register_module_forward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Calls ``hook(module, args)`` before every module's ``forward``; what it returns, if not None, replaces the arguments."""
    return RemovableHandle(FORWARD_PRE, (hook, False))


def register_module_forward_hook(hook: Callable[..., Any], *, with_kwargs: bool = False, always_call: bool = False) -> RemovableHandle:
    """Calls ``hook(module, args, output)`` after every module's ``forward``; what it returns, if not None, replaces the output."""
    return RemovableHandle(FORWARD, (hook, with_kwargs, always_call))


def register_module_full_backward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """``register_full_backward_pre_hook`` for every module."""
    return RemovableHandle(BACKWARD_PRE, hook)


def register_module_full_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """``register_full_backward_hook`` for every module."""
    return RemovableHandle(BACKWARD, hook)


def register_module_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """The deprecated form of :func:`register_module_full_backward_hook`; here it does the same."""
    return RemovableHandle(BACKWARD, hook)


def register_module_parameter_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Calls ``hook(module, name, parameter)`` when a module is given a parameter; what it returns, if not None, is registered instead."""
    return RemovableHandle(PARAMETERS, hook)


def register_module_buffer_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Calls ``hook(module, name, buffer)`` when a module is given a buffer; what it returns, if not None, is registered instead."""
    return RemovableHandle(BUFFERS, hook)


def register_module_module_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Calls ``hook(module, name, child)`` when a module is given a child; what it returns, if not None, is registered instead."""
    return RemovableHandle(MODULES, hook)
