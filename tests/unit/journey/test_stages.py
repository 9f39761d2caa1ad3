from __future__ import annotations

from typing import Any

import pytest

from journey.events import DAY, HOUR, MINUTE
from journey.stages import (
    ADVOCACY,
    AWARENESS,
    EVALUATION,
    INTEREST,
    LEGAL,
    LOYALTY,
    NAMES,
    PURCHASE,
    USE,
    name_of,
    stage_name,
)
from journey.triggers import STAGE_CHANGED
from tests.factories import NOON, Story, item, of_type
from tests.schemas.catalogue import validator

WEEK = 7 * DAY


@pytest.fixture
def story() -> Story:
    return Story()


def loyal() -> Story:
    """Return somebody with four orders within 62 days."""
    story = Story()
    for number, after in enumerate((0, 25, 20, 17)):
        story.orders(f"o-{number}", after=after * DAY)
    assert story.depth == LOYALTY
    return story


def advocate(gap: int = 10, count: int = 2) -> Story:
    """Return somebody who ordered every ``gap`` days, and then praised the shop."""
    story = Story()
    for number in range(count):
        story.orders(f"o-{number}", after=gap * DAY)
    story.does("click.product_reviewed", item=item(), rating=5, after=HOUR)
    assert story.depth == ADVOCACY
    return story


def cancels(story: Story, order_id: str = "o-0") -> None:
    story.does("purchase.order_cancelled", order_id=order_id, after=1)


class TestTheTable:
    def test_it_is_the_published_one(self) -> None:
        ups = {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3), (3, 4), (4, 5), (4, 6), (5, 6)}
        downs = {(2, 1), (1, 0), (3, 2), (4, 3), (5, 3), (5, 4), (6, 3), (6, 4), (6, 5)}
        assert ups | downs == LEGAL

    def test_advocates_are_told_as_loyal_and_the_lapsed_as_churn(self) -> None:
        assert [name_of(depth, "active") for depth in range(7)] == list(NAMES)
        assert NAMES[ADVOCACY] == NAMES[LOYALTY] == "loyalty"
        assert {name_of(depth, "at_risk") for depth in range(7)} == set(NAMES)
        assert {name_of(depth, "lapsed") for depth in range(7)} == {"churn"}


class TestAwareness:
    @pytest.mark.parametrize(
        ("type_", "data"),
        [
            ("click.page_viewed", {}),
            ("feedback.delivered", {"channel": "email"}),
            ("cart.cart_viewed", {}),
            ("profile.alias", {"previous_id": "9"}),
        ],
    )
    def test_it_begins_with_the_first_event_of_any_kind(self, story: Story, type_: str, data: dict[str, Any]) -> None:
        story.does(type_, **data)
        assert story.moves()[0] == (None, "awareness")

    def test_it_is_told_once(self, story: Story) -> None:
        story.does("click.page_viewed")
        story.does("click.page_viewed", after=1)
        assert story.moves() == [(None, "awareness")]

    def test_a_skipped_stage_is_told_as_one_move(self, story: Story) -> None:
        story.orders()
        assert story.moves() == [(None, "awareness"), ("awareness", "purchase")]


