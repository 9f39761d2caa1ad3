"""The raw events of a schedule, and what each has to come to, told without looking at the code that does it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from zlib import crc32

import orjson

from journey.entries import encode
from journey.samples import JOURNAL, SCHEMA_OF, SCHEMAS
from journey.triggers import rfc3339
from streams import topics
from tests.protocol.draws import Draws
from tests.protocol.given import SLOTS, VERSIONS, given, model_of

NOON: Final = 1_780_315_200_000  # 2026-06-01T12:00:00Z
_MINUTE_TEXT: Final = tuple(f"2026-06-01T12:{minute:02d}:00.000Z" for minute in range(60))
RAW: Final = ("events.click", "events.cart", "events.purchase", "events.profile")
KINDS: Final = (
    "page", "page", "view", "cart", "cart", "cart", "order", "identify", "identify", "bad", "again", "again", "tick",
)  # fmt: skip
# nothing is sent again: after a day it would be news
LONG_KINDS: Final = (
    "page",
    "view",
    "view",
    "view",
    "cart",
    "order",
    "order",
    "order",
    "identify",
    "bad",
    "tick",
    "tick",
)
ADOPTING: Final = ("adopt", "adopt", "adopt")
ELSEWHERE: Final = 90  # a journal partition that no schedule has
EVERYWHERE: Final = frozenset(("tick", "adopt"))  # control messages


class Raw(NamedTuple):
    """A raw record, and what has to become of it."""

    topic: str
    number: int  # of the raw partition
    key: bytes | None
    value: bytes
    type: str  # of the event; "letter" for what is refused, "tick" and "adopt" for control messages
    customer: str
    message_id: str
    linked: str | None = None  # an anonymous id that turns out to be this customer

    def homes(self, partitions: int) -> set[int]:
        """Return the journal partitions in which it has to appear."""
        if self.type == "letter":
            return set()
        if self.type in EVERYWHERE:
            return set(range(partitions))
        keys = [self.customer] if self.linked is None else [self.customer, self.linked]
        return {crc32(key.encode()) % partitions for key in keys}


class History:
    """Draws raw records one by one.

    Parameters
    ----------
    is_long
        Events happen when they are published, over months: of some hours, messages are sent again, too.
    adopts
        Some are control messages that adopt models; ``in_force`` is what they come to.
    """

    def __init__(self, draws: Draws, raw_partitions: int, customers: int, *, is_long: bool, adopts: bool) -> None:
        self._draws, self._raw_partitions, self._customers = draws, raw_partitions, customers
        self._is_long, self._adopts = is_long, adopts
        self._kinds = (LONG_KINDS if is_long else KINDS) + (ADOPTING if adopts else ())
        self.in_force: dict[str, list[Any]] = {}
        self._events: list[Raw] = []
        self._count = 0

    def next(self, now: int) -> Raw:
        """Return one more; ``now`` (ms) is the time a control tick tells."""
        draws = self._draws
        self._count += 1
        kind = draws.pick(self._kinds)
        # adoptions move no time, and a journal that has none gets no ticks
        is_first = self._count == 1 and self._adopts
        if is_first or (kind == "tick" and draws.below(2)):
            value = b'{"k":"tick","at":%d}' % now
            return Raw(topics.CONTROL, 0, None, value, "tick", "", "")
        if kind == "adopt":
            return self._adopt(now)
        if kind == "bad":
            return self._bad()
        if kind == "again" and self._events:
            # a producer that was not answered sends again, maybe without the key that chose the partition
            again = draws.pick(self._events)
            if draws.below(2):
                return again._replace(number=draws.below(self._raw_partitions))
            return again
        event = self._event(kind, now)
        self._events.append(event)
        return event

    def samples_before(self, count: int) -> list[tuple[str, bytes]]:
        """Return samples of an engine that ran before, with their families: learners have work from the start."""
        draws, samples = self._draws, []
        for number in range(count):
            family = draws.pick(SLOTS)
            schema = SCHEMA_OF[family]
            sample = {
                "v": 1, "model": family, "kind": "label", "src": [JOURNAL, ELSEWHERE, number // 2, number % 2],
                "schema": schema, "at": NOON + number, "y": draws.below(2),
                "x": [draws.below(1000) / 100 for _ in SCHEMAS[schema]],
            }  # fmt: skip
            samples.append((family, encode(sample)))
        return samples

    def _adopt(self, now: int) -> Raw:
        """Return a message that adopts a version; some name another one than what is in force, and change nothing."""
        draws = self._draws
        slot, version = draws.pick(SLOTS), draws.pick(VERSIONS)
        known = self.in_force.get(slot)
        replaces = None if known is None else known[1]
        if draws.chance(40):
            replaces = draws.pick((None, *VERSIONS))
        model = model_of(slot)
        sha256 = given().digests[model, version]
        if replaces == (None if known is None else known[1]):
            self.in_force[slot] = [model, version, sha256]
        message = {
            "v": 1, "k": "adopt", "slot": slot, "model": model, "version": version, "replaces": replaces,
            "sha256": sha256, "at": now,
        }  # fmt: skip
        return Raw(topics.CONTROL, 0, None, orjson.dumps(message), "adopt", "", "")

    def _event(self, kind: str, now: int) -> Raw:
        draws = self._draws
        who = 1 + draws.below(self._customers)
        is_known = who % 3 != 0 or kind == "identify"
        customer = f"u:{who}" if is_known else f"a:{who}"
        ids = f'"user_id":"{who}"' if is_known else f'"anonymous_id":"{who}"'
        message_id = f"m-{self._count}"
        linked = None
        product = draws.below(3)
        if kind == "view":
            type_, data = "click.product_viewed", f'"item":{{"item_id":"p-{product}"}}'
        elif kind == "cart":
            type_, data = "cart.product_added", f'"item":{{"item_id":"p-{product}","unit_price_minor":900}}'
        elif kind == "order":
            type_, data = "purchase.order_completed", f'"order_id":"o-{self._count}"'
            if self._is_long:
                item = f'{{"item_id":"p-{product}","unit_price_minor":900}}'
                data += f',"revenue_minor":900,"currency":"EUR","items":[{item}]'
        elif kind == "identify":
            type_, data = "profile.identify", f'"traits":{{"size":{product}}}'
            anonymous = 3 * (1 + draws.below(2))
            ids += f',"anonymous_id":"{anonymous}"'
            linked = f"a:{anonymous}"
        else:
            type_, data = "click.page_viewed", ""
        happened = rfc3339(now - 20_000 * draws.below(4)) if self._is_long else _MINUTE_TEXT[self._count % 60]
        text = f'{{"type":"{type_}",{ids},"message_id":"{message_id}","occurred_at":"{happened}","data":{{{data}}}}}'
        key = customer.encode()
        topic = "events." + type_.partition(".")[0]
        return Raw(topic, crc32(key) % self._raw_partitions, key, text.encode(), type_, customer, message_id, linked)

    def _bad(self) -> Raw:
        draws = self._draws
        value = draws.pick((b"{", b'{"type":"cart.flown","user_id":"1"}', b'{"type":"click.page_viewed","v":1}'))
        key = draws.pick((None, b"u:1", b"u:2"))
        return Raw(draws.pick(RAW), draws.below(self._raw_partitions), key, value, "letter", "", "")
