"""The state of random number generation: a 64-bit seed and a position.

The numbers themselves come from Philox, a function of (seed, position, stream), so they depend on nothing else: not on the
device, the number of threads, or whether a draw is fused with other work. A draw of n elements uses n positions.
"""
from __future__ import annotations

import os
from collections.abc import Callable
from typing import ClassVar

__all__ = ["Counter", "DEFAULT_SEED"]

DEFAULT_SEED = 67280421310721  # PyTorch's
_STATE_BYTES = 16


class Counter:
    """A seed and the next free position.

    Example:
        >>> c = Counter()
        >>> c.manual_seed(1).advance(10)
        (1, 0)
        >>> c.advance(1)
        (1, 10)
    """

    __slots__ = ("_seed", "_offset", "__weakref__")

    #: Called with a counter that is restarted, and the state if it is from :meth:`state_bytes`: a trace cannot go on there, for its replay
    #: would not restart it, unless it took that state itself; then it saw it, too.
    on_restart: ClassVar[Callable[[Counter, bytes | None], None] | None] = None
    on_state: ClassVar[Callable[[Counter, bytes], None] | None] = None

    def __init__(self) -> None:
        self._seed, self._offset = DEFAULT_SEED, 0

    def manual_seed(self, seed: int) -> Counter:
        """Restarts from ``seed``; negative ones count from 2**64. ``RuntimeError`` outside [-2**63, 2**64)."""
        seed = int(seed)
        if not -(1 << 63) <= seed < 1 << 64:
            raise RuntimeError(f"Overflow when unpacking long: the seed {seed} is outside [-2**63, 2**64)")
        if Counter.on_restart is not None:
            Counter.on_restart(self, None)
        self._seed, self._offset = seed % (1 << 64), 0
        return self

    def seed(self) -> int:
        """Restarts from a seed that the operating system draws, and returns it."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self._seed

    def initial_seed(self) -> int:
        """The seed of the last restart."""
        return self._seed

    def advance(self, n: int) -> tuple[int, int]:
        """Reserves ``n`` positions: (seed as a signed 64-bit number, first position)."""
        at = self._offset
        self._offset = at + n
        seed = self._seed
        return seed - (1 << 64) if seed >> 63 else seed, at

    def state_bytes(self) -> bytes:
        """Seed and position, little-endian."""
        state = self._seed.to_bytes(8, "little") + self._offset.to_bytes(8, "little")
        if Counter.on_state is not None:
            Counter.on_state(self, state)
        return state

    def load_bytes(self, state: bytes) -> None:
        """Restores what :meth:`state_bytes` gave; ``RuntimeError`` for anything else."""
        if len(state) != _STATE_BYTES:
            raise RuntimeError(f"RNG state is wrong size: expected {_STATE_BYTES} bytes, got {len(state)}")
        if Counter.on_restart is not None:
            Counter.on_restart(self, state)
        self._seed = int.from_bytes(state[:8], "little")
        self._offset = int.from_bytes(state[8:], "little")
