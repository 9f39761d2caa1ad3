"""Learners light enough for very many schedules, and what has to be published of the samples that there are.

They publish after very few samples, fit what gives something else each time,
and tell of it; whatever they publish hangs on every sample before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from zlib import crc32

import orjson

from journey.entries import encode
from journey.errors import BadSnapshotError
from journey.models.logistic import Logistic
from journey.models.rate import Rate
from journey.samples import FAMILIES, SCHEMA_OF, SCHEMAS, position_of
from journey.training import Fit, Notice, Publication
from streams.agents.learn import Learner, School
from streams.snapshots import Snapshot, digest, payload_of
from tests.protocol.oracle import ViolationError

EVERY: Final = 2  # samples to a version,
FITS: Final = 3  # to a fit,
NOTICES: Final = 5  # and to a notice
FEATURES: Final = ("first", "second")  # of the row: a model of all of them would cost the most
LABELLED: Final = frozenset(("churn", "intent"))


class Light:
    """One family's learner; ``run`` is what its fits do."""

    def __init__(self, family: str, run: Callable[[], dict[str, Any]]) -> None:
        self.family, self._run = family, run
        self.applied: dict[str, list[int]] = {}
        self.count = self.sum = self.at = 0
        self.fits: list[Any] = []
        self.rate = Rate()
        self.model = Logistic(FEATURES) if family in LABELLED else None

    def learn(self, sample: Mapping[str, Any]) -> list[Any]:
        """Take the next sample, unless it was taken before."""
        source, *place = position_of(sample)
        if place <= self.applied.get(source, [-1, -1]):
            return []
        self.applied[source] = place
        self.count += 1
        self.sum = crc32(encode(sample), self.sum)
        self.at = max(self.at, sample["at"])
        if self.model is not None and sample["kind"] == "label":
            self.model.learn(sample["x"][: len(FEATURES)], bool(sample["y"]))
            self.rate.learn([], bool(sample["y"]))
        made: list[Any] = []
        if self.count % NOTICES == 0:
            made.append(self._notice("counted", self.count))
        if self.count % FITS == 0:
            made.append(Fit(f"{self.family}.fit", self.count // FITS, self._run, {"at": self.at}))
        if self.count % EVERY == 0:
            made.append(self._made(self.family, self.count // EVERY))
        return made

    def fitted(self, fit: Fit, payload: Mapping[str, Any]) -> list[Any]:
        """Take the outcome of a fit."""
        self.fits.append(payload.get("drawn", payload.get("fault")))
        return [self._made(f"{self.family}.rival", fit.version)]

    def _made(self, model: str, version: int) -> Publication:
        state, schema = {} if self.model is None else self.model.state(), SCHEMA_OF[self.family]
        payload = {
            "slot": self.family, "role": "champion" if model == self.family else "challenger",
            "state": state, "fallback": self.rate.state(), "labels": self.count, "sum": self.sum,
            "fits": list(self.fits), "trust": "shadow", "schema": schema, "names": list(SCHEMAS[schema]),
        }  # fmt: skip
        return Publication(model, version, payload, {"samples": self.count, "at": self.at, "trust": "shadow"})

    def _notice(self, what: str, count: int) -> Notice:
        name = f"{self.family}-{what}-{count}"
        return Notice(name, {"id": name, "type": what, "subject": self.family, "data": {"sum": self.sum}})

    def state(self) -> dict[str, Any]:
        """Return all that it is."""
        return {
            "family": self.family, "applied": {source: list(place) for source, place in self.applied.items()},
            "count": self.count, "sum": self.sum, "at": self.at, "fits": list(self.fits), "rate": self.rate.state(),
            "model": None if self.model is None else self.model.state(),
        }  # fmt: skip


class Fits:
    """What batch libraries give in a schedule: never the same twice, and sometimes nothing."""

    def __init__(self) -> None:
        self.runs = 0

    def run(self) -> dict[str, Any]:
        """Fit."""
        self.runs += 1
        if self.runs % 4 == 0:
            text = "singular"
            raise ValueError(text)
        return {"drawn": self.runs}

    def new(self, family: str) -> Light:
        """Return a learner that has seen nothing."""
        return Light(family, self.run)

    def restore(self, state: dict[str, Any]) -> Light:
        """Return the learner that had this state."""
        learner = Light(state["family"], self.run)
        learner.applied = {source: list(place) for source, place in state["applied"].items()}
        learner.count, learner.sum, learner.at = state["count"], state["sum"], state["at"]
        learner.fits, learner.rate = list(state["fits"]), Rate.restore(state["rate"])
        if (learner.model is None) != (state["model"] is None):
            text = f"a state of another family than {learner.family}"
            raise BadSnapshotError(text)
        if learner.model is not None:
            learner.model = Logistic.restore(state["model"])
        return learner

    def school(self) -> School:
        """Return where the learners of the schedule's workers come from."""
        return School(FAMILIES, self.new, self.restore)


def check_models(
    school: School, samples: Mapping[str, Iterable[bytes]], published: Mapping[tuple[str, int], Snapshot],
    alarms: Mapping[str, bytes],
) -> None:  # fmt: skip
    """Compare what was published first under each name, and told, with one uninterrupted fold of the samples."""
    expected: set[tuple[str, int]] = set()
    told: dict[str, bytes] = {}

    def follow(learner: Learner, outcomes: list[Any]) -> None:
        for one in outcomes:
            if isinstance(one, Notice):
                told[one.id] = orjson.dumps(one.body)
                continue
            name = (one.model, one.version)
            expected.add(name)
            found = published.get(name)
            if found is None:
                text = f"model {one.model}/{one.version} was never published"
                raise ViolationError(text)
            if isinstance(one, Fit):
                follow(learner, learner.fitted(one, payload_of(found)))
            elif found.sha256 != digest(one.payload):
                text = f"model {one.model}/{one.version} is {payload_of(found)}, learned again it is {one.payload}"
                raise ViolationError(text)

    for family, values in samples.items():
        learner = school.new(family)
        for value in values:
            follow(learner, learner.learn(orjson.loads(value)))
    if published.keys() != expected:
        text = f"models that nothing comes to: {sorted(published.keys() - expected)}"
        raise ViolationError(text)
    if alarms != told:
        text = f"told was {sorted(alarms)}, not {sorted(told)}"
        raise ViolationError(text)
