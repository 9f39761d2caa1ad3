"""Ingest: raw records in, journal pages and dead letters out. Keeps no state; decides by the record alone."""

from __future__ import annotations

import logging
import time
from binascii import crc32
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from journey.entries import PAGE_VERSION, pages
from journey.errors import PositionGapError
from streams import faust_fixes, topics
from streams.alignment import GLANCE, PATIENCE, Alignment, pieces
from streams.appends import Log, Record
from streams.arrivals import Parsed, sorted_out
from streams.chunks import Inbox
from streams.control import ControlTail
from streams.errors import LogTruncatedError
from streams.merge import FOR_EVER, Merge
from streams.records import parse_control, parse_events
from streams.settings import Settings

log = logging.getLogger("journey.ingest")

MARK_PATIENCE: Final = 5.0  # s without a new mark after which what is held goes on
MOST_HELD: Final = 200_000  # records
PIECE: Final = 10_000  # most records appended at once
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
    counts: dict[str, int] = field(default_factory=lambda: {"events": 0, "dead_letters": 0, "gave_up": 0, "groups": 0})
    reasons: Counter[str] = field(default_factory=Counter)  # dead letters by reason
    seconds: dict[str, float] = field(default_factory=lambda: {"parse": 0.0, "append": 0.0})
    steady: Callable[[], float] = time.monotonic  # s; bounds waiting, and nothing else
    alignment: Alignment = field(init=False)
    _paused: set[Any] = field(default_factory=set)
    _letters: int = 0
    _held_since: float | None = None
    _last_mark: float = 0.0
    _was_events_clock: bool = False

    def __post_init__(self) -> None:
        self.alignment = Alignment(
            self.merge, self._next, self._end, self.steady, self.counts, self.settings.held_records
        )

    def begin(self, app: Any, ends: dict[Any, int]) -> None:
        """Partitions are assigned: refuse one that ends below what was taken from it; new records would be skipped."""
        if app is self.app:
            for tp, end in ends.items():
                taken = faust_fixes.begin(app, tp)
                if taken is not None and end < taken:
                    msg = f"{tp.topic}/{tp.partition} ends at {end}, {taken} records of it were taken before"
                    raise LogTruncatedError(msg)
            self.alignment.own(ends)
            self.control.again()

    def forget(self, app: Any) -> None:
        """Partitions are revoked, or the worker stops: what is held will be read again by its next owner."""
        if app is self.app:
            if held := len(self.merge):
                log.info("%d records were held to be put in order: they are read again", held)
            for chunk in self.merge.drop():
                faust_fixes.let_go_of(app, chunk.message)
            self.expected.clear()
            self.alignment.own({})
            self._hold_back(set())

    async def run(self, stream: Any) -> None:
        """Copy what arrives into the journal; acknowledge a chunk when all of it is there."""
        faust_fixes.before_waiting.append(self.forget)
        with faust_fixes.fail_stop():
            await self.control.ready()
            self._letters = await self.journal.partitions(self.settings.topic(topics.DEAD_LETTERS))
        async with Inbox(self.app, stream, self.settings.group_chunks) as inbox:
            self.control.changed = inbox.wake
            while (group := await inbox.take(self._patience())) is not None:
                with faust_fixes.fail_stop():
                    begin = self.steady()
                    for event in group:
                        self._receive(event)
                    received = self.steady()
                    parsed, done = self.merge.take(self._bound())
                    self._hold_back(set() if self.control.is_events_clock else self.alignment.full())
                    for piece in pieces(parsed, PIECE):
                        await self._append(piece)
                    self._took(begin, received)
                for event in done:
                    event.ack()
        faust_fixes.before_waiting.remove(self.forget)

    def _took(self, begin: float, received: float) -> None:
        """Count a group, and the time (s) of its phases."""
        self.seconds["parse"] += received - begin
        self.seconds["append"] += self.steady() - received
        self.counts["groups"] += 1

    def _patience(self) -> float | None:
        """Return for how long (s) to wait for what arrives before looking again; None: until something does."""
        if not len(self.merge):
            return None
        return 0.5 if self.control.is_events_clock else GLANCE

    def _bound(self) -> float:
        """Return the time up to which records go on now."""
        if not self.control.is_events_clock:
            if self._was_events_clock:  # what is still held has times of the other clock
                self._was_events_clock = False
                return FOR_EVER
            gave_up = self.counts["align_gave_up"]
            bound = self.alignment.bound()
            if self.counts["align_gave_up"] != gave_up:
                log.warning("some raw partitions brought nothing for %.0f s: the others go on without them", PATIENCE)
            return bound
        self._was_events_clock = True
        # while nothing is assigned every partition is another worker's, and no mark would hold anything back
        mark = self.control.reached(self._received) if self.alignment.owns_any else 0.0
        if mark != self._last_mark or not len(self.merge):
            self._last_mark, self._held_since = mark, None
            return mark
        now = self.steady()
        self._held_since = self._held_since or now
        if now - self._held_since < MARK_PATIENCE and len(self.merge) < MOST_HELD:
            return mark
        self.counts["gave_up"] += 1
        log.warning("no mark for %.0f s: %d records go on as they came", MARK_PATIENCE, len(self.merge))
        self._held_since = None
        return FOR_EVER

    def _hold_back(self, full: set[Any]) -> None:
        """Fetch nothing for now of the partitions that have more than their share here."""
        for tp in full:  # every time: Faust itself lets them go on when a queue of its own has room
            self.app.consumer.on_buffer_full(tp)
        for tp in self._paused - full:
            self.app.consumer.on_buffer_drop(tp)
        self._paused = full

    def _received(self, topic: str, partition: int) -> int | None:
        return self._next((topic, partition))

    def _next(self, tp: Any) -> int | None:
        """Return the offset that comes next from a raw partition; None when it is another worker's."""
        return self.expected.get(tp, faust_fixes.begin(self.app, tp))

    def _end(self, tp: Any) -> int | None:
        try:
            end: int | None = self.app.consumer.highwater(tp)
        except AssertionError:  # a rebalance is under way
            return None
        return end

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
        if self.control.is_events_clock:  # a dead letter has no time of its own
            times = [one.at if one.entries else 0 for one in parsed]
        else:
            times = [record.timestamp for record in records]
        self.merge.add(tp, event, parsed, times)
        self.alignment.came(tp)

    async def _append(self, parsed: list[Parsed]) -> None:
        entries, refused = sorted_out(parsed)
        letters: dict[int, list[Record]] = {}
        for letter in refused:
            letters.setdefault(crc32(letter[0] or b"") % self._letters, []).append(letter)
            self.counts["dead_letters"] += 1
            self.reasons[orjson.loads(letter[1])["reason"]] += 1
        # letters first: when the chunk is acknowledged both are there, and a letter may repeat, an entry is told apart
        if letters:
            await self.journal.append_all(self.settings.topic(topics.DEAD_LETTERS), letters, LETTER_HEADERS)
        most = self.settings.page_entries
        written = {number: [(None, page) for page in pages(mine, most)] for number, mine in entries.items()}
        await self.journal.append_all(self.settings.topic(topics.JOURNAL), written, PAGE_HEADERS)
        self.counts["events"] += len(parsed)
