"""Learn: samples in, snapshots of models and checkpoints out. One learner for each family, which is one partition.

For each sample, in order: learn; what the learner publishes acknowledged. Now
and then the learner's whole state, acknowledged; only then the samples that it
covers. What follows the last checkpoint is learned again after a crash: a
learner is a pure fold, so it publishes the same bytes under the same names. A
fit by a batch library need not give the same bytes twice: the first one that
was published is the one that counts, and it is never repeated.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

import orjson

from journey.errors import ModelError, PositionGapError, StateVersionError
from journey.samples import SAMPLE_VERSION, SCHEMA_OF
from streams import faust_fixes, topics
from streams.appends import Log, Record
from streams.checkpoints import Checkpoint, Checkpoints
from streams.chunks import Inbox
from streams.errors import CheckpointError, LogTruncatedError, SnapshotError
from streams.models_log import ModelsLog
from streams.settings import Settings
from streams.snapshots import RECORD_HEADERS, Keys, digest, payload_of, record_key, sign, version_of

log = logging.getLogger("journey.learn")

EVERY: Final = 5.0  # s that a sample waits at most for a checkpoint, of a small state
IDLE: Final = 1.0  # s without a sample after which nothing is to be gained by waiting
PACE: Final = 100_000  # bytes of checkpoints a second: a large state is written less often
ALARM_HEADERS: Final = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
FIT_FAILS: Final = (ArithmeticError, ValueError, RuntimeError, ModelError)


@runtime_checkable
class Publication(Protocol):
    """A version of a model, ready to be published; ``trained`` is what its envelope says of it."""

    @property
    def model(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def payload(self) -> dict[str, Any]: ...
    @property
    def trained(self) -> dict[str, Any]: ...


@runtime_checkable
class Fit(Protocol):
    """A version that a batch library computes."""

    @property
    def model(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def run(self) -> Callable[[], dict[str, Any]]: ...
    @property
    def trained(self) -> dict[str, Any]: ...


class Notice(Protocol):
    """Something that people should know of a model."""

    @property
    def body(self) -> dict[str, Any]: ...


class Learner(Protocol):
    """The pure half: the fold of one family's samples (``journey.training``)."""

    def learn(self, sample: dict[str, Any]) -> list[Any]: ...
    def fitted(self, fit: Any, payload: dict[str, Any]) -> list[Any]: ...
    def state(self) -> dict[str, Any]: ...


class School(NamedTuple):
    """Where learners come from; the index of a family is its partition of the samples."""

    families: tuple[str, ...]
    new: Callable[[str], Learner]
    restore: Callable[[dict[str, Any]], Learner]


def failed(why: str) -> dict[str, Any]:
    """Return what is published of a fit that gave nothing; its learner goes on without."""
    return {"state": None, "fault": why}


@dataclass
class Pupil:
    """The learner of a family, and what it has learned that no checkpoint covers."""

    number: int
    family: str
    learner: Learner
    next: int  # offset of the sample that comes next
    published: dict[str, int]  # newest version by model
    saved: float  # steady time of the last checkpoint,
    size: int = 0  # and its bytes
    held: list[Any] = field(default_factory=list)  # events that are not acknowledged
    learned: int = 0  # samples
    since: float = 0.0  # steady time of the oldest of them,
    last: float = 0.0  # and of the newest

    def due(self, most: int) -> float | None:
        """Return the steady time at which the next checkpoint is due; None when there is nothing to keep."""
        if not self.held:
            return None
        if self.learned >= most:
            return self.since
        calm = min(self.since + EVERY, self.last + IDLE)
        return max(calm, self.saved + self.size / PACE)


