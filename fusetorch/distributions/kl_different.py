"""Kullback-Leibler divergences between distributions of different classes."""
from __future__ import annotations

import math
from typing import Any

import fusetorch as torch
from fusetorch.distributions.bernoulli import Bernoulli
from fusetorch.distributions.beta import Beta
from fusetorch.distributions.binomial import Binomial
from fusetorch.distributions.continuous_bernoulli import ContinuousBernoulli
from fusetorch.distributions.exponential import Exponential
from fusetorch.distributions.gamma import Gamma
from fusetorch.distributions.gumbel import Gumbel
from fusetorch.distributions.kl import register_kl
from fusetorch.distributions.laplace import Laplace
from fusetorch.distributions.normal import Normal
from fusetorch.distributions.pareto import Pareto
from fusetorch.distributions.poisson import Poisson
from fusetorch.distributions.uniform import Uniform
from fusetorch.distributions.utils import euler_constant
from fusetorch.tensor import Tensor


def _x_log_x(t: Tensor) -> Tensor:
    return torch.special.xlogy(t, t)


def _never(p: type, *others: type) -> None:
    """Infinity for each of ``others``: ``p`` has values outside of its support."""
    for q in others:
        register_kl(p, q)(lambda p, q: torch.full_like(p.mean, math.inf))


register_kl(Bernoulli, Poisson)(lambda p, q: -p.entropy() - (p.probs * q.rate.log() - q.rate))
_never(Beta, Pareto)
register_kl(Beta, ContinuousBernoulli)(lambda p, q: -p.entropy() - p.mean * q.logits - torch.log1p(-q.probs) - q._cont_bern_log_norm())
register_kl(Beta, Exponential)(lambda p, q: -p.entropy() - q.rate.log() + q.rate * p.mean)


@register_kl(Beta, Gamma)
def _(p: Any, q: Any) -> Tensor:
    t1 = -p.entropy()
    t2 = q.concentration.lgamma() - q.concentration * q.rate.log()
    t3 = (q.concentration - 1) * (p.concentration1.digamma() - (p.concentration1 + p.concentration0).digamma())
    return t1 + t2 - t3 + q.rate * p.concentration1 / (p.concentration1 + p.concentration0)


@register_kl(Beta, Normal)
def _(p: Any, q: Any) -> Tensor:
    var = q.scale.pow(2)
    t2 = 0.5 * (var * 2 * math.pi).log()
    total = p.concentration1 + p.concentration0
    mean = p.concentration1 / total
    t3 = (p.concentration1 * p.concentration0 / (total.pow(2) * (total + 1)) + mean.pow(2)) * 0.5
    return -p.entropy() + t2 + (t3 - mean * q.loc + q.loc.pow(2) * 0.5) / var


@register_kl(Beta, Uniform)
def _(p: Any, q: Any) -> Tensor:
    kl = -p.entropy() + (q.high - q.low).log()
    return torch.where((q.low > p.support.lower_bound) | (q.high < p.support.upper_bound), math.inf, kl)


_never(ContinuousBernoulli, Pareto)
register_kl(ContinuousBernoulli, Exponential)(lambda p, q: -p.entropy() - torch.log(q.rate) + q.rate * p.mean)


@register_kl(ContinuousBernoulli, Normal)
def _(p: Any, q: Any) -> Tensor:
    t2 = 0.5 * (math.log(2.0 * math.pi) + torch.square(q.loc / q.scale)) + torch.log(q.scale)
    t3 = (p.variance + torch.square(p.mean) - 2.0 * q.loc * p.mean) / (2.0 * torch.square(q.scale))
    return -p.entropy() + t2 + t3


@register_kl(ContinuousBernoulli, Uniform)
def _(p: Any, q: Any) -> Tensor:
    kl = -p.entropy() + (q.high - q.low).log()
    return torch.where((q.low > p.support.lower_bound) | (q.high < p.support.upper_bound), math.inf, kl)


_never(Exponential, Beta, ContinuousBernoulli, Pareto, Uniform)


@register_kl(Exponential, Gamma)
def _(p: Any, q: Any) -> Tensor:
    ratio = q.rate / p.rate
    return -q.concentration * torch.log(ratio) + ratio + q.concentration.lgamma() + q.concentration * euler_constant - (1 + euler_constant)


