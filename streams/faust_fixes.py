"""All corrections of Faust, in one place. Verified against faust-streaming 0.15.3 alone; any other version is refused.

Five defects of that version lose events, repeat them, or never commit them:

1. On a planned rebalance the book-keeping of a partition is dropped before
   its last commit (faust-streaming issue #502): ``_revoked``.
2. Recovery hands a live, changing set of partitions to the consumer thread;
   when it becomes empty, aiokafka takes that for "all"; and a fetch from
   before a rebalance empties what was just sought: ``_getmany``.
3. After recovery, source partitions are resumed before they are sought back
   to where they were committed (issue #596), by apps with tables and by apps
   without: ``_recovered``.
4. With a chunk for each Faust event every chunk looks like a gap, and only
   one for each partition is ever committed: ``_new_offset``, ``_add_gap``.
5. Partitions that never had a commit are not sought anywhere, and stay
   wherever prefetching had got to: ``_recovered``.

A sixth is in the pure-Python stream alone, which runs where the compiled one
does not: it acknowledges what it skips during a rebalance (``_ack``). And the
member that assigns partitions passes over topics that its broker does not know
yet, as after a restart; nobody then reads them, and the rebalance that follows
may end with everybody waiting: ``_grouped`` starts that member again.

Besides, the consumer's hard-coded fetch wait becomes a setting, fetches keep a
pace (``_paced_fetch``), a stop waits for what is in flight, but not for ever
(``_wait_empty``), and the records of topics that are delivered in chunks are
made as light ones (``_consumer_record``).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final, NamedTuple, NoReturn
from weakref import WeakKeyDictionary, WeakSet

import faust
from aiokafka.consumer.fetcher import Fetcher, PartitionRecords
from faust.assignor.partition_assignor import PartitionAssignor
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer, ThreadDelegateConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from streams.errors import FaustVersionError, UnknownTopicError
from streams.speech import words_of

VERIFIED: Final = "0.15.3"
STOPPED: Final = 70  # exit status of a fail-stop (EX_SOFTWARE)
FIXES: Final = ("revoke", "frozen", "seek_first", "chunk_commit", "seek_fresh", "skipped")
STOP_PATIENCE: Final = 10.0  # s that a stop waits for what is in flight
FETCH_PATIENCE: Final = 0.2  # s that a fetch waits for records: a rebalance waits for it
IDLE: Final = 0.05  # s until it is looked again which partitions to fetch

log = logging.getLogger("journey.faust")


class LightRecord(NamedTuple):
    """A consumed record of a topic that is delivered in chunks: a fifth of what a ``ConsumerRecord`` costs."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


_light_record = partial(tuple.__new__, LightRecord)
light_topics: set[str] = set()

# called when a revocation or a stop begins, before events in flight are waited for: agents let go of what they hold
before_waiting: list[Callable[[Any], None]] = []
# called with an app and the end offset of each of its source partitions, when its tables are recovered and its sources
# stand where they go on, before they are resumed
after_recovery: list[Callable[[Any, dict[Any, int]], None]] = []
_fetch: dict[str, int] = {}
_pace = {"s": 0.0}  # least time between two fetches from one node: of Faust's consumers, and of all that found nothing
_installed: dict[str, Any] = {}
left_out: set[str] = set()  # names of corrections that are not installed, for tests that show what they cure
# by a consumer's subscriptions, the one thing that it and its fetcher share: node and when to fetch from it again
_paces: WeakKeyDictionary[Any, dict[int, float]] = WeakKeyDictionary()
_of_faust: WeakSet[Any] = WeakSet()
_begins: dict[str, dict[Any, int]] = {}  # app: where each source partition is read from in this assignment


def check_version(found: str) -> None:
    """Refuse any Faust but the verified one.

    Raises
    ------
    FaustVersionError
        Another version is installed.
    """
    if found != VERIFIED:
        msg = (
            f"faust-streaming {found} is installed, {VERIFIED} is needed: defects of {VERIFIED} that lose or repeat "
            f"events are worked around by replacing its internals, which nobody has checked in {found}. "
            f"Run: pip install faust-streaming=={VERIFIED}"
        )
        raise FaustVersionError(msg)


