"""Random numbers: elementwise operations over the position, seeded by two 0-d int64 tensors.

Element *i* of a draw is a function of Philox(seed, offset + i), so the same seed gives the same numbers on every device, eager and
compiled, and a draw fuses with what is done to it. Dropout's mask is drawn again in backward instead of being kept.

Source: Box and Muller 1958 (normal).
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import dtypes
from ..dtypes import dtype, get_default_dtype, int64
from ..runtime.meta import MetaArray
from ..runtime.rng import Counter
from ..tensor import Tensor, active_tracer, tracing, wrap
from . import primitives as P
from .creation import _sizes, as_device, laid_out_like, place
from .expr import Expr, cast, const, iota
from .opdef import composite, elementwise, fn, not_implemented


class Generator(Counter):
    """Where random numbers come from: a seed and a position. The same generator serves every device.

    Example:
        >>> import fusetorch as torch
        >>> g = torch.Generator().manual_seed(0)
        >>> a = torch.rand(2, generator=g)
        >>> bool((a == torch.rand(2, generator=g.manual_seed(0))).all())
        True
    """

    __slots__ = ("device",)

    def __init__(self, device: Any = "cpu") -> None:
        super().__init__()
        self.device = as_device(device)

    def get_state(self) -> Tensor:
        """The state as 16 bytes (uint8)."""
        return wrap(np.frombuffer(self.state_bytes(), np.uint8).copy())

    def set_state(self, new_state: Tensor) -> None:
        """Restores a state from :meth:`get_state`."""
        if new_state.dtype is not dtypes.uint8:
            raise TypeError(f"RNG state must be a torch.ByteTensor, got {new_state.dtype}")
        self.load_bytes(new_state.cpu().numpy().tobytes())

    def clone_state(self) -> Generator:
        """Another generator in the same state."""
        g = Generator(self.device)
        g.load_bytes(self.state_bytes())
        return g

    def __reduce__(self) -> tuple:
        return _generator_from, (str(self.device), self.state_bytes())


def _generator_from(device: str, state: bytes) -> Generator:
    g = Generator(device)
    g.load_bytes(state)
    return g


#: The generator of every random function that is not given one.
default_generator = Generator()


def _seed_operands(generator: Generator | None, like: Tensor) -> tuple[Tensor, Tensor]:
    """The generator's seed and position as 0-d tensors, advancing it by the size of ``like``; without memory nothing is drawn."""
    g = default_generator if generator is None else generator
    if not isinstance(g, Counter):
        raise TypeError(f"expected a torch.Generator, got {type(g).__name__}")
    n = 0 if type(like._a) is MetaArray else like._a.size
    if tracing():
        return active_tracer().rng_offset(g, n)
    seed, offset = g.advance(n)
    return wrap(np.array(seed, np.int64)), wrap(np.array(offset, np.int64))


class _Spaces(dict):
    """By dtype: one element, which stands for a tensor of any shape whose values do not count."""

    def __missing__(self, d: dtype) -> np.ndarray:
        self[d] = np.zeros((), d.np)
        return self[d]


_SPACES = _Spaces()


def draw(op: str, shape: Sequence[int], d: dtype, device: Any, params: Sequence[Any] = (), generator: Generator | None = None) -> Tensor:
    """Draws a tensor with the random op named ``op``, which takes ``(space, seed, offset, *params)``; ``space`` only gives the shape."""
    shape = tuple(shape)
    if not tracing() and as_device(device).type == "cpu":
        space = wrap(np.broadcast_to(_SPACES[d], shape))
    else:
        space = fn.empty((), dtype=d, device=device).expand(shape)
    return getattr(fn, op)(space, *_seed_operands(generator, space), *params)


def draw_on(op: str, operands: Sequence[Tensor], params: Sequence[Any] = (), generator: Generator | None = None) -> Tensor:
    """The same for a random op whose operands (of one shape) say what is drawn."""
    return getattr(fn, op)(*operands, *_seed_operands(generator, operands[0]), *params)


