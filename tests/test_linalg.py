"""Linear algebra beyond its samples: gradients of functions of one triangle, failures, singular matrices, stacks of many sizes."""

from __future__ import annotations

import numpy as np
import pytest

import fusetorch as torch
from fusetorch import config
from fusetorch.runtime import solver

RNG = np.random.default_rng(0)


def random(*shape: int) -> torch.Tensor:
    return torch.from_numpy(RNG.standard_normal(shape))


def numeric(f, x: np.ndarray, eps: float = 1e-6) -> np.ndarray:
    out = np.zeros(x.shape)
    for k in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[k] = eps
        out[k] = (float(f(torch.from_numpy(x + step))) - float(f(torch.from_numpy(x - step)))) / (2 * eps)
    return out


def positive(x: torch.Tensor) -> torch.Tensor:
    return x @ x.mT + torch.eye(x.shape[-1], dtype=x.dtype)


WEIGHT = torch.from_numpy(RNG.standard_normal((3, 3)))
#: functions of a matrix that is made symmetric or triangular first, so that every entry counts
COMPOSED = {
    "cholesky": lambda x: torch.linalg.cholesky(positive(x)) * WEIGHT,
    "cholesky upper": lambda x: torch.linalg.cholesky(positive(x), upper=True) * WEIGHT,
    "cholesky_solve": lambda x: torch.cholesky_solve(WEIGHT, x.tril() + 3 * torch.eye(3, dtype=x.dtype)) * WEIGHT,
    "cholesky_inverse": lambda x: torch.cholesky_inverse(x.triu() + 3 * torch.eye(3, dtype=x.dtype), upper=True) * WEIGHT,
    "eigh": lambda x: torch.linalg.eigh(positive(x))[1] ** 2 * WEIGHT + torch.linalg.eigh(positive(x))[0],
    "eigvalsh": lambda x: torch.linalg.eigvalsh(positive(x), UPLO="U") * WEIGHT[0],
    "pinv hermitian": lambda x: torch.linalg.pinv(positive(x), hermitian=True) * WEIGHT,
    "svd full": lambda x: (torch.linalg.svd(x[:, :2])[0][:, :2] ** 2).sum(1) * WEIGHT[0],
}


@pytest.mark.parametrize("name", COMPOSED)
def test_gradients_of_one_triangle(name: str) -> None:
    x = RNG.standard_normal((3, 3))
    f = COMPOSED[name]
    leaf = torch.from_numpy(x.copy()).requires_grad_()
    (g,) = torch.autograd.grad(f(leaf).sum(), leaf, create_graph=True)
    np.testing.assert_allclose(g.detach().numpy(), numeric(lambda t: f(t).sum(), x), rtol=1e-5, atol=1e-7)

    def slope(t: torch.Tensor) -> torch.Tensor:
        t = t.requires_grad_()
        return (torch.autograd.grad(f(t).sum(), t)[0] * WEIGHT).sum()

    (second,) = torch.autograd.grad((g * WEIGHT).sum(), leaf)
    np.testing.assert_allclose(second.numpy(), numeric(slope, x), rtol=1e-4, atol=1e-6)


def test_refusals() -> None:
    singular = torch.zeros(2, 3, 3) + torch.eye(3)
    singular[1, 2, 2] = 0
    with pytest.raises(torch.linalg.LinAlgError, match=r"Batch element 1.*diagonal element 3 is zero"):
        torch.linalg.inv(singular)
    with pytest.raises(torch.linalg.LinAlgError, match="singular"):
        torch.linalg.solve(singular, torch.ones(3, 1))
    with pytest.raises(torch.linalg.LinAlgError, match="order 2 is not positive-definite"):
        torch.linalg.cholesky(torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(RuntimeError, match="square matrices, but they are 2 by 3"):
        torch.linalg.det(torch.ones(2, 3))
    with pytest.raises(RuntimeError, match="Low precision"):
        torch.linalg.inv(torch.eye(2).half())
    with pytest.raises(RuntimeError, match="floating point"):
        torch.linalg.qr(torch.ones(2, 2, dtype=torch.int64))
    assert torch.linalg.inv_ex(singular).info.tolist() == [0, 3]
    assert torch.linalg.cholesky_ex(torch.tensor([[1.0, 2.0], [2.0, 1.0]])).info.item() == 2
    assert torch.linalg.cond(torch.zeros(2, 2), 1).item() == float("inf")


def test_determinant_of_singular_matrices() -> None:
    x = RNG.standard_normal((4, 4))
    x[3] = x[0] + x[1]
    leaf = torch.from_numpy(x.copy()).requires_grad_()
    torch.linalg.det(leaf).backward()
    np.testing.assert_allclose(leaf.grad.numpy(), numeric(torch.linalg.det, x), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (31, 31), (33, 33), (2, 70, 70), (100, 40), (40, 100), (3, 0, 0), (0, 5, 5)])
