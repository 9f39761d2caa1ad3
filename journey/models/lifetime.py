"""What a customer will be worth: BG/NBD for how many orders come, Gamma-Gamma for what each brings.

A buyer orders at an own rate until, after some order, never again; nobody
says when. Four parameters tell how rates and ends differ between buyers,
three how the worth of orders does. They are fitted once a week by SciPy from
one week of observations, published, and never fitted again on recovery; the
engine scores with the closed form below, in plain Python.

Fader, Hardie and Lee (2005), "Counting your customers the easy way";
Fader and Hardie (2013), "The Gamma-Gamma model of monetary value".
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

from journey.errors import BadRowError, BadSnapshotError
from journey.models.base import Row, State, check_class, check_row

NAMES: Final = ("repeats", "weeks_to_last", "weeks", "mean")  # value/1
AHEAD_WEEKS: Final = 39.0
WEEK_MS: Final = 7 * 86_400_000

FEWEST_BUYERS: Final = 100
FEWEST_AGAIN: Final = 30  # of them with a repeat order that cost something
MOST_OBSERVED: Final = 20_000

MOST_REPEATS: Final = 1e5
MOST_WEEKS: Final = 5_218.0  # a century
MOST_MONEY: Final = 1e9

# where a fit is searched, and what a snapshot may hold: beyond, buyers hardly differ (or in nothing else), and the
# series of the score takes too many terms; with q from 1 down the mean worth of an order is infinite
BOUNDS: Final = {
    "r": (0.01, 20.0), "alpha": (0.2, 500.0), "a": (0.01, 100.0), "b": (0.01, 100.0),
    "p": (0.01, 400.0), "q": (1.05, 400.0),
}  # fmt: skip
RELATIVE_V: Final = (0.002, 500.0)  # times the mean value of an order
LEAST_V: Final = 1e-9
MOST_V: Final = 1e12

_NUDGE: Final = 1e-5  # away from where two infinite terms cancel
_FEW_TERMS: Final = -5.0  # below, terms of both signs grow too large to cancel


class Worth(NamedTuple):
    """What to expect of a buyer.

    ``alive`` is the probability that orders still come: None before the
    second order, as the model takes everybody for alive until then.
    ``orders`` are those of the weeks ahead, ``value`` is what each brings,
    ``worth`` their product, money in major units.
    """

    alive: float | None
    orders: float
    value: float
    worth: float


def observed(row: Row, *, learn: bool = False) -> list[float]:
    """Return an observation as it is scored and learned, at most so many orders, weeks and money.

    Parameters
    ----------
    row
        Of ``value/1``: orders after the first; weeks from the first order to
        the last; weeks from the first order to now; mean value of the orders
        after the first, major units.
    learn
        Whether NaN is refused.

    Raises
    ------
    BadRowError
        Another length, an infinity, something negative, NaN to be learned.

    Examples
    --------
    >>> observed([2, 30.43, 38.86, 22.35])
    [2.0, 30.43, 38.86, 22.35]
    >>> observed([0, 3.0, 1e308, 5.0])
    [0.0, 0.0, 5218.0, 0.0]
    """
    try:
        check_row(row, NAMES, learn=learn)
    except TypeError:
        raise BadRowError(name="row", value=list(row)) from None
    for name, value in zip(NAMES, row, strict=True):
        if value < 0.0:
            raise BadRowError(name=name, value=value)
    repeats, last, weeks, mean = map(float, row)
    if repeats == 0.0:
        return [0.0, 0.0, min(weeks, MOST_WEEKS), 0.0]
    return [_most(repeats, MOST_REPEATS), _most(_most(last, weeks), MOST_WEEKS), _most(weeks, MOST_WEEKS),
            _most(mean, MOST_MONEY)]  # fmt: skip


def _most(value: float, most: float) -> float:
    """Return a number of at most so much; NaN stays, and binds nothing."""
    return most if value > most else value


def past_rate(repeats: float, weeks: float, ahead_weeks: float = AHEAD_WEEKS) -> float:
    """Return the orders to expect when a buyer goes on as until now: what serves until a fit is trusted.

    >>> past_rate(3, 39.0)
    3.0
    """
    return repeats / weeks * ahead_weeks if weeks > 0.0 else 0.0


def _series(a: float, b: float, c: float, z: float) -> tuple[float, float]:
    """Return Gauss's series as (number, logarithm of the factor it is to be multiplied with).

    ``0 <= z < 1``; sums that leave the range of floats are scaled on the way.
    """
    term = total = 1.0
    scale = 0.0
    n = 0
    while abs(term) > 1e-13 * abs(total) and n < 100_000:
        term *= (a + n) * (b + n) / ((c + n) * (n + 1.0)) * z
        total += term
        n += 1
        if abs(total) > 1e200:
            term, total, scale = term * 1e-200, total * 1e-200, scale + 200.0 * math.log(10.0)
    return total, scale


@dataclass(frozen=True)
class Lifetime:
    """A fit: parameters, and what is told about the buyers they come from.

    ``r`` and ``alpha`` (weeks) tell how rates of orders differ, ``a`` and
    ``b`` how the chance to leave after an order does, ``p``, ``q`` and ``v``
    (money) how the worth of orders does. ``means`` are those of the
    observations, which stand in for NaN. ``correlation`` is that of worth and
    number of orders: the model of money takes it for zero.

    Examples
    --------
    >>> shop = Lifetime(0.243, 4.414, 0.793, 2.426, 6.25, 3.74, 15.44, (1.0, 6.8, 32.7, 35.0), 2357, 946, -9582.4, 0.11)
    >>> round(shop.orders(2, 30.43, 38.86), 3)
    1.226
    >>> round(shop.alive(2, 30.43, 38.86), 3), shop.alive(0, 0.0, 38.86)
    (0.727, None)
    """

    r: float
    alpha: float
    a: float
    b: float
    p: float
    q: float
    v: float
    means: tuple[float, float, float, float]
    buyers: int
    again: int
    log_likelihood: float
    correlation: float

    CLASS: ClassVar[str] = "lifetime/1"

    @property
    def is_trusted(self) -> bool:
        """Whether enough buyers were observed: 100, of whom 30 ordered again."""
        return self.buyers >= FEWEST_BUYERS and self.again >= FEWEST_AGAIN

    def _still(self, repeats: float, last: float, weeks: float) -> float:
        """P(alive); 1 without a repeat order, by construction."""
        if repeats <= 0.0:
            return 1.0
        odds = math.log(self.a / (self.b + max(repeats, 1.0) - 1.0))
        odds += (self.r + repeats) * math.log((self.alpha + weeks) / (self.alpha + last))
        return 1.0 / (1.0 + math.exp(min(odds, 700.0)))

    def alive(self, repeats: float, last: float, weeks: float) -> float | None:
        """Return the probability that the buyer has not left for good; None before the second order."""
        return None if repeats < 1.0 else self._still(repeats, last, weeks)

    def orders(self, repeats: float, last: float, weeks: float, ahead_weeks: float = AHEAD_WEEKS) -> float:
        """Return the orders to expect in the weeks ahead."""
        a, b = self.a, self.b
        if abs(a - 1.0) < _NUDGE:
            a = 1.0 + _NUDGE
        if abs(a + b + repeats - 1.0) < _NUDGE:
            b += 2.0 * _NUDGE
        k, c = self.r + repeats, a + b + repeats - 1.0
        z = ahead_weeks / (self.alpha + weeks + ahead_weeks)
        left = math.log((self.alpha + weeks) / (self.alpha + weeks + ahead_weeks))  # log(1 - z)
        # (1-z)^k F(k, b+x; c; z), by Euler's transformation where its terms keep one sign
        if c - k >= _FEW_TERMS and k + 1.0 >= a:
            total, scale = _series(c - k, a - 1.0, c, z)
            power = scale + (a - 1.0) * left
        else:
            total, scale = _series(k, b + repeats, c, z)
            power = scale + k * left
        gone = total * math.exp(min(power, 700.0))
        return max(0.0, c / (a - 1.0) * (1.0 - gone)) * self._still(repeats, last, weeks)

    def value(self, repeats: float, mean: float) -> float:
        """Return the money to expect of one order; without a repeat order (or its price) that of all buyers."""
        if repeats <= 0.0 or math.isnan(mean):
            return self.p * self.v / (self.q - 1.0)
        return self.p * (self.v + repeats * mean) / (self.p * repeats + self.q - 1.0)

    def worth(self, repeats: float, last: float, weeks: float, mean: float, ahead_weeks: float = AHEAD_WEEKS) -> float:
        """Return the money to expect in the weeks ahead."""
        return self.orders(repeats, last, weeks, ahead_weeks) * self.value(repeats, mean)

    def score(self, row: Row, ahead_weeks: float = AHEAD_WEEKS) -> Worth:
        """Return all there is to say about a buyer; the means of all buyers stand in for NaN.

        Raises
        ------
        BadRowError
            Another length, an infinity or something negative.
        """
        known = [mean if math.isnan(value) else value for value, mean in zip(observed(row), self.means, strict=True)]
        repeats, last, weeks, mean = observed(known)
        orders, value = self.orders(repeats, last, weeks, ahead_weeks), self.value(repeats, mean)
        return Worth(self.alive(repeats, last, weeks), orders, value, orders * value)

    def state(self) -> State:
        """Return the fit as it is published."""
        return {
            "class": self.CLASS,
            "params": {name: getattr(self, name) for name in (*BOUNDS, "v")},
            "means": list(self.means),
            "buyers": self.buyers,
            "again": self.again,
            "log_likelihood": self.log_likelihood,
            "correlation": self.correlation,
        }

    @classmethod
    def restore(cls, published: State) -> Lifetime:
        """Return the fit that was published.

        Raises
        ------
        BadSnapshotError
            Another class, or parameters that no shop has.
        """
        check_class(published, cls.CLASS)
        try:
            params = published["params"]
            numbers = [_number(params[name]) for name in BOUNDS]
            scale, told = _number(params["v"]), [_number(value) for value in published["means"]]
            likelihood, correlation = _number(published["log_likelihood"]), _number(published["correlation"])
            buyers, again = published["buyers"], published["again"]
        except (KeyError, TypeError) as problem:
            text = f"no fit: {problem!r}"
            raise BadSnapshotError(text) from problem
        if not all(low <= value <= high for value, (low, high) in zip(numbers, BOUNDS.values(), strict=True)):
            text = f"no shop has buyers like r, alpha, a, b, p, q = {numbers}"
            raise BadSnapshotError(text)
        if not LEAST_V <= scale <= MOST_V or len(told) != len(NAMES) or not all(v >= 0.0 for v in told):
            text = f"no shop has orders like v = {scale}, or means like {told}"
            raise BadSnapshotError(text)
        if type(buyers) is not int or type(again) is not int or not 0 <= again <= buyers:
            text = f"{again!r} of {buyers!r} buyers cannot have ordered again"
            raise BadSnapshotError(text)
        r, alpha, a, b, p, q = numbers
        means = (told[0], told[1], told[2], told[3])
        return cls(r, alpha, a, b, p, q, scale, means, buyers, again, likelihood, correlation)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        text = f"{value!r} is no finite number"
        raise BadSnapshotError(text)
    return float(value)


def fit(rows: Sequence[Row]) -> State | None:
    """Return the parameters under which these observations are likeliest, as they are published.

    The same rows, in any order, give the same numbers on one machine; another
    machine may find others in the last digits, so a fit is made once and
    published. A second for 20,000 buyers.

    Parameters
    ----------
    rows
        Of ``value/1``, one for each buyer.

    Returns
    -------
    What ``Lifetime.restore`` takes; None with fewer than 100 buyers, or fewer
    than 30 who ordered again and paid: too little to be trusted.

    Raises
    ------
    BadRowError
        A row cannot be learned.
    """
    kept = [observed(row, learn=True) for row in rows]
    paying = [(row[0], row[3]) for row in kept if row[0] > 0.0 and row[3] > 0.0]
    if len(kept) < FEWEST_BUYERS or len(paying) < FEWEST_AGAIN:
        return None
    (r, alpha, a, b), likelihood = _fit_orders([(row[0], row[1], row[2]) for row in kept])
    p, q, v = _fit_money(paying)
    means = [math.fsum(row[at] for row in kept) / len(kept) for at in range(3)]
    means.append(math.fsum(mean for _, mean in paying) / len(paying))
    return {
        "class": Lifetime.CLASS,
        "params": {"r": r, "alpha": alpha, "a": a, "b": b, "p": p, "q": q, "v": v},
        "means": means,
        "buyers": len(kept),
        "again": sum(row[0] > 0.0 for row in kept),
        "log_likelihood": likelihood,
        "correlation": _correlation(paying),
    }


def _correlation(pairs: Sequence[tuple[float, float]]) -> float:
    n = len(pairs)
    mean_x, mean_y = math.fsum(x for x, _ in pairs) / n, math.fsum(y for _, y in pairs) / n
    both = math.fsum((x - mean_x) * (y - mean_y) for x, y in pairs)
    of_x, of_y = math.fsum((x - mean_x) ** 2 for x, _ in pairs), math.fsum((y - mean_y) ** 2 for _, y in pairs)
    return both / math.sqrt(of_x * of_y) if of_x > 0.0 and of_y > 0.0 else 0.0


def _fit_orders(buyers: Sequence[tuple[float, float, float]]) -> tuple[tuple[float, float, float, float], float]:
    """Return r, alpha, a and b of BG/NBD, and the log-likelihood of these buyers."""
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import gammaln

    # equal buyers are one row, and rows are sorted: fewer to sum, and always in one order
    unique, count = np.unique(np.array(buyers, float), axis=0, return_counts=True)
    x, last, weeks = np.ascontiguousarray(unique.T)
    is_again = x > 0

    def cost(logs: np.ndarray) -> float:
        r, alpha, a, b = np.exp(logs)
        rate = gammaln(r + x) - gammaln(r) + r * math.log(alpha)
        stay = gammaln(a + b) + gammaln(b + x) - gammaln(b) - gammaln(a + b + x)
        here = -(r + x) * np.log(alpha + weeks)
        gone = math.log(a) - np.log(b + np.maximum(x, 1.0) - 1.0) - (r + x) * np.log(alpha + last)
        each = rate + stay + np.logaddexp(here, np.where(is_again, gone, -np.inf))
        return -float((each * count).sum()) / len(buyers)

    bounds = [BOUNDS[name] for name in ("r", "alpha", "a", "b")]
    best = minimize(cost, np.zeros(4), method="L-BFGS-B", bounds=np.log(bounds))
    r, alpha, a, b = _within(best.x.tolist(), bounds)
    return (r, alpha, a, b), -float(best.fun) * len(buyers)


def _fit_money(paying: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Return p, q and v of Gamma-Gamma from (repeat orders, mean value)."""
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import gammaln

    unique, count = np.unique(np.array(paying, float), axis=0, return_counts=True)
    x, value = np.ascontiguousarray(unique.T)
    unit = float((value * count).sum()) / len(paying)  # so that cents and yens are searched in the same range
    mean = value / unit

    def cost(logs: np.ndarray) -> float:
        p, q, v = np.exp(logs)
        each = (
            gammaln(p * x + q) - gammaln(p * x) - gammaln(q) + q * math.log(v)
            + (p * x - 1.0) * np.log(mean) + p * x * np.log(x) - (p * x + q) * np.log(x * mean + v)
        )  # fmt: skip
        return -float((each * count).sum()) / len(paying)

    bounds = [BOUNDS["p"], BOUNDS["q"], RELATIVE_V]
    best = minimize(cost, np.log([6.0, 4.0, 0.5]), method="L-BFGS-B", bounds=np.log(bounds))
    p, q, v = _within(best.x.tolist(), bounds)
    return p, q, v * unit