class TestInterest:
    def test_two_looks_at_products_are_not_enough(self, story: Story) -> None:
        story.views("p-1")
        story.views("p-2", after=1)
        assert story.depth == AWARENESS

    def test_three_in_a_visit_are(self, story: Story) -> None:
        for name in ("p-1", "p-2", "p-3"):
            story.views(name, after=1)
        assert story.depth == INTEREST
        assert story.moves()[-1] == ("awareness", "interest")

    def test_two_visits_in_thirty_days_are(self, story: Story) -> None:
        story.does("click.page_viewed")
        story.does("click.page_viewed", after=30 * DAY - 1)
        assert story.depth == INTEREST

    def test_thirty_days_apart_they_are_not(self, story: Story) -> None:
        story.does("click.page_viewed")
        story.does("click.page_viewed", after=30 * DAY)
        assert story.depth == AWARENESS

    def test_a_sign_up_is(self, story: Story) -> None:
        story.does("profile.identify", traits={})
        assert story.depth == INTEREST

    def test_a_consent_is_a_denial_is_not(self, story: Story) -> None:
        story.does("profile.consent", scopes={"marketing": "denied"})
        assert story.depth == AWARENESS
        story.does("profile.consent", scopes={"marketing": "granted"}, after=1)
        assert story.depth == INTEREST

    def test_it_ends_after_exactly_sixty_days_without_any_event(self, story: Story) -> None:
        story.does("profile.identify", traits={})
        story.waits(60 * DAY - 1)
        assert story.depth == INTEREST
        story.waits(1)
        assert story.depth == AWARENESS
        assert story.moves()[-1] == ("interest", "awareness")

    def test_every_event_begins_the_sixty_days_anew(self, story: Story) -> None:
        story.does("profile.identify", traits={})
        story.does("feedback.delivered", channel="email", after=59 * DAY)
        story.waits(59 * DAY)
        assert story.depth == INTEREST

    def test_a_mail_that_arrives_long_after_is_no_interest(self, story: Story) -> None:
        for name in ("p-1", "p-2", "p-3"):
            story.views(name, after=1)
        story.does("profile.identify", traits={})
        story.waits(60 * DAY)
        story.does("feedback.delivered", channel="email", after=1)
        assert story.depth == AWARENESS


class TestEvaluation:
    @pytest.mark.parametrize(
        ("type_", "data"),
        [
            ("cart.product_added", {"item": item()}),
            ("cart.checkout_started", {}),
            ("click.product_added_to_wishlist", {"item": item()}),
        ],
    )
    def test_cart_checkout_and_wish_list_are_a_closer_look(
        self, story: Story, type_: str, data: dict[str, Any]
    ) -> None:
        story.does(type_, **data)
        assert story.depth == EVALUATION

    def test_also_of_somebody_interested(self, story: Story) -> None:
        story.does("profile.identify", traits={})
        story.adds(after=1)
        assert story.moves() == [(None, "awareness"), ("awareness", "interest"), ("interest", "evaluation")]

    def test_so_is_the_same_item_in_two_visits_within_a_week(self, story: Story) -> None:
        story.views("p-1")
        story.views("p-1", after=WEEK)
        assert story.depth == EVALUATION

    def test_not_after_more_than_a_week(self, story: Story) -> None:
        story.views("p-1")
        story.views("p-1", after=WEEK + 1)
        assert story.depth == INTEREST

    def test_not_in_the_same_visit(self, story: Story) -> None:
        story.views("p-1")
        story.views("p-1", after=MINUTE)
        assert story.depth == AWARENESS

    def test_it_ends_after_exactly_thirty_days_without_a_cart(self, story: Story) -> None:
        story.adds()
        story.does("click.page_viewed", after=29 * DAY)
        story.waits(DAY - 1)
        assert story.depth == EVALUATION
        story.waits(1)
        assert story.depth == INTEREST
        assert story.moves()[-1] == ("evaluation", "interest")

    def test_a_look_at_an_item_of_the_cart_begins_them_anew(self, story: Story) -> None:
        story.adds("p-1")
        story.views("p-1", after=29 * DAY)
        story.waits(29 * DAY)
        assert story.depth == EVALUATION

    def test_a_look_at_another_item_does_not(self, story: Story) -> None:
        story.adds("p-1")
        story.views("p-2", after=29 * DAY)
        story.waits(DAY)
        assert story.depth == INTEREST

    def test_one_tick_may_carry_somebody_back_to_where_they_began(self, story: Story) -> None:
        story.adds()
        story.waits(89 * DAY)
        assert story.depth == AWARENESS
        assert story.moves()[-2:] == [("evaluation", "interest"), ("interest", "awareness")]


