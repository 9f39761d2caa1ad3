"""The same fold without Faust: replay a journal, and verify the live state against it.

A *consistent cut* of the live state is what the changelog holds up to a
partition record: the highest stamp for each key, at the journal offset that
record names.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiokafka import TopicPartition

from journey.engine import PoisonError, Shard, fold
from journey.entries import encode, read_page
from journey.positions import entry_position
from journey.samples import FAMILIES, JOURNAL, position_of
from journey.scoring import Library
from journey.state import FOLD_VERSION, partition_key, read_partition, stamp
from streams import topics
from streams.at_hand import AtHand
from streams.errors import ShellError
from streams.logs import consumer, partitions_of, read_partitions, spans_of
from streams.relearn import relearn
from streams.settings import Settings

Progress = Callable[[int, int], None]  # pages and entries so far


class CutError(ShellError):
    """No consistent cut of the live state could be taken.

    Operator: start the engine, or wait until it has caught up, and try again.
    """


def digest(records: dict[bytes, bytes]) -> str:
    """Return the hash of records, whatever their order."""
    whole = hashlib.blake2b(digest_size=16)
    for key in sorted(records):
        for part in (key, records[key]):
            whole.update(len(part).to_bytes(4, "big") + part)
    return whole.hexdigest()


@dataclass
class Folded:
    """One journal partition, folded in memory."""

    shard: Shard
    pages: int = 0
    entries: int = 0
    trigger_ids: dict[str, int] = field(default_factory=dict)  # id: offset of the page that caused it
    samples: Samples = field(default_factory=dict)
    since: int = -1  # samples of pages above it are counted: those before were an earlier epoch's

    def records(self) -> dict[bytes, bytes]:
        """Return every record as its canonical bytes."""
        return dict(self.shard.changes())

    @property
    def at(self) -> int:
        """The offset of the last page folded."""
        return self.shard.partition["at"]


class Run:
    """The samples of one family from one journal partition: how many, and the hash of all of them in order."""

    def __init__(self) -> None:
        self.count, self.highest = 0, (-1, -1)
        self._whole = hashlib.blake2b(digest_size=16)

    def add(self, place: tuple[int, int], sample: bytes) -> bool:
        """Take the next one, and return True; what is not above the highest is a repeat."""
        if place <= self.highest:
            return False
        self.highest = place
        self.count += 1
        self._whole.update(len(sample).to_bytes(4, "big") + sample)
        return True

    @property
    def digest(self) -> str:
        """The hash so far."""
        return self._whole.hexdigest()


Samples = dict[str, Run]  # by family


def empty(partition: int, library: Library | None = None, journal: str = JOURNAL, since: int = -1) -> Folded:
    """Return a partition nothing of which is folded."""
    return Folded(Shard(partition, lambda _key: None, (), library, journal), since=since)


def fold_page(folded: Folded, offset: int, value: bytes) -> None:
    """Fold one page and note the ids of its triggers."""
    page = read_page(value)
    fold(folded.shard, offset, page)
    folded.pages += 1
    folded.entries += len(page)
    triggers = folded.shard.triggers
    if triggers:
        for trigger in triggers:
            folded.trigger_ids.setdefault(trigger.id, offset)
        triggers.clear()
    samples = folded.shard.samples
    if samples:
        if offset > folded.since:
            for _, sample in samples:
                _, position, number = position_of(sample)
                folded.samples.setdefault(sample["model"], Run()).add((position, number), encode(sample))
        samples.clear()


async def replay(
    settings: Settings,
    *,
    ends: dict[int, int] | None = None,
    until: int | None = None,
    on_progress: Progress | None = None,
) -> dict[int, Folded]:
    """Fold the journal from its beginning.

    Parameters
    ----------
    ends
        For each partition the offset to stop before; by default its end as of now.
    until
        Stop before the first page with an entry later than this journal time (ms).

    Raises
    ------
    ShellError
        The journal no longer begins at its beginning.
    MissingModelError
        A snapshot that it adopts is not there, or not as it was signed and adopted.
    """
    done: dict[int, Folded] = {}
    at_hand = AtHand(settings)
    await at_hand.read_all()

    def begin_anew(number: int) -> Folded:
        return empty(number, at_hand.library, settings.source, settings.epoch.since.get(number, -1))

    async with consumer(settings) as client:
        spans = await spans_of(client, await partitions_of(client, settings.topic(topics.JOURNAL)))
        for tp, (begin, end) in spans.items():
            if begin > 0:
                text = f"{tp.topic}/{tp.partition} begins at {begin}: its beginning is gone, nothing can be replayed"
                raise ShellError(text)
            done[tp.partition] = begin_anew(tp.partition)
            if ends is not None:
                spans[tp] = (0, min(end, ends.get(tp.partition, 0)))
        # an entry that nobody can fold is left out, and its partition folded again from the beginning
        while spans:
            again: dict[TopicPartition, tuple[int, int]] = {}
            stopped: set[TopicPartition] = set()
            async for tp, records in read_partitions(client, spans):
                if tp in stopped:
                    continue
                folded = done[tp.partition]
                await at_hand.for_pages(record.value for record in records)
                try:
                    for record in records:
                        if until is not None and any(entry["at"] > until for entry in read_page(record.value)):
                            stopped.add(tp)
                            break
                        fold_page(folded, record.offset, record.value)
                except PoisonError as poison:
                    done[tp.partition] = begin_anew(tp.partition)
                    done[tp.partition].shard.poisoned = folded.shard.poisoned | {(poison.offset, poison.index)}
                    again[tp] = spans[tp]
                    stopped.add(tp)
                if on_progress is not None:
                    on_progress(sum(one.pages for one in done.values()), sum(one.entries for one in done.values()))
            spans = again
    return done


@dataclass
class Cut:
    """The live state of one journal partition at one journal offset."""

    partition: int
    at: int
    records: dict[bytes, bytes]


class _CutReader:
    """Takes the newest consistent cut out of a changelog partition as it is read."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.newest: dict[bytes, bytes] = {}
        self.cut: Cut | None = None
        self._ahead: set[bytes] = set()  # keys stamped above the last partition record

    def add(self, key: bytes, value: bytes) -> None:
        """Take the next record."""
        known = self.newest.get(key)
        at = stamp(value)
        if known is not None and at < stamp(known):
            return
        self.newest[key] = value
        if key != partition_key(self.partition):
            self._ahead.add(key)
            return
        read_partition(value, self.partition)
        self._ahead = {one for one in self._ahead if stamp(self.newest[one]) > at}
        if not self._ahead:
            self.cut = Cut(self.partition, at, dict(self.newest))


