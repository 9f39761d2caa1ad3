"""Runs of journeys. Built in: ``abandoned_cart``, a cart left quiet for an hour of journal time.

A run is one customer in one journey for one key; here the key is the cart.
It is entered by a cart event that leaves something in the cart, waits until
an hour has passed without another, and ends with a trigger, or without one
when an order is completed or the cart is emptied. A cart has one run in its
life, so it is reminded of once at most.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from journey.aggregates import NO_CURRENCY, cart_lines, cart_value
from journey.events import DAY, HOUR
from journey.models.baskets import profile_at
from journey.state import Customer
from journey.triggers import TRIGGER, Cause, Trigger, rfc3339, run_id, trigger_id, who

ABANDONED_CART: Final = "abandoned_cart"
VERSION: Final = 1
STEP: Final = "reminder"
QUIET: Final = HOUR
EXPIRES: Final = DAY
CATCH_UP: Final = DAY  # a timer that fires later than this after it was due does not act
MOST_ENDED: Final = 8
RECOMMENDED: Final = 3


def on_event(customer: Customer, cause: Cause, now: int, *, new_order: bool, may_enter: bool) -> None:
    """Enter, prolong or end the run of the customer's cart after an event was folded.

    ``may_enter`` is False for late events: they end runs and start none.
    Historical events do neither, they do not come here.
    """
    runs = customer.get("runs")
    run = runs.get(ABANDONED_CART) if runs else None
    is_cart = cause.type.startswith("cart.")
    if run is None and not is_cart:
        return
    if new_order or not cart_lines(customer):
        if run is not None:
            _end(customer)
        return
    if not is_cart:
        return
    cart_id = customer["cart"]["id"]
    if run is not None and run["key"] != cart_id:
        _end(customer)
        run = None
    if run is not None:
        run["quiet_since"] = now
        run["last"] = list(cause)
    elif may_enter and cart_id not in customer.get("ended_runs", ()):
        customer.setdefault("runs", {})[ABANDONED_CART] = {
            "id": run_id(customer["key"], ABANDONED_CART, cart_id, cause.message_id), "key": cart_id,
            "entered": now, "quiet_since": now, "cause": list(cause), "last": list(cause),
        }  # fmt: skip
        customer["timers"][ABANDONED_CART] = now + QUIET


class Recommends(Protocol):
    """What goes with a cart."""

    is_trusted: bool
    version: int

    def beside_cart(
        self, cart: list[str], profile: dict[str, float], unavailable: frozenset[str]
    ) -> list[dict[str, Any]]:
        """Return items with scores and reasons, the best first; all can be had, and none of them lies in the cart."""


def on_timer(
    customer: Customer, now: int, recs: Recommends | None = None, unavailable: frozenset[str] = frozenset()
) -> Trigger | None:
    """Remind of the cart if it was quiet for an hour; else wait for the rest of it."""
    run = customer["runs"][ABANDONED_CART]
    due = run["quiet_since"] + QUIET
    if due > now:
        customer["timers"][ABANDONED_CART] = due
        return None
    # a historical event may have emptied or closed the cart, and ended nothing
    is_there = customer["cart"]["id"] == run["key"] and bool(cart_lines(customer))
    trigger = _reminder(customer, run, now, recs, unavailable) if is_there and now - due <= CATCH_UP else None
    _end(customer)
    return trigger


def _end(customer: Customer) -> None:
    """End the run; its key is remembered, so that a cart is reminded of once."""
    run = customer["runs"].pop(ABANDONED_CART)
    customer["timers"].pop(ABANDONED_CART, None)
    if not customer["runs"]:
        del customer["runs"]
    ended = [key for key in customer.get("ended_runs", ()) if key != run["key"]] + [run["key"]]
    customer["ended_runs"] = ended[-MOST_ENDED:]


def _reminder(
    customer: Customer, run: dict[str, Any], now: int, recs: Recommends | None, unavailable: frozenset[str]
) -> Trigger:
    cart = customer["cart"]
    value = cart_value(customer)
    currency = cart.get("currency", NO_CURRENCY)
    items: list[dict[str, Any]] = []
    for item_id, quantity, price in cart_lines(customer):
        item: dict[str, Any] = {"item_id": item_id, "quantity": quantity}
        if price is not None:
            item["unit_price_minor"] = price
        items.append(item)
    content: dict[str, Any] = {"template": ABANDONED_CART, "data": {"items": items, "currency": currency}}
    if value is not None:
        content["data"]["value_minor"] = value
    if recs is not None and recs.is_trusted:
        names = [line["item_id"] for line in items]
        beside = recs.beside_cart(names, profile_at(customer.get("profile", {}), now), unavailable)[:RECOMMENDED]
        if beside:
            content["recommendations"] = beside
    causes = [Cause(*run["cause"]).shown()]
    if run["last"][0] != run["cause"][0]:
        causes.append(Cause(*run["last"]).shown())
    facts: dict[str, Any] = {"cart.lines": len(items), "cart.quiet_since": rfc3339(run["quiet_since"])}
    if value is not None:
        facts |= {"cart.value_minor": value, "cart.currency": currency}
    # sorted: a record that was read again has its scopes in another order
    consent = {scope: said[0] for scope, said in sorted(customer.get("consent", {}).items())}
    name = trigger_id(run["id"], STEP)
    body = {
        "specversion": "1.0", "type": TRIGGER, "id": name, "source": f"/journeys/{ABANDONED_CART}@{VERSION}",
        "subject": customer["key"], "time": rfc3339(now), "causationid": run["cause"][0],
        "data": {
            "action": "send", "channel": "email", "expires_at": rfc3339(now + EXPIRES),
            "customer": who(customer["key"]) | ({"consent": consent} if consent else {}),
            "journey": ABANDONED_CART, "version": VERSION, "run_id": run["id"], "run_key": run["key"], "step": STEP,
            "content": content,
            "reason": {"text": f"cart {run['key']} was quiet for 1h", "causes": causes, "facts": facts},
        },
    }  # fmt: skip
    return Trigger(customer["key"], name, body)