# ---- the draws


def _bits(seed: Expr, offset: Expr, stream: int) -> Expr:
    return P.philox(seed, offset + iota(), const(stream, int64))


def _unit(seed: Expr, offset: Expr, d: dtype, stream: int = 0) -> Expr:
    """Uniform in [0, 1), with as many random bits as ``d`` has: rounding to ``d`` must not give 1."""
    if d is dtypes.float64:
        hi = cast(P.shift_right(_bits(seed, offset, 2 * stream), 5) & 0x7FFFFFF, d)
        lo = cast(P.shift_right(_bits(seed, offset, 2 * stream + 1), 6) & 0x3FFFFFF, d)
        return (hi * 67108864.0 + lo) * 2.0**-53
    digits = {"float16": 11, "bfloat16": 8}.get(d.name, 24)
    bits = P.shift_right(_bits(seed, offset, stream), 32 - digits) & ((1 << digits) - 1)
    return cast(bits, dtypes.float32) * 2.0**-digits


def _wide(d: dtype) -> dtype:
    """The dtype of a draw from which a value of ``d`` is computed."""
    return dtypes.float64 if d is dtypes.float64 else dtypes.float32


@elementwise(name="draw_uniform", function=False, method=False, random=True, differentiable=False, keep=("seed", "offset"))
def draw_uniform(space, seed, offset, kind: dtype, low: float = None, high: float = None):
    """Uniform numbers of dtype ``kind`` in [low, high)."""
    u = cast(_unit(seed, offset, kind), space.dtype)
    return u if low is None else low + u * (high - low)


@elementwise(name="draw_normal", function=False, method=False, random=True, differentiable=False, keep=("seed", "offset"))
def draw_normal(space, seed, offset, kind: dtype, mean: float = None, std: float = None):
    """Normal numbers with the given mean and standard deviation."""
    z = _normal(seed, offset, kind)
    return z if mean is None else mean + z * std


def _normal(seed: Expr, offset: Expr, kind: dtype) -> Expr:
    d = _wide(kind)
    # 1 - u is in (0, 1]: its logarithm is finite
    radius = P.sqrt(P.log(1.0 - _unit(seed, offset, d, 0)) * -2.0)
    return radius * P.cos(_unit(seed, offset, d, 1) * (2 * math.pi))


@elementwise(name="draw_exponential", function=False, method=False, random=True, differentiable=False, keep=("seed", "offset"))
def draw_exponential(space, seed, offset, kind: dtype, rate: float):
    """Exponential numbers of the given rate."""
    return -P.log(1.0 - _unit(seed, offset, _wide(kind))) / rate


@elementwise(name="draw_integers", function=False, method=False, random=True, differentiable=False, keep=("seed", "offset", "low", "span"))
def draw_integers(space, seed, offset, low, span):
    """int64 numbers in [low, low + span), from 63 random bits."""
    hi = cast(_bits(seed, offset, 0), int64) & 0x7FFFFFFF
    lo = cast(_bits(seed, offset, 1), int64) & 0xFFFFFFFF
    return low + P.remainder(P.shift_left(hi, 32) | lo, span)


@elementwise(name="draw_bernoulli", function=False, method=False, random=True, differentiable=False, keep=("seed", "offset"))
def draw_bernoulli(input, seed, offset):
    """1 with the probability that ``input`` holds, else 0, in the dtype of ``input``."""
    return cast(cast(_unit(seed, offset, _wide(input.dtype)), input.dtype) < input, input.dtype)


@elementwise(name="draw_normal_like", function=False, method=False, random=True, keep=("seed", "offset"))
def draw_normal_like(mean, std, seed, offset, kind: dtype):
    """Normal numbers with means and standard deviations from tensors."""
    return mean + std * cast(_normal(seed, offset, kind), std.dtype)


