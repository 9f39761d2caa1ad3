"""Customers on disk: a RocksDB for each journal partition, for more of them than memory holds.

Each step is one write batch with the progress in it, so a folder is at every
moment what some step left. Nothing is synced: a killed process loses nothing,
a machine that loses power loses the last steps, which the changelog has. A
folder that is missing, torn, of another changelog or of another fold is made
anew from the changelog.
"""

from __future__ import annotations

import fcntl
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, NoReturn

import orjson
from rocksdict import BlockBasedOptions, Cache, DbClosedError, DBCompressionType, Options, Rdict, WriteBatch

from journey.state import FOLD_VERSION
from streams.errors import RevokedError, StoreDamagedError, StoreError, StoreInUseError
from streams.stores import NOTHING, OWN, Mark, Progress, not_open

log = logging.getLogger("journey.store")

VERSION: Final = 1  # of what a folder looks like
PROGRESS: Final = OWN + b"progress"
RECORDS: Final = b"\0\1"  # the first key that is no store's own
CACHE_BYTES: Final = 64 << 20  # of blocks, for all partitions together
BUFFER_BYTES: Final = 8 << 20  # of what is not in a table file yet, for each partition, twice
SCANNED: Final = 500  # records in memory at a time
OPEN_FILES: Final = 128  # for each partition
TORN: Final = ("Corruption", "Invalid argument", "No such file")  # how RocksDB tells of files that are not right


