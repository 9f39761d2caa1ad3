from __future__ import annotations

import pytest

from journey.aggregates import MOST_LINES, cart_lines, cart_value, is_in_cart
from journey.entries import encode
from journey.events import DAY, GREATEST, HOUR, MINUTE
from tests.factories import Story, item


@pytest.fixture
def story() -> Story:
    return Story()


def lines(story: Story) -> dict[str, int]:
    return {name: quantity for name, quantity, _ in cart_lines(story.customer)}


def cart_id(story: Story) -> str:
    name: str = story.customer["cart"]["id"]
    return name


class TestLines:
    def test_what_is_added_is_in_the_cart_once_if_nothing_else_is_told(self, story: Story) -> None:
        story.adds("p-1")
        story.adds("p-2", quantity=3)
        assert lines(story) == {"p-1": 1, "p-2": 3}

    def test_adding_again_adds_up(self, story: Story) -> None:
        story.adds("p-1")
        story.adds("p-1", quantity=2, after=1)
        assert lines(story) == {"p-1": 3}

    def test_what_is_removed_is_gone(self, story: Story) -> None:
        story.adds("p-1", quantity=2)
        story.removes("p-1", after=1)
        assert lines(story) == {"p-1": 1}
        story.removes("p-1", after=1)
        assert lines(story) == {}
        assert not is_in_cart(story.customer, "p-1")

    def test_a_removal_that_overtakes_its_addition_still_takes_it_out(self, story: Story) -> None:
        story.removes("p-1", after=MINUTE)
        assert lines(story) == {}
        story.adds("p-1", after=1, ago=10)
        assert lines(story) == {}

    def test_after_it_the_next_addition_counts(self, story: Story) -> None:
        story.removes("p-1", after=MINUTE)
        story.adds("p-1", after=MINUTE)
        assert lines(story) == {"p-1": 1}
        story.adds("p-1", ago=90_000)
        assert lines(story) == {"p-1": 1}

    def test_taking_out_what_is_not_there_leaves_nothing_and_owes_nothing(self, story: Story) -> None:
        story.removes("p-1", quantity=5)
        story.adds("p-1", quantity=2, after=1)
        assert lines(story) == {"p-1": 2}

    def test_in_one_moment_additions_come_first(self, story: Story) -> None:
        story.removes("p-1")
        story.adds("p-1")
        assert lines(story) == {}

    def test_a_line_that_changed_often_is_still_right(self, story: Story) -> None:
        for _ in range(20):
            story.adds("p-1", quantity=2, after=MINUTE)
            story.removes("p-1", after=MINUTE)
        assert lines(story) == {"p-1": 20}

    def test_fifty_lines_are_kept_empty_ones_go_first_then_the_oldest(self, story: Story) -> None:
        story.adds("p-00", after=1)
        story.adds("gone", after=1)
        story.removes("gone", after=1)
        for number in range(1, MOST_LINES):
            story.adds(f"p-{number:02d}", after=1)
        assert len(lines(story)) == MOST_LINES
        story.adds("one more", after=1)
        assert "p-00" not in lines(story)
        assert len(story.customer["cart"]["lines"]) == MOST_LINES


class TestWorth:
    def test_it_is_prices_times_quantities(self, story: Story) -> None:
        story.adds("p-1", 1000, 2)
        story.adds("p-2", 50)
        assert cart_value(story.customer) == 2050

    def test_the_newest_price_counts_in_any_order(self, story: Story) -> None:
        story.adds("p-1", 900, after=HOUR)
        story.adds("p-1", 100, after=1, ago=MINUTE)
        assert cart_value(story.customer) == 1800

    def test_a_price_stays_known_when_later_events_do_not_tell_it(self, story: Story) -> None:
        story.adds("p-1", 900)
        for _ in range(6):
            story.adds("p-1", None, after=1)
        assert cart_value(story.customer) == 6300

    def test_it_is_unknown_while_a_price_is(self, story: Story) -> None:
        story.adds("p-1", 900)
        story.adds("p-2", None)
        assert cart_value(story.customer) is None
        story.removes("p-2", after=1)
        assert cart_value(story.customer) == 900

    def test_an_empty_cart_is_worth_nothing(self, story: Story) -> None:
        story.views()
        assert cart_value(story.customer) == 0

    def test_absurd_amounts_stay_whole_numbers_that_others_can_read(self, story: Story) -> None:
        story.adds("p-1", GREATEST, GREATEST)
        for _ in range(9):
            story.adds("p-1", None, GREATEST, after=1)
        assert cart_value(story.customer) == GREATEST
        assert cart_lines(story.customer) == [("p-1", GREATEST, GREATEST)]
        assert encode(story.customer)


