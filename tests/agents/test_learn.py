"""The learn agent on fakes: what it acknowledges when, what it publishes again, and what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from faust.types import TP

from journey import training
from journey.errors import PositionGapError, StateVersionError
from journey.events import DAY, HOUR
from journey.models.base import chance, rounded
from journey.samples import FAMILIES, SCHEMA_OF, SCHEMAS
from streams import faust_fixes
from streams.agents import learn as learning
from streams.agents.learn import Learn, School
from streams.checkpoints import Checkpoint, Checkpoints, Reading
from streams.errors import CheckpointError, LogTruncatedError
from streams.models_log import ModelsLog
from streams.settings import Epoch, Settings
from streams.snapshots import EPOCH_VERSIONS, Keys, Snapshot, payload_of, read
from tests.agents.test_inbox import FakeApp, FakeStream
from tests.e2e.learner import CHALLENGES, EVERY, FITS, Counting, new_learner, restore_learner, sample
from tests.waiting import eventually

KEYS = Keys(b"a key of the tests")
CHURN = TP("journey.samples", 0)


class FakeLog:
    """Topics with one partition each; the append with number ``dies`` fails, before or after it landed."""

    def __init__(self) -> None:
        self.topics: dict[str, list[tuple[bytes, bytes | None]]] = {}
        self.order: list[str] = []
        self.appends = 0
        self.dies: int | None = None
        self.lands = False

    async def append(self, topic: str, partition: int, records: Any, headers: Any = ()) -> None:
        self.appends += 1
        is_it = self.appends == self.dies
        if not is_it or self.lands:
            self.topics.setdefault(f"{topic}/{partition}", []).extend(records)
            self.order.append(topic)
        if is_it:
            raise ConnectionError("the worker dies here")

    def models(self) -> list[Snapshot]:
        return [read(value, KEYS) for _, value in self.topics.get("journey.models/0", ())]


class FakeModels(ModelsLog):
    def __init__(self, log: FakeLog) -> None:
        super().__init__(Settings(), KEYS)
        self.log = log
        self.seen = 0

    async def refresh(self) -> None:
        self.seen = len(self.log.topics.get("journey.models/0", ()))
        for one in self.log.models():
            self.digests.setdefault((one.model, one.version), one.sha256)

    async def first(self, model: str, number: int) -> Snapshot | None:
        known = [one for one in self.log.models()[: self.seen] if (one.model, one.version) == (model, number)]
        return known[0] if known else None


class FakeCheckpoints(Checkpoints):
    def __init__(self, log: FakeLog, settings: Settings) -> None:
        super().__init__(settings, log)  # type: ignore[arg-type]  # all that it needs of a log
        self.log = log

    async def load(self, number: int, family: str) -> Checkpoint | None:
        reading = Reading(family)
        for key, value in self.log.topics.get(f"{self._topic}/{number}", ()):
            reading.take(key, value)
        self._there[family] = reading.keys
        return reading.found()


class Record:
    topic, partition = CHURN
    key = None
    timestamp = 0
    headers: tuple[tuple[str, bytes], ...] = ()

    def __init__(self, offset: int, value: bytes | None = None) -> None:
        self.offset = offset
        self.value = orjson.dumps(sample("churn", offset)) if value is None else value


class Message:
    def __init__(self, records: int, number: int) -> None:
        self.tp = TP(CHURN.topic, number)
        self.serialized_value_size = 100 * records


class Event:
    """A chunk of samples; ``acked`` tells what became of it."""

    def __init__(self, *offsets: int, values: dict[int, bytes] | None = None, number: int = 0) -> None:
        self.value = [Record(offset, (values or {}).get(offset)) for offset in offsets]
        self.message = Message(len(offsets), number)
        self.acked = False
        self.on_ack: Callable[[int], None] = lambda offset: None

    def ack(self) -> None:
        self.acked = True
        self.on_ack(self.value[-1].offset + 1)


class Bench:
    """One worker after the other over the same logs; ``committed`` is what the group has acknowledged."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **told: Any) -> None:
        self.log, self.settings = FakeLog(), Settings(**{"checkpoint_samples": 50} | told)
        self.committed: int | None = None
        self.now = 1000.0
        self.patch = monkeypatch
        self.run: Callable[[], dict[str, Any]] | None = None
        monkeypatch.setattr("streams.faust_fixes.committed", lambda app, tp: self.committed)

    def new(self, family: str) -> Counting:
        made = new_learner(family)
        made.run = self.run or made.run
        return made

    def restore(self, state: dict[str, Any]) -> Counting:
        made = restore_learner(state)
        made.run = self.run or made.run
        return made

    async def worker(
        self, *, begin: int | None = None, end: int = 10_000, number: int = 0, school: School | None = None
    ) -> Learn:
        """Return a worker that has loaded what there is, its partition read from what was committed."""
        app = FakeApp()
        mine = TP(CHURN.topic, number)
        self.patch.setitem(faust_fixes._begins, app.conf.id, {mine: (self.committed or 0) if begin is None else begin})
        log: Any = self.log
        agent = Learn(
            app, self.settings, log, FakeModels(self.log), FakeCheckpoints(self.log, self.settings),
            school or School(FAMILIES, self.new, self.restore), KEYS, lambda: self.now,
        )  # fmt: skip
        agent.begin(app, {mine: end, TP("journey.models", 0): 3, TP("journey.samples", 7): 3})
        await agent._load()
        return agent

    async def teach(self, agent: Learn, begin: int, end: int, chunk: int = 5) -> list[Event]:
        """Bring samples in chunks."""
        events = [Event(*range(at, min(at + chunk, end))) for at in range(begin, end, chunk)]
        for event in events:
            event.on_ack = self.commit
            await agent._step([event])
        return events

    def commit(self, offset: int) -> None:
        self.committed = max(self.committed or 0, offset)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


