from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from river import compose, feature_extraction, linear_model, optim, preprocessing

from journey.entries import encode
from journey.errors import BadRowError, BadSnapshotError
from journey.models.base import State, chance, rounded
from journey.models.spend import (
    DECAYED,
    FEWEST,
    LINEAR,
    MOST,
    MOST_SPENT,
    NAMES,
    Forecaster,
    Spend,
    decayed_forecast,
)

M30 = NAMES.index("m30")


def row(n: int) -> list[float]:
    return [rounded(4.0 * chance("row", str(n), name)) for name in NAMES]


def spent(n: int) -> float:
    return rounded(30.0 * row(n)[M30] * (0.5 + chance("spent", str(n))))


def taught(rows: int, degree: int = 1) -> Spend:
    model = Spend(degree=degree)
    for n in range(rows):
        model.learn(row(n), spent(n))
    return model


def river(degree: int) -> Any:
    regression = linear_model.LinearRegression(optimizer=optim.AdaGrad(0.1))
    extender: Any = feature_extraction.PolynomialExtender
    parts = [extender(2)] if degree == 2 else []
    return compose.Pipeline(*parts, preprocessing.StandardScaler(), regression)


@pytest.mark.parametrize("degree", [1, 2])
class TestAgainstRiver:
    def test_it_scores_to_the_bit_what_the_pipeline_predicts(self, degree: int) -> None:
        pipeline, model = river(degree), Spend(degree=degree)
        for n in range(400):
            assert model.score(row(n)) == pipeline.predict_one(dict(zip(NAMES, row(n), strict=True)))
            pipeline.learn_one(dict(zip(NAMES, row(n), strict=True)), math.log1p(spent(n)))
            model.learn(row(n), spent(n))

    def test_what_was_restored_goes_on_to_the_bit(self, degree: int) -> None:
        went_on = taught(300, degree)
        stopped = Spend.restore(json.loads(encode(went_on.state())))
        for n in range(300, 500):
            for model in (went_on, stopped):
                model.learn(row(n), spent(n))
        assert encode(stopped.state()) == encode(went_on.state())
        assert stopped.score(row(7)) == went_on.score(row(7))

    def test_the_published_numbers_score_without_river(self, degree: int) -> None:
        model = taught(300, degree)
        forecaster = Forecaster.restore(json.loads(encode(model.state())))
        assert [forecaster.score(row(n)) for n in range(50)] == [model.score(row(n)) for n in range(50)]

    def test_no_data_is_scored_as_the_mean(self, degree: int) -> None:
        model = taught(300, degree)
        means = model.state()["means"]
        unknown, usual = row(7), row(7)
        unknown[0], usual[0] = math.nan, means[0]
        if degree == 1:
            assert model.score(unknown) == pytest.approx(model.score(usual), abs=1e-12)
        assert model.score([math.nan] * len(NAMES)) == model.state()["intercept"]


class TestForecasts:
    def test_even_spending_goes_on(self) -> None:
        # 2 a day for ever: the sum of 2 * 2^(-t/30) over all days before now
        decayed = sum(2.0 * 2.0 ** (-(day + 0.5) / 30.0) for day in range(3_000))
        assert decayed_forecast(math.log1p(decayed)) == pytest.approx(60.0, rel=1e-3)

    def test_money_comes_from_the_decayed_revenue_even_when_much_was_learned(self) -> None:
        told = taught(FEWEST).forecast(row(3))
        assert told is not None
        assert (told.used, told.money) == (DECAYED, math.expm1(row(3)[M30]) * math.log(2.0))

    def test_where_that_is_not_known_the_regression_says_it_once_it_is_warm(self) -> None:
        unknown = row(3)
        unknown[M30] = math.nan
        cold = taught(FEWEST - 1)
        assert cold.cold
        assert cold.forecast(unknown) is None
        cold.learn(row(FEWEST), spent(FEWEST))
        told = cold.forecast(unknown)
        assert told is not None
        assert (told.used, told.money) == (LINEAR, math.expm1(cold.score(unknown)))

    def test_a_forecast_is_never_less_than_nothing_nor_without_end(self) -> None:
        model = taught(10)
        for recent in (-5.0, 0.0, 50.0, 1e300):
            told = model.forecast([*row(3)[:M30], recent, *row(3)[M30 + 1 :]])
            assert told is not None
            assert 0.0 <= told.money <= MOST_SPENT