def _within(logs: Sequence[float], bounds: Sequence[tuple[float, float]]) -> Iterator[float]:
    """Yield the parameters that were found; the logarithm of a bound may lead back to a little more."""
    for value, (low, high) in zip(logs, bounds, strict=True):
        yield min(high, max(low, math.exp(value)))


class Buyers:
    """The newest week of observations, from which the next fit is made.

    Each buyer is observed once a week, so a week holds each once and no ids
    are needed; of more than 20,000 those that came last are kept. Time is that
    of the samples.

    Examples
    --------
    >>> buyers = Buyers()
    >>> buyers.observe([0, 0.0, 1.0, 0.0], 0)
    >>> buyers.due(WEEK_MS - 1), buyers.due(WEEK_MS)
    (False, True)
    """

    CLASS: Final = "buyers/1"

    __slots__ = ("_kept", "newest", "since")

    def __init__(self) -> None:
        self.since: int | None = None  # the last fit, or the first observation
        self.newest: int | None = None
        self._kept: deque[tuple[int, list[float]]] = deque(maxlen=MOST_OBSERVED)

    def observe(self, row: Row, at_ms: int) -> None:
        """Keep what is known of a buyer; an observation a week older than the newest is not.

        Raises
        ------
        BadRowError
            A row that cannot be learned.
        """
        kept = observed(row, learn=True)
        if self.since is None:
            self.since = at_ms
        self.newest = at_ms if self.newest is None else max(self.newest, at_ms)
        oldest = self.newest - WEEK_MS
        if at_ms > oldest:
            self._kept.append((at_ms, kept))
        while self._kept and self._kept[0][0] <= oldest:
            self._kept.popleft()

    def due(self, at_ms: int) -> bool:
        """Tell whether the last fit, or the first observation, is a week old."""
        return self.since is not None and at_ms - self.since >= WEEK_MS

    def fitted(self, at_ms: int) -> None:
        """Note that a fit was made, or was tried with too few buyers: the next is due in a week."""
        self.since = at_ms

    def rows(self) -> list[list[float]]:
        """Return the observations of the newest week, as ``fit`` takes them."""
        # two partitions of the journal are not at the same time to the second: an old one may stand behind a newer
        oldest = 0 if self.newest is None else self.newest - WEEK_MS
        return [list(row) for at, row in self._kept if at > oldest]

    def state(self) -> State:
        """Return what is kept, as JSON."""
        return {
            "class": self.CLASS,
            "since": self.since,
            "newest": self.newest,
            "kept": [[at, *row] for at, row in self._kept],
        }

    @classmethod
    def restore(cls, state: State) -> Buyers:
        """Return the observations that a state tells.

        Raises
        ------
        BadSnapshotError
            Another class, or observations that are none.
        """
        check_class(state, cls.CLASS)
        found = cls()
        try:
            found.since, found.newest = _moment(state["since"]), _moment(state["newest"])
            for at, *row in state["kept"]:
                moment = _moment(at)
                if moment is None or observed(row, learn=True) != row:
                    text = f"{row!r} was never observed"
                    raise BadSnapshotError(text)
                found._kept.append((moment, row))
        except (BadRowError, KeyError, TypeError, ValueError) as problem:
            text = f"no observations: {problem!r}"
            raise BadSnapshotError(text) from problem
        return found


def _moment(value: object) -> int | None:
    if value is not None and type(value) is not int:
        text = f"{value!r} is no time"
        raise BadSnapshotError(text)
    return value
