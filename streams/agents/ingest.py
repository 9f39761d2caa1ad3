"""Ingest: raw records in, journal pages and dead letters out. Keeps no state; decides by the record alone."""

from __future__ import annotations

import logging
import time
from binascii import crc32
from dataclasses import dataclass, field
from typing import Any, Final

from journey.entries import PAGE_VERSION, pages
from journey.errors import PositionGapError
from streams import faust_fixes, topics
from streams.appends import Log, Record
from streams.arrivals import Parsed
from streams.chunks import Inbox
from streams.control import ControlTail
from streams.errors import LogTruncatedError
from streams.merge import FOR_EVER, Merge
from streams.records import parse_control, parse_events
from streams.settings import Settings

log = logging.getLogger("journey.ingest")

MARK_PATIENCE: Final = 5.0  # s without a new mark after which what is held goes on
MOST_HELD: Final = 200_000  # records
PAGE_HEADERS: Final = (("v", PAGE_VERSION), ("content-type", b"application/json"))
LETTER_HEADERS: Final = (("content-type", b"application/json"),)


@dataclass
class Ingest:
    """The ingest agent of one worker."""

    app: Any
    settings: Settings
    journal: Log
    control: ControlTail
    merge: Merge = field(default_factory=Merge)
    expected: dict[Any, int] = field(default_factory=dict)  # next offset of each raw partition we own
    counts: dict[str, int] = field(default_factory=lambda: {"events": 0, "dead_letters": 0, "gave_up": 0})
    _letters: int = 0
    _held_since: float | None = None
    _last_mark: float = 0.0

    def begin(self, app: Any, ends: dict[Any, int]) -> None:
        """Partitions are assigned: refuse one that ends below what was taken from it; new records would be skipped."""
        if app is self.app:
            for tp, end in ends.items():
                taken = faust_fixes.begin(app, tp)
                if taken is not None and end < taken:
                    msg = f"{tp.topic}/{tp.partition} ends at {end}, {taken} records of it were taken before"
                    raise LogTruncatedError(msg)

    def forget(self, app: Any) -> None:
        """Partitions are revoked, or the worker stops: what is held will be read again by its next owner."""
        if app is self.app:
            for chunk in self.merge.drop():
                faust_fixes.let_go_of(app, chunk.message)
            self.expected.clear()

    async def run(self, stream: Any) -> None:
        """Copy what arrives into the journal; acknowledge a chunk when all of it is there."""
        faust_fixes.before_waiting.append(self.forget)
        with faust_fixes.fail_stop():
            await self.control.ready()
            self._letters = await self.journal.partitions(self.settings.topic(topics.DEAD_LETTERS))
        async with Inbox(self.app, stream, self.settings.group_chunks) as inbox:
            self.control.changed = inbox.wake
            while (group := await inbox.take(0.5 if len(self.merge) else None)) is not None:
                with faust_fixes.fail_stop():
                    for event in group:
                        self._receive(event)
                    parsed, done = self.merge.take(self._bound())
                    if parsed:
                        await self._append(parsed)
                for event in done:
                    event.ack()
        faust_fixes.before_waiting.remove(self.forget)

    def _bound(self) -> float:
        """Return the time up to which records go on now."""
        if not self.control.is_events_clock:
            return FOR_EVER
        mark = self.control.reached(self._received)
        if mark != self._last_mark or not len(self.merge):
            self._last_mark, self._held_since = mark, None
            return mark
        now = time.monotonic()
        self._held_since = self._held_since or now
        if now - self._held_since < MARK_PATIENCE and len(self.merge) < MOST_HELD:
            return mark
        self.counts["gave_up"] += 1
        log.warning("no mark for %.0f s: %d records go on as they came", MARK_PATIENCE, len(self.merge))
        self._held_since = None
        return FOR_EVER

    def _received(self, topic: str, partition: int) -> int | None:
        return self.expected.get((topic, partition), faust_fixes.begin(self.app, (topic, partition)))

    def _receive(self, event: Any) -> None:
        records = event.value
        tp = event.message.tp
        first, end = records[0].offset, records[-1].offset + 1
        where = f"{tp.topic}/{tp.partition}"
        begin = faust_fixes.begin(self.app, tp)
        if begin is not None and first < begin:
            msg = f"{where} begins again at {first}, {begin} records of it were taken before"
            raise LogTruncatedError(msg)
        expected = self.expected.get(tp, first if begin is None else begin)
        if first < expected:  # delivered again, by a seek that came late
            records = [record for record in records if record.offset >= expected]
        if end - expected != len(records):
            for offset, record in enumerate(records, expected):
                if record.offset != offset:
                    raise PositionGapError(log=where, found=record.offset, expected=offset)
        self.expected[tp] = max(expected, end)
        partitions = self.settings.partitions
        name = tp.topic[len(self.settings.topic_prefix) :]
        if name == topics.CONTROL:
            parsed = parse_control(records, partitions)
        else:
            parsed = parse_events(name.removeprefix("events."), records, partitions)
        self.merge.add(tp, event, parsed)

    async def _append(self, parsed: list[Parsed]) -> None:
        entries: dict[int, list[bytes]] = {}
        letters: dict[int, list[Record]] = {}
        for one in parsed:
            for number, entry in one.entries:
                entries.setdefault(number, []).append(entry)
            if one.dead_letter is not None:
                number = crc32(one.dead_letter[0] or b"") % self._letters
                letters.setdefault(number, []).append(one.dead_letter)
                self.counts["dead_letters"] += 1
        # letters first: when the chunk is acknowledged both are there, and a letter may repeat, an entry is told apart
        if letters:
            await self.journal.append_all(self.settings.topic(topics.DEAD_LETTERS), letters, LETTER_HEADERS)
        most = self.settings.page_entries
        written = {number: [(None, page) for page in pages(mine, most)] for number, mine in entries.items()}
        await self.journal.append_all(self.settings.topic(topics.JOURNAL), written, PAGE_HEADERS)
        self.counts["events"] += len(parsed)
