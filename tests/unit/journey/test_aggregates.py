from __future__ import annotations

from itertools import pairwise

import pytest

from journey.aggregates import (
    MOST_ANONYMOUS_IDS,
    MOST_REMEMBERED,
    MOST_SCOPES,
    MOST_TRAIT_BYTES,
    MOST_TRAITS,
    decay,
    decayed,
    is_repeat,
    know_as,
    recent_categories,
    recent_items,
    set_consent,
    set_traits,
    weight,
)
from journey.entries import encode
from journey.events import DAY, HOUR, MINUTE, YEAR_2000, YEAR_2100
from journey.ids import SEEN_ID_LENGTH
from journey.state import Customer, new_customer
from tests.factories import NOON, Story

SESSION = 30 * MINUTE


@pytest.fixture
def somebody() -> Customer:
    return new_customer("u:1", NOON)


class TestVisits:
    def test_the_first_event_begins_a_visit(self) -> None:
        story = Story()
        story.views()
        assert session(story) == (1, 1, 1)

    def test_exactly_half_an_hour_of_silence_does_not_end_a_visit(self) -> None:
        story = Story()
        story.views()
        story.does("click.page_viewed", after=SESSION)
        assert session(story) == (1, 2, 1)

    def test_a_millisecond_less_does_not_either(self) -> None:
        story = Story()
        story.views()
        story.views(after=SESSION - 1)
        assert session(story) == (1, 2, 2)

    def test_a_millisecond_more_begins_another(self) -> None:
        story = Story()
        story.views()
        story.views(after=SESSION + 1)
        assert session(story) == (2, 1, 1)

    def test_silence_counts_from_the_last_event_not_from_the_first(self) -> None:
        story = Story()
        for _ in range(5):
            story.views(after=20 * MINUTE)
        assert session(story) == (1, 5, 5)

    def test_an_event_that_comes_late_joins_the_visit_it_belongs_to(self) -> None:
        story = Story()
        story.views(after=HOUR)
        story.views(after=MINUTE, ago=20 * MINUTE)
        assert session(story) == (1, 2, 2)
        assert story.customer["session"]["start"] == NOON + HOUR + MINUTE - 20 * MINUTE
        assert story.customer["session"]["last"] == NOON + HOUR

    def test_an_event_from_before_the_current_visit_starts_none_of_its_own(self) -> None:
        story = Story()
        story.views(after=5 * HOUR)
        story.views(after=MINUTE, ago=3 * HOUR)
        assert session(story) == (1, 1, 1)

    def test_what_others_do_to_a_customer_is_no_visit(self) -> None:
        story = Story()
        story.does("feedback.delivered", channel="email")
        story.does("profile.identify", traits={})
        assert "session" not in story.customer

    def test_only_the_newest_starts_are_kept(self) -> None:
        story = Story()
        for _ in range(20):
            story.views(after=HOUR)
        starts = story.customer["session"]["starts"]
        assert story.customer["session"]["count"] == 20
        assert starts == [NOON + number * HOUR for number in range(13, 21)]


def session(story: Story) -> tuple[int, int, int]:
    """Return how many visits there were, and the events and views of the last."""
    last = story.customer["session"]
    return last["count"], last["events"], last["views"]


