"""Bessel functions of orders 0 and 1, and the Airy function.

Each is a few smooth functions times elementary ones (Abramowitz and Stegun, chapters 9 and 10); the smooth ones are Chebyshev series,
interpolated at Chebyshev nodes to 40 digits and summed by Clenshaw's rule (C. Clenshaw, "A note on the summation of Chebyshev series",
1955). Results are within a few units in the last place, absolute near the zeros of oscillating functions. As in PyTorch only ``i0``,
``i0e``, ``i1`` and ``i1e`` have gradients.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..dtypes import float32
from . import primitives as P
from .expr import Expr
from .opdef import elementwise, fn
from .oracles import scipy_special

# ---------------------------------------------------------------------------------------------------- coefficients; "near" and "far" of x

I0_NEAR = (0.33839763720473803, -0.3046826723431984, 0.17162090152220877, -0.09490109704804764, 0.04930528423967071,
    -0.02373741480589947, 0.010546460394594998, -0.004324309995050576, 0.0016394756169413357, -0.0005763755745385824,
    0.00018850288509584165, -5.754195010082104e-05, 1.6448448070728896e-05, -4.4167383584587505e-06, 1.1173875391201037e-06,
    -2.670793853940612e-07, 6.046995022541919e-08, -1.300025009986248e-08, 2.6598237246823866e-09, -5.189795601635263e-10,
    9.675809035373237e-11, -1.726826291441556e-11, 2.95505266312964e-12, -4.856446783111929e-13, 7.676185498604936e-14,
    -1.1685332877993451e-14, 1.715391285555133e-15, -2.431279846547955e-16, 3.3307945188222384e-17)
I0_FAR = (0.4022452055070544, 0.0033691164782556943, 6.889758346916825e-05, 2.8913705208347567e-06, 2.0489185894690638e-07,
    2.266668990498178e-08, 3.3962320257083865e-09, 4.94060238822497e-10, 1.1889147107846439e-11, -3.1499165279632416e-11,
    -1.3215811840447713e-11, -1.7941785315068062e-12, 7.180124451383666e-13, 3.8527783827421426e-13, 1.54008621752141e-14,
    -4.150569347287222e-14, -9.554846698828307e-15, 3.8116806693526224e-15, 1.7725601330565263e-15, -3.425485619677219e-16,
    -2.8276239805165836e-16, 3.461222867697461e-17, 4.46562142029676e-17)
I1_NEAR = (0.12629359322181682, -0.17641651835783406, 0.1026436586898471, -0.05294598120809499, 0.024726449030626516,
    -0.010564084894626197, 0.004156422944312888, -0.0015135724506312532, 0.0005122859561685758, -0.00016176081582589674,
    4.781565107550054e-05, -1.3273163656039436e-05, 3.4702513081376785e-06, -8.568720264695455e-07, 2.0032947535521353e-07,
    -4.445059128796328e-08, 9.381537386495773e-09, -1.8872497517228294e-09, 3.625590281552117e-10, -6.663489723502027e-11,
    1.1736186298890901e-11, -1.9839743977649436e-12, 3.223793365945575e-13, -5.042185504727912e-14, 7.600684294735408e-15,
    -1.1055969477353862e-15, 1.5536319577362005e-16, -2.111421214358166e-17)
I1_FAR = (0.38928811750914005, -0.009761097491361469, -0.00011058893876262371, -3.882564808877691e-06, -2.512236237870209e-07,
    -2.6314688468895196e-08, -3.835380385964237e-09, -5.589743462196584e-10, -1.8974958123505413e-11, 3.2526035830154884e-11,
    1.4125807436613782e-11, 2.0356285441470896e-12, -7.198551776245908e-13, -4.0835511110921974e-13, -2.1015418427726643e-14,
    4.272440016711951e-14, 1.0420276984128802e-14, -3.8144030724370075e-15, -1.8803547755107825e-15, 3.3082023109209285e-16,
    2.96262899764595e-16, -3.209525921993424e-17, -4.6503053684893586e-17)
K0_NEAR = (-0.2676636966169514, 0.3442898999246285, 0.0359799365153615, 0.001264615411446926, 2.286212103119452e-05,
    2.5347910790261494e-07, 1.904516377220209e-09, 1.0349695257633625e-11, 4.2598161427910826e-14, 1.3744654358807508e-16)
K1_NEAR = (0.7626501136694739, -0.3531559607765449, -0.12261118082265715, -0.006975723859639864, -0.0001730288957513052,
    -2.4334061415659684e-06, -2.213387630734726e-08, -1.4114883926335278e-10, -6.666901694199329e-13, -2.427449850519366e-15)
K0_FAR = (1.2201515410329777, -0.0314481013119645, 0.0015698838857300533, -0.00012849549581627802, 1.39498137188765e-05,
    -1.8317555227191195e-06, 2.766813639445015e-07, -4.660489897687948e-08, 8.574034017414225e-09, -1.6975345093890614e-09,
    3.5773972814003283e-10, -7.957489244477396e-11, 1.8559491149549264e-11, -4.514597883374519e-12, 1.1403405882073441e-12,
    -2.9800969231481784e-13, 8.032890775068375e-14, -2.2275133267462965e-14, 6.340076476276646e-15, -1.848593377920907e-15,
    5.5120559994043335e-16, -1.6782311257549006e-16, 5.2103917776435543e-17)
K1_FAR = (1.3603130952422213, 0.10392373657681724, -0.002857816859622779, 0.00019521551847135162, -1.936197974166083e-05,
    2.406484947837217e-06, -3.5019606030878126e-07, 5.7410841254500495e-08, -1.0345762465678097e-08, 2.0150497551970347e-09,
    -4.1903547593419254e-10, 9.218315187605315e-11, -2.129967838427791e-11, 5.139639673482343e-12, -1.2891739609498229e-12,
    3.348419666052243e-13, -8.976705182010146e-14, 2.4771544242195988e-14, -7.0198370892147685e-15, 2.038703166239861e-15,
    -6.057047270643018e-16, 1.8380935752430455e-16, -5.689462849193648e-17)
J0_NEAR = (0.15772797147489012, -0.008723442352852221, 0.2651786132033368, -0.37009499387264977, 0.15806710233209725,
    -0.034893769411408884, 0.004819180069467605, -0.00046062616620627504, 3.246032882100508e-05, -1.7619469077621507e-06,
    7.608163592418782e-08, -2.679253530557673e-09, 7.848696314479465e-11, -1.9438346867370164e-12, 4.125320595634374e-14,
    -7.588508125447546e-16, 1.2218515873961411e-17)
J1_NEAR = (0.08104484632565812, -0.1489751450676521, 0.1609992623572097, -0.08268049176681791, 0.022213639654966037,
    -0.003646940600769276, 0.0004050337728354822, -3.255554866857259e-05, 1.9858774049915165e-06, -9.521984756750436e-08,
    3.687133759097148e-09, -1.178026622695885e-10, 3.160154580348003e-12, -7.221755239651773e-14, 1.4232144003513942e-15,
    -2.4441972916190464e-17)
Y0_NEAR = (-0.03314611320328494, -0.2744743055297453, 0.17903431407718265, 0.26156734625504663, -0.17730201278114358,
    0.04719668959576339, -0.007287962479552079, 0.0007531135932577742, -5.632079141056987e-05, 3.206532537654801e-06,
    -1.44072332740187e-07, 5.248794787330516e-09, -1.5837552541812015e-10, 4.02633081830612e-12, -8.747341203310769e-14,
    1.6434898714919468e-15, -2.6977881152566837e-17)
Y1_NEAR = (0.0025380132357417816, -0.01608717304766875, -0.09591204536083074, 0.08445197259652346, -0.028328123944594365,
    0.005289897544167113, -0.0006414551451326356, 5.505982873338744e-05, -3.53808001868935e-06, 1.7707804556154404e-07,
    -7.11055004989928e-09, 2.344337905911516e-10, -6.4651518414115946e-12, 1.51429151205002e-13, -3.0511859694473254e-15,
    5.34668038572867e-17)
P0 = (0.9994603493475187, -0.0005365220468132117, 3.0751847875194745e-06, -5.1705945376060975e-08, 1.6306464635151382e-09,
    -7.86409137723707e-11, 5.168262387349193e-12, -4.3045788699253914e-13, 4.3265957431549404e-14, -5.069034095935236e-15,
    6.748072215733873e-16, -1.0011513723467786e-16)
Q0 = (-0.12444683684269607, 0.0005470815954089319, -5.9315987288485175e-06, 1.4377965798375193e-07, -5.817532749493056e-09,
    3.376097523734991e-10, -2.565397936797308e-11, 2.404916100281365e-12, -2.6690625482579414e-13, 3.4041800321963686e-14,
    -4.87994410531204e-15, 7.729703176242605e-16, -1.3348852171502517e-16, 2.4865952389390515e-17, -4.952892629886516e-18)
P1 = (1.0009030408600137, 0.0008989898330859408, -3.987284300488908e-06, 6.177633960644299e-08, -1.8718907491063067e-09,
    8.816898659582339e-11, -5.704863640395645e-12, 4.699195515230542e-13, -4.6842237839904895e-14, 5.452674896044717e-15,
    -7.221180842274018e-16, 1.0667689114335412e-16)
Q1 = (0.3742222965562826, -0.0007702178839325664, 7.3108922063643636e-06, -1.676782510726674e-07, 6.583354662120443e-09,
    -3.749090950541556e-10, 2.8121750359748866e-11, -2.61145253946232e-12, 2.8774212663332235e-13, -3.649001916061838e-14,
    5.206626366226707e-15, -8.215318025458595e-16, 1.4141084390211833e-16, -2.626761589838529e-17)

def series(t: Expr, coefficients: Sequence[float]) -> Expr:
    """The Chebyshev series at ``t`` in [-1, 1]; terms below float32's precision are left out for it."""
    least = 1e-9 if t.dtype is float32 else 0.0
    top = max(abs(c) for c in coefficients)
    c = list(coefficients)
    while abs(c[-1]) < least * top:
        c.pop()
    twice, one, two = t * 2.0, t * 0.0, t * 0.0
    for k in reversed(range(1, len(c))):
        one, two = twice * one - two + c[k], one
    return t * one - two + c[0]


