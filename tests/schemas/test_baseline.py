"""Today's schemas keep what the released ones promised."""

from __future__ import annotations

from copy import deepcopy

import pytest

from tests.schemas.catalogue import BASELINE, SCHEMAS, Json, load
from tests.schemas.compatibility import incompatibilities

RELEASED: dict[str, Json] = {path.stem: load(path) for path in sorted(BASELINE.glob("*.json"))}


def test_something_was_released() -> None:
    assert RELEASED


@pytest.mark.parametrize("name", sorted(RELEASED))
def test_a_released_schema_is_still_there_and_breaks_nothing(name: str) -> None:
    assert name in SCHEMAS, "a released schema stays; a breaking change is a new file, version 2"
    assert incompatibilities(RELEASED[name], SCHEMAS[name]) == []


@pytest.mark.parametrize("name", sorted(RELEASED))
def test_a_breaking_change_of_this_very_schema_would_be_found(name: str) -> None:
    broken = deepcopy(SCHEMAS[name])
    definitions = broken.get("$defs", {})
    for definition in definitions.values():
        definition.get("properties", {}).clear()
        definition.pop("oneOf", None)
    broken.get("properties", {}).clear()
    broken.pop("oneOf", None)
    assert incompatibilities(RELEASED[name], broken)


@pytest.mark.parametrize("name", sorted(name for name in RELEASED if name.startswith("events.")))
def test_a_tighter_limit_on_any_text_of_an_event_would_be_found(name: str) -> None:
    broken = deepcopy(SCHEMAS[name])
    broken["$defs"]["text"]["maxLength"] -= 1
    assert incompatibilities(RELEASED[name], broken)
