"""Segments of customers that are alike: sequential k-means whose ids, and names, stay what they are.

River's own ``KMeans`` draws its centres while it iterates a set of names, so
that its result depends on PYTHONHASHSEED; this one draws by a keyed hash and
never sorts its centres again. What the engine needs is ``journey.models.assign``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from math import dist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from river import base

from journey.errors import BadSnapshotError
from journey.events import DAY
from journey.models.assign import CLASS, MARGIN, SHOP, Clusters, Prototypes, check, inverse, numbers, scaled
from journey.models.base import Row, State, chance, check_class, unreadable, vector

_Column = NDArray[np.float64]

RESTARTS: Final = 8
ROUNDS: Final = 15
SHARE_STEP: Final = 5e-4  # a segment's share is that of about the last 2,000 rows
LEAST_SHARE: Final = 0.01
LOW_FOR: Final = 7 * DAY
RESEEDED_ROWS: Final = 20  # how much a prototype weighs where a segment starts anew
BETTER: Final = 0.95  # of the sum of squares: centres found anew have to be so much nearer to be taken


def lloyd(rows: Sequence[Row], start: Sequence[Row], rounds: int = ROUNDS) -> tuple[list[list[float]], float]:
    """Return the centres that k-means comes to from a start, and the sum of squares within them.

    Examples
    --------
    >>> points = [(1, 2, 3), (2, 4, 5), (3, 6, 7), (4, 8, 9)]
    >>> lloyd(points, [points[0], points[3]])
    ([[1.5, 3.0, 4.0], [3.5, 7.0, 8.0]], 9.0)

    References
    ----------
    Lloyd (1982), "Least squares quantization in PCM", IEEE Transactions on Information Theory.
    """
    return _settled(_columns(rows), start, rounds)


# of columns, which are made once for all runs: making them took as long as two runs
def _settled(columns: Sequence[_Column], start: Sequence[Row], rounds: int = ROUNDS) -> tuple[list[list[float]], float]:
    many = len(start)
    centres = [[float(value) for value in centre] for centre in start]
    for _ in range(rounds):
        nearest = np.argmin([_squares(columns, centre) for centre in centres], axis=0)
        counts = np.bincount(nearest, minlength=many).tolist()
        sums = [np.bincount(nearest, weights=column, minlength=many).tolist() for column in columns]
        moved = [
            [column[at] / counts[at] for column in sums] if counts[at] else centre for at, centre in enumerate(centres)
        ]
        if moved == centres:
            break
        centres = moved
    return centres, _sum_of_squares(columns, centres)


def sum_of_squares(rows: Sequence[Row], centres: Sequence[Row]) -> float:
    """Return the sum of the squared distances of rows to their nearest centres."""
    return _sum_of_squares(_columns(rows), centres)


def _sum_of_squares(columns: Sequence[_Column], centres: Sequence[Row]) -> float:
    return math.fsum(np.min([_squares(columns, centre) for centre in centres], axis=0).tolist())


def _columns(rows: Sequence[Row]) -> list[_Column]:
    return [np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)]


def _squares(columns: Sequence[_Column], centre: Row) -> _Column:
    """Return the squared distance of each row: column by column, so that the order of the sum is the same anywhere."""
    total = np.zeros(len(columns[0]))
    for column, there in zip(columns, centre, strict=True):
        off = column - there
        total += off * off
    return total


def _nearest(centres: Sequence[Row], row: Row) -> int:
    # distances are only compared, never kept
    away = [dist(centre, row) for centre in centres]
    return away.index(min(away))


def seeds(rows: Sequence[Row], k: int, key: str) -> list[Row]:
    """Return k of the rows, each drawn by its squared distance to those before (k-means++).

    References
    ----------
    Arthur and Vassilvitskii (2007), "k-means++: the advantages of careful seeding", SODA.
    """
    return _drawn(rows, _columns(rows), k, key)


def _drawn(rows: Sequence[Row], columns: Sequence[_Column], k: int, key: str) -> list[Row]:
    drawn = [rows[int(chance(key, "0") * len(rows))]]
    near = _squares(columns, drawn[0])
    while len(drawn) < k:
        sums = np.cumsum(near)  # one by one, in their order
        left = chance(key, str(len(drawn))) * float(sums[-1])
        drawn.append(rows[min(len(rows) - 1, int(np.searchsorted(sums, left, side="right")))])
        near = np.minimum(near, _squares(columns, drawn[-1]))
    return drawn


class SequentialKMeans(base.Clusterer):
    """k-means++ over the first rows, then one small step of the nearest centre for each row.

    Centres are kept in standard deviations of a scaler that forgets slowly. A
    segment that has less than one row in a hundred for seven days starts anew
    at the prototype which is farthest from all centres.

    The first rows are those of a young shop, and small steps do not leave the
    place where they began: each time that there are twice as many rows as at
    the last start, centres are looked for anew in the newest ones. They are
    taken where they fit these clearly better.

    Parameters
    ----------
    names, prototypes
        Of the features; the rows that a dead segment may start at.
    k, warmup
        How many segments; how many rows are kept before a start.
    step, forgetting
        The least step of a centre, and of the scaler.
    key
        Another key draws other seeds.

    Examples
    --------
    >>> model = SequentialKMeans(("money",), {"much": [9.0], "little": [0.0]}, k=2, warmup=20)
    >>> for n in range(100):
    ...     model.learn([9.0 + n % 3 if n % 2 else n % 3], at=n)
    >>> model.assign([10.0]) != model.assign([1.0])
    True

    References
    ----------
    MacQueen (1967), "Some methods for classification and analysis of multivariate observations".
    """

    def __init__(
        self,
        names: Sequence[str] = SHOP.names,
        prototypes: Mapping[str, Sequence[float]] = SHOP.rows,
        k: int = 7,
        warmup: int = 2_000,
        step: float = 5e-4,
        forgetting: float = 1e-4,
        key: str = "segments",
    ) -> None:
        self.names, self.prototypes = tuple(names), {name: list(row) for name, row in prototypes.items()}
        self.k, self.warmup, self.step, self.forgetting, self.key = k, warmup, step, forgetting, key
        width = len(self.names)
        self.n = 0
        self.starts = 0  # how often centres were found anew, and taken
        self.centres: list[list[float]] = []
        self._started = 0  # rows at the last start
        self._means, self._variances, self._inverses = [0.0] * width, [0.0] * width, [0.0] * width
        self._rows: list[int] = []
        self._shares: list[float] = []
        self._low_since: list[int | None] = []
        self._buffer: list[list[float]] = []

    @property
    def trusted(self) -> bool:
        """Whether there are segments: after the warm-up."""
        return bool(self.centres)

    def learn(self, row: Row, at: int) -> None:
        """Learn one row, of a moment in milliseconds.

        Raises
        ------
        BadRowError
            Another length, NaN, an infinity, no number, or one above a
            million. Nothing was learned.
        """
        check(row, self.names, learn=True)
        self.n += 1
        self._scale(row)
        if not self.centres:
            self._buffer.append(list(map(float, row)))
            if len(self._buffer) >= self.warmup:
                self._start()
            return
        place = scaled(row, self._means, self._inverses)
        nearest = _nearest(self.centres, place)
        self._rows[nearest] += 1
        step = max(1.0 / self._rows[nearest], self.step)
        self.centres[nearest] = [
            there + step * (value - there) for there, value in zip(self.centres[nearest], place, strict=True)
        ]
        self._watch(nearest, at)
        if self.n > 2 * self._started - self.warmup:
            self._buffer.append(list(map(float, row)))
            if self.n >= 2 * self._started:
                self._start()

    def assign(self, row: Row) -> int | None:
        """Return the nearest segment; None before there are any."""
        return self.clusters().assign(row)

    def assign_sticky(self, row: Row, previous: int | None, margin: float = MARGIN) -> int | None:
        """Return the previous segment unless another is nearer by the margin; None before there are any."""
        return self.clusters().assign_sticky(row, previous, margin)

    def clusters(self) -> Clusters:
        """Return what assigns as this does now; what is learned later does not change it."""
        return Clusters(self.names, self._means, self._inverses, self.centres)

    def learn_one(self, x: dict[Any, Any]) -> None:
        """Learn a row by River's interface: one a minute, as it tells no time."""
        self.learn(vector(x, self.names), 60_000 * self.n)

    def predict_one(self, x: dict[Any, Any]) -> int:
        """Return the nearest segment by River's interface; 0 before there are any."""
        return self.assign(vector(x, self.names)) or 0

    def scaled(self, row: Row) -> list[float]:
        """Return a row in the standard deviations that centres are in."""
        return scaled(row, self._means, self._inverses)

    def raw_centres(self) -> list[list[float]]:
        """Return the centres in the units of the features, for names and for people."""
        return [
            [
                mean + there / by if by else mean
                for there, mean, by in zip(centre, self._means, self._inverses, strict=True)
            ]
            for centre in self.centres
        ]

    def reorder(self, order: Sequence[int]) -> None:
        """Give the segments other numbers, after a start: of each number, whose centre it gets."""
        self.centres = [self.centres[place] for place in order]
        self._rows = [self._rows[place] for place in order]
        self._shares = [self._shares[place] for place in order]

    @property
    def shares(self) -> list[float]:
        """The share of each segment in about the last 2,000 rows."""
        return list(self._shares)

    def state(self) -> State:
        """Return all that it is: before a start with the rows for it, else without."""
        return {
            "class": CLASS,
            "names": list(self.names),
            "prototypes": [[name, list(row)] for name, row in self.prototypes.items()],
            "k": self.k,
            "warmup": self.warmup,
            "step": self.step,
            "forgetting": self.forgetting,
            "key": self.key,
            "n": self.n,
            "starts": self.starts,
            "started": self._started,
            "means": list(self._means),
            "variances": list(self._variances),
            "centres": [list(centre) for centre in self.centres],
            "rows": list(self._rows),
            "shares": list(self._shares),
            "low_since": list(self._low_since),
            "buffer": [list(row) for row in self._buffer],
        }

    @classmethod
    def restore(cls, state: State) -> SequentialKMeans:
        """Return the model of what ``state`` returned; it goes on bit for bit.

        Raises
        ------
        BadSnapshotError
            As ``Clusters.restore``.
        """
        Clusters.restore(state)
        try:
            width, k = len(state["names"]), int(state["k"])
            model = cls(
                [str(name) for name in state["names"]],
                {str(name): numbers(row, width) for name, row in state["prototypes"]},
                k,
                int(state["warmup"]),
                numbers([state["step"]], 1)[0],
                numbers([state["forgetting"]], 1)[0],
                str(state["key"]),
            )
            model.n, model.starts, model._started = int(state["n"]), int(state["starts"]), int(state["started"])
            model._means, model._variances = numbers(state["means"], width), numbers(state["variances"], width)
            model._inverses = [inverse(variance) for variance in model._variances]
            model.centres = [numbers(centre, width) for centre in state["centres"]]
            model._rows = [int(count) for count in state["rows"]]
            model._shares = numbers(state["shares"], len(model.centres))
            model._low_since = [None if since is None else int(since) for since in state["low_since"]]
            model._buffer = [numbers(row, width) for row in state["buffer"]]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise unreadable(CLASS, error) from None
        if {len(model._rows), len(model._low_since)} != {len(model.centres)} or len(model.centres) not in (0, k):
            text = f"the segments of {CLASS} do not fit each other"
            raise BadSnapshotError(text)
        return model

    def _scale(self, row: Row) -> None:
        means, variances, inverses = self._means, self._variances, self._inverses
        step = max(1.0 / self.n, self.forgetting)
        for at, value in enumerate(row):
            off = value - means[at]
            means[at] += step * off
            variances[at] = variance = (1.0 - step) * (variances[at] + step * off * off)
            inverses[at] = inverse(variance)

    def _start(self) -> None:
        """Take the best of some runs from different seeds, if it fits clearly better than what there is.

        The first centres are put in order, once; later ones get the number of the nearest.
        """
        rows = [scaled(row, self._means, self._inverses) for row in self._buffer]
        self._buffer, self._started = [], self.n
        columns = _columns(rows)
        runs = [_settled(columns, _drawn(rows, columns, self.k, f"{self.key}/{run}")) for run in range(RESTARTS)]
        found, squares = min(runs, key=lambda run: run[1])
        if not self.centres:
            self.centres = sorted(found)
        elif squares < BETTER * _sum_of_squares(columns, self.centres):
            self.centres = [found[place] for place in match(self.centres, found, [1.0] * len(self.names))]
        else:
            return
        self.starts += 1
        self._rows = [0] * self.k
        for row in rows:
            self._rows[_nearest(self.centres, row)] += 1
        self._shares = [count / len(rows) for count in self._rows]
        self._low_since = [None] * self.k

    def _watch(self, nearest: int, at: int) -> None:
        shares, low_since = self._shares, self._low_since
        for segment in range(self.k):
            shares[segment] += SHARE_STEP * ((segment == nearest) - shares[segment])
            if shares[segment] >= LEAST_SHARE:
                low_since[segment] = None
                continue
            since = low_since[segment]
            if since is None:
                low_since[segment] = at
            elif at - since >= LOW_FOR and self.prototypes:
                self._reseed(segment)

    def _reseed(self, segment: int) -> None:
        others = [centre for at, centre in enumerate(self.centres) if at != segment]
        places = [scaled(row, self._means, self._inverses) for row in self.prototypes.values()]
        self.centres[segment] = max(places, key=lambda place: min((dist(place, one) for one in others), default=0.0))
        self._rows[segment] = RESEEDED_ROWS
        self._shares[segment] = 2.0 * LEAST_SHARE
        self._low_since[segment] = None


