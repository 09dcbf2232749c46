"""Checkpointing: the forward pass keeps nothing inside a function and runs it again in the backward pass.

Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
"""
from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import fusetorch as torch
from fusetorch.autograd.graph import saved_tensors_hooks

__all__ = ["checkpoint", "checkpoint_sequential", "CheckpointError", "CheckpointFunction", "check_backward_validity", "detach_variable",
           "noop_context_fn", "set_checkpoint_early_stop", "set_checkpoint_debug_enabled"]


class CheckpointError(RuntimeError):
    """The function did not do in the backward pass what it did in the forward pass."""


class _Settings:
    early_stop = True
    debug: bool | None = None


@contextlib.contextmanager
def set_checkpoint_early_stop(enable: bool) -> Iterator[None]:
    """Whether running again stops once everything needed is there (inside the block)."""
    before, _Settings.early_stop = _Settings.early_stop, enable
    try:
        yield
    finally:
        _Settings.early_stop = before


@contextlib.contextmanager
def set_checkpoint_debug_enabled(enabled: bool | None) -> Iterator[None]:
    """Accepted: errors always say what differed."""
    before, _Settings.debug = _Settings.debug, enabled
    try:
        yield
    finally:
        _Settings.debug = before


def noop_context_fn() -> tuple[Any, Any]:
    """No context for the forward pass, and none for running again."""
    return contextlib.nullcontext(), contextlib.nullcontext()


def detach_variable(inputs: tuple) -> tuple:
    """The tensors of a tuple as leaves with the same ``requires_grad``; the rest as it is."""
    if not isinstance(inputs, tuple):
        raise RuntimeError(f"Only tuple of tensors is supported. Got Unsupported input type: {type(inputs).__name__}")
    return tuple([x.detach().requires_grad_(x.requires_grad) if isinstance(x, torch.Tensor) else x for x in inputs])


def check_backward_validity(inputs: Iterable[Any]) -> None:
    """Warns where no input requires a gradient, so that the reentrant form gives none."""
    if not any(isinstance(x, torch.Tensor) and x.requires_grad for x in inputs):
        warnings.warn("None of the inputs have requires_grad=True. Gradients will be None", stacklevel=2)


class _Rng:
    """Runs a block from the generator's state that the first run began with; nothing, where that drew no numbers."""

    def __init__(self, preserve: bool) -> None:
        self.preserve = preserve
        self.before = torch.default_generator.state_bytes() if preserve else b""
        self.used = False

    def ran(self) -> None:
        """The first run is over."""
        self.used = self.preserve and torch.default_generator.state_bytes() != self.before

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """The state of the first run for a block."""
        if not self.used:
            yield
            return
        with torch.random.fork_rng():
            torch.default_generator.load_bytes(self.before)
            yield