@elementwise(name="dropout_draw", function=False, method=False, random=True, keep=("seed", "offset"))
def dropout_draw(input, seed, offset, p: float, scale: float):
    """``input * scale`` with probability 1 - ``p``, else 0. Backward draws the same mask again."""
    kept = P.uniform01(seed, offset + iota()) >= cast(p, dtypes.float32)
    return P.where(kept, input * scale, const(0, input.dtype))


# ---- generator functions


@composite(method=False)
def manual_seed(seed):
    """Restarts the default generator from ``seed``; returns it."""
    return default_generator.manual_seed(seed)


@composite(method=False)
def seed():
    """Restarts the default generator from a random seed; returns the seed."""
    return default_generator.seed()


@composite(method=False)
def initial_seed():
    """The seed of the default generator."""
    return default_generator.initial_seed()


@composite(method=False)
def get_rng_state():
    """The state of the default generator (uint8)."""
    return default_generator.get_state()


@composite(method=False)
def set_rng_state(new_state):
    """Restores the state of the default generator."""
    default_generator.set_state(new_state)


@contextmanager
def fork_rng(devices: Any = None, enabled: bool = True) -> Iterator[None]:
    """Restores the default generator's state when the block ends."""
    state = default_generator.state_bytes()
    try:
        yield
    finally:
        if enabled:
            default_generator.load_bytes(state)


# ---- creation


def _floating(name: str, d: dtype | None) -> dtype:
    d = d or get_default_dtype()
    if not d.is_floating_point:
        raise NotImplementedError(f"\"{name}\" not implemented for '{d}'")
    return d


def _draw_floating(name: str, op: str, shape: tuple[int, ...], d: dtype | None, device: Any, generator: Any) -> Tensor:
    """A draw of a floating dtype; of a complex one, both parts are drawn."""
    if d is not None and d.is_complex:
        real = d.to_real()
        return fn.view_as_complex(draw(op, (*shape, 2), real, as_device(device), (real,), generator)).clone()
    d = _floating(name, d)
    return draw(op, shape, d, as_device(device), (d,), generator)


def _finish(t: Tensor, requires_grad: bool) -> Tensor:
    if requires_grad:
        t.requires_grad = True
    return t


@composite(out="dtype", method=False)
def rand(*sizes, size=None, generator=None, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False):
    """Uniform numbers in [0, 1)."""
    return _finish(_draw_floating("rand", "draw_uniform", _sizes(sizes, size), dtype, device, generator), requires_grad)


@composite(out="dtype", method=False)
def randn(*sizes, size=None, generator=None, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False):
    """Numbers of the standard normal distribution; the parts of complex ones have variance 1/2 each."""
    t = _draw_floating("randn", "draw_normal", _sizes(sizes, size), dtype, device, generator)
    return _finish(t * math.sqrt(0.5) if t.dtype.is_complex else t, requires_grad)


def _integers(shape: Sequence[int], low: int, high: int, d: dtype, device: Any, generator: Any) -> Tensor:
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    bounds = [place(np.array(v, np.int64), "cpu") for v in (low, min(high - low, (1 << 63) - 1))]
    t = draw("draw_integers", shape, int64, device, bounds, generator)
    return t if d is int64 else t.to(d)


@composite(out="dtype", method=False)
def randint(low=0, high=None, size=None, *, generator=None, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False):
    """Integers in [low, high), int64 unless ``dtype`` is given: ``randint(high, size)`` or ``randint(low, high, size)``."""
    if size is None:
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    shape = _sizes((size,) if isinstance(size, int) else tuple(size))
    t = _integers(shape, int(low), int(high), dtype or int64, as_device(device), generator)
    return _finish(t, requires_grad)