def _oscillating(x: Expr, order: int) -> tuple[Expr, Expr]:
    """J and Y for ``x > 8``: modulus and phase."""
    r = 8.0 / x
    t = P.minimum(r * r * 2.0 - 1.0, 1.0)
    p, q = series(t, (P0, P1)[order]), series(t, (Q0, Q1)[order]) / x
    # cos and sin of x - (2 order + 1) pi / 4, by the addition theorem, so that the large argument is reduced exactly
    s, c = P.sin(x) * math.sqrt(0.5), P.cos(x) * math.sqrt(0.5)
    cos, sin = (c + s, s - c) if order == 0 else (s - c, -(c + s))
    scale = P.sqrt(2.0 / math.pi / x)
    return scale * (p * cos - q * sin), scale * (p * sin + q * cos)


def _near(x: Expr, limit: float) -> Expr:
    """``x`` squared, as the argument in [-1, 1] of a series on [0, limit]."""
    y = P.minimum(P.abs(x), limit)
    return y * y * (2.0 / limit**2) - 1.0


def _j(x: Expr, order: int) -> Expr:
    a = P.abs(x)
    near = series(_near(x, 8.0), (J0_NEAR, J1_NEAR)[order])
    far = P.where(P.eq(a, math.inf), 0.0, _oscillating(P.maximum(a, 8.0), order)[0])
    return P.where(a <= 8.0, near, far) if order == 0 else P.where(a <= 8.0, near * x, P.where(x < 0, -far, far))