class TestRepeats:
    def test_a_message_id_counts_once(self) -> None:
        story = Story()
        assert story.views(id_="m-1")
        assert not story.views(id_="m-1", after=MINUTE)
        assert story.customer["counts"] == {"click.product_viewed": 1}
        assert story.customer["duplicates"] == 1
        assert story.shard.counts["duplicates"] == 1

    def test_a_repeat_moves_nothing_but_time(self) -> None:
        story = Story()
        story.views(id_="m-1")
        before = story.customer.copy()
        story.views(id_="m-1", after=5 * DAY // 6)
        assert story.customer["seen"] == before["seen"]
        assert story.customer["session"] == before["session"]
        assert story.shard.partition["now"] == story.now

    @pytest.mark.parametrize("minute", [0, 17, 59])
    def test_it_is_remembered_for_24_hours(self, somebody: Customer, minute: int) -> None:
        begin = NOON + minute * MINUTE
        assert not is_repeat(somebody, "m-1", begin)
        assert is_repeat(somebody, "m-1", begin + DAY)

    @pytest.mark.parametrize("minute", [0, 17, 59])
    def test_it_is_forgotten_after_25(self, somebody: Customer, minute: int) -> None:
        begin = NOON + minute * MINUTE
        assert not is_repeat(somebody, "m-1", begin)
        assert not is_repeat(somebody, "m-1", begin + 25 * HOUR)

    def test_it_is_forgotten_after_25_also_by_somebody_who_was_busy_meanwhile(self, somebody: Customer) -> None:
        is_repeat(somebody, "m-1", NOON)
        for hour in range(25):
            is_repeat(somebody, f"other-{hour}", NOON + hour * HOUR)
        assert not is_repeat(somebody, "m-1", NOON + 25 * HOUR)

    def test_a_repeat_does_not_prolong_the_memory(self, somebody: Customer) -> None:
        is_repeat(somebody, "m-1", NOON)
        assert is_repeat(somebody, "m-1", NOON + 20 * HOUR)
        assert not is_repeat(somebody, "m-1", NOON + 30 * HOUR)

    def test_the_newest_512_are_remembered(self, somebody: Customer) -> None:
        for number in range(MOST_REMEMBERED):
            assert not is_repeat(somebody, f"m-{number}", NOON + number * MINUTE // 2)
        now = NOON + 5 * HOUR
        assert is_repeat(somebody, "m-0", now)
        assert not is_repeat(somebody, "one more", now)
        assert is_repeat(somebody, "m-1", now)
        assert not is_repeat(somebody, "m-0", now)
        kept = len(somebody["ids"][0])
        assert kept == MOST_REMEMBERED * SEEN_ID_LENGTH

    def test_hours_are_kept_in_order(self, somebody: Customer) -> None:
        for number in range(200):
            is_repeat(somebody, f"m-{number}", NOON + number * 20 * MINUTE)
        hours = somebody["ids"][1::2]
        assert all(earlier < later for earlier, later in pairwise(hours))
        assert len(hours) <= 25


class TestDecay:
    @pytest.mark.parametrize("half_life", [7, 30, 90])
    def test_an_amount_is_half_after_its_half_life(self, somebody: Customer, half_life: int) -> None:
        decay(somebody, "x", half_life, NOON, 8.0)
        assert decayed(somebody, "x", half_life, NOON) == pytest.approx(8.0, rel=1e-12)
        assert decayed(somebody, "x", half_life, NOON + half_life * DAY) == pytest.approx(4.0, rel=1e-12)
        assert decayed(somebody, "x", half_life, NOON + 3 * half_life * DAY) == pytest.approx(1.0, rel=1e-12)

    def test_a_late_event_weighs_what_it_should(self, somebody: Customer) -> None:
        decay(somebody, "x", 30, NOON)
        decay(somebody, "x", 30, NOON - 30 * DAY)
        assert decayed(somebody, "x", 30, NOON) == pytest.approx(1.5, rel=1e-12)

    def test_nothing_decays_from_nothing(self, somebody: Customer) -> None:
        assert decayed(somebody, "x", 30, NOON) == 0.0

    @pytest.mark.parametrize("moment", [YEAR_2000, YEAR_2100 - 1])
    def test_weights_stay_in_the_range_of_a_float(self, moment: int) -> None:
        assert 0.0 < weight(moment, 30) < 1e300


class TestRecentItems:
    def test_the_newest_twenty_are_kept_oldest_first(self) -> None:
        story = Story()
        for number in range(30):
            story.views(f"p-{number}", after=MINUTE)
        assert [name for _, _, name in recent_items(story.customer)] == [f"p-{number}" for number in range(10, 30)]

    def test_the_newest_eight_categories_are_kept_each_once(self) -> None:
        story = Story()
        for number in range(10):
            story.does("click.product_viewed", item={"item_id": "p", "category": f"c-{number}"}, after=MINUTE)
        story.does("click.product_viewed", item={"item_id": "p", "category": "c-5"}, after=MINUTE)
        kept = [name for _, name in recent_categories(story.customer)]
        assert kept == ["c-2", "c-3", "c-4", "c-6", "c-7", "c-8", "c-9", "c-5"]

    def test_a_late_look_does_not_make_a_category_older(self) -> None:
        story = Story()
        story.does("click.product_viewed", item={"item_id": "p", "category": "c"})
        story.does("click.product_viewed", item={"item_id": "p", "category": "c"}, ago=HOUR)
        assert recent_categories(story.customer) == [(NOON, "c")]

    def test_what_was_done_with_an_item_is_told(self) -> None:
        story = Story()
        story.does("click.product_added_to_wishlist", item={"item_id": "p"}, after=1)
        story.adds("p", after=1)
        story.orders(items=[{"item_id": "p"}], after=1)
        assert [what for _, what, _ in recent_items(story.customer)] == ["wish", "cart", "buy"]


class TestTraits:
    def test_the_newest_value_wins_in_any_order(self, somebody: Customer) -> None:
        set_traits(somebody, NOON, {"size": 2})
        set_traits(somebody, NOON - 1, {"size": 1, "name": "Mei"})
        assert somebody["traits"] == {"size": [2, NOON], "name": ["Mei", NOON - 1]}

    def test_an_older_value_does_not_bring_back_what_was_removed(self, somebody: Customer) -> None:
        set_traits(somebody, NOON, {"size": None})
        set_traits(somebody, NOON - 1, {"size": 1})
        assert somebody["traits"]["size"] == [None, NOON]

    @pytest.mark.parametrize("values", [("a", "b"), ("b", "a")])
    def test_of_two_values_of_one_moment_the_same_wins_in_any_order(
        self, somebody: Customer, values: tuple[str, str]
    ) -> None:
        for value in values:
            set_traits(somebody, NOON, {"name": value})
        assert somebody["traits"]["name"] == ["b", NOON]

    def test_a_customer_has_256_traits_at_most(self, somebody: Customer) -> None:
        set_traits(somebody, NOON, {f"t-{number:03d}": 1 for number in range(200)})
        set_traits(somebody, NOON + 1, {f"t-{number:03d}": 2 for number in range(100, 300)})
        traits = somebody["traits"]
        assert len(traits) == MOST_TRAITS
        assert (traits["t-099"][0], traits["t-150"][0]) == (1, 2)

    def test_and_no_more_than_32_kb_of_them(self, somebody: Customer) -> None:
        for number in range(40):
            set_traits(somebody, NOON + number, {f"t-{number}": "x" * 1000})
        assert len(encode(somebody["traits"])) <= MOST_TRAIT_BYTES
        assert 25 < len(somebody["traits"]) < 40
        set_traits(somebody, NOON + 99, {"t-0": "y" * 2048, "t-1": "short"})
        assert somebody["traits"]["t-0"][0].startswith("y")
        assert len(encode(somebody["traits"])) <= MOST_TRAIT_BYTES


class TestConsent:
    def test_the_newest_word_counts_in_any_order(self, somebody: Customer) -> None:
        set_consent(somebody, NOON, {"marketing": "granted"})
        set_consent(somebody, NOON - 1, {"marketing": "denied"})
        assert somebody["consent"] == {"marketing": ["granted", NOON]}

    @pytest.mark.parametrize("said", [("granted", "denied"), ("denied", "granted")])
    def test_at_the_same_moment_a_denial_beats_a_grant(self, somebody: Customer, said: tuple[str, str]) -> None:
        for status in said:
            set_consent(somebody, NOON, {"marketing": status})
        assert somebody["consent"]["marketing"] == ["denied", NOON]

    def test_a_grant_beyond_the_32nd_scope_is_not_remembered(self, somebody: Customer) -> None:
        set_consent(somebody, NOON, {f"s-{number:02d}": "granted" for number in range(MOST_SCOPES)})
        set_consent(somebody, NOON, {"t": "granted"})
        assert "t" not in somebody["consent"]

    def test_a_denial_always_is_and_takes_the_place_of_a_grant(self, somebody: Customer) -> None:
        set_consent(somebody, NOON, {f"s-{number:02d}": "granted" for number in range(MOST_SCOPES)})
        set_consent(somebody, NOON, {"t": "denied"})
        assert somebody["consent"]["t"] == ["denied", NOON]
        assert len(somebody["consent"]) == MOST_SCOPES
        assert "s-00" not in somebody["consent"]

    def test_consent_may_come_with_any_event(self) -> None:
        story = Story()
        story.does("click.page_viewed", context={"consent": {"marketing.email": "granted"}})
        assert story.customer["consent"] == {"marketing.email": ["granted", NOON]}
        assert story.depth == 1

    def test_leaving_a_list_revokes_its_scope(self) -> None:
        story = Story()
        story.does("profile.consent", scopes={"marketing.email": "granted", "news": "granted"})
        story.does("feedback.unsubscribed", channel="email", after=1)
        story.does("feedback.complaint", channel="email", scope="news", after=1)
        said = {scope: status for scope, (status, _) in story.customer["consent"].items()}
        assert said == {"marketing.email": "revoked", "news": "revoked"}


def test_anonymous_ids_are_kept_sorted_each_once_fifty_at_most(somebody: Customer) -> None:
    for number in (2, 1, 2, *range(3, 90)):
        know_as(somebody, f"{number:02d}")
    assert somebody["anonymous_ids"] == [f"{number:02d}" for number in range(1, 1 + MOST_ANONYMOUS_IDS)]
