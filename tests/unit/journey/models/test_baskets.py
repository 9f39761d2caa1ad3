from __future__ import annotations

import csv
import gzip
import json
import math
import os
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.entries import encode
from journey.errors import BadSnapshotError
from journey.events import DAY
from journey.models import baskets as counted
from journey.models.base import chance
from journey.models.baskets import (
    FEW_BUYERS,
    MOST_IN_BASKET,
    MOST_IN_PROFILE,
    UNSOLD_AFTER,
    Baskets,
    Facts,
    Pairs,
    Popular,
    Profile,
    Recommendation,
    Recommender,
    add_to_profile,
    count,
    finite,
    in_words,
    profile_at,
)

NOON = 1_788_264_000_000
HALF_LIFE = 60 * DAY


def rows(*names: str) -> list[list[Any]]:
    return [[name, None, None, None] for name in names]


def learned(*orders: str) -> Baskets:
    """Return what is counted of orders like "bread butter", all at noon."""
    baskets = Baskets()
    for order in orders:
        baskets.learn(rows(*order.split()), NOON)
    return baskets


def shop(*orders: str) -> Recommender:
    return Recommender.restore(json.loads(encode(learned(*orders).published(NOON))))


def names(found: list[Recommendation]) -> list[str]:
    return [one.item for one in found]


class TestProfile:
    def test_a_purchase_weighs_one_at_once_and_half_after_sixty_days(self) -> None:
        profile: Profile = {}
        add_to_profile(profile, NOON, ["milk"])
        assert profile_at(profile, NOON) == {"milk": 1.0}
        assert profile_at(profile, NOON + HALF_LIFE)["milk"] == pytest.approx(0.5, rel=1e-12)

    def test_a_late_order_weighs_what_it_would_have_weighed(self) -> None:
        profile: Profile = {}
        add_to_profile(profile, NOON, ["milk"])
        add_to_profile(profile, NOON - HALF_LIFE, ["milk", "tea"])
        assert profile_at(profile, NOON) == pytest.approx({"milk": 1.5, "tea": 0.5}, rel=1e-12)

    def test_an_item_told_twice_in_an_order_counts_once(self) -> None:
        profile: Profile = {}
        add_to_profile(profile, NOON, ["milk", "milk"])
        assert profile_at(profile, NOON) == {"milk": 1.0}

    def test_sixty_four_items_are_remembered(self) -> None:
        profile: Profile = {}
        add_to_profile(profile, NOON, [f"p-{number:02d}" for number in range(MOST_IN_PROFILE)])
        assert len(profile) == MOST_IN_PROFILE

    def test_one_more_and_the_lightest_are_forgotten_of_equal_ones_the_last_by_id(self) -> None:
        profile: Profile = {}
        add_to_profile(profile, NOON - 1, [f"p-{number:02d}" for number in range(MOST_IN_PROFILE)])
        add_to_profile(profile, NOON, ["z"])
        assert sorted(profile) == [*(f"p-{number:02d}" for number in range(47)), "z"]

    def test_reading_a_profile_changes_nothing(self) -> None:
        profile: Profile = {}
        add_to_profile(profile, NOON, ["tea", "milk"])
        before = encode(profile)
        profile_at(profile, NOON + DAY)
        assert encode(profile) == before

    @given(st.permutations([(NOON + day * DAY, f"p-{day % 7}") for day in range(0, 400, 13)]))
    @settings(max_examples=30, deadline=None)
    def test_the_order_of_orders_changes_last_bits_only(self, orders: list[tuple[int, str]]) -> None:
        one: Profile = {}
        other: Profile = {}
        for at, item in orders:
            add_to_profile(one, at, [item])
        for at, item in sorted(orders):
            add_to_profile(other, at, [item])
        assert profile_at(one, NOON) == pytest.approx(profile_at(other, NOON), rel=1e-12)


