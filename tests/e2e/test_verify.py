"""``replay --verify`` says "identical" while traffic flows, and finds every difference that is planted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from journey.entries import encode
from streams import topics
from streams.appends import Log
from streams.logs import read_all
from streams.replay import CutError, Verdict, verify
from streams.settings import Settings
from streams.shop import generate
from streams.topics import Admin
from tests.conftest import Broker
from tests.harness import deployed, elapsed, live, wall_ms

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Line = tuple[int, bytes | None, bytes]  # partition, key, value
Change = Callable[[str, list[Line]], list[Line]]  # of a topic's lines, by its name without prefix
COPIED: Final = (
    *topics.RAW, topics.CONTROL, topics.JOURNAL, topics.SAMPLES, topics.MODELS, topics.TRIGGERS, topics.TABLE,
)  # fmt: skip


@dataclass
class Books:
    """What is in the topics of a deployment: all from which it could be started again."""

    settings: Settings
    lines: dict[str, list[Line]] = field(default_factory=dict)

    async def read(self) -> Books:
        for name in COPIED:
            topic = topics.changelog(self.settings) if name == topics.TABLE else self.settings.topic(name)
            self.lines[name] = [
                (record.partition, record.key, record.value) async for record in read_all(self.settings, topic)
            ]
        return self

    async def copied(self, prefix: str, change: Change) -> Settings:
        """Copy everything under another prefix, changed on the way; return the settings of the copy."""
        settings = self.settings.model_copy(update={"topic_prefix": f"{prefix}."})
        async with Admin(settings) as admin:
            await admin.ensure()
        log = await Log(settings.kafka_url, 900_000).start()
        for name, lines in self.lines.items():
            topic = topics.changelog(settings) if name == topics.TABLE else settings.topic(name)
            by_partition: dict[int, list[tuple[bytes | None, bytes]]] = {}
            for partition, key, value in change(name, lines):
                by_partition.setdefault(partition, []).append((key, value))
            await log.append_all(topic, by_partition)
        await log.stop()
        return settings

    async def verified(self, prefix: str, change: Change) -> Verdict:
        """Verify such a copy."""
        return await verify(await self.copied(prefix, change), within=5)


@asynccontextmanager
async def some_books(kafka: Broker, prefix: str, directory: Path) -> AsyncIterator[Books]:
    """Verify a deployment while traffic flows, and give what it wrote when it has come to rest."""
    async with deployed(kafka.url, prefix, directory, PARTITIONS="2") as deployment:
        records = live(generate(customers=60, events=3_000), wall_ms())
        deployment.worker("both", "all").start()
        done = asyncio.Event()

        async def flow() -> None:
            while not done.is_set():
                await deployment.publish(islice(records, 20))
                await elapsed(0.05)

        flowing = asyncio.ensure_future(flow())
        await deployment.shared_by("engine", 1)
        entries = []
        for _ in range(3):
            verdict = await verify(deployment.settings, within=30)
            assert verdict.identical, verdict.shown()
            assert all(ours == again for ours, again in verdict.digests.values())
            entries.append(verdict.entries)
        done.set()
        await flowing
        assert entries == sorted(entries)
        found = await deployment.examined()
        assert found.is_exact, found.line()
        assert found.figures["triggers"] > 50
        yield await Books(deployment.settings).read()


def as_it_is(_: str, lines: list[Line]) -> list[Line]:
    return lines


def with_a_byte_flipped(name: str, lines: list[Line]) -> list[Line]:
    """Write one live customer once more: as of the same page, with one digit changed."""
    if name != topics.TABLE:
        return lines
    partition, key, value = customers(lines)[-1]
    record = orjson.loads(value)
    record["seen"] += 1
    changed = encode(record)
    assert sum(a != b for a, b in zip(changed, value, strict=True)) >= 1
    # in the last batch, before the partition record that closes it
    at = max(index for index, line in enumerate(lines) if line[0] == partition and is_partition(line))
    return [*lines[:at], (partition, key, changed), *lines[at:]]


def without_an_entry(name: str, lines: list[Line]) -> list[Line]:
    """Leave one event out of one page of the journal."""
    if name != topics.JOURNAL:
        return lines
    for index, (partition, key, value) in enumerate(lines):
        page = orjson.loads(value)
        kinds = [entry["k"] for entry in page]
        if len(page) > 1 and "event" in kinds:
            del page[kinds.index("event")]
            return [*lines[:index], (partition, key, orjson.dumps(page)), *lines[index + 1 :]]
    raise AssertionError("no page with two entries")


def short_of_an_event(name: str, lines: list[Line]) -> list[Line]:
    """Let the live state have missed one event of a customer."""
    if name != topics.TABLE:
        return lines
    partition, key, value = customers(lines)[-1]
    record = orjson.loads(value)
    type_, count = next(iter(record["counts"].items()))
    record["counts"][type_] = count - 1
    at = max(index for index, line in enumerate(lines) if line[0] == partition and is_partition(line))
    return [*lines[:at], (partition, key, encode(record)), *lines[at:]]


def without_a_customer(name: str, lines: list[Line]) -> list[Line]:
    if name != topics.TABLE:
        return lines
    gone = customers(lines)[0][1]
    return [line for line in lines if line[1] != gone]


def without_a_trigger(name: str, lines: list[Line]) -> list[Line]:
    return lines[1:] if name == topics.TRIGGERS else lines


def with_a_trigger_of_nobody(name: str, lines: list[Line]) -> list[Line]:
    if name != topics.TRIGGERS:
        return lines
    partition, key, value = lines[0]
    return [*lines, (partition, key, orjson.dumps(orjson.loads(value) | {"id": "tr_of_nobody"}))]


def with_a_trigger_repeated(name: str, lines: list[Line]) -> list[Line]:
    return [*lines, lines[0]] if name == topics.TRIGGERS else lines


def is_partition(line: Line) -> bool:
    return line[1] is not None and line[1].startswith(b"\0")


def customers(lines: list[Line]) -> list[Line]:
    """Return the newest record of each customer, in the order of their last writes."""
    newest: dict[Any, Line] = {}
    for line in lines:
        newest.pop(line[1], None)
        newest[line[1]] = line
    return [line for line in newest.values() if not is_partition(line)]


async def test_verify_finds_what_is_planted_and_nothing_else(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with some_books(kafka, prefix, tmp_path) as books:
        count = len({orjson.loads(value)["id"] for _, _, value in books.lines[topics.TRIGGERS]})

        verdict = await books.verified(f"{prefix}-same", as_it_is)
        assert verdict.identical, verdict.shown()
        assert verdict.triggers == count

        verdict = await books.verified(f"{prefix}-repeated", with_a_trigger_repeated)
        assert verdict.identical
        assert verdict.trigger_repeats == 1

        for plant in (with_a_byte_flipped, short_of_an_event):
            verdict = await books.verified(f"{prefix}-{plant.__name__}", plant)
            assert not verdict.identical
            (difference,) = verdict.differences
            partition, key, _ = customers(books.lines[topics.TABLE])[-1]
            assert key is not None
            assert (difference.partition, difference.key) == (partition, key.decode())
            assert verdict.digests[partition][0] != verdict.digests[partition][1]
            assert verdict.triggers_missing == verdict.triggers_surplus == []

        verdict = await books.verified(f"{prefix}-customer", without_a_customer)
        assert not verdict.identical
        assert [difference.live for difference in verdict.differences] == [None]

        verdict = await books.verified(f"{prefix}-entry", without_an_entry)
        assert not verdict.identical
        assert verdict.differences

        verdict = await books.verified(f"{prefix}-missing", without_a_trigger)
        assert not verdict.identical
        assert len(verdict.triggers_missing) == 1
        assert (verdict.differences, verdict.triggers_surplus) == ([], [])

        verdict = await books.verified(f"{prefix}-surplus", with_a_trigger_of_nobody)
        assert not verdict.identical
        assert verdict.triggers_surplus == ["tr_of_nobody"]
        assert (verdict.differences, verdict.triggers_missing) == ([], [])


async def test_a_state_that_is_behind_is_not_called_identical(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with deployed(kafka.url, prefix, tmp_path, PARTITIONS="1") as deployment:
        deployment.worker("ingest", "ingest").start()
        await deployment.publish(live(generate(customers=10, events=100), wall_ms()))
        await deployment.taken()
        with pytest.raises(CutError, match=r"has not reached the journal's end in partitions \[0\] within 1 s"):
            await verify(deployment.settings, within=1)
