"""What a worker of the engine knows of the customer table, without Faust: written, recovered, guarded.

Recovery keeps the record with the highest stamp for each key, not the last
one: a zombie's late write may be last. Losers are written again with the next
group, and ``min.compaction.lag.ms`` covers the time between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from journey.engine import Shard
from journey.state import stamp
from streams.appends import Appended, Log
from streams.errors import ForeignWriteError, TableRecordError


class Customers:
    """Records of bytes to canonical JSON with a stamp ``at``, by journal partition, and their working copies.

    Where the records lie is the subclass's business: it has ``records``, all
    of them by key, ``owners``, the journal partition of each key, and
    ``changelog_topic_name``.
    """

    records: dict[bytes, bytes]
    owners: dict[bytes, int]
    changelog_topic_name: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._next: dict[int, int] = {}
        self._repair: dict[int, set[bytes]] = {}
        self._shards: dict[int, Shard] = {}

    def read(self, key: bytes) -> bytes | None:
        """Return a stored record."""
        return self.records.get(key)

    def stored(self, partition: int) -> Iterable[tuple[bytes, bytes]]:
        """Return the records of one partition."""
        owners = self.owners
        return [(key, value) for key, value in self.records.items() if owners.get(key) == partition]

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
        changes = shard.changes()
        written = dict(changes)
        losers = [
            (key, value)
            for key in sorted(self._repair.pop(shard.number, ()))
            if key not in written and (value := self.read(key)) is not None
        ]
        appended = await journal.append(self.changelog_topic_name, shard.number, losers + changes)
        self._check_contiguous(shard.number, appended)
        self.records.update(written)
        self.owners.update(dict.fromkeys(written, shard.number))
        shard.written()

    def _check_contiguous(self, partition: int, appended: list[Appended]) -> None:
        for batch in appended:
            expected = self._next.get(partition, batch.base)
            if expected != batch.base:
                msg = f"{self.changelog_topic_name}/{partition}: our batch lies at {batch.base}, not at {expected}"
                raise ForeignWriteError(msg)
            self._next[partition] = batch.base + batch.count

    def recover(self, messages: Sequence[Any]) -> None:
        """Take back records of the changelog, in its order: the highest stamp for each key wins.

        Raises
        ------
        TableRecordError
            A record that is none of ours.
        """
        for message in messages:
            partition, key, value = message.partition, message.key, message.value
            known = self.read(key)
            try:
                is_older = known is not None and stamp(value) < stamp(known)
            except (orjson.JSONDecodeError, KeyError, TypeError):
                where = f"{message.topic}/{partition} at {message.offset}"
                msg = f"{where}: the record of {key!r:.60} cannot be read: {value!r:.60}"
                raise TableRecordError(msg) from None
            self._next[partition] = message.offset + 1
            if is_older:
                self._repair.setdefault(partition, set()).add(key)
            else:
                self._repair.get(partition, set()).discard(key)
                self.records[key] = value
                self.owners[key] = partition

    def forget(self, partitions: set[int]) -> None:
        """Partitions were revoked: their working copies are void.

        The records stay: for a partition that comes back at once Faust reads
        its changelog on from where it last stood, and the others it drops. So
        what is known of the changelog stays as well: where our next append
        has to lie, and which keys have to be written again.
        """
        for partition in partitions:
            self._shards.pop(partition, None)
