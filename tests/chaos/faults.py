"""What may happen to a deployment while traffic flows. Each fault ends with everybody at work again."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from streams.raw import RawRecord
from tests.harness import Chance, Deployment, Worker, elapsed, wall_ms
from tests.servers import KafkaServer, RedisServer
from tests.waiting import eventually

FREEZE_SECONDS: Final = 15.0  # of the broker
BAD_EVENTS: Final = 300
# role: the appends at which it dies or stops: topic, at most so many batches after its start
WRITES: Final = {
    "ingest": (("journey.journal", 20), ("journey.dead_letters", 2)),
    "engine": (("customers-changelog", 12), ("journey.triggers", 8), ("journey.samples", 4)),
    "learn": (("journey.models", 3), ("journey.checkpoints", 3), ("journey.control", 2)),
}


@dataclass
class Chaos:
    """One round: who runs, what has happened, and a supervisor that starts again whatever ended."""

    deployment: Deployment
    brokers: list[KafkaServer]
    redis: RedisServer
    chance: Chance
    happened: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)  # exit statuses of what was started again
    workers: dict[str, list[Worker]] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)  # workers that are not to be started

    def start(self) -> None:
        """Start two workers for each role; the second engine keeps its customers on disk."""
        for role in WRITES:
            first = self.deployment.worker(f"{role}-1", role, INSTANCE_ID="first")
            more = {"STORE": "rocksdb", "DATADIR": str(self.datadir)} if role == "engine" else {}
            second = self.deployment.worker(f"{role}-2", role, **more)
            self.workers[role] = [first.start(), second.start()]

    @property
    def datadir(self) -> Path:
        """Where the engine with a store on disk has it."""
        return self.deployment.directory / "store"

    async def supervise(self) -> None:
        """Start again what ended, for ever."""
        while True:
            for worker in self.deployment.workers:
                if not worker.is_running and worker.name not in self.away:
                    self.ended[f"{worker.name.partition('-')[0]} {worker.status}"] += 1
                    worker.planted = ()
                    worker.start()
            await elapsed(0.1)

    def _one(self, role: str | None = None) -> tuple[str, Worker]:
        role = role or self.chance.one_of(*WRITES)
        return role, self.chance.one_of(*self.workers[role])

    async def kill(self) -> None:
        """kill -9 at a random moment."""
        role, worker = self._one()
        worker.kill()
        self.happened[f"kill {role}"] += 1

    async def kill_at_an_acknowledgement(self) -> None:
        """kill -9 right before or after a single append is acknowledged."""
        role, worker = self._one()
        topic, most = self.chance.one_of(*WRITES[role])
        when = self.chance.one_of("before", "acknowledged")
        with self._planted(worker, "--append", str(1 + self.chance.below(most)), "--topic", topic, "--when", when):
            try:
                await worker.ended(within_seconds=12)
                self.happened[f"kill {when} {topic}"] += 1
            except AssertionError:  # it had too little to do
                self.happened["no kill, for want of traffic"] += 1

    async def zombie(self) -> None:
        """SIGSTOP in the middle of a write; its successor goes on; then it is woken."""
        role, worker = self._one()
        topic, most = WRITES[role][0]
        number = 1 + self.chance.below(most)
        arguments = ("--append", str(number), "--topic", topic, "--when", "before", "--signal", "STOP")
        with self._planted(worker, *arguments):
            try:
                await eventually(lambda: worker.is_frozen, within_seconds=12)
            except AssertionError:
                self.happened["no zombie, for want of traffic"] += 1
                return
            await elapsed(self.deployment.settings.session_timeout * self.chance.between(1.2, 2.5))
            worker.signal(signal.SIGCONT)
            self.happened[f"zombie {role}"] += 1

    @contextlib.contextmanager
    def _planted(self, worker: Worker, *arguments: str) -> Iterator[None]:
        """Let a worker run with a fault planted in it, and the supervisor leave it alone meanwhile."""
        self.away.add(worker.name)
        try:
            worker.kill()
            worker.start(*arguments)
            yield
        finally:
            self.away.discard(worker.name)

    async def join_and_leave(self) -> None:
        """A third worker with all roles comes, and goes in order some time later."""
        third = next((one for one in self.deployment.workers if one.name == "all-3"), None)
        if third is None:
            third = self.deployment.worker("all-3", "all")
            self.away.add(third.name)
        third.start()
        await elapsed(self.chance.between(4, 8))
        third.signal(signal.SIGTERM)
        try:
            await third.ended(within_seconds=30)
        except AssertionError:
            third.kill()
            self.happened["killed, as it did not leave in 30 s"] += 1
        self.happened["join and leave"] += 1

    async def kill_broker(self) -> None:
        """kill -9 of a broker; it comes back after a while."""
        broker = self.chance.one_of(*self.brokers)
        await asyncio.to_thread(broker.kill)
        await elapsed(self.chance.between(0, 5))
        await asyncio.to_thread(broker.start)
        self.happened["broker killed"] += 1

    async def freeze_broker(self) -> None:
        """The broker says nothing for a while."""
        broker = self.chance.one_of(*self.brokers)
        broker.freeze()
        await elapsed(FREEZE_SECONDS)
        broker.thaw()
        self.happened["broker frozen"] += 1

    async def redis_away(self) -> None:
        """Redis dies, and comes back empty."""
        await asyncio.to_thread(self.redis.kill)
        await elapsed(self.chance.between(1, 4))
        await asyncio.to_thread(self.redis.start)
        self.happened["Redis away"] += 1

    async def lose_the_disk(self) -> None:
        """The engine's local store is deleted while it is down."""
        worker = self.workers["engine"][1]
        self.away.add(worker.name)
        worker.kill()
        await asyncio.to_thread(shutil.rmtree, self.datadir, ignore_errors=True)
        self.away.discard(worker.name)
        self.happened["store deleted"] += 1

    async def bad_events(self) -> None:
        """A stretch of what nobody can use."""
        bad = (RawRecord("events.click", b"u:1", b"{no json", wall_ms()) for _ in range(BAD_EVENTS))
        with contextlib.suppress(Exception):  # the broker may be away: whatever lies there is counted in the end
            await self.deployment.publish(islice(bad, BAD_EVENTS))
            self.happened["stretch of bad events"] += 1


Fault = Callable[[Chaos], Awaitable[None]]
WORKERS: Final[tuple[Fault, ...]] = (
    Chaos.kill_at_an_acknowledgement, Chaos.zombie, Chaos.kill, Chaos.join_and_leave, Chaos.kill_at_an_acknowledgement,
    Chaos.lose_the_disk, Chaos.redis_away, Chaos.bad_events,
)  # fmt: skip
BROKERS: Final[tuple[Fault, ...]] = (
    Chaos.kill_broker,
    Chaos.kill_at_an_acknowledgement,
    Chaos.freeze_broker,
    Chaos.kill,
)
# no zombies: where compaction may take what lost after seconds instead of a day, nobody may sleep for longer than that
COMPACTION: Final[tuple[Fault, ...]] = (
    Chaos.kill_at_an_acknowledgement, Chaos.lose_the_disk, Chaos.kill, Chaos.join_and_leave,
)  # fmt: skip
SCENARIOS: Final = {"workers": WORKERS, "broker": BROKERS, "compaction": COMPACTION, "three brokers": BROKERS[:2]}
