"""Tasks beside the agents: one that cannot go on is seen, and what it steers does not go on without it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import CoordinatorLoadInProgressError, KafkaError

from streams import control, read_model
from streams.control import ControlTail
from streams.errors import StoreError
from streams.read_model import RedisReadModel
from streams.settings import Settings
from streams.topics import Admin
from tests.waiting import eventually


class EmptyRedis:
    """A Redis that shows a partition up to page 3, and can be asked nothing else."""

    async def hmget(self, *_: object) -> list[bytes]:
        return [b"3"]

    async def aclose(self) -> None:
        """Nothing is open."""


async def test_a_read_model_that_cannot_read_the_store_says_so_and_tries_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(read_model, "RETRY", 0.01)
    looks = []

    def scan(partition: int) -> Any:
        looks.append(partition)
        if len(looks) < 3:
            raise StoreError
        return ()

    model = RedisReadModel("redis://127.0.0.1:9/0", lambda _partition, _key: None, scan)
    redis: Any = EmptyRedis()
    model._redis = redis
    model.start()
    try:
        model.own(0, 5)
        await eventually(lambda: model.is_away)
        await eventually(lambda: len(looks) >= 3)
        assert model.counts["failures"] >= 2
        assert caplog.text.count("the read model is stale (StoreError)") == 1
        assert model._task is not None
        assert not model._task.done()
    finally:
        await model.stop()


async def test_a_worker_ends_when_it_cannot_follow_the_control_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[BaseException] = []
    monkeypatch.setattr(control, "leave", left.append)
    fails = asyncio.Event()

    class Follows(ControlTail):
        async def _follow(self) -> None:
            self._read.set()
            await fails.wait()
            raise KafkaError

    tail = Follows(Settings())
    await tail.ready()
    assert left == []
    fails.set()
    await eventually(lambda: len(left) == 1)
    assert isinstance(left[0], KafkaError)


async def test_who_cannot_read_it_at_all_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[BaseException] = []
    monkeypatch.setattr(control, "leave", left.append)

    class Fails(ControlTail):
        async def _follow(self) -> None:
            raise KafkaError

    with pytest.raises(KafkaError):
        await Fails(Settings()).ready()
    assert left == []


async def test_a_coordinator_that_does_not_know_yet_is_no_empty_group() -> None:
    class Loading:
        """An administrator's client whose group is being loaded."""

        async def describe_consumer_groups(self, _groups: list[str]) -> list[Any]:
            class Answer:
                groups: Any = ((14, "g", "", "", "", []),)

            return [Answer()]

    admin = Admin.__new__(Admin)
    client: Any = Loading()
    admin._client = client
    with pytest.raises(CoordinatorLoadInProgressError):
        await admin.members("g")
