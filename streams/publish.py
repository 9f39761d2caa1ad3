"""Publishing raw records: what a website or a loader does. Sealed batches, awaited, in the order given."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import orjson

from journey.entries import read_page
from journey.ids import route
from streams import topics
from streams.appends import Log
from streams.errors import ShellError
from streams.logs import consumer, end_offsets, partitions_of, read_all, read_partitions
from streams.raw import RawRecord
from streams.settings import Settings
from streams.topics import Admin
from streams.unread import Unread

SLICE: Final = 500  # records between two marks
MOST_AHEAD: Final = 50_000  # records that ingest may be behind a loader


class ClockError(ShellError):
    """The journal runs on another clock than the load needs.

    Operator: a journal keeps its clock. Load into an empty one (another
    JOURNEY_TOPIC_PREFIX), or load with --historical on the wall clock.
    """


Told = Callable[[RawRecord, str, int, int, int], None]  # record, topic, partition, offset, broker timestamp


@dataclass
class Publisher:
    """Publishes to the raw topics of one deployment; use as an async context manager."""

    settings: Settings
    told: Told | None = None
    published: int = 0
    _log: Log = field(init=False)
    _counts: dict[str, int] = field(init=False, default_factory=dict)
    _ends: dict[tuple[str, int], int] = field(init=False, default_factory=dict)

    async def __aenter__(self) -> Publisher:
        async with Admin(self.settings) as admin:
            await admin.ensure()
            self._counts = await admin.partitions()
        self._log = await Log(self.settings.kafka_url, self.settings.batch_bytes).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._log.stop()

    async def publish(self, records: Iterable[RawRecord]) -> int:
        """Append records to their topics; return how many when all are acknowledged."""
        buckets: dict[tuple[str, int], list[RawRecord]] = {}
        count = 0
        for record in records:
            name = self.settings.topic(record.topic)
            number = route(record.key.decode("utf-8", "replace"), self._counts[name])
            buckets.setdefault((name, number), []).append(record)
            count += 1
        await asyncio.gather(*(self._append(name, number, mine) for (name, number), mine in buckets.items()))
        self.published += count
        return count

    async def _append(self, name: str, number: int, records: list[RawRecord]) -> None:
        headers = (("content-type", b"application/json"),)
        written = await self._log.append(name, number, [(record.key, record.value) for record in records], headers)
        self._ends[name, number] = written[-1].base + written[-1].count
        if self.told is not None:
            mine = iter(records)
            for batch in written:
                for offset, record in enumerate(islice(mine, batch.count), batch.base):
                    self.told(record, name, number, offset, batch.timestamp)

    async def mark(self, at: int) -> None:
        """Tell ingest that all that was received up to a moment (ms) is in the raw topics, and how far they go."""
        control = self.settings.topic(topics.CONTROL)
        ends = {f"{name}/{number}": end for (name, number), end in self._ends.items() if name != control}
        await self.control(k="mark", at=at, ends=ends)

    async def control(self, **message: Any) -> None:
        """Send a control message."""
        name = self.settings.topic(topics.CONTROL)
        written = await self._log.append(name, 0, [(None, orjson.dumps({"v": 1, **message}))])
        self._ends[name, 0] = written[-1].base + written[-1].count

    async def taken(self, admin: Admin) -> bool:
        """Tell whether ingest committed all that was published here."""
        committed = await admin.committed(self.settings.app_id("ingest"))
        return all(committed.get(tp, 0) >= end for tp, end in self._ends.items())

    async def wait_taken(self, within: float) -> None:
        """Return when ingest committed all that was published here.

        Raises
        ------
        ShellError
            It did not within so many seconds.
        """
        async with Admin(self.settings) as admin:
            try:
                async with asyncio.timeout(within):
                    while not await self.taken(admin):
                        await asyncio.sleep(0.05)
            except TimeoutError:
                text = f"ingest did not take everything within {within:.0f} s: is `journey worker` running?"
                raise ShellError(text) from None

    async def use_events_clock(self, within: float = 60.0) -> None:
        """Make sure the journal runs on the events' clock, and its first entry says so.

        Raises
        ------
        ClockError
            The journal has begun on the wall clock.
        """
        clock, is_empty = await clock_of(self.settings)
        if clock == "events":
            return
        if not is_empty:
            msg = "this journal runs on the wall clock, and has entries: months cannot pass in seconds here"
            raise ClockError(msg)
        await self.control(k="clock", clock="events")
        await self.wait_taken(within)
        async with consumer(self.settings) as client:
            tps = await partitions_of(client, self.settings.topic(topics.JOURNAL))
            async for tp, records in read_partitions(client, dict.fromkeys(tps, (0, 1))):
                if read_page(records[0].value)[0]["k"] != "clock":
                    text = f"{tp.topic}/{tp.partition} began with something else while its clock was being set"
                    raise ClockError(text)


async def go_live(settings: Settings, within: float, then: Callable[[], Awaitable[None]] | None = None) -> bool:
    """Switch the journal to the wall clock once ingest has taken all that came before; tell whether it was needed.

    Parameters
    ----------
    then
        Is awaited when all is taken, before the switch.

    Raises
    ------
    ShellError
        Ingest did not take it within so many seconds.
    """
    clock, _ = await clock_of(settings)
    if clock == "wall":
        return False
    async with Publisher(settings) as publisher:
        async with Unread(settings) as unread:
            try:
                async with asyncio.timeout(within):
                    while await unread.lag():
                        await asyncio.sleep(0.1)
            except TimeoutError:
                text = f"ingest has not taken what was loaded within {within:.0f} s: is `journey worker` running?"
                raise ShellError(text) from None
        if then is not None:
            await then()
        await publisher.control(k="clock", clock="wall")
        await publisher.wait_taken(within)
    return True


async def clock_of(settings: Settings) -> tuple[str, bool]:
    """Return the clock of the journal, and whether the journal is empty."""
    clock = "wall"
    first = True
    async for record in read_all(settings, settings.topic(topics.CONTROL)):
        try:
            message = orjson.loads(record.value)
        except ValueError:
            continue
        if isinstance(message, dict) and message.get("k") == "clock":
            if first:
                clock = str(message.get("clock"))
            elif message.get("clock") == "wall":
                clock = "wall"
        first = False
    ends = await end_offsets(settings, settings.topic(topics.JOURNAL))
    return clock, not any(ends.values())


async def load(
    publisher: Publisher,
    records: Iterator[RawRecord],
    *,
    clock: str,
    rate: float | None = None,
    slice_records: int = SLICE,
    on_progress: Callable[[int], None] | None = None,
) -> int:
    """Publish records in order, at most ``rate`` a second, never too far ahead of ingest; return how many.

    On the events' clock each slice is followed by a *mark*, which tells
    ingest that everything up to then is in the topics.
    """
    loop = asyncio.get_running_loop()
    begin, sent, last = loop.time(), 0, 0
    async with Unread(publisher.settings) as unread:
        ahead = 0
        while chunk := list(islice(records, slice_records)):
            await publisher.publish(chunk)
            sent += len(chunk)
            ahead += len(chunk)
            last = max(last, chunk[-1].at)
            if clock == "events":
                await publisher.mark(last)
            if on_progress is not None:
                on_progress(sent)
            if ahead >= MOST_AHEAD:
                while (ahead := await unread.lag()) >= MOST_AHEAD:
                    await asyncio.sleep(0.1)
            if rate is not None:
                await asyncio.sleep(max(0.0, begin + sent / rate - loop.time()))
    return sent
