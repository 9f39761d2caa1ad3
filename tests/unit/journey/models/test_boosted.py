from __future__ import annotations

import json
import math
import sys
from importlib import import_module
from typing import Any

import pytest

from journey.entries import encode
from journey.errors import BadRowError, BadSnapshotError, ModelError
from journey.models.base import State, chance, rounded, sigmoid
from journey.models.boosted import (
    RATE,
    ROUNDS,
    SCIKIT_LEARN,
    Boosted,
    MissingLibraryError,
    OtherLibraryError,
    UnfitError,
    fit,
)

NAMES = ("rec", "gap", "f30", "disc")
LEAF = [0.25, 100]


def row(number: int) -> tuple[list[float], bool]:
    x = [rounded(3.0 * chance(name, str(number))) for name in NAMES]
    return x, chance("y", str(number)) < sigmoid(2.0 * (x[0] > 1.5) * (x[1] < 1.0) - 1.0 + x[2] - x[3])


ROWS = [row(number)[0] for number in range(3_000)]
LABELS = [row(number)[1] for number in range(3_000)]


def told(*trees: Any, **other: Any) -> State:
    return {
        "class": "boosted/1",
        "names": ["rec", "gap"],
        "n": 9,
        "happened": 3,
        "base": 0.0,
        "trees": [*trees],
        **other,
    }


@pytest.fixture(scope="module")
def sklearn() -> Any:
    found = pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install -e .[audit]")
    if found.__version__ != SCIKIT_LEARN:
        pytest.skip(f"scikit-learn {found.__version__} is installed, trees are read from {SCIKIT_LEARN}")
    return found


@pytest.fixture(scope="module")
def state(sklearn: Any) -> State:
    body: State = json.loads(encode(fit(ROWS, LABELS, NAMES)))
    return body


@pytest.fixture(scope="module")
def original(sklearn: Any) -> Any:
    model = import_module("sklearn.ensemble").HistGradientBoostingClassifier(
        max_iter=ROUNDS,
        learning_rate=RATE,
        max_leaf_nodes=8,
        min_samples_leaf=100,
        l2_regularization=5.0,
        early_stopping=False,
    )
    return model.fit(ROWS, LABELS)


@pytest.mark.usefixtures("sklearn")
class TestFits:
    def test_scores_are_those_of_predict_proba_to_the_bit(self, state: State, original: Any) -> None:
        asked = [row(number)[0] for number in range(3_000, 6_000)]
        assert Boosted.restore(state).score_many(asked) == original.predict_proba(asked)[:, 1].tolist()

    def test_so_they_are_where_data_is_absent(self, state: State, original: Any) -> None:
        asked = []
        for number in range(1_000):
            x, _ = row(number)
            asked.append(
                [math.nan if chance("absent", name, str(number)) < 0.4 else x[at] for at, name in enumerate(NAMES)]
            )
        asked.append([math.nan] * 4)
        assert Boosted.restore(state).score_many(asked) == original.predict_proba(asked)[:, 1].tolist()

    def test_and_exactly_on_a_threshold(self, state: State, original: Any) -> None:
        at, threshold = state["trees"][0][:2]
        asked = [1.0] * 4
        beside = []
        for value in (math.nextafter(threshold, -math.inf), threshold, math.nextafter(threshold, math.inf)):
            asked[at] = value
            beside.append(list(asked))
        scores = Boosted.restore(state).score_many(beside)
        assert scores == original.predict_proba(beside)[:, 1].tolist()
        assert scores[0] == scores[1] != scores[2]

    def test_the_same_rows_give_the_same_trees(self, state: State) -> None:
        assert encode(fit(ROWS, LABELS, NAMES)) == encode(state)

    def test_a_state_comes_back_as_it_was_and_is_small(self, state: State) -> None:
        assert encode(Boosted.restore(state).state()) == encode(state)
        assert len(encode(state)) < 64 * 1024
        assert (state["n"], state["happened"]) == (3_000, sum(LABELS))

    def test_labels_may_be_zeros_and_ones(self, state: State) -> None:
        assert encode(fit(ROWS, [int(label) for label in LABELS], NAMES)) == encode(state)

    def test_parts_and_what_is_known_before_make_the_logit(self, state: State) -> None:
        model = Boosted.restore(state)
        before = model.logit(ROWS[0]) - sum(part for _, part in model.contributions(ROWS[0]))
        for x in ROWS[1:50]:
            parts = model.contributions(x)
            assert model.logit(x) - sum(part for _, part in parts) == pytest.approx(before)
            assert [abs(part) for _, part in parts] == sorted((abs(part) for _, part in parts), reverse=True)

    def test_on_the_whole_the_parts_of_a_feature_cancel_out(self, state: State) -> None:
        model = Boosted.restore(state)
        sums = dict.fromkeys(NAMES, 0.0)
        for x in ROWS:
            for name, part in model.contributions(x):
                sums[name] += part
        assert sum(sums.values()) / len(ROWS) == pytest.approx(0.0, abs=1e-9)

    @pytest.mark.parametrize("labels", [[True] * 300, [False] * 300], ids=["all", "none"])
    def test_one_answer_only_cannot_be_fitted(self, labels: list[bool]) -> None:
        with pytest.raises(UnfitError, match="300 rows with 1 different answers"):
            fit(ROWS[:300], labels, NAMES)

    def test_nothing_cannot_be_fitted(self) -> None:
        with pytest.raises(UnfitError, match="0 rows"):
            fit([], [], NAMES)

    def test_too_few_rows_for_any_question_give_the_share_of_what_happened(self) -> None:
        state = fit(ROWS[:150], [number % 3 == 0 for number in range(150)], NAMES)
        assert Boosted.restore(state).score(ROWS[0]) == pytest.approx(1.0 / 3.0)

    @pytest.mark.parametrize("value", [math.nan, math.inf, None, "1"], ids=str)
    def test_a_row_that_lacks_data_is_not_fitted(self, value: Any) -> None:
        with pytest.raises(BadRowError):
            fit([*ROWS[:200], [value, 1.0, 1.0, 1.0]], [*LABELS[:200], True], NAMES)

    def test_rows_and_labels_have_to_be_as_many(self) -> None:
        with pytest.raises(BadRowError):
            fit(ROWS[:200], LABELS[:199], NAMES)

    def test_trees_of_another_version_are_not_read(self, sklearn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sklearn, "__version__", "1.10.0")
        with pytest.raises(
            OtherLibraryError, match=r"scikit-learn 1.9.1 only, 1.10.0 is installed: pip install .*audit"
        ):
            fit(ROWS, LABELS, NAMES)


