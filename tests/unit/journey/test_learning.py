from __future__ import annotations

import math
from typing import Any

import pytest

from journey import learning
from journey.events import DAY, HOUR, MINUTE
from journey.models.logistic import Logistic
from journey.samples import CHURN_HORIZON, SCHEMAS, position_of
from journey.scoring import Library
from tests.factories import NOON, Story, item

WEEK = 7 * DAY


@pytest.fixture
def story() -> Story:
    return Story()


def samples(story: Story, family: str, kind: str | None = None) -> list[dict[str, Any]]:
    return [one for _, one in story.shard.samples if one["model"] == family and kind in (None, one["kind"])]


def buys(story: Story, order: str, *, after: int = 0, revenue: int = 2500, **data: Any) -> None:
    story.orders(order, revenue, after=after, items=[item("tea", 1500), item("cup", 1000)], **data)


def adopt(story: Story, slot: str, payload: dict[str, Any], version: int = 1, replaces: int | None = None) -> None:
    sha256 = f"{version:02x}" * 32
    story.shard.library.add(slot, version, sha256, payload)
    entry: Any = {
        "k": "adopt", "at": 0, "src": ["journey.control", 0, version], "slot": slot, "model": slot,
        "version": version, "replaces": replaces, "sha256": sha256,
    }  # fmt: skip
    story.tell(entry)


def classifier(slot: str, *, trust: str = "trusted", p: float = 0.7, theta: float | None = 0.5) -> dict[str, Any]:
    """Return a payload that says p of everybody."""
    state = Logistic(SCHEMAS[f"{slot}/1"]).state() | {"intercept": math.log(p / (1 - p))}
    fallback = {"class": "rate/1", "n": 10, "happened": 3}
    return {
        "class": "logistic/1", "schema": f"{slot}/1", "names": list(SCHEMAS[f"{slot}/1"]), "state": state,
        "fallback": fallback, "trust": trust, "labels": 812, "theta": theta, "second_gap_days": 20.0, "metrics": {},
    }  # fmt: skip


class TestChurn:
    def test_a_buyer_of_one_order_is_looked_at_but_not_scored(self, story: Story) -> None:
        buys(story, "o-1")
        story.waits(WEEK)
        assert "waiting" not in story.customer
        assert samples(story, "value") != []

    def test_from_the_second_order_on_a_row_is_frozen_once_a_week(self, story: Story) -> None:
        buys(story, "o-1")
        buys(story, "o-2", after=3 * DAY)
        story.waits(5 * DAY)
        (row,) = story.customer["waiting"]
        assert row[0] == story.now
        assert row[2:5] == [None, None, None]  # no model is in force
        assert len(row[1]) == len(SCHEMAS["churn/1"])
        story.waits(WEEK)
        assert len(story.customer["waiting"]) == 2

    def test_beyond_sixty_days_the_rule_of_lapse_decides_and_no_row_is_frozen(self, story: Story) -> None:
        buys(story, "o-1")
        buys(story, "o-2", after=DAY)
        story.waits(61 * DAY)
        assert "waiting" not in story.customer

    def test_the_label_waits_for_the_whole_horizon_also_when_it_is_known(self, story: Story) -> None:
        buys(story, "o-1")
        buys(story, "o-2", after=DAY)
        story.waits(6 * DAY)  # the weekly look
        scored_at = story.now
        buys(story, "o-3", after=2 * DAY)
        assert samples(story, "churn", "label") == []
        story.waits(CHURN_HORIZON - 2 * DAY - 1)
        assert samples(story, "churn", "label") == []
        story.waits(1)
        (label,) = samples(story, "churn", "label")
        assert (label["y"], label["scored_at"], label["due_at"]) == (0, scored_at, scored_at + CHURN_HORIZON)
        assert label["spent"] == 25.0

    def test_who_orders_nothing_in_the_horizon_has_churned(self, story: Story) -> None:
        buys(story, "o-1")
        buys(story, "o-2", after=DAY)
        story.waits(6 * DAY)
        story.waits(CHURN_HORIZON)
        first = samples(story, "churn", "label")[0]
        assert (first["y"], first["spent"]) == (1, 0.0)

    def test_an_order_that_comes_after_the_horizon_has_ended_changes_no_label(self, story: Story) -> None:
        buys(story, "o-1")
        buys(story, "o-2", after=DAY)
        story.waits(6 * DAY)
        # its reception passes the end of the horizon: the timer fires before it is folded
        buys(story, "o-3", after=CHURN_HORIZON, ago=DAY)
        assert samples(story, "churn", "label")[0]["y"] == 1

    def test_at_most_five_rows_wait(self, story: Story) -> None:
        buys(story, "o-1")
        for week in range(20):
            buys(story, f"o-{week + 2}", after=WEEK)
            assert len(story.customer.get("waiting", ())) <= 5

    def test_the_gap_to_the_second_order_is_told_once(self, story: Story) -> None:
        for number in range(4):
            buys(story, f"o-{number}", after=5 * DAY)
        assert [one["x"] for one in samples(story, "churn", "observe")] == [[5.0]]

    def test_a_cancelled_order_is_taken_out_of_the_money_of_late(self, story: Story) -> None:
        buys(story, "o-1")
        buys(story, "o-2", after=DAY)
        before = learning.churn_row(story.customer, story.now)
        story.does("purchase.order_cancelled", order_id="o-2")
        after = learning.churn_row(story.customer, story.now)
        m30 = SCHEMAS["churn/1"].index("m30")
        assert math.expm1(after[m30]) == pytest.approx(math.expm1(before[m30]) - 25.0, abs=0.1)
        assert story.customer["rhythm"]["paid"] == 25.0

    def test_money_is_seen_in_major_units_of_its_currency(self) -> None:
        assert (learning.major(2500, "EUR"), learning.major(2500, "JPY"), learning.major(2500, "KWD")) == (
            25,
            2500,
            2.5,
        )


