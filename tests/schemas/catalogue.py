"""What the schemas have to cover, written down a second time, and the files that do it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

Json: TypeAlias = Any

FOLDER: Final = Path(__file__).parents[2] / "schemas"
EXAMPLES: Final = FOLDER / "examples"
BASELINE: Final = FOLDER / "baseline"
SUMS: Final = EXAMPLES / "SHA256SUMS"

# event type -> the fields of ``data`` that it has to carry
REQUIRED_DATA: Final[dict[str, frozenset[str]]] = {
    f"{klass}.{name}": frozenset(fields.split())
    for klass, fields_of in {
        "click": {
            "page_viewed": "",
            "screen_viewed": "",
            "product_viewed": "item",
            "product_clicked": "item",
            "product_shared": "item",
            "product_reviewed": "item",
            "product_list_viewed": "",
            "product_list_filtered": "",
            "product_added_to_wishlist": "item",
            "product_removed_from_wishlist": "item",
            "products_searched": "query",
            "promotion_viewed": "",
            "promotion_clicked": "",
            "cart_shared": "",
            "custom": "name",
        },
        "cart": {
            "product_added": "item",
            "product_removed": "item",
            "cart_viewed": "",
            "cart_updated": "items",
            "checkout_started": "",
            "checkout_step_viewed": "",
            "checkout_step_completed": "",
            "payment_info_entered": "",
            "coupon_entered": "coupon",
            "coupon_applied": "coupon",
            "coupon_denied": "coupon",
            "coupon_removed": "coupon",
        },
        "purchase": {
            "order_completed": "order_id",
            "order_updated": "order_id",
            "order_refunded": "order_id",
            "order_cancelled": "order_id",
        },
        "profile": {
            "identify": "traits",
            "alias": "previous_id",
            "unlink": "previous_id",
            "consent": "scopes",
            "erase": "mode",
        },
        "feedback": {
            "delivered": "channel",
            "opened": "channel",
            "clicked": "channel",
            "converted": "channel",
            "bounced": "channel",
            "failed": "channel",
            "complaint": "channel",
            "unsubscribed": "channel",
            "satisfaction": "channel score scale",
        },
    }.items()
    for name, fields in fields_of.items()
}
ENTRY_KINDS: Final = frozenset(
    {"event", "link", "handover", "forward", "tick", "adopt", "config", "erase", "restore", "void", "clock"}
)
CONTROL_KINDS: Final = frozenset(
    {"clock", "tick", "mark", "config", "adopt", "freeze", "unfreeze", "erase", "pause", "switch"}
)
TRIGGER_TYPES: Final = frozenset({"journey.trigger.v1", "journey.stage_changed.v1", "journey.segment_changed.v1"})
# what a raw topic's record can be refused for; the other reasons arise in the collector, the engine and webhooks
RAW_REASONS: Final = frozenset(
    {
        "not_json",
        "too_large",
        "unknown_type",
        "wrong_topic",
        "unsupported_version",
        "missing_id",
        "blocked_id",
        "missing_field",
        "bad_field",
        "bad_time",
        "bad_money",
    }
)
SCHEMA_NAMES: Final = frozenset(
    {
        "events.click.v1",
        "events.cart.v1",
        "events.purchase.v1",
        "events.profile.v1",
        "events.feedback.v1",
        "journey.page.v1",
        "journey.control.v1",
        "journey.trigger.v1",
        "journey.dead_letter.v1",
        "journey.customer.v1",
        "journey.sample.v1",
        "journey.model.v1",
        "journey.alarm.v1",
    }
)


@dataclass(frozen=True)
class Example:
    """One recorded value; ``name`` is its path below ``examples/``, ``schema`` its folder."""

    name: str
    schema: str
    value: Json

    def __str__(self) -> str:
        return self.name


def load(path: Path) -> Json:
    """Return what is in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def schema_of(name: str) -> dict[str, Json]:
    """Return today's schema ``name``, such as ``events.cart.v1``."""
    schema: dict[str, Json] = load(FOLDER / f"{name}.json")
    return schema


SCHEMAS: Final = {path.stem: schema_of(path.stem) for path in sorted(FOLDER.glob("*.json"))}
_REGISTRY: Final[Registry[Json]] = Registry().with_resources(
    (schema["$id"], Resource.from_contents(schema)) for schema in SCHEMAS.values()
)


@cache
def validator(name: str) -> Draft202012Validator:
    """Return the validator of today's schema ``name``; a schema is found by its ``$id``, never fetched."""
    return Draft202012Validator(SCHEMAS[name], registry=_REGISTRY)


def examples(*schemas: str) -> Iterator[Example]:
    """Return the recorded examples of these schemas, or of all; never the rejected ones."""
    for path in sorted(EXAMPLES.glob("*/*.json")):
        folder = path.parent.name
        if folder != "rejected" and (not schemas or folder in schemas):
            yield Example(f"{folder}/{path.name}", folder, load(path))


def event_examples() -> list[Example]:
    """Return the recorded raw events."""
    return [example for example in examples() if example.schema.startswith("events.")]


def rejected() -> list[Example]:
    """Return the recorded values that ingest refuses; ``schema`` is that of the topic they were sent to."""
    return [
        Example(f"rejected/{path.name}", f"{value['topic']}.v1", value)
        for path in sorted((EXAMPLES / "rejected").glob("*.json"))
        for value in [load(path)]
    ]
