"""What could be had: batch models of the same rows, and the simple rules that have to be beaten."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from math import isnan, nan, sqrt
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.quality.data import Click, Look, Owned, moment
from journey.events import DAY
from journey.models.base import chance
from journey.models.baskets import MOST_POPULAR, POPULAR_HALF_LIFE, decay_weight
from journey.samples import Sample
from streams.audits import Centres, batch_models, fitted, predicted

Floats = NDArray[np.float64]

REFIT_EVERY: Final = 14 * DAY
REFIT_WINDOW: Final = 150 * DAY
AGAIN: Final = 90 * DAY  # an item bought within so many days is not new to a customer
WEEK: Final = 7 * DAY
LISTED: Final = 10
YEAR_BEGAN: Final = moment("2017-01-01")

LR: Final = "logistic regression"
BOOSTED: Final = "boosted trees"


# --- probabilities -----------------------------------------------------------


def frozen(samples: Sequence[Sample], late: Sequence[Sample], cut: int, name: str) -> list[float]:
    """Return the scores that a batch model gives for late rows; it learned the labels that were due by the cut."""
    known = [sample for sample in samples if sample["due_at"] <= cut]
    return predicted(fitted(batch_models()[name], known), late)


def refitted(samples: Sequence[Sample], late: Sequence[Sample], cut: int, name: str = BOOSTED) -> list[float]:
    """Return the scores of a batch model that is fitted anew every 14 days, on the labels of the last 150.

    Parameters
    ----------
    late
        The rows to score, all from the cut on.
    cut
        When it is fitted first, ms.
    """
    scores = [nan] * len(late)
    parts: defaultdict[int, list[int]] = defaultdict(list)
    for number, sample in enumerate(late):
        parts[(sample["scored_at"] - cut) // REFIT_EVERY].append(number)
    for part, numbers in sorted(parts.items()):
        now = cut + part * REFIT_EVERY
        known = [sample for sample in samples if now - REFIT_WINDOW < sample["due_at"] <= now]
        model = fitted(batch_models()[name], known)
        for number, score in zip(numbers, predicted(model, [late[number] for number in numbers]), strict=True):
            scores[number] = score
    return scores


def labels_before(samples: Sequence[Sample]) -> list[int]:
    """Return, for each sample, how many labels were known when it was scored."""
    due = np.sort(np.array([sample["due_at"] for sample in samples], np.int64))
    scored = np.array([sample["scored_at"] for sample in samples], np.int64)
    return [int(count) for count in np.searchsorted(due, scored, side="right")]


# --- segments ----------------------------------------------------------------


def distances(rows: Floats, centres: Any) -> Floats:
    """Return the squared distance of each row from its nearest centre."""
    held = np.asarray(centres, np.float64)
    found: Floats = np.stack([((rows - centre) ** 2).sum(axis=1) for centre in held]).min(axis=0)
    return found


def against_batch(rows: Sequence[Sequence[float]], today: Centres) -> tuple[Floats, Floats]:
    """Return the squared distances of rows from today's centres, and from those of batch k-means on the same rows."""
    scaled = (np.array(rows, np.float64) - np.asarray(today.mean)) * np.asarray(today.inverse)
    batch = KMeans(len(today.centres), n_init=5, random_state=0).fit(scaled)
    return distances(scaled, today.centres), distances(scaled, batch.cluster_centers_)


def weighted_ari(one: Sequence[int], other: Sequence[int], weights: Floats | None = None) -> float:
    """Return the adjusted Rand index of two labellings in which a row may count several times.

    >>> weighted_ari([0, 0, 1, 1], [5, 5, 7, 7]), weighted_ari([0, 1], [0, 0])
    (1.0, 0.0)

    References
    ----------
    Hubert and Arabie (1985), "Comparing partitions", Journal of Classification.
    """
    _, left = np.unique(np.asarray(one), return_inverse=True)
    _, right = np.unique(np.asarray(other), return_inverse=True)
    width = int(right.max()) + 1
    counts = np.bincount(left * width + right, weights=weights, minlength=(int(left.max()) + 1) * width)
    table = counts.astype(np.float64).reshape(-1, width)

    def pairs(held: Floats) -> float:
        return float((held * (held - 1.0)).sum()) / 2.0

    total = pairs(table.sum().reshape(1))
    rows, columns = pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = rows * columns / total if total > 0 else 0.0
    most = (rows + columns) / 2.0
    return 1.0 if most == expected else (pairs(table) - expected) / (most - expected)