async def test_nothing_is_acknowledged_before_a_checkpoint_covers_it(bench: Bench) -> None:
    agent = await bench.worker()
    events = await bench.teach(agent, 0, 120)
    assert [event.acked for event in events] == [True] * 20 + [False] * 4
    found = await agent.checkpoints.load(0, "churn")
    assert found is not None
    assert (found.next, found.state["count"]) == (100, 100)
    assert agent.counts["checkpoints"] == 2


async def test_what_a_checkpoint_covers_was_published_before_it(bench: Bench) -> None:
    await bench.teach(await bench.worker(), 0, 50)
    assert bench.log.order[-1] == "journey.checkpoints"
    assert bench.log.order.count("journey.checkpoints") == 1
    assert len(bench.log.models()) == 50 // EVERY + 50 // CHALLENGES + 50 // FITS


async def test_few_samples_wait_for_a_checkpoint_only_as_long_as_others_come(bench: Bench) -> None:
    agent = await bench.worker()
    (event,) = await bench.teach(agent, 0, 5)
    assert agent._patience() == learning.IDLE
    bench.now += learning.IDLE
    await agent._step([])
    assert event.acked
    assert agent._patience() is None


async def test_under_traffic_a_sample_waits_five_seconds(bench: Bench) -> None:
    agent = await bench.worker()
    events = []
    for number in range(11):
        events += await bench.teach(agent, number, number + 1)
        bench.now += learning.IDLE / 2
    assert [event.acked for event in events] == [True] * 11
    assert agent.counts["checkpoints"] == 1


async def test_a_large_state_is_kept_less_often(bench: Bench) -> None:
    agent = await bench.worker()
    await bench.teach(agent, 0, 5)
    agent.pupils[0].size = 60 * learning.PACE
    assert agent._patience() == 60


async def test_a_revocation_lets_go_of_what_no_checkpoint_covers(bench: Bench) -> None:
    agent = await bench.worker()
    events = await bench.teach(agent, 0, 10)
    waited = agent.app.consumer._unacked_messages = FakeUnacked()
    agent.forget(agent.app)
    assert waited.let_go == [event.message for event in events]
    await agent._step([Event(10, 11)])
    assert len(waited.let_go) == 3
    assert agent.counts["events"] == 10


class FakeUnacked:
    def __init__(self) -> None:
        self.let_go: list[Any] = []

    def discard(self, message: Any) -> None:
        self.let_go.append(message)


async def test_another_app_of_the_same_process_takes_nothing_away(bench: Bench) -> None:
    agent = await bench.worker()
    await bench.teach(agent, 0, 10)
    agent.forget(FakeApp())
    agent.begin(FakeApp(), {})
    assert agent.pupils[0].learned == 10


