"""The public functions, derived from the registry: one per :class:`~fusetorch.ops.opdef.OpDef`, with its signature and docs."""
from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

from numpy import ndarray

from . import casting, dispatch, short, writing
from .autograd.names import labels
from .autograd.nodes import packers
from .dtypes import PYTHON_TYPES, dtype
from .formats import strided
from .ops import load_all
from .ops.opdef import REGISTRY, Namespace, OpDef, check_dtype, fn, op_names
from .tensor import Tensor

_EMPTY = inspect.Parameter.empty


def _signature(op: OpDef, out: bool) -> tuple[str, dict[str, Any]]:
    env: dict[str, Any] = {}
    parts, starred = [], False
    for p in op.params:
        if p.keyword_only and not starred:
            parts.append("*")
            starred = True
        if p.default is _EMPTY:
            parts.append(p.name)
        else:
            env[f"_d_{p.name}"] = p.default
            parts.append(f"{p.name}=_d_{p.name}")
    if out:
        parts += [] if starred else ["*"]
        parts.append("out=None")
    return ", ".join(parts), env


def _tuple(names: list[str]) -> str:
    return "(" + "".join(n + ", " for n in names) + ")"


def derive(op: OpDef) -> Callable[..., Any]:
    """The public function of an op."""
    if op.kind == "composite":
        f = _composite(op)
        f.op = op
        return f
    operands = _tuple(list(op.operands))
    rest = _tuple([p.name for p in op.params if p.role in ("scalar", "static")])
    sig, env = _signature(op, op.kind != "view" and not op.writes)
    env.update(op=op, call=writing.update if op.writes else getattr(dispatch, op.kind))
    call = f"call(op, {operands}, {rest})" if op.writes else {"elementwise": f"call(op, {operands}, {rest}, out)",
            "reduction": f"call(op, {operands}, {rest}, dim, keepdim, out)",
            "view": f"call(op, input, {rest})",
            "opaque": f"call(op, {operands}, {rest}, out)"}[op.kind]
    usual = call
    if op.kind == "elementwise" and len(op.params) == 1:
        env["unary"], usual = dispatch.unary, f"unary(op, {op.params[0].name}, out)"
    if op.autocast:
        env.update(on=casting.on, autocast=casting.dispatched)
        usual = f"{usual} if not on[0] else {call.replace('call(op', 'autocast(call, op')}"
    return _build(op.name, sig, usual, env, op)


