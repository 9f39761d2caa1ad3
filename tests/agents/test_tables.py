"""The customer table: what it takes back from its changelog, and whose appends it believes."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import faust
import orjson
import pytest

from journey.engine import Shard
from journey.entries import encode
from journey.state import new_customer, new_partition, partition_key
from streams import faust_fixes
from streams.appends import Appended
from streams.errors import ForeignWriteError
from streams.tables import CustomerTable

PARTITION = 1


class FakeLog:
    """A changelog; ``others`` are so many records that are not ours."""

    def __init__(self, others: int = 0) -> None:
        self.records: list[tuple[bytes, bytes]] = []
        self.others = others

    async def append(self, topic: str, partition: int, records: Sequence[Any]) -> list[Appended]:
        base = len(self.records) + self.others
        self.records += records
        return [Appended(base, len(records), 0)]


@pytest.fixture
def table() -> CustomerTable:
    app = faust.App("journey-engine", broker="kafka://127.0.0.1:9", store="memory://")
    return CustomerTable(app, name="customers", partitions=2, key_type=bytes, value_type=bytes)


def customer(name: str, at: int, **more: Any) -> tuple[bytes, bytes]:
    key = f"u:{name}"
    return key.encode(), encode({**new_customer(key, 1_000 + at), "at": at, **more})


def partition(at: int) -> tuple[bytes, bytes]:
    return partition_key(PARTITION), encode({**new_partition(), "at": at})


def recover(table: CustomerTable, *records: tuple[bytes, bytes | None], begin: int = 0) -> None:
    """Read a changelog partition back, one record at a time as Faust may."""
    for offset, (key, value) in enumerate(records, begin):
        message = SimpleNamespace(topic="changelog", partition=PARTITION, offset=offset, key=key, value=value)
        table.apply_changelog_batch([SimpleNamespace(key=key, value=value, message=message)])


def fold_nothing(table: CustomerTable, at: int) -> Shard:
    """Move a partition on by pages that change nobody."""
    shard = table.shard(PARTITION)
    shard.partition["at"] = at
    return shard


async def test_the_record_that_reflects_most_is_kept_whichever_is_last(table: CustomerTable) -> None:
    recover(table, customer("1", 4), customer("2", 5), partition(5), customer("1", 2), partition(3))
    assert table.read(b"u:1") == customer("1", 4)[1]
    assert table.read(partition_key(PARTITION)) == partition(5)[1]
    assert table.shard(PARTITION).partition["at"] == 5


async def test_what_lost_against_a_late_write_is_written_again(table: CustomerTable) -> None:
    recover(table, customer("1", 4), customer("2", 5), partition(5), customer("1", 2), partition(3))
    log: Any = FakeLog(5)
    await table.write(log, [fold_nothing(table, 6)])
    # or compaction would keep the late one: it is the last
    assert log.records == [customer("1", 4), partition(6)]
    await table.write(log, [fold_nothing(table, 7)])
    assert log.records[2:] == [partition(7)]


async def test_the_last_of_two_equal_stamps_is_kept_and_nothing_is_repaired(table: CustomerTable) -> None:
    recover(table, customer("1", 4), partition(4), customer("1", 4), partition(4))
    log: Any = FakeLog(4)
    await table.write(log, [fold_nothing(table, 5)])
    assert log.records == [partition(5)]


async def test_what_lost_is_written_again_also_when_the_partition_went_and_came_back(table: CustomerTable) -> None:
    recover(table, customer("1", 4), customer("2", 5), partition(5), customer("1", 2), partition(3))
    table.forget({PARTITION})  # and assigned anew before anything was written: there is nothing new to read
    log: Any = FakeLog(5)
    await table.write(log, [fold_nothing(table, 6)])
    assert log.records == [customer("1", 4), partition(6)]


async def test_a_partition_that_came_back_is_guarded_from_its_first_append_on(table: CustomerTable) -> None:
    recover(table, customer("1", 4), partition(4))
    table.forget({PARTITION})
    other: Any = FakeLog(9)
    with pytest.raises(ForeignWriteError, match="our batch lies at 9, not at 2"):
        await table.write(other, [fold_nothing(table, 5)])


async def test_our_appends_have_to_follow_each_other(table: CustomerTable) -> None:
    log: Any = FakeLog()
    await table.write(log, [fold_nothing(table, 0)])
    await table.write(log, [fold_nothing(table, 1)])
    log.others = 3
    with pytest.raises(ForeignWriteError, match="our batch lies at 5, not at 2"):
        await table.write(log, [fold_nothing(table, 2)])


async def test_our_first_append_has_to_follow_what_was_recovered(table: CustomerTable) -> None:
    recover(table, customer("1", 4), partition(4))
    log: Any = FakeLog(2)
    await table.write(log, [fold_nothing(table, 5)])
    table.forget({PARTITION})
    recover(table, customer("1", 4), partition(4))
    other: Any = FakeLog(9)
    with pytest.raises(ForeignWriteError, match="our batch lies at 9, not at 2"):
        await table.write(other, [fold_nothing(table, 6)])


@pytest.mark.parametrize("value", [None, b"", b"not json", b"[]", b'{"no":"stamp"}'])
async def test_a_record_of_somebody_else_ends_the_process(
    table: CustomerTable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: bytes | None
) -> None:
    def left(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr("os._exit", left)
    recover(table, customer("1", 4))
    with pytest.raises(SystemExit) as ended:
        recover(table, (b"u:1", value), begin=1)
    assert ended.value.code == faust_fixes.STOPPED
    assert "changelog/1 at 1: the record of b'u:1' cannot be read" in caplog.text
    assert "What to do: keep the topic" in caplog.text


async def test_a_partition_that_was_lost_is_read_anew(table: CustomerTable) -> None:
    recover(table, customer("1", 4), partition(4))
    assert table.shard(PARTITION).partition["at"] == 4
    table.forget({PARTITION})
    recover(table, customer("1", 8, counts={"click.page_viewed": 2}), partition(8), begin=2)
    assert table.shard(PARTITION).partition["at"] == 8
    known = table.shard(PARTITION).customer("u:1")
    assert known is not None
    assert orjson.loads(encode(known))["counts"] == {"click.page_viewed": 2}