def told_by(bench: Bench) -> dict[tuple[str, int], str]:
    return {(one.model, one.version): one.sha256 for one in bench.log.models()}


@pytest.mark.parametrize("lands", [False, True])
async def test_a_worker_may_die_at_any_append_and_the_models_are_the_same(
    monkeypatch: pytest.MonkeyPatch, lands: bool
) -> None:
    def fixed() -> dict[str, Any]:
        return {"drawn": "the same each time"}

    whole = Bench(monkeypatch)
    whole.run = fixed
    await whole.teach(await whole.worker(), 0, 120)
    appends = whole.log.appends
    assert appends > 20
    for dies in range(1, appends + 1):
        bench = Bench(monkeypatch)
        bench.run = fixed
        bench.log.dies, bench.log.lands = dies, lands
        with pytest.raises(ConnectionError):
            await bench.teach(await bench.worker(), 0, 120)
        await bench.teach(await bench.worker(), bench.committed or 0, 120)
        assert told_by(bench) == told_by(whole), f"died at append {dies}"
        values: dict[bytes, set[bytes | None]] = {}
        for key, value in bench.log.topics["journey.models/0"]:
            values.setdefault(key, set()).add(value)
        assert all(len(each) == 1 for each in values.values()), "one name, other bytes"


async def test_what_is_published_is_not_published_again(bench: Bench) -> None:
    await bench.teach(await bench.worker(), 0, 49)
    before = bench.log.models()
    successor = await bench.worker()
    await bench.teach(successor, 0, 49)
    assert bench.log.models() == before
    assert successor.counts["repeats"] == len(before)
    assert successor.counts["published"] == 0


async def test_a_fit_is_decided_once(bench: Bench) -> None:
    await bench.teach(await bench.worker(), 0, 40)
    (fit,) = [one for one in bench.log.models() if one.model == "churn.fit"]
    bench.committed = None
    successor = await bench.worker()
    await bench.teach(successor, 0, 40)
    assert successor.counts["fits"] == 0
    assert successor.pupils[0].learner.state()["fits"] == [payload_of(fit)["drawn"]]


async def _taught(bench: Bench, agent: Learn) -> None:
    await bench.teach(agent, 24, 26)


async def test_of_two_fits_under_one_name_the_first_counts_for_both_workers(bench: Bench) -> None:
    zombie, heir = await bench.worker(), await bench.worker()
    await bench.teach(zombie, 0, 24)
    await bench.teach(heir, 0, 24)

    def slow() -> dict[str, Any]:
        asyncio.run(_taught(bench, heir))  # the heir fits while the zombie does
        return {"drawn": "of the zombie"}

    learner: Any = zombie.pupils[0].learner
    learner.run = slow
    await bench.teach(zombie, 24, 26)
    fits = [payload_of(one)["drawn"] for one in bench.log.models() if one.model == "churn.fit"]
    assert fits[1] == "of the zombie"
    assert fits[0] == fits[2] != fits[1]
    assert zombie.pupils[0].learner.state() == heir.pupils[0].learner.state()


async def test_a_fit_that_fails_is_decided_too(bench: Bench) -> None:
    def fails() -> dict[str, Any]:
        raise ValueError("singular")

    bench.run = fails
    agent = await bench.worker()
    await bench.teach(agent, 0, 30)
    assert agent.pupils[0].learner.state()["fits"] == ["ValueError"]


async def test_a_sample_that_nobody_can_learn_is_skipped_each_time(bench: Bench) -> None:
    other = orjson.dumps(sample("intent", 3))
    without = orjson.dumps({key: value for key, value in sample("churn", 4).items() if key != "number"})
    chunk = Event(*range(6), values={1: b"not json", 2: b"[]", 3: other, 4: without})
    for _ in range(2):
        agent = await bench.worker()
        await agent._step([chunk])
        assert agent.counts["bad_samples"] == 4
        assert agent.pupils[0].learner.state()["count"] == 2
        assert agent.pupils[0].next == 6


async def test_a_sample_of_a_newer_version_stops_the_worker(bench: Bench) -> None:
    agent = await bench.worker()
    with pytest.raises(StateVersionError):
        await agent._step([Event(0, values={0: orjson.dumps(sample("churn", 0) | {"v": 2})})])


