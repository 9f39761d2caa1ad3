"""What agents hold: it is let go when partitions go, and nothing is taken that is not the next in its log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from journey.errors import PositionGapError
from streams import faust_fixes
from streams.agents.ingest import Ingest
from streams.chunks import Inbox
from streams.errors import LogTruncatedError
from streams.settings import Settings
from tests.factories import loaded
from tests.waiting import eventually

CLICKS = TP("events.click", 0)


class FakeApp:
    """An app whose consumer waits for the messages in ``waited_for``."""

    def __init__(self) -> None:
        self.conf = SimpleNamespace(id="journey-ingest")
        self.waited_for: set[Any] = set()
        self.consumer = SimpleNamespace(_unacked_messages=self.waited_for)


class FakeStream:
    """What Faust hands to an agent; each event is waited for as soon as it is handed over."""

    def __init__(self, app: FakeApp) -> None:
        self._app = app
        self.coming: asyncio.Queue[Any] = asyncio.Queue()

    def noack(self) -> FakeStream:
        return self

    async def events(self) -> AsyncIterator[Any]:
        while True:
            event = await self.coming.get()
            self._app.waited_for.add(event.message)
            yield event

    def bring(self, *names: str) -> None:
        for name in names:
            self.coming.put_nowait(Event(name))


class Message:
    tp = CLICKS

    def __init__(self, name: str, size: int = 100) -> None:
        self.name, self.serialized_value_size = name, size


class Event:
    def __init__(self, name: str) -> None:
        self.message = Message(name)


def names(events: list[Any] | None) -> list[str]:
    assert events is not None
    return [event.message.name for event in events]


@pytest.fixture
def app() -> FakeApp:
    return FakeApp()


async def test_all_that_arrived_is_taken_at_once(app: FakeApp) -> None:
    stream = FakeStream(app)
    async with Inbox(app, stream, 8) as inbox:
        stream.bring("1", "2", "3")
        await eventually(lambda: stream.coming.empty())
        assert names(await inbox.take()) == ["1", "2", "3"]
        assert names(await inbox.take(0.01)) == []
        stream.bring("4")
        assert names(await inbox.take()) == ["4"]


async def test_no_more_is_held_than_fits(app: FakeApp) -> None:
    stream = FakeStream(app)
    async with Inbox(app, stream, 2) as inbox:
        stream.bring("1", "2", "3", "4")
        await eventually(lambda: len(app.waited_for) == 2)
        assert names(await inbox.take()) == ["1", "2"]
        await eventually(lambda: len(app.waited_for) == 4)
        assert names(await inbox.take()) == ["3", "4"]


async def test_a_wake_ends_a_wait(app: FakeApp) -> None:
    async with Inbox(app, FakeStream(app), 2) as inbox:
        asyncio.get_running_loop().call_later(0.01, inbox.wake)
        assert names(await inbox.take()) == []


async def let_go(app: FakeApp) -> None:
    for drop in list(faust_fixes.before_waiting):
        drop(app)


async def assign(app: FakeApp) -> None:
    for begin in list(faust_fixes.after_recovery):
        begin(app, {})


async def test_when_partitions_go_nothing_that_was_not_begun_is_waited_for(app: FakeApp) -> None:
    stream = FakeStream(app)
    async with Inbox(app, stream, 2) as inbox:
        stream.bring("1", "2", "3")  # the third waits for room
        await eventually(lambda: len(app.waited_for) == 2)
        await let_go(app)
        await eventually(lambda: stream.coming.empty())
        # it came out of the stream only now: its successor would be taken for the next one, and it would be lost
        await eventually(lambda: not app.waited_for)
        assert names(await inbox.take(0.01)) == []
        await assign(app)
        stream.bring("1 again")
        assert names(await inbox.take()) == ["1 again"]


async def test_another_app_of_the_same_process_does_not_lose_anything(app: FakeApp) -> None:
    stream = FakeStream(app)
    async with Inbox(app, stream, 2) as inbox:
        stream.bring("1")
        await eventually(lambda: stream.coming.empty())
        await let_go(FakeApp())
        assert names(await inbox.take()) == ["1"]


async def test_a_stream_that_fails_ends_the_process(app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr("os._exit", left.append)

    class FailingStream(FakeStream):
        async def events(self) -> AsyncIterator[Any]:
            yield Event("1")
            raise RuntimeError("the stream broke")

    async with Inbox(app, FailingStream(app), 2) as inbox:
        assert names(await inbox.take()) == ["1"]
        await eventually(lambda: left == [faust_fixes.STOPPED])


# ---- the guards of ingest --------------------------------------------------------------------------------------------


class Record:
    """A raw record."""

    key = b"u:1"
    headers: tuple[tuple[str, bytes], ...] = ()
    topic, partition = CLICKS
    timestamp = 1_780_272_000_000

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.value = b'{"type":"click.page_viewed","user_id":"1","occurred_at":"2026-06-01T00:00:00Z"}'


def chunk(*offsets: int) -> Any:
    return SimpleNamespace(value=[Record(offset) for offset in offsets], message=Message("a chunk"))


@pytest.fixture
def ingest(app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> Ingest:
    """Ingest whose clicks were assigned from offset 10 on."""
    monkeypatch.setitem(faust_fixes._begins, app.conf.id, {CLICKS: 10})
    no_log: Any = None
    control: Any = SimpleNamespace(is_events_clock=False, again=lambda: None)
    return Ingest(app, Settings(), no_log, control)


def taken(ingest: Ingest) -> list[int]:
    parsed, _ = ingest.merge.take(float("inf"))
    return [entry["src"][2] for one in parsed for _, entry in loaded(one)]


def test_what_follows_is_taken(ingest: Ingest) -> None:
    ingest._receive(chunk(10, 11))
    ingest._receive(chunk(12, 13, 14))
    assert taken(ingest) == [10, 11, 12, 13, 14]


@pytest.mark.parametrize(
    ("chunks", "found", "expected"),
    [(((11, 12),), 11, 10), (((10, 11), (13,)), 13, 12), (((10, 12),), 12, 11), (((10, 11, 12), (11, 14)), 14, 13)],
)
def test_a_hole_is_refused(ingest: Ingest, chunks: tuple[tuple[int, ...], ...], found: int, expected: int) -> None:
    *before, last = chunks
    for offsets in before:
        ingest._receive(chunk(*offsets))
    with pytest.raises(PositionGapError) as told:
        ingest._receive(chunk(*last))
    assert (told.value.found, told.value.expected) == (found, expected)


def test_a_log_that_begins_before_what_was_committed_was_recreated(ingest: Ingest) -> None:
    with pytest.raises(LogTruncatedError, match=r"events.click/0 begins again at 0, 10 records of it were taken"):
        ingest._receive(chunk(0, 1))


def test_a_log_that_ends_before_what_was_committed_was_recreated(ingest: Ingest, app: FakeApp) -> None:
    ingest.begin(app, {CLICKS: 10})
    with pytest.raises(LogTruncatedError, match=r"events.click/0 ends at 9, 10 records of it were taken before"):
        ingest.begin(app, {CLICKS: 9})


def test_what_is_delivered_again_is_taken_once(ingest: Ingest) -> None:
    ingest._receive(chunk(10, 11, 12))
    ingest._receive(chunk(11, 12, 13))
    ingest._receive(chunk(10, 11))
    ingest._receive(chunk(14))
    assert taken(ingest) == [10, 11, 12, 13, 14]


def test_chunks_delivered_again_are_acknowledged_in_their_turn(ingest: Ingest) -> None:
    first, again, last = chunk(10, 11), chunk(10, 11), chunk(12)
    for one in (first, again, last):
        ingest._receive(one)
    _, done = ingest.merge.take(float("inf"))
    assert done == [first, again, last]


def test_a_revocation_forgets_what_was_expected(ingest: Ingest, app: FakeApp) -> None:
    ingest._receive(chunk(10, 11))
    ingest.forget(app)
    ingest._receive(chunk(10, 11))
    assert taken(ingest) == [10, 11]
