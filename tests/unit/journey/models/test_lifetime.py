from __future__ import annotations

import csv
import gzip
import json
import math
import os
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Final

import pytest
from scipy.integrate import quad
from scipy.special import betaln
from scipy.stats import beta, gamma

from journey.entries import encode
from journey.errors import BadRowError, BadSnapshotError
from journey.models.base import State, chance
from journey.models.lifetime import (
    BOUNDS,
    FEWEST_AGAIN,
    FEWEST_BUYERS,
    MOST_OBSERVED,
    WEEK_MS,
    Buyers,
    Lifetime,
    fit,
    observed,
    past_rate,
)

ROOT: Final = Path(__file__).parents[4]
# published for 2,357 customers of CDNOW: Fader, Hardie and Lee (2005); Fader and Hardie (2013)
CDNOW: Final = Lifetime(
    0.243, 4.414, 0.793, 2.426, 6.25, 3.74, 15.44, (1.04, 6.85, 32.72, 35.08), 2357, 946, -9582.4, 0.11
)


def shop(r: float, alpha: float, a: float, b: float) -> Lifetime:
    return Lifetime(r, alpha, a, b, 6.0, 4.0, 15.0, (1.0, 5.0, 30.0, 20.0), 1000, 400, -1.0, 0.0)


def if_rates_and_ends_are_added_up(model: Lifetime, row: tuple[float, float, float], ahead: float) -> float:
    """The same expectation by quadrature over the chance p to leave after an order, given that the buyer is here."""
    repeats, _, weeks = row
    k, known = model.r + repeats, model.alpha + weeks
    scale = betaln(model.a, model.b + repeats)

    def weighed(logit: float) -> float:
        log_p = -math.log1p(math.exp(-logit)) if logit > -30.0 else logit
        log_q = -math.log1p(math.exp(logit)) if logit < 30.0 else -logit
        p = math.exp(log_p)
        orders = -math.expm1(-k * math.log1p(p * ahead / known)) / p
        return math.exp(model.a * log_p + (model.b + repeats) * log_q - scale) * orders

    ends = (-60.0, -25.0, -8.0, -4.0, -2.0, 0.0, 2.0, 4.0, 8.0, 25.0, 60.0)
    total = math.exp(-60.0 * model.a - scale) / model.a * k * ahead / known  # from certain to stay up to -60
    for low, high in pairwise(ends):
        total += quad(weighed, low, high, limit=200, epsabs=1e-13, epsrel=1e-8)[0]
    alive = model.alive(*row)
    return float(total) * (1.0 if alive is None else alive)