async def test_a_model_that_is_none_is_not_published_and_nothing_stops(bench: Bench) -> None:
    agent = await bench.worker()
    learner: Any = agent.pupils[0].learner
    learner.sum = float("nan")
    learner.learn = lambda sample: [learner._made("churn", 1, "champion", 7)]
    await bench.teach(agent, 0, 1)
    assert agent.counts["refused"] == 1
    assert bench.log.models() == []


async def test_a_fit_that_gives_what_cannot_be_published_is_decided_too(bench: Bench) -> None:
    bench.run = lambda: {"w": [float("inf")]}
    agent = await bench.worker()
    await bench.teach(agent, 0, 30)
    assert agent.pupils[0].learner.state()["fits"] == ["what it gave cannot be published"]


async def test_a_notice_is_an_alarm_and_is_told_in_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    agent = await bench.worker()
    learner: Any = agent.pupils[0].learner
    body = {"type": "journey.model_drifted.v1", "subject": "model:churn", "data": {"slot": "churn"}}
    learner.learn = lambda sample: [SimpleNamespace(id="dr_1", body=body)]
    await bench.teach(agent, 0, 1)
    assert agent.counts["notices"] == 1
    assert 'churn: journey.model_drifted.v1: {"slot":"churn"}' in caplog.text
    ((key, value),) = bench.log.topics["journey.alarms/0"]
    assert (key, orjson.loads(value or b"")) == (b"model:churn", body)


# ---- where it goes on ------------------------------------------------------------------------------------------------


async def test_samples_that_the_checkpoint_has_are_not_learned_again(bench: Bench) -> None:
    await bench.teach(await bench.worker(), 0, 50)
    bench.committed = 20  # its last commits were lost
    successor = await bench.worker()
    assert successor.pupils[0].next == 50
    events = await bench.teach(successor, 20, 60, chunk=10)
    assert [event.acked for event in events] == [True, True, True, False]
    assert successor.counts["events"] == 10


async def test_a_log_whose_beginning_is_gone_is_learned_from_where_it_begins(bench: Bench) -> None:
    agent = await bench.worker(begin=700)
    await bench.teach(agent, 700, 705)
    assert agent.pupils[0].next == 705


async def test_samples_that_are_gone_behind_the_checkpoint_are_a_hole(bench: Bench) -> None:
    await bench.teach(await bench.worker(), 0, 50)
    with pytest.raises(PositionGapError) as told:
        await bench.worker(begin=60)
    assert (told.value.found, told.value.expected) == (60, 50)


async def test_a_hole_in_what_is_delivered_is_refused(bench: Bench) -> None:
    agent = await bench.worker()
    await agent._step([Event(0, 1)])
    for hole in (Event(3), Event(2, 4)):
        with pytest.raises(PositionGapError):
            await agent._step([hole])


async def test_a_log_that_ends_below_the_checkpoint_was_cut(bench: Bench) -> None:
    await bench.teach(await bench.worker(), 0, 50)
    assert await bench.worker(end=50)
    with pytest.raises(
        LogTruncatedError, match=r"journey.samples/0 ends at 49, the checkpoint of churn has learned 50"
    ):
        await bench.worker(end=49)


async def test_more_was_acknowledged_than_any_checkpoint_covers(bench: Bench) -> None:
    await bench.teach(await bench.worker(), 0, 50)
    bench.committed = 51
    with pytest.raises(CheckpointError, match=r"learned up to 51, the last checkpoint of churn covers 50"):
        await bench.worker()
    bench.log.topics.pop("journey.checkpoints/0")
    with pytest.raises(CheckpointError, match="covers 0"):
        await bench.worker()


async def test_a_checkpoint_of_another_class_of_learner_is_not_thrown_away(bench: Bench) -> None:
    agent = await bench.worker()
    await agent.checkpoints.save(0, "churn", Checkpoint(10, {"class": "newer/2"}, {}))
    with pytest.raises(CheckpointError, match="cannot be restored"):
        await bench.worker()