@contextlib.contextmanager
def _autocast(kept: list[tuple[str, bool, Any]]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for kind, enabled, dtype in kept:
            stack.enter_context(torch.autocast(kind, enabled=enabled, dtype=dtype))
        yield


def _autocast_state() -> list[tuple[str, bool, Any]]:
    return [(kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda")]


class CheckpointFunction(torch.autograd.Function):
    """The reentrant form: a backward pass inside the backward pass."""

    @staticmethod
    def forward(ctx: Any, run_function: Callable, preserve_rng_state: bool, *args: Any) -> Any:
        """Runs the function without recording."""
        check_backward_validity(args)
        ctx.run_function, ctx.rng, ctx.autocast = run_function, _Rng(preserve_rng_state), _autocast_state()
        ctx.inputs = [None if isinstance(a, torch.Tensor) else a for a in args]
        ctx.places = [i for i, a in enumerate(args) if isinstance(a, torch.Tensor)]
        ctx.save_for_backward(*[args[i] for i in ctx.places])
        with torch.no_grad():
            out = run_function(*args)
        ctx.rng.ran()
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Runs it again, recording, and its backward pass."""
        inputs = list(ctx.inputs)
        for i, t in zip(ctx.places, ctx.saved_tensors):
            inputs[i] = t
        leaves = detach_variable(tuple(inputs))
        with ctx.rng.again(), torch.enable_grad(), _autocast(ctx.autocast):
            out = ctx.run_function(*leaves)
        out = out if isinstance(out, tuple) else (out,)
        live = [(o, g) for o, g in zip(out, grads) if isinstance(o, torch.Tensor) and o.requires_grad]
        if not live:
            raise RuntimeError("none of output has requires_grad=True, this checkpoint() is not necessary")
        torch.autograd.backward([o for o, _ in live], [g for _, g in live])
        return (None, None, *[x.grad if isinstance(x, torch.Tensor) else None for x in leaves])


class _Stop(Exception):  # noqa: N818 - not an error
    """Everything that the backward pass needs is there."""


class _Handle:
    """Stands for a saved tensor: its number in its frame."""

    __slots__ = ("frame", "number", "meta")

    def __init__(self, frame: _Frame, number: int, t: torch.Tensor) -> None:
        self.frame, self.number = frame, number
        self.meta = (tuple(t.shape), t.dtype, str(t.device))


class _Frame:
    """One call of the non-reentrant form."""

    def __init__(self, run: Callable[[], Any], early_stop: bool, check: bool) -> None:
        self.run, self.early_stop, self.check = run, early_stop, check
        self.count = 0
        self.made: dict[int, torch.Tensor] = {}

    def pack(self, t: torch.Tensor) -> _Handle:
        """Keeps nothing but a number."""
        h = _Handle(self, self.count, t)
        self.count += 1
        return h

    def unpack(self, h: _Handle) -> torch.Tensor:
        """The tensor, from running the function again where that has not happened yet."""
        if h.number not in self.made:
            self._again()
        if h.number not in self.made:
            raise CheckpointError("torch.utils.checkpoint: A different number of tensors was saved during the original forward and "
                                  f"recomputation.\nNumber of tensors saved during forward: {self.count}\nNumber of tensors saved during "
                                  f"recomputation: {len(self.made)}.")
        t = self.made.pop(h.number)
        if self.check and (tuple(t.shape), t.dtype, str(t.device)) != h.meta:
            raise CheckpointError("torch.utils.checkpoint: Recomputed values for the following tensors have different metadata than during "
                                  f"the forward pass: tensor at position {h.number}: saved {h.meta}, recomputed "
                                  f"{(tuple(t.shape), t.dtype, str(t.device))}")
        return t

    def _again(self) -> None:
        made: dict[int, torch.Tensor] = {}

        def pack(t: torch.Tensor) -> torch.Tensor:
            made[len(made)] = t.detach()
            if self.early_stop and len(made) == self.count:
                raise _Stop
            return t.detach()

        with saved_tensors_hooks(pack, lambda t: t), torch.enable_grad(), contextlib.suppress(_Stop):
            self.run()
        self.made = made


def checkpoint(function: Callable, *args: Any, use_reentrant: bool | None = None,
               context_fn: Callable[[], tuple[Any, Any]] = noop_context_fn, determinism_check: str = "default", debug: bool = False,
               early_stop: bool = True, preserve_rng_state: bool = True, **kwargs: Any) -> Any:
    """``function(*args, **kwargs)``, whose intermediate tensors are computed again in the backward pass instead of being kept.

    Args:
        use_reentrant: ``False`` (recommended) works with ``autograd.grad``, keyword arguments and any nesting; ``True`` runs a backward
            pass inside the backward pass. Not given: ``True``, with a warning, as in PyTorch.
        context_fn: gives two context managers: for the forward pass and for running again (non-reentrant only).
        determinism_check: ``"default"`` compares shapes, dtypes and devices of what is computed again; ``"none"`` does not.
        early_stop: stop running again once everything needed is there.
        preserve_rng_state: run again with the random state of the first run.

    Example:
        >>> import fusetorch as torch
        >>> from fusetorch.utils.checkpoint import checkpoint
        >>> x = torch.ones(2, requires_grad=True)
        >>> checkpoint(lambda t: t.exp().log(), x, use_reentrant=False).sum().backward()
        >>> x.grad
        tensor([1., 1.])
    """
    if use_reentrant is None:
        warnings.warn("torch.utils.checkpoint: the use_reentrant parameter should be passed explicitly. use_reentrant=False is recommended,"
                      " but if you need to preserve the current default behavior, you can pass use_reentrant=True.", stacklevel=2)
        use_reentrant = True
    if use_reentrant:
        if context_fn is not noop_context_fn or debug is not False:
            raise ValueError("Passing `context_fn` or `debug` is only supported when use_reentrant=False.")
        if kwargs:
            raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
        return CheckpointFunction.apply(function, preserve_rng_state, *args)
    if determinism_check not in ("default", "none"):
        raise ValueError(f"determinism_check should be one of ['default', 'none'], not {determinism_check}")
    if not torch.is_grad_enabled():
        return function(*args, **kwargs)
    first, second = context_fn()
    rng, kept = _Rng(preserve_rng_state), _autocast_state()

    def run() -> Any:
        with rng.again(), _autocast(kept), second:
            return function(*args, **kwargs)

    frame = _Frame(run, early_stop and _Settings.early_stop, determinism_check == "default")
    with saved_tensors_hooks(frame.pack, frame.unpack), first:
        out = function(*args, **kwargs)
    rng.ran()
    return out


def checkpoint_sequential(functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, **kwargs: Any) -> Any:
    """Runs a ``Sequential`` (or a list of functions) in ``segments`` parts, all but the last of them checkpointed."""
    if use_reentrant is None:
        warnings.warn("torch.utils.checkpoint.checkpoint_sequential: the use_reentrant parameter should be passed explicitly. "
                      "use_reentrant=False is recommended, but if you need to preserve the current default behavior, you can pass "
                      "use_reentrant=True.", stacklevel=2)
        use_reentrant = True
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    steps = list(functions.children()) if isinstance(functions, torch.nn.Sequential) else list(functions)

    def part(start: int, end: int) -> Callable:
        def forward(x: Any) -> Any:
            for f in steps[start:end]:
                x = f(x)
            return x
        return forward

    size = len(steps) // segments
    end = 0
    for start in range(0, size * (segments - 1), size):
        end = start + size
        input = checkpoint(part(start, end), input, use_reentrant=use_reentrant, preserve_rng_state=preserve)
    return part(end, len(steps))(input)
