"""User-based collaborative filtering without customers' ids: what buyers with a similar profile buy.

Samples carry profiles, not ids. The newest 2,000 profiles are kept as they
were; the same customer may be among them several times.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from typing import Final

from journey.entries import encode
from journey.models.base import State, rounded
from journey.models.baskets import (
    ALIKE,
    BOUGHT_BEFORE,
    MOST_IN_PROFILE,
    Item,
    Recommendation,
    count,
    finite,
    reading,
)

MOST_PROFILES: Final = 2_000
NEAREST: Final = 50
PUBLISHED: Final = 500
HEAVIEST: Final = 32  # items of a published profile
_PART: Final = 100  # weights are published in whole parts of so many
_MOST_WEIGHT: Final = 1e9

Weights = Mapping[str, float]


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Return how alike the directions of two vectors are; 0 when one has no direction.

    >>> round(cosine([1, 2, 3, 4, 5], [2, 3, 4, 5, 6]), 4)
    0.9949
    """
    inner, left, right = 0.0, 0.0, 0.0
    for a, b in zip(one, other, strict=True):
        inner, left, right = inner + a * b, left + a * a, right + b * b
    return inner / math.sqrt(left * right) if left and right else 0.0


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Return how far two points are apart, by Euclid.

    >>> round(distance([1, 2, 3, 4, 5], [2, 3, 4, 5, 6]), 3)
    2.236
    """
    total = 0.0
    for a, b in zip(one, other, strict=True):
        total += (a - b) * (a - b)
    return math.sqrt(total)


class Neighbours:
    """The newest profiles of buyers, each with the order that told of it.

    Order law: any order gives the same. Of two that came at one moment the
    hash of what they hold decides.

    Examples
    --------
    >>> seen = Neighbours()
    >>> seen.learn([["milk", None, None, None]], 1_600_000_000_000, {"tea": 1.0})
    >>> near = Neighbourhood.restore(seen.published(1_600_000_000_000))
    >>> [found.item for found in near.recommend({"tea": 2.0}, exclude=["tea"])]
    ['milk']
    """

    CLASS: Final = "neighbours/1"

    def __init__(self, most: int = MOST_PROFILES) -> None:
        self.most = most
        self.kept: list[tuple[int, str, tuple[tuple[str, float], ...]]] = []  # when, hash, profile; oldest first

    def learn(self, items: Sequence[Item], at_ms: int, profile: Weights) -> None:
        """Keep a profile, with the items that were bought now as one more purchase of each.

        Parameters
        ----------
        profile
            Item to weight as of now, just before the order.
        """
        if len(self.kept) == self.most and at_ms < self.kept[0][0]:
            return
        weights = dict(profile)
        for name in sorted({item[0]: None for item in items}):
            weights[name] = weights.get(name, 0.0) + 1.0
        heaviest = sorted(weights, key=lambda name: (-weights[name], name))[:MOST_IN_PROFILE]
        row = tuple((name, rounded(weights[name])) for name in sorted(heaviest))
        entry = (at_ms, blake2b(encode(row), digest_size=8).hexdigest(), row)
        place = bisect_left(self.kept, entry)
        if self.kept[place : place + 1] != [entry]:
            self.kept.insert(place, entry)
            del self.kept[: -self.most]

    def published(self, at_ms: int, most: int = PUBLISHED, heaviest: int = HEAVIEST) -> State:
        """Return the newest profiles until a moment: 500 of at most 32 items are some 120 KB."""
        rows = [sorted(row, key=lambda one: (-one[1], one[0]))[:heaviest] for at, _, row in self.kept if at <= at_ms][
            -most:
        ]
        names = sorted({name for row in rows for name, _ in row})
        number = {name: place for place, name in enumerate(names)}
        flat: list[list[int]] = []
        for row in rows:
            parts: list[int] = []
            for name, weight in row:
                parts += (number[name], round(weight * _PART))
            flat.append(parts)
        return {"class": Neighbourhood.CLASS, "items": names, "profiles": flat}

    def state(self) -> State:
        """Return all profiles: at most four megabytes."""
        return {"class": self.CLASS, "most": self.most, "kept": [[at, key, dict(row)] for at, key, row in self.kept]}

    @classmethod
    def restore(cls, state: State) -> Neighbours:
        """Return what ``state`` kept.

        Raises
        ------
        BadSnapshotError
            It is none, or a number in it is none.
        """
        with reading(state, cls.CLASS):
            neighbours = cls(count(state["most"]))
            for at, key, row in state["kept"]:
                weights = tuple((name, finite(row[name], _MOST_WEIGHT)) for name in sorted(row))
                neighbours.kept.append((int(at), str(key), weights))
        return neighbours


class Neighbourhood:
    """Published profiles, frozen: an item scores the 50 nearest buyers' cosines, each times how much they buy it."""

    CLASS: Final = "neighbourhood/1"

    def __init__(self, profiles: Sequence[Weights], nearest: int = NEAREST) -> None:
        self.nearest = nearest
        self._rows: list[list[tuple[str, float]]] = []
        self._buyers: dict[str, list[tuple[int, float]]] = {}
        for number, profile in enumerate(profiles):
            length = _length(profile)
            row = [(name, profile[name] / length) for name in sorted(profile)] if length else []
            self._rows.append(row)
            for name, weight in row:
                self._buyers.setdefault(name, []).append((number, weight))

    @classmethod
    def restore(cls, published: State) -> Neighbourhood:
        """Return the profiles that were published.

        Raises
        ------
        BadSnapshotError
            It is none, or a number in it is none.
        """
        with reading(published, cls.CLASS):
            names = published["items"]
            return cls([
                {
                    str(names[count(place)]): finite(part, _MOST_WEIGHT * _PART) / _PART
                    for place, part in zip(flat[::2], flat[1::2], strict=True)
                }
                for flat in published["profiles"]
            ])  # fmt: skip

    def recommend(self, profile: Weights, k: int = 10, exclude: Collection[str] = ()) -> list[Recommendation]:
        """Return at most k items, best first, ties by id; none when nobody bought anything of the profile."""
        length = _length(profile)
        if not length:
            return []
        alike: dict[int, float] = {}
        for name in sorted(profile):
            mine = profile[name] / length
            for number, weight in self._buyers.get(name, ()):
                alike[number] = alike.get(number, 0.0) + mine * weight
        scores: dict[str, float] = {}
        for likeness, number in sorted([(-likeness, number) for number, likeness in alike.items()])[: self.nearest]:
            for name, weight in self._rows[number]:
                scores[name] = scores.get(name, 0.0) - likeness * weight
        best = sorted([(-score, name) for name, score in scores.items() if name not in exclude])[:k]
        return [Recommendation(name, -score, BOUGHT_BEFORE if name in profile else ALIKE) for score, name in best]


def _length(weights: Weights) -> float:
    return math.sqrt(math.fsum(weight * weight for weight in weights.values()))
