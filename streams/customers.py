"""The customer table without Faust: what a worker holds of it, how it is read back, and how it is written.

Recovery keeps the record with the highest stamp for each key, not the last
one: a zombie's late write may be last. Losers are written again with the next
group, and ``min.compaction.lag.ms`` covers the time between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final, Protocol

import orjson

from journey.documents import UNAIDED, Sight
from journey.engine import Shard
from journey.samples import JOURNAL
from journey.scoring import Library
from journey.state import Customer, Partition, partition_key, read_customer, read_partition, stamp
from journey.timers import Agenda
from streams.appends import Appended, Record
from streams.errors import ForeignWriteError, RevokedError, TableRecordError
from streams.stores import NOTHING, Mark, Progress, Store, mark, not_open

Prepare = Callable[[Partition], Awaitable[None]]

NOTED: Final = 2_000  # stored records whose timers are noted at a time


class Appends(Protocol):
    """The changelog, to append to."""

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> list[Appended]:
        """Return once all records are acknowledged, in order."""


class ChangelogRecord(Protocol):
    """A record of the changelog as it is read."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> Any: ...
    @property
    def value(self) -> Any: ...


@dataclass
class Held:
    """A journal partition that is ours, from its assignment to its revocation."""

    progress: Progress
    shard: Shard | None = None
    unproven: Mark | None = None  # the first record to be read has to be this one
    # the timers of all that is stored, when nothing was when it began: noted while it is read, since parsing costs most
    agenda: Agenda | None = None


