"""Audits: figures of probabilities, segments, rules and ceilings, and the tables that a person reads."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

import numpy as np
import orjson
import pytest
from rich.console import Console

from journey.events import DAY, HOUR
from journey.models.base import chance
from journey.samples import SCHEMAS, Sample
from streams import audits, cli_audit, pictures
from streams.audits import Centres, Figure, MissingExtraError, Resampling, Scored, TooFewSamplesError
from streams.errors import ShellError

NOON = 1_795_176_000_000
FEATURES = SCHEMAS["segments/1"]


def drawn(*parts: object) -> float:
    return chance(*(str(part) for part in parts))


def slow_auc(happened: Sequence[float], scores: Sequence[float], weights: Sequence[float]) -> float:
    """Count all pairs of one that happened and one that did not."""
    wins = pairs = 0.0
    for y, p, w in zip(happened, scores, weights, strict=True):
        for other_y, other_p, other_w in zip(happened, scores, weights, strict=True):
            if y > other_y:
                pairs += w * other_w
                wins += w * other_w * (1.0 if p > other_p else 0.5 if p == other_p else 0.0)
    return wins / pairs


def slow_ece(happened: Sequence[float], scores: Sequence[float]) -> float:
    order = sorted(range(len(scores)), key=scores.__getitem__)
    total = 0.0
    for number in range(10):
        part = order[number * len(order) // 10 : (number + 1) * len(order) // 10]
        total += abs(sum(happened[at] for at in part) - sum(scores[at] for at in part))
    return total / len(scores)


# --- figures of probabilities ------------------------------------------------


HAPPENED = tuple(float(drawn("y", number) < 0.3) for number in range(137))
SCORES = tuple(round(drawn("p", number), 1) for number in range(137))  # many ties


class TestScored:
    def test_auc_counts_each_pair_and_ties_as_one_half(self) -> None:
        ones = [1.0] * 137
        assert Scored(HAPPENED, SCORES).auc() == pytest.approx(slow_auc(HAPPENED, SCORES, ones))

    def test_a_weight_of_two_is_the_row_twice_and_of_zero_no_row(self) -> None:
        weights = [float(number % 3) for number in range(137)]
        copies = [number for number in range(137) for _ in range(number % 3)]
        repeated = Scored([HAPPENED[at] for at in copies], [SCORES[at] for at in copies])
        weighted = Scored(HAPPENED, SCORES)
        assert weighted.auc(np.array(weights)) == pytest.approx(repeated.auc())
        assert weighted.auc(np.array(weights)) == pytest.approx(slow_auc(HAPPENED, SCORES, weights))
        assert weighted.log_loss(np.array(weights)) == pytest.approx(repeated.log_loss())
        assert weighted.ece(np.array(weights)) == pytest.approx(repeated.ece())

    def test_the_ece_has_ten_bins_of_equally_many_rows(self) -> None:
        for rows in (10, 57, 100, 137):
            happened, scores = HAPPENED[:rows], SCORES[:rows]
            assert Scored(happened, scores).ece() == pytest.approx(slow_ece(happened, scores))

    def test_scores_that_are_always_half_are_calibrated_when_every_second_happens(self) -> None:
        assert Scored([0.0, 1.0] * 50, [0.5] * 100).ece() == 0.0

    def test_the_loss_of_a_sure_mistake_is_bounded(self) -> None:
        assert Scored([1.0], [0.0]).log_loss() == pytest.approx(-math.log(1e-4))

    def test_without_both_classes_there_is_no_auc(self) -> None:
        assert math.isnan(Scored([1.0, 1.0], [0.1, 0.2]).auc())
        assert math.isnan(Scored([], []).auc())
        assert math.isnan(Scored([], []).log_loss())

    def test_the_bins_of_the_diagram_hold_every_row_once(self) -> None:
        bins = Scored(HAPPENED, SCORES).reliability()
        assert sum(rows for _, _, rows in bins) == 137
        assert [said for said, _, _ in bins] == sorted(said for said, _, _ in bins)


class TestResampling:
    def test_weights_are_those_of_a_poisson_distribution_with_mean_one(self) -> None:
        resampling = Resampling([f"u:{number}" for number in range(500)], replicates=100)
        counts = np.concatenate([resampling.rows(number) for number in range(100)])
        assert counts.mean() == pytest.approx(1.0, abs=0.02)
        assert counts.var() == pytest.approx(1.0, abs=0.03)
        assert (counts == 0).mean() == pytest.approx(math.exp(-1), abs=0.01)

    def test_all_rows_of_a_customer_are_taken_together(self) -> None:
        weights = Resampling(["a", "b", "a"]).rows(3)
        assert weights[0] == weights[2]

    def test_a_customers_weight_does_not_depend_on_who_else_is_there(self) -> None:
        one, other = Resampling(["u:1", "u:2", "u:3"]), Resampling(["u:9", "u:2"])
        assert [one.rows(number)[1] for number in range(50)] == [other.rows(number)[1] for number in range(50)]
        assert [one.rows(number)[1] for number in range(50)] != [one.rows(number)[2] for number in range(50)]

    def test_the_interval_of_a_mean_is_about_two_standard_errors_wide(self) -> None:
        values = [drawn("v", number) for number in range(1000)]
        found = Resampling([str(number) for number in range(1000)]).figure(audits.mean_of(values))
        error = float(np.std(values)) / math.sqrt(1000)
        assert found.value == pytest.approx(sum(values) / 1000)
        assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.2)
        assert found.low < found.value < found.high

    def test_rows_of_few_customers_say_less_than_as_many_customers(self) -> None:
        values = [drawn("v", number // 50) for number in range(1000)]
        many = Resampling([str(number) for number in range(1000)]).figure(audits.mean_of(values))
        few = Resampling([str(number // 50) for number in range(1000)]).figure(audits.mean_of(values))
        assert few.high - few.low > 3 * (many.high - many.low)

    def test_a_figure_that_most_replicates_lack_has_no_interval(self) -> None:
        found = Resampling(["a", "b"]).figure(Scored([1.0, 0.0], [0.9, 0.1]).auc)
        assert found.value == 1.0
        assert math.isnan(found.low)


def test_what_is_missing_is_said_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(MissingExtraError, match=r"pip install journey-engine\[audit\]"):
        audits.audit_segments(cloud(), FEATURES)


def test_a_sample_of_a_newer_version_is_refused() -> None:
    assert audits.read_sample(b'{"v":1,"model":"churn"}')["model"] == "churn"
    with pytest.raises(ShellError, match="newer"):
        audits.read_sample(b'{"v":2,"model":"churn"}')


# --- segments ----------------------------------------------------------------

SPOTS = ((0.0, 5.0), (5.0, 0.0), (5.0, 5.0))


def cloud(rows: int = 600) -> list[list[float]]:
    """Return rows of three kinds that are far apart in freq and mon, and alike in everything else."""
    found = []
    for number in range(rows):
        freq, mon = SPOTS[number % 3]
        noise = [drawn("noise", number, column) for column in range(7)]
        found.append([noise[0], freq + noise[1], mon + noise[2], *noise[3:]])
    return found


def centres(spots: tuple[tuple[float, float], ...] = SPOTS) -> Centres:
    """Return segments of freq and mon, in units of 2."""
    held = [[(freq + 0.5 - 3.0) / 2, (mon + 0.5 - 3.0) / 2] for freq, mon in spots]
    return Centres(("freq", "mon"), held, (3.0, 3.0), (0.5, 0.5), [f"kind {n}" for n in range(len(spots))])


class TestSegments:
    def test_three_kinds_that_are_far_apart_are_proposed_as_three(self) -> None:
        found = audits.audit_segments(cloud(), FEATURES, centres())
        assert found.proposed == 3
        assert found.agreement[3] == pytest.approx(1.0)
        assert [(one.method.partition(",")[0], one.clusters) for one in found.proposals] == [
            ("k-means", 3), ("hierarchy (Ward)", 3), ("DBSCAN", 3), ("HDBSCAN", 3),
        ]  # fmt: skip
        assert all(one.ari > 0.95 for one in found.proposals)

    def test_centres_at_their_right_places_cost_as_much_as_batch_k_means(self) -> None:
        found = audits.audit_segments(cloud(), FEATURES, centres())
        assert found.excess == pytest.approx(1.0, abs=0.02)
        assert found.excess >= 1.0 - 1e-9
        assert found.ari == pytest.approx(1.0)

    def test_centres_at_a_wrong_place_cost_more(self) -> None:
        found = audits.audit_segments(cloud(), FEATURES, centres(((0.0, 5.0), (5.0, 0.0), (0.0, 0.0))))
        assert found.excess > 5.0
        assert found.ari < 0.7

    def test_without_segments_rows_are_only_looked_at(self) -> None:
        found = audits.audit_segments(cloud(), FEATURES)
        assert found.today is None
        assert math.isnan(found.excess)
        assert len(found.points) == len(found.labels) == 600

    def test_one_cloud_has_no_more_segments_than_halves_agree_about(self) -> None:
        rows = [[sum(drawn(number, column, part) for part in range(6)) for column in range(7)] for number in range(400)]
        found = audits.audit_segments(rows, FEATURES)
        assert max(found.agreement.values()) < audits.STABLE
        assert found.agreement[found.proposed] == max(found.agreement.values())

    def test_rows_without_data_are_left_out(self) -> None:
        assert audits.audit_segments([*cloud(), [math.nan] * 7], FEATURES).rows == 600

    def test_too_few_rows_are_refused(self) -> None:
        with pytest.raises(TooFewSamplesError, match="199 rows"):
            audits.audit_segments(cloud(199), FEATURES)

    def test_a_published_model_tells_its_centres(self) -> None:
        state = {"names": ["freq"], "centres": [[1.0]], "means": [2.0], "variances": [4.0]}
        assert audits.centres_of({"state": state, "segment_names": ["loyal"]}) == Centres(
            ["freq"], [[1.0]], [2.0], [0.5], ["loyal"]
        )
        assert audits.centres_of({"state": state | {"centres": []}, "segment_names": []}) is None

    def test_the_same_rows_give_the_same_audit_and_the_same_picture(self) -> None:
        one, other = (audits.audit_segments(cloud(), FEATURES, centres()) for _ in range(2))
        assert one == other
        assert pictures.segment_map("Segments", one) == pictures.segment_map("Segments", other)


# --- rules -------------------------------------------------------------------


def baskets(count: int = 1000) -> list[list[str]]:
    """Return orders in which tea goes with milk, and tea and milk with sugar."""
    found = []
    for number in range(count):
        basket = [item for item in ("bread", "eggs", "jam") if drawn(item, number) < 0.3]
        if drawn("tea", number) < 0.25:
            basket += ["tea"] + (["milk"] if drawn("milk", number) < 0.7 else [])
            basket += ["sugar"] if "milk" in basket and drawn("sugar", number) < 0.8 else []
        found.append(sorted({*basket, f"rare {number}"}))
    return found


class TestRules:
    def test_the_stream_finds_what_fp_growth_finds(self) -> None:
        found = audits.audit_rules(baskets(), cli_audit.streamed(baskets()))
        assert found.same
        planted = {
            (left, right) for left in ("milk", "sugar", "tea") for right in ("milk", "sugar", "tea") if left != right
        }
        assert planted <= {(rule.left, rule.right) for rule in found.found}
        assert found.difference == pytest.approx(0.0, abs=1e-12)

    def test_a_rule_is_what_its_counts_say(self) -> None:
        rule = next(
            rule for rule in audits.audit_rules(baskets(), []).found if (rule.left, rule.right) == ("tea", "milk")
        )
        tea, milk = ([item in basket for basket in baskets()] for item in ("tea", "milk"))
        both = sum(map(min, tea, milk))
        assert rule.support == both / 1000
        assert rule.confidence == pytest.approx(both / sum(tea))
        assert rule.lift == pytest.approx(both * 1000 / sum(tea) / sum(milk))

    def test_a_rule_that_one_side_lacks_or_tells_differently_is_said(self) -> None:
        ours = cli_audit.streamed(baskets())
        assert [rule[:2] for rule in audits.audit_rules(baskets(), ours[1:]).missing] == [ours[0][:2]]
        other = audits.audit_rules(baskets(), [*ours, ("bread", "eggs", 0.1, 0.3, 1.0)])
        assert [rule[:2] for rule in other.surplus] == [("bread", "eggs")]
        left, right, support, *rest = ours[0]
        moved = audits.audit_rules(baskets(), [(left, right, support + 1e-6, rest[0], rest[1]), *ours[1:]])
        assert not moved.same
        assert moved.difference == pytest.approx(1e-6, rel=1e-3)

    def test_triples_are_shown(self) -> None:
        triples = audits.audit_rules(baskets(), []).triples
        assert (("milk", "tea"), "sugar") in [(triple.left, triple.right) for triple in triples]

    def test_orders_without_anything_in_common_have_no_rules(self) -> None:
        found = audits.audit_rules([[f"only {number}"] for number in range(300)], [])
        assert (found.found, found.triples, found.same, found.items) == ([], [], True, 300)
        assert "no rules" in pictures.rules_map("Rules", found)

    def test_too_few_orders_are_refused(self) -> None:
        with pytest.raises(TooFewSamplesError, match="199 baskets"):
            audits.audit_rules(baskets(199), [])


# --- probabilities -----------------------------------------------------------


def labelled(count: int = 1200, *, scored: bool = True) -> Iterator[Sample]:
    """Yield weekly samples whose first feature tells the label, with chance; the live model knows half of it."""
    for number in range(count):
        x = [drawn("x", number, column) * 4 - 2 for column in range(3)]
        truth = 1 / (1 + math.exp(-2 * x[0]))
        at = NOON + number * HOUR
        yield {
            "v": 1, "model": "churn", "kind": "label", "src": ["journey.journal", 0, number, 0], "schema": "churn/1",
            "x": x, "y": int(drawn("y", number) < truth), "p": 1 / (1 + math.exp(-x[0])) if scored else None, "q": 0.5,
            "scored_at": at, "due_at": at + DAY,
        }  # fmt: skip


class TestScores:
    found = audits.audit_scores(list(labelled()))

    def test_batch_models_learn_only_what_was_known_at_the_cut(self) -> None:
        assert self.found.cut == NOON + 600 * HOUR
        assert self.found.learned == 577  # of 600 rows, those of the last day had no label yet
        assert self.found.rows == 599

    def test_all_models_are_judged_by_the_same_rows(self) -> None:
        assert [model.name for model in self.found.models] == [
            audits.LIVE, audits.FALLBACK, "logistic regression", "linear SVM, calibrated", "random forest",
            "boosted trees",
        ]  # fmt: skip
        assert {model.rows for model in self.found.models} == {599}

    def test_the_ceiling_of_a_logistic_truth_is_the_logistic_regression(self) -> None:
        by_name = {model.name: model for model in self.found.models}
        batch, live = by_name["logistic regression"], by_name[audits.LIVE]
        assert batch.log_loss.value < live.log_loss.value
        assert batch.ece.value < live.ece.value
        assert by_name[audits.FALLBACK].auc.value == 0.5
        assert batch.auc.low < batch.auc.value < batch.auc.high

    def test_where_the_model_in_force_said_nothing_only_ceilings_are_shown(self) -> None:
        found = audits.audit_scores(list(labelled(scored=False)))
        assert audits.LIVE not in [model.name for model in found.models]
        assert (found.rows, found.abstained) == (599, 599)

    def test_a_row_without_data_is_scored_by_every_ceiling(self) -> None:
        samples = [
            sample | {"x": [math.nan, *sample["x"][1:]]} if n % 50 == 0 else sample
            for n, sample in enumerate(labelled())
        ]
        assert all(not math.isnan(model.log_loss.value) for model in audits.audit_scores(samples).models)

    def test_the_order_of_samples_does_not_matter(self) -> None:
        assert audits.audit_scores(list(labelled())[::-1]) == self.found

    def test_what_is_no_labelled_row_is_passed_over(self) -> None:
        other = {"kind": "observe", "model": "churn", "src": ["journey.journal", 0, 1, 1], "gap_days": 7.0}
        assert audits.audit_scores([other, *labelled()]) == self.found

    def test_too_few_or_one_sided_labels_are_refused(self) -> None:
        with pytest.raises(TooFewSamplesError):
            audits.audit_scores(list(labelled(300)))
        with pytest.raises(TooFewSamplesError):
            audits.audit_scores([sample | {"y": 0} for sample in labelled()])
        with pytest.raises(TooFewSamplesError):
            audits.audit_scores([])


# --- what a person sees ------------------------------------------------------


def shown() -> tuple[Console, io.StringIO]:
    held = io.StringIO()
    return Console(file=held, width=80, highlight=False), held


def test_tables_fit_80_columns_and_say_the_figures() -> None:
    console, held = shown()
    cli_audit.show_scores(console, "churn", TestScores.found)
    cli_audit.show_segments(console, audits.audit_segments(cloud(), FEATURES, centres()))
    cli_audit.show_rules(console, audits.audit_rules(baskets(), cli_audit.streamed(baskets())))
    text = held.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for words in ("logistic regression", "Proposed: 3 segments", "The stream finds the same", "milk + tea"):
        assert words in text


def test_programs_get_json_without_what_is_none() -> None:
    for found in (
        TestScores.found,
        audits.audit_segments(cloud(), FEATURES),
        audits.audit_rules(baskets(), cli_audit.streamed(baskets())),
    ):
        told = orjson.loads(orjson.dumps(cli_audit.plain(found)))
        assert list(told) == list(found._asdict())
    assert cli_audit.plain(TestScores.found)["models"][1]["auc"]["value"] == 0.5


def test_pictures_are_svg_with_text_and_the_same_each_time() -> None:
    drawings = [
        pictures.reliability("What was said", TestScores.found.models),
        pictures.rules_map("Rules", audits.audit_rules(baskets(), [])),
        pictures.segment_map("Segments", audits.audit_segments(cloud(), FEATURES, centres())),
    ]
    for drawing in drawings:
        assert ElementTree.fromstring(drawing).tag.endswith("svg")  # noqa: S314  # our own
    assert "kind 2" in drawings[2]
    assert pictures.reliability("What was said", TestScores.found.models) == drawings[0]


def test_an_interval_is_shown_only_where_there_is_one() -> None:
    assert [Figure(0.25, 0.2, 0.3).shown(2), Figure(0.25).shown(2)] == ["0.25 [0.20, 0.30]", "0.25"]