# ---- names -----------------------------------------------------------------------------------------------------------

NAMES_CLASS: Final = "names/1"
CHEAPER: Final = 0.8
DAYS_CHEAPER: Final = 3


def match(centres: Sequence[Row], prototypes: Sequence[Row], units: Row) -> tuple[int, ...]:
    """Return for each centre the prototype it is named after: of all one-to-one matches the cheapest.

    The cost is the squared distance in the prototypes' fixed units. Of equal
    matches the first, in the order of prototypes, is taken. All are looked
    at, by the sets of prototypes already given away: thousands of steps for
    eight of them.

    Raises
    ------
    ValueError
        More centres than prototypes.

    Examples
    --------
    >>> match([[5.0], [1.0]], [[0.0], [1.5], [6.0]], [1.0])
    (2, 1)
    """
    if len(centres) > len(prototypes):
        text = f"{len(centres)} segments cannot be named after {len(prototypes)} prototypes"
        raise ValueError(text)
    costs = _costs(centres, prototypes, units)
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for row in costs:
        further: dict[int, tuple[float, tuple[int, ...]]] = {}
        for given, (cost, way) in best.items():
            for at, more in enumerate(row):
                if not given >> at & 1:
                    found = (cost + more, (*way, at))
                    now = given | 1 << at
                    if now not in further or found < further[now]:
                        further[now] = found
        best = further
    return min(best.values())[1]


