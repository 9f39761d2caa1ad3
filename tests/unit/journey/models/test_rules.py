from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.entries import encode
from journey.errors import BadSnapshotError
from journey.models.baskets import Pairs
from journey.models.rules import Rule, Rules, rules, wilson_lower
from tests.unit.journey.models.test_baskets import a_year_of_orders

FIVE = (
    "bread milk",
    "bread diapers beer eggs",
    "milk diapers beer cola",
    "bread milk diapers beer",
    "bread milk diapers cola",
)


def counted(*baskets: str) -> Pairs:
    pairs = Pairs()
    for basket in baskets:
        pairs.learn(sorted(basket.split()))
    return pairs


def rule_of(left: str, right: str, found: list[Rule]) -> Rule:
    (rule,) = [rule for rule in found if (rule.left, rule.right) == (left, right)]
    return rule


def all_of(pairs: Pairs) -> list[Rule]:
    return rules(pairs, together=1, support=0.0, confidence=0.0, lift=0.0, sure=False)


class TestOfFiveBaskets:
    def test_support_is_the_part_of_baskets_that_have_both(self) -> None:
        assert rule_of("diapers", "beer", all_of(counted(*FIVE))).support == 3 / 5

    def test_confidence_is_the_part_of_those_with_the_one_that_have_the_other(self) -> None:
        found = all_of(counted(*FIVE))
        assert rule_of("diapers", "beer", found).confidence == 3 / 4
        assert rule_of("beer", "diapers", found).confidence == 1.0

    def test_lift_is_how_many_times_as_often_as_in_any_basket_and_the_same_both_ways(self) -> None:
        found = all_of(counted(*FIVE))
        assert rule_of("diapers", "beer", found).lift == pytest.approx(1.25, rel=1e-12)
        assert rule_of("beer", "diapers", found).lift == pytest.approx(1.25, rel=1e-12)
        assert rule_of("bread", "milk", found).lift == pytest.approx(0.9375, rel=1e-12)

    def test_the_highest_lift_comes_first_ties_by_item(self) -> None:
        found = [(rule.left, rule.right) for rule in all_of(counted(*FIVE))]
        assert found[:4] == [("beer", "eggs"), ("eggs", "beer"), ("beer", "diapers"), ("bread", "eggs")]


class TestThresholds:
    def test_twenty_baskets_with_both_make_a_rule_and_nineteen_do_not(self) -> None:
        assert len(rules(counted(*["a b"] * 20, *["c"] * 80))) == 2
        assert rules(counted(*["a b"] * 19, *["c"] * 80)) == []

    def test_one_basket_in_two_hundred_is_enough_and_less_is_not(self) -> None:
        assert len(rules(counted(*["a b"] * 20, *["c"] * 3_980))) == 2
        assert rules(counted(*["a b"] * 20, *["c"] * 3_981)) == []

    def test_a_confidence_of_exactly_a_fifth_is_enough_and_less_is_not(self) -> None:
        assert rule_of("a", "b", rules(counted(*["a b"] * 40, *["a"] * 160, *["c"] * 800))).confidence == 0.2
        found = rules(counted(*["a b"] * 40, *["a"] * 161, *["c"] * 800))
        assert [(rule.left, rule.right) for rule in found] == [("b", "a")]

    def test_a_lift_of_one_point_two_is_enough_and_less_is_not(self) -> None:
        baskets = [*["a b"] * 300, *["a"] * 200, *["b"] * 200]
        assert len(rules(counted(*baskets, *["c"] * 300))) == 2
        assert rules(counted(*baskets, *["c"] * 299)) == []

    def test_what_could_be_chance_is_no_rule_unless_it_is_asked_for(self) -> None:
        pairs = counted(*["a b"] * 20, *["a"] * 20, *["b"] * 380, *["c"] * 580)
        assert rules(pairs, support=0.0) == []
        assert len(rules(pairs, support=0.0, confidence=0.0, sure=False)) == 2

    def test_the_interval_of_wilson_begins_where_it_should(self) -> None:
        assert wilson_lower(8, 10) == pytest.approx(0.4901625, abs=1e-7)
        assert wilson_lower(0, 10) == pytest.approx(0.0, abs=1e-12)
        assert wilson_lower(10, 10) == pytest.approx(0.7224672, abs=1e-7)

    def test_a_rule_no_greater_than_what_was_dropped_is_not_shown(self) -> None:
        pairs = counted(*["a b"] * 30, *["c"] * 70)
        pairs.dropped = 29
        assert len(rules(pairs)) == 2
        pairs.dropped = 30
        assert rules(pairs) == []

    def test_without_baskets_there_are_no_rules(self) -> None:
        assert rules(Pairs()) == []


