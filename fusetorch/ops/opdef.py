"""The registry: what it means to define an operation, once.

Each decorator here makes an :class:`OpDef` from one function and files it in :data:`REGISTRY`. Everything else (the public
function, the method, the operator, the in-place form, tracing, gradients, kernels, docs, tests) is derived from that.

======================  ===============================================  =========================================
decorator               the function is                                  and beside it
======================  ===============================================  =========================================
:func:`elementwise`     a body over :mod:`primitives` expressions        optionally ``@op.vjp``; else derived
:func:`reduction`       a body with ``reduce`` (``dim``, ``keepdim``)    ``@op.vjp``
:func:`view`            a map of (shape, strides, offset)                ``@op.numpy``, ``@op.vjp``
:func:`opaque`          the shape rule                                   ``@op.cpu``, ``@op.cuda``, ``@op.vjp``
:func:`composite`       a body over public ops                           nothing
======================  ===============================================  =========================================

Parameters follow PyTorch's names. In an elementwise or reduction body an unannotated parameter is an operand (tensor or number),
one annotated ``float`` is a run-time scalar (a new value never compiles anything), any other annotation makes it static.
In the other kinds unannotated parameters are tensors and annotated ones are static attributes.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..dtypes import HALVES, SCALAR_TYPES, dtype, float32, get_default_dtype, result_type
from .expr import Expr, cast, load, scalar, walk
from .primitives import PRIMITIVES

_EMPTY = inspect.Parameter.empty

REGISTRY: dict[str, OpDef] = {}


class Namespace:
    """The public functions by name, for vjps and composite bodies: ``fn.softmax(x, -1)``. ``fusetorch.functional`` says how a name is
    resolved when it is first used."""

    resolve: Callable[[str], Callable[..., Any] | None] = staticmethod(lambda name: None)

    def __getattr__(self, name: str) -> Any:
        f = type(self).resolve(name)
        if f is None:
            raise AttributeError(f"fusetorch has no operation named {name!r}")
        setattr(self, name, f)
        return f


fn = Namespace()


@dataclass
class Sample:
    """One example call: positional ``args`` and ``kwargs``; NumPy arrays stand for tensors."""

    args: tuple
    kwargs: dict[str, Any] = field(default_factory=dict)
    grad: bool = True  # smooth here: compare the gradient with finite differences


class Short(NamedTuple):
    """What a composite's short way gives: the result, and how to differentiate it.

    ``backward(g)`` maps the result's gradient to one array or ``None`` for each of ``operands``. It may read the arrays of those in
    ``saved``: writing to them in place before the backward is an error.
    """

    result: Any
    operands: tuple[Any, ...]
    saved: tuple[Any, ...]
    backward: Callable[[Any], Sequence[Any]]


class Param(NamedTuple):
    """A parameter of an operation. ``role``: ``operand``, ``tensors`` (a list of them), ``scalar`` or ``static``."""

    name: str
    role: str
    default: Any
    keyword_only: bool


@dataclass(eq=False)
class OpDef:
    """An operation; see the module's docstring. ``eq`` is identity."""

    name: str
    kind: str
    body: Callable[..., Any]
    params: tuple[Param, ...]
    doc: str
    function: bool = True
    method: bool = True
    nn: bool = False                    # offered in nn.functional
    inplace: bool = False
    operators: tuple[str, ...] = ()     # "__add__": also its reflected and in-place forms where Python has them
    aliases: tuple[str, ...] = ()       # other names; a dotted one, "linalg.inv", is offered in that module
    also: dict[str, str] = field(default_factory=dict)  # other keyword names of parameters: {"theirs": "ours"}
    promote: str = "default"            # default | float (integers become floating) | floating (integers are refused) | none
    keep: tuple[str, ...] = ()          # operands left out of promotion
    differentiable: bool = True
    samples: Callable[[], list[Sample]] | None = None
    oracle: Callable[..., Any] | None = None
    domain: tuple[float, float] = (-3.0, 3.0)
    vjp_fn: Callable[..., Any] | None = None
    saves: tuple[str, ...] = ()
    check_fn: Callable[..., None] | None = None
    kinds_fn: Callable[..., None] | None = None
    instead_fn: Callable[..., Any] | None = None
    short_fn: Callable[..., Any] | None = None
    kernels: dict[str, Callable[..., Any]] = field(default_factory=dict)
    random: bool = False                # draws from the generator
    n_outputs: int = 1
    row_major: bool = False             # the result is row-major whatever the operands' layout
    layout: str = ""                    # a rule of its own for the results' layout: formats.RESULT_LAYOUTS
    numbers: str = "rest"               # which elementwise operands may be Python numbers: any | rest (not the first) | none
    out: bool | str = False             # a composite that takes ``out=``, as the other kinds do; "exact": of the result's dtype only;
                                        # "apart": and sharing no memory with an operand; "dtype": where no dtype is given, the result
                                        # has that of ``out``
    nonempty: bool = False              # a reduction without a value for no elements
    refuses: str = ""                   # dtypes that it does not take, though its body or kernel would: bool integer half complex
    retype: Callable[[dtype], dtype] | None = None  # a view of another dtype: its dtype; strides and offset are in elements of that
    autocast: str = ""                  # what autocast does to operands: lower | float32 | promote; see fusetorch/casting.py
    writes: bool = False                # elementwise over lists: the outputs are written into the first operands
    part: bool = False                  # a view that shows some elements, each once: gradients of several add up in one memory

    def __post_init__(self) -> None:
        if self.name in REGISTRY:
            raise ValueError(f"operation {self.name!r} is defined twice")
        REGISTRY[self.name] = self
        self.operands = tuple(p.name for p in self.params if p.role in ("operand", "tensors"))
        self.position = {p.name: i for i, p in enumerate(self.params)}
        self.statics = tuple(p.name for p in self.params if p.role == "static")
        self.scalar_params = tuple(p.role == "scalar" for p in self.params if p.role in ("scalar", "static"))
        #: all those parameters left at ``None``, and what they add to the key of a spec
        self.unset, self.unset_key = (None,) * len(self.scalar_params), tuple(True if s else None for s in self.scalar_params)
        self.specs: dict[Any, LoopSpec] = {}

    def vjp(self, *saves: str) -> Callable[[Callable], Callable]:
        """Registers ``f(ctx, *grads) -> gradient per operand``; ``ctx`` offers the saved operands, and ``"out"``."""
        def register(f: Callable) -> Callable:
            self.vjp_fn, self.saves = f, saves
            return f
        return register

    def check(self, f: Callable) -> Callable:
        """Registers ``f(**arguments)``, called before an elementwise operation runs, to refuse bad values."""
        self.check_fn = f
        return f

    def check_kinds(self, f: Callable) -> Callable:
        """Registers ``f(kinds)``, called once for operands of new dtypes, to refuse them: per operand a dtype, the type of a number, or
        ``None``."""
        self.kinds_fn = f
        return f

    def instead(self, f: Callable) -> Callable:
        """Registers ``f(**arguments)``, which may compute a call of an elementwise operation by a cheaper one; ``None``: not this one."""
        self.instead_fn = f
        return f

    def short(self, f: Callable) -> Callable:
        """Registers ``f``, with the body's parameters, that may compute a composite's call on CPU arrays in one step: a :class:`Short`, or
        ``None`` where the call is not for it. It is asked only where nothing is traced."""
        self.short_fn = f
        return f

    def _kernel(self, device: str) -> Callable[[Callable], Callable]:
        def register(f: Callable) -> Callable:
            self.kernels[device] = f
            return f
        return register

    @property
    def cpu(self) -> Callable[[Callable], Callable]:
        """Registers the kernel over NumPy arrays."""
        return self._kernel("cpu")

    @property
    def cuda(self) -> Callable[[Callable], Callable]:
        """Registers the kernel over device arrays."""
        return self._kernel("cuda")

    @property
    def numpy(self) -> Callable[[Callable], Callable]:
        """Registers a view's NumPy form."""
        return self._kernel("numpy")

    def __repr__(self) -> str:
        return f"<op {self.name} ({self.kind})>"


