from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pytest

from journey.ids import derive
from streams.errors import FileFormatError
from streams.files import COLUMNS, read_events, utc_ms
from streams.raw import RawRecord

HEADER = ",".join(COLUMNS)
NOON = "2026-06-01T12:00:00Z"
NOON_MS = utc_ms(NOON)


def csv_file(folder: Path, *rows: str, name: str = "events.csv") -> Path:
    path = folder / name
    path.write_text("\n".join((HEADER, *rows)) + "\n", encoding="utf-8")
    return path


def lines_file(folder: Path, *events: dict[str, Any] | bytes, name: str = "events.jsonl") -> Path:
    path = folder / name
    path.write_bytes(b"".join((line if isinstance(line, bytes) else orjson.dumps(line)) + b"\n" for line in events))
    return path


def body(record: RawRecord) -> dict[str, Any]:
    event = orjson.loads(record.value)
    assert isinstance(event, dict)
    return event


def only(path: Path, **options: Any) -> dict[str, Any]:
    (record,) = read_events(path, **options)
    return body(record)


def letter(record: RawRecord) -> dict[str, Any]:
    event = body(record)
    assert event["type"] == "file.row"
    assert isinstance(event["data"], dict)
    return event["data"]


class TestRows:
    def test_a_click_is_a_product_view_of_the_known_customer(self, tmp_path: Path) -> None:
        path = csv_file(tmp_path, f"{NOON},42,click,p-9,shoes,,1,")
        (record,) = read_events(path)
        file_hash = hashlib.sha256(path.read_bytes()).hexdigest()
        assert (record.topic, record.key, record.at) == ("events.click", b"u:42", NOON_MS)
        assert body(record) == {
            "type": "click.product_viewed",
            "message_id": derive(file_hash, "1"),
            "user_id": "42",
            "occurred_at": "2026-06-01T12:00:00.000Z",
            "received_at": "2026-06-01T12:00:00.000Z",
            "data": {"item": {"item_id": "p-9", "category": "shoes"}},
        }

    @pytest.mark.parametrize(
        ("kind", "topic", "event_type"),
        [
            ("click", "events.click", "click.product_viewed"),
            ("cart", "events.cart", "cart.product_added"),
            ("fav", "events.click", "click.product_added_to_wishlist"),
            ("purchase", "events.purchase", "purchase.order_completed"),
        ],
    )
    def test_types(self, tmp_path: Path, kind: str, topic: str, event_type: str) -> None:
        (record,) = read_events(csv_file(tmp_path, f"{NOON},42,{kind},p-9,,,,"))
        assert (record.topic, body(record)["type"]) == (topic, event_type)

    def test_other_types_are_skipped_and_counted_by_their_name(self, tmp_path: Path) -> None:
        skipped: Counter[str] = Counter()
        path = csv_file(
            tmp_path, f"{NOON},1,visit,,,,,", f"{NOON},2,visit,,,,,", f"{NOON},1,coupon,,,,,", f"{NOON},1,click,p,,,,"
        )
        assert len(list(read_events(path, skipped=skipped))) == 1
        assert skipped == {"visit": 2, "coupon": 1}

    def test_the_value_of_a_cart_line_is_split_into_the_price_of_one_piece(self, tmp_path: Path) -> None:
        event = only(csv_file(tmp_path, f"{NOON},42,cart,p-9,,30.00,4,"), currency="EUR")
        assert event["data"] == {
            "item": {"item_id": "p-9", "quantity": 4, "unit_price_minor": 750},
            "currency": "EUR",
        }

    def test_unmapped_properties_are_kept(self, tmp_path: Path) -> None:
        event = only(csv_file(tmp_path, NOON + ',42,click,p-9,,,,"{""colour"": ""größe""}"'))
        assert event["data"]["extra"] == {"colour": "größe"}

    def test_columns_may_stand_in_another_order_beside_others(self, tmp_path: Path) -> None:
        path = tmp_path / "events.csv"
        path.write_text(
            f"\ufeffextra,store,quantity,value,category,item_id,type,customer_id,ts\n,7,1,,,p-9,click,42,{NOON}\n"
        )
        assert only(path)["data"] == {"item": {"item_id": "p-9"}}

    @pytest.mark.parametrize("ts", ["2026-06-01T12:00:00Z", "2026-06-01 14:00:00+02:00", "2026-06-01T12:00:00.000"])
    def test_times_of_any_zone_are_told_in_utc(self, tmp_path: Path, ts: str) -> None:
        assert only(csv_file(tmp_path, f"{ts},42,click,p-9,,,,"))["occurred_at"] == "2026-06-01T12:00:00.000Z"

    @pytest.mark.parametrize("shift", [timedelta(days=365), 365 * 86_400_000])
    def test_a_shift_moves_times_but_no_ids(self, tmp_path: Path, shift: timedelta | int) -> None:
        path = csv_file(tmp_path, f"{NOON},42,click,p-9,,,,", f"{NOON},42,purchase,p-9,,,,")
        plain = [body(record) for record in read_events(path)]
        moved = list(read_events(path, shift=shift))
        for before, after in zip(plain, map(body, moved), strict=True):
            assert after.pop("occurred_at") == after.pop("received_at") == "2027-06-01T12:00:00.000Z"
            assert after == {
                name: value for name, value in before.items() if name not in {"occurred_at", "received_at"}
            }
        assert {record.at for record in moved} == {utc_ms("2027-06-01T12:00:00Z")}

    def test_a_shift_by_a_second_is_exact(self, tmp_path: Path) -> None:
        path = csv_file(tmp_path, "2026-06-01T12:00:59Z,1,click,p,,,,", "2026-06-01T12:00:58Z,1,click,p,,,,")
        times = [body(record)["occurred_at"] for record in read_events(path, shift=1500)]
        assert times == ["2026-06-01T12:01:00.500Z", "2026-06-01T12:00:59.500Z"]

    def test_rows_of_one_minute_keep_their_seconds(self, tmp_path: Path) -> None:
        texts = ["2026-06-01T12:00:00Z", "2026-06-01T12:00:59Z", "20260601T120030.000Z", "20260601T120030.059Z"]
        path = csv_file(tmp_path, *(f"{ts},1,click,p,,,," for ts in texts))
        assert [utc_ms(body(record)["occurred_at"]) for record in read_events(path)] == [utc_ms(ts) for ts in texts]

    def test_history_is_marked(self, tmp_path: Path) -> None:
        path = csv_file(tmp_path, f"{NOON},42,click,p-9,,,,", f"{NOON},42,purchase,p-9,,,,")
        assert [body(record)["historical"] for record in read_events(path, historical=True)] == [True, True]

    def test_time_never_goes_back(self, tmp_path: Path) -> None:
        path = csv_file(tmp_path, f"{NOON},1,click,p,,,,", "2026-06-01T11:00:00Z,1,click,p,,,,")
        first, second = read_events(path)
        assert first.at == second.at == NOON_MS
        assert body(second)["occurred_at"] == "2026-06-01T11:00:00.000Z"

    def test_the_same_file_gives_the_same_ids_and_another_file_others(self, tmp_path: Path) -> None:
        row = f"{NOON},42,click,p-9,,,,"
        path = csv_file(tmp_path, row, row)
        ids = [body(record)["message_id"] for record in read_events(path)]
        assert len(set(ids)) == 2
        assert [body(record)["message_id"] for record in read_events(path)] == ids
        other = csv_file(tmp_path, row, row, row, name="other.csv")
        assert not {body(record)["message_id"] for record in read_events(other)} & set(ids)


