from __future__ import annotations

from base64 import b32encode
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journey.events import CLASS_OF, DAY, LATE_AFTER, TYPES, YEAR_2000, YEAR_2100, is_late, occurred_at
from journey.ids import SEEN_ID_LENGTH, customer_key, derive, is_blocked, route, seen_id
from journey.positions import entry_position, is_news, source_name
from journey.triggers import rfc3339, run_id, trigger_id, who


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_an_id_is_blake2b_in_base32_as_the_contract_says(parts: list[str]) -> None:
    digest = blake2b("\x1f".join(parts).encode(), digest_size=16).digest()
    assert derive(*parts) == b32encode(digest).decode().rstrip("=").lower()
    assert len(derive(*parts)) == 26


def test_the_ids_of_the_contract_come_out() -> None:
    run = run_id("a:9f3c", "abandoned_cart", "c-77", "m-2")
    assert run == "jr_msuoex7ewyrmwrr7e5qdtvgkuq"
    assert trigger_id(run, "first.social") == "tr_bt2vnfybeqtthfhoi6jxgl2dma"


@given(st.text(max_size=100))
def test_a_message_id_is_remembered_in_eleven_characters(message_id: str) -> None:
    assert len(seen_id(message_id)) == SEEN_ID_LENGTH == 11
    assert "," not in seen_id(message_id)


def test_a_user_id_wins_over_an_anonymous_id() -> None:
    assert customer_key("42", "9f3c") == "u:42"
    assert customer_key("", "9f3c") == "a:9f3c"
    assert customer_key(None, None) is None
    assert who("u:42") == {"user_id": "42"}
    assert who("a:9f3c") == {"anonymous_id": "9f3c"}


@pytest.mark.parametrize("value", ["null", "NULL", " guest ", "0", "-1", "[object Object]", "", "   ", "None", "NaN"])
def test_what_programs_write_when_they_have_no_id_is_no_id(value: str) -> None:
    assert is_blocked(value)


@pytest.mark.parametrize("value", ["00", "nil", "42", "anonymous-9", "-10"])
def test_other_values_are_ids(value: str) -> None:
    assert not is_blocked(value)


def test_the_partition_of_a_key_is_its_crc() -> None:
    assert route("u:42", 8) == crc32(b"u:42") % 8
    assert route("a:日本", 1) == 0


@given(st.integers(0, YEAR_2100 - 1))
def test_times_are_rfc_3339_in_milliseconds(ms: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    assert rfc3339(ms) == moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TestWhenItHappened:
    def test_without_the_time_of_sending_the_client_is_believed(self) -> None:
        assert occurred_at(client_time=1000, sent_at=None, received_at=9000) == 1000

    def test_the_skew_of_the_clients_clock_is_taken_out(self) -> None:
        assert occurred_at(client_time=1000, sent_at=1500, received_at=9000) == 8500
        assert occurred_at(client_time=91_000, sent_at=91_500, received_at=9000) == 8500

    def test_nothing_happens_in_the_future(self) -> None:
        assert occurred_at(client_time=9001, sent_at=None, received_at=9000) == 9000
        assert occurred_at(client_time=9002, sent_at=9001, received_at=9000) == 9000

    def test_exactly_a_day_is_not_late_a_millisecond_more_is(self) -> None:
        assert LATE_AFTER == DAY
        assert not is_late(0, DAY)
        assert is_late(0, DAY + 1)


def test_every_type_belongs_to_one_class() -> None:
    assert len(CLASS_OF) == sum(len(names) for names in TYPES.values())
    assert CLASS_OF["cart.product_added"] == "cart"


def test_the_years_that_bound_all_times() -> None:
    assert datetime.fromtimestamp(YEAR_2000 / 1000, UTC) == datetime(2000, 1, 1, tzinfo=UTC)
    assert datetime.fromtimestamp(YEAR_2100 / 1000, UTC) == datetime(2100, 1, 1, tzinfo=UTC)


def test_a_record_is_news_only_above_the_highest_applied_of_its_source() -> None:
    applied = {source_name("events.cart", 3): 7}
    assert is_news(applied, "events.cart/3", 8)
    assert not is_news(applied, "events.cart/3", 7)
    assert is_news(applied, "events.cart/4", 0)


def test_the_position_of_an_entry_is_its_page_times_4096_and_its_place() -> None:
    assert entry_position(0, 0) == 0
    assert entry_position(1021, 297) == 4_182_313
    assert entry_position(7, 999) < entry_position(8, 0)
