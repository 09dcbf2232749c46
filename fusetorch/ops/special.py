"""Special functions in NumPy: erf, erfc, erfinv, lgamma, digamma, for arrays of any floating dtype.

They compute in float64 and round once, so float32 results are correctly rounded nearly always; float64 results are within a few ulp.

Sources: erf, erfc and lgamma use the rational approximations of Sun's fdlibm (s_erf.c, e_lgamma_r.c; (C) 1993 Sun Microsystems,
freely distributable with this notice); digamma the asymptotic series (Abramowitz and Stegun 6.3.18) with the recurrence and
reflection formulas; erfinv the start values of J. Blair, C. Edwards, J. Johnson (1976) refined by Halley's method.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_Array = np.ndarray


def _in_double(f: Callable[[_Array], _Array]) -> Callable[[Any], _Array]:
    """``f`` on float64, with the result in the dtype of the argument."""

    def wrapped(x: Any) -> _Array:
        x = np.asarray(x)
        with np.errstate(all="ignore"):
            return f(np.atleast_1d(x).astype(np.float64)).reshape(x.shape).astype(x.dtype)[()]

    wrapped.__name__, wrapped.__doc__ = f.__name__, f.__doc__
    return wrapped


def _poly(x: _Array, coefficients: Sequence[float]) -> _Array:
    """Horner's rule, lowest power first."""
    r = np.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        r *= x
        r += c
    return r


# ---- erf, erfc: fdlibm. On [0, 0.84375] erf(x) = x + x R(x^2); on [0.84375, 1.25] around 1; beyond, erfc(x) = exp(-x^2) R(1/x^2) / x
PP = (1.28379167095512558561e-01, -3.25042107247001499370e-01, -2.84817495755985104766e-02, -5.77027029648944159157e-03,
      -2.37630166566501626084e-05)
QQ = (1.0, 3.97917223959155352819e-01, 6.50222499887672944485e-02, 5.08130628187576562776e-03, 1.32494738004321644526e-04,
      -3.96022827877536812320e-06)
PA = (-2.36211856075265944077e-03, 4.14856118683748331666e-01, -3.72207876035701323847e-01, 3.18346619901161753674e-01,
      -1.10894694282396677476e-01, 3.54783043256182359371e-02, -2.16637559486879084300e-03)
QA = (1.0, 1.06420880400844228286e-01, 5.40397917702171048937e-01, 7.18286544141962662868e-02, 1.26171219808761642112e-01,
      1.36370839120290507362e-02, 1.19844998467991074170e-02)
ERX = 8.45062911510467529297e-01
RA = (-9.86494403484714822705e-03, -6.93858572707181764372e-01, -1.05586262253232909814e+01, -6.23753324503260060396e+01,
      -1.62396669462573470355e+02, -1.84605092906711035994e+02, -8.12874355063065934246e+01, -9.81432934416914548592e+00)
SA = (1.0, 1.96512716674392571292e+01, 1.37657754143519042600e+02, 4.34565877475229228821e+02, 6.45387271733267880336e+02,
      4.29008140027567833386e+02, 1.08635005541779435134e+02, 6.57024977031928170135e+00, -6.04244152148580987438e-02)
RB = (-9.86494292470009928597e-03, -7.99283237680523006574e-01, -1.77579549177547519889e+01, -1.60636384855821916062e+02,
      -6.37566443368389627722e+02, -1.02509513161107724954e+03, -4.83519191608651397019e+02)
SB = (1.0, 3.03380607434824582924e+01, 3.25792512996573918826e+02, 1.53672958608443695994e+03, 3.19985821950859553908e+03,
      2.55305040643316442583e+03, 4.74528541206955367215e+02, -2.24409524465858183362e+01)


def _tail(x: _Array) -> _Array:
    """erfc(x) for x >= 1.25."""
    s = 1.0 / (x * x)
    near = x < 1 / 0.35
    r = np.where(near, _poly(s, RA) / _poly(s, SA), _poly(s, RB) / _poly(s, SB))
    z = (x.view(np.uint64) & np.uint64(0xFFFFFFFF00000000)).view(np.float64)  # z * z is exact
    return np.exp(-z * z - 0.5625) * np.exp((z - x) * (z + x) + r) / x


def _erf(x: _Array) -> _Array:
    a = np.abs(x)
    r = np.empty_like(x)
    low, high = a < 0.84375, a >= 1.25
    mid = ~(low | high)
    z = x[low]
    w = z * z
    r[low] = z + z * (_poly(w, PP) / _poly(w, QQ))
    s = a[mid] - 1.0
    r[mid] = np.copysign(ERX + _poly(s, PA) / _poly(s, QA), x[mid])
    z = np.minimum(a[high], 6.0)
    r[high] = np.copysign(1.0 - _tail(z), x[high])
    return r


