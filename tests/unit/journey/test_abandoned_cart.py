from __future__ import annotations

from base64 import b32encode
from hashlib import blake2b
from typing import Any

import orjson
import pytest

from journey.events import DAY, HOUR, MINUTE
from journey.journeys import MOST_ENDED
from journey.triggers import Trigger
from tests.factories import NOON, Story, event, item, tick
from tests.schemas.catalogue import validator


@pytest.fixture
def story() -> Story:
    return Story()


def h(*parts: str) -> str:
    """Return the published hash of these parts: an independent reading of the rule."""
    return b32encode(blake2b("\x1f".join(parts).encode(), digest_size=16).digest()).decode().rstrip("=").lower()


def the(reminders: list[Trigger]) -> Trigger:
    (reminder,) = reminders
    return reminder


class TestWhen:
    def test_a_cart_quiet_for_exactly_an_hour_is_abandoned(self, story: Story) -> None:
        story.adds()
        story.waits(HOUR)
        assert len(story.reminders()) == 1

    def test_a_cart_quiet_for_a_millisecond_less_is_not(self, story: Story) -> None:
        story.adds()
        story.waits(HOUR - 1)
        assert story.reminders() == []

    def test_any_later_entry_of_anybody_tells_that_the_hour_is_over(self, story: Story) -> None:
        story.adds()
        story.does("click.page_viewed", key="u:2", after=2 * HOUR)
        assert the(story.reminders()).key == "u:1"

    def test_every_cart_event_begins_the_hour_anew(self, story: Story) -> None:
        story.adds("p-1")
        story.adds("p-2", after=HOUR - 1)
        story.does("cart.cart_viewed", after=HOUR - 1)
        story.waits(HOUR - 1)
        assert story.reminders() == []
        story.waits(1)
        assert len(story.reminders()) == 1

    def test_a_cart_event_at_the_very_end_of_the_hour_is_too_late(self, story: Story) -> None:
        story.adds("p-1")
        story.adds("p-2", after=HOUR)
        assert the(story.reminders()).body["data"]["reason"]["facts"]["cart.lines"] == 1

    def test_a_click_does_not_disturb_the_quiet_of_the_cart(self, story: Story) -> None:
        story.adds()
        story.views(after=30 * MINUTE)
        story.waits(30 * MINUTE)
        assert len(story.reminders()) == 1

    def test_a_tick_exactly_a_day_after_the_hour_still_acts(self, story: Story) -> None:
        story.adds()
        story.waits(HOUR + DAY)
        assert len(story.reminders()) == 1

    def test_a_millisecond_more_and_it_is_too_late_to_act(self, story: Story) -> None:
        story.adds()
        story.waits(HOUR + DAY + 1)
        assert story.reminders() == []
        assert "runs" not in story.customer
        story.waits(DAY)
        assert story.reminders() == []

    def test_a_repeated_event_does_not_prolong_the_hour(self, story: Story) -> None:
        story.adds(id_="m-1")
        story.adds(id_="m-1", after=30 * MINUTE)
        story.waits(30 * MINUTE)
        assert len(story.reminders()) == 1