async def live_cuts(
    settings: Settings, *, only: Collection[int] | None = None, at_least: dict[int, int] | None = None,
    within: float = 60.0,
) -> dict[int, Cut]:  # fmt: skip
    """Return a consistent cut of each partition of the live state.

    Parameters
    ----------
    only
        Of these partitions; of all by default.
    at_least
        For each partition the journal offset the cut has to reach; waits for
        the engine to get there.

    Raises
    ------
    CutError
        Not reached within so many seconds.
    """
    wanted = at_least or {}
    async with consumer(settings) as client:
        tps = [
            tp for tp in await partitions_of(client, topics.changelog(settings)) if only is None or tp.partition in only
        ]
        readers = {tp.partition: _CutReader(tp.partition) for tp in tps}
        positions = {tp: begin for tp, (begin, _) in (await spans_of(client, tps)).items()}
        deadline = asyncio.get_running_loop().time() + within
        while True:
            ends = await client.end_offsets(tps)
            spans = {tp: (positions[tp], ends[tp]) for tp in tps}
            async for tp, records in read_partitions(client, spans):
                for record in records:
                    readers[tp.partition].add(record.key, record.value)
            positions = dict(ends)
            missing = [
                number
                for number, reader in readers.items()
                if (reader.cut is None and reader.newest)
                or (number in wanted and (-1 if reader.cut is None else reader.cut.at) < wanted[number])
            ]
            if not missing:
                return {number: reader.cut or Cut(number, -1, {}) for number, reader in readers.items()}
            if asyncio.get_running_loop().time() > deadline:
                text = f"the engine has not reached the journal's end in partitions {missing} within {within:.0f} s"
                raise CutError(text)
            await asyncio.sleep(0.1)