class TestMoney:
    @pytest.mark.parametrize(
        ("value", "currency", "minor"),
        [
            ("11.77", "EUR", 1177),
            ("0.29", "EUR", 29),
            ("1e2", "EUR", 10_000),
            ("0.125", "EUR", 12),
            ("0.135", "EUR", 14),
            ("0.1250000000000000000000000001", "EUR", 13),
            ("4503599627.49", "EUR", 450_359_962_749),
            ("1250", "JPY", 1250),
            ("1250.5", "JPY", 1250),
            ("1.2345", "KWD", 1234),
            ("1.23456", "CLF", 12346),
            ("11.77", None, 1177),
            ("0.0", "EUR", 0),
        ],
    )
    def test_amounts_are_exact_and_round_half_to_even(
        self, tmp_path: Path, value: str, currency: str | None, minor: int
    ) -> None:
        data = only(csv_file(tmp_path, f"{NOON},42,purchase,p-9,,{value},1,"), currency=currency)["data"]
        assert data["revenue_minor"] == data["items"][0]["unit_price_minor"] == minor
        assert data.get("currency") == currency

    def test_an_order_is_summed_before_it_is_rounded(self, tmp_path: Path) -> None:
        rows = [f"{NOON},42,purchase,p-{n},,0.005,1," for n in range(3)]
        assert only(csv_file(tmp_path, *rows), currency="EUR")["data"]["revenue_minor"] == 2

    def test_noise_of_floats_in_a_file_changes_nothing(self, tmp_path: Path) -> None:
        rows = [f"{NOON},42,purchase,p-1,,1.776357e-15,1,", f"{NOON},42,purchase,p-2,,19.99,1,"]
        assert only(csv_file(tmp_path, *rows), currency="EUR")["data"]["revenue_minor"] == 1999

    def test_an_unknown_value_leaves_the_revenue_unknown(self, tmp_path: Path) -> None:
        data = only(csv_file(tmp_path, f"{NOON},42,purchase,p-9,,,2,"), currency="EUR")["data"]
        assert data["items"] == [{"item_id": "p-9", "quantity": 2}]
        assert not {"revenue_minor", "currency"} & set(data)

    @pytest.mark.parametrize(
        ("quantity", "item"),
        [
            ("", {"unit_price_minor": 1000}),
            ("2.0", {"quantity": 2, "unit_price_minor": 500}),
            ("0.345", {"unit_price_minor": 1000}),  # weighed: one piece
            ("0", {"quantity": 0}),
            ("89638", {"quantity": 89638}),  # petrol by the millilitre: no price below a cent
        ],
    )
    def test_quantities(self, tmp_path: Path, quantity: str, item: dict[str, int]) -> None:
        data = only(csv_file(tmp_path, f"{NOON},42,purchase,p-9,,10.00,{quantity},"), currency="EUR")["data"]
        assert data["items"] == [{"item_id": "p-9"} | item]
        assert data["revenue_minor"] == 1000

    def test_discounts_are_summed_by_their_digits_whatever_their_sign(self, tmp_path: Path) -> None:
        rows = [
            NOON + ',42,purchase,p-1,,5,1,"{""off"": 0.1, ""coupon_off"": -0.2, ""till"": 3}"',
            NOON + ',42,purchase,p-2,,5,1,"{""off"": 0.7}"',
        ]
        data = only(csv_file(tmp_path, *rows), currency="EUR", discounts=["off", "coupon_off"])["data"]
        assert (data["revenue_minor"], data["discount_minor"], data["extra"]) == (1000, 100, {"till": 3})

    def test_a_currency_has_to_be_a_code(self, tmp_path: Path) -> None:
        with pytest.raises(FileFormatError, match="ISO 4217"):
            list(read_events(csv_file(tmp_path), currency="euro"))


