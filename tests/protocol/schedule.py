"""One schedule: who does what next, what fails, and when; all of it follows from the seed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from streams import at_hand, checkpoints, faust_fixes, models_log
from tests.protocol import reads
from tests.protocol.faults import Faults
from tests.protocol.rest import Rest
from tests.protocol.worker import Left, leave

CHUNK_BYTES: Final = 400  # of a checkpoint: few enough for several chunks


@contextmanager
def simulated() -> Iterator[None]:
    """Have no process end by ``os._exit`` here, and leave no callback behind; many schedules may run inside."""
    if faust_fixes.leave is leave:
        yield
        return
    before, after = list(faust_fixes.before_waiting), list(faust_fixes.after_recovery)
    said = logging.root.manager.disable
    fakes: list[tuple[Any, str, Any]] = [(faust_fixes, "leave", leave)]
    fakes += [
        (module, name, getattr(reads, name))
        for module in (at_hand, checkpoints, models_log)
        for name in ("consumer", "partitions_of", "read_partitions", "spans_of")
        if hasattr(module, name)
    ]
    fakes.append((checkpoints, "records_of", partial(checkpoints.records_of, chunk_bytes=CHUNK_BYTES)))
    installed = [(module, name, getattr(module, name)) for module, name, _ in fakes]
    for module, name, fake in fakes:
        setattr(module, name, fake)
    faust_fixes.before_waiting.clear()
    faust_fixes.after_recovery.clear()
    logging.disable(logging.CRITICAL)  # what is said of a failure is no news here
    try:
        yield
    finally:
        logging.disable(said)
        for module, name, real in installed:
            setattr(module, name, real)
        faust_fixes.before_waiting[:] = before
        faust_fixes.after_recovery[:] = after


class Schedule(Faults, Rest):
    """All processes, logs and faults of one seed."""

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
        # those without a method of their own happen with others
        kinds = [name for name in self.faults if hasattr(self, "_fault_" + name)]
        faults, calm = [getattr(self, "_fault_" + name) for name in kinds], self.calm
        for _ in range(self.steps):
            if faults and not draws.below(calm):
                fault = draws.below(len(faults))
                if faults[fault]():
                    self.counts[kinds[fault]] += 1
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
