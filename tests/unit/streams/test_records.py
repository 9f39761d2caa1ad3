from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import orjson
import pytest

from journey.errors import BadTimeError
from journey.events import CLASSES, DAY, GREATEST, HOUR, SECOND, YEAR_2000, YEAR_2100
from journey.ids import derive, route
from streams.arrivals import Parsed, parse_time
from streams.records import dead_letter, parse_control, parse_events
from tests.factories import NOON, Json, Raw, item, loaded, raw
from tests.schemas.catalogue import Example, event_examples, rejected, validator

PARTITIONS = 8
NOON_TEXT = "2026-06-01T12:00:00.000Z"


def parse(*records: Raw, cls: str | None = None) -> list[Parsed]:
    return parse_events(cls or records[0].topic.removeprefix("events."), records, PARTITIONS)


def entry_of(record: Raw) -> Json:
    """Return the entry of an accepted event, without its links."""
    (one,) = parse(record)
    assert one.dead_letter is None, orjson.loads(one.dead_letter[1])
    entry: Json = dict(loaded(one)[0][1])
    return entry


def letter_of(record: Raw, cls: str | None = None) -> Json:
    """Return the dead letter of a refused event."""
    (one,) = parse(record, cls=cls)
    assert one.entries == ()
    assert one.dead_letter is not None
    letter: Json = orjson.loads(one.dead_letter[1])
    validator("journey.dead_letter.v1").validate(letter)
    return letter


def refusal(record: Raw, cls: str | None = None) -> tuple[str, str | None]:
    letter = letter_of(record, cls)
    return letter["reason"], letter["field"]


def added(**more: Any) -> Raw:
    """Return a raw event that puts an item into the cart, with something more about the item."""
    return raw(type="cart.product_added", data={"item": {"item_id": "p-1"} | more})


class TestContract:
    """The recorded examples of the schemas, accepted and rejected."""

    @pytest.mark.parametrize("example", event_examples(), ids=str)
    def test_every_recorded_event_is_accepted(self, example: Example) -> None:
        topic = example.schema.removesuffix(".v1")
        (one,) = parse(Raw(orjson.dumps(example.value), topic, timestamp=NOON + 365 * DAY))
        assert one.dead_letter is None
        validator("journey.page.v1").validate(orjson.loads(orjson.dumps([entry for _, entry in loaded(one)])))

    @pytest.mark.parametrize("example", rejected(), ids=str)
    def test_every_rejected_one_is_refused_for_its_reason(self, example: Example) -> None:
        told = example.value
        value = b64decode(told["value_b64"]) if "value_b64" in told else orjson.dumps(told["value"])
        letter = letter_of(Raw(value, told["topic"], timestamp=NOON + 365 * DAY))
        assert letter["reason"] == told["reason"]


