"""Recommendations from counts: what a customer bought, what everybody buys, what is bought together.

A customer's own counts (``add_to_profile``, half-life 60 days) live in the
customer's record. ``Baskets`` is the learner's side: popularity (half-life 30
days), exact counts of items and pairs, and what was told about each item.
``Recommender`` is what it publishes, and ranks without counting anything.

Decay is forward: an event at t adds ``2 ** (t / half-life)`` and a reader
multiplies by ``2 ** (-t / half-life)``, so a late event weighs what it should
and the order of arrival changes last bits only.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any, Final, NamedTuple

from journey.errors import BadSnapshotError
from journey.events import DAY
from journey.models.base import State, chance, check_class, rounded_score

PROFILE_HALF_LIFE: Final = 60  # days
MOST_IN_PROFILE: Final = 64

POPULAR_HALF_LIFE: Final = 30  # days
MOST_POPULAR: Final = 10_000

MOST_PAIRS: Final = 200_000
MOST_ITEMS: Final = 20_000
MOST_IN_BASKET: Final = 128  # of a larger one, so many are paired
MOST_TEXT: Final = 64  # characters of a category, a brand or a tag that are kept
MOST_TAGS: Final = 8
FEW_BUYERS: Final = 20  # below, counts say little about an item: it is recommended by content

LISTED: Final = 500  # items of a published recommender
WITH_SHARE: Final = 200
MOST_NEAR: Final = 20
UNSOLD_AFTER: Final = 180 * DAY  # what nobody bought for so long is recommended to nobody new

POPULAR_WEIGHT: Final = 2.0
NEW_WEIGHT: Final = 0.02
CART_WEIGHT: Final = 2.0
HEAVIEST: Final = 8  # items of a profile that speak for new ones
MOST_SAY: Final = 3.0  # at most so much of an item's weight speaks for others

BOUGHT_BEFORE: Final = "bought_before"
POPULAR: Final = "popular"
BECAUSE: Final = "because_you_bought:"
TOGETHER: Final = "bought_together:"
ALIKE: Final = "buyers_like_you"

_YEAR_2020: Final = 1_577_836_800_000
_COSINE: Final = 10_000  # cosines are published in whole parts of so many

Profile = dict[str, float]
Item = Sequence[Any]  # item id, category, brand, price in minor units, and maybe a list of tags; None: not told


# ---- reading what was kept -------------------------------------------------------------------------------------------


@contextmanager
def reading(state: Mapping[str, Any], kind: str) -> Iterator[None]:
    """Read a state or snapshot of one class; whatever is wrong with it is said as one error.

    Raises
    ------
    BadSnapshotError
        It is of another class, a part is missing, or a number is none.
    """
    check_class(state, kind)
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        text = f"{kind}: {type(error).__name__}: {error}"
        raise BadSnapshotError(text) from error


def finite(value: Any, most: float = 1e300) -> float:
    """Return a number of a state as a float.

    Raises
    ------
    ValueError
        It is no number, not finite, or beyond ``most``.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not -most <= value <= most:
        text = f"{value!r} is no number of at most {most}"
        raise ValueError(text)
    return float(value)