def _composite(op: OpDef) -> Callable[..., Any]:
    """A composite's body with all that its definition asks for: one function, for each further one around it would cost as much as a small
    kernel."""
    body, short_way, limit, on = op.body, op.short_fn, dispatch.fast_limit, casting.on
    renames, named = _other_names(op), labels(op.name)
    accepted: set[int] = set()  # dtypes that were not refused

    def plain(*args: Any, **kwargs: Any) -> Any:
        if op.refuses:
            first = args[0] if args else next(iter(kwargs.values()), None)
            if isinstance(first, Tensor) and (type(first._a) is not ndarray or first._a.dtype.num not in accepted):
                check_dtype(op, first.dtype)
                if type(first._a) is ndarray:
                    accepted.add(first._a.dtype.num)
        made = None
        if short_way is not None and limit[0] >= 0 and not packers:  # nothing is traced, and no hook wants to see what is saved
            made = short_way(*args, **kwargs)
        r = body(*args, **kwargs) if made is None else short.run(op, made, args, kwargs)
        if op.layout:
            r = writing.lay_out(op.layout, r, args or tuple(kwargs.values()))
        if named is not None and made is None:
            for t in r if isinstance(r, (tuple, list)) else (r,):
                if t._req and (not args or t is not args[0]) and t._x is not None and t._x.node is not None:
                    label = named if type(named) is str else named(args, kwargs)
                    if label is not None:
                        t._x.node.label = label
        return r

    def into(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        if out is None:
            return plain(*args, **kwargs)
        if op.out == "dtype":  # where none is given, the result has that of ``out``
            given = kwargs.get("dtype")
            if given is None:
                kwargs["dtype"] = out.dtype
            elif given is not out.dtype:
                raise RuntimeError(f"{op.name}(): dtype {given} does not match dtype of out parameter ({out.dtype})")
        made = op.out == "dtype" and not isinstance(args[0] if args else kwargs.get("input"), Tensor)
        inputs = (*args, *kwargs.values()) if op.out == "apart" else ()
        return writing.write_out(op.name, plain(*args, **kwargs), out, "made" if made else op.out, inputs)

    whole = into if op.out else plain

    def f(*args: Any, **kwargs: Any) -> Any:
        if kwargs and renames:
            _rename(op, renames, kwargs)
        if on[0] and op.autocast:
            return casting.composed(op, whole, args, kwargs)
        return whole(*args, **kwargs) if kwargs else plain(*args)

    if not (op.refuses or short_way or op.layout or named):
        if not (renames or op.autocast or op.out):
            return body
        plain = body
        whole = into if op.out else body
    elif not (renames or op.autocast or op.out):
        f = plain
    return functools.wraps(body)(f)


def derive_inplace(op: OpDef) -> Callable[..., Any]:
    """The in-place method of an op: same parameters, writes into the first."""
    sig, env = _signature(op, False)
    first = op.params[0].name
    if op.kind == "elementwise":
        rest = _tuple([p.name for p in op.params if p.role in ("scalar", "static")])
        env.update(op=op, call=writing.elementwise_)
        return _build(op.name + "_", sig, f"call(op, {_tuple(list(op.operands))}, {rest})", env, op)
    names = [(p.name + "=" if p.keyword_only else "") + p.name for p in op.params[1:]]
    env.update(f=getattr(fn, op.name), inplace=writing.inplace)
    body = f"inplace({op.name + '_'!r}, {first}, lambda before: f(before, {', '.join(names)}))"
    return _build(op.name + "_", sig, body, env, op)


def derive_nn(op: OpDef) -> Callable[..., Any]:
    """The ``nn.functional`` form: with ``inplace=False`` as last parameter where the op has an in-place form."""
    f = getattr(fn, op.name)
    if not op.inplace or op.kind == "composite":
        return f
    sig, env = _signature(op, False)
    names = ", ".join((p.name + "=" if p.keyword_only else "") + p.name for p in op.params)
    env.update(f=f, g=getattr(fn, op.name + "_"))
    head, star, tail = sig.partition(", *")
    return _placed(_build(op.name, f"{head}, inplace=False{star}{tail}", f"g({names}) if inplace else f({names})", env, op),
                   "fusetorch.nn.functional", op.name)


#: Compiled functions by signature and expression: many operations share them, and compiling is most of the import time.
_codes: dict[tuple[str, str], CodeType] = {}


def _build(name: str, sig: str, expression: str, env: dict[str, Any], op: OpDef) -> Callable[..., Any]:
    code = _codes.get((sig, expression))
    if code is None:
        code = _codes[sig, expression] = compile(f"def _function({sig}):\n    return {expression}\n", "<fusetorch functions>", "exec")
    exec(code, env)  # noqa: S102
    f = env.pop("_function")
    f.__code__ = f.__code__.replace(co_name=name)
    f.__doc__ = op.doc
    f.op = op
    return f


load_all()

#: Every name of an operation, and whether it is the in-place form. Functions are derived when first asked for.
_NAMES: dict[str, tuple[OpDef, bool]] = {}
for _op in REGISTRY.values():
    for _name in op_names(_op):
        _NAMES[_name] = _op, False
        if _op.inplace:
            _NAMES[_name + "_"] = _op, True


def _resolve(name: str) -> Callable[..., Any] | None:
    """The function of this name, the same for all aliases; ``None`` if no operation has it."""
    found = _NAMES.get(name)
    if found is None:
        return None
    op, inplace = found
    own = op.name + "_" if inplace else op.name
    if name != own:
        return getattr(fn, own)
    f = derive_inplace(op) if inplace else derive(op)
    return _placed(f if op.kind == "composite" and not inplace else _with_other_names(op, f), *_public_place(op, inplace))


#: NumPy's names, which PyTorch's functions know too, and ``input`` for the matrix ``A`` of linear algebra.
_OTHER_NAMES = {"axis": "dim", "keepdims": "keepdim", "input": "A"}


def _other_names(op: OpDef) -> list[tuple[str, str]]:
    """``(another name, ours)`` of the parameters that PyTorch's functions know by both; ``dtype``, which may be a type of Python; and
    ``layout``, where the operation makes strided tensors alone (and does not look at it itself: then its default is not ``None``)."""
    own = {p.name for p in op.params}
    names = [(theirs, ours) for theirs, ours in (*_OTHER_NAMES.items(), *op.also.items()) if ours in own and theirs not in own]
    strided_only = any(p.name == "layout" and p.default is None for p in op.params)
    return names + [("dtype", "dtype")] * ("dtype" in own) + [("layout", "layout")] * strided_only


def _rename(op: OpDef, names: list[tuple[str, str]], kwargs: dict[str, Any]) -> None:
    for theirs, ours in names:
        if theirs in kwargs:
            if theirs == "dtype":
                given = kwargs["dtype"]
                if given is not None and not isinstance(given, dtype):
                    if not isinstance(given, type) or given not in PYTHON_TYPES:
                        raise TypeError(f"{op.name}(): argument 'dtype' must be torch.dtype, not {type(given).__name__}")
                    kwargs["dtype"] = PYTHON_TYPES[given]
            elif theirs == "layout":
                if kwargs["layout"] not in (None, strided):
                    raise NotImplementedError(f"{op.name}() is not implemented for the layout {kwargs['layout']}: it makes strided "
                                              "tensors; to_sparse() turns them into sparse ones")
            elif ours in kwargs:
                raise TypeError(f"{op.name}() got both {ours!r} and {theirs!r}, which mean the same")
            else:
                kwargs[ours] = kwargs.pop(theirs)


def _with_other_names(op: OpDef, f: Callable[..., Any]) -> Callable[..., Any]:
    """``f``, which knows parameters by their other names, too."""
    names = _other_names(op)
    if not names:
        return f

    @functools.wraps(f)
    def g(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            _rename(op, names, kwargs)
        return f(*args, **kwargs)
    return g


def _public_place(op: OpDef, inplace: bool) -> tuple[str, str]:
    """The module and the name under which users find the function of an operation; pickles name it so."""
    name = op.name + "_" if inplace else op.name
    if op.function and (not inplace or _alone(op)):
        return "fusetorch", name
    if op.nn:
        return "fusetorch.nn.functional", name
    dotted = next((alias for alias in op.aliases if "." in alias), None)
    if dotted is not None and not inplace:
        module, _, name = dotted.rpartition(".")
        return "fusetorch." + module, name
    return "fusetorch", f"Tensor.{name}"


def _placed(f: Callable[..., Any], module: str, name: str) -> Callable[..., Any]:
    f.__module__, f.__qualname__, f.__name__ = module, name, name.rpartition(".")[2]
    return f


#: In-place forms that are functions, too, though of several operands.
_WITH_IN_PLACE = frozenset({"addmv", "clamp_max", "clamp_min", "gcd", "lcm", "ldexp", "threshold", "xlogy"})


def _alone(op: OpDef) -> bool:
    """Whether the in-place form is a function too: there is torch.exp_, but no torch.add_."""
    return op.name in _WITH_IN_PLACE or op.kind == "elementwise" and sum(p.default is _EMPTY for p in op.params) == 1


Namespace.resolve = staticmethod(_resolve)


def names(nn: bool) -> Iterator[str]:
    """The names offered as ``fusetorch.<name>``, or with ``nn`` as ``fusetorch.nn.functional.<name>``."""
    for op in REGISTRY.values():
        if op.nn if nn else op.function:
            yield from op_names(op)
            if op.inplace and (nn or _alone(op)):
                yield from [name + "_" for name in op_names(op)]


def nn_functions() -> dict[str, Callable[..., Any]]:
    """The functions of ``fusetorch.nn.functional``."""
    made: dict[str, Callable[..., Any]] = {}
    for name in names(nn=True):
        op, inplace = _NAMES[name]
        made[name] = getattr(fn, name) if inplace else made[op.name] if op.name in made else derive_nn(op)
    return made


def namespace(module: str) -> dict[str, Callable[..., Any]]:
    """The functions of ``fusetorch.<module>``: those with an alias such as ``linalg.inv``, under its last part."""
    return {alias.rpartition(".")[2]: getattr(fn, op.name) for op in REGISTRY.values() for alias in op.aliases
            if alias.rpartition(".")[0] == module}


def __getattr__(name: str) -> Callable[..., Any]:
    """The public functions are attributes here too, as some are of ``torch.functional``."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(fn, name)