class TestPopular:
    def test_shares_are_of_all_purchases_and_halve_in_thirty_days(self) -> None:
        popular = Popular()
        popular.add(["tea"], NOON)
        popular.add(["milk", "tea"], NOON - 30 * DAY)
        assert popular.shares(["tea", "milk"]) == pytest.approx([0.75, 0.25], rel=1e-12)

    def test_beyond_the_bound_the_least_bought_quarter_goes_of_equal_ones_the_last_by_id(self) -> None:
        popular = Popular(most=4)
        popular.add(["e"], NOON)
        popular.add(["a", "b", "c", "d", "e"], NOON)
        assert popular.ranking() == ["e", "a", "b"]


class TestPairs:
    def test_baskets_items_and_pairs_are_counted(self) -> None:
        pairs = learned("bread butter", "bread butter jam", "bread").pairs
        assert (pairs.n, pairs.items) == (3, {"bread": 3, "butter": 2, "jam": 1})
        assert pairs.pairs() == [("bread", "butter", 2), ("bread", "jam", 1), ("butter", "jam", 1)]
        assert pairs.together("jam", "bread") == pairs.together("bread", "jam") == 1
        assert (pairs.together("jam", "tea"), pairs.cosine("jam", "tea"), pairs.dropped) == (0, 0.0, 0)

    def test_an_item_told_twice_in_an_order_counts_once(self) -> None:
        assert learned("bread bread butter").pairs.pairs() == [("bread", "butter", 1)]

    def test_the_cosine_of_items_counts_one_more_basket_of_each(self) -> None:
        assert learned("a b", "a b", "a").pairs.cosine("a", "b") == pytest.approx(2 / (math.sqrt(4) * math.sqrt(3)))

    def test_beyond_the_bound_the_rarer_half_of_the_pairs_goes_and_its_level_is_told(self) -> None:
        pairs = Pairs(most_pairs=4)
        for basket, times in (("ab", 5), ("cd", 4), ("ef", 3), ("gh", 2), ("ij", 1)):
            for _ in range(times):
                pairs.learn(list(basket))
        assert pairs.pairs() == [("a", "b", 5), ("c", "d", 4)]
        assert (pairs.size, pairs.dropped) == (2, 3)

    def test_what_a_count_may_lack_adds_up(self) -> None:
        pairs = Pairs(most_pairs=2)
        true: dict[tuple[str, str], int] = {}
        for number in range(300):
            pair = ("a", "b") if chance("common", str(number)) < 0.3 else (f"c{number % 7}", f"d{number % 5}")
            true[pair] = true.get(pair, 0) + 1
            pairs.learn(pair)
        assert pairs.dropped > 0
        for (one, other), times in true.items():
            assert 0 <= times - pairs.together(one, other) <= pairs.dropped

    def test_beyond_the_bound_of_items_the_rarest_go_with_their_pairs(self) -> None:
        pairs = Pairs(most_items=4)
        pairs.learn(["e", "f"])
        pairs.learn(["a", "b", "e"])
        pairs.learn(["c", "e"])
        assert sorted(pairs.items) == ["a", "b", "e"]
        assert pairs.pairs() == [("a", "b", 1), ("a", "e", 1), ("b", "e", 1)]
        assert pairs.dropped == 1

    def test_of_a_very_large_basket_some_items_are_paired_always_the_same(self) -> None:
        basket = [f"p-{number:04d}" for number in range(1_000)]
        one, other = Pairs(), Pairs()
        one.learn(basket)
        other.learn(basket[::-1])
        assert one.size == MOST_IN_BASKET * (MOST_IN_BASKET - 1) // 2
        assert (one.pairs(), len(one.items)) == (other.pairs(), 1_000)


