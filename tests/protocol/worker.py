"""A worker process: the production agents, and around them what Faust does for them, in steps.

Of Faust there is: chunks, the stream, what is waited for at a revocation, its
acknowledgements and commits, recovery of the changelog in pieces, and the
callbacks of ``streams.faust_fixes`` in their places.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NoReturn

from aiokafka.errors import KafkaError
from faust.types import TP

from streams import faust_fixes
from streams.chunks import Chunk
from streams.errors import ShellError
from streams.settings import Settings
from tests.protocol.broker import Broker, Group, Producer
from tests.protocol.loop import StepLoop
from tests.protocol.oracle import ViolationError

if TYPE_CHECKING:
    from streams.appends import Log

JOINED: Final = "joined"  # has told the group that it is there, owns nothing
RECOVERING: Final = "recovering"  # has its partitions, reads the changelog
RUNNING: Final = "running"
DRAINING: Final = "draining"  # its partitions are being revoked; finishes what it has begun
DEAD: Final = "dead"


class Left(BaseException):
    """The process has ended here; nothing after this line happens."""


def leave(error: BaseException) -> NoReturn:
    """In the place of ``faust_fixes.leave``: end the simulated process."""
    loop: Any = events._get_running_loop()
    if not loop.is_closed():
        loop.owner.ended(error)
    raise Left


class Message:
    """What Faust keeps of a record on its way."""

    __slots__ = ("__weakref__", "offset", "partition", "serialized_value_size", "topic", "tp")

    def __init__(self, tp: TP, chunk: Chunk) -> None:
        self.tp, self.topic, self.partition = tp, tp.topic, tp.partition
        self.offset, self.serialized_value_size = chunk.offset, chunk.serialized_value_size


class Event:
    """A Faust event: one chunk."""

    __slots__ = ("_worker", "message", "value")

    def __init__(self, worker: Worker, tp: TP, records: list[Any]) -> None:
        self._worker, self.value = worker, records
        self.message = Message(tp, Chunk(records))

    def ack(self) -> None:
        worker, message = self._worker, self.message
        if worker.state != DEAD:
            worker.unacked.discard(message)
            worker.acked[message.tp] = max(message.offset, worker.acked.get(message.tp, -1))


class Stream:
    """What an agent iterates over."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.queue: deque[Event] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def noack(self) -> Stream:
        return self

    def events(self) -> Stream:
        return self

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Event:
        while not self.queue:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        event = self.queue.popleft()
        self._worker.unacked.add(event.message)
        return event

    def bring(self, event: Event) -> None:
        self.queue.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Worker:
    """One process with one role."""

    role: str

    def __init__(self, name: str, broker: Broker, group: Group, settings: Settings, log: Log, most: int) -> None:
        self.name, self.broker, self.group, self.settings = name, broker, group, settings
        self.is_beside_slow = False  # what it does in threads takes its time
        self.state = JOINED
        self.loop = StepLoop(self)
        self.producer = Producer(broker, name, most)
        self.log: Any = log
        self.log._producer = self.producer
        self.unacked: set[Message] = set()
        self.acked: dict[TP, int] = {}
        self.assigned: list[TP] = []
        self.numbers: list[int] = []
        self.generation = -1
        self.position: dict[TP, int] = {}
        self.begins: dict[TP, int] = {}
        self.committed: dict[TP, int] = {}
        self.is_stopping = self.has_hole = False
        self.error: BaseException = ViolationError("nothing")
        self.full: set[TP] = set()  # held back: nothing of them is fetched
        self.seen_ends: dict[TP, int] = {}  # as the last fetch told
        self.stream = Stream(self)
        consumer = SimpleNamespace(
            _unacked_messages=self.unacked, on_buffer_full=self.full.add, on_buffer_drop=self.full.discard,
            highwater=self.seen_ends.get, _committed_offset=self.committed,
        )  # fmt: skip
        self.app: Any = SimpleNamespace(conf=SimpleNamespace(id=name), consumer=consumer)
        self.agent: Any = None

    def begin(self) -> None:
        """Let the agent begin."""
        self.run(self._work())

    async def _work(self) -> None:
        with faust_fixes.fail_stop():
            await self.agent.run(self.stream)

    def run(self, coro: Any) -> Any:
        """Begin something in this process; return its task."""
        task = self.loop.create_task(coro)
        self.loop.step()
        return task

    def call(self, function: Any, *args: Any) -> None:
        """Call something in this process, now."""
        self.loop.call_soon(self._called, function, args)
        self.loop.step()

    @staticmethod
    def _called(function: Any, args: tuple[Any, ...]) -> None:
        try:
            function(*args)
        except Left:
            return

    def ended(self, error: BaseException) -> None:
        """The process leaves by itself."""
        self.error = error
        self.broker.left.append(self)
        self.kill()

    def kill(self) -> None:
        """Nothing of the process goes on; what it has sent is on its way."""
        self.state = DEAD
        self.loop.shut()
        self.broker.gone(self.producer)

    # --- the group

    @property
    def is_zombie(self) -> bool:
        """Whether it works on without being in its group any more."""
        return self.state not in (JOINED, DEAD) and self not in self.group.members

    def revoke(self, *, with_late: bool) -> None:
        """A revocation begins: what was not begun is let go; one more event may just have come out of the stream."""
        self.state = DRAINING
        late = self.waiting() if with_late else []
        self.stream.queue.clear()
        self.call(self._let_go)
        if late and self.state != DEAD:
            self.fetch(late[0], 2)

    def _let_go(self) -> None:
        for let_go in list(faust_fixes.before_waiting):
            let_go(self.app)

    def revoked(self) -> None:
        """The revocation ends: commit, and forget."""
        self.commit()
        self.call(self.forget)
        if self.state != DEAD:
            self.acked.clear()
            self.committed.clear()
            self.seen_ends.clear()
            self.full.clear()
            self.assigned, self.state = [], JOINED

    def forget(self) -> None:
        """What the app does when its partitions were revoked."""
        raise NotImplementedError

    def assign(self, numbers: list[int]) -> None:
        """Take these partition numbers of all topics."""
        self.numbers = numbers
        self.assigned = self.group.tps_of(numbers)
        self.generation = self.group.generation
        self.state = RECOVERING

    def is_at_work(self) -> bool:
        """Whether something that was begun before a rebalance is not done yet, for which recovery waits."""
        return False

    def recover(self, most: int) -> None:
        """Read on in the changelog, if there is one; at its end, go on to work."""
        self.resume()

    def resume(self) -> None:
        """Seek the sources, tell the agents, and begin to fetch."""
        logs = self.broker.logs
        self.committed.clear()
        self.committed.update({tp: at for tp in self.assigned if (at := self.group.committed.get(tp)) is not None})
        self.begins = {tp: self.committed.get(tp, 0) for tp in self.assigned}
        self.position = dict(self.begins)
        faust_fixes._begins[self.name] = self.begins
        self.call(self._recovered, {tp: len(logs[tp]) for tp in self.assigned})
        if self.state != DEAD:
            self.state = RUNNING

    def _recovered(self, ends: dict[TP, int]) -> None:
        with faust_fixes.fail_stop():
            self.agent.begin(self.app, ends)
            self.began()
            for recovered in list(faust_fixes.after_recovery):
                recovered(self.app, ends)

    def began(self) -> None:
        """What the app does besides, when its partitions are ready."""

    # --- fetching and committing

    def waiting(self) -> list[TP]:
        """Return the partitions that have something to fetch."""
        logs, position, full = self.broker.logs, self.position, self.full
        return [tp for tp in self.assigned if tp in position and position[tp] < len(logs[tp]) and tp not in full]

    def fetch(self, tp: TP, most: int) -> None:
        """Hand the next records of a partition to the agent."""
        begin, log = self.position[tp], self.broker.logs[tp]
        records = log[begin : begin + most]
        self.seen_ends[tp] = len(log)
        self.position[tp] = begin + len(records)
        self.stream.bring(Event(self, tp, records))
        self.loop.step()

    def commit(self) -> int:
        """Commit what was acknowledged; return how many partitions; a stale generation is refused."""
        if self.generation != self.group.generation or self not in self.group.members:
            return 0
        done = 0
        for tp, offset in self.acked.items():
            if tp in self.assigned and offset + 1 > self.committed.get(tp, 0):
                self.committed[tp] = offset + 1
                self.group.commit(tp, offset + 1)
                done += 1
        return done


async def quietly(look: Any) -> None:
    """Look for ticks once; one that fails may be there or not, and the next look decides anew."""
    with faust_fixes.fail_stop():
        try:
            await look
        except (KafkaError, OSError, ShellError):
            return
