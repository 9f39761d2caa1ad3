"""The state of a new epoch: its journal folded with nothing sent, also while it is still being written.

Whatever the entries cause was told by the live epoch, and ids are made of
causes, so that what comes after the switch is told once. Nothing of the live
epoch is touched.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from typing import Any, Final

import orjson
from aiokafka import TopicPartition

from journey.engine import PoisonError, Shard, fold
from journey.entries import encode, read_page
from journey.samples import FAMILIES, position_of
from journey.state import partition_key, read_partition
from streams import topics
from streams.appends import Log, Record
from streams.at_hand import AtHand
from streams.collector import calm
from streams.logs import consumer, partitions_of, read_partitions, spans_of
from streams.replay import Cut, live_cuts
from streams.settings import Settings

Told = Callable[[int], None]  # entries so far
MANY: Final = 100_000  # entries; for more of them, several processes are worth their start
LOOK: Final = 0.2  # s between two looks at what other processes do
UNKNOWN: Final = -1  # where a partition will end
GIVEN_UP: Final = -2  # instead of an end: nobody wants it any more


class Folding:
    """Folds a journal from where its state stands; use as an async context manager.

    Parameters
    ----------
    processes
        Begin at once, in so many processes, each with partitions of its own;
        0 to fold in this one when the ends are known.
    """

    def __init__(self, target: Settings, processes: int) -> None:
        self._target, self._processes = target, min(processes, target.partitions)
        self._pool: ProcessPoolExecutor | None = None
        self._shares: list[asyncio.Future[dict[int, dict[str, Any]]]] = []

    async def __aenter__(self) -> Folding:
        if self._processes:
            context = multiprocessing.get_context("spawn")
            self._counts = context.Array("q", self._processes)
            self._ends = context.Array("q", [UNKNOWN] * self._target.partitions)
            shared = (self._counts, self._ends)
            self._pool = ProcessPoolExecutor(self._processes, context, _begin_process, shared)
            loop = asyncio.get_running_loop()
            for slot in range(self._processes):
                numbers = list(range(self._target.partitions))[slot :: self._processes]
                self._shares.append(loop.run_in_executor(self._pool, _in_process, slot, self._target, numbers))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pool is not None:
            self._ends[:] = [GIVEN_UP] * self._target.partitions
            await asyncio.gather(*self._shares, return_exceptions=True)
            self._pool.shutdown()

    @property
    def count(self) -> int:
        """How many entries are folded."""
        return sum(self._counts[:]) if self._pool is not None else 0

    async def finish(self, ends: Mapping[int, int], told: Told) -> dict[int, dict[str, Any]]:
        """Fold up to, and without, these offsets, and write the state; return the partition records."""
        wanted = [ends.get(number, 0) for number in range(self._target.partitions)]
        if self._pool is None:
            return await _fold(self._target, range(self._target.partitions), wanted, told)
        self._ends[:] = wanted
        working: set[Any] = set(self._shares)
        while working:
            _, working = await asyncio.wait(working, timeout=LOOK)
            told(self.count)
        return {number: record for share in self._shares for number, record in share.result().items()}


async def fold_on(target: Settings, ends: Mapping[int, int], told: Told) -> dict[int, dict[str, Any]]:
    """Fold a journal from where its state stands up to, and without, ``ends``; return the partition records."""
    stands = await live_cuts(target)
    pages = sum(max(0, ends.get(number, 0) - cut.at - 1) for number, cut in stands.items())
    async with Folding(target, processes_for(pages * target.page_entries)) as folding:
        return await folding.finish(ends, told)


def processes_for(entries: int) -> int:
    """Return in how many processes so many entries are folded; 0 is in this one."""
    return (os.cpu_count() or 1) if entries > MANY else 0


_counts: Any = None  # of a process of its own: how many entries each one has folded,
_ends: Any = None  # and where each partition ends


def _begin_process(counts: Any, ends: Any) -> None:
    global _counts, _ends  # how an executor hands what is shared to its processes
    _counts, _ends = counts, ends
    threading.Thread(target=_end_with_parent, daemon=True).start()
    calm()


def _end_with_parent() -> None:
    """End this process with the one that wants its work: an executor's would wait for more of it for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _in_process(slot: int, target: Settings, numbers: list[int]) -> dict[int, dict[str, Any]]:
    def told(count: int) -> None:
        _counts[slot] = count

    return asyncio.run(_fold(target, numbers, _ends, told))