class TestWhyNot:
    def test_whoever_bought_is_not_reminded_to_buy(self, story: Story) -> None:
        story.adds()
        story.orders(after=MINUTE)
        story.waits(HOUR)
        assert story.reminders() == []

    def test_neither_when_the_order_leaves_something_newer_in_the_cart(self, story: Story) -> None:
        story.adds("p-1")
        story.adds("p-2", after=2 * MINUTE)
        story.orders(ago=MINUTE)
        story.waits(HOUR)
        assert story.reminders() == []

    def test_an_order_told_again_does_not_count_for_a_later_cart(self, story: Story) -> None:
        story.orders("o-1")
        story.adds(after=DAY)
        story.orders("o-1", after=MINUTE)
        story.waits(HOUR)
        assert len(story.reminders()) == 1

    def test_whoever_emptied_the_cart_is_not_reminded(self, story: Story) -> None:
        story.adds("p-1", quantity=2)
        story.removes("p-1", quantity=2, after=MINUTE)
        story.waits(HOUR)
        assert story.reminders() == []

    def test_nor_whoever_set_it_to_nothing(self, story: Story) -> None:
        story.adds("p-1")
        story.does("cart.cart_updated", items=[], after=MINUTE)
        story.waits(HOUR)
        assert story.reminders() == []

    def test_an_addition_that_was_removed_before_we_heard_of_it_enters_nothing(self, story: Story) -> None:
        story.removes("p-1")
        story.adds("p-1", ago=MINUTE)
        story.waits(HOUR)
        assert story.reminders() == []

    def test_an_addition_that_was_ordered_before_we_heard_of_it_enters_nothing(self, story: Story) -> None:
        story.orders()
        story.adds("p-1", after=1, ago=MINUTE)
        story.waits(HOUR)
        assert story.reminders() == []

    def test_a_cart_is_reminded_of_once(self, story: Story) -> None:
        story.adds("p-1")
        story.waits(HOUR)
        story.adds("p-2", after=MINUTE)
        story.waits(HOUR)
        assert len(story.reminders()) == 1

    def test_the_next_cart_is_another_matter(self, story: Story) -> None:
        story.adds("p-1")
        story.waits(HOUR)
        story.orders(after=MINUTE)
        story.adds("p-2", after=MINUTE)
        story.waits(HOUR)
        assert [one.body["data"]["run_key"] for one in story.reminders()] == ["auto-1", "auto-2"]

    def test_a_switch_of_carts_ends_one_run_and_begins_another(self, story: Story) -> None:
        story.adds("p-1", cart_id="c-1")
        story.adds("p-2", cart_id="c-2", after=30 * MINUTE)
        story.waits(30 * MINUTE)
        assert story.reminders() == []
        story.waits(30 * MINUTE)
        assert the(story.reminders()).body["data"]["run_key"] == "c-2"

    def test_a_cart_that_is_left_for_another_and_taken_up_again_had_its_run(self, story: Story) -> None:
        story.adds("p-1", cart_id="c-1")
        story.adds("p-2", cart_id="c-2", after=MINUTE)
        story.adds("p-1", cart_id="c-1", after=MINUTE)
        story.waits(2 * HOUR)
        assert story.reminders() == []

    def test_only_the_newest_keys_are_remembered(self, story: Story) -> None:
        for number in range(MOST_ENDED + 3):
            story.adds("p-1", cart_id=f"c-{number}", after=MINUTE)
        assert story.customer["ended_runs"] == [f"c-{number}" for number in range(2, MOST_ENDED + 2)]


class TestLateAndHistorical:
    def test_an_event_exactly_a_day_late_may_enter(self, story: Story) -> None:
        story.adds(ago=DAY)
        story.waits(HOUR)
        assert len(story.reminders()) == 1

    def test_a_millisecond_later_it_may_not(self, story: Story) -> None:
        story.adds(ago=DAY + 1)
        story.waits(HOUR)
        assert story.reminders() == []
        assert story.customer["cart"]["lines"]

    def test_a_late_event_may_end_a_run(self, story: Story) -> None:
        story.adds(ago=DAY)
        story.orders(after=MINUTE, ago=DAY)
        story.waits(HOUR)
        assert story.reminders() == []

    def test_a_late_order_that_is_older_than_the_cart_ends_it_too(self, story: Story) -> None:
        story.adds()
        story.orders(after=MINUTE, ago=3 * DAY)
        story.waits(HOUR)
        assert story.reminders() == []

    def test_a_historical_event_enters_nothing(self, story: Story) -> None:
        story.adds(historical=True)
        story.waits(HOUR)
        assert story.reminders() == []

    def test_neither_does_it_prolong(self, story: Story) -> None:
        story.adds("p-1")
        story.adds("p-2", after=30 * MINUTE, historical=True)
        story.waits(30 * MINUTE)
        assert len(story.reminders()) == 1

    @pytest.mark.parametrize("name", [{}, {"cart_id": "c-1"}])
    def test_nor_end(self, story: Story, name: dict[str, Any]) -> None:
        story.adds("p-1", after=DAY, **name)
        story.orders("o-1", after=MINUTE, ago=DAY, historical=True)
        story.waits(HOUR)
        assert len(story.reminders()) == 1

    def test_a_cart_that_an_import_emptied_is_not_reminded_of(self, story: Story) -> None:
        story.adds()
        story.orders(after=MINUTE, historical=True)
        story.waits(HOUR)
        assert story.reminders() == []