def apply(
    *, fetch_wait_ms: int = 500, fetch_min_bytes: int = 1, fetch_pace_ms: int = 0, without: frozenset[str] = frozenset()
) -> None:
    """Install the corrections; ``without`` names ones to leave out, for the tests that show what they cure."""
    check_version(faust.__version__)
    _fetch.update(fetch_max_wait_ms=fetch_wait_ms, fetch_min_bytes=fetch_min_bytes)
    _pace["s"] = fetch_pace_ms / 1000
    if _installed:
        return
    _installed.update(
        revoked=Consumer.on_partitions_revoked,
        waiting=Consumer.wait_empty,
        create=AIOKafkaConsumerThread._create_worker_consumer,
        recovered=Recovery.on_recovery_completed,
        resumed=Recovery._resume_streams,
        getmany=ThreadDelegateConsumer._getmany,
        new_offset=Consumer._new_offset,
        add_gap=Consumer._add_gap,
        ack=Consumer.ack,
        record=PartitionRecords._consumer_record,
        fetch=Fetcher._proc_fetch_request,
        grouped=PartitionAssignor._get_copartitioned_groups,
    )
    left_out.update(without)
    Consumer.wait_empty = _wait_empty
    AIOKafkaConsumerThread._create_worker_consumer = _create_worker_consumer
    if "revoke" not in without:
        Consumer.on_partitions_revoked = _revoked
    if "frozen" not in without:
        ThreadDelegateConsumer._getmany = _getmany
    if "chunk_commit" not in without:
        Consumer._new_offset, Consumer._add_gap = _new_offset, _add_gap
    if "skipped" not in without:
        Consumer.ack = _ack
    Recovery.on_recovery_completed = Recovery._resume_streams = _recovered
    PartitionRecords._consumer_record = _consumer_record
    Fetcher._proc_fetch_request = _paced_fetch
    PartitionAssignor._get_copartitioned_groups = staticmethod(_grouped)


def originals() -> dict[str, Any]:
    """Return what the corrections replaced, by name."""
    return dict(_installed)


@contextmanager
def fail_stop() -> Iterator[None]:
    """Leave the process on any failure inside, a cancellation too: Faust would acknowledge what failed and go on."""
    try:
        yield
    except BaseException as error:
        leave(error)


def leave(error: BaseException) -> NoReturn:
    """Say why, and end the process at once: nothing may be acknowledged any more."""
    operator = " ".join((type(error).__doc__ or "").partition("Operator:")[2].split())
    log.critical(
        "stopped before anything was acknowledged: %s%s",
        words_of(error), f" What to do: {operator}" if operator else " Start the worker again.",
        exc_info=None if operator else error,
    )  # fmt: skip
    logging.shutdown()
    os._exit(STOPPED)


def let_go_of(app: Any, message: Any) -> None:
    """Do not wait for a message any more, unacknowledged: whoever owns its partition next reads it again."""
    app.consumer._unacked_messages.discard(message)


def begin(app: Any, tp: Any) -> int | None:
    """Return the offset from which a source partition is read in this assignment; None when nobody sought it there."""
    return _begins.get(app.conf.id, {}).get(tp)


def committed(app: Any, tp: Any) -> int | None:
    """Return the offset behind the last one an app has committed of a source partition; None when it has none yet."""
    offset: int | None = app.consumer._committed_offset.get(tp)
    return offset


async def _revoked(self: Any, revoked: Any) -> None:
    """Finish what is in flight and commit it WHILE the book-keeping of the revoked partitions still exists.

    Kafka accepts commits of the old generation during PreparingRebalance.
    """
    if revoked and not self.app.should_stop:
        self.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        if not await _within(self.app.conf.broker_session_timeout * 0.5, self.wait_empty()):
            log.warning("revocation: some events in flight did not finish in time, they will be repeated")
    await _installed["revoked"](self, revoked)