class TestFacts:
    def test_the_fullest_account_is_kept_of_equally_full_ones_the_newest(self) -> None:
        facts = Facts()
        facts.learn([["p", "tea", "Leaf", 400]], NOON)
        facts.learn([["p", None, None, 500]], NOON + 1)
        facts.learn([["p", "tea", "Leaf", 450]], NOON - 1)
        assert facts.of["p"][2:5] == ("tea", "Leaf", 400)
        facts.learn([["p", "tea", "Leaf", 450, ["new", "green"]]], NOON + 2)
        assert facts.of["p"][2:] == ("tea", "Leaf", 450, ("green", "new"))
        assert facts.seen["p"] == NOON + 2

    def test_who_had_it_before_is_no_other_buyer(self) -> None:
        facts = Facts()
        for _ in range(3):
            facts.learn(rows("p", "q"), NOON, {"q": 1.0})
        assert facts.buyers == {"p": 3, "q": 0}

    def test_twenty_buyers_are_counted_and_no_more(self) -> None:
        facts = Facts()
        for _ in range(30):
            facts.learn(rows("p"), NOON)
        assert facts.buyers["p"] == FEW_BUYERS

    def test_beyond_the_bound_those_with_the_fewest_buyers_go_then_the_longest_unsold(self) -> None:
        facts = Facts(most=4)
        facts.learn(rows("a", "b"), NOON)
        facts.learn(rows("a"), NOON)
        facts.learn(rows("c", "d"), NOON + 1)
        facts.learn(rows("e"), NOON + 2)
        assert sorted(facts.of) == ["a", "c", "e"]
        assert sorted(facts.seen) == sorted(facts.buyers) == ["a", "c", "e"]

    def test_long_texts_are_cut(self) -> None:
        facts = Facts()
        facts.learn([["p", "c" * 2_048, "b" * 2_048, 1, ["t" * 2_048] * 100]], NOON)
        assert len(encode(facts.state())) < 500


class TestRecommendations:
    def test_what_a_customer_buys_most_comes_first(self) -> None:
        found = shop("tea", "milk", "milk").recommend({"tea": 3.0, "jam": 1.5}, k=2)
        assert names(found) == ["tea", "jam"]
        assert {one.why for one in found} == {"bought_before"}

    def test_the_score_is_the_weight_and_twice_the_share(self) -> None:
        assert shop("tea", "milk", "milk", "milk").recommend({"tea": 3.0}, k=1)[0].score == 3.5

    def test_somebody_new_sees_what_is_popular(self) -> None:
        assert shop("tea", "milk", "milk", "jam").recommend({}, k=2) == [
            ("milk", 1.0, "popular"),
            ("jam", 0.5, "popular"),
        ]

    def test_ties_go_by_id(self) -> None:
        assert names(shop("b c a d").recommend({}, k=3)) == ["a", "b", "c"]
        assert names(shop("z").recommend({"b": 3.0, "c": 3.0, "a": 3.0}, k=2)) == ["a", "b"]

    def test_what_goes_with_what_they_buy_comes_before_what_is_as_popular(self) -> None:
        crowd = [f"x{number:03d}" for number in range(300)]
        found = shop("tea sugar", "hay straw", *crowd).recommend({"tea": 1.0}, k=2, exclude=["tea"])
        assert found[0].item == "sugar"
        assert found[0].why == "because_you_bought:tea"
        assert found[0].score == pytest.approx(0.02 + 2 / 304, abs=2e-6)
        assert found[1].why == "popular"

    def test_the_reason_is_the_item_that_said_most(self) -> None:
        crowd = [f"x{number:03d}" for number in range(300)]
        orders = ["tea sugar", "tea sugar", "flour sugar", *crowd]
        assert shop(*orders).recommend({"flour": 0.5, "tea": 1.0}, 1, ["flour", "tea"])[0].why.endswith(":tea")
        assert shop(*orders).recommend({"flour": 3.0, "tea": 1.0}, 1, ["flour", "tea"])[0].why.endswith(":flour")

    def test_what_was_just_bought_or_is_sold_out_is_not_named(self) -> None:
        found = shop("a b c d e").recommend(
            {"a": 5.0, "b": 4.0, "c": 3.0}, exclude=frozenset("a"), unavailable=("b", "d")
        )
        assert names(found) == ["c", "e"]

    def test_of_fewer_items_all_are_named_and_of_none_none(self) -> None:
        assert names(shop("a b").recommend({"c": 2.0}, k=10)) == ["c", "a", "b"]
        assert shop().recommend({}) == []
        assert shop("a").recommend({"a": 1.0}, k=0) == []

    def test_items_that_nobody_knows_are_ranked_by_their_weight_alone(self) -> None:
        assert shop("a").recommend({"never seen": 0.5}, k=2) == [
            ("a", 2.0, "popular"), ("never seen", 0.5, "bought_before"),
        ]  # fmt: skip

    def test_a_cart_lifts_what_is_bought_with_it_and_is_not_named(self) -> None:
        seller = shop("pasta sauce", "pasta sauce", "tea", "milk")
        assert names(seller.recommend({"tea": 1.5}, k=1)) == ["tea"]
        found = seller.recommend({"tea": 1.5}, k=2, cart=["pasta"])
        assert [(one.item, one.why) for one in found] == [("sauce", "bought_together:pasta"), ("tea", "bought_before")]

    def test_beside_a_cart_stands_what_was_bought_with_all_of_it(self) -> None:
        seller = shop("pasta sauce cheese", "pasta sauce", "wine cheese", "tea milk")
        found = seller.beside_cart(["pasta", "wine"], k=3)
        assert names(found) == ["cheese", "sauce"]
        assert found[0].why == "bought_together:wine"
        assert names(seller.beside_cart(["pasta", "wine"], unavailable=["cheese"])) == ["sauce"]
        assert seller.beside_cart([]) == seller.beside_cart(["never seen"]) == []

    def test_reasons_are_said_in_words(self) -> None:
        assert in_words("because_you_bought:green tea") == "because you bought green tea"
        assert in_words("bought_together:tea") == "because it is often bought together with tea"
        assert in_words("bought_before") == "because you bought it before"
        assert in_words("popular") == "because many customers buy it"
        assert in_words("buyers_like_you") == "because customers like you buy it"

    @given(
        st.dictionaries(st.sampled_from([f"p-{n}" for n in range(40)]), st.floats(0.0, 5.0), max_size=30),
        st.sets(st.sampled_from([f"p-{n}" for n in range(40)]), max_size=20),
        st.lists(st.sampled_from([f"p-{n}" for n in range(40)]), max_size=3),
        st.integers(1, 12),
    )
    @settings(max_examples=200, deadline=None)
    def test_looking_only_at_what_can_come_in_names_the_same_as_looking_at_all(
        self, profile: dict[str, float], gone: set[str], cart: list[str], k: int
    ) -> None:
        seller = a_shop()
        every = seller.recommend(profile, 1_000, gone, cart=cart)
        found = seller.recommend(profile, k, gone, cart=cart)
        assert [(one.item, one.why) for one in found] == [(one.item, one.why) for one in every[:k]]
        assert [one.score for one in found] == pytest.approx([one.score for one in every[:k]], rel=1e-12)