def _y(x: Expr, order: int) -> Expr:
    y = P.minimum(P.abs(x), 8.0)
    log = P.log(y) * (2.0 / math.pi)
    if order == 0:
        near = series(_near(x, 8.0), Y0_NEAR) + log * series(_near(x, 8.0), J0_NEAR)
    else:
        near = (series(_near(x, 8.0), Y1_NEAR) + log * series(_near(x, 8.0), J1_NEAR)) * y - (2.0 / math.pi) / y
    far = P.where(P.eq(x, math.inf), 0.0, _oscillating(P.maximum(x, 8.0), order)[1])
    r = P.where(x <= 8.0, near, far)
    return P.where(x < 0, math.nan, P.where(P.eq(x, 0), -math.inf, r))


def _scaled_i(a: Expr, order: int) -> Expr:
    """``exp(-a) I(a)`` for ``a >= 0``; order 1 without its sign."""
    near = series(P.minimum(a, 8.0) * 0.25 - 1.0, (I0_NEAR, I1_NEAR)[order])
    b = P.maximum(a, 8.0)
    far = series(16.0 / b - 1.0, (I0_FAR, I1_FAR)[order]) / P.sqrt(b)
    return P.where(a <= 8.0, near if order == 0 else near * a, far)


def _k(x: Expr, order: int, scaled: bool) -> Expr:
    y = P.minimum(P.abs(x), 2.0)
    log = P.log(y * 0.5)
    i = _scaled_i(y, order) * P.exp(y)
    near = series(_near(x, 2.0), K0_NEAR) - log * i if order == 0 else log * i + series(_near(x, 2.0), K1_NEAR) / y
    b = P.maximum(x, 2.0)
    far = series(4.0 / b - 1.0, (K0_FAR, K1_FAR)[order]) / P.sqrt(b)
    r = P.where(x <= 2.0, near * P.exp(y), far) if scaled else P.where(x <= 2.0, near, far * P.exp(-b))
    return P.where(x < 0, math.nan, P.where(P.eq(x, 0), math.inf, r))


