"""The schemas themselves, and their limits, spelt out at the boundary."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.schemas.catalogue import (
    CONTROL_KINDS,
    ENTRY_KINDS,
    EXAMPLES,
    REQUIRED_DATA,
    SCHEMA_NAMES,
    SCHEMAS,
    TRIGGER_TYPES,
    Example,
    Json,
    event_examples,
    load,
    validator,
)
from tests.schemas.compatibility import resolve, tag_of

REQUIRED_ENVELOPE = {"type", "occurred_at"}
WORDS = ("null", "undefined", "none", "nan", "0", "-1", "true", "false", "anonymous", "guest", "unknown")
BLOCKED = (*WORDS, "[object Object]")


def accepts(schema: str, value: Json) -> bool:
    return validator(schema).is_valid(value)


def an_event(name: str, **data: Json) -> dict[str, Any]:
    """Return the recorded example of an event type, with other data where told."""
    klass, _, short = name.partition(".")
    event: dict[str, Any] = load(EXAMPLES / f"events.{klass}.v1" / f"{short}.json")
    if data:
        event["data"] = event.get("data", {}) | data
    return event


def schema_for(event: dict[str, Any]) -> str:
    return f"events.{event['type'].partition('.')[0]}.v1"


def test_every_promised_schema_is_there_and_no_other() -> None:
    assert set(SCHEMAS) == SCHEMA_NAMES


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_is_valid_by_the_2020_12_dialect(name: str) -> None:
    assert SCHEMAS[name]["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(SCHEMAS[name])


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_the_file_is_named_as_the_schema(name: str) -> None:
    assert SCHEMAS[name]["$id"] == f"urn:journey:schema:{name}"


def references(node: Json) -> list[str]:
    """Return every ``$ref`` below a node."""
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [reference for value in node.values() for reference in references(value)]
    return [reference for value in node for reference in references(value)] if isinstance(node, list) else []


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_stands_alone_and_defines_nothing_in_vain(name: str) -> None:
    schema = SCHEMAS[name]
    used = set(references(schema))
    for reference in used:
        resolve(reference, schema)
    assert {f"#/$defs/{key}" for key in schema.get("$defs", {})} == used


def test_a_definition_means_the_same_in_every_schema() -> None:
    meaning: dict[str, Json] = {}
    for name, schema in SCHEMAS.items():
        for key, definition in schema.get("$defs", {}).items():
            if key != "data":  # each class of events has its own
                assert meaning.setdefault(key, definition) == definition, f"{key} in {name}"


@pytest.mark.parametrize("klass", ["click", "cart", "purchase", "profile", "feedback"])
def test_a_class_of_events_has_one_branch_for_each_type(klass: str) -> None:
    schema = SCHEMAS[f"events.{klass}.v1"]
    tags = [tag_of(branch, schema) for branch in schema["oneOf"]]
    assert len(tags) == len(set(tags))
    assert set(tags) == {("type", name) for name in REQUIRED_DATA if name.startswith(f"{klass}.")}


def test_pages_commands_and_triggers_have_one_branch_for_each_kind() -> None:
    for name, branches, field, kinds in (
        ("journey.page.v1", SCHEMAS["journey.page.v1"]["$defs"]["entry"]["oneOf"], "k", ENTRY_KINDS),
        ("journey.control.v1", SCHEMAS["journey.control.v1"]["oneOf"], "k", CONTROL_KINDS),
        ("journey.trigger.v1", SCHEMAS["journey.trigger.v1"]["oneOf"], "type", TRIGGER_TYPES),
    ):
        assert {tag_of(branch, SCHEMAS[name]) for branch in branches} == {(field, kind) for kind in kinds}


# --- the tolerant reader -----------------------------------------------------


@pytest.mark.parametrize("example", event_examples(), ids=str)
def test_unknown_fields_are_ignored(example: Example) -> None:
    event = deepcopy(example.value) | {"shelf": {"row": 1}}
    if event.get("data"):
        event["data"]["shelf"] = ["a", 1, None]
    assert accepts(example.schema, event)


MISSING = object()


def without(value: dict[str, Any], fields: Iterable[str], absent: object) -> dict[str, Any]:
    """Return a value whose fields are null, empty or left out."""
    kept = {key: content for key, content in value.items() if key not in fields}
    return kept if absent is MISSING else kept | dict.fromkeys(fields, absent)


@pytest.mark.parametrize("absent", [None, "", MISSING], ids=["null", "empty", "missing"])
@pytest.mark.parametrize("example", event_examples(), ids=str)
def test_null_and_empty_mean_absent_in_every_field(example: Example, absent: object) -> None:
    name, schema = example.value["type"], SCHEMAS[example.schema]
    # with a single id, that one is required
    only_user = without(example.value, ["anonymous_id"], absent)
    who, event = ("user_id", only_user) if accepts(example.schema, only_user) else ("anonymous_id", example.value)
    required = REQUIRED_ENVELOPE | {who} | ({"data"} if REQUIRED_DATA[name] else set())
    assert accepts(example.schema, without(event, set(schema["$defs"]["envelope"]["properties"]) - required, absent))
    for field in required:
        assert not accepts(example.schema, without(event, [field], absent)), field

    data = event.get("data") or {}
    optional = set(schema["$defs"]["data"]["properties"]) - REQUIRED_DATA[name]
    assert accepts(example.schema, event | {"data": without(data, optional, absent)})
    for field in REQUIRED_DATA[name]:
        assert not accepts(example.schema, event | {"data": without(data, [field], absent)}), field


@pytest.mark.parametrize("absent", [None, ""])
def test_null_and_empty_mean_absent_in_an_item_except_for_its_id(absent: str | None) -> None:
    fields = set(SCHEMAS["events.cart.v1"]["$defs"]["item"]["properties"]) - {"item_id"}
    item = {"item_id": "p-9"} | dict.fromkeys(fields, absent)
    assert accepts("events.cart.v1", an_event("cart.product_added", item=item))
    assert not accepts("events.cart.v1", an_event("cart.product_added", item=item | {"item_id": absent}))


# --- who ---------------------------------------------------------------------


@pytest.mark.parametrize("word", BLOCKED)
def test_a_word_for_no_id_is_no_id_in_any_case(word: str) -> None:
    for written in (word, word.upper(), word.title(), f" {word} "):
        event = an_event("cart.product_added") | {"user_id": written, "anonymous_id": None}
        assert not accepts("events.cart.v1", event), written
        assert accepts("events.cart.v1", event | {"anonymous_id": "9f3c"}), written
        assert not accepts("events.profile.v1", an_event("profile.alias", previous_id=written)), written


@pytest.mark.parametrize("word", ["42", "00", "nullable", "guest7", "not-unknown", "object Object"])
def test_an_id_that_only_looks_like_a_word_for_no_id_is_one(word: str) -> None:
    assert accepts("events.cart.v1", an_event("cart.product_added") | {"user_id": word, "anonymous_id": None})


# --- limits ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "field", "most"),
    [
        ("cart.product_added", "anonymous_id", 255),
        ("cart.product_added", "user_id", 255),
        ("cart.product_added", "message_id", 100),
        ("cart.product_added", "source", 2048),
        ("cart.product_added", "data.item.item_id", 128),
        ("cart.product_added", "data.item.name", 2048),
        ("cart.product_added", "data.cart_id", 255),
        ("cart.coupon_applied", "data.coupon.reason", 2048),
        ("purchase.order_completed", "data.order_id", 255),
        ("profile.alias", "data.previous_id", 255),
        ("profile.identify", "data.traits.first_name", 2048),
        ("click.products_searched", "data.query", 2048),
        ("click.page_viewed", "context.page.url", 2048),
        ("feedback.delivered", "data.channel", 2048),
    ],
)
def test_text_may_be_this_long_and_not_one_character_longer(name: str, field: str, most: int) -> None:
    event = an_event(name)
    *above, last = field.split(".")
    place = event
    for part in above:
        place = place[part]
    for length, accepted in ((most, True), (most + 1, False)):
        place[last] = "é" * length
        assert accepts(schema_for(event), event) == accepted


def test_200_items_are_accepted_and_201_are_not() -> None:
    items = [{"item_id": f"p-{number}"} for number in range(201)]
    assert accepts("events.cart.v1", an_event("cart.cart_updated", items=items[:200]))
    assert not accepts("events.cart.v1", an_event("cart.cart_updated", items=items))


def test_256_traits_are_accepted_and_257_are_not() -> None:
    traits = {f"t{number}": number for number in range(257)}
    assert not accepts("events.profile.v1", an_event("profile.identify", traits=traits))
    del traits["t0"]
    assert accepts("events.profile.v1", an_event("profile.identify", traits=traits))


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        (["x"] * 20, True),
        (["x"] * 21, False),
        ({"nested": 1}, False),
        ([["nested"]], False),
        (1.5, True),
        (False, True),
        (None, True),
        ("", True),
    ],
)
def test_a_trait_is_a_scalar_or_a_list_of_twenty(value: Json, accepted: bool) -> None:
    assert accepts("events.profile.v1", an_event("profile.identify", traits={"likes": value})) == accepted


@pytest.mark.parametrize(
    ("written", "accepted"),
    [
        ("2000-01-01T00:00:00.000Z", True),
        ("1999-12-31T23:59:59.999Z", False),
        ("2026-11-20T08:12:44Z", True),
        ("2026-11-20T08:12:44.292123Z", True),
        ("2026-11-20 08:12:44Z", False),
        ("2026-11-20T08:12:44", False),
        ("2026-13-20T08:12:44Z", False),
        ("2026-11-20T24:00:00Z", False),
        ("1795162442100", False),
        (1795162442100, False),
    ],
)
def test_a_time_is_rfc_3339_in_utc_since_2000(written: Json, accepted: bool) -> None:
    for field in ("occurred_at", "received_at", "sent_at"):
        event = an_event("cart.product_added") | {field: written}
        assert accepts("events.cart.v1", event) == accepted, field


@pytest.mark.parametrize(
    ("amount", "accepted"),
    [(0, True), (2**53 - 1, True), (2**53, False), (-1, False), (25.5, False), ("2500", False), (True, False)],
)
def test_money_is_a_whole_number_of_minor_units_within_2_to_the_53(amount: Json, accepted: bool) -> None:
    for field in ("revenue_minor", "total_minor", "discount_minor", "refund_minor"):
        event = an_event("purchase.order_completed", **{field: amount})
        assert accepts("events.purchase.v1", event) == accepted, field


@pytest.mark.parametrize(("code", "accepted"), [("EUR", True), ("JPY", True), ("eur", False), ("EURO", False)])
def test_a_currency_is_three_capitals(code: str, accepted: bool) -> None:
    assert accepts("events.purchase.v1", an_event("purchase.order_completed", currency=code)) == accepted


@pytest.mark.parametrize(("version", "accepted"), [(1, True), (2, False), (0, False), ("1", False)])
def test_only_version_one_is_accepted(version: Json, accepted: bool) -> None:
    assert accepts("events.cart.v1", an_event("cart.product_added") | {"v": version}) == accepted


@pytest.mark.parametrize("name", sorted(REQUIRED_DATA))
def test_an_event_belongs_to_one_topic_only(name: str) -> None:
    event = an_event(name)
    accepting = {schema for schema in SCHEMAS if schema.startswith("events.") and accepts(schema, event)}
    assert accepting == {schema_for(event)}


def test_a_page_holds_one_to_a_thousand_entries() -> None:
    tick = {"k": "tick", "at": 1795162811000}
    assert not accepts("journey.page.v1", [])
    assert accepts("journey.page.v1", [tick] * 1000)
    assert not accepts("journey.page.v1", [tick] * 1001)


@pytest.mark.parametrize(
    "entry",
    [
        {"k": "nothing", "at": 1},
        {"k": "tick", "at": 1.5},
        {"k": "tick", "at": "2026-11-20T08:12:44Z"},
        {"k": "void", "src": ["events.cart", 3, 1183], "c": "u:42"},
        {"k": "clock", "at": 0, "src": ["journey.control", 0, 0], "clock": "sundial"},
        {"k": "link", "at": 1, "src": ["events.profile", 0, 77], "c": "a:9f3c", "to": "a:c0de"},
        {"k": "link", "at": 1, "src": ["events.profile", 0], "c": "a:9f3c", "to": "u:42"},
        {"k": "erase", "at": 1, "src": ["journey.control", 0, 3], "c": "42"},
    ],
    ids=lambda entry: f"{entry['k']}-{len(entry)}",
)
def test_an_entry_that_a_fold_could_not_read_is_refused(entry: Json) -> None:
    assert not accepts("journey.page.v1", [entry])
