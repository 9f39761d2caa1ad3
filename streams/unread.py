"""What ingest still has to read: its group's committed offsets against the ends of the raw partitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from journey.positions import source_name
from streams import topics
from streams.errors import UnknownTopicError
from streams.settings import Settings
from streams.topics import Admin


class Unread:
    """Looks up lag and the oldest unread record; use as an async context manager.

    Which partitions there are is looked up each time: a broker that was
    restarted tells its topics bit by bit, and what it does not tell of yet is
    not read to its end.

    Raises
    ------
    UnknownTopicError
        By every look: the broker does not tell of a raw topic.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin = Admin(settings)
        self._consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka_url, enable_auto_commit=False, fetch_max_wait_ms=200
        )

    async def __aenter__(self) -> Unread:
        await self._admin.__aenter__()
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
        await self._admin.__aexit__()

    async def _sources(self) -> list[TopicPartition]:
        counts = await self._admin.partitions()
        names = [self._settings.topic(name) for name in (*topics.RAW, topics.CONTROL)]
        if unknown := [name for name in names if not counts.get(name)]:
            text = f"the broker does not tell of {', '.join(unknown)}"
            raise UnknownTopicError(text)
        return [TopicPartition(name, number) for name in names for number in range(counts[name])]

    async def behind(self) -> dict[TopicPartition, tuple[int, int]]:
        """Return (next offset to read, end offset) of each raw partition that is not read to its end."""
        sources = await self._sources()
        committed = await self._admin.committed(self._settings.app_id("ingest"))
        ends = await self._consumer.end_offsets(sources)
        begins = await self._consumer.beginning_offsets(sources)
        found = {}
        for tp, end in ends.items():
            at = max(committed.get((tp.topic, tp.partition), 0), begins[tp])
            if at < end:
                found[tp] = (at, end)
        return found

    async def cut_off(self, applied: Mapping[str, int]) -> str | None:
        """Tell which raw partition ends below what was applied from it, in words; None when none does.

        Somebody has deleted the topic and created it anew, and with it went
        what ingest had committed: it starts again at 0, and every fold would
        skip the new records as repeats.
        """
        known = {source_name(tp.topic, tp.partition): tp for tp in await self._sources()}
        taken = {known[source]: offset for source, offset in applied.items() if source in known}
        ends = await self._consumer.end_offsets(list(taken)) if taken else {}
        for tp, end in ends.items():
            if end <= taken[tp]:
                return f"{tp.topic}/{tp.partition} ends at {end}, {taken[tp] + 1} records of it were taken before"
        return None

    async def lag(self) -> int:
        """Return how many raw records are not committed by ingest."""
        return sum(end - at for at, end in (await self.behind()).values())

    async def oldest(self) -> int | None:
        """Return the timestamp (ms) of the oldest record that ingest has not committed; None when it has all.

        0 when the first record of some partition did not arrive in time: it may be as old as can be.
        """
        behind = await self.behind()
        if not behind:
            return None
        self._consumer.assign(list(behind))
        for tp, (at, _) in behind.items():
            self._consumer.seek(tp, at)
        stamps: list[int] = []
        waiting = set(behind)
        for _ in range(20):
            fetched = await self._consumer.getmany(*waiting, timeout_ms=500, max_records=len(behind))
            for tp, records in fetched.items():
                stamps.append(records[0].timestamp)
                waiting.discard(tp)
            if not waiting:
                return min(stamps)
        return 0
