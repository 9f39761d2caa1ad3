"""The only chance in a schedule: numbers that follow from its seed, the same in every process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

T = TypeVar("T")
_MASK: Final = (1 << 64) - 1


def _mixed(seed: int) -> int:
    """Spread a small seed over all bits (the finaliser of splitmix64): neighbours have nothing in common."""
    mixed = (seed + 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return (mixed ^ (mixed >> 31)) or 1


class Draws:
    """Numbers drawn from a seed (xorshift64): a quarter of a microsecond each, and no module of chance."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = _mixed(seed)

    def below(self, count: int) -> int:
        """Return a number from 0 to ``count - 1``."""
        state = self._state
        state ^= (state << 13) & _MASK
        state ^= state >> 7
        self._state = state = state ^ ((state << 17) & _MASK)
        return (state >> 16) % count

    def chance(self, percent: int) -> bool:
        """Tell whether something happens."""
        return self.below(100) < percent

    def pick(self, some: Sequence[T]) -> T:
        """Return one of some things."""
        return some[self.below(len(some))]
