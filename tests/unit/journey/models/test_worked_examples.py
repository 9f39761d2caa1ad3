"""Worked examples of the articles behind this project, with the right answers: three of the printed ones are wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest
from river import bandit, stats

from journey.models.baskets import Pairs
from journey.models.bayes import NO, YES, Network, Node
from journey.models.clusters import lloyd, sum_of_squares
from journey.models.neighbours import Neighbourhood, cosine, distance
from journey.models.rules import rules

POINTS = [(1.0, 2.0, 3.0), (2.0, 4.0, 5.0), (3.0, 6.0, 7.0), (4.0, 8.0, 9.0)]
RATINGS = {"1": {"1": 5.0, "2": 4.0, "3": 3.0}, "2": {"1": 4.0, "2": 5.0}, "3": {"1": 3.0, "2": 4.0}}


@pytest.fixture
def network() -> Network:
    """C depends on A and on B: in a chain, where it depends on B alone, its table has no place."""
    found = Network([Node("A", (NO, YES)), Node("B", (NO, YES), ("A",)), Node("C", (NO, YES), ("A", "B"))])
    found.set_table("A", [[0.5, 0.5]])
    found.set_table("B", [[0.8, 0.2], [0.7, 0.3]])
    found.set_table("C", [[0.7, 0.3], [0.9, 0.1], [0.9, 0.1], [0.8, 0.2]])  # none; B; A; both
    return found


@pytest.mark.parametrize(
    ("query", "given", "right"),
    [
        ("C", "AB", 0.2),
        ("B", "", 0.25),
        ("C", "", 0.195),
        ("A", "C", 1 / 3),
        ("B", "C", 0.2051),
        ("A", "BC", 0.75),
    ],
)
def test_the_network_of_three(network: Network, query: str, given: str, right: float) -> None:
    assert network.probability({query: YES}, dict.fromkeys(given, YES)) == pytest.approx(right, abs=5e-5)


@pytest.mark.parametrize("other", POINTS[1:])
def test_two_clusters_of_four_points_are_neighbours_and_not_every_second(other: tuple[float, ...]) -> None:
    centres, squares = lloyd(POINTS, [POINTS[0], other])
    assert sorted(centres) == [[1.5, 3.0, 4.0], [3.5, 7.0, 8.0]]
    assert squares == 9.0


def test_the_clusters_that_are_printed_are_four_times_as_wide() -> None:
    pairs = ((POINTS[0], POINTS[2]), (POINTS[1], POINTS[3]))
    assert sum(sum_of_squares(pair, lloyd(pair, [pair[0]])[0]) for pair in pairs) == 36.0


def test_two_runs_of_numbers_have_nearly_one_direction() -> None:
    assert cosine([1, 2, 3, 4, 5], [2, 3, 4, 5, 6]) == pytest.approx(0.9949, abs=5e-5)
    assert distance([1, 2, 3, 4, 5], [2, 3, 4, 5, 6]) == pytest.approx(2.236, abs=5e-4)


@pytest.mark.parametrize(("user", "right"), [("1", []), ("2", ["3"]), ("3", ["3"])])
def test_item_3_is_recommended_to_those_who_have_not_rated_it(user: str, right: list[str]) -> None:
    others = Neighbourhood([RATINGS[other] for other in RATINGS if other != user])
    mine = RATINGS[user]
    assert [found.item for found in others.recommend(mine, exclude=list(mine))] == right


def test_support_is_the_part_of_all_baskets() -> None:
    pairs = Pairs()
    for basket in (["milk", "bread"], ["milk", "bread", "tea"], ["milk"], ["tea"], ["bread"]):
        pairs.learn(basket)
    found = rules(pairs, together=2, support=0.0, confidence=0.0, lift=0.0, sure=False)
    assert {(rule.left, rule.right): rule.support for rule in found} == {
        ("bread", "milk"): 2 / 5, ("milk", "bread"): 2 / 5,
    }  # fmt: skip


@pytest.mark.parametrize("rewards", [{"a": [1.0] * 54 + [0.0] * 36, "b": [1.0] * 5 + [0.0] * 5},
                                     {"a": [1.0] * 80 + [0.0] * 10, "b": [0.0] * 60}])  # fmt: skip
def test_the_arm_with_the_highest_upper_bound_is_drawn(rewards: dict[str, list[float]]) -> None:
    policy: Any = bandit.UCB(delta=1, reward_obj=stats.Mean(), seed=1)
    for arm, told in rewards.items():
        for reward in told:
            policy.update(arm, reward)
    t = sum(map(len, rewards.values()))
    bounds = {arm: sum(told) / len(told) + math.sqrt(2 * math.log(t) / len(told)) for arm, told in rewards.items()}
    assert policy.pull(list(rewards)) == max(rewards, key=bounds.__getitem__)