class TestAskedModels:
    def test_below_trusted_the_engine_abstains_and_still_keeps_what_was_said(self, story: Story) -> None:
        adopt(story, "churn", classifier("churn", trust="shadow"))
        buys(story, "o-1")
        buys(story, "o-2", after=DAY)
        story.waits(6 * DAY)
        assert story.customer["scores"]["churn"] == [None, 1, 812, story.now]
        assert story.customer["waiting"][0][2:5] == [0.7, 0.318182, 1]

    def test_a_trusted_score_moves_somebody_to_at_risk_and_says_why(self, story: Story) -> None:
        adopt(story, "churn", classifier("churn"))
        buys(story, "o-1")
        buys(story, "o-2", after=DAY)
        story.waits(6 * DAY)
        assert story.vitality == "at_risk"
        # the stage keeps its name, so nothing is told: vitality alone is no stage
        assert story.customer["scores"]["churn"][0] == 0.7

    def test_a_score_below_theta_keeps_active_whatever_the_rule_of_gaps_says(self, story: Story) -> None:
        adopt(story, "churn", classifier("churn", p=0.1))
        buys(story, "o-1")
        buys(story, "o-2", after=DAY)
        story.waits(27 * DAY)
        assert story.vitality == "active"

    def test_two_low_scores_in_a_row_make_active_again(self, story: Story) -> None:
        adopt(story, "churn", classifier("churn", p=0.9))
        buys(story, "o-1")
        buys(story, "o-2", after=DAY)
        story.waits(6 * DAY)
        assert story.vitality == "at_risk"
        adopt(story, "churn", classifier("churn", p=0.1), version=2, replaces=1)
        story.waits(WEEK)
        assert story.vitality == "at_risk"
        story.waits(WEEK)
        assert story.vitality == "active"

    def test_an_adoption_that_does_not_replace_what_is_in_force_changes_nothing(self, story: Story) -> None:
        adopt(story, "churn", classifier("churn"))
        adopt(story, "churn", classifier("churn", p=0.2), version=3, replaces=2)
        assert story.shard.partition["models"]["churn"][1] == 1
        assert story.shard.counts["adopted"] == 1

    def test_an_adoption_moves_no_time(self, story: Story) -> None:
        story.views()
        before = story.shard.partition["now"]
        adopt(story, "churn", classifier("churn"))
        assert story.shard.partition["now"] == before

    def test_a_library_is_shared_and_starts_empty(self) -> None:
        assert not Library().has("churn", 1, "00")


