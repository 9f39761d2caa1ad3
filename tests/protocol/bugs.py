"""Bugs planted on purpose: each is a small change of one part, and the schedules have to find it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, cast

import orjson
from aiokafka.errors import KafkaError

from journey import adoptions
from journey.engine import Shard
from journey.scoring import Library
from streams import faust_fixes, topics
from streams.agents.adopt import Adopt
from streams.agents.engine import Engine
from streams.agents.ingest import Ingest
from streams.agents.learn import Learn, Pupil
from streams.appends import Appended, Headers, Log, Record
from streams.arrivals import Parsed
from streams.checkpoints import Checkpoint
from streams.customers import Held, Prepare
from streams.merge import Merge
from tests.protocol.roles import CHANGELOG, Parts, Table


class _Changed:
    """A shard, one method of which is another's."""

    def __init__(self, shard: Shard, changes: list[Record]) -> None:
        self._shard, self._changes = shard, changes

    def changes(self) -> list[Record]:
        return self._changes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shard, name)


class PartitionFirst(Table):
    """The partition record is written before the customers."""

    async def write(self, journal: Any, shards: Iterable[Shard]) -> None:
        first: Any = [
            _Changed(shard, [*changes[-1:], *changes[:-1]]) for shard in shards if (changes := shard.changes())
        ]
        await super().write(journal, first)


class OnePositionForAll(Engine):
    """What was applied is remembered for the worker, not for each journal partition."""

    async def _step(self, group: list[Any]) -> None:
        applied: dict[str, int] = self.__dict__.setdefault("applied", {})
        for event in group:
            partition = self.table.shard(event.message.partition).partition
            for source, offset in partition["applied"].items():
                applied[source] = max(offset, applied.get(source, -1))
            partition["applied"] = applied
        await super()._step(group)


class StateBeforeTriggers(Log):
    """Triggers are sent after the state that remembers them."""

    late = topics.TRIGGERS

    async def append(
        self, topic: str, partition: int, records: Sequence[Record], headers: Headers = ()
    ) -> list[Appended]:
        held: list[Any] = self.__dict__.setdefault("held", [])
        if topic == self.late:
            held.append((topic, partition, records, headers))
            return []
        done = await super().append(topic, partition, records, headers)
        if topic == CHANGELOG:
            while held:
                await super().append(*held.pop())
        return done


class StateBeforeSamples(StateBeforeTriggers):
    """Samples are sent after the state that remembers them."""

    late = topics.SAMPLES


class SamplesNotNumbered(Engine):
    """All samples that one entry causes have the same position."""

    async def _fold(self, number: int, records: list[Any]) -> Shard:
        shard = await super()._fold(number, records)
        for _, sample in shard.samples:
            sample["src"][3] = 0
        return shard


class AdoptsWhateverComes(Engine):
    """An adoption counts, whatever it says it replaces."""

    async def _fold(self, number: int, records: list[Any]) -> Shard:
        rule = adoptions.apply
        setattr(adoptions, "apply", self._applied)  # noqa: B010
        try:
            return await super()._fold(number, records)
        finally:
            setattr(adoptions, "apply", rule)  # noqa: B010

    @staticmethod
    def _applied(in_force: dict[str, list[Any]], entry: Mapping[str, Any]) -> bool:
        in_force[entry["slot"]] = [entry["model"], entry["version"], entry["sha256"]]
        return True


class ModelsNotBrought(Table):
    """Working copies are built before the models that are in force are at hand."""

    def __init__(self, library: Library | None = None, prepare: Prepare | None = None) -> None:
        super().__init__(library)


class AcknowledgesSamplesFirst(Learn):
    """Samples are acknowledged before the checkpoint that covers them is there."""

    async def _save(self, pupil: Pupil) -> None:
        for event in pupil.held:
            event.ack()
        await super()._save(pupil)


class CheckpointBeforeModels(Learn):
    """Models are published after the checkpoint that covers their samples."""

    async def _flush(self) -> None:
        if any(b".fit/" in (key or b"") for key, _ in self._outbox):
            await super()._flush()

    async def _save(self, pupil: Pupil) -> None:
        await super()._save(pupil)
        await super()._flush()


