"""What the quality benchmark is made of, on rows whose answer is known: readers, ceilings, lines of the table."""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from sklearn.metrics import adjusted_rand_score

from benchmarks.quality import ceilings, data, report
from benchmarks.quality.data import Click, Look, Owned
from journey.events import DAY, HOUR
from journey.models import boosted
from journey.models.base import chance
from journey.models.baskets import Baskets
from journey.samples import SCHEMAS, Sample
from streams.audits import Centres, Figure
from streams.raw import RawRecord
from streams.shop import generate

NOON = 1_795_176_000_000
WEEK = 7 * DAY
ROWS = (
    "ts,customer_id,type,item_id,category,value,quantity,extra",
    '2017-01-01T08:00:00Z,7,purchase,11,TEA,2.50,1,"{""basket"": 1, ""retail_disc"": 0.5}"',
    '2017-01-01T08:00:00Z,7,purchase,12,MILK,1.00,2,"{""basket"": 1}"',
    '2017-01-03T08:00:00Z,8,purchase,13,,3.00,1,"{""basket"": 2}"',
    '2017-02-01T08:00:00Z,7,purchase,11,TEA,2.50,1,"{""basket"": 3}"',
)


def drawn(*parts: object) -> float:
    return chance(*(str(part) for part in parts))


# --- readers -----------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in data.FILES:
        (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress("\n".join(ROWS).encode()))
    return tmp_path


def orders_of(records: Sequence[RawRecord]) -> list[dict[str, Any]]:
    return [orjson.loads(record.value)["data"] for record in records]


def test_a_basket_is_one_order_and_its_items_may_be_categories(files: Path) -> None:
    first, second, _ = orders_of(list(data.events(files, data.GROCERIES, by_category=True)))
    assert [item["item_id"] for item in first["items"]] == ["TEA", "MILK"]
    assert [item["item_id"] for item in second["items"]] == ["13"]  # no category is told
    assert (first["revenue_minor"], first["discount_minor"], first["currency"]) == (350, 50, "USD")
    as_they_are = orders_of(list(data.events(files, data.GROCERIES)))[0]
    assert [item["item_id"] for item in as_they_are["items"]] == ["11", "12"]


def test_some_customers_and_a_part_of_the_time_can_be_asked_for(files: Path) -> None:
    assert [record.key for record in data.events(files, data.GROCERIES, customers=["u:8"])] == [b"u:8"]
    until = data.moment("2017-01-03T08:00:00Z")
    assert [record.key for record in data.events(files, data.GROCERIES, until=until)] == [b"u:7"]


def test_what_is_too_old_to_be_accepted_is_moved_by_twenty_years(files: Path) -> None:
    assert next(data.events(files, data.RECORDS)).at == data.moment("2037-01-01T08:00:00Z")