class TestWhatIsTold:
    def test_the_ids_are_made_of_customer_cart_and_first_cause(self, story: Story) -> None:
        story.adds("p-1", cart_id="c-77", id_="m-2")
        story.adds("p-2", cart_id="c-77", id_="m-3", after=MINUTE)
        story.waits(HOUR)
        reminder = the(story.reminders())
        run = "jr_" + h("run", "u:1", "abandoned_cart", "c-77", "m-2")
        assert reminder.id == reminder.body["id"] == "tr_" + h("trigger", run, "reminder")
        assert reminder.body["data"]["run_id"] == run

    def test_a_refold_makes_the_same_bytes(self) -> None:
        def told() -> list[bytes]:
            story = Story()
            story.adds(id_="m-2")
            story.waits(HOUR)
            return [orjson.dumps(one.body) for one in story.reminders()]

        assert told() == told()

    @pytest.mark.parametrize("starts_again", [True, False])
    def test_a_worker_that_starts_in_between_tells_the_same_bytes(self, story: Story, *, starts_again: bool) -> None:
        for scope in ("news", "marketing", "sms", "a"):
            story.does("profile.consent", scopes={scope: "granted"}, after=1)
        story.adds(after=1)
        if starts_again:
            story.write()
        story.waits(HOUR)
        consent = the(story.reminders()).body["data"]["customer"]["consent"]
        assert list(consent) == ["a", "marketing", "news", "sms"]

    def test_it_says_what_to_send_to_whom_and_why(self, story: Story) -> None:
        story.does("profile.consent", scopes={"news": "denied", "marketing": "granted"})
        story.adds("p-2", 8990, cart_id="c-77", currency="EUR", id_="m-2", after=MINUTE)
        story.adds("p-1", 500, 2, cart_id="c-77", currency="EUR", id_="m-3", after=MINUTE)
        story.waits(HOUR)
        body = the(story.reminders()).body
        run = "jr_" + h("run", "u:1", "abandoned_cart", "c-77", "m-2")
        assert body == {
            "specversion": "1.0",
            "type": "journey.trigger.v1",
            "id": "tr_" + h("trigger", run, "reminder"),
            "source": "/journeys/abandoned_cart@1",
            "subject": "u:1",
            "time": "2026-06-01T13:02:00.000Z",
            "causationid": "m-2",
            "data": {
                "action": "send",
                "channel": "email",
                "expires_at": "2026-06-02T13:02:00.000Z",
                "customer": {"user_id": "1", "consent": {"marketing": "granted", "news": "denied"}},
                "journey": "abandoned_cart",
                "version": 1,
                "run_id": run,
                "run_key": "c-77",
                "step": "reminder",
                "content": {
                    "template": "abandoned_cart",
                    "data": {
                        "items": [
                            {"item_id": "p-1", "quantity": 2, "unit_price_minor": 500},
                            {"item_id": "p-2", "quantity": 1, "unit_price_minor": 8990},
                        ],
                        "currency": "EUR",
                        "value_minor": 9990,
                    },
                },
                "reason": {
                    "text": "cart c-77 was quiet for 1h",
                    "causes": [
                        {"message_id": "m-2", "type": "cart.product_added", "src": ["events.cart", 0, 1]},
                        {"message_id": "m-3", "type": "cart.product_added", "src": ["events.cart", 0, 2]},
                    ],
                    "facts": {
                        "cart.lines": 2,
                        "cart.quiet_since": "2026-06-01T12:02:00.000Z",
                        "cart.value_minor": 9990,
                        "cart.currency": "EUR",
                    },
                },
            },
        }

    def test_what_is_not_known_is_not_said(self, story: Story) -> None:
        story.adds("p-1", None)
        story.waits(HOUR)
        data = the(story.reminders()).body["data"]
        assert data["customer"] == {"user_id": "1"}
        assert data["content"]["data"] == {"items": [{"item_id": "p-1", "quantity": 1}], "currency": "XXX"}
        assert "cart.value_minor" not in data["reason"]["facts"]
        assert len(data["reason"]["causes"]) == 1

    @pytest.mark.parametrize("key", ["u:1", "a:9f3c"])
    @pytest.mark.parametrize("price", [None, 990])
    def test_it_fits_its_schema(self, key: str, price: int | None) -> None:
        story = Story(key)
        story.adds("p-1", price)
        story.waits(HOUR)
        validator("journey.trigger.v1").validate(the(story.reminders()).body)

    def test_it_stays_below_twenty_kilobytes(self, story: Story) -> None:
        for number in range(60):
            story.adds(f"{number:0128d}", 10**12, cart_id="c" * 255, after=1)
        for number in range(32):
            story.does("profile.consent", scopes={f"{number:0100d}": "granted"}, after=1)
        story.waits(HOUR)
        assert len(orjson.dumps(the(story.reminders()).body)) < 20_000

    def test_those_whose_hour_ends_together_are_told_in_the_order_of_their_keys(self, story: Story) -> None:
        for key, at in (("u:9", NOON + 4), ("u:3", NOON + 5), ("u:2", NOON + 5)):
            src = ["events.cart", int(key[2:]), 0]
            story.tell(event("cart.product_added", at, key=key, data={"item": item()}, src=src))
        told = story.tell(tick(NOON + HOUR + 5))
        assert [one.key for one in told] == ["u:9", "u:2", "u:3"]
