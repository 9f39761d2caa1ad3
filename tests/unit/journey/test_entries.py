from __future__ import annotations

import orjson

from journey.entries import PAGE_BYTES, PAGE_ENTRIES, encode, read_page
from tests.factories import NOON, encoded_pages, event, item, tick
from tests.schemas.catalogue import validator


def test_no_entries_make_no_page() -> None:
    assert list(encoded_pages([])) == []


def test_a_thousand_entries_are_one_page_and_one_more_begins_the_next() -> None:
    entries = [tick(NOON + number) for number in range(PAGE_ENTRIES + 1)]
    assert [len(read_page(page)) for page in encoded_pages(entries)] == [1000, 1]


def test_a_page_ends_before_its_bytes_are_too_many() -> None:
    entries = [event("click.custom", data={"name": "x" * 2000}) for _ in range(600)]
    cuts = list(encoded_pages(entries))
    assert [len(read_page(page)) for page in cuts] == [243, 243, 114]
    assert max(map(len, cuts)) <= PAGE_BYTES


def test_an_entry_that_is_larger_than_a_page_may_be_is_not_cut() -> None:
    (page,) = encoded_pages([event("click.custom", data={"name": "x" * 100})], most_bytes=50)
    assert len(read_page(page)) == 1


def test_a_page_fits_its_schema() -> None:
    entries = [event("cart.product_added", data={"item": item(price=5)}, anonymous_id="9f3c"), tick(NOON)]
    (page,) = encoded_pages(entries)
    validator("journey.page.v1").validate(orjson.loads(page))


def test_the_order_of_members_does_not_matter_for_canonical_bytes() -> None:
    assert encode({"b": 1, "a": [{"d": 2.0, "c": None}]}) == b'{"a":[{"c":null,"d":2.0}],"b":1}'
