from __future__ import annotations

from typing import Any

import pytest

from journey.aggregates import MOST_ORDERS, net_orders, order_gap, revenue_of
from journey.entries import encode
from journey.events import DAY, GREATEST, HOUR, MINUTE
from journey.features import features
from tests.factories import NOON, Story, item


@pytest.fixture
def story() -> Story:
    return Story()


def net(story: Story) -> int:
    return net_orders(story.customer)


def revenue(story: Story) -> Any:
    return features(story.customer, story.now)["orders.revenue_minor"]


class TestRevenue:
    # each names more than one source of revenue, but for the last; the first that is told counts
    @pytest.mark.parametrize(
        ("told", "counted"),
        [
            ({"revenue_minor": 1, "subtotal_minor": 2, "total_minor": 3}, 1),
            ({"revenue_minor": 0, "subtotal_minor": 2}, 0),
            ({"subtotal_minor": 2, "total_minor": 30}, 2),
            ({"total_minor": 30, "shipping_minor": 5, "tax_minor": 4, "items": [item(price=9)]}, 21),
            ({"total_minor": 30, "tax_minor": 4}, 26),
            ({"total_minor": 30}, 30),
            ({"items": [item("a", 10, 3), item("b", 5)], "discount_minor": 7, "value_minor": 99}, 28),
            ({"items": [item("a", 10), item("b")]}, None),
            ({"items": []}, None),
            ({"value_minor": 99}, None),
            ({}, None),
        ],
    )
    def test_the_first_that_is_told_counts(self, told: dict[str, Any], counted: int | None) -> None:
        assert revenue_of(told) == counted

    def test_more_than_any_shop_sells_is_unknown(self) -> None:
        assert revenue_of({"items": [item("a", GREATEST, 2)]}) is None

    def test_an_order_without_an_amount_counts_and_its_revenue_is_unknown(self, story: Story) -> None:
        story.orders(revenue=None)
        assert net(story) == 1
        assert revenue(story) is None

    def test_revenue_is_kept_by_currency_and_shown_in_the_one_most_was_spent_in(self, story: Story) -> None:
        story.orders("o-1", 1000)
        story.does("purchase.order_completed", order_id="o-2", revenue_minor=5000, currency="USD")
        story.does("purchase.order_completed", order_id="o-3", revenue_minor=70)
        assert story.customer["orders"]["revenue"] == {"EUR": 1000, "USD": 5000, "XXX": 70}
        shown = features(story.customer, story.now)
        assert (shown["orders.currency"], shown["orders.revenue_minor"]) == ("USD", 5000)

    def test_sums_stay_whole_numbers_that_others_can_read(self, story: Story) -> None:
        for number in range(3):
            story.orders(f"o-{number}", GREATEST)
        story.does("purchase.order_refunded", order_id="o-0", refund_minor=GREATEST)
        assert story.customer["orders"]["revenue"] == {"EUR": GREATEST}
        assert encode(story.customer)


class TestUpdates:
    def test_an_update_changes_the_revenue(self, story: Story) -> None:
        story.orders("o-1", 1000)
        story.does("purchase.order_updated", order_id="o-1", revenue_minor=700, currency="EUR", after=1)
        assert (net(story), revenue(story)) == (1, 700)

    def test_an_older_update_does_not(self, story: Story) -> None:
        story.orders("o-1", 1000, after=HOUR)
        story.does("purchase.order_updated", order_id="o-1", revenue_minor=700, ago=MINUTE, currency="EUR")
        assert revenue(story) == 1000

    def test_an_order_completed_again_acts_as_an_update(self, story: Story) -> None:
        story.orders("o-1", 1000)
        story.orders("o-1", 800, after=DAY)
        orders = story.customer["orders"]
        assert (orders["completed"], orders["first"], orders["last"]) == (1, NOON, NOON)
        assert revenue(story) == 800

    def test_an_update_alone_is_no_order(self, story: Story) -> None:
        story.does("purchase.order_updated", order_id="o-1", revenue_minor=700, currency="EUR")
        assert (net(story), revenue(story)) == (0, None)
        assert story.depth == 0

    def test_but_its_amount_counts_once_the_order_comes(self, story: Story) -> None:
        story.does("purchase.order_updated", order_id="o-1", revenue_minor=700, currency="EUR", after=MINUTE)
        story.orders("o-1", 1000, after=1, ago=MINUTE)
        assert (net(story), revenue(story)) == (1, 700)

    @pytest.mark.parametrize("amounts", [(700, 900), (900, 700)])
    def test_of_two_amounts_of_one_moment_the_higher_counts(self, story: Story, amounts: tuple[int, int]) -> None:
        story.orders("o-1", None)
        for amount in amounts:
            story.does("purchase.order_updated", order_id="o-1", revenue_minor=amount, currency="EUR")
        assert revenue(story) == 900