class RocksStore:
    """The records of one changelog below a folder, used by one process at a time.

    Parameters
    ----------
    folder
        Made if need be, parents too.
    changelog
        Name of the changelog that is stored; each has a folder of its own.

    Raises
    ------
    StoreInUseError
        Another process uses it.
    StoreError
        The folder cannot be made or written.
    """

    def __init__(self, folder: Path, changelog: str) -> None:
        self._folder, self._changelog = folder / changelog, changelog
        self._open: dict[int, Rdict] = {}
        self._cache = Cache(CACHE_BYTES)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self._folder / "LOCK").open("a+b")
        except OSError as error:
            text = f"the store cannot be made in {self._folder}: {error}"
            raise StoreError(text) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            text = f"another worker uses the store in {self._folder}: give each one its own JOURNEY_DATADIR"
            raise StoreInUseError(text) from None

    def release(self) -> None:
        """Close everything, and let another process use the folder."""
        for partition in list(self._open):
            self.close(partition)
        self._lock.close()

    def open(self, partition: int) -> Progress:
        """Return how far what is stored goes; what cannot be used is removed, with a warning."""
        try:
            if partition not in self._open:
                self._open[partition] = self._opened(partition)
            progress, fault = self._read_progress(partition)
        except StoreDamagedError as error:
            progress, fault = NOTHING, f"is damaged ({error})"
        if fault:
            log.warning("the store of partition %d %s; it is made anew from the changelog", partition, fault)
            self.clear(partition)
        return progress

    def get(self, partition: int, key: bytes) -> bytes | None:
        """Return a record."""
        with self._told(partition) as db:
            found: bytes | None = db.get(key)
            return found

    def get_many(self, partition: int, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return those of some records that are there."""
        wanted: list[Any] = list(keys)
        with self._told(partition) as db:
            found: Any = db.get(wanted)
            return {key: value for key, value in zip(wanted, found, strict=True) if value is not None}

    def put(self, partition: int, records: Mapping[bytes, bytes], progress: Progress) -> None:
        """Store records and progress in one write batch."""
        batch = WriteBatch(raw_mode=True)
        for key, value in records.items():
            batch.put(key, value)
        batch.put(PROGRESS, self._told_progress(progress))
        with self._told(partition) as db:
            db.write(batch)

    def scan(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield all records as they were when it began, one at a time from the disk."""
        last, some = RECORDS, [(RECORDS, b"")]
        while some:
            with self._told(partition) as db:
                some = _behind(db, last)
            if some:
                last = some[-1][0]
                yield from some

    def size(self, partition: int) -> int:
        """Return about how many records of a partition are stored; the database's own estimate."""
        with self._told(partition) as db:
            return int(db.property_int_value("rocksdb.estimate-num-keys") or 0)

    def clear(self, partition: int) -> None:
        """Remove a partition's files; it stays open, with nothing in it."""
        self.close(partition)
        self._remove(partition)
        self._open[partition] = self._opened(partition)

    def close(self, partition: int) -> None:
        """Close its files; they stay."""
        db = self._open.pop(partition, None)
        if db is not None:
            db.close()

    def keep_only(self, partitions: Iterable[int]) -> None:
        """Close all others; their files serve when they come back."""
        for partition in self._open.keys() - set(partitions):
            self.close(partition)

    def _path(self, partition: int) -> Path:
        return self._folder / str(partition)

    def _opened(self, partition: int) -> Rdict:
        try:
            return Rdict(str(self._path(partition)), _options(self._cache))
        except Exception as error:  # all that rocksdict raises is of this class
            self._tell(partition, error)

    def _remove(self, partition: int) -> None:
        try:
            shutil.rmtree(self._path(partition), ignore_errors=False)
        except FileNotFoundError:
            return
        except OSError as error:
            text = f"the store in {self._path(partition)} cannot be removed: {error}"
            raise StoreError(text) from error

    def _told_progress(self, progress: Progress) -> bytes:
        return orjson.dumps(
            {
                "v": VERSION, "changelog": self._changelog, "fold": FOLD_VERSION, "next": progress.next,
                "mark": progress.mark and list(progress.mark), "repair": sorted(key.hex() for key in progress.repair),
            }
        )  # fmt: skip

    def _read_progress(self, partition: int) -> tuple[Progress, str]:
        """Return the progress, and what speaks against using what is stored."""
        raw = self.get(partition, PROGRESS)
        if raw is None:
            return NOTHING, "does not say how far it goes" if next(self.scan(partition), None) else ""
        told = orjson.loads(raw)
        if told.get("v") != VERSION:
            return NOTHING, f"is of format {told.get('v')}, not {VERSION}"
        if told["changelog"] != self._changelog:
            return NOTHING, f"is of {told['changelog']}, not of {self._changelog}"
        if told["fold"] != FOLD_VERSION:
            return NOTHING, f"is of fold version {told['fold']}, not {FOLD_VERSION}"
        mark = Mark(*told["mark"]) if told["mark"] else None
        return Progress(told["next"], mark, frozenset(bytes.fromhex(key) for key in told["repair"])), ""

    @contextmanager
    def _told(self, partition: int) -> Iterator[Rdict]:
        """Yield an open partition's files, and name what goes wrong with them."""
        db = self._open.get(partition)
        if db is None:
            raise RevokedError(not_open(partition))
        try:
            yield db
        except DbClosedError:
            raise RevokedError(not_open(partition)) from None
        except Exception as error:
            self._tell(partition, error)

    def _tell(self, partition: int, error: Exception) -> NoReturn:
        text = f"the store in {self._path(partition)}: {error}"
        if any(sign in str(error) for sign in TORN):
            raise StoreDamagedError(partition, text) from error
        raise StoreError(text) from error


def _behind(db: Rdict, last: bytes) -> list[tuple[bytes, bytes]]:
    """Return the next records after this key; none at the end, and only there.

    An iterator keeps the files open, so none may outlive this function, not
    even in a traceback. And it ends in silence where a file is torn.
    """
    records: Any = db.items(from_key=last)
    after = db.iter()
    try:
        some = [(key, value) for key, value in islice(records, SCANNED + 1) if key != last]
        if not some:
            after.seek(last)
            if after.valid() and after.key() == last:
                after.next()
            after.status()
        return some
    finally:
        del records, after


def _options(cache: Cache) -> Options:
    """Small everything: the defaults take gigabytes for each partition."""
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_bloom_filter(10, block_based=False)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(table)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_write_buffer_size(BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_max_open_files(OPEN_FILES)
    options.set_keep_log_file_num(2)
    options.set_max_total_wal_size(4 * BUFFER_BYTES)
    return options
