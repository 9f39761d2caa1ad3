"""Whether a deployment that has come to rest lost, doubled or changed anything, told without the engine's positions.

``python -m tests.oracle`` examines the deployment that the environment names
and prints one line of JSON; exit status 0 means exact.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import orjson

from journey.adoptions import in_force
from journey.conditions import Declared
from journey.engine import PoisonError, Shard, fold
from journey.entries import encode, read_page
from journey.samples import FAMILIES
from journey.scoring import Library
from journey.training import Fit, Publication, new_learner
from streams import topics
from streams.arrivals import Parsed
from streams.errors import SnapshotError
from streams.logs import read_all
from streams.records import parse_control, parse_events
from streams.replay import Verdict, verify
from streams.settings import Settings, load
from streams.shop_file import load_config
from streams.snapshots import keys_of, named, payload_of, read, version_of
from tests.factories import loaded

MOST_FAULTS: Final = 20
Source = tuple[str, int, int]  # topic, partition, offset
Place = tuple[int, int]  # of a sample in its source: position of the entry, number in it
Run = tuple[str, int]  # family, journal partition
Version = tuple[str, int]  # of a model


@dataclass
class Finding:
    """What was counted, and what is wrong."""

    figures: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def is_exact(self) -> bool:
        return not self.faults

    def line(self) -> str:
        """Return it as one line of JSON."""
        return orjson.dumps({"exact": self.is_exact, **self.figures, "faults": self.faults[:MOST_FAULTS]}).decode()

    def expect(self, what: str, wrong: Iterable[Any]) -> None:
        """Note a fault if anything is wrong."""
        found = list(wrong)
        if found:
            self.faults.append(f"{len(found)} {what}: {found[:3]!r:.400}")


@dataclass
class Models:
    """What is in the topic of models: of each version the first record that is signed with our key."""

    payloads: dict[Version, dict[str, Any]] = field(default_factory=dict)
    digests: dict[Version, str] = field(default_factory=dict)
    records: dict[Version, list[bytes]] = field(default_factory=dict)  # all of them, oldest first
    unsigned: int = 0

    async def read(self, settings: Settings) -> Models:
        """Read the topic to its end."""
        keys = keys_of(settings)
        async for record in read_all(settings, settings.topic(topics.MODELS)):
            try:
                snapshot = read(record.value, keys)
            except SnapshotError:
                self.unsigned += 1
                continue
            name = (snapshot.model, snapshot.version)
            if named(record.key) == name:
                self.payloads.setdefault(name, payload_of(snapshot))
                self.digests.setdefault(name, snapshot.sha256)
                self.records.setdefault(name, []).append(record.value)
        return self


@dataclass
class Again:
    """What a fold of the journal in memory gave."""

    shards: dict[int, dict[bytes, bytes]] = field(default_factory=dict)  # records of each partition
    triggers: dict[str, bytes] = field(default_factory=dict)
    samples: dict[Run, dict[Place, bytes]] = field(default_factory=lambda: defaultdict(dict))
    force: dict[int, dict[str, Any]] = field(default_factory=dict)  # what is in force in each partition


@dataclass
class Raw:
    """What is in the raw topics."""

    events: dict[Source, tuple[str, str, str]] = field(default_factory=dict)  # customer, type, message id
    routes: dict[Source, set[int]] = field(default_factory=dict)  # journal partitions of its entries
    refused: set[Source] = field(default_factory=set)

    def take(self, records: list[Any], parsed: list[Parsed]) -> None:
        """Note what became of the records of a topic."""
        for record, one in zip(records, parsed, strict=True):
            source = (record.topic, record.partition, record.offset)
            if one.dead_letter is not None:
                self.refused.add(source)
            self.routes[source] = {number for number, _ in one.entries}
            for _, entry in loaded(one):
                if entry["k"] == "event":
                    self.events[source] = (entry["c"], entry["t"], entry["id"])


async def examine(settings: Settings, verdict: Verdict, *, unique_ids: bool = True) -> Finding:
    """Examine a deployment to which nothing is published any more, and which has taken and folded everything.

    Parameters
    ----------
    verdict
        What ``verify`` found while the workers ran.
    unique_ids
        Every event has a message id of its own, so each has to be counted;
        otherwise repeats of an id may be counted as duplicates.
    """
    finding = Finding()
    raw = await _read_raw(settings)
    live = await _newest_records(settings)
    folded_to = {number: orjson.loads(mine[b"\0partition/%d" % number])["at"] for number, mine in live.items()}
    models = await Models().read(settings)
    again = await _fold_journal(settings, raw, models, folded_to, finding)
    _compare_counts(raw, live, finding, unique_ids=unique_ids)
    _compare_state(again.shards, live, finding)
    await _compare_triggers(settings, again.triggers, finding)
    await _compare_letters(settings, raw, finding)
    samples = await _compare_samples(settings, again, finding)
    if models.records:
        _compare_models(settings, samples, models, finding)
        await _compare_adoptions(settings, again, models, finding)
    finding.expect("digests differ", [number for number, (ours, again) in verdict.digests.items() if ours != again])
    finding.expect("differences found by verify", [] if verdict.identical else [verdict.shown()])
    finding.figures |= {
        "raw": len(raw.routes), "accepted": len(raw.events), "refused": len(raw.refused),
        "customers": verdict.customers,
        "pages": verdict.pages, "entries": verdict.entries,
    }  # fmt: skip
    return finding


async def _read_raw(settings: Settings) -> Raw:
    raw = Raw()
    for name in topics.RAW:
        records = [record async for record in read_all(settings, settings.topic(name))]
        raw.take(records, parse_events(name.removeprefix("events."), records, settings.partitions))
    records = [record async for record in read_all(settings, settings.topic(topics.CONTROL))]
    raw.take(records, parse_control(records, settings.partitions))
    return raw


async def _fold_journal(
    settings: Settings, raw: Raw, models: Models, folded_to: dict[int, int], finding: Finding
) -> Again:
    """Fold the journal in memory, as far as the live state reflects it; only ticks may come after."""
    pages: dict[int, list[Any]] = defaultdict(list)
    async for record in read_all(settings, settings.topic(topics.JOURNAL)):
        pages[record.partition].append(record)
    reached: dict[Source, set[int]] = defaultdict(set)
    repeats = ticks = 0
    disordered: list[Any] = []
    for number, records in pages.items():
        highest: dict[str, int] = {}
        for record in records:
            for entry in read_page(record.value):
                if "src" not in entry:
                    ticks += 1
                    continue
                topic, partition, offset = entry["src"]
                last = highest.get(f"{topic}/{partition}", -1)
                if offset > last:
                    highest[f"{topic}/{partition}"] = offset
                    reached[topic, partition, offset].add(number)
                else:
                    repeats += 1
                    # a repeat of what was never there before would be skipped by every fold: a hole
                    if number not in reached[topic, partition, offset]:
                        disordered.append((number, entry["src"]))
    finding.expect("entries that come after later ones of their source", disordered)
    finding.expect(
        "raw records not in all their journal partitions",
        [source for source, routes in raw.routes.items() if routes - reached[source]],
    )
    finding.expect("entries of no raw record", [source for source in reached if source not in raw.routes])
    again = Again()
    poisoned = 0
    library = await _library(settings, models, pages, finding)
    for number, records in pages.items():
        end = folded_to.get(number, -1)
        late = [entry for record in records if record.offset > end for entry in read_page(record.value)]
        finding.expect("entries that were not folded", [entry for entry in late if entry["k"] != "tick"])
        shard = _fold(number, [record for record in records if record.offset <= end], library)
        poisoned += len(shard.poisoned)
        again.shards[number] = dict(shard.changes())
        again.force[number] = shard.partition["models"]
        for trigger in shard.triggers:
            again.triggers.setdefault(trigger.id, orjson.dumps(trigger.body))
        for _, sample in shard.samples:
            _, source, position, count = sample["src"]
            again.samples[sample["model"], source][position, count] = encode(sample)
    finding.figures |= {"repeated_entries": repeats, "ticks": ticks, "poisoned": poisoned}
    return again


async def _library(settings: Settings, models: Models, pages: dict[int, list[Any]], finding: Finding) -> Library:
    """Return what the journal adopts, each under the digest by which it was adopted."""
    library = Library()
    missing: list[Any] = []
    for entry in (entry for records in pages.values() for record in records for entry in read_page(record.value)):
        if entry["k"] == "config" and not library.has_config(entry["sha256"]):
            library.add_config(entry["sha256"], Declared.from_config(await load_config(settings, entry["sha256"])))
        if entry["k"] != "adopt" or library.has(entry["model"], entry["version"], entry["sha256"]):
            continue
        name = (entry["model"], entry["version"])
        if models.digests.get(name) == entry["sha256"]:
            library.add(*name, entry["sha256"], models.payloads[name])
        else:
            missing.append(name)
    finding.expect("adoptions of what was never published", missing)
    return library


def _fold(number: int, records: list[Any], library: Library) -> Shard:
    poisoned: set[tuple[int, int]] = set()
    while True:
        shard = Shard(number, lambda _: None, (), library)
        shard.poisoned = poisoned
        try:
            for record in records:
                fold(shard, record.offset, read_page(record.value))
        except PoisonError as poison:
            poisoned = poisoned | {(poison.offset, poison.index)}
        else:
            return shard


async def _newest_records(settings: Settings) -> dict[int, dict[bytes, bytes]]:
    """Return what the changelog holds for each key: the record that reflects the most."""
    newest: dict[int, dict[bytes, tuple[int, bytes]]] = defaultdict(dict)
    async for record in read_all(settings, topics.changelog(settings)):
        at = orjson.loads(record.value)["at"]
        known = newest[record.partition].get(record.key)
        if known is None or at >= known[0]:
            newest[record.partition][record.key] = (at, record.value)
    return {number: {key: value for key, (_, value) in mine.items()} for number, mine in newest.items()}


def _compare_counts(raw: Raw, live: dict[int, dict[bytes, bytes]], finding: Finding, *, unique_ids: bool) -> None:
    counted: Counter[tuple[str, str]] = Counter()
    duplicates: Counter[str] = Counter()
    for records in live.values():
        for key, value in records.items():
            if not key.startswith(b"\0"):
                customer = orjson.loads(value)
                duplicates[customer["key"]] += customer.get("duplicates", 0)
                for type_, count in customer.get("counts", {}).items():
                    counted[customer["key"], type_] += count
    published = Counter((customer, type_) for customer, type_, _ in raw.events.values())
    short, over = published - counted, counted - published
    finding.expect("events counted more than once, or of nobody", over.items())
    missing: Counter[str] = Counter()
    for (customer, _), count in short.items():
        missing[customer] += count
    finding.expect("customers with lost events", (missing - duplicates).items())
    finding.expect("customers with duplicates that are none", (duplicates - missing).items())
    if unique_ids:
        finding.expect("events of one id of their own taken for duplicates", (+duplicates).items())
    else:
        seen = Counter((customer, name) for customer, _, name in raw.events.values())
        spare: Counter[str] = Counter()
        for (customer, _), count in seen.items():
            spare[customer] += count - 1
        finding.expect("customers with more duplicates than repeated ids", (duplicates - spare).items())
    finding.figures |= {"counted": counted.total(), "duplicates": duplicates.total()}


def _compare_state(
    shards: dict[int, dict[bytes, bytes]], live: dict[int, dict[bytes, bytes]], finding: Finding
) -> None:
    for number in shards.keys() | live.keys():
        ours, again = live.get(number, {}), shards.get(number, {})
        differ = [(number, key, ours.get(key), again.get(key)) for key in ours.keys() | again.keys()
                  if ours.get(key) != again.get(key)]  # fmt: skip
        finding.expect("records that differ from the fold of the journal", differ)


async def _compare_triggers(settings: Settings, told: dict[str, bytes], finding: Finding) -> None:
    sent: dict[str, bytes] = {}
    other: list[str] = []
    repeats = 0
    async for record in read_all(settings, settings.topic(topics.TRIGGERS)):
        name = orjson.loads(record.value)["id"]
        repeats += name in sent
        if sent.setdefault(name, record.value) != record.value or told.get(name, record.value) != record.value:
            other.append(name)
    finding.expect("triggers sent again with other bytes", other)
    finding.expect("triggers that were never sent", told.keys() - sent.keys())
    finding.expect("triggers that no fold causes", sent.keys() - told.keys())
    finding.figures |= {"triggers": len(sent), "trigger_repeats": repeats}


async def _compare_letters(settings: Settings, raw: Raw, finding: Finding) -> None:
    letters: Counter[Source] = Counter()
    others: Counter[str] = Counter()  # by stage
    async for record in read_all(settings, settings.topic(topics.DEAD_LETTERS)):
        letter = orjson.loads(record.value)
        if letter["stage"] == "ingest":
            source = letter["source"]
            letters[source["topic"], source["partition"], source["offset"]] += 1
        else:
            others[letter["stage"]] += 1
    finding.expect("refused records without a dead letter", raw.refused - letters.keys())
    finding.expect("dead letters of records that were accepted", letters.keys() - raw.refused)
    finding.figures |= {
        "dead_letter_repeats": letters.total() - len(letters), "poison_letters": others["engine"],
        "refused_models": others["adopt"],
    }  # fmt: skip


async def _compare_samples(settings: Settings, again: Again, finding: Finding) -> list[tuple[str, dict[str, Any]]]:
    """Return the samples that a learner takes, each once, in the order of the topic.

    What is not above the highest of its source is a repeat. After a crash in
    the middle of a write the engine leaves customers alone that were written,
    so what it sends again for the others of the same entry may have a lower
    number than at first; nothing else of it may differ.
    """
    sent: dict[Run, dict[Place, bytes]] = defaultdict(dict)
    causes: dict[tuple[Run, int], list[tuple[int, bytes]]] = defaultdict(list)  # number and bytes without it
    for run, mine in again.samples.items():
        for (position, count), value in mine.items():
            causes[run, position].append((count, _unnumbered(value)))
    highest: dict[Run, Place] = {}
    once: list[tuple[str, dict[str, Any]]] = []
    repeats = renumbered = 0
    other: list[Any] = []
    astray: list[Any] = []
    async for record in read_all(settings, settings.topic(topics.SAMPLES)):
        sample = orjson.loads(record.value)
        _, source, position, count = sample["src"]
        run, place = (sample["model"], source), (position, count)
        if record.partition != FAMILIES.index(sample["model"]):
            astray.append((record.partition, run, place))
        if place > highest.get(run, (-1, -1)):
            highest[run] = place
            sent[run][place] = record.value
            once.append((sample["model"], sample))
            continue
        repeats += 1
        if sent[run].get(place) != record.value:
            renumbered += 1
            body = _unnumbered(record.value)
            if not any(number > count and known == body for number, known in causes[run, position]):
                other.append((run, place))
    finding.expect("samples in another family's partition", astray)
    finding.expect("samples sent again that no fold causes", other)
    for run in sorted(sent.keys() | again.samples.keys()):
        ours, theirs = sent.get(run, {}), again.samples.get(run, {})
        finding.expect(f"samples of {run} that were never sent, or after later ones", theirs.keys() - ours.keys())
        finding.expect(f"samples of {run} that no fold causes", ours.keys() - theirs.keys())
        changed = [place for place in ours.keys() & theirs.keys() if ours[place] != theirs[place]]
        finding.expect(f"samples of {run} that differ from the fold's", changed)
    finding.figures |= {"samples": len(once), "sample_repeats": repeats, "samples_renumbered": renumbered}
    return once


def _unnumbered(value: bytes) -> bytes:
    sample = orjson.loads(value)
    return encode(sample | {"src": sample["src"][:3]})


def _compare_models(
    settings: Settings, samples: list[tuple[str, dict[str, Any]]], models: Models, finding: Finding
) -> None:
    """Learn each sample once, without an interruption, and compare each version with the one that was published."""
    learners = {family: new_learner(family) for family in FAMILIES}
    wanted: dict[Version, str] = {}
    undecided: list[Version] = []

    def follow(learner: Any, outcomes: list[Any]) -> None:
        for made in outcomes:
            if not isinstance(made, Publication | Fit):
                continue
            name = (made.model, version_of(settings, made.version))
            if isinstance(made, Publication):
                wanted[name] = sha256(encode(made.payload)).hexdigest()
            elif name not in models.payloads:
                undecided.append(name)
            else:  # what a fit gave was decided once
                wanted[name] = models.digests[name]
                follow(learner, learner.fitted(made, models.payloads[name]))

    for family, sample in samples:
        follow(learners[family], learners[family].learn(sample))
    finding.expect("fits that were never published", undecided)
    finding.expect("models that were never published", wanted.keys() - models.digests.keys())
    finding.expect("models that no samples give", models.digests.keys() - wanted.keys())
    differ = [name for name in wanted.keys() & models.digests.keys() if wanted[name] != models.digests[name]]
    finding.expect("models that differ from an uninterrupted fold of the samples", differ)
    finding.expect(
        "models published again with other bytes",
        [name for name, records in models.records.items() if any(one != records[0] for one in records)],
    )
    finding.figures |= {
        "models": len(models.digests),
        "model_repeats": sum(len(records) for records in models.records.values()) - len(models.records),
    }


async def _compare_adoptions(settings: Settings, again: Again, models: Models, finding: Finding) -> None:
    """Each journal partition has in force what the control topic says; of each slot the newest version that is good."""
    messages = []
    async for record in read_all(settings, settings.topic(topics.CONTROL)):
        with contextlib.suppress(orjson.JSONDecodeError):
            messages.append(orjson.loads(record.value))
    wanted = in_force(messages)
    other = [
        (number, force)
        for number, force in again.force.items()
        if {slot: (model, version) for slot, (model, version, _) in force.items()} != wanted
    ]
    finding.expect("partitions with other models in force than were adopted", other)
    newest: dict[str, int] = {}
    for (model, version), payload in models.payloads.items():
        # what came to nothing, or knows less than what is in force, is left alone
        if payload.get("role") == "champion" and payload.get("state") is not None and payload["trust"] != "cold":
            newest[model] = max(version, newest.get(model, -1))
    behind = {
        model: version
        for model, version in newest.items()
        if wanted.get(model, ("", -1))[0] != model or wanted[model][1] < version
    }
    finding.expect("champions that were not adopted", behind.items())
    finding.figures["adopted"] = sum(message.get("k") == "adopt" for message in messages if isinstance(message, dict))


if __name__ == "__main__":
    settings_told = load()
    found = asyncio.run(examine(settings_told, asyncio.run(verify(settings_told))))
    sys.stdout.write(found.line() + "\n")
    sys.exit(not found.is_exact)