class TestOrders:
    def test_lines_of_a_basket_are_one_order_at_the_place_of_the_first(self, tmp_path: Path) -> None:
        path = csv_file(
            tmp_path,
            NOON + ',42,purchase,p-1,milk,1.50,2,"{""basket"":311,""till"":4}"',
            f"{NOON},43,click,p-5,,,,",
            NOON + ',42,purchase,p-2,bread,2.25,1,"{""basket"":311}"',
        )
        order, click = read_events(path, currency="EUR")
        assert body(click)["user_id"] == "43"
        event = body(order)
        assert event["message_id"] == derive(hashlib.sha256(path.read_bytes()).hexdigest(), "1")
        assert event["data"] == {
            "order_id": "311",
            "items": [
                {"item_id": "p-1", "category": "milk", "quantity": 2, "unit_price_minor": 75},
                {"item_id": "p-2", "category": "bread", "unit_price_minor": 225},
            ],
            "revenue_minor": 375,
            "currency": "EUR",
            "extra": {"till": 4},
        }

    def test_a_basket_may_take_an_hour_and_holds_back_what_follows(self, tmp_path: Path) -> None:
        path = csv_file(
            tmp_path,
            NOON + ',42,purchase,p-1,,1,1,"{""basket"":""b""}"',
            "2026-06-01T12:30:00Z,43,click,p-5,,,,",
            '2026-06-01T13:00:00Z,42,purchase,p-2,,1,1,"{""basket"":""b""}"',
            '2026-06-01T13:00:01Z,42,purchase,p-3,,1,1,"{""basket"":""b""}"',
        )
        records = list(read_events(path))
        assert [record.at - NOON_MS for record in records] == [0, 1_800_000, 3_601_000]
        first, _, late = map(body, records)
        assert (first["data"]["revenue_minor"], late["data"]["revenue_minor"]) == (200, 100)
        assert first["data"]["order_id"] == late["data"]["order_id"] == "b"
        assert first["message_id"] != late["message_id"]

    def test_without_basket_a_customer_and_a_time_are_one_order(self, tmp_path: Path) -> None:
        path = csv_file(
            tmp_path,
            f"{NOON},42,purchase,,cd,11.77,1,",
            f"{NOON},43,purchase,,cd,5,1,",
            f"{NOON},42,purchase,,cd,12.00,5,",
            "2026-06-01T12:00:01Z,42,purchase,,cd,1,1,",
        )
        orders = [body(record) for record in read_events(path, currency="USD")]
        assert [(order["user_id"], order["data"]) for order in orders] == [
            ("42", {"order_id": derive("42", NOON), "revenue_minor": 2377, "currency": "USD"}),
            ("43", {"order_id": derive("43", NOON), "revenue_minor": 500, "currency": "USD"}),
            (
                "42",
                {"order_id": derive("42", "2026-06-01T12:00:01Z"), "revenue_minor": 100, "currency": "USD"},
            ),
        ]

    def test_two_baskets_at_one_time_are_two_orders(self, tmp_path: Path) -> None:
        rows = [NOON + f',42,purchase,p,,1,1,"{{""basket"":{basket}}}"' for basket in (1, 2, 1)]
        data = [body(record)["data"] for record in read_events(csv_file(tmp_path, *rows))]
        assert [(order["order_id"], order["revenue_minor"]) for order in data] == [("1", 200), ("2", 100)]

    def test_a_bad_line_costs_its_order_only_that_line(self, tmp_path: Path) -> None:
        rows = [NOON + f',42,purchase,p,,{value},1,"{{""basket"":1}}"' for value in ("1", "free", "2")]
        order, bad = read_events(csv_file(tmp_path, *rows))
        assert body(order)["data"]["revenue_minor"] == 300
        assert letter(bad)["row"] == 2


