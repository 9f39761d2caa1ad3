"""The document other programs see of a customer: what is known, what is thought of it, and on how much evidence."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from journey.aggregates import NO_CURRENCY, cart_lines, cart_value, recent_items
from journey.events import DAY
from journey.features import features
from journey.learning import churn_row, is_scored, tastes, value_row
from journey.positions import entry_position
from journey.scoring import ALL_CAN_BE_HAD, FEW_LABELS, Declares, Loaded, Ranker, Spends, Worths, told
from journey.stages import stage_name
from journey.state import Customer
from journey.triggers import rfc3339

JUST_BOUGHT: Final = DAY


class Sight(NamedTuple):
    """What is in force where a customer is read: models by slot, and the configuration."""

    models: Mapping[str, Loaded]
    declared: Declares | None


UNAIDED: Final = Sight({}, None)


def document(customer: Customer, partition: int, sight: Sight = UNAIDED) -> tuple[int, dict[str, Any]]:
    """Return the customer as other programs read it, after the journal position it reflects.

    Features are as of the customer's last entry, so that the document follows
    from the record and what is in force alone.
    """
    key, now = customer["key"], customer["seen"]
    stage = customer["stage"]
    position = entry_position(customer["at"], 0)
    cart = customer.get("cart")
    read = features(customer, now)
    shown: dict[str, Any] = {
        "v": 1, "customer": key, "anonymous_ids": customer.get("anonymous_ids", []), "last_seen_at": rfc3339(now),
        "traits": {name: said[0] for name, said in customer.get("traits", {}).items() if said[0] is not None},
        "stage": {"name": stage_name(customer), "reason": stage["vitality"], "since": rfc3339(stage["since"])},
        "segments": [], "cluster": customer["segment"]["name"] if "segment" in customer else None,
        "cluster_evidence": _cluster(customer), "features": read, "scores": _scores(customer, now, sight.models),
        "cart": None if cart is None or cart.get("closed") else {
            "id": cart["id"], "currency": cart.get("currency", NO_CURRENCY), "value_minor": cart_value(customer),
            "items": [
                {"item_id": item, "quantity": quantity, "unit_price_minor": price}
                for item, quantity, price in cart_lines(customer)
            ],
        },
        "loyalty": {}, "consent": {scope: said[0] for scope, said in customer.get("consent", {}).items()},
        "runs": [
            {"journey": name, "run_id": run["id"], "run_key": run["key"], "entered_at": rfc3339(run["entered"])}
            for name, run in customer.get("runs", {}).items()
        ],
        "recommendations": _recommendations(customer, now, sight),
        "recent": [
            {"item_id": item, "what": what, "at": rfc3339(at)} for at, what, item in reversed(recent_items(customer))
        ],
        "as_of": {"partition": partition, "position": position},
    }  # fmt: skip
    if sight.declared is not None:
        shown["segments"] = sight.declared.segments(partial(_value, shown))
    return position, shown


def _value(shown: dict[str, Any], name: str) -> Any:
    """Return what a condition's name stands for; None is "missing"."""
    if name in shown["features"]:
        return shown["features"][name]
    if name == "stage":
        return shown["stage"]["name"]
    if name == "cluster":
        return shown["cluster"]
    if name == "cart.currency":
        return (shown["cart"] or {}).get("currency")
    kind, _, rest = name.partition(".")
    if kind == "trait":
        return shown["traits"].get(rest)
    if kind == "score":
        return shown["scores"].get(rest, {}).get("value")
    return None


def _cluster(customer: Customer) -> dict[str, Any] | None:
    """Return since when and by what a customer is in the behavioural segment; prototypes until a model is trusted."""
    segment = customer.get("segment")
    if segment is None:
        return None
    version = segment["version"]
    return {
        "since": rfc3339(segment["since"]), "model_version": version or None,
        "by": "model" if version else "prototypes",
    }  # fmt: skip


def _scores(customer: Customer, now: int, models: Mapping[str, Loaded]) -> dict[str, Any]:
    """Return every score with the version that gave it and on how much evidence; none is guessed."""
    shown: dict[str, Any] = {}
    for slot, (value, version, labels, at) in sorted(customer.get("scores", {}).items()):
        score = {"value": value, "model_version": version or None, "labels": labels, "at": rfc3339(at)}
        shown[slot] = score if value is not None else score | {"abstained": FEW_LABELS}
    if "rhythm" not in customer:
        return shown
    lifetime = models.get("clv")
    if isinstance(lifetime, Worths):
        shown["clv"] = _worth(lifetime, lifetime.worth(value_row(customer, now)))
    spend = models.get("spend")
    if isinstance(spend, Spends):
        money, by = spend.forecast(churn_row(customer, now))
        value = _worth(spend, {"value": money, "by": by} if is_scored(customer, now) else None)
        shown["spend"] = value
    return shown


def _worth(model: Loaded, told: dict[str, Any] | None) -> dict[str, Any]:
    evidence = {"model_version": model.version, "labels": model.payload["labels"]}
    if told is None or not model.is_trusted:
        return {"value": None, "abstained": FEW_LABELS, **evidence}
    return told | evidence


def _recommendations(customer: Customer, now: int, sight: Sight) -> list[dict[str, Any]]:
    """Return what to show the customer next; nothing that was just bought, lies in the cart or cannot be had."""
    ranker = sight.models.get("recs")
    if not isinstance(ranker, Ranker) or not ranker.is_trusted:
        return []
    recent = recent_items(customer)
    gone = {item for at, what, item in recent if what == "buy" and at > now - JUST_BOUGHT}
    gone |= {item for item, _, _ in cart_lines(customer)}
    unavailable = ALL_CAN_BE_HAD if sight.declared is None else sight.declared.unavailable
    return told(ranker.recommend(tastes(customer, now), tuple(sorted(gone)), unavailable))