class OwnFitCounts(Learn):
    """A learner goes on with what its own fit gave, whatever was published before."""

    async def _ran(self, pupil: Pupil, fit: Any) -> dict[str, Any]:
        self.__dict__["mine"] = await super()._ran(pupil, fit)
        return dict(self.__dict__["mine"])

    async def _decided(self, pupil: Pupil, fit: Any, offset: int) -> dict[str, Any]:
        self.__dict__["mine"] = None
        decided = await super()._decided(pupil, fit, offset)
        return self.__dict__["mine"] or decided


class AcknowledgesModelsFirst(Adopt):
    """A snapshot is acknowledged before the adoption that it causes is in the control topic."""

    async def run(self, stream: Any) -> None:
        await super().run(_AcknowledgedAtOnce(stream))


class _AcknowledgedAtOnce:
    """A stream whose events are acknowledged as they are handed over."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def noack(self) -> _AcknowledgedAtOnce:
        return self

    async def events(self) -> AsyncIterator[Any]:
        async for event in self._stream.noack().events():
            event.ack()
            yield event


class OldCheckpointFirst(Log):
    """The checkpoint before is deleted before the new one is there."""

    async def append(
        self, topic: str, partition: int, records: Sequence[Record], headers: Headers = ()
    ) -> list[Appended]:
        if topic == topics.CHECKPOINTS:
            records = sorted(records, key=lambda record: cast(Any, record[1]) is not None)
        return await super().append(topic, partition, records, headers)


class SamplesLearnedTwice(Learn):
    """What the checkpoint has learned is learned again."""

    def _pupil(self, number: int, found: Checkpoint | None, end: int) -> Pupil:
        pupil = super()._pupil(number, found, end)
        pupil.next = faust_fixes.begin(self.app, (topics.SAMPLES, number)) or 0
        pupil.learner.applied.clear()  # type: ignore[attr-defined]  # as if positions did not stand in the state
        return pupil


class GoesOnAfterFailure(Ingest):
    """An append that failed is forgotten, and the next page written."""

    async def _append(self, parsed: list[Parsed]) -> None:
        try:
            await super()._append(parsed)
        except KafkaError:
            self.counts["gave_up"] += 1


class AcknowledgesFirst(Ingest):
    """A chunk is acknowledged when it is received."""

    def _receive(self, event: Any) -> None:
        super()._receive(event)
        event.ack()


class LetterNotAwaited(Log):
    """Dead letters are sent, and nobody waits for them."""

    async def append(
        self, topic: str, partition: int, records: Sequence[Record], headers: Headers = ()
    ) -> list[Appended]:
        if topic == topics.DEAD_LETTERS:
            batch = self._producer.create_batch()
            for key, value in records:
                batch.append(key=key, value=value, timestamp=None, headers=list(headers))
            await self._producer.send_batch(batch, topic, partition=partition)
            return []
        return await super().append(topic, partition, records, headers)


class BatchesNotAwaited(Log):
    """The batches of one append are sent at once, none waiting for the one before."""

    async def append(
        self, topic: str, partition: int, records: Sequence[Record], headers: Headers = ()
    ) -> list[Appended]:
        waiting = []
        for record in reversed(records):
            batch = self._producer.create_batch()
            batch.append(key=record[0], value=record[1], timestamp=None, headers=list(headers))
            waiting.append(await self._producer.send_batch(batch, topic, partition=partition))
        landed = [await future for future in waiting]
        return [Appended(one.offset, 1, one.timestamp) for one in landed]


class LastRecordWins(Table):
    """Recovery keeps the last record of each key."""

    def _newest(self, partition: int, records: Sequence[Any], held: Held) -> tuple[dict[bytes, bytes], set[bytes]]:
        super()._newest(partition, records, held)
        return {record.key: record.value for record in records}, set()


class StampNotLookedAt(Table):
    """A customer whose record already reflects a page is folded into it again."""

    async def build(self, partition: int) -> None:
        await super().build(partition)
        self._ours(partition).shard = None

    def shard(self, partition: int) -> Shard:
        held = self._ours(partition)
        if held.shard is None:
            read = partial(self._unstamped, partition)
            held.shard = Shard(partition, read, self.stored(partition), self.library)
        return held.shard

    def _unstamped(self, partition: int, key: bytes) -> bytes | None:
        raw = self.read(partition, key)
        if raw is None or key.startswith(b"\0"):
            return raw
        return orjson.dumps(orjson.loads(raw) | {"at": -1}, option=orjson.OPT_SORT_KEYS)


class _Blind:
    """A log that tells where batches would lie if nobody else wrote."""

    def __init__(self, journal: Any, end: int) -> None:
        self._journal, self._end = journal, end

    async def append(self, topic: str, partition: int, records: Sequence[Record]) -> list[Appended]:
        done = await self._journal.append(topic, partition, records)
        end = self._end
        for batch in done:
            batch.base, end = end, end + batch.count
        return list(done)


class NoContiguityGuard(Table):
    """Who else appends to the changelog is not looked at."""

    async def _write(self, journal: Any, shard: Shard) -> None:
        await super()._write(_Blind(journal, self._ours(shard.number).progress.next), shard)


class LosersNotRepaired(Table):
    """What won against a later record is not written again."""

    def _newest(self, partition: int, records: Sequence[Any], held: Held) -> tuple[dict[bytes, bytes], set[bytes]]:
        return super()._newest(partition, records, held)[0], set()


class NoGapCheck(Ingest):
    """A hole in a raw partition is passed over."""

    def _receive(self, event: Any) -> None:
        self.expected[event.message.tp] = event.value[0].offset
        super()._receive(event)


class ReordersWithinPartition(Merge):
    """Records go on by what they are called, not by where they lie."""

    def take(self, bound: float) -> tuple[list[Parsed], list[Any]]:
        parsed, done = super().take(bound)
        return parsed[::-1], done


class AcknowledgesWhatIsHeld(Merge):
    """A chunk is finished when the first of its records went on."""

    def take(self, bound: float) -> tuple[list[Parsed], list[Any]]:
        before = {id(lane): len(lane.keys) for lane in self._lanes.values()}
        parsed, done = super().take(bound)
        begun = [lane for lane in self._lanes.values() if lane.keys and len(lane.keys) < before[id(lane)]]
        return parsed, done + [lane.chunks[0][0] for lane in begun]


class CommitsBeforeState(Engine):
    """Pages are acknowledged before what they changed is written."""

    async def _step(self, group: list[Any]) -> None:
        for event in group:
            event.ack()
        await super()._step(group)


PLANTED: Final[dict[str, Parts]] = {
    "the partition record is written first": Parts(table=PartitionFirst),
    "triggers are sent after the state": Parts(log=StateBeforeTriggers),
    "one map of positions for the whole worker": Parts(engine=OnePositionForAll),
    "ingest goes on after a failed append": Parts(ingest=GoesOnAfterFailure),
    "ingest acknowledges before it appends": Parts(ingest=AcknowledgesFirst),
    "the engine acknowledges before it writes": Parts(engine=CommitsBeforeState),
    "dead letters are not awaited": Parts(log=LetterNotAwaited),
    "batches of one append are not awaited": Parts(log=BatchesNotAwaited),
    "recovery keeps the last record": Parts(table=LastRecordWins),
    "a customer's stamp is not looked at": Parts(table=StampNotLookedAt),
    "no guard on the changelog": Parts(table=NoContiguityGuard),
    "what a zombie overwrote is not written again": Parts(table=LosersNotRepaired),
    "a hole in a raw partition is passed over": Parts(ingest=NoGapCheck),
    "a chunk is acknowledged while a part of it is held": Parts(merge=AcknowledgesWhatIsHeld),
    "records change places within a partition": Parts(merge=ReordersWithinPartition),
    "samples are sent after the state": Parts(log=StateBeforeSamples),
    "samples are not numbered": Parts(engine=SamplesNotNumbered),
    "an adoption counts whatever it replaces": Parts(engine=AdoptsWhateverComes),
    "models in force are not brought first": Parts(table=ModelsNotBrought),
    "samples are acknowledged before their checkpoint": Parts(learn=AcknowledgesSamplesFirst),
    "a checkpoint is written before the models": Parts(learn=CheckpointBeforeModels),
    "a learner's own fit counts": Parts(learn=OwnFitCounts),
    "a snapshot is acknowledged before its adoption": Parts(adopt=AcknowledgesModelsFirst),
    "the last checkpoint is deleted first": Parts(log=OldCheckpointFirst),
    "samples of a checkpoint are learned again": Parts(learn=SamplesLearnedTwice),
}