class TestBadRows:
    @pytest.mark.parametrize(
        ("row", "column"),
        [
            (f"{NOON},42,click,p-9", "columns"),
            (f"{NOON},42,click,p-9,,,,,", "columns"),
            ("soon,42,click,p-9,,,,", "ts"),
            (",42,click,p-9,,,,", "ts"),
            ("2917-06-01T12:00:00Z,42,click,p-9,,,,", "ts"),
            ("9999-99-99T99:99:99Z,42,click,p-9,,,,", "ts"),
            (f"{NOON},,click,p-9,,,,", "customer_id"),
            (f"{NOON},42,,p-9,,,,", "type"),
            (f"{NOON},42,cart,,shoes,,,", "item_id"),
            (f"{NOON},42,purchase,p-9,,12 EUR,,", "value"),
            (f"{NOON},42,purchase,p-9,,nan,,", "value"),
            (f"{NOON},42,purchase,p-9,,Infinity,,", "value"),
            (f"{NOON},42,purchase,p-9,,1e-999999999,,", "value"),
            (f"{NOON},42,purchase,p-9,,1e99999,,", "value"),
            (f"{NOON},42,purchase,p-9,,1,-2,", "quantity"),
            (f"{NOON},42,purchase,p-9,,1,many,", "quantity"),
            (f"{NOON},42,click,p-9,,,,basket", "extra"),
            (f"{NOON},42,click,p-9,,,,[1]", "extra"),
            (NOON + ',42,click,p-9,,,,"' + '{""a"":' * 400 + "1" + "}" * 400 + '"', "extra"),
            (NOON + ',42,purchase,p-9,,,,"{""basket"":[1]}"', "extra"),
            (NOON + ',42,click,p-9,,,,"{""open', "text"),
        ],
    )
    def test_a_bad_row_is_kept_for_the_dead_letters_and_its_neighbours_live(
        self, tmp_path: Path, row: str, column: str
    ) -> None:
        skipped: Counter[str] = Counter()
        good = NOON + ',{0},click,p-1,,,,"{{""a"":1}}"'
        path = csv_file(tmp_path, good.format(1), row, good.format(2), good.format(3))
        records = list(read_events(path, skipped=skipped))
        assert skipped == {f"bad row: {column}": 1}
        assert [record.key for record in records] == [b"u:1", b"", b"u:2", b"u:3"]
        kept = letter(records[1])
        assert (kept["line"], kept["row"]) == (row, 2)
        assert kept["problem"].startswith(f"{column}: ")
        assert [record.at for record in records] == [NOON_MS] * 4

    def test_the_first_row_may_be_the_bad_one(self, tmp_path: Path) -> None:
        bad, good = read_events(csv_file(tmp_path, ",42,click,p-9,,,,", f"{NOON},42,click,p-9,,,,"))
        assert letter(bad)["problem"] == "ts: not an ISO 8601 time"
        assert (bad.at, good.at) == (0, NOON_MS)

    def test_bytes_that_are_no_text_are_kept_as_they_are(self, tmp_path: Path) -> None:
        path = csv_file(tmp_path, f"{NOON},1,click,p-1,,,,", f"{NOON},2,click,caf?,,,,", f"{NOON},3,click,p-1,,,,")
        path.write_bytes(path.read_bytes().replace(b"?", b"\xe9"))
        skipped: Counter[str] = Counter()
        records = list(read_events(path, skipped=skipped))
        assert [record.key for record in records] == [b"u:1", b"", b"u:3"]
        assert records[1].value == f"{NOON},2,click,caf".encode() + b"\xe9,,,,"
        assert skipped == {"bad row: text": 1}

    def test_a_row_without_end_is_cut_but_refused(self, tmp_path: Path) -> None:
        path = csv_file(tmp_path, f"{NOON},1,click,{'x' * 200_000},,,,", f"{NOON},2,click,p-1,,,,")
        first, second = read_events(path)
        assert 32_768 < len(first.value) <= 65_536
        assert second.key == b"u:2"

    def test_an_open_quote_at_the_end_swallows_nothing(self, tmp_path: Path) -> None:
        rows = [f'{NOON},1,click,"p-1,,,,', *(f"{NOON},{n},click,p-1,,,," for n in range(2, 100))]
        records = list(read_events(csv_file(tmp_path, *rows)))
        assert [record.key for record in records] == [b"", *(f"u:{n}".encode() for n in range(2, 100))]


