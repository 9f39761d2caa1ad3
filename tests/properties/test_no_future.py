"""No feature sees past its own moment: whatever comes later, what was frozen stays as it was."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from journey.engine import Shard, fold
from journey.entries import Entry
from journey.events import DAY
from tests.factories import histories, tick


def frozen(history: list[Entry]) -> tuple[list[Any], int]:
    """Return rows and scores as they wait or were sent, with when they were made; and journal time at the end."""
    shard = Shard(0, lambda _key: None, ())
    for offset, entry in enumerate(history):
        fold(shard, offset, [entry])
    rows: list[Any] = []
    for key, sample in shard.samples:
        if sample["kind"] == "label":
            rows.append((sample["scored_at"], key, sample["model"], sample["x"], sample["p"]))
        else:
            rows.append((sample["at"], key, sample["model"], sample.get("x"), sample.get("profile")))
    for key, customer in shard.touched.items():
        rows += [(row[0], key, "churn", row[1], row[2]) for row in customer.get("waiting", ())]
        rows += [(row[0], key, "intent", row[2], row[3]) for row in customer.get("visit", ())]
    return sorted(rows, key=repr), shard.partition["now"]


@settings(max_examples=60, deadline=None)
@given(histories(), histories(), histories(), st.integers(0, 45))
def test_another_future_changes_nothing_that_was_frozen_before_it(
    past: list[Entry], one: list[Entry], other: list[Entry], days: int
) -> None:
    _, now = frozen(past)
    futures = []
    for future in (one, other, []):
        moved: list[Any] = [tick(now)]
        for number, entry in enumerate(future):
            later = {**entry, "at": now + days * DAY + entry["at"] % DAY, "src": ["events.future", 0, number]}
            if "oc" in later:
                later["oc"] = later["at"]
            moved.append(later)
        rows, _ = frozen([*past, *moved])
        futures.append([row for row in rows if row[0] <= now])
    assert futures[0] == futures[1] == futures[2]