class TestEntries:
    def test_an_event_becomes_an_entry_with_its_source(self) -> None:
        record = Raw(
            orjson.dumps({
                "type": "cart.product_added", "message_id": "m-1", "user_id": "42", "occurred_at": NOON_TEXT,
                "data": {"cart_id": "c-77", "item": {"item_id": "p-9", "unit_price_minor": 8990}},
            }),
            "events.cart", offset=1183, partition=3, timestamp=NOON + 7,
        )  # fmt: skip
        (one,) = parse(record)
        assert one.at == NOON + 7
        assert loaded(one) == (
            (
                route("u:42", PARTITIONS),
                {
                    "k": "event", "at": NOON + 7, "src": ["events.cart", 3, 1183], "c": "u:42", "id": "m-1",
                    "t": "cart.product_added", "oc": NOON,
                    "d": {"cart_id": "c-77", "item": {"item_id": "p-9", "unit_price_minor": 8990}},
                },
            ),
        )  # fmt: skip

    def test_without_a_message_id_its_place_is_its_id(self) -> None:
        assert entry_of(raw(9))["id"] == derive("events.click", "0", "9")
        assert entry_of(raw(9, message_id=""))["id"] == derive("events.click", "0", "9")

    def test_unknown_fields_are_left_out(self) -> None:
        entry = entry_of(raw(brand_new=1, data={"unheard": 2, "category": "shoes"}, context={"os": {"name": "x"}}))
        assert entry["d"] == {"category": "shoes"}
        assert "x" not in entry

    def test_properties_of_the_shops_own_are_kept(self) -> None:
        assert entry_of(raw(data={"extra": {"null": None, "empty": "", "deep": [1]}}))["d"] == {
            "extra": {"null": None, "empty": "", "deep": [1]}
        }

    def test_null_and_empty_mean_absent(self) -> None:
        told: Json = {"category": None, "list_id": "", "name": "x", "item": {"item_id": "p", "sku": "", "brand": None}}
        entry = entry_of(raw(anonymous_id=None, message_id=None, data=told, source="", context={"locale": ""}))
        assert entry["d"] == {"name": "x", "item": {"item_id": "p"}}

    def test_but_a_trait_that_is_null_is_one_that_goes(self) -> None:
        entry = entry_of(raw(type="profile.identify", data={"traits": {"phone": None, "note": ""}}))
        assert entry["d"] == {"traits": {"phone": None, "note": ""}}

    def test_the_context_that_matters_is_kept(self) -> None:
        told = {"session_id": "s", "locale": "de-DE", "timezone": "Europe/Berlin", "campaign": {"name": "x"}}
        context = told | {"consent": {"marketing": "granted"}}
        entry = entry_of(raw(context=context | {"user_agent": "Mozilla", "page": {"path": "/"}}))
        assert entry["x"] == context

    def test_an_import_is_marked(self) -> None:
        assert entry_of(raw(historical=True))["h"] is True
        assert "h" not in entry_of(raw(historical=False))

    def test_order_is_kept_and_nothing_disappears(self) -> None:
        records = [raw(0), raw(1, type="click.nothing", topic="events.click"), raw(2), raw(3, user_id=None), raw(4)]
        parsed = parse(*records)
        assert [bool(one.entries) for one in parsed] == [True, False, True, False, True]
        assert [loaded(one)[0][1]["src"][2] for one in parsed if one.entries] == [0, 2, 4]

    def test_no_records_are_no_entries(self) -> None:
        assert parse_events("click", [], PARTITIONS) == []


class TestWho:
    def test_a_known_id_wins(self) -> None:
        entry = entry_of(raw(user_id="42", anonymous_id="9f3c"))
        assert (entry["c"], entry["an"]) == ("u:42", "9f3c")

    @pytest.mark.parametrize("nobody", ["null", "Undefined", " guest ", "0", "[object Object]"])
    def test_a_placeholder_is_no_id(self, nobody: str) -> None:
        entry = entry_of(raw(user_id=nobody, anonymous_id="9f3c"))
        assert entry["c"] == "a:9f3c"
        assert "an" not in entry
        assert refusal(raw(user_id=nobody)) == ("blocked_id", "user_id")
        assert refusal(raw(user_id=None, anonymous_id=nobody)) == ("blocked_id", "anonymous_id")

    @pytest.mark.parametrize("ids", [{"user_id": None}, {"user_id": ""}, {"user_id": None, "anonymous_id": ""}])
    def test_an_event_of_nobody_is_refused(self, ids: Json) -> None:
        assert refusal(raw(**ids)) == ("missing_id", "user_id")

    def test_ids_are_text_of_255_characters_at_most(self) -> None:
        assert entry_of(raw(user_id="ü" * 255))["c"] == "u:" + "ü" * 255
        assert refusal(raw(user_id="x" * 256)) == ("too_large", "user_id")
        assert refusal(raw(user_id=42)) == ("bad_field", "user_id")
        assert refusal(raw(message_id="x" * 101)) == ("too_large", "message_id")


