"""Reading logs without a consumer group: from a beginning to an end, partition by partition or all at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.errors import BrokerUnavailableError, TopicConflictError
from streams.settings import Settings

FETCH_BYTES = 4 << 20


@asynccontextmanager
async def consumer(settings: Settings, *, wait_ms: int = 200) -> AsyncIterator[Any]:
    """Return a consumer that belongs to no group and commits nothing; the broker answers after ``wait_ms`` at most."""
    client: Any = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_url, enable_auto_commit=False, auto_offset_reset="earliest",
        max_partition_fetch_bytes=FETCH_BYTES, fetch_max_bytes=50 << 20, check_crcs=False, fetch_max_wait_ms=wait_ms,
    )  # fmt: skip
    try:
        await client.start()
    except (KafkaError, OSError) as error:
        await client.stop()
        text = f"no Kafka broker answers at {settings.kafka_url} ({error}): start it or set JOURNEY_KAFKA_URL"
        raise BrokerUnavailableError(text) from error
    try:
        yield client
    finally:
        await client.stop()


async def partitions_of(client: Any, topic: str) -> list[TopicPartition]:
    """Return the partitions of a topic.

    Raises
    ------
    TopicConflictError
        It does not exist.
    """
    # as the consumer's own topics() does, which keeps the partitions to itself
    cluster = await client._client.fetch_all_metadata()  # noqa: SLF001
    numbers = cluster.partitions_for_topic(topic)
    if not numbers:
        text = f"topic {topic} does not exist: run `journey topics create`, or check JOURNEY_TOPIC_PREFIX"
        raise TopicConflictError(text)
    return [TopicPartition(topic, number) for number in sorted(numbers)]


async def end_offsets(settings: Settings, topic: str) -> dict[int, int]:
    """Return the end offset of each partition."""
    async with consumer(settings) as client:
        ends = await client.end_offsets(await partitions_of(client, topic))
        return {tp.partition: end for tp, end in ends.items()}


async def read_partitions(
    client: Any, spans: dict[TopicPartition, tuple[int, int]]
) -> AsyncIterator[tuple[TopicPartition, list[Any]]]:
    """Yield (partition, records) from the first offset of each span up to, and without, its second.

    Ends when all are read; compacted offsets and markers may be missing.
    """
    waiting = {tp: end for tp, (begin, end) in spans.items() if begin < end}
    if not waiting:
        return
    client.assign(list(waiting))
    for tp in waiting:
        client.seek(tp, spans[tp][0])
    while waiting:
        fetched = await client.getmany(*waiting, timeout_ms=1000)
        for tp, records in fetched.items():
            end = waiting[tp]
            yield tp, records if records[-1].offset < end else [one for one in records if one.offset < end]
        for tp in list(waiting):
            if await client.position(tp) >= waiting[tp]:
                del waiting[tp]


async def spans_of(client: Any, tps: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
    """Return (begin, end) offset of each partition as of now."""
    tps = list(tps)
    begins, ends = await client.beginning_offsets(tps), await client.end_offsets(tps)
    return {tp: (begins[tp], ends[tp]) for tp in tps}


async def read_all(settings: Settings, topic: str) -> AsyncIterator[Any]:
    """Yield every record that is in a topic now; the order within each partition is kept."""
    async with consumer(settings) as client:
        spans = await spans_of(client, await partitions_of(client, topic))
        async for _, records in read_partitions(client, spans):
            for record in records:
                yield record
