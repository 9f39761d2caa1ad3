"""The two roles of a worker, put together from production's parts as ``streams/app.py`` does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import TopicPartition

from journey.scoring import Library
from streams import faust_fixes, topics
from streams.agents.adopt import Adopt
from streams.agents.engine import Engine, Now
from streams.agents.ingest import Ingest
from streams.agents.learn import Learn, School
from streams.app import _check_sources, _tick
from streams.appends import Log
from streams.at_hand import AtHand
from streams.checkpoints import Checkpoints
from streams.control import ControlLog
from streams.customers import Customers, Prepare
from streams.errors import RevokedError
from streams.merge import Merge
from streams.models_log import ModelsLog
from streams.settings import Settings
from streams.snapshots import keys_of
from streams.stores import MemoryStore
from tests.protocol.broker import Broker, Group, Producer
from tests.protocol.oracle import Watch
from tests.protocol.reads import Following
from tests.protocol.worker import DEAD, Left, Worker, quietly

CHANGELOG: Final = topics.changelog(Settings())


class Table(Customers):
    """The customers in memory, read back from the changelog in pieces, as ``streams.recovery`` does."""

    def __init__(self, library: Library | None = None, prepare: Prepare | None = None) -> None:
        super().__init__(MemoryStore(), CHANGELOG, library, prepare)
        self.read_to: dict[int, int] = {}
        self.ends: dict[int, int] = {}

    def assigned(self, ends: dict[int, int]) -> None:
        """Begin to read these partitions up to these offsets."""
        self.keep_only(ends)
        self.read_to = {number: self.begin(number, (0, end))[0] for number, end in ends.items()}
        self.ends = ends

    def read_back(self, number: int, records: Sequence[Any]) -> None:
        """Take the next records of a partition."""
        is_same_log = self.take(number, records)
        self.read_to[number] = self.read_to[number] + len(records) if is_same_log else 0

    def behind(self) -> list[int]:
        """Return the partitions that are not read to their end."""
        return [number for number, end in self.ends.items() if self.read_to[number] < end]

    def recovered(self) -> None:
        """All is read."""
        for number, end in self.ends.items():
            assert self.reached(number, end)

    def shown(self, number: int, key: bytes) -> bytes | None:
        """Return a record as the read model reads it; None when the partition is not ours any more."""
        return self.read(number, key) if self.holds(number) else None

    def read_whole(self, number: int, records: Sequence[Any]) -> dict[bytes, bytes]:
        """Read a whole changelog partition; return what is kept of it."""
        if records:
            self.assigned({number: records[-1].offset + 1})
            self.read_back(number, records)
        return dict(self.stored(number)) if records else {}


class SteeredBy:
    """The control topic as a journal on the wall clock sees it: no marks."""

    is_events_clock = False
    changed: Any = None

    async def ready(self) -> None:
        """At once."""

    def again(self) -> None:
        """There are no marks."""


@dataclass(frozen=True)
class Parts:
    """What workers are made of; a planted bug replaces one."""

    ingest: type[Ingest] = Ingest
    engine: type[Engine] = Engine
    table: type[Table] = Table
    log: type[Log] = Log
    merge: type[Merge] = Merge
    learn: type[Learn] = Learn
    adopt: type[Adopt] = Adopt


class IngestWorker(Worker):
    """Copies raw records into the journal."""

    role = "ingest"

    def __init__(self, name: str, broker: Broker, group: Group, settings: Settings, parts: Parts, most: int) -> None:
        super().__init__(name, broker, group, settings, parts.log("", 0), most)
        control: Any = SteeredBy()
        self.agent: Ingest = parts.ingest(self.app, settings, self.log, control, parts.merge(), steady=self.loop.time)
        self.begin()

    def forget(self) -> None:
        self.agent.forget(self.app)


class ReadModel:
    """Checks that nothing is shown which is not durable."""

    def __init__(self, table: Table, watch: Watch) -> None:
        self._table, self._watch = table, watch
        self._owned: set[int] = set()

    def own(self, partition: int) -> None:
        self._owned.add(partition)

    def follow(self, partition: int, keys: Iterable[str], at: int) -> None:
        for key in keys if partition in self._owned else ():
            name = key.encode()
            self._watch.shown(partition, name, self._table.shown(partition, name), at)

    def disown(self, partitions: Iterable[int]) -> None:
        self._owned.difference_update(partitions)


class Unread:
    """What ingest still has to read, as the tick task looks it up."""

    def __init__(self, broker: Broker, ingest: Group) -> None:
        self._broker, self._ingest = broker, ingest

    async def oldest(self) -> int | None:
        stamps = [
            log[at].timestamp
            for tp in self._ingest.tps_of(list(range(self._ingest.numbers)))
            if (at := self._ingest.committed.get(tp, 0)) < len(log := self._broker.logs[tp])
        ]
        return min(stamps, default=None)

    async def cut_off(self, applied: dict[str, int]) -> str | None:
        for tp in self._ingest.tps_of(list(range(self._ingest.numbers))):
            taken = applied.get(f"{tp.topic}/{tp.partition}")
            if taken is not None and len(self._broker.logs[tp]) <= taken:
                return f"{tp} ends below {taken}"
        return None


class EngineWorker(Worker):
    """Folds the journal."""

    role = "engine"

    def __init__(
        self, name: str, broker: Broker, group: Group, settings: Settings, parts: Parts, most: int,
        *, skew: int, ingest: Group, watch: Watch,
    ) -> None:  # fmt: skip
        super().__init__(name, broker, group, settings, parts.log("", 0), most)
        at_hand = AtHand(settings)
        self.table = parts.table(at_hand.library, at_hand.for_partition)
        clock = Now(lambda: broker.now + skew, lambda: broker.now / 1000)
        self._read_model: Any = ReadModel(self.table, watch)
        self.agent: Engine = parts.engine(
            self.app,
            settings,
            self.log,
            self.table,
            self._read_model,
            clock,
            at_hand,
        )
        self._unread: Any = Unread(broker, ingest)
        self._looking: Any = None
        self._building: Any = None
        self._has_begun = False
        self.begin()

    def forget(self) -> None:
        self.agent.forget(set(self.numbers))

    def assign(self, numbers: list[int]) -> None:
        super().assign(numbers)
        self._has_begun = False
        if self._building is not None:
            self._building.cancel()
            self._building = None

    def is_at_work(self) -> bool:
        return self.agent.step.locked()

    def recover(self, most: int) -> None:
        if not self._has_begun:
            self._has_begun = True
            logs = self.broker.logs
            self.table.assigned({number: len(logs[CHANGELOG, number]) for number in self.numbers})
        behind = self.table.behind()
        if behind:
            number = behind[0]
            begin = self.table.read_to[number]
            end = min(begin + most, self.table.ends[number])
            self.call(self._read_back, number, self.broker.logs[CHANGELOG, number][begin:end])
        if self.state != DEAD and not self.table.behind():
            if self._building is None:
                self.table.recovered()
                self._building = self.run(self._build())
            if self.state != DEAD and self._building.done():
                self.resume()

    async def _build(self) -> None:
        """Build the working copies, for which the models in force have to be at hand."""
        with faust_fixes.fail_stop():
            try:
                for number in sorted(self.numbers):
                    await self.table.build(number)
            except (RevokedError, asyncio.CancelledError):
                return  # the next assignment begins anew

    def _read_back(self, number: int, records: Sequence[Any]) -> None:
        self.table.read_back(number, records)

    def began(self) -> None:
        for shard in self.table.shards():
            self._read_model.own(shard.number)

    def look(self) -> bool:
        """Look once whether ticks are due, as production's task does, unless a look is under way."""
        if self._looking is not None and not self._looking.done():
            return False
        self._looking = self.run(quietly(self._look()))
        return True

    async def _look(self) -> None:
        await _check_sources(self.agent, self._unread)
        await _tick(self.agent, self._unread, self.settings)


