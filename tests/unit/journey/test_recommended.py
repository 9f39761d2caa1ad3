"""What customers are recommended: by the model in force, and never what the shop says it cannot deliver."""

from __future__ import annotations

from typing import Any

import pytest

from journey.conditions import DeclarationError, Declared
from journey.documents import Sight, document
from journey.engine import Shard, fold
from journey.entries import Entry
from journey.events import HOUR
from journey.models.baskets import Baskets
from journey.scoring import Library
from journey.state import partition_key, read_customer
from journey.triggers import TRIGGER
from tests.factories import NOON, event, item, of_type, tick

RECS = "recs", 1, "9b1d"


def library(*unavailable: str, trust: str = "trusted") -> Library:
    """Return what a partition needs: a model that knows pasta goes with sauce and wine, and a configuration."""
    baskets = Baskets()
    for names in ("pasta sauce", "pasta sauce wine", "tea milk"):
        baskets.learn([(name, None, None, None) for name in sorted(names.split())], NOON)
    at_hand = Library()
    at_hand.add(*RECS, {"slot": "recs", "state": baskets.published(NOON), "trust": trust, "labels": 100})
    at_hand.add_config("77aa", Declared.from_config({"v": 2, "unavailable": list(unavailable)}))
    return at_hand


def begin() -> list[Entry]:
    model, version, sha256 = RECS
    return [
        {"k": "adopt", "at": NOON, "src": ["journey.control", 0, 0], "model": model, "version": version,
         "replaces": None, "sha256": sha256},
        {"k": "config", "at": NOON, "src": ["journey.control", 0, 1], "sha256": "77aa"},
    ]  # fmt: skip


def left(at_hand: Library) -> Shard:
    """Fold somebody who leaves pasta in a cart for an hour."""
    shard = Shard(0, lambda _key: None, (), at_hand)
    fold(shard, 0, [*begin(), event("cart.product_added", NOON, key="u:1", data={"item": item("pasta")})])
    fold(shard, 1, [tick(NOON + HOUR)])
    return shard


def beside(shard: Shard) -> list[str]:
    (trigger,) = of_type(shard.triggers, TRIGGER)
    told: list[dict[str, Any]] = trigger.body["data"]["content"].get("recommendations", [])
    return [one["item_id"] for one in told]


def shown(shard: Shard) -> list[str]:
    customer = read_customer(dict(shard.changes())[b"u:1"])
    _, told = document(customer, 0, Sight(shard.models, shard.declared))
    return [one["item_id"] for one in told["recommendations"]]


def test_a_reminder_names_what_goes_with_the_cart_but_for_what_cannot_be_had() -> None:
    assert beside(left(library())) == ["sauce", "wine"]
    assert beside(left(library("sauce", "tea"))) == ["wine"]
    assert beside(left(library("sauce", "wine"))) == []


def test_a_document_names_neither_what_lies_in_the_cart_nor_what_cannot_be_had() -> None:
    assert set(shown(left(library()))) == {"sauce", "wine", "tea", "milk"}
    assert set(shown(left(library("milk", "sauce", "unknown")))) == {"wine", "tea"}


def test_below_trust_nothing_is_recommended() -> None:
    shard = left(library(trust="shadow"))
    assert (beside(shard), shown(shard)) == ([], [])


def test_it_counts_from_the_entry_on_that_says_so() -> None:
    shard = Shard(0, lambda _key: None, (), library("sauce"))
    adopt, config = begin()
    added = event("cart.product_added", NOON, key="u:1", data={"item": item("pasta")})
    other = event("cart.product_added", NOON + 1, key="u:2", data={"item": item("pasta")}, src=["events.cart", 1, 0])
    fold(shard, 0, [adopt, added])
    fold(shard, 1, [other, tick(NOON + HOUR), {**config, "at": NOON + HOUR}, tick(NOON + HOUR + 1)])
    first, second = of_type(shard.triggers, TRIGGER)
    assert [
        [one["item_id"] for one in trigger.body["data"]["content"]["recommendations"]] for trigger in (first, second)
    ] == [["sauce", "wine"], ["wine"]]
    assert shard.partition["config"] == "77aa"
    assert dict(shard.changes())[partition_key(0)]


@pytest.mark.parametrize("config", [{"v": 1}, {"v": 1, "unavailable": None}, {"v": 1, "unavailable": []}])
def test_a_configuration_may_say_nothing_of_it(config: dict[str, Any]) -> None:
    assert Declared.from_config(config).unavailable == frozenset()


@pytest.mark.parametrize("told", ["p-9", [1, "a"], [None], {"p-9": 1}])
def test_what_is_no_list_of_ids_is_refused(told: Any) -> None:
    with pytest.raises(DeclarationError, match="unavailable is no list of item ids"):
        Declared.from_config({"v": 2, "unavailable": told})
