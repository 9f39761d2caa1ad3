"""After an hour's downtime, with one raw topic idle and one far behind, customers are journalled as they published."""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from journey.events import DAY, HOUR
from journey.ids import route
from streams import topics
from streams.raw import RawRecord
from streams.settings import Settings
from tests.conftest import Broker
from tests.harness import Chance, Deployment, deployed, told, view, wall_ms
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

EVENTS = 6_000
CUSTOMERS = 150


async def publish_the_past(settings: Settings, records: Iterable[RawRecord], partitions: Mapping[str, int]) -> None:
    """Fill the raw topics as an hour of traffic did while no worker ran: each record with the time it was taken at."""
    names = [settings.topic(name) for name in topics.RAW]
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_url)
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_url, linger_ms=20)
    await admin.start()
    await producer.start()
    try:
        # here the publisher says when; afterwards the topics are as they have to be
        by_publisher = {"message.timestamp.type": "CreateTime"}
        await admin.create_topics(
            [
                NewTopic(settings.topic(name), partitions.get(name, 4), 1, topic_configs=by_publisher)
                for name in topics.RAW
            ]
        )
        for record in records:
            await producer.send(
                settings.topic(record.topic), record.value, key=record.key, timestamp_ms=record.at,
                partition=route(record.key.decode(), partitions.get(record.topic, 4)),
            )  # fmt: skip
        await producer.flush()
        by_broker = {"message.timestamp.type": "LogAppendTime", "retention.ms": str(30 * DAY)}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name, configs=by_broker) for name in names]
        await admin.alter_configs(resources)
        await eventually(partial(all_are_stamped_by_the_broker, admin, names))
    finally:
        await producer.stop()
        await admin.close()


async def all_are_stamped_by_the_broker(admin: AIOKafkaAdminClient, names: list[str]) -> bool:
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    kinds = [
        entry[1] for answer in answers for resource in answer.resources for entry in resource[4]
        if entry[0] == "message.timestamp.type"
    ]  # fmt: skip
    return kinds == ["LogAppendTime"] * len(names)


def an_hour(seed: int) -> Iterable[RawRecord]:
    """Yield clicks, with a cart and an order now and then; nobody says anything of themselves."""
    chance = Chance("an hour", seed)
    start = wall_ms() - 2 * HOUR
    for number in range(EVENTS):
        at = start + number * HOUR // EVENTS
        user, name = str(100 + chance.below(CUSTOMERS)), f"m-{number}"
        kind = chance.below(20)
        if kind == 0:
            yield told(
                "purchase.order_completed", name, user, at=at, order_id=f"o-{name}", revenue_minor=100, currency="EUR"
            )
        elif kind < 4:
            item = {"item_id": "p-1", "unit_price_minor": 100}
            yield told("cart.product_added", name, user, at=at, cart_id=f"c-{user}", item=item)
        else:
            yield view(name, user, at)


async def in_order(deployment: Deployment) -> tuple[int, int]:
    """Return how many customers were journalled in the order of publishing, and of how many; repeats are left out."""
    sequences: dict[str, list[int]] = defaultdict(list)
    applied: dict[tuple[int, str, int], int] = {}
    for page in await deployment.records(topics.JOURNAL):
        for entry in orjson.loads(page.value):
            if entry["k"] == "event":
                topic, partition, offset = entry["src"]
                source = (page.partition, topic, partition)
                if offset > applied.get(source, -1):
                    applied[source] = offset
                    sequences[entry["c"]].append(entry["oc"])
    assert sum(len(one) for one in sequences.values()) == EVENTS
    return sum(one == sorted(one) for one in sequences.values()), len(sequences)


@asynccontextmanager
async def backlog(kafka: Broker, prefix: str, directory: Path, **partitions: int) -> AsyncIterator[Deployment]:
    """Give a deployment whose raw topics hold an hour that nobody has read; ``partitions`` of classes, 4 by default."""
    counts = {f"events.{name}": count for name, count in partitions.items()}
    await publish_the_past(Settings(kafka_url=kafka.url, topic_prefix=f"{prefix}."), an_hour(7), counts)
    small = {"PAGE_ENTRIES": "200", "CHUNK_RECORDS": "200", "HELD_RECORDS": "800"}
    async with deployed(kafka.url, prefix, directory, **small) as deployment:
        yield deployment


async def journalled(deployment: Deployment, *planted: tuple[str, ...]) -> tuple[int, int]:
    """Let workers, each but the last with what is planted in it, take the backlog; return who is in order."""
    worker = deployment.worker("both", "all")
    *killed, last = planted
    for faults in killed:
        worker.start(*faults)
        await worker.ended(within_seconds=60)
    worker.planted = last
    worker.start()
    finding = await deployment.examined()
    assert finding.is_exact, finding
    return await in_order(deployment)


async def test_a_backlog_is_journalled_in_the_order_of_time(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with backlog(kafka, prefix, tmp_path) as deployment:
        ordered, of = await journalled(deployment, ())
    assert ordered == of == CUSTOMERS


async def test_one_worker_merges_topics_of_unequal_partition_counts(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with backlog(kafka, prefix, tmp_path, click=6, cart=3, purchase=1) as deployment:
        ordered, of = await journalled(deployment, ())
    assert ordered == of == CUSTOMERS


async def test_kills_in_the_middle_do_not_hurt_the_order(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    faults = [
        ("--append", str(number), "--topic", "journey.journal", "--when", when)
        for number, when in ((3, "before"), (4, "acknowledged"), (6, "before"))
    ]
    async with backlog(kafka, prefix, tmp_path) as deployment:
        ordered, of = await journalled(deployment, *faults, ())
    assert ordered == of == CUSTOMERS


async def test_a_zombie_that_wakes_up_does_not_hurt_the_order(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with backlog(kafka, prefix, tmp_path) as deployment:
        zombie = deployment.worker("zombie", "ingest")
        zombie.start("--append", "6", "--topic", "journey.journal", "--when", "before", "--signal", "STOP")
        await eventually(lambda: zombie.is_frozen, within_seconds=40)
        heir = deployment.worker("heir", "all").start()
        await deployment.shared_by("ingest", 1)  # the zombie's session is over
        await deployment.at_rest()
        async with deployment.supervised():
            zombie.signal(signal.SIGCONT)
            await deployment.shared_by("ingest", 2)
            finding = await deployment.examined()
        assert finding.is_exact, finding.line()
        assert finding.figures["repeated_entries"] > 0
        ordered, of = await in_order(deployment)
        assert heir.status == 0
    assert ordered == of == CUSTOMERS


async def test_without_alignment_most_customers_are_out_of_order(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with backlog(kafka, prefix, tmp_path) as deployment:
        ordered, of = await journalled(deployment, ("--unaligned",))
    assert ordered < of / 2
