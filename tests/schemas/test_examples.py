"""The recorded examples: all fit today's schemas, what is rejected does not, and none is ever edited."""

from __future__ import annotations

import json
from base64 import b32encode, b64decode
from hashlib import blake2b, sha256

import pytest

from tests.schemas.catalogue import (
    CONTROL_KINDS,
    ENTRY_KINDS,
    EXAMPLES,
    RAW_REASONS,
    REQUIRED_DATA,
    SCHEMAS,
    SUMS,
    TRIGGER_TYPES,
    Example,
    Json,
    event_examples,
    examples,
    rejected,
    validator,
)

LARGEST_VALUE = 32_768  # bytes
DEEPEST = 6

# reason -> the path of the field at fault in the example that is called like the reason alone
AT_FAULT = {
    "unknown_type": "type",
    "wrong_topic": "type",
    "unsupported_version": "v",
    "missing_field": "data.item",
    "bad_field": "data.item.quantity",
    "bad_time": "occurred_at",
    "bad_money": "data.revenue_minor",
}


@pytest.mark.parametrize("example", list(examples()), ids=str)
def test_a_recorded_example_fits_todays_schema(example: Example) -> None:
    validator(example.schema).validate(example.value)


def test_every_folder_of_examples_belongs_to_a_schema_and_every_schema_has_one() -> None:
    assert {example.schema for example in examples()} == set(SCHEMAS)


@pytest.mark.parametrize("name", sorted(REQUIRED_DATA))
def test_every_type_of_event_has_an_example(name: str) -> None:
    assert name in {example.value["type"] for example in event_examples()}


def test_every_kind_of_entry_command_and_trigger_has_an_example() -> None:
    entries = {entry["k"] for page in examples("journey.page.v1") for entry in page.value}
    assert entries == ENTRY_KINDS
    assert {example.value["k"] for example in examples("journey.control.v1")} == CONTROL_KINDS
    assert {example.value["type"] for example in examples("journey.trigger.v1")} == TRIGGER_TYPES


def test_a_value_of_an_open_enum_is_known_wherever_it_is_recorded() -> None:
    letters, triggers = SCHEMAS["journey.dead_letter.v1"], SCHEMAS["journey.trigger.v1"]
    for example in examples("journey.dead_letter.v1"):
        for field in ("reason", "stage"):
            assert example.value[field] in letters["properties"][field]["x-open-enum"]
    actions = triggers["oneOf"][0]["properties"]["data"]["properties"]["action"]["x-open-enum"]
    for example in examples("journey.trigger.v1"):
        assert example.value["data"].get("action", "send") in actions


def test_no_recorded_event_is_over_the_limits_a_schema_cannot_express() -> None:
    for example in event_examples():
        assert len(compact(example.value)) <= LARGEST_VALUE
        assert depth(example.value) <= DEEPEST


def test_the_original_bytes_of_a_dead_letter_are_as_many_as_it_says_or_were_cut() -> None:
    for example in examples("journey.dead_letter.v1"):
        kept = len(b64decode(example.value["value_b64"], validate=True))
        assert kept == example.value["value_bytes"] or example.value["reason"] == "too_large"


# --- ids are made from meaning -----------------------------------------------


def derived(*parts: str) -> str:
    """Return the id of these parts: an independent reading of the published rule."""
    return b32encode(blake2b("\x1f".join(parts).encode(), digest_size=16).digest()).decode().lower().rstrip("=")


def test_the_ids_of_recorded_triggers_follow_from_what_they_say() -> None:
    keys_at_entry = {"abandoned_cart": "a:9f3c", "loyalty_points": "u:42"}
    triggers = [e.value for e in examples("journey.trigger.v1") if e.value["type"] == "journey.trigger.v1"]
    for trigger in triggers:
        data = trigger["data"]
        cause = data["reason"]["causes"][0]["message_id"]
        run_key = data.get("run_key", "c-77")
        run = "jr_" + derived("run", keys_at_entry[data["journey"]], data["journey"], run_key, cause)
        assert (data["run_id"], trigger["id"]) == (run, "tr_" + derived("trigger", run, data["step"]))
    assert triggers


def test_the_ids_of_recorded_stage_changes_follow_from_what_they_say() -> None:
    changes = [e.value for e in examples("journey.trigger.v1") if e.value["type"] == "journey.stage_changed.v1"]
    for change in changes:
        parts = (change["type"], change["subject"], change["causationid"], change["data"]["to"])
        assert change["id"] == "ch_" + derived(*parts)
    assert changes


# --- what ingest refuses -----------------------------------------------------


