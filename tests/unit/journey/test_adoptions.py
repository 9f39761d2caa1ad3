"""Which model is in force: an adoption counts only in place of the version that it names."""

from __future__ import annotations

from typing import Any

import pytest

from journey.adoptions import InForce, Standing, adoption, apply, in_force
from journey.errors import BadFieldError, EventError, MissingFieldError


def adopts(
    version: int, replaces: int | None, model: str = "churn", slot: str = "churn", **more: Any
) -> dict[str, Any]:
    return {
        "v": 1, "k": "adopt", "slot": slot, "model": model, "version": version, "replaces": replaces,
        "sha256": f"{version:04x}", **more,
    }  # fmt: skip


def after(*messages: Any) -> Standing:
    standing = Standing()
    for message in messages:
        standing.take(message)
    return standing


def test_a_slot_is_empty_until_something_is_adopted() -> None:
    assert in_force([]) == {}
    assert after().version_in("churn") is None


def test_versions_follow_each_other() -> None:
    assert in_force([adopts(1, None), adopts(2, 1), adopts(7, 2)]) == {"churn": ("churn", 7)}


def test_an_adoption_told_twice_counts_once() -> None:
    force: InForce = {}
    assert [apply(force, adopts(1, None)) for _ in range(2)] == [True, False]


def test_an_adoption_that_is_repeated_does_not_undo_a_rollback() -> None:
    late = adopts(43, 42)
    assert in_force([adopts(42, None), late, adopts(42, 43), adopts(43, None), adopts(44, 43)]) == {
        "churn": ("churn", 42)
    }
    assert in_force([adopts(42, None), late, adopts(41, 43), late]) == {"churn": ("churn", 41)}


def test_slots_do_not_see_each_other() -> None:
    assert in_force([adopts(1, None), adopts(5, None, "intent", "intent"), adopts(2, 1)]) == {
        "churn": ("churn", 2), "intent": ("intent", 5),
    }  # fmt: skip


def test_a_challenger_takes_the_slot_of_its_champion() -> None:
    standing = after(adopts(42, None), adopts(7, 42, "churn.boosted"))
    assert standing.in_force == {"churn": ["churn.boosted", 7, "0007"]}
    assert standing.highest == {"churn": 42, "churn.boosted": 7}


def test_without_a_slot_the_model_is_its_own() -> None:
    message = {"k": "adopt", "model": "churn", "version": 1, "sha256": "9b1d"}
    assert in_force([message]) == {"churn": ("churn", 1)}
    assert adoption(message)["slot"] == "churn"


def test_a_freeze_lasts_until_it_is_taken_back() -> None:
    freeze, unfreeze = ({"k": kind, "slot": "churn"} for kind in ("freeze", "unfreeze"))
    assert after(freeze, freeze).frozen == ["churn"]
    assert after(freeze, freeze, unfreeze).frozen == []


def test_the_history_tells_what_counted() -> None:
    past = after(adopts(1, None, at=5), adopts(2, 1, at=6), adopts(9, 1), adopts(1, 2)).history["churn"]
    assert [(one.version, one.at) for one in past] == [(1, 5), (2, 6), (1, 0)]


def test_how_far_a_version_was_believed_is_remembered_and_no_part_of_the_entry() -> None:
    message = adopts(1, None, trust="trusted")
    standing = after(message)
    assert (standing.trust_in("churn"), standing.trust_in("intent")) == ("trusted", None)
    standing.take(adopts(2, 1))
    assert standing.trust_in("churn") is None
    assert "trust" not in adoption(message)


@pytest.mark.parametrize("message", [None, [], "adopt", {}, {"k": "tick", "at": 1}, {"k": "freeze"}, {"k": "adopt"}])
def test_what_ingest_refuses_or_what_is_about_something_else_counts_for_nothing(message: Any) -> None:
    assert after(message) == Standing()


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("model", None, MissingFieldError), ("model", "", MissingFieldError), ("model", 5, BadFieldError),
        ("model", "x" * 101, BadFieldError), ("slot", 5, BadFieldError), ("version", None, MissingFieldError),
        ("version", -1, BadFieldError), ("version", 1.0, BadFieldError), ("version", True, BadFieldError),
        ("version", 2**53, BadFieldError), ("replaces", "1", BadFieldError), ("sha256", None, MissingFieldError),
        ("sha256", "XY", BadFieldError), ("sha256", "a" * 65, BadFieldError), ("at", "today", BadFieldError),
        ("at", -1, BadFieldError), ("trust", "much", BadFieldError), ("trust", ["cold"], BadFieldError),
    ],
)  # fmt: skip
def test_what_the_fold_could_not_read_is_refused(field: str, value: object, error: type[EventError]) -> None:
    with pytest.raises(error) as told:
        adoption(adopts(1, None, at=1) | {field: value})
    assert told.value.field == field