@composite(out="dtype", method=False)
def randperm(n, *, generator=None, dtype=int64, device=None, requires_grad=False, layout=None, pin_memory=False):
    """A random order of 0 .. n-1. The order is made on the CPU whatever the device."""
    if n < 0:
        raise RuntimeError(f"n must be non-negative, got {n}")
    keys = _integers((n,), 0, (1 << 63) - 1, int64, as_device("cpu"), generator) if n else fn.empty((0,), dtype=int64, device="cpu")
    t = fn.argsort(keys, stable=True).to(device=as_device(device), dtype=dtype)
    return _finish(t, requires_grad)


def _like(name: str, doc: str) -> None:
    def f(input, *, dtype=None, device=None, requires_grad=False, layout=None, memory_format=None, generator=None):  # noqa: ANN001, ANN202
        t = getattr(fn, name)(*input._a.shape, dtype=dtype or input.dtype, device=device or input.device, generator=generator)
        return _finish(laid_out_like(t, input, memory_format), requires_grad)
    f.__doc__ = doc
    composite(name=name + "_like", method=False)(f)


_like("rand", "Uniform numbers in [0, 1), in the shape, dtype and device of ``input``.")
_like("randn", "Standard normal numbers, in the shape, dtype and device of ``input``.")


@composite(out=True, method=False)
def randint_like(input, low, high=None, *, dtype=None, device=None, requires_grad=False, layout=None, memory_format=None, generator=None):
    """Integers in [low, high), in the shape, dtype and device of ``input``."""
    if high is None:
        low, high = 0, low
    t = _integers(input._a.shape, int(low), int(high), dtype or input.dtype, device or input.device, generator)
    return _finish(laid_out_like(t, input, memory_format), requires_grad)


@composite(out=True)
def bernoulli(input, p=None, *, generator=None):
    """1 with the probability that each element of ``input`` says (or ``p``), else 0."""
    if p is not None:
        input = fn.full_like(input, p) if not isinstance(p, Tensor) else p.to(input.dtype).expand(input._a.shape)
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f"\"bernoulli_tensor\" not implemented for '{input.dtype}'")
    if not tracing() and input.device.type == "cpu" and input.numel() and (bool((input < 0).any()) or bool((input > 1).any())):
        raise RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false")
    return draw_on("draw_bernoulli", [input.detach()], (), generator)


@composite(out=True, method=False)
def normal(mean, std=1.0, size=None, *, generator=None, dtype=None, device=None, requires_grad=False):
    """Normal numbers: of a ``size`` with numbers ``mean`` and ``std``, or with one for each element of tensors."""
    tensors = [t for t in (mean, std) if isinstance(t, Tensor)]
    if not tensors:
        if size is None:
            raise TypeError("normal(): size is needed where mean and std are numbers")
        _check_std(std)
        d = _floating("normal", dtype)
        shape = _sizes((size,) if isinstance(size, int) else tuple(size))
        t = draw("draw_normal", shape, d, as_device(device), (d, mean, std), generator)
        return _finish(t, requires_grad)
    like = tensors[0]
    if like.dtype.category < 2:
        raise not_implemented("normal", like.dtype)
    m, s = (v if isinstance(v, Tensor) else fn.full_like(like, v) for v in (mean, std))
    m, s = fn.broadcast_tensors(m, s)
    if not tracing() and s.device.type == "cpu" and s.numel() and bool((s < 0).any()):
        raise RuntimeError("normal expects all elements of std >= 0.0")
    return _finish(draw_on("draw_normal_like", [m, s], (s.dtype,), generator), False)


def _check_std(std: float) -> None:
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")


