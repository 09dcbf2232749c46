"""Kullback-Leibler divergences between distributions of one class, or of one family."""
from __future__ import annotations

import math
from typing import Any

import fusetorch as torch
import fusetorch.nn.functional as F
from fusetorch.distributions.bernoulli import Bernoulli
from fusetorch.distributions.beta import Beta
from fusetorch.distributions.binomial import Binomial
from fusetorch.distributions.categorical import Categorical
from fusetorch.distributions.cauchy import Cauchy
from fusetorch.distributions.continuous_bernoulli import ContinuousBernoulli
from fusetorch.distributions.dirichlet import Dirichlet
from fusetorch.distributions.exp_family import ExponentialFamily
from fusetorch.distributions.exponential import Exponential
from fusetorch.distributions.gamma import Gamma
from fusetorch.distributions.geometric import Geometric
from fusetorch.distributions.gumbel import Gumbel
from fusetorch.distributions.half_normal import HalfNormal
from fusetorch.distributions.independent import Independent
from fusetorch.distributions.kl import kl_divergence, register_kl
from fusetorch.distributions.laplace import Laplace
from fusetorch.distributions.lowrank_multivariate_normal import LowRankMultivariateNormal, _log_det, _mahalanobis
from fusetorch.distributions.multivariate_normal import MultivariateNormal, _batch_mahalanobis
from fusetorch.distributions.normal import Normal
from fusetorch.distributions.one_hot_categorical import OneHotCategorical
from fusetorch.distributions.pareto import Pareto
from fusetorch.distributions.poisson import Poisson
from fusetorch.distributions.transformed_distribution import TransformedDistribution
from fusetorch.distributions.uniform import Uniform
from fusetorch.distributions.utils import euler_constant, sum_rightmost
from fusetorch.distributions.wishart import Wishart, _mvdigamma
from fusetorch.tensor import Tensor


def _trace_xxt(x: Tensor) -> Tensor:
    """The trace of ``X X'``."""
    return x.pow(2).flatten(-2).sum(-1)


@register_kl(Bernoulli, Bernoulli)
def _(p: Any, q: Any) -> Tensor:
    t1 = p.probs * (F.softplus(-q.logits) - F.softplus(-p.logits))
    t1 = torch.where(q.probs == 0, math.inf, t1)
    t1 = torch.where(p.probs == 0, 0.0, t1)
    t2 = (1 - p.probs) * (F.softplus(q.logits) - F.softplus(p.logits))
    t2 = torch.where(q.probs == 1, math.inf, t2)
    return t1 + torch.where(p.probs == 1, 0.0, t2)


@register_kl(Beta, Beta)
def _(p: Any, q: Any) -> Tensor:
    sum_p, sum_q = p.concentration1 + p.concentration0, q.concentration1 + q.concentration0
    t1 = q.concentration1.lgamma() + q.concentration0.lgamma() + sum_p.lgamma()
    t2 = p.concentration1.lgamma() + p.concentration0.lgamma() + sum_q.lgamma()
    t3 = (p.concentration1 - q.concentration1) * torch.digamma(p.concentration1)
    t4 = (p.concentration0 - q.concentration0) * torch.digamma(p.concentration0)
    return t1 - t2 + t3 + t4 + (sum_q - sum_p) * torch.digamma(sum_p)


@register_kl(Binomial, Binomial)
def _(p: Any, q: Any) -> Tensor:
    if (p.total_count < q.total_count).any():
        raise NotImplementedError("KL between Binomials where q.total_count > p.total_count is not implemented")
    kl = p.total_count * (p.probs * (p.logits - q.logits) + (-p.probs).log1p() - (-q.probs).log1p())
    return torch.where(p.total_count > q.total_count, math.inf, kl)


@register_kl(Categorical, Categorical)
def _(p: Any, q: Any) -> Tensor:
    t = p.probs * (p.logits - q.logits)
    t = torch.where((q.probs == 0).expand(t.shape), math.inf, t)
    return torch.where((p.probs == 0).expand(t.shape), 0.0, t).sum(-1)


@register_kl(OneHotCategorical, OneHotCategorical)
def _(p: Any, q: Any) -> Tensor:
    return kl_divergence(p._categorical, q._categorical)


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _(p: Any, q: Any) -> Tensor:
    t1 = p.mean * (p.logits - q.logits)
    return t1 + p._cont_bern_log_norm() + torch.log1p(-p.probs) - q._cont_bern_log_norm() - torch.log1p(-q.probs)


