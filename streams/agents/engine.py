"""The engine: journal pages in, triggers and customer records out.

For each group of pages, in this order: fold; triggers acknowledged; the
touched customers and, last, the partition record acknowledged as one batch;
the local store; the pages acknowledged. The read model follows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

import orjson

from journey.engine import PoisonError, Shard, fold
from journey.entries import encode, read_page
from journey.ids import route
from journey.samples import FAMILIES
from journey.ticks import Sight
from streams import faust_fixes, topics
from streams.appends import Log, Record
from streams.chunks import Inbox
from streams.customers import Customers
from streams.errors import LogTruncatedError, PoisonFloodError, ShellError
from streams.read_model import ReadModel
from streams.records import dead_letter
from streams.settings import Settings

log = logging.getLogger("journey.engine")

TRIGGER_HEADERS: Final = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
MOST_POISON: Final = 10  # in one group; more are no accident
LETTER_HEADERS: Final = (("content-type", b"application/json"),)


class Now(NamedTuple):
    """The clocks of the shell: wall time in ms, and a steady one in seconds."""

    wall: Callable[[], int]
    steady: Callable[[], float]


class Brings(Protocol):
    """What makes models and configurations known before pages that use them are folded."""

    async def for_pages(self, pages: Iterable[bytes]) -> None:
        """Return when whatever the pages adopt is in the library."""


@dataclass
class Engine:
    """The engine agent of one worker."""

    app: Any
    settings: Settings
    journal: Log
    table: Customers
    read_model: ReadModel
    clock: Now
    at_hand: Brings
    counts: dict[str, int] = field(
        default_factory=lambda: {
            "pages": 0,
            "events": 0,
            "triggers": 0,
            "samples": 0,
            "repeats": 0,
            "poison": 0,
            "groups": 0,
        }
    )
    seconds: dict[str, float] = field(default_factory=lambda: {"fold": 0.0, "triggers": 0.0, "table": 0.0})
    last_page: dict[int, int] = field(default_factory=dict)  # wall time at which a page was last seen
    last_tick: dict[int, int] = field(default_factory=dict)
    unchecked: dict[str, int] = field(default_factory=dict)  # applied positions, as of an assignment
    broker_time: tuple[int, float] | None = None  # the broker's clock, and the steady clock when it was told
    # held from the first fold of a group to its acknowledgement: who reads the changelog back waits for it
    step: asyncio.Lock = field(default_factory=asyncio.Lock)
    _triggers: int = 0
    _letters: int = 0

    def begin(self, app: Any, ends: dict[Any, int]) -> None:
        """The table is recovered: build the working copies, so that timers run before anything arrives."""
        if app is self.app:
            for tp, end in sorted(ends.items()):
                shard = self.table.shard(tp.partition)
                self._check_log(shard, end)
                for source, offset in shard.partition["applied"].items():
                    self.unchecked[source] = max(offset, self.unchecked.get(source, -1))

    def forget(self, partitions: set[int]) -> None:
        """Partitions were revoked."""
        self.table.forget(partitions)
        self.read_model.disown(partitions)

    async def run(self, stream: Any) -> None:
        """Fold groups of pages until the stream ends."""
        with faust_fixes.fail_stop():
            self._triggers = await self.journal.partitions(self.settings.topic(topics.TRIGGERS))
            self._letters = await self.journal.partitions(self.settings.topic(topics.DEAD_LETTERS))
        async with Inbox(self.app, stream, self.settings.group_chunks) as inbox:
            while (group := await inbox.take()) is not None:
                async with self.step:
                    with faust_fixes.fail_stop():
                        await self._step(group)
                    for event in group:
                        event.ack()

    async def _step(self, group: list[Any]) -> None:
        begin = self.clock.steady()
        by_partition: dict[int, list[Any]] = {}
        for event in group:
            by_partition.setdefault(event.message.partition, []).extend(event.value)
        await self.at_hand.for_pages(record.value for event in group for record in event.value)
        shards = [await self._fold(number, records) for number, records in by_partition.items()]
        folded = self.clock.steady()
        triggers: dict[int, list[Record]] = {}
        for shard in shards:
            for trigger in shard.triggers:
                record = (trigger.key.encode(), orjson.dumps(trigger.body))
                triggers.setdefault(route(trigger.key, self._triggers), []).append(record)
                self.counts["triggers"] += 1
        samples: dict[int, list[Record]] = {}
        for shard in shards:
            for _, sample in shard.samples:
                samples.setdefault(FAMILIES.index(sample["model"]), []).append((None, encode(sample)))
            self.counts["samples"] += len(shard.samples)
        if triggers or samples:
            await asyncio.gather(
                self.journal.append_all(self.settings.topic(topics.TRIGGERS), triggers, TRIGGER_HEADERS),
                self.journal.append_all(self.settings.topic(topics.SAMPLES), samples, LETTER_HEADERS),
            )
        sent = self.clock.steady()
        touched = {shard.number: list(shard.touched) for shard in shards}
        await self.table.write(self.journal, shards)
        self._took(begin, folded, sent)
        if self.journal.told is not None:
            # as of now; a page's own time may be long past, and would hold up the ticks after a pause
            self.broker_time = (self.journal.told, self.clock.steady())
        for shard in shards:
            self.read_model.follow(shard.number, touched[shard.number], shard.partition["at"])

    def _took(self, begin: float, folded: float, sent: float) -> None:
        """Count a group, and the time (s) of its phases."""
        seconds = self.seconds
        seconds["fold"] += folded - begin
        seconds["triggers"] += sent - folded
        seconds["table"] += self.clock.steady() - sent
        self.counts["groups"] += 1

    async def _fold(self, number: int, records: list[Any]) -> Shard:
        shard = self.table.shard(number)
        known = shard.poisoned
        while True:
            before, repeats = shard.counts["events"], shard.counts["repeats"]
            try:
                for record in records:
                    fold(shard, record.offset, read_page(record.value))
            except PoisonError as poison:
                if isinstance(poison.error, ShellError):
                    raise poison.error from poison  # a store that cannot be read: the entry has no fault
                if len(shard.poisoned - known) >= MOST_POISON:
                    text = f"{MOST_POISON} entries of one group raised, the last one: {poison}"
                    raise PoisonFloodError(text) from poison
                await self._bury(poison, records)
                shard = self.table.rebuild(number, shard.poisoned | {(poison.offset, poison.index)})
            else:
                self.counts["events"] += shard.counts["events"] - before
                self.counts["repeats"] += shard.counts["repeats"] - repeats
                self.counts["pages"] += len(records)
                self.last_page[number] = self.clock.wall()
                return shard

    def _check_log(self, shard: Shard, end: int) -> None:
        """Refuse a journal that ends below what was folded: new pages at old offsets would be skipped in silence."""
        if end <= shard.partition["at"]:
            msg = (
                f"{self.settings.topic(topics.JOURNAL)}/{shard.number} ends at {end}, "
                f"the state reflects page {shard.partition['at']}"
            )
            raise LogTruncatedError(msg)

    async def _bury(self, poison: PoisonError, records: list[Any]) -> None:
        """Write the dead letter of an entry that nobody can fold."""
        self.counts["poison"] += 1
        page = next(record for record in records if record.offset == poison.offset)
        entry = read_page(page.value)[poison.index]
        log.error("poison: %s; the entry is skipped, its dead letter has it", poison)
        value = orjson.dumps(entry)
        key = entry.get("c", "").encode()
        letter = dead_letter(_Poisoned(page, key, value), "poison", repr(poison.error), None, "engine")
        name = self.settings.topic(topics.DEAD_LETTERS)
        await self.journal.append(name, route(key.decode(), self._letters), [(key, letter)], LETTER_HEADERS)

    def broker_now(self) -> int | None:
        """Return the broker's clock now (ms), as far as its last acknowledgement told; None before the first."""
        if self.broker_time is None:
            return None
        return self.broker_time[0] + int((self.clock.steady() - self.broker_time[1]) * 1000)

    def sights(self) -> list[tuple[Shard, Sight]]:
        """Return what this worker sees of each journal partition it folds, for the decision to tick."""
        wall, broker = self.clock.wall(), self.broker_now()
        seen = []
        for shard in self.table.shards():
            number, partition = shard.number, shard.partition
            sight = Sight(
                wall, broker, partition["now"], partition["clock"], shard.agenda.next_prompt(),
                self.last_tick.get(number), self.last_page.get(number), None,
            )  # fmt: skip
            seen.append((shard, sight))
        return seen

    async def tick(self, number: int, at: int) -> None:
        """Append a tick to a journal partition we own."""
        await self._append_tick(number, at)
        self.last_tick[number] = self.clock.wall()

    async def ask_the_time(self, shard: Shard) -> None:
        """Learn the broker's clock from the acknowledgement of a tick that moves nothing: its time is journal time."""
        await self._append_tick(shard.number, shard.partition["now"])

    async def _append_tick(self, number: int, at: int) -> None:
        page = orjson.dumps([{"k": "tick", "at": at}])
        (done,) = await self.journal.append(self.settings.topic(topics.JOURNAL), number, [(None, page)], (("v", b"1"),))
        self.broker_time = (done.timestamp, self.clock.steady())


class _Poisoned:
    """A journal entry in the shape of a record, for its dead letter."""

    headers: tuple[tuple[str, bytes], ...] = ()

    def __init__(self, page: Any, key: bytes, value: bytes) -> None:
        self.topic, self.partition, self.offset = page.topic, page.partition, page.offset
        self.timestamp, self.key, self.value = page.timestamp, key, value


def steady() -> float:
    """Return a clock that is never set back."""
    return time.monotonic()