def _function(name: str, body: Any, oracle: Any, doc: str, domain: tuple[float, float] = (-9.0, 12.0)) -> None:
    def f(input):  # noqa: ANN001, ANN202 - the signature is what the registry reads
        return body(input)
    f.__doc__ = doc
    elementwise(name="special_" + name, also={"x": "input"}, refuses="half complex", promote="float", function=False, method=False,
                differentiable=False, domain=domain, oracle=oracle,
                aliases=("special." + name,))(f)


for _n, _text in ((0, "order 0"), (1, "order 1")):
    _function(f"bessel_j{_n}", lambda x, n=_n: _j(x, n), scipy_special(f"j{_n}"), f"The Bessel function of the first kind, {_text}.")
    _function(f"bessel_y{_n}", lambda x, n=_n: _y(x, n), scipy_special(f"y{_n}"),
              f"The Bessel function of the second kind, {_text}; NaN below zero.", (0.1, 12.0))
    _function(f"modified_bessel_i{_n}",
              lambda x, n=_n: _scaled_i(P.abs(x), n) * P.exp(P.abs(x)) * (1.0 if n == 0 else P.sign(x)), scipy_special(f"i{_n}"),
              f"The modified Bessel function of the first kind, {_text}.", (-5.0, 5.0))
    _function(f"modified_bessel_k{_n}", lambda x, n=_n: _k(x, n, False), scipy_special(f"k{_n}"),
              f"The modified Bessel function of the second kind, {_text}; NaN below zero.", (0.1, 9.0))
    _function(f"scaled_modified_bessel_k{_n}", lambda x, n=_n: _k(x, n, True), scipy_special(f"k{_n}e"),
              f"``exp(input) * modified_bessel_k{_n}(input)``.", (0.1, 9.0))


