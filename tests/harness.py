"""Workers as processes of their own, which a test starts, kills, freezes and reads the logs of."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import orjson
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from journey.triggers import rfc3339
from streams import topics
from streams.app import CLOCK, parse_roles
from streams.logs import end_offsets, read_all
from streams.publish import Publisher
from streams.raw import RawRecord
from streams.replay import live_cuts, verify
from streams.settings import PREFIX, Settings, load
from streams.topics import Admin
from streams.unread import Unread
from tests.oracle import Finding, examine
from tests.servers import ROOT
from tests.waiting import eventually, eventually_sync

STOPPED: Final = 70  # exit status of a fail-stop
TAIL_CHARACTERS: Final = 6_000
NOWHERE: Final = "redis://127.0.0.1:9/0"  # the port of "discard": nothing answers

# Small everything, so that a few thousand events are many chunks, pages, groups and batches.
SMALL: Final = {
    "PAGE_ENTRIES": "20", "CHUNK_RECORDS": "50", "GROUP_CHUNKS": "8", "BATCH_BYTES": "20000", "SESSION_TIMEOUT": "3",
    "COMMIT_INTERVAL": "0.2", "FETCH_WAIT_MS": "100", "PARTITIONS": "4", "HTTP": "127.0.0.1:0",
    "CHECKPOINT_SAMPLES": "100",
}  # fmt: skip


class Chance:
    """Numbers as if drawn by lot, the same for the same seed: a run can be told again."""

    def __init__(self, *seed: object) -> None:
        self._seed, self._count = repr(seed), 0

    def below(self, limit: int) -> int:
        """Return a number from 0 up to, and without, the limit."""
        self._count += 1
        drawn = blake2b(f"{self._seed}/{self._count}".encode(), digest_size=8).digest()
        return int.from_bytes(drawn, "big") % limit

    def between(self, low: float, high: float) -> float:
        """Return a number between two."""
        return low + (high - low) * self.below(1 << 20) / (1 << 20)

    def one_of(self, *choices: Any) -> Any:
        """Return one of the choices."""
        return choices[self.below(len(choices))]


class Nursery:
    """Forks worker processes out of one that has imported everything; one for each process of the tests."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.e2e.worker", "--nursery"]
        if shutil.which("setpriv") is not None:
            # it ends with the process of the tests, however that ends, and its workers with it
            command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self.statuses: dict[int, int] = {}
        self._born: queue.SimpleQueue[int] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = orjson.loads(line)
            if "born" in told:
                self._born.put(told["born"])
            else:
                self.statuses[told["ended"]] = told["status"]

    def fork(self, order: dict[str, Any]) -> int:
        """Start a worker; return its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(order) + b"\n")
        self._process.stdin.flush()
        pid = self._born.get(timeout=60)
        self.statuses.pop(pid, None)  # of an earlier process with this id
        return pid


@cache
def nursery() -> Nursery:
    """Return the nursery of this process."""
    return Nursery()


@dataclass
class Worker:
    """A worker process of a deployment. ``planted``: arguments of tests/e2e/worker.py, none for the real thing."""

    name: str
    roles: str
    environment: dict[str, str]
    directory: Path
    planted: tuple[str, ...] = ()
    _pid: int | None = None

    @property
    def log(self) -> Path:
        """What it printed, over all its starts."""
        return self.directory / f"{self.name}.log"

    def start(self, *planted: str) -> Worker:
        """Start it; returns at once."""
        assert not self.is_running, f"{self.name} runs already"
        if planted:
            self.planted = planted
        order = {
            "roles": self.roles, "planted": self.planted, "environment": self.environment, "log": str(self.log),
        }  # fmt: skip
        self._pid = nursery().fork(order)
        return self

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._pid is not None, f"{self.name} was never started"
        return self._pid

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return None if self._pid is None else nursery().statuses.get(self._pid)

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._pid is not None and self.status is None

    @property
    def is_frozen(self) -> bool:
        """Whether a SIGSTOP holds it."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2][:1] == "T"
        except FileNotFoundError:
            return False

    def signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):  # it ends just now
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once (SIGKILL), frozen or not."""
        if self.is_running:
            self.signal(signal.SIGKILL)
            eventually_sync(lambda: not self.is_running)

    async def ended(self, *, within_seconds: float = 30.0) -> int:
        """Return its exit status once it has ended."""
        try:
            await eventually(lambda: not self.is_running, within_seconds=within_seconds)
        except AssertionError:
            self.signal(signal.SIGUSR1)  # it prints what it waits for
            await elapsed(1)
            raise AssertionError(f"{self.name} runs after {within_seconds:g} s\n{self.tail()}") from None
        status = self.status
        assert status is not None
        return status

    async def stopped(self, *, within_seconds: float = 30.0) -> int:
        """Ask it to end (SIGTERM); return its exit status."""
        self.signal(signal.SIGTERM)
        return await self.ended(within_seconds=within_seconds)

    def said(self, text: str) -> bool:
        """Whether its log has a text."""
        return self.log.exists() and text in self.log.read_text(errors="replace")

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-TAIL_CHARACTERS:] if self.log.exists() else ""


@dataclass
class Deployment:
    """One prefix on one broker, its workers and a publisher."""

    settings: Settings
    environment: dict[str, str]
    directory: Path
    publisher: Publisher
    workers: list[Worker] = field(default_factory=list)

    def worker(self, name: str, roles: str = "ingest,engine", *planted: str, **more: str) -> Worker:
        """Return a new worker, not started; ``more`` are settings of its own."""
        environment = self.environment | {PREFIX + key: value for key, value in more.items()}
        made = Worker(name, roles, environment, self.directory, planted)
        self.workers.append(made)
        return made

    async def publish(self, records: Iterable[RawRecord]) -> int:
        """Publish records; return when all are acknowledged."""
        return await self.publisher.publish(records)

    async def taken(self, *, within_seconds: float = 60.0) -> None:
        """Return when ingest has committed all that is in the raw topics."""
        async with Unread(self.settings) as unread:

            async def nothing_is_left() -> bool:
                return await unread.lag() == 0

            await self._eventually(nothing_is_left, within_seconds)

    async def folded(self, *, within_seconds: float = 60.0) -> None:
        """Return when the live state reflects the journal up to its end as of now."""
        ends = await end_offsets(self.settings, self.settings.topic(topics.JOURNAL))
        wanted = {number: end - 1 for number, end in ends.items()}
        await live_cuts(self.settings, at_least=wanted, within=within_seconds)

    @asynccontextmanager
    async def supervised(self) -> AsyncIterator[None]:
        """Start again whatever fail-stops, as any supervisor of processes does."""

        def restart() -> bool:
            for worker in self.workers:
                if worker.status == STOPPED:
                    worker.planted = ()
                    worker.start()
            return False

        task = asyncio.ensure_future(eventually(restart, within_seconds=3600))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def learned(self, *, within_seconds: float = 60.0) -> None:
        """Return when all samples are learned and kept, and all models adopted or not."""
        group = self.settings.app_id("learn")
        names = [self.settings.topic(name) for name in (topics.SAMPLES, topics.MODELS)]
        async with Admin(self.settings) as admin:

            async def all_is() -> bool:
                ends = {name: await end_offsets(self.settings, name) for name in names}
                done = await admin.committed(group)
                return all(
                    done.get((name, number), 0) >= end for name, mine in ends.items() for number, end in mine.items()
                )

            await self._eventually(all_is, within_seconds)

    async def at_rest(self, *, within_seconds: float = 60.0) -> None:
        """Return when everything published is taken and folded, and where somebody learns, learned.

        What is learned is adopted, which the journal takes again.
        """
        learns = any("learn" in parse_roles(worker.roles) for worker in self.workers)
        while True:
            control = await self._ends(topics.CONTROL)
            await self.taken(within_seconds=within_seconds)
            await self.folded(within_seconds=within_seconds)
            if not learns:
                return
            samples = await self._ends(topics.SAMPLES)
            await self.learned(within_seconds=within_seconds)
            if (samples, control) == (await self._ends(topics.SAMPLES), await self._ends(topics.CONTROL)):
                return

    async def _ends(self, topic: str) -> dict[int, int]:
        return await end_offsets(self.settings, self.settings.topic(topic))

    async def examined(self, *, unique_ids: bool = True, within_seconds: float = 60.0) -> Finding:
        """Come to rest, verify, stop all workers in order, and ask the oracle."""
        await self.at_rest(within_seconds=within_seconds)
        verdict = await verify(self.settings, within=within_seconds)
        await self.stopped()
        return await examine(self.settings, verdict, unique_ids=unique_ids)

    async def stopped(self) -> None:
        """End all workers in order (SIGTERM); each has to end with status 0."""
        running = [worker for worker in self.workers if worker.is_running]
        statuses = await asyncio.gather(*(worker.stopped() for worker in running))
        for worker, status in zip(running, statuses, strict=True):
            assert status == 0, worker.tail()

    async def committed(self, role: str) -> dict[tuple[str, int], int]:
        """Return what a role's group has committed."""
        async with Admin(self.settings) as admin:
            return await admin.committed(self.settings.app_id(role))

    async def members(self, role: str) -> int:
        """Return how many workers share a role's partitions; 0 while they are being shared out."""
        client = AIOKafkaAdminClient(bootstrap_servers=self.settings.kafka_url)
        await client.start()
        try:
            (answer,) = await client.describe_consumer_groups([self.settings.app_id(role)])
        except KafkaError:  # the coordinator is not known yet
            return 0
        finally:
            await client.close()
        _, _, state, _, _, members = answer.groups[0][:6]
        return len(members) if state == "Stable" else 0

    async def shared_by(self, role: str, count: int, *, within_seconds: float = 40.0) -> None:
        """Return when so many workers share a role's partitions."""

        async def share() -> bool:
            return await self.members(role) == count

        await self._eventually(share, within_seconds)

    async def records(self, topic: str) -> list[Any]:
        """Return all that is in a topic, named without prefix, now."""
        return [record async for record in read_all(self.settings, self.settings.topic(topic))]

    async def _eventually(self, holds: Any, within_seconds: float) -> None:
        try:
            await eventually(holds, within_seconds=within_seconds)
        except AssertionError as error:
            logs = "\n".join(f"--- {worker.name} ({worker.status})\n{worker.tail()}" for worker in self.workers)
            raise AssertionError(f"{error}\n{logs}") from None


