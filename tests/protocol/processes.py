"""The processes of a schedule: what each does next when it is its turn, and how groups of them form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from aiokafka.errors import KafkaError
from faust.types import TP

from journey.errors import PositionGapError
from journey.events import DAY
from journey.samples import FAMILIES
from streams import topics
from streams.errors import ForeignWriteError, RevokedError
from streams.settings import Settings
from tests.protocol.broker import Broker, Group, Sending
from tests.protocol.draws import Draws
from tests.protocol.given import given
from tests.protocol.history import NOON, RAW, History, Raw
from tests.protocol.learner import Fits
from tests.protocol.oracle import ViolationError, Watch
from tests.protocol.roles import CHANGELOG, AdoptWorker, EngineWorker, IngestWorker, LearnWorker, Parts
from tests.protocol.worker import DEAD, DRAINING, JOINED, RECOVERING, RUNNING, Worker

GAPS: Final = (0, 0, 1, 40, 900, 2_000, 61_000, 20 * 60_000, 61 * 60_000)  # ms
LONGEST: Final = 20 * 3_600_000  # ms a schedule lasts: within it a message id is remembered
LONG_GAPS: Final = (0, 0, 1, 40, 900, 2_000, 61_000, 31 * 60_000, DAY, 7 * DAY, 8 * DAY, 31 * DAY)
LONGEST_OF_LONG: Final = 300 * DAY
SKEWS: Final = (0, 0, -3_000, 4_000, -700_000, 700_000)  # ms between a worker's clock and the broker's
FAULTS: Final = (
    "crash", "unanswered", "evict", "rebalance", "join", "stop", "again", "hole", "lapse", "late event", "late landing",
)  # fmt: skip
DESIGNED: Final = (KafkaError, ForeignWriteError, PositionGapError, RevokedError)  # what may end a process


@lru_cache(maxsize=1024)
def _settings(partitions: int, page_entries: int, group_chunks: int, held: int, checkpoint_samples: int) -> Settings:
    told = Settings(
        partitions=partitions, page_entries=page_entries, group_chunks=group_chunks, redis_url="",
        checkpoint_samples=checkpoint_samples,
    )  # fmt: skip
    return told.model_copy(update={"held_records": held})  # fewer than anybody may set


class Processes:
    """All processes and logs of one seed, and what they do when nothing fails."""

    is_settling = False

    def __init__(self, seed: int, parts: Parts | None = None, trace: Callable[[str], None] | None = None) -> None:
        self.seed, self.parts, self._trace = seed, parts or Parts(), trace
        draws = self.draws = Draws(seed)
        partitions, raw = 1 + draws.below(3), 1 + draws.below(2)
        self.settings = _settings(
            partitions, 1 + draws.below(3), 1 + draws.below(3), 20 * (1 + draws.below(4)), 1 + 2 * draws.below(3)
        )
        self.chunk, self.batch = 1 + draws.below(4), 1 + draws.below(5)
        # of the richest histories few are as good as many of the others
        kind = draws.below(10)
        self.is_alone, self.is_long = kind == 0, kind in (1, 2, 3)  # alone: who learns and who adopts
        adopts, learns = kind in (1, 2), kind in (0, 1)
        counts = dict.fromkeys(RAW, raw) | {
            topics.CONTROL: 1, topics.JOURNAL: partitions, topics.TRIGGERS: 2, topics.DEAD_LETTERS: 2,
            CHANGELOG: partitions, topics.SAMPLES: topics.FAMILIES, topics.MODELS: 1, topics.ALARMS: 1,
            topics.CHECKPOINTS: topics.FAMILIES,
        }  # fmt: skip
        self.broker = Broker(counts, NOON + 3_600_000)
        self.watch = Watch(partitions, CHANGELOG, topics.JOURNAL, topics.DEAD_LETTERS, topics.TRIGGERS)
        self.broker.landed, self.broker.trace = self.watch.landed, trace
        self.groups: dict[str, Group] = {}
        if not self.is_alone:
            self.groups["ingest"] = Group([*RAW, topics.CONTROL], raw, self.broker)
            self.groups["engine"] = Group([topics.JOURNAL], partitions, self.broker)
        self.school = Fits().school()
        if learns:
            self.groups["learn"] = Group([topics.SAMPLES], topics.FAMILIES, self.broker)
        if self.is_alone:
            self.groups["adopt"] = Group([topics.MODELS], 1, self.broker)
        for group in self.groups.values():
            group.on_commit = self.watch.committed
        if draws.below(2):
            self.broker.compacts = frozenset((topics.CHECKPOINTS,))
        if adopts:
            self.broker.write(TP(topics.MODELS, 0), [*given().records], [])
        customers = 1 + draws.below(2) if self.is_long else 2 + draws.below(4)
        self.history = History(draws, raw, customers, is_long=self.is_long, adopts=adopts)
        self.watch.in_force = self.history.in_force
        for family, sample in self.history.samples_before(4 + draws.below(16)) if learns else ():
            self.broker.write(TP(topics.SAMPLES, FAMILIES.index(family)), [(None, sample)], [])
        self.left_to_say = 0 if self.is_alone else (8 if self.is_long else 4) + draws.below(14)
        self.steps = (250 if self.is_alone else 10 * self.left_to_say) + draws.below(60)
        # not all faults in all schedules: what one kind hides, another schedule shows
        self.faults = [name for name in FAULTS if draws.below(100) < 55]
        self.commits = 1 + 2 * draws.below(2)
        self.calm = 4 + draws.below(30)  # one step in so many is a fault
        self.workers: list[Any] = []
        self.counts: Counter[str] = Counter()
        self._born = 0

    def note(self, text: str) -> None:
        """Write a line of the trace."""
        if self._trace is not None:
            self._trace(text)

    # --- what happens by itself

    def _say(self) -> bool:
        if not self.left_to_say:
            return False
        self.left_to_say -= 1
        raw: Raw = self.history.next(self.broker.now)
        tp = TP(raw.topic, raw.number)
        offset = len(self.broker.logs[tp])
        self.watch.expected[*tp, offset] = raw
        self.broker.write(tp, [(raw.key, raw.value)], [])
        self.note(f"published {raw.topic}/{raw.number} {offset}: {raw.type} {raw.customer} {raw.message_id}")
        return True

    def _fetching(self) -> list[Worker]:
        return [one for one in self.workers if one.state == RUNNING and len(one.stream.queue) < 3]

    def _fetch(self) -> bool:
        some = self._fetching()
        if not some:
            return False
        worker = self.draws.pick(some)
        waiting = worker.waiting()
        if not waiting:
            return False
        tp, most = self.draws.pick(waiting), 1 + self.draws.below(self.chunk)
        self.note(f"{worker.name} fetches {tp.topic}/{tp.partition} from {worker.position[tp]}, {most} at most")
        worker.fetch(tp, most)
        return True

    def _land(self) -> bool:
        flying = self.broker.flying
        if not flying:
            return False
        sending = self.draws.pick(flying)
        if sending.producer.is_slow and self.draws.below(8):
            return False  # it takes its time
        if not sending.producer.is_alive:
            self.counts["landed after its writer's end"] += 1
        self.broker.land(sending)
        return True

    def _answer(self) -> bool:
        unanswered, beside = self.broker.unanswered, self.broker.beside
        count = len(unanswered) + len(beside)
        if not count:
            return False
        chosen = self.draws.below(count)
        if chosen >= len(unanswered):
            done = beside.pop(chosen - len(unanswered))
            self.note(f"{done.loop.owner.name} is done with something beside its loop")
            done.loop.call_soon(done.run)
            done.loop.step()
            return True
        sending, landed = unanswered.pop(chosen)
        self.note(f"{sending.producer.name} is told: {sending.tp.topic}/{sending.tp.partition} {landed.offset}")
        sending.future.set_result(landed)
        self._worker_of(sending).loop.step()
        return True

    def _worker_of(self, sending: Sending) -> Any:
        return next(one for one in self.workers if one.producer is sending.producer)

    def _commit(self) -> bool:
        some = [one for one in self.workers if one.acked and one.state in (RUNNING, DRAINING)]
        if not some:
            return False
        worker = self.draws.pick(some)
        done = worker.commit()
        if done:
            self.note(f"{worker.name} commits")
        return bool(done)

    def _pass_time(self) -> bool:
        gaps, most = (LONG_GAPS, LONGEST_OF_LONG) if self.is_long else (GAPS, LONGEST)
        gap = gaps[self.draws.below(len(gaps))]
        if self.broker.now + gap > NOON + most:
            return False
        self.broker.now += gap
        for worker in self.workers:
            if worker.state != DEAD:
                worker.loop.pass_time(gap / 1000)
        return True

    def _look(self) -> bool:
        some = [one for one in self.workers if one.role == "engine" and one.state in (RUNNING, DRAINING)]
        if not some:
            return False
        worker = self.draws.pick(some)
        self.note(f"{worker.name} looks for ticks")
        return bool(worker.look())

    # --- membership

    def _start(self, role: str) -> Any:
        self._born += 1
        name, group = f"{role}-{self._born}", self.groups[role]
        if role == "ingest":
            worker: Any = IngestWorker(name, self.broker, group, self.settings, self.parts, self.batch)
        elif role == "adopt":
            worker = AdoptWorker(name, self.broker, group, self.settings, self.parts, self.batch)
        elif role == "learn":
            worker = LearnWorker(name, self.broker, group, self.settings, self.parts, self.batch, self.school)
        else:
            worker = EngineWorker(
                name, self.broker, group, self.settings, self.parts, self.batch,
                skew=SKEWS[self.draws.below(len(SKEWS))], ingest=self.groups["ingest"], watch=self.watch,
            )  # fmt: skip
        worker.is_beside_slow = bool(self.draws.below(2))
        self.workers.append(worker)
        group.members.append(worker)
        group.is_rebalancing = True
        self.note(f"{name} starts")
        return worker

    def _membership(self) -> bool:
        """Let one process, or one group, go on with what it is in the middle of."""
        some = [one for one in self.workers if one.state != DEAD]
        if not some:
            return False
        worker = self.draws.pick(some)
        return self._go_on(worker) or self._rebalanced(worker.group)

    def _go_on(self, worker: Any) -> bool:
        state, group = worker.state, worker.group
        if state == DRAINING:
            if worker.unacked:
                return False
            self._revoked(worker)
            return True
        if state == RECOVERING and not group.is_rebalancing and worker.is_at_work():
            return False
        if state == RECOVERING and not group.is_rebalancing:
            self.note(f"{worker.name} reads back")
            worker.recover(1 + self.draws.below(6))
            if worker.state == RUNNING:
                begins = {f"{tp.topic}/{tp.partition}": at for tp, at in worker.begins.items() if at}
                self.note(f"{worker.name} runs from {begins}")
            return True
        if state in (RECOVERING, RUNNING) and (group.is_rebalancing or worker not in group.members):
            if worker not in group.members and self.draws.below(6) and not self.is_settling:
                return False  # a zombie does not notice soon
            late = "late event" in self.faults and self.draws.chance(40)
            self.note(f"{worker.name} is told of a rebalance")
            self.counts["late event"] += late
            worker.revoke(with_late=late)
            return True
        return False

    def _revoked(self, worker: Any) -> None:
        worker.revoked()
        self.note(f"{worker.name} gives its partitions up")
        group = worker.group
        if worker.state == DEAD:
            return
        if worker.is_stopping:
            self._remove(worker)
            worker.kill()
            return
        if worker not in group.members:
            group.members.append(worker)
            group.is_rebalancing = True

    def _remove(self, worker: Any) -> None:
        group = worker.group
        if worker in group.members:
            group.members.remove(worker)
            group.is_rebalancing = True

    def _rebalanced(self, group: Group) -> bool:
        members = group.members
        dead = [one for one in members if one.state == DEAD]
        if dead:
            for one in dead:
                self._remove(one)
            return True
        if not group.is_rebalancing or not members or any(one.state != JOINED for one in members):
            return False
        group.generation += 1
        group.is_rebalancing = False
        given: dict[str, list[int]] = {one.name: [] for one in members}
        first = self.draws.below(len(members))
        for number in range(group.numbers):
            owner = members[(first + number) % len(members)]
            given[owner.name].append(number)
        self.note(f"generation {group.generation}: {given}")
        for one in members:
            one.assign(given[one.name])
        return True

    def _look_why(self) -> None:
        """Processes have left by themselves: refuse what is none of the designed ways."""
        for worker in self.broker.left:
            error, name = worker.error, type(worker.error).__name__
            self.note(f"{worker.name} leaves: {name}: {error}")
            self.counts[f"left: {name}"] += 1
            if not isinstance(error, DESIGNED):
                text = f"{worker.name} left: {name}: {error}"
                raise ViolationError(text) from error
            # one that was given up while it read back may find that its successor has committed meanwhile
            if isinstance(error, PositionGapError) and not worker.has_hole and worker in worker.group.members:
                text = f"{worker.name} met a hole that nobody made: {error}"
                raise ViolationError(text) from error
        self.broker.left.clear()

    def _alive(self, *states: str) -> list[Any]:
        return [one for one in self.workers if one.state in states]

    def _one(self, *states: str) -> Any:
        some = self._alive(*states)
        return self.draws.pick(some) if some else None
