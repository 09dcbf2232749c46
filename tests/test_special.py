"""Special functions and the random generator in NumPy, against SciPy and known answers."""
from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special

import fusetorch as torch
from fusetorch.ops import philox, special

RNG = np.random.default_rng(0)


def relative(got: np.ndarray, want: np.ndarray) -> float:
    assert np.array_equal(np.isnan(got), np.isnan(want))
    with np.errstate(all="ignore"):
        return float(np.nanmax(np.where(got == want, 0, np.abs(got - want) / np.maximum(np.abs(want), 1e-300))))


POINTS = {
    "erf": np.concatenate([RNG.normal(size=20000) * 2, RNG.uniform(-7, 7, 20000), 10 ** RNG.uniform(-300, 0, 1000)]),
    "erfc": np.concatenate([RNG.normal(size=20000) * 2, RNG.uniform(-7, 26, 20000)]),
    "erfinv": np.concatenate([RNG.uniform(-1, 1, 20000), 1 - 10 ** RNG.uniform(-15, -1, 2000), 10 ** RNG.uniform(-300, 0, 500)]),
    "lgamma": np.concatenate([RNG.uniform(0.01, 0.9, 5000), RNG.uniform(1.1, 1.9, 5000), RNG.uniform(2.1, 200, 20000),
                              10 ** RNG.uniform(-30, 30, 1000)]),
    "digamma": np.concatenate([RNG.uniform(0.01, 3, 20000), RNG.uniform(1.45, 1.475, 2000), RNG.uniform(3, 200, 20000)]),
}
# erfc is compared with the C library's, because SciPy's loses digits in the tail
ORACLE = {"erf": scipy.special.erf, "erfc": np.vectorize(math.erfc, otypes=[np.float64]), "erfinv": scipy.special.erfinv,
          "lgamma": scipy.special.gammaln, "digamma": scipy.special.digamma}


@pytest.mark.parametrize("name", POINTS)
def test_double(name):
    x = POINTS[name]
    assert relative(getattr(special, name)(x), ORACLE[name](x)) < (2e-14 if name in ("digamma", "lgamma") else 2e-15)


@pytest.mark.parametrize("name", POINTS)
def test_single_is_correctly_rounded_nearly_always(name):
    x = POINTS[name].astype(np.float32)
    x = x[np.abs(x) < 1] if name == "erfinv" else x
    got, want = getattr(special, name)(x), ORACLE[name](x.astype(np.float64)).astype(np.float32)
    assert got.dtype == np.float32
    assert np.mean(got != want) < 1e-3
    np.testing.assert_array_max_ulp(got, want, 1)


def test_negative_arguments():
    x = -RNG.uniform(0.01, 40, 20000)
    for name in ("lgamma", "digamma"):
        got, want = getattr(special, name)(x), ORACLE[name](x)
        assert np.max(np.abs(got - want) / np.maximum(1, np.abs(want))) < 1e-9  # ill-conditioned near the poles


def test_edges():
    inf, nan = math.inf, math.nan
    table = {
        "erf": [(0.0, 0.0), (inf, 1.0), (-inf, -1.0), (nan, nan)],
        "erfc": [(0.0, 1.0), (inf, 0.0), (-inf, 2.0), (nan, nan)],
        "erfinv": [(0.0, 0.0), (1.0, inf), (-1.0, -inf), (1.5, nan), (-2.0, nan), (nan, nan)],
        "lgamma": [(0.0, inf), (-0.0, inf), (-3.0, inf), (1.0, 0.0), (2.0, 0.0), (inf, inf), (-inf, inf), (nan, nan)],
        "digamma": [(0.0, -inf), (-0.0, inf), (-3.0, nan), (inf, inf), (-inf, nan), (nan, nan)],
    }
    for name, rows in table.items():
        for x, want in rows:
            np.testing.assert_equal(float(getattr(special, name)(np.float64(x))), want, f"{name}({x})")
            np.testing.assert_equal(float(getattr(special, name)(np.float32(x))), want, f"{name}({x}) in float32")
    assert np.signbit(special.erf(-0.0)) and np.signbit(special.erfinv(-0.0))


def test_shapes_and_dtypes():
    assert special.erf(np.zeros((3, 0, 2), np.float32)).shape == (3, 0, 2)
    assert special.lgamma(np.float32(3.0)).shape == ()
    x = np.linspace(0.1, 4, 12, dtype=np.float16).reshape(3, 4).T
    y = special.digamma(x)
    assert y.dtype == np.float16 and y.shape == (4, 3)
    np.testing.assert_array_equal(y, scipy.special.digamma(x.astype(np.float64)).astype(np.float16))


# Known answers of the Random123 library for Philox4x32-10: (counter words, key words, first output word)
KNOWN = [((0, 0, 0, 0), (0, 0), 0x6627E8D5),
         ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, 0x408F276D),
         ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), 0xD16CFE09)]


def signed(low: int, high: int) -> int:
    return int(np.uint64(low | high << 32).view(np.int64))


@pytest.mark.parametrize("counter,key,want", KNOWN)
def test_philox_known_answers(counter, key, want):
    got = philox.bits(signed(*key), signed(*counter[:2]), signed(*counter[2:]))
    assert got.dtype == np.int32
    assert int(got) & 0xFFFFFFFF == want


def test_philox_broadcasts_and_is_uniform():
    bits = philox.bits(42, np.arange(100000)[:, None], np.arange(2))
    assert bits.shape == (100000, 2)
    u = (bits.view(np.uint32) >> 8) * 2.0**-24
    assert abs(u.mean() - 0.5) < 3e-3 and abs(u.var() - 1 / 12) < 1e-3
    assert len(np.unique(bits)) > 199000
    assert abs(np.corrcoef(u[:, 0], u[:, 1])[0, 1]) < 0.01


def test_polynomials_of_high_degree():
    x = torch.tensor([0.3, -0.7], dtype=torch.float64)
    for n in (1001, 3000):
        np.testing.assert_allclose(torch.special.legendre_polynomial_p(x, torch.tensor(n)).numpy(),
                                   scipy.special.eval_legendre(n, x.numpy()), atol=1e-13)
    with pytest.raises(NotImplementedError, match="degrees up to"):
        torch.special.legendre_polynomial_p(x, torch.tensor(10**9))
    assert torch.special.hermite_polynomial_h(x, torch.tensor(10**9)).isnan().all()
