"""Logistic regression by one row at a time: churn and intent.

River learns (``Logistic``), in the learner. Its numbers are exported, and the
engine scores with them alone (``Scorer``): River is imported when something
has to be learned, never to score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from journey.errors import BadRowError, BadSnapshotError
from journey.models.assign import check, refusal
from journey.models.base import MOST_LOGIT, Row, State, check_class, finite, unreadable

CLASS: Final = "logistic/1"
MOST_WEIGHT: Final = 1e6
PAGE: Final = 64  # from so many rows on NumPy's columns are faster than a loop


class Scorer:
    """The exported numbers of a logistic regression: all that is needed to score.

    Examples
    --------
    >>> model = Logistic(("recency", "orders"))
    >>> for n in range(200):
    ...     model.learn([float(n % 10), float(n % 3)], n % 10 > 6)
    >>> scorer = Scorer.restore(model.state())
    >>> scorer.score([9.0, 1.0]) > scorer.score([1.0, 1.0])
    True
    >>> scorer.contributions([9.0, 1.0])[0][0]
    'recency'
    """

    __slots__ = ("_intercept", "_terms", "names")

    def __init__(
        self,
        names: Sequence[str],
        means: Sequence[float],
        variances: Sequence[float],
        weights: Sequence[float],
        intercept: float,
    ) -> None:
        self.names: Final = tuple(names)
        self._intercept: Final = intercept
        self._terms: Final = tuple(
            # a constant feature has no say, as in River's scaler
            (mean, 1.0 / math.sqrt(variance) if variance > 0.0 else 0.0, weight)
            for mean, variance, weight in zip(means, variances, weights, strict=True)
        )

    @classmethod
    def restore(cls, state: State) -> Scorer:
        """Return the scorer of what ``Logistic.state`` returned.

        Raises
        ------
        BadSnapshotError
            Another class, names and numbers that do not fit, a number that
            is not finite, a weight above a million.
        """
        return _Numbers(state).scorer()

    def score(self, row: Row) -> float:
        """Return the probability for a row; NaN counts as the running mean.

        Raises
        ------
        BadRowError
            Another length, an infinity, or what is no number.
        """
        total = self._intercept
        try:
            for value, (mean, inverse, weight) in zip(row, self._terms, strict=True):
                total += weight * ((value - mean) * inverse)
        except (TypeError, ValueError):
            raise refusal(row, self.names) from None
        if total - total != 0.0:  # not finite
            total = self._without_unknown(row)
        if total > MOST_LOGIT:
            total = MOST_LOGIT
        elif total < -MOST_LOGIT:
            total = -MOST_LOGIT
        return 1.0 / (1.0 + math.exp(-total))

    def score_many(self, rows: Sequence[Row]) -> list[float]:
        """Return the probability of each row, to the bit what ``score`` returns for it.

        A page is a loop over columns: a matrix product depends on the size
        of the page, and ``np.exp`` on the machine.
        """
        width = len(self._terms)
        if len(rows) < PAGE or any(len(row) != width for row in rows):
            return [self.score(row) for row in rows]
        import numpy as np

        columns = np.array(rows)
        if columns.dtype.kind not in "fi":  # told to make floats of it, NumPy would read a text as a number
            return [self.score(row) for row in rows]
        totals = np.full(len(rows), self._intercept)
        with np.errstate(all="ignore"):
            for at, (mean, inverse, weight) in enumerate(self._terms):
                totals += weight * ((columns[:, at] - mean) * inverse)
        scores: list[float] = []
        for row, total in zip(rows, totals.tolist(), strict=True):
            if -MOST_LOGIT <= total <= MOST_LOGIT:
                scores.append(1.0 / (1.0 + math.exp(-total)))
            else:
                scores.append(self.score(row))
        return scores

    def contributions(self, row: Row) -> list[tuple[str, float]]:
        """Return what each feature adds to the logit, the largest first; equal ones by name."""
        self._without_unknown(row)
        parts = [
            (name, 0.0 if value != value else weight * ((value - mean) * inverse))
            for name, value, (mean, inverse, weight) in zip(self.names, row, self._terms, strict=True)
        ]
        return sorted(parts, key=lambda part: (-abs(part[1]), part[0]))

    def _without_unknown(self, row: Row) -> float:
        check(row, self.names)
        total = self._intercept
        for value, (mean, inverse, weight) in zip(row, self._terms, strict=True):
            if value == value:
                total += weight * ((value - mean) * inverse)
        if total - total != 0.0:
            raise BadRowError(name="row", value=list(row))
        return total


class Logistic:
    """P(what is asked about happens), learned row by row with AdaGrad over standardised features.

    The first ``warm`` rows are learned at the rate ``warm_lr``: a small shop
    has few labels for a long time. Classes are never rebalanced.

    Attributes
    ----------
    n, happened
        How many rows were learned, and how many of them came true.

    References
    ----------
    Duchi, Hazan and Singer (2011), "Adaptive subgradient methods for online learning and stochastic
    optimization", JMLR.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        lr: float = 0.1,
        warm_lr: float = 0.03,
        warm: int = 4_000,
        intercept_lr: float = 0.01,
    ) -> None:
        from river.linear_model import LogisticRegression
        from river.preprocessing import StandardScaler

        rates, steps = _optimizer()
        self.names: Final = tuple(names)
        self.lr: Final = lr
        self.warm_lr: Final = warm_lr
        self.warm: Final = warm
        self.intercept_lr: Final = intercept_lr
        self.n = self.happened = 0
        # the two halves of River's pipeline, called in its order
        self._scaler: Any = StandardScaler()
        self._rate, self._intercept_rate = rates(lr), rates(intercept_lr)
        self._regression: Any = LogisticRegression(optimizer=steps(self._rate), intercept_lr=self._intercept_rate)
        # the names are known, and counting in plain dicts takes two thirds of the time
        self._scaler.counts = dict.fromkeys(self.names, 0)
        self._scaler.means = dict.fromkeys(self.names, 0.0)
        self._scaler.vars = dict.fromkeys(self.names, 0.0)
        self._regression.optimizer.g2 = dict.fromkeys(self.names, 0.0)
        self._scorer: Scorer | None = None

    @property
    def cold(self) -> bool:
        """Whether it has seen one answer only, or none."""
        return not 0 < self.happened < self.n

    def learn(self, row: Row, happened: bool, rate: float = 1.0) -> None:
        """Take one step; ``rate`` multiplies the learning rates of this row (2 after a drift).

        Raises
        ------
        BadRowError
            Another length, NaN, an infinity, no number, or one above a
            million. Nothing was learned.
        """
        check(row, self.names, learn=True)
        self._scorer = None
        self._rate.now = rate * (self.warm_lr if self.n < self.warm else self.lr)
        self._intercept_rate.now = rate * self.intercept_lr
        x = dict(zip(self.names, map(float, row), strict=True))
        self._scaler.learn_one(x)
        self._regression.learn_one(self._scaler.transform_one(x), happened)
        self.n += 1
        self.happened += bool(happened)

    def scorer(self) -> Scorer:
        """Return what scores as this does now; what is learned later does not change it."""
        if self._scorer is None:
            weights, means, variances = self._regression.weights, self._scaler.means, self._scaler.vars
            self._scorer = Scorer(
                self.names,
                [means.get(name, 0.0) for name in self.names],
                [variances.get(name, 0.0) for name in self.names],
                [weights.get(name, 0.0) for name in self.names],
                self._regression.intercept,
            )
        return self._scorer

    def score(self, row: Row) -> float:
        """Return the probability for a row; see ``Scorer.score``."""
        return self.scorer().score(row)

    def score_many(self, rows: Sequence[Row]) -> list[float]:
        """Return the probability of each row, to the bit what ``score`` returns for it."""
        return self.scorer().score_many(rows)

    def contributions(self, row: Row) -> list[tuple[str, float]]:
        """Return what each feature adds to the logit, the largest first; equal ones by name."""
        return self.scorer().contributions(row)

    def state(self) -> State:
        """Return all that it is, River's running numbers in the order of the names."""
        weights, squares = self._regression.weights, self._regression.optimizer.g2
        means, variances = self._scaler.means, self._scaler.vars
        return {
            "class": CLASS,
            "names": list(self.names),
            "lr": self.lr,
            "warm_lr": self.warm_lr,
            "warm": self.warm,
            "intercept_lr": self.intercept_lr,
            "n": self.n,
            "happened": self.happened,
            "means": [means.get(name, 0.0) for name in self.names],
            "variances": [variances.get(name, 0.0) for name in self.names],
            "weights": [weights.get(name, 0.0) for name in self.names],
            "squares": [squares.get(name, 0.0) for name in self.names],
            "intercept": self._regression.intercept,
        }

    @classmethod
    def restore(cls, state: State) -> Logistic:
        """Return the model of what ``state`` returned; it goes on bit for bit.

        Raises
        ------
        BadSnapshotError
            As ``Scorer.restore``.
        """
        from river.utils import VectorDict

        found = _Numbers(state)
        model = cls(found.names, lr=found.lr, warm_lr=found.warm_lr, warm=found.warm, intercept_lr=found.intercept_lr)
        model.n, model.happened = found.n, found.happened
        regression, scaler = model._regression, model._scaler
        regression.intercept = found.intercept
        if found.n:
            scaler.counts.update(dict.fromkeys(found.names, found.n))
            scaler.means.update(zip(found.names, found.means, strict=True))
            scaler.vars.update(zip(found.names, found.variances, strict=True))
            weights: Any = VectorDict(dict(zip(found.names, found.weights, strict=True)))
            regression._weights = weights  # noqa: SLF001  # River has no other door
            regression.optimizer.g2.update(zip(found.names, found.squares, strict=True))
            regression.optimizer.n_iterations = found.n
        return model