def _spherical(x: Expr) -> Expr:
    y = x * x
    small = 1.0 - y / 6.0 * (1.0 - y / 20.0 * (1.0 - y / 42.0 * (1.0 - y / 72.0 * (1.0 - y / 110.0 * (1.0 - y / 156.0)))))
    return P.where(P.abs(x) < 0.5, small, P.where(P.isinf(x), 0.0, P.sin(x) / x))


_function("spherical_bessel_j0", _spherical, lambda a: scipy_special("spherical_jn")(0, a), "``sin(input) / input``, 1 at 0.")

#: Chebyshev coefficients: the middle, and the far parts above and below.
AI_MID = (0.17890496063142566, -0.0755369065745531, -0.2131784031877102, 0.1611460831707565, -0.024864896937036193,
    -0.020371991931270095, 0.01155349541364254, -0.0015289370590224544, -0.0006808450993157069, 0.00032934512200857646,
    -3.8785492355287646e-05, -1.1606017409811948e-05, 5.0269903422113e-06, -5.380899146608763e-07, -1.2006539051650705e-07,
    4.77774758267587e-08, -4.7154733148011446e-09, -8.342964895161874e-10, 3.099070457716573e-10, -2.8499291499793108e-11,
    -4.163162717692816e-12, 1.459368171657954e-12, -1.260505575876414e-13, -1.5643815363989103e-14, 5.2161167968442375e-15,
    -4.2584836034843765e-16, -4.586612188711462e-17, 1.4634171884003458e-17)
AI_FAR = (0.9883819094779528, -0.011158598393920065, 0.00042827867748723963, -2.8347165646340426e-05, 2.5442108137774067e-06,
    -2.8009523602105163e-07, 3.583738299315652e-08, -5.1549407980390565e-09, 8.152774538520739e-10, -1.3954488401638623e-10,
    2.5547627353496935e-11, -4.957936156105477e-12, 1.0126941433817291e-12, -2.1646872277952708e-13, 4.819591606319673e-14,
    -1.113326894368584e-14, 2.6594795876175462e-15, -6.550977817699581e-16, 1.6599457346143202e-16, -4.3175788555398516e-17)
AI_F = (0.9976361694173823, -0.0022764903455253743, 7.97017270643212e-05, -6.600471278147699e-06, 8.526285006149875e-07,
    -1.4541801957057108e-07, 3.007535373385846e-08, -7.176964368337133e-09, 1.914212545801427e-09, -5.583776104663864e-10,
    1.7538716691930626e-10, -5.863713684425368e-11, 2.068226486797599e-11, -7.642650385660526e-12, 2.9422496525402035e-12,
    -1.174681438792058e-12, 4.845307348977937e-13, -2.0582730856268067e-13, 8.980356897200749e-14, -4.015030900045546e-14,
    1.8357791560194754e-14, -8.56902294368915e-15, 4.077154166654221e-15, -1.9747451578958497e-15, 9.7245986639227e-16,
    -4.863773616383219e-16, 2.468301147969746e-16, -1.269899505803783e-16, 6.618293430676268e-17, -3.4915508146127295e-17)
AI_G = (0.06725318281759612, -0.002047458968718469, 0.00012673269587686658, -1.4233992810492772e-05, 2.248974289072845e-06,
    -4.448764249485493e-07, 1.0337947096920047e-07, -2.714491118762057e-08, 7.85006314858869e-09, -2.4559736158913366e-09,
    8.205057625881789e-10, -2.8985417609356076e-10, 1.0745054471238865e-10, -4.154740135725943e-11, 1.66748763310033e-11,
    -6.918631944318228e-12, 2.9577571762246252e-12, -1.2991599867917556e-12, 5.848903246329969e-13, -2.6933787657971517e-13,
    1.2663390543090567e-13, -6.069439732249396e-14, 2.9613615034772684e-14, -1.469079744274759e-14, 7.401769870012217e-15,
    -3.78387622658294e-15, 1.960952284520728e-15, -1.0293913070384973e-15, 5.469707592272636e-16, -2.9399015053432674e-16,
    1.597445874781143e-16, -8.770123331425767e-17, 4.862417669854622e-17, -2.721221537307562e-17, 1.5365761224737598e-17,
    -8.750846613519627e-18, 5.024485073168815e-18, -2.9075650447634394e-18, 1.695214819632156e-18)

