"""What every learner keeps: the same samples give the same versions, wherever it stopped, told once or twice."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from benchmarks.quality.stream import run
from journey.entries import encode
from journey.errors import BadSnapshotError
from journey.events import DAY
from journey.models.lifetime import WEEK_MS
from journey.samples import FAMILIES, LEARN_VERSION, Sample
from journey.scoring import load
from journey.training import Fit, Learner, Notice, Publication, new_learner, restore_learner
from streams.shop import generate

FITTED = {"state": None, "trust": "cold", "fault": "nothing is fitted in this test"}


@cache
def samples(family: str) -> tuple[Sample, ...]:
    """Return what a shop of half a year makes of one family, the same in every process."""
    found = run(generate(seed=3, customers=120, days=150), families=()).samples
    return tuple(sample for _, sample in found if sample["model"] == family)


def learn(learner: Learner, some: tuple[Sample, ...]) -> list[tuple[str, int, str]]:
    """Return what came of samples: name, version, and the hash of what was published."""
    told: list[tuple[str, int, str]] = []

    def note(outcomes: list[Any]) -> None:
        for one in outcomes:
            if isinstance(one, Publication):
                told.append((one.model, one.version, hashlib.sha256(encode(one.payload)).hexdigest()))
            elif isinstance(one, Fit):
                told.append((one.model, one.version, "fit"))
                note(learner.fitted(one, FITTED))
            else:
                assert isinstance(one, Notice)
                told.append((one.id, 0, "notice"))

    for sample in some:
        note(learner.learn(sample))
    return told


def digest_of_all() -> str:
    """Return the hash of all that comes of all families."""
    whole = hashlib.sha256()
    for family in FAMILIES:
        learner = new_learner(family)
        whole.update(repr(learn(learner, samples(family)[:250])).encode())
        whole.update(encode(learner.state()))
    return whole.hexdigest()


@pytest.mark.parametrize("family", FAMILIES)
class TestLearner:
    def test_one_that_stopped_anywhere_goes_on_as_if_it_never_had(self, family: str) -> None:
        some = samples(family)[:600]
        never = new_learner(family)
        wanted = learn(never, some)
        for stop in (1, len(some) // 3, len(some) - 1):
            first = new_learner(family)
            told = learn(first, some[:stop])
            second = restore_learner(first.state())
            told += learn(second, some[stop:])
            assert told == wanted
            assert encode(second.state()) == encode(never.state())

    def test_a_repeated_sample_changes_nothing(self, family: str) -> None:
        some = samples(family)[:300]
        learner = new_learner(family)
        learn(learner, some)
        before = encode(learner.state())
        assert learn(learner, some) == []
        assert encode(learner.state()) == before

    def test_another_schema_is_passed_over(self, family: str) -> None:
        learner = new_learner(family)
        assert learner.learn({**samples(family)[0], "schema": f"{family}/99"}) == []
        assert (learner.taken, learner.passed_over) == (0, 1)

    def test_versions_count_up_from_one_without_a_hole(self, family: str) -> None:
        seen: dict[str, int] = {}
        for model, version, _ in learn(new_learner(family), samples(family)):
            if version:
                assert version == seen.get(model, 0) + 1
                seen[model] = version

    def test_what_is_published_can_be_loaded_and_says_on_how_much_it_rests(self, family: str) -> None:
        learner = new_learner(family)
        count = 0
        for sample in samples(family):
            for one in learner.learn(sample):
                if isinstance(one, Fit):
                    learner.fitted(one, FITTED)
                elif isinstance(one, Publication) and one.payload["state"] is not None:
                    if one.payload["role"] == "champion":
                        loaded = load(one.model, one.version, one.payload)
                        assert loaded.is_trusted == (one.payload["trust"] == "trusted")
                    assert one.payload["labels"] > 0
                    assert one.trained["at"] <= learner.at
                    count += 1
        assert count > 0 or family in ("segments", "value")  # a warm-up of 2,000 rows; fits

    def test_a_damaged_state_is_refused(self, family: str) -> None:
        state = new_learner(family).state()
        damages: tuple[dict[str, Any], ...] = ({"family": "none"}, {"models": {}}, {"applied": None})
        for damage in damages:
            with pytest.raises(BadSnapshotError):
                restore_learner({**state, **damage})


def test_what_is_measured_by_the_day_is_of_the_day_of_the_sample_in_whatever_order_partitions_come() -> None:
    learner = new_learner("recs")
    known = [dict(sample) | {"top": [f"p-{number}" for number in range(1, 11)]} for sample in samples("recs")]
    late = known[-1]["at"] + 400 * DAY
    ahead = [
        known[0] | {"src": ["journey.journal", 1, position, 0], "at": at, "happened": at}
        for position, at in ((7, late), (8, late + DAY))
    ]
    metrics = [
        one.payload["metrics"]
        for sample in (ahead[0], *known, ahead[1])
        for one in learner.learn(sample)
        if isinstance(one, Publication) and one.model == "recs"
    ]
    assert metrics[-1]["recall_low"] < metrics[-1]["recall"] < metrics[-1]["recall_high"]


def test_challengers_have_intervals_beside_the_champions() -> None:
    learner = new_learner("churn")
    told: dict[str, list[dict[str, Any]]] = {}
    for sample in samples("churn"):
        for one in learner.learn(sample):
            if isinstance(one, Publication):
                told.setdefault(one.model, []).append(one.payload["metrics"])
    for name in ("churn", "churn.tree", "churn.forest", "churn.svm", "churn.hinge"):
        assert told[name][-1]["auc_low"] <= told[name][-1]["auc"] <= told[name][-1]["auc_high"], name


@pytest.mark.parametrize("family", ["churn", "recs"])
def test_what_learners_of_before_began_stays_theirs(family: str) -> None:
    state = new_learner(family).state()
    assert state["learners"] == LEARN_VERSION
    del state["learners"]  # as the first ones wrote it
    if family == "churn":
        fall = {"slot": "churn", "at": 5, "since": 3, "before": 0.7, "after": 0.4, "losses": 9, "seconded": None}
        state["models"] |= {"scored_then": 0, "interval": {}, "alarm": fall}
    learner = restore_learner(restore_learner(state).state())
    if family == "churn":
        assert learner.state()["models"]["alarm"] is None, "a fall is no alarm any more"
    told = [one for sample in samples(family) for one in learner.learn(sample) if isinstance(one, Publication)]
    assert {one.trained["learners"] for one in told} == {1}


def test_a_week_holds_a_buyer_once_however_far_apart_partitions_are() -> None:
    learner = new_learner("value")
    ahead, behind = samples("value")[-40:], samples("value")[:40]
    for number, sample in enumerate((*ahead, *behind)):
        learner.learn(dict(sample) | {"src": ["journey.journal", number % 40 + 1, number, 0]})
    kept = learner.state()["models"]["buyers"]["kept"]
    newest = max(sample["at"] for sample in ahead)
    assert sorted(row[0] for row in kept) == sorted(at for one in ahead if (at := one["at"]) > newest - WEEK_MS)


def test_a_fit_that_gives_nothing_leaves_the_one_there_was() -> None:
    learner = new_learner("churn")
    assert learner.fitted(Fit("churn.boosted", 1, dict, {}), FITTED) == []
    assert learner.state()["models"]["contestants"]["churn.boosted"]["kept"] == []


def test_three_hash_seeds_agree() -> None:
    program = "from tests.laws.test_learner_laws import digest_of_all; print(digest_of_all())"
    told = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin"}, cwd=".",
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "1")
    }  # fmt: skip
    assert told == {digest_of_all() + "\n"}
