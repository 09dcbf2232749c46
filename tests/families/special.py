"""Samples and oracles of special functions."""

from __future__ import annotations

import numpy as np
import scipy.special
from sample_makers import S, f, i

SAMPLES = {
    "polygamma": lambda: [S(1, f(3, 4, lo=0.5, hi=5)), S(0, f(4, lo=0.5, hi=5)), S(3, f(5, lo=0.5, hi=5))],
    "polygamma_order": lambda: [S(f(3, 4, lo=0.5, hi=5), 1), S(f(5, lo=-3.9, hi=-3.1), 2), S(f(5, lo=12, hi=40), 4)],
    "mvlgamma": lambda: [S(f(3, 4, lo=2, hi=5), 3), S(f(4, lo=0.5, hi=5), 1), S(i(4, lo=3, hi=6), 2)],
    "special_zeta": lambda: [
        S(f(3, 4, lo=1.2, hi=6), f(4, lo=0.2, hi=30), grad=False),
        S(np.array([2.0, 3.0, 4.0, 2.0, 1.0, 0.5]), np.array([-2.5, -7.25, -20.75, -3.0, 2.0, 2.0]), grad=False),
    ],
    "igamma": lambda: [
        S(f(3, 4, lo=0.2, hi=60), f(3, 4, lo=0.2, hi=60), grad=False),
        S(np.array([0.0, 2.0, 2.0, -1.0, np.inf, 0.0]), np.array([1.0, 0.0, np.inf, 1.0, 1.0, 0.0]), grad=False),
    ],
    "igammac": lambda: [
        S(f(3, 4, lo=0.2, hi=60), f(3, 4, lo=0.2, hi=60), grad=False),
        S(np.array([0.0, 2.0, 2.0, -1.0, np.inf, 0.0]), np.array([1.0, 0.0, np.inf, 1.0, 1.0, 0.0]), grad=False),
    ],
}


def polygamma(n: int, x: np.ndarray) -> np.ndarray:
    """Below zero by recurrence, which SciPy leaves out."""
    x, total = np.array(x, float), np.zeros(np.shape(x))
    while (x < 0).any():
        total = total + np.where(x < 0, (-1) ** n * scipy.special.factorial(n) * x ** -(n + 1.0), 0)
        x = np.where(x < 0, x + 1, x)
    return scipy.special.polygamma(n, x) - total


def zeta(x: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Below zero term by term, which SciPy does for whole numbers alone."""
    x, q = np.broadcast_arrays(x, q)
    total = np.zeros(q.shape)
    lifted = q.copy()
    while (lifted < 0).any():
        total = total + np.where(lifted < 0, np.abs(lifted) ** -x * np.where(x % 2 == 0, 1, -1), 0)
        lifted = np.where(lifted < 0, lifted + 1, lifted)
    r = scipy.special.zeta(x, lifted) + total
    return np.where((q <= 0) & (q == np.floor(q)) & (x > 1), np.inf, r)


ORACLES = {
    "polygamma": polygamma,
    "polygamma_order": lambda x, n: polygamma(n, x),
    "mvlgamma": scipy.special.multigammaln,
    "special_zeta": zeta,
    "igamma": lambda a, x: np.where((a == 0) & (x > 0), 1.0, scipy.special.gammainc(a, x)),
    "igammac": lambda a, x: np.where((a == 0) & (x > 0), 0.0, scipy.special.gammaincc(a, x)),
}

_POLYNOMIALS = {
    "chebyshev_polynomial_t": scipy.special.eval_chebyt,
    "chebyshev_polynomial_u": scipy.special.eval_chebyu,
    "chebyshev_polynomial_v": lambda n, x: scipy.special.eval_chebyu(n, x) - np.where(n > 0, scipy.special.eval_chebyu(n - 1, x), 0),
    "chebyshev_polynomial_w": lambda n, x: scipy.special.eval_chebyu(n, x) + np.where(n > 0, scipy.special.eval_chebyu(n - 1, x), 0),
    "hermite_polynomial_h": scipy.special.eval_hermite,
    "hermite_polynomial_he": scipy.special.eval_hermitenorm,
    "laguerre_polynomial_l": scipy.special.eval_laguerre,
    "legendre_polynomial_p": scipy.special.eval_legendre,
}
for _name, _f in list(_POLYNOMIALS.items()):
    if _name.startswith("chebyshev"):
        _POLYNOMIALS["shifted_" + _name] = lambda n, x, _f=_f: _f(n, 2 * x - 1)
for _name, _f in _POLYNOMIALS.items():
    SAMPLES["special_" + _name] = lambda: [S(f(3, 4, lo=-1.5, hi=1.5), i(4, hi=7)), S(f(5, lo=0, hi=1), 4)]
    ORACLES["special_" + _name] = lambda x, n, _f=_f: _f(np.asarray(n), x)
SAMPLES["polynomial_values"] = lambda: [S(f(3, 4, lo=-1.5, hi=1.5), i(3, 4, hi=7), name) for name in _POLYNOMIALS]
ORACLES["polynomial_values"] = lambda x, n, family: _POLYNOMIALS[family](np.asarray(n), x)