class TestCancellations:
    def test_a_cancelled_order_does_not_count(self, story: Story) -> None:
        story.orders("o-1", 1000)
        story.orders("o-2", 500, after=1)
        story.does("purchase.order_cancelled", order_id="o-1", after=1)
        assert (net(story), revenue(story)) == (1, 500)
        assert story.customer["orders"]["cancelled"] == 1

    def test_neither_twice(self, story: Story) -> None:
        story.orders("o-1")
        story.does("purchase.order_cancelled", order_id="o-1")
        story.does("purchase.order_cancelled", order_id="o-1")
        assert net(story) == 0

    def test_nor_when_it_is_cancelled_before_we_hear_of_it(self, story: Story) -> None:
        story.does("purchase.order_cancelled", order_id="o-1")
        assert net(story) == 0
        story.orders("o-1")
        assert net(story) == 0
        assert features(story.customer, story.now)["orders.frequency_30d"] == 0.0

    def test_its_frequency_is_taken_back(self, story: Story) -> None:
        story.orders("o-1")
        assert features(story.customer, story.now)["orders.frequency_90d"] == 1.0
        story.does("purchase.order_cancelled", order_id="o-1", after=DAY)
        assert features(story.customer, story.now)["orders.frequency_90d"] == 0.0


class TestRefunds:
    def test_a_part_is_less_revenue_and_still_an_order(self, story: Story) -> None:
        story.orders("o-1", 1000)
        story.does("purchase.order_refunded", order_id="o-1", refund_minor=300)
        assert (net(story), revenue(story)) == (1, 700)

    def test_parts_add_up_until_all_is_given_back(self, story: Story) -> None:
        story.orders("o-1", 1000)
        story.does("purchase.order_refunded", order_id="o-1", refund_minor=600)
        story.does("purchase.order_refunded", order_id="o-1", refund_minor=400)
        assert (net(story), revenue(story)) == (0, 0)

    def test_without_an_amount_all_of_it(self, story: Story) -> None:
        story.orders("o-1", 1000)
        story.does("purchase.order_refunded", order_id="o-1")
        assert (net(story), revenue(story)) == (0, 0)

    def test_never_more_than_was_paid(self, story: Story) -> None:
        story.orders("o-1", 1000)
        story.does("purchase.order_refunded", order_id="o-1", refund_minor=5000)
        assert revenue(story) == 0

    @pytest.mark.parametrize(("amount", "left"), [({"refund_minor": 300}, (1, 700)), ({}, (0, 0))])
    def test_also_when_the_refund_comes_first(
        self, story: Story, amount: dict[str, Any], left: tuple[int, int]
    ) -> None:
        story.does("purchase.order_refunded", order_id="o-1", **amount)
        story.orders("o-1", 1000)
        assert (net(story), revenue(story)) == left

    def test_a_free_order_is_refunded_only_in_words(self, story: Story) -> None:
        story.orders("o-1", 0)
        story.does("purchase.order_refunded", order_id="o-1", refund_minor=0)
        assert net(story) == 1
        story.does("purchase.order_refunded", order_id="o-1")
        assert net(story) == 0

    def test_of_an_order_of_unknown_worth_a_part_stays_an_order(self, story: Story) -> None:
        story.orders("o-1", None)
        story.does("purchase.order_refunded", order_id="o-1", refund_minor=300)
        assert (net(story), revenue(story)) == (1, None)

    def test_a_cancelled_order_is_not_taken_away_twice(self, story: Story) -> None:
        story.orders("o-1", 1000)
        story.orders("o-2", 500)
        story.does("purchase.order_refunded", order_id="o-1")
        story.does("purchase.order_cancelled", order_id="o-1")
        assert (net(story), revenue(story)) == (1, 500)


class TestBook:
    def test_sixteen_orders_are_remembered_by_id(self, story: Story) -> None:
        for number in range(MOST_ORDERS + 4):
            story.orders(f"o-{number:02d}", 100, after=DAY)
        assert sorted(story.customer["orders"]["book"]) == [f"o-{number:02d}" for number in range(4, 20)]
        assert (net(story), revenue(story)) == (20, 2000)

    def test_an_older_one_can_no_longer_be_undone(self, story: Story) -> None:
        for number in range(MOST_ORDERS + 1):
            story.orders(f"o-{number:02d}", 100, after=DAY)
        story.does("purchase.order_cancelled", order_id="o-00", after=DAY)
        assert net(story) == 17
        story.does("purchase.order_cancelled", order_id="o-02", after=1)
        assert net(story) == 16

    def test_a_change_keeps_an_order_in_the_book(self, story: Story) -> None:
        for number in range(MOST_ORDERS):
            story.orders(f"o-{number:02d}", 100, after=DAY)
        story.does("purchase.order_updated", order_id="o-00", after=DAY)
        story.orders("o-16", 100, after=DAY)
        assert "o-00" in story.customer["orders"]["book"]
        assert "o-01" not in story.customer["orders"]["book"]


class TestRhythm:
    def test_there_is_none_before_the_second_order(self, story: Story) -> None:
        assert order_gap_of(story) is None
        story.orders("o-1")
        assert order_gap_of(story) is None

    def test_it_is_the_mean_of_the_days_between_orders_in_any_order(self, story: Story) -> None:
        story.orders("o-1", after=100 * DAY)
        story.orders("o-2", ago=30 * DAY)
        story.orders("o-3", ago=10 * DAY)
        assert order_gap_of(story) == 15.0


def order_gap_of(story: Story) -> float | None:
    return order_gap(story.customer) if story.shard.customer("u:1") else None
