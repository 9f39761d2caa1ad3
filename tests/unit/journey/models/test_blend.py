from __future__ import annotations

import json
import math

import pytest

from journey.entries import encode
from journey.errors import BadRowError, BadSnapshotError
from journey.models.base import State, chance, log_loss, logit, rounded, sigmoid
from journey.models.blend import Blend
from journey.models.boosted import Boosted
from journey.models.logistic import Logistic

NAMES = ("rec", "gap", "f30")


def row(number: int) -> tuple[list[float], bool]:
    x = [rounded(3.0 * chance(name, str(number))) for name in NAMES]
    return x, chance("y", str(number)) < sigmoid(1.5 * (x[0] - 1.5) + (2.0 if x[1] > 2.0 else -1.0))


def line(rows: int, names: tuple[str, ...] = NAMES) -> State:
    model = Logistic(names)
    for number in range(rows):
        x, happened = row(number)
        model.learn(x[: len(names)], happened)
    return model.state()


def boosted(names: tuple[str, ...] = NAMES) -> State:
    """Trees that know of the step in ``gap``, and only coarsely of ``rec``."""
    steps = [1, 2.0, 0, [-1.0, 200], [2.0, 100]]
    sides = [0, 1.5, 0, [-1.2, 150], [1.2, 150]]
    return {"class": "boosted/1", "names": [*names], "n": 300, "happened": 120, "base": 0.0, "trees": [steps, sides]}


def test_the_logit_is_the_mean_of_both() -> None:
    one, other = Logistic.restore(line(500)), Boosted.restore(boosted())
    model = Blend(line(500), boosted())
    for number in range(100):
        x, _ = row(number)
        assert logit(model.score(x)) == pytest.approx((logit(one.score(x)) + logit(other.score(x))) / 2.0)


def test_two_that_err_in_different_places_are_better_together() -> None:
    one, other, both = Logistic.restore(line(3_000)), Boosted.restore(boosted()), Blend(line(3_000), boosted())
    asked: tuple[Logistic | Boosted | Blend, ...] = (one, other, both)
    losses = [0.0, 0.0, 0.0]
    for number in range(3_000, 6_000):
        x, happened = row(number)
        for at, model in enumerate(asked):
            losses[at] += log_loss(happened, model.score(x))
    assert losses[2] < losses[0]
    assert losses[2] < losses[1]


def test_each_feature_has_half_of_what_the_line_and_half_of_what_the_trees_say_of_it() -> None:
    one, other = Logistic.restore(line(500)), Boosted.restore(boosted())
    x, _ = row(1)
    parts = Blend(line(500), boosted()).contributions(x)
    of_line, of_trees = dict(one.contributions(x)), dict(other.contributions(x))
    assert dict(parts) == {name: pytest.approx((of_line[name] + of_trees[name]) / 2.0) for name in NAMES}
    assert [abs(part) for _, part in parts] == sorted((abs(part) for _, part in parts), reverse=True)


def test_absent_data_is_the_mean_for_the_line_and_goes_its_way_in_the_trees() -> None:
    one, other = Logistic.restore(line(500)), Boosted.restore(boosted())
    unknown = [1.0, math.nan, 1.0]
    score = Blend(line(500), boosted()).score(unknown)
    assert logit(score) == pytest.approx((logit(one.score(unknown)) + logit(other.score(unknown))) / 2.0)


@pytest.mark.parametrize("asked", [[], [1.0], [math.inf, 1.0, 1.0]], ids=str)
def test_what_is_no_row_is_not_scored(asked: list[float]) -> None:
    with pytest.raises(BadRowError):
        Blend(line(100), boosted()).score(asked)
    with pytest.raises(BadRowError):
        Blend(line(100), boosted()).contributions(asked)


def test_a_state_comes_back_and_its_line_can_go_on_learning() -> None:
    kept = encode(Blend(line(500), boosted()).state())
    back = Blend.restore(json.loads(kept))
    assert encode(back.state()) == kept
    went_on = Logistic.restore(back.state()["linear"])
    for number in range(500, 600):
        went_on.learn(*row(number))
    assert encode(went_on.state()) == encode(line(600))


def test_the_two_have_to_know_the_same_features_in_the_same_order() -> None:
    for names in (("rec", "gap"), ("gap", "rec", "f30")):
        with pytest.raises(BadSnapshotError, match="blend/1 of"):
            Blend(line(100), boosted(names))


@pytest.mark.parametrize(
    "spoilt",
    [{"class": "boosted/1"}, {"linear": None}, {"boosted": None}, {"linear": {}}, {"boosted": {"class": "boosted/1"}}],
    ids=str,
)
def test_a_state_that_does_not_fit_together_is_refused(spoilt: State) -> None:
    with pytest.raises(BadSnapshotError):
        Blend.restore({**Blend(line(100), boosted()).state(), **spoilt})


@pytest.mark.parametrize("part", ["linear", "boosted"])
def test_a_state_that_lacks_one_of_the_two_is_refused(part: str) -> None:
    state = Blend(line(100), boosted()).state()
    with pytest.raises(BadSnapshotError):
        Blend.restore({name: value for name, value in state.items() if name != part})