class TestWholeCart:
    def test_it_replaces_what_was_there(self, story: Story) -> None:
        story.adds("p-1")
        story.does("cart.cart_updated", items=[item("p-2", 300, 2), item("p-3")], after=1)
        assert lines(story) == {"p-2": 2, "p-3": 1}

    def test_the_same_item_twice_adds_up(self, story: Story) -> None:
        story.does("cart.cart_updated", items=[item("p-2", 300, 2), item("p-2", 300)])
        assert lines(story) == {"p-2": 3}

    def test_an_empty_one_empties_the_cart(self, story: Story) -> None:
        story.adds("p-1")
        story.does("cart.cart_updated", items=[], after=1)
        assert lines(story) == {}

    def test_a_late_one_leaves_alone_what_came_after_it(self, story: Story) -> None:
        story.adds("p-1")
        story.adds("p-2", after=HOUR)
        story.adds("p-1", quantity=3, after=1)
        story.does("cart.cart_updated", items=[item("p-1", 5, 10)], after=1, ago=MINUTE)
        assert lines(story) == {"p-1": 13, "p-2": 1}

    def test_an_addition_from_before_it_changes_nothing(self, story: Story) -> None:
        story.does("cart.cart_updated", items=[item("p-1")], after=HOUR)
        story.adds("p-1", after=1, ago=MINUTE)
        assert lines(story) == {"p-1": 1}

    def test_a_late_one_that_names_more_than_fits_is_trimmed_too(self, story: Story) -> None:
        for number in range(40):
            story.adds(f"new-{number:02d}", after=HOUR)
        story.does("cart.cart_updated", items=[item(f"old-{number:02d}") for number in range(40)], ago=50 * HOUR)
        kept = lines(story)
        assert len(kept) == MOST_LINES
        assert sum(name.startswith("new") for name in kept) == 40


class TestOrders:
    def test_an_order_takes_what_is_in_the_cart(self, story: Story) -> None:
        story.adds("p-1")
        story.orders(after=MINUTE)
        assert lines(story) == {}
        assert story.customer["cart"]["closed"]

    def test_an_order_told_again_does_not_take_the_next_cart(self, story: Story) -> None:
        story.adds("p-1")
        story.orders("o-1", after=MINUTE)
        story.adds("p-2", after=HOUR)
        story.orders("o-1", after=MINUTE)
        assert lines(story) == {"p-2": 1}

    def test_an_order_that_comes_late_takes_what_was_there_before_it(self, story: Story) -> None:
        story.adds("p-1")
        story.adds("p-1", quantity=2, after=HOUR)
        story.adds("p-2", after=1)
        story.orders(after=1, ago=30 * MINUTE)
        assert lines(story) == {"p-1": 2, "p-2": 1}

    def test_an_addition_that_its_order_overtook_does_not_fill_the_cart_again(self, story: Story) -> None:
        story.adds("p-1")
        story.orders(after=MINUTE)
        story.adds("p-2", after=1, ago=30_000)
        assert lines(story) == {}
        assert story.customer["cart"]["closed"]

    def test_neither_does_one_of_somebody_whose_first_event_is_the_order(self, story: Story) -> None:
        story.orders()
        story.adds("p-1", after=1, ago=MINUTE)
        assert lines(story) == {}
        assert "cart" not in story.customer

    def test_the_last_steps_of_a_checkout_open_no_cart(self, story: Story) -> None:
        story.adds("p-1")
        story.orders(after=MINUTE)
        story.does("cart.checkout_step_completed", step=3, after=1)
        assert story.customer["cart"]["closed"]

    def test_an_update_or_refund_leaves_the_cart_alone(self, story: Story) -> None:
        story.orders("o-1")
        story.adds("p-1", after=HOUR)
        story.does("purchase.order_updated", order_id="o-1", after=1)
        story.does("purchase.order_refunded", order_id="o-1", after=1)
        story.does("purchase.order_cancelled", order_id="o-1", after=1)
        assert lines(story) == {"p-1": 1}


