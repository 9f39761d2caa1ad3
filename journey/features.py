"""Named numbers read from a customer, and the document other programs see.

``CATALOGUE`` is the promise: what each means, its unit and range, and what a
late or out-of-order event does to it. ``docs/features.md`` is made from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from journey.aggregates import (
    cart_lines,
    cart_value,
    decayed,
    net_orders,
    order_gap,
)
from journey.events import DAY
from journey.models.base import rounded
from journey.state import Customer

ANY_ORDER: Final = "any order gives the same"
LAST_BITS: Final = "any order gives the same after rounding (a sum of floats)"
Value = float | int | str | None


class Feature(NamedTuple):
    """One named number: how it is read, its unit, its range, and its order law."""

    read: Callable[[Customer, int], Value]
    unit: str
    range: str
    order: str
    meaning: str


def _days_since(moment: int | None, now: int) -> float | None:
    return None if moment is None else rounded(max(0, now - moment) / DAY)


def _count(customer: Customer, prefix: str) -> int:
    return sum(number for name, number in customer.get("counts", {}).items() if name.startswith(prefix))


def _session(customer: Customer, name: str) -> int:
    return int(customer.get("session", {}).get(name, 0))


def _currency(customer: Customer) -> str | None:
    """Return the currency most was spent in; by name where equal."""
    revenue: dict[str, int] = customer.get("orders", {}).get("revenue", {})
    return min(revenue, key=lambda code: (-revenue[code], code)) if revenue else None


def _revenue(customer: Customer) -> int | None:
    currency = _currency(customer)
    if currency is None:
        return None
    orders = customer["orders"]
    return int(orders["revenue"][currency] - orders["refunds"].get(currency, 0))


def _mean_order(customer: Customer) -> float | None:
    revenue, orders = _revenue(customer), customer.get("orders")
    if revenue is None or orders is None or orders["completed"] <= orders["cancelled"]:
        return None
    return rounded(revenue / (orders["completed"] - orders["cancelled"]))


def _overdue(customer: Customer, now: int) -> float | None:
    gap = order_gap(customer)
    if gap is None:
        return None
    return rounded(min(8.0, max(0, now - customer["orders"]["last"]) / DAY / (gap + 1.0)))


SESSION_ORDER: Final = (
    "any order of events at most 30 minutes apart; one from before the current session, which came later, starts no "
    "session of its own"
)
CART_ORDER: Final = (
    "any order, also around orders and whole-cart updates, as long as not five later changes of its line overtake an "
    "event; carts with ids come one after another"
)
BOOK_ORDER: Final = (
    "any order for the customer's newest 16 orders; a change of an older one is not known to belong to it; of an order "
    "completed twice the message that came first counts"
)
BOOK_LAST_BITS: Final = f"{BOOK_ORDER}; after rounding (a sum of floats)"

CATALOGUE: Final[dict[str, Feature]] = {
    "events.count": Feature(
        lambda c, _: _count(c, ""), "events", ">= 0", ANY_ORDER, "accepted events, repeats left out"
    ),
    "clicks.count": Feature(lambda c, _: _count(c, "click."), "events", ">= 0", ANY_ORDER, "clicks and views"),
    "carts.count": Feature(lambda c, _: _count(c, "cart."), "events", ">= 0", ANY_ORDER, "cart and checkout events"),
    "first_seen.days": Feature(
        lambda c, now: _days_since(c.get("first"), now), "days", ">= 0", ANY_ORDER, "since the earliest event happened"
    ),
    "recency.days": Feature(
        lambda c, now: _days_since(c.get("last"), now), "days", ">= 0", ANY_ORDER, "since the latest event happened"
    ),
    "activity.clicks_30d": Feature(
        lambda c, now: rounded(decayed(c, "click_30d", 30, now)), "events", ">= 0", LAST_BITS,
        "clicks, each halving in 30 days",
    ),
    "activity.carts_30d": Feature(
        lambda c, now: rounded(decayed(c, "cart_30d", 30, now)), "events", ">= 0", LAST_BITS,
        "cart events, each halving in 30 days",
    ),
    "session.count": Feature(
        lambda c, _: _session(c, "count"), "sessions", ">= 0", SESSION_ORDER,
        "visits; one ends with over 30 minutes of silence",
    ),
    "session.events": Feature(
        lambda c, _: _session(c, "events"), "events", ">= 0", SESSION_ORDER, "of the last visit"
    ),
    "session.views": Feature(
        lambda c, _: _session(c, "views"), "views", ">= 0", SESSION_ORDER, "product views of the last visit"
    ),
    "cart.lines": Feature(
        lambda c, _: len(cart_lines(c)), "items", "0..50", CART_ORDER, "different items in the cart"
    ),
    "cart.value_minor": Feature(
        lambda c, _: cart_value(c), "minor units", "0..2^53", CART_ORDER,
        "worth of the cart; null when a price is unknown",
    ),
    "orders.count": Feature(
        lambda c, _: net_orders(c), "orders", ">= 0", BOOK_ORDER, "completed less cancelled and fully refunded"
    ),
    "orders.recency_days": Feature(
        lambda c, now: _days_since(c.get("orders", {}).get("last"), now), "days", ">= 0", BOOK_ORDER,
        "RFM recency: since the last completed order",
    ),
    "orders.gap_days": Feature(
        lambda c, _: None if (gap := order_gap(c)) is None else rounded(gap), "days", ">= 0", BOOK_ORDER,
        "mean days between orders; null below two",
    ),
    "orders.overdue": Feature(
        lambda c, now: _overdue(c, now), "own gaps", "0..8", BOOK_ORDER, "recency over the customer's own gap + 1 day"
    ),
    "orders.frequency_30d": Feature(
        lambda c, now: rounded(decayed(c, "orders_30d", 30, now)), "orders", ">= 0", BOOK_LAST_BITS,
        "orders not cancelled, each halving in 30 days",
    ),
    "orders.frequency_90d": Feature(
        lambda c, now: rounded(decayed(c, "orders_90d", 90, now)), "orders", ">= 0", BOOK_LAST_BITS,
        "RFM frequency: orders not cancelled, each halving in 90 days",
    ),
    "orders.revenue_minor": Feature(
        lambda c, _: _revenue(c), "minor units", "any", BOOK_ORDER,
        "RFM monetary: revenue less refunds, in orders.currency",
    ),
    "orders.currency": Feature(lambda c, _: _currency(c), "ISO 4217", "a code", BOOK_ORDER, "that most was spent in"),
    "orders.mean_minor": Feature(
        lambda c, _: _mean_order(c), "minor units", "any", BOOK_ORDER, "mean revenue of an order"
    ),
}  # fmt: skip


def features(customer: Customer, now: int) -> dict[str, Value]:
    """Return every feature of the catalogue at a moment (ms since 1970); None is "no data"."""
    return {name: feature.read(customer, now) for name, feature in CATALOGUE.items()}