def _grouped(topics: set[str], cluster: Any, subscriptions: Any) -> Any:
    """Group topics to be assigned, if the broker knows all of them."""
    if missing := sorted(topic for topic in topics if not cluster.partitions_for_topic(topic)):
        leave(UnknownTopicError(f"the broker does not know {', '.join(missing)}, and partitions are to be assigned"))
    return _installed["grouped"](topics, cluster, subscriptions)


async def _wait_empty(self: Any) -> None:
    """Let go of what was not begun, and wait for the rest; a stop does not wait for a broker that does not answer."""
    for let_go in before_waiting:
        let_go(self.app)
    if not self.app.should_stop:
        await _installed["waiting"](self)
        return
    if not await _within(STOP_PATIENCE, _installed["waiting"](self)):
        log.warning("stop: some events in flight did not finish in time, they will be repeated")


async def _within(seconds: float, waiting: Coroutine[Any, Any, None]) -> bool:
    """Wait at most so long; tell whether it ended. Not ``wait_for``: Faust's waiting swallows a cancellation."""
    task = asyncio.ensure_future(waiting)
    try:
        ended, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not ended:
        task.cancel()
        return False
    task.result()
    return True


def _ack(self: Any, message: Any) -> bool:
    """Acknowledge only what was handed to an agent."""
    return bool(_installed["ack"](self, message)) if message.tracked else False


class _Fetching:
    """The fetches of one app that are on their way, and whether another may begin."""

    def __init__(self) -> None:
        self.begun: set[asyncio.Task[Any]] = set()
        self.is_allowed = True

    def ended(self, fetch: asyncio.Task[Any]) -> None:
        """One has ended; whether it failed is told to who awaits it."""
        self.begun.discard(fetch)
        if not fetch.cancelled():
            fetch.exception()


_fetching: defaultdict[str, _Fetching] = defaultdict(_Fetching)  # by app


async def _getmany(self: Any, active_partitions: Any, timeout: float) -> Any:
    """Hand over a copy, and never an empty one; and begin nothing while the sources are being sought."""
    fetching = _fetching[self.app.conf.id]
    if active_partitions is not None:
        active_partitions = frozenset(active_partitions)
    if active_partitions == frozenset() or not fetching.is_allowed:
        await asyncio.sleep(IDLE)
        return {}
    fetch = asyncio.ensure_future(self._thread.getmany(active_partitions, min(timeout, FETCH_PATIENCE)))
    fetching.begun.add(fetch)
    fetch.add_done_callback(fetching.ended)
    return await asyncio.shield(fetch)  # who is cancelled here leaves it running in the other thread


@asynccontextmanager
async def _no_fetches(recovery: Any) -> AsyncIterator[None]:
    """Let no fetch be on its way while positions are sought.

    One from before the rebalance may else take records from a position that
    was just sought, and Faust drops them, since its flow is stopped.
    """
    fetching = _fetching[recovery.app.conf.id]
    fetching.is_allowed = False
    try:
        while fetching.begun:
            await recovery._wait(asyncio.wait(fetching.begun))
        yield
    finally:
        fetching.is_allowed = True


async def _recovered(self: Any, generation_id: int = 0) -> None:
    """As the original, but first seek, then resume; and seek what was never committed to its log's start.

    An app without tables has another original, with the same defects.
    """
    app, consumer = self.app, self.app.consumer
    await app.on_rebalance_complete.send()
    self._set_recovery_ended()
    callbacks = [
        asyncio.ensure_future(
            table.on_recovery_completed(self.actives_for_table[table], self.standbys_for_table[table])
        )
        for table in self.tables.values()
    ]
    try:
        if callbacks:
            await self._wait(asyncio.wait(callbacks))  # a new assignment ends it
            for done in callbacks:
                done.result()
    finally:
        for callback in callbacks:
            callback.cancel()
    if app.consumer_generation_id != generation_id:
        return
    assignment = consumer.assignment()
    sources = {tp for tp in assignment if not self._is_changelog_tp(tp)}
    if "seek_first" in left_out:
        consumer.resume_partitions(sources)
    async with _no_fetches(self):
        begins, ends = await _sought(self, sources) if assignment else ({}, {})
        if app.consumer_generation_id != generation_id:
            return
        _begins[app.conf.id] = begins
        with fail_stop():
            for recovered in after_recovery:
                recovered(app, ends)
        app.flow_control.resume()
        consumer.resume_partitions(sources)
        self.completed.set()
        consumer.resume_flow()
    await app._fetcher.maybe_start()
    self.tables.on_actives_ready()
    if not app.assignor.assigned_standbys():
        self.tables.on_standbys_ready()
    app.on_rebalance_end()
    self.log.info("Worker ready")


