"""fusetorch.distributions: against SciPy, against PyTorch (where it is installed), and by the moments of samples."""
from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import special, stats

import fusetorch as torch
from fusetorch import distributions

RNG = np.random.default_rng(0)
POS = RNG.random((2, 3)) * 2 + 0.4
POS2 = RNG.random((2, 3)) * 2 + 0.6
LOC = RNG.standard_normal((2, 3))
PROB = RNG.random((2, 3)) * 0.8 + 0.1
LOGIT = RNG.standard_normal((2, 3))
SIMPLEX = POS / POS.sum(-1, keepdims=True)
ROOT = np.tril(RNG.standard_normal((3, 3)), -1) + np.diag([0.7, 1.2, 0.9])
COV = ROOT @ ROOT.T


def double(t, v):
    return t.tensor(v, dtype=t.float64)


#: Distributions of library ``t``, made in the same way.
MADE = {
    "Normal": lambda t, d: d.Normal(double(t, LOC), double(t, POS)),
    "LogNormal": lambda t, d: d.LogNormal(double(t, LOC), double(t, POS)),
    "HalfNormal": lambda t, d: d.HalfNormal(double(t, POS)),
    "Bernoulli": lambda t, d: d.Bernoulli(double(t, PROB)),
    "Bernoulli logits": lambda t, d: d.Bernoulli(logits=double(t, LOGIT)),
    "Binomial": lambda t, d: d.Binomial(7, double(t, PROB)),
    "Binomial logits": lambda t, d: d.Binomial(7, logits=double(t, LOGIT)),
    "Categorical": lambda t, d: d.Categorical(double(t, POS)),
    "Categorical logits": lambda t, d: d.Categorical(logits=double(t, LOGIT)),
    "OneHotCategorical": lambda t, d: d.OneHotCategorical(double(t, SIMPLEX)),
    "Multinomial": lambda t, d: d.Multinomial(5, double(t, SIMPLEX)),
    "Uniform": lambda t, d: d.Uniform(double(t, LOC), double(t, LOC + POS)),
    "Beta": lambda t, d: d.Beta(double(t, POS), double(t, POS2)),
    "Dirichlet": lambda t, d: d.Dirichlet(double(t, POS)),
    "Gamma": lambda t, d: d.Gamma(double(t, POS), double(t, POS2)),
    "InverseGamma": lambda t, d: d.InverseGamma(double(t, POS), double(t, POS2)),
    "Chi2": lambda t, d: d.Chi2(double(t, POS)),
    "Exponential": lambda t, d: d.Exponential(double(t, POS)),
    "Laplace": lambda t, d: d.Laplace(double(t, LOC), double(t, POS)),
    "Cauchy": lambda t, d: d.Cauchy(double(t, LOC), double(t, POS)),
    "HalfCauchy": lambda t, d: d.HalfCauchy(double(t, POS)),
    "Gumbel": lambda t, d: d.Gumbel(double(t, LOC), double(t, POS)),
    "Geometric": lambda t, d: d.Geometric(double(t, PROB)),
    "NegativeBinomial": lambda t, d: d.NegativeBinomial(double(t, POS), double(t, PROB)),
    "Pareto": lambda t, d: d.Pareto(double(t, POS), double(t, POS2 + 2)),
    "GeneralizedPareto": lambda t, d: d.GeneralizedPareto(double(t, LOC), double(t, POS), double(t, PROB / 2.5 - 0.1)),
    "Poisson": lambda t, d: d.Poisson(double(t, POS)),
    "StudentT": lambda t, d: d.StudentT(double(t, POS + 2), double(t, LOC), double(t, POS2)),
    "FisherSnedecor": lambda t, d: d.FisherSnedecor(double(t, POS + 2), double(t, POS2 + 4)),
    "VonMises": lambda t, d: d.VonMises(double(t, LOC), double(t, POS)),
    "Weibull": lambda t, d: d.Weibull(double(t, POS), double(t, POS2 + 1)),
    "Kumaraswamy": lambda t, d: d.Kumaraswamy(double(t, POS + 1), double(t, POS2 + 1)),
    "LogisticNormal": lambda t, d: d.LogisticNormal(double(t, LOC), double(t, POS)),
    "RelaxedBernoulli": lambda t, d: d.RelaxedBernoulli(double(t, 0.7), double(t, PROB)),
    "RelaxedOneHotCategorical": lambda t, d: d.RelaxedOneHotCategorical(double(t, 0.7), double(t, SIMPLEX)),
    "ContinuousBernoulli": lambda t, d: d.ContinuousBernoulli(double(t, PROB)),
    "ContinuousBernoulli half": lambda t, d: d.ContinuousBernoulli(double(t, [0.3, 0.5, 0.5004])),
    "MultivariateNormal": lambda t, d: d.MultivariateNormal(double(t, LOC), double(t, COV)),
    "MultivariateNormal tril": lambda t, d: d.MultivariateNormal(double(t, LOC), scale_tril=double(t, ROOT)),
    "MultivariateNormal precision": lambda t, d: d.MultivariateNormal(double(t, LOC), precision_matrix=double(t, COV)),
    "Wishart": lambda t, d: d.Wishart(double(t, [4.5, 6.0]), double(t, COV)),
    "Wishart precision": lambda t, d: d.Wishart(double(t, 5.0), precision_matrix=double(t, COV)),
    "LKJCholesky": lambda t, d: d.LKJCholesky(4, double(t, [0.6, 3.0])),
    "LowRankMultivariateNormal": lambda t, d: d.LowRankMultivariateNormal(double(t, LOC), double(t, ROOT[:, :2]), double(t, POS)),
    "MixtureSameFamily": lambda t, d: d.MixtureSameFamily(d.Categorical(double(t, POS)), d.Normal(double(t, LOC), double(t, POS2))),
    "MixtureSameFamily vectors": lambda t, d: d.MixtureSameFamily(d.Categorical(double(t, POS[0])), d.Independent(
        d.Normal(double(t, np.tile(LOC, (2, 1))[:3]), double(t, np.tile(POS2, (2, 1))[:3])), 1)),
    "Independent": lambda t, d: d.Independent(d.Normal(double(t, LOC), double(t, POS)), 1),
    "Transformed": lambda t, d: d.TransformedDistribution(d.Normal(double(t, LOC), double(t, POS)), [
        d.AffineTransform(double(t, 0.5), double(t, -2.0)), d.SigmoidTransform()]),
    "Transformed tanh": lambda t, d: d.TransformedDistribution(d.Normal(double(t, LOC), double(t, POS)), [d.TanhTransform()]),
}