def _costs(centres: Sequence[Row], prototypes: Sequence[Row], units: Row) -> list[list[float]]:
    costs: list[list[float]] = []
    for centre in centres:
        row: list[float] = []
        for prototype in prototypes:
            cost = 0.0
            for value, there, unit in zip(centre, prototype, units, strict=True):
                cost += ((value - there) / unit) * ((value - there) / unit)
            row.append(cost)
        costs.append(row)
    return costs


class Names:
    """What each segment is called; names change only when others have fitted clearly better for three days.

    Examples
    --------
    >>> names = Names(Prototypes(("money",), (1.0,), {"rich": [9.0], "poor": [0.0]}))
    >>> names.look([[8.0], [1.0]], at=0)
    ('rich', 'poor')
    >>> [names.look([[1.0], [8.0]], at=day * 86_400_000) for day in (1, 2, 3)]
    [('rich', 'poor'), ('rich', 'poor'), ('poor', 'rich')]
    """

    def __init__(self, prototypes: Prototypes = SHOP) -> None:
        self.prototypes: Final = prototypes
        self.current: tuple[str, ...] = ()
        self._day: int | None = None
        self._days_cheaper = 0

    def look(self, centres: Sequence[Row], at: int) -> tuple[str, ...]:
        """Return the names of centres (raw, one for each segment) after a look at them, of which one a day counts.

        ``at`` is the moment in milliseconds. Without centres there are no names.
        """
        if not centres:
            return self.current
        named = list(self.prototypes.rows)
        rows = list(self.prototypes.rows.values())
        if len(centres) != len(self.current):
            best = match(centres, rows, self.prototypes.units)
            self.current = tuple(named[place] for place in best)
            self._day, self._days_cheaper = at // DAY, 0
        elif self._day is None or at // DAY > self._day:
            self._day = at // DAY
            best = match(centres, rows, self.prototypes.units)
            costs = _costs(centres, rows, self.prototypes.units)
            now = math.fsum(costs[segment][named.index(name)] for segment, name in enumerate(self.current))
            then = math.fsum(costs[segment][place] for segment, place in enumerate(best))
            self._days_cheaper = self._days_cheaper + 1 if then < CHEAPER * now else 0
            if self._days_cheaper >= DAYS_CHEAPER:
                self.current = tuple(named[place] for place in best)
                self._days_cheaper = 0
        return self.current

    def again(self, centres: Sequence[Row]) -> tuple[int, ...]:
        """Name centres that were found anew; return of each segment, whose centre it gets: names stay where they were.

        Examples
        --------
        >>> names = Names(Prototypes(("money",), (1.0,), {"rich": [9.0], "poor": [0.0]}))
        >>> names.look([[8.0], [1.0]], at=0), names.again([[2.0], [7.0]]), names.current
        (('rich', 'poor'), (1, 0), ('rich', 'poor'))
        """
        named = list(self.prototypes.rows)
        best = match(centres, list(self.prototypes.rows.values()), self.prototypes.units)
        places = {named[prototype]: place for place, prototype in enumerate(best)}
        free = [place for name, place in places.items() if name not in self.current]
        order = tuple(places[name] if name in places else free.pop(0) for name in self.current)
        self.current = tuple(named[best[place]] for place in order)
        self._days_cheaper = 0
        return order

    def state(self) -> State:
        """Return the names, and how long others have fitted better."""
        return {
            "class": NAMES_CLASS,
            "features": list(self.prototypes.names),
            "units": list(self.prototypes.units),
            "prototypes": [[name, list(row)] for name, row in self.prototypes.rows.items()],
            "current": list(self.current),
            "day": self._day,
            "days_cheaper": self._days_cheaper,
        }

    @classmethod
    def restore(cls, state: State) -> Names:
        """Return the names of what ``state`` returned.

        Raises
        ------
        BadSnapshotError
            Another class, numbers that are none, or names of no prototype.
        """
        check_class(state, NAMES_CLASS)
        try:
            width = len(state["features"])
            rows = {str(name): numbers(row, width) for name, row in state["prototypes"]}
            names = cls(Prototypes(state["features"], numbers(state["units"], width), rows))
            names.current = tuple(str(name) for name in state["current"])
            names._day = None if state["day"] is None else int(state["day"])
            names._days_cheaper = int(state["days_cheaper"])
        except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
            raise unreadable(NAMES_CLASS, error) from None
        if not set(names.current) <= set(rows):
            text = f"{names.current} are not the names of prototypes"
            raise BadSnapshotError(text)
        return names
