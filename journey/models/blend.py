"""The mean of a logistic regression and boosted trees, on the scale of logits: better than either.

The line learns with every label and is never old; the trees know what bends
and what only counts together, and are as old as their last fit. They err in
different places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from journey.errors import BadSnapshotError
from journey.models.base import Row, State, check_class, logit, sigmoid
from journey.models.boosted import Boosted
from journey.models.logistic import Scorer

CLASS: Final = "blend/1"


class Blend:
    """What scores with both; each is learned, or fitted, by itself.

    Parameters
    ----------
    linear
        The state of a ``Logistic``, from which it can go on learning.
    boosted
        The state of a ``Boosted``, for the same features.

    Raises
    ------
    BadSnapshotError
        One of them cannot be restored, or they are for different features.

    Examples
    --------
    >>> from journey.models.logistic import Logistic
    >>> line = Logistic(("rec",))
    >>> line.learn([0.0], False)
    >>> halves = [0, 0.5, 1, [-1.0, 200], [1.0, 200]]
    >>> trees = {"class": "boosted/1", "names": ["rec"], "n": 400, "happened": 200, "base": 0.0, "trees": [halves]}
    >>> model = Blend(line.state(), trees)
    >>> round(model.score([1.0]), 3), model.contributions([1.0])
    (0.622, [('rec', 0.5)])
    """

    def __init__(self, linear: State, boosted: State) -> None:
        self._told: Final = {"linear": linear, "boosted": boosted}
        self._linear: Final = Scorer.restore(linear)
        self._boosted: Final = Boosted.restore(boosted)
        if self._linear.names != self._boosted.names:
            text = f"{CLASS} of {list(self._linear.names)} and {list(self._boosted.names)}"
            raise BadSnapshotError(text)
        self.names: Final = self._linear.names

    def score(self, row: Row) -> float:
        """Return the probability for one row.

        Raises
        ------
        BadRowError
            Not a row of these features.
        """
        return _between(self._linear.score(row), self._boosted.score(row))

    def score_many(self, rows: Sequence[Row]) -> list[float]:
        """Return the probability for each row, the same as if it were alone."""
        pairs = zip(self._linear.score_many(rows), self._boosted.score_many(rows), strict=True)
        return [_between(line, trees) for line, trees in pairs]

    def contributions(self, row: Row) -> list[tuple[str, float]]:
        """Return what each feature adds to the logit, by the line and the trees; the largest first, equal by name."""
        parts = dict.fromkeys(self.names, 0.0)
        for model in (self._linear, self._boosted):
            for name, part in model.contributions(row):
                parts[name] += part / 2.0
        return sorted(parts.items(), key=lambda part: (-abs(part[1]), part[0]))

    def state(self) -> State:
        """Return both, as JSON."""
        return {"class": CLASS, **self._told}

    @classmethod
    def restore(cls, state: State) -> Blend:
        """Take back what ``state`` returned.

        Raises
        ------
        BadSnapshotError
            Of another class, or one of the two cannot be restored.
        """
        check_class(state, CLASS)
        try:
            return cls(state["linear"], state["boosted"])
        except (KeyError, AttributeError) as error:
            text = f"the state of {CLASS} lacks something: {error!r}"
            raise BadSnapshotError(text) from error


def _between(one: float, other: float) -> float:
    return sigmoid((logit(one) + logit(other)) / 2.0)
