from __future__ import annotations

import orjson
import pytest

from journey.documents import document
from journey.events import DAY, HOUR
from journey.features import CATALOGUE, features
from journey.models.base import rounded
from scripts.write_features_docs import PAGE, page
from tests.factories import NOON, Story, item
from tests.schemas.catalogue import validator


@pytest.fixture
def story() -> Story:
    """Somebody with two orders, something in the cart, and a history of clicks."""
    story = Story()
    story.does("profile.identify", traits={"first_name": "Mei", "gone": None}, anonymous_id="9f3c")
    story.does("profile.consent", scopes={"marketing": "granted"})
    story.orders("o-1", 1000)
    story.orders("o-2", 500, after=10 * DAY)
    story.views("p-1", after=DAY)
    story.adds("p-1", 700, 2, after=1)
    return story


def test_features_say_what_the_catalogue_says_they_mean(story: Story) -> None:
    assert features(story.customer, NOON + 16 * DAY) == {
        "events.count": 6,
        "clicks.count": 1,
        "carts.count": 1,
        "first_seen.days": 16.0,
        "recency.days": 5.0,
        "activity.clicks_30d": 0.8909,
        "activity.carts_30d": 0.8909,
        "session.count": 3,
        "session.events": 2,
        "session.views": 1,
        "cart.lines": 1,
        "cart.value_minor": 1400,
        "orders.count": 2,
        "orders.recency_days": 6.0,
        "orders.gap_days": 10.0,
        "orders.overdue": 0.5455,
        "orders.frequency_30d": 1.5615,
        "orders.frequency_90d": 1.8389,
        "orders.revenue_minor": 1500,
        "orders.currency": "EUR",
        "orders.mean_minor": 750.0,
    }


def test_no_data_is_none_never_a_made_up_number() -> None:
    story = Story()
    story.does("feedback.opened", channel="email")
    read = features(story.customer, story.now)
    assert {name for name, value in read.items() if value is None} == {
        "orders.recency_days", "orders.gap_days", "orders.overdue", "orders.revenue_minor", "orders.currency",
        "orders.mean_minor",
    }  # fmt: skip
    assert {value for value in read.values() if value is not None} == {0, 1}


def test_the_days_since_something_that_is_yet_to_come_are_none_at_all(story: Story) -> None:
    assert features(story.customer, NOON - DAY)["recency.days"] == 0.0


def test_overdue_is_eight_gaps_at_most(story: Story) -> None:
    assert features(story.customer, NOON + 1000 * DAY)["orders.overdue"] == 8.0


def test_reading_changes_nothing(story: Story) -> None:
    before = orjson.dumps(story.customer)
    features(story.customer, story.now + HOUR)
    document(story.customer, 3)
    assert orjson.dumps(story.customer) == before


@pytest.mark.parametrize(("value", "told"), [(0.12345, 0.1235), (-0.5, -0.5), (2.0, 2.0), (1 / 3, 0.3333), (0.0, 0.0)])
def test_numbers_are_rounded_half_up_to_four_decimals(value: float, told: float) -> None:
    assert rounded(value) == told


class TestDocument:
    def test_it_fits_its_schema(self, story: Story) -> None:
        _, shown = document(story.customer, 3)
        validator("journey.customer.v1").validate(orjson.loads(orjson.dumps(shown)))

    def test_also_that_of_somebody_hardly_known(self) -> None:
        story = Story("a:9f3c")
        story.does("feedback.opened", channel="email")
        _, shown = document(story.customer, 0)
        validator("journey.customer.v1").validate(orjson.loads(orjson.dumps(shown)))
        assert (shown["cart"], shown["runs"], shown["recent"]) == (None, [], [])

    def test_it_shows_who_they_are_and_what_they_do(self, story: Story) -> None:
        position, shown = document(story.customer, 3)
        assert shown["customer"] == "u:1"
        assert shown["anonymous_ids"] == ["9f3c"]
        assert shown["traits"] == {"first_name": "Mei"}
        assert shown["consent"] == {"marketing": "granted"}
        assert shown["stage"] == {"name": "use", "reason": "active", "since": "2026-06-11T12:00:00.000Z"}
        assert shown["cart"] == {
            "id": "auto-1", "currency": "XXX", "value_minor": 1400,
            "items": [{"item_id": "p-1", "quantity": 2, "unit_price_minor": 700}],
        }  # fmt: skip
        (run,) = shown["runs"]
        assert (run["journey"], run["run_key"]) == ("abandoned_cart", "auto-1")
        assert [one["what"] for one in shown["recent"]] == ["cart", "view"]
        assert shown["features"] == features(story.customer, story.now)
        assert shown["as_of"] == {"partition": 3, "position": position}
        assert position == 5 * 4096  # the sixth page

    def test_a_cart_that_was_ordered_is_not_shown(self, story: Story) -> None:
        story.orders("o-3", after=1, items=[item()])
        _, shown = document(story.customer, 3)
        assert shown["cart"] is None


def test_every_feature_says_all_that_it_has_to(story: Story) -> None:
    for name, feature in CATALOGUE.items():
        assert all((name, feature.unit, feature.range, feature.order, feature.meaning))
        assert "|" not in "".join((feature.unit, feature.range, feature.order, feature.meaning))


def test_the_page_about_the_features_is_that_of_the_catalogue() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "docs/features.md is stale: run python -m scripts.write_features_docs"
    )
