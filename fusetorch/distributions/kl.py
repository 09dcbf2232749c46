"""Kullback-Leibler divergences, by the classes of both distributions."""
from __future__ import annotations

from collections.abc import Callable

from fusetorch.distributions.distribution import Distribution
from fusetorch.tensor import Tensor

__all__ = ["kl_divergence", "register_kl"]

_KL_REGISTRY: dict[tuple[type, type], Callable] = {}


def register_kl(type_p: type, type_q: type) -> Callable[[Callable], Callable]:
    """Decorates ``f(p, q)``, the divergence of these classes and their subclasses; ``TypeError`` unless they are classes of distributions.

    Example:
        >>> import fusetorch as torch
        >>> from fusetorch.distributions import Normal, kl
        >>> class Standard(Normal):
        ...     def __init__(self):
        ...         super().__init__(0.0, 1.0)
        >>> @kl.register_kl(Standard, Standard)
        ... def _(p, q):
        ...     return torch.tensor(0.0)
        >>> kl.kl_divergence(Standard(), Standard())
        tensor(0.)
    """
    for name, kind in (("type_p", type_p), ("type_q", type_q)):
        if not isinstance(kind, type):  # any class: a library may have a base class of its own, of which ours are virtual subclasses
            raise TypeError(f"Expected {name} to be a Distribution subclass but got {kind}")

    def decorate(f: Callable) -> Callable:
        _KL_REGISTRY[type_p, type_q] = f
        return f
    return decorate


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """``E_p[log p - log q]``, of shape ``batch_shape``; ``NotImplementedError`` where no formula is registered.

    Example:
        >>> from fusetorch.distributions import Normal, kl_divergence
        >>> kl_divergence(Normal(1.0, 1.0), Normal(0.0, 1.0))
        tensor(0.5000)
    """
    found = [(type(p).__mro__.index(a) + type(q).__mro__.index(b), i, f) for i, ((a, b), f) in enumerate(_KL_REGISTRY.items())
             if isinstance(p, a) and isinstance(q, b)]
    if not found:
        raise NotImplementedError(f"No KL(p || q) is implemented for p type {type(p).__name__} and q type {type(q).__name__}")
    return min(found)[2](p, q)