def compact(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def depth(value: Json) -> int:
    """Return how many objects and arrays enclose the innermost value; a scalar is 0 deep."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def raw_bytes(letter: Json) -> bytes:
    return b64decode(letter["value_b64"], validate=True) if "value_b64" in letter else compact(letter["value"])


def test_every_reason_a_raw_record_can_be_refused_for_has_an_example() -> None:
    assert {example.value["reason"] for example in rejected()} == RAW_REASONS
    known = SCHEMAS["journey.dead_letter.v1"]["properties"]["reason"]["x-open-enum"]
    assert set(known) >= RAW_REASONS


@pytest.mark.parametrize("example", rejected(), ids=str)
def test_a_rejected_example_says_what_was_sent_where(example: Example) -> None:
    file_name = example.name.removeprefix("rejected/")
    assert file_name.split(".")[0] == example.value["reason"]
    assert example.schema in SCHEMAS
    assert example.value.keys() in ({"reason", "topic", "key", "value"}, {"reason", "topic", "key", "value_b64"})


@pytest.mark.parametrize("example", [e for e in rejected() if e.value["reason"] != "not_json"], ids=str)
def test_a_rejected_event_does_not_fit_the_schema_or_is_over_a_limit_no_schema_can_express(example: Example) -> None:
    raw = raw_bytes(example.value)
    event = json.loads(raw)
    fits = validator(example.schema).is_valid(event)
    if "value" in example.value:
        assert not fits
    else:
        assert fits
        assert example.value["reason"] == "too_large"
        assert depth(event) > DEEPEST


@pytest.mark.parametrize("example", [e for e in rejected() if e.value["reason"] == "not_json"], ids=str)
def test_what_is_not_json_is_not_an_object_in_utf_8(example: Example) -> None:
    raw = raw_bytes(example.value)
    try:
        found = json.loads(raw.decode())
    except ValueError:  # neither UTF-8 nor JSON: both are ValueErrors
        return
    assert not isinstance(found, dict)


def test_an_event_that_is_too_large_is_so_by_its_bytes() -> None:
    example = next(e for e in rejected() if e.name == "rejected/too_large.json")
    assert len(raw_bytes(example.value)) > LARGEST_VALUE


@pytest.mark.parametrize("reason", sorted(AT_FAULT))
def test_only_the_field_at_fault_has_to_be_put_right(reason: str) -> None:
    example = next(e for e in rejected() if e.name == f"rejected/{reason}.json")
    right = {
        "type": "cart.product_added",
        "v": 1,
        "data.item": {"item_id": "p-9"},
        "data.item.quantity": 2,
        "occurred_at": "2026-11-20T08:14:01.950Z",
        "data.revenue_minor": 7555,
    }
    event = json.loads(compact(example.value["value"]))
    *above, last = AT_FAULT[reason].split(".")
    place = event
    for part in above:
        place = place[part]
    place[last] = right[AT_FAULT[reason]]
    if reason == "wrong_topic":
        event["data"] = {"item": {"item_id": "p-9"}}
    validator(example.schema).validate(event)


# --- never edited ------------------------------------------------------------


def recorded_sums() -> dict[str, str]:
    """Return the SHA-256 of each recorded example by its path, as ``sha256sum`` writes them."""
    pairs = (line.split("  ", 1) for line in SUMS.read_text(encoding="utf-8").splitlines())
    return {path: digest for digest, path in pairs}


def changed(sums: dict[str, str], files: dict[str, bytes]) -> list[str]:
    """Return the recorded files that are gone or hold other bytes."""
    return [path for path, digest in sums.items() if sha256(files.get(path, b"")).hexdigest() != digest]


def files() -> dict[str, bytes]:
    return {path.relative_to(EXAMPLES).as_posix(): path.read_bytes() for path in sorted(EXAMPLES.glob("*/*.json"))}


def test_no_recorded_example_was_edited_or_removed() -> None:
    assert changed(recorded_sums(), files()) == []


def test_every_example_is_recorded() -> None:
    missing = files().keys() - recorded_sums().keys()
    assert not missing, "new examples are recorded with: python -m scripts.check_schemas record"


def test_the_list_of_sums_notices_an_edit_and_a_removal_but_not_an_addition() -> None:
    sums = {"a.json": sha256(b"{}").hexdigest(), "b.json": sha256(b"[]").hexdigest()}
    assert changed(sums, {"a.json": b"{}", "b.json": b"[]", "c.json": b"1"}) == []
    assert changed(sums, {"a.json": b"{ }", "b.json": b"[]"}) == ["a.json"]
    assert changed(sums, {"a.json": b"{}"}) == ["b.json"]