class TestScores:
    def test_the_published_customer_is_expected_to_order_1_226_times(self) -> None:
        assert CDNOW.orders(2, 30.43, 38.86, 39.0) == pytest.approx(1.226, abs=5e-4)

    @pytest.mark.parametrize("row", [(0.0, 0.0, 0.0), (0.0, 0.0, 30.0), (1.0, 2.0, 2.0), (2.0, 30.43, 38.86),
                                     (60.0, 200.0, 201.0)], ids=str)  # fmt: skip
    @pytest.mark.parametrize("ahead", [1.0, 39.0, 104.0])
    def test_the_closed_form_is_the_integral(self, row: tuple[float, float, float], ahead: float) -> None:
        ends = (0.3, 0.793, 1.0, 1.000001, 2.0, 30.0), (0.7, 2.426, 30.0)
        for r, alpha, a, b in product((0.05, 0.243, 1.0, 5.0), (0.5, 4.414, 60.0), *ends):
            model = shop(r, alpha, a, b)
            right = if_rates_and_ends_are_added_up(model, row, ahead)
            assert model.orders(*row, ahead) == pytest.approx(right, rel=1e-4), (r, alpha, a, b)

    def test_the_corners_of_what_a_snapshot_may_hold_have_finite_scores(self) -> None:
        for r, alpha, a, b in product(*(BOUNDS[name] for name in ("r", "alpha", "a", "b"))):
            for row in ([0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 1.0, 5.0], [1e5, 5_218.0, 5_218.0, 1e9]):
                found = shop(r, alpha, a, b).score(row)
                assert all(value is None or 0.0 <= value < math.inf for value in found)

    def test_it_is_the_same_on_both_sides_of_where_terms_are_infinite(self) -> None:
        for a in (1.0 - 1e-7, 1.0, 1.0 + 1e-7):
            assert shop(0.3, 4.0, a, 2.0).orders(2, 10.0, 20.0) == pytest.approx(
                shop(0.3, 4.0, 1.0001, 2.0).orders(2, 10.0, 20.0), rel=1e-4
            )
        for b in (0.4 - 1e-7, 0.4, 0.4 + 1e-7):
            assert shop(0.3, 4.0, 0.6, b).orders(0, 0.0, 20.0) == pytest.approx(
                shop(0.3, 4.0, 0.6, 0.4001).orders(0, 0.0, 20.0), rel=1e-3
            )

    def test_before_the_second_order_nobody_is_said_to_be_alive_or_not(self) -> None:
        assert CDNOW.alive(0, 0.0, 30.0) is None
        assert CDNOW.score([0.0, 0.0, 30.0, 0.0]).alive is None
        alive = CDNOW.alive(1, 10.0, 30.0)
        assert alive is not None
        assert 0.0 < alive < 1.0

    def test_silence_makes_it_less_likely_that_orders_come(self) -> None:
        alive = [CDNOW.score([5.0, 20.0, weeks, 10.0]) for weeks in (20.0, 40.0, 80.0, 1_000.0)]
        for sooner, later in pairwise(alive):
            assert sooner.alive is not None
            assert later.alive is not None
            assert sooner.alive > later.alive
            assert sooner.orders > later.orders

    def test_an_order_is_worth_what_the_buyer_pays_the_more_surely_the_more_orders(self) -> None:
        of_all = CDNOW.value(0, 0.0)
        assert of_all == pytest.approx(6.25 * 15.44 / 2.74)
        values = [CDNOW.value(repeats, 100.0) for repeats in (1, 5, 50, 10_000)]
        assert [of_all, *values, 100.0] == sorted([of_all, *values, 100.0])
        assert CDNOW.value(3, math.nan) == of_all

    def test_worth_is_orders_times_value(self) -> None:
        found = CDNOW.score([2.0, 30.43, 38.86, 22.35])
        assert found.worth == found.orders * found.value == CDNOW.worth(2, 30.43, 38.86, 22.35)

    def test_of_somebody_of_whom_nothing_is_known_it_says_what_holds_for_the_mean_buyer(self) -> None:
        assert CDNOW.score([math.nan] * 4) == CDNOW.score(CDNOW.means)

    def test_past_rate_needs_a_past(self) -> None:
        assert past_rate(0, 0.0) == 0.0
        assert past_rate(2, 13.0, 39.0) == 6.0


class TestRows:
    @pytest.mark.parametrize(
        "row", [[-1.0, 0.0, 1.0, 0.0], [1.0, 2.0, -3.0, 1.0], [1.0, 2.0, 3.0, -1.0], [1.0, 2.0, 3.0]]
    )
    def test_what_was_never_observed_is_refused(self, row: list[float]) -> None:
        with pytest.raises(BadRowError):
            observed(row)

    def test_the_last_order_is_not_after_now(self) -> None:
        assert observed([1.0, 9.0, 8.0, 5.0]) == [1.0, 8.0, 8.0, 5.0]

    def test_numbers_no_shop_has_are_cut(self) -> None:
        assert observed([1e300, 1e300, 1e300, 1e300]) == [1e5, 5_218.0, 5_218.0, 1e9]


def buyers_of(model: Lifetime, count: int, weeks: float) -> list[list[float]]:
    """Draw buyers as the model says they are: a rate, a chance to leave after each order, worths around an own mean."""
    rows = []
    for n in range(count):
        rate, leave, scale = (_quantile(model, n, what) for what in ("rate", "leave", "scale"))
        clock, repeats, last, money = 0.0, 0, 0.0, 0.0
        while True:
            clock += -math.log(1.0 - chance("gap", str(n), str(repeats))) / rate
            if clock > weeks:
                break
            repeats, last = repeats + 1, clock
            money += -scale * math.log(1.0 - chance("worth", str(n), str(repeats)))
            if chance("end", str(n), str(repeats)) < leave:
                break
        rows.append([float(repeats), last, weeks, money / repeats if repeats else 0.0])
    return rows


def _quantile(model: Lifetime, n: int, what: str) -> float:
    at = chance(what, str(n))
    if what == "rate":
        return max(1e-9, float(gamma.ppf(at, model.r)) / model.alpha)
    if what == "leave":
        return float(beta.ppf(at, model.a, model.b))
    return model.v / float(gamma.ppf(at, model.q))


