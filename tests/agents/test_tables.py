"""How Faust's table hands its recovery over: nothing to do for Faust, all for the load, and who ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import faust
import pytest
from aiokafka.errors import KafkaConnectionError
from faust.types import TP

from streams import faust_fixes, recovery
from streams.customers import Customers
from streams.errors import RevokedError, StoreDamagedError, TableRecordError
from streams.recovery import Recovery
from streams.settings import Settings
from streams.stores import MemoryStore
from streams.tables import CustomerTable
from tests.waiting import eventually

CHANGELOG = "journey-engine-customers-changelog"
JOURNAL = TP("journey.journal", 0)
ASSIGNED = {JOURNAL, TP(CHANGELOG, 0), TP(CHANGELOG, 1)}


class FakeCustomers(Customers):
    """Partitions whose building fails as told, in this order."""

    def __init__(self, *fails: Exception) -> None:
        super().__init__(MemoryStore(), CHANGELOG)
        self.fails = list(fails)
        self.built: list[int] = []
        self.dropped: list[int] = []
        self.kept: list[set[int]] = []

    def keep_only(self, partitions: Iterable[int]) -> None:
        self.kept.append(set(partitions))

    async def build(self, partition: int) -> None:
        if self.fails:
            raise self.fails.pop(0)
        self.built.append(partition)

    def drop(self, partition: int) -> None:
        self.dropped.append(partition)


class FakeRecovery(Recovery):
    """A changelog of known ends. ``reads`` are the partitions that were asked for each time; the first may fail."""

    def __init__(self, customers: FakeCustomers, *fails: Exception) -> None:
        super().__init__(Settings(), customers)
        self.fails = list(fails)
        self.reads: list[set[int]] = []

    async def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        return {number: 10 * (number + 1) for number in partitions}

    async def _read(self, partitions: set[int]) -> set[int]:
        self.reads.append(set(partitions))
        if self.fails:
            raise self.fails.pop(0)
        return set()


def a_table(bulk: Recovery) -> CustomerTable:
    app = faust.App("journey-engine", broker="kafka://127.0.0.1:9", store="memory://")
    return CustomerTable(app, name="customers", partitions=2, key_type=bytes, value_type=bytes, recovery=bulk)


async def test_faust_is_told_that_all_is_there_up_to_the_end_of_the_changelog() -> None:
    table = a_table(FakeRecovery(FakeCustomers()))
    await table.on_rebalance(ASSIGNED, set(), ASSIGNED)
    assert [table.persisted_offset(TP(CHANGELOG, number)) for number in (0, 1, 2)] == [9, 19, None]


async def test_where_the_end_is_unknown_faust_reads_for_nothing_and_the_load_reads_all() -> None:
    table = a_table(Recovery(Settings(kafka_url="127.0.0.1:9", session_timeout=1), FakeCustomers()))
    await table.on_rebalance(ASSIGNED, set(), ASSIGNED)
    assert table.persisted_offset(TP(CHANGELOG, 0)) is None
    table.apply_changelog_batch([object()])  # looks at nothing of it
    assert len(table.data) == 0


async def test_the_load_is_of_the_partitions_that_are_ours() -> None:
    customers = FakeCustomers()
    table = a_table(FakeRecovery(customers))
    await table.on_recovery_completed({TP(CHANGELOG, 0), TP(CHANGELOG, 1)}, set())
    assert customers.built == [0, 1]


async def test_a_load_that_fails_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def left(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr("os._exit", left)
    table = a_table(FakeRecovery(FakeCustomers(), TableRecordError("the record of b'u:1' cannot be read")))
    with pytest.raises(SystemExit) as ended:
        await table.on_recovery_completed({TP(CHANGELOG, 0)}, set())
    assert ended.value.code == faust_fixes.STOPPED
    assert "the record of b'u:1' cannot be read" in caplog.text
    assert "What to do: keep the topic" in caplog.text


async def test_a_load_whose_partition_is_taken_away_does_not_return_before_it_is_cancelled() -> None:
    # else the sources would be resumed for partitions that are not ours
    customers = FakeCustomers(RevokedError("partition 0 is not ours"))
    load = asyncio.ensure_future(a_table(FakeRecovery(customers)).on_recovery_completed({TP(CHANGELOG, 0)}, set()))
    await eventually(lambda: not customers.fails)
    for _ in range(5):
        await asyncio.wait({load}, timeout=0)
    assert not load.done()
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load


async def test_a_load_waits_for_what_was_begun_before_the_rebalance() -> None:
    # what it writes lands later than the end of the changelog that the load would have read to
    customers = FakeCustomers()
    bulk = FakeRecovery(customers)
    bulk.step = asyncio.Lock()
    await bulk.step.acquire()
    load = asyncio.ensure_future(bulk.load([0]))
    for _ in range(5):
        await asyncio.wait({load}, timeout=0)
    assert bulk.reads == []
    bulk.step.release()
    await load
    assert bulk.reads == [{0}]


async def test_a_load_waits_for_a_broker_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "RETRY", 0.0)
    customers = FakeCustomers()
    bulk = FakeRecovery(customers, KafkaConnectionError("gone"), ConnectionResetError("gone"))
    await bulk.load([0, 1])
    assert bulk.reads == [{0, 1}] * 3
    assert customers.built == [0, 1]


async def test_a_partition_whose_store_is_damaged_is_read_again_once() -> None:
    customers = FakeCustomers(StoreDamagedError(1, "torn"))
    bulk = FakeRecovery(customers)
    await bulk.load([0, 1])
    assert (customers.dropped, bulk.reads) == ([1], [{0, 1}, {1}])
    assert customers.built == [0, 1]


async def test_a_disk_that_is_damaged_again_at_once_is_not_written_for_ever() -> None:
    customers = FakeCustomers(StoreDamagedError(1, "torn"), StoreDamagedError(1, "torn again"))
    with pytest.raises(StoreDamagedError, match="torn again"):
        await FakeRecovery(customers).load([0, 1])


async def test_what_was_not_assigned_is_given_back() -> None:
    customers = FakeCustomers()
    await FakeRecovery(customers).load({1})
    assert customers.kept == [{1}]
