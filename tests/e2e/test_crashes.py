"""Processes are killed at any moment, join and leave; in the end every event counts exactly once.

``CRASH_SECONDS`` and ``CRASH_SEED`` lengthen and vary the run::

    CRASH_SECONDS=600 CRASH_SEED=7 python -m pytest tests/e2e/test_crashes.py -s
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import pytest

from streams import topics
from streams.logs import end_offsets
from streams.shop import generate
from tests.conftest import Broker
from tests.harness import NOWHERE, STOPPED, Chance, Deployment, Worker, deployed, elapsed, live, wall_ms
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SECONDS: Final = float(os.environ.get("CRASH_SECONDS", "0"))
SEED: Final = os.environ.get("CRASH_SEED", "1")
KILLS: Final = 5  # of each role at least
SLICE: Final = 40  # events between two pauses
PAUSE_MS: Final = 250
QUARTER: Final = 900_000  # ms by which journal time moves on with each tick of the publisher


# role: the appends at which it dies: topic, at most so many batches after its start
FATAL: Final = {
    "ingest": (("journey.journal", 20), ("journey.dead_letters", 2)),
    "engine": (("customers-changelog", 12), ("journey.triggers", 8), ("journey.samples", 4)),
    "learn": (("journey.models", 3), ("journey.checkpoints", 3), ("journey.control", 2)),
}


@dataclass
class Crashes:
    """What happens to the workers of one role until it has happened often enough.

    The first worker has a stable name in its group, the second is a new
    member each time. Nothing happens before the role has written since the
    last time, so that each fault meets it at work.
    """

    deployment: Deployment
    role: str
    chance: Chance
    until: float  # on the steady clock
    happened: Counter[str] = field(default_factory=Counter)
    workers: list[Worker] = field(default_factory=list)

    async def run(self) -> None:
        """Kill, replace, join and leave until it is time to stop; in the end the first worker runs."""
        # the first engine keeps customers on disk, the second in memory: partitions move between the two
        disk = {"STORE": "rocksdb", "DATADIR": str(self.deployment.directory / "data")}
        store = disk if self.role == "engine" else {}
        first = self.deployment.worker(f"{self.role}-1", self.role, INSTANCE_ID="first", **store).start()
        second = self.deployment.worker(f"{self.role}-2", self.role)
        self.workers += [first, second]
        while time.monotonic() < self.until or self.kills < KILLS:
            await self._replace(first)
            await self._join(second)
            await self._kill(second)
            await self._freeze(second)
            await self._kill(second)
            await self._replace(first)
            await self._join(second)
            await self._leave(second)
            if self.kills < KILLS:
                await self._kill(first)
                first.start()
        await self._at_work()

    @property
    def kills(self) -> int:
        return sum(count for what, count in self.happened.items() if what.startswith("kill"))

    async def _kill(self, worker: Worker) -> None:
        await self._at_work()
        worker.kill()
        self.happened["kill"] += 1

    async def _replace(self, worker: Worker) -> None:
        """Kill a worker, and let its successor die right before or after one of its appends is acknowledged."""
        await self._kill(worker)
        topic, most = self.chance.one_of(*FATAL[self.role])
        when = self.chance.one_of("before", "acknowledged")
        number = 1 + self.chance.below(most)
        worker.start("--append", str(number), "--topic", topic, "--when", when)
        try:
            await worker.ended(within_seconds=12)
            self.happened[f"kill {when} {topic}"] += 1
        except AssertionError:  # too little traffic for this one; it must not die later, when nobody expects it
            worker.kill()
        worker.planted = ()
        worker.start()

    async def _join(self, worker: Worker) -> None:
        await self._at_work()
        worker.start()
        await self.deployment.shared_by(self.role, 2)
        self.happened["join"] += 1

    async def _freeze(self, worker: Worker) -> None:
        """Let a new worker stop in the middle of a write, for longer than its session lasts, and wake up again."""
        topic, most = FATAL[self.role][0]
        number = 1 + self.chance.below(most)
        worker.start("--append", str(number), "--topic", topic, "--when", "before", "--signal", "STOP")
        worker.planted = ()
        try:
            await eventually(lambda: worker.is_frozen, within_seconds=20)
        except AssertionError:  # too little traffic: it must not freeze later, when nobody expects it
            worker.kill()
            worker.start()
        else:
            await elapsed(self.deployment.settings.session_timeout * self.chance.between(1.3, 2.5))
            worker.signal(signal.SIGCONT)
            self.happened["zombie"] += 1

        async def are_two() -> bool:
            self._restart_fail_stopped()
            return await self.deployment.members(self.role) == 2

        await eventually(are_two, within_seconds=60)

    async def _leave(self, worker: Worker) -> None:
        await self._at_work()
        assert await worker.stopped() == 0, worker.tail()
        self.happened["leave"] += 1

    async def _at_work(self) -> None:
        """Return at some moment after the role has written something."""
        settings = self.deployment.settings
        written = {
            "ingest": settings.topic(topics.JOURNAL), "engine": topics.changelog(settings),
            "learn": settings.topic(topics.CHECKPOINTS),
        }  # fmt: skip
        topic = written[self.role]
        before = sum((await end_offsets(settings, topic)).values())

        async def has_written() -> bool:
            self._restart_fail_stopped()
            return sum((await end_offsets(settings, topic)).values()) > before

        await eventually(has_written, within_seconds=40)
        await elapsed(self.chance.between(0.0, 0.5))

    def _restart_fail_stopped(self) -> None:
        """As any supervisor of processes does."""
        for worker in self.workers:
            if worker.status == STOPPED:
                self.happened["fail-stop"] += 1
                worker.planted = ()
                worker.start()


async def publish_until_done(deployment: Deployment, done: asyncio.Event) -> int:
    """Publish a generated shop as if it happened now; journal time runs ahead, so that timers fire all along."""
    begin = wall_ms()
    shop = tuple(generate(seed=int(SEED), customers=400, events=8_000))
    records = live(cycle(shop), begin)
    sent = 0
    while not done.is_set():
        sent += await deployment.publish(islice(records, SLICE))
        if sent % (SLICE * 10) == 0:
            await deployment.publisher.control(k="tick", at=begin + sent // SLICE * QUARTER // 10)
        await elapsed(PAUSE_MS / 1000)
    return sent


@pytest.mark.timeout(480)
async def test_no_kill_join_or_leave_loses_or_doubles_anything(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    begin = time.monotonic()
    async with deployed(kafka.url, prefix, tmp_path / "logs", REDIS_URL=NOWHERE) as deployment:
        crashes = [Crashes(deployment, role, Chance(SEED, role), begin + SECONDS) for role in FATAL]
        done = asyncio.Event()
        publishing = asyncio.ensure_future(publish_until_done(deployment, done))
        try:
            await asyncio.gather(*(crash.run() for crash in crashes))
        finally:
            done.set()
            await publishing
        async with deployment.supervised():
            await deployment.at_rest(within_seconds=120)
        found = await deployment.examined(within_seconds=120)
        found.figures |= {
            "seed": SEED, "seconds": round(time.monotonic() - begin, 1),
            "happened": {crash.role: dict(crash.happened) for crash in crashes},
        }  # fmt: skip
        print(found.line())  # noqa: T201  # with -s: the figures of the run
        for crash in crashes:
            assert crash.kills >= KILLS
        assert found.is_exact, found.line()
        assert found.figures["accepted"] > 1_000
        assert found.figures["triggers"] > 100
