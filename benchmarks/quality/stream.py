"""The product's own path without Kafka: raw records, journal entries, the fold, samples, learners, adoptions.

One journal partition; each page is folded whole, its samples are learned, and
what is published is adopted by an entry of the next page, as a deployment does
it in the events' clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from typing import Any, Final

import orjson

from journey import adoptions
from journey.engine import Shard, fold
from journey.entries import Entry, encode
from journey.errors import BadSnapshotError
from journey.samples import FAMILIES, Sample
from journey.scoring import Library
from journey.state import Customer
from journey.training import Fit, Learner, Notice, Publication, new_learner
from streams.raw import RawRecord
from streams.records import parse_events

PAGE: Final = 500  # records


@dataclass
class Record:
    """A raw record where it would lie in its topic."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass
class Run:
    """What came of a stream."""

    shard: Shard
    learners: dict[str, Learner]
    samples: list[tuple[str, Sample]] = field(default_factory=list)  # customer, sample
    published: list[Publication] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    adopted: int = 0
    events: int = 0
    refused: int = 0
    triggers: dict[str, int] = field(default_factory=dict)  # by type
    seconds: dict[str, float] = field(default_factory=lambda: {"fold": 0.0, "learn": 0.0})

    @property
    def customers(self) -> dict[str, Customer]:
        """All customers."""
        return self.shard.touched


def entries_of(records: Iterable[RawRecord], run: Run, page: int = PAGE) -> Iterator[list[Entry]]:
    """Yield the journal entries of raw records, a page of so many records at a time."""
    offsets: dict[str, int] = {}
    rest = iter(records)
    while chunk := list(islice(rest, page)):
        by_class: dict[str, list[tuple[int, Record]]] = {}
        for place, raw in enumerate(chunk):
            offset = offsets[raw.topic] = offsets.get(raw.topic, -1) + 1
            record = Record(raw.topic, 0, offset, raw.at, raw.key, raw.value)
            by_class.setdefault(raw.topic.removeprefix("events."), []).append((place, record))
        found: dict[int, list[Entry]] = {}
        for cls, placed in by_class.items():
            parsed = parse_events(cls, [record for _, record in placed], 1)
            for (place, _), one in zip(placed, parsed, strict=True):
                run.refused += one.dead_letter is not None
                found[place] = [orjson.loads(entry) for _, entry in one.entries]
        yield [entry for place in range(len(chunk)) for entry in found[place]]


class Course:
    """Takes samples to their learners, and what is published to the library."""

    def __init__(self, run: Run, library: Library, *, adopt: bool) -> None:
        self._run, self._library, self._adopt = run, library, adopt
        self._in_force: adoptions.InForce = {}
        self.entries: list[Entry] = []  # adoptions that were not folded yet
        self._offset = 0

    def take(self, samples: list[Sample]) -> None:
        """Learn samples; adopt the champions that come of them."""
        for sample in samples:
            learner = self._run.learners[sample["model"]]
            for outcome in learner.learn(sample):
                self._done(learner, outcome)

    def _done(self, learner: Learner, outcome: Any) -> None:
        if isinstance(outcome, Notice):
            self._run.notices.append(outcome)
            return
        if isinstance(outcome, Fit):
            payload = outcome.run()
            self._published(Publication(outcome.model, outcome.version, payload, outcome.trained))
            for more in learner.fitted(outcome, payload):
                self._done(learner, more)
            return
        self._published(outcome)

    def _published(self, one: Publication) -> None:
        self._run.published.append(one)
        payload = one.payload
        if not self._adopt or payload["role"] != "champion" or payload["state"] is None:
            return
        digest = sha256(encode(payload)).hexdigest()
        try:
            self._library.add(one.model, one.version, digest, payload)
        except BadSnapshotError:
            return
        known = self._in_force.get(payload["slot"])
        entry: dict[str, Any] = {
            "k": "adopt", "at": 0, "src": ["journey.control", 0, self._offset], "slot": payload["slot"],
            "model": one.model, "version": one.version, "replaces": None if known is None else known[1],
            "sha256": digest,
        }  # fmt: skip
        self._offset += 1
        adoptions.apply(self._in_force, entry)
        self.entries.append(entry)  # type: ignore[arg-type]  # an entry as a page holds it
        self._run.adopted += 1


def run(
    records: Iterable[RawRecord], *, adopt: bool = True, families: Iterable[str] = FAMILIES, until: int | None = None,
    on_page: Callable[[Run], None] | None = None, page: int = PAGE,
) -> Run:  # fmt: skip
    """Fold raw records in the events' clock, with learning.

    Parameters
    ----------
    families
        Those that learn; the samples of the others are only collected.
    until
        Let time pass up to this moment (ms) at the end, so that labels come.
    on_page
        Called after each page was folded and learned.
    page
        Records of a page: who looks at customers after a page sees them up to date by so many.
    """
    library = Library()
    shard = Shard(0, lambda _key: None, (), library)
    learners = {family: new_learner(family) for family in families}
    done = Run(shard, learners)
    course = Course(done, library, adopt=adopt)
    offset, last = 0, 0

    def step(entries: list[Entry]) -> None:
        nonlocal offset
        begin = time.thread_time()
        fold(shard, offset, entries)
        folded = time.thread_time()
        offset += 1
        samples, shard.samples = shard.samples, []
        for trigger in shard.triggers:
            done.triggers[trigger.body["type"]] = done.triggers.get(trigger.body["type"], 0) + 1
        shard.triggers.clear()
        done.samples += samples
        course.take([sample for _, sample in samples if sample["model"] in learners])
        done.seconds["fold"] += folded - begin
        done.seconds["learn"] += time.thread_time() - folded
        if on_page is not None:
            on_page(done)

    step([{"k": "clock", "at": 0, "src": ["journey.control", 1, 0], "clock": "events"}])
    for entries in entries_of(records, done, page):
        done.events += len(entries)
        last = max([last, *(entry["at"] for entry in entries)])
        adopted, course.entries = course.entries, []
        step([*adopted, *entries])
    day = 86_400_000
    for at in range(last, last if until is None else until, day):
        adopted, course.entries = course.entries, []
        step([*adopted, {"k": "tick", "at": at + day}])
    return done
