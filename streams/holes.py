"""Raw records that retention deleted before ingest had read them."""

from __future__ import annotations

from typing import NamedTuple

from aiokafka import TopicPartition

from streams import topics
from streams.errors import EpochError
from streams.logs import consumer, partitions_of, spans_of
from streams.settings import Settings
from streams.switch import begin_at
from streams.topics import Admin


class Hole(NamedTuple):
    """What is gone: ``lost`` records from ``begin`` on."""

    topic: str
    partition: int
    begin: int
    lost: int


async def accept(settings: Settings, *, do_it: bool) -> list[Hole]:
    """Return the holes between what ingest committed and what there is; with ``do_it`` let it go on behind them.

    Raises
    ------
    EpochError
        A worker still has the role ingest.
    """
    holes: list[Hole] = []
    async with Admin(settings) as admin, consumer(settings) as client:
        committed = await admin.committed(settings.app_id("ingest"))
        for name in (*topics.RAW, topics.CONTROL):
            tps = await partitions_of(client, settings.topic(name))
            for tp, (first, _) in sorted((await spans_of(client, tps)).items()):
                at = committed.get((tp.topic, tp.partition))
                if at is not None and at < first:
                    holes.append(Hole(tp.topic, tp.partition, at, first - at))
        if do_it and holes:
            if await admin.members(settings.app_id("ingest")):
                msg = "a worker has the role ingest: stop it, and run this again"
                raise EpochError(msg)
            goes_on = {TopicPartition(hole.topic, hole.partition): hole.begin + hole.lost for hole in holes}
            await begin_at(settings, "ingest", goes_on)
    return holes
