"""A rebuilt journal: its order does not depend on how fetches were cut, and time passes in it as in a live one."""

from __future__ import annotations

from typing import Any

import orjson
from aiokafka import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.events import MINUTE, SECOND
from streams.appends import Log
from streams.arrivals import Parsed
from streams.rebuild import Journal, _Kept, _Sources
from streams.settings import Settings
from tests.factories import NOON

TARGET = Settings(partitions=2, page_entries=3)


class Written:
    """A log that keeps what is appended to it."""

    def __init__(self) -> None:
        self.pages: dict[int, list[bytes]] = {}

    async def append_all(self, topic: str, by_partition: dict[int, list[tuple[None, bytes]]], headers: Any) -> None:
        for number, records in by_partition.items():
            self.pages.setdefault(number, []).extend(value for _, value in records)

    def times(self, number: int = 0) -> list[int]:
        return [entry["at"] for page in self.pages.get(number, []) for entry in orjson.loads(page)]


def journal(live_since: float = 0.0, **now: int) -> tuple[Journal, Written]:
    log: Any = Written()
    writer: Log = log
    return Journal(TARGET, writer, {int(name[1:]): at for name, at in now.items()}, live_since), log


def at(*times: int, number: int = 0) -> list[Parsed]:
    return [Parsed(time, ((number, orjson.dumps({"k": "event", "at": time})),), None) for time in times]


async def test_each_full_minute_without_an_entry_gets_a_tick() -> None:
    made, log = journal()
    made.add(at(NOON + SECOND, NOON + 3 * MINUTE + SECOND))
    await made.write(whole=True)
    assert log.times() == [NOON + SECOND, *(NOON + minute * MINUTE for minute in (1, 2, 3)), NOON + 3 * MINUTE + SECOND]


async def test_a_minute_in_which_something_comes_gets_none() -> None:
    made, log = journal()
    made.add(at(NOON, NOON + 50 * SECOND, NOON + 100 * SECOND))
    await made.write(whole=True)
    assert len(log.times()) == 3


async def test_on_the_events_clock_time_passes_with_the_events_alone() -> None:
    made, log = journal(live_since=NOON + 10 * MINUTE)
    made.add(at(NOON, NOON + 5 * MINUTE, NOON + 20 * MINUTE, NOON + 22 * MINUTE))
    made.pass_time(0, NOON + 24 * MINUTE)
    await made.write(whole=True)
    first_live = NOON + 20 * MINUTE
    assert log.times()[:3] == [NOON, NOON + 5 * MINUTE, first_live]
    assert log.times()[3:] == [first_live + MINUTE, first_live + 2 * MINUTE, NOON + 23 * MINUTE, NOON + 24 * MINUTE]


async def test_time_goes_on_from_where_it_stood_and_ends_where_it_is_told() -> None:
    made, log = journal(p0=NOON)
    made.add(at(NOON + 2 * MINUTE + 1))
    made.pass_time(0, NOON + 3 * MINUTE + 7)
    made.pass_time(0, NOON)
    made.pass_time(1, NOON + MINUTE)  # nothing ever came there: its time has not begun
    await made.write(whole=True)
    minutes = [NOON + minute * MINUTE for minute in (1, 2, 3)]
    assert log.times() == [*minutes[:2], NOON + 2 * MINUTE + 1, minutes[2], NOON + 3 * MINUTE + 7]
    assert log.times(1) == []


async def test_pages_do_not_depend_on_when_they_are_written() -> None:
    books = []
    for step in (1, 2, 7):
        made, log = journal()
        entries = at(*range(NOON, NOON + 10))
        for start in range(0, len(entries), step):
            made.add(entries[start : start + step])
            await made.write(whole=False)
        await made.write(whole=True)
        books.append(log.pages)
    assert books[0] == books[1] == books[2]
    assert [len(orjson.loads(page)) for page in books[0][0]] == [3, 3, 3, 1]


