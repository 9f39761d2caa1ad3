"""Valid events of a shop in one day, made fast: the same set for everybody who is measured.

Narrow traffic: many customers, each with few events, so that little can be
shared between the events of a customer. 90 % clicks, 6 % cart, 3 % purchases,
1 % profile and feedback.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from journey.events import DAY
from streams.raw import RawRecord

CUSTOMERS: Final = 15_000  # among 300,000 events: 20 events for each
EVENTS_PER_CUSTOMER: Final = 20
WIDE_PER_CUSTOMER: Final = 3
AT_ONCE: Final = 1_000  # visitors in the shop at the same time
LEAVES: Final = 0.125  # chance that a visitor's event is the last of the visit
ITEMS: Final = 2_000
CATEGORIES: Final = ("kitchen", "garden", "lighting", "stationery", "textiles", "toys")
SEED: Final = 20_260_601


class _Visitor:
    """Somebody in the shop: who it is as JSON members, and the cart of this visit."""

    __slots__ = ("cart", "ids", "key")

    def __init__(self, number: int, visit: int) -> None:
        self.cart = f"c-{visit}"
        self.key = f"u:{number}".encode()
        self.ids = f'"user_id":"{number}","anonymous_id":"{number * 2_654_435_761 % 2**64:016x}"'
        if number % 3:  # a third is known
            name = f"{number * 2_654_435_761 % 2**64:016x}"
            self.key, self.ids = b"a:" + name.encode(), f'"anonymous_id":"{name}"'


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _time(ms: int) -> str:
    return f"{_second(ms // 1000)}.{ms % 1000:03d}Z"


def generate(
    events: int, *, until: int, per_customer: float = EVENTS_PER_CUSTOMER, at_once: int = AT_ONCE
) -> list[RawRecord]:
    """Return so many events of the day that ends at ``until`` (ms since 1970), in the order of their reception.

    ``per_customer`` is how many events a customer has on average, ``at_once`` how many visitors take turns. The same
    arguments give the same bytes.
    """
    rng = random.Random(SEED)  # noqa: S311  # traffic, no secret
    chance, integer, bits = rng.random, rng.randrange, rng.getrandbits
    customers = max(int(events / per_customer), 1)
    begin, visits = until - DAY, at_once
    inside = [_Visitor(integer(customers), visit) for visit in range(min(at_once, customers))]
    records = []
    for number in range(events):
        slot = integer(len(inside))
        visitor = inside[slot]
        at = begin + DAY * number // events
        happened, sent = at - 180 - integer(800), at - 60 - integer(100)
        cls, name, data = _event(visitor.cart, number, chance(), integer)
        value = (
            f'{{"type":"{cls}.{name}","message_id":"{bits(96):024x}",{visitor.ids},"occurred_at":"{_time(happened)}",'
            f'"sent_at":"{_time(sent)}","received_at":"{_time(at)}","data":{data},"context":{{"locale":"en-GB"}}}}'
        )
        records.append(RawRecord(f"events.{cls}", visitor.key, value.encode(), at))
        if chance() < LEAVES:
            visits += 1
            inside[slot] = _Visitor(integer(customers), visits)
    return records


def wide(events: int, *, until: int) -> list[RawRecord]:
    """Return events of so many customers that few of one lie close together: some 1.5 to each record written."""
    return generate(events, until=until, per_customer=WIDE_PER_CUSTOMER, at_once=events)


def new_customer(number: int, at: int) -> RawRecord:
    """Return the first event of a customer, at a moment (ms since 1970): it changes a stage, so it gives a trigger."""
    key = f"a:{number:016x}"
    value = (
        f'{{"type":"click.product_viewed","message_id":"{at % 2**40:010x}{number:014x}","anonymous_id":"{key[2:]}",'
        f'"occurred_at":"{_time(at)}","data":{{"item":{_item(number % ITEMS)},"currency":"EUR"}}}}'
    )
    return RawRecord("events.click", key.encode(), value.encode(), at)


def regular(customer: int, number: int, at: int, rng: random.Random) -> RawRecord:
    """Return the next event of a customer who comes again and again, at a moment (ms since 1970)."""
    visitor = _Visitor(customer, number // 50)
    cls, name, data = _event(visitor.cart, number, rng.random(), rng.randrange)
    value = (
        f'{{"type":"{cls}.{name}","message_id":"r{number:023x}",{visitor.ids},"occurred_at":"{_time(at)}",'
        f'"data":{data},"context":{{"locale":"en-GB"}}}}'
    )
    return RawRecord(f"events.{cls}", visitor.key, value.encode(), at)


def cart_left(number: int, at: int) -> RawRecord:
    """Return an event that puts something in a cart, received at a moment (ms since 1970): due an hour later."""
    key = f"a:{number:016x}"
    value = (
        f'{{"type":"cart.product_added","message_id":"c{number:023x}","anonymous_id":"{key[2:]}",'
        f'"occurred_at":"{_time(at)}","received_at":"{_time(at)}",'
        f'"data":{{"cart_id":"c-{number}","item":{_item(number % ITEMS)},"currency":"EUR"}}}}'
    )
    return RawRecord("events.cart", key.encode(), value.encode(), at)


def _event(cart: str, number: int, drawn: float, integer: Callable[..., int]) -> tuple[str, str, str]:
    item = _item(integer(ITEMS))
    if drawn < 0.55:
        return "click", "product_viewed", f'{{"item":{item},"currency":"EUR"}}'
    if drawn < 0.75:
        return "click", "page_viewed", f'{{"name":"/guides/{number % 40}"}}'
    if drawn < 0.83:
        return "click", "product_list_viewed", f'{{"list_id":"l-{number % 90}","category":"{CATEGORIES[number % 6]}"}}'
    if drawn < 0.87:
        return "click", "products_searched", f'{{"query":"mug number {number % 500}"}}'
    if drawn < 0.90:
        return "click", "product_clicked", f'{{"item":{item},"list_id":"l-{number % 90}"}}'
    if drawn < 0.94:
        return "cart", "product_added", f'{{"cart_id":"{cart}","item":{item},"currency":"EUR"}}'
    if drawn < 0.945:
        return "cart", "product_removed", f'{{"cart_id":"{cart}","item":{item}}}'
    if drawn < 0.955:
        return "cart", "cart_viewed", f'{{"cart_id":"{cart}"}}'
    if drawn < 0.96:
        return "cart", "checkout_started", f'{{"cart_id":"{cart}","currency":"EUR"}}'
    if drawn < 0.99:
        money = f'"revenue_minor":{integer(500, 20_000)},"currency":"EUR"'
        return "purchase", "order_completed", f'{{"order_id":"o-{number}","cart_id":"{cart}","items":[{item}],{money}}}'
    if drawn < 0.996:
        return "profile", "identify", f'{{"traits":{{"first_name":"Name{number % 300}","plan":"basic"}}}}'
    return "feedback", "opened", '{"channel":"email"}'


@lru_cache(maxsize=ITEMS)
def _item(number: int) -> str:
    price = 490 + number * 37 % 20_000
    return f'{{"item_id":"p-{number}","category":"{CATEGORIES[number % 6]}","unit_price_minor":{price}}}'
