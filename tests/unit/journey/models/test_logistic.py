"""Logistic regression: River learns, our own loop scores, and nobody can tell the difference."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from journey.entries import encode
from journey.errors import BadRowError, BadSnapshotError
from journey.models.base import chance, rounded, sigmoid
from journey.models.logistic import Logistic, Scorer

NAMES = ("recency", "orders", "money", "constant")


def row(number: int) -> list[float]:
    return [*(rounded(5.0 * chance(name, str(number))) for name in NAMES[:-1]), 0.25]


def happened(number: int) -> bool:
    values = row(number)
    return chance("happened", str(number)) < sigmoid(values[0] - values[1] - 0.5)


def taught(rows: int, **policy: Any) -> Logistic:
    model = Logistic(NAMES, **policy)
    for number in range(rows):
        model.learn(row(number), happened(number))
    return model


def river_pipeline(warm: int) -> Any:
    from river.linear_model import LogisticRegression
    from river.optim import AdaGrad
    from river.optim.base import Scheduler
    from river.preprocessing import StandardScaler

    class Warm(Scheduler):
        def get(self, t: int) -> float:
            return 0.03 if t < warm else 0.1

    regression: Any = LogisticRegression
    scaler: Any = StandardScaler
    return scaler() | regression(optimizer=AdaGrad(Warm()), intercept_lr=0.01)


def test_scores_are_those_of_rivers_own_pipeline() -> None:
    model, pipeline = Logistic(NAMES, warm=500), river_pipeline(500)
    for number in range(3_000):
        x = dict(zip(NAMES, row(number), strict=True))
        if number % 50 == 0:
            assert model.score(row(number)) == pytest.approx(pipeline.predict_proba_one(x)[True], rel=0, abs=4e-16)
        model.learn(row(number), happened(number))
        pipeline.learn_one(x, happened(number))
    regression, scaler, learned = pipeline["LogisticRegression"], pipeline["StandardScaler"], model.state()
    assert learned["weights"] == [regression.weights[name] for name in NAMES]
    assert learned["intercept"] == regression.intercept
    assert learned["squares"] == [regression.optimizer.g2[name] for name in NAMES]
    assert learned["means"] == [scaler.means[name] for name in NAMES]
    assert learned["variances"] == [scaler.vars[name] for name in NAMES]


def test_it_learns_what_made_the_labels() -> None:
    model = taught(6_000)
    assert model.score([4.5, 0.5, 2.5, 0.25]) > 0.9
    assert model.score([0.5, 4.5, 2.5, 0.25]) < 0.1


def test_the_first_rows_are_learned_at_the_low_rate_and_then_at_the_full_one() -> None:
    slow, quick = taught(100, warm=100), taught(100, warm=0, lr=0.03)
    assert slow.state()["weights"] == quick.state()["weights"]
    for model in (slow, quick):
        model.learn(row(100), happened(100))
    assert slow.state()["weights"] != quick.state()["weights"]


def test_after_a_drift_a_row_moves_the_model_twice_as_far() -> None:
    before = taught(500)
    once, twice = Logistic.restore(before.state()), Logistic.restore(before.state())
    once.learn(row(500), happened(500))
    twice.learn(row(500), happened(500), rate=2.0)
    for part in ("weights", "intercept"):
        start, near, far = (
            [number] if isinstance(number, float) else number
            for number in (model.state()[part] for model in (before, once, twice))
        )
        for a, b, c in zip(start, near, far, strict=True):
            assert c - a == pytest.approx(2.0 * (b - a), rel=1e-9, abs=1e-15)


def test_the_rate_of_one_row_is_not_that_of_the_next() -> None:
    model = taught(500)
    model.learn(row(500), happened(500), rate=2.0)
    restored = Logistic.restore(model.state())
    model.learn(row(501), happened(501))
    restored.learn(row(501), happened(501))
    assert encode(model.state()) == encode(restored.state())


def test_no_data_counts_as_the_running_mean() -> None:
    model = taught(1_000)
    unknown, usual = row(5), row(5)
    unknown[0], usual[0] = math.nan, model.state()["means"][0]
    assert model.score(unknown) == pytest.approx(model.score(usual), abs=1e-15)
    assert dict(model.contributions(unknown))["recency"] == 0.0


def test_a_row_of_nothing_known_scores_the_intercept() -> None:
    model = taught(1_000)
    assert model.score([math.nan] * 4) == sigmoid(model.state()["intercept"])


def test_a_constant_feature_has_no_say() -> None:
    model = taught(1_000)
    assert model.state()["variances"][3] == 0.0
    assert model.score([1.0, 2.0, 3.0, 0.25]) == model.score([1.0, 2.0, 3.0, 9.0])


def test_contributions_and_intercept_add_up_to_the_logit() -> None:
    model = taught(2_000)
    parts = model.contributions(row(7))
    total = model.state()["intercept"] + sum(part for _, part in parts)
    assert sigmoid(total) == pytest.approx(model.score(row(7)), abs=1e-14)
    assert [abs(part) for _, part in parts] == sorted((abs(part) for _, part in parts), reverse=True)
    assert {name for name, _ in parts} == set(NAMES)


def test_equal_contributions_stand_by_name() -> None:
    scorer = Scorer(("b", "a", "c"), [0.0] * 3, [1.0] * 3, [1.0, -1.0, 2.0], 0.0)
    assert scorer.contributions([1.0, 1.0, 1.0]) == [("c", 2.0), ("a", -1.0), ("b", 1.0)]


def test_a_score_stays_between_the_bounds_of_the_logit() -> None:
    scorer = Scorer(("a",), [0.0], [1.0], [1.0], 0.0)
    assert scorer.score([1e308]) == sigmoid(30.0)
    assert scorer.score([-1e308]) == sigmoid(-30.0)


def test_numbers_that_cancel_to_nothing_are_refused_alone_and_in_a_page() -> None:
    scorer = Scorer(("a", "b"), [0.0] * 2, [1e-4] * 2, [1.0, 1.0], 0.0)
    with pytest.raises(BadRowError):
        scorer.score([1e308, -1e308])
    with pytest.raises(BadRowError):
        scorer.score_many([[0.0, 0.0]] * 100 + [[1e308, -1e308]])


def test_a_page_with_rows_that_cannot_be_scored_says_so() -> None:
    scorer = taught(500).scorer()
    page = [row(number) for number in range(100)]
    for spoilt in ([math.inf, 1.0, 1.0, 1.0], [None, 1.0, 1.0, 1.0], ["1", 1.0, 1.0, 1.0], [1.0]):
        with pytest.raises(BadRowError):
            scorer.score_many([*page, spoilt])  # type: ignore[list-item]


def test_an_empty_page_has_no_scores() -> None:
    assert taught(10).score_many([]) == []


def test_a_number_that_no_feature_can_have_is_scored_but_never_learned() -> None:
    model = taught(100)
    before = encode(model.state())
    with pytest.raises(BadRowError, match="money"):
        model.learn([1.0, 1.0, 1e7, 0.25], True)
    assert encode(model.state()) == before
    assert 0.0 < model.score([1.0, 1.0, 1e7, 0.25]) < 1.0


def test_a_scorer_stays_as_it_is_while_the_model_goes_on() -> None:
    model = taught(200)
    scorer, kept = model.scorer(), Scorer.restore(model.state())
    before = scorer.score(row(1))
    model.learn(row(200), happened(200))
    assert scorer.score(row(1)) == before == kept.score(row(1)) != model.score(row(1))


def test_it_is_cold_until_it_has_seen_both_answers() -> None:
    model = Logistic(NAMES)
    assert model.cold
    model.learn(row(0), True)
    assert model.cold
    model.learn(row(1), False)
    assert not model.cold


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("weights", [1.0, 2.0]),
        ("weights", [1e7, 0.0, 0.0, 0.0]),
        ("intercept", 1e7),
        ("variances", [-1.0, 1.0, 1.0, 1.0]),
        ("squares", [1.0, 1.0, 1.0, "many"]),
        ("means", None),
        ("n", "some"),
    ],
)
def test_a_state_that_cannot_be_a_model_is_refused(part: str, value: object) -> None:
    state = {**taught(50).state(), part: value}
    for restore in (Logistic.restore, Scorer.restore):
        with pytest.raises(BadSnapshotError):
            restore(state)


def test_a_state_without_a_part_is_refused() -> None:
    state = taught(50).state()
    for part in state:
        with pytest.raises(BadSnapshotError):
            Scorer.restore({name: value for name, value in state.items() if name != part})


def test_scoring_imports_neither_river_nor_numpy() -> None:
    program = (
        "import sys; from journey.models.logistic import Scorer; "
        "s = Scorer(('a',), [0.0], [1.0], [1.0], 0.0); s.score([1.0]); s.contributions([1.0]); "
        "print(sorted({'river', 'numpy', 'scipy'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[4]
    ran = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, check=True, text=True)
    assert ran.stdout.strip() == "[]"