class TestLinks:
    """At the partition of the anonymous id, what proves whose it is leaves a link."""

    def home(self, user: str, anonymous: str, *, together: bool) -> str:
        """Return an anonymous id whose partition is, or is not, that of the user."""
        return next(
            name for number in range(100) for name in [f"{anonymous}{number}"]
            if (route(f"a:{name}", PARTITIONS) == route(f"u:{user}", PARTITIONS)) == together
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("type_", "data"),
        [
            ("profile.identify", {"traits": {}}),
            ("purchase.order_completed", {"order_id": "o-1"}),
            ("profile.alias", {"previous_id": "other", "previous_kind": "user"}),
        ],
    )
    def test_identify_alias_and_purchases_link(self, type_: str, data: Json) -> None:
        elsewhere = self.home("42", "far-", together=False)
        (one,) = parse(raw(7, type=type_, user_id="42", anonymous_id=elsewhere, data=data))
        (number, entry), (there, link) = loaded(one)
        if type_ == "profile.alias":
            assert (number, link["c"]) == (route("u:42", PARTITIONS), f"a:{elsewhere}")
        assert "link" not in entry
        assert there == route(f"a:{elsewhere}", PARTITIONS)
        assert link == {"k": "link", "at": NOON, "src": entry["src"], "c": f"a:{elsewhere}", "to": "u:42"}
        validator("journey.page.v1").validate([link])

    def test_in_one_partition_the_event_carries_the_link(self) -> None:
        here = self.home("42", "near-", together=True)
        (one,) = parse(raw(type="profile.identify", user_id="42", anonymous_id=here, data={"traits": {}}))
        ((_, entry),) = loaded(one)
        assert entry["link"] == f"a:{here}"

    def test_an_alias_links_the_id_it_names(self) -> None:
        (one,) = parse(raw(type="profile.alias", user_id="42", data={"previous_id": "9f3c"}))
        linked = [entry.get("link", entry["c"]) for _, entry in loaded(one)][-1]
        assert linked == "a:9f3c"

    @pytest.mark.parametrize(
        "told",
        [
            {"type": "click.page_viewed", "anonymous_id": "9f3c"},
            {"type": "profile.identify", "data": {"traits": {}}},
            {"type": "profile.identify", "anonymous_id": "guest", "data": {"traits": {}}},
            {"type": "profile.identify", "user_id": None, "anonymous_id": "9f3c", "data": {"traits": {}}},
            {"type": "profile.alias", "data": {"previous_id": "guest"}},
            {"type": "profile.alias", "data": {"previous_id": "7", "previous_kind": "user"}},
        ],
    )
    def test_nothing_else_does(self, told: Json) -> None:
        (one,) = parse(raw(**told))
        ((_, entry),) = loaded(one)
        assert "link" not in entry


