"""The linear support vector machines: passive-aggressive, and stochastic gradient on the hinge loss.

A margin says on which side of a line a row lies and how far from it; it is no
probability. Each machine therefore has a step of its own that turns margins
into probabilities: two numbers, a slope and an offset, that learn from the
margin a row had before it was learned.

The steps are those of River's ``StandardScaler() | PAClassifier(C=.01)`` and
``StandardScaler() | LogisticRegression(loss=Hinge())``, on plain lists.

References
----------
Crammer et al. (2006), "Online passive-aggressive algorithms", JMLR 7.
Platt (1999), "Probabilistic outputs for support vector machines".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from journey.errors import BadSnapshotError
from journey.models.assign import MOST, check, numbers
from journey.models.base import Row, State, check_class, sigmoid

CLASS: Final = "margin/1"
PASSIVE: Final = "passive"  # moves just as far as a row needs, at most 0.01,
HINGE: Final = "hinge"  # or by 0.01 of every row on the wrong side or too near
KINDS: Final = (PASSIVE, HINGE)
STEP: Final = 0.01

_MOST_MARGIN: Final = 20.0
_RATE: Final = 0.1  # of the two numbers that turn margins into probabilities (AdaGrad)


class Margin:
    """A line through standardised features, and what its margins mean.

    Parameters
    ----------
    kind
        ``passive`` (passive-aggressive) or ``hinge``.

    Attributes
    ----------
    n, happened
        How many rows were learned, and how many of them came true.

    Examples
    --------
    >>> model = Margin(["rec"], "passive")
    >>> for day in range(400):
    ...     model.learn([day % 20], day % 20 > 9)
    >>> model.margin([2.0]) < 0.0 < model.margin([17.0])
    True
    >>> model.score([2.0]) < 0.2 < 0.8 < model.score([17.0])
    True
    """

    def __init__(self, names: Sequence[str], kind: str = PASSIVE) -> None:
        if kind not in KINDS:
            text = f"{kind!r} is none of {KINDS}"
            raise ValueError(text)
        self.names: Final = tuple(names)
        self.kind: Final = kind
        self.n = self.happened = 0
        width = len(self.names)
        self._means = [0.0] * width
        self._variances = [0.0] * width
        self._weights = [0.0] * width
        self._bias = 0.0
        # slope and offset of the probability, with the sums of their squared gradients
        self._platt = [1.0, 0.0, 1e-8, 1e-8]

    @property
    def cold(self) -> bool:
        """Whether it has seen one answer only, or none."""
        return not 0 < self.happened < self.n

    def learn(self, row: Row, happened: bool) -> None:
        """Learn what came of a row.

        Raises
        ------
        BadRowError
            Not a row of these features, or one that lacks data.
        """
        check(row, self.names, learn=True)
        self.n += 1
        self.happened += bool(happened)
        for at, value in enumerate(row):
            before = self._means[at]
            mean = self._means[at] = before + (value - before) / self.n
            self._variances[at] += ((value - before) * (value - mean) - self._variances[at]) / self.n
        scaled = self._scaled(row)
        margin = self._margin(scaled)
        self._learn_meaning(margin, happened)
        step = self._step(scaled, 1.0 if happened else -1.0, margin)
        for at, value in enumerate(scaled):
            self._weights[at] += step * value
        self._bias += step

    def _step(self, scaled: list[float], side: float, margin: float) -> float:
        """Return how much of the scaled row is added to the weights."""
        if self.kind == HINGE:
            return side * STEP if side * margin <= 1.0 else 0.0
        length = 0.0
        for value in scaled:
            length += value * value
        lacking = 1.0 - side * margin
        return side * min(STEP, lacking / length) if lacking > 0.0 and length > 0.0 else 0.0

    def _learn_meaning(self, margin: float, happened: bool) -> None:
        slope, offset, slope_squares, offset_squares = self._platt
        told = min(_MOST_MARGIN, max(-_MOST_MARGIN, margin))
        wrong = sigmoid(slope * told + offset) - (1.0 if happened else 0.0)
        slope_squares += wrong * told * (wrong * told)
        offset_squares += wrong * wrong
        slope -= _RATE * wrong * told / math.sqrt(slope_squares)
        offset -= _RATE * wrong / math.sqrt(offset_squares)
        self._platt = [slope, offset, slope_squares, offset_squares]

    def margin(self, row: Row) -> float:
        """Return how far on the side of "it will happen" a row lies; an absent number is taken for the mean.

        Raises
        ------
        BadRowError
            Not a row of these features.
        """
        check(row, self.names)
        return self._margin(self._scaled(row))

    def score(self, row: Row) -> float:
        """Return the probability that the margin of a row means.

        Raises
        ------
        BadRowError
            Not a row of these features.
        """
        slope, offset, _, _ = self._platt
        return sigmoid(slope * min(_MOST_MARGIN, max(-_MOST_MARGIN, self.margin(row))) + offset)

    def score_many(self, rows: Sequence[Row]) -> list[float]:
        """Return the probability for each row, the same as if it were alone."""
        return [self.score(row) for row in rows]

    def _scaled(self, row: Row) -> list[float]:
        scaled: list[float] = []
        for value, mean, variance in zip(row, self._means, self._variances, strict=True):
            known = not math.isnan(value) and variance > 0.0  # a constant feature has no say
            scaled.append((min(MOST, max(-MOST, value)) - mean) / math.sqrt(variance) if known else 0.0)
        return scaled

    def _margin(self, scaled: list[float]) -> float:
        total = 0.0
        for weight, value in zip(self._weights, scaled, strict=True):
            total += weight * value
        return total + self._bias

    def contributions(self, row: Row) -> list[tuple[str, float]]:
        """Return what each feature adds to the logit, the largest first; equal ones by name."""
        check(row, self.names)
        slope = self._platt[0]
        parts = [
            (name, slope * weight * value)
            for name, weight, value in zip(self.names, self._weights, self._scaled(row), strict=True)
        ]
        return sorted(parts, key=lambda part: (-abs(part[1]), part[0]))

    def state(self) -> State:
        """Return all that it has learned, as JSON."""
        return {
            "class": CLASS,
            "kind": self.kind,
            "names": list(self.names),
            "n": self.n,
            "happened": self.happened,
            "means": list(self._means),
            "variances": list(self._variances),
            "weights": list(self._weights),
            "bias": self._bias,
            "platt": list(self._platt),
        }

    @classmethod
    def restore(cls, state: State) -> Margin:
        """Take back what ``state`` returned; it goes on bit for bit.

        Raises
        ------
        BadSnapshotError
            Of another class, of another width, or with a number that is none or has exploded.
        """
        check_class(state, CLASS)
        try:
            model = cls(state["names"], state["kind"])
            width = len(model.names)
            model.n, model.happened = int(state["n"]), int(state["happened"])
            model._means = numbers(state["means"], width)
            model._variances = numbers(state["variances"], width)
            model._weights = numbers(state["weights"], width)
            model._bias = numbers([state["bias"]], 1)[0]
            model._platt = numbers(state["platt"], 4)
        except (KeyError, TypeError, ValueError) as error:
            text = f"the state of {CLASS} lacks something: {error!r}"
            raise BadSnapshotError(text) from error
        weighs = [*model._weights, model._bias, *model._platt[:2]]
        squares = [*model._variances, *model._platt[2:]]
        if not 0 <= model.happened <= model.n or min(squares) < 0.0 or max(map(abs, weighs)) > MOST:
            text = f"the state of {CLASS} does not fit together, or exploded"
            raise BadSnapshotError(text)
        return model
