"""What is an epoch's own, and who rests while one is switched to."""

from __future__ import annotations

import pytest

from streams.epochs import Plan, working
from streams.errors import EpochError
from streams.settings import Epoch, Settings
from streams.switch import _topics_of

HERE = Settings(topic_prefix="shop.")


def test_a_discarded_journal_takes_what_was_learned_from_it_with_it() -> None:
    rebuilt = HERE.at(Epoch(journal=3, state=3))
    assert set(_topics_of(rebuilt, Epoch())) == {
        "shop.journey-engine.e3-shop.customers-changelog", "shop.journey.journal.e3", "shop.journey.samples.e3",
        "shop.journey.checkpoints.e3",
    }  # fmt: skip


def test_a_discarded_state_leaves_the_journal_and_what_was_learned_from_it() -> None:
    upgraded = HERE.at(Epoch(journal=1, state=3))
    assert _topics_of(upgraded, Epoch()) == ["shop.journey-engine.e3-shop.customers-changelog"]


ALL = ["ingest", "engine", "learn"]


def test_ingest_rests_first_and_everybody_while_it_is_switched() -> None:
    assert working(Plan(), ALL) == ALL
    assert working(Plan(phase="draining"), ALL) == ["engine", "learn"]
    for roles in (ALL, ["learn"]):
        with pytest.raises(EpochError, match=f"{', '.join(roles)} rests until it is done"):
            working(Plan(phase="switching"), roles)