def _erfc(x: _Array) -> _Array:
    r = np.empty_like(x)
    a = np.abs(x)
    low, high = a < 0.84375, a >= 1.25
    mid = ~(low | high)
    z = x[low]
    w = z * z
    y = _poly(w, PP) / _poly(w, QQ)
    r[low] = np.where(z < 0.25, 1.0 - (z + z * y), 0.5 - (z - 0.5 + z * y))
    s = a[mid] - 1.0
    q = _poly(s, PA) / _poly(s, QA)
    r[mid] = np.where(x[mid] >= 0, 1.0 - ERX - q, 1.0 + (ERX + q))
    z = np.minimum(a[high], 28.0)
    t = _tail(z)
    r[high] = np.where(x[high] > 0, t, 2.0 - t)
    r[np.isnan(x)] = np.nan
    return r


@_in_double
def erf(x: _Array) -> _Array:
    """The error function."""
    return _erf(x)


@_in_double
def erfc(x: _Array) -> _Array:
    """1 - erf(x), accurate where that is small."""
    return _erfc(x)


@_in_double
def erfinv(x: _Array) -> _Array:
    """The inverse of erf: infinite at -1 and 1, NaN beyond."""
    a = np.abs(x)
    z = x * x
    centre = x * _poly(z, (0.886226899, -1.645349621, 0.914624893, -0.140543331)) / _poly(
        z, (1.0, -2.118377725, 1.442710462, -0.329097515, 0.012229801))
    t = np.sqrt(-np.log((1.0 - a) / 2))
    tail = np.copysign(_poly(t, (-1.970840454, -1.624906493, 3.429567803, 1.641345311)) / _poly(
        t, (1.0, 3.543889200, 1.637067800)), x)
    inside = a < 1
    y = np.where(a <= 0.7, centre, tail)
    y, target = y[inside], x[inside]
    for _ in range(2):
        # erf(y) - x, from erfc in the tails, where erf is flat
        p = np.abs(y)
        miss = np.where(p < 0.7, _erf(y) - target, np.sign(y) * ((1.0 - np.abs(target)) - _erfc(p)))
        step = miss * (math.sqrt(math.pi) / 2) * np.exp(y * y)
        y = y - step / (1.0 + y * step)
    r = np.where(a == 1, np.copysign(np.inf, x), np.nan)
    r[inside] = y
    return r


# ---- lgamma: fdlibm
LA = (7.72156649015328655494e-02, 3.22467033424113591611e-01, 6.73523010531292681824e-02, 2.05808084325167332806e-02,
      7.38555086081402883957e-03, 2.89051383673415629091e-03, 1.19270763183362067845e-03, 5.10069792153511336608e-04,
      2.20862790713908385557e-04, 1.08011567247583939954e-04, 2.52144565451257326939e-05, 4.48640949618915160150e-05)
TC, TF, TT = 1.46163214496836224576e+00, -1.21486290535849611461e-01, -3.63867699703950536541e-18
LT = (4.83836122723810047042e-01, -1.47587722994593911752e-01, 6.46249402391333854778e-02, -3.27885410759859649565e-02,
      1.79706750811820387126e-02, -1.03142241298341437450e-02, 6.10053870246291332635e-03, -3.68452016781138256760e-03,
      2.25964780900612472250e-03, -1.40346469989232843813e-03, 8.81081882437654011382e-04, -5.38595305356740546715e-04,
      3.15632070903625950361e-04, -3.12754168375120860518e-04, 3.35529192635519073543e-04)
LU = (-7.72156649015328655494e-02, 6.32827064025093366517e-01, 1.45492250137234768737e+00, 9.77717527963372745603e-01,
      2.28963728064692451092e-01, 1.33810918536787660377e-02)
LV = (1.0, 2.45597793713041134822e+00, 2.12848976379893395361e+00, 7.69285150456672783825e-01, 1.04222645593369134254e-01,
      3.21709242282423911810e-03)
LS = (-7.72156649015328655494e-02, 2.14982415960608852501e-01, 3.25778796408930981787e-01, 1.46350472652464452805e-01,
      2.66422703033638609560e-02, 1.84028451407337715652e-03, 3.19475326584100867617e-05)
LR = (1.0, 1.39200533467621045958e+00, 7.21935547567138069525e-01, 1.71933865632803078993e-01, 1.86459191715652901344e-02,
      7.77942496381893596434e-04, 7.32668430744625636189e-06)