class TestJsonLines:
    EVENT: ClassVar[dict[str, Any]] = {
        "type": "cart.product_added",
        "message_id": "m-2",
        "anonymous_id": "9f3c",
        "occurred_at": "2026-06-01T12:00:00.950Z",
        "data": {"item": {"item_id": "p-9"}},
    }

    def test_topic_key_and_time_come_from_the_event(self, tmp_path: Path) -> None:
        (record,) = read_events(lines_file(tmp_path, self.EVENT))
        assert (record.topic, record.key, record.at) == ("events.cart", b"a:9f3c", NOON_MS + 950)
        assert body(record) == self.EVENT | {"received_at": "2026-06-01T12:00:00.950Z"}

    def test_an_event_that_lacks_nothing_keeps_its_bytes(self, tmp_path: Path) -> None:
        line = orjson.dumps(self.EVENT | {"received_at": NOON}).replace(b":", b" : ", 1)
        (record,) = read_events(lines_file(tmp_path, line))
        assert (record.value, record.at) == (line, NOON_MS)

    def test_the_client_s_time_of_sending_stands_for_an_unknown_reception(self, tmp_path: Path) -> None:
        sent = {"sent_at": "2026-06-01T12:30:00.000Z"}
        assert only(lines_file(tmp_path, self.EVENT | sent))["received_at"] == sent["sent_at"]

    @pytest.mark.parametrize(
        ("ids", "key"),
        [
            ({"user_id": "42", "anonymous_id": "9f3c"}, b"u:42"),
            ({"user_id": "null", "anonymous_id": "9f3c"}, b"a:9f3c"),
            ({"user_id": "", "anonymous_id": "GUEST"}, b""),
            ({"user_id": 42}, b""),
            ({}, b""),
        ],
    )
    def test_ids_that_mean_nobody_give_no_key(self, tmp_path: Path, ids: dict[str, Any], key: bytes) -> None:
        event = {name: value for name, value in self.EVENT.items() if name != "anonymous_id"} | ids
        (record,) = read_events(lines_file(tmp_path, event))
        assert record.key == key

    @pytest.mark.parametrize("kind", ["file.row", "", None, 7, "cart", "clicks.page_viewed"])
    def test_any_type_arrives_somewhere(self, tmp_path: Path, kind: object) -> None:
        (record,) = read_events(lines_file(tmp_path, self.EVENT | {"type": kind}))
        assert record.topic == ("events.cart" if kind == "cart" else "events.click")

    @pytest.mark.parametrize(
        "line", [b"not json", b'{"a":', b"[1]", b"7", b'{"a":"\xff"}', b'{"a":"\\ud800"}', b"[" * 2000]
    )
    def test_a_broken_line_arrives_as_it_is(self, tmp_path: Path, line: bytes) -> None:
        skipped: Counter[str] = Counter()
        path = lines_file(tmp_path, self.EVENT, line, b"", self.EVENT)
        first, broken, last = read_events(path, skipped=skipped)
        assert (broken.topic, broken.key, broken.value, broken.at) == ("events.click", b"", line, first.at)
        assert last.at == first.at
        assert skipped == {"bad line": 1}

    def test_what_can_be_read_but_not_written_arrives_as_it_is(self, tmp_path: Path) -> None:
        line = orjson.dumps(self.EVENT)[:-1] + b',"context":' + b"[" * 400 + b"]" * 400 + b"}"
        (record,) = read_events(lines_file(tmp_path, line))
        assert record.value == line

    def test_a_line_without_end_is_cut_but_refused(self, tmp_path: Path) -> None:
        long, good = read_events(lines_file(tmp_path, b'{"a":"' + b"x" * 300_000 + b'"}', self.EVENT))
        assert len(long.value) == 65_536
        assert body(good)["message_id"] == "m-2"

    @pytest.mark.parametrize("bad", ["yesterday", "9999-12-31T00:00:00Z", 7, None])
    def test_a_mistaken_time_does_not_hold_up_the_clock(self, tmp_path: Path, bad: object) -> None:
        path = lines_file(tmp_path, self.EVENT, self.EVENT | {"occurred_at": bad}, self.EVENT)
        assert {record.at for record in read_events(path)} == {NOON_MS + 950}

    def test_a_file_gives_ids_to_events_without(self, tmp_path: Path) -> None:
        event = {name: value for name, value in self.EVENT.items() if name != "message_id"}
        path = lines_file(tmp_path, event, event)
        file_hash = hashlib.sha256(path.read_bytes()).hexdigest()
        ids = [body(record)["message_id"] for record in read_events(path)]
        assert ids == [derive(file_hash, "1"), derive(file_hash, "2")]

    def test_shift_and_history(self, tmp_path: Path) -> None:
        sent = {"sent_at": "2026-06-01T12:00:01Z", "received_at": "2026-06-01T12:00:02Z"}
        (record,) = read_events(lines_file(tmp_path, self.EVENT | sent), shift=timedelta(hours=1), historical=True)
        assert record.at == NOON_MS + 3_602_000
        assert body(record) == self.EVENT | {
            "occurred_at": "2026-06-01T13:00:00.950Z",
            "sent_at": "2026-06-01T13:00:01.000Z",
            "received_at": "2026-06-01T13:00:02.000Z",
            "historical": True,
        }

    def test_standard_input(self) -> None:
        program = "from streams.files import read_events; print([(r.key, r.value) for r in read_events('-')])"
        lines = orjson.dumps(self.EVENT | {"received_at": NOON}) + b"\nnot json\n"
        told = subprocess.run([sys.executable, "-c", program], input=lines, capture_output=True, check=True)
        assert told.stdout.decode().startswith("[(b'a:9f3c', b'{")
        assert "(b'', b'not json')" in told.stdout.decode()

    def test_standard_input_is_not_csv(self) -> None:
        program = "from streams.files import read_events; list(read_events('-'))"
        told = subprocess.run([sys.executable, "-c", program], input=HEADER.encode(), capture_output=True, check=False)
        assert "standard input has to be JSON lines" in told.stderr.decode()