class Record:
    """A raw record of a customer's click, or one that nobody can read."""

    headers: tuple[tuple[str, bytes], ...] = ()
    key = b"u:1"

    def __init__(self, tp: TopicPartition, offset: int, timestamp: int, *, is_valid: bool) -> None:
        self.topic, self.partition, self.offset, self.timestamp = tp.topic, tp.partition, offset, timestamp
        self.value = b'{"type":"click.page_viewed","user_id":"1","occurred_at":"2026-06-01T00:00:00Z"}'
        if not is_valid:
            self.value = b"{"


def sources(raw: dict[TopicPartition, list[Record]]) -> _Sources:
    return _Sources(TARGET, {tp: (0, len(records)) for tp, records in raw.items()}, 0.0, {}, _Kept({}), {})


def order(parsed: list[Parsed]) -> list[list[Any]]:
    return [orjson.loads(entry)["src"] for one in parsed for _, entry in one.entries]


stamps = st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=12).map(
    lambda some: sorted(some, key=lambda one: one[0])
)


@settings(max_examples=200, deadline=None)
@given(st.lists(stamps, min_size=1, max_size=4), st.data())
def test_the_order_does_not_depend_on_how_fetches_are_cut(
    logs: list[list[tuple[int, bool]]], data: st.DataObject
) -> None:
    raw = {}
    for number, some in enumerate(logs):
        tp = TopicPartition("events.click", number)
        raw[tp] = [Record(tp, offset, NOON + stamp, is_valid=is_valid) for offset, (stamp, is_valid) in enumerate(some)]
    whole = sources(raw)
    for tp, records in raw.items():
        if records:
            whole.add(tp, records)
    expected = order(whole.take())
    assert [raw[TopicPartition(topic, number)][offset].timestamp for topic, number, offset in expected] == sorted(
        record.timestamp for records in raw.values() for record in records if record.value != b"{"
    )
    cut = sources(raw)
    taken: list[list[Any]] = []
    read = dict.fromkeys(raw, 0)
    while cut.open():
        tp = data.draw(st.sampled_from(sorted(cut.open())))
        count = data.draw(st.integers(1, 4))
        cut.add(tp, raw[tp][read[tp] : read[tp] + count])
        read[tp] += count
        taken += order(cut.take())
    assert taken + order(cut.take()) == expected


CLICK, CART = "events.click", "events.cart"


def page(*entries: tuple[int, str | None, int]) -> bytes:
    """Return a page: the time, topic (None: a worker's own tick) and offset of each entry."""
    return orjson.dumps(
        [{"k": "event", "at": at, "src": [topic, 0, offset]} if topic else {"k": "tick", "at": at}
         for at, topic, offset in entries]
    )  # fmt: skip


def test_of_a_journal_counts_what_is_gone_from_the_raw_topics_once() -> None:
    kept = _Kept({(CLICK, 0): 3, (CART, 0): 0})
    first = page((1, CLICK, 0), (1, CART, 0), (2, CLICK, 1), (3, None, 0), (4, CLICK, 0), (4, CLICK, 1), (5, CLICK, 2))
    second = page((6, CLICK, 2), (7, CLICK, 3))
    found = [entry["src"][2] for one in (first, second) for entry in kept.of(0, one)]
    assert found == [0, 1, 2]
    assert [entry["src"][2] for entry in kept.of(1, first)] == [0, 1, 2]  # each partition has its own positions


class JournalRecord:
    def __init__(self, offset: int, value: bytes) -> None:
        self.offset, self.value, self.timestamp = offset, value, 0


def test_what_is_left_of_a_raw_topic_comes_after_what_is_gone_of_it() -> None:
    # the journal took the clicks late, behind others; their topic goes on with an earlier time
    was, click, other = TopicPartition("journey.journal", 0), TopicPartition(CLICK, 0), TopicPartition(CLICK, 1)
    merged = _Sources(
        TARGET, {click: (1, 2), other: (0, 1)}, 0.0, {was: (0, 1)}, _Kept({(CLICK, 0): 1}), {(CLICK, 0): NOON + 9}
    )
    merged.add(was, [JournalRecord(0, page((NOON + 9, CLICK, 0)))])
    merged.add(click, [Record(click, 1, NOON + 3, is_valid=True)])
    merged.add(other, [Record(other, 0, NOON + 5, is_valid=True)])
    assert [source[1:] for source in order(merged.take())] == [[1, 0], [0, 0], [0, 1]]
