"""Recommendations by content: items that are like what a customer buys, before many bought them.

An item is its category, brand, price band and tags; a term counts the more,
the fewer items have it (TF-IDF). Fewer than 20 buyers say little about what
an item is bought with, so such items are ranked by this alone.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from journey.models.base import State, rounded
from journey.models.baskets import (
    BECAUSE,
    FEW_BUYERS,
    LISTED,
    NO_PRICE,
    NOT_TOLD,
    UNSOLD_AFTER,
    Fact,
    Facts,
    Item,
    Recommendation,
    count,
    finite,
    reading,
)

BANDS: Final = 5
_MOST_IDF: Final = 100.0

Vector = tuple[tuple[int, float], ...]  # number of the term, weight; of length 1


class Content:
    """What items are, and how many bought each.

    Order law: any order gives the same, as long as no item had to go.

    Parameters
    ----------
    facts
        Those of ``Baskets``, when it learns the same samples: then only it
        is taught.

    Examples
    --------
    >>> content = Content()
    >>> content.learn([["green tea", "tea", "Leaf", 400], ["hammer", "tools", "Iron", 900]], 1_600_000_000_000)
    >>> ranking = ContentRanking.restore(content.published(1_600_000_000_000))
    >>> [found.item for found in ranking.recommend({"green tea": 1.0})]
    ['green tea']
    """

    CLASS: Final = "content/1"

    def __init__(self, facts: Facts | None = None) -> None:
        self.facts = Facts() if facts is None else facts

    def learn(self, items: Sequence[Item], at_ms: int, known: Collection[str] = ()) -> None:
        """Note the items of an order; ``known`` is what the customer had bought before."""
        self.facts.learn(items, at_ms, known)

    def published(self, at_ms: int, listed: int = LISTED) -> State:
        """Return what a ``ContentRanking`` needs: some 30 KB for a thousand items.

        Parameters
        ----------
        at_ms
            What nobody bought in the 180 days before is left out.
        listed
            So many items with few buyers are ranked, and so many others are
            understood in a profile: those bought last, ties by id.
        """
        facts = self.facts
        limits = self.price_limits()
        terms_of = {name: _terms(fact, limits) for name, fact in facts.of.items()}
        with_term: dict[str, int] = {}
        for terms in terms_of.values():
            for term in terms:
                with_term[term] = with_term.get(term, 0) + 1
        alive = sorted(
            (name for name, seen in facts.seen.items() if seen > at_ms - UNSOLD_AFTER),
            key=lambda name: (-facts.seen[name], name),
        )
        few = sorted([name for name in alive if facts.buyers[name] < FEW_BUYERS][:listed])
        many = sorted([name for name in alive if facts.buyers[name] >= FEW_BUYERS][:listed])
        used = sorted({term for name in few + many for term in terms_of[name]})
        number = {term: place for place, term in enumerate(used)}
        return {
            "class": ContentRanking.CLASS, "terms": used,
            "idf": [rounded(math.log(1.0 + len(terms_of) / with_term[term])) for term in used],
            "few": len(few),
            "items": [[name, [number[term] for term in terms_of[name]]] for name in few + many],
        }  # fmt: skip

    def price_limits(self) -> list[int]:
        """Return the four prices (minor units) that part the shop's items into five bands of equal size."""
        prices = sorted(fact.price for fact in self.facts.of.values() if fact.price != NO_PRICE)
        return [prices[len(prices) * band // BANDS] for band in range(1, BANDS)] if prices else []

    def state(self) -> State:
        """Return all facts; 20,000 items are some two megabytes."""
        return {"class": self.CLASS, "facts": self.facts.state()}

    @classmethod
    def restore(cls, state: State) -> Content:
        """Return what ``state`` kept.

        Raises
        ------
        BadSnapshotError
            It is none, or a number in it is none.
        """
        with reading(state, cls.CLASS):
            return cls(Facts.restore(state["facts"]))


def _terms(fact: Fact, limits: Sequence[int]) -> list[str]:
    terms = [f"tag {tag}" for tag in fact.tags]
    if fact.category != NOT_TOLD:
        terms.append(f"category {fact.category}")
    if fact.brand != NOT_TOLD:
        terms.append(f"brand {fact.brand}")
    if fact.price != NO_PRICE:
        terms.append(f"band {bisect_right(limits, fact.price)}")
    return sorted(terms)


class ContentRanking:
    """Published content, frozen: cosine of an item with what a customer buys, each weighed as in the profile."""

    CLASS: Final = "content-ranking/1"

    def __init__(self, few: Mapping[str, Vector], many: Mapping[str, Vector]) -> None:
        self._few = dict(few)
        self._vectors = {**many, **few}
        self._with_term: dict[int, list[tuple[str, float]]] = {}
        for name in sorted(few):
            for term, weight in few[name]:
                self._with_term.setdefault(term, []).append((name, weight))

    @classmethod
    def restore(cls, published: State) -> ContentRanking:
        """Return the ranking that was published.

        Raises
        ------
        BadSnapshotError
            It is none, or a number in it is none.
        """
        with reading(published, cls.CLASS):
            idf = [finite(weight, _MOST_IDF) for weight in published["idf"]]
            vectors = [
                (str(name), _unit([(count(term), idf[term]) for term in terms])) for name, terms in published["items"]
            ]
            few = count(published["few"])
            return cls(dict(vectors[:few]), dict(vectors[few:]))

    def recommend(
        self, profile: Mapping[str, float], k: int = 10, exclude: Collection[str] = ()
    ) -> list[Recommendation]:
        """Return at most k items with few buyers, most alike first, ties by id; items of the profile too.

        Nothing like anything in the profile is not named at all.
        """
        taste: dict[int, float] = {}
        for item in sorted(profile):
            for term, weight in self._vectors.get(item, ()):
                taste[term] = taste.get(term, 0.0) + profile[item] * weight
        length = math.sqrt(math.fsum(weight * weight for weight in taste.values()))
        scores: dict[str, float] = {}
        for term in sorted(taste):
            for name, weight in self._with_term.get(term, ()):
                scores[name] = scores.get(name, 0.0) + taste[term] * weight
        best = sorted([(-score, name) for name, score in scores.items() if name not in exclude and score > 0.0])[:k]
        return [Recommendation(name, -score / length, BECAUSE + self._nearest(name, profile)) for score, name in best]

    def _nearest(self, name: str, profile: Mapping[str, float]) -> str:
        wanted = dict(self._few[name])
        said = [
            (-weight * math.fsum(part * wanted.get(term, 0.0) for term, part in self._vectors.get(item, ())), item)
            for item, weight in profile.items()
        ]
        return min(said)[1]


def _unit(vector: Sequence[tuple[int, float]]) -> Vector:
    length = math.sqrt(math.fsum(weight * weight for _, weight in vector))
    return tuple((term, weight / length) for term, weight in vector) if length else ()
