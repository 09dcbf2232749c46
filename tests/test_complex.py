"""Complex numbers through everything that takes them: the modes agree, gradients are those of finite differences, and programs run.

PyTorch's own samples are in ``test_peer_definitions.py``, those of the operations about complex numbers in ``families/complex_numbers.py``.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import numpy as np
import pytest
from op_samples import RANDOM, all_ops, samples_of
from test_definitions import _numeric, mode, weighted

import fusetorch as torch
from fusetorch import dtypes
from fusetorch.ops.opdef import REGISTRY, OpDef, Sample, fn, loop_spec


def as_complex(x: Any) -> Any:
    """Floating samples turned to complex numbers in the right half of the unit circle's surroundings, away from branch cuts."""
    if isinstance(x, np.ndarray) and x.dtype == np.float64:
        other = np.cos(np.arange(x.size) * 1.7 + 0.4).reshape(x.shape)
        return np.asarray(0.3 + 0.4 * np.abs(x) + 0.45j * other)
    return x


def sample_of(op: OpDef) -> Sample | None:
    """The operation's first sample over complex numbers."""
    for s in samples_of(op):
        if any(isinstance(a, np.ndarray) and a.dtype == np.float64 for a in s.args):
            return Sample(tuple(as_complex(a) for a in s.args), {k: as_complex(v) for k, v in s.kwargs.items()})
    return None


def takes_complex(op: OpDef) -> bool:
    """Whether a loop's body can be built for complex operands."""
    if op.kind not in ("elementwise", "reduction") or op.name in RANDOM or op.promote == "none" and not op.function:
        return False
    s = sample_of(op)
    if s is None or op.kind == "reduction" and len(op.operands) > 1:
        return False
    kinds = [(dtypes.complex64, 2) if isinstance(a, np.ndarray) else type(a) for a in s.args[:len(op.operands)]]
    kinds += [None] * (len(op.operands) - len(kinds))
    rest = [p for p in op.params if p.role in ("scalar", "static")]
    try:
        loop_spec(op, kinds, [s.kwargs.get(p.name, p.default) for p in rest])
        if op.check_fn is not None:
            op.check_fn(*[torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in s.args])
    except (NotImplementedError, RuntimeError, TypeError, AttributeError):
        return False
    return True


LOOPS = [op.name for op in all_ops() if takes_complex(op)]


def call(op: OpDef, s: Sample, d: dtypes.dtype, way: str) -> list[Any]:
    """Results in a mode, as NumPy arrays."""
    with mode(way) as device, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        args = [torch.from_numpy(a).to(device=device, dtype=d) if isinstance(a, np.ndarray) and a.dtype.kind == "c" else
                torch.from_numpy(a).to(device) if isinstance(a, np.ndarray) else a for a in s.args]
        f = getattr(fn, op.name)
        if way.startswith("compiled"):
            f = torch.compile(f, fullgraph=True)
        out = f(*args, **s.kwargs)
        return [t.cpu().numpy() for t in (out if isinstance(out, tuple) else (out,))]


def test_many_operations_take_complex_numbers() -> None:
    assert {"add", "mul", "true_divide", "exp", "sqrt", "tanh", "pow", "sum", "mean", "var_mean_dims", "sigmoid", "abs"} <= set(LOOPS)
    assert not {"maximum", "floor", "lt", "erf", "sign", "amax", "clamp"} & set(LOOPS)


@pytest.mark.parametrize("way", ["native", "compiled", "eager cuda", "compiled cuda"])
@pytest.mark.parametrize("name", LOOPS)
def test_modes_agree(name: str, way: str) -> None:
    op = REGISTRY[name]
    s = sample_of(op)
    for d, rtol in ((torch.complex64, 2e-5), (torch.complex128, 1e-11)):
        for got, want in zip(call(op, s, d, way), call(op, s, d, "eager"), strict=True):
            assert got.dtype == want.dtype and got.shape == want.shape
            np.testing.assert_allclose(got, want, rtol, rtol, err_msg=f"{name} ({way}, {d})")


