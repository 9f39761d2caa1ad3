from __future__ import annotations

import json
import math
from typing import Any

import pytest

from journey.entries import encode
from journey.errors import BadSnapshotError
from journey.models.baskets import FEW_BUYERS, UNSOLD_AFTER, Baskets
from journey.models.content import Content, ContentRanking

NOON = 1_788_264_000_000
SHOP: list[list[Any]] = [
    ["green tea", "tea", "Leaf", 400], ["black tea", "tea", "Leaf", 350], ["mint tea", "tea", "Herb", 380],
    ["hammer", "tools", "Iron", 1_900], ["saw", "tools", "Iron", 2_100], ["pen", "office", "Ink", 150],
]  # fmt: skip


def learned(*items: list[Any]) -> Content:
    content = Content()
    content.learn(items, NOON)
    return content


def ranking(content: Content) -> ContentRanking:
    return ContentRanking.restore(json.loads(encode(content.published(NOON))))


def test_what_is_most_like_what_they_buy_comes_first() -> None:
    found = ranking(learned(*SHOP)).recommend({"green tea": 2.0}, exclude=["green tea"])
    assert [one.item for one in found] == ["black tea", "mint tea"]
    assert found[0].score > found[1].score > 0
    assert found[0].why == "because_you_bought:green tea"


def test_the_score_is_the_cosine() -> None:
    found = ranking(learned(["a", "x", None, None], ["b", "x", None, None], ["c", "x", "y", None])).recommend(
        {"a": 3.0}
    )
    idf_x, idf_y = math.log(2.0), math.log(4.0)
    assert [one.item for one in found] == ["a", "b", "c"]
    assert [one.score for one in found[:2]] == pytest.approx([1.0, 1.0], rel=1e-12)
    assert found[2].score == pytest.approx(idf_x / math.hypot(idf_x, idf_y), abs=1e-4)


def test_the_reason_is_the_item_that_said_most() -> None:
    shop = ranking(learned(*SHOP))
    assert shop.recommend({"green tea": 3.0, "hammer": 1.0}, 1, ["green tea"])[0].why == "because_you_bought:green tea"
    found = shop.recommend({"green tea": 1.0, "hammer": 3.0}, 1, ["green tea", "hammer"])
    assert (found[0].item, found[0].why) == ("saw", "because_you_bought:hammer")


def test_a_rare_term_counts_more_than_a_common_one() -> None:
    shop = [["bought", "common", "rare", None], ["alike", "other", "rare", None], ["usual", "common", "another", None]]
    crowd = [f"p-{number}" for number in range(20)]
    content = learned(*shop, *([name, "common", None, None] for name in crowd))
    found = ranking(content).recommend({"bought": 1.0}, 2, ["bought", *crowd])
    assert [one.item for one in found] == ["alike", "usual"]


def test_twenty_buyers_are_enough_to_be_left_to_the_counts() -> None:
    content = learned(["tea", "tea", None, None], ["mint", "tea", None, None])
    for _ in range(FEW_BUYERS - 2):
        content.learn([["tea", "tea", None, None]], NOON)
    assert [one.item for one in ranking(content).recommend({"mint": 1.0})] == ["mint", "tea"]
    content.learn([["tea", "tea", None, None]], NOON)
    assert [one.item for one in ranking(content).recommend({"mint": 1.0})] == ["mint"]
    assert [one.item for one in ranking(content).recommend({"tea": 1.0})] == ["mint"]


def test_the_same_buyer_again_is_not_another_buyer() -> None:
    content = learned(["tea", "tea", None, None], ["mint", "tea", None, None])
    for _ in range(2 * FEW_BUYERS):
        content.learn([["tea", "tea", None, None]], NOON, {"tea": 1.0})
    assert [one.item for one in ranking(content).recommend({"mint": 1.0})] == ["mint", "tea"]


def test_prices_are_parted_into_five_bands_of_equal_size() -> None:
    content = learned(*([f"p-{number:02d}", None, None, 100 * number] for number in range(10)))
    assert content.price_limits() == [200, 400, 600, 800]
    found = ranking(content).recommend({"p-04": 1.0})
    assert [one.item for one in found] == ["p-04", "p-05"]


def test_tags_count_as_terms() -> None:
    content = learned(
        ["a", None, None, None, ["vegan", "sale"]], ["b", None, None, None, ["vegan"]], ["c", None, None, None]
    )
    assert [one.item for one in ranking(content).recommend({"b": 1.0}, exclude=["b"])] == ["a"]


def test_nothing_alike_nothing_named() -> None:
    shop = ranking(learned(*SHOP, ["bare", None, None, None]))
    assert shop.recommend({}) == shop.recommend({"never seen": 1.0}) == shop.recommend({"bare": 1.0}) == []
    assert ranking(Content()).recommend({"tea": 1.0}) == []


def test_what_nobody_bought_for_half_a_year_is_not_published() -> None:
    content = learned(*SHOP)
    assert len(content.published(NOON + UNSOLD_AFTER - 1)["items"]) == len(SHOP)
    assert content.published(NOON + UNSOLD_AFTER)["items"] == []


def test_only_the_items_bought_last_are_published() -> None:
    content = learned(*SHOP)
    content.learn([["new", "tea", None, None]], NOON + 1)
    published = content.published(NOON + 1, listed=2)
    assert [name for name, _ in published["items"]] == ["black tea", "new"]


def test_content_reads_what_baskets_have_noted() -> None:
    baskets = Baskets()
    baskets.learn(SHOP, NOON)
    assert encode(Content(baskets.facts).published(NOON)) == encode(learned(*SHOP).published(NOON))


@pytest.mark.parametrize(
    "wrong",
    [
        {"class": "content/1"}, {"idf": [math.nan]}, {"idf": []}, {"items": [["a", [99]]]}, {"items": [["a", [-1]]]},
        {"items": [["a"]]}, {"few": None},
    ],
)  # fmt: skip
def test_what_cannot_be_a_ranking_is_refused(wrong: dict[str, Any]) -> None:
    published = learned(*SHOP).published(NOON)
    ContentRanking.restore(published)
    with pytest.raises(BadSnapshotError):
        ContentRanking.restore(published | wrong)
