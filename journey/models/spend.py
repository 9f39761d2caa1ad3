"""What a customer will spend in the next 30 days: River's linear regression, and the plain forecast it has to beat.

River learns ``log1p`` of the revenue (``Spend``), in the learner. Its numbers
are exported and score alone (``Forecaster``), so that River is imported when
something has to be learned, never to score. In logarithms the regression is
better than anything plainer; in money the decayed revenue is: forecasts use it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any, Final, NamedTuple

from journey.errors import BadRowError, BadSnapshotError
from journey.models.base import Row, State, check_class, check_row, finite, unreadable

CLASS: Final = "spend/1"
NAMES: Final = (
    "rec", "overdue", "gap", "gapsd", "f30", "f90", "m30", "m90", "bv", "it30", "disc", "cats", "ten", "vis7",
)  # fmt: skip  # churn/1
RECENT: Final = "m30"  # log1p of the revenue, decayed with a half-life of 30 days
FEWEST: Final = 500  # labels
REMEMBERED: Final = 1_000  # labels that the quality is an average of
MOST: Final = 1e6  # features are logarithms, shares and small counts: a larger one was never meant to be learned
MOST_WEIGHT: Final = 1e6
MOST_SPENT: Final = 1e9
DEGREES: Final = (1, 2)

DECAYED, LINEAR = "decayed revenue", "linear"


class Forecast(NamedTuple):
    """Money to expect in 30 days, major units, and what it comes from (``decayed revenue`` or ``linear``)."""

    money: float
    used: str


def decayed_forecast(m30: float) -> float:
    """Return the money of the next 30 days if a customer goes on as lately.

    Somebody who spends evenly has a decayed revenue of a day's spending times
    30 / ln 2.

    >>> round(decayed_forecast(math.log1p(100.0)), 2)
    69.31
    """
    return math.expm1(min(m30, math.log1p(MOST_SPENT))) * math.log(2.0)


class Forecaster:
    """The exported numbers of a regression: all that is needed to score.

    Examples
    --------
    >>> forecaster = Spend().forecaster()
    >>> forecaster.forecast([0.0] * 6 + [math.log1p(100.0)] + [0.0] * 7).used
    'decayed revenue'
    """

    __slots__ = ("_intercept", "_parts", "degree", "n", "names")

    def __init__(self, numbers: _Numbers) -> None:
        self.names: Final = numbers.names
        self.degree: Final = numbers.degree
        self.n: Final = numbers.n
        self._parts: Final = tuple(
            # a constant feature has no say; a power, as in River's scaler: a root may differ in the last bit
            (mean, variance**0.5 if variance else 0.0, weight)
            for mean, variance, weight in zip(numbers.means, numbers.variances, numbers.weights, strict=True)
        )
        self._intercept: Final = numbers.intercept

    @classmethod
    def restore(cls, state: State) -> Forecaster:
        """Return the forecaster of what ``Spend.state`` returned.

        Raises
        ------
        BadSnapshotError
            Another class, names and numbers that do not fit, a number that
            is not finite, a weight above a million.
        """
        return cls(_Numbers(state))

    @property
    def cold(self) -> bool:
        """Whether fewer than 500 labels were learned."""
        return self.n < FEWEST

    def score(self, row: Row) -> float:
        """Return the expected ``log1p`` of the revenue; NaN counts as the running mean.

        To the bit what River's ``predict_one`` returns for a row without NaN.

        Raises
        ------
        BadRowError
            Another length, an infinity, or what is no number.
        """
        _check(row, self.names)
        values = list(row)
        if self.degree == 2:
            values += [one * other for one, other in combinations_with_replacement(row, 2)]
        total = 0.0
        for value, (mean, spread, weight) in zip(values, self._parts, strict=True):
            if spread and value == value:
                total += weight * ((value - mean) / spread)
        total += self._intercept
        if not math.isfinite(total):
            raise BadRowError(name="row", value=list(row))
        return total

    def forecast(self, row: Row) -> Forecast | None:
        """Return the money to expect: the decayed revenue, or the regression where that is unknown.

        None when the decayed revenue is NaN and the regression is cold.

        Raises
        ------
        BadRowError
            As ``score``.
        """
        expected = self.score(row)
        recent = row[self.names.index(RECENT)]
        if not math.isnan(recent):
            return Forecast(decayed_forecast(max(0.0, recent)), DECAYED)
        if self.cold:
            return None
        return Forecast(math.expm1(min(max(0.0, expected), math.log1p(MOST_SPENT))), LINEAR)


class Spend:
    """Revenue of the next 30 days, learned row by row with AdaGrad over standardised features.

    Parameters
    ----------
    names
        Of the features, ``m30`` among them.
    degree
        1, or 2 for the challenger: all products of two features as well,
        at ten times the cost.
    lr, intercept_lr
        Learning rates of the weights and of the intercept.

    Attributes
    ----------
    n
        How many rows were learned.

    Raises
    ------
    BadSnapshotError
        Another degree, no ``m30``, a name told twice or with an asterisk.

    References
    ----------
    Duchi, Hazan and Singer (2011), "Adaptive subgradient methods for online learning and stochastic
    optimization", JMLR.
    """

    def __init__(
        self, names: Sequence[str] = NAMES, *, degree: int = 1, lr: float = 0.1, intercept_lr: float = 0.01
    ) -> None:
        from river.feature_extraction import PolynomialExtender
        from river.linear_model import LinearRegression
        from river.optim import AdaGrad
        from river.preprocessing import StandardScaler

        self.names: Final = tuple(names)
        self.degree: Final = degree
        self.lr: Final = lr
        self.intercept_lr: Final = intercept_lr
        self.n = 0
        self._terms: Final = _terms(self.names, degree)
        # the parts of River's pipeline, called in its order
        extender: Any = PolynomialExtender
        self._extender: Any = extender(degree)
        self._scaler: Any = StandardScaler()
        self._regression: Any = LinearRegression(optimizer=AdaGrad(lr), intercept_lr=intercept_lr)
        # of what was learned: mean and variance of the labels, mean square of what each was missed by just before
        self._mean = self._variance = self._missed = 0.0
        self._forecaster: Forecaster | None = None

    @property
    def cold(self) -> bool:
        """Whether fewer than 500 labels were learned."""
        return self.n < FEWEST

    @property
    def r2(self) -> float | None:
        """The share of the labels' variance that is explained, each predicted just before it was learned.

        In logarithms, over some 1,000 labels. Other labels of the same days
        are learned before: without that the share is a little lower. None
        when there is nothing to explain.
        """
        return 1.0 - self._missed / self._variance if self._variance > 0.0 else None

    def learn(self, row: Row, spent: float) -> None:
        """Take one step towards what was spent in the 30 days after the row, major units.

        Raises
        ------
        BadRowError
            Another length, NaN, an infinity, no number, a feature above a
            million, or less than nothing spent. Nothing was learned.
        """
        _check(row, self.names, learn=True)
        if not isinstance(spent, int | float) or not 0.0 <= spent < math.inf:
            raise BadRowError(name="spent", value=spent)
        y = math.log1p(min(float(spent), MOST_SPENT))
        x = dict(zip(self.names, map(float, row), strict=True))
        self._forecaster = None
        if self.degree > 1:
            x = self._extender.transform_one(x)
        missed = y - self._regression.predict_one(self._scaler.transform_one(x))
        self._scaler.learn_one(x)
        self._regression.learn_one(self._scaler.transform_one(x), y)
        self.n += 1
        step = max(1.0 / self.n, 1.0 / REMEMBERED)
        off = y - self._mean
        self._mean += step * off
        self._variance = (1.0 - step) * (self._variance + step * off * off)
        self._missed += step * (missed * missed - self._missed)

    def forecaster(self) -> Forecaster:
        """Return what scores as this does now; what is learned later does not change it."""
        if self._forecaster is None:
            self._forecaster = Forecaster.restore(self.state())
        return self._forecaster

    def score(self, row: Row) -> float:
        """Return the expected ``log1p`` of the revenue; see ``Forecaster.score``."""
        return self.forecaster().score(row)

    def forecast(self, row: Row) -> Forecast | None:
        """Return the money to expect; see ``Forecaster.forecast``."""
        return self.forecaster().forecast(row)

    def state(self) -> State:
        """Return all that it is, River's running numbers in the order of the names and of their products."""
        weights, squares = self._regression.weights, self._regression.optimizer.g2
        means, variances = self._scaler.means, self._scaler.vars
        return {
            "class": CLASS,
            "names": list(self.names),
            "degree": self.degree,
            "lr": self.lr,
            "intercept_lr": self.intercept_lr,
            "n": self.n,
            "means": [means.get(term, 0.0) for term in self._terms],
            "variances": [variances.get(term, 0.0) for term in self._terms],
            "weights": [weights.get(term, 0.0) for term in self._terms],
            "squares": [squares.get(term, 0.0) for term in self._terms],
            "intercept": self._regression.intercept,
            "quality": [self._mean, self._variance, self._missed],
        }

    @classmethod
    def restore(cls, state: State) -> Spend:
        """Return the model of what ``state`` returned; it goes on bit for bit.

        Raises
        ------
        BadSnapshotError
            As ``Forecaster.restore``.
        """
        from river.utils import VectorDict

        found = _Numbers(state)
        model = cls(found.names, degree=found.degree, lr=found.lr, intercept_lr=found.intercept_lr)
        model.n = found.n
        model._mean, model._variance, model._missed = found.quality
        regression, scaler = model._regression, model._scaler
        regression.intercept = found.intercept
        if found.n:
            scaler.counts.update(dict.fromkeys(model._terms, found.n))
            scaler.means.update(zip(model._terms, found.means, strict=True))
            scaler.vars.update(zip(model._terms, found.variances, strict=True))
            weights: Any = VectorDict(dict(zip(model._terms, found.weights, strict=True)))
            regression._weights = weights  # noqa: SLF001  # River has no other door
            regression.optimizer.g2.update(zip(model._terms, found.squares, strict=True))
            regression.optimizer.n_iterations = found.n
        return model


