from __future__ import annotations

import json
from typing import Any

import pytest
from river import forest, tree

from journey.entries import encode
from journey.errors import BadSnapshotError
from journey.models.base import chance, logit, rounded
from journey.models.trees import Forest, HoeffdingTree

NAMES = ("rec", "gap", "f30", "disc")
Grown = HoeffdingTree | Forest
BOTH = pytest.mark.parametrize("kind", [HoeffdingTree, Forest])


def row(number: int) -> tuple[list[float], bool]:
    x = [rounded(3.0 * chance(name, str(number))) for name in NAMES]
    return x, chance("y", str(number)) < (0.9 if x[0] > 2.0 else 0.6 if x[1] > 1.5 else 0.1)


def grown(kind: type[Grown], rows: int) -> Grown:
    model = kind(NAMES)
    for number in range(rows):
        model.learn(*row(number))
    return model


class TestAnswers:
    @BOTH
    def test_a_tree_finds_out_who_will_not_come_back(self, kind: type[Grown]) -> None:
        model = grown(kind, 4_000)
        assert model.score([2.5, 1.0, 1.0, 1.0]) > 0.75
        assert model.score([0.5, 0.5, 1.0, 1.0]) < 0.25

    @BOTH
    def test_before_any_label_the_answer_is_one_half_and_nothing_grows(self, kind: type[Grown]) -> None:
        model = kind(NAMES)
        before = encode(model.state())
        assert model.score([1.0] * 4) == 0.5
        assert model.cold
        assert encode(model.state()) == before

    @BOTH
    @pytest.mark.parametrize("happened", [False, True])
    def test_after_one_answer_only_it_stays_away_from_certainty(self, kind: type[Grown], happened: bool) -> None:
        model = kind(NAMES)
        for number in range(300):
            model.learn(row(number)[0], happened)
        assert model.cold
        assert 0.0001 <= model.score([1.0] * 4) <= 0.9999

    def test_what_no_leaf_knows_is_the_share_of_what_was_learned(self) -> None:
        model = HoeffdingTree(NAMES)
        for number in range(9):
            model.learn(row(number)[0], False)
        assert model.score([1.0] * 4) == pytest.approx(0.05)

    @BOTH
    def test_absent_data_is_taken_for_the_mean_of_what_was_learned(self, kind: type[Grown]) -> None:
        model = grown(kind, 2_000)
        means = [sum(row(number)[0][at] for number in range(2_000)) / 2_000 for at in range(4)]
        for at in range(4):
            known, unknown = [1.0] * 4, [1.0] * 4
            known[at], unknown[at] = means[at], float("nan")
            assert model.score(unknown) == model.score(known)

    def test_the_tree_is_that_of_river(self) -> None:
        ours = grown(HoeffdingTree, 6_000)
        theirs: Any = tree.HoeffdingTreeClassifier(leaf_prediction="mc", max_depth=10)
        for number in range(6_000):
            x, happened = row(number)
            theirs.learn_one(dict(zip(NAMES, x, strict=True)), happened)
        assert ours.leaves > 1
        for number in range(6_000, 6_100):
            x, _ = row(number)
            assert ours.score(x) == theirs.predict_proba_one(dict(zip(NAMES, x, strict=True)))[True]

    def test_the_forest_is_that_of_river(self) -> None:
        ours = grown(Forest, 1_000)
        theirs: Any = forest.ARFClassifier(n_models=5, max_depth=8, leaf_prediction="mc", seed=1)
        for number in range(1_000):
            x, happened = row(number)
            theirs.learn_one(dict(zip(NAMES, x, strict=True)), happened)
        for number in range(1_000, 1_100):
            x, _ = row(number)
            assert ours.score(x) == theirs.predict_proba_one(dict(zip(NAMES, x, strict=True)))[True]


class TestReasons:
    def test_the_parts_of_a_tree_add_up_to_what_its_root_did_not_know(self) -> None:
        model = grown(HoeffdingTree, 6_000)
        assert model.leaves > 1
        before = None
        for number in range(50):
            x, _ = row(number)
            parts = model.contributions(x)
            known_before = logit(model.score(x)) - sum(part for _, part in parts)
            assert before is None or known_before == pytest.approx(before)
            before = known_before
            assert sorted(name for name, _ in parts) == sorted(NAMES)
            assert [abs(part) for _, part in parts] == sorted((abs(part) for _, part in parts), reverse=True)

    @BOTH
    def test_long_silence_is_the_first_reason(self, kind: type[Grown]) -> None:
        name, part = grown(kind, 4_000).contributions([2.8, 0.2, 1.0, 1.0])[0]
        assert name == "rec"
        assert part > 0.0

    @BOTH
    def test_what_has_not_grown_has_no_reasons(self, kind: type[Grown]) -> None:
        model = kind(NAMES)
        before = encode(model.state())
        assert model.contributions([1.0] * 4) == [(name, 0.0) for name in sorted(NAMES)]
        assert encode(model.state()) == before


class TestSize:
    @BOTH
    def test_a_tree_with_all_its_leaves_goes_on_counting_and_splits_no_more(
        self, kind: type[Grown], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kind, "MOST_LEAVES", 4)
        trees, rows = (5, 3_000) if kind is Forest else (1, 12_000)  # one tree alone takes its time
        small = grown(kind, rows)
        assert trees < small.leaves <= 4 * trees
        before = encode(small.state())
        for number in range(rows, rows + 3_000):
            small.learn(*row(number))
        assert small.leaves <= 4 * trees
        assert encode(small.state()) != before

    def test_a_tree_takes_tens_of_kilobytes(self) -> None:
        assert len(encode(grown(HoeffdingTree, 5_000).state())) < 40 * 1024


class TestStates:
    @BOTH
    @pytest.mark.parametrize(
        ("part", "value"),
        [
            ("class", "logistic/1"),
            ("means", [0.0]),
            ("means", ["x"] * 4),
            ("means", None),
            ("n", -1),
            ("happened", 10**9),
            ("names", 3),
            ("model", None),
            ("model", {"v": 1, "shapes": [], "value": 1}),
        ],
    )
    def test_a_state_that_does_not_fit_together_is_refused(self, kind: type[Grown], part: str, value: object) -> None:
        state = grown(kind, 300).state()
        with pytest.raises(BadSnapshotError):
            kind.restore({**state, part: value})

    @BOTH
    @pytest.mark.parametrize("part", ["names", "n", "happened", "means", "model"])
    def test_a_state_that_lacks_a_part_is_refused(self, kind: type[Grown], part: str) -> None:
        state = grown(kind, 300).state()
        with pytest.raises(BadSnapshotError):
            kind.restore({name: value for name, value in state.items() if name != part})

    def test_a_forest_is_no_tree(self) -> None:
        state = {**grown(Forest, 300).state(), "class": HoeffdingTree.CLASS}
        with pytest.raises(BadSnapshotError):
            HoeffdingTree.restore(json.loads(encode(state)))