@dataclass
class Difference:
    """The first thing that differs in a partition."""

    partition: int
    key: str
    live: Any
    replayed: Any


@dataclass
class Verdict:
    """What ``verify`` found."""

    identical: bool
    digests: dict[int, tuple[str, str]]  # partition: (live, replayed)
    customers: int
    pages: int
    entries: int
    triggers: int
    triggers_missing: list[str]
    triggers_surplus: list[str]
    trigger_repeats: int
    differences: list[Difference]
    duplicates: int
    events: int
    samples: int
    labels: int
    segments: int  # of a model, with somebody in them
    adoptions: int
    samples_different: list[str]  # family and journal partition
    adopted: dict[str, list[str]]  # slot: the versions in force, by journal partition
    models: int
    models_not_compared: int
    models_different: list[str]

    def shown(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "replay": "identical" if self.identical else "different", "fold": FOLD_VERSION,
            "partitions": {
                str(number): {"live": live, "replayed": again} for number, (live, again) in sorted(self.digests.items())
            },
            "customers": self.customers, "pages": self.pages, "entries": self.entries, "events": self.events,
            "duplicates": self.duplicates, "triggers": self.triggers, "trigger_repeats": self.trigger_repeats,
            "triggers_missing": self.triggers_missing[:10], "triggers_surplus": self.triggers_surplus[:10],
            "samples": self.samples, "labels": self.labels, "segments": self.segments, "adoptions": self.adoptions,
            "samples_different": self.samples_different[:10], "adopted": self.adopted,
            "models": self.models, "models_not_compared": self.models_not_compared,
            "models_different": self.models_different[:10],
            "differences": [vars(one) for one in self.differences[:10]],
        }  # fmt: skip


async def verify(settings: Settings, *, within: float = 60.0, on_progress: Progress | None = None) -> Verdict:
    """Compare the live state and the triggers with a fold of the journal, while the workers run.

    The triggers are read first, then the cut is taken at a page that is not
    older than any of theirs: so each must come out of the fold, and each of
    the fold's must have been sent, for a trigger is sent before its state.
    """
    async with consumer(settings) as client:
        tps = await partitions_of(client, settings.topic(topics.TRIGGERS))
        trigger_spans = await spans_of(client, tps)
        journal = await spans_of(client, await partitions_of(client, settings.topic(topics.JOURNAL)))
    needed = {tp.partition: end - 1 for tp, (_, end) in journal.items()}
    cuts = await live_cuts(settings, at_least=needed, within=within)
    ends = {number: cut.at + 1 for number, cut in cuts.items()}
    folded, relearned = await asyncio.gather(replay(settings, ends=ends, on_progress=on_progress), relearn(settings))
    digests, differences = {}, []
    customers = duplicates = events = 0
    segments: set[str] = set()
    for number, cut in sorted(cuts.items()):
        again = folded[number].records() if folded[number].pages else {}
        digests[number] = (digest(cut.records), digest(again))
        differences += _differences(number, cut.records, again)
        for key, value in again.items():
            if not key.startswith(b"\0"):
                customers += 1
                record = orjson.loads(value)
                duplicates += record.get("duplicates", 0)
                events += sum(record.get("counts", {}).values())
                segment = record.get("segment")
                if segment is not None and segment["version"]:
                    segments.add(segment["name"])
    wanted = {name for one in folded.values() for name in one.trigger_ids}
    sent, repeats, surplus = await _sent_triggers(settings, trigger_spans, wanted)
    # what an earlier epoch folded, it told; what was sent after we began to look is looked up in the topic as of now
    since = settings.epoch.since
    ours = {
        name for number, one in folded.items() for name, at in one.trigger_ids.items() if at > since.get(number, -1)
    }
    missing = sorted(ours - sent) if not _is_cut_off(trigger_spans) else []
    told, labels, other = await _compare_samples(settings, folded)
    identical = not (differences or missing or surplus or other or relearned.different)
    return Verdict(
        identical=identical,
        digests=digests,
        customers=customers,
        pages=sum(one.pages for one in folded.values()),
        entries=sum(one.entries for one in folded.values()),
        triggers=len(wanted),
        triggers_missing=missing,
        triggers_surplus=surplus,
        trigger_repeats=repeats,
        differences=differences,
        duplicates=duplicates,
        events=events,
        samples=told,
        labels=labels,
        segments=len(segments),
        adoptions=max((one.shard.counts["adopted"] for one in folded.values()), default=0),
        samples_different=other,
        adopted=_adopted(folded),
        models=relearned.models,
        models_not_compared=relearned.not_compared,
        models_different=relearned.different,
    )