class _Numbers:
    """The numbers of a state, none of them strange."""

    def __init__(self, state: State) -> None:
        check_class(state, CLASS)
        try:
            self.names: Final = tuple(str(name) for name in state["names"])
            self.degree: Final = int(state["degree"])
            self.lr: Final = finite(state["lr"])
            self.intercept_lr: Final = finite(state["intercept_lr"])
            self.n: Final = int(state["n"])
            terms = len(_terms(self.names, self.degree))
            self.means: Final = _listed(state, "means", terms)
            self.variances: Final = _listed(state, "variances", terms, least=0.0)
            self.weights: Final = _listed(state, "weights", terms)
            self.squares: Final = _listed(state, "squares", terms, least=0.0)
            self.intercept: Final = finite(state["intercept"])
            self.quality: Final = _listed(state, "quality", 3)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise unreadable(CLASS, error) from None
        if self.n < 0 or max(map(abs, (*self.weights, self.intercept))) > MOST_WEIGHT:
            text = "a weight exploded, or fewer rows than none were learned"
            raise BadSnapshotError(text)


def _terms(names: Sequence[str], degree: int) -> tuple[str, ...]:
    """Return the names of what has a weight, in River's order and words."""
    if degree not in DEGREES or RECENT not in names or len({*names}) < len(names) or "*" in "".join(names):
        text = f"no regression of degree {degree} over {', '.join(names)}"
        raise BadSnapshotError(text)
    pairs = combinations_with_replacement(names, 2) if degree == 2 else ()
    return (*names, *("*".join(sorted(pair)) for pair in pairs))


def _listed(state: Mapping[str, Any], part: str, length: int, least: float = -math.inf) -> list[float]:
    numbers = [finite(value) for value in state[part]]
    if len(numbers) != length or min(numbers, default=0.0) < least:
        text = f"{part} do not fit the names"
        raise BadSnapshotError(text)
    return numbers


def _check(row: Row, names: Sequence[str], *, learn: bool = False) -> None:
    try:
        check_row(row, names, learn=learn)
    except TypeError:
        raise BadRowError(name="row", value=list(row)) from None
    if learn:
        for name, value in zip(names, row, strict=True):
            if abs(value) > MOST:
                raise BadRowError(name=name, value=value)
