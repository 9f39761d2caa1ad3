"""The read model on a real Redis, over a table that a test makes up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from journey.entries import encode
from journey.positions import entry_position
from journey.state import new_customer, partition_key
from streams.read_model import RedisReader, RedisReadModel
from tests.waiting import eventually

pytestmark = pytest.mark.e2e


class FakeTable(dict[bytes, bytes]):
    """What is durable; all in journal partition 0."""

    def put(self, key: str, at: int, **more: Any) -> str:
        self[key.encode()] = encode({**new_customer(key, 1_780_272_000_000 + at), "at": at, **more})
        self[partition_key(0)] = encode({"at": at})
        return key

    def read(self, partition: int, key: bytes) -> bytes | None:
        return self.get(key)

    def stored(self, partition: int) -> list[tuple[bytes, bytes]]:
        return list(self.items())


class Worker:
    """One engine's read model."""

    def __init__(self, url: str, prefix: str) -> None:
        self.table = FakeTable()
        self.model = RedisReadModel(url, self.table.read, self.table.stored, prefix)

    def fold(self, at: int, *keys: str) -> None:
        """Make changes durable, then tell the read model."""
        for key in keys:
            self.table.put(key, at)
        self.model.follow(0, keys, at)

    async def shown(self) -> None:
        """Return when Redis shows everything."""
        await eventually(lambda: not self.model.behind() and not self.model._at)


@pytest.fixture
async def start(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    """Start a worker's read model, the owner of partition 0 from an offset on."""
    workers = []

    def begin(at: int = -1) -> Worker:
        worker = Worker(redis_url, f"{prefix}.")
        workers.append(worker)
        worker.model.own(0, at)
        worker.model.start()
        return worker

    yield begin
    for worker in workers:
        await worker.model.stop()


@pytest.fixture
async def reader(redis_url: str, prefix: str) -> AsyncIterator[RedisReader]:
    reading = RedisReader(redis_url, f"{prefix}.")
    yield reading
    await reading.close()


async def page(reader: RedisReader, key: str) -> int | None:
    """Return the journal page that a customer is shown as of."""
    shown = await reader.customer(key)
    return None if shown is None else shown["as_of"]["position"] // entry_position(1, 0)


async def test_customers_are_shown_as_they_are_durable(start: Any, reader: RedisReader) -> None:
    worker = start()
    worker.fold(0, "u:1", "a:2")
    await worker.shown()
    assert (await page(reader, "u:1"), await page(reader, "a:2"), await page(reader, "u:3")) == (0, 0, None)
    assert await reader.positions() == {0: 0}
    worker.fold(3, "u:1")
    await worker.shown()
    assert (await page(reader, "u:1"), await page(reader, "a:2")) == (3, 0)
    assert await reader.positions() == {0: 3}


async def test_only_anonymous_customers_expire(start: Any, redis_url: str, prefix: str) -> None:
    worker = start()
    worker.fold(0, "u:1", "a:2")
    await worker.shown()
    async with Redis.from_url(redis_url) as redis:
        assert await redis.ttl(f"{prefix}.journey:1:c:u:1") == -1
        assert 89 * 86_400 < await redis.ttl(f"{prefix}.journey:1:c:a:2") <= 90 * 86_400


async def test_an_older_record_never_replaces_a_newer_one(start: Any, reader: RedisReader) -> None:
    zombie, heir = start(), start()
    heir.fold(7, "u:1")
    await heir.shown()
    zombie.fold(3, "u:1", "u:2")
    await eventually(lambda: zombie.model.counts["written"] >= 2)
    assert await page(reader, "u:1") == 7
    assert await page(reader, "u:2") == 3


async def test_a_new_owner_shows_what_the_old_one_did_not(start: Any, reader: RedisReader) -> None:
    old = start()
    old.fold(4, "u:1")
    await old.shown()
    new = start()
    new.model.disown((0,))
    for key, at in (("u:1", 4), ("u:2", 6), ("u:3", 9)):
        new.table.put(key, at)
    new.model.own(0, 9)
    # folded before Redis was asked how far it is: what lies between is not forgotten
    new.fold(10, "u:4")
    await new.shown()
    assert [await page(reader, f"u:{number}") for number in (1, 2, 3, 4)] == [4, 6, 9, 10]
    assert new.model.counts["written"] == 3  # the first was shown already
    assert await reader.positions() == {0: 10}


async def test_a_former_owner_says_nothing_about_its_partition(start: Any, reader: RedisReader) -> None:
    worker = start()
    worker.fold(1, "u:1")
    await worker.shown()
    worker.model.disown((0,))
    worker.fold(2, "u:1", "u:2")
    assert worker.model.behind() == 0
    assert await reader.positions() == {0: 1}


async def test_a_redis_that_lost_everything_is_filled_again(start: Any, reader: RedisReader) -> None:
    worker = start()
    worker.fold(1, "u:1", "u:2")
    await worker.shown()
    assert await reader.clear() == 2
    worker.fold(2, "u:3")
    await worker.shown()
    assert [await page(reader, f"u:{number}") for number in (1, 2, 3)] == [1, 1, 2]
    assert await reader.positions() == {0: 2}


async def test_more_customers_than_fit_one_round(start: Any, reader: RedisReader) -> None:
    worker = start()
    worker.fold(1, *(f"u:{number}" for number in range(1_234)))
    await worker.shown()
    assert worker.model.counts["written"] == 1_234
    assert await reader.positions() == {0: 1}