def op_names(op: OpDef) -> list[str]:
    """An operation's names as function and method: its own and its aliases, but for those of other modules."""
    return [op.name, *(a for a in op.aliases if "." not in a)]


def _define(kind: str, **options: Any) -> Callable[[Callable], OpDef]:
    def decorate(body: Callable) -> OpDef:
        name = options.pop("name", None) or body.__name__
        params = []
        for p, note, default, keyword_only in _parameters(body):
            if kind == "view" and p in ("shape", "strides", "offset") and note is _EMPTY:
                continue
            role = ("dim" if kind == "reduction" and p in ("dim", "keepdim") else
                    "operand" if note is _EMPTY else
                    "tensors" if note == "Tensors" else
                    "scalar" if note == "float" and kind in ("elementwise", "reduction") else "static")
            params.append(Param(p, role, default, keyword_only))
        if kind == "view":
            params.insert(0, Param("input", "operand", _EMPTY, False))
        return OpDef(name, kind, body, tuple(params), body.__doc__ or "", **options)
    return decorate


def _parameters(body: Any) -> Iterator[tuple[str, Any, Any, bool]]:
    """``(name, annotation, default, keyword only)`` of a function's parameters: what :mod:`inspect` would say, but hundreds of
    operations are defined at import and it would take a third of that time."""
    code, notes = body.__code__, body.__annotations__
    names, n, k = code.co_varnames, code.co_argcount, code.co_kwonlyargcount
    defaults = body.__defaults__ or ()
    for i in range(n):
        j = i - n + len(defaults)
        yield names[i], notes.get(names[i], _EMPTY), defaults[j] if j >= 0 else _EMPTY, False
    if code.co_flags & inspect.CO_VARARGS:
        yield names[n + k], notes.get(names[n + k], _EMPTY), _EMPTY, False
    for name in names[n:n + k]:
        yield name, notes.get(name, _EMPTY), (body.__kwdefaults__ or {}).get(name, _EMPTY), True


