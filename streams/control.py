"""The control topic, read beside the journal: by ingest (which clock, how far the loader has come), by who adopts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from journey.adoptions import Standing
from streams import topics
from streams.faust_fixes import leave
from streams.settings import Settings

log = logging.getLogger("journey.control")


class ControlTail:
    """Reads all of the control topic and then follows it; part of no consumer group.

    It only steers the order in which ingest passes records on; what counts
    is journalled by the worker that owns the topic.
    """

    def __init__(self, settings: Settings) -> None:
        self._tp = TopicPartition(settings.topic(topics.CONTROL), 0)
        self._url = settings.kafka_url
        self._clock: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._read = asyncio.Event()
        self._marks: list[tuple[int, dict[tuple[str, int], int]]] = []  # up to when, and where raw partitions ended
        self._passed = 0  # marks, from the first on, that are reached
        self._reached: float = 0.0
        self.changed: Callable[[], None] = lambda: None

    @property
    def is_events_clock(self) -> bool:
        """Whether the journal takes its time from the events."""
        return self._clock == "events"

    def reached(self, received: Callable[[str, int], int | None]) -> float:
        """Return the time (ms) up to which everything is not only in the raw topics, but received here.

        ``received`` gives the offset that comes next from a raw partition, None for one that is another worker's.
        """
        while self._passed < len(self._marks):
            at, ends = self._marks[self._passed]
            for (topic, number), end in ends.items():
                taken = received(topic, number)
                if taken is not None and taken < end:
                    return self._reached
            self._passed += 1
            self._reached = max(self._reached, at)
        return self._reached

    def again(self) -> None:
        """Look at all marks anew: other partitions are this worker's now, and may be read less far."""
        self._passed, self._reached = 0, 0.0

    async def ready(self) -> None:
        """Return when all that is in the topic now was read."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._follow())
            self._task.add_done_callback(self._ended)
        await self._read.wait()
        if self._task.done():
            self._task.result()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Have whoever waits look; when nobody does, end: without marks and the clock the order would be lost."""
        if self._read.is_set() and not task.cancelled() and (error := task.exception()) is not None:
            leave(error)
        self._read.set()

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=self._url, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=500
        )
        await consumer.start()
        try:
            consumer.assign([self._tp])
            await consumer.seek_to_beginning(self._tp)
            end = (await consumer.end_offsets([self._tp]))[self._tp]
            while True:
                if await consumer.position(self._tp) >= end:
                    self._read.set()
                fetched = await consumer.getmany(self._tp, timeout_ms=1000)
                for record in fetched.get(self._tp, ()):
                    self._note(record.value)
                if fetched:
                    self.changed()
        finally:
            await consumer.stop()

    def _note(self, value: bytes) -> None:
        try:
            message = orjson.loads(value)
            kind = message["k"]
            if kind == "clock" and (self._clock is None or message["clock"] == "wall"):
                self._clock = message["clock"]
            elif kind in ("mark", "tick") and isinstance(message["at"], int):
                self._marks.append((message["at"], _places(message.get("ends", {}))))
        except (AttributeError, KeyError, TypeError, ValueError):
            log.warning("a control message that cannot be read: its dead letter says why")


def _places(ends: dict[str, int]) -> dict[tuple[str, int], int]:
    """Return where raw partitions ended, by topic and number; raises ValueError, TypeError or AttributeError."""
    places = {}
    for name, end in ends.items():
        topic, _, number = name.rpartition("/")
        places[topic, int(number)] = int(end)
    return places


class ControlLog:
    """What the control topic says of models, up to its end whenever it is asked; part of no consumer group."""

    def __init__(self, settings: Settings) -> None:
        self._tp = TopicPartition(settings.topic(topics.CONTROL), 0)
        self._url = settings.kafka_url
        self._consumer: Any = None
        self.standing = Standing()

    async def start(self) -> ControlLog:
        """Connect, once; the consumer belongs to the running event loop."""
        if self._consumer is None:
            self._consumer = AIOKafkaConsumer(
                bootstrap_servers=self._url, enable_auto_commit=False, auto_offset_reset="earliest",
                fetch_max_wait_ms=100,
            )  # fmt: skip
            await self._consumer.start()
            self._consumer.assign([self._tp])
            await self._consumer.seek_to_beginning(self._tp)
        return self

    async def stop(self) -> None:
        """Close."""
        if self._consumer is not None:
            await self._consumer.stop()

    async def read(self) -> Standing:
        """Return what all messages that are in the topic now amount to."""
        end = (await self._consumer.end_offsets([self._tp]))[self._tp]
        while await self._consumer.position(self._tp) < end:
            fetched = await self._consumer.getmany(self._tp, timeout_ms=200)
            for record in fetched.get(self._tp, ()):
                try:
                    message = orjson.loads(record.value)
                except ValueError:
                    continue  # ingest has written its dead letter
                self.standing.take(message)
        return self.standing
