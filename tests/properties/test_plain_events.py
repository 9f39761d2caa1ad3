"""The short way in gives what the long way gives, or leaves the event to it."""

from __future__ import annotations

from typing import Any, Final

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.events import CLASS_OF, CLASSES
from streams.arrivals import load, plain_entries
from streams.plain import EVENT_BYTES, plain
from streams.records import _told_apart
from streams.shapes import ADAPTERS
from tests.factories import NOON, Json, Raw
from tests.properties.test_raw_events import altered_events

often = settings(max_examples=400, deadline=None)

texts: Final = st.sampled_from(("", "x", "null", "EUR", "eur", "EU", "ÄÖÜ", "granted", "x" * 101, "x" * 129, "x" * 256))
numbers: Final = st.sampled_from((0, 1, -1, 2**53 - 1, 2**53, -(2**53), 1.5, True, False, None))
flat: Final = st.dictionaries(st.sampled_from(("item_id", "name", "a", "")), texts | numbers, max_size=3)
parts: Final = texts | numbers | flat | st.lists(flat | texts, max_size=2) | st.dictionaries(texts, flat, max_size=1)
FIELDS: Final = (
    "item", "items", "query", "name", "list_id", "category", "text", "promotion", "rating", "currency", "value_minor",
    "revenue_minor", "extra", "cart_id", "checkout_id", "order_id", "step", "coupon", "unknown", "",
)  # fmt: skip
items: Final = st.fixed_dictionaries(
    {"item_id": st.just("p-1")},
    optional={
        "unit_price_minor": numbers, "quantity": numbers, "position": numbers, "name": texts, "coupon": parts,
        "colour": parts,
    },
)  # fmt: skip
good: Final = {
    "item": items, "items": st.lists(items, max_size=2), "order_id": st.just("o-1"), "cart_id": st.just("c-1"),
    "query": st.just("mug"), "name": st.just("/"), "currency": st.just("EUR"), "revenue_minor": st.just(5),
}  # fmt: skip
datas: Final = st.fixed_dictionaries(
    {}, optional={name: good[name] | parts if name in good else parts for name in FIELDS}
) | st.fixed_dictionaries({}, optional=good)
contexts: Final = st.fixed_dictionaries(
    {},
    optional={
        "locale": texts, "session_id": parts, "campaign": parts, "page": parts, "user_agent": texts,
        "consent": st.dictionaries(texts, st.sampled_from(("granted", "denied", "", "maybe")), max_size=2),
    },
)  # fmt: skip
written: Final = st.fixed_dictionaries(
    {
        "type": st.sampled_from(sorted(CLASS_OF)), "occurred_at": st.just("2026-06-01T12:00:00.000Z"),
        "data": datas,
    },
    optional={
        "user_id": texts, "anonymous_id": st.sampled_from(("9f3c", "guest")), "message_id": texts, "source": parts,
        "context": contexts, "historical": numbers, "v": numbers, "sent_at": texts, "other": parts,
    },
)  # fmt: skip


def _long_way(cls: str, value: bytes) -> Json:
    (event,) = ADAPTERS[cls].validate_python([load(value)])
    return dict(event)


@often
@given(st.sampled_from(CLASSES), written.map(orjson.dumps) | altered_events())
def test_what_is_plain_is_valid_and_the_same_by_the_long_way(cls: str, value: bytes) -> None:
    if len(value) > EVENT_BYTES:
        return
    event: Any = orjson.loads(value)
    type_ = event.get("type") if isinstance(event, dict) else None
    cls = CLASS_OF.get(type_, cls) if isinstance(type_, str) else cls
    short = plain(cls, event)
    if short is not None:
        assert short == _long_way(cls, value)
    record = Raw(value, f"events.{cls}", 0, timestamp=NOON)
    (one,) = plain_entries(cls, [record], 4)
    (other,) = _told_apart(cls, [record], 4)
    if one is not None:
        assert (one.at, one.dead_letter) == (other.at, None)
        assert [(number, orjson.loads(entry)) for number, entry in one.entries] == [
            (number, orjson.loads(entry)) for number, entry in other.entries
        ]


def test_the_events_of_a_shop_are_plain() -> None:
    item = {"item_id": "p-1", "unit_price_minor": 1250, "category": "mugs", "colour": "blue"}
    context = {"locale": "en-GB", "page": {"url": "https://shop.example/", "title": None}, "user_agent": "x"}
    shown = {"name": "/", "items": [item, item], "currency": "EUR"}
    for type_, data in (
        ("click.product_viewed", {"item": item}), ("click.page_viewed", shown), ("cart.cart_updated", shown),
        ("purchase.order_completed", {"order_id": "o-1", "revenue_minor": 2500, "items": [item]}),
    ):  # fmt: skip
        event = {
            "type": type_, "message_id": "m-1", "user_id": "42", "occurred_at": "2026-06-01T12:00:00.000Z",
            "context": context, "data": data, "historical": True,
        }  # fmt: skip
        cls, value = type_.partition(".")[0], orjson.dumps(event)
        short = plain(cls, orjson.loads(value))
        assert short == _long_way(cls, value)
        assert short is not None
        assert short["context"] == {"locale": "en-GB"}