_SHOP: list[Recommender] = []


def a_shop() -> Recommender:
    """Return a shop of 30 items, a few of which are bought much more than others."""
    if not _SHOP:
        orders = [
            " ".join({f"p-{int(30 * chance('item', str(order), str(line)) ** 3)}": None for line in range(4)})
            for order in range(300)
        ]
        _SHOP.append(shop(*orders))
    return _SHOP[0]


class TestPublished:
    def test_at_most_twenty_neighbours_of_each_item_the_nearest(self) -> None:
        published = learned(" ".join(f"p-{number:02d}" for number in range(30)), "p-00 p-29").published(NOON)
        place = published["items"].index("p-00")
        assert len(published["near"][place]) == 40
        assert published["items"][published["near"][place][0]] == "p-29"

    def test_only_the_most_popular_are_listed_with_neighbours_among_them(self) -> None:
        published = learned("a b c", "a b", "a").published(NOON, listed=2)
        assert published["items"] == ["a", "b"]
        assert [flat[::2] for flat in published["near"]] == [[1], [0]]

    def test_what_nobody_bought_for_half_a_year_is_not_listed(self) -> None:
        baskets = learned("old")
        baskets.learn(rows("new"), NOON + UNSOLD_AFTER)
        assert baskets.published(NOON + UNSOLD_AFTER - 1)["items"] == ["new", "old"]
        assert baskets.published(NOON + UNSOLD_AFTER)["items"] == ["new"]

    def test_five_hundred_items_are_at_most_128_kilobytes(self) -> None:
        baskets = Baskets()
        for order in range(3_000):
            drawn = {f"item-{int(600 * chance(str(order), str(line)) ** 2):09d}": None for line in range(8)}
            baskets.learn(rows(*drawn), NOON)
        published = baskets.published(NOON)
        assert len(published["items"]) == 500
        assert 60_000 < len(encode(published)) < 131_072

    def test_publishing_changes_nothing(self) -> None:
        baskets = learned("a b", "b c")
        before = encode(baskets.state())
        assert encode(baskets.published(NOON)) == encode(baskets.published(NOON))
        assert encode(baskets.state()) == before

    @pytest.mark.parametrize(
        "wrong",
        [
            {"class": "recommender/2"}, {"near": [[7, 1]]}, {"near": [[-1, 1]]}, {"near": [[0]]}, {"near": []},
            {"near": [[0, math.nan]]}, {"near": [[0, 20_000]]}, {"shares": [math.inf]}, {"shares": ["much"]},
            {"items": None}, {"dropped": -1}, {"n": 1.5}, {"n": True},
        ],
    )  # fmt: skip
    def test_what_cannot_be_a_recommender_is_refused(self, wrong: dict[str, Any]) -> None:
        published = learned("a").published(NOON)
        Recommender.restore(published)
        with pytest.raises(BadSnapshotError):
            Recommender.restore(published | wrong)

    @pytest.mark.parametrize("part", ["popular", "pairs", "facts"])
    def test_a_state_without_a_part_is_refused(self, part: str) -> None:
        state = learned("a").state()
        del state[part]
        with pytest.raises(BadSnapshotError):
            Baskets.restore(state)

    def test_numbers_of_a_state_are_finite_and_counts_are_counts(self) -> None:
        assert (finite(1), finite(-2.5), count(0)) == (1.0, -2.5, 0)
        for wrong in (math.nan, math.inf, "1", None, True, 1e301):
            with pytest.raises(ValueError, match="no number"):
                finite(wrong)
        for wrong in (-1, 1.0, None, True):
            with pytest.raises(ValueError, match="no count"):
                count(wrong)


