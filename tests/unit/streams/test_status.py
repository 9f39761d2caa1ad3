from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from streams.cli_ops import show
from tests.unit.streams.test_metrics import told as worker

HERE = "10.0.0.7:9646"


def member(address: str | None, topic: str, *numbers: int) -> dict[str, Any]:
    return {"host": "10.0.0.7", "address": address, "partitions": {topic: list(numbers)}}


def seen(answer: dict[str, Any] | None, address: str | None = HERE) -> dict[str, Any]:
    """Return a status with one worker in both roles, which answers so."""
    raw, pages = member(address, "events.cart", 0, 1), member(address, "journey.journal", *range(40))
    samples = member(address, "journey.samples", 0, 1, 2, 3, 4, 7)
    samples["partitions"]["journey.models"] = [0]
    return {
        "epoch": {"journal": 2, "state": 3}, "oldest_unread_seconds": 4.25,
        "roles": {
            "ingest": {"group": "journey-ingest", "state": "Stable", "members": [raw], "lag": 1234},
            "engine": {"group": "journey-engine", "state": "Stable", "members": [pages], "lag": 5},
            "learn": {"group": "journey-learn", "state": "Stable", "members": [samples], "lag": 51_234},
        },
        "workers": {} if address is None else {address: answer},
    }  # fmt: skip


def shown(status: dict[str, Any]) -> str:
    out = StringIO()
    show(Console(file=out, width=80, highlight=False), status)
    return out.getvalue()


def test_it_shows_what_a_worker_tells_in_80_columns() -> None:
    text = shown(seen(worker()))
    assert max(map(len, text.splitlines())) <= 80
    for part in (
        "epoch: journal 2, state 3; the oldest unread record has waited 4.2 s", "1,234 raw records behind",
        "5 pages behind", "51,234 samples behind",
        "samples of churn, intent, segments, recs, value",
        f"{HERE}: ready, 1 MB", "(40)", "29 customers, 27 timers overdue", "Redis does not answer",
    ):  # fmt: skip
        assert part in text


def test_where_raw_topics_are_missing_nothing_is_said_of_what_waits() -> None:
    status = seen(worker()) | {"oldest_unread_seconds": None}
    status["roles"]["ingest"]["lag"] = None
    told = shown(status)
    assert "unknown" in told
    assert "journey topics create" in told
    assert "nothing is unread" not in told


def test_a_worker_that_does_not_answer_is_shown_as_such() -> None:
    assert f"{HERE} does not answer" in shown(seen(None))


def test_a_worker_without_an_address_is_no_silent_one() -> None:
    text = shown(seen(None, None))
    assert "JOURNEY_HTTP" in text
    assert "does not answer" not in text


@pytest.mark.parametrize("role", ["ingest", "engine", "learn"])
def test_a_role_without_a_worker_is_told(role: str) -> None:
    status = seen(worker())
    status["roles"][role]["members"] = []
    assert f"{role}: no worker" in shown(status)


def test_the_last_error_is_shown() -> None:
    assert "it broke" in shown(seen(worker() | {"last_error": {"at": 1, "logger": "journey.x", "text": "it broke"}}))
