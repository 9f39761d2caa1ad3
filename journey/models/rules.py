"""Association rules: who buys this buys that too, from exact counts of pairs.

Only pairs are counted, so a rule has one item on each side. With the same
thresholds, and without the demand that a rule be sure, the rules are those of
FP-growth with itemsets of at most two.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from journey.errors import BadSnapshotError
from journey.models.base import State
from journey.models.baskets import Pairs, count, reading

LEAST_TOGETHER: Final = 20
LEAST_SUPPORT: Final = 0.005
LEAST_CONFIDENCE: Final = 0.2
LEAST_LIFT: Final = 1.2
MOST_PUBLISHED: Final = 500
_95_PERCENT: Final = 1.959963984540054  # standard deviations, both sides


@dataclass(frozen=True)
class Rule:
    """Who buys ``left`` buys ``right`` too.

    Attributes
    ----------
    together, with_left, with_right, baskets
        How many baskets had both, the left, the right item; how many there were.
    """

    left: str
    right: str
    together: int
    with_left: int
    with_right: int
    baskets: int

    @property
    def support(self) -> float:
        """The part of all baskets that had both, 0 to 1."""
        return self.together / self.baskets

    @property
    def confidence(self) -> float:
        """The part of the left item's baskets that had the right one too, 0 to 1."""
        return self.together / self.with_left

    @property
    def lift(self) -> float:
        """How many times as often the right item is with the left one as in any basket; 1: no connection."""
        return self.together * self.baskets / (self.with_left * self.with_right)

    def text(self) -> str:
        """Return the rule as a shop says it.

        >>> Rule("tea", "milk", 120, 316, 2_000, 10_000).text()
        'who buys tea buys milk too: 38 % of them, 1.9 times as often as others (n 120)'
        """
        return (
            f"who buys {self.left} buys {self.right} too: {100 * self.confidence:.0f} % of them, "
            f"{self.lift:.1f} times as often as others (n {self.together})"
        )


def wilson_lower(happened: int, of: int) -> float:
    """Return the lower end of the 95 % interval of a proportion.

    >>> round(wilson_lower(8, 10), 4)
    0.4902

    References
    ----------
    Wilson (1927), "Probable inference, the law of succession, and statistical inference", JASA 22.
    """
    part, square = happened / of, _95_PERCENT * _95_PERCENT
    spread = math.sqrt(part * (1.0 - part) / of + square / (4.0 * of * of))
    return (part + square / (2.0 * of) - _95_PERCENT * spread) / (1.0 + square / of)


def rules(
    pairs: Pairs,
    *,
    together: int = LEAST_TOGETHER,
    support: float = LEAST_SUPPORT,
    confidence: float = LEAST_CONFIDENCE,
    lift: float = LEAST_LIFT,
    sure: bool = True,
) -> list[Rule]:
    """Return the rules that the counted baskets bear, highest lift first, ties by the items.

    Parameters
    ----------
    pairs
        What they had to drop may be missing: a rule is shown when its count
        is above that level.
    together, support, confidence, lift
        What a rule must have at least.
    sure
        Also: the 95 % interval of the confidence lies above the right item's
        part of all baskets. Without it the rules equal those of FP-growth.

    References
    ----------
    Agrawal and Srikant (1994), "Fast algorithms for mining association rules", VLDB.
    """
    found: list[Rule] = []
    for one, other, both in pairs.pairs():
        if both < together or both <= pairs.dropped or both / pairs.n < support:
            continue
        for left, right in ((one, other), (other, one)):
            rule = Rule(left, right, both, pairs.items[left], pairs.items[right], pairs.n)
            if rule.confidence < confidence or rule.lift < lift:
                continue
            if not sure or wilson_lower(both, rule.with_left) > rule.with_right / rule.baskets:
                found.append(rule)
    return sorted(found, key=lambda rule: (-rule.lift, rule.left, rule.right))


class Rules:
    """The published rules, frozen: at most 500, those with the highest lift.

    Examples
    --------
    >>> pairs = Pairs()
    >>> for basket in (["ink", "pen"],) * 30 + (["tea"],) * 70:
    ...     pairs.learn(basket)
    >>> shop = Rules.restore(Rules.of(pairs).published())
    >>> [rule.right for rule in shop.beside(["ink"])]
    ['pen']
    """

    CLASS: Final = "rules/1"

    def __init__(self, found: Sequence[Rule], *, baskets: int, dropped: int) -> None:
        self.found, self.baskets, self.dropped = tuple(found), baskets, dropped
        self._from: dict[str, list[Rule]] = {}
        for rule in self.found:
            self._from.setdefault(rule.left, []).append(rule)

    @classmethod
    def of(cls, pairs: Pairs, most: int = MOST_PUBLISHED) -> Rules:
        """Return the best rules of these counts, with the thresholds of ``rules``."""
        return cls(rules(pairs)[:most], baskets=pairs.n, dropped=pairs.dropped)

    def beside(self, cart: Collection[str], k: int = 10) -> list[Rule]:
        """Return at most k rules from what lies in a cart to what does not, highest lift first, one for each item."""
        fitting = [rule for item in dict.fromkeys(cart) for rule in self._from.get(item, ()) if rule.right not in cart]
        best: dict[str, Rule] = {}
        for rule in sorted(fitting, key=lambda rule: (-rule.lift, rule.left, rule.right)):
            best.setdefault(rule.right, rule)
        return list(best.values())[:k]

    def published(self) -> State:
        """Return the rules as counts: what else they tell follows from them."""
        rows = [[rule.left, rule.right, rule.together, rule.with_left, rule.with_right] for rule in self.found]
        return {"class": self.CLASS, "baskets": self.baskets, "dropped": self.dropped, "rules": rows}

    @classmethod
    def restore(cls, published: State) -> Rules:
        """Return the rules that were published.

        Raises
        ------
        BadSnapshotError
            It is none, or its counts contradict each other.
        """
        with reading(published, cls.CLASS):
            baskets = count(published["baskets"])
            found = [
                Rule(str(left), str(right), count(both), count(with_left), count(with_right), baskets)
                for left, right, both, with_left, with_right in published["rules"]
            ]
            dropped = count(published["dropped"])
        for rule in found:
            least, most = sorted((rule.with_left, rule.with_right))
            if not 0 < rule.together <= least <= most <= baskets:
                text = f"{cls.CLASS}: {rule} cannot have been counted"
                raise BadSnapshotError(text)
        return cls(found, baskets=baskets, dropped=dropped)
