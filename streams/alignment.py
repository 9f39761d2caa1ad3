"""Alignment: after downtime the raw topics have unequal backlogs, and a purchase must not pass its cart.

What was received goes on up to the *frontier*: the lowest of the highest
record times received, over the raw partitions that have more to come. One
that was read to its end holds nobody back. One that has more, but nothing of
it is here, is waited for, though not for ever. So this is a k-way merge, and
once everything is at its end nothing is held any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from streams.merge import FOR_EVER, Merge

NOTHING: Final = -1.0  # a bound below every time
PATIENCE: Final = 5.0  # s that a partition which brings nothing is waited for
GLANCE: Final = 0.05  # s between two looks while waiting
LOOK: Final = 0.1  # s between two looks whether live traffic has fallen behind


class Alignment:
    """Finds the frontier of the raw partitions a worker owns, and which of them have more than their share here.

    Parameters
    ----------
    merge
        What was received and did not go on yet.
    received
        Gives the offset that comes next from a partition.
    end
        Gives the offset at which a partition ends, as far as the last fetch told; None before the first.
    steady
        A clock in s that is never set back.
    counts
        ``align_waits``, ``align_gave_up``: how often it waited, and for how many partitions not any longer;
        ``align_held``, ``align_most_held``: records that are and were held at most.
    most
        Records held of all partitions together. Half of them are shared out; the rest is what fetches that were on
        their way may bring.
    """

    def __init__(
        self, merge: Merge, received: Callable[[Any], int | None], end: Callable[[Any], int | None],
        steady: Callable[[], float], counts: dict[str, int], most: int,
    ) -> None:  # fmt: skip
        self._merge, self._received, self._end, self._steady = merge, received, end, steady
        self._most = most
        self._owned: dict[Any, int] = {}  # partition: where it ended when it was assigned
        self._ends: dict[Any, int] = {}  # where it ended when this wait began: a busy log would never end
        self._since: float | None = None  # since when it waits
        self._look_at = 0.0  # until then, live traffic is taken for live
        self._given_up: set[Any] = set()  # not waited for until they bring something
        self.counts = counts
        counts.update(align_waits=0, align_gave_up=0, align_held=0, align_most_held=0)

    def own(self, ends: dict[Any, int]) -> None:
        """Partitions were assigned, and end there."""
        self._owned = dict(sorted(ends.items()))
        self._ends.clear()
        self._given_up.clear()
        self._since, self._look_at = None, 0.0

    def came(self, tp: Any) -> None:
        """A partition brought something."""
        self._given_up.discard(tp)

    @property
    def owns_any(self) -> bool:
        """Whether partitions are assigned."""
        return bool(self._owned)

    @property
    def is_waiting(self) -> bool:
        """Whether a partition is waited for that has more, and brings nothing."""
        return self._since is not None

    def bound(self) -> float:
        """Return the time (ms) up to which records go on now."""
        now = self._steady()
        if now < self._look_at:
            return FOR_EVER
        frontier, missing = self._frontier()
        if missing:
            if self._since is None:
                self._since = now
                self.counts["align_waits"] += 1
            if now - self._since < PATIENCE:
                return NOTHING
            self._given_up.update(missing)
            self.counts["align_gave_up"] += len(missing)
        self._ends.clear()
        self._since = None
        self._look_at = now + LOOK if frontier == FOR_EVER else 0.0
        return frontier

    def _frontier(self) -> tuple[float, list[Any]]:
        """Return the frontier, and the partitions that have more to come and brought nothing."""
        frontier: float = FOR_EVER
        missing = []
        for tp, assigned in self._owned.items():
            if tp in self._given_up or self._is_at_end(tp, assigned):
                continue
            last = self._merge.last(tp)
            if last is None:
                missing.append(tp)
            elif last < frontier:
                frontier = last
        return frontier, missing

    def _is_at_end(self, tp: Any, assigned: int) -> bool:
        received = self._received(tp)
        if received is None:
            return True
        end = self._ends.get(tp)
        if end is None:
            told = self._end(tp)
            end = self._ends[tp] = assigned if told is None else max(told, assigned)
        return received >= end

    def full(self) -> set[Any]:
        """Return the partitions that have more than their share here, and are to bring nothing for a while."""
        held = len(self._merge)
        self.counts["align_held"] = held
        if held > self.counts["align_most_held"]:
            self.counts["align_most_held"] = held
        share = self._most // (2 * max(1, len(self._owned)))
        return {tp for tp in self._owned if self._merge.size(tp) > share} if held > share else set()


def pieces(records: list[Any], most: int) -> Iterable[list[Any]]:
    """Cut what goes on at once: the loop must come back soon."""
    for start in range(0, len(records), most):
        yield records[start : start + most]
