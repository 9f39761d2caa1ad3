from __future__ import annotations

import json
import math
from itertools import permutations, product

import pytest

from journey.entries import encode
from journey.errors import BadRowError, BadSnapshotError
from journey.models.base import State
from journey.models.bayes import FEWEST, GRAPH, MOST_NODES, NAMES, NO, YES, Network, Node, Reasons, discretise

NEVER = 5.9026  # rec_buy of somebody who never ordered, rounded at birth


def row(**told: float) -> list[float]:
    return [told.get(name, NEVER if name == "rec_buy" else 0.0) for name in NAMES]


def weather() -> Network:
    return Network([Node("rain", (NO, YES)), Node("wet", (NO, "damp", YES), ("rain",))])


class TestCounting:
    def test_a_network_that_has_seen_nothing_takes_every_value_for_equally_likely(self) -> None:
        assert weather().probability({"wet": "damp"}) == pytest.approx(1 / 3)
        assert weather().probability({"rain": YES}, {"wet": YES}) == pytest.approx(1 / 2)

    def test_one_more_of_each_value_is_counted_than_was_seen(self) -> None:
        network = weather()
        for wet in (YES, YES, "damp"):
            network.learn({"rain": YES, "wet": wet})
        assert network.table("rain") == [[1 / 5, 4 / 5]]
        assert network.table("wet") == [[1 / 3, 1 / 3, 1 / 3], [1 / 6, 2 / 6, 3 / 6]]
        assert network.counted("wet", {"rain": YES}) == [0, 1, 2]
        assert network.counted("wet", {"rain": NO}) == [0, 0, 0]
        assert network.counted("wet", {}) == [0, 1, 2]

    def test_any_order_of_the_same_rows_has_the_same_bytes(self) -> None:
        rows = [{"rain": NO, "wet": NO}, {"rain": YES, "wet": YES}, {"rain": YES, "wet": "damp"}]
        seen = set()
        for order in permutations(rows):
            network = weather()
            for values in order:
                network.learn(values)
            seen.add(encode(network.state()))
        assert len(seen) == 1

    @pytest.mark.parametrize("values", [{"rain": YES}, {"rain": YES, "wet": "soaked"}, {"wet": YES}])
    def test_a_row_that_lacks_a_node_or_has_a_strange_value_is_not_counted(self, values: dict[str, str]) -> None:
        network = weather()
        before = encode(network.state())
        with pytest.raises(BadRowError):
            network.learn(values)
        assert encode(network.state()) == before


class TestInference:
    def test_it_adds_up_all_cases(self) -> None:
        network = Network([
            Node("a", (NO, YES)), Node("b", (NO, YES), ("a",)), Node("c", ("0", "1", "2"), ("a", "b")),
            Node("d", (NO, YES), ("c",)),
        ])  # fmt: skip
        for n in range(97):
            network.learn({
                "a": YES if n % 3 else NO, "b": YES if n % 5 > 1 else NO, "c": str(n % 7 % 3), "d": YES if n % 2 else NO
            })  # fmt: skip

        def joint(a: int, b: int, c: int, d: int) -> float:
            return (
                network.table("a")[0][a] * network.table("b")[a][b]
                * network.table("c")[2 * a + b][c] * network.table("d")[c][d]
            )  # fmt: skip

        cases = list(product(range(2), range(2), range(3), range(2)))
        assert sum(joint(*case) for case in cases) == pytest.approx(1.0)
        wanted = sum(joint(*case) for case in cases if case[0] == 1 and case[3] == 0)
        given = sum(joint(*case) for case in cases if case[3] == 0)
        assert network.probability({"a": YES}, {"d": NO}) == pytest.approx(wanted / given, rel=1e-12)

    def test_what_is_given_is_certain_and_its_contrary_impossible(self) -> None:
        assert weather().probability({"rain": YES}, {"rain": YES}) == 1.0
        assert weather().probability({"rain": NO}, {"rain": YES}) == 0.0

    def test_nothing_follows_from_what_cannot_be(self) -> None:
        network = weather()
        network.set_table("rain", [[1.0, 0.0]])
        with pytest.raises(BadRowError):
            network.probability({"wet": YES}, {"rain": YES})

    @pytest.mark.parametrize("query", [{"snow": YES}, {"wet": "soaked"}])
    def test_a_question_about_what_there_is_not_is_refused(self, query: dict[str, str]) -> None:
        with pytest.raises(BadRowError):
            weather().probability(query)
        with pytest.raises(BadRowError):
            weather().probability({"rain": YES}, query)