@pytest.mark.parametrize("name", [n for n in LOOPS if REGISTRY[n].differentiable])
def test_gradients_of_finite_differences(name: str) -> None:
    op = REGISTRY[name]
    s = sample_of(op)
    args = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in s.args]
    leaves = [a.requires_grad_() for a in args if isinstance(a, torch.Tensor) and a.dtype.category >= 2]

    def loss() -> Any:
        out = getattr(fn, op.name)(*args, **s.kwargs)
        parts = [weighted(t, np.arange(t.numel()) + k) for k, t in enumerate(out if isinstance(out, tuple) else (out,)) if t.requires_grad]
        return sum(parts[1:], parts[0]) if parts else None

    total = loss()
    if total is None:
        return
    for x, g in zip(leaves, torch.autograd.grad(total, leaves, allow_unused=True)):
        want = _numeric(lambda: float(loss()), x)
        np.testing.assert_allclose(np.zeros(x.shape) if g is None else g.numpy(), want, 1e-5, 1e-6, err_msg=name)


# ---------------------------------------------------------------------------------------------------- dtypes and values


def test_promotion_takes_the_width_of_the_higher_priority() -> None:
    x, z = torch.ones(2), torch.ones(2, dtype=torch.complex64)
    assert (x + 1j).dtype is torch.complex64 and (x.double() + 1j).dtype is torch.complex128
    assert (x.double() * z).dtype is torch.complex128 and (z * torch.tensor(1.0, dtype=torch.float64)).dtype is torch.complex64
    assert (torch.ones(2, dtype=torch.int64) * 1j).dtype is torch.complex64 and (z.sum() + x.double()).dtype is torch.complex128
    assert torch.promote_types(torch.float64, torch.complex64) is torch.complex128
    assert torch.result_type(z, 1.0) is torch.complex64 and torch.can_cast(torch.float64, torch.complex64)
    assert not torch.can_cast(torch.complex64, torch.float64)
    assert torch.complex128.to_real() is torch.float64 and torch.float32.to_complex() is torch.cfloat
    assert torch.finfo(torch.complex64).eps == torch.finfo(torch.float32).eps
    with pytest.raises(NotImplementedError, match="complex32"):
        torch.ones(2, dtype=torch.float16) * 1j


def test_values_leave_as_python_and_numpy_numbers() -> None:
    z = torch.tensor([1 + 2j, 3])
    assert z.dtype is torch.complex64 and z.tolist() == [1 + 2j, 3 + 0j] and complex(z[0]) == z[0].item() == 1 + 2j
    assert z.numpy().dtype == np.complex64 and torch.from_numpy(np.ones(2, np.complex128)).dtype is torch.cdouble
    assert torch.tensor([1j], dtype=torch.cdouble).dtype is torch.complex128 and bool(torch.tensor(1j))
    with pytest.warns(UserWarning, match="discards the imaginary part"):
        assert z.to(torch.float32).tolist() == [1.0, 3.0]
    assert torch.full((2,), 1j).dtype is torch.complex64 and torch.eye(2, dtype=torch.cfloat).sum().item() == 2


def test_parts_are_views_that_can_be_assigned() -> None:
    z = torch.zeros(3, dtype=torch.cfloat)
    z.real = torch.arange(3.0)
    z.imag[1] = 5.0
    torch.view_as_real(z)[2, 1] = 7.0
    assert z.tolist() == [0, 1 + 5j, 2 + 7j]
    x = torch.zeros(2, 2)
    torch.view_as_complex(x).add_(1 - 1j)
    assert x.tolist() == [[1, -1], [1, -1]]
    leaf = torch.zeros(2, dtype=torch.cfloat, requires_grad=True)
    y = leaf * 1
    y.real.mul_(3)
    y.imag.sum().backward()
    assert leaf.grad.tolist() == [1j, 1j]


@pytest.mark.parametrize("call, error", [
    (lambda z: z < z, RuntimeError), (lambda z: z.clamp(0, 1), RuntimeError), (lambda z: z.max(), RuntimeError),
    (lambda z: z.sign(), RuntimeError), (lambda z: torch.imag(z.real), RuntimeError), (lambda z: torch.view_as_real(z.real), RuntimeError),
    (lambda z: torch.view_as_complex(z.real), RuntimeError), (lambda z: z.requires_grad_().sum().backward(), RuntimeError),
    (lambda z: torch.complex(z.real, z.real.double()), RuntimeError), (lambda z: z.real.add_(z), RuntimeError),
    (lambda z: float(z[0]), TypeError), (lambda z: torch.fft.rfft(z), RuntimeError), (lambda z: torch.fft.fft(z, n=0), RuntimeError),
    (lambda z: torch.fft.fft(z, norm="other"), RuntimeError), (lambda z: torch.fft.fftn(z, dim=(0, 0)), RuntimeError),
    (lambda z: torch.fft.fft(z.real.half()), RuntimeError), (lambda z: z.H, RuntimeError)])