def weekly_ari(looks: Sequence[Look], truth: Sequence[str], found: Sequence[int]) -> Callable[[Floats | None], float]:
    """Return the mean over weeks of the agreement with the truth, as a resampling takes it."""
    weeks: defaultdict[int, list[int]] = defaultdict(list)
    for number, look in enumerate(looks):
        weeks[look.at].append(number)
    kinds = {name: number for number, name in enumerate(sorted(set(truth)))}
    held = [
        (np.array(numbers), [kinds[truth[number]] for number in numbers], [found[number] for number in numbers])
        for _, numbers in sorted(weeks.items())
    ]

    def take(weights: Floats | None) -> float:
        each = [weighted_ari(one, other, None if weights is None else weights[at]) for at, one, other in held]
        return sum(each) / len(each) if each else nan

    return take


def supervised(looks: Sequence[Look], truth: Sequence[str]) -> list[int]:
    """Return what boosted trees make of the same rows when they are told the truth of the other half of customers."""
    kinds = {name: number for number, name in enumerate(sorted(set(truth)))}
    rows = np.array([look.x for look in looks], np.float64)
    wanted = np.array([kinds[name] for name in truth])
    first = np.array([chance("half", look.customer) < 0.5 for look in looks])
    found = np.zeros(len(looks), np.int64)
    for learn in (first, ~first):
        model = HistGradientBoostingClassifier(
            max_iter=80, learning_rate=0.08, max_leaf_nodes=12, min_samples_leaf=50, random_state=0
        )
        found[~learn] = model.fit(rows[learn], wanted[learn]).predict(rows[~learn])
    return [int(label) for label in found]


def batch_every_week(looks: Sequence[Look], segments: int) -> list[int]:
    """Return the clusters of k-means that is fitted anew on the rows of each week."""
    weeks: defaultdict[int, list[int]] = defaultdict(list)
    for number, look in enumerate(looks):
        weeks[look.at].append(number)
    found = [0] * len(looks)
    for numbers in weeks.values():
        rows = np.array([looks[number].x for number in numbers], np.float64)
        scaled = (rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 1e-9)
        labels = KMeans(min(segments, len(rows)), n_init=5, random_state=0).fit_predict(scaled)
        for number, label in zip(numbers, labels, strict=True):
            found[number] = int(label)
    return found


def flips(looks: Sequence[Look]) -> tuple[list[str], list[float]]:
    """Return (customer, 1 if the segment changed since the week before) of each customer and week that has both."""
    before: dict[str, Look] = {}
    customers, changed = [], []
    for look in sorted(looks, key=lambda look: look.at):
        last = before.get(look.customer)
        if last is not None and look.at - last.at == WEEK and None not in (last.segment, look.segment):
            customers.append(look.customer)
            changed.append(float(last.segment != look.segment))
        before[look.customer] = look
    return customers, changed


def swapped_names(looks: Sequence[Look]) -> int:
    """Return how often a name went from one segment to another one from a week to the next."""
    weeks: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for look in looks:
        if look.segment is not None and look.name is not None:
            weeks[look.at][look.name] = look.segment
    swapped = 0
    known: dict[str, int] = {}
    for _, names in sorted(weeks.items()):
        swapped += sum(known.get(name, segment) != segment for name, segment in names.items())
        known |= names
    return swapped


# --- recommendations ---------------------------------------------------------


class Recalls(NamedTuple):
    """For each way to recommend: recall of each basket, and of what was new in it (NaN where nothing was)."""

    customers: list[str]
    all: dict[str, list[float]]
    new: dict[str, list[float]]