SCIPY = {
    "Normal": stats.norm(LOC, POS), "LogNormal": stats.lognorm(s=POS, scale=np.exp(LOC)), "HalfNormal": stats.halfnorm(scale=POS),
    "Bernoulli": stats.bernoulli(PROB), "Binomial": stats.binom(7, PROB), "Uniform": stats.uniform(LOC, POS), "Beta": stats.beta(POS, POS2),
    "Gamma": stats.gamma(POS, scale=1 / POS2), "InverseGamma": stats.invgamma(POS, scale=POS2), "Chi2": stats.chi2(POS),
    "Exponential": stats.expon(scale=1 / POS), "Laplace": stats.laplace(LOC, POS), "Cauchy": stats.cauchy(LOC, POS),
    "HalfCauchy": stats.halfcauchy(scale=POS), "Gumbel": stats.gumbel_r(LOC, POS), "Geometric": stats.geom(PROB, loc=-1),
    "NegativeBinomial": stats.nbinom(POS, 1 - PROB), "Pareto": stats.pareto(POS2 + 2, scale=POS),
    "GeneralizedPareto": stats.genpareto(PROB / 2.5 - 0.1, LOC, POS), "Poisson": stats.poisson(POS),
    "StudentT": stats.t(POS + 2, LOC, POS2), "FisherSnedecor": stats.f(POS + 2, POS2 + 4),
    "Weibull": stats.weibull_min(POS2 + 1, scale=POS),
}
DISCRETE = {"Bernoulli", "Binomial", "Geometric", "NegativeBinomial", "Poisson"}


def ours(name):
    return MADE[name](torch, distributions)