@composite(out="exact")
def multinomial(input, num_samples, replacement=False, *, generator=None):
    """Indices (int64) drawn in proportion to the weights in each row of ``input`` (one or two dimensions)."""
    if not 0 < input.ndim <= 2:
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"multinomial only supports floating-point dtypes for input, got: {input.dtype}")
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > input._a.shape[-1]:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    w = input.detach()
    if not tracing() and w.device.type == "cpu":
        if not bool((fn.isfinite(w) & (w >= 0)).all()):
            raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
        if bool((w.sum(-1) <= 0).any()):
            raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    if replacement and num_samples > 1:
        total = w.cumsum(-1)
        u = draw("draw_uniform", (*w._a.shape[:-1], num_samples), w.dtype, w.device, (w.dtype,), generator)
        at = fn.searchsorted(total, (u * total[..., -1:]).contiguous(), right=True)
        return at.clamp(max=w._a.shape[-1] - 1)
    # the k smallest of exponential draws over the weights are a sample without replacement (Efraimidis and Spirakis 2006)
    race = w / draw("draw_exponential", w._a.shape, w.dtype, w.device, (w.dtype, 1.0), generator)
    if num_samples == 1:
        return race.argmax(-1, keepdim=True)
    return race.topk(num_samples, -1)[1]


# ---- in place


def _fill(input: Any, made: Tensor, name: str) -> Tensor:
    from .. import writing
    writing.check_inplace(input, name)
    writing.assign(input, made, name)
    return input


@composite(function=False)
def uniform_(input, from_=0.0, to=1.0, *, generator=None, **kwargs):
    """Writes uniform numbers in [from, to)."""
    low = kwargs.pop("from", from_)
    if low > to:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low} > to={to}")
    if input.dtype.is_complex:
        t = draw("draw_uniform", (*input._a.shape, 2), input.dtype.to_real(), input.device, (input.dtype.to_real(), low, to), generator)
        return _fill(input, fn.view_as_complex(t), "uniform_")
    d = _floating("uniform_", input.dtype)
    return _fill(input, draw("draw_uniform", input._a.shape, d, input.device, (d, low, to), generator), "uniform_")


@composite(function=False)
def normal_(input, mean=0.0, std=1.0, *, generator=None):
    """Writes normal numbers."""
    _check_std(std)
    if input.dtype.is_complex:
        z = _draw_floating("normal_", "draw_normal", tuple(input._a.shape), input.dtype, input.device, generator)
        return _fill(input, z * (std * math.sqrt(0.5)) + mean, "normal_")
    d = _floating("normal_", input.dtype)
    return _fill(input, draw("draw_normal", input._a.shape, d, input.device, (d, mean, std), generator), "normal_")


@composite(function=False)
def exponential_(input, lambd=1.0, *, generator=None):
    """Writes exponential numbers of rate ``lambd``."""
    if lambd <= 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd}")
    d = _floating("exponential_", input.dtype)
    return _fill(input, draw("draw_exponential", input._a.shape, d, input.device, (d, lambd), generator), "exponential_")


_MANTISSA = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}


@composite(function=False)
def random_(input, from_=None, to=None, *, generator=None, **kwargs):
    """Writes integers in [from, to); by default all that the dtype represents exactly, from 0."""
    low = kwargs.pop("from", from_)
    if to is None and low is not None and "from" not in kwargs and from_ is not None:
        low, to = 0, low
    d = input.dtype
    if to is None:
        low = 0 if low is None else low
        to = (1 << _MANTISSA[d.name]) + 1 if d.is_floating_point else 2 if d is dtypes.bool_ else dtypes.iinfo(d).max
    return _fill(input, _integers(input._a.shape, int(low or 0), int(to), d, input.device, generator), "random_")


@composite(function=False)
def bernoulli_(input, p=0.5, *, generator=None):
    """Writes 1 with probability ``p`` (a number or a tensor), else 0."""
    if isinstance(p, Tensor):
        made = bernoulli.body(p.expand(input._a.shape), generator=generator)
    else:
        if not 0 <= p <= 1:
            raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p}")
        d = input.dtype if input.dtype.is_floating_point else get_default_dtype()
        probability = fn.full((), p, dtype=d, device=input.device).expand(input._a.shape)
        made = draw_on("draw_bernoulli", [probability], (), generator)
    return _fill(input, made.to(input.dtype), "bernoulli_")
