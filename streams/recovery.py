"""Reading the changelog back in bulk: an own consumer, whole fetches, while Faust keeps the membership alive.

Faust is told where the changelog ends, so that it finds nothing to recover
record by record; the load runs between its recovery and the resumption of the
sources, where nothing waits for an answer to the group's coordinator.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.customers import Customers
from streams.errors import BrokerUnavailableError, RevokedError, StoreDamagedError
from streams.logs import consumer, read_partitions, spans_of
from streams.settings import Settings

log = logging.getLogger("journey.table")

RETRY: Final = 1.0  # s until a broker that does not answer is asked again
AWAY: Final = (KafkaError, OSError, BrokerUnavailableError)


class Recovery:
    """Brings what a worker holds of the customer table up to the end of its changelog."""

    def __init__(self, settings: Settings, customers: Customers) -> None:
        self._settings, self.customers = settings, customers
        # held while a group is folded and written. What was begun before a rebalance may land after it, and be
        # committed: read back without it, the state would lie behind the commit
        self.step: asyncio.Lock | None = None
        self.records = 0  # read by the last load
        self.seconds = 0.0  # that the last load took

    def _tps(self, partitions: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self.customers.changelog, number) for number in sorted(partitions)]

    async def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        """Return where changelog partitions end now; nothing when that is not known soon.

        The group waits for this: no heartbeats are sent meanwhile.
        """
        tps = self._tps(partitions)
        if not tps:
            return {}
        try:
            async with asyncio.timeout(self._settings.session_timeout * 0.4), consumer(self._settings) as client:
                return {tp.partition: end for tp, end in (await client.end_offsets(tps)).items()}
        except (TimeoutError, *AWAY) as error:
            log.warning("the end of %s is not known yet (%s)", self.customers.changelog, error)
            return {}

    async def load(self, partitions: Iterable[int]) -> None:
        """Return when these partitions are ours: the whole changelog is stored, and their working copies are built.

        When a partition is taken away meanwhile this does not return: the next
        assignment cancels it.

        Raises
        ------
        TableRecordError
            A record of the changelog that is none of ours.
        StoreError
            What is read cannot be stored.
        """
        wanted = set(partitions)
        self.customers.keep_only(wanted)
        begin, self.records = time.monotonic(), 0
        try:
            if self.step is not None:
                async with self.step:
                    pass
            await self._load(wanted)
        except RevokedError:
            await asyncio.Event().wait()
        self.seconds = time.monotonic() - begin
        log.info("%d partitions recovered in %.1f s, %d records read", len(wanted), self.seconds, self.records)

    async def _load(self, wanted: set[int]) -> None:
        unread, damaged = wanted, set[int]()
        while True:
            try:
                while unread:
                    unread = await self._read(unread)
                for number in sorted(wanted):
                    await self.customers.build(number)
                return
            except AWAY as error:
                log.warning("recovery waits for the broker: %s: %s", type(error).__name__, error)
                await asyncio.sleep(RETRY)
            except StoreDamagedError as error:
                if error.partition in damaged:
                    raise
                log.warning("%s; it is made anew from the changelog", error)
                damaged.add(error.partition)
                self.customers.drop(error.partition)
                unread = unread | {error.partition}

    async def _read(self, partitions: set[int]) -> set[int]:
        """Read to the ends as of now; return the partitions that have to be read again, from their beginning."""
        again = set()
        async with consumer(self._settings) as client:
            logs = await spans_of(client, self._tps(partitions))
            spans = {tp: (self._begin(tp.partition, span), span[1]) for tp, span in logs.items()}
            async for tp, records in read_partitions(client, spans):
                if tp.partition in again or not records:
                    continue
                self.records += len(records)
                if not self.customers.take(tp.partition, records):
                    again.add(tp.partition)
                await asyncio.sleep(0)  # a fetch at a time: others have their turns
            for tp, (_, end) in spans.items():
                if tp.partition not in again and not self.customers.reached(tp.partition, end):
                    again.add(tp.partition)
        for number in sorted(again):
            log.warning("what is stored of partition %d is of another changelog; it is made anew", number)
        return again

    def _begin(self, partition: int, span: tuple[int, int]) -> int:
        start, fault = self.customers.begin(partition, span)
        if fault:
            log.warning("what is stored of partition %d is made anew from the changelog: %s", partition, fault)
        return start