# ---- a year of a real grocer, when it is at hand ---------------------------------------------------------------------


class Order(NamedTuple):
    at: int
    customer: str
    items: tuple[str, ...]  # product categories, sorted, distinct


def a_year_of_orders() -> list[Order]:
    """Return the orders of 1,234 households, oldest first; skips when there is no such file."""
    named = os.environ.get("JOURNEY_DATA", "")
    path = Path(named) / "complete_journey_A.csv.gz"
    if not named or not path.is_file():
        pytest.skip("not measured on real orders: JOURNEY_DATA names no folder that has complete_journey_A.csv.gz")
    found: dict[tuple[str, int], tuple[int, set[str]]] = {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines):
            if line["type"] == "purchase":
                at = int(datetime.fromisoformat(line["ts"]).timestamp() * 1_000)
                basket = (line["customer_id"], json.loads(line["extra"])["basket"])
                found.setdefault(basket, (at, set()))[1].add(line["category"])
    orders = [Order(at, customer, tuple(sorted(items))) for (customer, _), (at, items) in found.items()]
    return sorted(orders, key=lambda order: (order.at, order.customer))


@pytest.mark.slow
def test_on_real_orders_the_own_counts_are_worth_seven_points_of_recall() -> None:
    orders = a_year_of_orders()
    half = orders[len(orders) // 2].at
    baskets, profiles = Baskets(), dict[str, Profile]()
    seller, made = Recommender({}, {}, n=0, dropped=0), 0
    ours: list[float] = []
    popular: list[float] = []
    for order in orders:
        profile = profiles.setdefault(order.customer, {})
        if order.at >= half and chance("scored", order.customer, str(order.at)) < 0.03:
            if order.at > made + DAY:
                seller, made = Recommender.restore(baskets.published(order.at)), order.at
            most = min(10, len(order.items))
            ours.append(len({*names(seller.recommend(profile_at(profile, order.at)))} & {*order.items}) / most)
            popular.append(len({*names(seller.recommend({}))} & {*order.items}) / most)
        baskets.learn(rows(*order.items), order.at, profile)
        add_to_profile(profile, order.at, order.items)
    assert len(ours) > 1_000
    assert sum(ours) / len(ours) >= sum(popular) / len(popular) + 0.07
    assert baskets.pairs.dropped == 0
    assert counted.LISTED > len(seller.recommend({}, 1_000)) > 100