def elementwise(**options: Any) -> Callable[[Callable], OpDef]:
    """An operation on each element, with broadcasting and promotion."""
    return _define("elementwise", **options)


def reduction(**options: Any) -> Callable[[Callable], OpDef]:
    """An operation over the dimensions ``dim`` (any set; all by default), with ``keepdim``."""
    return _define("reduction", **options)


def view(**options: Any) -> Callable[[Callable], OpDef]:
    """Another look at the same memory."""
    return _define("view", **options)


def opaque(**options: Any) -> Callable[[Callable], OpDef]:
    """An operation with a kernel per device that the fuser treats as a whole."""
    return _define("opaque", **options)


def composite(**options: Any) -> Callable[[Callable], OpDef]:
    """An operation written with others."""
    return _define("composite", **options)


@dataclass(frozen=True)
class As:
    """A body's result with the dtype to store it as, where that is not the promoted one."""

    value: Expr
    dtype_out: dtype


class LoopSpec:
    """An elementwise or reduction operation at given dtypes: expressions ready to run, fuse and differentiate.

    ``values`` read ``load`` 0 .. n-1 (stored dtypes ``in_dtypes``) and ``scalar`` 0 .. m-1 (dtypes ``scalars``). ``full[j]`` says
    whether output *j* has the whole index space or the reduced one.
    """

    __slots__ = ("name", "op", "in_dtypes", "values", "out_dtypes", "full", "scalars", "reduces", "single", "numpy", "plans",
                 "grads", "kernel_cache", "primitives", "differentiable", "passes", "direct", "complex", "_parts", "launchers",
                 "own_layout", "writes", "flat")

    def __init__(self, name: str, op: OpDef | None, in_dtypes: Sequence[dtype], values: Sequence[Expr],
                 out_dtypes: Sequence[dtype], full: Sequence[bool], scalars: Sequence[dtype], reduces: bool) -> None:
        from ..codegen.numpy_source import numpy_function
        self.name, self.op, self.reduces = name, op, reduces
        self.in_dtypes, self.values, self.out_dtypes = tuple(in_dtypes), tuple(values), tuple(out_dtypes)
        self.full, self.scalars = tuple(full), tuple(scalars)
        #: how many passes over the elements NumPy makes
        self.passes = max(1, sum([PRIMITIVES[e.op].passes if e.op in PRIMITIVES else 1 for e in walk(self.values) if e.args]))
        #: one primitive over its inputs: NumPy does it in one pass
        self.single = len(values) == 1 and sum(1 for a in values[0].args if a.args) == 0 and self.passes == 1 and not any(
            d in HALVES for d in in_dtypes)
        self.numpy = numpy_function(self.values, self.out_dtypes, len(in_dtypes), len(scalars), reduces)
        #: which outputs can have a gradient
        self.differentiable = tuple([d.category >= 2 for d in out_dtypes])
        #: results have a layout of their own, not that of the operands
        self.own_layout = op is not None and bool(op.row_major or op.layout)
        self.writes = op is not None and op.writes
        #: an operation that is nothing but its loop: one result, in the layout that NumPy gives it
        self.direct = op is not None and len(values) == 1 and not (op.row_major or op.layout or op.check_fn or op.instead_fn) and any(
            e.op == "load" for e in walk(values))
        self.plans: dict[Any, Any] = {}
        self.launchers: dict[Any, Any] = {}
        self.flat: Any = None
        self.grads: dict[Any, Any] = {}
        self.kernel_cache: dict[Any, Any] = {}
        self.primitives = frozenset(e.op for e in walk(self.values))
        #: whether complex numbers occur: native and GPU loops then run over their parts
        self.complex = any(e.dtype.category == 3 for e in walk(self.values)) or any(d.category == 3 for d in self.in_dtypes)
        self._parts: Any = None

    @property
    def parts(self) -> RealForm:
        """How native loops and GPU kernels run a spec over complex numbers."""
        if self._parts is None:
            self._parts = _real_form(self)
        return self._parts

    def __repr__(self) -> str:
        return f"<loop {self.name}({', '.join(d.name for d in self.in_dtypes)})>"


