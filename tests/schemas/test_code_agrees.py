"""The schemas and the code say the same: neither can move alone."""

from __future__ import annotations

import json

import pytest

import journey.errors
from benchmarks.quality import stream
from journey.entries import PAGE_ENTRIES
from journey.errors import EventError
from journey.events import CLASS_OF
from journey.ids import BLOCKED_IDS
from journey.triggers import Cause, stage_changed
from streams.faust_fixes import LightRecord
from streams.records import parse_control
from streams.shop import generate
from streams.snapshots import Keys, sign
from tests.schemas.catalogue import RAW_REASONS, REQUIRED_DATA, SCHEMAS, Example, Json, examples, validator


def test_the_engine_knows_exactly_the_published_types() -> None:
    assert CLASS_OF.keys() == REQUIRED_DATA.keys()


def test_every_error_of_an_event_is_a_published_reason() -> None:
    errors = [error for error in vars(journey.errors).values() if isinstance(error, type)]
    reasons = {error.reason for error in errors if issubclass(error, EventError)}
    assert reasons == RAW_REASONS


@pytest.mark.parametrize("word", sorted(BLOCKED_IDS))
def test_no_blocked_id_passes_the_schema(word: str) -> None:
    definition = SCHEMAS["events.profile.v1"]["$defs"]["usable_id"]
    assert not validator("events.profile.v1").evolve(schema=definition).is_valid(word)


def test_a_page_of_the_engine_fits_the_page_of_the_schema() -> None:
    assert SCHEMAS["journey.page.v1"]["maxItems"] == PAGE_ENTRIES


@pytest.mark.parametrize("cause", [Cause("m-1", "click.product_viewed", ["events.click", 3, 801]), None])
@pytest.mark.parametrize("key", ["u:42", "a:9f3c"])
@pytest.mark.parametrize("before", [None, "churn"])
def test_a_change_of_stage_fits_its_schema(key: str, cause: Cause | None, before: str | None) -> None:
    trigger = stage_changed(
        key, 1795162364502, (before, "awareness"), "first seen", {"seen_at": 1795162364502}, cause, due=7
    )
    written: Json = json.loads(json.dumps(trigger.body))
    validator("journey.trigger.v1").validate(written)


def test_a_snapshot_as_it_is_signed_fits_its_schema() -> None:
    trained = {"samples": 500, "metrics": {"log_loss": 0.27, "auc": None}, "trust": "shadow", "at": 1795162442000}
    value = sign(
        Keys(b"a key of the tests"), model="churn", number=1, parent=None, schema="churn/1",
        trained_through={"0": 500}, trained=trained, payload={"role": "champion", "w": [0.5]},
    )  # fmt: skip
    validator("journey.model.v1").validate(json.loads(value))


def test_every_sample_of_a_shop_fits_its_schema_and_has_no_field_that_the_schema_does_not_name() -> None:
    samples = [sample for _, sample in stream.run(generate(seed=1, customers=120, days=80)).samples]
    kinds = {(sample["model"], sample["kind"]) for sample in samples}
    assert kinds >= {(name, "label") for name in ("churn", "intent")}
    assert kinds >= {(name, "observe") for name in ("churn", "segments", "recs", "value")}
    check, schema = validator("journey.sample.v1"), SCHEMAS["journey.sample.v1"]
    named = {
        (one["properties"]["model"]["const"], field)
        for one in schema["oneOf"]
        for field in (*schema["properties"], *one["properties"])
    }
    for sample in samples:
        check.validate(json.loads(json.dumps(sample)))
    assert {(sample["model"], field) for sample in samples for field in sample} <= named


ABOUT_MODELS = [one for one in examples("journey.control.v1") if one.value["k"] in ("adopt", "freeze", "unfreeze")]


@pytest.mark.parametrize("example", ABOUT_MODELS, ids=str)
def test_a_command_about_models_is_understood_and_journalled_as_the_page_says(example: Example) -> None:
    record = LightRecord("journey.control", 0, 17, 1795162812000, None, json.dumps(example.value).encode(), [])
    (parsed,) = parse_control([record], 3)
    assert parsed.dead_letter is None
    assert [number for number, _ in parsed.entries] == ([0, 1, 2] if example.value["k"] == "adopt" else [])
    for _, entry in parsed.entries:
        validator("journey.page.v1").validate([json.loads(entry)])