class TestFiles:
    @pytest.mark.parametrize("name", ["events.csv", "events.csv.gz", "events.txt", "events"])
    def test_csv_by_content_packed_or_not(self, tmp_path: Path, name: str) -> None:
        text = f"{HEADER}\r\n{NOON},42,click,p-9,,,,\r\n\r\n".encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
        assert only(tmp_path / name)["user_id"] == "42"

    @pytest.mark.parametrize("name", ["e.jsonl", "e.jsonl.gz", "e.ndjson", "e.ndjson.gz", "e.txt", "e"])
    def test_json_lines_by_content_packed_or_not(self, tmp_path: Path, name: str) -> None:
        text = b"\n" + orjson.dumps(TestJsonLines.EVENT)
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
        assert only(tmp_path / name)["anonymous_id"] == "9f3c"

    def test_a_json_lines_file_may_begin_with_a_broken_line(self, tmp_path: Path) -> None:
        assert len(list(read_events(lines_file(tmp_path, b"oops", TestJsonLines.EVENT)))) == 2

    def test_every_byte_is_told_once(self, tmp_path: Path) -> None:
        path = tmp_path / "events.csv.gz"
        rows = "\n".join(f"{NOON},{n},click,p-{n * n},,,," for n in range(20_000))
        path.write_bytes(gzip.compress(f"{HEADER}\n{rows}\n".encode()))
        told: list[int] = []
        assert len(list(read_events(path, on_bytes=told.append))) == 20_000
        assert sum(told) == path.stat().st_size

    def test_a_header_alone_is_no_event(self, tmp_path: Path) -> None:
        assert list(read_events(csv_file(tmp_path))) == []

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"", "the file is empty"),
            (b"\n  \n", "the file is empty"),
            (b"ts,customer_id,type\n", "no column item_id, category, value, quantity, extra"),
            (f"{NOON},42,click,p-9,,,,\n".encode(), "no column ts"),
            (b"\x00\x01\x02", "no column"),
            (b"\x1f\x8b\x08\x00broken", "cannot be read"),
            (gzip.compress(HEADER.encode() * 1000, mtime=0)[:40], "cannot be read"),
        ],
    )
    def test_a_file_that_is_none_says_why(self, tmp_path: Path, content: bytes, problem: str) -> None:
        path = tmp_path / "events.csv"
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=problem) as caught:
            list(read_events(path))
        assert str(caught.value).startswith(str(path))

    def test_a_file_that_is_not_there_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(FileFormatError, match="No such file"):
            list(read_events(tmp_path / "none.csv"))
        with pytest.raises(FileFormatError, match="directory"):
            list(read_events(tmp_path))

    def test_rows_before_the_damage_are_read(self, tmp_path: Path) -> None:
        path = tmp_path / "events.csv.gz"
        rows = "\n".join(f"{NOON},{n},click,p-{hashlib.sha256(b'%d' % n).hexdigest()},,,," for n in range(5000))
        path.write_bytes(gzip.compress(f"{HEADER}\n{rows}\n".encode())[:-100_000])
        seen: list[RawRecord] = []
        with pytest.raises(FileFormatError, match="cannot be read"):
            seen.extend(read_events(path))
        assert len(seen) > 1000


def test_real_clicks_are_read_whole() -> None:
    folder = Path(os.environ.get("JOURNEY_DATA", Path(__file__).parents[4] / "shared" / "data"))
    if not (folder / "taobao.csv.gz").exists():
        pytest.skip("no real event streams here: JOURNEY_DATA names no folder that has them")
    skipped: Counter[str] = Counter()
    topics = Counter(record.topic for record in read_events(folder / "taobao.csv.gz", skipped=skipped))
    assert topics == {"events.click": 78_009, "events.cart": 4_494, "events.purchase": 1_579}
    assert not skipped
