"""The journey engine under load: two workers on a backlog, measured from the first record to the last."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import orjson
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.processes import Meter, Process, peak_mib, until
from journey.state import partition_key
from streams import topics
from streams.logs import consumer, end_offsets, partitions_of, read_partitions, spans_of
from streams.publish import Publisher
from streams.raw import RawRecord
from streams.settings import Settings
from streams.topics import Admin

WARM: Final = 2_000  # events folded before the measurement: what is loaded and built once is not measured
SESSION: Final = 120.0  # s: the workers are held still while the backlog is loaded
WITHIN: Final = 180.0
ROLES: Final = ("ingest", "engine")
WORKER: Final = "from streams.cli import main; main()"


@dataclass
class EngineRun:
    """What a run came to. ``pages`` are the journal's records as (partition, offset, value), in order."""

    events: int
    seconds: float
    cpu: dict[str, float]  # CPU seconds of each process
    mib: dict[str, float]
    start_up: dict[str, float]  # CPU seconds of a worker until it has taken its first events
    customers_written: int
    groups: int  # of pages folded between two writes
    triggers: int
    partitions: int
    pages: list[tuple[int, int, bytes]] = field(repr=False)

    def us(self, name: str) -> float:
        """Return the CPU microseconds of a process for each event."""
        return self.cpu[name] / self.events * 1e6


async def run(
    settings: Settings, records: Sequence[RawRecord], directory: Path, *, broker: int | None = None,
    roles: Sequence[str] = ROLES, prepare: Callable[[], Awaitable[None]] | None = None,
) -> EngineRun:  # fmt: skip
    """Load events into the raw topics of a new deployment and let an ingest and an engine worker take them.

    Parameters
    ----------
    settings
        Of the deployment; its topics must not exist.
    broker
        Process id of the broker, to be measured too.
    roles, prepare
        A worker is started for each role; what is awaited before that.

    Raises
    ------
    EndedError
        A worker ended.
    TimeoutError
        The workers did not finish.
    """
    await create(settings)
    if prepare is not None:
        await prepare()
    async with Publisher(settings) as publisher, Admin(settings) as admin:
        with both(settings, directory, roles) as workers:
            pids: dict[str, Callable[[], int]] = {role: partial(_pid, worker) for role, worker in workers.items()}
            if broker is not None:
                process = broker
                pids["broker"] = lambda: process
            async with Meter(pids) as meter:
                await publisher.publish(records[:WARM])
                await _folded(meter, publisher, admin, settings)
                start_up = meter.readings[-1][1]
            before = await _lengths(settings)
            for worker in workers.values():
                worker.freeze()
            for start in range(WARM, len(records), 20_000):
                await publisher.publish(records[start : start + 20_000])
            async with Meter(pids) as meter:
                for worker in workers.values():
                    worker.thaw()
                await _folded(meter, publisher, admin, settings)
                mib = {role: peak_mib(worker.pid) for role, worker in workers.items()}
    pages, taken_at = await _journal(settings)
    folded_at, customers_written, groups = await _changelog(settings, before, taken_at)
    sent = await end_offsets(settings, settings.topic(topics.TRIGGERS))
    ends = dict.fromkeys((*roles, "broker"), folded_at) | {"ingest": max(at for at, _ in taken_at.values())}
    return EngineRun(
        events=len(records) - WARM, seconds=(folded_at - meter.begin) / 1000,
        cpu={name: meter.used(name, ends[name]) for name in pids}, mib=mib,
        start_up={name: start_up[name] for name in workers},
        customers_written=customers_written, groups=groups, triggers=sum(sent.values()),
        partitions=settings.partitions, pages=pages,
    )  # fmt: skip


def _pid(worker: Process) -> int:
    return worker.pid


@contextmanager
def both(settings: Settings, directory: Path, roles: Sequence[str] = ROLES) -> Iterator[dict[str, Process]]:
    """Yield a worker for each role of a deployment, by role."""
    told = settings.model_dump(exclude_none=True)
    environment = {f"JOURNEY_{name.upper()}": str(value) for name, value in told.items()}
    with ExitStack() as ending:
        yield {
            role: ending.enter_context(
                Process(
                    f"{settings.topic_prefix}{role}", ["-c", WORKER, "worker", "--roles", role], environment, directory
                )
            )
            for role in roles
        }


async def create(settings: Settings) -> None:
    """Create the topics, and return when the broker shows them: a busy one takes a while."""
    async with Admin(settings) as admin:
        await admin.create()

        async def is_shown() -> bool:
            return len(await admin.partitions()) == len(topics.catalogue(settings))

        await until(is_shown, within=WITHIN)


async def add_topic(settings: Settings, name: str) -> None:
    """Create a topic that is no part of the deployment, and return when the broker shows it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_url)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, settings.partitions, 1)])

        async def is_shown() -> bool:
            return name in await admin.list_topics()

        await until(is_shown, within=WITHIN)
    finally:
        await admin.close()


async def _folded(meter: Meter, publisher: Publisher, admin: Admin, settings: Settings) -> None:
    """Return when ingest has committed all that was published, and the engine the journal as it is then."""

    async def taken() -> bool:
        meter.check()
        return await publisher.taken(admin)

    await until(taken, within=WITHIN)
    journal = settings.topic(topics.JOURNAL)
    ends = await end_offsets(settings, journal)

    async def folded() -> bool:
        meter.check()
        committed = await admin.committed(settings.app_id("engine"))
        return all(committed.get((journal, number), 0) >= end for number, end in ends.items())

    await until(folded, within=WITHIN)


async def _lengths(settings: Settings) -> dict[int, int]:
    return await end_offsets(settings, topics.changelog(settings))


async def _journal(settings: Settings) -> tuple[list[tuple[int, int, bytes]], dict[int, tuple[int, int]]]:
    """Return the journal's pages, and when and where the last one with events was appended to each partition."""
    pages: list[tuple[int, int, bytes]] = []
    last: dict[int, tuple[int, int]] = {}
    async with consumer(settings) as client:
        spans = await spans_of(client, await partitions_of(client, settings.topic(topics.JOURNAL)))
        async for tp, records in read_partitions(client, spans):
            for record in records:
                pages.append((tp.partition, record.offset, record.value))
                if b'"k":"event"' in record.value:
                    last[tp.partition] = (record.timestamp, record.offset)
    return pages, last


async def _changelog(
    settings: Settings, begins: dict[int, int], needed: dict[int, tuple[int, int]]
) -> tuple[int, int, int]:
    """Return when the last event's effect was durable (ms), and the records and the groups written since ``begins``."""
    name = topics.changelog(settings)
    folded_at: dict[int, int] = {}
    customers = groups = 0
    async with consumer(settings) as client:
        ends = await client.end_offsets(await partitions_of(client, name))
        spans = {tp: (begins[tp.partition], end) for tp, end in ends.items()}
        async for tp, records in read_partitions(client, spans):
            number = tp.partition
            for record in records:
                if number in folded_at:
                    break  # what a tick wrote later
                if record.key != partition_key(number):
                    customers += 1
                    continue
                groups += 1
                if number in needed and orjson.loads(record.value)["at"] >= needed[number][1]:
                    folded_at[number] = record.timestamp
    return max(folded_at.values()), customers, groups