@pytest.mark.parametrize("name", SCIPY)
def test_scipy(name):
    d, s = ours(name), SCIPY[name]
    x = s.rvs(size=(5, 2, 3), random_state=1)
    value = torch.tensor(x, dtype=torch.float64)
    np.testing.assert_allclose(d.log_prob(value).numpy(), s.logpmf(x) if name in DISCRETE else s.logpdf(x), rtol=1e-9, atol=1e-10)
    if name not in ("Cauchy", "HalfCauchy", "InverseGamma"):
        np.testing.assert_allclose(d.mean.numpy(), s.mean(), rtol=1e-9)
        np.testing.assert_allclose(d.variance.numpy(), s.var(), rtol=1e-8)
    for ask, answer in ((lambda: d.entropy(), s.entropy), (lambda: d.cdf(value), lambda: s.cdf(x)),
                        (lambda: d.icdf(torch.tensor(PROB)), lambda: s.ppf(PROB))):
        try:
            got = ask().numpy()
        except NotImplementedError:
            continue
        np.testing.assert_allclose(got, answer(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", MADE)
def test_samples_have_the_distributions_moments_and_shapes(name):
    torch.manual_seed(0)
    d = ours(name)
    x = d.sample((20000,))
    assert x.shape == (20000, *d.batch_shape, *d.event_shape) and not x.requires_grad
    assert d.log_prob(x[:3]).shape == (3, *d.batch_shape)
    assert d.support.check(x[:50]).all() or name in ("LogisticNormal", "RelaxedOneHotCategorical")
    if name not in ("Cauchy", "HalfCauchy", "InverseGamma", "VonMises", "FisherSnedecor"):
        try:
            mean, sd = d.mean.numpy(), np.sqrt(d.variance.numpy())
        except NotImplementedError:
            return
        if np.isfinite(mean).all():
            assert (np.abs(x.double().numpy().mean(0) - mean) < 6 * sd / math.sqrt(20000) + 1e-9).all()
    wide = d.expand((4, *d.batch_shape))
    assert wide.sample((2,)).shape == (2, 4, *d.batch_shape, *d.event_shape)
    np.testing.assert_allclose(wide.log_prob(x[0]).numpy()[0], d.log_prob(x[0]).numpy(), rtol=1e-10)


@pytest.mark.parametrize("a", [0.05, 0.7, 1.0, 3.0, 40.0])
def test_gamma_numbers(a):
    torch.manual_seed(1)
    x = torch._standard_gamma(torch.full((20000,), a, dtype=torch.float64)).numpy()
    assert stats.kstest(x, stats.gamma(a).cdf).pvalue > 1e-4


@pytest.mark.parametrize("a", [8.1, 30.0, 500.0])
def test_gradient_of_large_gamma_numbers(a):
    q = np.array([0.01, 0.3, 0.5, 0.8, 0.99])
    x = special.gammaincinv(a, q)
    exact = (special.gammaincinv(a * 1.0001, q) - special.gammaincinv(a * 0.9999, q)) / (a * 2e-4)
    got = torch._standard_gamma_grad(torch.full((5,), a, dtype=torch.float64), torch.tensor(x))
    np.testing.assert_allclose(got.numpy(), exact, rtol=5e-4)


@pytest.mark.parametrize(("make", "law"), [
    (lambda: torch.poisson(torch.full((40000,), 3.5)), stats.poisson(3.5)),
    (lambda: torch.poisson(torch.full((40000,), 60.0)), stats.poisson(60)),
    (lambda: torch.binomial(torch.full((40000,), 9.0), torch.full((40000,), 0.9)), stats.binom(9, 0.9)),
    (lambda: torch.binomial(torch.full((40000,), 90.0), torch.full((40000,), 0.4)), stats.binom(90, 0.4)),
    (lambda: torch.empty(40000).geometric_(0.3), stats.geom(0.3))])
def test_counts(make, law):
    torch.manual_seed(2)
    x = make().numpy()
    k = np.arange(0, int(x.max()) + 1)
    expected = law.pmf(k) * len(x)
    keep = expected > 5
    found = np.array([(x == i).sum() for i in k])
    assert stats.chi2(keep.sum()).sf(((found - expected) ** 2 / np.maximum(expected, 1e-9))[keep].sum()) > 1e-4


def test_gradients_of_gamma_and_beta_samples():
    """The gradient of the mean of samples is that of the mean."""
    torch.manual_seed(3)
    a = torch.tensor([0.4, 1.5, 6.0, 20.0], dtype=torch.float64, requires_grad=True)
    distributions.Gamma(a, 2.0).rsample((40000,)).mean(0).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), 0.5, atol=0.03)
    a = torch.tensor([1.5, 3.0], dtype=torch.float64, requires_grad=True)
    d = distributions.Beta(a, 2.0)
    exact, = torch.autograd.grad(d.mean.sum(), a)
    d.rsample((40000,)).mean(0).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), exact.numpy(), atol=0.02)