@register_kl(Exponential, Gumbel)
def _(p: Any, q: Any) -> Tensor:
    scale_rate = p.rate * q.scale
    loc_scale = q.loc / q.scale
    t3 = scale_rate.reciprocal()
    return scale_rate.log() - 1 - loc_scale + t3 + torch.exp(loc_scale) * (scale_rate / (scale_rate + 1))


@register_kl(Exponential, Normal)
def _(p: Any, q: Any) -> Tensor:
    var = q.scale.pow(2)
    rate_sqr = p.rate.pow(2)
    t1 = 0.5 * torch.log(rate_sqr * var * 2 * math.pi)
    return t1 - 1 + (rate_sqr.reciprocal() - q.loc / p.rate + q.loc.pow(2) / 2) / var


_never(Gamma, Beta, ContinuousBernoulli, Pareto, Uniform)
register_kl(Gamma, Exponential)(lambda p, q: -p.entropy() - q.rate.log() + q.rate * p.concentration / p.rate)


@register_kl(Gamma, Gumbel)
def _(p: Any, q: Any) -> Tensor:
    beta_scale = p.rate * q.scale
    loc_scale = q.loc / q.scale
    t1 = (p.concentration - 1) * p.concentration.digamma() - p.concentration.lgamma() - p.concentration
    return t1 + beta_scale.log() + p.concentration / beta_scale + torch.exp(loc_scale) * (1 + beta_scale.reciprocal()).pow(
        -p.concentration) - loc_scale


@register_kl(Gamma, Normal)
def _(p: Any, q: Any) -> Tensor:
    var = q.scale.pow(2)
    beta_sqr = p.rate.pow(2)
    t1 = 0.5 * torch.log(beta_sqr * var * 2 * math.pi) - p.concentration - p.concentration.lgamma()
    t2 = 0.5 * (p.concentration.pow(2) + p.concentration) / beta_sqr
    t3 = q.loc * p.concentration / p.rate
    return t1 + (p.concentration - 1) * p.concentration.digamma() + (t2 - t3 + 0.5 * q.loc.pow(2)) / var


_never(Gumbel, Beta, ContinuousBernoulli, Exponential, Gamma, Pareto, Uniform)


@register_kl(Gumbel, Normal)
def _(p: Any, q: Any) -> Tensor:
    ratio = p.scale / q.scale
    t1 = (ratio / math.sqrt(2 * math.pi)).log()
    t2 = (math.pi * ratio * 0.5).pow(2) / 3
    return -t1 + t2 + ((p.loc + p.scale * euler_constant - q.loc) / q.scale).pow(2) * 0.5 - (euler_constant + 1)


_never(Laplace, Beta, ContinuousBernoulli, Exponential, Gamma, Pareto, Uniform)


@register_kl(Laplace, Normal)
def _(p: Any, q: Any) -> Tensor:
    var = q.scale.pow(2)
    ratio = p.scale.pow(2) / var
    t1 = 0.5 * torch.log(2 * ratio / math.pi)
    return -t1 + ratio + (0.5 * p.loc.pow(2) - p.loc * q.loc + 0.5 * q.loc.pow(2)) / var - 1


_never(Normal, Beta, ContinuousBernoulli, Exponential, Gamma, Pareto, Uniform)


@register_kl(Normal, Gumbel)
def _(p: Any, q: Any) -> Tensor:
    mean_scale, var_scale, loc_scale = p.loc / q.scale, (p.scale / q.scale).pow(2), q.loc / q.scale
    t1 = var_scale.log() * 0.5
    return -t1 + mean_scale - loc_scale + torch.exp(-mean_scale + 0.5 * var_scale + loc_scale) - 0.5 * (1 + math.log(2 * math.pi))


@register_kl(Normal, Laplace)
def _(p: Any, q: Any) -> Tensor:
    d = p.loc - q.loc
    scaled = d / p.scale
    t2 = math.sqrt(2 / math.pi) * p.scale * torch.exp(-0.5 * scaled.pow(2))
    t3 = d * torch.erf(math.sqrt(0.5) * scaled)
    return -torch.log(p.scale / q.scale) + (t2 + t3) / q.scale - (0.5 * (1 + math.log(0.5 * math.pi)))


_never(Pareto, Beta, ContinuousBernoulli, Uniform)