def test_refusals(call: Any, error: type) -> None:
    with pytest.raises(error):
        call(torch.tensor([1 + 1j, 2 - 1j]))


def test_a_real_operand_takes_the_real_part_of_its_gradient() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    z = torch.tensor([1 + 2j, 3 - 1j])
    (x * z).sum().abs().backward()
    s = complex(7, 0)
    want = [(s.conjugate() * v / abs(s)).real for v in (1 + 2j, 3 - 1j)]
    np.testing.assert_allclose(x.grad.numpy(), want, 1e-6)


# ---------------------------------------------------------------------------------------------------- programs


def device_of(simulated: bool) -> contextlib.AbstractContextManager:
    """Gives ``"cpu"`` or, over simulated memory, ``"cuda"``."""
    return mode("eager cuda" if simulated else "eager")


@pytest.mark.parametrize("simulated", [False, True])
def test_rotary_embedding_is_one_kernel(simulated: bool) -> None:
    def rotate(x: Any, f: Any) -> Any:
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * f).flatten(3).type_as(x)

    with device_of(simulated) as device:
        x = torch.randn(2, 5, 3, 8, device=device, requires_grad=True)
        f = torch.polar(torch.ones(5, 1, 4, device=device), torch.randn(5, 1, 4, device=device))
        compiled = torch.compile(rotate, fullgraph=True)
        want, got = rotate(x, f), compiled(x, f)
        np.testing.assert_allclose(got.detach().cpu().numpy(), want.detach().cpu().numpy(), 1e-5, 1e-6)
        a, b = (torch.autograd.grad((y * y.sin()).sum(), x)[0] for y in (want, got))
        np.testing.assert_allclose(b.cpu().numpy(), a.cpu().numpy(), 1e-5, 1e-5)
        assert len(compiled.explain(x.detach(), f).groups) == 1
        xs = x.detach().cpu().numpy().reshape(2, 5, 3, 4, 2)
        rotated = (xs[..., 0] + 1j * xs[..., 1]) * f.cpu().numpy()
        np.testing.assert_allclose(want.detach().cpu().numpy().reshape(xs.shape)[..., 1], rotated.imag, 1e-5, 1e-6)


@pytest.mark.parametrize("simulated", [False, True])
def test_fourier_layer(simulated: bool) -> None:
    def layer(x: Any, w: Any) -> Any:
        spectrum = torch.fft.rfft2(x)
        out = torch.zeros(2, 4, 8, 5, dtype=torch.cfloat, device=x.device)
        out[:, :, :4, :4] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, :4, :4], w)
        return torch.fft.irfft2(out, s=(8, 8))

    with device_of(simulated) as device:
        x = torch.randn(2, 3, 8, 8, device=device, requires_grad=True)
        w = torch.randn(3, 4, 4, 4, dtype=torch.cfloat, device=device, requires_grad=True)
        y, z = layer(x, w), torch.compile(layer)(x, w)
        spectrum = np.zeros((2, 4, 8, 5), complex)
        have = np.fft.rfft2(x.detach().cpu().numpy())[:, :, :4, :4]
        spectrum[:, :, :4, :4] = np.einsum("bixy,ioxy->boxy", have, w.detach().cpu().numpy())
        for out in (y, z):
            np.testing.assert_allclose(out.detach().cpu().numpy(), np.fft.irfft2(spectrum, (8, 8)), 1e-4, 1e-5)
        for a, b in zip(torch.autograd.grad(y.square().sum(), (x, w)), torch.autograd.grad(z.square().sum(), (x, w))):
            np.testing.assert_allclose(b.cpu().numpy(), a.cpu().numpy(), 1e-4, 1e-4)


