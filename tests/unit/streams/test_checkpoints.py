"""What learners have learned: a checkpoint counts whole or not at all, and none overwrites another."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from streams.checkpoints import CHUNK_BYTES, HEAD, Checkpoint, Checkpoints, Reading, records_of
from streams.errors import CheckpointError
from streams.settings import Epoch, Settings

Records = list[tuple[bytes, bytes | None]]


def learned(offset: int) -> Checkpoint:
    return Checkpoint(offset, {"count": offset, "filling": "x" * 250}, {"churn": offset // 10})


def written(offset: int) -> Records:
    return [*records_of("churn", learned(offset), chunk_bytes=100)]


def found(records: Records) -> Checkpoint | None:
    reading = Reading("churn")
    for key, value in records:
        reading.take(key, value)
    return reading.found()


class FakeLog:
    def __init__(self) -> None:
        self.records: Records = []
        self.fails_after: int | None = None

    async def append(self, topic: str, partition: int, records: Any, headers: Any = ()) -> None:
        self.topic = topic
        if self.fails_after is not None:
            self.records += records[: self.fails_after]
            raise ConnectionError("the worker dies here")
        self.records += records


def keeping(log: FakeLog, settings: Settings | None = None) -> Checkpoints:
    any_log: Any = log
    return Checkpoints(settings or Settings(), any_log)


def test_a_whole_one_is_found() -> None:
    assert len(written(10)) == 4
    assert found(written(10)) == learned(10)


def test_the_head_comes_last() -> None:
    assert [key for key, _ in written(10)][-1].endswith(f"/{HEAD}".encode())


def test_a_chunk_fits_a_batch() -> None:
    assert max(len(value) for _, value in records_of("recs", Checkpoint(1, {"x": "y" * 2_000_000}, {}))) == CHUNK_BYTES


def test_one_that_was_torn_at_any_record_leaves_the_one_before() -> None:
    for records in range(4):
        assert found(written(10) + written(20)[:records]) == learned(10)
    assert found(written(10) + written(20)) == learned(20)


def test_a_chunk_that_comes_behind_its_head_counts() -> None:
    # a zombie wrote the same chunk again, and compaction kept that one
    *chunks, head = written(20)
    assert found([*chunks[1:], head, chunks[0]]) == learned(20)


def test_one_that_lacks_a_chunk_does_not_count() -> None:
    torn = written(20)
    del torn[1]
    assert found(written(10) + torn) == learned(10)
    assert found(torn) is None


def test_one_that_comes_late_from_a_worker_that_lost_its_partition_harms_nobody() -> None:
    assert found(written(10) + written(20) + written(15)) == learned(20)


def test_what_was_deleted_is_gone_also_before_it_is_compacted() -> None:
    assert found([*written(10), *written(20), *((key, None) for key, _ in written(10))]) == learned(20)


def test_other_families_are_none_of_its_business() -> None:
    other: Records = [*records_of("churnlike", learned(90))]
    assert found(written(10) + other) == learned(10)
    assert found([(b"?", b"x")]) is None


def test_many_that_are_not_compacted_do_not_pile_up() -> None:
    reading = Reading("churn")
    for offset in range(10, 500, 10):
        for key, value in written(offset):
            reading.take(key, value)
        assert len(reading._chunks) == 0


def test_one_of_a_newer_program_is_refused() -> None:
    *chunks, (key, head) = written(10)
    assert head is not None
    with pytest.raises(CheckpointError, match="has version 2, we read 1"):
        found([*chunks, (key, orjson.dumps(orjson.loads(head) | {"v": 2}))])


async def test_each_deletes_the_ones_before_it_once_it_is_whole() -> None:
    log = FakeLog()
    keeper = keeping(log)
    for offset in (10, 20, 30):
        await keeper.save(0, "churn", learned(offset))
    alive = {key for key, _ in log.records} - {key for key, value in log.records if value is None}
    assert {key.split(b"/")[1] for key in alive} == {b"000000000030"}
    first_deleted = next(at for at, (_, value) in enumerate(log.records) if value is None)
    assert log.records[first_deleted - 1][0] == b"churn/000000000020/head"
    assert found(log.records) == learned(30)


async def test_what_a_crash_left_goes_with_the_next() -> None:
    log = FakeLog()
    keeper = keeping(log)
    await keeper.save(0, "churn", learned(10))
    log.fails_after = 1
    with pytest.raises(ConnectionError):
        await keeper.save(0, "churn", learned(20))
    log.fails_after = None
    await keeper.save(0, "churn", learned(30))
    alive = {key for key, _ in log.records} - {key for key, value in log.records if value is None}
    assert {key.split(b"/")[1] for key in alive} == {b"000000000030"}


async def test_an_epoch_has_its_own() -> None:
    log = FakeLog()
    await keeping(log, Settings().at(Epoch(journal=2, state=5))).save(0, "churn", learned(10))
    assert log.topic == "journey.checkpoints.e2"


async def test_what_has_learned_more_is_never_deleted_also_when_only_parts_of_it_were_seen() -> None:
    log = FakeLog()
    keeper = keeping(log)
    seen = Reading("churn")
    for key, value in [*written(10), written(20)[0]]:  # somebody was about to write 20
        seen.take(key, value)
    keeper._there["churn"] = seen.keys
    await keeper.save(0, "churn", learned(15))
    deleted = [key for key, value in log.records if value is None]
    assert deleted == [key for key, _ in written(10)]
