"""The journal of a new epoch, made anew from the raw topics: the same bytes each time.

A new epoch counts once it is in the plan, and is live once a switch is
through; before that, any step may be interrupted and made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from aiokafka import TopicPartition

from journey.entries import PAGE_VERSION, pages
from journey.events import MINUTE
from streams import topics
from streams.appends import Log
from streams.arrivals import Parsed
from streams.errors import RawCutError
from streams.logs import consumer, partitions_of, read_all, spans_of
from streams.merge import FOR_EVER, Merge
from streams.records import parse_control, parse_events
from streams.settings import Settings

Told = Callable[[int], None]  # events so far
AT_ONCE: Final = 1_000  # raw records that are read at once: few enough for the processor's cache
MOST_WAITING: Final = 20_000  # entries that are written at once
PAGE_HEADERS: Final = (("v", PAGE_VERSION), ("content-type", b"application/json"))


@dataclass
class Journal:
    """A journal in the making: entries by journal partition, in order, with a tick for each idle minute.

    ``now`` is the journal time of each partition. Ticks are written as a live
    worker would: at each full minute that passes between two entries once the
    journal runs on the wall clock, which it does from ``live_since`` (ms) on.
    """

    target: Settings
    writer: Log
    now: dict[int, int]
    live_since: float
    waiting: dict[int, list[bytes]] = field(default_factory=dict)
    events: int = 0

    def add(self, parsed: Iterable[Parsed]) -> None:
        """Take what raw records became, in the order of the journal."""
        for one in parsed:
            self.events += 1
            for number, entry in one.entries:
                waiting = self.waiting.setdefault(number, [])
                now = self.now.get(number, 0)
                if one.at > now:
                    if one.at - now > MINUTE and now and now >= self.live_since:
                        waiting += _ticks(now, one.at)
                    self.now[number] = one.at
                waiting.append(entry)

    def pass_time(self, number: int, until: int) -> None:
        """Let time pass in a partition up to a moment."""
        now = self.now.get(number, 0)
        if now and until > now and now >= self.live_since:
            tick = b'{"k":"tick","at":%d}' % until
            self.waiting.setdefault(number, []).extend([*_ticks(now, until), tick])
            self.now[number] = until

    async def write(self, *, whole: bool) -> None:
        """Append the pages that are full, or all there is."""
        most = self.target.page_entries
        ready: dict[int, list[tuple[None, bytes]]] = {}
        for number, waiting in self.waiting.items():
            count = len(waiting) if whole else len(waiting) // most * most
            for start in range(0, count, most):
                page = waiting[start : min(start + most, count)]
                ready.setdefault(number, []).extend((None, value) for value in pages(page, most))
            del waiting[:count]
        await self.writer.append_all(self.target.topic(topics.JOURNAL), ready, PAGE_HEADERS)


def _ticks(after: int, before: int) -> list[bytes]:
    """Return a tick for each full minute between two moments (ms)."""
    first = (after // MINUTE + 1) * MINUTE
    return [b'{"k":"tick","at":%d}' % at for at in range(first, before, MINUTE)]


async def _live_since(settings: Settings) -> float:
    """Return since when (ms) the journal runs on the wall clock: 0 from the beginning, infinite when it does not."""
    since = 0.0
    is_first = True
    async for record in read_all(settings, settings.topic(topics.CONTROL)):
        try:
            message = orjson.loads(record.value)
        except ValueError:
            message = None
        if isinstance(message, dict) and message.get("k") == "clock":
            if is_first and message.get("clock") == "events":
                since = FOR_EVER
            elif since == FOR_EVER and message.get("clock") == "wall":
                return float(record.timestamp)
        is_first = False
    return since


class _Sources:
    """The raw partitions and the control topic, read from where a journal stands to given ends, merged by time."""

    def __init__(self, target: Settings, spans: dict[TopicPartition, tuple[int, int]], live_since: float) -> None:
        self._target, self._live_since = target, live_since
        self._next = {tp: begin for tp, (begin, _) in spans.items()}
        self._ends = {tp: end for tp, (_, end) in spans.items()}
        self._merge = Merge()
        for tp in sorted(spans):  # equal times go on in this order
            self._merge.add(tp, None, [], [])

    def open(self) -> list[TopicPartition]:
        """Return what has more to come."""
        return [tp for tp, at in self._next.items() if at < self._ends[tp]]

    def add(self, tp: TopicPartition, records: list[Any]) -> None:
        """Take what one fetch brought of a partition."""
        self._next[tp] = records[-1].offset + 1
        if self._next[tp] > self._ends[tp]:
            records = [record for record in records if record.offset < self._ends[tp]]
        name = tp.topic[len(self._target.topic_prefix) :]
        if name == topics.CONTROL:
            parsed = parse_control(records, self._target.partitions)
        else:
            parsed = parse_events(name.removeprefix("events."), records, self._target.partitions)
        times = [record.timestamp for record in records]
        if times and min(times) < self._live_since:
            # up to the moment it went live, a journal on the events' clock has its order from the events
            times = [
                time if time >= self._live_since else (one.at if one.entries else 0)
                for time, one in zip(times, parsed, strict=True)
            ]
        self._merge.add(tp, None, parsed, times)

    def take(self) -> list[Parsed]:
        """Return what can go on: all that is earlier than the earliest that may still come."""
        last = [self._merge.last(tp) for tp in self.open()]
        if any(one is None for one in last):
            return []
        # equal times wait for each other: so the order is the same wherever fetches are cut
        bound = min((one - 1 for one in last if one is not None), default=FOR_EVER)
        return self._merge.take(bound)[0]

    def behind(self) -> TopicPartition | None:
        """Return the partition that holds the others back, the one to read on; None when all are read."""
        return min(self.open(), key=lambda tp: (self._merge.last(tp) or -1, tp), default=None)


async def write_journal(
    source: Settings, target: Settings, begins: Mapping[str, int], ends: Mapping[tuple[str, int], int],
    now: dict[int, int], until: Mapping[int, int], told: Told, *, partial: bool,
) -> dict[str, int]:  # fmt: skip
    """Append to a new journal what the raw topics hold from ``begins`` up to, and without, ``ends``.

    Parameters
    ----------
    now
        Journal time (ms) of each partition so far.
    until
        Let time pass up to there (ms) afterwards.
    partial
        Begin where the raw topics begin, even if that is not their beginning.

    Returns
    -------
    For each raw partition, as ``topic/number``, the offset that comes next.

    Raises
    ------
    RawCutError
        They no longer begin at their beginning.
    """
    async with consumer(source) as client:
        spans: dict[TopicPartition, tuple[int, int]] = {}
        names = [source.topic(name) for name in (*topics.RAW, topics.CONTROL)]
        tps = [tp for name in names for tp in await partitions_of(client, name)]
        for tp, (first, _) in (await spans_of(client, tps)).items():
            begin = begins.get(f"{tp.topic}/{tp.partition}", 0)
            if first > begin and not partial:
                msg = f"{tp.topic}/{tp.partition} begins at {first}, {first - begin} records before it are gone"
                raise RawCutError(msg)
            begin = max(begin, first)
            spans[tp] = (begin, max(begin, ends.get((tp.topic, tp.partition), 0)))
        live_since = await _live_since(source)
        sources = _Sources(target, spans, live_since)
        writer = await Log(target.kafka_url, target.batch_bytes).start()
        journal = Journal(target, writer, now, live_since)
        try:
            client.assign(sources.open() or list(spans))
            for tp in sources.open():
                client.seek(tp, spans[tp][0])
            while (behind := sources.behind()) is not None:
                for tp, records in (await client.getmany(behind, timeout_ms=500, max_records=AT_ONCE)).items():
                    sources.add(tp, records)
                    if tp not in sources.open():
                        client.pause(tp)  # a fetch of nothing but what has nothing more would be waited for
                journal.add(sources.take())
                if sum(map(len, journal.waiting.values())) >= MOST_WAITING:
                    await journal.write(whole=False)
                told(journal.events)
            for number, moment in until.items():
                journal.pass_time(number, moment)
            await journal.write(whole=True)
        finally:
            await writer.stop()
    return {f"{tp.topic}/{tp.partition}": end for tp, (_, end) in spans.items()}
