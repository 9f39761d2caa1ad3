"""Matrix factorisation without customers' ids: a customer is what they bought.

A customer is the weighted mean of their items' vectors (asymmetric SVD), an
item scores its bias plus the inner product with another vector of its own.
Learned by pairs: what was bought should score above two items that were not,
drawn by chance from the ids of the sample.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from journey.models.base import State, chance, rounded, sigmoid
from journey.models.baskets import (
    BECAUSE,
    BOUGHT_BEFORE,
    LISTED,
    MOST_SAY,
    POPULAR,
    Item,
    Recommendation,
    count,
    finite,
    reading,
)

RANK: Final = 16
MOST_ITEMS: Final = 4_000
RATE: Final = 0.03
SHRINK: Final = 0.002
NEGATIVES: Final = 2
MOST_LEARNED: Final = 64  # items of one order
_START: Final = 0.5
_MOST: Final = 1e6


def start(seed: str, side: str, item: str, rank: int) -> list[float]:
    """Return the vector an item begins with, which its id decides: asking about it needs no memory.

    >>> start("s", "buys", "milk", 16) == start("s", "buys", "milk", 16)
    True
    """
    return [_START * (2.0 * chance(seed, side, item, str(place)) - 1.0) for place in range(rank)]


class Factors:
    """Two vectors and a bias for each item, learned one order at a time; at most 4,000 items.

    When there are more, the quarter bought least goes, ties by id. Order
    law: none.

    Parameters
    ----------
    rate, shrink
        Step; how much each step pulls a number towards 0.
    seed
        Decides starts and which items are compared.

    Examples
    --------
    >>> factors = Factors()
    >>> for n in range(200):
    ...     pair = ("tea", "milk") if n % 2 else ("ink", "pen")
    ...     factors.learn([[pair[1], None, None, None]], 1_600_000_000_000, {pair[0]: 1.0})
    ...     factors.learn([[pair[0], None, None, None]], 1_600_000_000_000, {pair[1]: 1.0})
    >>> ranking = FactorRanking.restore(factors.published(1_600_000_000_000))
    >>> [found.item for found in ranking.recommend({"tea": 1.0}, k=1)]
    ['milk']

    References
    ----------
    Paterek (2007), "Improving regularized singular value decomposition for collaborative filtering", KDD Cup.
    Rendle et al. (2009), "BPR: Bayesian personalized ranking from implicit feedback", UAI.
    """

    CLASS: Final = "factors/1"

    def __init__(
        self,
        rank: int = RANK,
        most: int = MOST_ITEMS,
        rate: float = RATE,
        shrink: float = SHRINK,
        seed: str = "factors",
    ) -> None:
        self.rank, self.most, self.rate, self.shrink, self.seed = rank, most, rate, shrink, seed
        self.n = 0
        self.names: list[str] = []  # chance draws from it: its order is part of the state
        self.bought: dict[str, int] = {}
        self.bias: dict[str, float] = {}
        self.taste: dict[str, list[float]] = {}  # what an item says of its buyer
        self.goods: dict[str, list[float]] = {}  # whom it is for

    def learn(self, items: Sequence[Item], at_ms: int, profile: Mapping[str, float]) -> None:
        """Learn one order of a customer with this profile (item to weight as of now, just before)."""
        names = sorted({item[0]: None for item in items})[:MOST_LEARNED]
        for name in names:
            if name not in self.bias:
                self._add(name)
            self.bought[name] += 1
        shares = taste_shares(profile, self.taste)
        self._compare(names, mean_taste(shares, self.taste, self.rank), shares)
        self.n += 1
        if len(self.names) > self.most:
            self._forget()

    def _add(self, name: str) -> None:
        self.names.append(name)
        self.bought[name], self.bias[name] = 0, 0.0
        self.taste[name] = start(self.seed, "buys", name, self.rank)
        self.goods[name] = start(self.seed, "is for", name, self.rank)

    def _compare(self, names: Sequence[str], customer: Sequence[float], shares: Sequence[tuple[str, float]]) -> None:
        rate, keep = self.rate, 1.0 - self.rate * self.shrink
        pull = [0.0] * self.rank
        for name in names:
            for draw in range(NEGATIVES):
                place = int(chance(self.seed, str(self.n), name, str(draw)) * len(self.names))
                other = self.names[place]
                if other in names:
                    continue
                mine, theirs = self.goods[name], self.goods[other]
                ahead = self.bias[name] - self.bias[other]
                for a, b, c in zip(customer, mine, theirs, strict=True):
                    ahead += a * (b - c)
                wrong = sigmoid(-ahead)
                step = rate * wrong
                self.bias[name] = self.bias[name] * keep + step
                self.bias[other] = self.bias[other] * keep - step
                pull = [a + wrong * (b - c) for a, b, c in zip(pull, mine, theirs, strict=True)]
                self.goods[name] = [b * keep + step * a for a, b in zip(customer, mine, strict=True)]
                self.goods[other] = [c * keep - step * a for a, c in zip(customer, theirs, strict=True)]
        for item, share in shares:
            step = rate * share
            self.taste[item] = [a * keep + step * b for a, b in zip(self.taste[item], pull, strict=True)]

    def _forget(self) -> None:
        ranked = sorted(self.names, key=lambda name: (-self.bought[name], name))
        for name in ranked[self.most * 3 // 4 :]:
            del self.bought[name], self.bias[name], self.taste[name], self.goods[name]
        self.names = [name for name in self.names if name in self.bias]

    def published(self, at_ms: int, listed: int = LISTED) -> State:
        """Return the items bought most, ties by id, their numbers rounded to 4 decimals: some 80 KB for 300."""
        names = sorted(self.names, key=lambda name: (-self.bought[name], name))[:listed]
        return {
            "class": FactorRanking.CLASS, "rank": self.rank, "items": names,
            "bias": [rounded(self.bias[name]) for name in names],
            "taste": [[rounded(value) for value in self.taste[name]] for name in names],
            "goods": [[rounded(value) for value in self.goods[name]] for name in names],
        }  # fmt: skip

    def state(self) -> State:
        """Return all vectors: some 700 bytes an item."""
        rows = [[name, self.bought[name], self.bias[name], self.taste[name], self.goods[name]] for name in self.names]
        return {
            "class": self.CLASS, "rank": self.rank, "most": self.most, "rate": self.rate, "shrink": self.shrink,
            "seed": self.seed, "n": self.n, "items": rows,
        }  # fmt: skip

    @classmethod
    def restore(cls, state: State) -> Factors:
        """Return what ``state`` kept; it goes on bit for bit.

        Raises
        ------
        BadSnapshotError
            It is none, or a number in it is none or exploded.
        """
        with reading(state, cls.CLASS):
            rank = count(state["rank"])
            factors = cls(
                rank, count(state["most"]), finite(state["rate"]), finite(state["shrink"]), str(state["seed"])
            )
            factors.n = count(state["n"])
            for name, bought, bias, taste, goods in state["items"]:
                factors.names.append(name)
                factors.bought[name], factors.bias[name] = count(bought), finite(bias, _MOST)
                factors.taste[name], factors.goods[name] = _vector(taste, rank), _vector(goods, rank)
        return factors


def _vector(values: Sequence[Any], rank: int) -> list[float]:
    return [finite(value, _MOST) for value, _ in zip(values, range(rank), strict=True)]


def taste_shares(profile: Mapping[str, float], taste: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return the items of a profile that are known, by id, with what each says of the customer: together 1."""
    weights = [
        (name, min(profile[name], MOST_SAY)) for name in sorted(profile) if name in taste and profile[name] > 0.0
    ]
    total = 0.0
    for _, weight in weights:
        total += weight
    return [(name, weight / total) for name, weight in weights]