class TestLearning:
    def test_it_comes_close_to_least_squares_over_the_same_rows(self) -> None:
        model, rows = taught(3_000), np.array([row(n) for n in range(3_000)])
        labels = np.array([math.log1p(spent(n)) for n in range(3_000)])
        with_one = np.hstack([np.ones((3_000, 1)), rows])
        best = with_one @ np.linalg.lstsq(with_one, labels)[0]
        learned = np.array([model.score(one) for one in rows.tolist()])

        def explained(predicted: np.ndarray) -> float:
            return 1.0 - float(((labels - predicted) ** 2).mean() / labels.var())

        assert explained(best) > 0.7
        assert explained(learned) > explained(best) - 0.02

    def test_it_explains_nothing_of_chance(self) -> None:
        model = Spend()
        for n in range(2_000):
            model.learn(row(n), 50.0 * chance("other", str(n)))
        assert model.r2 is not None
        assert model.r2 < 0.05

    def test_the_share_explained_is_that_of_predictions_made_before_learning(self) -> None:
        model, missed, labels = Spend(), 0.0, []
        for n in range(300):
            labels.append(math.log1p(spent(n)))
            missed += (labels[-1] - model.score(row(n))) ** 2
            model.learn(row(n), spent(n))
        mean = sum(labels) / len(labels)
        assert model.r2 == pytest.approx(1.0 - missed / sum((y - mean) ** 2 for y in labels), rel=1e-9)

    def test_of_one_label_there_is_nothing_to_explain(self) -> None:
        assert Spend().r2 is None
        assert taught(1).r2 is None

    @pytest.mark.parametrize("money", [-0.01, math.nan, math.inf])
    def test_what_cannot_be_spent_is_not_learned(self, money: float) -> None:
        model = taught(10)
        before = encode(model.state())
        with pytest.raises(BadRowError):
            model.learn(row(10), money)
        assert encode(model.state()) == before

    def test_what_no_feature_is_worth_is_not_learned(self) -> None:
        model = taught(10)
        before = encode(model.state())
        with pytest.raises(BadRowError):
            model.learn([2.0 * MOST, *row(10)[1:]], 1.0)
        assert encode(model.state()) == before

    @pytest.mark.parametrize(("names", "degree"), [(NAMES, 3), (("rec",), 1), (("m30", "m30"), 1), (("m30", "a*b"), 2)])
    def test_a_regression_that_cannot_be_is_refused(self, names: tuple[str, ...], degree: int) -> None:
        with pytest.raises(BadSnapshotError):
            Spend(names, degree=degree)


class TestSnapshots:
    @pytest.mark.parametrize(
        "spoilt",
        [
            {"class": "spend/2"},
            {"degree": 2},
            {"names": ["m30"]},
            {"weights": [1e7] * 14},
            {"weights": [math.nan] * 14},
            {"variances": [-1.0] * 14},
            {"squares": [1.0] * 13},
            {"intercept": None},
            {"quality": [0.0, 0.0]},
            {"n": -1},
        ],
        ids=lambda spoilt: next(iter(spoilt)),
    )
    def test_a_state_that_is_none_is_refused(self, spoilt: State) -> None:
        state = {**taught(50).state(), **spoilt}
        with pytest.raises(BadSnapshotError):
            Spend.restore(state)
        with pytest.raises(BadSnapshotError):
            Forecaster.restore(state)
