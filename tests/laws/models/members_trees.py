"""The challengers of churn and intent: trees, margins, and the blend of a line and boosted trees."""

from __future__ import annotations

from functools import partial
from typing import Any

from journey.models.base import State, chance, rounded, sigmoid
from journey.models.blend import Blend
from journey.models.logistic import Logistic
from journey.models.margins import KINDS, Margin
from journey.models.trees import Forest, HoeffdingTree
from tests.laws.models.members import Member, Sample

NAMES = ("rec", "gap", "f30", "disc")


def sample(number: int) -> Sample:
    """A buyer comes back the less the longer the silence, unless such gaps are usual."""
    rec, gap, f30, disc = (chance(name, str(number)) for name in NAMES)
    quiet = 2.0 if rec > 0.6 and gap < 0.5 else -1.0
    y = chance("y", str(number)) < sigmoid(quiet + 2.0 * (rec - f30))
    return {"x": [rounded(3.0 * rec), rounded(2.0 * gap), rounded(f30), rounded(disc)], "y": int(y)}


def always(number: int) -> Sample:
    return {**sample(number), "y": 0}


def learn(model: Any, told: Sample) -> None:
    model.learn(told["x"], bool(told["y"]))


def stumps(count: int) -> State:
    """Return boosted trees of two and three leaves."""
    trees: list[Any] = []
    for number in range(count):
        step = (chance("step", str(number)) - 0.5) / 5.0
        leaves = [[step, 300 + number], [-step, 500]]
        question = [number % len(NAMES), rounded(chance("threshold", str(number))), number % 2, *leaves]
        trees.append([0, rounded(3.0 * chance("first", str(number))), 0, question, [0.01, 200]])
    return {"class": "boosted/1", "names": list(NAMES), "n": 1_000, "happened": 300, "base": -0.8, "trees": trees}


class Growing:
    """A blend whose line goes on learning: what a learner publishes after each label."""

    def __init__(self, line: Logistic, boosted: State) -> None:
        self.line, self.boosted = line, boosted
        self.blend = Blend(line.state(), boosted)

    def learn(self, row: list[float], happened: bool) -> None:
        self.line.learn(row, happened)
        self.blend = Blend(self.line.state(), self.boosted)

    def state(self) -> State:
        return self.blend.state()

    @classmethod
    def restore(cls, state: State) -> Growing:
        Blend.restore(state)
        return cls(Logistic.restore(state["linear"]), state["boosted"])


def challenger(name: str, make: Any, restore: Any, **told: Any) -> Member:
    def score(model: Any, asked: Sample) -> Any:
        return getattr(model, "blend", model).score(asked["x"])

    def score_many(model: Any, asked: Any) -> Any:
        return getattr(model, "blend", model).score_many([one["x"] for one in asked])

    return Member(
        name=name,
        make=make,
        restore=restore,
        sample=sample,
        learn=learn,
        score=score,
        score_many=score_many,
        kind="rows",
        names=NAMES,
        one_class=always,
        few=1,
        **told,
    )


def is_cold(model: Any) -> bool:
    cold: bool = getattr(model, "line", model).cold
    return cold


MEMBERS = (
    challenger(
        "hoeffding tree",
        partial(HoeffdingTree, NAMES),
        HoeffdingTree.restore,
        most_bytes=128 * 1024,
        abstains=is_cold,
    ),
    challenger(
        "forest",
        partial(Forest, NAMES),
        Forest.restore,
        most_bytes=640 * 1024,
        learned=2_000,
        many=20_000,
        abstains=is_cold,
    ),
    *(
        challenger(
            f"margin ({kind})",
            partial(Margin, NAMES, kind),
            Margin.restore,
            most_bytes=4 * 1024,
            abstains=is_cold,
        )
        for kind in KINDS
    ),
    challenger(
        "blend",
        lambda: Growing(Logistic(NAMES), stumps(40)),
        Growing.restore,
        most_bytes=16 * 1024,
        learned=1_000,
        more=500,
        many=5_000,
        abstains=is_cold,
    ),
)