class RealForm(NamedTuple):
    """A spec without complex numbers, and which part of which operand, scalar and result its own are (``None``: it was real)."""

    spec: LoopSpec
    loads: list[tuple[int, int | None]]
    scalars: list[tuple[int, int | None]]
    stores: list[tuple[int, int | None]]

    def numbers(self, given: Sequence[Any]) -> list[Any]:
        """The scalars of the real spec."""
        return [given[k] if part is None else (complex(given[k]).imag if part else complex(given[k]).real) for k, part in self.scalars]


def _real_form(spec: LoopSpec) -> RealForm:
    from .complex_parts import split
    p = split(spec.values)
    real = LoopSpec(spec.name, None, [spec.in_dtypes[i].to_real() for i, _ in p.loads], p.values,
                    [spec.out_dtypes[j].to_real() for j, _ in p.stores], [spec.full[j] for j, _ in p.stores],
                    [spec.scalars[k].to_real() for k, _ in p.scalars], spec.reduces)
    return RealForm(real, p.loads, p.scalars, p.stores)


def compute_dtype(d: dtype) -> dtype:
    """What arithmetic on ``d`` is done in: float32 for half types."""
    return float32 if d in HALVES else d


def loop_spec(op: OpDef, kinds: Sequence[Any], params: Sequence[Any]) -> LoopSpec:
    """Builds the spec of an elementwise or reduction op.

    Args:
        kinds: per operand ``(dtype, priority)`` for a tensor (2 with dimensions, 1 0-d, 0 standing for a number), the type for
            a Python number, or ``None``.
        params: values of the other parameters in order (scalars may be anything: only their place counts).
    """
    if op.kinds_fn is not None:
        op.kinds_fn([k[0] if isinstance(k, tuple) else k for k in kinds])
    rest = [p for p in op.params if p.role in ("scalar", "static")]
    result = _promote(op, kinds)
    c = compute_dtype(result)
    args: dict[str, Any] = {}
    in_dtypes: list[dtype] = []
    scalars: list[dtype] = []
    for name, k in zip(op.operands, kinds):
        if k is None:
            args[name] = None
        elif isinstance(k, tuple):
            e = load(len(in_dtypes), k[0])
            in_dtypes.append(k[0])
            args[name] = e if name in op.keep or op.promote == "none" else cast(e, c)
        else:
            args[name] = scalar(len(scalars), c)
            scalars.append(c)
    for p, v in zip(rest, params):
        if p.role == "scalar" and v is not None:
            d = c if c.category >= 2 else compute_dtype(get_default_dtype())
            args[p.name] = scalar(len(scalars), d)
            scalars.append(d)
        else:
            args[p.name] = v
    out = op.body(**args)
    values = out if isinstance(out, tuple) else (out,)
    out_dtypes = [v.dtype_out if isinstance(v, As) else result if v.dtype is c else v.dtype for v in values]
    values = tuple(v.value if isinstance(v, As) else v for v in values)
    reduces = op.kind == "reduction"
    full = [not reduces or _varies(v) for v in values]
    return LoopSpec(op.name, op, in_dtypes, values, out_dtypes, full, scalars, reduces)


