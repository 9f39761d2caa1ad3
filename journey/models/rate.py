"""The share of rows that came true: the fallback of a slot that has no better one."""

from __future__ import annotations

from typing import Final

from journey.errors import BadSnapshotError
from journey.models.base import Row, State

CLASS: Final = "rate/1"


class Rate:
    """A share, with half a row of each answer added, so that it is never 0 or 1.

    Order law: any order gives the same.

    >>> rate = Rate()
    >>> rate.learn([], True)
    >>> rate.score([])
    0.75
    """

    def __init__(self, n: int = 0, happened: int = 0) -> None:
        self.n, self.happened = n, happened

    @property
    def cold(self) -> bool:
        """Whether there is nothing to take a share of."""
        return self.n == 0

    def learn(self, row: Row, happened: bool) -> None:
        """Count a row, whatever is in it."""
        self.n += 1
        self.happened += bool(happened)

    def score(self, row: Row) -> float:
        """Return the share, whatever is in the row."""
        return (self.happened + 0.5) / (self.n + 1.0)

    def contributions(self, row: Row) -> list[tuple[str, float]]:
        """Return nothing: no feature has a say."""
        return []

    def state(self) -> State:
        """Return it as JSON."""
        return {"class": CLASS, "n": self.n, "happened": self.happened}

    @classmethod
    def restore(cls, state: State) -> Rate:
        """Return what ``state`` told of.

        Raises
        ------
        BadSnapshotError
            Another class, or counts that contradict each other.
        """
        n, happened = state.get("n"), state.get("happened")
        if state.get("class") != CLASS or type(n) is not int or type(happened) is not int or not 0 <= happened <= n:
            text = f"{state!r:.200} is no {CLASS}"
            raise BadSnapshotError(text)
        return cls(n, happened)
