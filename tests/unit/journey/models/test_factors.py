from __future__ import annotations

import json
import math
from typing import Any

import pytest

from journey.entries import encode
from journey.errors import BadSnapshotError
from journey.models.base import chance
from journey.models.factors import RANK, FactorRanking, Factors, mean_taste, start, taste_shares

NOON = 1_788_264_000_000
GROUPS = (("tea", "milk", "sugar"), ("nail", "hammer", "saw"), ("ink", "pen", "paper"))


def learned(orders: int = 600, **policy: Any) -> Factors:
    """Return what was learned of customers each of whom keeps to one of three kinds of goods."""
    factors = Factors(**policy)
    for number in range(orders):
        group = GROUPS[number % 3]
        place = int(3 * chance("bought", str(number)))
        profile = {item: 1.0 + chance(item, str(number)) for item in group if item != group[place]}
        factors.learn([[group[place]]], NOON, profile)
    return factors


def ranking(factors: Factors) -> FactorRanking:
    return FactorRanking.restore(json.loads(encode(factors.published(NOON))))


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: str(group[0]))
def test_who_buys_goods_of_a_kind_is_told_of_others_of_that_kind(group: tuple[str, ...]) -> None:
    shop = ranking(learned())
    for item in group:
        found = shop.recommend({item: 1.0}, k=2, exclude=[item])
        assert {one.item for one in found} == set(group) - {item}
        assert found[0].why == f"because_you_bought:{item}"


def test_what_was_bought_before_is_named_as_such() -> None:
    found = ranking(learned()).recommend({"tea": 1.0}, k=9)
    assert {one.item for one in found if one.why == "bought_before"} == {"tea"}


def test_somebody_unknown_is_told_what_is_bought_most() -> None:
    factors = Factors()
    for number in range(500):
        factors.learn([["milk" if number % 10 else "ink"]], NOON, {})
    found = ranking(factors).recommend({}, k=1)
    assert (found[0].item, found[0].why) == ("milk", "popular")
    assert ranking(factors).recommend({"never seen": 3.0}, k=1)[0][:2] == found[0][:2]


def test_asking_about_unknown_ids_changes_nothing() -> None:
    factors = learned(60)
    before, shop = encode(factors.state()), ranking(factors)
    told = shop.recommend({"tea": 1.0})
    for number in range(100):
        shop.recommend({f"never seen {number}": 1.0})
    assert shop.recommend({"tea": 1.0}) == told
    assert encode(factors.state()) == before


def test_an_item_begins_where_its_id_says() -> None:
    one, other = Factors(), Factors()
    one.learn([["tea"]], NOON, {})
    other.learn([["milk"]], NOON, {})
    other.learn([["tea"]], NOON, {})
    assert one.taste["tea"] == other.taste["tea"] == start("factors", "buys", "tea", RANK)
    assert one.taste["tea"] != one.goods["tea"]
    assert all(abs(value) <= 0.5 for value in one.goods["tea"])


def test_a_customer_is_the_mean_of_what_they_bought() -> None:
    taste = {"a": [1.0, 0.0], "b": [0.0, 4.0]}
    shares = taste_shares({"b": 1.0, "a": 3.0, "unknown": 7.0, "nothing": 0.0}, taste)
    assert shares == [("a", 0.75), ("b", 0.25)]
    assert mean_taste(shares, taste, 2) == [0.75, 1.0]
    assert mean_taste([], taste, 2) == [0.0, 0.0]


def test_one_item_that_is_bought_daily_does_not_drown_the_others() -> None:
    assert taste_shares({"a": 300.0, "b": 1.0}, {"a": [], "b": []}) == [("a", 0.75), ("b", 0.25)]


def test_beyond_the_bound_the_quarter_bought_least_is_forgotten_ties_by_id() -> None:
    factors = Factors(most=4)
    factors.learn([["e"], ["d"]], NOON, {})
    factors.learn([["e"], ["a"], ["b"], ["c"]], NOON, {})
    assert sorted(factors.names) == ["a", "b", "e"]
    assert sorted(factors.taste) == sorted(factors.goods) == sorted(factors.bias) == ["a", "b", "e"]


def test_numbers_stay_finite_however_long_one_thing_is_repeated() -> None:
    factors = Factors(rate=1.0)
    for number in range(3_000):
        factors.learn([["tea"]], NOON, {"tea": 1e300, "milk": 1.0})
        factors.learn([[f"p-{number % 50}"]], NOON, {})
    assert all(math.isfinite(value) for name in factors.names for value in factors.goods[name] + factors.taste[name])
    Factors.restore(factors.state())


def test_those_bought_most_are_published() -> None:
    factors = learned(60)
    for _ in range(30):
        factors.learn([["saw"]], NOON, {})
    assert factors.published(NOON, listed=1)["items"] == ["saw"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"class": "factors/1"}, {"rank": 3}, {"rank": None}, {"bias": []}, {"items": ["tea"]},
        {"taste": [[0.0] * RANK]}, {"goods": [[math.nan] * RANK] * 9}, {"goods": [[1e300] * RANK] * 9},
    ],
)  # fmt: skip
def test_what_cannot_be_a_ranking_is_refused(wrong: dict[str, Any]) -> None:
    published = learned(90).published(NOON)
    FactorRanking.restore(published)
    with pytest.raises(BadSnapshotError):
        FactorRanking.restore(published | wrong)


def test_a_state_whose_numbers_exploded_is_refused() -> None:
    state = learned(30).state()
    state["items"][0][2] = 1e7
    with pytest.raises(BadSnapshotError):
        Factors.restore(state)
