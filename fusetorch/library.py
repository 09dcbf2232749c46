"""``torch.library`` and ``torch.ops``: operators that a program names and registers itself, ``namespace::name``.

An operator is its Python kernels, one for each device, and what ``register_autograd`` says of its gradient. It runs as they do, eagerly and
while a function is compiled; ``register_fake`` is accepted, and nothing needs it. Compiled libraries (``torch.ops.load_library``) cannot
be loaded.
"""
from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import fusetorch as torch
from fusetorch.autograd import Function
from fusetorch.errors import refusal
from fusetorch.tensor import Tensor

__all__ = ["CustomOpDef", "Library", "custom_op", "define", "impl", "infer_schema", "register_autocast", "register_autograd",
           "register_fake", "register_kernel", "register_vmap", "triton_op", "wrap_triton"]

#: Every operator, by its qualified name.
_OPERATORS: dict[str, CustomOpDef] = {}

#: Dispatch keys of ``Library.impl`` for which a kernel is kept, and the device (None: every device) that it then serves.
_KEYS = {"CPU": "cpu", "CUDA": "cuda", "": None, "CompositeImplicitAutograd": None, "CompositeExplicitAutograd": None}

_TYPES = {torch.Tensor: "Tensor", int: "SymInt", float: "float", bool: "bool", str: "str", torch.dtype: "ScalarType",
          torch.device: "Device"}