def mean_taste(shares: Sequence[tuple[str, float]], taste: Mapping[str, Sequence[float]], rank: int) -> list[float]:
    """Return the customer's vector: the mean of the items', 0 when nothing is known."""
    mean = [0.0] * rank
    for name, share in shares:
        mean = [a + share * b for a, b in zip(mean, taste[name], strict=True)]
    return mean


class FactorRanking:
    """Published vectors, frozen: ranks every item that is in it; unknown ids say nothing."""

    CLASS: Final = "factor-ranking/1"

    def __init__(
        self, bias: Mapping[str, float], taste: Mapping[str, list[float]], goods: Mapping[str, list[float]], rank: int
    ) -> None:
        self.rank = rank
        self._bias, self._taste, self._goods = dict(bias), dict(taste), dict(goods)

    @classmethod
    def restore(cls, published: State) -> FactorRanking:
        """Return the ranking that was published.

        Raises
        ------
        BadSnapshotError
            It is none, or a number in it is none or exploded.
        """
        with reading(published, cls.CLASS):
            rank, names = count(published["rank"]), [str(name) for name in published["items"]]
            bias = dict(zip(names, [finite(value, _MOST) for value in published["bias"]], strict=True))
            taste = dict(zip(names, [_vector(values, rank) for values in published["taste"]], strict=True))
            goods = dict(zip(names, [_vector(values, rank) for values in published["goods"]], strict=True))
            return cls(bias, taste, goods, rank)

    def recommend(
        self, profile: Mapping[str, float], k: int = 10, exclude: Collection[str] = ()
    ) -> list[Recommendation]:
        """Return at most k items, best first, ties by id."""
        shares = taste_shares(profile, self._taste)
        customer = mean_taste(shares, self._taste, self.rank)
        scored: list[tuple[float, str]] = []
        for name, score in self._bias.items():
            if name not in exclude:
                for a, b in zip(customer, self._goods[name], strict=True):
                    score += a * b
                scored.append((-score, name))
        return [
            Recommendation(name, -score, BOUGHT_BEFORE if name in profile else self._why(name, shares))
            for score, name in sorted(scored)[:k]
        ]

    def _why(self, name: str, shares: Sequence[tuple[str, float]]) -> str:
        said: list[tuple[float, str]] = []
        for item, share in shares:
            part = 0.0
            for a, b in zip(self._taste[item], self._goods[name], strict=True):
                part += a * b
            said.append((-share * part, item))
        most = min(said, default=(0.0, ""))
        return POPULAR if -most[0] <= max(0.0, self._bias[name]) else BECAUSE + most[1]