class TestFits:
    def test_it_finds_the_parameters_that_buyers_were_drawn_from(self) -> None:
        true = Lifetime(0.5, 5.0, 0.8, 2.5, 1.0, 4.0, 60.0, (1.0,) * 4, 1, 1, 0.0, 0.0)
        published = fit(buyers_of(true, 4_000, 50.0))
        assert published is not None
        found = Lifetime.restore(published)
        assert found.is_trusted
        assert found.r == pytest.approx(true.r, rel=0.1)
        assert found.alpha == pytest.approx(true.alpha, rel=0.15)
        assert found.a / (found.a + found.b) == pytest.approx(true.a / (true.a + true.b), rel=0.1)
        assert found.p == pytest.approx(true.p, rel=0.15)
        assert found.value(0, 0.0) == pytest.approx(20.0, rel=0.1)
        assert abs(found.correlation) < 0.1

    def test_no_parameters_near_by_are_likelier(self) -> None:
        rows = buyers_of(shop(0.5, 5.0, 0.8, 2.5), 400, 50.0)
        published = fit(rows)
        assert published is not None
        best = Lifetime.restore(published)
        assert likelihood(best, rows) == pytest.approx(best.log_likelihood, rel=1e-9)
        for name in ("r", "alpha", "a", "b"):
            for factor in (0.95, 1.05):
                other = Lifetime.restore(
                    {**published, "params": {**published["params"], name: getattr(best, name) * factor}}
                )
                assert likelihood(other, rows) < best.log_likelihood

    def test_the_same_buyers_in_any_order_give_the_same_bytes(self) -> None:
        rows = buyers_of(CDNOW, 500, 40.0)
        turned = sorted(rows, key=lambda row: chance(str(row)))
        assert rows != turned
        assert encode(fit(rows)) == encode(fit(turned)) == encode(fit(rows))

    @pytest.mark.parametrize("unit", [0.01, 1.0, 10_000.0])
    def test_the_unit_of_money_changes_the_unit_of_value_only(self, unit: float) -> None:
        rows = buyers_of(CDNOW, 1_000, 40.0)
        published, other = fit(rows), fit([[*row[:3], row[3] * unit] for row in rows])
        assert published is not None
        assert other is not None
        one, scaled = Lifetime.restore(published), Lifetime.restore(other)
        assert scaled.value(2, 30.0 * unit) == pytest.approx(one.value(2, 30.0) * unit, rel=1e-3)

    def test_too_few_buyers_or_too_few_who_come_back_are_not_fitted(self) -> None:
        once, again = [0.0, 0.0, 20.0, 0.0], [1.0, 5.0, 20.0, 30.0]
        enough = [[*again[:3], 30.0 + n] for n in range(FEWEST_AGAIN)]
        rows = [*enough, *([once] * (FEWEST_BUYERS - FEWEST_AGAIN))]
        assert fit(rows) is not None
        assert fit(rows[:-1]) is None
        assert fit([*enough[1:], once, *rows[FEWEST_AGAIN:]]) is None
        assert fit([[*again[:3], 0.0], *rows[1:]]) is None
        assert fit([]) is None

    @pytest.mark.parametrize(
        "strange",
        [[1e5, 5_218.0, 5_218.0, 1e9], [1e5, 0.0, 0.0, 0.0001], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 5_218.0, 0.0]],
        ids=str,
    )
    def test_one_strange_buyer_does_not_make_a_fit_that_is_refused(self, strange: list[float]) -> None:
        published = fit([*buyers_of(CDNOW, 300, 40.0), strange])
        assert published is not None
        Lifetime.restore(published)

    def test_buyers_who_are_all_alike_make_a_fit_within_the_bounds(self) -> None:
        for row in ([3.0, 15.0, 20.0, 10.0], [1.0, 0.0, 20.0, 10.0], [30.0, 20.0, 20.0, 10.0]):
            published = fit([row] * 200)
            assert published is not None
            found = Lifetime.restore(published)
            assert 0.0 <= found.worth(*row) < math.inf
            assert found.correlation == 0.0

    def test_scoring_needs_neither_numpy_nor_scipy(self) -> None:
        program = (
            "import json, sys; from journey.models.lifetime import Lifetime;"
            "Lifetime.restore(json.load(sys.stdin)).score([2.0, 3.0, 4.0, 5.0]);"
            "print(sorted({'numpy', 'scipy', 'river'} & {*sys.modules}))"
        )
        told = encode(CDNOW.state())
        ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, input=told, capture_output=True, check=True)
        assert ran.stdout == b"[]\n"