class CustomOpDef:
    """An operator made by :func:`custom_op` or :meth:`Library.define`; call it, and register more about it."""

    def __init__(self, name: str, parameters: Sequence[inspect.Parameter] | None) -> None:
        namespace, _, short = name.partition("::")
        if not short or not namespace.isidentifier():
            raise ValueError(f"the name of an operator is 'namespace::name', got {name!r}")
        self._qualname = name
        self.__name__ = short.partition(".")[0]
        self._signature = None if parameters is None else inspect.Signature(list(parameters))
        self._kernels: dict[str | None, Callable] = {}
        self._implicit = False
        self._backward: Callable | None = None
        self._setup_context: Callable | None = None
        self._fake: Callable | None = None

    def __repr__(self) -> str:
        return f"<CustomOpDef({self._qualname})>"

    @property
    def default(self) -> CustomOpDef:
        """The operator itself: it has one overload."""
        return self

    def overloads(self) -> list[str]:
        """``["default"]``."""
        return ["default"]

    def register_kernel(self, device_types: str | Sequence[str] | None, func: Callable | None = None, /) -> Callable:
        """Gives the kernel for one or several devices (None: for every one); a decorator without ``func``."""
        def register(func: Callable) -> Callable:
            for device in [device_types] if device_types is None or isinstance(device_types, str) else device_types:
                self._kernels[device] = func
            return func
        return register if func is None else register(func)

    def register_fake(self, func: Callable, /) -> Callable:
        """Keeps the shape rule. Compilation runs the kernel itself, so nothing calls it."""
        self._fake = func
        return func

    def register_autograd(self, backward: Callable, /, *, setup_context: Callable | None = None) -> None:
        """Gives the gradient: ``backward(ctx, *grads)`` returns one for each argument; ``setup_context(ctx, inputs, output)``
        saves for it what it needs."""
        self._backward, self._setup_context = backward, setup_context

    def register_vmap(self, func: Callable | None = None, /) -> Callable:
        """Accepted: ``vmap`` maps the kernel itself."""
        return (lambda f: f) if func is None else func

    def register_autocast(self, device_type: str, cast_inputs: torch.dtype) -> None:
        """Not supported: an operator sees its operands as they are.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"{self._qualname}: register_autocast is not supported; cast the operands inside the operator")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._signature is not None:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            args, kwargs = bound.args, bound.kwargs
        kernel = self._kernel([*args, *kwargs.values()])
        if self._implicit:
            return kernel(*args, **kwargs)
        if not torch.is_grad_enabled() or not any(t.requires_grad for t in _tensors([*args, *kwargs.values()])):
            with torch.no_grad():
                return kernel(*args, **kwargs)
        return _function(self, kernel, kwargs).apply(*args)

    def _kernel(self, args: Iterable[Any]) -> Callable:
        devices = [t.device.type for t in _tensors(args)]
        for device in [*devices, None]:
            if device in self._kernels:
                return self._kernels[device]
        where = devices[0] if devices else "cpu"
        raise NotImplementedError(f"Could not run '{self._qualname}' with arguments from the '{where.upper()}' backend: it has kernels for "
                                  f"{sorted(k or 'every device' for k in self._kernels) or 'no device'}")


def _tensors(args: Iterable[Any]) -> list[torch.Tensor]:
    """The tensors among arguments and in lists of them."""
    return [t for a in args for t in (a if isinstance(a, (list, tuple)) else (a,)) if isinstance(t, torch.Tensor)]


def _function(op: CustomOpDef, kernel: Callable, kwargs: dict[str, Any]) -> type[Function]:
    """The differentiable form of one call."""
    def forward(ctx: Any, *args: Any) -> Any:
        output = kernel(*args, **kwargs)
        if op._setup_context is not None:
            given = {"keyword_only_inputs": kwargs} if kwargs else {}
            op._setup_context(ctx, args, output, **given)
        return output

    def backward(ctx: Any, *grads: Any) -> Any:
        if op._backward is None:
            raise RuntimeError(f"Trying to backward through {op._qualname}.default but no autograd formula was registered. If you want to "
                               f"use it in a model that is differentiated, give it one with register_autograd")
        return op._backward(ctx, *grads)

    return type(op.__name__, (Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)})


def custom_op(name: str, fn: Callable | None = None, /, *, mutates_args: str | Iterable[str],
              device_types: str | Sequence[str] | None = None, schema: str | None = None, tags: Any = None) -> Any:
    """Makes an operator of a function: a decorator, or with ``fn`` the operator.

    Args:
        name: ``"namespace::name"``.
        fn: the kernel; its parameters are the operator's.
        mutates_args: names of the arguments that it changes in place.
        device_types: devices that this kernel is for; None: every one.
        schema: the operator's signature, else that of ``fn``.

    Example:
        >>> import fusetorch as torch
        >>> @torch.library.custom_op("docs::twice", mutates_args=())
        ... def twice(x: torch.Tensor) -> torch.Tensor:
        ...     return 2 * x
        >>> torch.ops.docs.twice(torch.ones(2))
        tensor([2., 2.])
    """
    def make(fn: Callable) -> CustomOpDef:
        op = CustomOpDef(name, inspect.signature(fn).parameters.values())
        op.__doc__ = fn.__doc__
        op.register_kernel(device_types, fn)
        _OPERATORS[name] = op
        return op
    return make if fn is None else make(fn)


#: PyTorch's ``triton_op`` marks kernels that its compiler may look into; here it makes an operator like any other.
triton_op = custom_op


def wrap_triton(triton_kernel: Callable, /) -> Callable:
    """The kernel itself."""
    return triton_kernel


def _found(op: str | CustomOpDef) -> CustomOpDef:
    """The operator of a name; one without kernels where nobody has defined it yet."""
    if isinstance(op, CustomOpDef):
        return op
    name = op.removesuffix(".default")
    if name not in _OPERATORS:
        _OPERATORS[name] = CustomOpDef(name, None)
    return _OPERATORS[name]


def register_kernel(op: str | CustomOpDef, device_types: str | Sequence[str] | None, func: Callable | None = None, /, *,
                    lib: Library | None = None) -> Callable:
    """:meth:`CustomOpDef.register_kernel` of the operator called ``op``."""
    return _found(op).register_kernel(device_types, func)


def register_fake(op: str | CustomOpDef, func: Callable | None = None, /, *, lib: Library | None = None, _stacklevel: int = 1,
                  allow_override: bool = False) -> Callable:
    """:meth:`CustomOpDef.register_fake` of the operator called ``op``; a decorator without ``func``."""
    return _found(op).register_fake if func is None else _found(op).register_fake(func)


def register_autograd(op: str | CustomOpDef, backward: Callable, /, *, setup_context: Callable | None = None,
                      lib: Library | None = None) -> None:
    """:meth:`CustomOpDef.register_autograd` of the operator called ``op``."""
    _found(op).register_autograd(backward, setup_context=setup_context)


def register_vmap(op: str | CustomOpDef, func: Callable | None = None, /, *, lib: Library | None = None) -> Callable:
    """:meth:`CustomOpDef.register_vmap` of the operator called ``op``."""
    return _found(op).register_vmap(func)


def register_autocast(op: str | CustomOpDef, device_type: str, cast_inputs: torch.dtype, /, *, lib: Library | None = None) -> None:
    """:meth:`CustomOpDef.register_autocast` of the operator called ``op``."""
    _found(op).register_autocast(device_type, cast_inputs)


def infer_schema(prototype_function: Callable, /, *, mutates_args: str | Iterable[str], op_name: str | None = None) -> str:
    """The schema of a function in PyTorch's notation, from its annotations.

    Raises:
        ValueError: for a parameter without an annotation.
    """
    def written(annotation: Any, changed: bool = False) -> str:
        if isinstance(annotation, str):
            annotation = eval(annotation, prototype_function.__globals__)  # noqa: S307 - the function's own annotation
        inner = getattr(annotation, "__args__", ())
        if type(None) in inner:
            return written(next(a for a in inner if a is not type(None)), changed) + "?"
        if inner and getattr(annotation, "__origin__", None) in (list, Sequence):
            return written(inner[0]) + "[]"
        name = _TYPES.get(annotation, getattr(annotation, "__name__", str(annotation)))
        return name + "(a!)" * changed

    parts, marked = [], False
    for p in inspect.signature(prototype_function).parameters.values():
        if p.annotation is p.empty:
            raise ValueError(f"infer_schema: Parameter {p.name} must have a type annotation")
        if p.kind is p.KEYWORD_ONLY and not marked:
            parts.append("*")
            marked = True
        changed = p.name in mutates_args if mutates_args != "unknown" else p.annotation is torch.Tensor
        parts.append(f"{written(p.annotation, changed)} {p.name}" + (f"={p.default}" if p.default is not p.empty else ""))
    result = inspect.signature(prototype_function).return_annotation
    outputs = getattr(result, "__args__", ()) if getattr(result, "__origin__", None) is tuple else ()
    returned = "()" if result in (None, type(None), "None") else f"({', '.join(map(written, outputs))})" if outputs else written(result)
    return f"{op_name or ''}({', '.join(parts)}) -> {returned}"


# ---------------------------------------------------------------------------------------------------- by schema


def _parameters(schema: str) -> list[inspect.Parameter]:
    """The parameters that a schema such as ``(Tensor x, int n=1, *, bool flag=False) -> Tensor`` declares."""
    inside = schema.partition("->")[0].strip()
    inside = inside[inside.index("(") + 1:inside.rindex(")")]
    found, depth, start = [], 0, 0
    for i, c in enumerate(inside + ","):
        depth += (c in "([") - (c in ")]")
        if c == "," and depth == 0:
            found.append(inside[start:i].strip())
            start = i + 1
    kind, parameters = inspect.Parameter.POSITIONAL_OR_KEYWORD, []
    for text in filter(None, found):
        if text == "*":
            kind = inspect.Parameter.KEYWORD_ONLY
            continue
        declared, _, default = text.partition("=")
        parameters.append(inspect.Parameter(declared.split()[-1], kind, default=_literal(default) if default else inspect.Parameter.empty))
    return parameters


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


class Library:
    """Operators of a namespace, declared by schema: ``define`` one, then ``impl`` its kernels.

    Args:
        ns: the namespace.
        kind: ``"DEF"``, ``"FRAGMENT"`` or ``"IMPL"``.
        dispatch_key: the key of kernels given without one.

    Example:
        >>> import fusetorch as torch
        >>> lib = torch.library.Library("docs", "FRAGMENT")
        >>> lib.define("thrice(Tensor x) -> Tensor")
        'thrice'
        >>> lib.impl("thrice", lambda x: 3 * x, "CPU")
        >>> torch.ops.docs.thrice(torch.ones(1))
        tensor([3.])
    """

    def __init__(self, ns: str, kind: str, dispatch_key: str = "") -> None:
        if kind not in ("IMPL", "DEF", "FRAGMENT"):
            raise ValueError(f"Unsupported kind: {kind}")
        self.ns, self.kind, self.dispatch_key = ns, kind, dispatch_key

    def define(self, schema: str, alias_analysis: str = "", *, tags: Any = ()) -> str:
        """Declares an operator and returns its name."""
        name = schema.partition("(")[0].strip()
        define(f"{self.ns}::{name}", schema[schema.index("("):])
        return name

    def impl(self, op_name: str | CustomOpDef, fn: Callable, dispatch_key: str = "", *, with_keyset: bool = False,
             allow_override: bool = False) -> None:
        """Gives an operator's kernel for a dispatch key. Those for shapes alone (``"Meta"``) and for autocast are not used.

        Raises:
            NotImplementedError: for the key of autograd; ``register_autograd`` gives a gradient.
        """
        key = dispatch_key or self.dispatch_key
        if key.startswith("Autograd"):
            raise NotImplementedError(f"Library.impl: {op_name} with dispatch key {key!r} is not supported; use "
                                      "torch.library.register_autograd")
        if key in _KEYS:
            op = _found(op_name if isinstance(op_name, CustomOpDef) or "::" in op_name else f"{self.ns}::{op_name}")
            op._kernels[_KEYS[key]] = fn
            op._implicit |= key in ("", "CompositeImplicitAutograd")

    def _destroy(self) -> None:
        """Forgets the namespace's operators."""
        for name in [n for n in _OPERATORS if n.startswith(self.ns + "::")]:
            del _OPERATORS[name]


