from __future__ import annotations

import json
import math
from typing import Any

import pytest

from journey.entries import encode
from journey.errors import BadSnapshotError
from journey.models.baskets import MOST_IN_PROFILE
from journey.models.neighbours import Neighbourhood, Neighbours, cosine, distance

NOON = 1_788_264_000_000
RATINGS = {
    1: {"item 1": 5.0, "item 2": 4.0, "item 3": 3.0},
    2: {"item 1": 4.0, "item 2": 5.0},
    3: {"item 1": 3.0, "item 2": 4.0},
}


def near(neighbours: Neighbours) -> Neighbourhood:
    return Neighbourhood.restore(json.loads(encode(neighbours.published(NOON + 10))))


def test_the_cosine_of_one_to_five_and_two_to_six_is_nearly_one() -> None:
    assert cosine([1, 2, 3, 4, 5], [2, 3, 4, 5, 6]) == pytest.approx(0.9949, abs=5e-5)
    assert cosine([1, 0], [0, 1]) == 0.0
    assert cosine([0, 0], [1, 1]) == 0.0


def test_their_distance_is_the_root_of_five() -> None:
    assert distance([1, 2, 3, 4, 5], [2, 3, 4, 5, 6]) == pytest.approx(math.sqrt(5), rel=1e-15)


def test_of_three_people_and_three_items_two_lack_one_and_the_first_has_all() -> None:
    people = Neighbourhood(list(RATINGS.values()))
    for person in (2, 3):
        found = people.recommend(RATINGS[person], exclude=RATINGS[person])
        assert [(one.item, one.why) for one in found] == [("item 3", "buyers_like_you")]
    assert people.recommend(RATINGS[1], exclude=RATINGS[1]) == []


def test_what_the_nearest_buy_comes_first() -> None:
    neighbours = Neighbours()
    for number in range(5):
        neighbours.learn([["mint"]], NOON + number, {"tea": 2.0, "milk": 1.0})
        neighbours.learn([["nail"]], NOON + number, {"hammer": 2.0, "milk": 1.0})
    found = near(neighbours).recommend({"tea": 1.0, "milk": 1.0}, exclude=["milk", "tea"])
    assert [one.item for one in found] == ["mint", "hammer", "nail"]


def test_only_the_nearest_are_asked() -> None:
    people = [{"tea": 1.0, "mint": 1.0}, {"tea": 1.0, "mint": 0.9}, {"tea": 0.1, "nail": 9.0}]
    taste = {"tea": 1.0}
    assert [one.item for one in Neighbourhood(people, nearest=2).recommend(taste, exclude=["tea"])] == ["mint"]
    assert len(Neighbourhood(people, nearest=3).recommend(taste, exclude=["tea"])) == 2


def test_who_has_nothing_in_common_with_anybody_is_told_nothing() -> None:
    people = Neighbourhood([{"tea": 1.0}, {}])
    assert people.recommend({}) == people.recommend({"ink": 1.0}) == people.recommend({"tea": 0.0}) == []


def test_a_profile_is_kept_with_what_was_bought_now() -> None:
    neighbours = Neighbours()
    neighbours.learn([["tea"], ["milk"], ["tea"]], NOON, {"tea": 0.5})
    assert neighbours.kept[0][2] == (("milk", 1.0), ("tea", 1.5))


def test_only_the_newest_are_kept_whenever_they_come() -> None:
    neighbours = Neighbours(most=3)
    for day in (5, 1, 4, 2, 3):
        neighbours.learn([[f"p-{day}"]], NOON + day, {})
    assert [at - NOON for at, _, _ in neighbours.kept] == [3, 4, 5]


def test_the_same_told_twice_is_kept_once() -> None:
    neighbours = Neighbours()
    for _ in range(2):
        neighbours.learn([["tea"]], NOON, {"milk": 1.0})
    assert len(neighbours.kept) == 1


def test_of_a_large_order_the_heaviest_items_are_kept() -> None:
    neighbours = Neighbours()
    neighbours.learn([[f"p-{number:03d}"] for number in range(200)], NOON, {"p-150": 1.0})
    kept = dict(neighbours.kept[0][2])
    assert len(kept) == MOST_IN_PROFILE
    assert kept["p-150"] == 2.0


def test_the_newest_profiles_until_a_moment_are_published_with_their_heaviest_items() -> None:
    neighbours = Neighbours()
    for day in range(5):
        neighbours.learn([[f"p-{day}"]], NOON + day, {"tea": 2.0 + day, "milk": 1.5})
    published = neighbours.published(NOON + 3, most=2, heaviest=2)
    assert published["items"] == ["milk", "tea"]
    assert published["profiles"] == [[1, 400, 0, 150], [1, 500, 0, 150]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"class": "neighbours/1"}, {"items": []}, {"profiles": [[0]]}, {"profiles": [[0, math.nan]]},
        {"profiles": [[-1, 1]]}, {"profiles": None},
    ],
)  # fmt: skip
def test_what_cannot_be_a_neighbourhood_is_refused(wrong: dict[str, Any]) -> None:
    neighbours = Neighbours()
    neighbours.learn([["tea"]], NOON, {})
    published = neighbours.published(NOON)
    Neighbourhood.restore(published)
    with pytest.raises(BadSnapshotError):
        Neighbourhood.restore(published | wrong)
