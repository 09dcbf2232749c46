"""Gamma, Poisson and binomial numbers: see tests/test_distributions.py for their distributions."""
import numpy as np
from sample_makers import S, f
from scipy import special

from fusetorch.ops.opdef import REGISTRY

RANDOM = {"_standard_gamma", "_sample_dirichlet", "poisson", "binomial", "cauchy_", "log_normal_", "geometric_",
          *(name for name in REGISTRY if name in ("draw_gamma", "draw_poisson", "draw_binomial"))}


def _gamma_grad(a, x):
    """The derivative of the quantile by the shape, by differences."""
    q, h = special.gammainc(a, x), a * 1e-4
    return (special.gammaincinv(a + h, q) - special.gammaincinv(a - h, q)) / (2 * h)


SAMPLES = {"_standard_gamma_grad": lambda: [S(f(3, 4, lo=0.5, hi=4.0), f(3, 4, lo=0.5, hi=6.0), grad=False),
                                            S(np.array([20.0, 50.0]), np.array([25.0, 50.0]), grad=False)]}
ORACLES = {"_standard_gamma_grad": _gamma_grad}
