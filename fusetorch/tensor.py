"""The Tensor: an array of some backend plus what autograd knows about it.

``_a`` is the array: a NumPy array (cpu), a :class:`fusetorch.runtime.memory.DeviceArray` (cuda) or, while a function is being
traced, a symbolic array of the compiler. ``_req`` says whether gradients are wanted; ``_x`` is ``None`` or the :class:`Meta` with the
rest. Methods are attached by :mod:`fusetorch.attach` from the registry.
"""
from __future__ import annotations

import weakref
from collections.abc import Callable
from threading import get_ident
from typing import Any

import numpy as np

from .dtypes import FROM_NUMPY, dtype
from .errors import warn
from .runtime.cpu_memory import address
from .runtime.device import CPU
from .shapes import Size, contiguous_strides, is_contiguous

ndarray = np.ndarray


class Meta:
    """What few tensors have: history, gradient, hooks, version counter, view origin. Unset fields are class attributes."""

    node: Any = None                    # the autograd node that made it, and which output it is
    index = 0
    grad: Tensor | None = None
    hooks: dict[int, Callable] | None = None
    post_hooks: dict[int, Callable] | None = None
    retain = False
    version: list[int] | None = None    # shared by all views of one memory
    base: Tensor | None = None          # a view: of what, and the view operations that lead from there to here
    chain: tuple = ()
    seen = 0                            # base's version when ``node`` was made
    wrapped = False                     # stands for a Python number: lowest priority in promotion
    memory: Any = None                  # a CPU tensor made as a view while nothing was recorded: the array it is a view of
    frozen = False                      # shares memory in a way that its history does not show: no recorded write in place


_structure = [0]


def structure_changed() -> None:
    """Tells compiled functions that some module's parameters, buffers, submodules or training flag changed."""
    _structure[0] += 1


def structure_version() -> int:
    """How many times :func:`structure_changed` was called."""
    return _structure[0]


#: Set while tracing: turns ``holder[key]`` into a tensor re-read at each call.
_number_hook: list[Callable[[dict, str], Any] | None] = [None]


#: What compiles the modules that a function calls which runs eagerly (:mod:`fusetorch.compiler.parts`): each gives the callable to call
#: instead of a module, or ``None``.
module_hook: list[Callable[[Any], Callable | None]] = []


def runtime_number(holder: dict, key: str) -> Any:
    """``holder[key]``, a number that may change between calls: a float, or a 0-d tensor while tracing.

    Optimizers read learning rates through this, so that a schedule never makes a compiled step recompile.
    """
    hook = _number_hook[0]
    return holder[key] if hook is None else hook(holder, key)