@pytest.mark.parametrize("simulated", [False, True])
def test_parts_written_in_place_while_traced(simulated: bool) -> None:
    def body(z: Any) -> Any:
        z = z.clone()
        z.real.mul_(2)
        z.imag[0] = 5.0
        x = torch.zeros(4, 2, device=z.device)
        torch.view_as_complex(x).copy_(z[0])
        return z, torch.view_as_real(z), x

    with device_of(simulated) as device:
        z = torch.randn(3, 4, dtype=torch.cfloat, device=device)
        made, reals, pairs = torch.compile(body, fullgraph=True)(z)
        for got, want in zip((made, reals, pairs), body(z)):
            np.testing.assert_array_equal(got.cpu().numpy(), want.cpu().numpy())
        reals.zero_()  # a result that is a view of another one stays that
        assert made.abs().sum().item() == 0


@pytest.mark.parametrize("simulated", [False, True])
def test_operations_with_kernels_of_their_own(simulated: bool) -> None:
    rng = np.random.default_rng(0)
    a = (rng.standard_normal((4, 5)) + 1j * rng.standard_normal((4, 5))).astype(np.complex64)
    with device_of(simulated) as device:
        z = torch.from_numpy(a).to(device)
        at = torch.tensor([2, 0], device=device)
        made = [z @ z.mH, torch.cat([z, z.conj()], 1), z[:, at], z.index_select(0, at), torch.zeros_like(z).index_add(0, at, z[:2]),
                z.cumsum(1), z.roll(1, 0), z.flip(1), torch.nn.functional.pad(z, (1, 1)), z.prod(1), z.tril(), z.T.contiguous(),
                z.to(torch.complex128), z.bool(), torch.stack([z, z]), z.repeat(2, 1), torch.full((2,), 1 - 2j, device=device)]
        added = np.zeros_like(a)
        np.add.at(added, [2, 0], a[:2])
        want = [a @ a.conj().T, np.concatenate([a, a.conj()], 1), a[:, [2, 0]], a[[2, 0]], added, a.cumsum(1), np.roll(a, 1, 0), a[:, ::-1],
                np.pad(a, ((0, 0), (1, 1))), a.prod(1), np.tril(a), a.T, a.astype(np.complex128), a.astype(bool), np.stack([a, a]),
                np.tile(a, (2, 1)), np.full(2, 1 - 2j, np.complex64)]
        for got, w in zip(made, want, strict=True):
            assert got.cpu().numpy().dtype == w.dtype
            np.testing.assert_allclose(got.cpu().numpy(), w, 1e-5, 1e-6)


def test_cuda_says_what_it_cannot_do() -> None:
    with mode("eager cuda"), pytest.raises(NotImplementedError, match="cumprod.*complex64.*cpu"):
        torch.ones(3, dtype=torch.cfloat, device="cuda").cumprod(0)


def test_a_spectrogram_comes_back_as_the_signal() -> None:
    x = torch.randn(2, 400)
    w = torch.hann_window(64)
    s = torch.stft(x, 64, window=w, return_complex=True)
    assert s.shape == (2, 33, 26) and torch.view_as_real(s).dtype is torch.float32
    np.testing.assert_allclose(torch.istft(s, 64, window=w, length=400).numpy(), x.numpy(), 1e-4, 1e-5)
    with pytest.raises(RuntimeError, match="window overlap add"):
        torch.istft(s, 64, 64, window=w, center=False)


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.Rprop, torch.optim.SGD])
@pytest.mark.parametrize("compiled", [False, True])
def test_an_optimizer_treats_the_parts_as_two_parameters(make: Any, compiled: bool) -> None:
    start = np.array([0.3 - 0.7j, 1.1 + 0.2j, -0.4 - 0.9j], np.complex64)
    w, parts = torch.nn.Parameter(torch.tensor(start)), torch.nn.Parameter(torch.view_as_real(torch.tensor(start)).clone())
    for p in (w, parts):
        optimizer = make([p], lr=0.05)

        def step(p: Any = p, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad()
            z = p if p.is_complex() else torch.view_as_complex(p)
            ((z - 1j).abs() ** 3).sum().backward()
            optimizer.step()

        run = torch.compile(step) if compiled else step
        for _ in range(4):
            run()
    np.testing.assert_allclose(torch.view_as_real(w.detach()).numpy(), parts.detach().numpy(), 1e-5, 1e-6)


def test_a_module_keeps_complex_parameters_complex() -> None:
    layer = torch.nn.Linear(2, 3, dtype=torch.cfloat)
    assert layer(torch.ones(4, 2, dtype=torch.cfloat)).dtype is torch.complex64
    assert layer.to(torch.cdouble).weight.dtype is torch.complex128 and layer.double().weight.dtype is torch.complex128
