"""What a customer's record keeps for the models, and the samples that come of it.

A row of features is frozen when a score is made, and waits in the record for
its horizon to end; then the label is read from the record and the sample is
sent. No feature sees past its own moment, and every label waits for the whole
horizon, also when it is known earlier: sending some at once would sort
training by class.

Points: churn once a week from the first order on, for buyers of two orders or
more whose last one is at most 60 days ago; intent at the second and the sixth
product view with nothing put into a cart, and at the first cart, of each visit.
"""

from __future__ import annotations

import math
from typing import Any, Final, Protocol

from journey import aggregates as agg
from journey.events import DAY, GREATEST, MINOR_DIGITS, SESSION_GAP
from journey.ids import SEEN_ID_LENGTH
from journey.models.base import rounded
from journey.models.baskets import add_to_profile, profile_at
from journey.samples import (
    CHURN_EVERY,
    CHURN_HORIZON,
    CHURN_ORDERS,
    CHURN_RECENCY,
    SCHEMAS,
    VALUE_LASTS,
    VISIT_ENDS,
)
from journey.state import Customer

SCORE: Final = "score"  # timers: the weekly look at a buyer,
LABEL: Final = "label"  # the end of the oldest waiting row's horizon,
VISIT: Final = "visit"  # the end of a visit with waiting rows,
SEGMENT: Final = "segment"  # a quiet customer's segment is looked at again

ALPHA: Final = 0.2
ALPHA_VALUE: Final = 0.3
MOST_VALUE: Final = 100_000.0  # major units of one order; what is more is a mistake or a wholesaler
MOST_LINES: Final = 200.0
MOST_SEEN: Final = 32  # items and categories of a visit
VIEW_POINTS: Final = (2, 6)
NEVER_BOUGHT: Final = 365.0  # days
LOOKS: Final = (DAY, 7 * DAY, 28 * DAY, 90 * DAY)  # after the last activity; decay slows down with time
LOOK_WEIGHT: Final = 0.1  # of an order; twenty looks are remembered
DWELL: Final = DAY
_TWO_PI: Final = 2.0 * math.pi

# ---- orders: how often, how much, at what rhythm ---------------------------------------------------------------------


def major(minor: float, currency: str) -> float:
    """Return an amount in major units, which is what models see.

    >>> major(2500, "EUR"), major(2500, "JPY")
    (25.0, 2500.0)
    """
    return float(minor / 10 ** MINOR_DIGITS.get(currency, 2))


def worth(order: dict[str, Any]) -> float:
    """Return what an order of the book counts for, major units: nothing when it was cancelled."""
    if "at" not in order or order.get("cancelled"):
        return 0.0
    minor = (order.get("revenue") or 0) - agg.refund_of(order)
    return min(max(0.0, major(minor, order.get("currency", agg.NO_CURRENCY))), MOST_VALUE)


def on_worth(customer: Customer, order: dict[str, Any], before: float) -> None:
    """An order's worth changed from ``before``: its decayed sums change with it, as of when it was made."""
    after = worth(order)
    if after != before and "at" in order:
        agg.decay(customer, "money_30d", 30, order["at"], after - before)
        agg.decay(customer, "money_90d", 90, order["at"], after - before)
        rhythm = customer.get("rhythm")
        if rhythm is not None:
            rhythm["paid"] += after - before


def on_order(customer: Customer, happened: int, data: dict[str, Any], value: float) -> float | None:
    """Fold a new order into the buyer's rhythm, in the order of arrival; return the days since the one before.

    Gaps, values and categories are exponentially weighted, ``alpha`` .2; an
    order that comes late counts with a gap of zero.
    """
    items = data.get("items") or ()
    categories = {item.get("category") or item["item_id"] for item in items}  # only how many of them there are
    lines = min(float(len(items)), MOST_LINES)
    discount = major(min(data.get("discount_minor") or 0, GREATEST), data.get("currency") or agg.NO_CURRENCY)
    rhythm = customer.get("rhythm")
    days: float | None = None
    if rhythm is None:
        customer["rhythm"] = {
            "n": 1, "last": happened, "value": value, "aov": value, "cats": float(len(categories)),
            "gap": 0.0, "gap2": 0.0, "visits": 1.0, "paid": value, "first_paid": value,
        }  # fmt: skip
    else:
        rhythm["n"] += 1
        rhythm["value"] += ALPHA * (value - rhythm["value"])
        rhythm["aov"] += ALPHA_VALUE * (value - rhythm["aov"])
        rhythm["cats"] += ALPHA * (len(categories) - rhythm["cats"])
        gap = (happened - rhythm["last"]) / DAY
        if gap >= 0.0:
            rhythm["visits"] = rhythm["visits"] * float(2.0 ** (-gap / 7.0)) + 1.0
            rhythm["last"] = happened
        else:
            rhythm["visits"] += float(2.0 ** (gap / 7.0))
            gap = 0.0
        days = gap
        k = ALPHA if rhythm["n"] > 2 else 1.0
        off = gap - rhythm["gap"]
        rhythm["gap"] += k * off
        rhythm["gap2"] = (1.0 - k) * (rhythm["gap2"] + k * off * off)
        rhythm["paid"] += value
    if value:
        agg.decay(customer, "money_30d", 30, happened, value)
        agg.decay(customer, "money_90d", 90, happened, value)
    if lines:
        agg.decay(customer, "lines_30d", 30, happened, lines)
    if discount:
        agg.decay(customer, "discount_90d", 90, happened, min(discount, MOST_VALUE))
    profile = customer.get("profile")
    if profile is None:
        profile = customer["profile"] = {}
    add_to_profile(profile, happened, basket_of(items))
    if SCORE not in customer["timers"]:
        customer["timers"][SCORE] = customer["seen"] + CHURN_EVERY
    return days


