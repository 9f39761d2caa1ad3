"""Workers are stopped in the middle of a write, lose their partitions, and wake up when a new owner has gone on."""

from __future__ import annotations

import asyncio
import signal
from itertools import islice
from pathlib import Path

import pytest

from streams import topics
from streams.shop import generate
from tests.conftest import Broker
from tests.harness import STOPPED, deployed, live, wall_ms
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROLES = ("ingest", "engine")


@pytest.mark.parametrize(
    ("when", "engine_topic"),
    [("before", "customers-changelog"), ("before", topics.TRIGGERS), ("acknowledged", "customers-changelog")],
)
async def test_zombies_take_nothing_and_add_nothing(
    kafka: Broker, prefix: str, tmp_path: Path, when: str, engine_topic: str
) -> None:
    records = live(generate(customers=150, events=4_000), wall_ms())

    async with deployed(kafka.url, prefix, tmp_path / "logs", SESSION_TIMEOUT="2") as deployment:

        async def publish(count: int) -> None:
            for _ in range(count // 50):
                await deployment.publish(islice(records, 50))

        zombies = {role: deployment.worker(f"{role}-zombie", role) for role in ROLES}
        for role, topic in zip(ROLES, (topics.JOURNAL, engine_topic), strict=True):
            zombies[role].start("--append", "4", "--topic", topic, "--when", when, "--signal", "STOP")
        await publish(1_000)
        await eventually(lambda: zombies["ingest"].is_frozen, within_seconds=40)
        heirs = [deployment.worker(f"{role}-heir", role).start() for role in ROLES]
        async with deployment.supervised():
            await publish(500)  # the new owner of ingest goes on, and the engine with it
            await eventually(lambda: zombies["engine"].is_frozen, within_seconds=40)
            await asyncio.gather(*(deployment.shared_by(role, 1) for role in ROLES))  # the zombies' sessions are over
            await publish(500)
            await deployment.at_rest()
            for zombie in zombies.values():
                zombie.signal(signal.SIGCONT)
            await publish(500)
            # they came back by themselves, or left and were started anew
            await asyncio.gather(*(deployment.shared_by(role, 2) for role in ROLES))
            await publish(500)
            found = await deployment.examined()
        assert found.is_exact, found.line()
        assert found.figures["accepted"] > 2_500
        if when == "before":
            # the late writes did land: the same entries or the same triggers and records once more
            assert found.figures["repeated_entries"] > 0
        assert all(worker.status in (0, STOPPED) for worker in (*zombies.values(), *heirs))
