"""A new epoch beside the live one: the journal folded anew, or a journal made anew from the raw topics.

Nothing is sent: whatever the entries cause was told by the live epoch, and
ids are made of causes, so that what comes after the switch is told once.
Nothing of the live epoch is touched. A new epoch counts once it is in the
plan, and is live once a switch is through; before that, any step may be
interrupted and made again.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from aiokafka import TopicPartition

from journey.engine import PoisonError, Shard, fold
from journey.entries import PAGE_VERSION, pages, read_page
from journey.events import MINUTE
from streams import topics
from streams.appends import Log
from streams.arrivals import Parsed
from streams.collector import calm
from streams.errors import RawCutError
from streams.logs import consumer, partitions_of, read_all, read_partitions, spans_of
from streams.merge import FOR_EVER, Merge
from streams.records import parse_control, parse_events
from streams.replay import live_cuts
from streams.settings import Settings

Told = Callable[[int], None]  # events, or entries, so far
MOST_HELD: Final = 200_000  # raw records, of all partitions together
MANY_PAGES: Final = 100  # above it, several processes are worth their start
LOOK: Final = 0.2  # s between two looks at what other processes do
MOST_WAITING: Final = 20_000  # entries that are written at once
PAGE_HEADERS: Final = (("v", PAGE_VERSION), ("content-type", b"application/json"))


# ---- the state -------------------------------------------------------------------------------------------------------


async def fold_on(target: Settings, ends: Mapping[int, int], told: Told) -> dict[int, dict[str, Any]]:
    """Fold a journal from where its state stands up to, and without, ``ends``; write the state; nothing is sent.

    Returns the partition record of each journal partition. Much of it is
    folded by several processes, each with partitions of its own.
    """
    stands = {number: cut.at for number, cut in (await live_cuts(target)).items()}
    pages_left = sum(max(0, ends.get(number, 0) - at - 1) for number, at in stands.items())
    processes = min(os.cpu_count() or 1, len(stands)) if pages_left > MANY_PAGES else 1
    if processes == 1:
        return await _fold_some(target, sorted(stands), ends, told)
    context = multiprocessing.get_context("spawn")
    counts = context.Array("q", processes)
    shares = [sorted(stands)[slot::processes] for slot in range(processes)]
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(processes, context, _begin_process, (counts,)) as pool:
        folding = [
            loop.run_in_executor(pool, _in_process, slot, target, share, dict(ends))
            for slot, share in enumerate(shares)
        ]
        working = set(folding)
        while working:
            _, working = await asyncio.wait(working, timeout=LOOK)
            told(sum(counts[:]))
    records: dict[int, dict[str, Any]] = {}
    for done in folding:
        records |= done.result()
    return records


_counts: Any = None  # of a process of its own: how many entries each one has folded


def _begin_process(counts: Any) -> None:
    global _counts  # how an executor hands what is shared to its processes
    _counts = counts
    calm()


def _in_process(slot: int, target: Settings, numbers: list[int], ends: dict[int, int]) -> dict[int, dict[str, Any]]:
    def told(count: int) -> None:
        _counts[slot] = count

    return asyncio.run(_fold_some(target, numbers, ends, told))


async def _fold_some(
    target: Settings, numbers: Sequence[int], ends: Mapping[int, int], told: Told
) -> dict[int, dict[str, Any]]:
    cuts = await live_cuts(target, only=numbers)
    shards = {number: Shard(number, cut.records.get, cut.records.items()) for number, cut in sorted(cuts.items())}
    entries = 0
    async with consumer(target) as client:
        tps = [tp for tp in await partitions_of(client, target.topic(topics.JOURNAL)) if tp.partition in cuts]
        spans = {tp: (cuts[tp.partition].at + 1, ends.get(tp.partition, 0)) for tp in tps}
        while spans:
            again: dict[TopicPartition, tuple[int, int]] = {}
            async for tp, records in read_partitions(client, spans):
                if tp in again:
                    continue
                shard = shards[tp.partition]
                try:
                    for record in records:
                        page = read_page(record.value)
                        fold(shard, record.offset, page)
                        entries += len(page)
                except PoisonError as poison:  # the live epoch has written its dead letter
                    cut = cuts[tp.partition]
                    fresh = Shard(tp.partition, cut.records.get, cut.records.items())
                    fresh.poisoned = shard.poisoned | {(poison.offset, poison.index)}
                    shards[tp.partition], again[tp] = fresh, spans[tp]
                shard.triggers.clear()
                told(entries)
            spans = again
    writer = await Log(target.kafka_url, target.batch_bytes).start()
    try:
        for number, shard in shards.items():
            if shard.partition["at"] > cuts[number].at:
                await writer.append(topics.changelog(target), number, shard.changes())
    finally:
        await writer.stop()
    return {number: dict(shard.partition) for number, shard in shards.items()}


# ---- the journal -----------------------------------------------------------------------------------------------------


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
        records = [record for record in records if record.offset < self._ends[tp]]
        name = tp.topic[len(self._target.topic_prefix) :]
        if name == topics.CONTROL:
            parsed = parse_control(records, self._target.partitions)
        else:
            parsed = parse_events(name.removeprefix("events."), records, self._target.partitions)
        # up to the moment it went live, a journal on the events' clock has its order from the events
        times = [
            record.timestamp if record.timestamp >= self._live_since else (one.at if one.entries else 0)
            for record, one in zip(records, parsed, strict=True)
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

    def full(self) -> list[TopicPartition]:
        """Return the partitions that have more than their share here, but for those that hold the others back."""
        still_open = self.open()
        here = [last for tp in still_open if (last := self._merge.last(tp)) is not None]
        share = MOST_HELD // max(1, len(self._ends))
        return [tp for tp in still_open if self._merge.size(tp) > share and self._merge.last(tp) != min(here)]


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
            waiting = sources.open()
            client.assign(waiting or list(spans))
            for tp in waiting:
                client.seek(tp, spans[tp][0])
            while waiting:
                for tp, records in (await client.getmany(*waiting, timeout_ms=500)).items():
                    sources.add(tp, records)
                journal.add(sources.take())
                if sum(map(len, journal.waiting.values())) >= MOST_WAITING:
                    await journal.write(whole=False)
                told(journal.events)
                full = sources.full()
                waiting = [tp for tp in sources.open() if tp not in full]
            for number, moment in until.items():
                journal.pass_time(number, moment)
            await journal.write(whole=True)
        finally:
            await writer.stop()
    return {f"{tp.topic}/{tp.partition}": end for tp, (_, end) in spans.items()}
