"""Complex numbers: their parts, conjugates, polar form."""

from __future__ import annotations

import numpy as np
from sample_makers import S, c, f, i

SAMPLES = {
    "view_as_real": lambda: [S(c(3, 4)), S(c(4, 3).T), S(c()), S(c(0, 2))],
    "view_as_complex": lambda: [S(f(3, 4, 2)), S(f(2)), S(f(0, 2)), S(f(4, 3, 2).transpose(1, 0, 2))],
    "interleaved_parts": lambda: [S(c(3, 4))],
    "real": lambda: [S(c(3, 4)), S(f(3)), S(c())],
    "imag": lambda: [S(c(3, 4)), S(c())],
    "conj_physical": lambda: [S(c(3, 4)), S(f(3)), S(i(3), grad=False), S(c(4, 3).T)],
    "conj": lambda: [S(c(3, 4)), S(f(3))],
    "resolve_conj": lambda: [S(c(3)), S(f(3))],
    "resolve_neg": lambda: [S(c(3)), S(f(3))],
    "is_conj": lambda: [S(c(3))],
    "is_neg": lambda: [S(c(3))],
    "adjoint": lambda: [S(c(3, 4)), S(c(2, 3, 4)), S(f(3, 4)), S(c())],
    "is_complex": lambda: [S(c(3)), S(f(3))],
    "isreal": lambda: [S(np.array([1 + 0j, 1 + 1j])), S(f(3)), S(i(3))],
    "angle": lambda: [S(c(3, 4)), S(f(3, 4)), S(i(3, lo=-3), grad=False), S(c())],
    "complex": lambda: [S(f(3, 4), f(3, 4)), S(f(3, 1), f(4)), S(f(), f())],
    "polar": lambda: [S(f(3, 4, lo=0), f(3, 4)), S(f(3, 1, lo=0), f(4)), S(f(lo=0), f())],
    "cfloat": lambda: [S(f(3), grad=False), S(c(3), grad=False), S(i(3), grad=False)],
    "cdouble": lambda: [S(f(3)), S(c(3)), S(i(3), grad=False)],
}
ORACLES = {
    "interleaved_parts": lambda a: np.where(np.arange(a.size).reshape(a.shape) % 2 == 0, a.real, a.imag),
    "real": np.real,
    "imag": np.imag,
    "conj": np.conjugate,
    "resolve_conj": np.copy,
    "resolve_neg": np.copy,
    "is_conj": lambda a: False,
    "is_neg": lambda a: False,
    "adjoint": lambda a: np.conjugate(np.swapaxes(a, -1, -2)) if a.ndim else np.conjugate(a),
    "is_complex": lambda a: a.dtype.kind == "c",
    "angle": lambda a: np.angle(a),
    "cfloat": lambda a: a.astype(np.complex64),
    "cdouble": lambda a: a.astype(np.complex128),
}
NOT_TRACED = {"is_complex", "is_conj", "is_neg"}
NO_GRADIENT = {"is_complex", "is_conj", "is_neg", "cfloat"}
NO_HALVES = {"complex", "polar", "view_as_complex"}
