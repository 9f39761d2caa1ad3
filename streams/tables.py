"""The customer table: a Faust table written by one awaited, sealed batch for each group of pages.

Recovery keeps the record with the highest stamp for each key, not the last
one: a zombie's late write may be last. Losers are written again with the next
group, and ``min.compaction.lag.ms`` covers the time between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import faust
import orjson

from journey.engine import Shard
from journey.state import stamp
from streams import faust_fixes
from streams.appends import Appended, Log
from streams.errors import ForeignWriteError, TableRecordError

log = logging.getLogger("journey.table")


class CustomerTable(faust.Table):
    """Table of bytes to canonical JSON with a stamp ``at``; memory store only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._next: dict[int, int] = {}
        self._repair: dict[int, set[bytes]] = {}
        self._shards: dict[int, Shard] = {}

    def read(self, key: bytes) -> bytes | None:
        """Return a stored record."""
        found: bytes | None = self.data.data.get(key)
        return found

    def stored(self, partition: int) -> Iterable[tuple[bytes, bytes]]:
        """Return the records of one partition."""
        owner = self.data._key_partition
        return [(key, value) for key, value in self.data.data.items() if owner.get(key) == partition]

    def shard(self, partition: int) -> Shard:
        """Return the working copy of a journal partition, built from what is stored when first asked for."""
        shard = self._shards.get(partition)
        if shard is None:
            shard = self._shards[partition] = Shard(partition, self.read, self.stored(partition))
        return shard

    def rebuild(self, partition: int, poisoned: set[tuple[int, int]]) -> Shard:
        """Return a working copy built anew, which leaves out poisoned entries."""
        self._shards.pop(partition, None)
        shard = self.shard(partition)
        shard.poisoned = poisoned
        return shard

    def shards(self) -> list[Shard]:
        """Return the working copies there are."""
        return list(self._shards.values())

    async def write(self, journal: Log, shards: Iterable[Shard]) -> None:
        """Make what was folded durable, then visible here, then forget it in the shards."""
        await asyncio.gather(*(self._write(journal, shard) for shard in shards))

    async def _write(self, journal: Log, shard: Shard) -> None:
        records = shard.changes()
        written = dict(records)
        losers = [
            (key, value)
            for key in sorted(self._repair.pop(shard.number, ()))
            if key not in written and (value := self.read(key)) is not None
        ]
        appended = await journal.append(self.changelog_topic_name, shard.number, losers + records)
        self._check_contiguous(shard.number, appended)
        self.data.data.update(written)
        self.data._key_partition.update(dict.fromkeys(written, shard.number))
        shard.written()

    def _check_contiguous(self, partition: int, appended: list[Appended]) -> None:
        for batch in appended:
            expected = self._next.get(partition, batch.base)
            if expected != batch.base:
                msg = f"{self.changelog_topic_name}/{partition}: our batch lies at {batch.base}, not at {expected}"
                raise ForeignWriteError(msg)
            self._next[partition] = batch.base + batch.count

    def apply_changelog_batch(self, batch: list[Any]) -> None:
        """Recover: the highest stamp for each key wins. Faust would log a failure, and wait for ever."""
        with faust_fixes.fail_stop():
            self._recover(batch)

    def _recover(self, batch: list[Any]) -> None:
        kept: list[Any] = []
        newest: dict[bytes, bytes] = {}
        for event in batch:
            message = event.message
            partition, key, value = message.partition, message.key, message.value
            self._next[partition] = message.offset + 1
            known = newest.get(key) or self.read(key)
            try:
                is_older = known is not None and stamp(value) < stamp(known)
            except (orjson.JSONDecodeError, KeyError, TypeError):
                where = f"{message.topic}/{partition} at {message.offset}"
                msg = f"{where}: the record of {key!r:.60} cannot be read: {value!r:.60}"
                raise TableRecordError(msg) from None
            if is_older:
                self._repair.setdefault(partition, set()).add(key)
            else:
                newest[key] = value
                self._repair.get(partition, set()).discard(key)
                kept.append(event)
        if kept:
            super().apply_changelog_batch(kept)

    def forget(self, partitions: set[int]) -> None:
        """Partitions were revoked: what is known of their changelog and their working copies is void.

        The records stay: for a partition that comes back at once Faust reads
        its changelog on from where it last stood, and the others it drops.
        """
        for partition in partitions:
            self._next.pop(partition, None)
            self._repair.pop(partition, None)
            self._shards.pop(partition, None)