def test_a_folder_without_all_files_is_none(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNEY_DATA", str(files))
    assert data.folder() == files
    (files / "taobao.csv.gz").unlink()
    assert data.folder() is None


def test_fifty_households_are_among_the_hundred() -> None:
    everybody = [f"u:{number}" for number in range(300)]
    few, more = data.drawn(everybody, 50), data.drawn(reversed(everybody), 100)
    assert len(few) == 50
    assert more[:50] == few


# --- runs --------------------------------------------------------------------


def test_a_generated_shop_is_followed_through_the_product() -> None:
    found = data.followed(generate(seed=3, customers=60, days=30), weekly=True, clicks_from=0)
    assert {sample["model"] for _, sample in found.samples} >= {"intent", "segments", "recs"}
    assert len({look.at for look in found.looks}) >= 3
    assert all(look.at % WEEK == 0 for look in found.looks)
    views = [click for click in found.clicks if click.customer.startswith(("u:", "a:"))]
    assert len(views) > 100
    assert views[0].top is None  # before the first orders there is no model


def test_the_blend_takes_the_trees_that_there_were_when_a_row_was_scored() -> None:
    rows = [[drawn("row", number, column) for column in range(14)] for number in range(600)]
    trees = boosted.fit(rows, [row[0] > 0.5 for row in rows], SCHEMAS["churn/1"])
    samples: list[Owned] = [
        ("u:1", {"model": "churn", "kind": "label", "scored_at": NOON + at, "p": p, "x": [0.9, *[0.5] * 13]})
        for at, p in ((0, 0.5), (DAY, 0.5), (DAY, None))
    ]
    found = data.Run(
        samples=samples,
        snapshots={("churn.boosted", 1): {"state": trees}},
        fitted_at={("churn.boosted", 1): NOON + DAY},
    )
    found.samples.append(("u:2", {"model": "churn", "kind": "observe"}))
    before, after, silent = data.blended(found, "churn")
    assert (before, silent) == (None, None)
    assert after is not None
    assert after > 0.6


# --- probabilities -----------------------------------------------------------


def labelled(count: int, at: int = NOON) -> list[Owned]:
    """Return a row every hour whose first feature tells the label; the live model knows, the fallback does not."""
    found = []
    for number in range(count):
        x = [drawn("x", number, column) * 4 - 2 for column in range(2)]
        p = 1 / (1 + math.exp(-2 * x[0]))
        scored = at + number * HOUR
        sample = {
            "v": 1, "model": "churn", "src": ["journey.journal", 0, number, 0], "x": x,
            "y": int(drawn("y", number) < p), "p": p, "q": 0.5, "scored_at": scored, "due_at": scored + 3 * DAY,
        }  # fmt: skip
        found.append((f"u:{number % 40}", sample))
    return found


def test_a_label_is_known_from_its_horizons_end_on() -> None:
    samples = [sample for _, sample in labelled(200)]
    known = ceilings.labels_before(samples)
    assert known[71:75] == [0, 1, 2, 3]
    assert known[-1] == 200 - 72


class Seen:
    """A batch model that notes what it was shown."""

    def __init__(self) -> None:
        self.fits: list[int] = []

    def fit(self, rows: Any, _: Any) -> Seen:
        self.fits.append(len(rows))
        return self

    def predict_proba(self, rows: Any) -> Any:
        return np.full((len(rows), 2), float(len(self.fits)))


def test_a_model_that_is_refitted_sees_only_what_was_known_and_not_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [sample for _, sample in labelled(24 * 200)]
    cut = NOON + 160 * DAY
    late = [sample for sample in samples if sample["scored_at"] >= cut]
    model = Seen()
    monkeypatch.setattr(ceilings, "batch_models", lambda: {"seen": model})
    scores = ceilings.refitted(samples, late, cut, "seen")
    # every two weeks: 157 days of labels are known at first, 150 are taken
    assert model.fits == [150 * 24] * 3
    assert scores == [1.0] * (14 * 24) + [2.0] * (14 * 24) + [3.0] * (12 * 24)


def test_a_frozen_model_learns_labels_due_by_the_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [sample for _, sample in labelled(24 * 20)]
    model = Seen()
    monkeypatch.setattr(ceilings, "batch_models", lambda: {"seen": model})
    assert len(ceilings.frozen(samples, samples[-5:], NOON + 10 * DAY, "seen")) == 5
    assert model.fits == [7 * 24 + 1]


def test_a_model_that_knows_is_above_one_that_does_not() -> None:
    owned = labelled(24 * 60)
    cut = NOON + 30 * DAY
    rows = report.evaluated(owned, cut)
    lines, (champion, fallback) = report.probability_lines(
        "churn", "rows", rows, cut, below_batch=0.01, above_trivial=0.06, most_ece=0.2
    )
    assert [(line.figure, line.rows, line.reached) for line in lines] == [
        ("AUC", 30 * 24, True), ("log-loss", 30 * 24, True), ("ECE", 30 * 24, True),
    ]  # fmt: skip
    assert fallback.auc.value == 0.5
    assert champion.auc.low > 0.8
    assert "HGB refit" in lines[0].ceiling


def test_rows_on_which_the_model_was_silent_are_left_out_and_counted() -> None:
    owned = labelled(100)
    owned[60][1]["p"] = None
    rows = report.evaluated(owned, NOON + 50 * HOUR)
    assert (len(rows.samples), rows.silent, len(rows.known)) == (49, 1, 100)


def test_a_challenger_is_compared_on_the_same_rows() -> None:
    owned = labelled(1000)
    worse = [0.5 if number % 2 else None for number in range(1000)]
    lines = report.challenger_lines("churn", "rows", owned, worse, NOON + 500 * HOUR, "coin")
    assert {line.rows for line in lines} == {250}
    assert lines[0].value.value == 0.5
    assert lines[3].value.high < 0
    assert lines[-1].reached is False
    same = [sample["p"] for _, sample in owned]
    assert report.challenger_lines("churn", "rows", owned, same, NOON, "same")[3].value == Figure(0.0, 0.0, 0.0)


def test_a_small_shop_is_measured_from_its_500th_label_on() -> None:
    line = report.small_shop_line(40, "rows", labelled(800))
    assert line.rows == 800 - 500 - 71
    assert line.reached is True


# --- segments ----------------------------------------------------------------


def looks(weeks: int = 6, customers: int = 90) -> list[Look]:
    """Return three kinds of customers, told apart but for every tenth."""
    found = []
    for week in range(weeks):
        for number in range(customers):
            segment = number % 3 if number % 10 else (number + 1) % 3
            x = [float(number % 3) + 0.3 * drawn(week, number, column) for column in range(7)]
            found.append(Look(NOON + week * WEEK, f"u:{number}", x, segment, "abc"[segment]))
    return found


def kind(customer: str, _: int) -> str:
    return f"kind {int(customer[2:]) % 3}"


def test_the_rand_index_is_the_one_of_scikit_learn_and_weights_are_copies() -> None:
    one, other = ([int(drawn(name, number) * 4) for number in range(200)] for name in "ab")
    mixed = [label if number % 3 else another for number, (label, another) in enumerate(zip(one, other, strict=True))]
    assert ceilings.weighted_ari(one, mixed) == pytest.approx(adjusted_rand_score(one, mixed))
    weights = np.array([float(number % 3) for number in range(200)])
    copies = [number for number in range(200) for _ in range(number % 3)]
    repeated = adjusted_rand_score([one[at] for at in copies], [mixed[at] for at in copies])
    assert ceilings.weighted_ari(one, mixed, weights) == pytest.approx(repeated)


def test_segments_that_stay_flip_never_and_keep_their_names() -> None:
    assert sum(ceilings.flips(looks())[1]) == 0.0
    assert len(ceilings.flips(looks())[1]) == 5 * 90
    assert ceilings.swapped_names(looks()) == 0


def test_a_change_and_back_are_two_flips() -> None:
    seen = [Look(NOON + week * WEEK, "u:1", [], segment, None) for week, segment in enumerate((0, 0, 1, 0))]
    assert ceilings.flips(seen) == (["u:1"] * 3, [0.0, 1.0, 1.0])


def test_a_week_without_a_look_is_no_flip() -> None:
    seen = [Look(NOON, "u:1", [], 0, None), Look(NOON + 2 * WEEK, "u:1", [], 1, None)]
    assert ceilings.flips(seen) == ([], [])


def test_two_names_that_change_places_are_seen() -> None:
    after = [look._replace(at=look.at + 6 * WEEK, name="bac"[look.segment or 0]) for look in looks(1)]
    assert ceilings.swapped_names([*looks(), *after]) == 2


def test_without_segments_nothing_is_said_to_be_reached() -> None:
    unknown = [look._replace(segment=None, name=None) for look in looks(2)]
    assert [line.reached for line in report.segment_lines("rows", unknown, kind, most_flips=0.07)] == [None, None]


def test_planted_kinds_are_found_by_whoever_is_told_the_truth_of_others() -> None:
    seen = looks()
    truth = [kind(look.customer, look.at) for look in seen]
    assert ceilings.weekly_ari(seen, truth, ceilings.supervised(seen, truth))(None) > 0.95
    lines = report.segment_lines("shop", seen, kind, most_flips=0.07)
    assert [line.figure.partition(" ")[0] for line in lines] == ["agreement", "changed", "names"]
    assert 0.6 < lines[0].value.value < 0.9
    assert "k-means of each week 1.000" in lines[0].ceiling
    assert lines[0].reached is True  # none of these kinds is like a prototype of a shop


def test_the_sum_of_squares_is_compared_in_the_units_of_the_centres() -> None:
    owned = [
        (f"u:{number}", {"x": [0.0, 3.0 * (number % 2) + drawn("n", number), 0.0, 0.0, 0.0, 0.0, 0.0]})
        for number in range(400)
    ]
    right = Centres(("freq",), [[-0.75], [0.75]], (2.0,), (0.5,), ("a", "b"))
    line = report.squares_line("rows", owned, right, len(owned), 1.1)
    assert line.value.value == pytest.approx(1.0, abs=0.05)
    assert line.reached is True
    wrong = report.squares_line("rows", owned, right._replace(centres=[[-0.75], [9.0]]), len(owned), 1.1)
    assert wrong.reached is False


# --- recommendations ---------------------------------------------------------


def bought(customer: str, at: int, items: Sequence[str], top: Sequence[str] | None, profile: Any = ()) -> Owned:
    rows = [[item, item, None, None] for item in items]
    return customer, {
        "model": "recs",
        "items": rows,
        "profile": list(profile),
        "top": top,
        "at": at,
        "model_version": 1,
    }


def nobody(_: Sample) -> None:
    return None


def test_recall_is_of_ten_and_what_is_new_is_counted_apart() -> None:
    owned = [
        bought("u:1", NOON, ["tea", "milk"], None),
        bought("u:2", NOON + DAY, ["milk"], None),
        bought("u:1", NOON + 2 * DAY, ["tea", "jam"], ["tea"], [["tea", 1.0]]),
        bought("u:1", NOON + 93 * DAY, ["milk"], ["milk"]),
    ]
    found = ceilings.next_baskets(owned, nobody)
    assert found.customers == ["u:1", "u:1"]
    assert found.all[ceilings.CHAMPION] == [0.5, 1.0]
    assert found.all[ceilings.POPULAR] == [0.5, 1.0]
    # jam is new and nobody bought it; milk, bought 93 days ago, is new again
    assert found.new[ceilings.POPULAR] == [0.0, 1.0]
    assert all(map(math.isnan, found.new[ceilings.CHAMPION]))


def test_what_is_new_is_asked_of_the_version_that_was_in_force() -> None:
    counted = Baskets()
    for _ in range(30):
        counted.learn([["tea", None, None, None], ["milk", None, None, None]], NOON)
    ask = report.recommender_of({("recs", 1): {"state": counted.published(NOON)}})
    owned = [
        bought("u:1", NOON, ["tea"], None),
        bought("u:1", NOON + DAY, ["milk"], ["tea"], [["tea", 1.0]]),
    ]
    assert ceilings.next_baskets(owned, ask).new[ceilings.CHAMPION] == [1.0]
    assert ask({"model_version": 2}) is None


def test_the_lines_of_baskets_say_what_popular_items_would_have_done() -> None:
    owned = [bought(f"u:{n % 5}", NOON + n * DAY, ["tea", f"own {n % 5}"], ["tea", f"own {n % 5}"]) for n in range(60)]
    run = data.Run(samples=owned)
    every, new = report.basket_lines("rows", run, above_popular=-0.1, looked_at=lambda _customer, _at: True)
    assert (every.rows, every.value.value, every.reached) == (30, 1.0, True)
    assert every.trivial is not None
    assert every.trivial.value == 1.0  # six items: all are among the ten
    assert (new.value.shown(), new.reached) == ("-", None)


def test_a_fifth_of_the_baskets_is_looked_at_and_three_in_a_hundred_are_the_references() -> None:
    moments = [ceilings.YEAR_BEGAN + n * 60_000 for n in range(10_000)]
    assert 1_800 < sum(ceilings.a_fifth("u:7", at) for at in moments) < 2_200
    assert 240 < sum(ceilings.of_the_reference("u:7", at) for at in moments) < 360


def test_the_next_view_is_compared_with_the_ten_seen_last() -> None:
    clicks = [Click(NOON + n, "u:1", item, top) for n, (item, top) in enumerate(
        [("a", None), ("b", ["b"]), ("a", ["b"]), *((f"i{n}", None) for n in range(10)), ("a", ["a"])]
    )]  # fmt: skip
    hits = ceilings.next_clicks([clicks[0], clicks[1]._replace(shown=["a"]), *clicks[2:]], NOON)
    assert hits.customers == ["u:1"] * len(clicks)
    assert hits.ranked == [0.0, 1.0, 0.0, *[0.0] * 10, 1.0]
    assert hits.shown == [0.0] * len(clicks)  # what lies in the cart is not shown
    assert hits.recent == [0.0, 0.0, 1.0, *[0.0] * 10, 0.0]  # ten others since
    assert [line.rows for line in report.click_lines("rows", clicks, NOON + 2)] == [12, 12]


# --- value -------------------------------------------------------------------


def test_orders_of_one_day_are_one_and_the_cut_divides_known_from_to_come() -> None:
    day = NOON // DAY * DAY
    orders = [
        ("u:1", day, 10.0), ("u:1", day + HOUR, 5.0), ("u:1", day + 14 * DAY, 20.0), ("u:1", day + 30 * DAY, 7.0),
        ("u:2", day + 30 * DAY, 1.0),
    ]  # fmt: skip
    (only,) = ceilings.buyers(orders, day + 29 * DAY)
    assert only == ceilings.Buyer("u:1", 1, 2.0, 4.0, 20.0, 1, 7.0)
    assert ceilings.past_rate(only, 8.0) == 2.0


def test_a_forecast_is_judged_by_correlation_and_sum() -> None:
    people = [
        ceilings.Buyer(f"u:{n}", n % 4, 10.0, 39.0, 5.0, n % 4 if n % 3 else 1, 5.0 * (n % 4)) for n in range(300)
    ]
    lines = report.value_lines("rows", people, lambda one: float(one.orders), lambda one: one.money, 39.0)
    assert [line.figure for line in lines][:2] == ["r, orders", "r, money"]
    assert lines[0].value.value == pytest.approx(1.0)
    assert lines[2].value.value == pytest.approx(1.0)
    assert [line.reached for line in lines] == [True, False, True]  # money: the past rate is as good


def test_the_printed_example_is_compared_to_three_digits() -> None:
    assert report.published_line(1.2259).reached is True
    assert report.published_line(1.2266).reached is False


# --- the table ---------------------------------------------------------------


def test_each_line_is_a_row_of_the_table() -> None:
    lines = [
        report.Line("churn", "a|b", 1234, "AUC", Figure(0.85, 0.8, 0.9), Figure(0.7), "LR 0.86", "≥ 0.8", True, 2),
        report.Line("rules", "b", 1, "rules", Figure(12.0), goal="same", reached=False, digits=0),
        report.Line("recs", "b", 0, "new", Figure(math.nan)),
    ]
    table = report.markdown(lines).splitlines()
    assert table[2] == "| churn | a/b | 1,234 | AUC | 0.85 [0.80, 0.90] | 0.70 | LR 0.86 | ≥ 0.8 | yes |"
    assert table[3] == "| rules | b | 1 | rules | 12 |  |  | same | **no** |"
    assert table[4] == "| recs | b | 0 | new | - |  |  |  |  |"
    assert len({row.count("|") for row in table}) == 1
