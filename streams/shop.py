"""A generated shop: what its visitors do, as the raw records a website would publish, defects included.

Nothing of it is drawn by chance. Every choice comes from a generator seeded
by a hash of the seed and the customer's number, in whole numbers only, so the
same arguments give the same bytes in every process, on every machine.

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
from dataclasses import dataclass
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

_T = TypeVar("_T")
_Json = dict[str, Any]


# --- what is planted ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _State:
    """How a kind of customer behaves.

    ``share`` of all customers in percent; ``weight`` of one customer in the
    number of events; ``visit`` events of a usual visit; ``orders`` from, to;
    ``abandons`` and ``known`` (tells who they are) in thousandths of visits
    without an order and of customers; ``active`` from, to in percent of the
    whole time.
    """

    share: int
    weight: int
    visit: int
    orders: tuple[int, int]
    abandons: int
    known: int
    active: tuple[int, int]


STATES: Final[Mapping[str, _State]] = MappingProxyType(
    {
        # looks, rarely fills a cart, never buys
        "window_shopper": _State(30, 10, 6, (0, 0), 120, 300, (0, 100)),
        # fills carts and leaves them; buys at most once
        "abandoner": _State(15, 17, 7, (0, 1), 650, 750, (0, 100)),
        # one order, then now and then a look
        "one_time": _State(17, 16, 7, (1, 1), 100, 850, (0, 100)),
        # two or three orders
        "repeat": _State(12, 32, 8, (2, 3), 200, 1000, (0, 100)),
        # comes through campaigns and buys with coupons only
        "bargain": _State(8, 30, 8, (2, 3), 450, 1000, (0, 100)),
        # four orders or more, the first and the last as far apart as the time allows
        "loyal": _State(8, 76, 8, (4, 9), 100, 1000, (0, 100)),
        # two or three orders in the first half, then silence
        "lapsing": _State(6, 31, 8, (2, 3), 150, 1000, (0, 45)),
        # buys and sends everything back
        "returner": _State(4, 32, 8, (2, 3), 150, 1000, (0, 100)),
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
    *, seed: int = 1, customers: int = 1000, events: int = 24_000, days: int = 90, start_ms: int = START_MS
) -> Iterator[RawRecord]:
    """Yield the shop's records, sorted by ``at``; see ``open_shop``."""
    return iter(open_shop(seed=seed, customers=customers, events=events, days=days, start_ms=start_ms).records)


def expected(
    *, seed: int = 1, customers: int = 1000, events: int = 24_000, days: int = 90, start_ms: int = START_MS
) -> ShopSummary:
    """Return the exact counts of what ``generate`` yields for the same arguments."""
    return open_shop(seed=seed, customers=customers, events=events, days=days, start_ms=start_ms).summary


