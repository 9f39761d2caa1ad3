"""One schedule: who does what next, what fails, and when; all of it follows from the seed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

from aiokafka.errors import KafkaError
from faust.types import TP

from journey.errors import PositionGapError
from streams import faust_fixes, topics
from streams.alignment import PATIENCE
from streams.errors import ForeignWriteError
from streams.settings import Settings
from tests.protocol.broker import Broker, Group, Sending
from tests.protocol.draws import Draws
from tests.protocol.history import NOON, RAW, History, Raw
from tests.protocol.oracle import ViolationError, Watch
from tests.protocol.roles import CHANGELOG, EngineWorker, IngestWorker, Parts, Table
from tests.protocol.worker import DEAD, DRAINING, JOINED, RECOVERING, RUNNING, Left, Worker, leave

MOST_ALIVE: Final = 3  # processes of a role, zombies too
MOST_AT_REST: Final = 40  # records fetched at once when nothing fails any more
MOST_STEPS: Final = 4_000  # until everything has to be at rest
GAPS: Final = (0, 0, 1, 40, 900, 2_000, 61_000, 20 * 60_000, 61 * 60_000)  # ms
LONGEST: Final = 20 * 3_600_000  # ms a schedule lasts: within it a message id is remembered
SKEWS: Final = (0, 0, -3_000, 4_000, -700_000, 700_000)  # ms between a worker's clock and the broker's
FAULTS: Final = (
    "crash", "unanswered", "evict", "rebalance", "join", "stop", "again", "hole", "lapse", "late event", "late landing",
)  # fmt: skip
FOREIGN: Final = {"evict", "lapse", "landed after its writer's end", "unanswered"}  # after these, somebody else's record may be the last
DESIGNED: Final = (KafkaError, ForeignWriteError, PositionGapError)  # what may end a process


@lru_cache(maxsize=1024)
def _settings(partitions: int, page_entries: int, group_chunks: int, held: int) -> Settings:
    told = Settings(partitions=partitions, page_entries=page_entries, group_chunks=group_chunks, redis_url="")
    return told.model_copy(update={"held_records": held})  # fewer than anybody may set


@contextmanager
def simulated() -> Iterator[None]:
    """Have no process end by ``os._exit`` here, and leave no callback behind; many schedules may run inside."""
    if faust_fixes.leave is leave:
        yield
        return
    ends, before, after = faust_fixes.leave, list(faust_fixes.before_waiting), list(faust_fixes.after_recovery)
    said = logging.root.manager.disable
    setattr(faust_fixes, "leave", leave)  # noqa: B010  # a fake in its place: mypy forbids the assignment
    faust_fixes.before_waiting.clear()
    faust_fixes.after_recovery.clear()
    logging.disable(logging.CRITICAL)  # what is said of a failure is no news here
    try:
        yield
    finally:
        logging.disable(said)
        setattr(faust_fixes, "leave", ends)  # noqa: B010
        faust_fixes.before_waiting[:] = before
        faust_fixes.after_recovery[:] = after


class Schedule:
    """All processes, logs and faults of one seed."""

    def __init__(self, seed: int, parts: Parts | None = None, trace: Callable[[str], None] | None = None) -> None:
        self.seed, self.parts, self._trace = seed, parts or Parts(), trace
        draws = self.draws = Draws(seed)
        partitions, raw = 1 + draws.below(3), 1 + draws.below(2)
        self.settings = _settings(partitions, 1 + draws.below(3), 1 + draws.below(3), 20 * (1 + draws.below(4)))
        self.chunk, self.batch = 1 + draws.below(4), 1 + draws.below(5)
        counts = dict.fromkeys(RAW, raw) | {
            topics.CONTROL: 1, topics.JOURNAL: partitions, topics.TRIGGERS: 2, topics.DEAD_LETTERS: 2,
            CHANGELOG: partitions,
        }  # fmt: skip
        self.broker = Broker(counts, NOON + 3_600_000)
        self.watch = Watch(partitions, CHANGELOG, topics.JOURNAL, topics.DEAD_LETTERS, topics.TRIGGERS)
        self.broker.landed, self.broker.trace = self.watch.landed, trace
        self.groups = {
            "ingest": Group([*RAW, topics.CONTROL], raw, self.broker),
            "engine": Group([topics.JOURNAL], partitions, self.broker),
        }
        for group in self.groups.values():
            group.on_commit = self.watch.committed
        self.history = History(draws, raw, 2 + draws.below(4))
        self.left_to_say = 4 + draws.below(14)
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

    # --- the whole

    def run(self) -> Counter[str]:
        """Run to the end and check it; return what happened how often."""
        with simulated():
            try:
                self._disturbed()
                self._settle()
                self._check()
            finally:
                for worker in self.workers:
                    worker.loop.bury(Left)
                    faust_fixes._begins.pop(worker.name, None)
                faust_fixes.before_waiting.clear()
                faust_fixes.after_recovery.clear()
        return self.counts

    def _disturbed(self) -> None:
        draws, actions = self.draws, self._actions()
        for role in self.groups:
            for _ in range(1 + draws.below(2)):
                self._start(role)
        steps = 10 * self.left_to_say + draws.below(60)
        faults, calm = [getattr(self, "_fault_" + name.replace(" ", "_")) for name in self.faults], self.calm
        for _ in range(steps):
            if faults and not draws.below(calm):
                fault = draws.below(len(faults))
                if faults[fault]():
                    self.counts[self.faults[fault]] += 1
            else:
                actions[draws.below(len(actions))]()
            if self.broker.left:
                self._look_why()

    def _actions(self) -> list[Callable[[], Any]]:
        shares: list[tuple[Callable[[], Any], int]] = [
            (self._say, 2), (self._fetch, 5), (self._land, 4), (self._answer, 4), (self._commit, self.commits),
            (self._membership, 4), (self._pass_time, 1), (self._look, 1),
        ]  # fmt: skip
        return [action for action, share in shares for _ in range(share)]

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
        unanswered = self.broker.unanswered
        if not unanswered:
            return False
        sending, landed = unanswered.pop(self.draws.below(len(unanswered)))
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
        gap = GAPS[self.draws.below(len(GAPS))]
        if self.broker.now + gap > NOON + LONGEST:
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

    def _start(self, role: str) -> Worker:
        self._born += 1
        name, group = f"{role}-{self._born}", self.groups[role]
        if role == "ingest":
            worker: Any = IngestWorker(name, self.broker, group, self.settings, self.parts, self.batch)
        else:
            worker = EngineWorker(
                name, self.broker, group, self.settings, self.parts, self.batch,
                skew=SKEWS[self.draws.below(len(SKEWS))], ingest=self.groups["ingest"], watch=self.watch,
            )  # fmt: skip
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

    is_settling = False

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
        for dead in [one for one in members if one.state == DEAD]:
            self._remove(dead)
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

    # --- faults

    def _alive(self, *states: str) -> list[Any]:
        return [one for one in self.workers if one.state in states]

    def _one(self, *states: str) -> Any:
        some = self._alive(*states)
        return self.draws.pick(some) if some else None

    def _fault_crash(self) -> bool:
        worker = self._one(RUNNING, DRAINING, RECOVERING)
        if worker is None:
            return False
        self.note(f"{worker.name} is killed")
        worker.kill()
        self._slow_down(worker)
        return True

    def _fault_unanswered(self) -> bool:
        """A writer hears nothing of a batch; it may be in the log, come there later, or be lost."""
        sendings = [one for one in self.broker.flying if one.producer.is_alive]
        sendings += [one for one, _ in self.broker.unanswered]
        if not sendings:
            return False
        sending = self.draws.pick(sendings)
        is_lost = sending in self.broker.flying and bool(self.draws.below(2))
        self.note(f"{sending.producer.name} hears nothing of {sending.tp.topic}/{sending.tp.partition}")
        if is_lost:
            self.note("and it is lost")
            self.counts["lost though sent"] += 1
            self.broker.flying.remove(sending)
        self.broker.fail(sending)
        self._worker_of(sending).loop.step()
        return True

    def _fault_evict(self) -> bool:
        """The group gives up a process that goes on: a zombie."""
        some = [one for one in self._alive(RUNNING, DRAINING, RECOVERING) if one in one.group.members]
        if not some:
            return False
        worker = self.draws.pick(some)
        self._remove(worker)
        self._slow_down(worker)
        self.note(f"{worker.name} is given up, and goes on")
        return True

    def _slow_down(self, worker: Any) -> None:
        """What it has sent, or still sends, comes to its log long after a successor has begun."""
        if "late landing" in self.faults and not worker.producer.is_slow and self.draws.below(4):
            worker.producer.is_slow = True
            self.counts["late landing"] += 1

    def _fault_rebalance(self) -> bool:
        group = self.draws.pick(list(self.groups.values()))
        if group.is_rebalancing:
            return False
        group.is_rebalancing = True
        return True

    def _fault_join(self) -> bool:
        role = self.draws.pick(("ingest", "engine"))
        if sum(one.role == role and one.state != DEAD for one in self.workers) >= MOST_ALIVE:
            return False
        self._start(role)
        return True

    def _fault_stop(self) -> bool:
        worker = self._one(RUNNING)
        if worker is None:
            return False
        self.note(f"{worker.name} is asked to stop")
        worker.is_stopping = True
        worker.revoke(with_late=False)
        return True

    def _fault_again(self) -> bool:
        """A seek that comes late: a partition is delivered again from where it began."""
        worker = self._one(RUNNING)
        if worker is None or not worker.assigned:
            return False
        tp = self.draws.pick(worker.assigned)
        if worker.position[tp] == worker.begins[tp]:
            return False
        worker.position[tp] = worker.begins[tp] + self.draws.below(worker.position[tp] - worker.begins[tp])
        self.note(f"{worker.name} is sent {tp.topic}/{tp.partition} again from {worker.position[tp]}")
        return True

    def _fault_hole(self) -> bool:
        """A fetch is dropped on the way to the agent."""
        some = self._fetching()
        waiting = [(one, tp) for one in some for tp in one.waiting()]
        if not waiting:
            return False
        worker, tp = self.draws.pick(waiting)
        worker.position[tp] += 1
        worker.has_hole = True
        self.note(f"{worker.name} loses {tp.topic}/{tp.partition} {worker.position[tp] - 1} on the way")
        return True

    def _fault_lapse(self) -> bool:
        """A revocation does not wait any longer for what is in flight."""
        worker = self._one(DRAINING)
        if worker is None or worker.is_stopping:
            return False
        self._revoked(worker)
        return True

    def _fault_late_event(self) -> bool:
        return False  # happens with a revocation

    def _fault_late_landing(self) -> bool:
        return False  # happens with a crash

    # --- coming to rest

    def _settle(self) -> None:
        """No more faults; what is on its way from the dead lands or not; and the owners write once more."""
        self.is_settling = True
        while self._say():
            pass
        if self.draws.below(2):
            self._rest()
        # the last of each role: what was lost on the way at the very end is noticed by nobody before somebody starts
        for worker in self._alive(RUNNING, JOINED, DRAINING, RECOVERING):
            worker.kill()
        self._rest()
        while self.broker.flying:
            self._late()
            self._rest()
        if not self.counts.keys() & FOREIGN:
            return
        for _ in range(20):  # more than the worst skew of a clock, in minutes
            if self._everybody_writes():
                return
        text = "no round of ticks in which nobody leaves"
        raise ViolationError(text)

    def _late(self) -> None:
        """Batches of the dead: each lands now, or never."""
        for sending in list(self.broker.flying):
            if sending in self.broker.flying:
                if self.draws.below(2):
                    self.counts["landed after its writer's end"] += 1
                    self.broker.land(sending)
                else:
                    self.counts["lost though sent"] += 1
                    self.broker.flying.remove(sending)

    def _everybody_writes(self) -> bool:
        """Let each journal partition get a tick, as an idle one does each minute; tell whether nobody had to leave."""
        ends = sum(count for name, count in self.counts.items() if name.startswith("left"))
        self.broker.now += 61_000
        before = [len(pages) for pages in self.watch.pages]
        for worker in self._alive(RUNNING):
            if worker.role == "engine":
                worker.look()
        self._rest()
        after = [len(pages) for pages in self.watch.pages]
        if ends != sum(count for name, count in self.counts.items() if name.startswith("left")):
            return False
        return all(now > then or not now for now, then in zip(after, before, strict=True))

    def _rest(self) -> None:
        """Let everything go on until nothing moves any more."""
        for _ in range(MOST_STEPS):
            for role, group in self.groups.items():
                if not any(one.state != DEAD and one in group.members for one in self.workers):
                    self._start(role)
            moved = False
            self._land_all(are_slow=False)
            while self._answer():
                moved = True
            for worker in self.workers:
                if worker.state != DEAD:
                    moved |= self._go_on(worker)
                    moved |= self._rebalanced(worker.group)
                    if worker.state == RUNNING:
                        for tp in worker.waiting():
                            if worker.state == RUNNING:
                                worker.fetch(tp, MOST_AT_REST)
                                moved = True
                    if worker.state != DEAD:
                        moved |= bool(worker.commit())
            if self.broker.left:
                self._look_why()
                moved = True
            if not moved and not self._land_all(are_slow=True) and not self._wait():
                return
        text = "it does not come to rest"
        raise ViolationError(text)

    def _wait(self) -> bool:
        """Let time pass for who waits for a partition that brings nothing; tell whether anybody does."""
        some = [one for one in self.workers if one.state != DEAD and one.role == "ingest" and len(one.agent.merge)]
        for worker in some:
            worker.loop.pass_time(PATIENCE / 2)
        return bool(some)

    def _land_all(self, *, are_slow: bool) -> bool:
        """Land what the living have sent; tell whether there was anything."""
        some = [one for one in self.broker.flying if one.producer.is_alive and one.producer.is_slow == are_slow]
        for sending in some:
            self.broker.land(sending)
        return bool(some)

    def _check(self) -> None:
        self.watch.settled(self.broker.logs)
        for group in self.groups.values():
            for tp in group.tps_of(list(range(group.numbers))):
                end = len(self.broker.logs[tp])
                if group.committed.get(tp, 0) != end:
                    text = f"{tp} is committed at {group.committed.get(tp)}, it ends at {end}"
                    raise ViolationError(text)
        self._compact()
        self.counts["trigger repeats"] += self.watch.trigger_repeats

    def _compact(self) -> None:
        """A day later the broker keeps the last record of each key; a new worker reads that."""
        for number in range(self.settings.partitions):
            log = self.broker.logs[TP(CHANGELOG, number)]
            kept = sorted({record.key: record.offset for record in log}.values())
            table = Table()
            table.recover([log[offset] for offset in kept])
            self.watch.read_back(number, table.records)
