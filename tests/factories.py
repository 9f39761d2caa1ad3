"""Journals made up for tests: entries, one customer's story told line by line, and random histories.

Nothing here is drawn by chance alone: hypothesis draws, or a hash does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import orjson
from hypothesis import strategies as st

from journey.engine import Shard, fold
from journey.entries import PAGE_BYTES, PAGE_ENTRIES, Entry, pages
from journey.events import DAY, HOUR, MINUTE, SECOND
from journey.state import Customer
from journey.triggers import STAGE_CHANGED, TRIGGER, Trigger
from streams.arrivals import Parsed

NOON: Final = 1_780_315_200_000  # 2026-06-01T12:00:00Z

Json = dict[str, Any]
Records = dict[bytes, bytes]


# ---- pages -----------------------------------------------------------------------------------------------------------


def loaded(parsed: Parsed) -> tuple[tuple[int, Any], ...]:
    """Return the entries of what was parsed, each with its journal partition."""
    return tuple((number, orjson.loads(entry)) for number, entry in parsed.entries)


def encoded_pages(
    entries: Iterable[Entry], most_entries: int = PAGE_ENTRIES, most_bytes: int = PAGE_BYTES
) -> Iterator[bytes]:
    """Cut entries into pages."""
    return pages([orjson.dumps(entry) for entry in entries], most_entries, most_bytes)


# ---- entries ---------------------------------------------------------------------------------------------------------


def item(name: str = "p-1", price: int | None = None, quantity: int | None = None, category: str | None = None) -> Json:
    """Return an item of an event; what is None is not told."""
    told = {"unit_price_minor": price, "quantity": quantity, "category": category}
    return {"item_id": name} | {name: value for name, value in told.items() if value is not None}


def event(
    type_: str,
    at: int = NOON,
    *,
    key: str = "u:1",
    oc: int | None = None,
    id_: str | None = None,
    data: Json | None = None,
    src: list[Any] | None = None,
    context: Json | None = None,
    anonymous_id: str | None = None,
    historical: bool = False,
) -> Entry:
    """Return an event entry; without ``oc`` it happened when it was received, without ``id_`` its source is its id."""
    where = src or ["events." + type_.partition(".")[0], 0, 0]
    entry: Entry = {
        "k": "event", "at": at, "src": where, "c": key, "id": id_ or "m-" + "/".join(map(str, where)),
        "t": type_, "oc": at if oc is None else oc, "d": data or {},
    }  # fmt: skip
    if context is not None:
        entry["x"] = context
    if anonymous_id is not None:
        entry["an"] = anonymous_id
    if historical:
        entry["h"] = True
    return entry


def tick(at: int, src: list[Any] | None = None) -> Entry:
    """Return a tick: of a worker, or with ``src`` of the control topic."""
    entry: Entry = {"k": "tick", "at": at}
    if src is not None:
        entry["src"] = src
    return entry


def clock(which: str, at: int = 0, offset: int = 0) -> Entry:
    """Return the entry that says where journal time comes from."""
    return {"k": "clock", "at": at, "src": ["journey.control", 0, offset], "clock": which}


# ---- raw records -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Raw:
    """A record of a raw topic as ingest meets it."""

    value: bytes | None
    topic: str = "events.click"
    offset: int = 0
    partition: int = 0
    timestamp: int = NOON
    key: bytes | None = b"u:1"
    headers: tuple[tuple[str, bytes], ...] = ()


def raw(offset: int = 0, *, topic: str | None = None, timestamp: int = NOON, **told: Any) -> Raw:
    """Return a raw event, a page view of u:1 at noon but for what is told; what is told to be None is left out."""
    known: Json = {"type": "click.page_viewed", "user_id": "1", "occurred_at": "2026-06-01T12:00:00.000Z"} | told
    value = {name: part for name, part in known.items() if part is not None}
    name = topic or "events." + str(value.get("type", "click")).partition(".")[0]
    return Raw(orjson.dumps(value), name, offset, timestamp=timestamp)


# ---- one customer's story --------------------------------------------------------------------------------------------


@dataclass
class Story:
    """One journal partition, told event by event; every line is a page of its own.

    ``now`` is the time of the last line; ``after`` is how long (ms) after it
    the next one is received, ``ago`` how long before its reception it happened.
    """

    key: str = "u:1"
    now: int = NOON
    stored: Records = field(default_factory=dict)
    triggers: list[Trigger] = field(default_factory=list)
    last: Entry = field(default_factory=lambda: tick(NOON))

    def __post_init__(self) -> None:
        self.shard = Shard(0, self.stored.get, self.stored.items())
        self._offsets = itertools.count()

    def tell(self, *entries: Entry) -> list[Trigger]:
        """Fold these entries as one page; return the triggers they caused."""
        fold(self.shard, self.shard.partition["at"] + 1, list(entries))
        told = list(self.shard.triggers)
        self.triggers += told
        self.shard.triggers.clear()
        return told

    def does(
        self,
        type_: str,
        *,
        after: int = 0,
        ago: int = 0,
        key: str | None = None,
        id_: str | None = None,
        historical: bool = False,
        context: Json | None = None,
        anonymous_id: str | None = None,
        **data: Any,
    ) -> list[Trigger]:
        """Let the customer do something; return the triggers it caused."""
        self.now += after
        src = ["events." + type_.partition(".")[0], 0, next(self._offsets)]
        self.last = event(
            type_, self.now, key=key or self.key, oc=self.now - ago, id_=id_, data=data, src=src, context=context,
            anonymous_id=anonymous_id, historical=historical,
        )  # fmt: skip
        return self.tell(self.last)

    def waits(self, how_long: int) -> list[Trigger]:
        """Let time pass; return the triggers that it caused."""
        self.now += how_long
        return self.tell(tick(self.now))

    def adds(
        self, name: str = "p-1", price: int | None = 1000, quantity: int | None = None, **more: Any
    ) -> list[Trigger]:
        """Let the customer put something into the cart."""
        return self.does("cart.product_added", item=item(name, price, quantity), **more)

    def removes(self, name: str = "p-1", quantity: int | None = None, **more: Any) -> list[Trigger]:
        """Let the customer take something out of the cart."""
        return self.does("cart.product_removed", item=item(name, None, quantity), **more)

    def orders(self, order_id: str = "o-1", revenue: int | None = 1000, **more: Any) -> list[Trigger]:
        """Let the customer order."""
        money: Json = {} if revenue is None else {"revenue_minor": revenue, "currency": "EUR"}
        return self.does("purchase.order_completed", order_id=order_id, **money, **more)

    def views(self, name: str = "p-1", **more: Any) -> list[Trigger]:
        """Let the customer look at a product."""
        return self.does("click.product_viewed", item=item(name), **more)

    def write(self) -> None:
        """Store what was folded, and go on from what is stored, as a worker that starts does."""
        self.stored.update(self.shard.changes())
        self.shard = Shard(0, self.stored.get, self.stored.items())

    @property
    def customer(self) -> Customer:
        """The customer as they are known now."""
        found = self.shard.customer(self.key)
        assert found is not None
        return found

    @property
    def depth(self) -> int:
        return self.customer["stage"]["depth"]

    @property
    def vitality(self) -> str:
        return self.customer["stage"]["vitality"]

    def moves(self) -> list[tuple[str | None, str]]:
        """Return the changes of stage that were told, as (from, to)."""
        return [(one.body["data"]["from"], one.body["data"]["to"]) for one in of_type(self.triggers, STAGE_CHANGED)]

    def reminders(self) -> list[Trigger]:
        """Return the abandoned carts that were told."""
        return of_type(self.triggers, TRIGGER)


def of_type(triggers: Iterable[Trigger], type_: str) -> list[Trigger]:
    """Return the triggers of one type."""
    return [one for one in triggers if one.body["type"] == type_]


# ---- folding in every way that has to give the same ------------------------------------------------------------------

Page = list[Entry]


def cut(entries: Sequence[Entry], sizes: Sequence[int]) -> list[Page]:
    """Cut entries into pages of these sizes, in turn."""
    pages: list[Page] = []
    turn = itertools.cycle(sizes)
    start = 0
    while start < len(entries):
        size = next(turn)
        pages.append(list(entries[start : start + size]))
        start += size
    return pages


def fold_at_once(pages: Sequence[Page], poisoned: Iterable[tuple[int, int]] = ()) -> tuple[Records, list[Trigger]]:
    """Fold pages in memory, never written in between; return the records and the triggers."""
    shard = Shard(0, lambda _key: None, ())
    shard.poisoned = set(poisoned)
    for offset, page in enumerate(pages):
        fold(shard, offset, page)
    return dict(shard.changes()), list(shard.triggers)


def fold_written(pages: Sequence[Page], groups: Sequence[int]) -> tuple[Records, list[Trigger]]:
    """Fold pages in groups of these sizes; after each, all is written and the working copy is built anew."""
    stored: Records = {}
    triggers: list[Trigger] = []
    turn = itertools.cycle(groups)
    offset = 0
    while offset < len(pages):
        shard = Shard(0, stored.get, list(stored.items()))
        for _ in range(next(turn)):
            if offset < len(pages):
                fold(shard, offset, pages[offset])
                offset += 1
        triggers += shard.triggers
        stored.update(shard.changes())
    return stored, triggers


def without_stamps(records: Records) -> dict[bytes, Json]:
    """Return the records without the offsets that they reflect: these follow from where pages were cut."""
    return {
        key: {name: part for name, part in orjson.loads(raw).items() if name != "at"} for key, raw in records.items()
    }


def ids_of(triggers: Iterable[Trigger]) -> list[str]:
    """Return the ids of triggers."""
    return [one.id for one in triggers]


# ---- histories at random ---------------------------------------------------------------------------------------------

# what may happen, with the data of the nth of its kind
ACTIONS: Final[dict[str, Callable[[int], Json]]] = {
    "click.product_viewed": lambda n: {"item": item(f"p-{n}", 100 * n, category=f"c-{n % 3}")},
    "click.page_viewed": lambda n: {},
    "click.product_added_to_wishlist": lambda n: {"item": item(f"p-{n}")},
    "click.product_reviewed": lambda n: {"item": item(f"p-{n}"), "rating": n},
    "click.custom": lambda n: {"name": "used"},
    "cart.product_added": lambda n: {"item": item(f"p-{n}", 100 * n or None, n or None), "currency": "EUR"},
    "cart.product_removed": lambda n: {"item": item(f"p-{n}")} | ({"cart_id": "c-1"} if n == 3 else {}),
    "cart.cart_updated": lambda n: {"items": [item(f"p-{one}", 50, one) for one in range(n % 60)]},
    "cart.checkout_started": lambda n: {"cart_id": f"c-{n}"} if n else {},
    "purchase.order_completed": lambda n: {"order_id": f"o-{n}", "revenue_minor": 1000 * n, "currency": "EUR"},
    "purchase.order_updated": lambda n: {"order_id": f"o-{n}", "total_minor": 900, "tax_minor": 100, "currency": "USD"},
    "purchase.order_refunded": lambda n: {"order_id": f"o-{n}"} | ({"refund_minor": 500} if n % 2 else {}),
    "purchase.order_cancelled": lambda n: {"order_id": f"o-{n}"},
    "profile.identify": lambda n: {"traits": {"first_name": "Mei", "size": n, "gone": None}},
    "profile.consent": lambda n: {"scopes": {f"s-{n}": "granted", "marketing": "denied"}},
    "feedback.unsubscribed": lambda n: {"channel": "email"},
    "feedback.satisfaction": lambda n: {"channel": "email", "score": 7.0 + n, "scale": [0.0, 10.0]},
}
GAPS: Final = (
    0, 1, SECOND, 90 * SECOND, 20 * MINUTE, 30 * MINUTE, HOUR - 1, HOUR, 5 * HOUR, 25 * HOUR, 8 * DAY, 31 * DAY,
    61 * DAY, 95 * DAY,
)  # fmt: skip
DELAYS: Final = (0, 0, 0, 7, 10 * MINUTE, 2 * HOUR, DAY, DAY + 1, 40 * DAY)

_steps: Final = st.tuples(
    st.integers(0, 2),  # who
    st.sampled_from([*ACTIONS, "tick", "again", "redelivered"]),
    st.sampled_from(GAPS),
    st.sampled_from(DELAYS),
    st.integers(0, 3),  # which item, order, cart
    st.integers(0, 9),  # 0: a historical event
)
_Step = tuple[int, str, int, int, int, int]


def _history(steps: Iterable[_Step]) -> list[Entry]:
    entries: list[Entry] = []
    events: list[Entry] = []
    now = NOON
    offsets: dict[tuple[str, int], int] = {}
    for who, action, gap, delay, which, rare in steps:
        now += gap
        if action == "tick" or (action in ("again", "redelivered") and not events):
            entries.append(tick(now))
        elif action == "redelivered":  # ingest appended a stretch once more: the same sources, later in the journal
            begin = which * len(entries) // 4
            entries += [entry for entry in entries[begin : begin + 3] if "src" in entry]
        else:
            earlier = events[which % len(events)] if action == "again" else None  # sent again by the producer
            type_ = action if earlier is None else earlier["t"]
            source = ("events." + type_.partition(".")[0], who % 2)
            offset = offsets[source] = offsets.get(source, -1) + 1 + (rare == 9)  # a dead letter leaves a hole
            key = ("u:1", "u:2", "a:3")[who]
            at = now - (rare == 8) * MINUTE  # stamped by a collector, and overtaken since
            entry = event(
                type_, at, key=key, oc=at - delay, src=[*source, offset],
                data=ACTIONS[type_](which) if earlier is None else earlier["d"],
                id_=None if earlier is None else earlier["id"], historical=rare == 0,
                anonymous_id="9f3c" if rare == 7 else None,
                context={"consent": {"marketing.sms": "granted"}} if rare == 6 else None,
            )  # fmt: skip
            if earlier is not None:
                entry |= {"c": earlier["c"], "oc": earlier["oc"]}
            entries.append(entry)
            events.append(entry)
    return entries


def histories(most: int = 50) -> st.SearchStrategy[list[Entry]]:
    """Return entries of three customers: late, repeated and redelivered events, ticks, imports, months of silence."""
    return st.lists(_steps, min_size=1, max_size=most).map(_history)


def sizes() -> st.SearchStrategy[list[int]]:
    """Return sizes to cut by, in turn."""
    return st.lists(st.integers(1, 7), min_size=1, max_size=5)


# ---- without hypothesis: many events, drawn by a hash ----------------------------------------------------------------


def numbers(*label: str | int) -> Iterator[int]:
    """Yield whole numbers below 2^32 for ever, the same for the same label."""
    for count in itertools.count():
        digest = blake2b("\x1f".join(map(str, (*label, count))).encode()).digest()
        for start in range(0, 64, 4):
            yield int.from_bytes(digest[start : start + 4], "big")


def long_history(count: int, *label: str | int) -> list[Entry]:
    """Return a history of so many steps, of several hundred items and orders."""
    draw = numbers("history", *label)
    kinds = [*ACTIONS, "tick", "again"]
    steps: list[_Step] = []
    for _ in range(count):
        kind, gap, delay = kinds[next(draw) % len(kinds)], GAPS[next(draw) % 9], DELAYS[next(draw) % len(DELAYS)]
        steps.append((0, kind, gap, delay, next(draw) % 300, 5))
    return _history(steps)
