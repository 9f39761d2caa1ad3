"""How a worker is: plain numbers that the roles count anyway, gathered when somebody asks."""

from __future__ import annotations

import resource
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from journey.state import FOLD_VERSION
from streams import compiled, faust_fixes
from streams.agents.engine import Engine
from streams.agents.ingest import Ingest
from streams.agents.learn import Learn
from streams.errors import StuckError
from streams.read_model import RedisReadModel
from streams.recovery import Recovery
from streams.settings import Settings
from streams.speech import LastError
from streams.watchdog import Progress, waits_in

RATE_SPAN: Final = 10  # samples, one a second, over which a rate is taken
PAGE_BYTES: Final = resource.getpagesize()


@dataclass
class Role:
    """One role of a worker: its app, its agent, and what happened to its membership."""

    name: str
    app: Any
    agent: Engine | Ingest | Learn
    recovery: Recovery | None = None
    read_model: RedisReadModel | None = None
    rebalances: int = 0
    is_ready: bool = False  # assigned, and recovered
    ends: dict[Any, int] = field(default_factory=dict)  # of its sources, when they were assigned
    samples: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RATE_SPAN + 1))

    def __post_init__(self) -> None:
        faust_fixes.after_recovery.append(self._recovered)
        faust_fixes.before_waiting.append(self._unready)
        self.app.on_partitions_assigned.connect(self._assigned, weak=False)

    def _recovered(self, app: Any, ends: dict[Any, int]) -> None:
        if app is self.app:
            self.is_ready, self.ends = True, dict(ends)

    def _unready(self, app: Any) -> None:
        if app is self.app:
            self.is_ready = False

    async def _assigned(self, sender: Any, assigned: Any, **_: Any) -> None:
        self.rebalances += 1

    def lag(self) -> dict[Any, int]:
        """Return how many records of each source are not done yet, as far as the last fetch told; {} when not ready."""
        if not self.is_ready:
            return {}
        return {tp: max(0, self._end(tp, end) - self._next(tp)) for tp, end in sorted(self.ends.items())}

    def _end(self, tp: Any, assigned: int) -> int:
        try:
            told = self.app.consumer.highwater(tp)
        except AssertionError:  # a rebalance is under way
            told = None
        return assigned if told is None else max(assigned, told)

    def committed(self, tp: Any) -> int | None:
        """Return the offset behind the last record that is committed; None when none is."""
        return faust_fixes.committed(self.app, tp)

    def _next(self, tp: Any) -> int:
        return faust_fixes.committed(self.app, tp) or faust_fixes.begin(self.app, tp) or 0

    def rate(self) -> float:
        """Return events a second over the last samples."""
        if len(self.samples) < 2:
            return 0.0
        (begin, before), (end, after) = self.samples[0], self.samples[-1]
        return (after - before) / max(0.001, end - begin)


@dataclass
class Vitals:
    """One worker: its roles and its process."""

    settings: Settings
    roles: list[Role]
    wall: Callable[[], int]  # ms
    steady: Callable[[], float]  # s
    errors: LastError
    task: Any = None  # what samples; kept, since a loop holds its tasks weakly
    progress: dict[str, Progress] = field(init=False)

    def __post_init__(self) -> None:
        self.progress = {role.name: Progress(self.settings.stuck_after) for role in self.roles}

    @property
    def is_ready(self) -> bool:
        """Whether every role has its partitions, and their state."""
        return all(role.is_ready for role in self.roles)

    def sample(self) -> None:
        """Note how far each role has come; called once a second."""
        for role in self.roles:
            role.samples.append((self.steady(), role.agent.counts["events"]))
            self._check(role)

    def _check(self, role: Role) -> None:
        """End the process when a role is stuck."""
        lag = role.lag()
        done = (role.agent.counts["groups"], role.rebalances, tuple(map(role.committed, lag)))
        idle = self.progress[role.name].stuck_for(self.steady(), waiting=sum(lag.values()), done=done)
        if idle is not None:
            (topic, partition), most = max(lag.items(), key=lambda one: one[1])
            where = (
                "; ".join(waits_in("/streams/agents/", "/streams/customers.py", "/streams/appends.py"))
                or "no task of ours"
            )
            text = (
                f"{role.name} has done nothing for {idle:.0f} s, while {sum(lag.values())} records wait, "
                f"{most} of them in {topic}/{partition}; waiting: {where}"
            )
            faust_fixes.leave(StuckError(text))

    def told(self) -> dict[str, Any]:
        """Return everything, as ``/status`` shows it."""
        usage, epoch = resource.getrusage(resource.RUSAGE_SELF), self.settings.epoch
        rss = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES
        return {
            "ready": self.is_ready,
            "compiled": compiled.is_compiled(),
            "fold_version": FOLD_VERSION,
            "epoch": {"journal": epoch.journal, "state": epoch.state},
            "instance_id": self.settings.instance_id,
            "process": {"cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3), "rss_bytes": rss},
            "last_error": self.errors.last,
            "roles": {role.name: self._role(role) for role in self.roles},
        }

    def _role(self, role: Role) -> dict[str, Any]:
        agent = role.agent
        told: dict[str, Any] = {
            "ready": role.is_ready, "rebalances": role.rebalances, "events_per_second": round(role.rate(), 1),
            "counts": dict(agent.counts), "seconds": {name: round(of, 6) for name, of in agent.seconds.items()},
            "lag": {f"{tp.topic}/{tp.partition}": lag for tp, lag in role.lag().items()},
        }  # fmt: skip
        if isinstance(agent, Ingest):
            told["dead_letters"] = dict(agent.reasons)
        elif isinstance(agent, Learn):
            told |= agent.told()
        else:
            told |= self._engine(role, agent)
        return told

    def _engine(self, role: Role, agent: Engine) -> dict[str, Any]:
        now, overdue, late = self.wall(), 0, 0
        for shard, sight in agent.sights():
            if sight.clock == "wall" and shard.agenda.first() <= now:
                overdue += shard.agenda.overdue(now)
                prompt = shard.agenda.next_prompt()
                late = max(late, 0 if prompt is None else now - prompt)
        model, recovery = role.read_model, role.recovery
        broker = agent.broker_now()
        return {
            "clock_ahead_seconds": None if broker is None else round((now - broker) / 1000, 3),
            "timers_overdue": overdue,
            "prompt_timer_late_seconds": max(0, late) / 1000,
            "table_records": max(0, agent.table.size() - len(agent.table.shards())),
            "recovery": recovery and {"seconds": round(recovery.seconds, 3), "records": recovery.records},
            "read_model": model and {
                "behind": model.behind(), "stale_seconds": round(model.stale(), 3), "away": model.is_away,
                **model.counts,
            },
        }  # fmt: skip