class TestNames:
    def test_carts_without_an_id_are_numbered(self, story: Story) -> None:
        story.adds("p-1")
        assert cart_id(story) == "auto-1"
        story.orders(after=MINUTE)
        story.adds("p-1", after=MINUTE)
        assert cart_id(story) == "auto-2"

    def test_an_id_told_later_is_that_of_the_cart(self, story: Story) -> None:
        story.adds("p-1")
        story.adds("p-2", cart_id="c-77", after=1)
        story.adds("p-3", after=1)
        assert cart_id(story) == "c-77"
        assert lines(story) == {"p-1": 1, "p-2": 1, "p-3": 1}

    def test_another_id_is_another_cart(self, story: Story) -> None:
        story.adds("p-1", cart_id="c-77")
        story.adds("p-2", cart_id="c-78", after=1)
        assert cart_id(story) == "c-78"
        assert lines(story) == {"p-2": 1}

    def test_a_late_event_of_the_cart_before_changes_nothing(self, story: Story) -> None:
        story.adds("p-1", cart_id="c-77")
        story.adds("p-2", cart_id="c-78", after=HOUR)
        story.adds("p-3", cart_id="c-77", after=1, ago=MINUTE)
        assert cart_id(story) == "c-78"
        assert lines(story) == {"p-2": 1}

    def test_looking_at_another_cart_does_not_open_it(self, story: Story) -> None:
        story.adds("p-1", cart_id="c-77")
        story.does("cart.cart_viewed", cart_id="c-78", after=1)
        assert cart_id(story) == "c-77"

    def test_what_is_left_after_a_late_order_is_the_next_cart(self, story: Story) -> None:
        story.adds("p-1")
        story.adds("p-2", after=HOUR)
        story.orders(after=1, ago=MINUTE)
        assert cart_id(story) == "auto-2"

    def test_an_order_that_took_nothing_leaves_the_cart_its_number(self, story: Story) -> None:
        story.adds("p-1", after=HOUR)
        story.orders(after=1, ago=MINUTE)
        assert cart_id(story) == "auto-1"

    def test_thirty_days_of_silence_do_not_close_a_cart(self, story: Story) -> None:
        story.adds("p-1")
        story.adds("p-2", after=30 * DAY)
        assert lines(story) == {"p-1": 1, "p-2": 1}

    def test_a_millisecond_more_does(self, story: Story) -> None:
        story.adds("p-1")
        story.adds("p-2", after=30 * DAY + 1)
        assert lines(story) == {"p-2": 1}
        assert cart_id(story) == "auto-2"

    def test_what_belongs_to_the_cart_before_the_silence_changes_nothing(self, story: Story) -> None:
        story.adds("p-1")
        story.adds("p-2", after=31 * DAY)
        story.adds("p-3", ago=31 * DAY)
        assert lines(story) == {"p-2": 1}

    def test_a_look_into_the_cart_is_not_silence(self, story: Story) -> None:
        story.adds("p-1")
        story.does("cart.cart_viewed", after=29 * DAY)
        story.adds("p-2", after=29 * DAY)
        assert lines(story) == {"p-1": 1, "p-2": 1}

    def test_the_newest_currency_counts(self, story: Story) -> None:
        story.adds("p-1", currency="EUR", after=HOUR)
        story.adds("p-2", currency="USD", after=1, ago=MINUTE)
        assert story.customer["cart"]["currency"] == "EUR"
        story.adds("p-2", currency="USD", after=1)
        assert story.customer["cart"]["currency"] == "USD"
