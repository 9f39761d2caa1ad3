"""The schemas and the code say the same: neither can move alone."""

from __future__ import annotations

import json

import pytest

import journey.errors
from journey.entries import PAGE_ENTRIES
from journey.errors import EventError
from journey.events import CLASS_OF
from journey.ids import BLOCKED_IDS
from journey.triggers import Cause, stage_changed
from tests.schemas.catalogue import RAW_REASONS, REQUIRED_DATA, SCHEMAS, Json, validator


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
