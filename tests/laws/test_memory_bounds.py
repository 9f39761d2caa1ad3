"""What is remembered of a customer stays small, whatever they do and however long."""

from __future__ import annotations

import pytest

from journey import aggregates as agg
from journey.entries import Entry, encode
from journey.events import DAY, HOUR
from journey.ids import SEEN_ID_LENGTH
from journey.journeys import MOST_ENDED
from journey.state import Customer, read_customer
from tests.factories import NOON, cut, event, fold_at_once, item, long_history

# of a customer who does everything, with ids of a few characters
RECORD_BYTES = 16_384
# of one whose every id, name and text is as long as it may be
WORST_RECORD_BYTES = 131_072


def customer_after(history: list[Entry]) -> tuple[Customer, int]:
    records, _ = fold_at_once(cut(history, [500]))
    return read_customer(records[b"u:1"]), len(records[b"u:1"])


@pytest.mark.parametrize("number", [1, 2])
def test_after_five_thousand_events_a_record_has_less_than_16_kilobytes(number: int) -> None:
    customer, size = customer_after(long_history(5000, number))
    assert sum(customer["counts"].values()) > 3000
    assert 4_000 < size < RECORD_BYTES
    assert len(customer["items"]) <= agg.MOST_ITEMS
    assert len(customer["categories"]) <= agg.MOST_CATEGORIES
    assert len(customer["cart"]["lines"]) <= agg.MOST_LINES
    assert max(len(line) for line in customer["cart"]["lines"].values()) <= 2 + agg.MOST_CHANGES
    assert len(customer["orders"]["book"]) == agg.MOST_ORDERS
    assert len(customer["session"]["starts"]) <= agg.MOST_STARTS
    assert len(customer["consent"]) <= agg.MOST_SCOPES
    assert len(customer["ended_runs"]) <= MOST_ENDED
    assert len(customer.get("use_days", ())) <= 3
    assert len(customer["ids"][0]) <= agg.MOST_REMEMBERED * SEEN_ID_LENGTH
    assert len(customer["timers"]) <= 6
    assert len(customer["profile"]) <= 64
    assert len(customer.get("waiting", ())) <= 5
    assert len(customer.get("visit", ())) <= 3


def test_five_thousand_more_add_nothing_to_speak_of() -> None:
    history = long_history(10_000, 1)
    _, size = customer_after(history[:5000])
    _, later = customer_after(history)
    assert later < size * 1.2


def test_the_longest_ids_names_and_texts_do_not_make_a_record_that_fits_into_no_batch() -> None:
    history: list[Entry] = []

    def happens(type_: str, number: int, data: dict[str, object]) -> None:
        src = ["events." + type_.partition(".")[0], 0, len(history)]
        moment = NOON + len(history) * HOUR // 600
        history.append(event(type_, moment, src=src, data=data, anonymous_id=f"{number:0255d}"))

    for number in range(600):
        thing = item(f"{number:0128d}", 10**15, 10**15, f"{number:02048d}")
        happens("click.product_viewed", number, {"item": thing})
        happens("cart.product_added", number, {"item": thing, "cart_id": f"{number // 500:0255d}"})
        happens("purchase.order_updated", number, {"order_id": f"{number:0255d}", "revenue_minor": 10**15})
        happens("profile.consent", number, {"scopes": {f"{number:0255d}": "granted"}})
        happens("profile.identify", number, {"traits": {f"{number:0100d}": "x" * 2048}})
    customer, size = customer_after(history)
    assert len(customer["cart"]["lines"]) == agg.MOST_LINES
    assert len(customer["anonymous_ids"]) == agg.MOST_ANONYMOUS_IDS
    assert len(encode(customer["traits"])) <= agg.MOST_TRAIT_BYTES
    assert RECORD_BYTES < size < WORST_RECORD_BYTES


def test_a_customer_who_comes_daily_for_years_is_no_larger_than_one_who_came_for_months() -> None:
    def days(count: int) -> list[Entry]:
        visits = (
            event(
                "click.product_viewed", NOON + day * DAY, data={"item": item(f"p-{day}")}, src=["events.click", 0, day]
            )
            for day in range(count)
        )
        return list(visits)

    _, months = customer_after(days(90))
    _, years = customer_after(days(3000))
    assert years < months + 100
