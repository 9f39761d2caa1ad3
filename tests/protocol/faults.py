"""What goes wrong in a schedule. Each tells whether it found something to do wrong."""

from __future__ import annotations

from typing import Any, Final

from tests.protocol.processes import Processes
from tests.protocol.worker import DEAD, DRAINING, RECOVERING, RUNNING

MOST_ALIVE: Final = 3  # processes of a role, zombies too


class Faults(Processes):
    """Crashes, lost and late answers, zombies, rebalances, holes."""

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
        role = self.draws.pick(list(self.groups))
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
        # a topic that is compacted has holes by right; a snapshot that is missed is made up for by the next version
        some = [one for one in self._fetching() if one.role != "adopt"]
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