def open_shop(
    *, seed: int = 1, customers: int = 1000, events: int = 24_000, days: int = 90, start_ms: int = START_MS
) -> Shop:
    """Generate a shop whole: about 1 KB of memory an event.

    Parameters
    ----------
    customers
        Every one of them does something.
    events
        Accepted events at least; some more when orders need them.
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
    people = [_person(seed, number) for number in range(customers)]
    weights = sum(STATES[person.state].weight for person in people)
    for person in people:
        budget = -(-events * STATES[person.state].weight // weights)
        _Life(person, catalogue, span, budget, tally).live()
    _add_bad(seed, people, span, tally)
    tally.published.sort(key=lambda entry: entry[:3])
    records = tuple(RawRecord(topic, key, value, at) for at, _, _, topic, key, value in tally.published)
    return Shop(records, tally.summary(customers, sum(person.user_id is not None for person in people)))


def planted_states(seed: int = 1, customers: int = 1000) -> dict[str, str]:
    """Return customer key -> planted state; the key is ``u:...`` for whoever ever tells who they are."""
    people = (_person(seed, number) for number in range(customers))
    return {f"u:{who.user_id}" if who.user_id else f"a:{who.anonymous_ids[0]}": who.state for who in people}


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
)
_BRANDS: Final = ("Fernweh", "Nordlicht", "Höhenzug", "Trail&Co", "Basislager")
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
_PRODUCTS: Final = 160


@dataclass(frozen=True, slots=True)
class _Person:
    seed: int
    number: int
    state: str
    user_id: str | None  # None: never tells
    anonymous_ids: tuple[str, ...]  # one a device
    skew_ms: int  # by which the first device's clock is ahead
    place: tuple[str, str, int, str, int]
    user_agent: str
    name: tuple[str, str]
    interest: int  # favourite category


def _person(seed: int, number: int) -> _Person:
    chance = _Chance("person", seed, number)
    # 37 and 100 have no common factor: every hundred customers have the shares exactly, a dozen nearly all states
    state = _STATE_OF_SLOT[(number * 37 + _Chance("states", seed).below(100)) % 100]
    known = chance.happens(STATES[state].known)
    devices = 2 if known and chance.happens(180) else 1
    digest = blake2b(f"device\x1f{seed}\x1f{number}".encode(), digest_size=16).hexdigest()
    skew = chance.pick((-1, 1)) * chance.between(MINUTE, 3 * HOUR) if chance.happens(50) else 0
    return _Person(
        seed,
        number,
        state,
        str(100_000 * (seed % 1000) + 10_001 + number) if known else None,
        tuple(digest[16 * device : 16 * device + 16] for device in range(devices)),
        skew,
        _PLACES[chance.weighted([place[-1] for place in _PLACES])],
        chance.pick(_USER_AGENTS),
        (chance.pick(_FIRST_NAMES), chance.pick(_LAST_NAMES)),
        chance.below(len(_CATEGORIES)),
    )


def _catalogue(seed: int) -> tuple[_Json, ...]:
    """Return the products as items of an event; product n is of category n modulo the number of categories."""
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

    def __init__(
        self, person: _Person, catalogue: Sequence[_Json], span: tuple[int, int], budget: int, tally: _Tally
    ) -> None:
        self._person = person
        self._policy = STATES[person.state]
        self._catalogue = catalogue
        self._start, self._end = span
        self._budget = budget
        self._tally = tally
        self._chance = _Chance("life", person.seed, person.number)
        self._count = 0  # records, for ids
        self._accepted = 0
        self._device = 0
        self._known = [False for _ in person.anonymous_ids]  # logged in, by device
        self._consents = False
        self._session = ""
        self._cart: _Cart | None = None
        self._carts = 0
        self._orders = 0

    def live(self) -> None:
        plan = self._plan()
        free_from = self._start
        for index, (moment, intent) in enumerate(plan):
            is_last = index == len(plan) - 1
            wanted = (self._budget - self._accepted) // (len(plan) - index)
            at = max(moment, free_from)
            free_from = self._visit(at, intent, wanted, is_last=is_last) + 31 * MINUTE

    def _plan(self) -> list[tuple[int, str]]:
        """Return when the customer comes and what for, in order."""
        chance, policy = self._chance, self._policy
        low, high = policy.orders
        if high > low:
            # few events leave room for few orders
            high = max(low, min(high, self._budget // 11))
        orders = chance.between(low, high)
        visits = max(1, orders + orders // 3, self._budget // policy.visit)
        # the last day and a half stays free, so that what takes a night ends within the time
        first = self._start + (self._end - self._start) * policy.active[0] // 100
        room = min(self._end - 36 * HOUR, self._start + (self._end - self._start) * policy.active[1] // 100) - first
        if orders < 2 and chance.happens(500):  # discovers the shop later
            late = chance.below(room * 7 // 10 + 1)
            first, room = first + late, room - late
        step = room // visits
        moments = [first + index * step + chance.below(max(1, step)) for index in range(visits)]
        is_loyal = self._person.state == "loyal"
        if is_loyal:  # the first and the last order are as far apart as possible
            moments[0], moments[-1] = first + chance.below(step // 3 + 1), first + room - chance.below(step // 3 + 1)
        moments = sorted(self._by_day(moment) for moment in moments)
        if is_loyal:
            buys = {index * (visits - 1) // (orders - 1) for index in range(orders)}
        else:
            gap = max(1, (visits - 1) // max(1, orders))
            opening = chance.below(visits - gap * max(0, orders - 1))
            buys = {opening + gap * index for index in range(orders)}
        plan = []
        for index, moment in enumerate(moments):
            if index in buys:
                intent = ("buy", "pause", "return")[chance.weighted((55, 20, 25))]
            else:
                intent = "abandon" if chance.happens(policy.abandons) else "browse"
            plan.append((moment, intent))
        return plan

    def _by_day(self, moment: int) -> int:
        """Move a moment to an hour at which people shop, on the same day of their time zone."""
        offset = self._person.place[2] * HOUR
        midnight = (moment + offset) // DAY * DAY - offset
        moved = midnight + self._chance.weighted(_HOURS) * HOUR + self._chance.below(HOUR)
        return min(max(moved, self._start), self._end - 36 * HOUR)

    # --- visits

    def _visit(self, at: int, intent: str, wanted: int, *, is_last: bool) -> int:
        """Come once, for about ``wanted`` events; return when it ended."""
        chance, before = self._chance, self._accepted
        self._device = 0 if is_last else chance.below(len(self._known))
        self._session = f"s-{self._person.number}-{self._count}"
        campaign = self._campaign(intent)
        if campaign is _NEWSLETTER:
            at = self._newsletter(at)
        at = self._page(at, "/", "Start", campaign)
        if intent == "browse":
            at = self._browse(at, max(1, wanted - 1 - is_last))
        else:
            orders = intent != "abandon"
            at = self._browse(at, max(1, min(3, wanted - 9)))
            at = self._fill_cart(at)
            if intent == "pause":
                at += chance.between(5 * MINUTE, 50 * MINUTE)
            elif intent == "return":  # later than an hour: a reminder comes first
                at += chance.between(2 * HOUR, 30 * HOUR)
                self._session = f"s-{self._person.number}-{self._count}"
                at = self._page(at, "/cart", "Cart", None)
                at = self._put("cart.cart_viewed", at, self._the_cart().named())
            elif not orders and chance.happens(400):
                at = self._checkout(at)
            at = self._buy(at) if orders else self._browse(at, max(0, wanted - (self._accepted - before)))
        if is_last or self._device > 0 or chance.happens(150):  # in the end no device of a known customer is a stranger
            at = self._log_in(at)
        if is_last:
            at = self._browse(at, max(0, self._budget - self._accepted))
        return at

    def _campaign(self, intent: str) -> _Json | None:
        chance = self._chance
        if self._is_known() and self._consents and chance.happens(350):
            return _NEWSLETTER
        if self._person.state == "bargain" and intent != "browse":
            return _CAMPAIGNS[0]
        return chance.pick(_CAMPAIGNS) if chance.happens(220) else None

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
            item = self._product()
            category = item["category"]
            choice = chance.weighted((58, 14, 10, 8, 4, 3, 2, 1))
            if choice == 0:
                data: _Json = {"item": item, "currency": CURRENCY}
                if chance.happens(60):
                    data["extra"] = {"scroll_depth": chance.between(1, 10) * 10, "test_group": chance.pick("ab")}
                at = self._put("click.product_viewed", at, data)
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
        """Return a product: half of them from the favourite category, some far more often than others."""
        chance, step = self._chance, len(_CATEGORIES)
        rank = min(chance.below(_PRODUCTS // step), chance.below(_PRODUCTS // step))
        category = self._person.interest if chance.happens(500) else chance.below(step)
        return self._catalogue[rank * step + category]

    # --- carts and orders

    def _the_cart(self) -> _Cart:
        if self._cart is None:
            self._carts += 1
            has_id = self._person.number % 10 != 7
            self._cart = _Cart(f"c-{self._person.seed}-{self._person.number}-{self._carts}" if has_id else None, [])
        return self._cart

    def _fill_cart(self, at: int) -> int:
        chance = self._chance
        if self._cart is not None and chance.happens(600):
            self._cart = None  # the shop has forgotten it
        cart = self._the_cart()
        if cart.lines:
            at = self._put("cart.cart_viewed", at, cart.named())
        for _ in range(1 + chance.weighted((50, 30, 20))):
            item = self._product()
            if item["item_id"] in {line["item_id"] for line in cart.lines}:
                continue
            at = self._put("click.product_viewed", at, {"item": item, "currency": CURRENCY})
            line = item | ({"quantity": 2} if chance.happens(150) else {})
            cart.lines.append(line)
            at = self._put("cart.product_added", at, cart.named(item=line, currency=CURRENCY))
        if len(cart.lines) > 1 and chance.happens(200):
            line = cart.lines.pop(chance.below(len(cart.lines)))
            at = self._put("cart.product_removed", at, cart.named(item=line, currency=CURRENCY))
        if chance.happens(80):
            cart.lines[0] = cart.lines[0] | {"quantity": cart.lines[0].get("quantity", 1) + 1}
            whole = cart.named(items=list(cart.lines), value_minor=cart.value_minor(), currency=CURRENCY)
            at = self._put("cart.cart_updated", at, whole)
        if self._person.state == "bargain" or chance.happens(60):
            at = self._redeem(at, cart)
        return at

    def _redeem(self, at: int, cart: _Cart) -> int:
        name, percent = self._chance.pick(_COUPONS)
        at = self._put("cart.coupon_entered", at, cart.named(coupon={"id": name}))
        if self._person.state != "bargain" and self._chance.happens(250):
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
        chance, state, order_id = self._chance, self._person.state, order["order_id"]
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
                traits["interests"] = [_CATEGORIES[person.interest][0], "outdoor"]
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
