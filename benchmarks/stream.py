"""A steady stream of events, and how long each takes: to its trigger over both hops, and over one bare hop.

Each event is of a customer nobody has seen, so each changes a stage and gives
one trigger, which names the message that caused it. A latency runs from the
moment the producer is asked to send to the moment a consumer holds what came
of it, by one clock: this process's.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from benchmarks.traffic import SEED, new_customer
from journey.ids import route
from streams import topics
from streams.logs import consumer, partitions_of
from streams.raw import RawRecord
from streams.settings import Settings

CAUSE: Final = re.compile(rb'"causationid":"([0-9a-f]{24})"')
MESSAGE: Final = re.compile(rb'"message_id":"([0-9a-f]{24})"')
GRACE: Final = 10.0  # s that what was sent last may take


@dataclass
class Stream:
    """Sends events and waits for what comes of them. ``ms`` has the latencies, in the order of their end."""

    producer: Any
    consumer: Any
    settings: Settings
    bare: str | None  # topic of the bare hop
    ms: list[tuple[float, float]] = field(default_factory=list)  # when it ended (s of the steady clock), latency
    sent: int = 0  # by ``one``
    others: int = 0  # sent by whoever has the producer, and not waited for
    seen: int = 0  # records that came of anything
    _sent: dict[bytes, float] = field(default_factory=dict)
    _numbers: Any = field(default_factory=count)

    @property
    def missing(self) -> int:
        """How many have not come to anything yet."""
        return len(self._sent)

    async def send(self, rate: float, seconds: float, *, bare: bool = False) -> int:
        """Send events at random moments, ``rate`` of them a second; return how many. Does not wait for what they cause.

        Moments are drawn as a Poisson process has them, from a seed: regular ones would fall into step with the
        fetches. ``bare`` sends to the topic of the bare hop instead.
        """
        rng = random.Random(SEED)  # noqa: S311  # traffic, no secret
        begin = due = time.perf_counter()
        sent = 0
        while True:
            due += rng.expovariate(rate)
            if due - begin >= seconds:
                return sent
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            record = new_customer(next(self._numbers), time.time_ns() // 1_000_000)
            await self.one(record, self.bare if bare else None)
            sent += 1

    async def one(self, record: RawRecord, name: str | None = None) -> None:
        """Send one event and wait for nothing; ``name`` is another topic than its own."""
        found = MESSAGE.search(record.value)
        assert found is not None
        self._sent[found[1]] = time.perf_counter()
        self.sent += 1
        partition = route(record.key.decode(), self.settings.partitions)
        await self.producer.send(name or self.settings.topic(record.topic), record.value, record.key, partition)

    async def follow(self) -> None:
        """Note what comes of the events, for ever."""
        while True:
            for tp, records in (await self.consumer.getmany(timeout_ms=1000)).items():
                named = MESSAGE if tp.topic == self.bare else CAUSE
                now = time.perf_counter()
                self.seen += len(records)
                for record in records:
                    found = named.search(record.value)
                    sent = None if found is None else self._sent.pop(found[1], None)
                    if sent is not None:
                        self.ms.append((now, (now - sent) * 1000))

    async def settle(self) -> None:
        """Return when all came to something; TimeoutError when some did not."""
        async with asyncio.timeout(GRACE):
            while self._sent:
                await asyncio.sleep(0.02)

    async def measured(self, rate: float, seconds: float, *, bare: bool = False) -> list[float]:
        """Send, wait for all, and return the latencies in ms."""
        self.ms.clear()
        await self.send(rate, seconds, bare=bare)
        await self.settle()
        return [ms for _, ms in self.ms]


@asynccontextmanager
async def stream(settings: Settings, bare: str | None, ended: Callable[[], None]) -> AsyncIterator[Stream]:
    """Yield a stream into a deployment whose topics exist; ``ended`` raises when it cannot go on."""
    producer: Any = AIOKafkaProducer(bootstrap_servers=settings.kafka_url, linger_ms=0)
    names = [settings.topic(topics.TRIGGERS), *([] if bare is None else [bare])]
    async with consumer(settings, wait_ms=500) as client:
        sources = [tp for name in names for tp in await partitions_of(client, name)]
        client.assign(sources)
        await client.seek_to_end(*sources)
        await producer.start()
        made = Stream(producer, client, settings, bare)
        following = asyncio.ensure_future(made.follow())
        try:
            yield made
            ended()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await producer.stop()


def percentile(values: list[float], share: float) -> float:
    """Return the value below which so great a share of the values lies.

    >>> percentile([4.0, 1.0, 3.0, 2.0], 0.5)
    3.0
    """
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