def define(qualname: str, schema: str, *, lib: Library | None = None, tags: Any = ()) -> None:
    """Declares an operator by its schema, ``"(Tensor x, int n=1) -> Tensor"``."""
    name = qualname.partition(".")[0]
    _found(name)._signature = inspect.Signature(_parameters(schema))


def impl(qualname: str, types: str | Sequence[str], func: Callable | None = None, *, lib: Library | None = None) -> Callable | None:
    """Gives an operator's kernel for ``"cpu"``, ``"cuda"`` or ``"default"`` (every device); a decorator without ``func``."""
    def register(func: Callable) -> None:
        for device in [types] if isinstance(types, str) else types:
            _found(qualname)._kernels[None if device == "default" else _KEYS.get(device, device)] = func
            _found(qualname)._implicit |= device in ("default", "CompositeImplicitAutograd")
    return register if func is None else register(func)


# ---------------------------------------------------------------------------------------------------- torch.ops


def _to_copy(self: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None,
             non_blocking: bool = False, memory_format: Any = None) -> Tensor:
    return self.to(dtype=dtype or self.dtype, device=device or self.device, copy=True,
                   memory_format=memory_format or torch.preserve_format)


def _slice(self: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Tensor:
    return self[(slice(None),) * (dim % self.dim()) + (slice(start, end, step),)]


def _index(self: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    return self[tuple(slice(None) if i is None else i for i in indices)]


#: Names under which ``torch.ops.aten`` offers what is no function of its own elsewhere.
_ATEN: dict[str, Callable] = {
    "_conj": Tensor.conj, "_local_scalar_dense": Tensor.item, "_pin_memory": Tensor.pin_memory, "_to_copy": _to_copy,
    "_unsafe_view": Tensor.view, "alias": lambda self: self.view(self.shape), "index": _index, "slice": _slice,
    "sym_numel": Tensor.numel, "sym_size": Tensor.size, "sym_stride": Tensor.stride}


def _absent(name: str) -> Callable:
    return refusal(name, NotImplementedError, f"torch.ops.aten.{name} is not supported; use the functions and methods of tensors")


#: Kernels of PyTorch's that libraries of tensor subclasses name in tables of what they override.
_ATEN |= {name: _absent(name) for name in ("_sparse_addmm", "_sparse_mm_reduce_impl", "_grouped_mm", "_fft_c2c", "_assert_async",
                                           "_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range_for_size")}


class _Packet:
    """``torch.ops.aten.add``: a function under its name there; an overload (``.Tensor``, ``.default``) is the function again."""

    def __init__(self, name: str, function: Callable) -> None:
        self.__name__, self._function = name, function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<OpOverloadPacket(op='aten.{self.__name__}')>"

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._function

    def overloads(self) -> list[str]:
        """``["default"]``."""
        return ["default"]


class _Namespace:
    """``torch.ops.<namespace>``."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> Any:
        if f"{self.name}::{name}" in _OPERATORS:
            return _OPERATORS[f"{self.name}::{name}"]
        if self.name == "aten":
            function = _ATEN.get(name) or next((getattr(owner, name) for owner in (torch, torch.nn.functional, Tensor)
                                                if hasattr(owner, name)), None)
            if callable(function):
                return _Packet(name, function)
        raise AttributeError(f"'_OpNamespace' '{self.name}' object has no attribute '{name}'", name=name, obj=self)

    def __dir__(self) -> list[str]:
        return sorted(n.partition("::")[2] for n in _OPERATORS if n.startswith(self.name + "::"))


_namespaces: dict[str, _Namespace] = {}


def namespace(name: str) -> _Namespace:
    """The operators registered in a namespace; ``aten`` holds those of fusetorch."""
    return _namespaces.setdefault(name, _Namespace(name))


def load_library(path: str) -> None:
    """Raises ``OSError``: a compiled library of operators is linked to PyTorch."""
    raise OSError(f"Could not load this library: {path} (libraries of operators are linked to PyTorch; fusetorch runs operators "
                  "written in Python, see torch.library.custom_op)")
