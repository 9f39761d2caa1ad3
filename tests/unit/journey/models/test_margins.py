from __future__ import annotations

import math
from typing import Any

import pytest
from river import linear_model, optim, preprocessing

from journey.errors import BadSnapshotError
from journey.models.base import chance, log_loss, logit, rounded, sigmoid
from journey.models.margins import HINGE, KINDS, PASSIVE, Margin

NAMES = ("rec", "gap", "f30", "disc")
EACH = pytest.mark.parametrize("kind", KINDS)


def row(number: int) -> tuple[list[float], bool]:
    x = [rounded(5.0 * chance(name, str(number)) - 1.0) for name in NAMES]
    return x, chance("y", str(number)) < sigmoid(x[0] - 0.5 * x[2] - 2.0)


def taught(kind: str, rows: int) -> Margin:
    model = Margin(NAMES, kind)
    for number in range(rows):
        model.learn(*row(number))
    return model


def of_river(kind: str) -> tuple[Any, Any]:
    scaler: Any = preprocessing.StandardScaler()
    pa: Any = linear_model.PAClassifier
    line: Any = linear_model.LogisticRegression
    hinge: Any = optim.losses.Hinge
    return scaler, pa(C=0.01) if kind == PASSIVE else line(loss=hinge())


@EACH
def test_margins_are_those_of_the_machine_in_river(kind: str) -> None:
    ours, (scaler, machine) = Margin(NAMES, kind), of_river(kind)
    for number in range(3_000):
        x, happened = row(number)
        ours.learn(x, happened)
        named = dict(zip(NAMES, x, strict=True))
        scaler.learn_one(named)
        machine.learn_one(scaler.transform_one(named), happened)
    for number in range(3_000, 3_100):
        x, _ = row(number)
        scaled = scaler.transform_one(dict(zip(NAMES, x, strict=True)))
        theirs = sum(machine.weights[name] * value for name, value in scaled.items()) + machine.intercept
        assert ours.margin(x) == pytest.approx(theirs, rel=1e-9, abs=1e-9)


@EACH
def test_probabilities_are_nearer_to_what_happens_than_the_bare_sigmoid_of_a_margin(kind: str) -> None:
    model = Margin(NAMES, kind)
    bare = meant = 0.0
    for number in range(6_000):
        x, happened = row(number)
        if number >= 3_000:
            bare += log_loss(happened, sigmoid(model.margin(x)))
            meant += log_loss(happened, model.score(x))
        model.learn(x, happened)
    assert meant < bare


@EACH
def test_of_those_who_are_told_a_probability_about_as_many_leave(kind: str) -> None:
    model = taught(kind, 6_000)
    told = [(model.score(row(number)[0]), row(number)[1]) for number in range(6_000, 9_000)]
    for low in (0.1, 0.3, 0.5):
        among = [(score, happened) for score, happened in told if low <= score < low + 0.2]
        assert len(among) > 100
        expected = sum(score for score, _ in among) / len(among)
        assert sum(happened for _, happened in among) / len(among) == pytest.approx(expected, abs=0.08)


@EACH
def test_absent_data_counts_as_the_mean(kind: str) -> None:
    model = taught(kind, 500)
    unknown = [math.nan, 1.0, 1.0, 1.0]
    mean = sum(row(number)[0][0] for number in range(500)) / 500
    assert model.score(unknown) == pytest.approx(model.score([mean, 1.0, 1.0, 1.0]))


@EACH
def test_parts_and_what_is_known_before_make_the_logit(kind: str) -> None:
    model = taught(kind, 3_000)
    x, other = row(1)[0], row(2)[0]
    parts = model.contributions(x)
    rest = logit(model.score(x)) - sum(part for _, part in parts)
    assert logit(model.score(other)) - sum(part for _, part in model.contributions(other)) == pytest.approx(rest)
    assert [abs(part) for _, part in parts] == sorted((abs(part) for _, part in parts), reverse=True)
    assert model.contributions([4.0, 1.0, 1.0, 1.0])[0][0] == "rec"


def test_a_passive_machine_leaves_a_row_alone_that_is_far_enough_on_its_side() -> None:
    model = Margin(["rec"], PASSIVE)
    for number in range(4_000):
        model.learn([float(number % 2)], number % 2 == 1)
    before = model.state()
    assert model.margin([1.0]) >= 1.0
    model.learn([1.0], True)
    assert (model.state()["weights"], model.state()["bias"]) == (before["weights"], before["bias"])


def test_the_two_machines_are_not_the_same() -> None:
    assert taught(PASSIVE, 300).state()["weights"] != taught(HINGE, 300).state()["weights"]


def test_there_is_no_third_machine() -> None:
    with pytest.raises(ValueError, match="kernel"):
        Margin(NAMES, "kernel")


@EACH
def test_before_any_label_the_answer_is_one_half(kind: str) -> None:
    assert Margin(NAMES, kind).score([1.0] * 4) == 0.5
    assert Margin(NAMES, kind).cold


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("class", "logistic/1"),
        ("kind", "kernel"),
        ("names", ["rec"]),
        ("means", [0.0]),
        ("variances", [-1.0] * 4),
        ("weights", [1e7] * 4),
        ("weights", [None] * 4),
        ("bias", math.nan),
        ("platt", [1.0, 0.0]),
        ("platt", [1.0, 0.0, -1.0, 1.0]),
        ("happened", 301),
        ("n", -1),
    ],
)
def test_a_state_that_does_not_fit_together_is_refused(part: str, value: object) -> None:
    with pytest.raises(BadSnapshotError):
        Margin.restore({**taught(PASSIVE, 300).state(), part: value})


@pytest.mark.parametrize("part", ["kind", "names", "n", "happened", "means", "variances", "weights", "bias", "platt"])
def test_a_state_that_lacks_a_part_is_refused(part: str) -> None:
    state = taught(PASSIVE, 300).state()
    with pytest.raises(BadSnapshotError):
        Margin.restore({name: value for name, value in state.items() if name != part})