class TestPurchase:
    @pytest.mark.parametrize("before", ["awareness", "interest", "evaluation"])
    def test_the_first_order_leads_there_from_everywhere_below(self, story: Story, before: str) -> None:
        if before == "interest":
            story.does("profile.identify", traits={})
        elif before == "evaluation":
            story.adds()
        story.orders(after=1)
        assert story.depth == PURCHASE
        assert story.moves()[-1] == (before, "purchase")

    def test_an_update_does_not(self, story: Story) -> None:
        story.does("purchase.order_updated", order_id="o-1")
        assert story.depth == AWARENESS

    @pytest.mark.parametrize("undo", ["purchase.order_cancelled", "purchase.order_refunded"])
    def test_undoing_the_only_order_leads_back_to_evaluation(self, story: Story, undo: str) -> None:
        story.orders("o-1")
        story.does(undo, order_id="o-1", after=1)
        assert story.depth == EVALUATION
        assert story.moves()[-1] == ("purchase", "evaluation")

    def test_giving_back_a_part_does_not(self, story: Story) -> None:
        story.orders("o-1", 1000)
        story.does("purchase.order_refunded", order_id="o-1", refund_minor=999, after=1)
        assert story.depth == PURCHASE


class TestUse:
    def test_the_second_order_leads_there(self, story: Story) -> None:
        story.orders("o-1")
        story.orders("o-2", after=1)
        assert story.depth == USE
        assert story.moves()[-1] == ("purchase", "use")

    def test_the_same_order_again_does_not(self, story: Story) -> None:
        story.orders("o-1")
        story.orders("o-1", after=1)
        assert story.depth == PURCHASE

    def test_so_does_use_on_three_days_within_a_fortnight(self, story: Story) -> None:
        story.orders("o-1")
        story.does("click.custom", name="exported", after=HOUR)
        story.does("click.custom", name="exported", after=HOUR)
        story.does("click.custom", name="exported", after=5 * DAY)
        assert story.depth == PURCHASE
        story.does("click.custom", name="exported", after=14 * DAY - 5 * DAY - 2 * HOUR)
        assert story.depth == USE

    def test_a_third_day_after_the_fortnight_is_too_late(self, story: Story) -> None:
        story.orders("o-1")
        for after in (DAY, DAY, 12 * DAY + 1):
            story.does("click.custom", name="exported", after=after)
        assert story.depth == PURCHASE

    def test_undoing_one_of_two_orders_leads_back(self, story: Story) -> None:
        story.orders("o-0")
        story.orders("o-1", after=1)
        cancels(story)
        assert story.depth == PURCHASE
        assert story.moves()[-1] == ("use", "purchase")

    def test_whoever_uses_it_stays_while_one_order_is_left(self, story: Story) -> None:
        story.orders("o-0")
        for _ in range(3):
            story.does("click.custom", name="exported", after=DAY)
        story.orders("o-1", after=1)
        cancels(story)
        assert story.depth == USE


class TestLoyalty:
    def test_four_orders_over_sixty_days_often_enough_lead_there(self) -> None:
        assert loyal().moves()[-1] == ("use", "loyalty")

    def test_three_do_not(self, story: Story) -> None:
        for number in range(3):
            story.orders(f"o-{number}", after=40 * DAY)
        assert story.depth == USE

    def test_four_within_less_than_sixty_days_do_not(self, story: Story) -> None:
        for number, after in enumerate((0, 20 * DAY, 20 * DAY, 20 * DAY - 1)):
            story.orders(f"o-{number}", after=after)
        assert story.depth == USE

    def test_exactly_sixty_days_do(self, story: Story) -> None:
        for number in range(4):
            story.orders(f"o-{number}", after=20 * DAY)
        assert story.depth == LOYALTY

    def test_four_too_long_ago_do_not(self, story: Story) -> None:
        for number in range(4):
            story.orders(f"o-{number}", after=200 * DAY)
        assert story.depth == USE

    def test_undoing_one_of_four_leads_back(self) -> None:
        story = loyal()
        cancels(story)
        assert story.depth == USE
        assert story.moves()[-1] == ("loyalty", "use")

    def test_an_update_that_leaves_an_order_fully_refunded_leads_back_too(self) -> None:
        story = loyal()
        story.does("purchase.order_refunded", order_id="o-0", refund_minor=500, after=1)
        assert story.depth == LOYALTY
        story.does("purchase.order_updated", order_id="o-0", revenue_minor=500, after=1)
        assert story.depth == USE

    def test_ordering_less_often_leads_back_at_a_weekly_look(self, story: Story) -> None:
        for number, after in enumerate((0, 200, 1, 1)):
            story.orders(f"o-{number}", after=after * DAY)
        assert story.depth == LOYALTY
        weeks = 0
        while story.depth == LOYALTY:
            story.waits(WEEK)
            weeks += 1
        assert weeks == 22  # 3.19 orders are less than one after 151 days, and 22 weeks are 154
        assert (story.depth, story.vitality) == (USE, "at_risk")
        assert story.moves()[-1] == ("loyalty", "use")

    def test_lapsing_leads_back_and_to_churn(self) -> None:
        story = loyal()
        story.waits(90 * DAY)
        assert (story.depth, story.vitality) == (USE, "lapsed")
        assert story.moves()[-1] == ("loyalty", "churn")