class Tensor:
    """A multi-dimensional array with PyTorch's interface; make one with ``fusetorch.tensor`` and the other creation functions.

    Example:
        >>> import fusetorch as torch
        >>> (torch.tensor([1.0, 2.0]) * 3).tolist()
        [3.0, 6.0]
    """

    __slots__ = ("_a", "_req", "_x", "__dict__", "__weakref__")
    __array_priority__ = 1000

    _a: Any
    _req: bool
    _x: Meta | None

    def __new__(cls, *args: Any, **kwargs: Any) -> Tensor:
        from .ops.creation import legacy_constructor
        return legacy_constructor(cls, *args, **kwargs)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__module__.startswith(("fusetorch.", "torch.")):
            from .overrides import adopt
            adopt(cls)

    @classmethod
    def __torch_function__(cls, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Does a call for a subclass; see :mod:`fusetorch.overrides`."""
        from .overrides import run_default
        return run_default(cls, func, types, args, kwargs)

    # ---- what it is
    @property
    def shape(self) -> Size:
        """The sizes of all dimensions."""
        return Size(self._a.shape)

    @property
    def dtype(self) -> dtype:
        """The element type."""
        a = self._a
        return FROM_NUMPY[a.dtype] if type(a) is ndarray else a.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self._a.shape)

    @property
    def device(self) -> Any:
        """Where the memory is."""
        a = self._a
        return CPU if type(a) is ndarray else a.device

    def stride(self, dim: int | None = None) -> Any:
        """Strides in elements, or that of one dimension."""
        a = self._a
        s = strides_of(a)
        return s if dim is None else s[dim]

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dimension."""
        if dim is None:
            return Size(self._a.shape)
        s = self._a.shape
        if not -len(s) <= dim < len(s):
            raise IndexError(f"Dimension out of range (expected to be in range of [{-max(len(s), 1)}, "
                             f"{max(len(s), 1) - 1}], but got {dim})")
        return s[dim]

    def dim(self) -> int:
        """The number of dimensions."""
        return len(self._a.shape)

    def numel(self) -> int:
        """The number of elements."""
        return self._a.size

    nelement = numel

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self.dtype.itemsize

    def element_size(self) -> int:
        """Bytes per element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.numel() * self.dtype.itemsize

    def is_contiguous(self, memory_format: Any = None) -> bool:
        """Whether the elements lie in row-major order (or that of the memory format) without gaps."""
        a = self._a
        if memory_format is not None:
            from .formats import channels_order, is_channels_last
            if memory_format.name.startswith("channels"):
                return is_channels_last(a.shape, strides_of(a), memory_format)
            channels_order(len(a.shape), memory_format)
        return a.flags.c_contiguous if type(a) is ndarray else is_contiguous(a.shape, a.strides)

    def __len__(self) -> int:
        s = self._a.shape
        if not s:
            raise TypeError("len() of a 0-d tensor")
        return s[0]

    def is_floating_point(self) -> bool:
        """Whether the dtype is a floating one."""
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        """Whether the dtype is complex."""
        return self.dtype.is_complex

    @property
    def is_cuda(self) -> bool:
        """Whether the memory is on a CUDA device."""
        return self.device.type == "cuda"

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made this tensor."""
        return not self._req or self.grad_fn is None

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to this tensor."""
        return self._req

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and self.dtype.category < 2:
            raise RuntimeError(f"only Tensors of floating point and complex dtype can require gradients (got {self.dtype})")
        if not value and self.grad_fn is not None:
            raise RuntimeError("you can only change requires_grad flags of leaf variables. If you want to use a computed "
                               "variable in a subgraph that doesn't require differentiation use var_no_grad = var.detach().")
        self._req = bool(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Sets ``requires_grad`` in place."""
        self.requires_grad = requires_grad
        return self

    @property
    def grad_fn(self) -> Any:
        """The autograd node that made this tensor, or ``None``."""
        x = self._x
        if x is None:
            return None
        if x.base is not None and x.base._x.version[0] != x.seen:
            from .autograd import refresh_view
            refresh_view(self)
        if x.node is None:
            return None
        from .autograd.nodes import shown
        return shown(x.node)

    @property
    def grad(self) -> Tensor | None:
        """The accumulated gradient of a leaf (or of a tensor that retains it)."""
        x = self._x
        if _grad_reads:
            _grad_reads[-1].append(self)
        if x is None:
            return None
        if x.grad is None and x.node is not None and not x.retain:
            warn("The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute won't be populated "
                 "during autograd.backward(). If you indeed want the .grad field to be populated for a non-leaf Tensor, use "
                 ".retain_grad() on the non-leaf Tensor. If you access the non-leaf Tensor by mistake, make sure you access the leaf "
                 "Tensor instead. See github.com/pytorch/pytorch/pull/30531 for more informations.")
        return x.grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"assigned grad expected to be a Tensor or None but got grad of type {type(value).__name__}")
            if value.shape != self.shape:
                raise RuntimeError(f"attempting to assign a gradient of size '{list(value.shape)}' to a tensor of size "
                                   f"'{list(self.shape)}'. Please ensure that the gradient and the tensor are the same size")
            if value.dtype is not self.dtype:
                raise RuntimeError(f"attempting to assign a gradient with dtype '{value.dtype}' to a tensor with grad_dtype "
                                   f"'{self.dtype}'. Please ensure that the gradient and the tensor have the same dtype")
        meta(self).grad = value

    @grad.deleter
    def grad(self) -> None:
        meta(self).grad = None

    @property
    def data(self) -> Tensor:
        """The same memory without history (and, unlike ``detach``, without a common version counter)."""
        t = wrap(self._a)
        x = t._x = Meta()
        if type(t._a) is ndarray:
            x.memory = memory_of(self)
        return t

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
        if self._req and value.dtype.category < 2:
            raise RuntimeError("data set to a tensor that requires gradients must be floating point or complex dtype")
        self._a = value._a
        if self._x is not None or type(value._a) is ndarray:
            meta(self).memory = memory_of(value)

    @property
    def _version(self) -> int:
        x = self._x
        return 0 if x is None or x.version is None else x.version[0]

    def __hash__(self) -> int:
        return id(self)


#: The active tracer, if any (see :mod:`fusetorch.compiler.trace`).
tracer: list[Any] = [None]


def active_tracer() -> Any:
    """The tracer that records this thread's operations, or ``None``."""
    t = tracer[0]
    return t if t is not None and t.thread == get_ident() else None


def tracing() -> bool:
    """Whether this thread is tracing a function: then the values of tensors cannot be looked at."""
    t = tracer[0]
    return t is not None and t.thread == get_ident()


_new = object.__new__
#: While tracing, every new tensor is also told to the tracer, which must find those that outlive the call.
_watchers: list[weakref.WeakSet] = []
#: While tracing: the tensors whose ``.grad`` was looked at.
_grad_reads: list[list[Tensor]] = []


def wrap(a: Any) -> Tensor:
    """A tensor around an array, without history."""
    t = _new(Tensor)
    t._a = a
    t._req = False
    t._x = None
    if _watchers:
        _watchers[-1].add(t)
    return t


def announce(t: Tensor) -> Tensor:
    """Tells a trace about a tensor that was not made by :func:`wrap`."""
    if _watchers:
        _watchers[-1].add(t)
    return t


def meta(t: Tensor) -> Meta:
    """The tensor's :class:`Meta`, made at first need."""
    x = t._x
    if x is None:
        x = t._x = Meta()
    return x


def version_of(t: Tensor) -> list[int]:
    """The version counter of the tensor's memory, made at first need."""
    x = meta(t)
    if x.version is None:
        x.version = [0]
    return x.version


def memory_of(t: Tensor) -> Any:
    """The array whose memory a CPU tensor is a view of: its own, unless a view operation made it."""
    a, x = t._a, t._x
    while x is not None and x.base is not None:
        t = x.base
        x = t._x
    m = t._a if x is None or x.memory is None else x.memory
    if m is a or type(a) is not ndarray:
        return a
    return m if type(m) is ndarray and np.may_share_memory(a, m) else a


def address_of(a: Any) -> int:
    """The address of the first element of any array."""
    return address(a) if isinstance(a, ndarray) else a.ptr


def strides_of(a: Any) -> tuple[int, ...]:
    """Strides in elements of any array."""
    if type(a) is ndarray:
        n = a.itemsize
        return tuple([s // n for s in a.strides]) if a.size else contiguous_strides(a.shape)  # NumPy leaves those of no elements open
    return a.strides


def grad_of(t: Tensor) -> Tensor | None:
    """``t.grad``, not counted as a look by the program, and without its warning."""
    return None if t._x is None else t._x.grad