def likelihood(model: Lifetime, rows: list[list[float]]) -> float:
    """The log-likelihood, buyer by buyer."""
    total, (r, alpha, a, b), g = 0.0, (model.r, model.alpha, model.a, model.b), math.lgamma
    for x, last, weeks, _ in rows:
        here = math.exp(g(a + b) + g(b + x) - g(b) - g(a + b + x) - (r + x) * math.log(alpha + weeks))
        gone = 0.0
        if x > 0:
            left = g(a + 1.0) + g(b + x - 1.0) - g(a + b + x) - (g(a) + g(b) - g(a + b))
            gone = math.exp(left - (r + x) * math.log(alpha + last))
        total += g(r + x) - g(r) + r * math.log(alpha) + math.log(here + gone)
    return total


class TestSnapshots:
    def test_a_fit_comes_back_as_it_was_published(self) -> None:
        assert encode(Lifetime.restore(json.loads(encode(CDNOW.state()))).state()) == encode(CDNOW.state())
        assert len(encode(CDNOW.state())) < 600

    def test_a_fit_of_too_few_is_not_trusted(self) -> None:
        assert CDNOW.is_trusted
        for few in ({"buyers": FEWEST_BUYERS - 1, "again": 90}, {"buyers": 1_000, "again": FEWEST_AGAIN - 1}):
            assert not Lifetime.restore({**CDNOW.state(), **few}).is_trusted

    @pytest.mark.parametrize(
        "spoilt",
        [{"class": "lifetime/2"}, {"class": None}, {"means": [1.0]}, {"means": [1.0, 2.0, 3.0, -4.0]}, {"buyers": 1},
         {"buyers": 1.5}, {"log_likelihood": math.nan}, {"correlation": None}, {"params": {"r": 1.0}}],
        ids=str,
    )  # fmt: skip
    def test_what_is_no_fit_is_refused(self, spoilt: State) -> None:
        with pytest.raises(BadSnapshotError):
            Lifetime.restore({**CDNOW.state(), **spoilt})

    @pytest.mark.parametrize("name", ["r", "alpha", "a", "b", "p", "q", "v"])
    @pytest.mark.parametrize("value", [0.0, -1.0, 1e13, math.nan, math.inf, None, "1", True])
    def test_parameters_no_shop_has_are_refused(self, name: str, value: object) -> None:
        state = CDNOW.state()
        with pytest.raises(BadSnapshotError):
            Lifetime.restore({**state, "params": {**state["params"], name: value}})

    def test_an_infinite_mean_of_value_is_refused(self) -> None:
        state = CDNOW.state()
        with pytest.raises(BadSnapshotError):
            Lifetime.restore({**state, "params": {**state["params"], "q": 1.0}})


class TestBuyers:
    def test_a_fit_is_due_a_week_after_the_first_observation_and_after_each_fit(self) -> None:
        buyers = Buyers()
        assert not buyers.due(10 * WEEK_MS)
        buyers.observe([0.0, 0.0, 1.0, 0.0], 5)
        assert not buyers.due(4 + WEEK_MS)
        assert buyers.due(5 + WEEK_MS)
        buyers.fitted(9 + WEEK_MS)
        assert not buyers.due(8 + 2 * WEEK_MS)
        assert buyers.due(9 + 2 * WEEK_MS)

    def test_only_the_newest_week_is_kept(self) -> None:
        buyers = Buyers()
        for week in range(5):
            for n in range(10):
                buyers.observe([float(n), 0.0, float(week), 1.0], week * WEEK_MS + n)
        assert [row[2] for row in buyers.rows()] == [4.0] * 10

    def test_what_comes_a_week_late_is_not_kept_and_what_comes_a_little_late_is(self) -> None:
        buyers = Buyers()
        buyers.observe([1.0, 1.0, 1.0, 1.0], 10 * WEEK_MS)
        buyers.observe([2.0, 2.0, 2.0, 2.0], 9 * WEEK_MS)
        buyers.observe([3.0, 3.0, 3.0, 3.0], 9 * WEEK_MS + 1)
        assert [row[0] for row in buyers.rows()] == [1.0, 3.0]
        buyers.observe([4.0, 4.0, 4.0, 4.0], 10 * WEEK_MS + 1)
        assert [row[0] for row in buyers.rows()] == [1.0, 4.0]

    def test_of_a_week_with_too_many_those_that_came_last_are_kept(self) -> None:
        buyers = Buyers()
        for n in range(MOST_OBSERVED + 3):
            buyers.observe([1.0, 1.0, 2.0, float(n)], n)
        rows = buyers.rows()
        assert len(rows) == MOST_OBSERVED
        assert rows[0][3] == 3.0

    @pytest.mark.parametrize("kept", [[[1, 2.0, 3.0, 4.0]], [[None, 0.0, 0.0, 1.0, 0.0]], [[1, -1.0, 0.0, 1.0, 0.0]],
                                      [[1, 0.0, 0.0, 1.0, 9.0]], [7], None])  # fmt: skip
    def test_observations_that_are_none_are_refused(self, kept: Any) -> None:
        with pytest.raises(BadSnapshotError):
            Buyers.restore({**Buyers().state(), "kept": kept})

    @pytest.mark.parametrize("spoilt", [{"class": "buyers/2"}, {"since": 1.5}, {"newest": "1"}], ids=str)
    def test_a_state_that_is_none_is_refused(self, spoilt: State) -> None:
        with pytest.raises(BadSnapshotError):
            Buyers.restore({**Buyers().state(), **spoilt})


