"""No history leads anybody along a way that the table of moves does not have."""

from __future__ import annotations

from hypothesis import given, settings

from journey.engine import Shard, fold
from journey.entries import Entry
from journey.stages import LEGAL, NAMES, stage_name
from journey.state import Customer
from journey.triggers import STAGE_CHANGED
from tests.factories import histories, of_type, tick

quickly = settings(max_examples=100, deadline=None)

# time alone leads down, and one tick may fire several timers of a customer
BY_TIME = {(2, 1), (1, 0), (2, 0), (5, 4), (6, 5), (6, 4)}
VITALITY_BY_TIME = {("active", "at_risk"), ("at_risk", "lapsed"), ("active", "lapsed")}
VITALITY_BY_EVENT = {("at_risk", "active"), ("lapsed", "active"), ("lapsed", "at_risk")}
KEYS = ("u:1", "u:2", "a:3")


def standing(shard: Shard) -> dict[str, tuple[int, str]]:
    """Return depth and vitality of everybody."""
    known: list[Customer | None] = [shard.customer(key) for key in KEYS]
    return {one["key"]: (one["stage"]["depth"], one["stage"]["vitality"]) for one in known if one is not None}


@quickly
@given(histories())
def test_every_move_is_one_of_the_table(history: list[Entry]) -> None:
    shard = Shard(0, lambda _key: None, ())
    pages: list[Entry] = []
    for entry in history:  # time passes first, so that what an event does is told from what time does
        pages += [tick(entry["at"]), entry]
    for offset, entry in enumerate(pages):
        before = standing(shard)
        fold(shard, offset, [entry])
        for key, (depth, vitality) in standing(shard).items():
            was, felt = before.get(key, (0, "active"))
            by_time = entry["k"] == "tick"
            assert depth == was or (was, depth) in (BY_TIME if by_time else LEGAL)
            assert vitality == felt or (felt, vitality) in (VITALITY_BY_TIME if by_time else VITALITY_BY_EVENT)
            assert not (vitality == "lapsed" and depth > 4)


@quickly
@given(histories())
def test_the_changes_that_are_told_follow_one_another(history: list[Entry]) -> None:
    live = [entry for entry in history if "h" not in entry]
    shard = Shard(0, lambda _key: None, ())
    fold(shard, 0, live)
    for key in KEYS:
        changes = [one.body["data"] for one in of_type(shard.triggers, STAGE_CHANGED) if one.key == key]
        here: str | None = None
        for change in changes:
            assert change["from"] == here
            assert change["to"] in {*NAMES, "churn"}
            assert change["reason"]["text"]
            here = change["to"]
        customer = shard.customer(key)
        assert here == (None if customer is None else stage_name(customer))


@quickly
@given(histories())
def test_nobody_waits_for_a_timer_that_is_long_over(history: list[Entry]) -> None:
    shard = Shard(0, lambda _key: None, ())
    fold(shard, 0, history)
    fold(shard, 1, [tick(shard.partition["now"] + 1)])
    now = shard.partition["now"]
    for key in KEYS:
        customer = shard.customer(key)
        if customer is not None:
            assert all(due > now for due in customer["timers"].values())
            assert ("abandoned_cart" in customer["timers"]) == ("runs" in customer)
    assert shard.agenda.overdue(now) == 0