class TestAdvocacy:
    @pytest.mark.parametrize(
        ("type_", "data"),
        [
            ("click.product_reviewed", {"item": item(), "rating": 4}),
            ("feedback.satisfaction", {"channel": "email", "score": 9, "scale": [0, 10]}),
            ("feedback.satisfaction", {"channel": "email", "score": 5, "scale": [1, 5]}),
        ],
    )
    def test_praise_leads_there_and_is_told_as_loyalty(self, story: Story, type_: str, data: dict[str, Any]) -> None:
        story.orders("o-0")
        story.orders("o-1", after=1)
        (change,) = story.does(type_, after=1, **data)
        assert story.depth == ADVOCACY
        assert story.moves()[-1] == ("use", "loyalty")
        assert change.body["data"]["reason"]["text"] == "advocate"

    @pytest.mark.parametrize(
        ("type_", "data"),
        [
            ("click.product_reviewed", {"item": item(), "rating": 3.9}),
            ("click.product_reviewed", {"item": item()}),
            ("feedback.satisfaction", {"channel": "email", "score": 8.9, "scale": [0, 10]}),
            ("feedback.satisfaction", {"channel": "email", "score": 4.5, "scale": [1, 5]}),
            ("feedback.clicked", {"channel": "email"}),
        ],
    )
    def test_less_does_not(self, story: Story, type_: str, data: dict[str, Any]) -> None:
        story.orders("o-0")
        story.orders("o-1", after=1)
        story.does(type_, after=1, **data)
        assert story.depth == USE

    def test_neither_does_praise_of_somebody_with_one_order(self, story: Story) -> None:
        story.orders("o-0")
        story.does("click.product_reviewed", item=item(), rating=5, after=1)
        assert story.depth == PURCHASE

    def test_nor_of_somebody_who_has_lapsed(self, story: Story) -> None:
        story.orders("o-0")
        story.orders("o-1", after=1)
        story.waits(61 * DAY)
        story.does("feedback.satisfaction", channel="email", score=10, scale=[0, 10], after=1)
        assert (story.depth, story.vitality) == (USE, "lapsed")

    def test_from_loyalty_it_is_told_although_the_name_stays(self) -> None:
        story = loyal()
        story.does("click.product_reviewed", item=item(), rating=5, after=1)
        assert story.depth == ADVOCACY
        assert story.moves()[-1] == ("loyalty", "loyalty")

    def test_it_stays_while_two_orders_are_left(self) -> None:
        story = advocate(count=3)
        cancels(story)
        assert story.depth == ADVOCACY

    def test_undoing_all_but_one_leads_to_purchase(self) -> None:
        story = advocate()
        cancels(story)
        assert story.depth == PURCHASE
        assert story.moves()[-1] == ("loyalty", "purchase")

    def test_a_year_without_praise_leads_to_loyalty_if_it_holds(self) -> None:
        story = advocate(gap=20, count=5)
        praised = story.now
        for number in range(5, 23):
            story.orders(f"o-{number}", after=20 * DAY - (HOUR if number == 5 else 0))
        assert praised + 365 * DAY - story.now < 20 * DAY
        story.waits(praised + 365 * DAY - 1 - story.now)
        assert story.depth == ADVOCACY
        assert story.waits(1) == []  # the name is the same
        assert story.depth == LOYALTY

    def test_and_to_use_if_not(self) -> None:
        story = advocate(gap=100)
        for number in range(2, 5):
            story.orders(f"o-{number}", after=100 * DAY)
        story.waits(70 * DAY)
        assert (story.depth, story.vitality) == (USE, "active")
        assert story.moves()[-1] == ("loyalty", "use")

    def test_more_praise_begins_the_year_anew(self) -> None:
        story = advocate(gap=100)
        for number in range(2, 5):
            story.orders(f"o-{number}", after=100 * DAY)
        story.does("click.product_reviewed", item=item(), rating=5, after=1)
        story.waits(70 * DAY)
        assert story.depth == ADVOCACY

    def test_lapsing_leads_to_use(self) -> None:
        story = advocate()
        story.waits(61 * DAY)
        assert (story.depth, story.vitality) == (USE, "lapsed")
        assert story.moves()[-1] == ("loyalty", "churn")