@register_kl(Dirichlet, Dirichlet)
def _(p: Any, q: Any) -> Tensor:
    total_p, total_q = p.concentration.sum(-1), q.concentration.sum(-1)
    t1 = total_p.lgamma() - total_q.lgamma()
    t2 = (p.concentration.lgamma() - q.concentration.lgamma()).sum(-1)
    t3 = p.concentration - q.concentration
    return t1 - t2 + (t3 * (p.concentration.digamma() - total_p.digamma().unsqueeze(-1))).sum(-1)


@register_kl(Exponential, Exponential)
def _(p: Any, q: Any) -> Tensor:
    ratio = q.rate / p.rate
    return -ratio.log() + ratio - 1


@register_kl(ExponentialFamily, ExponentialFamily)
def _(p: Any, q: Any) -> Tensor:
    if type(p) is not type(q):
        raise NotImplementedError("The cross KL-divergence between different exponential families cannot be computed using Bregman "
                                  "divergences")
    p_params = [t.detach().requires_grad_() for t in p._natural_params]
    with torch.enable_grad():
        normalizer = p._log_normalizer(*p_params)
        gradients = torch.autograd.grad(normalizer.sum(), p_params, create_graph=True)
    result = q._log_normalizer(*q._natural_params) - normalizer
    for a, b, g in zip(p_params, q._natural_params, gradients):
        result = result - sum_rightmost((b - a) * g, len(q.event_shape))
    return result


@register_kl(Gamma, Gamma)
def _(p: Any, q: Any) -> Tensor:
    t1 = q.concentration * (p.rate / q.rate).log()
    t2 = torch.lgamma(q.concentration) - torch.lgamma(p.concentration)
    t3 = (p.concentration - q.concentration) * torch.digamma(p.concentration)
    return t1 + t2 + t3 + (q.rate - p.rate) * (p.concentration / p.rate)


@register_kl(Gumbel, Gumbel)
def _(p: Any, q: Any) -> Tensor:
    ct1, ct2, ct3 = p.scale / q.scale, q.loc / q.scale, p.loc / q.scale
    t1 = -ct1.log() - ct2 + ct3
    return t1 + ct1 * euler_constant + torch.exp(ct2 + (1 + ct1).lgamma() - ct3) - (1 + euler_constant)


@register_kl(Geometric, Geometric)
def _(p: Any, q: Any) -> Tensor:
    return -p.entropy() - torch.log1p(-q.probs) / p.probs - q.logits


@register_kl(HalfNormal, HalfNormal)
def _(p: Any, q: Any) -> Tensor:
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(Laplace, Laplace)
def _(p: Any, q: Any) -> Tensor:
    ratio = p.scale / q.scale
    distance = (p.loc - q.loc).abs()
    return -ratio.log() + distance / q.scale + ratio * torch.exp(-distance / p.scale) - 1


@register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)
def _(p: Any, q: Any) -> Tensor:
    if p.event_shape != q.event_shape:
        raise ValueError("KL-divergence between two Low Rank Multivariate Normals with different event shapes cannot be computed")
    log_dets = (_log_det(q._unbroadcasted_cov_diag, q._capacitance_tril) - _log_det(p._unbroadcasted_cov_diag, p._capacitance_tril))
    m = _mahalanobis(q._unbroadcasted_cov_factor, q._unbroadcasted_cov_diag, q.loc - p.loc, q._capacitance_tril)
    qwt_qdinv = q._unbroadcasted_cov_factor.mT / q._unbroadcasted_cov_diag.unsqueeze(-2)
    a = torch.linalg.solve_triangular(q._capacitance_tril, qwt_qdinv, upper=False)
    t1 = (p._unbroadcasted_cov_diag / q._unbroadcasted_cov_diag).sum(-1)
    t2 = _trace_xxt(p._unbroadcasted_cov_factor * q._unbroadcasted_cov_diag.rsqrt().unsqueeze(-1))
    t3 = _trace_xxt(a * p._unbroadcasted_cov_diag.sqrt().unsqueeze(-2))
    t4 = _trace_xxt(a.matmul(p._unbroadcasted_cov_factor))
    return 0.5 * (log_dets + t1 + t2 - t3 - t4 + m - p.event_shape[0])