#: ``2 / 3 * 2.5 ** 1.5``: the phase at the border of the middle series.
BORDER = 2.6352313834736494


def _airy(x: Expr) -> Expr:
    middle = series(P.clip(x, -2.5, 2.5) * 0.4, AI_MID)
    a = P.maximum(P.abs(x), 2.5)
    root = P.sqrt(a)
    z = a * root * (2.0 / 3.0)
    r = BORDER / z
    fourth = P.sqrt(root)
    above = series(P.minimum(r * 2.0 - 1.0, 1.0), AI_FAR) * P.exp(-z) / (fourth * (2.0 * math.sqrt(math.pi)))
    t = P.minimum(r * r * 2.0 - 1.0, 1.0)
    s, c = (P.sin(z) + P.cos(z)) * math.sqrt(0.5), (P.cos(z) - P.sin(z)) * math.sqrt(0.5)
    below = (s * series(t, AI_F) - c * series(t, AI_G) / z) / (fourth * math.sqrt(math.pi))
    r = P.where(x > 2.5, above, P.where(x < -2.5, below, middle))
    return P.where(P.isinf(x), P.where(x > 0, 0.0, math.nan), r)


_function("airy_ai", _airy, lambda a: scipy_special("airy")(a)[0], "The Airy function Ai.", (-9.0, 6.0))


# ---------------------------------------------------------------------------------------------------- with gradients


@elementwise(refuses="complex", promote="float", inplace=True, aliases=("special.i0",), oracle=scipy_special("i0"), domain=(-5.0, 12.0))
def i0(input):
    """The modified Bessel function of the first kind, order 0."""
    a = P.abs(input)
    return _scaled_i(a, 0) * P.exp(a)


@i0.vjp("input")
def _(ctx: Any, g: Any) -> Any:
    return g * fn.special_i1(ctx["input"])


@elementwise(refuses="complex", name="special_i0e", promote="float", function=False, method=False, aliases=("special.i0e",),
             oracle=scipy_special("i0e"),
             domain=(-5.0, 12.0))
def special_i0e(input):
    """``exp(-abs(input)) * i0(input)``."""
    return _scaled_i(P.abs(input), 0)


@special_i0e.vjp("input", "out")
def _(ctx: Any, g: Any) -> Any:
    return g * (fn.special_i1e(ctx["input"]) - ctx["input"].sgn() * ctx["out"])


def _i1(x: Expr) -> Expr:
    e = _scaled_i(P.abs(x), 1)
    return P.where(x < 0, -e, e)


@elementwise(name="special_i1", promote="float", function=False, method=False, aliases=("special.i1",), oracle=scipy_special("i1"),
             domain=(-5.0, 12.0))
def special_i1(input):
    """The modified Bessel function of the first kind, order 1."""
    return _i1(input) * P.exp(P.abs(input))


@special_i1.vjp("input", "out")
def _(ctx: Any, g: Any) -> Any:
    x = ctx["input"]
    zero = x == 0
    return g * (fn.i0(x) - fn.where(zero, 0.5, ctx["out"] / fn.where(zero, 1.0, x)))


@elementwise(name="special_i1e", promote="float", function=False, method=False, aliases=("special.i1e",), oracle=scipy_special("i1e"),
             domain=(-5.0, 12.0))
def special_i1e(input):
    """``exp(-abs(input)) * i1(input)``."""
    return _i1(input)


@special_i1e.vjp("input", "out")
def _(ctx: Any, g: Any) -> Any:
    x, y = ctx["input"], ctx["out"]
    zero = x == 0
    return g * (fn.special_i0e(x) - x.sgn() * y - fn.where(zero, 0.5, y / fn.where(zero, 1.0, x)))
