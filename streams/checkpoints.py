"""What learners have learned, in the topic ``journey.checkpoints``: a start need not begin with the first sample.

A checkpoint is the whole state of one family's learner and the offset of the
sample that comes next. It is cut into chunks, and a head, written last, says
how many they are and their digest: without a head that fits there is none.
The keys name that offset (``churn/000000005000/0001``, ``.../head``), so no
checkpoint overwrites another: one that was torn by a crash leaves the one
before it as it was, and one that a worker writes after it has lost its
partition harms nobody. Of those that are whole the one that has learned most
counts, and deletes those before it with the next that is written.
"""

from __future__ import annotations

import asyncio
import logging
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson
from aiokafka import TopicPartition

from journey.entries import encode
from streams import topics
from streams.appends import Log
from streams.errors import CheckpointError
from streams.logs import consumer, read_partitions, spans_of
from streams.settings import Settings

log = logging.getLogger("journey.learn")

CHECKPOINT_VERSION: Final = 1
CHUNK_BYTES: Final = 500_000
HEAD: Final = "head"


class Checkpoint(NamedTuple):
    """A learner's state, when the sample at ``next`` comes next; ``published`` is its newest version by model."""

    next: int
    state: dict[str, Any]
    published: dict[str, int]


def records_of(family: str, checkpoint: Checkpoint, chunk_bytes: int = CHUNK_BYTES) -> list[tuple[bytes, bytes]]:
    """Return the records of a checkpoint in the order in which they have to be written."""
    body = encode(checkpoint.state)
    start = _start(family, checkpoint.next)
    chunks = [body[at : at + chunk_bytes] for at in range(0, len(body), chunk_bytes)]
    head = {
        "v": CHECKPOINT_VERSION, "family": family, "next": checkpoint.next, "chunks": len(chunks),
        "bytes": len(body), "sha256": sha256(body).hexdigest(), "published": checkpoint.published,
    }  # fmt: skip
    parts = [(f"{start}/{index:04}".encode(), chunk) for index, chunk in enumerate(chunks)]
    return [*parts, (f"{start}/{HEAD}".encode(), encode(head))]


class Reading:
    """Goes through the records of one family, oldest first; ``best`` is the whole checkpoint that learned most."""

    def __init__(self, family: str) -> None:
        self._family = family
        self._chunks: dict[bytes, bytes] = {}
        self._torn: dict[bytes, dict[str, Any]] = {}  # heads some of whose chunks were not there yet
        self.keys: dict[bytes, None] = {}  # of all records that are there
        self.best: tuple[dict[str, Any], bytes] | None = None  # head and body

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """Take the next record.

        Raises
        ------
        CheckpointError
            It is of a newer version of this program.
        """
        if key is None or not key.startswith(f"{self._family}/".encode()):
            return
        if value is None:
            self._chunks.pop(key, None)
            self.keys.pop(key, None)
            self._torn.pop(key.removesuffix(f"/{HEAD}".encode()), None)
            return
        self.keys[key] = None
        start, _, part = key.rpartition(b"/")
        if part == HEAD.encode():
            self._torn[start] = orjson.loads(value)
        else:
            self._chunks[key] = value
        # one that a late writer repeats lies behind the head, when compaction has taken the one before it
        if start in self._torn:
            self._head(start, self._torn[start])

    def _head(self, start: bytes, head: dict[str, Any]) -> None:
        if head["v"] > CHECKPOINT_VERSION:
            text = f"a checkpoint of {self._family} has version {head['v']}, we read {CHECKPOINT_VERSION}"
            raise CheckpointError(text)
        mine = [b"%b/%04d" % (start, index) for index in range(head["chunks"])]
        body = b"".join([self._chunks.get(key, b"") for key in mine])
        if sha256(body).hexdigest() != head["sha256"]:
            return
        del self._torn[start]
        if self.best is None or head["next"] >= self.best[0]["next"]:
            self.best = head, body
            # hundreds may not be compacted yet: what has learned less will not be asked for again
            self._chunks = {key: chunk for key, chunk in self._chunks.items() if key > mine[-1]}

    def found(self) -> Checkpoint | None:
        """Return the checkpoint that counts."""
        for head in self._torn.values():
            if self.best is None or head["next"] > self.best[0]["next"]:
                log.warning("the checkpoint of %s before sample %d is not whole", self._family, head["next"])
        if self.best is None:
            return None
        head, body = self.best
        return Checkpoint(head["next"], orjson.loads(body), head["published"])


class Checkpoints:
    """Reads and writes the checkpoints of the families whose samples this worker learns."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self._settings, self._log = settings, log
        self._topic = settings.topic(topics.CHECKPOINTS)
        self._there: dict[str, dict[bytes, None]] = {}  # keys of a family that are to go with the next checkpoint

    async def load(self, number: int, family: str) -> Checkpoint | None:
        """Return the last checkpoint of a family; None when there is none.

        Raises
        ------
        CheckpointError
            It is of a newer version of this program.
        """
        tp = TopicPartition(self._topic, number)
        reading = Reading(family)
        async with consumer(self._settings) as client:
            async for _, records in read_partitions(client, await spans_of(client, [tp])):
                for record in records:
                    reading.take(record.key, record.value)
        self._there[family] = reading.keys
        return reading.found()

    async def save(self, number: int, family: str, checkpoint: Checkpoint) -> int:
        """Write a checkpoint and delete those that have learned less; return its size in bytes once it is durable."""
        records = await asyncio.to_thread(records_of, family, checkpoint)
        mine = dict.fromkeys(key for key, _ in records)
        there = self._there.get(family, {})
        # only what has learned less: a successor may have written the other, and this may come to its log late
        behind = [key for key in there if key < records[0][0]]
        written: list[Any] = [*records, *((key, None) for key in behind)]
        self._there[family] = there | mine  # also when it fails half-way
        await self._log.append(self._topic, number, written)
        self._there[family] = {key: None for key in there if key not in behind} | mine
        return sum(len(value) for _, value in records)


def _start(family: str, offset: int) -> str:
    return f"{family}/{offset:012}"
