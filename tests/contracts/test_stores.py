"""The customer table on each store: what it takes back from its changelog, after every kind of end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from journey.engine import Shard
from journey.entries import encode
from journey.state import FOLD_VERSION, new_customer, new_partition, partition_key
from streams import rocks
from streams.appends import Appended
from streams.customers import Customers
from streams.errors import (
    ForeignWriteError,
    RevokedError,
    StoreDamagedError,
    StoreError,
    StoreInUseError,
    TableRecordError,
)
from streams.rocks import RocksStore
from streams.stores import NOTHING, MemoryStore, Progress, Store, mark

PARTITION = 1
CHANGELOG = "journey-engine-customers-changelog"
Pair = tuple[bytes, bytes]


class KilledError(Exception):
    """Stands for the end of the process at this point."""


class Record(NamedTuple):
    offset: int
    key: Any
    value: Any


class FakeLog:
    """A changelog partition. ``others`` are appended by somebody else just before our next batch."""

    def __init__(self, *records: Pair) -> None:
        self.records: list[Record] = []
        self.begin = 0
        self.others: tuple[Pair, ...] = ()
        self.on_append: Callable[[], None] = lambda: None
        self.add(*records)

    @property
    def end(self) -> int:
        return self.records[-1].offset + 1 if self.records else self.begin

    def add(self, *records: tuple[Any, Any]) -> None:
        for key, value in records:
            self.records.append(Record(self.end, key, value))

    def compact(self) -> None:
        """Keep the last record of each key, as a broker does."""
        last = {record.key: record.offset for record in self.records}
        self.records = [record for record in self.records if last[record.key] == record.offset]

    async def append(self, topic: str, partition: int, records: Sequence[Any]) -> list[Appended]:
        self.add(*self.others)
        self.others = ()
        base = self.end
        self.add(*records)
        self.on_append()
        return [Appended(base, len(records), 0)]

    def values(self, since: int = 0) -> list[Pair]:
        return [(record.key, record.value) for record in self.records if record.offset >= since]


def customer(name: str, at: int, **more: Any) -> Pair:
    key = f"u:{name}"
    return key.encode(), encode({**new_customer(key, 1_000 + at), "at": at, **more})


def partition(at: int, **more: Any) -> Pair:
    return partition_key(PARTITION), encode({**new_partition(), "at": at, **more})


def recover(table: Customers, log: FakeLog, at_once: int = 2) -> list[str]:
    """Read the changelog back, a few records at a time; return what was dropped and why."""
    faults = []
    while True:
        start, fault = table.begin(PARTITION, (log.begin, log.end))
        faults += [fault] if fault else []
        left = [record for record in log.records if record.offset >= start]
        taken = (table.take(PARTITION, left[at : at + at_once]) for at in range(0, len(left), at_once))
        if all(taken) and table.reached(PARTITION, log.end):
            return faults
        faults.append("another log")


class StoreContract:
    """What holds for the table whatever keeps its records. ``reopened`` is the store after the process was killed."""

    @pytest.fixture
    def table(self, stores: Callable[[], Store]) -> Customers:
        return Customers(stores(), CHANGELOG)

    @pytest.fixture
    def restarted(self, stores: Callable[[], Store]) -> Callable[[FakeLog], Customers]:
        """Kill the process that has the store, start another one, and let it recover."""

        def start(log: FakeLog) -> Customers:
            table = Customers(stores(), CHANGELOG)
            recover(table, log)
            return table

        return start

    # --- a store by itself

    async def test_what_is_put_is_there_and_partitions_do_not_see_each_other(self, stores: Callable[[], Store]) -> None:
        store = stores()
        progress = Progress(7, mark(6, b"u:1", b"one"), frozenset([b"u:2"]))
        assert store.open(0) == store.open(1) == NOTHING
        store.put(0, {b"u:1": b"one", b"\0partition/0": b"p"}, progress)
        assert (store.get(0, b"u:1"), store.get(0, b"u:2"), store.get(1, b"u:1")) == (b"one", None, None)
        assert store.get_many(0, [b"u:2", b"u:1"]) == {b"u:1": b"one"}
        assert sorted(store.scan(0)) == [(b"\0partition/0", b"p"), (b"u:1", b"one")]
        assert list(store.scan(1)) == []
        assert store.open(0) == progress

    async def test_what_is_cleared_is_gone_and_what_is_closed_is_not(self, stores: Callable[[], Store]) -> None:
        store = stores()
        for number in (0, 1):
            store.open(number)
            store.put(number, {b"u:1": b"one"}, Progress(1, mark(0, b"u:1", b"one"), frozenset()))
        store.clear(0)
        assert store.get(0, b"u:1") is None
        assert store.open(0) == NOTHING
        store.close(1)
        assert store.open(1).next == 1
        assert store.get(1, b"u:1") == b"one"

    async def test_a_partition_that_is_not_open_cannot_be_used(self, stores: Callable[[], Store]) -> None:
        store = stores()
        store.open(0)
        store.close(0)
        for use in (
            lambda: store.get(0, b"u:1"), lambda: store.get_many(0, [b"u:1"]), lambda: list(store.scan(0)),
            lambda: store.put(0, {}, NOTHING),
        ):  # fmt: skip
            with pytest.raises(RevokedError):
                use()

    # --- what is read back

    async def test_the_record_that_reflects_most_is_kept_whichever_is_last(self, table: Customers) -> None:
        log = FakeLog(customer("1", 4), customer("2", 5), partition(5), customer("1", 2), partition(3))
        recover(table, log)
        assert table.read(PARTITION, b"u:1") == customer("1", 4)[1]
        assert table.read(PARTITION, partition_key(PARTITION)) == partition(5)[1]
        assert table.shard(PARTITION).partition["at"] == 5

    @pytest.mark.parametrize("at_once", [1, 2, 100])
    async def test_what_lost_against_a_late_write_is_written_again(self, table: Customers, at_once: int) -> None:
        log = FakeLog(customer("1", 4), customer("2", 5), partition(5), customer("1", 2), partition(3))
        recover(table, log, at_once)
        await table.write(log, [self.fold(table, 6)])
        # or compaction would keep the late one: it is the last
        assert log.values(5) == [customer("1", 4), partition(6)]
        await table.write(log, [self.fold(table, 7)])
        assert log.values(7) == [partition(7)]

    async def test_what_has_to_be_written_again_is_not_forgotten_by_a_restart(
        self, table: Customers, restarted: Callable[[FakeLog], Customers]
    ) -> None:
        log = FakeLog(customer("1", 4), partition(4), customer("1", 2))
        recover(table, log)
        again = restarted(log)
        await again.write(log, [self.fold(again, 5)])
        assert log.values(3) == [customer("1", 4), partition(5)]
        last = restarted(log)
        await last.write(log, [self.fold(last, 6)])
        assert log.values(5) == [partition(6)]

    async def test_a_partition_that_comes_back_still_has_to_be_repaired(self, table: Customers) -> None:
        log = FakeLog(customer("1", 4), partition(4), customer("1", 2))
        recover(table, log)
        table.forget({PARTITION})
        recover(table, log)
        await table.write(log, [self.fold(table, 5)])
        assert log.values(3) == [customer("1", 4), partition(5)]

    async def test_the_last_of_two_equal_stamps_is_kept_and_nothing_is_repaired(self, table: Customers) -> None:
        log = FakeLog(customer("1", 4), partition(4), customer("1", 4), partition(4))
        recover(table, log)
        await table.write(log, [self.fold(table, 5)])
        assert log.values(4) == [partition(5)]

    async def test_the_timers_of_all_are_known_again(self, table: Customers) -> None:
        log = FakeLog(customer("1", 4, timers={"stage": 70}), customer("2", 4, timers={"stage": 60}), partition(4))
        recover(table, log)
        await table.build(PARTITION)
        assert table.shard(PARTITION).agenda.first() == 60
        assert table.shard(PARTITION).agenda.overdue(65) == 1

    @pytest.mark.parametrize("value", [None, b"", b"not json", b"[]", b'{"no":"stamp"}', b'{"at":null}'])
    async def test_a_record_of_somebody_else_is_refused(self, table: Customers, value: bytes | None) -> None:
        log = FakeLog(customer("1", 4))
        log.add((b"u:1", value))
        with pytest.raises(TableRecordError, match=r"changelog/1 at 1: a record that cannot be read"):
            recover(table, log)

    async def test_a_record_without_a_key_is_refused(self, table: Customers) -> None:
        log = FakeLog()
        log.add((None, customer("1", 4)[1]))
        with pytest.raises(TableRecordError, match="a record that cannot be read"):
            recover(table, log)

    # --- whose appends are believed

    async def test_our_appends_have_to_follow_each_other(self, table: Customers) -> None:
        log = FakeLog()
        recover(table, log)
        await table.write(log, [self.fold(table, 0)])
        await table.write(log, [self.fold(table, 1)])
        log.others = (customer("1", 9),) * 3
        with pytest.raises(ForeignWriteError, match="our batch lies at 5, not at 2"):
            await table.write(log, [self.fold(table, 2)])

    async def test_our_first_append_has_to_follow_what_was_recovered(self, table: Customers) -> None:
        log = FakeLog(customer("1", 4), partition(4))
        recover(table, log)
        table.forget({PARTITION})
        recover(table, log)
        log.others = (partition(3),)
        with pytest.raises(ForeignWriteError, match="our batch lies at 3, not at 2"):
            await table.write(log, [self.fold(table, 5)])

    async def test_nothing_is_folded_or_written_for_a_partition_that_was_taken_away(self, table: Customers) -> None:
        log = FakeLog(customer("1", 4), partition(4))
        recover(table, log)
        shard = self.fold(table, 5)
        table.forget({PARTITION})
        with pytest.raises(RevokedError):
            table.shard(PARTITION)
        with pytest.raises(RevokedError):
            await table.write(log, [shard])
        assert log.end == 2
        assert table.shards() == []

    async def test_a_batch_acknowledged_after_the_partition_was_taken_away_is_read_from_the_log(
        self, table: Customers
    ) -> None:
        log = FakeLog(customer("1", 4), partition(4))
        recover(table, log)
        log.on_append = lambda: table.forget({PARTITION})
        await table.write(log, [self.fold(table, 5, customer("1", 5, seen=7))])
        recover(table, log)
        assert table.shard(PARTITION).partition["at"] == 5
        assert table.read(PARTITION, b"u:1") == customer("1", 5, seen=7)[1]

    # --- partitions that come and go

    async def test_a_partition_that_was_elsewhere_catches_up(self, table: Customers) -> None:
        log = FakeLog(customer("1", 4), customer("2", 3), partition(4))
        recover(table, log)
        assert table.shard(PARTITION).partition["at"] == 4
        table.forget({PARTITION})
        log.add(customer("1", 8, counts={"click.page_viewed": 2}), partition(8), customer("2", 2))
        assert recover(table, log) == []
        assert table.shard(PARTITION).partition["at"] == 8
        known = table.shard(PARTITION).customer("u:1")
        assert known is not None
        assert orjson.loads(encode(known))["counts"] == {"click.page_viewed": 2}
        assert table.read(PARTITION, b"u:2") == customer("2", 3)[1]

    async def test_only_what_is_new_is_read(self, table: Customers) -> None:
        log = FakeLog(customer("1", 4), customer("2", 5), partition(5))
        recover(table, log)
        table.forget({PARTITION})
        assert table.begin(PARTITION, (log.begin, log.end)) == (2, "")  # the last one again, to know the log by

    @pytest.mark.parametrize("what", ["cut", "recreated", "recreated, longer", "compacted", "begins later"])
    async def test_a_changelog_that_is_not_the_one_stored_is_read_from_its_beginning(
        self, table: Customers, what: str
    ) -> None:
        log = FakeLog(customer("1", 4), customer("2", 5), partition(5))
        recover(table, log)
        table.forget({PARTITION})
        if what == "cut":
            del log.records[1:]
            log.add()
        elif what == "recreated":
            log = FakeLog(customer("3", 1), partition(1))
        elif what == "recreated, longer":
            log = FakeLog(*(customer("3", at) for at in range(9)), partition(9))
        elif what == "compacted":
            log.add(customer("2", 7), partition(7))
            log.compact()
        else:
            log = FakeLog()
            log.begin = 3
            log.add(customer("3", 1), partition(1))
        assert recover(table, log)
        fresh = Customers(MemoryStore(), CHANGELOG)
        recover(fresh, log)
        assert sorted(table.stored(PARTITION)) == sorted(fresh.stored(PARTITION))
        end = log.end
        await table.write(log, [self.fold(table, 10)])
        assert log.values(end) == [partition(10)]

    async def test_an_empty_changelog_makes_an_empty_table(self, table: Customers) -> None:
        recover(table, FakeLog(customer("1", 4)))
        table.forget({PARTITION})
        recover(table, FakeLog())
        assert list(table.stored(PARTITION)) == []

    # --- kill -9

    @pytest.mark.parametrize("when", ["before the append", "after the append", "after the store"])
    async def test_killed_at_any_step_the_table_is_what_the_log_says(
        self, table: Customers, restarted: Callable[[FakeLog], Customers], when: str
    ) -> None:
        log = FakeLog(customer("1", 4), customer("2", 4), partition(4), customer("2", 1))
        recover(table, log)
        step = self.fold(table, 5, customer("1", 5))

        def die() -> None:
            raise KilledError

        if when == "before the append":
            log_as_it_dies: Any = type("Dead", (), {"append": staticmethod(lambda *_: die())})
            with pytest.raises(KilledError):
                await table.write(log_as_it_dies, [step])
        elif when == "after the append":
            log.on_append = die
            with pytest.raises(KilledError):
                await table.write(log, [step])
            log.on_append = lambda: None
        else:
            await table.write(log, [step])
        again = restarted(log)
        expected = {b"u:1": customer("1", 4 if when == "before the append" else 5)[1], b"u:2": customer("2", 4)[1]}
        assert {key: value for key, value in again.stored(PARTITION) if key in expected} == expected
        end = log.end
        await again.write(log, [self.fold(again, 6)])
        # what lost is written again once, by whichever process came to it
        assert log.values(end) == [customer("2", 4), partition(6)][when != "before the append" :]

    async def test_killed_while_it_recovers_it_goes_on(
        self, table: Customers, restarted: Callable[[FakeLog], Customers]
    ) -> None:
        log = FakeLog(*(customer(str(one), 4) for one in range(10)), partition(4), customer("3", 2))
        table.begin(PARTITION, (0, log.end))
        table.take(PARTITION, log.records[:6])
        again = restarted(log)
        assert len(list(again.stored(PARTITION))) == 11
        await again.write(log, [self.fold(again, 5)])
        assert log.values(12) == [customer("3", 4), partition(5)]

    @staticmethod
    def fold(table: Customers, at: int, *changed: Pair) -> Shard:
        """Move a partition on by pages that change these customers and nobody else."""
        shard = table.shard(PARTITION)
        shard.partition["at"] = at
        shard.touched = {key.decode(): orjson.loads(value) for key, value in changed}
        return shard


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def stores(self) -> Callable[[], Store]:
        return MemoryStore

    async def test_what_others_own_takes_no_memory(self) -> None:
        store = MemoryStore()
        table = Customers(store, CHANGELOG)
        recover(table, FakeLog(customer("1", 4), partition(4)))
        table.forget({PARTITION})
        table.keep_only({0})
        assert (store._stored, store._progress) == ({}, {})
        assert store.open(PARTITION) == NOTHING


class TestRocksStore(StoreContract):
    @pytest.fixture
    def stores(self, tmp_path: Path) -> Iterator[Callable[[], Store]]:
        opened: list[RocksStore] = []

        def reopen() -> Store:
            for store in opened:
                store.release()
            opened.append(RocksStore(tmp_path / "deep" / "down", CHANGELOG))
            return opened[-1]

        yield reopen
        opened[-1].release()

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "deep" / "down" / CHANGELOG / str(PARTITION)

    async def test_two_workers_do_not_share_a_folder(self, stores: Any, tmp_path: Path) -> None:
        stores()
        with pytest.raises(StoreInUseError, match="JOURNEY_DATADIR"):
            RocksStore(tmp_path / "deep" / "down", CHANGELOG)
        RocksStore(tmp_path / "deep" / "down", "another-changelog").release()

    async def test_a_folder_that_cannot_be_made_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StoreError, match="the store cannot be made in"):
            RocksStore(tmp_path / "file", CHANGELOG)

    @pytest.mark.parametrize("harm", ["deleted", "CURRENT", "MANIFEST", "first block", "later block", "no sst"])
    async def test_a_torn_folder_is_made_anew(
        self, stores: Any, folder: Path, harm: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        log = FakeLog(*(customer(str(one), 4) for one in range(300)), partition(4))
        store = stores()
        recover(Customers(store, CHANGELOG), log)
        store._open[PARTITION].flush(True)
        store.release()
        hurt(folder, harm)
        table = Customers(stores(), CHANGELOG)
        for _ in range(2):  # damage of a table file shows when it is read
            recover(table, log)
            try:
                await table.build(PARTITION)
            except StoreDamagedError as error:
                table.drop(error.partition)
        assert len(list(table.stored(PARTITION))) == 301
        assert harm in ("deleted", "later block") or "made anew from the changelog" in caplog.text
        await table.write(log, [self.fold(table, 5)])

    @pytest.mark.parametrize("what", ["fold", "format", "changelog"])
    async def test_a_store_of_something_else_is_made_anew(
        self, stores: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
    ) -> None:
        log = FakeLog(customer("1", 4), partition(4))
        with monkeypatch.context() as then:
            if what == "fold":
                then.setattr(rocks, "FOLD_VERSION", FOLD_VERSION + 1)
            elif what == "format":
                then.setattr(rocks, "VERSION", rocks.VERSION + 1)
            store = stores()
            if what == "changelog":
                store._changelog = "journey-engine-customers-changelog.e2"
            recover(Customers(store, CHANGELOG), log)
        table = Customers(stores(), CHANGELOG)
        assert table.begin(PARTITION, (0, 2)) == (0, "")
        assert list(table.stored(PARTITION)) == []
        assert {"fold": "is of fold version", "format": "is of format", "changelog": "changelog.e2"}[
            what
        ] in caplog.text

    @pytest.mark.parametrize("writes", [0, 1])
    async def test_records_and_progress_are_stored_all_or_none(self, stores: Any, writes: int) -> None:
        store = stores()
        store.open(PARTITION)
        files = store._open[PARTITION]
        store._open[PARTITION] = DyingFiles(files, writes)
        with suppress(StoreError):
            store.put(PARTITION, {b"u:1": b"one", b"u:2": b"two"}, Progress(7, mark(6, b"u:2", b"two"), frozenset()))
        store._open[PARTITION] = files
        again = stores()
        assert again.open(PARTITION).next == 7 * writes
        assert list(again.scan(PARTITION)) == [(b"u:1", b"one"), (b"u:2", b"two")][: 2 * writes]

    async def test_closing_a_partition_ends_a_scan_that_runs(self, stores: Any) -> None:
        store = stores()
        recover(Customers(store, CHANGELOG), FakeLog(*(customer(str(one), 4) for one in range(2_000))))
        scan = store.scan(PARTITION)
        next(scan)
        store.close(PARTITION)
        with pytest.raises(RevokedError):
            list(scan)


class DyingFiles:
    """A RocksDB whose process is killed after so many writes."""

    def __init__(self, files: Any, writes: int) -> None:
        self.files, self.left = files, writes

    def __getattr__(self, name: str) -> Any:
        if name in ("write", "put", "delete"):
            if not self.left:
                raise KilledError
            self.left -= 1
        return getattr(self.files, name)


def hurt(folder: Path, harm: str) -> None:
    """Do to a store what a broken disk or a hasty hand does."""
    if harm == "deleted":
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    elif harm == "CURRENT":
        (folder / "CURRENT").write_text("rubbish")
    elif harm == "MANIFEST":
        for file in folder.glob("MANIFEST-*"):
            file.unlink()
    else:
        for file in folder.glob("*.sst"):
            if harm == "no sst":
                file.unlink()
                continue
            whole = bytearray(file.read_bytes())
            start = 0 if harm == "first block" else len(whole) // 2
            whole[start : start + 1_000] = bytes(1_000)
            file.write_bytes(whole)