def basket_of(items: Any) -> list[str]:
    """Return the different items of an order, sorted."""
    return sorted({item["item_id"] for item in items})


def churn_row(customer: Customer, now: int) -> list[float]:
    """Return the row of ``churn/1`` at a moment; half-lives in days are part of the names.

    References
    ----------
    Fader, Hardie and Lee (2005), "RFM and CLV: using iso-value curves", for recency, frequency and monetary value.
    """
    rhythm, sums = customer["rhythm"], customer["decayed"]
    log1p = math.log1p
    k30, k90 = agg.weight(now, 30), agg.weight(now, 90)
    recency = max(0.0, (now - rhythm["last"]) / DAY)
    gap: float = rhythm["gap"]
    m90 = max(0.0, sums.get("money_90d", 0.0) / k90)
    return [
        rounded(log1p(recency)),
        rounded(min(8.0, recency / (gap + 1.0))),
        rounded(log1p(gap)),
        rounded(log1p(math.sqrt(max(0.0, rhythm["gap2"])))),
        rounded(log1p(max(0.0, sums.get("orders_30d", 0.0) / k30))),
        rounded(log1p(max(0.0, sums.get("orders_90d", 0.0) / k90))),
        rounded(log1p(max(0.0, sums.get("money_30d", 0.0) / k30))),
        rounded(log1p(m90)),
        rounded(log1p(max(0.0, rhythm["value"]))),
        rounded(log1p(max(0.0, sums.get("lines_30d", 0.0) / k30))),
        rounded(min(2.0, sums.get("discount_90d", 0.0) / k90 / m90)) if m90 > 1e-9 else 0.0,
        rounded(rhythm["cats"]),
        rounded(log1p(max(0.0, (now - customer["orders"]["first"]) / DAY))),
        rounded(log1p(rhythm["visits"] * float(2.0 ** (-recency / 7.0)))),
    ]


def is_scored(customer: Customer, now: int) -> bool:
    """Tell whether a buyer's churn is a question of a model: enough orders, not too long ago."""
    rhythm = customer.get("rhythm")
    return rhythm is not None and bool(rhythm["n"] >= CHURN_ORDERS) and bool(now - rhythm["last"] <= CHURN_RECENCY)


def wait(customer: Customer, now: int, row: list[float], p: float | None, q: float | None, version: int | None) -> None:
    """Keep a row until its label is known, first in, first out."""
    waiting = customer.get("waiting")
    if waiting is None:
        waiting = customer["waiting"] = []
    waiting.append([now, row, p, q, version, customer["rhythm"]["paid"]])
    if LABEL not in customer["timers"]:
        customer["timers"][LABEL] = now + CHURN_HORIZON


def labels(customer: Customer, now: int) -> list[dict[str, Any]]:
    """Take the rows whose horizon has ended, each with its label: 1 when nothing was ordered in it."""
    waiting = customer.get("waiting", [])
    ended: list[dict[str, Any]] = []
    while waiting and waiting[0][0] + CHURN_HORIZON <= now:
        scored_at, row, p, q, version, paid = waiting.pop(0)
        ended.append(
            {
                "x": row, "y": int(customer["rhythm"]["last"] <= scored_at), "p": p, "q": q, "model_version": version,
                "scored_at": scored_at, "due_at": scored_at + CHURN_HORIZON,
                "spent": rounded(max(0.0, customer["rhythm"]["paid"] - paid)),
            }
        )  # fmt: skip
    customer["timers"].pop(LABEL, None)
    if waiting:
        customer["timers"][LABEL] = waiting[0][0] + CHURN_HORIZON
    else:
        customer.pop("waiting", None)
    return ended