class TestGraphs:
    @pytest.mark.parametrize(
        "nodes",
        [
            [],
            [Node(str(n), (NO, YES)) for n in range(MOST_NODES + 1)],
            [Node("a", tuple("abcdefghijklmnop")), *(Node(name, tuple("abcdefgh")) for name in "bcd")],
            [Node("a", (NO, YES)), Node("a", (NO, YES))],
            [Node("a", (NO,))],
            [Node("a", (NO, NO))],
            [Node("a", (NO, YES), ("b",)), Node("b", (NO, YES), ("a",))],
            [Node("a", (NO, YES), ("a",))],
            [Node("a", (NO, YES)), Node("b", (NO, YES), ("a", "a"))],
        ],
    )
    def test_a_graph_that_is_too_large_or_goes_in_circles_is_refused(self, nodes: list[Node]) -> None:
        with pytest.raises(BadSnapshotError):
            Network(nodes)

    @pytest.mark.parametrize(
        ("name", "table"),
        [
            ("rain", [[0.5, 0.6]]),
            ("rain", [[1.5, -0.5]]),
            ("rain", [[math.nan, 1.0]]),
            ("rain", [[0.5, 0.5], [0.5, 0.5]]),
            ("wet", [[0.5, 0.5], [0.5, 0.5]]),
            ("snow", [[0.5, 0.5]]),
        ],
    )
    def test_a_table_that_is_none_is_refused(self, name: str, table: list[list[float]]) -> None:
        with pytest.raises(BadSnapshotError):
            weather().set_table(name, table)

    def test_counts_and_tables_come_back(self) -> None:
        network = weather()
        network.learn({"rain": YES, "wet": YES})
        network.set_table("rain", [[0.25, 0.75]])
        kept = encode(network.state())
        found = Network.restore(json.loads(kept))
        assert encode(found.state()) == kept
        found.learn({"rain": YES, "wet": "damp"})
        network.learn({"rain": YES, "wet": "damp"})
        assert encode(found.state()) == encode(network.state())
        assert found.probability({"rain": YES}) == pytest.approx(0.75)

    @pytest.mark.parametrize(
        "spoilt",
        [
            {"class": "network/2"},
            {"nodes": [["rain", ["no", "yes"], []]]},
            {"nodes": None},
            {"counts": {"rain": [[1, 2]], "wet": [[1, 2, 3]]}},
            {"counts": {"rain": [[1, -2]], "wet": [[1, 2, 3], [0, 0, 0]]}},
            {"counts": {"rain": [[1, 2.5]], "wet": [[1, 2, 3], [0, 0, 0]]}},
            {"counts": {"rain": [[1, 1 << 53]], "wet": [[1, 2, 3], [0, 0, 0]]}},
            {"tables": {"rain": [[0.5, 0.6]]}},
        ],
    )
    def test_a_state_that_is_none_is_refused(self, spoilt: State) -> None:
        network = weather()
        network.learn({"rain": YES, "wet": YES})
        state = {**network.state(), **spoilt}
        if spoilt.get("nodes"):
            state["counts"] = {}
        with pytest.raises(BadSnapshotError):
            Network.restore(state)


class TestReasons:
    @pytest.mark.parametrize(
        ("told", "name", "value"),
        [
            ({"rec_buy": NEVER}, "returning", NO),
            ({"rec_buy": math.log1p(300.0)}, "returning", YES),
            ({"again": 1.0}, "again", NO),
            ({"again": 2.0}, "again", YES),
            ({"focus": 0.5}, "focus", NO),
            ({"focus": 0.5001}, "focus", YES),
            ({"carts": 0.0}, "cart", NO),
            ({"carts": 1.0}, "cart", YES),
        ],
    )
    def test_thresholds_are_where_the_docstring_says(self, told: dict[str, float], name: str, value: str) -> None:
        assert discretise(row(**told))[name] == value

    def test_all_causes_are_parents_of_the_order(self) -> None:
        assert GRAPH[-1].parents == tuple(node.name for node in GRAPH[:-1]) == ("returning", "again", "focus", "cart")

    def test_it_says_what_was_counted(self) -> None:
        reasons = Reasons()
        for n in range(212):
            reasons.learn(row(rec_buy=2.0, again=2.0), n < 19)
        for n in range(788):
            reasons.learn(row(carts=1.0), n < 41)
        reason = reasons.explain(row(rec_buy=1.0, again=5.0))
        assert reason is not None
        assert reason.words == (
            "of 212 visits like this one (returning buyer, same item seen again, several categories, nothing in the"
            " cart) 9 % ended in an order; all visits: 6 %"
        )
        assert reason.n == 212
        assert reason.probability == 20 / 214

    def test_with_a_row_too_few_it_says_nothing(self) -> None:
        reasons = Reasons()
        for _ in range(FEWEST - 1):
            reasons.learn(row(), False)
        assert reasons.explain(row()) is None
        reasons.learn(row(), True)
        assert reasons.explain(row()) is not None
        assert reasons.explain(row(carts=1.0)) is None

    def test_a_cause_that_is_not_known_may_be_either(self) -> None:
        reasons = Reasons()
        for n in range(100):
            reasons.learn(row(carts=float(n % 2)), n % 2 == 1)
        reason = reasons.explain(row(carts=math.nan))
        assert reason is not None
        assert "cart" not in reason.words
        assert reason.n == 100
        assert reason.probability == pytest.approx(0.5)

    def test_about_a_visit_of_which_nothing_is_known_it_says_what_holds_for_all(self) -> None:
        reasons = Reasons()
        for n in range(100):
            reasons.learn(row(carts=float(n % 2)), n % 4 == 1)
        reason = reasons.explain([math.nan] * len(NAMES))
        assert reason is not None
        assert reason.words == "of 100 visits 25 % ended in an order; all visits: 25 %"

    @pytest.mark.parametrize("change", ["nodes", "class"])
    def test_a_network_of_another_graph_is_refused(self, change: str) -> None:
        state = Reasons().state()
        if change == "nodes":
            state["network"] = weather().state()
        else:
            state = weather().state()
        with pytest.raises(BadSnapshotError):
            Reasons.restore(state)