class TestTimes:
    @pytest.mark.parametrize(
        ("text", "ms"),
        [
            ("2026-06-01T12:00:00.000Z", NOON),
            ("2026-06-01T12:00:00Z", NOON),
            ("2026-06-01t12:00:00z", NOON),
            ("2026-06-01 12:00:00Z", NOON),
            ("2026-06-01T14:00:00+02:00", NOON),
            ("2026-06-01T06:30:00.5-05:30", NOON + 500),
            ("2026-06-01T12:00:00.123456789Z", NOON + 123),
            ("2026-06-01T12:00:00.1239Z", NOON + 123),
            ("2024-02-29T00:00:00.000Z", 1_709_164_800_000),
            ("1969-12-31T23:59:59.999Z", -1),
            ("0001-01-01T00:00:00.001Z", -62_135_596_799_999),
        ],
    )
    def test_a_time_is_rfc_3339(self, text: str, ms: int) -> None:
        assert parse_time("occurred_at", text) == ms

    @pytest.mark.parametrize(
        "text",
        [
            "", "yesterday", "2026-06-01", "12:00:00Z", "2026-06-01T12:00:00", "2026-06-01T12:00:00.000",
            "1780315200000", "2026-02-30T12:00:00.000Z", "2025-02-29T12:00:00.000Z", "2026-13-01T12:00:00.000Z",
            "2026-06-01T24:00:00.000Z", "2026-06-01T12:60:00.000Z", "2026-06-01T12:00:61.000Z",
            "2026-06-01T12:00:00.000z ", "2026-W23-1T12:00:00.000Z", "2026-06-01T12:00:00.000Z\n",
            "２０２６-06-01T12:00:00.000Z", "2026-06-01T12:00:00.٣٣٣Z", "2026-06-01T1२:00:00.000Z",
            "0000-01-01T00:00:00.000Z", "2026-06-01T12:00:00.000+0200", "20260601T120000.00Z   ",
            "2026-06-01T+1:00:00.000Z", "2026-06-01T12:00:00.-10Z", "2026-06-01T 1:00:00.000Z",
            "2026-06-0 T12:00:00.000Z", "10000-06-01T12:00:00Z",
        ],
    )  # fmt: skip
    def test_everything_else_is_none(self, text: str) -> None:
        with pytest.raises(BadTimeError):
            parse_time("occurred_at", text)

    def test_it_was_received_when_the_collector_says(self) -> None:
        entry = entry_of(raw(received_at="2026-06-01T11:59:00.000Z", occurred_at="2026-06-01T11:58:00.000Z"))
        assert (entry["at"], entry["oc"]) == (NOON - 60_000, NOON - 120_000)

    def test_up_to_five_seconds_ahead_of_the_broker_the_collector_is_believed(self) -> None:
        early = raw(timestamp=NOON - 5 * SECOND, received_at=NOON_TEXT)
        assert entry_of(early)["at"] == NOON
        assert entry_of(raw(timestamp=NOON - 5 * SECOND - 1, received_at=NOON_TEXT))["at"] == NOON - 5 * SECOND - 1

    def test_without_it_the_record_says(self) -> None:
        assert entry_of(raw(timestamp=NOON + HOUR))["at"] == NOON + HOUR

    def test_the_skew_of_a_clients_clock_is_taken_out(self) -> None:
        entry = entry_of(raw(occurred_at="2031-01-01T00:00:00.000Z", sent_at="2031-01-01T00:00:01.000Z"))
        assert entry["oc"] == NOON - 1000

    def test_the_future_becomes_the_moment_of_reception(self) -> None:
        assert entry_of(raw(occurred_at="2031-01-01T00:00:00.000Z"))["oc"] == NOON

    @pytest.mark.parametrize("field", ["occurred_at", "received_at"])
    def test_nothing_happened_before_2000(self, field: str) -> None:
        told: Json = {field: "1999-12-31T23:59:59.999Z"}
        assert refusal(raw(**told)) == ("bad_time", field)
        assert entry_of(raw(occurred_at="2000-01-01T00:00:00.000Z"))["oc"] == YEAR_2000

    def test_nor_by_a_wild_time_of_sending(self) -> None:
        wild = raw(occurred_at="2000-01-01T00:00:00.000Z", sent_at="9999-01-01T00:00:00.000Z")
        assert refusal(wild) == ("bad_time", "occurred_at")

    def test_no_broker_lives_in_2100(self) -> None:
        assert refusal(raw(timestamp=YEAR_2100)) == ("bad_time", "received_at")
        assert entry_of(raw(timestamp=YEAR_2100 - 1))["at"] == YEAR_2100 - 1

    @pytest.mark.parametrize("value", [12, True, {"$date": 1}, ["2026"]])
    @pytest.mark.parametrize("field", ["occurred_at", "sent_at", "received_at"])
    def test_a_time_that_is_no_text_is_a_bad_time(self, field: str, value: Any) -> None:
        told: Json = {field: value}
        assert refusal(raw(**told)) == ("bad_time", field)


