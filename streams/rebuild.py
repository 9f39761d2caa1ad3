"""The journal of a new epoch, made anew from the raw topics: the same bytes each time.

What retention took of them may be taken from the live journal, which has it.

A new epoch counts once it is in the plan, and is live once a switch is
through; before that, any step may be interrupted and made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson
from aiokafka import TopicPartition

from journey.entries import PAGE_VERSION, Entry, compact, pages, read_page
from journey.events import MINUTE
from streams import topics
from streams.appends import Log
from streams.arrivals import Parsed
from streams.errors import EpochError, RawCutError
from streams.logs import consumer, partitions_of, read_all, read_partitions, spans_of
from streams.merge import FOR_EVER, Merge
from streams.records import parse_control, parse_events
from streams.settings import Settings

Told = Callable[[int], None]  # events so far
Past = Literal["raw", "rest", "journal"]  # all from the raw topics; what is left there; what is gone from the journal
Spans = dict[TopicPartition, tuple[int, int]]  # offsets to begin at, and to stop before
AT_ONCE: Final = 1_000  # raw records that are read at once: few enough for the processor's cache
PAGES_AT_ONCE: Final = 4  # of a journal
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


class _Kept:
    """What a journal holds of raw records that are gone from their topics, in its order, each once."""

    def __init__(self, cuts: Mapping[tuple[str, int], int]) -> None:
        self._cuts = cuts  # first offset that is still in the raw topic
        self._applied: dict[tuple[int, str, int], int] = {}

    def of(self, number: int, page: bytes) -> Iterator[Entry]:
        """Yield the entries that count, of the next page of a partition. Ticks do not: they are made anew."""
        for entry in read_page(page):
            src = entry.get("src")
            if src is None:
                continue
            topic, partition, offset = src
            source = (number, topic, partition)
            # as the fold passes over repeats: a record has one entry in a partition at most
            if offset < self._cuts.get((topic, partition), 0) and offset > self._applied.get(source, -1):
                self._applied[source] = offset
                yield entry


async def _kept_spans(client: Any, journal: Spans, kept: _Kept) -> tuple[Spans, dict[tuple[str, int], int]]:
    """Return how far a journal has to be read, and for each raw partition the latest time (ms) of what it gives.

    What follows in the raw topic comes after that, whatever its time: the fold would take it for a repeat otherwise.
    """
    spans = dict.fromkeys(journal, (0, 0))
    latest: dict[int, int] = {}
    floors: dict[tuple[str, int], int] = {}
    async for tp, records in read_partitions(client, journal):
        for record in records:
            for entry in kept.of(tp.partition, record.value):
                latest[tp.partition] = at = max(latest.get(tp.partition, 0), entry["at"])
                topic, partition, _ = entry["src"]
                floors[topic, partition] = max(floors.get((topic, partition), 0), at)
                spans[tp] = (0, record.offset + 1)
    return spans, floors


class _Sources:
    """What a journal is made of, merged by time.

    The raw partitions and the control topic, from where a journal stands to
    given ends; and, before them, what another journal holds of what is gone.
    """

    def __init__(
        self, target: Settings, spans: Spans, live_since: float, journal: Spans, kept: _Kept,
        floors: Mapping[tuple[str, int], int],
    ) -> None:  # fmt: skip
        self._target, self._live_since = target, live_since
        self._journal, self._kept, self._floors = journal, kept, floors
        both = journal | spans
        self.next = {tp: begin for tp, (begin, _) in both.items()}
        self._ends = {tp: end for tp, (_, end) in both.items()}
        self._merge = Merge()
        for tp in (*sorted(journal), *sorted(spans)):  # equal times go on in this order
            self._merge.add(tp, None, [], [])

    def open(self) -> list[TopicPartition]:
        """Return what has more to come."""
        return [tp for tp, at in self.next.items() if at < self._ends[tp]]

    def at_once(self, tp: TopicPartition) -> int:
        """Return how many records of a partition to fetch."""
        return PAGES_AT_ONCE if tp in self._journal else AT_ONCE

    def add(self, tp: TopicPartition, records: list[Any]) -> None:
        """Take what one fetch brought of a partition."""
        self.next[tp] = records[-1].offset + 1
        if self.next[tp] > self._ends[tp]:
            records = [record for record in records if record.offset < self._ends[tp]]
        if tp in self._journal:
            entries = [entry for record in records for entry in self._kept.of(tp.partition, record.value)]
            parsed = [Parsed(entry["at"], ((tp.partition, compact(orjson.dumps(entry))),), None) for entry in entries]
            self._merge.add(tp, None, parsed, [entry["at"] for entry in entries])
            return
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
        floor = self._floors.get((tp.topic, tp.partition))
        if floor is not None:
            times = [max(time, floor) for time in times]
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


async def raw_spans(
    client: Any, source: Settings, begins: Mapping[str, int], ends: Mapping[tuple[str, int], int], past: Past
) -> Spans:
    """Return what to read of each raw partition and of the control topic.

    Raises
    ------
    RawCutError
        They no longer have what lies at ``begins``, and nothing else was asked for.
    EpochError
        Ingest has not read what is gone, so the journal has it neither.
    """
    spans: Spans = {}
    names = [source.topic(name) for name in (*topics.RAW, topics.CONTROL)]
    tps = [tp for name in names for tp in await partitions_of(client, name)]
    for tp, (first, _) in (await spans_of(client, tps)).items():
        begin, end = begins.get(f"{tp.topic}/{tp.partition}", 0), ends.get((tp.topic, tp.partition), 0)
        if first > begin and past == "raw":
            msg = f"{tp.topic}/{tp.partition} begins at {first}, {first - begin} records before it are gone"
            raise RawCutError(msg)
        if first > end and past == "journal":
            msg = (
                f"{tp.topic}/{tp.partition} begins at {first}, and ingest has read it up to {end} only: what lies "
                "between is lost. Accept it first: journey ingest accept-hole"
            )
            raise EpochError(msg)
        begin = max(begin, first)
        spans[tp] = (begin, max(begin, end))
    return spans


async def _uncut(client: Any, tp: TopicPartition, at: int) -> None:
    """Raise if retention took what was to be read next."""
    first = (await client.beginning_offsets([tp]))[tp]
    if first > at:
        msg = (
            f"retention took {first - at} records of {tp.topic}/{tp.partition} from {at} on just before they were "
            "read: run the same command again"
        )
        raise RawCutError(msg)


async def write_journal(
    source: Settings, target: Settings, begins: Mapping[str, int], ends: Mapping[tuple[str, int], int],
    now: dict[int, int], until: Mapping[int, int], told: Told, *, past: Past = "raw",
) -> dict[str, int]:  # fmt: skip
    """Append to a new journal what the raw topics hold from ``begins`` up to, and without, ``ends``.

    Parameters
    ----------
    now
        Journal time (ms) of each partition so far.
    until
        Let time pass up to there (ms) afterwards.
    past
        What to do without the beginning of the raw topics: refuse it
        (``raw``), begin with the rest, or take what is gone from the journal
        of ``source``, as far as it lies before what the raw topics have.

    Returns
    -------
    For each raw partition, as ``topic/number``, the offset that comes next.

    Raises
    ------
    RawCutError
        They no longer begin at their beginning; or retention took something while it was read.
    EpochError
        The journal lacks some of what is gone.
    """
    async with consumer(source) as client:
        spans = await raw_spans(client, source, begins, ends, past)
        journal: Spans = {}
        floors: dict[tuple[str, int], int] = {}
        cuts = {(tp.topic, tp.partition): begin for tp, (begin, _) in spans.items()} if past == "journal" else {}
        if any(cuts.values()):
            whole = await spans_of(client, await partitions_of(client, source.topic(topics.JOURNAL)))
            for tp, (first, _) in whole.items():
                if first > 0:
                    msg = f"{tp.topic}/{tp.partition} begins at {first}: the beginning of the journal itself is gone"
                    raise RawCutError(msg)
            journal, floors = await _kept_spans(client, whole, _Kept(cuts))
        live_since = await _live_since(source)
        sources = _Sources(target, spans, live_since, journal, _Kept(cuts), floors)
        writer = await Log(target.kafka_url, target.batch_bytes).start()
        made = Journal(target, writer, now, live_since)
        try:
            client.assign(sources.open() or list(spans))
            for tp in sources.open():
                client.seek(tp, sources.next[tp])
            while (behind := sources.behind()) is not None:
                fetched = await client.getmany(behind, timeout_ms=500, max_records=sources.at_once(behind))
                records = fetched.get(behind, [])
                begin, at = sources.next[behind], await client.position(behind)
                if at > begin and (not records or records[0].offset > begin):
                    await _uncut(client, behind, begin)
                if records:
                    sources.add(behind, records)
                else:
                    sources.next[behind] = at  # past markers of transactions
                if behind not in sources.open():
                    client.pause(behind)  # a fetch of nothing but what has nothing more would be waited for
                made.add(sources.take())
                if sum(map(len, made.waiting.values())) >= MOST_WAITING:
                    await made.write(whole=False)
                told(made.events)
            made.add(sources.take())
            for number, moment in until.items():
                made.pass_time(number, moment)
            await made.write(whole=True)
        finally:
            await writer.stop()
    return {f"{tp.topic}/{tp.partition}": end for tp, (_, end) in spans.items()}
