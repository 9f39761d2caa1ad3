"""Models by name and version: the newest record that is ours counts, and what is missing is said by name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from aiokafka import TopicPartition

from journey.errors import MissingModelError
from streams import models_log
from streams.models_log import MOST_LOADED, ModelsLog
from streams.settings import Settings
from streams.snapshots import Keys, read, record_key, sign

OURS, THEIRS = Keys(b"the key of the tests"), Keys(b"somebody else's key")
TP = TopicPartition("journey.models", 0)


class FakeClient:
    """A consumer of one partition; offsets that were compacted away are None."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self._at = 0
        self._client = SimpleNamespace(fetch_all_metadata=self._metadata)

    async def _metadata(self) -> Any:
        return SimpleNamespace(partitions_for_topic=lambda topic: {0})

    async def beginning_offsets(self, tps: Any) -> dict[TopicPartition, int]:
        return {TP: 0}

    async def end_offsets(self, tps: Any) -> dict[TopicPartition, int]:
        return {TP: len(self.log)}

    def assign(self, tps: Any) -> None:
        """There is one only."""

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._at = offset

    async def position(self, tp: TopicPartition) -> int:
        return self._at

    async def getmany(self, *tps: TopicPartition, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        found = [one for one in self.log[self._at : self._at + 3] if one is not None]
        self._at = min(len(self.log), self._at + 3)
        return {TP: found} if found else {}


class Topic:
    def __init__(self) -> None:
        self.log: list[Any] = []
        self.readings = 0

    def add(self, key: bytes, value: bytes | None) -> None:
        self.log.append(SimpleNamespace(offset=len(self.log), key=key, value=value))

    def publish(self, version: int, number: int = 0, *, keys: Keys = OURS, model: str = "churn") -> str:
        """Publish a version with a number in it; return its digest."""
        payload = {"role": "champion", "number": number or version}
        value = sign(
            keys, model=model, number=version, parent=None, schema="churn/1", trained_through={}, trained={"at": 1},
            payload=payload,
        )  # fmt: skip
        self.add(record_key(model, version), value)
        return str(orjson.loads(value)["sha256"])


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    made = Topic()

    @asynccontextmanager
    async def consumer(settings: Settings) -> AsyncIterator[FakeClient]:
        made.readings += 1
        yield FakeClient(made.log)

    monkeypatch.setattr(models_log, "consumer", consumer)
    return made


@pytest.fixture
def models(topic: Topic) -> ModelsLog:
    return ModelsLog(Settings(), OURS)


async def test_a_version_is_found_by_its_name_and_its_digest(topic: Topic, models: ModelsLog) -> None:
    for version in range(1, 9):
        topic.publish(version)
    digest = topic.publish(9)
    assert (await models.get("churn", 9, digest))["number"] == 9
    assert (await models.get("churn", 2))["number"] == 2
    assert (await models.get("churn", 9, digest[:4]))["number"] == 9
    assert models.newest == {"churn": 9}


async def test_what_was_loaded_is_given_at_once(topic: Topic, models: ModelsLog) -> None:
    digest = topic.publish(1)
    with pytest.raises(MissingModelError, match=r"model churn/1 .*it was not loaded"):
        models.payload("churn", 1)
    await models.load([("churn", 1, digest), ("churn", 1, None)])
    await models.load([("churn", 1, digest)])
    assert models.payload("churn", 1, digest)["number"] == 1
    assert topic.readings == 1


async def test_what_is_published_later_is_found(topic: Topic, models: ModelsLog) -> None:
    topic.publish(1)
    await models.get("churn", 1)
    topic.publish(2)
    assert (await models.get("churn", 2))["number"] == 2


async def test_a_version_that_was_never_published_is_named(topic: Topic, models: ModelsLog) -> None:
    topic.publish(1)
    with pytest.raises(MissingModelError, match=r"model churn/2 .* has no record churn/2"):
        await models.get("churn", 2)


async def test_a_forged_record_does_not_hide_the_one_before_it(topic: Topic, models: ModelsLog) -> None:
    topic.publish(1, 10)
    topic.publish(1, 99, keys=THEIRS)
    topic.add(b"churn/1", b"no json")
    assert (await models.get("churn", 1))["number"] == 10
    first = await models.first("churn", 1)
    assert first is not None
    assert orjson.loads(first.payload)["number"] == 10


async def test_of_a_version_with_forged_records_only_it_is_said_why(topic: Topic, models: ModelsLog) -> None:
    topic.publish(1, keys=THEIRS)
    with pytest.raises(MissingModelError, match="signed with the key"):
        await models.get("churn", 1)
    assert await models.first("churn", 1) is None


async def test_a_record_under_another_models_key_is_not_taken_for_it(topic: Topic, models: ModelsLog) -> None:
    topic.publish(7)
    topic.log[0].key = b"churn/8"
    with pytest.raises(MissingModelError, match="the record churn/8 holds churn/7"):
        await models.get("churn", 8)


async def test_the_adopted_one_of_two_under_one_name_is_taken(topic: Topic, models: ModelsLog) -> None:
    digests = [topic.publish(1, number) for number in (10, 20)]
    for digest, number in zip(digests, (10, 20), strict=True):
        assert (await models.get("churn", 1, digest))["number"] == number
    with pytest.raises(MissingModelError, match="the adopted one's ffff"):
        await models.get("churn", 1, "ffff")


async def test_what_was_compacted_away_or_deleted_is_not_there(topic: Topic, models: ModelsLog) -> None:
    topic.publish(1)
    topic.publish(2)
    await models.refresh()
    topic.log[0] = None
    topic.add(b"churn/2", None)
    for version in (1, 2):
        with pytest.raises(MissingModelError):
            await models.get("churn", version)
    assert ("churn", 2) not in models.digests


async def test_the_digest_of_a_version_is_that_of_the_first_record_that_is_ours(
    topic: Topic, models: ModelsLog
) -> None:
    topic.publish(1, 99, keys=THEIRS)
    digest = topic.publish(1, 10)
    topic.publish(1, 20)
    topic.publish(2, keys=THEIRS)
    await models.refresh()
    await models.refresh()
    assert models.digests == {("churn", 1): digest}


async def test_no_more_is_kept_than_has_room(topic: Topic, models: ModelsLog) -> None:
    for version in range(MOST_LOADED + 1):
        topic.publish(version)
        await models.get("churn", version)
    with pytest.raises(MissingModelError):
        models.payload("churn", 0)
    assert models.payload("churn", MOST_LOADED)["number"] == MOST_LOADED


async def test_envelopes_tell_of_all_that_is_there(topic: Topic, models: ModelsLog) -> None:
    topic.publish(1)
    topic.publish(5, model="intent")
    topic.publish(2)
    topic.publish(2, keys=THEIRS)
    topic.publish(3, keys=THEIRS)
    topic.add(b"something else", b"x")
    told = await models.envelopes()
    assert [(one["model"], one["version"], "fault" in one) for one in told] == [
        ("churn", 1, False), ("intent", 5, False), ("churn", 2, False), ("churn", 3, True),
    ]  # fmt: skip
    assert told[0]["bytes"] == len(read(topic.log[0].value, OURS).payload)
    assert "payload_b64" not in told[0]
    assert [one["version"] for one in await models.envelopes("intent")] == [5]