# ---- on 23,570 customers of CDNOW, 39 weeks to learn from and 39 to foretell -----------------------------------------


class Shop:
    """What was known of each customer on 30 September 1997, and what came after."""

    def __init__(self, path: Path) -> None:
        orders: dict[str, dict[float, float]] = {}
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                day = datetime.fromisoformat(line["ts"]).timestamp() / 86_400.0
                mine = orders.setdefault(line["customer_id"], {})  # the orders of a day are one
                mine[day] = mine.get(day, 0.0) + float(line["value"])
        end = datetime(1997, 9, 30, tzinfo=UTC).timestamp() / 86_400.0
        self.rows: list[list[float]] = []
        self.orders: list[float] = []
        self.money: list[float] = []
        for mine in orders.values():
            known = sorted(day for day in mine if day <= end)
            again = known[1:]
            mean = sum(mine[day] for day in again) / len(again) if again else 0.0
            self.rows.append([float(len(again)), (known[-1] - known[0]) / 7.0, (end - known[0]) / 7.0, mean])
            self.orders.append(float(len(mine) - len(known)))
            self.money.append(sum(value for day, value in mine.items() if day > end))


@pytest.fixture(scope="module")
def cdnow() -> Shop:
    path = Path(os.environ.get("JOURNEY_DATA", ROOT.parent / "shared" / "data")) / "cdnow.csv.gz"
    if not path.exists():
        pytest.skip("no real orders here: JOURNEY_DATA names no folder that has cdnow.csv.gz")
    return Shop(path)


@pytest.fixture(scope="module")
def fitted(cdnow: Shop) -> Lifetime:
    published = fit(cdnow.rows)
    assert published is not None
    return Lifetime.restore(published)


def correlation(these: list[float], those: list[float]) -> float:
    mean, other = sum(these) / len(these), sum(those) / len(those)
    both = sum((one - mean) * (two - other) for one, two in zip(these, those, strict=True))
    return both / math.sqrt(sum((one - mean) ** 2 for one in these) * sum((two - other) ** 2 for two in those))


class TestRealOrders:
    def test_it_foretells_who_orders_better_than_the_past_rate(self, cdnow: Shop, fitted: Lifetime) -> None:
        told = [fitted.orders(*row[:3]) for row in cdnow.rows]
        rate = [past_rate(row[0], row[2]) for row in cdnow.rows]
        assert correlation(told, cdnow.orders) >= correlation(rate, cdnow.orders) + 0.01

    def test_it_foretells_how_many_orders_come(self, cdnow: Shop, fitted: Lifetime) -> None:
        assert sum(cdnow.orders) == 19_684
        assert sum(fitted.orders(*row[:3]) for row in cdnow.rows) == pytest.approx(19_684, rel=0.2)

    def test_it_foretells_the_money_better_than_the_past(self, cdnow: Shop, fitted: Lifetime) -> None:
        told = [fitted.score(row).worth for row in cdnow.rows]
        past = [past_rate(row[0], row[2]) * row[3] for row in cdnow.rows]
        assert correlation(told, cdnow.money) >= correlation(past, cdnow.money) + 0.01

    def test_all_customers_are_much_like_the_published_tenth_of_them(self, fitted: Lifetime) -> None:
        assert fitted.orders(2, 30.43, 38.86) == pytest.approx(1.226, rel=0.05)
        assert fitted.p == pytest.approx(6.25, rel=0.05)
        assert fitted.value(0, 0.0) == pytest.approx(CDNOW.value(0, 0.0), rel=0.05)
        assert fitted.buyers == 23_570