class TestIntent:
    def test_the_second_and_sixth_look_with_nothing_in_the_cart_are_points(self, story: Story) -> None:
        points = []
        for look in range(8):
            story.views(f"p-{look}", after=MINUTE)
            points.append(len(story.customer.get("visit", ())))
        assert points == [0, 1, 1, 1, 1, 2, 2, 2]

    def test_the_first_cart_is_a_point_and_ends_those_of_looks(self, story: Story) -> None:
        story.views(after=MINUTE)
        story.adds(after=MINUTE)
        story.views(after=MINUTE)
        story.adds("p-2", after=MINUTE)
        assert len(story.customer["visit"]) == 1

    def test_all_labels_of_a_visit_come_when_it_ends(self, story: Story) -> None:
        story.views(after=MINUTE)
        story.views(after=MINUTE)
        story.adds(after=MINUTE)
        buys(story, "o-1", after=MINUTE)
        story.waits(30 * MINUTE)
        assert samples(story, "intent") == []
        story.waits(1)
        assert [one["y"] for one in samples(story, "intent")] == [1, 1]
        assert "visit" not in story.customer

    def test_a_visit_that_goes_on_keeps_its_rows(self, story: Story) -> None:
        story.views(after=MINUTE)
        story.views(after=MINUTE)
        story.views(after=29 * MINUTE)
        story.waits(10 * MINUTE)
        assert samples(story, "intent") == []
        story.waits(HOUR)
        assert [one["y"] for one in samples(story, "intent")] == [0]

    def test_an_order_of_the_next_visit_is_none_of_this_one(self, story: Story) -> None:
        story.views(after=MINUTE)
        story.views(after=MINUTE)
        buys(story, "o-1", after=HOUR)
        assert [one["y"] for one in samples(story, "intent")] == [0]

    def test_a_look_at_the_same_item_and_category_shows_in_the_row(self, story: Story) -> None:
        for _ in range(2):
            story.does("click.product_viewed", item={"item_id": "p-1", "category": "tea"}, after=MINUTE)
        row = dict(zip(SCHEMAS["intent/1"], story.customer["visit"][0][2], strict=True))
        assert (row["again"], row["focus"], row["carts"]) == (2.0, 1.0, 0.0)
        assert row["rec_buy"] == learning.rounded(math.log1p(365.0))


class TestSegments:
    def test_about_one_event_in_eight_is_observed_by_the_hash_of_its_id(self, story: Story) -> None:
        for _ in range(800):
            story.views(after=MINUTE)
        assert 60 <= len(samples(story, "segments")) <= 140

    def test_somebody_is_assigned_by_prototypes_until_a_model_is_in_force_and_nothing_is_told(
        self, story: Story
    ) -> None:
        for _ in range(40):
            story.views(after=MINUTE)
        assert story.customer["segment"]["version"] == 0
        assert not [one for one in story.triggers if one.body["type"] == "journey.segment_changed.v1"]

    def test_a_quiet_customer_is_looked_at_after_1_7_28_and_90_days_and_no_more(self, story: Story) -> None:
        story.views()
        while "segment" not in story.customer:
            story.views(after=MINUTE)
        begin, looked = story.now, []
        for day in range(1, 120):
            before = story.customer["segment"]["looks"]
            story.waits(DAY)
            if story.customer["segment"]["looks"] > before:
                looked.append(day)
        assert looked == [1, 7, 28, 90]
        assert "segment" not in story.customer["timers"]
        assert story.now - begin == 119 * DAY


class TestSamples:
    def test_samples_of_one_entry_are_numbered_and_positions_rise(self, story: Story) -> None:
        for key in ("u:1", "u:2", "u:3"):
            story.key = key
            buys(story, f"o-{key}")
            buys(story, f"p-{key}")
        story.waits(WEEK)  # one tick fires all their timers
        places = [position_of(one) for _, one in story.shard.samples]
        assert places == sorted(places)
        assert len(set(places)) == len(places)
        assert [place[2] for place in places if place[1] == places[-1][1]] == list(
            range(sum(place[1] == places[-1][1] for place in places))
        )

    def test_a_sample_names_no_customer(self, story: Story) -> None:
        buys(story, "o-1")
        buys(story, "o-2", after=DAY)
        story.waits(6 * DAY)
        story.waits(CHURN_HORIZON)
        assert all("u:1" not in repr(one) for _, one in story.shard.samples)

    def test_what_the_customer_liked_is_told_as_of_before_the_order(self, story: Story) -> None:
        buys(story, "o-1")
        buys(story, "o-2", after=DAY)
        first, second = samples(story, "recs")
        assert first["profile"] == []
        assert [name for name, _ in second["profile"]] == ["cup", "tea"]
        assert [row[0] for row in second["items"]] == ["cup", "tea"]

    def test_noon_is_noon(self) -> None:
        story = Story()
        story.views(after=0)
        story.views(after=0)
        row = dict(zip(SCHEMAS["intent/1"], story.customer["visit"][0][2], strict=True))
        assert (row["hour_sin"], row["hour_cos"]) == (0.0, -1.0)
        assert story.now == NOON