async def _fold(target: Settings, numbers: Sequence[int], ends: Sequence[int], told: Told) -> dict[int, dict[str, Any]]:
    """Fold some partitions up to ``ends``, by partition: what they say may change until they are known."""
    cuts = await live_cuts(target, only=numbers)
    at_hand = AtHand(target)
    await at_hand.read_all()
    shards = {number: await _shard(at_hand, target, cut) for number, cut in cuts.items()}
    entries = 0
    writer = await Log(target.kafka_url, target.batch_bytes).start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(writer.stop)
        client = await stack.enter_async_context(consumer(target))
        telling = _Telling(target, writer, await _highest(target))
        waiting = [tp for tp in await partitions_of(client, target.topic(topics.JOURNAL)) if tp.partition in cuts]
        client.assign(waiting)
        for tp in waiting:
            client.seek(tp, cuts[tp.partition].at + 1)
        while waiting := [tp for tp in waiting if not await _is_read(client, tp, ends[tp.partition])]:
            if GIVEN_UP in ends[:]:
                return {}
            fetched = await client.getmany(*waiting, timeout_ms=int(LOOK * 1000))
            for tp, records in fetched.items():
                number = tp.partition
                await at_hand.for_pages(record.value for record in records)
                try:
                    entries += _fold_records(shards[number], records, ends[number])
                    await telling.tell(shards[number])
                except PoisonError as poison:  # the live epoch has written its dead letter
                    cut = cuts[number]
                    fresh = await _shard(at_hand, target, cut)
                    fresh.poisoned = shards[number].poisoned | {(poison.offset, poison.index)}
                    shards[number] = fresh
                    client.seek(tp, cut.at + 1)
                told(entries)
        for number, shard in sorted(shards.items()):
            if shard.partition["at"] > cuts[number].at:
                await writer.append(topics.changelog(target), number, shard.changes())
    return {number: dict(shard.partition) for number, shard in shards.items()}


Place = tuple[int, int]  # position of an entry, number in it


async def _highest(target: Settings) -> dict[tuple[str, int], Place]:
    """Return, of each family and journal partition, the place of the last sample that the topic has.

    Through a consumer of its own: one that is given other partitions and closed at once may wait for ever.
    """
    found: dict[tuple[str, int], Place] = {}
    async with consumer(target) as client:
        tps = (await partitions_of(client, target.topic(topics.SAMPLES)))[: len(FAMILIES)]
        async for tp, records in read_partitions(client, await spans_of(client, tps)):
            for record in records:
                journal, number, position, count = orjson.loads(record.value)["src"]
                if journal == target.source:
                    name = (FAMILIES[tp.partition], number)
                    found[name] = max((position, count), found.get(name, (-1, -1)))
    return found


class _Telling:
    """Sends the samples that nobody has told yet: of a new journal all, so that learners begin with its past.

    Those that the live epoch has told are passed over. It may tell others
    meanwhile: each of the two tells all from where the topic ended, in order,
    and learners pass over whatever is not above the highest they have taken.
    """

    def __init__(self, target: Settings, writer: Log, told: dict[tuple[str, int], Place]) -> None:
        self._topic, self._writer, self._told = target.topic(topics.SAMPLES), writer, told

    async def tell(self, shard: Shard) -> None:
        """Send what a shard has caused, and forget it there."""
        samples, shard.samples = shard.samples, []
        new: dict[int, list[Record]] = {}
        for _, sample in samples:
            _, position, number = position_of(sample)
            if (position, number) > self._told.get((sample["model"], shard.number), (-1, -1)):
                new.setdefault(FAMILIES.index(sample["model"]), []).append((None, encode(sample)))
        await self._writer.append_all(self._topic, new)


async def _shard(at_hand: AtHand, target: Settings, cut: Cut) -> Shard:
    """Return the working copy of a partition as a cut has it, with the models that are in force there."""
    raw = cut.records.get(partition_key(cut.partition))
    if raw is not None:
        await at_hand.for_partition(read_partition(raw, cut.partition))
    return Shard(cut.partition, cut.records.get, cut.records.items(), at_hand.library, target.source)


async def _is_read(client: Any, tp: TopicPartition, end: int) -> bool:
    """Tell whether a partition is read to its end; one that is, is not fetched any more."""
    is_read = end >= 0 and await client.position(tp) >= end
    if is_read:
        client.pause(tp)
    return bool(is_read)


def _fold_records(shard: Shard, records: Sequence[Any], end: int) -> int:
    """Fold pages up to an end, if it is known; return how many entries they held."""
    entries = 0
    for record in records:
        if 0 <= end <= record.offset:
            break
        page = read_page(record.value)
        fold(shard, record.offset, page)
        shard.triggers.clear()
        entries += len(page)
    return entries
