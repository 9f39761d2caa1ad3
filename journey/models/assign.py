"""Which segment a customer is in: centres learned elsewhere, or fixed prototypes until there are any.

What the engine needs of segments; they are learned in ``journey.models.clusters``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from math import dist
from typing import Any, Final

from journey.errors import BadRowError, BadSnapshotError
from journey.models.base import Row, State, check_class, check_row, unreadable

CLASS: Final = "clusters/1"
MARGIN: Final = 0.4
MOST: Final = 1e6  # features are logarithms and shares: a larger one was never meant to be learned


# ---- shared with the learners ----------------------------------------------------------------------------------------


def scaled(row: Row, means: Row, inverses: Row) -> list[float]:
    """Return a row in standard deviations from the means; NaN is at the mean."""
    return [
        (value - mean) * by if value == value else 0.0 for value, mean, by in zip(row, means, inverses, strict=True)
    ]


def inverse(variance: float) -> float:
    """Return one over the standard deviation; zero for a constant feature, which has no say."""
    return 1.0 / math.sqrt(variance) if variance > 1e-12 else 0.0


def numbers(values: Any, count: int) -> list[float]:
    """Return so many finite numbers.

    Raises
    ------
    BadSnapshotError
        Others than these.
    """
    found = [float(value) for value in values]
    if len(found) != count or not all(map(math.isfinite, found)):
        text = f"{found} are not {count} numbers"
        raise BadSnapshotError(text)
    return found


def check(row: Row, names: Sequence[str], *, learn: bool = False) -> None:
    """Refuse what ``check_row`` refuses, what is no number, and what is too large to be learned."""
    try:
        check_row(row, names, learn=learn)
        if learn and (max(row) > MOST or min(row) < -MOST):
            raise refusal(row, names)
    except TypeError:
        raise refusal(row, names) from None


def refusal(row: Row, names: Sequence[str]) -> BadRowError:
    """Return why a row was refused."""
    if len(row) != len(names):
        return BadRowError(name=f"{len(names)} features", value=len(row))
    for name, value in zip(names, row, strict=True):
        if not isinstance(value, int | float) or abs(value) > MOST:
            return BadRowError(name=name, value=value)
    return BadRowError(name="row", value=list(row))


# ---- segments --------------------------------------------------------------------------------------------------------


class Prototypes:
    """Segments that a person has described, in fixed units: the first ones, and the names of those learned.

    Examples
    --------
    >>> SHOP.assign(SHOP.rows["loyal"])
    'loyal'
    """

    __slots__ = ("_ends", "_units", "names", "rows", "units")

    def __init__(self, names: Sequence[str], units: Sequence[float], rows: Mapping[str, Sequence[float]]) -> None:
        self.names: Final = tuple(names)
        self.units: Final = tuple(units)
        self.rows: Final = {name: [float(value) for value in row] for name, row in rows.items()}
        self._units: Final = tuple(1.0 / unit for unit in units)
        self._ends: Final = tuple((name, scaled(row, [0.0] * len(row), self._units)) for name, row in self.rows.items())

    def assign(self, row: Row, previous: str | None = None, margin: float = MARGIN) -> str:
        """Return the name of the nearest one; the previous one unless another is nearer by the margin.

        Raises
        ------
        BadRowError
            Another length, an infinity, or what is no number. NaN is left
            out of the distance.
        """
        check(row, self.names)
        place = [value * unit for value, unit in zip(row, self._units, strict=True)]
        best, nearest, held = "", math.inf, math.inf
        for name, end in self._ends:
            away = dist(end, place)
            if away != away:  # what is not known is at the same place as every one of them
                away = dist(end, [here if here == here else there for here, there in zip(place, end, strict=True)])
            if away < nearest:
                best, nearest = name, away
            if name == previous:
                held = away
        if not best:
            raise refusal(row, self.names)
        return previous if previous is not None and nearest >= (1.0 - margin) * held else best


def _logs(*rows: tuple[str, Sequence[float]]) -> dict[str, list[float]]:
    """Take days, orders, money, money an order, looks and carts as people say them; the last number is a share."""
    return {name: [*map(math.log1p, row[:-1]), row[-1]] for name, row in rows}


# A shop: days since the order, orders and money (half-life 90 d), money an order, views and carts (30 d), share bought
# at a discount. Seven or eight of them: a model of k segments takes k names.
SHOP: Final = Prototypes(
    ("rec", "freq", "mon", "aov", "views", "carts", "disc"),
    (1.0, 0.8, 2.0, 1.5, 1.0, 0.8, 0.3),
    _logs(
        ("champion", (5, 8, 600, 75, 60, 8, 0.15)),
        ("big_spender", (20, 3, 750, 250, 30, 4, 0.1)),
        ("loyal", (15, 4, 240, 60, 25, 4, 0.15)),
        ("deal_seeker", (20, 3, 150, 50, 40, 5, 0.6)),
        ("occasional", (60, 1, 60, 60, 8, 1, 0.15)),
        ("window_shopper", (365, 0, 0, 0, 30, 0.3, 0.0)),
        ("abandoner", (365, 0, 0, 0, 30, 5, 0.0)),
    ),
)
# A shop without clicks (tills, groceries): orders and money (half-life 90 d), money an order, discount share.
TILLS: Final = Prototypes(
    ("freq", "mon", "aov", "disc"),
    (0.8, 2.0, 0.8, 0.4),
    _logs(
        ("champion", (90, 1500, 15, 0.15)),
        ("big_spender", (40, 1900, 50, 0.15)),
        ("loyal", (30, 750, 27, 0.15)),
        ("deal_seeker", (30, 800, 27, 0.30)),
        ("occasional", (12, 200, 17, 0.15)),
        ("coupon_only", (8, 120, 15, 0.45)),
        ("top_up", (40, 320, 8, 0.15)),
    ),
)


class Clusters:
    """The exported centres of a segment model: all that is needed to assign.

    Ids are positions and never sorted again; a name for each is the matter
    of ``journey.models.clusters.Names``.
    """

    __slots__ = ("_centres", "_inverses", "_means", "names", "trusted")

    def __init__(
        self, names: Sequence[str], means: Sequence[float], inverses: Sequence[float], centres: Sequence[Row]
    ) -> None:
        self.names: Final = tuple(names)
        self.trusted: Final = bool(centres)
        self._means: Final = tuple(means)
        self._inverses: Final = tuple(inverses)
        self._centres: Final = tuple(tuple(centre) for centre in centres)

    @classmethod
    def restore(cls, state: State) -> Clusters:
        """Return what assigns as the ``SequentialKMeans`` that had this state.

        Raises
        ------
        BadSnapshotError
            Another class, or numbers that do not fit or are not finite.
        """
        check_class(state, CLASS)
        try:
            names = [str(name) for name in state["names"]]
            means, variances = numbers(state["means"], len(names)), numbers(state["variances"], len(names))
            centres = [numbers(centre, len(names)) for centre in state["centres"]]
            return cls(names, means, [inverse(variance) for variance in variances], centres)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise unreadable(CLASS, error) from None

    def distances(self, row: Row) -> list[float]:
        """Return how far each centre is, in standard deviations; NaN counts as the running mean.

        Raises
        ------
        BadRowError
            Another length, an infinity, or what is no number.
        """
        if not self._centres:
            check(row, self.names)
            return []
        try:
            place = scaled(row, self._means, self._inverses)
            found = [dist(centre, place) for centre in self._centres]
        except (TypeError, ValueError):
            raise refusal(row, self.names) from None
        # dist is of ``place`` with every centre: one infinity is in all of them
        if not found[0] < math.inf:
            raise refusal(row, self.names)
        return found

    def assign(self, row: Row) -> int | None:
        """Return the nearest segment; None before there are any."""
        found = self.distances(row)
        return found.index(min(found)) if found else None

    def assign_sticky(self, row: Row, previous: int | None, margin: float = MARGIN) -> int | None:
        """Return the previous segment unless another is nearer by the margin; None before there are any."""
        found = self.distances(row)
        if not found:
            return None
        nearest = min(found)
        if previous is not None and 0 <= previous < len(found) and nearest >= (1.0 - margin) * found[previous]:
            return previous
        return found.index(nearest)
