"""Ordered, gapless, awaited appends. At the first failure the writer stops: it never goes on with the next record."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from journey.errors import TooLargeError

REQUEST_BYTES: Final = 4_000_000
Record = tuple[bytes | None, bytes]  # key, value
Headers = Sequence[tuple[str, bytes]]


class Appended:
    """Where a batch came to lie."""

    __slots__ = ("base", "count", "timestamp")

    def __init__(self, base: int, count: int, timestamp: int) -> None:
        self.base, self.count, self.timestamp = base, count, timestamp


class Log:
    """The ordered log over Kafka: sealed record batches of an idempotent producer, acks from all.

    A sealed batch is appended by the broker all or none. What does not fit
    one becomes a sequence of batches, each awaited before the next, so that
    a later record is never durable without the earlier ones.
    """

    def __init__(self, url: str, batch_bytes: int) -> None:
        self._url, self._batch_bytes = url, batch_bytes
        self.told: int | None = None  # the broker's clock (ms) at the last acknowledgement
        self._producer: Any = None

    async def start(self) -> Log:
        """Connect, once; the producer belongs to the running event loop."""
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                bootstrap_servers=self._url, enable_idempotence=True, acks="all", linger_ms=0,
                max_batch_size=self._batch_bytes, max_request_size=REQUEST_BYTES, request_timeout_ms=60_000,
            )  # fmt: skip
            await self._producer.start()
        return self

    async def stop(self) -> None:
        """Flush and close."""
        if self._producer is not None:
            await self._producer.stop()

    async def append(
        self, topic: str, partition: int, records: Sequence[Record], headers: Headers = ()
    ) -> list[Appended]:
        """Return once all records are acknowledged, in order. On an error some may be there: stop."""
        written: list[Appended] = []
        at = 0
        while at < len(records):
            batch, start = self._producer.create_batch(), at
            while at < len(records):
                key, value = records[at]
                if batch.append(key=key, value=value, timestamp=None, headers=list(headers)) is None:
                    break
                at += 1
            if at == start:
                text = f"a record of {len(records[at][1])} bytes for {topic}/{partition} is larger than a batch"
                raise TooLargeError(text)
            batch.close()
            done = await (await self._producer.send_batch(batch, topic, partition=partition))
            self.told = done.timestamp
            written.append(Appended(done.offset, at - start, done.timestamp))
        return written

    async def append_all(
        self, topic: str, by_partition: Mapping[int, Sequence[Record]], headers: Headers = ()
    ) -> list[list[Appended]]:
        """Append to several partitions at the same time; return when all of it is acknowledged."""
        return list(
            await asyncio.gather(
                *(self.append(topic, number, records, headers) for number, records in by_partition.items())
            )
        )

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has."""
        return len(await self._producer.partitions_for(topic))
