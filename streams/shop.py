"""A generated shop: what its visitors do, as the raw records a website would publish, defects included.

Nothing of it is drawn by chance. Every choice comes from a generator seeded
by a hash of the seed and the customer's number, in whole numbers only, so the
same arguments give the same bytes in every process, on every machine.

Customers behave as one of ``STATES``, and some go from one to the next: who
looked around buys once, who bought now and then becomes loyal, and every
fourth regular lapses. What a model may learn is planted in what they do, each
with exceptions: everybody has a rhythm of their own, tastes and favourites;
who means to buy looks longer, at one item again, at one category; in
``promotions`` there are coupons, and bargain hunters buy then only; some items
are taken together (``BUNDLES``).

Shares of the records (``ShopSummary`` has the counts):

=====================  ==========================================================
duplicates             1 %   sent again under the same message id, within 20 h
bad                    1 %   every kind of ``BAD_KINDS`` in turn; never accepted
late                   1 %   of page and product views: received 24 to 72 h later
out of order           2 %   of clicks and carts: received 5 to 90 s later
skewed clock           5 %   of devices: wrong by 1 min to 3 h, with ``sent_at``
bare                   2 %   of web events: no context, source or message id
future clock           0.1 % of clicks: ``occurred_at`` far in the future
blocked user id        0.2 % of anonymous clicks: ``user_id`` is ``null``, ``guest``
order sent twice       1 %   of orders: the same order under another message id
=====================  ==========================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import accumulate
from types import MappingProxyType
from typing import Any, Final, TypeVar

import orjson

from journey.entries import compact
from journey.events import DAY, HOUR, MINUTE, SECOND
from journey.triggers import rfc3339
from streams.raw import TOPIC_OF_CLASS, RawRecord

START_MS: Final = 1_780_272_000_000  # 2026-06-01T00:00:00Z
CURRENCY: Final = "EUR"
CUSTOMERS: Final = 1000
DAYS: Final = 180

_T = TypeVar("_T")
_Json = dict[str, Any]


# --- what is planted ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _State:
    """How a kind of customer behaves.

    ``share`` of all customers in percent, as what they are in the end; ``gap``
    days between two orders, of which each customer has a mean of their own;
    ``orders`` from, to, None as many as there is time for; ``looks`` days
    between two visits without an order; ``stays`` of them in thousandths: that
    another one follows; ``views`` events of a visit; ``abandons``, ``known``
    (tells who they are) and ``coupons`` in thousandths of looks, customers and
    of orders outside promotions; ``lines`` of a cart.
    """

    share: int
    gap: tuple[int, int]
    orders: tuple[int, int | None]
    looks: tuple[int, int]
    stays: int
    views: tuple[int, int]
    abandons: int
    known: int
    coupons: int
    lines: tuple[int, int]


STATES: Final[Mapping[str, _State]] = MappingProxyType(
    {
        # looks, rarely fills a cart, never buys
        "window_shopper": _State(30, (0, 0), (0, 0), (8, 34), 700, (2, 4), 30, 300, 0, (1, 1)),
        # fills carts and leaves them; buys at most once
        "abandoner": _State(14, (0, 0), (0, 1), (6, 16), 960, (2, 4), 850, 750, 60, (1, 3)),
        # one order, then now and then a look
        "one_time": _State(10, (0, 0), (1, 1), (8, 20), 960, (2, 5), 40, 850, 60, (1, 2)),
        # orders every month or so
        "repeat": _State(12, (18, 30), (1, None), (25, 60), 1000, (2, 5), 80, 1000, 50, (1, 2)),
        # comes when there are coupons, and buys then only
        "bargain": _State(9, (0, 0), (0, None), (16, 40), 1000, (2, 5), 200, 1000, 1000, (1, 3)),
        # orders every other week or so
        "loyal": _State(10, (8, 15), (1, None), (25, 60), 1000, (2, 4), 50, 1000, 30, (2, 4)),
        # was loyal, a regular or a bargain hunter: an order more at most, a few looks, then silence
        "lapsing": _State(12, (18, 30), (0, 1), (10, 30), 880, (2, 4), 60, 1000, 300, (1, 2)),
        # buys and sends everything back
        "returner": _State(3, (14, 24), (1, None), (20, 50), 1000, (2, 5), 80, 1000, 50, (2, 4)),
    }
)

_STATE_OF_SLOT: Final = tuple(name for name, state in STATES.items() for _ in range(state.share))

# kind of a bad record -> reasons with which arrival may refuse it, the likeliest first
BAD_KINDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "truncated": ("not_json",),
        "not_utf8": ("not_json",),
        "empty": ("not_json",),
        "not_an_object": ("not_json",),
        "nested_bomb": ("too_large", "not_json"),
        "too_deep": ("too_large",),
        "too_large": ("too_large",),
        "too_many_items": ("too_large", "bad_field"),
        "no_type": ("missing_field",),
        "unknown_type": ("unknown_type",),
        "wrong_topic": ("wrong_topic",),
        "new_version": ("unsupported_version",),
        "no_id": ("missing_id",),
        "blocked_id": ("blocked_id",),
        "no_time": ("missing_field",),
        "time_of_1970": ("bad_time",),
        "time_in_words": ("bad_time", "bad_field"),
        "no_item": ("missing_field",),
        "item_is_a_number": ("bad_field",),
        "quantity_in_words": ("bad_field",),
        "money_as_float": ("bad_money",),
        "money_as_text": ("bad_money",),
        "negative_money": ("bad_money",),
        "no_currency_code": ("bad_money",),
    }
)


@dataclass(frozen=True)
class ShopSummary:
    """Exact counts of what was generated: ``published == accepted + duplicates + dead_lettered``.

    ``bad`` counts by kind, ``defects`` the accepted records with one;
    ``orders`` are distinct order ids, ``revenue_minor`` is the sum of what
    they say, in cents; ``known`` customers told who they are, ``links`` are
    the different pairs of an anonymous and a user id.
    """

    published: int
    accepted: int
    duplicates: int
    bad: Mapping[str, int]
    defects: Mapping[str, int]
    types: Mapping[str, int]
    customers: int
    known: int
    links: int
    orders: int
    revenue_minor: int
    first_at: int
    last_at: int

    @property
    def dead_lettered(self) -> int:
        return sum(self.bad.values())


@dataclass(frozen=True)
class Shop:
    """All records in the order in which they are published, and what is known about them."""

    records: Sequence[RawRecord]
    summary: ShopSummary


def generate(
    *,
    seed: int = 1,
    customers: int = CUSTOMERS,
    events: int | None = None,
    days: int = DAYS,
    start_ms: int = START_MS,
) -> Iterator[RawRecord]:
    """Yield the shop's records, sorted by ``at``; see ``open_shop``."""
    return iter(open_shop(seed=seed, customers=customers, events=events, days=days, start_ms=start_ms).records)


