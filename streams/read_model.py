"""The read model in Redis: customers as websites and people read them. Never the truth; losing it loses nothing.

Customers follow after the changelog acknowledged them, never before, in the
background: the engine goes on when Redis is away. A record is written only
over an older or equal one, since a zombie may come last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import orjson
import redis.asyncio as aioredis
from redis.exceptions import RedisError

from journey.documents import UNAIDED, Sight, document
from journey.state import read_customer, stamp

log = logging.getLogger("journey.read_model")

EPOCH: Final = 1
AWAY: Final = (RedisError, OSError)  # what any call raises while Redis is away
ANONYMOUS_TTL: Final = 90 * 86_400  # s
MOST_AT_ONCE: Final = 500
RETRY: Final = 1.0  # s

# KEYS: record, ...; ARGV: stamp, ttl, value, ... Written only over an older or equal stamp.
_WRITE: Final = """
local written = 0
for i, key in ipairs(KEYS) do
  local old = redis.call('HGET', key, 'at')
  if not old or tonumber(old) <= tonumber(ARGV[3*i-2]) then
    redis.call('HSET', key, 'at', ARGV[3*i-2], 'json', ARGV[3*i])
    if ARGV[3*i-1] ~= '0' then redis.call('EXPIRE', key, ARGV[3*i-1]) end
    written = written + 1
  end
end
return written
"""

# KEYS: meta; ARGV: partition, position shown when last looked (-1: none), position shown from now on. Returns the one
# found: another than expected means that Redis lost something, or that somebody else wrote.
_ADVANCE: Final = """
local found = redis.call('HGET', KEYS[1], ARGV[1]) or '-1'
if tonumber(found) == tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return tonumber(found)
"""


class ReadModel(Protocol):
    """What the engine tells, after the truth is durable."""

    def follow(self, partition: int, keys: Iterable[str], at: int) -> None:
        """Note that customers of a partition changed; ``at`` is the journal offset now durable. Never blocks."""

    def disown(self, partitions: Iterable[int]) -> None:
        """Forget partitions that are another worker's now. Never blocks."""


async def about(url: str) -> dict[str, str] | str:
    """Return the version of a Redis and what it drops when it is full, or why it does not answer."""
    client: Any = aioredis.from_url(url, socket_timeout=3, socket_connect_timeout=3, decode_responses=True)
    try:
        told = await client.info()
    except (RedisError, OSError, TimeoutError) as error:
        return str(error) or type(error).__name__
    finally:
        await client.aclose()
    return {"version": str(told.get("redis_version", "?")), "policy": str(told.get("maxmemory_policy", "?"))}


class NoReadModel:
    """For a worker without Redis."""

    def follow(self, partition: int, keys: Iterable[str], at: int) -> None:
        """Do nothing."""

    def disown(self, partitions: Iterable[int]) -> None:
        """Do nothing."""


def customer_name(key: str) -> str:
    """Return the Redis key of a customer."""
    return f"journey:{EPOCH}:c:{key}"


META: Final = f"journey:{EPOCH}:meta"