class Customers:
    """The records of the journal partitions this worker owns, and their working copies.

    Parameters
    ----------
    store
        Where the records are kept.
    changelog
        Name of the topic they are written to.
    library, prepare
        Where the models are that the partitions use, and what brings those
        of a partition before its working copy is built.
    journal
        What samples call their source.
    """

    def __init__(
        self, store: Store, changelog: str, library: Library | None = None, prepare: Prepare | None = None,
        journal: str = JOURNAL,
    ) -> None:  # fmt: skip
        self.store, self.changelog = store, changelog
        self.library = Library() if library is None else library
        self._prepare, self._journal = prepare, journal
        self._held: dict[int, Held] = {}

    def read(self, partition: int, key: bytes) -> bytes | None:
        """Return a stored record."""
        return self.store.get(partition, key)

    def stored(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield the records of one partition."""
        return self.store.scan(partition)

    # --- reading back

    def begin(self, partition: int, log: tuple[int, int]) -> tuple[int, str]:
        """Take a partition; return the offset from which its changelog has to be read, and what was dropped and why.

        Parameters
        ----------
        log
            Offsets at which the changelog partition begins and ends.
        """
        begin, end = log
        progress, fault = self.store.open(partition), ""
        last = progress.mark
        self._held[partition] = Held(progress, unproven=last, agenda=Agenda() if last is None else None)
        if last is not None and not begin <= last.offset < end:
            fault = f"record {last.offset}, the last one stored, is not in the log ({begin} to {end})"
            self.drop(partition)
            last = None
        return (begin if last is None else last.offset), fault

    def take(self, partition: int, records: Sequence[ChangelogRecord]) -> bool:
        """Take the next records of a changelog partition; False when what is stored turns out to be of another one.

        Then nothing is stored any more, and the changelog has to be read from
        its beginning.

        Raises
        ------
        TableRecordError
            A record that is none of ours.
        RevokedError
            The partition was taken away meanwhile.
        """
        held = self._ours(partition)
        if held.unproven is not None:
            first = records[0]
            if mark(first.offset, first.key or b"", first.value or b"") != held.unproven:
                self.drop(partition)
                return False
            held.unproven, records = None, records[1:]
        if records:
            changed, repair = self._newest(partition, records, held)
            last = records[-1]
            self._put(partition, held, changed, last.offset + 1, mark(last.offset, last.key, last.value), repair)
        return True

    def _newest(
        self, partition: int, records: Sequence[ChangelogRecord], held: Held
    ) -> tuple[dict[bytes, bytes], set[bytes]]:
        known = self.store.get_many(partition, {record.key for record in records if record.key is not None})
        stamps = {key: stamp(value) for key, value in known.items()}
        changed: dict[bytes, bytes] = {}
        repair, agenda = set(held.progress.repair), held.agenda
        for record in records:
            key, value = record.key, record.value
            at, customer = self._parsed(partition, record)
            if at < stamps.get(key, at):
                repair.add(key)
            else:
                stamps[key], changed[key] = at, value
                repair.discard(key)
                if agenda is not None and customer is not None:
                    agenda.note(customer)
        return changed, repair

    def _parsed(self, partition: int, record: ChangelogRecord) -> tuple[int, Customer | None]:
        """Return a record's stamp, and the customer if it is one."""
        try:
            if record.key.startswith(b"\0"):
                at, customer = stamp(record.value), None
            else:
                customer = read_customer(record.value)
                at = customer["at"]
            if isinstance(at, int):
                return at, customer
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
            pass
        where = f"{self.changelog}/{partition} at {record.offset}"
        text = f"{where}: a record that cannot be read"
        raise TableRecordError(text)

    def _put(
        self, partition: int, held: Held, records: dict[bytes, bytes], behind: int, last: Mark, repair: Iterable[bytes]
    ) -> None:
        progress = Progress(behind, last, frozenset(repair))
        self.store.put(partition, records, progress)
        held.progress = progress

    def reached(self, partition: int, end: int) -> bool:
        """The changelog was read to its end, where our next append has to lie; False as with `take`."""
        held = self._ours(partition)
        if held.unproven is not None:
            self.drop(partition)
            return False
        held.progress = held.progress._replace(next=end)
        return True

    def drop(self, partition: int) -> None:
        """Remove what is stored of a partition of ours: its changelog has to be read from its beginning."""
        self._ours(partition)
        self.store.clear(partition)
        self._held[partition] = Held(NOTHING, agenda=Agenda())

    async def build(self, partition: int) -> None:
        """Build the working copy of a partition from what is stored, in turns with whatever else runs."""
        held = self._ours(partition)
        raw = self.store.get(partition, partition_key(partition))
        if raw is not None and self._prepare is not None:
            await self._prepare(read_partition(raw, partition))
        shard = Shard(partition, partial(self.store.get, partition), (), self.library, self._journal)
        if held.agenda is not None:
            shard.agenda = held.agenda
        else:
            stored = self.store.scan(partition)
            while some := list(islice(stored, NOTED)):
                shard.take_timers(some)
                await asyncio.sleep(0)
                if self._held.get(partition) is not held:
                    raise RevokedError(not_open(partition))
        held.shard, held.agenda = shard, None

    # --- working

    def holds(self, partition: int) -> bool:
        """Whether a partition is ours now."""
        return partition in self._held

    def _ours(self, partition: int) -> Held:
        held = self._held.get(partition)
        if held is None:
            raise RevokedError(not_open(partition))
        return held

    def shard(self, partition: int) -> Shard:
        """Return the working copy of a journal partition of ours, built from what is stored when there is none.

        Raises
        ------
        RevokedError
            It is not ours.
        """
        held = self._ours(partition)
        if held.shard is None:
            held.shard = Shard(
                partition, partial(self.store.get, partition), self.store.scan(partition), self.library, self._journal
            )
        return held.shard

    def rebuild(self, partition: int, poisoned: set[tuple[int, int]]) -> Shard:
        """Return a working copy built anew, which leaves out poisoned entries."""
        self._ours(partition).shard = None
        shard = self.shard(partition)
        shard.poisoned = poisoned
        return shard

    def shards(self) -> list[Shard]:
        """Return the working copies there are."""
        return [held.shard for held in self._held.values() if held.shard is not None]

    def sight(self, partition: int) -> Sight:
        """Return what is in force in a journal partition; nothing when it is not ours."""
        held = self._held.get(partition)
        return UNAIDED if held is None or held.shard is None else Sight(held.shard.models, held.shard.declared)

    def size(self) -> int:
        """Return how many records are held, about: customers, and one for each journal partition."""
        return sum(self.store.size(partition) for partition in self._held)

    async def write(self, journal: Appends, shards: Iterable[Shard]) -> None:
        """Make what was folded durable, then visible here, then forget it in the shards."""
        await asyncio.gather(*(self._write(journal, shard) for shard in shards))

    async def _write(self, journal: Appends, shard: Shard) -> None:
        number = shard.number
        held = self._ours(number)
        records = shard.changes()
        written = dict(records)
        losers = [
            (key, value)
            for key in sorted(held.progress.repair)
            if key not in written and (value := self.store.get(number, key)) is not None
        ]
        appended = await journal.append(self.changelog, number, losers + records)
        if self._held.get(number) is not held:
            return  # taken away meanwhile: the changelog has it, and whoever owns it now reads it there
        end = held.progress.next
        for batch in appended:
            if batch.base != end:
                text = f"{self.changelog}/{number}: our batch lies at {batch.base}, not at {end}"
                raise ForeignWriteError(text)
            end = batch.base + batch.count
        key, value = records[-1]
        self._put(number, held, written, end, mark(end - 1, key, value), ())
        shard.written()

    def forget(self, partitions: Iterable[int]) -> None:
        """Partitions were revoked: their working copies and what is known of their changelogs' ends is void.

        What is stored stays, and so does what has to be repaired: a partition
        that comes back is read on from there.
        """
        for partition in partitions:
            if self._held.pop(partition, None) is not None:
                self.store.close(partition)

    def keep_only(self, partitions: Iterable[int]) -> None:
        """Say which partitions were assigned: what is stored of others is given back."""
        self.store.keep_only(partitions)