class TestFields:
    @pytest.mark.parametrize(
        ("record", "refused"),
        [
            (raw(type=None), ("missing_field", "type")),
            (raw(type=7, topic="events.click"), ("unknown_type", "type")),
            (raw(type="click.", topic="events.click"), ("unknown_type", "type")),
            (raw(v=2), ("unsupported_version", "v")),
            (raw(v="1"), ("bad_field", "v")),
            (raw(v=0), ("bad_field", "v")),
            (raw(historical="yes"), ("bad_field", "historical")),
            (raw(occurred_at=None), ("missing_field", "occurred_at")),
            (raw(data=[]), ("bad_field", "data")),
            (raw(data="x"), ("bad_field", "data")),
            (raw(context="x"), ("bad_field", "context")),
            (raw(context={"consent": {"marketing": "yes"}}), ("bad_field", "context.consent.marketing")),
            (raw(type="click.product_viewed"), ("missing_field", "data")),
            (raw(type="click.product_viewed", data={}), ("missing_field", "data.item")),
            (raw(type="click.product_viewed", data={"item": {}}), ("missing_field", "data.item.item_id")),
            (raw(type="click.product_viewed", data={"item": {"item_id": 9}}), ("bad_field", "data.item.item_id")),
            (raw(type="click.products_searched", data={"query": ""}), ("missing_field", "data.query")),
            (raw(type="click.custom", data={}), ("missing_field", "data.name")),
            (raw(data={"rating": "4"}), ("bad_field", "data.rating")),
            (raw(type="cart.cart_updated", data={}), ("missing_field", "data.items")),
            (raw(type="cart.cart_updated", data={"items": [{"item_id": "p"}, 7]}), ("bad_field", "data.items.1")),
            (raw(type="cart.coupon_applied", data={}), ("missing_field", "data.coupon")),
            (raw(type="cart.checkout_step_viewed", data={"step": []}), ("bad_field", "data.step")),
            (added(quantity="2"), ("bad_field", "data.item.quantity")),
            (added(quantity=2.0), ("bad_field", "data.item.quantity")),
            (added(quantity=-1), ("bad_field", "data.item.quantity")),
            (added(position=1.5), ("bad_field", "data.item.position")),
            (added(item_id="x" * 129), ("too_large", "data.item.item_id")),
            (raw(type="purchase.order_completed"), ("missing_field", "data")),
            (raw(type="purchase.order_refunded", data={"order_id": ""}), ("missing_field", "data.order_id")),
            (raw(type="profile.identify", data={}), ("missing_field", "data.traits")),
            (raw(type="profile.identify", data={"traits": {"a": {"b": 1}}}), ("bad_field", "data.traits.a")),
            (raw(type="profile.alias", data={}), ("missing_field", "data.previous_id")),
            (raw(type="profile.unlink", data={}), ("missing_field", "data.previous_id")),
            (raw(type="profile.consent", data={}), ("missing_field", "data.scopes")),
            (raw(type="profile.erase", data={"mode": "all"}), ("bad_field", "data.mode")),
            (raw(type="feedback.opened", data={}), ("missing_field", "data.channel")),
            (raw(type="feedback.opened", data={"channel": "email", "machine": "no"}), ("bad_field", "data.machine")),
            (raw(type="feedback.satisfaction", data={"channel": "email", "score": 9}), ("missing_field", "data.scale")),
        ],
        ids=lambda one: f"{one[0]}: {one[1]}" if isinstance(one, tuple) else "",
    )
    def test_what_is_wrong_is_told_by_reason_and_field(self, record: Raw, refused: tuple[str, str]) -> None:
        assert refusal(record) == refused

    @pytest.mark.parametrize("scale", [[10, 0], [5, 5]])
    def test_a_scale_goes_upwards(self, scale: list[int]) -> None:
        data = {"channel": "email", "score": 3, "scale": scale}
        assert refusal(raw(type="feedback.satisfaction", data=data)) == ("bad_field", "data.scale")

    @pytest.mark.parametrize("amount", [1.0, "5", -1, GREATEST + 1, 2**63, 1e30, True, [1]])
    @pytest.mark.parametrize("field", ["revenue_minor", "tax_minor"])
    def test_money_is_a_whole_number_of_minor_units(self, field: str, amount: Any) -> None:
        order = raw(type="purchase.order_completed", data={"order_id": "o-1", field: amount})
        assert refusal(order) == ("bad_money", f"data.{field}")
        assert refusal(added(unit_price_minor=amount)) == ("bad_money", "data.item.unit_price_minor")

    @pytest.mark.parametrize("code", ["eur", "EURO", "€", "E1R", 978])
    def test_a_currency_is_an_iso_code(self, code: Any) -> None:
        order = raw(type="purchase.order_completed", data={"order_id": "o-1", "currency": code})
        assert refusal(order) == ("bad_money", "data.currency")

    def test_the_greatest_numbers_of_the_contract_are_accepted(self) -> None:
        told = item("p-1", GREATEST, GREATEST)
        assert entry_of(raw(type="cart.product_added", data={"item": told}))["d"]["item"] == told

    def test_a_type_of_another_topic_is_told_where_it_belongs(self) -> None:
        letter = letter_of(raw(type="click.page_viewed", topic="events.cart"))
        assert (letter["reason"], letter["to"]) == ("wrong_topic", "events.click")

    @pytest.mark.parametrize("cls", CLASSES)
    def test_each_topic_refuses_the_events_of_the_others(self, cls: str) -> None:
        for example in event_examples():
            if not example.schema.startswith(f"events.{cls}."):
                assert refusal(Raw(orjson.dumps(example.value), f"events.{cls}")) == ("wrong_topic", "type")