class TestPublished:
    def test_rules_come_back_as_they_were(self) -> None:
        told = Rules.of(counted(*["a b"] * 30, *["b"] * 10, *["c"] * 60))
        again = Rules.restore(json.loads(encode(told.published())))
        assert again.found == told.found
        assert len(again.found) == 2
        assert encode(again.published()) == encode(told.published())

    def test_only_the_highest_lifts_are_published(self) -> None:
        pairs = counted(*["a b"] * 30, *["c d"] * 60, *["e"] * 300)
        assert {rule.left for rule in Rules.of(pairs, most=2).found} == {"a", "b"}

    def test_a_cart_calls_for_what_is_not_in_it_each_item_once(self) -> None:
        shop = Rules.of(counted(*["a b x"] * 30, *["a c"] * 30, *["b x"] * 10, *["d"] * 300))
        found = shop.beside(["a", "b"])
        assert [rule.right for rule in found] == ["x", "c"]
        assert found[0].left == "b"
        assert len(shop.beside(["a", "b"], k=1)) == 1
        assert shop.beside(["d"]) == shop.beside([]) == []

    def test_a_rule_is_said_in_words(self) -> None:
        told = Rule("tea", "milk", 120, 316, 2_000, 10_000).text()
        assert told == "who buys tea buys milk too: 38 % of them, 1.9 times as often as others (n 120)"

    @pytest.mark.parametrize(
        "wrong",
        [
            {"class": "rules/2"}, {"baskets": -1}, {"dropped": None}, {"rules": [["a", "b", 1, 1]]},
            {"rules": [["a", "b", 2, 1, 2]]}, {"rules": [["a", "b", 1, 1, 200]]}, {"rules": [["a", "b", 0, 1, 1]]},
            {"rules": [["a", "b", float("nan"), 1, 1]]},
        ],
    )  # fmt: skip
    def test_what_cannot_be_rules_is_refused(self, wrong: dict[str, Any]) -> None:
        published = Rules.of(counted(*["a b"] * 30, *["c"] * 70)).published()
        Rules.restore(published)
        with pytest.raises(BadSnapshotError):
            Rules.restore(published | wrong)


def by_fp_growth(baskets: list[list[str]], support: float, confidence: float, lift: float) -> dict[Any, Any]:
    """Return the rules of mlxtend between two items; a confidence may be short of the threshold by a last bit."""
    why = "not compared with FP-growth: the extra ``audit`` is not installed"
    pandas = pytest.importorskip("pandas", reason=why)
    mining = pytest.importorskip("mlxtend.frequent_patterns", reason=why)
    items = sorted({item for basket in baskets for item in basket})
    sets = [set(basket) for basket in baskets]
    frame = pandas.DataFrame({item: [item in basket for basket in sets] for item in items})
    frequent = mining.fpgrowth(frame, min_support=support, max_len=2, use_colnames=True)
    if not len(frequent):
        return {}
    found = mining.association_rules(frequent, metric="lift", min_threshold=lift - 1e-9)
    return {
        (min(rule.antecedents), min(rule.consequents)): (rule.support, rule.confidence, rule.lift)
        for rule in found.itertuples()
        if rule.confidence >= confidence - 1e-9
    }


def assert_same(pairs: Pairs, wanted: dict[Any, Any], support: float, confidence: float, lift: float) -> None:
    ours = rules(pairs, together=1, support=support, confidence=confidence, lift=lift, sure=False)
    found = {(rule.left, rule.right): (rule.support, rule.confidence, rule.lift) for rule in ours}
    assert found.keys() == wanted.keys()
    for both, numbers in wanted.items():
        assert found[both] == pytest.approx(numbers, rel=0, abs=1e-9)


BASKETS = st.lists(st.sets(st.sampled_from("abcdefgh"), min_size=1, max_size=6).map(sorted), min_size=5, max_size=60)


@given(BASKETS, st.sampled_from([0.05, 0.1, 0.3]), st.sampled_from([0.2, 0.5, 1.0]))
@settings(max_examples=40, deadline=None)
def test_fp_growth_finds_the_same_rules(baskets: list[list[str]], support: float, confidence: float) -> None:
    pairs = counted(*(" ".join(basket) for basket in baskets))
    lift = 1.05  # no ratio of counts up to 60 lies within a last bit of it that is not it
    assert_same(pairs, by_fp_growth(baskets, support, confidence, lift), support, confidence, lift)


@pytest.mark.slow
def test_fp_growth_finds_the_same_rules_in_fifteen_thousand_real_orders() -> None:
    orders = a_year_of_orders()[:15_000]
    pairs = Pairs()
    for order in orders:
        pairs.learn(order.items)
    wanted = by_fp_growth([list(order.items) for order in orders], 0.005, 0.2, 1.2)
    assert len(wanted) == 2_134
    assert_same(pairs, wanted, 0.005, 0.2, 1.2)
