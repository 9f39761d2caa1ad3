from __future__ import annotations

import json
import math
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import base, drift, forest, preprocessing, proba, tree, utils

from journey.entries import encode as canonical
from journey.errors import BadSnapshotError
from journey.models import rivers
from journey.models.base import State, chance, rounded

NAMES = ("rec", "gap", "f30", "disc")
new_tree: Any = partial(tree.HoeffdingTreeClassifier, leaf_prediction="mc", max_depth=10, grace_period=50, delta=0.01)
new_forest: Any = partial(forest.ARFClassifier, n_models=3, max_depth=6, leaf_prediction="mc", seed=1)
new_window: Any = drift.ADWIN
new_gaussian: Any = proba.Gaussian


def bytes_of(value: object) -> bytes:
    return canonical(rivers.encode(value))


def through_json(value: object) -> Any:
    return rivers.decode(json.loads(bytes_of(value)))


def row(number: int, *, turned: bool = False) -> tuple[dict[str, float], bool]:
    x = {name: rounded(chance(name, str(number))) for name in NAMES}
    asked = x["rec"] * 2.0 + (x["gap"] > 0.5) - x["f30"]
    return x, chance("y", str(number)) < (1.0 - asked / 3.0 if turned else asked / 3.0)


def tags(node: Any, wanted: str) -> int:
    if not isinstance(node, list):
        return 0
    return (bool(node) and node[0] == wanted) + sum(tags(part, wanted) for part in node)


class TestValues:
    @pytest.mark.parametrize(
        "value",
        [
            None, True, 0, -(2**63), 2**64 - 1, 0.1, -0.0, 5e-324, 1e308, 1.0, "", "é", (), (1, (2.0, None)), [],
            [[1], [2]], {}, {"b": 1, "a": 2}, {1: "one", 2.5: "more", None: 0, (1, "x"): [3], False: {}}, {3, 1, 2},
            {"b", "a"}, {(1, 2), (0, 3)}, frozenset({"x"}), Counter("abca"), deque([1, 2, 3], maxlen=3), deque([1]),
        ],
        ids=lambda value: type(value).__name__,  # not its repr: a set's would name another test in every process
    )  # fmt: skip
    def test_what_consists_of_numbers_texts_and_containers_comes_back(self, value: object) -> None:
        back = through_json(value)
        assert back == value
        assert type(back) is type(value)
        if not isinstance(value, set):
            assert repr(back) == repr(value)  # also the order of insertion and the sign of zero

    def test_numbers_that_json_has_no_word_for_come_back(self) -> None:
        not_a_number, most, least = through_json([math.nan, math.inf, -math.inf])
        assert math.isnan(not_a_number)
        assert (most, least) == (math.inf, -math.inf)

    def test_they_are_refused_where_they_would_mean_that_a_model_exploded(self) -> None:
        with pytest.raises(BadSnapshotError, match="inf"):
            rivers.decode(rivers.encode([1.0, math.inf]), finite=True)

    def test_a_default_dict_goes_on_making_its_values(self) -> None:
        counts: defaultdict[str, int] = defaultdict(int, {"a": 1})
        sums: defaultdict[str, defaultdict[str, float]] = defaultdict(partial(defaultdict, float))
        sums["a"]["b"] = 2.5
        back, inner = through_json([counts, sums])
        assert (back, inner) == (counts, sums)
        assert back["new"] == 0
        assert inner["new"]["newer"] == 0.0

    @pytest.mark.parametrize("type_", ["float64", "float32", "int64", "uint8", "bool"])
    def test_numbers_of_numpy_keep_their_type_and_bits(self, type_: str) -> None:
        matrix = np.array([[1, 0, 1], [0, 1, 1]], dtype=type_) / np.array(3, dtype=type_)
        kept = matrix.astype(type_)
        back = through_json(kept)
        assert (back.dtype, back.shape, back.tobytes()) == (kept.dtype, kept.shape, kept.tobytes())
        one = through_json(kept[0, 0])
        assert type(one) is type(kept[0, 0])
        assert one.tobytes() == kept[0, 0].tobytes()

    def test_members_of_a_set_have_one_order_however_it_was_filled(self) -> None:
        words = [f"word {number}" for number in range(50)]
        assert bytes_of({*words}) == bytes_of({*words[25:], *words[24::-1]})

    def test_what_is_held_twice_stays_one_thing(self) -> None:
        shared: list[int] = [1]
        one, other, apart = through_json([shared, {"again": shared}, [1]])
        assert one is other["again"]
        assert one is not apart

    def test_what_holds_itself_comes_back(self) -> None:
        circle: list[Any] = [1]
        circle.append({"me": circle})
        back = through_json(circle)
        assert back[1]["me"] is back


