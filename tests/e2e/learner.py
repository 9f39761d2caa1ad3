"""Worker processes whose learners only count, so that a test can say what each of them has to publish.

::

    python -m tests.e2e.learner --roles learn --append 3 --topic journey.models --when before --signal KILL
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final, NamedTuple

import journey
from journey.errors import BadRowError, BadSnapshotError
from journey.models.assign import CLASS
from journey.models.baskets import Baskets
from journey.models.rate import Rate
from journey.samples import FAMILIES, SCHEMAS, position_of

EVERY: Final = 7  # samples to a version of the champion,
CHALLENGES: Final = 10  # of the challenger,
FITS: Final = 25  # and to a fit
FILLING: Final = "x" * 1000


class Publication(NamedTuple):
    model: str
    version: int
    payload: dict[str, Any]
    trained: dict[str, Any]


class Fit(NamedTuple):
    model: str
    version: int
    run: Callable[[], dict[str, Any]]
    trained: dict[str, Any]


def drawn() -> dict[str, Any]:
    """Return what no second run gives again, as a fit by a library need not."""
    return {"drawn": os.urandom(8).hex()}


def loadable(family: str) -> dict[str, Any]:
    """Return what an engine needs to load a model of a family: else nothing is adopted."""
    schema = f"{family}/1"
    rate = Rate(2, 1).state()
    states: dict[str, dict[str, Any]] = {
        "churn": rate, "intent": rate, "recs": Baskets().published(0),
        "segments": {"class": CLASS, "names": ["rec"], "means": [0.0], "variances": [1.0], "centres": [[0.0]]},
    }  # fmt: skip
    return {
        "schema": schema, "names": list(SCHEMAS[schema]), "state": states.get(family, {}), "fallback": rate,
        "segment_names": ["all"], "labels": 0, "trust": "trusted",
    }  # fmt: skip


class Counting:
    """Publishes how many samples it has learned, a sum that hangs on their order, and what its fits gave."""

    def __init__(self, family: str) -> None:
        self.family = family
        self.count, self.sum = 0, 0
        self.applied: dict[str, list[int]] = {}
        self.fits: list[str] = []
        self.run: Callable[[], dict[str, Any]] = drawn

    def learn(self, sample: dict[str, Any]) -> list[Any]:
        source, *place = position_of(sample)
        if place <= self.applied.get(source, [-1, -1]):
            return []
        self.applied[source] = place
        if "number" not in sample:
            raise BadRowError(name="number", value=None)
        self.count += 1
        self.sum = (self.sum * 31 + int(sample["number"])) % 1_000_003
        made: list[Any] = []
        if self.count % FITS == 0:
            made.append(Fit(f"{self.family}.fit", self.count // FITS, self.run, {"at": int(sample["at"])}))
        if self.count % EVERY == 0:
            made.append(self._made(self.family, self.count // EVERY, "champion", int(sample["at"])))
        if self.count % CHALLENGES == 0:
            made.append(self._made(f"{self.family}.rival", self.count // CHALLENGES, "challenger", int(sample["at"])))
        return made

    def _made(self, model: str, version: int, role: str, at: int) -> Publication:
        payload = {
            **loadable(self.family), "role": role, "class": "counting/1", "count": self.count, "sum": self.sum,
            "w": [0.5, self.count / 7], "fits": list(self.fits),
        }  # fmt: skip
        metrics = {
            "labels": self.count, "auc": 0.75, "auc_low": 0.7, "auc_high": 0.8, "log_loss": 0.25,
            "baseline_log_loss": 0.3, "drift": None,
        }  # fmt: skip
        return Publication(
            model, version, payload, {"samples": self.count, "metrics": metrics, "trust": "trusted", "at": at}
        )

    def fitted(self, fit: Fit, payload: dict[str, Any]) -> list[Any]:
        self.fits.append(str(payload.get("drawn") or payload["fault"]))
        return []

    def state(self) -> dict[str, Any]:
        return {
            "class": "counting/1", "family": self.family, "count": self.count, "sum": self.sum,
            "applied": {source: list(place) for source, place in self.applied.items()}, "fits": list(self.fits),
            "filling": FILLING,
        }  # fmt: skip


def new_learner(family: str) -> Counting:
    return Counting(family)


def restore_learner(state: dict[str, Any]) -> Counting:
    if state["class"] != "counting/1":
        raise BadSnapshotError("another class")
    learner = Counting(state["family"])
    learner.count, learner.sum, learner.fits = state["count"], state["sum"], list(state["fits"])
    learner.applied = {source: list(place) for source, place in state["applied"].items()}
    return learner


def sample(family: str, number: int, *, position: int | None = None) -> dict[str, Any]:
    """Return the sample of a number, as the engine would have sent it."""
    source = ["journey.journal", number % 4, number if position is None else position, 0]
    return {
        "v": 1, "model": family, "kind": "observe", "src": source, "schema": f"{family}/1", "number": number,
        "at": 1_795_162_442_000 + number,
    }  # fmt: skip


def teach() -> None:
    """Let these learners stand in for the real ones, in this process."""
    school: Any = ModuleType("journey.training")
    school.FAMILIES, school.new_learner, school.restore_learner = FAMILIES, new_learner, restore_learner
    sys.modules["journey.training"] = vars(journey)["training"] = school


if __name__ == "__main__":
    teach()
    from tests.e2e import worker

    worker.main(sys.argv[1:])
