"""Each defect of Faust, shown on its own objects, and that it is gone with its correction.

Those that a real broker shows at each run are in tests/e2e/test_faust_fixes.py as well; the others come and go there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from faust.assignor.partition_assignor import PartitionAssignor
from faust.tables.recovery import RebalanceAgain, Recovery
from faust.transport.consumer import Consumer, ThreadDelegateConsumer
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from intervaltree import IntervalTree  # type: ignore[import-untyped]  # of Faust, untyped

from streams import faust_fixes
from streams.errors import FaustVersionError, LogTruncatedError
from tests.waiting import eventually

CLICKS = TP("events.click", 0)
CARTS = TP("events.cart", 0)
CHANGELOG = TP("customers-changelog", 0)


@pytest.fixture
def stock() -> Iterator[dict[str, Any]]:
    """Faust as it was installed, while the process has the corrections."""
    faust_fixes.apply()
    yield faust_fixes.originals()
    faust_fixes.left_out.clear()


# ---- version ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.15.2", "0.15.4", "0.16.0", "1.0"])
def test_another_faust_is_refused_with_the_reason_and_the_way_out(version: str) -> None:
    with pytest.raises(FaustVersionError) as told:
        faust_fixes.check_version(version)
    assert f"faust-streaming {version} is installed, 0.15.3 is needed" in str(told.value)
    assert "lose or repeat events" in str(told.value)
    assert "pip install faust-streaming==0.15.3" in str(told.value)


def test_nothing_is_installed_into_another_faust(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Consumer.on_partitions_revoked
    monkeypatch.setattr(faust, "__version__", "0.15.4")
    with pytest.raises(FaustVersionError):
        faust_fixes.apply()
    assert Consumer.on_partitions_revoked is before


# ---- fakes -----------------------------------------------------------------------------------------------------------


class FakeApp:
    """What consumer and recovery ask of their app; ``said`` is what they did, in order."""

    def __init__(self, said: list[str]) -> None:
        self.should_stop = False
        self.client_only = False
        self.consumer_generation_id = 1
        self.conf = SimpleNamespace(
            id="journey-ingest", broker_session_timeout=3.0, broker_request_timeout=9.0, stream_recovery_delay=0.0
        )
        self.flow_control = SimpleNamespace(
            suspend=lambda: said.append("suspend"),
            clear=lambda: said.append("clear"),
            resume=lambda: said.append("resume flow"),
        )
        self.sensors = SimpleNamespace(
            on_commit_initiated=lambda consumer: None, on_commit_completed=lambda consumer, state: None
        )
        self.monitor = SimpleNamespace(on_tp_commit=lambda offsets: None)
        self.topics = SimpleNamespace(acks_enabled_for=lambda topic: True)
        self.tables = SimpleNamespace(on_commit=lambda offsets: None)
        self.producer = SimpleNamespace(flush=nothing)
        self._attachments = SimpleNamespace(publish_for_tp_offset=no_messages)
        self._fetcher = SimpleNamespace(maybe_start=nothing)
        self.on_rebalance_complete = SimpleNamespace(send=nothing)
        self.assignor = SimpleNamespace(assigned_standbys=set)
        self.consumer: Any = None

    def _start_span_from_rebalancing(self, name: str) -> Any:
        return contextlib.nullcontext()

    def on_rebalance_end(self) -> None:
        self.should_stop = False


async def nothing(*_: object) -> None:
    return None


async def no_messages(*_: object) -> list[Any]:
    return []


class FakeConsumer(Consumer):
    """Faust's consumer with its real book-keeping, over a broker that only notes what it is told."""

    def __init__(self, said: list[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self.app = FakeApp(said)
        self.app.consumer = self
        self.said = said
        self.commits: dict[TP, int] = {}
        self.in_transaction = False
        self.diag = SimpleNamespace(set_flag=lambda flag: None, unset_flag=lambda flag: None)
        self.log = SimpleNamespace(dev=quiet, info=quiet, warning=quiet, exception=quiet)
        self._stopped = self._crashed = asyncio.Event()
        self._acked: Any = defaultdict(list)
        self._acked_index: Any = defaultdict(set)
        self._gap: Any = defaultdict(IntervalTree)
        self._read_offset: Any = defaultdict(lambda: None)
        self._committed_offset: Any = defaultdict(lambda: None)
        self._unacked_messages: Any = set()
        self._active_partitions = {CLICKS}
        self._paused_partitions: Any = set()
        self._commit_fut = None
        self._waiting_for_ack = None
        self._n_acked = 0
        self.can_resume_flow = self.suspend_flow = asyncio.Event()

    def assignment(self) -> set[TP]:
        return {CLICKS}

    async def _commit(self, offsets: Any) -> bool:
        self.commits |= offsets
        return True

    async def _on_partitions_revoked(self, revoked: set[TP]) -> None:
        """What Faust's app does then: it waits for what is in flight, and commits."""
        self.said.append("app told")
        await self.wait_empty()


FakeConsumer.__abstractmethods__ = frozenset()


def quiet(*_: object, **__: object) -> None:
    return None


def chunk(tp: TP, last: int) -> ConsumerMessage:
    """A chunk that ends at an offset, as it was handed to an agent."""
    message = ConsumerMessage(tp.topic, tp.partition, last, 0.0, 0, None, None, b"", None, 0, 0, tp, generation_id=1)
    message.tracked = True
    message.refcount = 1
    return message


# ---- 1: the last commit before a revocation --------------------------------------------------------------------------


async def revoke(on_partitions_revoked: Callable[..., Awaitable[None]]) -> FakeConsumer:
    """Revoke a partition 50 records of which were acknowledged since the last commit."""
    consumer = FakeConsumer([])
    chunk(CLICKS, 49).ack(consumer)
    await on_partitions_revoked(consumer, {CLICKS})
    return consumer


async def test_stock_revocation_forgets_what_was_acknowledged_since_the_last_commit(stock: dict[str, Any]) -> None:
    consumer = await revoke(stock["revoked"])
    assert consumer.commits == {}


async def test_revocation_commits_before_the_book_keeping_is_gone(stock: dict[str, Any]) -> None:
    consumer = await revoke(Consumer.on_partitions_revoked)
    assert consumer.commits == {CLICKS: 50}
    assert consumer.said == ["suspend", "clear", "app told"]
    assert not consumer._acked


async def test_revocation_waits_for_a_chunk_in_flight(stock: dict[str, Any]) -> None:
    consumer = FakeConsumer([])
    begun = chunk(CLICKS, 99)
    consumer._unacked_messages.add(begun)
    chunk(CLICKS, 49).ack(consumer)
    asyncio.get_running_loop().call_later(0.05, begun.ack, consumer)
    await Consumer.on_partitions_revoked(consumer, {CLICKS})
    assert consumer.commits == {CLICKS: 100}


async def test_revocation_does_not_wait_for_what_was_let_go(stock: dict[str, Any]) -> None:
    consumer = FakeConsumer([])
    held = chunk(CLICKS, 99)
    consumer._unacked_messages.add(held)
    chunk(CLICKS, 49).ack(consumer)

    def let_go(app: Any) -> None:
        faust_fixes.let_go_of(app, held)

    faust_fixes.before_waiting.append(let_go)
    try:
        await asyncio.wait_for(Consumer.on_partitions_revoked(consumer, {CLICKS}), 1)
    finally:
        faust_fixes.before_waiting.remove(let_go)
    assert consumer.commits == {CLICKS: 50}


# ---- 2: which partitions to fetch ------------------------------------------------------------------------------------


class FakeThread:
    """The thread in which aiokafka runs; a fetch takes until ``arrived`` is set."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.arrived = asyncio.Event()
        self.arrived.set()

    async def getmany(self, active_partitions: Any, timeout: float) -> dict[TP, list[Any]]:
        self.asked.append(active_partitions)
        await self.arrived.wait()
        return {CLICKS: ["a record"]}


async def fetch(getmany: Callable[..., Awaitable[Any]], active: set[TP]) -> tuple[Any, FakeThread]:
    thread = FakeThread()
    consumer: Any = SimpleNamespace(_thread=thread, app=FakeApp([]))
    return await getmany(consumer, active, 1.0), thread


async def test_stock_fetching_hands_the_live_set_to_another_thread(stock: dict[str, Any]) -> None:
    active = {CLICKS}
    _, thread = await fetch(stock["getmany"], active)
    assert thread.asked[0] is active  # once it is emptied, aiokafka takes it for "all partitions"


async def test_stock_fetching_asks_for_no_partition_and_gets_all(stock: dict[str, Any]) -> None:
    _, thread = await fetch(stock["getmany"], set())
    assert thread.asked == [set()]


async def test_fetching_hands_over_a_copy(stock: dict[str, Any]) -> None:
    active = {CLICKS, CARTS}
    fetched, thread = await fetch(ThreadDelegateConsumer._getmany, active)
    active.clear()
    assert thread.asked == [frozenset((CLICKS, CARTS))]
    assert fetched == {CLICKS: ["a record"]}


async def test_nothing_is_fetched_when_no_partition_is_active(stock: dict[str, Any]) -> None:
    fetched, thread = await fetch(ThreadDelegateConsumer._getmany, set())
    assert thread.asked == []
    assert fetched == {}


# ---- 3 and 5: where sources go on after a recovery -------------------------------------------------------------------


class FakePositions:
    """A consumer after its tables recovered: clicks were committed at 40, carts never were."""

    def __init__(self, said: list[str]) -> None:
        self.said = said
        self._committed_offset: dict[TP, int | None] = {}
        self.ends = {CLICKS: 100, CARTS: 20}

    def assignment(self) -> set[TP]:
        return {CLICKS, CARTS, CHANGELOG}

    async def perform_seek(self) -> None:
        self.said.append("seek committed")
        self._committed_offset = {CLICKS: 40, CARTS: None}

    async def earliest_offsets(self, *tps: TP) -> dict[TP, int]:
        return dict.fromkeys(tps, 7)

    async def highwaters(self, *tps: TP) -> dict[TP, int]:
        return {tp: self.ends[tp] for tp in tps}

    async def seek_wait(self, offsets: dict[TP, int]) -> None:
        self.said.extend(f"seek {tp.topic} {offset}" for tp, offset in offsets.items())

    def resume_partitions(self, tps: set[TP]) -> None:
        self.said.append("resume " + " ".join(sorted(tp.topic for tp in tps)))

    def resume_flow(self) -> None:
        self.said.append("resume flow")


class Table:
    on_recovery_completed = staticmethod(nothing)


class Tables(dict[str, Any]):
    changelog_topics = frozenset((CHANGELOG.topic,))

    def on_actives_ready(self) -> None: ...

    def on_standbys_ready(self) -> None: ...


async def recover(name: str, method: Callable[..., Awaitable[None]], *, table: bool) -> tuple[list[str], FakeApp]:
    said: list[str] = []
    app = FakeApp(said)
    app.consumer = FakePositions(said)
    recovered = Table()
    recovery = Recovery(app, Tables({"customers": recovered} if table else {}))
    await method(recovery, generation_id=1)
    assert recovery.completed.is_set(), name
    return said, app


METHODS = [("recovered", "on_recovery_completed", True), ("resumed", "_resume_streams", False)]


@pytest.mark.parametrize(("original", "name", "table"), METHODS)
async def test_stock_recovery_resumes_before_it_seeks(
    stock: dict[str, Any], original: str, name: str, table: bool
) -> None:
    said, _ = await recover(name, stock[original], table=table)
    assert said.index("resume events.cart events.click") < said.index("seek committed")


@pytest.mark.parametrize(("original", "name", "table"), METHODS)
async def test_stock_recovery_leaves_what_was_never_committed_where_it_is(
    stock: dict[str, Any], original: str, name: str, table: bool
) -> None:
    said, _ = await recover(name, stock[original], table=table)
    assert not any(word.startswith("seek events.cart") for word in said)


@pytest.mark.parametrize(("original", "name", "table"), METHODS)
async def test_recovery_seeks_everything_and_resumes_then(
    stock: dict[str, Any], original: str, name: str, table: bool
) -> None:
    said, app = await recover(name, getattr(Recovery, name), table=table)
    assert said == [
        "seek committed", "seek events.cart 7", "resume flow", "resume events.cart events.click", "resume flow",
    ]  # fmt: skip
    assert faust_fixes.begin(app, CLICKS) == 40
    assert faust_fixes.begin(app, CARTS) == 7
    assert faust_fixes.begin(app, CHANGELOG) is None


@pytest.mark.parametrize(("original", "name", "table"), METHODS)
async def test_a_recovery_that_another_one_overtook_resumes_nothing(
    stock: dict[str, Any], original: str, name: str, table: bool
) -> None:
    said: list[str] = []
    app = FakeApp(said)
    app.consumer = FakePositions(said)
    app.consumer_generation_id = 2
    await getattr(Recovery, name)(Recovery(app, Tables()), generation_id=1)
    assert said == []


async def test_recovery_seeks_when_the_last_fetch_of_before_has_ended(stock: dict[str, Any]) -> None:
    said: list[str] = []
    app = FakeApp(said)
    app.consumer = FakePositions(said)
    thread = FakeThread()
    thread.arrived.clear()
    consumer: Any = SimpleNamespace(_thread=thread, app=app)
    fetching = asyncio.ensure_future(ThreadDelegateConsumer._getmany(consumer, {CLICKS}, 1.0))
    recovery = Recovery(app, Tables())
    recovering = asyncio.ensure_future(Recovery._resume_streams(recovery, generation_id=1))
    await eventually(lambda: thread.asked != [])
    fetching.cancel()  # Faust may give it up: it goes on in its thread all the same
    await asyncio.wait([fetching])
    assert await ThreadDelegateConsumer._getmany(consumer, {CLICKS}, 1.0) == {}  # none begins meanwhile
    assert said == []
    thread.arrived.set()
    await recovering
    assert said[0] == "seek committed"
    assert await ThreadDelegateConsumer._getmany(consumer, {CLICKS}, 1.0) == {CLICKS: ["a record"]}
    assert len(thread.asked) == 2


async def test_agents_see_the_ends_of_their_sources_before_anything_is_resumed(stock: dict[str, Any]) -> None:
    seen: list[Any] = []

    def look(app: Any, ends: dict[TP, int]) -> None:
        seen.append((ends, list(app.consumer.said)))

    faust_fixes.after_recovery.append(look)
    try:
        await recover("on_recovery_completed", Recovery.on_recovery_completed, table=True)
    finally:
        faust_fixes.after_recovery.remove(look)
    ((ends, said),) = seen
    assert ends == {CLICKS: 100, CARTS: 20}
    assert not any(word.startswith("resume") for word in said)


async def test_an_agent_that_refuses_ends_the_process(stock: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(app: Any, ends: dict[TP, int]) -> None:
        raise LogTruncatedError("events.click/0 ends at 3, 40 records of it were taken before")

    def left(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr("os._exit", left)
    faust_fixes.after_recovery.append(refuse)
    try:
        with pytest.raises(SystemExit) as ended:
            await recover("on_recovery_completed", Recovery.on_recovery_completed, table=True)
    finally:
        faust_fixes.after_recovery.remove(refuse)
    assert ended.value.code == faust_fixes.STOPPED


@pytest.mark.parametrize(("left_out", "expected"), [("seek_first", "resume"), ("seek_fresh", "seek committed")])
async def test_a_correction_can_be_left_out_alone(stock: dict[str, Any], left_out: str, expected: str) -> None:
    faust_fixes.left_out.add(left_out)
    said, _ = await recover("on_recovery_completed", Recovery.on_recovery_completed, table=True)
    assert said[0].startswith(expected)
    assert ("seek events.cart 7" in said) == (left_out != "seek_fresh")


async def test_a_new_assignment_ends_what_a_table_does_after_recovery(stock: dict[str, Any]) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    class Loading(Table):
        @staticmethod
        async def on_recovery_completed(*_: Any) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    said: list[str] = []
    app = FakeApp(said)
    app.consumer = FakePositions(said)
    recovery = Recovery(app, Tables({"customers": Loading()}))
    completing = asyncio.ensure_future(recovery.on_recovery_completed(generation_id=1))
    await begun.wait()
    recovery.signal_recovery_start.set()
    with pytest.raises(RebalanceAgain):
        await completing
    await asyncio.wait_for(ended.wait(), 5)
    assert "resume flow" not in said
    assert not recovery.completed.is_set()


# ---- 4: what to commit when chunks are acknowledged ------------------------------------------------------------------


async def deliver(consumer: FakeConsumer, add_gap: Callable[..., Awaitable[None]], *lasts: int) -> None:
    """What Faust notes when chunks are delivered that end at these offsets."""
    for last in lasts:
        before = consumer._read_offset[CLICKS]
        if before and last - before > 1:
            await add_gap(consumer, CLICKS, before + 1, last)
        consumer._read_offset[CLICKS] = last


async def test_stock_book_keeping_commits_nothing_after_a_first_chunk_of_one_record(stock: dict[str, Any]) -> None:
    consumer = FakeConsumer([])
    await deliver(consumer, stock["add_gap"], 0, 50, 100)
    chunk(CLICKS, 0).ack(consumer)
    consumer._committed_offset[CLICKS] = stock["new_offset"](consumer, CLICKS)
    assert consumer._committed_offset[CLICKS] == 1
    for last in (50, 100):
        chunk(CLICKS, last).ack(consumer)
        assert stock["new_offset"](consumer, CLICKS) is None


async def test_stock_book_keeping_never_commits_again_after_a_commit_that_failed(stock: dict[str, Any]) -> None:
    consumer = FakeConsumer([])
    consumer._committed_offset[CLICKS] = 10
    chunk(CLICKS, 49).ack(consumer)
    assert stock["new_offset"](consumer, CLICKS) is None
    chunk(CLICKS, 99).ack(consumer)
    assert stock["new_offset"](consumer, CLICKS) is None


async def test_the_last_acknowledged_chunk_is_committed_and_no_more(stock: dict[str, Any]) -> None:
    consumer = FakeConsumer([])
    consumer._committed_offset[CLICKS] = 10
    await deliver(consumer, Consumer._add_gap, 49, 99, 149)
    assert consumer._new_offset(CLICKS) is None
    for last in (49, 99):
        chunk(CLICKS, last).ack(consumer)
    assert consumer._new_offset(CLICKS) == 100
    assert consumer._new_offset(CLICKS) == 100  # again after a commit that failed
    chunk(CLICKS, 149).ack(consumer)
    assert consumer._new_offset(CLICKS) == 150


# ---- 6: what the stream skips ----------------------------------------------------------------------------------------


async def test_stock_consumer_acknowledges_what_no_agent_saw(stock: dict[str, Any]) -> None:
    consumer = FakeConsumer([])
    skipped = chunk(CLICKS, 49)
    skipped.tracked = False  # as the pure-Python stream leaves it when it skips a message of an older generation
    assert stock["ack"](consumer, skipped) is True
    assert consumer._new_offset(CLICKS) == 50


async def test_what_no_agent_saw_is_not_acknowledged(stock: dict[str, Any]) -> None:
    consumer = FakeConsumer([])
    skipped = chunk(CLICKS, 49)
    skipped.tracked = False
    assert skipped.ack(consumer) is False
    assert consumer._new_offset(CLICKS) is None
    assert chunk(CLICKS, 99).ack(consumer) is True


# ---- topics that a broker does not know yet --------------------------------------------------------------------------


SUBSCRIPTIONS = {"one": ["events.click", "events.cart"]}
CLUSTER = SimpleNamespace(partitions_for_topic={"events.click": {0, 1}, "events.cart": {0, 1}}.get)


def shared(grouped: Any) -> list[list[str]]:
    return [sorted(topics) for groups in grouped.values() for topics in groups]


def test_stock_faust_shares_out_without_the_topic_that_the_broker_does_not_know(stock: dict[str, Any]) -> None:
    assert shared(stock["grouped"]({"events.click", "events.profile"}, CLUSTER, SUBSCRIPTIONS)) == [["events.click"]]


def test_partitions_are_shared_out_only_when_the_broker_knows_all_topics(
    stock: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def left(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr("os._exit", left)
    group = PartitionAssignor._get_copartitioned_groups
    assert shared(group({"events.click", "events.cart"}, CLUSTER, SUBSCRIPTIONS)) == [["events.cart", "events.click"]]
    with pytest.raises(SystemExit) as ended:
        group({"events.click", "events.profile"}, CLUSTER, SUBSCRIPTIONS)
    assert ended.value.code == faust_fixes.STOPPED
    assert "the broker does not know events.profile" in caplog.text


# ---- the pace of fetches ---------------------------------------------------------------------------------------------


class FakeFetcher:
    """An aiokafka fetcher as far as the pace knows it."""

    def __init__(self, *, of_faust: bool, found: bool = True) -> None:
        self._subscriptions = SimpleNamespaceWithRefs()
        self.found = found
        if of_faust:
            faust_fixes._of_faust.add(self._subscriptions)


class SimpleNamespaceWithRefs:
    """Something that a weak reference may point to."""


@pytest.fixture
def fetches(stock: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The nodes that were fetched from, with a pace so slow that no test sees it end."""
    begun: list[int] = []

    async def fetch(self: Any, assignment: Any, node_id: int, request: Any) -> bool:
        begun.append(node_id)
        found: bool = self.found
        return found

    monkeypatch.setitem(faust_fixes._installed, "fetch", fetch)
    faust_fixes.apply(fetch_pace_ms=3_600_000)
    yield begun
    faust_fixes.apply()


async def begin_fetch(fetcher: FakeFetcher, node: int) -> asyncio.Task[bool]:
    task = asyncio.ensure_future(faust_fixes._paced_fetch(fetcher, SimpleNamespace(active=True), node, None))
    await asyncio.wait({task}, timeout=0.05)
    return task


async def test_a_second_fetch_from_a_node_waits_for_the_pace_and_can_be_cancelled(fetches: list[int]) -> None:
    fetcher = FakeFetcher(of_faust=True)
    first, second, other = [await begin_fetch(fetcher, node) for node in (1, 1, 2)]
    assert fetches == [1, 2]
    assert (first.done(), second.done(), other.done()) == (True, False, True)
    second.cancel()
    # not the error: a consumer that is being closed waits for its fetches, and would end with it
    assert await second is False
    assert fetches == [1, 2]


async def test_consumers_that_are_not_fausts_keep_no_pace(fetches: list[int]) -> None:
    fetcher = FakeFetcher(of_faust=False)
    for _ in range(3):
        assert await (await begin_fetch(fetcher, 1))
    assert fetches == [1, 1, 1]


async def test_who_is_told_at_once_that_there_is_nothing_asks_again_at_the_pace(fetches: list[int]) -> None:
    fetcher = FakeFetcher(of_faust=False, found=False)
    assert not await (await begin_fetch(fetcher, 1))
    second = await begin_fetch(fetcher, 1)
    assert not second.done()
    second.cancel()
    assert await second is False
    assert fetches == [1]