class TestLimits:
    def test_a_value_has_32_kb_at_most(self) -> None:
        def of(size: int) -> Raw:
            extra = {"extra": {f"n{number}": "x" * 2000 for number in range(3)}}
            small = orjson.dumps({**orjson.loads(raw().value or b""), "data": extra})
            return Raw(small[:-1] + b" " * (size - len(small)) + b"}")

        assert entry_of(of(32_768))
        assert refusal(of(32_769)) == ("too_large", None)

    def test_it_is_six_levels_deep_at_most(self) -> None:
        deep: Json = {"3": {"4": {"5": [6]}}}
        assert entry_of(raw(data={"extra": deep}))["d"]["extra"] == deep
        deep["3"]["4"]["5"] = [[7]]
        assert refusal(raw(data={"extra": deep}))[0] == "too_large"

    @pytest.mark.parametrize("depth", [7, 100, 1_000, 1_025, 10_000])
    @pytest.mark.parametrize(("left", "right"), [(b"[", b"]"), (b'{"a":', b"}")])
    def test_a_bomb_of_brackets_is_too_large_however_deep(self, depth: int, left: bytes, right: bytes) -> None:
        head = orjson.dumps({"type": "click.page_viewed", "user_id": "1", "occurred_at": NOON_TEXT})[:-1]
        bomb = head + b',"data":' + left * depth + b"1" + right * depth + b"}"
        assert letter_of(Raw(bomb))["reason"] == "too_large"

    def test_a_string_has_2048_characters_at_most(self) -> None:
        assert entry_of(raw(data={"category": "ü" * 2048}))
        assert refusal(raw(data={"category": "x" * 2049}))[0] == "too_large"
        assert refusal(raw(unheard="x" * 2049))[0] == "too_large"
        assert refusal(raw(data={"extra": {"x" * 2049: 1}}))[0] == "too_large"

    def test_a_list_has_200_items_at_most_also_a_short_one(self) -> None:
        assert entry_of(raw(data={"extra": {"n": [1] * 200}}))
        assert refusal(raw(data={"extra": {"n": [1] * 201}}))[0] == "too_large"
        assert refusal(raw(unheard=[1] * 201))[0] == "too_large"

    def test_traits_are_256_at_most_and_their_lists_have_20_items(self) -> None:
        def identify(traits: Json) -> Raw:
            return raw(type="profile.identify", data={"traits": traits})

        assert entry_of(identify({f"t{number}": number for number in range(256)}))
        assert refusal(identify({f"t{number}": number for number in range(257)})) == ("too_large", "data.traits")
        assert entry_of(identify({"sizes": ["m"] * 20}))
        assert refusal(identify({"sizes": ["m"] * 21})) == ("too_large", "data.traits.sizes")

    def test_context_has_4_kb_at_most_also_what_is_not_kept_of_it(self) -> None:
        assert entry_of(raw(context={"a": "x" * 2000, "b": "x" * 2000}))
        assert refusal(raw(context={"a": "x" * 2048, "b": "x" * 2048})) == ("too_large", "context")

    def test_the_shops_own_properties_have_8_kb_at_most(self) -> None:
        assert entry_of(raw(data={"extra": {f"n{number}": "x" * 2000 for number in range(4)}}))
        extra = {f"n{number}": "x" * 2048 for number in range(4)}
        assert refusal(raw(data={"extra": extra})) == ("too_large", "data.extra")

    def test_scopes_have_255_characters_at_most_however_they_are_told(self) -> None:
        assert entry_of(raw(type="profile.consent", data={"scopes": {"x" * 255: "granted"}}))
        assert letter_of(raw(type="profile.consent", data={"scopes": {"x" * 256: "granted"}}))["reason"] == "too_large"
        left = raw(type="feedback.unsubscribed", data={"channel": "email", "scope": "x" * 256})
        assert refusal(left) == ("too_large", "data.scope")
        assert refusal(raw(type="feedback.unsubscribed", data={"channel": "x" * 246})) == ("too_large", "data.channel")