def _varies(e: Expr) -> bool:
    """Whether a reduction's value differs along the reduced dimensions."""
    return e.op in ("load", "iota") or (e.op != "reduce" and any(map(_varies, e.args)))


def _promote(op: OpDef, kinds: Sequence[Any]) -> dtype:
    dims: list[dtype] = []
    zero: list[dtype] = []
    numbers: list[dtype] = []
    for name, k in zip(op.operands, kinds):
        if k is None or name in op.keep:
            continue
        if isinstance(k, tuple):
            (numbers, zero, dims)[k[1]].append(k[0])
        else:
            numbers.append(_number_dtype(k))
    if not (dims or zero or numbers):
        return get_default_dtype()
    result = result_type(dims, zero, numbers)
    if op.refuses:
        check_dtype(op, result)
    if result.category < 2:
        if op.promote == "float":
            result = get_default_dtype()
        elif op.promote == "floating":
            raise not_implemented(op.name, result)
    return result


def kind_of(d: dtype) -> str:
    """How :class:`OpDef` names the family of a dtype in ``refuses``; ``single`` for float32 and float64, which nothing refuses."""
    return "half" if d in HALVES else ("bool", "integer", "single", "complex")[d.category]


_INSTEAD = {"bool": "convert the tensor to an integer dtype first", "integer": "convert the tensor with .float() first",
            "half": "convert the tensor with .float() first", "single": "it takes integers",
            "complex": "it takes real numbers: .abs(), .real or .imag gives them"}


def check_dtype(op: OpDef, d: dtype) -> None:
    """Raises PyTorch's error where the operation refuses this dtype."""
    kind = kind_of(d)
    if kind in op.refuses:
        raise not_implemented(op.name, d)


def not_implemented(name: str, d: dtype) -> NotImplementedError:
    """The error of an operation that does not take a dtype."""
    name = name.removesuffix("_dims").removesuffix("_dim")
    return NotImplementedError(f"\"{name}\" not implemented for '{SCALAR_TYPES[d]}'; {_INSTEAD[kind_of(d)]}")


def _number_dtype(kind: type) -> dtype:
    from ..dtypes import bool_, int64
    if kind is complex:
        return get_default_dtype().to_complex()
    return bool_ if kind is bool else int64 if kind is int else get_default_dtype()