@pytest.mark.parametrize("make", [
    lambda a, d: d.Normal(a, a), lambda a, d: d.LogNormal(a, a), lambda a, d: d.HalfNormal(a), lambda a, d: d.Uniform(a, a + 1),
    lambda a, d: d.Dirichlet(a), lambda a, d: d.InverseGamma(a, a), lambda a, d: d.Chi2(a), lambda a, d: d.Exponential(a),
    lambda a, d: d.Laplace(a, a), lambda a, d: d.Cauchy(a, a), lambda a, d: d.HalfCauchy(a), lambda a, d: d.Gumbel(a, a),
    lambda a, d: d.Pareto(a, a), lambda a, d: d.StudentT(a, a, a), lambda a, d: d.FisherSnedecor(a, a), lambda a, d: d.Weibull(a, a),
    lambda a, d: d.Kumaraswamy(a, a), lambda a, d: d.LogisticNormal(a, a), lambda a, d: d.RelaxedBernoulli(0.5, logits=a),
    lambda a, d: d.RelaxedOneHotCategorical(0.5, logits=a), lambda a, d: d.ContinuousBernoulli(logits=a),
    lambda a, d: d.OneHotCategoricalStraightThrough(logits=a), lambda a, d: d.MultivariateNormal(a, torch.diag_embed(a)),
    lambda a, d: d.LowRankMultivariateNormal(a, a.unsqueeze(-1), a)])
def test_gradients_flow_through_samples(make):
    a = torch.tensor([0.8, 1.4, 2.1], dtype=torch.float64, requires_grad=True)
    d = make(a, distributions)
    weight = torch.tensor(RNG.standard_normal(3 if d.event_shape != (4,) else 4))
    (d.rsample((5,)) * weight).sum().backward()
    assert torch.isfinite(a.grad).all() and (a.grad != 0).any()


def test_validation():
    with pytest.raises(ValueError, match="satisfy the constraint GreaterThan"):
        distributions.Normal(0.0, -1.0)
    with pytest.raises(ValueError, match="within the support"):
        distributions.Bernoulli(0.5).log_prob(torch.tensor(0.5))
    with pytest.raises(ValueError, match="Either `probs` or `logits`"):
        distributions.Bernoulli()
    with pytest.raises(ValueError, match="not broadcastable"):
        distributions.Normal(torch.zeros(2), 1.0).log_prob(torch.zeros(3))
    assert distributions.Normal(0.0, -1.0, validate_args=False).scale.item() == -1.0
    with pytest.raises(NotImplementedError, match="No KL"):
        distributions.kl_divergence(distributions.Normal(0.0, 1.0), distributions.StudentT(1.0))


