"""Whether a model is any good: figures against textbook answers, and who may decide."""

from __future__ import annotations

import math
from itertools import product

import pytest

from journey.entries import encode
from journey.errors import BadSnapshotError
from journey.events import DAY
from journey.models.base import chance, log_loss, logit, sigmoid
from journey.models.progress import (
    COMPARED,
    RECENT,
    Duel,
    Progress,
    Quantile,
    Trust,
    auc,
    calibration_line,
    interval,
    mean_interval,
    next_trust,
    resampled_days,
)


def fair(number: int) -> tuple[bool, float]:
    """Return a score and what came true with just that chance."""
    p = 0.02 + 0.9 * chance("p", str(number))
    return chance("y", str(number)) < p, p


def progress_of(rows: int, slope: float = 1.0, base: float = 0.47) -> Progress:
    """Return the figures of scores that are calibrated, or too steep or too flat by a factor."""
    progress = Progress("churn")
    for number in range(rows):
        happened, p = fair(number)
        progress.add(happened, sigmoid(logit(p) / slope), base, at=number // 40 * DAY)
    return progress


# ---- figures ---------------------------------------------------------------------------------------------------------


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    rows = [(round(chance("s", str(n)), 1), int(chance("t", str(n)) < 0.4)) for n in range(80)]
    pairs = [(p, q) for (p, y), (q, z) in product(rows, rows) if y and not z]
    right = sum(1.0 if p > q else 0.5 if p == q else 0.0 for p, q in pairs)
    assert auc([(p, y, 1) for p, y in sorted(rows)]) == right / len(pairs)


def test_a_row_that_counts_twice_is_two_rows() -> None:
    assert auc([(0.1, 0, 2), (0.3, 1, 1), (0.5, 0, 1), (0.7, 1, 3)]) == auc(
        [(0.1, 0, 1), (0.1, 0, 1), (0.3, 1, 1), (0.5, 0, 1), (0.7, 1, 1), (0.7, 1, 1), (0.7, 1, 1)]
    )


def test_scores_that_are_all_equal_are_worth_a_coin() -> None:
    assert auc([(0.3, 0, 1), (0.3, 1, 1), (0.3, 0, 1)]) == 0.5


@pytest.mark.parametrize("happened", [0, 1])
def test_one_answer_only_has_no_auc(happened: int) -> None:
    assert auc([(0.1, happened, 1), (0.2, happened, 1)]) is None
    assert auc([]) is None


def test_the_calibration_line_of_two_scores_is_the_one_through_their_rates() -> None:
    # two scores, and a line of two numbers: the rates are met exactly
    rows = [(0.2, int(n < 10)) for n in range(100)] + [(0.6, int(n < 80)) for n in range(100)]
    line = calibration_line(rows)
    assert line is not None
    slope = (logit(0.8) - logit(0.1)) / (logit(0.6) - logit(0.2))
    assert line[1] == pytest.approx(slope, rel=1e-9)
    assert line[0] == pytest.approx(logit(0.1) - slope * logit(0.2), rel=1e-9)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_the_slope_tells_how_much_too_bold_or_too_shy_the_scores_are(factor: float) -> None:
    line = progress_of(2_000, slope=factor).line()
    assert line is not None
    assert line[1] == pytest.approx(factor, rel=0.15)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [(0.2, 1), (0.6, 1)],
        [(0.3, 1), (0.3, 0)],
        [(0.1, 0), (0.2, 0), (0.8, 1), (0.9, 1)],
        [(0.0, 0), (1.0, 1)],
    ],
    ids=["none", "one answer", "one score", "parted", "certain"],
)
def test_where_no_line_is_the_best_there_is_none(rows: list[tuple[float, int]]) -> None:
    assert calibration_line(rows) is None


def test_scores_that_are_certain_and_wrong_still_have_a_line() -> None:
    rows = [(1.0, 1)] * 90 + [(1.0, 0)] * 10 + [(0.0, 0)] * 95 + [(0.0, 1)] * 5
    line = calibration_line(rows)
    assert line is not None
    assert 0.0 < line[1] < 1.0


