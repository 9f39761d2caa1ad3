"""The logs and the groups of a schedule: what Apache Kafka promises, and nothing more.

A batch lands whole, in the order in which its writer sent those of one
partition; what has landed stays. When it lands is the schedule's choice: soon,
long after its writer died, or never. An acknowledgement follows by itself, or
never. A commit counts only from a member of the present generation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from aiokafka.errors import RequestTimedOutError
from faust.types import TP

from streams.faust_fixes import LightRecord
from tests.protocol.loop import Beside

Written = tuple[bytes | None, bytes | None]


class Landed(NamedTuple):
    """What an acknowledgement tells."""

    offset: int
    timestamp: int


class Batch:
    """A sealed record batch; ``most`` records fit."""

    __slots__ = ("headers", "most", "records")

    def __init__(self, most: int) -> None:
        self.most = most
        self.records: list[Written] = []
        self.headers: list[tuple[str, bytes]] = []

    def append(
        self, *, key: bytes | None, value: bytes | None, timestamp: None, headers: list[tuple[str, bytes]]
    ) -> Any:
        if len(self.records) == self.most:
            return None
        self.records.append((key, value))
        self.headers = headers
        return self

    def close(self) -> None:
        """Sealed."""


class Sending:
    """A batch on its way, and who waits for it."""

    __slots__ = ("batch", "future", "producer", "tp")

    def __init__(self, producer: Producer, tp: TP, batch: Batch, future: asyncio.Future[Landed]) -> None:
        self.producer, self.tp, self.batch, self.future = producer, tp, batch, future


class Producer:
    """What ``streams.appends.Log`` needs of a producer; one for each process."""

    def __init__(self, broker: Broker, name: str, most: int) -> None:
        self.broker, self.name, self.most = broker, name, most
        self.is_alive, self.is_slow = True, False

    def create_batch(self) -> Batch:
        return Batch(self.most)

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Landed]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Landed] = loop.create_future()
        if self.is_alive:
            sending = Sending(self, TP(topic, partition), batch, future)
            self.broker.flying.append(sending)
            if self.broker.trace is not None:
                self.broker.trace(f"{self.name} sends {len(batch.records)} to {topic}/{partition}")
        return future

    async def partitions_for(self, topic: str) -> set[int]:
        return set(range(self.broker.partitions[topic]))


class Broker:
    """All logs, what is on its way to them, and the clock that stamps records."""

    def __init__(self, partitions: dict[str, int], now: int) -> None:
        self.partitions, self.now = partitions, now
        self.logs: dict[TP, list[LightRecord]] = {
            TP(name, number): [] for name, count in partitions.items() for number in range(count)
        }
        self.flying: list[Sending] = []  # sent, and not in a log
        self.compacts: frozenset[str] = frozenset()  # topics of which readers find what compaction leaves
        self.left: list[Any] = []  # processes that have ended by themselves, until the schedule has looked at why
        self.unanswered: list[tuple[Sending, Landed]] = []  # in a log, and not acknowledged
        self.beside: list[Beside] = []  # what threads of the processes have to do
        self.landed: Callable[[TP, list[LightRecord]], None] = lambda tp, records: None
        self.trace: Callable[[str], None] | None = None

    def write(self, tp: TP, records: list[Written], headers: list[tuple[str, bytes]]) -> int:
        """Append; return the first offset."""
        log = self.logs[tp]
        base, now = len(log), self.now
        topic, number = tp
        new = [
            LightRecord(topic, number, base + at, now, key, value, headers) for at, (key, value) in enumerate(records)
        ]
        log += new
        self.landed(tp, new)
        return base

    def land(self, chosen: Sending) -> Sending:
        """Append the oldest batch of the same writer to the same partition; return it."""
        flying = self.flying
        for at, sending in enumerate(flying):
            if sending.producer is chosen.producer and sending.tp == chosen.tp:
                del flying[at]
                break
        base = self.write(sending.tp, sending.batch.records, sending.batch.headers)
        if sending.producer.is_alive and not sending.future.done():
            self.unanswered.append((sending, Landed(base, self.now)))
        if self.trace is not None:
            count, where = len(sending.batch.records), f"{sending.tp.topic}/{sending.tp.partition}"
            late = "" if sending.producer.is_alive else ", after its writer's end"
            self.trace(f"{sending.producer.name}: {count} land in {where} at {base}{late}")
        return sending

    def fail(self, sending: Sending) -> None:
        """Let the writer believe that a batch was not appended."""
        self.unanswered = [one for one in self.unanswered if one[0] is not sending]
        if not sending.future.done():
            sending.future.set_exception(RequestTimedOutError("no answer"))

    def gone(self, producer: Producer) -> None:
        """A process has ended: nobody waits for its batches; those on their way may still land."""
        producer.is_alive = False
        self.unanswered = [one for one in self.unanswered if one[0].producer is not producer]
        self.beside = [one for one in self.beside if not one.loop.is_closed()]


class Group:
    """A consumer group: who is in it, who owns what, and how far each partition is committed."""

    def __init__(self, topics: list[str], numbers: int, broker: Broker) -> None:
        self.topics, self.numbers, self.broker = topics, numbers, broker
        self.generation = 0
        self.members: list[Any] = []
        self.is_rebalancing = False
        self.committed: dict[TP, int] = {}
        self.on_commit: Callable[[TP, int, int], None] = lambda tp, before, after: None

    def commit(self, tp: TP, offset: int) -> None:
        """Take a commit of a member."""
        before = self.committed.get(tp, 0)
        self.committed[tp] = offset
        self.on_commit(tp, before, offset)

    def tps_of(self, numbers: list[int]) -> list[TP]:
        """Return the partitions of all topics with these numbers: Faust gives them to one worker."""
        return [TP(name, number) for name in self.topics for number in numbers if number < self.broker.partitions[name]]