def test_without_scikit_learn_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(MissingLibraryError, match=r"pip install journey-engine\[audit\]"):
        fit(ROWS, LABELS, NAMES)
    assert issubclass(MissingLibraryError, ModelError)


def test_without_scikit_learn_trees_are_scored_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert Boosted.restore(told([0, 1.5, 0, LEAF, [-0.25, 100]])).score([2.0, 0.0]) == sigmoid(-0.25)


class TestScores:
    tree: tuple[Any, ...] = (0, 1.5, 1, [-1.0, 10], [1, 0.5, 0, [0.5, 20], [1.0, 10]])

    def test_a_row_goes_left_up_to_the_threshold_and_right_above_it(self) -> None:
        model = Boosted.restore(told([*self.tree]))
        assert [model.logit([rec, gap]) for rec, gap in ((1.5, 9.0), (1.6, 0.5), (1.6, 0.6))] == [-1.0, 0.5, 1.0]

    def test_no_data_goes_where_it_was_sent(self) -> None:
        model = Boosted.restore(told([*self.tree]))
        assert [model.logit([math.nan, 0.0]), model.logit([2.0, math.nan])] == [-1.0, 1.0]

    def test_trees_are_added_to_where_they_begin(self) -> None:
        assert Boosted.restore(told([*self.tree], LEAF, base=-2.0)).logit([1.0, 0.0]) == -2.75

    def test_the_change_of_the_mean_beneath_is_the_part_of_what_was_asked(self) -> None:
        # beneath the root: (-10 + 10 + 10) / 40 = 0.25; on its right: 20 / 30
        parts = dict(Boosted.restore(told([*self.tree])).contributions([2.0, 1.0]))
        assert parts == {"rec": pytest.approx(2.0 / 3.0 - 0.25), "gap": pytest.approx(1.0 / 3.0)}

    @pytest.mark.parametrize("asked", [[], [1.0], [1.0, 2.0, 3.0], [math.inf, 0.0], [None, 0.0], ["1", 0.0]], ids=str)
    def test_what_is_no_row_is_not_scored(self, asked: Any) -> None:
        model = Boosted.restore(told([*self.tree]))
        for ask in (model.score, model.logit, model.contributions):
            with pytest.raises(BadRowError):
                ask(asked)


def deep() -> list[Any]:
    tree: list[Any] = LEAF
    for _ in range(100):
        tree = [0, 1.0, 0, tree, LEAF]
    return tree


class TestStates:
    @pytest.mark.parametrize(
        "tree",
        [
            [], [0.5], 0.5, None, "x", {}, [1.0, 0], [1.0, -3], [1.0, 2.5], [1.0, True], [math.nan, 3], [1e7, 3],
            ["1", 3], [2, 1.0, 0, LEAF, LEAF], [-1, 1.0, 0, LEAF, LEAF], [0.0, 1.0, 0, LEAF, LEAF],
            [True, 1.0, 0, LEAF, LEAF], [0, math.inf, 0, LEAF, LEAF], [0, None, 0, LEAF, LEAF], [0, 1.0, 2, LEAF, LEAF],
            [0, 1.0, 0, LEAF], [0, 1.0, 0, LEAF, []], [0, 1.0, 0, LEAF, LEAF, LEAF], deep(),
        ],
        ids=lambda tree: str(tree)[:40],
    )  # fmt: skip
    def test_what_is_no_tree_is_refused(self, tree: object) -> None:
        with pytest.raises(BadSnapshotError):
            Boosted.restore(told(LEAF, tree))

    @pytest.mark.parametrize(
        ("part", "value"),
        [
            ("class", "blend/1"),
            ("base", math.nan),
            ("base", 1e9),
            ("base", None),
            ("names", 3),
            ("n", "many"),
            ("trees", 3),
        ],
    )
    def test_a_part_that_does_not_fit_is_refused(self, part: str, value: object) -> None:
        with pytest.raises(BadSnapshotError):
            Boosted.restore(told(LEAF, **{part: value}))

    @pytest.mark.parametrize("part", ["names", "n", "happened", "base", "trees"])
    def test_a_state_that_lacks_a_part_is_refused(self, part: str) -> None:
        with pytest.raises(BadSnapshotError):
            Boosted.restore({name: value for name, value in told(LEAF).items() if name != part})