TRANSFORMS = {
    "Exp": lambda d: d.ExpTransform(), "Power": lambda d: d.PowerTransform(2.0), "Sigmoid": lambda d: d.SigmoidTransform(),
    "Softplus": lambda d: d.SoftplusTransform(), "Tanh": lambda d: d.TanhTransform(), "Affine": lambda d: d.AffineTransform(1.0, -2.0),
    "Affine vectors": lambda d: d.AffineTransform(1.0, -2.0, event_dim=1), "StickBreaking": lambda d: d.StickBreakingTransform(),
    "CorrCholesky": lambda d: d.CorrCholeskyTransform(), "Inverse": lambda d: d.ExpTransform().inv.inv,
    "Compose": lambda d: d.ComposeTransform([d.AffineTransform(0.1, 0.5), d.ExpTransform(), d.PowerTransform(0.5)]),
    "Independent": lambda d: d.IndependentTransform(d.ExpTransform(), 1), "Reshape": lambda d: d.ReshapeTransform((6,), (2, 3)),
    "Cat": lambda d: d.CatTransform([d.ExpTransform(), d.TanhTransform()], -1, [2, 4]),
    "Stack": lambda d: d.StackTransform([d.ExpTransform()] * 6, -1),
    "Cdf": lambda d: d.CumulativeDistributionTransform(d.Normal(0.0, 1.0)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_invert_and_know_their_jacobian(name):
    t = TRANSFORMS[name](distributions)
    x = torch.tensor(RNG.random((6,)) * 0.8 + 0.1, dtype=torch.float64)
    y = t(x)
    assert tuple(t.forward_shape(x.shape)) == tuple(y.shape) and tuple(t.inverse_shape(y.shape)) == tuple(x.shape)
    np.testing.assert_allclose(t.inv(y).numpy(), x.numpy(), rtol=1e-6)
    if name in ("Reshape", "StickBreaking", "CorrCholesky"):
        return
    rows = []
    for i in range(6):
        v = x.clone().requires_grad_()
        t(v)[i].backward()
        rows.append(v.grad.numpy())
    np.testing.assert_allclose(t.log_abs_det_jacobian(x, y).sum().item(), np.linalg.slogdet(np.array(rows))[1], rtol=1e-8)


@pytest.mark.parametrize("constraint", ["real", "positive", "unit_interval", "simplex", "lower_cholesky", "positive_definite",
                                        "corr_cholesky", "real_vector", "nonnegative"])
def test_transform_to(constraint):
    c = getattr(distributions.constraints, constraint)
    x = torch.tensor(RNG.standard_normal((3, 3) if "cholesky" in constraint or "definite" in constraint else (3,)), dtype=torch.float64)
    y = distributions.transform_to(c)(x[0] if constraint == "corr_cholesky" else x)
    assert c.check(y).all()


def test_transforms_and_distributions_may_be_modules():
    class Scale(distributions.Transform, torch.nn.Module):
        domain = codomain = distributions.constraints.real

        def __init__(self):
            super().__init__(cache_size=1)
            self.layer = torch.nn.Linear(1, 1)

        def _call(self, x):
            return self.layer(x)

    class Learned(distributions.Normal, torch.nn.Module):
        def __init__(self):
            super().__init__(0.0, 1.0)
            self.layer = torch.nn.Linear(1, 1)

    for made in (Scale(), Learned()):
        assert [name for name, _ in made.named_parameters()] == ["layer.weight", "layer.bias"]
    assert Scale()(torch.ones(2, 1)).shape == (2, 1)


def test_in_compiled_functions():
    @torch.compile
    def elbo(mu, log_sigma):
        q = distributions.Normal(mu, log_sigma.exp())
        return distributions.kl_divergence(q, distributions.Normal(0.0, 1.0)).sum() + q.log_prob(mu + 1).sum()

    mu, log_sigma = torch.tensor([0.3, -0.2]), torch.tensor([0.1, -0.4])
    a = elbo(mu, log_sigma)
    q = distributions.Normal(mu, log_sigma.exp())
    b = distributions.kl_divergence(q, distributions.Normal(0.0, 1.0)).sum() + q.log_prob(mu + 1).sum()
    assert a.item() == pytest.approx(b.item(), rel=1e-6) and elbo.cache_info()["eager"] is None


# ------------------------------------------------------------------------------------------------------- PyTorch

@pytest.mark.peer
@pytest.mark.parametrize("name", [name for name in MADE if name != "GeneralizedPareto"])  # PyTorch's raises for float64
def test_pytorch(name):
    peer = pytest.importorskip("torch")
    peer.manual_seed(0)
    d, p = ours(name), MADE[name](peer, peer.distributions)
    assert tuple(d.batch_shape) == tuple(p.batch_shape) and tuple(d.event_shape) == tuple(p.event_shape)
    assert repr(d.support) == repr(p.support) or "tensor" in repr(p.support) or "object at" in repr(p.support)
    x = p.sample((4,))
    value = torch.tensor(x.numpy())
    same(d.log_prob(value), p.log_prob(x))
    for what in ("mean", "variance", "stddev", "mode"):
        if (name, what) == ("Kumaraswamy", "mode"):
            continue  # PyTorch's is NaN
        compare(lambda what=what: getattr(d, what), lambda what=what: getattr(p, what))
    compare(d.entropy, p.entropy)
    compare(lambda: d.cdf(value), lambda: p.cdf(x))
    compare(lambda: d.icdf(torch.tensor(PROB)), lambda: p.icdf(peer.tensor(PROB)))
    compare(lambda: d.enumerate_support(), lambda: p.enumerate_support())
    assert d.has_rsample == p.has_rsample and d.has_enumerate_support == p.has_enumerate_support


@pytest.mark.peer
@pytest.mark.parametrize("concentration", [0.0, 0.3, -0.4, 0.6, 1.2])
def test_pytorchs_generalized_pareto(concentration):
    peer = pytest.importorskip("torch")
    d, p = [t.distributions.GeneralizedPareto(1.0, 2.0, t.tensor([concentration] * 2)) for t in (torch, peer)]
    for what in ("log_prob", "cdf", "log_cdf", "log_survival_function", "icdf"):
        x = [0.2, 0.9] if what == "icdf" else [1.5, 3.0]
        np.testing.assert_allclose(getattr(d, what)(torch.tensor(x)).numpy(), getattr(p, what)(peer.tensor(x)).numpy(), rtol=1e-5)
    for what in ("mean", "variance", "mode"):
        np.testing.assert_allclose(getattr(d, what).numpy(), getattr(p, what).numpy(), rtol=1e-5)
    np.testing.assert_allclose(d.entropy().numpy(), p.entropy().numpy(), rtol=1e-6)


def same(a, b):
    assert tuple(a.shape) == tuple(b.shape)
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-7, atol=1e-9)


def compare(mine, theirs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            b = theirs()
        except (NotImplementedError, ValueError, RuntimeError) as error:
            with pytest.raises((NotImplementedError, type(error))):
                mine()
            return
        same(mine(), b)


def test_divergence_of_wishart_distributions():
    torch.manual_seed(4)
    p, q = ours("Wishart"), ours("Wishart precision")
    x = p.sample((20000,))
    difference = p.log_prob(x) - q.log_prob(x)
    error = (difference.mean(0) - distributions.kl_divergence(p, q)).abs()
    assert (error < 5 * difference.std(0) / math.sqrt(20000)).all()
    assert distributions.kl_divergence(p, p).abs().max() < 1e-9


@pytest.mark.peer
def test_pytorchs_divergences():
    peer = pytest.importorskip("torch")
    compared = 0
    for a in MADE:
        for b in MADE:
            if "Wishart" in a and "Wishart" in b:
                continue  # PyTorch's is not the mean of the logarithms' difference; see below
            mine = [MADE[n](torch, distributions) for n in (a, b)]
            theirs = [MADE[n](peer, peer.distributions) for n in (a, b)]
            try:
                want = peer.distributions.kl_divergence(*theirs)
            except NotImplementedError:
                with pytest.raises(NotImplementedError):
                    distributions.kl_divergence(*mine)
                continue
            except RuntimeError:
                continue  # shapes that do not go together
            got = distributions.kl_divergence(*mine)
            assert tuple(got.shape) == tuple(want.shape), (a, b)
            np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-7, atol=1e-9, err_msg=f"{a} {b}")
            compared += 1
    assert compared > 80


@pytest.mark.peer
def test_pytorchs_names():
    peer = pytest.importorskip("torch")
    missing = sorted(set(peer.distributions.__all__) - set(distributions.__all__))
    assert not missing


def test_lgamma_is_scipys():
    x = np.linspace(0.1, 30, 50)
    np.testing.assert_allclose(torch.lgamma(torch.tensor(x)).numpy(), special.gammaln(x), rtol=1e-12, atol=1e-13)