class _Numbers:
    """The numbers of a state, none of them strange."""

    def __init__(self, state: State) -> None:
        check_class(state, CLASS)
        try:
            self.names: Final = tuple(str(name) for name in state["names"])
            self.lr: Final = finite(state["lr"])
            self.warm_lr: Final = finite(state["warm_lr"])
            self.intercept_lr: Final = finite(state["intercept_lr"])
            self.warm: Final = int(state["warm"])
            self.n: Final = int(state["n"])
            self.happened: Final = int(state["happened"])
            self.means: Final = self._listed(state, "means")
            self.variances: Final = self._listed(state, "variances", least=0.0)
            self.squares: Final = self._listed(state, "squares", least=0.0)
            self.weights: Final = self._listed(state, "weights")
            self.intercept: Final = finite(state["intercept"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise unreadable(CLASS, error) from None
        if max(map(abs, (*self.weights, self.intercept))) > MOST_WEIGHT:
            text = "a weight exploded"
            raise BadSnapshotError(text)

    def _listed(self, state: Mapping[str, Any], part: str, least: float = -math.inf) -> list[float]:
        numbers = [finite(value) for value in state[part]]
        if len(numbers) != len(self.names) or min(numbers, default=0.0) < least:
            text = f"{part} do not fit the names"
            raise BadSnapshotError(text)
        return numbers

    def scorer(self) -> Scorer:
        return Scorer(self.names, self.means, self.variances, self.weights, self.intercept)


@cache
def _optimizer() -> tuple[type[Any], type[Any]]:
    from river.optim import AdaGrad as Base
    from river.optim.base import Scheduler

    class Rate(Scheduler):
        """A rate that is set for each row."""

        def __init__(self, now: float) -> None:
            self.now = now

        def get(self, _t: int) -> float:
            return self.now

    class AdaGrad(Base):
        """River's, to the bit, in two thirds of the time: it asks for the rate once for each feature."""

        def step(self, w: Any, g: Any) -> Any:
            rate, eps, squares = self.learning_rate, self.eps, self.g2
            for name, slope in g.items():
                squares[name] = square = squares[name] + slope**2
                w[name] -= rate / (square + eps) ** 0.5 * slope
            self.n_iterations += 1
            return w

    return Rate, AdaGrad
