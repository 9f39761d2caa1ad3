from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families

from streams import web
from streams.errors import SettingsError
from streams.metrics import exposition
from streams.speech import LastError

HOME = "127.0.0.1"


def told() -> dict[str, Any]:
    """Return what a worker with all roles tells, each number another one."""
    return {
        "ready": True, "compiled": True, "fold_version": 7, "epoch": {"journal": 2, "state": 3}, "instance_id": None,
        "process": {"cpu_seconds": 1.5, "rss_bytes": 1 << 20}, "last_error": None,
        "roles": {
            "ingest": {
                "ready": True, "rebalances": 1, "events_per_second": 0.0, "seconds": {"parse": 0.5, "append": 0.25},
                "counts": {"events": 11, "dead_letters": 5, "gave_up": 0, "align_waits": 12, "align_gave_up": 13,
                           "align_held": 14, "align_most_held": 15},
                "lag": {"events.cart/0": 16}, "dead_letters": {"bad_time": 2, "bad_money": 3},
            },
            "engine": {
                "ready": False, "rebalances": 4, "events_per_second": 9.0, "seconds": {"fold": 1.0, "table": 2.0},
                "counts": {"events": 21, "pages": 22, "triggers": 23, "repeats": 24, "poison": 25},
                "lag": {"journey.journal/3": 26}, "timers_overdue": 27, "prompt_timer_late_seconds": 2.8,
                "table_records": 29, "recovery": {"seconds": 3.5, "records": 30},
                "read_model": {"behind": 31, "stale_seconds": 3.2, "away": True, "written": 33, "failures": 34},
            },
            "learn": {
                "ready": True, "rebalances": 5, "events_per_second": 1.0, "seconds": {"learn": 3.0, "publish": 0.1},
                "counts": {"events": 41, "published": 42, "repeats": 43, "fits": 44, "bad_samples": 45, "notices": 46,
                           "checkpoints": 47, "adopted": 48, "refused": 49, "passed_over": 50},
                "lag": {"journey.samples/2": 51}, "families": {"segments": {"next": 52}},
            },
        },
    }  # fmt: skip


def samples() -> dict[tuple[str, ...], float]:
    """Return the metrics by name and values of labels."""
    families = text_string_to_metric_families(exposition(told).decode())
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (("journey_events_total", "ingest"), 11), (("journey_events_total", "engine"), 21),
        (("journey_dead_letters_total", "bad_money"), 3), (("journey_dead_letters_total", "poison"), 25),
        (("journey_pages_total", "engine"), 22), (("journey_triggers_total", "engine"), 23),
        (("journey_repeats_skipped_total", "engine"), 24), (("journey_poison_total", "engine"), 25),
        (("journey_align_waits_total", "ingest"), 12), (("journey_align_gave_up_total", "ingest"), 13),
        (("journey_align_held", "ingest"), 14), (("journey_align_most_held", "ingest"), 15),
        (("journey_lag", "0", "events.cart", "ingest"), 16), (("journey_lag", "3", "engine", "journey.journal"), 26),
        (("journey_timers_overdue", "engine"), 27), (("journey_prompt_timer_late_seconds", "engine"), 2.8),
        (("journey_table_records", "engine"), 29), (("journey_recovery_seconds", "engine"), 3.5),
        (("journey_read_model_behind", "engine"), 31), (("journey_read_model_stale_seconds", "engine"), 3.2),
        (("journey_read_model_away", "engine"), 1), (("journey_rebalances_total", "engine"), 4),
        (("journey_group_seconds_total", "engine", "fold"), 1), (("journey_role_ready", "engine"), 0),
        (("journey_epoch", "state"), 3), (("journey_fold_version",), 7), (("journey_compiled",), 1),
        (("journey_events_total", "learn"), 41), (("journey_models_published_total", "learn"), 42),
        (("journey_model_fits_total", "learn"), 44), (("journey_bad_samples_total", "learn"), 45),
        (("journey_model_notices_total", "learn"), 46), (("journey_checkpoints_total", "learn"), 47),
        (("journey_models_adopted_total", "learn"), 48), (("journey_models_refused_total", "learn"), 49),
        (("journey_lag", "2", "journey.samples", "learn"), 51),
        (("process_cpu_seconds_total",), 1.5), (("process_resident_memory_bytes",), 1 << 20),
    ],
    ids=lambda one: "-".join(one) if isinstance(one, tuple) else "",
)  # fmt: skip
def test_each_number_has_its_metric(name: tuple[str, ...], value: float) -> None:
    assert samples()[name] == value


def test_what_a_role_does_not_have_is_not_shown() -> None:
    assert ("journey_timers_overdue", "ingest") not in samples()


class FakeVitals:
    """Vitals of a worker that does not run."""

    is_ready = False

    def told(self) -> dict[str, Any]:
        return told()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    found = web.listen(f"{HOME}:0")
    assert found is not None
    yield found
    found.close()


async def test_it_answers_alive_before_it_is_ready(listening: socket.socket) -> None:
    vitals: Any = FakeVitals()
    runner = await web.serve(listening, vitals)
    base = f"http://{web.told_address(listening)}"
    try:
        async with ClientSession() as client:
            answers = {}
            for path in ("health", "ready", "metrics", "status"):
                async with client.get(f"{base}/{path}") as answer:
                    answers[path] = (answer.status, await answer.read())
            vitals.is_ready = True
            async with client.get(f"{base}/ready") as answer:
                ready = answer.status
    finally:
        await runner.cleanup()
    assert {path: status for path, (status, _) in answers.items()} == {
        "health": 200, "ready": 503, "metrics": 200, "status": 200,
    }  # fmt: skip
    assert ready == 200
    assert orjson.loads(answers["status"][1]) == told()
    assert answers["metrics"][1] == exposition(told)


def test_a_port_that_is_taken_gives_way_to_a_free_one(
    listening: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    port = listening.getsockname()[1]
    other = web.listen(f"{HOME}:{port}")
    assert other is not None
    with other:
        assert other.getsockname()[1] != port
        assert web.told_address(other) in caplog.text


def test_an_empty_address_listens_nowhere() -> None:
    assert web.listen("") is None


@pytest.mark.parametrize("address", ["192.0.2.1:80", f"{HOME}:70000"])
def test_an_address_that_is_not_ours_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="JOURNEY_HTTP"):
        web.listen(address)


def test_the_last_error_is_remembered() -> None:
    import logging

    handler = LastError(lambda: 5)
    handler.handle(logging.LogRecord("journey.x", logging.ERROR, "", 0, "went %s", ("wrong",), None))
    assert handler.last == {"at": 5, "logger": "journey.x", "text": "went wrong"}
