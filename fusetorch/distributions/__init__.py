"""Probability distributions, transforms and constraints, with the names and semantics of ``torch.distributions``."""
from __future__ import annotations

from fusetorch.distributions import constraints, kl_different, kl_same, transforms
from fusetorch.distributions.bernoulli import Bernoulli
from fusetorch.distributions.beta import Beta
from fusetorch.distributions.binomial import Binomial
from fusetorch.distributions.categorical import Categorical
from fusetorch.distributions.cauchy import Cauchy
from fusetorch.distributions.chi2 import Chi2
from fusetorch.distributions.constraint_registry import biject_to, transform_to
from fusetorch.distributions.continuous_bernoulli import ContinuousBernoulli
from fusetorch.distributions.dirichlet import Dirichlet
from fusetorch.distributions.distribution import Distribution
from fusetorch.distributions.exp_family import ExponentialFamily
from fusetorch.distributions.exponential import Exponential
from fusetorch.distributions.fishersnedecor import FisherSnedecor
from fusetorch.distributions.gamma import Gamma
from fusetorch.distributions.generalized_pareto import GeneralizedPareto
from fusetorch.distributions.geometric import Geometric
from fusetorch.distributions.gumbel import Gumbel
from fusetorch.distributions.half_cauchy import HalfCauchy
from fusetorch.distributions.half_normal import HalfNormal
from fusetorch.distributions.independent import Independent
from fusetorch.distributions.inverse_gamma import InverseGamma
from fusetorch.distributions.kl import kl_divergence, register_kl
from fusetorch.distributions.kumaraswamy import Kumaraswamy
from fusetorch.distributions.laplace import Laplace
from fusetorch.distributions.lkj_cholesky import LKJCholesky
from fusetorch.distributions.log_normal import LogNormal
from fusetorch.distributions.logistic_normal import LogisticNormal
from fusetorch.distributions.lowrank_multivariate_normal import LowRankMultivariateNormal
from fusetorch.distributions.mixture_same_family import MixtureSameFamily
from fusetorch.distributions.multinomial import Multinomial
from fusetorch.distributions.multivariate_normal import MultivariateNormal
from fusetorch.distributions.negative_binomial import NegativeBinomial
from fusetorch.distributions.normal import Normal
from fusetorch.distributions.one_hot_categorical import OneHotCategorical, OneHotCategoricalStraightThrough
from fusetorch.distributions.pareto import Pareto
from fusetorch.distributions.poisson import Poisson
from fusetorch.distributions.relaxed_bernoulli import RelaxedBernoulli
from fusetorch.distributions.relaxed_categorical import RelaxedOneHotCategorical
from fusetorch.distributions.studentT import StudentT
from fusetorch.distributions.transformed_distribution import TransformedDistribution
from fusetorch.distributions.transforms import (
    AbsTransform,
    AffineTransform,
    CatTransform,
    ComposeTransform,
    CorrCholeskyTransform,
    CumulativeDistributionTransform,
    ExpTransform,
    IndependentTransform,
    LowerCholeskyTransform,
    PositiveDefiniteTransform,
    PowerTransform,
    ReshapeTransform,
    SigmoidTransform,
    SoftmaxTransform,
    SoftplusTransform,
    StackTransform,
    StickBreakingTransform,
    TanhTransform,
    Transform,
    identity_transform,
)
from fusetorch.distributions.uniform import Uniform
from fusetorch.distributions.von_mises import VonMises
from fusetorch.distributions.weibull import Weibull
from fusetorch.distributions.wishart import Wishart

__all__ = ["AbsTransform", "AffineTransform", "Bernoulli", "Beta", "Binomial", "CatTransform", "Categorical", "Cauchy", "Chi2",
           "ComposeTransform", "ContinuousBernoulli", "CorrCholeskyTransform", "CumulativeDistributionTransform", "Dirichlet",
           "Distribution", "ExpTransform", "Exponential", "ExponentialFamily", "FisherSnedecor", "Gamma", "GeneralizedPareto",
           "Geometric", "Gumbel", "HalfCauchy", "HalfNormal", "Independent", "IndependentTransform", "InverseGamma",
           "Kumaraswamy", "LKJCholesky", "Laplace", "LogNormal", "LogisticNormal", "LowRankMultivariateNormal",
           "LowerCholeskyTransform", "MixtureSameFamily", "Multinomial", "MultivariateNormal", "NegativeBinomial", "Normal",
           "OneHotCategorical", "OneHotCategoricalStraightThrough", "Pareto", "Poisson", "PositiveDefiniteTransform",
           "PowerTransform", "RelaxedBernoulli", "RelaxedOneHotCategorical", "ReshapeTransform", "SigmoidTransform",
           "SoftmaxTransform", "SoftplusTransform", "StackTransform", "StickBreakingTransform", "StudentT", "TanhTransform",
           "Transform", "TransformedDistribution", "Uniform", "VonMises", "Weibull", "Wishart", "biject_to", "constraints",
           "identity_transform", "kl_divergence", "register_kl", "transform_to", "transforms"]