PLAIN = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.tuples(st.integers(0, 3))
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    PLAIN | st.floats(allow_nan=False) | st.sets(st.text(max_size=2), max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PLAIN, inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(ANYTHING)
def test_whatever_is_nested_comes_back_with_the_same_bytes(value: Any) -> None:
    back = through_json(value)
    assert back == value
    assert bytes_of(back) == bytes_of(value)


class Outsider:
    """Nothing of River."""


class Guest(base.Base):
    """Of River by birth, not by name."""


class TestRefusals:
    @pytest.mark.parametrize(
        ("value", "named"),
        [
            (Outsider(), "Outsider"),
            (Guest(), "Guest"),
            (len, "builtin_function_or_method"),
            (lambda: 1, "function"),
            (Outsider, "type"),
            (date(2026, 1, 1), "datetime.date"),
            (b"bytes", "bytes"),
            (1j, "complex"),
            (2**64, "int"),
            (OrderedDict(a=1), "OrderedDict"),
            (np.array(["text"]), "numpy"),
            (np.array([1j]), "numpy.complex128"),
            ({Outsider(): 1}, "Outsider"),
            (defaultdict(Outsider), "type"),
            (defaultdict(lambda: 1), "function"),
            # a class of River with state that Python does not see
            (utils.VectorDict({"a": 1.0}), "VectorDict"),
        ],
        ids=lambda told: told if isinstance(told, str) else "",
    )
    def test_what_cannot_be_written_down_is_refused_by_name(self, value: object, named: str) -> None:
        with pytest.raises(BadSnapshotError, match=named):
            rivers.encode([value])

    def test_what_is_nested_without_end_is_refused(self) -> None:
        deep: list[Any] = []
        for _ in range(5_000):
            deep = [deep]
        with pytest.raises(BadSnapshotError, match="too deeply"):
            rivers.encode(deep)

    @pytest.mark.parametrize(
        ("module", "name"),
        [
            ("builtins", "eval"),
            ("subprocess", "Popen"),
            ("riverside", "Thing"),
            ("river.stats.mean", "NoSuchClass"),
            ("river.stats.mean", "Mean.update"),
            ("river.utils.random", "poisson"),
            # what a module of River imports is not its own
            ("river.utils.random", "random.Random"),
            ("river.base.base", "Base.__class__"),
        ],
    )
    def test_a_state_names_classes_that_river_defines_and_no_others(self, module: str, name: str) -> None:
        with pytest.raises(BadSnapshotError, match="cannot be restored"):
            rivers.decode({"v": 1, "shapes": [[module, name, []]], "value": [0]})

    def test_reading_a_state_imports_nothing(self) -> None:
        unused = "river.datasets.synth.mixed_never_loaded"
        with pytest.raises(BadSnapshotError):
            rivers.decode({"v": 1, "shapes": [[unused, "Mixed", []]], "value": [0]})
        assert unused not in sys.modules

    @pytest.mark.parametrize(
        "node",
        [
            ["unknown", 1],
            [],
            {},
            ["same", 0],
            ["same", -1],
            ["same", "x"],
            [3],
            [-1],
            [True],
            [0],
            [0, 1.0],
            ["dict", "key"],
            ["dict", ["list"], 1],
            ["set", ["list"]],
            ["float", "1.0"],
            ["counter", 1],
            ["default", "eval"],
            ["scalar", "object", 1],
            ["array", "float64", [3], 1.0],
            ["array", "O", [1], 1.0],
            ["chance", 3, [1, 2], None],
            ["chance", 3],
            ["window", [0.002]],
            math.nan,
        ],
        ids=repr,
    )
    def test_a_damaged_node_is_refused(self, node: object) -> None:
        state = {"v": 1, "shapes": [["river.stats.mean", "Mean", ["_mean", "n"]]], "value": node}
        with pytest.raises(BadSnapshotError):
            rivers.decode(state)

    @pytest.mark.parametrize("state", [{}, {"v": 2, "shapes": [], "value": 1}, {"v": 1}, {"v": 1, "shapes": 3}, []])
    def test_another_version_and_what_is_no_state_are_refused(self, state: Any) -> None:
        with pytest.raises(BadSnapshotError):
            rivers.decode(state)


class TestGenerators:
    def test_a_generator_of_random_numbers_goes_on_where_it_was(self) -> None:
        model = new_forest()
        for number in range(200):
            model.learn_one(*row(number))
        generator = vars(model)["_rng"]
        back = through_json(generator)
        assert [back.random() for _ in range(700)] == [generator.random() for _ in range(700)]

    def test_a_distribution_nobody_gave_a_seed_has_the_same_bytes_each_time(self) -> None:
        assert bytes_of(new_gaussian()) == bytes_of(new_gaussian())
        assert tags(rivers.encode(new_gaussian())["value"], "chance") == 0

    def test_one_with_a_seed_goes_on_drawing_what_it_would_have_drawn(self) -> None:
        seeded = new_gaussian(seed=7)
        for value in (1.0, 2.0, 4.0):
            seeded.update(value)
        back = through_json(seeded)
        assert [back.sample() for _ in range(5)] == [seeded.sample() for _ in range(5)]

    def test_a_distribution_that_was_taken_back_can_still_be_drawn_from(self) -> None:
        one = new_gaussian()
        for value in (1.0, 2.0, 4.0):
            one.update(value)
        assert math.isfinite(through_json(one).sample())


class TestWindows:
    @pytest.mark.parametrize("values", [0, 1, 3, 7, 40, 5_000])
    def test_an_adaptive_window_goes_on_through_a_change(self, values: int) -> None:
        window = new_window(delta=0.001)
        for number in range(values):
            window.update(float(chance("w", str(number)) < 0.2))
        back = through_json(window)
        changes = 0
        for number in range(values, values + 3_000):
            value = float(chance("w", str(number)) < 0.6)
            window.update(value)
            back.update(value)
            assert back.drift_detected == window.drift_detected
            changes += window.drift_detected
        assert changes > 0 or values < 5_000
        assert bytes_of(back) == bytes_of(window)

    @staticmethod
    def clock_stands(parts: list[Any]) -> None:
        parts[1][1] = 0

    @staticmethod
    def too_many(parts: list[Any]) -> None:
        parts[2][0] += [0.0] * 9
        parts[2][1] += [0.0] * 9

    @staticmethod
    def too_few(parts: list[Any]) -> None:
        parts[2][0].pop()
        parts[2][1].pop()

    @staticmethod
    def uneven(parts: list[Any]) -> None:
        parts[2][0].pop()

    @staticmethod
    def none_left(parts: list[Any]) -> None:
        del parts[2:]

    @staticmethod
    def another_width(parts: list[Any]) -> None:
        parts[1][7] += 1.0

    @staticmethod
    def no_number(parts: list[Any]) -> None:
        parts[2][0][0] = math.nan

    @pytest.mark.parametrize(
        "spoil",
        [clock_stands, too_many, too_few, uneven, none_left, another_width, no_number],
        ids=lambda it: it.__name__,
    )
    def test_a_window_whose_numbers_do_not_agree_never_reaches_rust(self, spoil: Callable[[list[Any]], None]) -> None:
        window = new_window()
        for number in range(50):
            window.update(float(number % 3))
        state = json.loads(bytes_of(vars(window)["_helper"]))
        spoil(state["value"])
        with pytest.raises(BadSnapshotError):
            rivers.decode(state)


class TestEstimators:
    @pytest.mark.parametrize("new", [new_tree, new_forest], ids=["tree", "forest"])
    def test_a_tree_goes_on_as_if_it_had_never_stopped(self, new: Any) -> None:
        went_on = new()
        for number in range(3_000):
            went_on.learn_one(*row(number))
        assert all(each.n_leaves > 1 for each in (went_on if new is new_forest else [went_on]))
        stopped = through_json(went_on)
        assert bytes_of(stopped) == bytes_of(went_on)
        for number in range(3_000, 4_000):
            x, happened = row(number, turned=True)
            assert stopped.predict_proba_one(x) == went_on.predict_proba_one(x)
            stopped.learn_one(x, happened)
            went_on.learn_one(x, happened)
        assert bytes_of(stopped) == bytes_of(went_on)

    def test_a_forest_that_replaces_trees_goes_on_as_well(self) -> None:
        went_on = new_forest()
        for number in range(1_500):
            went_on.learn_one(*row(number))
        stopped = through_json(went_on)
        for number in range(1_500, 3_000):
            x, happened = row(number, turned=True)
            stopped.learn_one(x, happened)
            went_on.learn_one(x, happened)
        assert went_on.n_drifts_detected() == stopped.n_drifts_detected() > 0
        assert bytes_of(stopped) == bytes_of(went_on)

    def test_only_the_generator_that_is_used_is_kept(self) -> None:
        grown, wood = new_tree(), new_forest()
        for number in range(2_000):
            grown.learn_one(*row(number))
            wood.learn_one(*row(number))
        assert tags(rivers.encode(grown)["value"], "chance") == 0
        assert tags(rivers.encode(wood)["value"], "chance") == 1  # shared by its trees and their leaves
        assert len(bytes_of(grown)) < 40_000

    def test_the_parts_of_a_forest_still_share_what_they_shared(self) -> None:
        wood = new_forest()
        for number in range(500):
            wood.learn_one(*row(number))
        back = through_json(wood)
        assert all(each.rng is vars(back)["_rng"] for each in back)

    def test_an_estimator_of_other_families_comes_back_too(self) -> None:
        scaler: Any = preprocessing.StandardScaler()
        for number in range(50):
            scaler.learn_one(row(number)[0])
        x, _ = row(50)
        assert through_json(scaler).transform_one(x) == scaler.transform_one(x)

    def test_a_state_is_the_same_when_it_is_read_in_another_order(self) -> None:
        grown = new_tree()
        for number in range(500):
            grown.learn_one(*row(number))
        state: State = rivers.encode(grown)
        turned = dict(reversed(state.items()))
        assert bytes_of(rivers.decode(turned)) == canonical(state)
