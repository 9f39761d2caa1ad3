"""Segments: centres that learn, ids that stay, names that change only for good reasons."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest

from journey.entries import encode
from journey.errors import BadRowError, BadSnapshotError
from journey.events import DAY, HOUR
from journey.models.assign import SHOP, TILLS, Clusters, Prototypes
from journey.models.base import chance, rounded
from journey.models.clusters import Names, SequentialKMeans, lloyd, match, seeds, sum_of_squares

POINTS = [(1.0, 2.0, 3.0), (2.0, 4.0, 5.0), (3.0, 6.0, 7.0), (4.0, 8.0, 9.0)]
TWO = Prototypes(("money", "visits"), (1.0, 1.0), {"rich": [9.0, 9.0], "poor": [0.0, 0.0], "busy": [0.0, 9.0]})


def near(kind: int, number: int) -> list[float]:
    """Return a row near one of three places, far from each other."""
    money, visits = ((0.0, 0.0), (9.0, 9.0), (0.0, 9.0))[kind]
    return [rounded(money + chance("m", str(number))), rounded(visits + chance("v", str(number)))]


SETTLED = 9_700  # rows: a start has just been, and the next is far away


def taught(rows: int = 600, kinds: int = 3, key: str = "segments") -> SequentialKMeans:
    model = SequentialKMeans(TWO.names, TWO.rows, k=3, warmup=300, key=key)
    for number in range(rows):
        model.learn(near(number % kinds, number), at=number * HOUR)
    return model


# ---- k-means in batches ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [(0, 3), (0, 1), (1, 2)])
def test_the_worked_example_is_parted_in_the_middle(start: tuple[int, int]) -> None:
    centres, squares = lloyd(POINTS, [POINTS[at] for at in start])
    assert sorted(centres) == [[1.5, 3.0, 4.0], [3.5, 7.0, 8.0]]
    assert squares == 9.0


def test_of_several_starts_one_finds_the_answer_of_the_worked_example() -> None:
    runs = [lloyd(POINTS, seeds(POINTS, 2, f"example/{run}")) for run in range(8)]
    assert min(squares for _, squares in runs) == 9.0
    assert lloyd(POINTS, [POINTS[2], POINTS[3]])[1] > 9.0  # from a bad start it is not found


def test_the_printed_answer_of_the_worked_example_is_four_times_worse() -> None:
    printed = [[2.0, 4.0, 5.0], [3.0, 6.0, 7.0]]  # the means of {1, 3} and {2, 4}
    within = 0.0
    for centre, members in zip(printed, ((0, 2), (1, 3)), strict=True):
        within += sum_of_squares([POINTS[at] for at in members], [centre])
    assert within == 36.0


def test_a_centre_without_rows_stays_where_it_is() -> None:
    centres, _ = lloyd([[0.0], [1.0]], [[0.5], [100.0]])
    assert centres == [[0.5], [100.0]]


def test_seeds_are_rows_and_other_keys_draw_others() -> None:
    rows = [near(number % 3, number) for number in range(60)]
    drawn = seeds(rows, 3, "a")
    assert all(one in rows for one in drawn)
    assert drawn == seeds(rows, 3, "a") != seeds(rows, 3, "b")


def test_seeds_of_equal_rows_are_that_row() -> None:
    assert seeds([[1.0]] * 5, 3, "a") == [[1.0]] * 3


# ---- learning and assigning ------------------------------------------------------------------------------------------


def test_it_finds_the_kinds_there_are() -> None:
    model = taught()
    places = [model.assign(near(kind, 10_000)) for kind in range(3)]
    assert sorted(place for place in places if place is not None) == [0, 1, 2]
    for centre, middle in zip(sorted(model.raw_centres(), key=sum), ([0.5, 0.5], [0.5, 9.5], [9.5, 9.5]), strict=True):
        assert centre == pytest.approx(middle, abs=0.3)


def test_there_are_no_segments_before_the_warm_up_has_ended() -> None:
    before, after = taught(299), taught(300)
    assert (before.trusted, after.trusted) == (False, True)
    assert before.assign(near(0, 1)) is None
    assert before.assign_sticky(near(0, 1), 2) is None
    assert before.raw_centres() == []
    assert after.assign(near(0, 1)) is not None
    assert (len(before.state()["buffer"]), after.state()["buffer"]) == (299, [])


def test_river_can_use_it_as_one_of_its_own() -> None:
    from river import base

    assert issubclass(SequentialKMeans, base.Clusterer)
    model = SequentialKMeans(TWO.names, TWO.rows, k=3, warmup=300)
    assert model.predict_one({"money": 0.0, "visits": 0.0}) == 0
    for number in range(600):
        model.learn_one({**dict(zip(TWO.names, near(number % 3, number), strict=True)), "unknown": 1.0})
    assert model.predict_one({"money": 9.0, "visits": 9.0}) == model.assign([9.0, 9.0])
    assert model.clone().state() == SequentialKMeans(TWO.names, TWO.rows, k=3, warmup=300).state()


def test_the_segment_stays_until_another_is_nearer_by_two_fifths() -> None:
    clusters = Clusters(("a",), [0.0], [1.0], [[0.0], [10.0]])
    assert clusters.assign([6.2]) == 1
    assert clusters.assign_sticky([6.2], 0) == 0  # 3.8 is no less than three fifths of 6.2
    assert clusters.assign_sticky([6.3], 0) == 1  # 3.7 is
    assert clusters.assign_sticky([6.2], 0, margin=0.0) == 1
    assert clusters.assign_sticky([6.2], None) == 1
    assert clusters.assign_sticky([6.2], 7) == 1  # of a model with more segments


def moved(start: int, rows: int) -> SequentialKMeans:
    """Return a model whose first rows were of two kinds, in one place but for little, and later ones of three."""
    model = SequentialKMeans(TWO.names, TWO.rows, k=3, warmup=300)
    for number in range(rows):
        model.learn(near(number % (2 if number < start else 3), number), at=number * HOUR)
    return model


def test_a_bad_start_is_left_when_there_are_twice_as_many_rows() -> None:
    before, after = moved(300, 599), moved(300, 600)
    assert (before.starts, after.starts) == (1, 2)
    assert (len(before.state()["buffer"]), after.state()["buffer"]) == (299, [])
    found = sorted(after.raw_centres(), key=sum)
    for centre, middle in zip(found, ([0.5, 0.5], [0.5, 9.5], [9.5, 9.5]), strict=True):
        assert centre == pytest.approx(middle, abs=0.3)


def test_centres_that_fit_stay_where_they_are_at_the_next_start() -> None:
    assert taught(600).starts == taught(1_200).starts == 1


def test_a_model_that_was_put_away_before_a_start_goes_on_as_the_other() -> None:
    before = moved(300, 599)
    back = SequentialKMeans.restore(before.state())
    for model in (before, back):
        model.learn(near(2, 599), at=599 * HOUR)
    assert back.starts == 2
    assert encode(back.state()) == encode(before.state())


def test_segments_are_given_other_numbers_with_all_they_have() -> None:
    model = taught()
    before = model.state()
    model.reorder((2, 0, 1))
    after = model.state()
    for part in ("centres", "rows", "shares"):
        assert after[part] == [before[part][place] for place in (2, 0, 1)]


def test_the_engines_half_assigns_as_the_learners_does() -> None:
    model = taught()
    clusters = Clusters.restore(model.state())
    for number in range(300):
        row = [12.0 * chance("a", str(number)), 12.0 * chance("b", str(number))]
        assert clusters.assign(row) == model.assign(row)
        assert clusters.assign_sticky(row, 1) == model.assign_sticky(row, 1)


def test_no_data_is_at_the_running_mean() -> None:
    model = taught()
    mean = model.state()["means"][0]
    assert model.clusters().distances([math.nan, 9.0]) == pytest.approx(model.clusters().distances([mean, 9.0]))


def test_a_number_that_no_feature_can_have_is_not_learned() -> None:
    model = taught()
    before = encode(model.state())
    with pytest.raises(BadRowError, match="visits"):
        model.learn([1.0, 1e7], at=0)
    assert encode(model.state()) == before


def test_ids_stay_when_centres_move_past_each_other() -> None:
    model = taught(SETTLED)
    poor = model.assign(near(0, 1))
    for number in range(4_000):  # the poor become richer than the rich, little by little
        rise = 12.0 * number / 4_000
        model.learn([value + rise for value in near(0, number)], at=(SETTLED + number) * HOUR)
        model.learn(near(1 + number % 2, number), at=(SETTLED + number) * HOUR)
    assert poor is not None
    assert model.raw_centres()[poor][0] > 1.0
    assert model.assign(near(1, 1)) != poor


def test_a_segment_that_nobody_is_in_for_a_week_starts_anew_at_the_farthest_prototype() -> None:
    model = taught(SETTLED)
    dead = model.assign(near(2, 1))
    assert dead is not None
    at, number = SETTLED * HOUR, SETTLED
    while model.shares[dead] >= 0.01:
        model.learn(near(number % 2, number), at)
        number += 1
    began = model.state()["low_since"][dead]
    assert began == at
    place = model.state()["centres"][dead]
    model.learn(near(0, number), at + 7 * DAY - 1)
    assert model.state()["centres"][dead] == place
    model.learn(near(0, number), at + 7 * DAY)
    assert model.state()["low_since"][dead] is None
    assert model.shares[dead] == pytest.approx(0.02)
    # of the three prototypes ``busy`` is where no centre is left
    assert model.raw_centres()[dead] == pytest.approx([0.0, 9.0], abs=1e-9)


def test_a_segment_that_is_used_again_in_time_stays_where_it_is() -> None:
    model = taught(SETTLED)
    dead = model.assign(near(2, 1))
    assert dead is not None
    number = SETTLED
    while model.shares[dead] >= 0.01:
        model.learn(near(number % 2, number), SETTLED * HOUR)
        number += 1
    while model.shares[dead] < 0.01:
        model.learn(near(2, number), SETTLED * HOUR + DAY)
        number += 1
    assert model.state()["low_since"] == [None] * 3


def test_other_keys_draw_other_seeds_and_one_key_the_same() -> None:
    assert encode(taught(key="a").state()) == encode(taught(key="a").state())
    assert taught(key="a").state()["key"] != taught(key="b").state()["key"]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("centres", [[1.0, 2.0]]),
        ("centres", [[1.0], [2.0], [3.0]]),
        ("rows", [1]),
        ("shares", []),
        ("low_since", []),
        ("variances", [1.0]),
        ("buffer", [[1.0]]),
        ("prototypes", [["rich", [1.0]]]),
        ("k", "many"),
    ],
)
def test_a_state_whose_parts_do_not_fit_is_refused(part: str, value: object) -> None:
    with pytest.raises(BadSnapshotError):
        SequentialKMeans.restore({**taught().state(), part: value})


# ---- prototypes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prototypes", [SHOP, TILLS], ids=["shop", "tills"])
def test_a_prototype_is_nearest_to_itself(prototypes: Prototypes) -> None:
    assert 6 <= len(prototypes.rows) <= 8
    for name, row in prototypes.rows.items():
        assert len(row) == len(prototypes.names)
        assert prototypes.assign(row) == name


def test_a_prototype_is_kept_until_another_is_nearer_by_two_fifths() -> None:
    assert TWO.assign([0.0, 4.6]) == "busy"
    assert TWO.assign([0.0, 5.5], "poor") == "poor"
    assert TWO.assign([0.0, 5.7], "poor") == "busy"
    assert TWO.assign([0.0, 4.6], "nobody") == "busy"


def test_what_is_not_known_parts_no_prototypes() -> None:
    assert TWO.assign([9.0, math.nan]) == "rich"
    assert TWO.assign([math.nan, math.nan]) == "rich"  # all are as far: the first


@pytest.mark.parametrize("row", [[math.inf, 1.0], [1.0], [1e308, 1e308 * 10]])
def test_a_prototype_is_not_found_for_what_is_no_row(row: list[float]) -> None:
    with pytest.raises(BadRowError):
        TWO.assign(row)


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (2, 4), (4, 4), (5, 6)])
def test_the_match_is_the_cheapest_of_all_orders(size: tuple[int, int]) -> None:
    for trial in range(5):
        draw = [[chance(str(trial), str(at), str(part)) for part in range(3)] for at in range(sum(size))]
        centres, prototypes, units = draw[: size[0]], draw[size[0] :], [0.5, 1.0, 2.0]

        def cost(way: tuple[int, ...], of: list[list[float]] = centres, to: list[list[float]] = prototypes) -> float:
            return math.fsum(
                ((value - there) / unit) ** 2
                for centre, at in zip(of, way, strict=True)
                for value, there, unit in zip(centre, to[at], [0.5, 1.0, 2.0], strict=True)
            )

        found = match(centres, prototypes, units)
        assert len(set(found)) == len(found)
        assert cost(found) == pytest.approx(min(map(cost, permutations(range(size[1]), size[0]))))


def test_of_equal_matches_the_first_is_taken() -> None:
    assert match([[0.0], [0.0]], [[1.0], [1.0], [1.0]], [1.0]) == (0, 1)


def test_there_have_to_be_enough_prototypes() -> None:
    with pytest.raises(ValueError, match="3 segments"):
        match([[0.0]] * 3, [[0.0]] * 2, [1.0])


RICH_POOR = [[8.0, 8.0], [1.0, 1.0]]
POOR_RICH = [[1.0, 1.0], [8.0, 8.0]]


def test_names_change_on_the_third_day_that_others_fit_better() -> None:
    names = Names(TWO)
    assert names.look(RICH_POOR, at=0) == ("rich", "poor")
    assert names.look(POOR_RICH, at=DAY) == ("rich", "poor")
    assert names.look(POOR_RICH, at=2 * DAY) == ("rich", "poor")
    assert names.look(POOR_RICH, at=3 * DAY) == ("poor", "rich")


def test_a_day_on_which_the_names_fit_begins_the_count_anew() -> None:
    names = Names(TWO)
    names.look(RICH_POOR, at=0)
    for day, centres in enumerate((POOR_RICH, POOR_RICH, RICH_POOR, POOR_RICH, POOR_RICH), start=1):
        assert names.look(centres, at=day * DAY) == ("rich", "poor")
    assert names.look(POOR_RICH, at=6 * DAY) == ("poor", "rich")


def test_of_several_looks_on_a_day_one_counts() -> None:
    names = Names(TWO)
    names.look(RICH_POOR, at=0)
    for hour in range(1, 20):
        assert names.look(POOR_RICH, at=hour * HOUR) == ("rich", "poor")
        assert names.look(POOR_RICH, at=DAY + hour * HOUR) == ("rich", "poor")


def test_names_that_fit_only_a_little_better_change_nothing() -> None:
    names = Names(Prototypes(("a",), (1.0,), {"low": [0.0], "high": [10.0]}))
    names.look([[1.0], [9.0]], at=0)
    for day in range(1, 10):
        # 5.2² + 5.2² now, 4.8² + 4.8² the other way: 15 % less
        assert names.look([[5.2], [4.8]], at=day * DAY) == ("low", "high")
    for day in range(10, 13):
        # 5.4² + 5.4² now, 4.6² + 4.6² the other way: 27 % less
        named = names.look([[5.4], [4.6]], at=day * DAY)
    assert named == ("high", "low")


def test_centres_found_anew_get_the_numbers_whose_names_they_deserve() -> None:
    names = Names(TWO)
    names.look(RICH_POOR, at=0)
    assert names.again(POOR_RICH) == (1, 0)
    assert names.current == ("rich", "poor")
    assert names.look(RICH_POOR, at=DAY) == ("rich", "poor")


def test_a_name_that_fits_none_of_the_new_centres_leaves_its_number_to_another() -> None:
    names = Names(TWO)
    names.look(RICH_POOR, at=0)
    assert names.again([[0.0, 9.0], [9.0, 9.0]]) == (1, 0)
    assert names.current == ("rich", "busy")


def test_without_segments_there_are_no_names() -> None:
    assert Names(TWO).look([], at=0) == ()


def test_a_taken_back_count_of_days_goes_on() -> None:
    names = Names(TWO)
    names.look(RICH_POOR, at=0)
    names.look(POOR_RICH, at=DAY)
    names.look(POOR_RICH, at=2 * DAY)
    assert Names.restore(names.state()).look(POOR_RICH, at=3 * DAY) == ("poor", "rich")


def test_names_of_no_prototype_are_refused() -> None:
    with pytest.raises(BadSnapshotError):
        Names.restore({**Names(TWO).state(), "current": ["nobody"]})


def test_assigning_imports_neither_river_nor_numpy() -> None:
    program = (
        "import sys; from journey.models.assign import SHOP, Clusters; "
        "Clusters(('a',), [0.0], [1.0], [[0.0]]).assign_sticky([1.0], 0); SHOP.assign(SHOP.rows['loyal']); "
        "print(sorted({'river', 'numpy', 'scipy'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[4]
    ran = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, check=True, text=True)
    assert ran.stdout.strip() == "[]"