class TestVitality:
    def test_one_order_is_at_risk_at_the_first_weekly_look_after_45_days(self, story: Story) -> None:
        story.orders()
        for _ in range(6):
            story.waits(WEEK)
        story.waits(WEEK - 1)
        assert story.vitality == "active"
        assert story.waits(1) == []  # the name of the stage is the same
        assert story.vitality == "at_risk"

    def test_a_weekly_look_at_exactly_twice_the_gap_is_not_yet_overdue(self, story: Story) -> None:
        story.orders("o-1")
        story.orders("o-2", after=6 * DAY)  # gap 6 days: overdue after more than 14
        weekly = story.customer["stage"]["weekly"]
        assert weekly == NOON + WEEK
        story.waits(NOON + 20 * DAY - story.now)
        assert story.vitality == "active"
        story.waits(DAY)
        assert story.vitality == "at_risk"

    def test_an_order_ends_the_risk(self, story: Story) -> None:
        story.orders("o-1")
        story.waits(49 * DAY)
        story.orders("o-2", after=1)
        assert story.vitality == "active"

    def test_a_look_does_not(self, story: Story) -> None:
        story.orders("o-1")
        story.waits(49 * DAY)
        story.views(after=1)
        assert story.vitality == "at_risk"

    def test_somebody_with_one_order_lapses_after_more_than_sixty_days(self, story: Story) -> None:
        story.orders()
        story.waits(60 * DAY)
        assert story.vitality == "at_risk"
        story.waits(1)
        assert story.vitality == "lapsed"
        assert story.moves()[-1] == ("purchase", "churn")

    def test_somebody_slow_after_more_than_four_of_their_gaps(self, story: Story) -> None:
        story.orders("o-1")
        story.orders("o-2", after=20 * DAY)
        story.waits(80 * DAY)
        assert story.vitality == "at_risk"
        story.waits(1)
        assert story.vitality == "lapsed"

    def test_a_prospect_after_exactly_ninety_days_without_an_event(self, story: Story) -> None:
        story.views()
        story.waits(90 * DAY - 1)
        assert story.vitality == "active"
        story.waits(1)
        assert (story.vitality, story.moves()[-1]) == ("lapsed", ("awareness", "churn"))

    def test_a_prospect_comes_back_with_any_event(self, story: Story) -> None:
        story.views()
        story.waits(90 * DAY)
        story.does("feedback.opened", channel="email", after=1)
        assert (story.vitality, story.moves()[-1]) == ("active", ("churn", "awareness"))

    @pytest.mark.parametrize(("type_", "data"), [("click.page_viewed", {}), ("cart.product_added", {"item": item()})])
    def test_a_buyer_comes_back_at_risk_with_a_click_or_a_cart(
        self, story: Story, type_: str, data: dict[str, Any]
    ) -> None:
        story.orders()
        story.waits(61 * DAY)
        story.does(type_, after=1, **data)
        assert (story.vitality, story.moves()[-1]) == ("at_risk", ("churn", "purchase"))

    @pytest.mark.parametrize(
        ("type_", "data"),
        [
            ("feedback.opened", {"channel": "email"}),
            ("profile.identify", {"traits": {}}),
            ("purchase.order_updated", {"order_id": "o-1"}),
        ],
    )
    def test_not_with_anything_else(self, story: Story, type_: str, data: dict[str, Any]) -> None:
        story.orders()
        story.waits(61 * DAY)
        assert story.does(type_, after=1, **data) == []
        assert story.vitality == "lapsed"

    def test_an_order_brings_a_buyer_back_at_once(self, story: Story) -> None:
        story.orders("o-1")
        story.waits(61 * DAY)
        story.orders("o-2", after=1)
        assert (story.vitality, story.depth) == ("active", USE)
        assert story.moves()[-1] == ("churn", "use")
        assert story.triggers[-1].body["data"]["reason"]["text"] == "ordered again; ordered again"

    def test_whoever_came_back_has_sixty_days_for_an_order(self, story: Story) -> None:
        story.orders()
        story.waits(61 * DAY)
        story.views(after=DAY)
        story.waits(60 * DAY)
        assert story.vitality == "at_risk"
        story.waits(1)
        assert story.vitality == "lapsed"

    def test_a_weekly_look_is_taken_as_long_as_somebody_has_not_lapsed(self, story: Story) -> None:
        story.orders()
        assert story.customer["stage"]["weekly"] == NOON + WEEK
        story.waits(10 * DAY)
        assert story.customer["stage"]["weekly"] == NOON + 2 * WEEK
        story.waits(60 * DAY)
        assert "weekly" not in story.customer["stage"]
        assert story.customer["timers"].keys() == {"score"}  # whoever has left is still counted for lifetime value