def value_row(customer: Customer, now: int) -> list[float]:
    """Return the row of ``value/1``: repeat orders, weeks to the last one, weeks of age, mean value of repeats."""
    rhythm, first = customer["rhythm"], customer["orders"]["first"]
    repeats: int = rhythm["n"] - 1
    mean = max(0.0, rhythm["paid"] - rhythm["first_paid"]) / repeats if repeats else 0.0
    week = 7.0 * DAY
    return [
        float(repeats), rounded(max(0.0, (rhythm["last"] - first) / week)), rounded(max(0.0, (now - first) / week)),
        rounded(mean),
    ]  # fmt: skip


def is_counted(customer: Customer, now: int) -> bool:
    """Tell whether the weekly look at a buyer goes on."""
    return bool(now - customer["rhythm"]["last"] <= VALUE_LASTS)


# ---- visits: what is done in them, until the first order or their end ------------------------------------------------


def on_visit(customer: Customer, happened: int, *, is_view: bool, is_cart: bool, item: dict[str, Any] | None) -> bool:
    """Note what intent needs to know of the visit; return True at a point where intent is asked.

    After the sixth view and the first cart nothing more is noted.
    """
    session = customer["session"]
    carts: int = session.get("carts", 0)
    if session["start"] == happened and session["events"] == 1:
        agg.decay(customer, "session_30d", 30, happened)
    if is_cart:
        session["carts"] = carts + 1
        return carts == 0
    if not is_view:
        return False
    views: int = session["views"]
    if views <= VIEW_POINTS[-1]:
        if item is not None:
            _tally(session, "looked", item["item_id"])
            if item.get("category"):
                _tally(session, "kinds", item["category"])
        return carts == 0 and views in VIEW_POINTS
    return False


def _tally(session: dict[str, Any], name: str, what: str) -> None:
    seen = session.get(name)
    if seen is None:
        session[name] = {what: 1}
    elif what in seen:
        seen[what] += 1
    elif len(seen) < MOST_SEEN:
        seen[what] = 1


def intent_row(customer: Customer, happened: int) -> list[float]:
    """Return the row of ``intent/1`` just after an event that happened then."""
    session, sums = customer["session"], customer["decayed"]
    log1p = math.log1p
    k30 = agg.weight(happened, 30)
    views, carts = session["views"], session.get("carts", 0)
    seconds = (session["last"] - session["start"]) / 1000.0
    angle = _TWO_PI * (happened % DAY) / DAY
    last = customer.get("orders", {}).get("last")
    sessions = sums.get("session_30d", 0.0) / k30
    orders = max(0.0, sums.get("orders_30d", 0.0) / k30)
    looked, kinds = session.get("looked", {}), session.get("kinds", {})
    return [
        rounded(log1p(views)),
        float(carts),
        rounded(log1p(seconds)),
        rounded(seconds / (views + carts + 1) / 60.0),
        rounded(math.sin(angle)),
        rounded(math.cos(angle)),
        rounded(log1p(NEVER_BOUGHT if last is None else max(0.0, (happened - last) / DAY))),
        rounded(log1p(sums.get("click_30d", 0.0) / k30)),
        rounded(log1p(sums.get("cart_30d", 0.0) / k30)),
        rounded(log1p(sessions)),
        rounded(log1p(orders)),
        rounded(orders / (sessions + 1.0)),
        float(max(looked.values(), default=0)),
        rounded(max(kinds.values(), default=0) / max(1, views)),
    ]


def wait_for_visit(
    customer: Customer, now: int, happened: int, row: list[float], p: float | None, q: float | None, version: int | None
) -> None:
    """Keep a row until the visit ends."""
    rows = customer.get("visit")
    if rows is None:
        rows = customer["visit"] = []
    rows.append([now, happened, row, p, q, version])
    if VISIT not in customer["timers"]:
        customer["timers"][VISIT] = now + VISIT_ENDS + 1


def visit_labels(customer: Customer, now: int) -> list[dict[str, Any]]:
    """Take the rows of a visit that has ended, with their labels: 1 when it had an order later than the row.

    While the visit goes on the timer is set anew and nothing is taken.
    """
    timers, rows = customer["timers"], customer.get("visit", [])
    timers.pop(VISIT, None)
    if not rows:
        return []
    session = customer["session"]
    # of rows from before the present visit, which a late event may have left, the visit is over
    ends = session["last"] + SESSION_GAP if session["start"] <= rows[-1][1] else now
    if ends + 1 > now:
        timers[VISIT] = ends + 1
        return []
    # whatever was ordered after the visit comes after this timer, too
    bought: int = customer.get("orders", {}).get("last", -1)
    del customer["visit"]
    return [
        {
            "x": row, "y": int(bought > happened), "p": p, "q": q, "model_version": version, "scored_at": scored_at,
            "due_at": now,
        }
        for scored_at, happened, row, p, q, version in rows
    ]  # fmt: skip


