"""Where a worker keeps the customer records it has: a copy of the changelog, and how far the copy goes.

A store changes by whole steps: records and the progress that covers them, all
or none. So after any crash it stands where some step ended, and what the
changelog has beyond that is read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

from streams.errors import RevokedError

OWN: Final = b"\0\0"  # keys of a store's own records; partition records begin with one zero byte


class Mark(NamedTuple):
    """A changelog record by which its log is known again: its offset, and the hash of its key and value."""

    offset: int
    digest: str


class Progress(NamedTuple):
    """How much of a changelog partition a store reflects.

    ``next`` is the first offset it does not; ``mark`` the last record it does,
    None before the first. ``repair`` are keys whose last record in the log is
    older than the one stored: they have to be written again.
    """

    next: int
    mark: Mark | None
    repair: frozenset[bytes]


NOTHING: Final = Progress(0, None, frozenset())


def mark(offset: int, key: bytes, value: bytes) -> Mark:
    """Return the mark of a changelog record."""
    whole = blake2b(digest_size=16)
    for part in (key, value):
        whole.update(len(part).to_bytes(4, "big") + part)
    return Mark(offset, whole.hexdigest())


class Store(Protocol):
    """Records by journal partition. A partition has to be opened before anything else is asked of it.

    Raises
    ------
    RevokedError
        From any method but ``open`` and ``close``: the partition is not open.
    StoreDamagedError
        What is stored cannot be read back; ``clear`` makes it usable again.
    """

    def open(self, partition: int) -> Progress:
        """Return how far what is stored goes; NOTHING when nothing usable is."""

    def get(self, partition: int, key: bytes) -> bytes | None:
        """Return a record."""

    def get_many(self, partition: int, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return those of some records that are there."""

    def put(self, partition: int, records: Mapping[bytes, bytes], progress: Progress) -> None:
        """Store records and progress, all or none."""

    def scan(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield all records, as they were when it began or later."""

    def size(self, partition: int) -> int:
        """Return how many records of a partition are stored, about."""

    def clear(self, partition: int) -> None:
        """Forget everything of an open partition; it stays open."""

    def close(self, partition: int) -> None:
        """The partition is not ours for now: what is stored may serve when it comes back."""

    def keep_only(self, partitions: Iterable[int]) -> None:
        """All other partitions are somebody else's: give back the memory they take."""


class MemoryStore:
    """Records in dictionaries. A partition that is closed keeps them until it is known who got it."""

    def __init__(self) -> None:
        self._stored: dict[int, dict[bytes, bytes]] = {}
        self._progress: dict[int, Progress] = {}
        self._open: dict[int, dict[bytes, bytes]] = {}

    def open(self, partition: int) -> Progress:
        """Return how far the records go that are still there."""
        self._open[partition] = self._stored.setdefault(partition, {})
        return self._progress.get(partition, NOTHING)

    def _records(self, partition: int) -> dict[bytes, bytes]:
        try:
            return self._open[partition]
        except KeyError:
            raise RevokedError(not_open(partition)) from None

    def get(self, partition: int, key: bytes) -> bytes | None:
        """Return a record."""
        return self._records(partition).get(key)

    def get_many(self, partition: int, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return those of some records that are there."""
        records = self._records(partition)
        return {key: records[key] for key in keys if key in records}

    def put(self, partition: int, records: Mapping[bytes, bytes], progress: Progress) -> None:
        """Store records and progress."""
        self._records(partition).update(records)
        self._progress[partition] = progress

    def scan(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield all records as they are now."""
        # a list of keys and nothing else: who looks at them may take turns with who writes
        records = self._records(partition)
        for key in list(records):
            yield key, records[key]

    def size(self, partition: int) -> int:
        """Return how many records of a partition are stored."""
        return len(self._records(partition))

    def clear(self, partition: int) -> None:
        """Forget everything of a partition."""
        self._records(partition).clear()
        self._progress.pop(partition, None)

    def close(self, partition: int) -> None:
        """Keep the records: a partition mostly comes back at once."""
        self._open.pop(partition, None)

    def keep_only(self, partitions: Iterable[int]) -> None:
        """Drop the records of all other partitions."""
        for partition in self._stored.keys() - set(partitions):
            self._open.pop(partition, None)
            self._progress.pop(partition, None)
            del self._stored[partition]


def not_open(partition: int) -> str:
    """Return what to say of a partition that is not ours."""
    return f"partition {partition} is not ours any more: what was folded of it is not written"