class TestWhatIsTold:
    def test_a_change_names_its_cause_and_its_facts(self, story: Story) -> None:
        _, change = story.orders("o-1", id_="m-1")
        assert change.key == "u:1"
        assert change.body["causationid"] == "m-1"
        reason = change.body["data"]["reason"]
        assert reason["causes"] == [
            {"message_id": "m-1", "type": "purchase.order_completed", "src": ["events.purchase", 0, 0]}
        ]
        assert reason["facts"] == {
            "depth": PURCHASE, "vitality": "active", "orders.net": 1, "orders.last_at": NOON, "session.count": 1,
        }  # fmt: skip
        assert change.body["time"] == "2026-06-01T12:00:00.000Z"

    def test_a_change_by_time_names_the_moment_it_was_due(self, story: Story) -> None:
        story.adds()
        (change,) = story.waits(30 * DAY + HOUR)
        assert change.body["causationid"] == f"timer:{NOON + 30 * DAY}"
        assert change.body["data"]["reason"]["causes"] == []
        assert change.body["time"] == "2026-07-01T13:00:00.000Z"

    def test_whatever_is_told_fits_its_schema(self) -> None:
        story = loyal()
        story.does("click.product_reviewed", item=item(), rating=5, after=1)
        story.waits(500 * DAY)
        story.does("click.page_viewed", key="a:9f3c")
        assert len(of_type(story.triggers, STAGE_CHANGED)) > 6
        for change in story.triggers:
            validator("journey.trigger.v1").validate(change.body)

    def test_no_change_is_told_of_history(self, story: Story) -> None:
        assert story.orders(historical=True) == []
        assert story.waits(70 * DAY) == []
        assert (story.depth, stage_name(story.customer)) == (PURCHASE, "churn")

    def test_the_first_live_event_after_an_import_begins_where_it_left(self, story: Story) -> None:
        story.orders("o-1", historical=True)
        story.orders("o-2", after=1)
        assert story.moves() == [("purchase", "use")]