async def test_the_versions_of_a_rebuilt_journal_follow_those_of_the_one_before(bench: Bench) -> None:
    bench.settings = bench.settings.at(Epoch(journal=3, state=4))
    bench.log.topics.clear()
    app = FakeApp()
    log: Any = bench.log
    agent = Learn(
        app, bench.settings, log, FakeModels(bench.log), FakeCheckpoints(bench.log, bench.settings),
        School(FAMILIES, bench.new, bench.restore), KEYS, lambda: 0.0,
    )  # fmt: skip
    agent.begin(app, {TP("journey.samples.e3", 0): 10})
    await agent._load()
    await bench.teach(agent, 0, EVERY)
    assert [one.version for one in bench.log.models()] == [2 * EPOCH_VERSIONS + 1]


async def test_the_loop_acknowledges_when_a_checkpoint_is_due_though_nothing_arrives(bench: Bench) -> None:
    agent = await bench.worker()
    stream = FakeStream(agent.app)
    agent.steady = asyncio.get_running_loop().time
    task = asyncio.ensure_future(agent.run(stream))
    event = Event(0, 1, 2)
    stream.coming.put_nowait(event)
    await eventually(lambda: event.acked)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_worker_that_is_stopped_while_it_loads_ends_in_order(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[BaseException] = []
    monkeypatch.setattr(faust_fixes, "leave", left.append)
    agent = await bench.worker()
    loading = asyncio.Event()

    async def load(number: int, family: str) -> Checkpoint | None:
        loading.set()
        await asyncio.Event().wait()
        return None

    monkeypatch.setattr(agent.checkpoints, "load", load)
    agent.unloaded = {0: 0}
    task = asyncio.ensure_future(agent.run(FakeStream(agent.app)))
    await loading.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert left == []


# ---- the real learners -----------------------------------------------------------------------------------------------


def real_sample(family: str, number: int) -> dict[str, Any]:
    """Return a sample as the engine sends it, hours after the one before; buyers are observed more often."""

    def drawn(what: object) -> float:
        return chance(family, str(number), str(what))

    names = SCHEMAS[SCHEMA_OF[family]]
    at = 1_795_162_442_000 + number * (HOUR // 3 if family == "value" else 3 * HOUR)
    made = sample(family, number) | {"at": at}
    if family in ("churn", "intent"):
        row = [rounded(drawn(name) * 3) for name in names]
        label = int(drawn("label") < 0.2 + row[0] / 5)
        scored = {"p": None, "q": 0.5, "model_version": None, "scored_at": at - 30 * DAY, "due_at": at}
        return made | {"kind": "label", "x": row, "y": label, "spent": rounded(drawn("spent") * 50), **scored}
    if family == "recs":
        items = sorted({f"item-{int(drawn(line) * 40)}" for line in range(4)})
        lines = [[item, f"category-{item[-1]}", None, 1000] for item in items]
        return made | {"items": lines, "profile": [[item, 1.0] for item in items], "fresh": items[:2], "top": None}
    if family == "value":
        row = [int(drawn(0) * 6), rounded(drawn(1) * 30), rounded(30 + drawn(2) * 30), rounded(20 + drawn(3) * 30)]
        return made | {"x": row}
    return made | {"x": [rounded(drawn(name) * 5) for name in names]}


@pytest.mark.parametrize("family", FAMILIES)
async def test_the_real_learners_publish_the_same_after_a_crash(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    number, most = FAMILIES.index(family), {"segments": 2600, "value": 1500}.get(family, 260)
    school = School(training.FAMILIES, training.new_learner, training.restore_learner)
    values = {offset: orjson.dumps(real_sample(family, offset)) for offset in range(most)}

    async def learned(bench: Bench) -> None:
        agent = await bench.worker(number=number, school=school)
        for at in range(bench.committed or 0, most, 10):
            event = Event(*range(at, at + 10), values=values, number=number)
            event.on_ack = bench.commit
            await agent._step([event])
        assert agent.counts["bad_samples"] == agent.counts["refused"] == 0

    whole = Bench(monkeypatch)
    await learned(whole)
    assert whole.log.models()
    bench = Bench(monkeypatch)
    for dies in (4, 9):
        bench.log.dies = dies
        with pytest.raises(ConnectionError):
            await learned(bench)
    await learned(bench)
    assert told_by(bench) == told_by(whole)
    assert {key for key, _ in bench.log.topics["journey.models/0"]} == {
        key for key, _ in whole.log.topics["journey.models/0"]
    }
