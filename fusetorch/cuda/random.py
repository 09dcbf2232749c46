"""``torch.cuda.random``: states of the generator; there is one for all devices, and the CPU shares it."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..ops.random import default_generator
from ..runtime.device import device_count
from ..tensor import Tensor

__all__ = ["get_rng_state", "get_rng_state_all", "initial_seed", "manual_seed", "manual_seed_all", "seed", "seed_all", "set_rng_state",
           "set_rng_state_all"]


def manual_seed(seed: int) -> None:
    """Restarts the generator from ``seed``."""
    default_generator.manual_seed(seed)


def manual_seed_all(seed: int) -> None:
    """As :func:`manual_seed`."""
    manual_seed(seed)


def seed() -> None:
    """Restarts the generator from a seed that the operating system draws."""
    default_generator.seed()


def seed_all() -> None:
    """As :func:`seed`."""
    seed()


def initial_seed() -> int:
    """The seed of the last restart."""
    return default_generator.initial_seed()


def get_rng_state(device: Any = "cuda") -> Tensor:
    """The generator's state (uint8)."""
    return default_generator.get_state()


def get_rng_state_all() -> list[Tensor]:
    """The generator's state, once for each device."""
    return [default_generator.get_state() for _ in range(device_count())]


def set_rng_state(new_state: Tensor, device: Any = "cuda") -> None:
    """Restores the generator's state."""
    default_generator.set_state(new_state)


def set_rng_state_all(new_states: Iterable[Tensor]) -> None:
    """Restores the generator's state from the first."""
    for state in new_states:
        default_generator.set_state(state)
        return
