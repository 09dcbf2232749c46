"""Transforms from unconstrained numbers to a constraint: ``biject_to`` and ``transform_to``."""
from __future__ import annotations

from typing import Any

from fusetorch.distributions import constraints, transforms

__all__ = ["ConstraintRegistry", "biject_to", "transform_to"]


class ConstraintRegistry:
    """Which function makes the transform for a constraint, by its class."""

    def __init__(self) -> None:
        self._registry: dict[type, Any] = {}

    def register(self, constraint: Any, factory: Any = None) -> Any:
        """Sets the function for a constraint or its class; a decorator without ``factory``."""
        if factory is None:
            return lambda factory: self.register(constraint, factory)
        kind = type(constraint) if isinstance(constraint, constraints.Constraint) else constraint
        if not isinstance(kind, type) or not issubclass(kind, constraints.Constraint):
            raise TypeError(f"Expected constraint to be either a Constraint subclass or instance, but got {kind}")
        self._registry[kind] = factory
        return factory

    def __call__(self, constraint: Any) -> transforms.Transform:
        factory = self._registry.get(type(constraint))
        if factory is None:
            raise NotImplementedError(f"Cannot transform {type(constraint).__name__} constraints")
        return factory(constraint)


biject_to = ConstraintRegistry()
transform_to = ConstraintRegistry()


def _both(constraint: Any) -> Any:
    def decorate(factory: Any) -> Any:
        biject_to.register(constraint, factory)
        return transform_to.register(constraint, factory)
    return decorate


@_both(constraints.real)
def _(constraint: Any) -> Any:
    return transforms.identity_transform


@_both(constraints.positive)
@_both(constraints.nonnegative)
@_both(constraints.greater_than)
@_both(constraints.greater_than_eq)
def _(constraint: Any) -> Any:
    return transforms.ComposeTransform([transforms.ExpTransform(), transforms.AffineTransform(constraint.lower_bound, 1)]) if (
        not isinstance(constraint.lower_bound, (int, float)) or constraint.lower_bound != 0) else transforms.ExpTransform()


@_both(constraints.less_than)
def _(constraint: Any) -> Any:
    return transforms.ComposeTransform([transforms.ExpTransform(), transforms.AffineTransform(constraint.upper_bound, -1)])


@_both(constraints.interval)
@_both(constraints.half_open_interval)
def _(constraint: Any) -> Any:
    low, high = constraint.lower_bound, constraint.upper_bound
    if isinstance(low, (int, float)) and low == 0 and isinstance(high, (int, float)) and high == 1:
        return transforms.SigmoidTransform()
    return transforms.ComposeTransform([transforms.SigmoidTransform(), transforms.AffineTransform(low, high - low)])


@biject_to.register(constraints.simplex)
def _(constraint: Any) -> Any:
    return transforms.StickBreakingTransform()


@transform_to.register(constraints.simplex)
def _(constraint: Any) -> Any:
    return transforms.SoftmaxTransform()


@transform_to.register(constraints.lower_cholesky)
def _(constraint: Any) -> Any:
    return transforms.LowerCholeskyTransform()


@transform_to.register(constraints.positive_definite)
@transform_to.register(constraints.positive_semidefinite)
def _(constraint: Any) -> Any:
    return transforms.PositiveDefiniteTransform()


@_both(constraints.corr_cholesky)
def _(constraint: Any) -> Any:
    return transforms.CorrCholeskyTransform()


# made of others: the transforms of those, by the same registry
for _of in (biject_to, transform_to):
    _of.register(constraints.independent,
                 lambda c, of=_of: transforms.IndependentTransform(of(c.base_constraint), c.reinterpreted_batch_ndims))
    _of.register(constraints.cat, lambda c, of=_of: transforms.CatTransform([of(part) for part in c.cseq], c.dim, c.lengths))
    _of.register(constraints.stack, lambda c, of=_of: transforms.StackTransform([of(part) for part in c.cseq], c.dim))