def expected(
    *,
    seed: int = 1,
    customers: int = CUSTOMERS,
    events: int | None = None,
    days: int = DAYS,
    start_ms: int = START_MS,
) -> ShopSummary:
    """Return the exact counts of what ``generate`` yields for the same arguments."""
    return open_shop(seed=seed, customers=customers, events=events, days=days, start_ms=start_ms).summary


def open_shop(
    *,
    seed: int = 1,
    customers: int = CUSTOMERS,
    events: int | None = None,
    days: int = DAYS,
    start_ms: int = START_MS,
) -> Shop:
    """Generate a shop whole: about 1 KB of memory an event.

    Parameters
    ----------
    customers
        Every one of them does something.
    events
        Accepted events at least; some more when orders need them. Visits are
        longer or shorter for it, and few events leave room for few visits.
        None: as many as the customers have reason for.
    days
        What is done lies within them from ``start_ms`` (milliseconds since
        1970) on; late events arrive up to three days after.

    Raises
    ------
    ValueError
        No customer, or less than three days.
    """
    if customers < 1 or days < 3:
        msg = f"a shop needs a customer and three days, not {customers} and {days}"
        raise ValueError(msg)
    tally = _Tally()
    catalogue = _catalogue(seed)
    span = (start_ms, start_ms + days * DAY)
    sales = promotions(seed, days=days, start_ms=start_ms)
    people = [_person(seed, number) for number in range(customers)]
    plans = [_plan(person, span, sales) for person in people]
    costs = [sum(visit.cost for visit in plan) for plan in plans]
    total = sum(costs)
    for person, plan, cost in zip(people, plans, costs, strict=True):
        budget = None if events is None else -(-events * cost // total)
        _Life(person, catalogue, span, sales, tally).live(plan, budget)
    _add_bad(seed, people, span, tally)
    tally.published.sort(key=lambda entry: entry[:3])
    records = tuple(RawRecord(topic, key, value, at) for at, _, _, topic, key, value in tally.published)
    return Shop(records, tally.summary(customers, sum(person.user_id is not None for person in people)))


def planted_states(seed: int = 1, customers: int = CUSTOMERS) -> dict[str, str]:
    """Return customer key -> what they are in the end; the key is ``u:...`` for whoever ever tells who they are."""
    return {who.key: who.state for who in (_person(seed, number) for number in range(customers))}


def state_at(
    seed: int = 1, customers: int = CUSTOMERS, *, days: int = DAYS, start_ms: int = START_MS
) -> dict[str, list[tuple[int, str]]]:
    """Return customer key -> (since when in ms, planted state), in order; the first is when they come, about.

    The keys and the last states are those of ``planted_states``.
    """
    span = (start_ms, start_ms + days * DAY)
    return {who.key: _phases(who, span) for who in (_person(seed, number) for number in range(customers))}


def promotions(
    seed: int = 1, *, days: int = DAYS, start_ms: int = START_MS
) -> tuple[tuple[int, int, tuple[str, int]], ...]:
    """Return when there are coupons for everybody: from, to (ms), name and percent; about nine days of every month."""
    chance, found = _Chance("promotions", seed), []
    at, end = start_ms + chance.between(4 * DAY, 10 * DAY), start_ms + days * DAY
    while at < end:
        found.append((at, at + chance.between(8, 11) * DAY, chance.pick(_COUPONS)))
        at += chance.between(24, 28) * DAY
    return tuple(found)


# --- chance ------------------------------------------------------------------


class _Chance:
    """SplitMix64, seeded by a hash of a label: whole numbers only, so the same everywhere."""

    __slots__ = ("_state",)

    def __init__(self, *label: str | int) -> None:
        digest = blake2b("\x1f".join(map(str, label)).encode(), digest_size=8).digest()
        self._state = int.from_bytes(digest, "big")

    def below(self, n: int) -> int:
        """Return a whole number in ``[0, n)``."""
        self._state = z = (self._state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        return ((z ^ (z >> 31)) * n) >> 64

    def between(self, low: int, high: int) -> int:
        """Return a whole number in ``[low, high]``."""
        return low + self.below(high - low + 1)

    def happens(self, thousandths: int) -> bool:
        return self.below(1000) < thousandths

    def pick(self, options: Sequence[_T]) -> _T:
        return options[self.below(len(options))]

    def weighted(self, weights: Sequence[int]) -> int:
        """Return an index, each as likely as its weight."""
        drawn = self.below(sum(weights))
        return next(index for index, bound in enumerate(accumulate(weights)) if drawn < bound)


# --- people and products -----------------------------------------------------

_FIRST_NAMES: Final = ("Mei", "Jürgen", "Zoë", "Ana", "Paul", "Łukasz", "Aiko", "Sara", "Tom", "Inès", "Ola", "Ben")
_LAST_NAMES: Final = ("Chen", "Müller", "O'Neill", "Silva", "Kowalski", "Sato", "Dubois", "Smith", "Rossi", "Berg")
# locale, time zone, its hours ahead of UTC in summer, country, weight
_PLACES: Final = (
    ("de-DE", "Europe/Berlin", 2, "DE", 50),
    ("de-AT", "Europe/Vienna", 2, "AT", 12),
    ("fr-FR", "Europe/Paris", 2, "FR", 12),
    ("en-GB", "Europe/London", 1, "GB", 12),
    ("en-US", "America/New_York", -4, "US", 9),
    ("ja-JP", "Asia/Tokyo", 9, "JP", 5),
)
_USER_AGENTS: Final = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_2 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/141.0 Safari/537.36",
    "Mozilla/5.0 (Linux; Android 16; Pixel 9) AppleWebKit/537.36 Chrome/141.0 Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
)
# category -> cheapest and dearest product in cents
_CATEGORIES: Final = (
    ("shoes", 3990, 18990),
    ("jackets", 5990, 29990),
    ("backpacks", 2990, 15990),
    ("tents", 8990, 59990),
    ("lamps", 990, 7990),
    ("bottles", 790, 3990),
    ("socks", 490, 1990),
    ("maps", 690, 2490),
    ("coffee", 590, 2490),
    ("filters", 290, 1290),
    ("snacks", 290, 1490),
    ("care", 490, 2990),
)
_BRANDS: Final = ("Fernweh", "Nordlicht", "Höhenzug", "Trail&Co", "Basislager")
_PRODUCTS: Final = 168  # product n is of category n modulo their number; the first of a category sell best


def _named(category: str, rank: int) -> str:
    index = [name for name, _, _ in _CATEGORIES].index(category)
    return f"p-{rank * len(_CATEGORIES) + index + 1}"


# who takes the first often takes the second too
BUNDLES: Final[tuple[tuple[str, str], ...]] = (
    (_named("coffee", 0), _named("filters", 0)),
    (_named("coffee", 1), _named("filters", 1)),
    (_named("shoes", 0), _named("socks", 0)),
    (_named("shoes", 1), _named("care", 0)),
    (_named("jackets", 0), _named("care", 1)),
    (_named("tents", 0), _named("lamps", 0)),
    (_named("backpacks", 0), _named("bottles", 0)),
    (_named("maps", 0), _named("snacks", 0)),
    (_named("bottles", 1), _named("snacks", 1)),
    (_named("socks", 1), _named("snacks", 2)),
)
_GOES_WITH: Final = MappingProxyType(dict(BUNDLES))
_SEARCHES: Final = ("größe 42", "tent 2 persons", "rain jacket", "sac à dos", "冬のジャケット", "led lamp", "gift 🎁")
_CAMPAIGNS: Final = (
    {"name": "summer_sale", "source": "google", "medium": "cpc"},
    {"name": "new_season", "source": "instagram", "medium": "social"},
    {"name": "friends", "source": "partner", "medium": "referral"},
)
_NEWSLETTER: Final = {"name": "newsletter", "source": "newsletter", "medium": "email"}
_COUPONS: Final = (("WELCOME10", 10), ("SUMMER15", 15), ("FRIENDS20", 20))
_SHOP_URL: Final = "https://shop.example"
# visits by hour of the day, local time: few at night, a peak at noon, a higher one in the evening
_HOURS: Final = (2, 1, 1, 1, 1, 2, 4, 7, 9, 10, 10, 11, 14, 12, 10, 10, 11, 13, 16, 20, 22, 19, 11, 5)
_TASTES: Final = (55, 28, 17)  # of a customer's categories, in percent of the visits


@dataclass(frozen=True, slots=True)
class _Person:
    seed: int
    number: int
    state: str  # in the end
    user_id: str | None  # None: never tells
    anonymous_ids: tuple[str, ...]  # one a device
    skew_ms: int  # by which the first device's clock is ahead
    place: tuple[str, str, int, str, int]
    user_agent: str
    name: tuple[str, str]
    tastes: tuple[int, ...]  # categories, the best liked first
    favourites: tuple[int, ...]  # products, of these categories
    rhythm: int  # in thousandths, where the customer is between the least and the greatest gap

    @property
    def key(self) -> str:
        return f"u:{self.user_id}" if self.user_id else f"a:{self.anonymous_ids[0]}"


def _person(seed: int, number: int) -> _Person:
    chance = _Chance("person", seed, number)
    # 37 and 100 have no common factor: every hundred customers have the shares exactly, a dozen nearly all states
    state = _STATE_OF_SLOT[(number * 37 + _Chance("states", seed).below(100)) % 100]
    known = chance.happens(STATES[state].known)
    devices = 2 if known and chance.happens(180) else 1
    digest = blake2b(f"device\x1f{seed}\x1f{number}".encode(), digest_size=16).hexdigest()
    skew = chance.pick((-1, 1)) * chance.between(MINUTE, 3 * HOUR) if chance.happens(50) else 0
    place = _PLACES[chance.weighted([place[-1] for place in _PLACES])]
    user_agent = chance.pick(_USER_AGENTS)
    name = (chance.pick(_FIRST_NAMES), chance.pick(_LAST_NAMES))
    tastes: list[int] = []
    while len(tastes) < 3:
        category = chance.below(len(_CATEGORIES))
        if category not in tastes:
            tastes.append(category)
    favourites = [_ranked(chance, tastes[chance.weighted(_TASTES)]) for _ in range(chance.between(4, 7))]
    return _Person(
        seed,
        number,
        state,
        str(100_000 * (seed % 1000) + 10_001 + number) if known else None,
        tuple(digest[16 * device : 16 * device + 16] for device in range(devices)),
        skew,
        place,
        user_agent,
        name,
        tuple(tastes),
        tuple(dict.fromkeys(favourites)),
        chance.below(1000),
    )


def _ranked(chance: _Chance, category: int) -> int:
    """Return a product of a category, the first far more often than the last."""
    step = len(_CATEGORIES)
    rank = min(chance.below(_PRODUCTS // step), chance.below(_PRODUCTS // step), chance.below(_PRODUCTS // step))
    return rank * step + category


def _catalogue(seed: int) -> tuple[_Json, ...]:
    """Return the products as items of an event."""
    products = []
    for number in range(_PRODUCTS):
        chance = _Chance("product", seed, number)
        category, cheapest, dearest = _CATEGORIES[number % len(_CATEGORIES)]
        price = chance.between(cheapest, dearest) // 100 * 100 + 90
        brand = chance.pick(_BRANDS)
        name = f"{brand} {category} {chance.between(1, 99)}"
        item = {"item_id": f"p-{number + 1}", "name": name, "brand": brand, "category": category}
        products.append(item | {"unit_price_minor": price})
    return tuple(products)


# --- when customers come, and what for ---------------------------------------

_BUY_EVENTS: Final = 10  # of a visit with an order, besides those of looking around
_ABANDON_EVENTS: Final = 5
_RESTS: Final = 36 * HOUR  # at the end stay free, so that what takes a night ends within the time

_FADES: Final = 50 * DAY  # before somebody lapses: orders become rarer and smaller, and need a coupon

_Span = tuple[int, int]
_Sales = Sequence[tuple[int, int, tuple[str, int]]]


@dataclass(frozen=True, slots=True)
class _Visit:
    """``intent`` is browse, abandon, or with an order: buy, pause (within the hour), return (the next day)."""

    at: int
    intent: str
    state: str
    views: int  # events of looking around
    fades: bool = False  # of somebody who will soon lapse

    @property
    def orders(self) -> bool:
        return self.intent not in ("browse", "abandon")

    @property
    def fixed(self) -> int:
        """Events besides those of looking around."""
        return 1 + (_BUY_EVENTS if self.orders else _ABANDON_EVENTS if self.intent == "abandon" else 0)

    @property
    def cost(self) -> int:
        return self.fixed + self.views


def _when_people_shop(chance: _Chance, person: _Person, moment: int, span: _Span) -> int:
    """Move a moment to an hour at which people shop, on the same day of their time zone."""
    offset = person.place[2] * HOUR
    midnight = (moment + offset) // DAY * DAY - offset
    moved = midnight + chance.weighted(_HOURS) * HOUR + chance.below(HOUR)
    return min(max(moved, span[0]), span[1] - _RESTS)


def _phases(person: _Person, span: _Span) -> list[tuple[int, str]]:
    """Return since when the customer behaves as which state; the last is the planted one."""
    chance = _Chance("phases", person.seed, person.number)
    start, room = span[0], span[1] - _RESTS - span[0]
    state = person.state
    # most who buy come soon, as to a shop that exists; who only looks comes all along
    is_regular = STATES[state].orders[1] is None or state == "lapsing"
    soon = chance.happens(600 if is_regular or state == "one_time" else 50)
    part = chance.below(80 if soon or state in ("lapsing", "returner") else 550 if is_regular else 850)
    comes = _when_people_shop(chance, person, start + room * part // 1000, span)
    left = span[1] - _RESTS - comes
    if state == "one_time" and chance.happens(350):
        bought = _when_people_shop(chance, person, comes + min(left, chance.between(1, 14) * DAY), span)
        if bought > comes:
            return [(comes, "window_shopper"), (bought, state)]
    before, part = state, 0
    if state == "loyal" and chance.happens(300):
        before, part = "repeat", chance.between(250, 450)
    elif state == "lapsing":
        before, part = ("repeat", "loyal", "bargain")[chance.weighted((40, 35, 25))], chance.between(180, 850)
        if chance.happens(400):  # many are enthusiastic, and soon no more
            before, part = "loyal", chance.between(50, 180)
    if left > 2 * DAY and before != state:
        return [(comes, before), (_when_people_shop(chance, person, comes + DAY + left * part // 1000, span), state)]
    return [(comes, state)]


def _plan(person: _Person, span: _Span, sales: _Sales) -> list[_Visit]:
    """Return all visits of a customer, in order."""
    chance = _Chance("plan", person.seed, person.number)
    phases = _phases(person, span)
    last = span[1] - _RESTS
    ends = [begin for begin, _ in phases[1:]] + [last]
    found: list[tuple[int, bool, str]] = []
    for (begin, state), end in zip(phases, ends, strict=True):
        orders = _orders(chance, person, state, (begin, end), sales)
        if begin == phases[0][0] and not any(at - begin < DAY for at in orders):
            found.append((begin, False, state))
        found += [(at, True, state) for at in orders]
        found += [(at, False, state) for at in _looks(chance, state, (begin, end))]
    # whose only order stands in the phases comes at that very moment
    exact = {begin for begin, _ in phases}
    moments = [
        (at if at in exact else _when_people_shop(chance, person, at, span), is_order, state)
        for at, is_order, state in found
    ]
    moments.sort()
    visits: list[_Visit] = []
    for index, (at, is_order, state) in enumerate(moments):
        policy = STATES[state]
        views = chance.between(*policy.views) + (chance.between(3, 7) if chance.happens(200) else 0)
        if is_order:
            following = moments[index + 1][0] if index + 1 < len(moments) else span[1]
            intent = ("buy", "pause", "return")[chance.weighted((62, 15, 23))]
            if intent == "return" and following - at < 2 * DAY:
                intent = "buy"
            # who knows what they want looks at little else
            views = max(2, views - 2) if chance.happens(350) else views + 1
        else:
            intent = "abandon" if chance.happens(policy.abandons) else "browse"
        fades = state != person.state == "lapsing" and at > phases[-1][0] - _FADES
        visits.append(_Visit(at, intent, state, views, fades))
    return visits


def _orders(chance: _Chance, person: _Person, state: str, phase: _Span, sales: _Sales) -> list[int]:
    """Return when the customer orders while in a state, roughly."""
    begin, end = phase
    policy = STATES[state]
    if state == "one_time":
        return [begin]
    if state == "abandoner":
        return [begin + chance.below(end - begin)] if chance.happens(250) and end - begin > 5 * DAY else []
    if state == "bargain":
        moments = []
        for opens, closes, _ in sales:
            times = chance.weighted((22, 58, 20))
            moments += [chance.between(opens + DAY, closes - 3 * DAY) for _ in range(times)]
        return [at for at in moments if begin <= at < end]
    low, high = policy.gap
    if high == 0:
        return []
    gap = (1000 * low + person.rhythm * (high - low)) * DAY // 1000
    if state == "lapsing":
        at = begin + gap * chance.between(110, 200) // 100
        return [at] if chance.happens(250) and at < end else []
    # who comes to the shop orders at once; whose state changes keeps the rhythm
    at = begin + (0 if chance.happens(750) else gap * chance.below(60) // 100)
    found = []
    while at < end:
        found.append(at)
        slower = 135 if person.state == "lapsing" and at > end - _FADES else 100
        at += gap * slower // 100 * (chance.between(65, 135) + chance.between(65, 135)) // 200
        if chance.happens(40):  # bought elsewhere, or on holiday
            at += gap
    return found or [begin]


def _looks(chance: _Chance, state: str, phase: _Span) -> list[int]:
    """Return when the customer comes without an order while in a state, roughly."""
    begin, end = phase
    policy = STATES[state]
    found = []
    at = begin + chance.between(*policy.looks) * DAY // 2
    while at < end and chance.happens(policy.stays):
        found.append(at)
        at += chance.between(*policy.looks) * DAY + chance.below(DAY)
    return found


def _fitted(visits: Sequence[_Visit], budget: int) -> list[_Visit]:
    """Return the visits for which there are events, shorter or longer; orders first, and at least one visit."""
    fixed, views = sum(visit.fixed for visit in visits), sum(visit.views for visit in visits)
    if budget < fixed + views // 3:
        orders = [visit for visit in visits if visit.orders]
        others = [visit for visit in visits if not visit.orders]
        orders = _evenly(orders, max(1, budget // (_BUY_EVENTS + 3)))
        room = budget - sum(visit.fixed + 2 for visit in orders)
        others = _evenly(others, max(not orders, room // 6))
        visits = sorted(orders + others, key=lambda visit: visit.at)
        fixed, views = sum(visit.fixed for visit in visits), sum(visit.views for visit in visits)
    room = max(0, budget - fixed)
    return [replace(one, views=max(1, one.views * room // views)) for one in visits]


def _evenly(visits: Sequence[_Visit], count: int) -> list[_Visit]:
    """Return at most that many, all along."""
    if count >= len(visits):
        return list(visits)
    return [visits[index * len(visits) // count] for index in range(count)]


# --- what was published ------------------------------------------------------

# at, customer's number, its count, topic, key, value: sorted by the first three
_Entry = tuple[int, int, int, str, bytes, bytes]


class _Tally:
    """Collects records and counts while lives are generated."""

    def __init__(self) -> None:
        self.published: list[_Entry] = []
        self.duplicates = 0
        self.bad: Counter[str] = Counter(dict.fromkeys(BAD_KINDS, 0))
        self.defects: Counter[str] = Counter()
        self.types: Counter[str] = Counter()
        self.links: set[tuple[str, str]] = set()
        self.orders = 0
        self.revenue_minor = 0

    def summary(self, customers: int, known: int) -> ShopSummary:
        return ShopSummary(
            published=len(self.published),
            accepted=self.types.total(),
            duplicates=self.duplicates,
            bad=MappingProxyType(dict(self.bad)),
            defects=MappingProxyType(dict(sorted(self.defects.items()))),
            types=MappingProxyType(dict(sorted(self.types.items()))),
            customers=customers,
            known=known,
            links=len(self.links),
            orders=self.orders,
            revenue_minor=self.revenue_minor,
            first_at=self.published[0][0],
            last_at=self.published[-1][0],
        )


# --- a customer's life -------------------------------------------------------


@dataclass(slots=True)
class _Cart:
    cart_id: str | None  # None: the shop's carts have no ids for this visitor
    lines: list[_Json]
    coupon: tuple[str, int] | None = None

    def value_minor(self) -> int:
        return sum(line["unit_price_minor"] * line.get("quantity", 1) for line in self.lines)

    def named(self, **data: Any) -> _Json:
        return ({"cart_id": self.cart_id} if self.cart_id else {}) | data


class _Life:
    """Everything one customer does, from the first visit to the last."""

    def __init__(self, person: _Person, catalogue: Sequence[_Json], span: _Span, sales: _Sales, tally: _Tally) -> None:
        self._person = person
        self._catalogue = catalogue
        self._end = span[1]
        self._sales = sales
        self._tally = tally
        self._chance = _Chance("life", person.seed, person.number)
        self._state, self._fades = person.state, False  # of the visit
        self._count = 0  # records, for ids
        self._accepted = 0
        self._device = 0
        self._known = [False for _ in person.anonymous_ids]  # logged in, by device
        self._consents = False
        self._session = ""
        self._category = 0  # that the visit is for
        self._eager = False  # looks longer, and at the same again
        self._seen: _Json | None = None  # the item looked at last
        self._cart: _Cart | None = None
        self._carts = 0
        self._orders = 0

    def live(self, plan: Sequence[_Visit], budget: int | None) -> None:
        """Make all visits; with a budget, of so many events at least."""
        visits = plan if budget is None else _fitted(plan, budget)
        free_from = 0
        for index, visit in enumerate(visits):
            is_last = index == len(visits) - 1
            at = self._visit(max(visit.at, free_from), visit, is_last=is_last)
            if is_last and budget is not None:
                at = self._browse(at, max(0, budget - self._accepted))
            free_from = at + 31 * MINUTE

    # --- visits

    def _visit(self, at: int, visit: _Visit, *, is_last: bool) -> int:
        """Come once; return when it ended."""
        chance, person, intent = self._chance, self._person, visit.intent
        self._state, self._fades = visit.state, visit.fades
        self._device = 0 if is_last else chance.below(len(self._known))
        self._session = f"s-{person.number}-{self._count}"
        self._seen = None
        self._category = person.tastes[chance.weighted(_TASTES)]
        if visit.state == "window_shopper" and chance.happens(500):
            self._category = chance.below(len(_CATEGORIES))
        # nobody can tell for sure by how somebody looks around
        self._eager = chance.happens(780 if visit.orders else 300 if intent == "abandon" else 120)
        campaign = self._campaign(at, intent)
        if campaign is _NEWSLETTER:
            at = self._newsletter(at)
        at = self._page(at, "/", "Start", campaign)
        at = self._browse(at, visit.views)
        if intent != "browse":
            at = self._fill_cart(at)
            if intent == "pause":
                at += chance.between(5 * MINUTE, 50 * MINUTE)
            elif intent == "return":  # later than an hour: a reminder comes first
                at += chance.between(2 * HOUR, 30 * HOUR)
                self._session = f"s-{person.number}-{self._count}"
                at = self._page(at, "/cart", "Cart", None)
                at = self._put("cart.cart_viewed", at, self._the_cart().named())
            elif intent == "abandon":
                if chance.happens(400):
                    at = self._checkout(at)
                at = self._browse(at, chance.below(3))
            at = self._buy(at) if visit.orders else at
        if is_last or self._device > 0 or chance.happens(150):  # in the end no device of a known customer is a stranger
            at = self._log_in(at)
        return at

    def _sale(self, at: int) -> tuple[str, int] | None:
        """Return the coupon that everybody has at a moment."""
        return next((coupon for begin, end, coupon in self._sales if begin <= at < end), None)

    def _campaign(self, at: int, intent: str) -> _Json | None:
        chance = self._chance
        if self._is_known() and self._consents and chance.happens(150):
            return _NEWSLETTER
        if self._state == "bargain" and intent != "browse":
            return _CAMPAIGNS[0]
        if self._sale(at) is not None and chance.happens(200):
            return _CAMPAIGNS[0]
        return chance.pick(_CAMPAIGNS[1:]) if chance.happens(180) else None

    def _newsletter(self, at: int) -> int:
        chance, url = self._chance, f"{_SHOP_URL}/news"
        machine: _Json = {"machine": True} if chance.happens(150) else {}
        self._put("feedback.delivered", at, {"channel": "email", "scope": "marketing.email"}, web=False)
        at += chance.between(MINUTE, HOUR)
        self._put("feedback.opened", at, {"channel": "email"} | machine, web=False)
        at += chance.between(2 * SECOND, 40 * SECOND)
        self._put("feedback.clicked", at, {"channel": "email", "url": url}, web=False)
        return at + SECOND

    def _page(self, at: int, path: str, title: str, campaign: _Json | None) -> int:
        _, time_zone, _, _, _ = self._person.place
        page = {"path": path, "url": _SHOP_URL + path, "title": title}
        if campaign is None and self._chance.happens(300):
            page["referrer"] = "https://www.google.com/"
        context: _Json = {
            "locale": self._person.place[0],
            "timezone": time_zone,
            "user_agent": self._person.user_agent,
            "page": page,
        }
        if campaign is not None:
            context["campaign"] = campaign
        return self._put("click.page_viewed", at, {}, context)

    def _browse(self, at: int, events: int) -> int:
        chance = self._chance
        for _ in range(events):
            choice = chance.weighted((66, 10, 8, 6, 4, 3, 2, 1))
            item = self._product()
            category = item["category"]
            if choice == 0:
                if self._seen is not None and chance.happens(380 if self._eager else 120):
                    item = self._seen
                self._seen = item
                data: _Json = {"item": item, "currency": CURRENCY}
                if chance.happens(60):
                    data["extra"] = {"scroll_depth": chance.between(1, 10) * 10, "test_group": chance.pick("ab")}
                at = self._put("click.product_viewed", at, data)
                if self._eager:
                    at += chance.between(SECOND, 80 * SECOND)
            elif choice == 1:
                at = self._page(at, f"/{category}", category.title(), None)
            elif choice == 2:
                shown = [{"item_id": self._product()["item_id"], "position": place} for place in range(1, 5)]
                data = {"list_id": category, "category": category, "items": shown}
                at = self._put("click.product_list_viewed", at, data)
            elif choice == 3:
                at = self._put("click.products_searched", at, {"query": chance.pick(_SEARCHES)})
            elif choice == 4:
                at = self._put("click.product_clicked", at, {"item": item | {"position": chance.between(1, 20)}})
            elif choice == 5:
                at = self._put("click.product_added_to_wishlist", at, {"item": item})
            elif choice == 6:
                at = self._put("click.custom", at, {"name": "size_guide_opened", "extra": {"size": "42"}})
            else:
                at = self._put("click.product_shared", at, {"item": item})
        return at

    def _product(self) -> _Json:
        """Return a product to look at: of the visit's category mostly, or anything."""
        chance = self._chance
        stays = chance.happens(750 if self._eager else 450)
        return self._of_category(self._category if stays else chance.below(len(_CATEGORIES)))

    def _of_category(self, category: int) -> _Json:
        item = self._catalogue[_ranked(self._chance, category)]
        if self._state == "bargain":  # the cheaper of two
            other = self._catalogue[_ranked(self._chance, category)]
            item = min(item, other, key=lambda one: (one["unit_price_minor"], one["item_id"]))
        return item

    def _wanted(self) -> _Json:
        """Return a product to buy: a favourite, what was looked at, or another of the visit's category."""
        chance, person = self._chance, self._person
        choice = chance.weighted((50, 30, 20) if STATES[self._state].orders[1] is None else (15, 55, 30))
        if choice == 0:
            return self._catalogue[chance.pick(person.favourites)]
        if choice == 1 and self._seen is not None:
            return self._seen
        return self._of_category(self._category if chance.happens(600) else person.tastes[chance.weighted(_TASTES)])

    # --- carts and orders

    def _the_cart(self) -> _Cart:
        if self._cart is None:
            self._carts += 1
            has_id = self._person.number % 10 != 7
            self._cart = _Cart(f"c-{self._person.seed}-{self._person.number}-{self._carts}" if has_id else None, [])
        return self._cart

    def _fill_cart(self, at: int) -> int:
        chance, policy = self._chance, STATES[self._state]
        if self._cart is not None and chance.happens(600):
            self._cart = None  # the shop has forgotten it
        cart = self._the_cart()
        if cart.lines:
            at = self._put("cart.cart_viewed", at, cart.named())
        few, many = (1, 2) if self._fades else policy.lines
        for _ in range(chance.between(few, many)):
            item = self._wanted()
            at = self._take(at, cart, item)
            beside = _GOES_WITH.get(item["item_id"])
            if beside is not None and chance.happens(450):
                at = self._take(at, cart, self._catalogue[int(beside[2:]) - 1])
        if len(cart.lines) > 1 and chance.happens(120):
            line = cart.lines.pop(chance.below(len(cart.lines)))
            at = self._put("cart.product_removed", at, cart.named(item=line, currency=CURRENCY))
        if chance.happens(80):
            cart.lines[0] = cart.lines[0] | {"quantity": cart.lines[0].get("quantity", 1) + 1}
            whole = cart.named(items=list(cart.lines), value_minor=cart.value_minor(), currency=CURRENCY)
            at = self._put("cart.cart_updated", at, whole)
        sale = self._sale(at)
        coupons = 750 if self._fades else policy.coupons + (80 if sale is not None else 0)
        if self._state == "bargain" or chance.happens(coupons):
            at = self._redeem(at, cart, sale)
        return at

    def _take(self, at: int, cart: _Cart, item: _Json) -> int:
        """Look at an item and put it into the cart, where it does not lie yet."""
        chance = self._chance
        if item["item_id"] in {line["item_id"] for line in cart.lines}:
            return at
        if chance.happens(600):
            at = self._put("click.product_viewed", at, {"item": item, "currency": CURRENCY})
        line = item | ({"quantity": 2} if chance.happens(150) else {})
        cart.lines.append(line)
        return self._put("cart.product_added", at, cart.named(item=line, currency=CURRENCY))

    def _redeem(self, at: int, cart: _Cart, sale: tuple[str, int] | None) -> int:
        name, percent = sale or self._chance.pick(_COUPONS)
        at = self._put("cart.coupon_entered", at, cart.named(coupon={"id": name}))
        if sale is None and self._chance.happens(250):
            return self._put("cart.coupon_denied", at, cart.named(coupon={"id": name, "reason": "expired"}))
        cart.coupon = (name, percent)
        off = cart.value_minor() * percent // 100
        coupon = {"id": name, "name": name.title(), "discount_minor": off}
        return self._put("cart.coupon_applied", at, cart.named(coupon=coupon, currency=CURRENCY))

    def _checkout(self, at: int) -> int:
        cart = self._the_cart()
        at = self._log_in(at)
        data = cart.named(checkout_id=f"k-{self._person.number}-{self._carts}", currency=CURRENCY)
        at = self._put("cart.checkout_started", at, data | {"value_minor": cart.value_minor()})
        if self._chance.happens(600):
            at = self._put("cart.checkout_step_viewed", at, data | {"step": 2})
        return at

    def _buy(self, at: int) -> int:
        chance, cart = self._chance, self._the_cart()
        at = self._checkout(at)
        if chance.happens(500):
            at = self._put("cart.payment_info_entered", at, cart.named())
        self._orders += 1
        order_id = f"o-{self._person.seed}-{self._person.number}-{self._orders}"
        subtotal = cart.value_minor()
        data = cart.named(order_id=order_id, items=list(cart.lines))
        discount = 0
        if cart.coupon is not None:
            discount = subtotal * cart.coupon[1] // 100
            data |= {"coupon": {"id": cart.coupon[0], "discount_minor": discount}, "discount_minor": discount}
        revenue: int | None = subtotal - discount
        if chance.happens(5):  # a shop that does not tell its amounts
            revenue = None
            data.pop("discount_minor", None)
            data["items"] = [{"item_id": line["item_id"]} for line in cart.lines]
            if "coupon" in data:
                data["coupon"] = {"id": data["coupon"]["id"]}
        else:
            data |= {"revenue_minor": revenue, "shipping_minor": 0 if subtotal >= 5000 else 490, "currency": CURRENCY}
        self._tally.orders += 1
        self._tally.revenue_minor += revenue or 0
        # half of them are told by the shop's own system, which knows no browser unless nobody has logged in
        web = chance.happens(500) or not self._is_known()
        at = self._put("purchase.order_completed", at, data, web=web)
        if chance.happens(10):
            self._tally.defects["order_sent_twice"] += 1
            self._put("purchase.order_completed", at + chance.between(MINUTE, HOUR), data, web=False)
        self._cart = None
        self._aftercare(at, data, revenue)
        return at

    def _aftercare(self, at: int, order: _Json, revenue: int | None) -> None:
        """Tell what happens to an order in the days after it; what lies beyond the end is left out."""
        chance, state, order_id = self._chance, self._state, order["order_id"]
        mail: _Json = {"channel": "email", "order_id": order_id}
        later: list[tuple[int, str, _Json]] = []
        sent = at + chance.between(SECOND, 20 * SECOND)
        if self._is_known():
            if chance.happens(20):
                later.append((sent, "feedback.bounced", mail | {"bounce": chance.pick(("hard", "soft"))}))
            else:
                later.append((sent, "feedback.delivered", mail))
                if chance.happens(450):
                    later.append((sent + chance.between(MINUTE, 5 * HOUR), "feedback.opened", mail))
            if chance.happens(300 if state == "loyal" else 120):
                score = chance.between(9, 10) if state == "loyal" else chance.between(0, 10)
                answer: _Json = {"channel": "email", "score": score, "scale": [0, 10]}
                if score < 4:
                    answer["text"] = "Lieferung zu spät"
                later.append((at + chance.between(3 * DAY, 6 * DAY), "feedback.satisfaction", answer))
            if self._consents and chance.happens(15):
                leaves = {"channel": "email", "scope": "marketing.email"}
                later.append((at + chance.between(DAY, 9 * DAY), "feedback.unsubscribed", leaves))
                self._consents = False
        if chance.happens(250 if state == "loyal" else 60):
            item = {"item_id": order["items"][0]["item_id"]}
            review = {"item": item, "rating": chance.between(4, 5) if state == "loyal" else chance.between(1, 5)}
            later.append((at + chance.between(5 * DAY, 12 * DAY), "click.product_reviewed", review))
        refund = chance.below(1000)
        if state == "returner":
            kind = "purchase.order_cancelled" if refund < 250 else "purchase.order_refunded"
            back: _Json = {"order_id": order_id}
            if revenue is not None and kind == "purchase.order_refunded":
                back |= {"refund_minor": revenue, "currency": CURRENCY}
            later.append((at + chance.between(HOUR, 10 * DAY), kind, back))
        elif revenue is not None and refund < 20:
            back = {"order_id": order_id, "refund_minor": revenue // 2, "currency": CURRENCY}
            later.append((at + chance.between(2 * DAY, 12 * DAY), "purchase.order_refunded", back))
        elif revenue is not None and refund < 30:
            update = order | {"shipping_minor": 0}
            later.append((at + chance.between(HOUR, DAY), "purchase.order_updated", update))
        for moment, kind, data in later:
            if moment < self._end:
                self._put(kind, moment, data, web=False)

    # --- identity

    def _is_known(self) -> bool:
        return self._known[self._device]

    def _log_in(self, at: int) -> int:
        """Tell who it is, where this device does not know yet and the customer ever tells."""
        person, chance = self._person, self._chance
        if person.user_id is None or self._is_known():
            return at
        is_first = not any(self._known)
        anonymous_id = person.anonymous_ids[self._device]
        self._known[self._device] = True
        self._tally.links.add((anonymous_id, person.user_id))
        if not is_first and chance.happens(300):
            return self._put("profile.alias", at, {"previous_id": anonymous_id, "previous_kind": "anonymous"})
        first_name, last_name = person.name
        traits: _Json = {"first_name": first_name, "email": f"customer{person.number}@example.com"}
        if is_first:
            traits |= {"last_name": last_name, "country": person.place[3], "timezone": person.place[1]}
            if chance.happens(300):
                traits["birthday"] = (
                    f"{chance.between(1950, 2005)}-{chance.between(1, 12):02}-{chance.between(1, 28):02}"
                )
            if chance.happens(100):
                traits["interests"] = [_CATEGORIES[person.tastes[0]][0], "outdoor"]
        context: _Json = {}
        answer = chance.below(1000) if is_first else 1000
        if answer < 600:
            self._consents = True
            context["consent"] = {"marketing.email": "granted"}
        elif answer < 750:
            context["consent"] = {"marketing": "denied"}
        at = self._put("profile.identify", at, {"traits": traits}, context)
        if 750 <= answer < 900:
            self._consents = True
            at = self._put("profile.consent", at, {"scopes": {"marketing": "granted"}})
        return at

    # --- one event

    def _put(self, kind: str, at: int, data: _Json, context: _Json | None = None, *, web: bool = True) -> int:
        """Publish one event, with or without a defect; return when the next may happen.

        ``web``: from the visitor's browser, which knows its anonymous id and
        has a clock of its own; else from a server.
        """
        person, chance, tally = self._person, self._chance, self._tally
        event_class = kind.partition(".")[0]
        number = self._count
        self._count += 1
        self._accepted += 1
        tally.types[kind] += 1
        event: _Json = {"type": kind, "message_id": f"m-{person.seed}-{person.number}-{number}"}
        anonymous_id = person.anonymous_ids[self._device]
        if self._is_known():
            event["user_id"] = person.user_id
            if web and not chance.happens(150):
                event["anonymous_id"] = anonymous_id
        else:
            event["anonymous_id"] = anonymous_id
            if event_class == "click" and chance.happens(2):
                tally.defects["blocked_user_id"] += 1
                event["user_id"] = chance.pick(("null", "undefined", "guest", "[object Object]"))
        if kind in {"profile.identify", "profile.alias"}:
            event["anonymous_id"] = anonymous_id
        delay = self._delay(kind, event_class, web=web)
        received = at + delay
        skew = person.skew_ms if web and self._device == 0 else 0
        event["occurred_at"] = rfc3339(at + skew)
        if skew:
            tally.defects["skewed_clock"] += 1
        if event_class == "click" and not skew and chance.happens(1):
            tally.defects["future_clock"] += 1
            event["occurred_at"] = "2099-12-31T23:59:59.000Z"
        elif web and (skew or chance.happens(600)):
            event["sent_at"] = rfc3339(at + skew + delay - min(delay, 15))
        event["received_at"] = rfc3339(received)
        has_id = True
        if web and chance.happens(20):
            tally.defects["bare"] += 1
            has_id = not chance.happens(250)
            if not has_id:
                del event["message_id"]
            if event_class != "click":
                event |= {"context": None, "source": ""} if not context else {}
        else:
            event["source"] = "web" if web else "shop-system"
            if web:
                event["context"] = {"session_id": self._session}
        if context:
            event["context"] = event.get("context", {}) | context
        event["data"] = data
        key = f"u:{event['user_id']}" if self._is_known() else f"a:{anonymous_id}"
        self._publish(received, number, event, event_class, key)
        if has_id and chance.happens(10):
            tally.duplicates += 1
            again = received + (
                chance.between(HOUR, 20 * HOUR) if chance.happens(100) else chance.between(1000, 600_000)
            )
            self._publish(again, number, event | {"received_at": rfc3339(again)}, event_class, key)
        return at + (chance.between(3 * SECOND, 75 * SECOND) if web else 0)

    def _delay(self, kind: str, event_class: str, *, web: bool) -> int:
        """Return how many milliseconds an event needs to arrive."""
        chance = self._chance
        if not web:
            return chance.between(5, 80)
        if kind in {"click.page_viewed", "click.product_viewed"} and chance.happens(10):
            self._tally.defects["late"] += 1
            return chance.between(24 * HOUR + MINUTE, 72 * HOUR)
        if event_class in {"click", "cart"} and chance.happens(20):
            self._tally.defects["out_of_order"] += 1
            return chance.between(5 * SECOND, 90 * SECOND)
        return chance.between(20, 900)

    def _publish(self, at: int, number: int, event: _Json, event_class: str, key: str) -> None:
        value = compact(orjson.dumps(event))
        self._tally.published.append(
            (at, self._person.number, number, TOPIC_OF_CLASS[event_class], key.encode(), value)
        )


# --- what arrival has to refuse ----------------------------------------------


def _add_bad(seed: int, people: Sequence[_Person], span: tuple[int, int], tally: _Tally) -> None:
    """Add one bad record for every hundred, of each kind in turn."""
    chance = _Chance("bad", seed)
    kinds = tuple(BAD_KINDS)
    for index in range(len(tally.published) // 100):
        kind = kinds[index % len(kinds)]
        person = chance.pick(people)
        at = span[0] + chance.below(span[1] - span[0])
        event: _Json = {
            "type": "click.product_viewed",
            "message_id": f"b-{seed}-{index}",
            "anonymous_id": person.anonymous_ids[0],
            "occurred_at": rfc3339(at - chance.between(20, 900)),
            "received_at": rfc3339(at),
            "source": "web",
            "data": {"item": {"item_id": "p-1", "unit_price_minor": 990}, "currency": CURRENCY},
        }
        key = f"a:{person.anonymous_ids[0]}".encode()
        topic, key, value = _spoil(kind, event, key)
        tally.bad[kind] += 1
        # a number no event has: behind what the customer does at the same time
        tally.published.append((at, person.number, 1_000_000_000 + index, topic, key, value))


def _spoil(kind: str, event: _Json, key: bytes) -> tuple[str, bytes, bytes]:
    """Return topic, key and value of an event with the defect of its kind."""
    item = event["data"]["item"]
    as_bytes: Mapping[str, Callable[[], bytes]] = {
        "truncated": lambda: orjson.dumps(event)[:-20],
        "not_utf8": lambda: orjson.dumps(event).replace(b'"web"', b'"w\xe9b"'),
        "empty": lambda: b"",
        "not_an_object": lambda: orjson.dumps([event]),
        # deeper than parsers go
        "nested_bomb": lambda: orjson.dumps(event)[:-1] + b',"context":' + b'{"a":' * 2000 + b"1" + b"}" * 2001,
    }
    if kind in as_bytes:
        return "events.click", key, as_bytes[kind]()
    topic = "events.click"
    if kind == "too_deep":
        event["data"]["extra"] = {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}
    elif kind == "too_large":
        event["data"]["extra"] = {f"note_{index}": "x" * 2000 for index in range(18)}
    elif kind == "too_many_items":
        event["type"] = "click.product_list_viewed"
        event["data"]["items"] = [{"item_id": f"p-{index}"} for index in range(201)]
    elif kind == "no_type":
        del event["type"]
    elif kind == "unknown_type":
        event["type"] = "click.product_smelled"
    elif kind == "wrong_topic":
        topic = "events.cart"
    elif kind == "new_version":
        event["v"] = 99
    elif kind == "no_id":
        del event["anonymous_id"]
        key = b""
    elif kind == "blocked_id":
        event |= {"anonymous_id": "undefined", "user_id": "null"}
        key = b"u:null"
    elif kind == "no_time":
        del event["occurred_at"]
    elif kind == "time_of_1970":
        event["occurred_at"] = "1970-01-01T00:00:00.000Z"
    elif kind == "time_in_words":
        event["occurred_at"] = "yesterday"
    elif kind == "no_item":
        del event["data"]["item"]
    elif kind == "item_is_a_number":
        event["data"]["item"] = 7
    elif kind == "quantity_in_words":
        item["quantity"] = "two"
    else:
        event |= {"type": "purchase.order_completed", "user_id": "1"}
        topic, key = "events.purchase", b"u:1"
        amount = {"money_as_float": 12.5, "money_as_text": "12.50", "negative_money": -1250}.get(kind, 1250)
        currency = "euros" if kind == "no_currency_code" else CURRENCY
        event["data"] = {"order_id": event["message_id"], "revenue_minor": amount, "currency": currency}
    return topic, key, compact(orjson.dumps(event))