@register_kl(MultivariateNormal, LowRankMultivariateNormal)
def _(p: Any, q: Any) -> Tensor:
    if p.event_shape != q.event_shape:
        raise ValueError("KL-divergence between two (Low Rank) Multivariate Normals with different event shapes cannot be computed")
    log_dets = _log_det(q._unbroadcasted_cov_diag, q._capacitance_tril) - 2 * p._unbroadcasted_scale_tril.diagonal(
        dim1=-2, dim2=-1).log().sum(-1)
    m = _mahalanobis(q._unbroadcasted_cov_factor, q._unbroadcasted_cov_diag, q.loc - p.loc, q._capacitance_tril)
    qwt_qdinv = q._unbroadcasted_cov_factor.mT / q._unbroadcasted_cov_diag.unsqueeze(-2)
    a = torch.linalg.solve_triangular(q._capacitance_tril, qwt_qdinv, upper=False)
    t1 = _trace_xxt(p._unbroadcasted_scale_tril * q._unbroadcasted_cov_diag.rsqrt().unsqueeze(-1))
    t2 = _trace_xxt(a.matmul(p._unbroadcasted_scale_tril))
    return 0.5 * (log_dets + t1 - t2 + m - p.event_shape[0])


@register_kl(LowRankMultivariateNormal, MultivariateNormal)
def _(p: Any, q: Any) -> Tensor:
    return _kl_normal(p, q, p.scale_tril)


@register_kl(MultivariateNormal, MultivariateNormal)
def _(p: Any, q: Any) -> Tensor:
    return _kl_normal(p, q, p._unbroadcasted_scale_tril)


def _kl_normal(p: Any, q: Any, tril: Tensor) -> Tensor:
    if p.event_shape != q.event_shape:
        raise ValueError("KL-divergence between two Multivariate Normals with different event shapes cannot be computed")
    half = q._unbroadcasted_scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1) - tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    shape = torch.broadcast_shapes(q._unbroadcasted_scale_tril.shape[:-2], tril.shape[:-2])
    n = p.event_shape[0]
    t = _trace_xxt(torch.linalg.solve_triangular(q._unbroadcasted_scale_tril.expand(shape + (n, n)), tril.expand(shape + (n, n)),
                                                 upper=False))
    return half + 0.5 * (t + _batch_mahalanobis(q._unbroadcasted_scale_tril, q.loc - p.loc) - n)


@register_kl(Normal, Normal)
def _(p: Any, q: Any) -> Tensor:
    ratio = (p.scale / q.scale).pow(2)
    return 0.5 * (ratio + ((p.loc - q.loc) / q.scale).pow(2) - 1 - ratio.log())


@register_kl(Pareto, Pareto)
def _(p: Any, q: Any) -> Tensor:
    ratio = p.scale / q.scale
    alpha = q.alpha / p.alpha
    kl = q.alpha * ratio.log() - alpha.log() + alpha - 1
    return torch.where(p.support.lower_bound < q.support.lower_bound, math.inf, kl)


@register_kl(Poisson, Poisson)
def _(p: Any, q: Any) -> Tensor:
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(TransformedDistribution, TransformedDistribution)
def _(p: Any, q: Any) -> Tensor:
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError("KL between transformed distributions with different transforms is not implemented")
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(Uniform, Uniform)
def _(p: Any, q: Any) -> Tensor:
    kl = ((q.high - q.low) / (p.high - p.low)).log()
    return torch.where((q.low > p.low) | (q.high < p.high), math.inf, kl)


@register_kl(Independent, Independent)
def _(p: Any, q: Any) -> Tensor:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


@register_kl(Cauchy, Cauchy)
def _(p: Any, q: Any) -> Tensor:
    # Chyzak and Nielsen, 2019
    t1 = ((p.scale + q.scale).pow(2) + (p.loc - q.loc).pow(2)).log()
    return t1 - (4 * p.scale * q.scale).log()


@register_kl(Wishart, Wishart)
def _(p: Any, q: Any) -> Tensor:
    n, half = p._event_shape[-1], p.df / 2
    trace = _trace_xxt(torch.linalg.solve_triangular(q._unbroadcasted_scale_tril, p._unbroadcasted_scale_tril, upper=False))
    return (q.df * (q._half_log_det() - p._half_log_det()) + half * (trace - n) + torch.mvlgamma(q.df / 2, n) - torch.mvlgamma(half, n)
            + (half - q.df / 2) * _mvdigamma(half, n))