def test_calibration_is_told_in_ten_parts_of_equal_size() -> None:
    progress = progress_of(1_000)
    table = progress.calibration()
    assert [part["rows"] for part in table] == [100] * 10
    assert [part["expected"] for part in table] == sorted(part["expected"] for part in table)
    assert sum(part["happened"] for part in table) == progress.happened
    error = sum(abs(part["expected"] - part["happened"]) for part in table) / 1_000
    assert progress.ece() == pytest.approx(error)


def test_a_constant_score_is_off_by_the_distance_to_the_rate() -> None:
    progress = Progress("churn")
    for number in range(1_000):
        progress.add(number % 10 == 0, 0.3, 0.1, at=0)
    assert progress.ece() == pytest.approx(0.2)


def test_losses_are_compared_over_the_newest_rows_that_have_both_scores() -> None:
    progress = Progress("churn")
    for number in range(3_000):
        progress.add(False, 0.9 if number < 2_000 else 0.1, 0.5 if number % 2 else None, at=number)
    assert progress.compared() == COMPARED
    gain = progress.gain()
    assert gain is not None
    assert gain == pytest.approx(
        (log_loss(False, 0.9) + log_loss(False, 0.1)) / 2 - log_loss(False, 0.5)
    )  # of the newest 2,000 rows half have both, the newest 1,000 of these are from row 1,001 on
    assert progress.figures()["log_loss"] == pytest.approx((log_loss(False, 0.9) + log_loss(False, 0.1)) / 2)


def test_rows_without_a_score_are_labels_and_nothing_else() -> None:
    progress = Progress("churn")
    for number in range(100):
        progress.add(number % 2 == 0, None, 0.5, at=number)
    assert (progress.labels, progress.happened, progress.scored) == (100, 50, 0)
    figures = progress.figures()
    assert {figures[name] for name in ("auc", "ece", "slope", "log_loss", "log_loss_ever")} == {None}
    assert progress.auc_interval() is None
    assert progress.gain_interval() is None


@pytest.mark.parametrize("score", [math.nan, -0.1, 1.1, math.inf])
def test_what_is_no_probability_counts_as_no_score(score: float) -> None:
    progress = Progress("churn")
    progress.add(True, score, score, at=0)
    assert (progress.labels, progress.scored, progress.baselined) == (1, 0, 0)


def test_the_figures_of_a_slot_are_of_its_newest_rows() -> None:
    progress = Progress("churn")
    for number in range(RECENT):
        progress.add(number % 2 == 0, 0.1 if number % 2 == 0 else 0.9, 0.5, at=number)
    assert progress.auc() == 0.0
    for number in range(RECENT):
        progress.add(number % 2 == 0, 0.9 if number % 2 == 0 else 0.1, 0.5, at=number)
    assert progress.auc() == 1.0


# ---- intervals -------------------------------------------------------------------------------------------------------


def test_days_are_drawn_with_replacement_and_by_their_number_alone() -> None:
    drawn = list(resampled_days([3, 1, 2, 2], 50))
    assert all(sum(weights.values()) == 3 and sorted(weights) == [1, 2, 3] for weights in drawn)
    assert any(0 in weights.values() for weights in drawn)
    others = [{day + 6: often for day, often in weights.items()} for weights in drawn]
    assert others == list(resampled_days({7, 8, 9}, 50))


def test_one_day_alone_has_no_interval() -> None:
    assert list(resampled_days([5])) == []
    assert mean_interval([(5, 1.0), (5, 2.0)]) is None


def test_the_interval_is_the_middle_of_what_was_found() -> None:
    assert interval([float(value) for value in range(200)]) == (5.0, 194.0)
    assert interval([1.0]) == (1.0, 1.0)


def test_an_interval_of_days_holds_the_mean_and_knows_that_a_day_is_one_draw() -> None:
    alike = [(day, chance("d", str(day))) for day in range(20) for _ in range(100)]
    low, high = mean_interval(alike) or (0.0, 0.0)
    mean = sum(value for _, value in alike) / len(alike)
    assert low < mean < high
    # two thousand independent rows would give a tenth of it
    assert high - low > 0.15


def test_the_interval_of_auc_lies_around_auc() -> None:
    progress = progress_of(1_000)
    low, high = progress.auc_interval() or (0.0, 0.0)
    found = progress.auc()
    assert found is not None
    assert found - 0.06 < low < found < high < found + 0.06