class TestNotJson:
    @pytest.mark.parametrize(
        "value",
        [
            None, b"", b" ", b"{", b"null", b"[]", b"7", b'"text"', b"\xff\xfe", b'{"type":"click.page_viewed"', b"NaN",
            b'{"a":NaN}', b'{"a":Infinity}', b'{"a":1e999}', b'{"a":"\\ud800"}', b'{"a":"\xed\xa0\x80"}', b"{'a':1}",
            b'{"a":1}{"b":2}', b'\xef\xbb\xbf{"a":1}', b'{"a":01}',
        ],
    )  # fmt: skip
    def test_bytes_that_are_no_object_are_refused(self, value: bytes | None) -> None:
        assert refusal(Raw(value)) == ("not_json", None)

    def test_of_a_name_told_twice_the_last_counts(self) -> None:
        value = (raw().value or b"")[:-1] + b',"user_id":"2"}'
        assert entry_of(Raw(value))["c"] == "u:2"


class TestDeadLetters:
    def test_a_letter_holds_the_record_as_it_was(self) -> None:
        record = Raw(
            b"\xff{}", "events.cart", 1182, 3, NOON, b"a:9f3c", (("traceparent", b"00-x"), ("empty", b"")),
        )  # fmt: skip
        (one,) = parse(record)
        assert one.at == NOON
        assert one.dead_letter is not None
        key, value = one.dead_letter
        assert key == b"a:9f3c"
        letter = orjson.loads(value)
        assert letter.pop("detail")
        assert letter == {
            "v": 1, "reason": "not_json", "field": None, "stage": "ingest",
            "source": {"topic": "events.cart", "partition": 3, "offset": 1182},
            "rejected_at": NOON_TEXT, "key_b64": b64encode(b"a:9f3c").decode(),
            "headers": [["traceparent", b64encode(b"00-x").decode()], ["empty", ""]],
            "value_b64": b64encode(b"\xff{}").decode(), "value_bytes": 3,
        }  # fmt: skip
        validator("journey.dead_letter.v1").validate(orjson.loads(value))

    def test_of_a_huge_value_the_first_64_kb_are_kept(self) -> None:
        letter = letter_of(Raw(b"[" + b"1," * 100_000))
        assert (letter["reason"], letter["value_bytes"]) == ("too_large", 200_001)
        assert len(b64decode(letter["value_b64"])) == 65_536

    def test_a_record_without_key_or_value_is_a_letter_too(self) -> None:
        letter = letter_of(Raw(None, key=None))
        assert (letter["key_b64"], letter["value_b64"], letter["value_bytes"]) == (None, "", 0)

    def test_a_letter_is_the_same_each_time(self) -> None:
        assert parse(raw(user_id=None)) == parse(raw(user_id=None))

    def test_details_are_kept_short(self) -> None:
        letter = orjson.loads(dead_letter(raw(), "poison", "x" * 9999, None, "engine"))
        assert len(letter["detail"]) == 500
        validator("journey.dead_letter.v1").validate(letter)


