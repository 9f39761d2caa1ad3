from __future__ import annotations

from collections import Counter

import orjson
import pytest

from journey.state import FOLD_VERSION
from tests.golden import story
from tests.schemas.catalogue import validator

CHANGED = (
    "the fold makes something else of the story than it did. If that is meant, raise FOLD_VERSION in journey/state.py: "
    "state folded by the version before must not be folded on by this one. Then run `python -m tests.golden.story`."
)


@pytest.fixture(scope="module")
def outcome() -> tuple[bytes, bytes]:
    return story.outcome()


def test_the_story_ends_as_it_is_recorded_byte_for_byte(outcome: tuple[bytes, bytes]) -> None:
    triggers, state = outcome
    assert triggers.decode() == story.TRIGGERS.read_text(encoding="utf-8"), CHANGED
    assert state.decode() == story.STATE.read_text(encoding="utf-8"), CHANGED


def test_what_is_recorded_was_folded_by_this_version() -> None:
    assert story.recorded_version() == FOLD_VERSION, "run `python -m tests.golden.story`"


def test_another_outcome_is_never_recorded_under_the_same_version() -> None:
    triggers, state = story.TRIGGERS.read_bytes(), story.STATE.read_bytes()
    assert "raise it" in (story.write(triggers, state + b" ", is_released=True) or "")
    assert story.STATE.read_bytes() == state


def test_all_that_is_told_fits_the_schemas(outcome: tuple[bytes, bytes]) -> None:
    for line in outcome[0].splitlines():
        validator("journey.trigger.v1").validate(orjson.loads(line))
    for page in ([entry] for entry in story.entries()):
        validator("journey.page.v1").validate(orjson.loads(orjson.dumps(page)))


def test_the_story_has_something_of_everything(outcome: tuple[bytes, bytes]) -> None:
    told = [orjson.loads(line) for line in outcome[0].splitlines()]
    types = Counter(one["type"] for one in told)
    assert types["journey.trigger.v1"] == 2
    stages = {one["data"]["to"] for one in told if one["type"] == "journey.stage_changed.v1"}
    assert stages == {"awareness", "interest", "evaluation", "purchase", "use", "loyalty", "churn"}
    assert any(one["causationid"].startswith("timer:") for one in told)
    ids = [one["id"] for one in told]
    assert len(ids) == len(set(ids))
