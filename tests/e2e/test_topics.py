"""What has to be there before anything starts, what is refused, and how a worker ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition

from journey.state import FOLD_VERSION, new_partition, partition_key
from streams import topics
from streams.appends import Log
from streams.errors import TopicConflictError
from streams.replay import verify
from streams.settings import Settings, load
from streams.topics import Admin
from tests.conftest import Broker
from tests.harness import STOPPED, Deployment, deployed, view, wall_ms
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

DAYS = 86_400_000


def settings_of(kafka: Broker, prefix: str, **more: str) -> Settings:
    told = {"KAFKA_URL": kafka.url, "TOPIC_PREFIX": f"{prefix}.", "PARTITIONS": "3"} | more
    return load({f"JOURNEY_{name}": value for name, value in told.items()})


@asynccontextmanager
async def broker_of(settings: Settings) -> AsyncIterator[Any]:
    client = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_url)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def names_of(settings: Settings) -> set[str]:
    async with broker_of(settings) as client:
        return {name for name in await client.list_topics() if name.startswith(settings.topic_prefix)}


# ---- the topics ------------------------------------------------------------------------------------------------------


async def test_topics_are_created_once_as_the_catalogue_says(kafka: Broker, prefix: str) -> None:
    settings = settings_of(kafka, prefix)
    async with Admin(settings) as admin:
        assert await admin.ensure() == []
        counts = await admin.partitions()
        assert await admin.create() == []
        assert await admin.ensure() == []
    control, table = settings.topic(topics.CONTROL), topics.changelog(settings)
    full = settings.topic
    fixed = dict.fromkeys((control, full(topics.CONFIG), full(topics.MODELS), full(topics.ALARMS)), 1)
    fixed |= dict.fromkeys((full(topics.SAMPLES), full(topics.CHECKPOINTS)), topics.FAMILIES)
    assert counts == {topic.name: fixed.get(topic.name, 3) for topic in topics.catalogue(settings)}
    async with broker_of(settings) as client:
        told = await client.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name) for name in (*counts,)]
        )  # fmt: skip
    found = {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]} for answer in told for resource in answer.resources
    }
    for name in (settings.topic("events.cart"), settings.topic(topics.TRIGGERS)):
        assert found[name]["cleanup.policy"] == "delete"
        assert found[name]["retention.ms"] == str(30 * DAYS)
    for name in (settings.topic(topics.JOURNAL), control):
        assert found[name]["retention.ms"] == "-1"
        assert found[name]["message.timestamp.type"] == "LogAppendTime"
    assert found[settings.topic(topics.DEAD_LETTERS)]["retention.ms"] == str(14 * DAYS)
    assert found[table]["cleanup.policy"] == "compact"
    assert found[table]["min.compaction.lag.ms"] == str(DAYS)


@pytest.mark.parametrize(
    ("name", "partitions", "config", "sentence"),
    [
        (topics.JOURNAL, 5, {"retention.ms": "-1", "message.timestamp.type": "LogAppendTime"},
         "journey.journal: has 5 partitions, 3 are wanted: set JOURNEY_PARTITIONS=5"),
        ("table", 3, {"cleanup.policy": "delete"},
         "cleanup.policy=delete, cleanup.policy=compact is wanted"),
        (topics.JOURNAL, 3, {"message.timestamp.type": "LogAppendTime", "retention.ms": "1000"},
         "retention.ms=1000, retention.ms=-1 is wanted"),
        ("events.cart", 3, {"message.timestamp.type": "CreateTime"},
         "message.timestamp.type=CreateTime, message.timestamp.type=LogAppendTime is wanted"),
    ],
)  # fmt: skip
async def test_a_conflict_is_refused_and_nothing_is_changed(
    kafka: Broker, prefix: str, tmp_path: Path, name: str, partitions: int, config: dict[str, str], sentence: str
) -> None:
    settings = settings_of(kafka, prefix)
    topic = topics.changelog(settings) if name == "table" else settings.topic(name)
    async with broker_of(settings) as client:
        await client.create_topics([NewTopic(topic, partitions, 1, topic_configs=config)])
    async with Admin(settings) as admin:
        with pytest.raises(TopicConflictError) as refused:
            await admin.ensure()
        assert sentence in str(refused.value)
        assert (await admin.partitions())[topic] == partitions


async def test_a_worker_refuses_a_conflict_with_a_sentence(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with deployed(kafka.url, prefix, tmp_path) as deployment:
        worker = deployment.worker("worker", "all", PARTITIONS="7").start()
        assert await worker.ended() == 2
        assert "has 4 partitions, 7 are wanted: set JOURNEY_PARTITIONS=4" in worker.tail()
        assert "Traceback" not in worker.tail()


async def test_nobody_creates_a_topic_that_is_not_in_the_catalogue(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with deployed(kafka.url, prefix, tmp_path) as deployment:
        deployment.worker("worker", "all").start()
        await deployment.publish([view("m-1", "1", wall_ms())])
        await deployment.at_rest()
        await deployment.stopped()
        assert await names_of(deployment.settings) == {
            topic.name for topic in topics.catalogue(deployment.settings)
        }  # fmt: skip


# ---- what the engine and ingest refuse -------------------------------------------------------------------------------


async def some_views(deployment: Deployment, count: int) -> None:
    await deployment.publish(view(f"m-{number}", f"c-{number}", wall_ms()) for number in range(count))


async def recreate(deployment: Deployment, name: str) -> None:
    """Delete a topic and create it anew, as somebody does who wants to "clean up"."""
    settings = deployment.settings
    topic = settings.topic(name)
    async with broker_of(settings) as client:
        await client.delete_topics([topic])

        async def is_gone() -> bool:
            return topic not in await client.list_topics()

        await eventually(is_gone)
    async with Admin(settings) as admin:

        async def is_back() -> bool:
            return topic in await admin.create() or topic in await admin.partitions()

        await eventually(is_back)


async def test_state_of_another_fold_version_is_refused(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with deployed(kafka.url, prefix, tmp_path) as deployment:
        other = {**new_partition(), "fold": FOLD_VERSION + 1, "at": 3}
        log = await Log(kafka.url, 100_000).start()
        await log.append(topics.changelog(deployment.settings), 2, [(partition_key(2), orjson.dumps(other))])
        await log.stop()
        worker = deployment.worker("engine", "engine").start()
        assert await worker.ended() == STOPPED
        said = worker.tail()
        assert (
            f"journal partition 2 was folded by fold version {FOLD_VERSION + 1}, this worker has {FOLD_VERSION}" in said
        )
        assert "What to do: keep the table and the journal." in said


async def test_recreated_topics_are_refused(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with deployed(kafka.url, prefix, tmp_path) as deployment:
        deployment.worker("both", "all").start()
        await some_views(deployment, 100)
        await deployment.at_rest()
        await deployment.stopped()
        # with a topic its committed offsets go: ingest begins at 0 again, and the engine knows better
        await recreate(deployment, "events.click")
        await some_views(deployment, 8)
        again = deployment.worker("again", "all").start()
        assert await again.ended() == STOPPED
        assert "events.click/" in again.tail()
        assert "records of it were taken before" in again.tail()
        await recreate(deployment, topics.JOURNAL)
        engine = deployment.worker("engine", "engine").start()
        assert await engine.ended() == STOPPED
        assert "ends at 0, the state reflects page" in engine.tail()
        assert "What to do: keep the customer table and stop." in engine.tail()


async def test_records_deleted_before_they_were_read_are_told(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with deployed(kafka.url, prefix, tmp_path, PARTITIONS="1") as deployment:
        first = deployment.worker("first", "ingest").start()
        await some_views(deployment, 20)
        await deployment.taken()
        assert await first.stopped() == 0, first.tail()
        await some_views(deployment, 20)
        clicks = TopicPartition(deployment.settings.topic("events.click"), 0)
        async with broker_of(deployment.settings) as client:
            await client.delete_records({clicks: RecordsToDelete(30)})
        second = deployment.worker("second", "ingest").start()
        assert await second.ended() == STOPPED
        assert "offset 30 was delivered where 20 was expected" in second.tail()
        assert "records were deleted from the log before they were read" in second.tail()


# ---- poison ----------------------------------------------------------------------------------------------------------


async def test_a_poisonous_entry_becomes_a_dead_letter_and_all_others_count(
    kafka: Broker, prefix: str, tmp_path: Path
) -> None:
    async with deployed(kafka.url, prefix, tmp_path, PARTITIONS="1") as deployment:
        worker = deployment.worker("both", "all").start()
        await some_views(deployment, 20)
        await deployment.at_rest()
        at = wall_ms()
        # no arrival lets it through: a cart without its item
        poison = {"k": "event", "at": at, "c": "u:c-1", "id": "bad", "t": "cart.product_added", "oc": at, "d": {}}
        good = {"k": "event", "at": at, "c": "u:c-1", "id": "good", "t": "click.page_viewed", "oc": at, "d": {}}
        for entry in (poison, good):
            entry["src"] = ["elsewhere", 0, 0 if entry is poison else 1]
        log = await Log(kafka.url, 100_000).start()
        page = orjson.dumps([good | {"id": "before", "src": ["elsewhere", 1, 0]}, poison, good])
        (written,) = await log.append(deployment.settings.topic(topics.JOURNAL), 0, [(None, page)], (("v", b"1"),))
        await log.stop()
        await deployment.publish(view(f"n-{number}", f"c-{number}", at) for number in range(20))
        await deployment.at_rest()
        assert worker.is_running
        (record,) = await deployment.records(topics.DEAD_LETTERS)
        letter = orjson.loads(record.value)
        assert (letter["reason"], letter["stage"]) == ("poison", "engine")
        assert letter["source"]["offset"] == written.base
        verdict = await verify(deployment.settings)
        assert verdict.identical, verdict.shown()
        assert verdict.events == 42
        assert await worker.stopped() == 0, worker.tail()


# ---- the end of a worker ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("customers", [1, 100])
async def test_a_worker_with_all_roles_ends_in_order_while_it_works(
    kafka: Broker, prefix: str, tmp_path: Path, customers: int
) -> None:
    async with deployed(kafka.url, prefix, tmp_path, COMMIT_INTERVAL="60") as deployment:
        worker = deployment.worker("both", "all").start()
        begin = wall_ms()
        for slice_ in range(60):
            await deployment.publish(
                view(f"m-{slice_}-{number}", f"c-{number % customers}", begin) for number in range(100)
            )
            if slice_ == 5:
                await deployment.shared_by("ingest", 1)
                await deployment.shared_by("engine", 1)
        assert await worker.stopped() == 0, worker.tail()
        assert "stopped before anything was acknowledged" not in worker.tail()
        # of a chunk that was held in part, the other part may be done already; with one raw partition there is none
        held = "were held to be put in order" in worker.tail()
        assert not (held and customers == 1)
        deployment.worker("next", "all", COMMIT_INTERVAL="0.2").start()
        found = await deployment.examined()
        assert found.is_exact, found.line()
        assert found.figures["repeated_entries"] == 0 or held, worker.tail()  # it committed what it had done
        assert found.figures["trigger_repeats"] == 0