def test_blocked_factors(shape: tuple[int, ...]) -> None:
    a = RNG.standard_normal(shape)
    p, low, up = torch.linalg.lu(torch.from_numpy(a))
    np.testing.assert_allclose((p @ low @ up).numpy(), a, atol=1e-12)
    assert not low.numel() or float(low.abs().max()) <= 1
    if shape[-1] == shape[-2]:
        b = RNG.standard_normal((*shape[:-1], 3))
        t = torch.from_numpy(np.tril(a) + 10 * np.eye(shape[-1]))
        x = torch.linalg.solve_triangular(t, torch.from_numpy(b), upper=False)
        np.testing.assert_allclose((t @ x).numpy(), b, atol=1e-12)
        lu, pivots = torch.linalg.lu_factor(torch.from_numpy(a))
        x = torch.linalg.lu_solve(lu, pivots, torch.from_numpy(b))
        np.testing.assert_allclose(a @ x.numpy(), b, atol=1e-8)


def test_simulated_device_gives_device_arrays() -> None:
    with config.override(simulate_cuda=True):
        x = torch.from_numpy(RNG.standard_normal((4, 4))).to("cuda")
        inv, info = torch.linalg.inv_ex(x.mT)
        assert inv.device.type == info.device.type == "cuda"
        np.testing.assert_allclose((inv @ x.mT).cpu().numpy(), np.eye(4), atol=1e-10)
        packed = torch.linalg.lu_factor_ex(x + 5 * torch.eye(4, dtype=x.dtype, device="cuda"), pivot=False)
        assert packed.pivots.cpu().tolist() == [1, 2, 3, 4]


def test_exponential_of_large_and_odd_matrices() -> None:
    turn = np.array([[0.0, -50.0], [50.0, 0.0]])
    got = solver.matrix_exp(np, turn)
    np.testing.assert_allclose(got, [[np.cos(50), -np.sin(50)], [np.sin(50), np.cos(50)]], atol=1e-12)
    assert np.isnan(solver.matrix_exp(np, np.full((2, 2), np.nan))).all()


def test_named_results() -> None:
    x = torch.eye(3)
    assert torch.linalg.svd(x)._fields == ("U", "S", "Vh")
    assert torch.linalg.eigh(x)._fields == ("eigenvalues", "eigenvectors")
    assert torch.linalg.slogdet(x)._fields == ("sign", "logabsdet")
    assert torch.linalg.lstsq(x, x)._fields == ("solution", "residuals", "rank", "singular_values")
    out = torch.empty(3, 3)
    assert torch.linalg.inv(2 * x, out=out) is out and out[0, 0].item() == 0.5


def test_compiled_training_step() -> None:
    a, b = random(4, 4), random(4, 2)

    def loss(w: torch.Tensor) -> torch.Tensor:
        return (torch.linalg.solve(w + 5 * torch.eye(4, dtype=w.dtype), b) ** 2).sum() + torch.linalg.slogdet(w @ w.mT)[1]

    want = a.clone().requires_grad_()
    loss(want).backward()
    got = a.clone().requires_grad_()
    torch.compile(loss)(got).backward()
    np.testing.assert_allclose(got.grad.numpy(), want.grad.numpy(), rtol=1e-9)