Recommend = Callable[[Mapping[str, float], Sequence[str]], list[str]]  # profile, items not to be named


def ranked(scores: Mapping[str, float], gone: Iterable[str] = ()) -> list[str]:
    """Return the ten highest, ties by id.

    >>> ranked({"b": 1.0, "a": 1.0, "c": 2.0}, gone=["c"])
    ['a', 'b']
    """
    left = set(gone)
    return sorted((item for item in scores if item not in left), key=lambda item: (-scores[item], item))[:LISTED]


def recall(named: Sequence[str], bought: Iterable[str]) -> float:
    """Return which part of what was bought was among ten; a basket larger than ten can be found whole, too.

    >>> recall(["a", "b"], ["a", "z"]), recall(["a"], [])
    (0.5, nan)
    """
    wanted = set(bought)
    return len(wanted.intersection(named[:LISTED])) / min(LISTED, len(wanted)) if wanted else nan


class Baskets:
    """What everybody bought lately, and what each customer bought in the last 90 days; learned after it was asked."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._last: defaultdict[str, dict[str, int]] = defaultdict(dict)

    def popular(self) -> dict[str, float]:
        """Return the share of each item in what was bought, half-life 30 days."""
        total = sum(self._sums.values())
        return {item: weight / total for item, weight in self._sums.items()}

    def bought(self, customer: str, at: int) -> list[str]:
        """Return what is not new to a customer."""
        return sorted(item for item, when in self._last[customer].items() if at - when <= AGAIN)

    def learn(self, customer: str, at: int, items: Iterable[str]) -> None:
        """Count an order."""
        added = decay_weight(at, POPULAR_HALF_LIFE)
        for item in items:
            self._sums[item] = self._sums.get(item, 0.0) + added
            self._last[customer][item] = at
        if len(self._sums) > MOST_POPULAR:
            kept = sorted(self._sums, key=lambda item: (-self._sums[item], item))[: MOST_POPULAR * 3 // 4]
            self._sums = {item: self._sums[item] for item in kept}


CHAMPION: Final = "champion"
PERSONAL: Final = "personal + popular"
POPULAR: Final = "popular"


def a_fifth(customer: str, at: int) -> bool:
    """Tell whether a basket is one of the fifth that is looked at, by a hash of customer and time."""
    return chance("basket", customer, str(at)) < 0.2


def of_the_reference(customer: str, at: int) -> bool:
    """Tell whether a basket of 2017 is one of the three in a hundred that the reference figures were measured on."""
    seconds = (at - YEAR_BEGAN) / 1000
    key = blake2b(f"{customer.removeprefix('u:')}|{seconds}".encode(), digest_size=4).digest()
    return int.from_bytes(key, "big") % 100 < 3


def next_baskets(
    owned: Sequence[Owned],
    recommender: Callable[[Sample], Recommend | None],
    looked_at: Callable[[str, int], bool] = lambda _customer, _at: True,
) -> Recalls:
    """Return how much of each next basket of the second half was foreseen.

    Parameters
    ----------
    owned
        Samples of recommendations, in the order of time.
    recommender
        What was in force for a sample, for what is new: the ten of a sample
        are of all items.
    looked_at
        (customer, ms) -> whether a basket of the second half is looked at.
    """
    held = Baskets()
    half = owned[len(owned) // 2][1]["at"] if owned else 0
    customers: list[str] = []
    every: dict[str, list[float]] = {name: [] for name in (CHAMPION, PERSONAL, POPULAR)}
    new: dict[str, list[float]] = {name: [] for name in every}
    for customer, sample in owned:
        items, at = sorted({item[0] for item in sample["items"]}), sample["at"]
        looked = at >= half and sample["top"] is not None and looked_at(customer, at)
        if looked:
            profile = dict(sample["profile"])
            popular = held.popular()
            both = {item: 2.0 * weight for item, weight in popular.items()}
            for item, weight in profile.items():
                both[item] = both.get(item, 0.0) + weight
            gone = held.bought(customer, at)
            customers.append(customer)
            unknown = set(items).difference(gone)
            every[CHAMPION].append(recall(sample["top"], items))
            ask = recommender(sample)
            new[CHAMPION].append(nan if ask is None else recall(ask(profile, gone), unknown))
            for name, scores in ((PERSONAL, both), (POPULAR, popular)):
                every[name].append(recall(ranked(scores), items))
                new[name].append(recall(ranked(scores, gone), unknown))
        held.learn(customer, at, items)
    return Recalls(customers, every, new)


class Hits(NamedTuple):
    """For each view: whether it was among the ten that ranked first, those that were shown, and those seen last."""

    customers: list[str]
    ranked: list[float]
    shown: list[float]
    recent: list[float]


def next_clicks(clicks: Sequence[Click], begin: int) -> Hits:
    """Return what was foreseen of each view from a moment on."""
    seen: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=LISTED))
    hits = Hits([], [], [], [])
    for click in clicks:
        recent = seen[click.customer]
        if click.at >= begin:
            hits.customers.append(click.customer)
            hits.ranked.append(float(click.item in (click.top or ())[:LISTED]))
            hits.shown.append(float(click.item in (click.shown or ())[:LISTED]))
            hits.recent.append(float(click.item in recent))
        if click.item in recent:
            recent.remove(click.item)
        recent.append(click.item)
    return hits


# --- value -------------------------------------------------------------------


class Buyer(NamedTuple):
    """What is known of a buyer at the cut, and what came in the 39 weeks after it."""

    customer: str
    repeats: int
    weeks_bought: float
    weeks: float
    mean: float
    orders: int
    money: float


def buyers(orders: Iterable[tuple[str, int, float]], cut: int) -> list[Buyer]:
    """Return who bought before the cut; orders of one day are one order.

    Parameters
    ----------
    orders
        (customer, ms, money) of each order.
    """
    days: defaultdict[str, dict[int, float]] = defaultdict(dict)
    for customer, at, money in orders:
        day = at // DAY * DAY
        days[customer][day] = days[customer].get(day, 0.0) + money
    found = []
    for customer, of in sorted(days.items()):
        known = sorted(day for day in of if day < cut)
        if not known:
            continue
        again, after = known[1:], [money for day, money in of.items() if day >= cut]
        mean = sum(of[day] for day in again) / len(again) if again else 0.0
        bought, age = (known[-1] - known[0]) / WEEK, (cut - DAY - known[0]) / WEEK
        found.append(Buyer(customer, len(again), bought, age, mean, len(after), sum(after)))
    return found


def past_rate(buyer: Buyer, ahead: float) -> float:
    """Return the repeat orders that a buyer would make at the pace so far."""
    return buyer.repeats / buyer.weeks * ahead if buyer.weeks > 0 else 0.0


def correlation(one: Sequence[float], other: Sequence[float]) -> Callable[[Floats | None], float]:
    """Return Pearson's correlation as a resampling takes it; NaN where one does not vary.

    >>> correlation([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])(None)
    1.0
    """
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)

    def take(weights: Floats | None) -> float:
        w = np.ones(len(a)) if weights is None else weights
        total = float(w.sum())
        if total <= 0:
            return nan
        left, right = a - (w * a).sum() / total, b - (w * b).sum() / total
        spread = float((w * left * left).sum()) * float((w * right * right).sum())
        found = float((w * left * right).sum()) / sqrt(spread) if spread > 0 else nan
        return found if isnan(found) else max(-1.0, min(1.0, found))

    return take


def ratio(above: Sequence[float] | Floats, below: Sequence[float] | Floats) -> Callable[[Floats | None], float]:
    """Return a sum divided by another one, as a resampling takes it.

    >>> ratio([1.0, 2.0], [2.0, 4.0])(None)
    0.5
    """
    a, b = np.asarray(above, np.float64), np.asarray(below, np.float64)

    def take(weights: Floats | None) -> float:
        w = np.ones(len(a)) if weights is None else weights
        under = float((w * b).sum())
        return float((w * a).sum()) / under if under else nan

    return take
