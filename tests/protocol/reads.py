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
            yield tp, broker.logs[tp][begin:end]


def _nothing() -> None:
    """Only the time that it takes."""