LW = (4.18938533204672725052e-01, 8.33333333333329678849e-02, -2.77777777728775536470e-03, 7.93650558643019558500e-04,
      -5.95187557450339963135e-04, 8.36339918996282139126e-04, -1.63092934096575273989e-03)


def _near(x: _Array) -> _Array:
    """log Gamma for 0 < x < 2."""
    shift = np.where(x <= 0.9, -np.log(x), 0.0)
    x = np.where(x <= 0.9, x + 1.0, x)  # now 0.9 < x < 2: choose the expansion around 1, the minimum, or 2
    y2, y1, y0 = 2.0 - x, x - TC, x - 1.0
    z = y2 * y2
    even, odd = _poly(z, LA[0::2]), z * _poly(z, LA[1::2])
    around2 = y2 * even + odd - 0.5 * y2
    z = y1 * y1
    w = z * y1
    p1, p2, p3 = _poly(w, LT[0::3]), _poly(w, LT[1::3]), _poly(w, LT[2::3])
    around_min = TF + (z * p1 - (TT - w * (p2 + y1 * p3)))
    around1 = -0.5 * y0 + y0 * _poly(y0, LU) / _poly(y0, LV)
    return shift + np.where(x >= 1.7316, around2, np.where(x >= 1.23, around_min, around1))


def _lgamma_positive(x: _Array) -> _Array:
    r = np.empty_like(x)
    near, far = x < 2, x >= 8
    r[near] = _near(np.maximum(x[near], 5e-324))
    mid = ~(near | far)
    v = x[mid]
    n = np.floor(v)
    y = v - n
    p = y * _poly(y, LS) / _poly(y, LR) + 0.5 * y
    product = np.ones_like(v)
    for k in range(2, 7):  # Gamma(y + n) = (y + n - 1) ... (y + 2) Gamma(y + 2)
        product = np.where(n > k, product * (y + k), product)
    r[mid] = p + np.log(product)
    v = x[far]
    t = np.log(v)
    z = 1.0 / v
    w = LW[0] + z * _poly(z * z, LW[1:])
    r[far] = np.where(v < 2.0**58, (v - 0.5) * (t - 1.0) + w, v * (t - 1.0))
    return r


def _sin_pi(x: _Array) -> _Array:
    """sin(pi x)."""
    k = np.rint(x)
    s = np.sin(np.pi * (x - k))
    return np.where(np.mod(k, 2) == 1, -s, s)


@_in_double
def lgamma(x: _Array) -> _Array:
    """log |Gamma(x)|; infinite at 0 and the negative integers."""
    a = np.abs(x)
    r = _lgamma_positive(a)
    below = x < 0
    v = a[below]
    s = np.abs(_sin_pi(v))
    r[below] = np.where(s == 0, np.inf, np.log(np.pi / (s * v)) - r[below])
    r[a == 0] = np.inf
    r[np.isinf(x)] = np.inf
    r[np.isnan(x)] = np.nan
    return r


#: B(2k) / (2k), the asymptotic series of digamma.
PSI = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12, -3617 / 8160)
#: The positive root of digamma, in two parts.
ROOT, ROOT_LOW = 1.4616321449683622, 9.549995429965697e-17
#: Taylor coefficients of digamma there.
ROOT_SERIES = (0.9676722454476214, -0.44276316898359214, 0.2584997609556512, -0.16394270544240658,
               0.10782405069126239, -0.07219956125645476, 0.048804288164143145, -0.033161126474847376,
               0.022597648232218125, -0.015424765904948968, 0.010538791616612182, -0.007204534386356875,
               0.004926781395729858, -0.0033698016554393312)


@_in_double
def digamma(x: _Array) -> _Array:
    """The derivative of lgamma; as in PyTorch -inf at 0, inf at -0, NaN at the negative integers and at -inf."""
    below = x <= 0
    v = np.where(below, 1.0 - x, x)
    total = np.zeros_like(v)
    for _ in range(10):
        small = v < 10
        total -= np.where(small, 1.0 / v, 0.0)
        v = np.where(small, v + 1.0, v)
    z = 1.0 / (v * v)
    total += np.log(v) - 0.5 / v - z * _poly(z, PSI)
    f = x - np.rint(x)
    r = np.where(below, total - np.pi / np.tan(np.pi * f), total)
    r = np.where(below & (f == 0), np.nan, r)
    # around the root the terms cancel: the Taylor series there
    d = (x - ROOT) - ROOT_LOW
    r = np.where(np.abs(d) < 0.1, d * _poly(d, ROOT_SERIES), r)
    r = np.where(x == 0, -np.copysign(np.inf, x), r)
    r[np.isnan(x) | (x == -np.inf)] = np.nan
    r[x == np.inf] = np.inf
    return r