class LearnWorker(Worker):
    """Learns from samples."""

    role = "learn"

    def __init__(
        self, name: str, broker: Broker, group: Group, settings: Settings, parts: Parts, most: int, school: School
    ) -> None:
        super().__init__(name, broker, group, settings, parts.log("", 0), most)
        keys = keys_of(settings)
        self.agent: Learn = parts.learn(
            self.app, settings, self.log, ModelsLog(settings, keys), Checkpoints(settings, self.log), school, keys,
            self.loop.time,
        )  # fmt: skip
        self.begin()

    def forget(self) -> None:
        self.agent.forget(self.app)


class AdoptWorker(Worker):
    """Puts in force what learners publish."""

    role = "adopt"

    def __init__(self, name: str, broker: Broker, group: Group, settings: Settings, parts: Parts, most: int) -> None:
        super().__init__(name, broker, group, settings, parts.log("", 0), most)
        control = ControlLog(settings)
        control._consumer = Following(broker, TopicPartition(topics.CONTROL, 0))
        counts = dict.fromkeys(("adopted", "refused", "passed_over"), 0)
        self.agent: Adopt = parts.adopt(self.app, settings, self.log, control, keys_of(settings), counts)
        self.begin()

    def forget(self) -> None:
        """It keeps nothing of its partition."""


__all__ = [
    "CHANGELOG",
    "AdoptWorker",
    "EngineWorker",
    "IngestWorker",
    "LearnWorker",
    "Left",
    "Parts",
    "Producer",
    "Table",
]