async def _sought(self: Any, sources: set[Any]) -> tuple[dict[Any, int], dict[Any, int]]:
    """Seek the sources to where they go on; return those offsets, and where each source ends now."""
    consumer, limit = self.app.consumer, self.app.conf.broker_request_timeout
    await self._wait(consumer.perform_seek(), timeout=limit)
    begins = {tp: offset for tp in sources if (offset := consumer._committed_offset.get(tp)) is not None}
    fresh = sources - begins.keys()
    if fresh and "seek_fresh" not in left_out:
        starts = await consumer.earliest_offsets(*fresh)
        await self._wait(consumer.seek_wait(starts), timeout=limit)
        begins |= starts
    ends = await consumer.highwaters(*sources) if sources else {}
    return begins, {TP(*tp): end for tp, end in ends.items()}  # not aiokafka's kind: Faust's consumer refuses it


def _new_offset(self: Any, tp: Any) -> int | None:
    """Commit behind the last acknowledged chunk: one agent acknowledges a partition's chunks in order, no holes."""
    acked = self._acked[tp]
    if not acked:
        return None
    acked[:] = [max(acked)]
    self._acked_index[tp].clear()
    return int(acked[0]) + 1


async def _add_gap(self: Any, tp: Any, offset_from: int, offset_to: int) -> None:
    """Offsets inside a chunk are no gaps."""


def _consumer_record(self: Any, tp: Any, record: Any) -> Any:
    if tp.topic in light_topics:
        fields = (tp.topic, tp.partition, record.offset, record.timestamp, record.key, record.value, record.headers)
        return _light_record(fields)
    return _installed["record"](self, tp, record)


def _create_worker_consumer(self: Any, loop: Any) -> Any:
    consumer = _installed["create"](self, loop)
    for name, value in _fetch.items():
        if not hasattr(consumer, f"_{name}"):
            msg = f"aiokafka's consumer has no setting {name}: install the locked version"
            raise FaustVersionError(msg)
        setattr(consumer, f"_{name}", value)
    _of_faust.add(consumer._subscription)
    return consumer


async def _paced_fetch(self: Any, assignment: Any, node_id: int, request: Any) -> bool:
    """Fetch, but not at once after the last fetch began.

    A round costs the same for one record and for a hundred: some 1.5 ms of
    CPU for a request about 40 partitions. Without a pace there is a round for
    nearly each record as soon as some hundred come in a second. A backlog
    does not wait: what one fetch brings of it takes longer than the pace.

    A broker that answers at once that there is nothing new, as imitations do,
    is asked again at that pace by every consumer.
    """
    clock = asyncio.get_running_loop().time
    due = _paces.setdefault(self._subscriptions, {})
    wait = due.get(node_id, 0.0) - clock()
    if wait > 0:
        try:
            await asyncio.sleep(wait)
        except asyncio.CancelledError:
            return False  # as aiokafka's own fetch: its consumer is being closed, and would end with this error
        if not assignment.active:
            return False
    begin = clock()
    if self._subscriptions in _of_faust:
        due[node_id] = begin + _pace["s"]
    found = bool(await _installed["fetch"](self, assignment, node_id, request))
    if not found and clock() - begin < _pace["s"]:
        due[node_id] = begin + _pace["s"]
    return found