@asynccontextmanager
async def deployed(url: str, prefix: str, directory: Path, **told: str) -> AsyncIterator[Deployment]:
    """Create the topics of a deployment; all its workers are killed at the end.

    ``told`` are settings, such as ``PARTITIONS="2"``; they win over `SMALL`.
    """
    names = SMALL | {"KAFKA_URL": url, "REDIS_URL": "", "TOPIC_PREFIX": f"{prefix}."} | told
    ours = {PREFIX + name: value for name, value in names.items()}
    settings = load(ours)
    directory.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)} | ours
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(Publisher(settings))
        deployment = Deployment(settings, environment, directory, publisher)
        try:
            yield deployment
        finally:
            for worker in deployment.workers:
                worker.kill()


def live(records: Iterable[RawRecord], at: int) -> Iterator[RawRecord]:
    """Yield the records of a generated shop as if they happened now, each event under a message id of its own.

    ``at`` (ms) is when they happened. What is no event at all stays as it is.
    """
    for number, record in enumerate(records):
        try:
            event = orjson.loads(record.value)
        except orjson.JSONDecodeError:
            event = None
        if not isinstance(event, dict):
            yield record
            continue
        for name in ("received_at", "sent_at"):
            event.pop(name, None)
        event |= {"message_id": f"live-{number}", "occurred_at": rfc3339(at)}
        yield RawRecord(record.topic, record.key, orjson.dumps(event), at)


async def elapsed(seconds: float) -> None:
    """Return after a while: for tests in which time itself is the matter."""
    end = time.monotonic() + seconds
    await eventually(lambda: time.monotonic() >= end, within_seconds=seconds + 30)


def told(type_: str, name: str, user: str, *, at: int, received_at: int | None = None, **data: Any) -> RawRecord:
    """Return one raw event of a known customer; ``at`` (ms) is when it happened by the customer's clock."""
    event = {
        "type": type_, "message_id": name, "user_id": user, "occurred_at": rfc3339(at), "data": data,
    }  # fmt: skip
    if received_at is not None:
        event["received_at"] = rfc3339(received_at)
    return RawRecord(f"events.{type_.partition('.')[0]}", f"u:{user}".encode(), orjson.dumps(event), at)


def view(name: str, user: str, at: int) -> RawRecord:
    """Return the smallest event there is."""
    return told("click.page_viewed", name, user, at=at)


def wall_ms() -> int:
    """Return the wall clock, in ms since 1970."""
    return CLOCK.wall()