@pytest.mark.parametrize("complex_input", [False, True])
def test_eigenvalues_of_any_matrix(complex_input: bool) -> None:
    a = RNG.standard_normal((2, 4, 4)) + (1j * RNG.standard_normal((2, 4, 4)) if complex_input else 0)
    w, v = torch.linalg.eig(torch.from_numpy(a))
    assert w.dtype is v.dtype is torch.complex128
    np.testing.assert_allclose(a @ v.numpy(), v.numpy() * w.numpy()[:, None], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(v.numpy(), axis=-2), 1)
    assert torch.linalg.eigvals(torch.eye(2)).dtype is torch.complex64


def test_gradient_of_eigenvectors() -> None:
    x = RNG.standard_normal((3, 3))

    def f(t: torch.Tensor) -> torch.Tensor:
        w, v = torch.linalg.eig(t)
        return (w.abs() * WEIGHT[0]).sum() + ((v.abs() * w.abs().unsqueeze(-2)).sum(-1) * WEIGHT[1]).sum()

    leaf = torch.from_numpy(x.copy()).requires_grad_()
    f(leaf).backward()
    np.testing.assert_allclose(leaf.grad.numpy(), numeric(f, x), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["inv", "det", "slogdet", "qr", "eigvalsh", "svdvals", "pinv", "cholesky"])
def test_complex_gradients(name: str) -> None:
    parts = RNG.standard_normal((2, 3, 3))

    def f(t: torch.Tensor) -> torch.Tensor:
        z = torch.complex(t[0], t[1])
        if name in ("eigvalsh", "cholesky"):
            z = z @ z.mH + torch.eye(3, dtype=z.dtype)
        r = getattr(torch.linalg, name)(z)
        r = r[1] if name in ("slogdet", "qr") else r
        return (r.abs() * (WEIGHT if r.ndim == 2 else WEIGHT[0, 0])).sum()

    leaf = torch.from_numpy(parts.copy()).requires_grad_()
    f(leaf).backward()
    np.testing.assert_allclose(leaf.grad.numpy(), numeric(f, parts), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("n", [1, 2, 5, 9])
@pytest.mark.parametrize("hermitian", [False, True])
def test_factors_of_symmetric_complex_matrices(n: int, hermitian: bool) -> None:
    a = torch.complex(random(3, n, n), random(3, n, n))
    a = a + (a.mH if hermitian else a.mT)
    a[0].diagonal().zero_()
    packed, pivots, info = torch.linalg.ldl_factor_ex(a.tril(), hermitian=hermitian)  # the upper triangle is not read
    if n > 1:
        assert not info.any() and (pivots[0] < 0).any()
    else:
        a, packed, pivots = a[1:], packed[1:], pivots[1:]
    b = torch.complex(random(n, 2), random(n, 2))
    x = torch.linalg.ldl_solve(packed, pivots, b, hermitian=hermitian)
    torch.testing.assert_close(a @ x, b.expand(len(a), n, 2))


def test_refusals_of_symmetric_factors() -> None:
    packed, pivots = torch.linalg.ldl_factor(torch.eye(3))
    for call, error in [(lambda: torch.linalg.ldl_factor(torch.zeros(2, 2)), "element 1 of D is zero"),
                        (lambda: torch.linalg.ldl_factor(torch.ones(2, 3)), "square"),
                        (lambda: torch.linalg.ldl_solve(packed, pivots, torch.ones(2, 1)), "Incompatible matrix sizes"),
                        (lambda: torch.linalg.ldl_solve(packed, pivots.float(), torch.ones(3, 1)), "pivots to be integers"),
                        (lambda: torch.linalg.ldl_solve(packed, pivots[:2], torch.ones(3, 1)), "LD.shape"),
                        (lambda: torch.linalg.ldl_solve(packed, pivots, torch.ones(3, 1).double()), "same dtype")]:
        with pytest.raises(RuntimeError, match=error):
            call()