class TestControl:
    def control(self, timestamp: int = NOON, **message: Any) -> Parsed:
        record = Raw(orjson.dumps(message), "journey.control", 17, timestamp=timestamp)
        (one,) = parse_control([record], 3)
        return one

    def test_a_tick_goes_to_every_partition(self) -> None:
        one = self.control(k="tick", at=NOON + HOUR)
        entry = {"k": "tick", "at": NOON + HOUR, "src": ["journey.control", 0, 17]}
        assert loaded(one) == ((0, entry), (1, entry), (2, entry))
        assert one.at == NOON + HOUR

    def test_a_mark_goes_to_none(self) -> None:
        assert self.control(k="mark", at=NOON) == Parsed(NOON, (), None)

    def test_the_events_clock_begins_a_journal_at_no_time_at_all(self) -> None:
        assert loaded(self.control(k="clock", clock="events"))[0][1]["at"] == 0
        assert loaded(self.control(k="clock", clock="wall"))[0][1]["at"] == NOON

    def test_an_adoption_goes_to_every_partition_and_moves_no_time(self) -> None:
        told: Json = {"slot": "churn", "model": "churn.boosted", "version": 7, "replaces": 42, "sha256": "9b1d"}
        one = self.control(k="adopt", at=NOON - HOUR, more="ignored", **told)
        entry = {"at": 0, "src": ["journey.control", 0, 17], "k": "adopt", **told}
        assert loaded(one) == ((0, entry), (1, entry), (2, entry))
        assert one.at == NOON - HOUR

    def test_a_first_adoption_replaces_nothing_and_its_slot_is_its_model(self) -> None:
        (_, entry), *_ = loaded(self.control(k="adopt", model="churn", version=1, sha256="9b1d"))
        assert (entry["slot"], entry["replaces"]) == ("churn", None)

    @pytest.mark.parametrize("kind", ["freeze", "unfreeze"])
    def test_a_freeze_goes_to_none(self, kind: str) -> None:
        assert self.control(k=kind, slot="churn") == Parsed(NOON, (), None)

    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            ({"k": "adopt", "model": "churn", "version": 1}, "missing_field"),
            ({"k": "adopt", "model": "churn", "version": "1", "sha256": "9b1d"}, "bad_field"),
            ({"k": "freeze"}, "missing_field"),
            ({"k": "unfreeze", "slot": 5}, "bad_field"),
            ({"k": "tick"}, "bad_time"),
            ({"k": "tick", "at": "noon"}, "bad_time"),
            ({"k": "tick", "at": True}, "bad_time"),
            ({"k": "tick", "at": YEAR_2000 - 1}, "bad_time"),
            ({"k": "tick", "at": YEAR_2100}, "bad_time"),
            ({"k": "mark", "at": 2**60}, "bad_time"),
            ({"k": "clock"}, "bad_field"),
            ({"k": "clock", "clock": ["events"]}, "bad_field"),
            ({"k": ["tick"]}, "unknown_type"),
            ({"k": "explode"}, "unknown_type"),
            ({}, "unknown_type"),
        ],
    )
    def test_what_is_not_understood_becomes_a_letter(self, message: Json, reason: str) -> None:
        one = self.control(**message)
        assert one.entries == ()
        assert one.dead_letter is not None
        letter = orjson.loads(one.dead_letter[1])
        validator("journey.dead_letter.v1").validate(letter)
        assert letter["reason"] == reason

    def test_what_is_no_json_too(self) -> None:
        (one,) = parse_control([Raw(b"{", "journey.control")], 3)
        assert one.dead_letter is not None
