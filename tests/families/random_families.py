"""Gamma, Poisson and binomial numbers: see tests/test_distributions.py for their distributions."""
import numpy as np
from sample_makers import S, f
from scipy import special

RANDOM = {"_standard_gamma", "_sample_dirichlet", "poisson", "binomial"}
ELSEWHERE = {"draw_gamma", "draw_poisson", "draw_binomial", "cauchy_", "log_normal_", "geometric_"}


def _gamma_grad(a, x):
    """The derivative of the quantile by the shape, by differences."""
    q, h = special.gammainc(a, x), a * 2e-3
    up, down = (special.gammaincinv(a + k * h, q) - special.gammaincinv(a - k * h, q) for k in (1, 2))
    return (8 * up - down) / (12 * h)


SAMPLES = {"_standard_gamma": lambda: [S(f(3, 4, lo=0.2, hi=5.0), grad=False)],
           "_sample_dirichlet": lambda: [S(f(3, 4, lo=0.2, hi=5.0), grad=False)],
           "poisson": lambda: [S(f(3, 4, lo=0.2, hi=30.0), grad=False)],
           "binomial": lambda: [S(np.full((3, 4), 40.0), f(3, 4, lo=0.02, hi=0.98), grad=False)],
           "_standard_gamma_grad": lambda: [S(f(3, 4, lo=0.5, hi=4.0), f(3, 4, lo=0.5, hi=6.0), grad=False)]}
ORACLES = {"_standard_gamma_grad": _gamma_grad}
