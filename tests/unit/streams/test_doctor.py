"""What the doctor makes of what it sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from journey.adoptions import Standing
from journey.state import FOLD_VERSION
from streams import doctor
from streams.cli_ops import WIDTH, told_by_doctor
from streams.doctor import Finding
from streams.settings import Settings

SETTINGS = Settings(redis_url="")
DAY = 86_400.0
IN_FORCE = Standing({"churn": ["churn", 1, "00"]}, ["churn"])
THREE = Settings(redis_url="", replication=3)


def levels(found: list[Finding]) -> list[str]:
    return [one.level for one in found]


def worker(**differs: Any) -> dict[str, Any]:
    engine = {"counts": {"poison": 0}, "prompt_timer_late_seconds": 0.0, "clock_ahead_seconds": 0.01}
    engine |= differs.pop("engine", {})
    return {"ready": True, "compiled": True, "last_error": None, "roles": {"engine": engine}, **differs}


def status_of(
    *workers: dict[str, Any] | None, oldest: float | None = None, state: str = "Stable", unlearned: int = 0
) -> dict[str, Any]:
    role = {"members": [{}] * len(workers), "state": state}
    return {
        "roles": {"ingest": role, "engine": role, "learn": role | {"lag": unlearned}}, "oldest_unread_seconds": oldest,
        "workers": {f"host:{number}": one for number, one in enumerate(workers)},
    }  # fmt: skip


def test_a_sound_deployment_has_nothing_to_do() -> None:
    found = [
        *doctor.of_program(), *doctor.of_store(SETTINGS), *doctor.of_cluster(SETTINGS, 1, {}),
        *doctor.of_places(SETTINGS, {"events.click": {0: (1, 1)}}), *doctor.of_sizes(SETTINGS, {"a": 1_048_588}),
        *doctor.of_versions({0: FOLD_VERSION}), *doctor.of_status(status_of(worker(), oldest=0.2)),
        doctor.of_redis({"version": "7.2", "policy": "noeviction"}),
    ]  # fmt: skip
    assert set(levels(found)) <= {"ok", "warning"}
    assert [one for one in found if one.level == "warning" and "compiled" not in one.what] == []


@pytest.mark.parametrize(
    ("found", "level", "says", "todo"),
    [
        (doctor.of_cluster(THREE, 1, {})[-1], "fault", "there are 1", "JOURNEY_REPLICATION=1"),
        (doctor.of_cluster(SETTINGS, 3, {})[-1], "warning", "one copy", "JOURNEY_REPLICATION=3"),
        (
            doctor.of_cluster(
                SETTINGS, 1, {"group.min.session.timeout.ms": "30000", "group.max.session.timeout.ms": "60000"}
            )[-1],
            "fault", "session timeout of 15 s", "from 30 to 60",
        ),
        (doctor.of_cluster(SETTINGS, 1, {"unclean.leader.election.enable": "true"})[-1], "warning", "unclean", "false"),
        (
            doctor.of_places(SETTINGS, {"events.click": {0: (1, 1), 1: (1, 1)}, "events.cart": {0: (1, 1)}})[0],
            "warning", "events.cart 1, events.click 2", "same count",
        ),
        (doctor.of_places(THREE, {"a": {0: (1, 1)}})[0], "warning", "a: 1 copies", "reassign"),
        (doctor.of_places(THREE, {"a": {0: (3, 2)}})[0], "warning", "1 partitions are not up to date", "missing"),
        (doctor.of_sizes(SETTINGS, {"a": 500_000})[0], "fault", "a: it takes batches of 500,000", "JOURNEY_BATCH"),
        (doctor.of_versions({0: FOLD_VERSION, 1: FOLD_VERSION + 1})[0], "fault", "folded by version", "upgrade"),
        (doctor.of_redis("refused"), "warning", "refused", "JOURNEY_REDIS_URL"),
        (doctor.of_redis({"version": "7", "policy": "allkeys-lru"}), "warning", "allkeys-lru", "noeviction"),
        (doctor.of_status(status_of())[0], "warning", "ingest: no worker", "journey worker"),
        (doctor.of_status(status_of())[2], "warning", "learn: no worker", "none learns; start one: journey worker"),
        (doctor.of_status(status_of(worker(), unlearned=20_001))[0], "warning", "20,001 samples are not", "five"),
        (doctor.of_models(IN_FORCE, {"churn": "not ours"}, 60.0)[0], "fault", "churn: not ours", "JOURNEY_MODEL_KEY"),
        (doctor.of_models(IN_FORCE, {}, 8 * DAY)[0], "warning", "of 8 days ago", "journey status"),
        (doctor.of_models(Standing(), {}, 9 * DAY)[0], "ok", "none is in force", ""),
        (doctor.of_models(IN_FORCE, {}, 7200.0)[0], "ok", "1 slots have one in force, the newest sample", ""),
        (doctor.of_models(IN_FORCE, {}, 7200.0)[0], "ok", "of 2 h ago; frozen: churn", ""),
        (doctor.of_status(status_of(worker(), state="PreparingRebalance"))[0], "warning", "shared out", "wait"),
        (doctor.of_status(status_of(worker(), oldest=90.0))[0], "warning", "waited 90 s", "workers"),
        (doctor.of_status(status_of(None))[0], "warning", "does not answer", "JOURNEY_HTTP"),
        (doctor.of_status(status_of(worker(ready=False)))[0], "warning", "not ready", "recovers"),
        (doctor.of_status(status_of(worker(last_error={"text": "broke"})))[0], "warning", "broke", "log"),
        (
            doctor.of_status(status_of(worker(engine={"counts": {"poison": 2}})))[0], "warning", "2 entries", "dead-l",
        ),
        (
            doctor.of_status(status_of(worker(engine={"prompt_timer_late_seconds": 300.0})))[0],
            "warning", "300 s late", "unread",
        ),
        (
            doctor.of_status(status_of(worker(engine={"clock_ahead_seconds": -2.5})))[0],
            "warning", "2.5 s behind", "NTP",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_what_to_do(found: Finding, level: str, says: str, todo: str) -> None:
    assert found.level == level
    assert says in found.what
    assert todo in found.todo


def test_a_folder_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    (found,) = doctor.of_store(Settings(store="rocksdb", datadir=str(file / "below")))
    assert found.level == "fault"
    (good,) = doctor.of_store(Settings(store="rocksdb", datadir=str(tmp_path / "new" / "folder")))
    assert good.level == "ok"
    assert not (tmp_path / "new").exists()


def test_lines_fit_a_terminal_and_end_with_a_count() -> None:
    found = [Finding("ok", "word " * 40), Finding("fault", "w" * 10, "do " * 60), Finding("warning", "x", "y")]
    lines = told_by_doctor(found)
    assert max(map(len, lines)) <= WIDTH
    assert lines[-1] == "1 fault, 1 warning"
    assert told_by_doctor([Finding("ok", "fine")])[-1] == "all is well"


def test_what_is_the_same_of_many_topics_is_said_once() -> None:
    places = {name: {0: (1, 1)} for name in ("events.cart", "events.click")}
    found = doctor.together(doctor.of_places(THREE, places))
    assert [one.what for one in found] == ["events.cart, events.click: 1 copies, JOURNEY_REPLICATION=3"]
