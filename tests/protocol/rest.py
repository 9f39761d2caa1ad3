"""The end of a schedule: nothing fails any more, everything comes to rest, and is checked."""

from __future__ import annotations

from typing import Final

from faust.types import TP

from journey.samples import FAMILIES
from streams import topics
from streams.agents.learn import EVERY
from streams.alignment import PATIENCE
from streams.checkpoints import Reading
from tests.protocol.learner import check_models
from tests.protocol.oracle import ViolationError
from tests.protocol.processes import Processes
from tests.protocol.reads import compacted
from tests.protocol.roles import CHANGELOG, Table
from tests.protocol.worker import DEAD, DRAINING, JOINED, RECOVERING, RUNNING

MOST_AT_REST: Final = 40  # records fetched at once when nothing fails any more
MOST_STEPS: Final = 4_000  # until everything has to be at rest
# after these somebody else's record may be the last of its key
FOREIGN: Final = {"evict", "lapse", "landed after its writer's end", "unanswered"}


class Rest(Processes):
    """What settles, and what has to hold then."""

    def _settle(self) -> None:
        """No more faults; what is on its way from the dead lands or not; and the owners write once more."""
        self.is_settling = True
        while self._say():
            if self.is_long:
                self._pass_time()
        if self.draws.below(2):
            self._rest()
        # what was lost on the way at the very end is noticed by nobody before somebody starts
        if self.counts["hole"] or self.draws.below(2):
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
        alive = [one for one in self.workers if one.state != DEAD]
        some = [one for one in alive if one.role == "ingest" and len(one.agent.merge)]
        for worker in some:
            worker.loop.pass_time(PATIENCE / 2)
        full = [one for one in alive if one.role == "learn" and any(pupil.held for pupil in one.agent.pupils.values())]
        for worker in full:
            worker.loop.pass_time(EVERY)
        return bool(some) or bool(full)

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
        if "learn" in self.groups:
            self._check_learned()
        if "adopt" in self.groups and self.watch.adopted != self.watch.newest():
            text = f"{self.watch.adopted} is in force, not {self.watch.newest()}"
            raise ViolationError(text)
        self._compact()
        self.counts["sample repeats"] += self.watch.sample_repeats
        self.counts["samples"] += sum(map(len, self.watch.samples.values()))
        self.counts["scored customers"] += self.watch.scored
        self.counts["models"] += len(self.watch.models)
        self.counts["trigger repeats"] += self.watch.trigger_repeats
        self.counts["commits that went back"] += self.watch.went_back

    def _check_learned(self) -> None:
        """Compare what was published with the samples that there are; compacted, the checkpoints still cover them."""
        logs, samples = self.broker.logs, dict[str, list[bytes]]()
        for number, family in enumerate(FAMILIES):
            samples[family] = [record.value or b"" for record in logs[TP(topics.SAMPLES, number)]]
            log, reading = logs[TP(topics.CHECKPOINTS, number)], Reading(family)
            for record in compacted(log):
                reading.take(record.key, record.value)
            covered = 0 if reading.best is None else reading.best[0]["next"]
            if covered != len(samples[family]):
                text = f"after compaction the checkpoint of {family} covers {covered} of {len(samples[family])} samples"
                raise ViolationError(text)
        check_models(self.school, samples, self.watch.models, self.watch.alarms)

    def _compact(self) -> None:
        """A day later the broker keeps the last record of each key; a new worker reads that."""
        for number in range(self.settings.partitions):
            kept = compacted(self.broker.logs[TP(CHANGELOG, number)])
            self.watch.read_back(number, Table().read_whole(number, kept))