def _adopted(folded: dict[int, Folded]) -> dict[str, list[str]]:
    """Return the versions in force of each slot; one where all partitions agree."""
    found: dict[str, set[str]] = {}
    for one in folded.values():
        for slot, (model, version, _) in one.shard.partition["models"].items():
            found.setdefault(slot, set()).add(f"{model}/{version}")
    return {slot: sorted(versions) for slot, versions in sorted(found.items())}


async def _compare_samples(settings: Settings, folded: dict[int, Folded]) -> tuple[int, int, list[str]]:
    """Return how many samples, and labels, the topic holds of what was folded, and which runs differ from the fold's.

    What an earlier epoch folded, it told: another fold may have told something else.
    """
    sent: dict[tuple[str, int], Run] = {}
    labels = 0
    topic = settings.topic(topics.SAMPLES)
    async with consumer(settings) as client:
        spans = await spans_of(client, [TopicPartition(topic, number) for number in range(len(FAMILIES))])
        async for tp, records in read_partitions(client, spans):
            family = FAMILIES[tp.partition]
            for record in records:
                sample = orjson.loads(record.value)
                journal, number, position, count = sample["src"]
                mine = folded[number]
                begin, end = entry_position(mine.since + 1, 0), entry_position(mine.at + 1, 0)
                if journal == settings.source and begin <= position < end:
                    is_new = sent.setdefault((family, number), Run()).add((position, count), record.value)
                    labels += is_new and sample["kind"] == "label"
    different = []
    for index, family in enumerate(FAMILIES):
        if spans[TopicPartition(topic, index)][0] > 0:
            continue  # retention took the oldest: what is left cannot be compared
        for number, one in folded.items():
            ours, theirs = one.samples.get(family, Run()), sent.get((family, number), Run())
            if (ours.count, ours.digest) != (theirs.count, theirs.digest):
                different.append(f"{family} of journal partition {number}: {theirs.count} sent, {ours.count} folded")
    return sum(run.count for run in sent.values()), labels, different


def _is_cut_off(spans: dict[TopicPartition, tuple[int, int]]) -> bool:
    """Tell whether retention took triggers: then none of the older ones can be missed."""
    return any(begin > 0 for begin, _ in spans.values())


async def _sent_triggers(
    settings: Settings, before: dict[TopicPartition, tuple[int, int]], wanted: set[str]
) -> tuple[set[str], int, list[str]]:
    """Return the ids in the topic as of now, how many repeats, and those sent before we looked that no fold caused.

    What earlier epochs sent is theirs: another order, or another fold, may have caused it.
    """
    sent: set[str] = set()
    surplus: set[str] = set()
    repeats = 0
    async with consumer(settings) as client:
        spans = await spans_of(client, list(before))
        async for tp, records in read_partitions(client, spans):
            for record in records:
                name = orjson.loads(record.value)["id"]
                repeats += name in sent
                sent.add(name)
                begin = settings.epoch.triggers.get(tp.partition, 0)
                if begin <= record.offset < before[tp][1] and name not in wanted:
                    surplus.add(name)
    return sent, repeats, sorted(surplus)


def _differences(number: int, live: dict[bytes, bytes], again: dict[bytes, bytes]) -> list[Difference]:
    found = []
    for key in sorted(live.keys() | again.keys()):
        if live.get(key) != again.get(key):
            ours, theirs = live.get(key), again.get(key)
            name = key.decode("utf-8", "replace").replace("\0", "")
            found.append(
                Difference(
                    number,
                    name,
                    None if ours is None else orjson.loads(ours),
                    None if theirs is None else orjson.loads(theirs),
                )
            )
    return found