@register_kl(Pareto, Exponential)
def _(p: Any, q: Any) -> Tensor:
    scale_rate = p.scale * q.rate
    kl = (p.alpha / scale_rate).log() - p.alpha.reciprocal() + p.alpha * scale_rate / (p.alpha - 1) - 1
    return torch.where(p.alpha <= 1, math.inf, kl)


@register_kl(Pareto, Gamma)
def _(p: Any, q: Any) -> Tensor:
    common = p.scale.log() + p.alpha.reciprocal()
    t2 = q.concentration.lgamma() - q.concentration * q.rate.log()
    kl = p.alpha.log() - common + t2 + (1 - q.concentration) * common + q.rate * p.alpha * p.scale / (p.alpha - 1) - 1
    return torch.where(p.alpha <= 1, math.inf, kl)


@register_kl(Pareto, Normal)
def _(p: Any, q: Any) -> Tensor:
    var = 2 * q.scale.pow(2)
    common = p.scale / (p.alpha - 1)
    t1 = (math.sqrt(2 * math.pi) * q.scale * p.alpha / p.scale).log() - p.alpha.reciprocal()
    kl = t1 + (p.alpha * common.pow(2) / (p.alpha - 2) + (p.alpha * common - q.loc).pow(2)) / var - 1
    return torch.where(p.alpha <= 2, math.inf, kl)


_never(Poisson, Bernoulli, Binomial)


@register_kl(Uniform, Beta)
def _(p: Any, q: Any) -> Tensor:
    common = p.high - p.low
    t2 = (q.concentration1 - 1) * (_x_log_x(p.high) - _x_log_x(p.low) - common) / common
    t3 = (q.concentration0 - 1) * (_x_log_x(1 - p.high) - _x_log_x(1 - p.low) + common) / common
    t4 = q.concentration1.lgamma() + q.concentration0.lgamma() - (q.concentration1 + q.concentration0).lgamma()
    outside = (p.high > q.support.upper_bound) | (p.low < q.support.lower_bound)
    return torch.where(outside, math.inf, t3 + t4 - torch.log(common) - t2)


@register_kl(Uniform, ContinuousBernoulli)
def _(p: Any, q: Any) -> Tensor:
    kl = -p.entropy() - p.mean * q.logits - torch.log1p(-q.probs) - q._cont_bern_log_norm()
    return torch.where((p.high > q.support.upper_bound) | (p.low < q.support.lower_bound), math.inf, kl)


@register_kl(Uniform, Exponential)
def _(p: Any, q: Any) -> Tensor:
    kl = q.rate * (p.high + p.low) / 2 - ((p.high - p.low) * q.rate).log()
    return torch.where(p.low < q.support.lower_bound, math.inf, kl)


@register_kl(Uniform, Gamma)
def _(p: Any, q: Any) -> Tensor:
    common = p.high - p.low
    t2 = q.concentration.lgamma() - q.concentration * q.rate.log()
    t3 = (1 - q.concentration) * (_x_log_x(p.high) - _x_log_x(p.low) - common) / common
    kl = -common.log() + t2 + t3 + q.rate * (p.high + p.low) / 2
    return torch.where(p.low < q.support.lower_bound, math.inf, kl)


@register_kl(Uniform, Gumbel)
def _(p: Any, q: Any) -> Tensor:
    common = q.scale / (p.high - p.low)
    high, low = (p.high - q.loc) / q.scale, (p.low - q.loc) / q.scale
    return common.log() + 0.5 * (high + low) - common * (torch.exp(-high) - torch.exp(-low))


@register_kl(Uniform, Normal)
def _(p: Any, q: Any) -> Tensor:
    common = p.high - p.low
    t1 = (math.sqrt(math.pi * 2) * q.scale / common).log()
    return t1 + 0.5 * (common.pow(2) / 12 + ((p.high + p.low - 2 * q.loc) / 2).pow(2)) / q.scale.pow(2)


@register_kl(Uniform, Pareto)
def _(p: Any, q: Any) -> Tensor:
    common = p.high - p.low
    t1 = (q.alpha * q.scale.pow(q.alpha) * common).log()
    kl = (_x_log_x(p.high) - _x_log_x(p.low) - common) / common * (q.alpha + 1) - t1
    return torch.where(p.low < q.support.lower_bound, math.inf, kl)
