"""Why a score is what it is, in words: each number of a row told in its own unit, with what it added to the logit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from journey.learning import NEVER_BOUGHT
from journey.samples import SCHEMAS

MOST_TOLD: Final = 3  # reasons for each direction
LEAST_TOLD: Final = 0.05  # of the logit; what is less is no reason

Told = Mapping[str, float]  # a row by the names of its schema
Words = Callable[[Told], str]


class Reason(NamedTuple):
    """What a score rests on: in words, by which features, and what they add to the logit."""

    text: str
    features: tuple[str, ...]
    part: float


class Reasons(NamedTuple):
    """What makes a score lower, and what higher, than that of a row with nothing special; the largest part first."""

    lower: list[Reason]
    higher: list[Reason]


def _amount(value: float) -> str:
    """Return a number as it is said: ``2``, ``0.4``, ``12.5``, ``1,234``."""
    return f"{value:,.0f}" if abs(value) >= 100 or abs(value - round(value)) < 0.05 else f"{value:,.1f}"


def _many(value: float, one: str, several: str) -> str:
    told = _amount(value)
    return f"{told} {one if told == '1' else several}"


def _days(value: float) -> str:
    return _many(math.expm1(value), "day", "days")


def _ordered(value: float) -> str:
    """Return when the last order was; its logarithm is told."""
    days = math.expm1(value)
    if days >= NEVER_BOUGHT - 0.05:
        return "no order in the last year"
    whole = math.floor(days + 0.05)  # rows are rounded
    return f"ordered {_many(whole, 'day', 'days')} ago" if whole else "ordered within the last day"


def _decayed(name: str, one: str, several: str, halves: int) -> Words:
    def words(row: Told) -> str:
        return f"{_many(math.expm1(row[name]), one, several)}, halving in {halves} days"

    return words


def _spent(name: str, halves: int) -> Words:
    def words(row: Told) -> str:
        return f"{math.expm1(row[name]):,.2f} spent, halving in {halves} days"

    return words


def _hour(row: Told) -> str:
    hour = math.atan2(row["hour_sin"], row["hour_cos"]) / (2.0 * math.pi) * 24.0 % 24.0
    return f"at about {round(hour) % 24} o'clock UTC"


def _cart(row: Told) -> str:
    return "nothing put into the cart" if row["carts"] < 1.0 else f"{_amount(row['carts'])} put into the cart"


def _lasts(seconds: float) -> str:
    return _many(seconds, "second", "seconds") if seconds < 90.0 else _many(seconds / 60.0, "minute", "minutes")


# two features with the same words are one reason
WORDS: Final[Mapping[str, Mapping[str, Words]]] = {
    "churn/1": {
        "rec": lambda row: _ordered(row["rec"]),
        "overdue": lambda row: f"quiet for {_amount(row['overdue'])} x the usual time between orders",
        "gap": lambda row: f"{_days(row['gap'])} between orders on average",
        "gapsd": lambda row: f"times between orders vary by {_days(row['gapsd'])}",
        "f30": _decayed("f30", "order", "orders", 30),
        "f90": _decayed("f90", "order", "orders", 90),
        "m30": _spent("m30", 30),
        "m90": _spent("m90", 90),
        "bv": lambda row: f"{math.expm1(row['bv']):,.2f} an order on average",
        "it30": _decayed("it30", "order line", "order lines", 30),
        "disc": lambda row: f"discounts of {100.0 * row['disc']:.0f} % of revenue",
        "cats": lambda row: f"{_many(row['cats'], 'category', 'categories')} an order",
        "ten": lambda row: f"first ordered {_days(row['ten'])} ago",
        "vis7": _decayed("vis7", "order", "orders", 7),
    },
    "intent/1": {
        "views": lambda row: f"{_many(math.expm1(row['views']), 'product view', 'product views')} in this visit",
        "carts": _cart,
        "dur": lambda row: f"here for {_lasts(math.expm1(row['dur']))}",
        "pace": lambda row: f"{_lasts(row['pace'] * 60.0)} between events",
        "hour_sin": _hour,
        "hour_cos": _hour,
        "rec_buy": lambda row: _ordered(row["rec_buy"]),
        "v": _decayed("v", "click", "clicks", 30),
        "c": _decayed("c", "cart event", "cart events", 30),
        "s": _decayed("s", "visit", "visits", 30),
        "b": _decayed("b", "order", "orders", 30),
        "rate": lambda row: f"{row['rate']:.2f} orders a visit lately",
        "again": lambda row: f"one item viewed {_many(row['again'], 'time', 'times')}",
        "focus": lambda row: f"{100.0 * row['focus']:.0f} % of the views in one category",
    },
}


def reasons(schema: str, row: Sequence[float], parts: Iterable[tuple[str, float]]) -> Reasons:
    """Return the largest parts of a score in words.

    Parameters
    ----------
    schema
        Of the row: ``churn/1`` or ``intent/1``.
    row
        As it was scored: rounded, money in major units; NaN is no data, and no reason.
    parts
        What each feature adds to the logit (``contributions`` of a model).

    Examples
    --------
    >>> row = [math.log1p(2.0), *[0.0] * 13]
    >>> reasons("churn/1", row, [("rec", -0.81), ("f30", 0.42), ("gap", 0.0)])  # doctest: +NORMALIZE_WHITESPACE
    Reasons(lower=[Reason(text='ordered 2 days ago', features=('rec',), part=-0.81)],
            higher=[Reason(text='0 orders, halving in 30 days', features=('f30',), part=0.42)])
    """
    told, words = dict(zip(SCHEMAS[schema], row, strict=True)), WORDS[schema]
    found: dict[str, Reason] = {}
    for name, part in parts:
        if not math.isnan(told[name]):
            text = words[name](told)
            known = found.get(text, Reason(text, (), 0.0))
            found[text] = Reason(text, (*known.features, name), known.part + part)
    counted = [one for one in found.values() if abs(one.part) >= LEAST_TOLD]
    ordered = sorted(counted, key=lambda one: (-abs(one.part), one.text))
    lower, higher = [one for one in ordered if one.part < 0.0], [one for one in ordered if one.part > 0.0]
    return Reasons(lower[:MOST_TOLD], higher[:MOST_TOLD])


def sentence(found: Reasons) -> str:
    """Return reasons as one line.

    >>> sentence(Reasons([Reason("ordered 2 days ago", ("rec",), -0.81)], []))
    'lower because: ordered 2 days ago (-0.8)'
    """
    told = [
        f"{way} because: {', '.join(f'{one.text} ({one.part:+.1f})' for one in of)}"
        for way, of in zip(Reasons._fields, found, strict=True)
        if of
    ]
    return "; ".join(told) or "nothing in it stands out"
