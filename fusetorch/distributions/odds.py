"""Distributions with a probability of success: given as itself, or as log odds."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fusetorch.distributions.distribution import Distribution
from fusetorch.distributions.utils import broadcast_all, lazy_property, logits_to_probs, one_of, probs_to_logits
from fusetorch.tensor import Tensor


class _Odds(Distribution):
    """Keeps ``probs`` or ``logits``, whichever is given, and computes the other when it is asked for."""

    _param: Tensor  #: the one of them that is kept from the beginning

    def _take(self, probs: Any, logits: Any, *others: Any) -> list[Tensor]:
        """Sets ``probs`` or ``logits``, broadcast with ``others``; gives those back, in its dtype."""
        one_of(probs, logits)
        *rest, self._param = broadcast_all(*others, logits if probs is None else probs)
        setattr(self, "logits" if probs is None else "probs", self._param)
        return [t.to(self._param.dtype) for t in rest]

    def _expanded(self, instance: Any, cls: type, batch_shape: Any, names: Sequence[str] = (), event: Any = None) -> Any:
        new = super()._expanded(instance, cls, batch_shape, (*names, "probs", "logits"), event)
        new._param = new.probs if "probs" in new.__dict__ else new.logits
        return new

    @lazy_property
    def logits(self) -> Tensor:
        """Log odds."""
        return probs_to_logits(self.probs, is_binary=True)

    @lazy_property
    def probs(self) -> Tensor:
        """Probabilities of success."""
        return logits_to_probs(self.logits, is_binary=True)

    param_shape = property(lambda self: self._param.size())