# ---- tastes ----------------------------------------------------------------------------------------------------------


def tastes(customer: Customer, now: int) -> dict[str, float]:
    """Return what speaks for items: orders, halving in 60 days, and looks of late, at most as much as half an order."""
    weights = profile_at(customer.get("profile", {}), now)
    for at, what, item in agg.recent_items(customer):
        if what != "buy":
            weights[item] = weights.get(item, 0.0) + LOOK_WEIGHT * float(2.0 ** (-max(0, now - at) / (7.0 * DAY)))
    return weights


# ---- segments --------------------------------------------------------------------------------------------------------


def segment_row(customer: Customer, now: int) -> list[float]:
    """Return the row of ``segments/1`` at a moment. Money in major units; recency of the order, not of any event."""
    sums = customer.get("decayed", {})
    log1p = math.log1p
    k30, k90 = agg.weight(now, 30), agg.weight(now, 90)
    rhythm = customer.get("rhythm")
    m90 = max(0.0, sums.get("money_90d", 0.0) / k90)
    if rhythm is None:
        recency, aov = NEVER_BOUGHT, 0.0
    else:
        recency, aov = max(0.0, (now - rhythm["last"]) / DAY), max(0.0, rhythm["aov"])
    return [
        rounded(log1p(recency)),
        rounded(log1p(max(0.0, sums.get("orders_90d", 0.0) / k90))),
        rounded(log1p(m90)),
        rounded(log1p(aov)),
        rounded(log1p(sums.get("click_30d", 0.0) / k30)),
        rounded(log1p(sums.get("cart_30d", 0.0) / k30)),
        rounded(min(2.0, sums.get("discount_90d", 0.0) / k90 / m90)) if m90 > 1e-9 else 0.0,
    ]


class Segments(Protocol):
    """What tells the segment of a row."""

    version: int

    def segment(self, row: list[float], previous: int | None) -> tuple[int, str]:
        """Return the number and the name; the previous number is kept unless another is nearer by a margin."""


def assign(customer: Customer, segments: Segments, now: int) -> tuple[str | None, str, str, dict[str, Any]] | None:
    """Look which segment a customer is in; return before, after, words and facts when it is another.

    Nobody changes twice within a day.
    """
    row = segment_row(customer, now)
    known = customer.get("segment")
    is_same_model = known is not None and (known["version"] > 0) == (segments.version > 0)
    number, name = segments.segment(row, known["k"] if known is not None and is_same_model else None)
    if known is None:
        customer["segment"] = {"k": number, "name": name, "since": now, "version": segments.version, "looks": 0}
        return None, name, "first assigned", _segment_facts(row, segments)
    if name == known["name"]:
        known["k"], known["version"] = number, segments.version
        return None
    if is_same_model and now - known["since"] < DWELL:
        return None
    text = "the segment has another name now" if is_same_model and number == known["k"] else "behaves otherwise now"
    before: str = known["name"]
    known |= {"k": number, "name": name, "since": now, "version": segments.version}
    return before, name, text, _segment_facts(row, segments)


def _segment_facts(row: list[float], segments: Segments) -> dict[str, Any]:
    return {"segments.version": segments.version} | dict(zip(SCHEMAS["segments/1"], row, strict=True))


def look_again(customer: Customer, now: int, looks: int) -> None:
    """Set the next look at the segment of a customer of whom nothing more may be heard: after 1, 7, 28 and 90 days.

    Sums that halve in 30 and 90 days change ever more slowly.
    """
    segment = customer["segment"]
    segment["looks"] = looks
    timers = customer["timers"]
    if looks >= len(LOOKS):
        timers.pop(SEGMENT, None)
    elif looks > 0:
        timers[SEGMENT] = now + LOOKS[looks] - LOOKS[looks - 1]
    elif timers.get(SEGMENT, GREATEST) > now + LOOKS[0]:
        timers[SEGMENT] = now + LOOKS[0]


def is_observed(customer: Customer) -> bool:
    """Tell whether the event just folded is one of the eighth that segments learn from, by the hash of its id."""
    remembered: str = customer["ids"][0]
    return remembered[-SEEN_ID_LENGTH] in _EIGHTH


_EIGHTH: Final = "AIQYgow4"  # the characters of base64 whose six bits are a multiple of eight

__all__ = [
    "LABEL", "LOOKS", "SCORE", "SEGMENT", "VISIT", "assign", "basket_of", "churn_row", "intent_row", "is_counted",
    "is_observed", "is_scored", "labels", "look_again", "major", "on_order", "on_visit", "on_worth", "profile_at",
    "rounded", "segment_row", "tastes", "value_row", "visit_labels", "wait", "wait_for_visit", "worth",
]  # fmt: skip