class RedisReadModel:
    """Follows the engine. What Redis missed is a set of keys, never copies, so an outage costs no memory to speak of.

    Redis holds the journal offset up to which it shows each partition. That
    offset moves on only from the one seen last, and only when no customer is
    waiting; where it stands elsewhere (a new owner, a Redis that came back
    empty), everything above it is shown first.

    Parameters
    ----------
    read
        Returns a customer's record as it is durable, by its journal partition and table key.
    stored
        Returns the records of a journal partition.
    prefix
        Before every key in Redis.
    sight
        Returns what is in force in a journal partition.
    """

    def __init__(
        self,
        url: str,
        read: Callable[[int, bytes], bytes | None],
        stored: Callable[[int], Iterable[tuple[bytes, bytes]]],
        prefix: str = "",
        sight: Callable[[int], Sight] = lambda _partition: UNAIDED,
    ) -> None:
        self._redis: Any = aioredis.from_url(url, socket_timeout=5, socket_connect_timeout=2)
        self._read, self._stored, self._prefix, self._sight = read, stored, prefix, sight
        self._waiting: dict[str, int] = {}  # customer: partition
        self._at: dict[int, int] = {}  # partition: offset to show, where Redis does not show it yet
        self._shown: dict[int, int | None] = {}  # of the partitions we own: offset shown; None: not looked up yet
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.is_away = False
        self.counts = {"written": 0, "failures": 0}
        self._fresh_at = 0.0  # steady time (s) up to which all that followed is shown, while something is waiting

    def own(self, partition: int, at: int) -> None:
        """A partition is ours now, and folded up to ``at``: what Redis does not show of it follows."""
        self._shown[partition] = None
        if at >= 0:
            self.follow(partition, (), at)

    def disown(self, partitions: Iterable[int]) -> None:
        """Forget partitions: their next owner sees what Redis lacks."""
        gone = set(partitions)
        for partition in gone:
            self._at.pop(partition, None)
            self._shown.pop(partition, None)
        self._waiting = {key: partition for key, partition in self._waiting.items() if partition not in gone}

    def follow(self, partition: int, keys: Iterable[str], at: int) -> None:
        """Note changed customers; they are written soon."""
        if partition in self._shown:
            if not self._waiting and not self._at:
                self._fresh_at = time.monotonic()
            for key in keys:
                self._waiting[key] = partition
            self._at[partition] = at
            self._wake.set()

    def behind(self) -> int:
        """Return how many customers Redis does not show as they are."""
        return len(self._waiting)

    def stale(self) -> float:
        """Return how old (s) what Redis shows is; 0 when it shows all."""
        return time.monotonic() - self._fresh_at if self._waiting or self._at else 0.0

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Write what is waiting, for at most a second, and close."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                while (self._waiting or self._at) and not self.is_away:
                    await asyncio.sleep(0.02)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._redis.aclose()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting or self._at:
                try:
                    await self._look_up()
                    await self._write_some()
                    if self.is_away:
                        log.warning("Redis is back: %d customers to show", len(self._waiting))
                        self.is_away = False
                except (RedisError, OSError) as error:
                    self.counts["failures"] += 1
                    if not self.is_away:
                        log.warning("Redis is away (%s): the engine goes on, the read model is stale", error)
                        self.is_away = True
                    await asyncio.sleep(RETRY)
                except Exception as error:
                    # whatever it is, it must be seen, and must not end this in silence
                    self.counts["failures"] += 1
                    if not self.is_away:
                        log.exception("the read model is stale (%s): the engine goes on", type(error).__name__)
                        self.is_away = True
                    await asyncio.sleep(RETRY)

    async def _look_up(self) -> None:
        """See how far Redis shows the partitions that are new to us."""
        new = [partition for partition, shown in self._shown.items() if shown is None and partition in self._at]
        if new:
            found = await self._redis.hmget(self._prefix + META, [str(partition) for partition in new])
            for partition, offset in zip(new, found, strict=True):
                self._catch_up(partition, -1 if offset is None else int(offset))

    def _catch_up(self, partition: int, shown: int) -> None:
        """Let everything above what Redis shows follow."""
        if partition in self._shown:
            self._shown[partition] = None  # until all of it waits: a look that fails half-way is done again
            for key, value in self._stored(partition):
                if not key.startswith(b"\0") and stamp(value) > shown:
                    self._waiting[key.decode()] = partition
            self._shown[partition] = shown

    async def _write_some(self) -> None:
        begin = time.monotonic()
        keys = list(self._waiting)[:MOST_AT_ONCE]
        at = {}
        if len(keys) == len(self._waiting):
            at = {number: offset for number, offset in self._at.items() if self._shown.get(number) is not None}
        taken = {key: self._waiting.pop(key) for key in keys}
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                names: list[str] = []
                values: list[Any] = []
                for key, partition in taken.items():
                    raw = self._read(partition, key.encode())
                    if raw is not None:
                        reflects, shown = document(read_customer(raw), partition, self._sight(partition))
                        names.append(self._prefix + customer_name(key))
                        values += [reflects, ANONYMOUS_TTL if key.startswith("a:") else 0, orjson.dumps(shown)]
                if names:
                    pipe.eval(_WRITE, len(names), *names, *values)
                for number, offset in at.items():
                    pipe.eval(_ADVANCE, 1, self._prefix + META, str(number), self._shown[number], offset)
                pipe.set(self._prefix + "journey:epoch", EPOCH)
                answers = await pipe.execute()
        except BaseException:
            for key, partition in taken.items():
                if partition in self._shown:
                    self._waiting.setdefault(key, partition)
            raise
        self.counts["written"] += len(names)
        if at:  # all that was waiting is written
            self._fresh_at = begin
        for (number, offset), found in zip(at.items(), answers[1 if names else 0 :], strict=False):
            if self._shown.get(number) == found:
                self._shown[number] = offset
                if self._at.get(number) == offset:
                    del self._at[number]
            else:
                self._catch_up(number, found)


class RedisReader:
    """Reads what the read model shows."""

    def __init__(self, url: str, prefix: str = "") -> None:
        self._redis: Any = aioredis.from_url(url, socket_timeout=5, socket_connect_timeout=2)
        self._prefix = prefix

    async def customer(self, key: str) -> dict[str, Any] | None:
        """Return a customer's document, or None."""
        raw = await self._redis.hget(self._prefix + customer_name(key), "json")
        if raw is None:
            return None
        shown: dict[str, Any] = orjson.loads(raw)
        return shown

    async def positions(self) -> dict[int, int]:
        """Return the journal offset shown, for each partition."""
        found = await self._redis.hgetall(self._prefix + META)
        return {int(number): int(offset) for number, offset in found.items()}

    async def show(self, rows: list[tuple[str, int, dict[str, Any]]]) -> None:
        """Write customers (key, stamp, document), each only over an older or equal one."""
        names = [self._prefix + customer_name(key) for key, _, _ in rows]
        values = [
            part
            for key, at, shown in rows
            for part in (at, ANONYMOUS_TTL if key.startswith("a:") else 0, orjson.dumps(shown))
        ]
        await self._redis.eval(_WRITE, len(names), *names, *values)

    async def reached(self, partition: int, at: int) -> None:
        """Note the journal offset that is shown now."""
        await self._redis.hset(self._prefix + META, str(partition), at)

    async def clear(self) -> int:
        """Remove every customer; return how many there were."""
        removed = 0
        async for name in self._redis.scan_iter(match=self._prefix + customer_name("*"), count=1000):
            removed += await self._redis.delete(name)
        await self._redis.delete(self._prefix + META)
        return removed

    async def close(self) -> None:
        """Close."""
        await self._redis.aclose()
