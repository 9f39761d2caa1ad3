"""Chunks: all records of one topic-partition that one fetch returned are ONE Faust event. Public extension points."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import faust
from faust.transport.utils import DefaultSchedulingStrategy

from streams import faust_fixes

GROUP_BYTES: Final = 2_000_000  # a group ends with the chunk that reaches this; some 6,000 events, a tenth of a second


class Chunk:
    """Looks like a consumed record: the value is the list of real records, the offset is that of the last one."""

    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    checksum: int | None = None
    serialized_key_size = 0
    timestamp_type: int | None = None

    def __init__(self, records: list[Any]) -> None:
        last = records[-1]
        self.topic, self.partition, self.offset = last.topic, last.partition, last.offset
        self.timestamp, self.value = last.timestamp, records
        self.serialized_value_size = sum([len(record.value) for record in records if record.value is not None])


def chunk_scheduler(limits: dict[str, int]) -> type[DefaultSchedulingStrategy]:
    """Return a scheduler that cuts chunks of at most so many records; topics without a limit stay record by record."""
    faust_fixes.light_topics.update(limits)

    class ChunkScheduler(DefaultSchedulingStrategy):
        def iterate(self, records: dict[Any, list[Any]]) -> Iterator[tuple[Any, Any]]:
            rest = {}
            for tp, batch in records.items():
                limit = limits.get(tp.topic)
                if limit is None:
                    rest[tp] = batch
                else:
                    for start in range(0, len(batch), limit):
                        yield tp, Chunk(batch[start : start + limit])
            if rest:
                yield from super().iterate(rest)

    return ChunkScheduler


class ChunkSchema(faust.Schema):
    """Hands the chunk through undecoded."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        return message.value


class Inbox:
    """What arrived for an agent and was not begun yet.

    ``take`` gives all that is there, and waits only for the first; the agent
    acknowledges. When a revocation or a stop begins, what was not begun is
    let go, so that nobody waits for it, and so is what still arrives until
    the partitions are assigned anew: the next owner reads it again.
    """

    def __init__(self, app: Any, stream: Any, most: int) -> None:
        self._app, self._stream, self._most = app, stream, most
        self._waiting: deque[Any] = deque()
        self._filler: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._is_open = True

    def wake(self) -> None:
        """End a waiting ``take`` now."""
        self._wake.set()

    async def __aenter__(self) -> Inbox:
        self._filler = asyncio.ensure_future(self._fill())
        self._filler.add_done_callback(self._filled)
        faust_fixes.before_waiting.append(self.drop)
        faust_fixes.after_recovery.append(self.reopen)
        return self

    async def __aexit__(self, *_: object) -> None:
        faust_fixes.before_waiting.remove(self.drop)
        faust_fixes.after_recovery.remove(self.reopen)
        if self._filler is not None:
            self._filler.cancel()

    async def _fill(self) -> None:
        async for event in self._stream.noack().events():
            if not self._is_open:
                faust_fixes.let_go_of(self._app, event.message)
                continue
            # first in the queue, then wait for room: nothing is ever in between, where ``drop`` would miss it
            self._waiting.append(event)
            self._wake.set()
            while len(self._waiting) >= self._most:
                self._room.clear()
                await self._room.wait()

    def _filled(self, filler: asyncio.Task[None]) -> None:
        self._wake.set()
        if not filler.cancelled() and (error := filler.exception()) is not None:
            faust_fixes.leave(error)

    async def take(self, within: float | None = None) -> list[Any] | None:
        """Return what arrived, maybe nothing after ``within`` seconds or a ``wake``; None when the stream has ended."""
        if not self._waiting:
            if self._filler is None or self._filler.done():
                return None
            try:
                async with asyncio.timeout(within):
                    await self._wake.wait()
            except TimeoutError:
                return []
        taken: list[Any] = []
        size = 0
        # the loop must come back soon, whatever has piled up: heartbeats, commits and marks wait for it
        while self._waiting and size < GROUP_BYTES:
            taken.append(self._waiting.popleft())
            size += taken[-1].message.serialized_value_size
        self._room.set()
        if not self._waiting and (self._filler is None or not self._filler.done()):
            self._wake.clear()
        return taken

    def drop(self, app: Any) -> None:
        """Let go of what was not begun, and of what arrives from now on."""
        if app is self._app:
            self._is_open = False
            while self._waiting:
                faust_fixes.let_go_of(app, self._waiting.popleft().message)
            self._room.set()

    def reopen(self, app: Any, _: object) -> None:
        """Partitions are assigned, and stand where they go on."""
        if app is self._app:
            self._is_open = True
