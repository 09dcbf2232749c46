"""``torch.random``: the default generator's seed and state."""
from __future__ import annotations

from . import functional as _functional  # noqa: F401 - fills the functions below
from .ops.opdef import fn as _fn
from .ops.random import default_generator, fork_rng

manual_seed, seed, initial_seed = _fn.manual_seed, _fn.seed, _fn.initial_seed
get_rng_state, set_rng_state = _fn.get_rng_state, _fn.set_rng_state

__all__ = ["default_generator", "fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed", "set_rng_state"]