def count(value: Any) -> int:
    """Return a count of a state.

    Raises
    ------
    ValueError
        It is no integer, or below zero.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        text = f"{value!r} is no count"
        raise ValueError(text)
    return value


# ---- the customer's own counts ---------------------------------------------------------------------------------------


def decay_weight(at_ms: int, half_life_days: int) -> float:
    """Return what an event at this moment adds to a sum that halves every so many days.

    >>> decay_weight(1_577_836_800_000 + 60 * 86_400_000, 60)
    2.0

    References
    ----------
    Cormode et al. (2009), "Forward decay: a practical time decay model for streaming systems", ICDE.
    """
    return float(2.0 ** ((at_ms - _YEAR_2020) / (DAY * half_life_days)))


def add_to_profile(profile: Profile, at_ms: int, items: Collection[str]) -> None:
    """Count bought items into a customer's profile, in place; each counts once.

    Of more than 64 items the lightest quarter is forgotten, ties by id.

    Parameters
    ----------
    profile
        Item to its forward-decayed weight: not weights as of now, those are
        ``profile_at``'s.
    at_ms
        When they were bought; it may be earlier than what is already counted.
    """
    added = decay_weight(at_ms, PROFILE_HALF_LIFE)
    for item in dict.fromkeys(items):
        profile[item] = profile.get(item, 0.0) + added
    if len(profile) > MOST_IN_PROFILE:
        by_weight = sorted(profile, key=lambda item: (-profile[item], item))
        for item in by_weight[MOST_IN_PROFILE * 3 // 4 :]:
            del profile[item]


def profile_at(profile: Mapping[str, float], at_ms: int) -> Profile:
    """Return the weights of a profile as of a moment, by item: one purchase just now weighs 1.

    >>> profile: Profile = {}
    >>> add_to_profile(profile, 1_600_000_000_000, ["milk"])
    >>> profile_at(profile, 1_600_000_000_000 + 60 * DAY)
    {'milk': 0.5}
    """
    share = 1.0 / decay_weight(at_ms, PROFILE_HALF_LIFE)
    return {item: profile[item] * share for item in sorted(profile)}


# ---- what the learner counts -----------------------------------------------------------------------------------------


class Popular:
    """How often each item is bought lately, halving every 30 days; at most 10,000 items.

    When there are more, the least bought quarter goes, ties by id. Order
    law: any order gives the same to 1e-12, as long as none had to go.
    """

    def __init__(self, half_life_days: int = POPULAR_HALF_LIFE, most: int = MOST_POPULAR) -> None:
        self.half_life_days, self.most = half_life_days, most
        self.sums: dict[str, float] = {}

    def add(self, items: Sequence[str], at_ms: int) -> None:
        """Count a basket of distinct items."""
        sums, added = self.sums, decay_weight(at_ms, self.half_life_days)
        for item in items:
            sums[item] = sums.get(item, 0.0) + added
        if len(sums) > self.most:
            self.sums = {item: sums[item] for item in self.ranking()[: self.most * 3 // 4]}

    def ranking(self) -> list[str]:
        """Return all items, most bought first, ties by id."""
        return sorted(self.sums, key=lambda item: (-self.sums[item], item))

    def shares(self, items: Sequence[str]) -> list[float]:
        """Return which part of all purchases lately was of each of these items."""
        total = 0.0
        for item in sorted(self.sums):  # a sum of floats depends on its order
            total += self.sums[item]
        return [self.sums[item] / total for item in items]

    def state(self) -> State:
        """Return the sums and the two bounds."""
        return {"half_life_days": self.half_life_days, "most": self.most, "sums": dict(self.sums)}

    @classmethod
    def restore(cls, state: State) -> Popular:
        """Return what ``state`` kept."""
        popular = cls(count(state["half_life_days"]), count(state["most"]))
        popular.sums = {item: finite(weight) for item, weight in state["sums"].items()}
        return popular


class Pairs:
    """Exact counts of baskets, items, and pairs of items in one basket, while the catalogue is small.

    Beyond 200,000 pairs the less frequent half goes, beyond 20,000 items the
    less frequent quarter with its pairs. ``dropped`` grows each time by the
    greatest count that went: a count that is still here may lack at most so
    much, and so may one that is not here. Order law: any order gives the
    same, as long as none had to go.

    References
    ----------
    Manku and Motwani (2002), "Approximate frequency counts over data streams", VLDB.
    """

    def __init__(self, most_pairs: int = MOST_PAIRS, most_items: int = MOST_ITEMS) -> None:
        self.most_pairs, self.most_items = most_pairs, most_items
        self.n, self.size, self.dropped = 0, 0, 0
        self.items: dict[str, int] = {}
        self.near: dict[str, dict[str, int]] = {}  # both ways

    def learn(self, items: Sequence[str]) -> None:
        """Count a basket of distinct items.

        Of more than 128 some 128 are paired, chosen by a hash of the basket.
        """
        self.n += 1
        counts, near = self.items, self.near
        for item in items:
            counts[item] = counts.get(item, 0) + 1
        rows = [(item, near.setdefault(item, {})) for item in _not_too_many(items)]
        for (one, row), (other, back) in combinations(rows, 2):
            together = row.get(other, 0) + 1
            row[other] = back[one] = together
            self.size += together == 1
        if self.size > self.most_pairs:
            self._drop_pairs()
        if len(counts) > self.most_items:
            self._drop_items()

    def pairs(self) -> list[tuple[str, str, int]]:
        """Return each pair once, in order, with the number of baskets that had both."""
        return sorted(
            (one, other, together) for one, row in self.near.items() for other, together in row.items() if one < other
        )

    def together(self, one: str, other: str) -> int:
        """Return how many baskets had both."""
        return self.near.get(one, {}).get(other, 0)

    def cosine(self, one: str, other: str) -> float:
        """Return how alike the baskets of two items are, 0 to 1; rare items count as a little less alike."""
        together = self.together(one, other)
        return together / (math.sqrt(self.items[one] + 1) * math.sqrt(self.items[other] + 1)) if together else 0.0

    def _drop_pairs(self) -> None:
        ranked = sorted(self.pairs(), key=lambda pair: (-pair[2], pair[0], pair[1]))
        kept = self.most_pairs // 2
        self.dropped += ranked[kept][2]
        self._keep(ranked[:kept])

    def _drop_items(self) -> None:
        ranked = sorted(self.items, key=lambda item: (-self.items[item], item))
        kept = self.most_items * 3 // 4
        self.dropped += self.items[ranked[kept]]
        self.items = {item: self.items[item] for item in ranked[:kept]}
        self._keep([pair for pair in self.pairs() if pair[0] in self.items and pair[1] in self.items])

    def _keep(self, pairs: Sequence[tuple[str, str, int]]) -> None:
        self.near, self.size = {}, len(pairs)
        for one, other, together in pairs:
            self.near.setdefault(one, {})[other] = self.near.setdefault(other, {})[one] = together

    def state(self) -> State:
        """Return all counts; a pair is three numbers, the places of its items in ``items`` and its count."""
        names = sorted(self.items)
        place = {item: number for number, item in enumerate(names)}
        flat: list[int] = []
        for one, other, together in self.pairs():
            flat += (place[one], place[other], together)
        return {
            "n": self.n, "dropped": self.dropped, "most_pairs": self.most_pairs, "most_items": self.most_items,
            "items": names, "counts": [self.items[item] for item in names], "pairs": flat,
        }  # fmt: skip

    @classmethod
    def restore(cls, state: State) -> Pairs:
        """Return what ``state`` kept."""
        pairs = cls(count(state["most_pairs"]), count(state["most_items"]))
        pairs.n, pairs.dropped = count(state["n"]), count(state["dropped"])
        names, flat = state["items"], state["pairs"]
        pairs.items = dict(zip(names, map(count, state["counts"]), strict=True))
        thirds = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        pairs._keep([(names[count(one)], names[count(other)], count(together)) for one, other, together in thirds])
        return pairs


def _not_too_many(items: Sequence[str]) -> Sequence[str]:
    if len(items) <= MOST_IN_BASKET:
        return items
    basket = "\x1e".join(sorted(items))
    return sorted(items, key=lambda item: (chance("basket", basket, item), item))[:MOST_IN_BASKET]


class Fact(NamedTuple):
    """What was told about an item: the fullest account, of equally full ones the newest.

    Attributes
    ----------
    told, at
        How many of category, brand and price it has; ms since 1970.
    price
        Minor units.
    """

    told: int
    at: int
    category: str
    brand: str
    price: int
    tags: tuple[str, ...]


class Facts:
    """What is known about items: category, brand, price, tags, when last bought and by how many; at most 20,000.

    When there are more, the quarter with the fewest buyers goes, of these
    the longest unsold, ties by id. Order law: any order gives the same, as
    long as none had to go.
    """

    def __init__(self, most: int = MOST_ITEMS) -> None:
        self.most = most
        self.of: dict[str, Fact] = {}
        self.seen: dict[str, int] = {}  # ms since 1970
        self.buyers: dict[str, int] = {}  # at most FEW_BUYERS: more make no difference

    def learn(self, items: Sequence[Item], at_ms: int, known: Collection[str] = ()) -> None:
        """Note the items of a basket.

        Parameters
        ----------
        known
            What this customer had bought before. Each other item of the
            basket has one more buyer; a customer who forgot an item (a
            profile holds 64) counts again.
        """
        for item in items:
            name, fact = item[0], _fact(item, at_ms)
            if name not in self.of:
                self.of[name], self.seen[name], self.buyers[name] = fact, at_ms, 0
            self.of[name] = max(self.of[name], fact)
            self.seen[name] = max(self.seen[name], at_ms)
            if name not in known and self.buyers[name] < FEW_BUYERS:
                self.buyers[name] += 1
        if len(self.of) > self.most:
            ranked = sorted(self.of, key=lambda name: (-self.buyers[name], -self.seen[name], name))
            for name in ranked[self.most * 3 // 4 :]:
                del self.of[name], self.seen[name], self.buyers[name]

    def state(self) -> State:
        """Return one row for each item, in order of ids."""
        rows = [
            [name, self.seen[name], self.buyers[name], *self.of[name][:-1], list(self.of[name].tags)]
            for name in sorted(self.of)
        ]
        return {"most": self.most, "items": rows}

    @classmethod
    def restore(cls, state: State) -> Facts:
        """Return what ``state`` kept."""
        facts = cls(count(state["most"]))
        for name, seen, buyers, told, at, category, brand, price, tags in state["items"]:
            facts.seen[name], facts.buyers[name] = int(seen), count(buyers)
            facts.of[name] = Fact(count(told), int(at), str(category), str(brand), int(price), tuple(tags))
        return facts


NOT_TOLD: Final = ""
NO_PRICE: Final = -1


def _fact(item: Item, at_ms: int) -> Fact:
    category, brand, price = item[1], item[2], item[3]
    tags = item[4] if len(item) > 4 else ()
    told = (category is not None) + (brand is not None) + (price is not None)
    return Fact(
        told, at_ms,
        NOT_TOLD if category is None else category[:MOST_TEXT],
        NOT_TOLD if brand is None else brand[:MOST_TEXT],
        NO_PRICE if price is None else int(price),
        tuple(sorted({tag[:MOST_TEXT] for tag in tags})[:MOST_TAGS]),
    )  # fmt: skip


class Baskets:
    """All that is counted of baskets: popularity, pairs, and what is known of each item.

    Order law: integer counts are the same in any order, decayed ones to
    1e-12, as long as nothing had to be dropped.

    Examples
    --------
    >>> baskets = Baskets()
    >>> for _ in range(3):
    ...     baskets.learn([["bread", "bakery", None, 250], ["butter", "dairy", None, 199]], 1_600_000_000_000)
    >>> shop = Recommender.restore(baskets.published(1_600_000_000_000))
    >>> shop.beside_cart(["bread"])
    [Recommendation(item='butter', score=0.75, why='bought_together:bread')]
    """

    CLASS: Final = "baskets/1"

    def __init__(self) -> None:
        self.popular, self.pairs, self.facts = Popular(), Pairs(), Facts()

    def learn(self, items: Sequence[Item], at_ms: int, known: Collection[str] = ()) -> None:
        """Count the distinct items of a completed order.

        Parameters
        ----------
        items
            Rows of item id, category, brand, price in minor units, and maybe
            tags; None where not told.
        at_ms
            When it was completed.
        known
            What the customer had bought before, such as the profile.
        """
        names = sorted({item[0]: None for item in items})
        self.popular.add(names, at_ms)
        self.pairs.learn(names)
        self.facts.learn(items, at_ms, known)

    def published(self, at_ms: int, listed: int = LISTED) -> State:
        """Return what a ``Recommender`` needs: some 50 KB for 300 items, 90 KB for 500.

        Parameters
        ----------
        at_ms
            What nobody bought in the 180 days before is left out.
        listed
            How many of the most popular items are in it, each with at most
            20 neighbours among them; the first 200 have their share of all
            purchases.
        """
        seen = self.facts.seen
        alive = [item for item in self.popular.ranking() if seen.get(item, at_ms) > at_ms - UNSOLD_AFTER]
        names = [item for item in alive if item in self.pairs.items][:listed]
        place = {item: number for number, item in enumerate(names)}
        near: list[list[int]] = []
        for item in names:
            beside = [
                (-round(self.pairs.cosine(item, other) * _COSINE), other)
                for other in self.pairs.near.get(item, ())
                if other in place
            ]
            flat: list[int] = []
            for cosine, other in sorted(beside)[:MOST_NEAR]:
                if cosine:
                    flat += (place[other], -cosine)
            near.append(flat)
        shares = [rounded_score(share) for share in self.popular.shares(names[:WITH_SHARE])]
        return {
            "class": Recommender.CLASS, "n": self.pairs.n, "dropped": self.pairs.dropped,
            "items": names, "shares": shares, "near": near,
        }  # fmt: skip

    def state(self) -> State:
        """Return all counts: 0.4 MB for 300 items, some six at the bounds."""
        return {
            "class": self.CLASS, "popular": self.popular.state(), "pairs": self.pairs.state(),
            "facts": self.facts.state(),
        }  # fmt: skip

    @classmethod
    def restore(cls, state: State) -> Baskets:
        """Return what ``state`` kept; it goes on as if it had never stopped.

        Raises
        ------
        BadSnapshotError
            It is none, or a number in it is none.
        """
        baskets = cls()
        with reading(state, cls.CLASS):
            baskets.popular = Popular.restore(state["popular"])
            baskets.pairs = Pairs.restore(state["pairs"])
            baskets.facts = Facts.restore(state["facts"])
        return baskets


# ---- what the engine asks --------------------------------------------------------------------------------------------


class Recommendation(NamedTuple):
    """An item, what it was ranked by, and why.

    Attributes
    ----------
    score
        Only ranks: it is no probability, and two models' cannot be compared.
    why
        ``bought_before``, ``popular``, ``because_you_bought:<item>`` (of the
        profile, the one that said most), ``bought_together:<item>`` (of the
        cart) or, of neighbours, ``buyers_like_you``; ``in_words`` says it as
        a sentence.
    """

    item: str
    score: float
    why: str


def in_words(why: str) -> str:
    """Return the reason of a recommendation as people say it.

    >>> in_words("because_you_bought:tea"), in_words("popular")
    ('because you bought tea', 'because many customers buy it')
    """
    if why.startswith(BECAUSE):
        return f"because you bought {why.removeprefix(BECAUSE)}"
    if why.startswith(TOGETHER):
        return f"because it is often bought together with {why.removeprefix(TOGETHER)}"
    return _IN_WORDS[why]


_IN_WORDS: Final = {
    BOUGHT_BEFORE: "because you bought it before",
    POPULAR: "because many customers buy it",
    ALIKE: "because customers like you buy it",
}


class _Gone:
    """What is not to be named: a few items, and maybe thousands that cannot be had, which are not copied each time."""

    __slots__ = ("_few", "_many")

    def __init__(self, few: set[str], many: Collection[str]) -> None:
        self._few, self._many = few, many

    def __contains__(self, item: str) -> bool:
        return item in self._few or item in self._many


class Recommender:
    """A published state of ``Baskets``, frozen: it ranks, and nothing changes it.

    An item scores its weight in the profile, plus twice its share of all
    purchases, plus, when it is not in the profile, at most .02 for being
    bought in the baskets of what is in it. Ties by id.
    """

    CLASS: Final = "recommender/1"

    def __init__(
        self, shares: Mapping[str, float], near: Mapping[str, Sequence[tuple[str, float]]], *, n: int, dropped: int
    ) -> None:
        self.n, self.dropped = n, dropped
        by_share = sorted(shares, key=lambda item: (-shares[item], item))
        self._popular = {item: POPULAR_WEIGHT * shares[item] for item in by_share}
        self._near = {item: tuple(beside) for item, beside in near.items()}
        self._most_popular = max(self._popular.values(), default=0.0)

    @classmethod
    def restore(cls, published: State) -> Recommender:
        """Return the recommender that was published.

        Raises
        ------
        BadSnapshotError
            It is none, or a number in it is none.
        """
        with reading(published, cls.CLASS):
            names = [str(item) for item in published["items"]]
            shares = {item: finite(share, 1.0) for item, share in zip(names, published["shares"], strict=False)}
            near = {
                item: [
                    (names[count(other)], finite(part, _COSINE) / _COSINE)
                    for other, part in zip(flat[::2], flat[1::2], strict=True)
                ]
                for item, flat in zip(names, published["near"], strict=True)
            }
            return cls(shares, near, n=count(published["n"]), dropped=count(published["dropped"]))

    def recommend(
        self,
        profile: Mapping[str, float],
        k: int = 10,
        exclude: Collection[str] = (),
        *,
        cart: Sequence[str] = (),
        unavailable: Collection[str] = (),
    ) -> list[Recommendation]:
        """Return at most k items for a customer, best first.

        Parameters
        ----------
        profile
            Item to weight as of now (``profile_at``).
        exclude, unavailable
            Not to be named: just bought, sold out (a set, if there are many).
        cart
            What lies in the cart is not named either, and speaks for what
            is bought together with it.
        """
        if k < 1:
            return []
        gone = _Gone({*exclude, *cart}, unavailable) if unavailable else {*exclude, *cart}
        left = {item: weight for item, weight in profile.items() if item not in gone} if gone else profile
        popular = self._popular
        if len(left) > k:  # what weighs less than this can no longer come in, and need not be looked at
            floor = sorted(left.values())[-k] - self._most_popular - (CART_WEIGHT if cart else 0.0)
            left = {item: weight for item, weight in left.items() if weight >= floor}
        known = sorted([(-(weight + popular.get(item, 0.0)), item) for item, weight in left.items()])
        if not cart and len(known) >= k and -known[k - 1][0] > self._most_popular + NEW_WEIGHT:
            return [Recommendation(item, -score, BOUGHT_BEFORE) for score, item in known[:k]]
        return self._with_new(profile, known, k, gone, cart)

    def _with_new(
        self,
        profile: Mapping[str, float],
        known: Sequence[tuple[float, str]],
        k: int,
        gone: _Gone | set[str],
        cart: Sequence[str],
    ) -> list[Recommendation]:
        popular = self._popular
        heaviest = sorted(zip(profile.values(), profile, strict=True), reverse=True)[:HEAVIEST]
        taste = [(item, min(weight, MOST_SAY)) for weight, item in heaviest]
        lines = [(item, 1.0) for item in dict.fromkeys(cart)]
        new, ours = self._beside(taste), self._beside(lines)
        most_new, most_ours = max(new.values(), default=0.0), max(ours.values(), default=0.0)
        per_new = NEW_WEIGHT / most_new if most_new else 0.0
        per_cart = CART_WEIGHT / most_ours if most_ours else 0.0
        scores = {item: -score for score, item in known}
        wanted = k
        for item, share in popular.items():  # the most popular k: others are named only for what else they have
            if item not in profile and item not in gone:
                scores[item] = share
                wanted -= 1
                if not wanted:
                    break
        for item, cosine in new.items():
            if item not in profile and item not in gone:
                scores[item] = popular.get(item, 0.0) + per_new * cosine
        for item, cosine in ours.items():
            if item in scores:
                scores[item] += per_cart * cosine
            elif item not in profile and item not in gone:
                scores[item] = popular.get(item, 0.0) + per_cart * cosine
        best = sorted([(-score, item) for item, score in scores.items()])[:k]
        named: list[Recommendation] = []
        for score, item in best:
            parts = (
                profile.get(item, 0.0),
                0.0 if item in profile else per_new * new.get(item, 0.0),
                per_cart * ours.get(item, 0.0),
            )
            most = max(popular.get(item, 0.0), *parts)
            if parts[0] == most:
                why = BOUGHT_BEFORE
            elif parts[2] == most:
                why = TOGETHER + self._speaker(item, lines)
            elif parts[1] == most:
                why = BECAUSE + self._speaker(item, taste)
            else:
                why = POPULAR
            named.append(Recommendation(item, -score, why))
        return named

    def beside_cart(self, cart: Sequence[str], k: int = 10, unavailable: Collection[str] = ()) -> list[Recommendation]:
        """Return at most k items that are bought together with what lies in a cart; few or none when little is known.

        The score is the sum of cosines with the items of the cart.
        """
        lines = [(item, 1.0) for item in dict.fromkeys(cart)]
        gone = _Gone(set(cart), unavailable)
        best = sorted([(-score, item) for item, score in self._beside(lines).items() if item not in gone])[:k]
        return [Recommendation(item, -score, TOGETHER + self._speaker(item, lines)) for score, item in best]

    def _beside(self, speakers: Sequence[tuple[str, float]]) -> dict[str, float]:
        """Return the sum of cosines with these items, each times what it weighs."""
        near, sums = self._near, dict[str, float]()
        sum_of = sums.get
        for speaker, weight in speakers:
            for item, cosine in near.get(speaker, ()):
                sums[item] = sum_of(item, 0.0) + weight * cosine
        return sums

    def _speaker(self, item: str, speakers: Sequence[tuple[str, float]]) -> str:
        """Return which of these items said most for this one."""
        near = self._near
        said = [
            (-weight * cosine, speaker)
            for speaker, weight in speakers
            for other, cosine in near.get(speaker, ())
            if other == item
        ]
        return min(said)[1]
