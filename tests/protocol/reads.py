"""Reading logs without a group, in the place of ``streams.logs``: what is there now, handed over a little later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition

Span = tuple[int, int]


class consumer:  # noqa: N801  # it stands where a function of this name does
    """A client that belongs to no group: the broker of the process that asks."""

    def __init__(self, settings: Any, *, wait_ms: int = 0) -> None:
        """Nothing is waited for."""

    async def __aenter__(self) -> Any:
        loop: Any = asyncio.get_running_loop()
        return loop.owner.broker

    async def __aexit__(self, *_: object) -> None:
        """Nothing to close."""


async def partitions_of(broker: Any, topic: str) -> list[TopicPartition]:
    """Return the partitions of a topic."""
    return [TopicPartition(topic, number) for number in range(broker.partitions[topic])]


async def spans_of(broker: Any, tps: Iterable[TopicPartition]) -> dict[TopicPartition, Span]:
    """Return where each partition begins and ends now."""
    return {tp: (0, len(broker.logs[tp])) for tp in tps}


async def read_partitions(
    broker: Any, spans: Mapping[TopicPartition, Span]
) -> AsyncIterator[tuple[TopicPartition, list[Any]]]:
    """Yield what lies there; whoever asks may have to wait for it."""
    for tp, (begin, end) in spans.items():
        if begin < end:
            await asyncio.get_running_loop().run_in_executor(None, _nothing)
            records = broker.logs[tp][begin:end]
            yield tp, compacted(records) if tp.topic in broker.compacts else records


class Following:
    """What ``ControlLog`` asks of the consumer that it keeps: one partition, read on to its end."""

    def __init__(self, broker: Any, tp: TopicPartition) -> None:
        self._broker, self._tp, self._next = broker, tp, 0

    async def end_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: len(self._broker.logs[tp]) for tp in tps}

    async def position(self, tp: TopicPartition) -> int:
        return self._next

    async def getmany(self, tp: TopicPartition, *, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        await asyncio.get_running_loop().run_in_executor(None, _nothing)
        records = self._broker.logs[tp][self._next :]
        self._next += len(records)
        return {tp: records}


def compacted(records: list[Any]) -> list[Any]:
    """Return the last record of each key, in order: what compaction leaves at the latest."""
    last = {record.key: record for record in records}
    return sorted(last.values(), key=lambda record: int(record.offset))


def _nothing() -> None:
    """Only the time that it takes."""
