"""What the feature catalogue promises about late and out-of-order events, feature by feature."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journey import features
from journey.aggregates import cart_lines, decayed
from journey.entries import Entry
from journey.events import DAY, HOUR, MINUTE, SECOND
from journey.features import CATALOGUE, LAST_BITS
from journey.state import Customer, new_customer, read_customer
from tests.factories import ACTIONS, NOON, Json, event, fold_at_once, item

quickly = settings(max_examples=100, deadline=None)

Happened = tuple[int, str, Json]  # when (ms after noon), what, with which data
READ_AT = NOON + 400 * DAY


def customer_of(happened: list[Happened]) -> Customer:
    """Return a customer of whom we heard this, in this order."""
    entries: list[Entry] = []
    for number, (after, type_, data) in enumerate(happened):
        src = ["events." + type_.partition(".")[0], 0, number]
        entries.append(event(type_, NOON + 300 * DAY + number, oc=NOON + after, data=data, src=src))
    records, _ = fold_at_once([entries])
    return read_customer(records[b"u:1"]) if happened else new_customer("u:1", NOON)


def any_events() -> st.SearchStrategy[list[Happened]]:
    one = st.sampled_from(sorted(ACTIONS)).flatmap(
        lambda type_: st.tuples(
            st.integers(0, 90 * DAY), st.just(type_), st.integers(0, 3).map(lambda n: ACTIONS[type_](n))
        )
    )
    return st.lists(one, max_size=25)


@st.composite
def orders(draw: st.DrawFn) -> list[Happened]:
    """Return what happened to at most 16 orders, each completed at one moment (and maybe told again)."""
    happened: list[Happened] = []
    for number in range(draw(st.integers(0, 6))):
        name: Json = {"order_id": f"o-{number}"}
        money = st.integers(0, 5).map(lambda n: {"revenue_minor": 500 * n, "currency": "EUR"} if n else {})
        completed = draw(st.integers(0, 90 * DAY))
        told = draw(st.lists(money, max_size=2))
        happened += [(completed, "purchase.order_completed", name | amount) for amount in told]
        for kind in draw(st.lists(st.sampled_from(("updated", "refunded", "cancelled")), max_size=4)):
            refund = draw(st.integers(0, 3).map(lambda n: {"refund_minor": 400 * n} if n else {}))
            data = name | (draw(money) if kind == "updated" else refund if kind == "refunded" else {})
            happened.append((completed + draw(st.integers(-5, 5)), f"purchase.order_{kind}", data))
    return happened


@st.composite
def carts(draw: st.DrawFn) -> list[Happened]:
    """Return at most four changes of each line, between orders and whole-cart updates."""
    moments = iter(draw(st.permutations(range(30))))
    name: Json = draw(st.sampled_from(({}, {"cart_id": "c-1"})))
    happened: list[Happened] = []
    for line in ("p-1", "p-2"):
        for added in draw(st.lists(st.booleans(), max_size=4)):
            price, quantity = draw(st.none() | st.integers(1, 9)), draw(st.integers(1, 3))
            data = name | {"item": item(line, price, quantity)}
            happened.append((next(moments) * HOUR, f"cart.product_{'added' if added else 'removed'}", data))
    ordered = range(draw(st.integers(0, 2)))
    happened += [(next(moments) * HOUR, "purchase.order_completed", {"order_id": f"o-{number}"}) for number in ordered]
    for _ in range(draw(st.integers(0, 1))):
        items = [item("p-1", 7, 2), item("p-3", None, draw(st.integers(0, 2)))]
        happened.append((next(moments) * HOUR, "cart.cart_updated", name | {"items": items}))
    return happened


@st.composite
def visits(draw: st.DrawFn) -> tuple[list[Happened], list[Happened]]:
    """Return visits of half an hour at most, the events of each in two orders."""
    first: list[Happened] = []
    second: list[Happened] = []
    for day in range(draw(st.integers(1, 4))):
        moments = draw(st.lists(st.integers(0, 30 * MINUTE // SECOND), min_size=1, max_size=6))
        what = st.sampled_from(("click.product_viewed", "click.page_viewed", "cart.cart_viewed"))
        visit = [(day * DAY + moment * SECOND, type_, data_of(type_)) for moment in moments for type_ in [draw(what)]]
        first += visit
        second += draw(st.permutations(visit))
    return first, second


def data_of(type_: str) -> Json:
    return {"item": item()} if type_ == "click.product_viewed" else {}


@st.composite
def _two_orders(draw: st.DrawFn, of: st.SearchStrategy[list[Happened]]) -> tuple[list[Happened], list[Happened]]:
    happened = draw(of)
    return happened, draw(st.permutations(happened))


# the order law of a feature -> the histories within its bounds, each in two orders
WITHIN: dict[str, st.SearchStrategy[tuple[list[Happened], list[Happened]]]] = {
    features.ANY_ORDER: _two_orders(any_events()),
    features.LAST_BITS: _two_orders(any_events()),
    features.SESSION_ORDER: visits(),
    features.CART_ORDER: _two_orders(carts()),
    features.BOOK_ORDER: _two_orders(orders()),
    features.BOOK_LAST_BITS: _two_orders(orders()),
}


@pytest.mark.parametrize("law", sorted(WITHIN))
def test_features_are_the_same_in_every_order_that_their_law_names(law: str) -> None:
    read = {name: feature.read for name, feature in CATALOGUE.items() if feature.order == law}
    # a sum of floats may fall on the other side of the rounding to four decimals
    close = 1.01e-4 if law in (LAST_BITS, features.BOOK_LAST_BITS) else 0.0

    @quickly
    @given(WITHIN[law])
    def holds(orders: tuple[list[Happened], list[Happened]]) -> None:
        customers = [customer_of(happened) for happened in orders]
        one, other = ({name: reads(customer, READ_AT) for name, reads in read.items()} for customer in customers)
        assert one == (pytest.approx(other, rel=0, abs=close) if close else other)

    holds()


@quickly
@given(_two_orders(any_events()))
def test_decayed_sums_differ_in_their_last_bits_only(orders: tuple[list[Happened], list[Happened]]) -> None:
    one, other = (customer_of(happened) for happened in orders)
    for name in ("click_30d", "cart_30d"):
        assert decayed(one, name, 30, READ_AT) == pytest.approx(decayed(other, name, 30, READ_AT), rel=1e-9)


def _by_time(happened: list[Happened]) -> list[Happened]:
    return sorted(happened, key=lambda one: one[0])


@quickly
@given(carts())
def test_a_cart_is_what_a_shop_would_say_it_is(happened: list[Happened]) -> None:
    cart: dict[str, int] = {}
    for _, type_, data in _by_time(happened):
        if type_ == "purchase.order_completed":
            cart.clear()
        elif type_ == "cart.cart_updated":
            cart = {one["item_id"]: one["quantity"] for one in data["items"]}
        else:
            name, sign = data["item"]["item_id"], 1 if type_.endswith("added") else -1
            cart[name] = max(0, cart.get(name, 0) + sign * data["item"]["quantity"])
    folded = customer_of(_by_time(happened))
    lines = {name: quantity for name, quantity, _ in cart_lines(folded)}
    assert lines == {name: quantity for name, quantity in cart.items() if quantity}


def test_every_order_law_of_the_catalogue_is_tested() -> None:
    assert {feature.order for feature in CATALOGUE.values()} == set(WITHIN)