@dataclass
class Learn:
    """The learn agent of one worker."""

    app: Any
    settings: Settings
    log: Log
    models: ModelsLog
    checkpoints: Checkpoints
    school: School
    keys: Keys
    steady: Callable[[], float]  # s; bounds waiting, and nothing else
    counts: dict[str, int] = field(
        default_factory=lambda: {
            "events": 0, "groups": 0, "published": 0, "repeats": 0, "fits": 0, "bad_samples": 0, "notices": 0,
            "checkpoints": 0, "adopted": 0, "refused": 0, "passed_over": 0,
        }
    )  # fmt: skip
    seconds: dict[str, float] = field(default_factory=lambda: {"learn": 0.0, "publish": 0.0, "checkpoint": 0.0})
    pupils: dict[int, Pupil] = field(default_factory=dict)
    unloaded: dict[int, int] = field(default_factory=dict)  # assigned partitions without a pupil yet, and their ends
    _outbox: list[Record] = field(default_factory=list)  # models to be published, before anything covers their samples
    _assignment: object = field(default_factory=object)
    _wake: Callable[[], None] = lambda: None

    def begin(self, app: Any, ends: Mapping[Any, int]) -> None:
        """Partitions are assigned: their learners are loaded before any of their samples is learned."""
        if app is self.app:
            name = self.settings.topic(topics.SAMPLES)
            mine = {tp.partition: end for tp, end in ends.items() if tp.topic == name}
            self._assignment = object()
            self.pupils.clear()
            self.unloaded = {number: end for number, end in mine.items() if number < len(self.school.families)}
            self._wake()

    def forget(self, app: Any) -> None:
        """Partitions are revoked, or the worker stops: what no checkpoint covers is learned again by the next owner."""
        if app is self.app:
            self._assignment = object()
            for pupil in self.pupils.values():
                for event in pupil.held:
                    faust_fixes.let_go_of(app, event.message)
            self.pupils.clear()
            self.unloaded = {}

    async def run(self, stream: Any) -> None:
        """Learn what arrives; acknowledge a chunk when a checkpoint covers it."""
        faust_fixes.before_waiting.append(self.forget)
        async with Inbox(self.app, stream, self.settings.group_chunks) as inbox:
            self._wake = inbox.wake
            while (group := await inbox.take(self._patience())) is not None:
                if not group:
                    await self._begin()
                with faust_fixes.fail_stop():
                    await self._load()
                    await self._step(group)
        faust_fixes.before_waiting.remove(self.forget)

    def _patience(self) -> float | None:
        """Return for how long (s) to wait for what arrives until a checkpoint is due; None: until something does."""
        if self.unloaded:
            return 0.0
        dues = [due for pupil in self.pupils.values() if (due := pupil.due(self._most)) is not None]
        return max(0.0, min(dues) - self.steady()) if dues else None

    @property
    def _most(self) -> int:
        return self.settings.checkpoint_samples

    # ---- where it goes on ------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Load with nothing in hand: a worker that is stopped meanwhile ends in order."""
        try:
            await self._load()
        except Exception as error:
            faust_fixes.leave(error)

    async def _load(self) -> None:
        """Return when each partition of this worker has its learner, as of the last checkpoint."""
        while self.unloaded:
            assignment = self._assignment
            await self.models.refresh()  # what a predecessor published counts, also if it made no checkpoint after it
            loaded = {
                number: await self.checkpoints.load(number, self.school.families[number]) for number in self.unloaded
            }
            if assignment is not self._assignment:
                continue  # revoked meanwhile, and maybe assigned anew
            for number, found in loaded.items():
                self.pupils[number] = self._pupil(number, found, self.unloaded[number])
            self.unloaded = {}

    def _pupil(self, number: int, found: Checkpoint | None, end: int) -> Pupil:
        family = self.school.families[number]
        name = self.settings.topic(topics.SAMPLES)
        tp = (name, number)
        begin, committed = faust_fixes.begin(self.app, tp) or 0, faust_fixes.committed(self.app, tp) or 0
        covered = 0 if found is None else found.next
        if end < covered:
            text = f"{name}/{number} ends at {end}, the checkpoint of {family} has learned {covered} samples of it"
            raise LogTruncatedError(text)
        if committed > covered:
            text = f"{name}/{number} was learned up to {committed}, the last checkpoint of {family} covers {covered}"
            raise CheckpointError(text)
        if found is None:
            log.info("%s begins to learn with sample %d", family, begin)
            return Pupil(number, family, self.school.new(family), begin, {}, self.steady())
        if begin > covered:
            raise PositionGapError(log=f"{name}/{number}", found=begin, expected=covered)
        try:
            learner = self.school.restore(found.state)
        except (ModelError, KeyError, TypeError, ValueError) as error:
            text = f"the checkpoint of {family} before sample {covered} cannot be restored ({type(error).__name__})"
            raise CheckpointError(text) from error
        log.info("%s goes on with sample %d of %d", family, covered, end)
        return Pupil(number, family, learner, covered, dict(found.published), self.steady())

    # ---- learning --------------------------------------------------------------------------------------------------

    async def _step(self, group: list[Any]) -> None:
        """Learn a group, and keep what is due to be kept."""
        assignment = self._assignment
        for event in group:
            number = event.message.tp.partition
            pupil = self.pupils.get(number)
            if number >= len(self.school.families):
                event.ack()  # of a family that this version does not know
            elif pupil is None or assignment is not self._assignment:
                faust_fixes.let_go_of(self.app, event.message)  # its partition went meanwhile
            else:
                await self._learn(pupil, event)
                if assignment is not self._assignment:
                    faust_fixes.let_go_of(self.app, event.message)
                elif pupil.learned:
                    pupil.held.append(event)
                else:
                    event.ack()  # the checkpoint has all of it
            await self._keep()
        self.counts["groups"] += bool(group)
        await self._keep()

    async def _keep(self) -> None:
        """Write the checkpoints that are due."""
        for pupil in list(self.pupils.values()):
            due = pupil.due(self._most)
            if due is not None and due <= self.steady():
                await self._save(pupil)

    async def _learn(self, pupil: Pupil, event: Any) -> None:
        """Learn a chunk: beside the event loop, which has to turn, until there is something to publish."""
        begin = self.steady()
        records = event.value
        at = 0
        while at < len(records):
            taken, made = await asyncio.to_thread(self._fold, pupil, records[at:])
            for one in made:
                await self._publish(pupil, one, pupil.next - 1)
            if taken and not pupil.learned:
                pupil.since = begin
            pupil.learned += taken
            self.counts["events"] += taken
            at = next((index for index, one in enumerate(records) if one.offset >= pupil.next), len(records))
        pupil.last = self.steady()
        self.seconds["learn"] += pupil.last - begin
        await self._flush()

    def _fold(self, pupil: Pupil, records: Sequence[Any]) -> tuple[int, list[Any]]:
        """Learn up to, and with, the first sample that causes something; return how many, and what."""
        taken = 0
        for record in records:
            if record.offset < pupil.next:
                continue  # the checkpoint has it
            if record.offset > pupil.next:
                raise PositionGapError(
                    log=f"{record.topic}/{record.partition}", found=record.offset, expected=pupil.next
                )
            sample = self._sample(pupil, record)
            made: list[Any] = []
            if sample is not None:
                try:
                    made = pupil.learner.learn(sample)
                except ModelError as error:
                    self._bad(pupil, record, type(error).__name__)
            pupil.next = record.offset + 1
            taken += 1
            if made:
                return taken, made
        return taken, []

    def _sample(self, pupil: Pupil, record: Any) -> dict[str, Any] | None:
        """Return a sample of this family; None for what is none, which the learner never sees."""
        try:
            sample = orjson.loads(record.value)
            number, family = sample["v"], sample["model"]
        except (ValueError, KeyError, TypeError):
            self._bad(pupil, record, "it is no sample")
            return None
        if not isinstance(number, int) or number > SAMPLE_VERSION:
            raise StateVersionError(found=number, newest_known=SAMPLE_VERSION)
        if family != pupil.family:
            self._bad(pupil, record, "it is of another family")
            return None
        told: dict[str, Any] = sample
        return told

    def _bad(self, pupil: Pupil, record: Any, why: str) -> None:
        """Skip a sample. By the sample alone, so that a repeat skips it too."""
        self.counts["bad_samples"] += 1
        log.error("%s: sample %d is not learned: %s", pupil.family, record.offset, why)

    # ---- publishing ------------------------------------------------------------------------------------------------

    async def _publish(self, pupil: Pupil, made: Publication | Fit | Notice, offset: int) -> None:
        """Have published what a sample caused; of a fit, return once it is decided."""
        if isinstance(made, Publication):
            self._append(pupil, made, offset, made.payload)
        elif isinstance(made, Fit):
            for one in pupil.learner.fitted(made, await self._decided(pupil, made, offset)):
                await self._publish(pupil, one, offset)
        else:
            self.counts["notices"] += 1
            await self._tell(made)
            log.warning("%s: %s: %s", pupil.family, made.body["type"], orjson.dumps(made.body["data"]).decode())

    async def _tell(self, notice: Notice) -> None:
        """Send an event about a model; a repeat after a crash has the same id."""
        key = str(notice.body["subject"]).encode()
        await self.log.append(self.settings.topic(topics.ALARMS), 0, [(key, orjson.dumps(notice.body))], ALARM_HEADERS)

    async def _decided(self, pupil: Pupil, fit: Fit, offset: int) -> dict[str, Any]:
        """Return what a fit gave: now, or when it was run first."""
        number = self._number(fit.version)
        known = await self.models.first(fit.model, number)
        if known is not None:
            self.counts["repeats"] += 1
            pupil.published[fit.model] = number
            return payload_of(known)
        payload = await self._ran(pupil, fit)
        if not self._append(pupil, fit, offset, payload):
            payload = failed("what it gave cannot be published")
            self._append(pupil, fit, offset, payload)
        await self._flush()
        # a worker that lost the partition while it was fitting may have published the same name: the first one counts
        await self.models.refresh()
        first = await self.models.first(fit.model, number)
        if first is None:
            text = f"model {fit.model}/{number} was published and is not there"
            raise SnapshotError(text)
        decided = payload_of(first)
        if first.sha256 != digest(payload):
            self._append(pupil, fit, offset, decided)  # once more, to be the newest too
            await self._flush()
        return decided

    async def _ran(self, pupil: Pupil, fit: Fit) -> dict[str, Any]:
        """Run a fit, beside the event loop. That it fails is decided too: else it would fail for ever."""
        self.counts["fits"] += 1
        try:
            return await asyncio.to_thread(fit.run)
        except FIT_FAILS as error:
            log.warning("%s: the fit %s failed: %s", pupil.family, fit.model, type(error).__name__)
            return failed(type(error).__name__)

    def _append(self, pupil: Pupil, made: Publication | Fit, offset: int, payload: Mapping[str, Any]) -> bool:
        """Have a version published with the next ``_flush``, unless it is there; return whether it can be."""
        model, number = made.model, self._number(made.version)
        try:
            value = sign(
                self.keys, model=model, number=number, parent=pupil.published.get(model),
                schema=SCHEMA_OF[pupil.family], trained_through={str(pupil.number): offset + 1}, trained=made.trained,
                payload=payload,
            )  # fmt: skip
        except SnapshotError as error:
            self.counts["refused"] += 1
            log.error("not published: %s; the version before stays in force", error)
            return False
        if isinstance(made, Publication) and self._is_published(model, number, payload):
            self.counts["repeats"] += 1
        else:
            self._outbox.append((record_key(model, number), value))
        pupil.published[model] = number
        return True

    async def _flush(self) -> None:
        """Return once what the last samples caused is published, in its order."""
        if not self._outbox:
            return
        begin = self.steady()
        outbox, self._outbox = self._outbox, []
        await self.log.append(self.settings.topic(topics.MODELS), 0, outbox, RECORD_HEADERS)
        self.counts["published"] += len(outbox)
        self.seconds["publish"] += self.steady() - begin

    def _is_published(self, model: str, number: int, payload: Mapping[str, Any]) -> bool:
        """Tell whether a version is there already: an adopted one is never written over."""
        known = self.models.digests.get((model, number))
        if known is not None and known != digest(payload):
            log.error("model %s/%d was published with other content before: that one stays", model, number)
        return known is not None

    def _number(self, version: int) -> int:
        """Return the version as it is published: those of a rebuilt journal follow those of the one before."""
        return version_of(self.settings, version)

    # ---- keeping ---------------------------------------------------------------------------------------------------

    async def _save(self, pupil: Pupil) -> None:
        """Write a checkpoint; once it is durable, acknowledge what it covers."""
        held, pupil.held = pupil.held, []  # no revocation lets go of them: they are waited for
        begin = self.steady()
        state = await asyncio.to_thread(pupil.learner.state)
        checkpoint = Checkpoint(pupil.next, state, dict(pupil.published))
        pupil.size = await self.checkpoints.save(pupil.number, pupil.family, checkpoint)
        for event in held:
            event.ack()
        pupil.learned, pupil.saved = 0, self.steady()
        self.counts["checkpoints"] += 1
        self.seconds["checkpoint"] += pupil.saved - begin

    def told(self) -> dict[str, Any]:
        """Return how far each family of this worker is, for ``/status``."""
        return {
            "families": {
                pupil.family: {"next": pupil.next, "not_kept": pupil.learned, "checkpoint_bytes": pupil.size}
                for pupil in self.pupils.values()
            }
        }