@pytest.mark.parametrize("days", [2, 5, 40, 100])
def test_all_resamples_at_once_are_those_of_one_after_another(days: int) -> None:
    progress = Progress("churn")
    for number in range(600):
        p = round(chance("p", str(number)), 2)  # with many ties
        day = int(chance("d", str(number)) * days)
        progress.add(chance("y", str(number)) < 0.2 + p / 2 and day != 1, p, 0.5, day * DAY)
    rows = sorted(((p, y, day) for p, _, y, day in progress.state()["rows"]), key=lambda row: row[0])
    drawn = resampled_days({row[2] for row in rows})
    each = [auc([(p, y, weights[day]) for p, y, day in rows]) for weights in drawn]
    assert progress.auc_interval() == interval([one for one in each if one is not None])
    assert (None in each) == (days == 2), "of two days one can be drawn twice, and one of them has no order"


def test_of_many_days_stretches_are_resampled() -> None:
    few, many = Progress("churn"), Progress("churn")
    for number in range(1_000):
        day = number * 350 // 1_000
        happened, p = fair(number)
        many.add(happened, p, 0.5, day * DAY)
        few.add(happened, p, 0.5, day * 100 // 350 * DAY)
    assert many.auc_interval() == few.auc_interval() is not None
    assert many.gain_interval() == few.gain_interval() is not None


# ---- trust -----------------------------------------------------------------------------------------------------------


def test_a_slot_is_cold_until_it_has_500_labels_with_50_of_each() -> None:
    progress = progress_of(499)
    assert next_trust("cold", progress, 0) == ("cold", 0)
    progress.add(True, 0.5, 0.5, at=0)
    assert next_trust("cold", progress, 0) == ("trusted", 0)


@pytest.mark.parametrize(("rare", "trust"), [(49, "cold"), (50, "shadow")])
@pytest.mark.parametrize("answer", [True, False])
def test_49_of_one_answer_are_too_few(answer: bool, rare: int, trust: Trust) -> None:
    progress = Progress("churn")
    for number in range(600):
        progress.add(answer if number < rare else not answer, None, None, at=0)
    assert next_trust("cold", progress, 0)[0] == trust


def test_a_model_that_is_no_better_than_the_fallback_only_watches() -> None:
    progress = Progress("churn")
    for number in range(1_000):
        happened, p = fair(number)
        progress.add(happened, p, p, at=0)
    assert progress.gain() == 0.0
    assert next_trust("shadow", progress, 0)[0] == "shadow"


@pytest.mark.parametrize(("slope", "trust"), [(0.6, "shadow"), (1.0, "trusted"), (1.6, "shadow")])
def test_a_model_that_is_too_bold_or_too_shy_only_watches(slope: float, trust: Trust) -> None:
    progress = progress_of(2_000, slope=slope)
    assert (progress.gain() or 0.0) < 0.0
    assert next_trust("cold", progress, 0)[0] == trust


def test_labels_without_scores_give_no_trust() -> None:
    progress = progress_of(199)
    for number in range(400):
        progress.add(number % 2 == 0, None, 0.5, at=0)
    assert next_trust("cold", progress, 0)[0] == "shadow"
    progress.add(True, 0.9, 0.5, at=0)
    assert next_trust("cold", progress, 0)[0] == "trusted"


def test_two_bad_snapshots_in_a_row_end_trust_and_one_does_not() -> None:
    good, bad = progress_of(2_000), progress_of(2_000, slope=3.0)
    assert next_trust("trusted", bad, 0) == ("trusted", 1)
    assert next_trust("trusted", good, 1) == ("trusted", 0)
    assert next_trust("trusted", bad, 1)[0] == "shadow"
    assert next_trust("shadow", bad, 2)[0] == "shadow"
    assert next_trust("shadow", good, 3) == ("trusted", 0)


# ---- a duel ----------------------------------------------------------------------------------------------------------


def duel_of(days: int, challenger: float, champion: float = 2.0, since: int = 0, rows: int = 60) -> Duel:
    """Return a duel of scores that are too flat by a factor; 1 is as good as it gets."""
    duel = Duel("churn")
    for number in range(days * rows):
        happened, p = fair(number)
        day = since + number // rows
        duel.add(happened, sigmoid(logit(p) / champion), sigmoid(logit(p) / challenger), at=day * DAY)
    return duel


def test_a_better_challenger_takes_over_after_two_windows() -> None:
    verdict = duel_of(29, challenger=1.0).verdict()
    assert verdict["promote"]
    assert [(window["since"], window["until"], window["days"]) for window in verdict["windows"]] == [
        (0, 14, 14), (14, 28, 14),
    ]  # fmt: skip
    assert all(window["high"] < 0.0 for window in verdict["windows"])
    assert "over 840 rows" in verdict["why"]
    assert "calibration slope" in verdict["why"]


def test_one_window_is_not_enough() -> None:
    verdict = duel_of(15, challenger=1.0).verdict()
    assert not verdict["promote"]
    assert "too few" in verdict["why"]


def test_the_newest_day_is_not_judged_yet() -> None:
    duel = duel_of(28, challenger=1.0)
    before = duel.verdict()["windows"][1]["until"]
    duel.add(True, 0.5, 0.5, at=28 * DAY)
    assert (before, duel.verdict()["windows"][1]["until"]) == (27, 28)


def test_a_challenger_that_is_no_better_stays_one() -> None:
    verdict = duel_of(29, challenger=2.0).verdict()
    assert not verdict["promote"]
    assert "not surely lower" in verdict["why"]


def test_a_better_loss_with_a_bad_slope_is_no_promotion() -> None:
    verdict = duel_of(29, challenger=1.3, champion=4.0).verdict()
    assert all(window["high"] < 0.0 for window in verdict["windows"])
    assert not verdict["promote"]
    assert "calibration slope is 1." in verdict["why"]


def test_a_challenger_that_won_only_lately_is_not_promoted() -> None:
    duel = duel_of(14, challenger=2.0)
    for number in range(15 * 60):
        happened, p = fair(number)
        duel.add(happened, sigmoid(logit(p) / 4.0), p, at=(14 + number // 60) * DAY)
    verdict = duel.verdict()
    assert verdict["windows"][1]["high"] < 0.0
    assert not verdict["promote"]


def test_a_duel_without_rows_says_so() -> None:
    assert Duel("churn").verdict() == {
        "promote": False, "why": "nothing to compare yet", "windows": [], "slope": None,
    }  # fmt: skip


def test_days_of_long_ago_are_forgotten() -> None:
    duel = duel_of(100, challenger=1.0, rows=5)
    assert [day for day, *_ in duel.state()["days"]] == list(range(71, 100))


# ---- the riskiest tenth ----------------------------------------------------------------------------------------------


def test_the_quantile_is_the_score_that_a_tenth_reached() -> None:
    scores = Quantile()
    for number in range(1_000):
        scores.add(number / 1_000, at=number * 60_000)
    assert scores.exceeded_by(0.1) == 0.9
    assert scores.exceeded_by(1.0) == 0.0


def test_without_scores_there_is_no_quantile() -> None:
    assert Quantile().exceeded_by(0.1) is None


def test_scores_of_more_than_30_days_ago_are_forgotten_whenever_they_come() -> None:
    scores = Quantile()
    scores.add(0.9, at=0)
    scores.add(0.1, at=29 * DAY)
    assert scores.exceeded_by(0.5) == 0.9
    scores.add(0.1, at=30 * DAY)
    assert scores.exceeded_by(0.5) == 0.1
    before = encode(scores.state())
    scores.add(0.9, at=0)
    assert encode(scores.state()) == before


def test_a_certain_score_is_in_the_highest_thousandth_and_no_other_number_is_counted() -> None:
    scores = Quantile()
    for score in (1.0, 1.0001, -0.1, math.nan):
        scores.add(score, at=0)
    assert scores.state()["days"] == [[0, [[999, 1]]]]


def test_a_thousandth_that_is_none_is_refused() -> None:
    with pytest.raises(BadSnapshotError):
        Quantile.restore({"class": "quantile/1", "days": [[0, [[1_000, 1]]]]})


@pytest.mark.parametrize("number", [math.nan, math.inf, "many", None])
def test_a_count_that_is_none_is_refused(number: object) -> None:
    with pytest.raises(BadSnapshotError):
        Progress.restore({**progress_of(10).state(), "labels": number})
    with pytest.raises(BadSnapshotError):
        Duel.restore({**Duel("churn").state(), "days": [[0, number, 1.0]]})
    with pytest.raises(BadSnapshotError):
        Quantile.restore({**Quantile().state(), "days": [[0, [[1, number]]]]})
