"""Audits offline: what batch libraries make of the samples, beside what was learned from them one by one.

Nothing here decides anything. The functions take plain lists; chance is a
hash of ids, and what the libraries draw is seeded, so the same samples give
the same tables. NumPy, scikit-learn and mlxtend are imported when a function
needs them: they are the optional ``audit`` extra.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import pairwise
from math import isnan, nan, sqrt
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from aiokafka import TopicPartition

from journey.events import DAY, HOUR
from journey.models.assign import inverse
from journey.models.base import LEAST, chance
from journey.samples import FAMILIES, SAMPLE_VERSION, Sample
from streams.errors import ShellError
from streams.logs import consumer, partitions_of, read_all, read_partitions, spans_of
from streams.settings import SAMPLES, Settings
from streams.snapshots import keys_of, named, payload_of, read
from streams.topics import MODELS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Whole = NDArray[np.int64]

REPLICATES: Final = 200
BINS: Final = 10
LEAST_ROWS: Final = 200  # fewer tell nothing


class MissingExtraError(ShellError):
    """The batch libraries are not installed.

    Operator: ``pip install journey-engine[audit]``. Workers do not need it.
    """


class TooFewSamplesError(ShellError):
    """There are not enough samples to say anything.

    Operator: wait; samples are kept for 400 days, and labels come only at the end of their horizon.
    """


@contextmanager
def extra() -> Iterator[None]:
    """Say what to install when an import in the body fails.

    >>> with extra():
    ...     import a_library_that_nobody_has
    Traceback (most recent call last):
    streams.audits.MissingExtraError: a_library_that_nobody_has is missing: pip install journey-engine[audit]
    """
    try:
        yield
    except ImportError as error:
        text = f"{error.name} is missing: pip install journey-engine[audit]"
        raise MissingExtraError(text) from error


@contextmanager
def one_thread() -> Iterator[None]:
    """Let batch libraries use one thread in the body: sums of several depend on how they were shared out."""
    with extra():
        import sklearn.cluster
        import sklearn.ensemble  # noqa: F401  # only what is loaded by now is limited
        from threadpoolctl import threadpool_limits
    with threadpool_limits(1):
        yield


# --- the samples -------------------------------------------------------------


async def read_samples(settings: Settings, model: str, newest: int | None = None) -> list[Sample]:
    """Return the samples of a model family in the order of its log, the newest only where a number is given.

    A sample that was sent twice (a worker began again) is returned once.

    Raises
    ------
    TopicConflictError, BrokerUnavailableError
        There is no such topic, no broker.
    TooFewSamplesError
        There is no sample of this model.
    """
    found: dict[tuple[Any, ...], Sample] = {}
    async with consumer(settings) as client:
        topic = settings.topic(SAMPLES)
        await partitions_of(client, topic)
        spans = await spans_of(client, [TopicPartition(topic, FAMILIES.index(model))])
        if newest is not None:
            spans = {tp: (max(begin, end - newest), end) for tp, (begin, end) in spans.items()}
        async for _, records in read_partitions(client, spans):
            for record in records:
                sample = read_sample(record.value)
                if sample["model"] == model:
                    found.setdefault(tuple(sample["src"]), sample)
    if not found:
        text = f"no sample of {model} is in {topic}"
        raise TooFewSamplesError(text)
    return list(found.values())


def read_sample(raw: bytes) -> Sample:
    """Return a sample; one of a newer version than this program is refused.

    >>> read_sample(b'{"v":2}')
    Traceback (most recent call last):
    streams.errors.ShellError: a sample has version 2, newer than 1: use the newer program
    """
    sample: Sample = orjson.loads(raw)
    if sample["v"] > SAMPLE_VERSION:
        text = f"a sample has version {sample['v']}, newer than {SAMPLE_VERSION}: use the newer program"
        raise ShellError(text)
    return sample


async def newest_payload(settings: Settings, model: str) -> dict[str, Any] | None:
    """Return the newest version of a model that was published, its signature verified; None before the first.

    Raises
    ------
    SnapshotError
        It is not signed with a key of ours, or is no model.
    """
    newest: tuple[int, bytes | None] | None = None
    async for record in read_all(settings, settings.topic(MODELS)):
        told = named(record.key)
        if told is not None and told[0] == model and record.value is not None and (not newest or told[1] > newest[0]):
            newest = told[1], record.value
    return None if newest is None else payload_of(read(newest[1], keys_of(settings)))


# --- figures and their intervals ---------------------------------------------


class Figure(NamedTuple):
    """A figure with its interval of 95 %; NaN where it could not be taken."""

    value: float
    low: float = nan
    high: float = nan

    def shown(self, digits: int = 4) -> str:
        """Return it as text.

        >>> Figure(0.5, 0.41, 0.59).shown(2), Figure(0.5).shown(2), Figure(float("nan")).shown()
        ('0.50 [0.41, 0.59]', '0.50', '-')
        """
        if isnan(self.value):
            return "-"
        text = f"{self.value:.{digits}f}"
        return text if isnan(self.low) else f"{text} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


class Scored:
    """Probabilities beside what happened, ordered once: figures of any weighting of the rows are cheap.

    Examples
    --------
    >>> scored = Scored([1, 0, 1, 0], [0.9, 0.1, 0.4, 0.4])
    >>> scored.auc(), round(scored.log_loss(), 4), round(scored.ece(), 3)
    (0.875, 0.4095, 0.3)
    """

    def __init__(self, happened: Sequence[float], scores: Sequence[float]) -> None:
        with extra():
            import numpy as np
        scored = np.asarray(scores, np.float64)
        self.order: Whole = np.argsort(scored, kind="stable")
        self.p: Floats = scored[self.order]
        self.y: Floats = np.asarray(happened, np.float64)[self.order]
        kept = np.clip(self.p, LEAST, 1.0 - LEAST)
        self._losses: Floats = -np.where(self.y > 0, np.log(kept), np.log(1.0 - kept))
        self._starts: Whole = np.flatnonzero(np.r_[True, self.p[1:] != self.p[:-1]]) if len(scored) else self.order

    def _weights(self, weights: Floats | None) -> Floats:
        with extra():
            import numpy as np
        return np.ones(len(self.p)) if weights is None else weights[self.order]

    def auc(self, weights: Floats | None = None) -> float:
        """Return the area under the ROC curve; ties count one half; NaN without both classes."""
        with extra():
            import numpy as np
        w = self._weights(weights)
        if not len(w):
            return nan
        with_it, without = np.add.reduceat(w * self.y, self._starts), np.add.reduceat(w * (1.0 - self.y), self._starts)
        pairs = float(with_it.sum()) * float(without.sum())
        if pairs <= 0:
            return nan
        below = np.cumsum(without) - without
        return float((with_it * (below + 0.5 * without)).sum()) / pairs

    def log_loss(self, weights: Floats | None = None) -> float:
        """Return the mean loss in nats; probabilities are kept 0.0001 away from 0 and 1."""
        w = self._weights(weights)
        total = float(w.sum())
        return float((w * self._losses).sum()) / total if total > 0 else nan

    def ece(self, weights: Floats | None = None) -> float:
        """Return the expected calibration error over ten bins that hold equally many rows.

        Chance alone makes it larger than 0, so its bootstrap interval leans upwards.
        """
        with extra():
            import numpy as np
        w = self._weights(weights)
        total = float(w.sum())
        if total <= 0:
            return nan
        bins = np.clip(np.ceil(np.cumsum(w) * BINS / total - 1e-9).astype(np.int64) - 1, 0, BINS - 1)
        gaps = np.bincount(bins, weights=w * (self.y - self.p), minlength=BINS)
        return float(np.abs(gaps).sum()) / total

    def reliability(self) -> list[tuple[float, float, int]]:
        """Return (mean score, share that happened, rows) of each of the ten bins."""
        edges = [number * len(self.p) // BINS for number in range(BINS + 1)]
        return [
            (float(self.p[begin:end].mean()), float(self.y[begin:end].mean()), end - begin)
            for begin, end in pairwise(edges)
            if end > begin
        ]


class Resampling:
    """Weights of a keyed Poisson bootstrap: in each replicate a group of rows counts as often as its key says.

    A group (a customer, a day) is taken or left as a whole. Its weights are a
    hash of its key, so they do not depend on the other groups, the order of
    rows, or the figure: figures of the same groups may be compared.

    Examples
    --------
    >>> one, two = Resampling(["a", "b", "a"]), Resampling(["b", "a"])
    >>> [one.rows(7)[0] == one.rows(7)[2], one.rows(7)[1] == two.rows(7)[0]]
    [np.True_, np.True_]

    References
    ----------
    Chamandy et al. (2012), "Estimating uncertainty for massive data streams", Google.
    """

    def __init__(self, groups: Sequence[str], replicates: int = REPLICATES) -> None:
        with extra():
            import numpy as np
        keys = sorted(set(groups))
        number = {key: at for at, key in enumerate(keys)}
        self._of: Whole = np.array([number[group] for group in groups], np.int64)
        digests = [blake2b(key.encode(), digest_size=8).digest() for key in keys]
        seeds = np.array([int.from_bytes(digest, "big") for digest in digests], np.uint64)
        steps = np.arange(1, replicates + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = seeds[None, :] + steps[:, None]
        # the finaliser of splitmix64: whole numbers only, the same on every machine
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        uniform = ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 9007199254740992.0
        self._weights: NDArray[np.int64] = np.searchsorted(_POISSON, uniform, side="right")
        self.replicates = replicates

    def rows(self, replicate: int) -> Floats:
        """Return the weight of each row in a replicate."""
        found: Floats = self._weights[replicate][self._of].astype(float)
        return found

    def figure(self, take: Callable[[Floats | None], float]) -> Figure:
        """Return a figure with its interval, the middle 95 % of its replicates.

        ``take`` is called with the weights of the rows, and with None for the figure itself.
        """
        with extra():
            import numpy as np
        found = np.array([take(self.rows(number)) for number in range(self.replicates)])
        found = found[~np.isnan(found)]
        if len(found) < self.replicates // 2:  # most replicates lack a class
            return Figure(take(None))
        low, high = np.quantile(found, (0.025, 0.975))
        return Figure(take(None), float(low), float(high))


def _poisson(most: int = 16) -> list[float]:
    """Return P(count <= n) of the Poisson distribution with mean 1, for n below ``most``."""
    term = total = 0.36787944117144233
    found = [total]
    for count in range(1, most):
        term /= count
        total += term
        found.append(total)
    return found


_POISSON: Final = _poisson()


def mean_of(values: Sequence[float]) -> Callable[[Floats | None], float]:
    """Return the weighted mean of values, as ``Resampling.figure`` takes it.

    >>> mean_of([1.0, 2.0])(None)
    1.5
    """
    with extra():
        import numpy as np
    held = np.asarray(values, np.float64)

    def take(weights: Floats | None) -> float:
        w = np.ones(len(held)) if weights is None else weights
        total = float(w.sum())
        return float((w * held).sum()) / total if total > 0 else nan

    return take


class Quality(NamedTuple):
    """How good the probabilities of one model are."""

    name: str
    rows: int
    happened: int
    auc: Figure
    log_loss: Figure
    ece: Figure
    reliability: list[tuple[float, float, int]]


def quality(name: str, happened: Sequence[float], scores: Sequence[float], resampling: Resampling) -> Quality:
    """Return the figures of a model on rows of which the resampling knows the groups."""
    scored = Scored(happened, scores)
    auc, log_loss, ece = (resampling.figure(take) for take in (scored.auc, scored.log_loss, scored.ece))
    return Quality(name, len(scores), round(sum(happened)), auc, log_loss, ece, scored.reliability())


# --- segments ----------------------------------------------------------------

FEWEST_SEGMENTS: Final = 2
MOST_SEGMENTS: Final = 8
SPLITS: Final = 5
STABLE: Final = 0.8  # two halves of the customers should agree so far about who belongs together
NEIGHBOURS: Final = 10
HIERARCHY_ROWS: Final = 5000  # all pairs of rows are held


class Centres(NamedTuple):
    """Today's segments: centres in units of standard deviations, the scaler that makes them, a name for each."""

    features: Sequence[str]  # some of those that are sampled
    centres: Sequence[Sequence[float]]
    mean: Sequence[float]
    inverse: Sequence[float]  # 1 / standard deviation, 0 for a feature that never changed
    names: Sequence[str]


def centres_of(payload: Mapping[str, Any]) -> Centres | None:
    """Return the segments of a published model; None before it has any."""
    state = payload["state"]
    if not state["centres"]:
        return None
    inverses = [inverse(variance) for variance in state["variances"]]
    return Centres(state["names"], state["centres"], state["means"], inverses, payload["segment_names"])


class Proposal(NamedTuple):
    """What one batch method finds in the rows. ``noise`` rows belong nowhere; ``ari`` is with today's segments."""

    method: str
    clusters: int
    noise: float
    ari: float
    segments: list[tuple[str, float]]  # name by what stands out, share of the rows; the largest first


class SegmentsAudit(NamedTuple):
    """Today's segments beside batch methods on the same rows."""

    rows: int
    agreement: dict[int, float]  # k -> ARI between clusterings of two halves
    proposed: int
    proposals: list[Proposal]
    today: Proposal | None
    excess: float  # sum of squares of today's centres over that of batch k-means with as many
    ari: float  # today's segments against batch k-means with as many
    points: list[tuple[float, float]]  # the two directions in which rows differ most
    labels: list[int]
    marks: list[tuple[float, float]]
    names: list[str]


@one_thread()
def audit_segments(
    rows: Sequence[Sequence[float]], features: Sequence[str], today: Centres | None = None
) -> SegmentsAudit:
    """Compare today's segments with batch k-means, a hierarchy, DBSCAN and HDBSCAN on the same rows.

    How many segments to have is proposed by agreement: the customers are cut
    into two halves five times, both are clustered, and all rows are assigned
    by both. The largest k whose mean adjusted Rand index is at least 0.8 is
    proposed, else the one with the highest. (The silhouette is no guide: it
    was anti-correlated with the truth where the truth was known.)

    Parameters
    ----------
    rows
        Shape ``(n, k)``, as sampled; rows with NaN are left out.
    features
        The k names.
    today
        Only its features are looked at. None: all, and rows are scaled by
        their own mean and standard deviation.

    Raises
    ------
    TooFewSamplesError
        Fewer than 200 rows without NaN.

    References
    ----------
    Tibshirani and Walther (2005), "Cluster validation by prediction strength", JCGS 14, for the threshold.
    """
    with extra():
        import numpy as np
        from sklearn.cluster import DBSCAN, HDBSCAN, AgglomerativeClustering, KMeans
        from sklearn.metrics import adjusted_rand_score
    known = [row for row in rows if not any(map(isnan, row))]
    held = np.array(known, np.float64).reshape(-1, len(features))
    if today is not None:
        held = held[:, [list(features).index(name) for name in today.features]]
        features = today.features
    if len(held) < LEAST_ROWS:
        text = f"{len(held)} rows are too few to look for segments: {LEAST_ROWS} are needed"
        raise TooFewSamplesError(text)
    spread = held.std(axis=0)
    mean = held.mean(axis=0) if today is None else np.asarray(today.mean, np.float64)
    inverse = (
        np.where(spread > 1e-6, 1.0 / np.maximum(spread, 1e-6), 0.0) if today is None else np.asarray(today.inverse)
    )
    scaled = (held - mean) * inverse
    assigned: Any = None
    own: Any = None
    if today is not None:
        own = np.asarray(today.centres, np.float64)
        assigned = nearest(scaled, own)

    def proposal(method: str, labels: Any) -> Proposal:
        found = [label for label in sorted(set(labels.tolist())) if label >= 0]
        usual, deviation = scaled.mean(axis=0), np.maximum(scaled.std(axis=0), 1e-9)
        parts = [
            (
                described((scaled[labels == label].mean(axis=0) - usual) / deviation, features),
                float((labels == label).mean()),
            )
            for label in found
        ]
        ari = nan if assigned is None else float(adjusted_rand_score(assigned, labels))
        return Proposal(method, len(found), float((labels < 0).mean()), ari, sorted(parts, key=lambda part: -part[1]))

    agreement = split_half_agreement(scaled)
    stable = [k for k, ari in agreement.items() if ari >= STABLE]
    proposed = max(stable) if stable else max(agreement, key=lambda k: (agreement[k], -k))
    batch = KMeans(proposed, n_init=5, random_state=0).fit(scaled)
    few = scaled[-HIERARCHY_ROWS:]
    radius = 0.6 * sqrt(len(features) / 4)  # 0.6 standard deviations was looked at for four features
    proposals = [proposal(f"k-means, k={proposed}", batch.labels_)]
    if len(few) == len(scaled):
        found = AgglomerativeClustering(proposed).fit_predict(few)
        proposals.append(proposal(f"hierarchy (Ward), k={proposed}", found))
    found = DBSCAN(eps=radius, min_samples=NEIGHBOURS).fit_predict(scaled)
    proposals.append(proposal(f"DBSCAN, radius {radius:.2f}", found))
    found = HDBSCAN(min_cluster_size=max(20, len(scaled) // 100), copy=True).fit_predict(scaled)
    proposals.append(proposal("HDBSCAN", found))
    excess = ari = nan
    told = None
    labels, marked = batch.labels_, batch.cluster_centers_
    names = [described(centre, features) for centre in _standing_out(batch.cluster_centers_, scaled)]
    if today is not None:
        same = KMeans(len(own), n_init=5, random_state=0).fit(scaled)
        excess = sum_of_squares(scaled, own) / max(float(same.inertia_), 1e-12)
        ari = float(adjusted_rand_score(assigned, same.labels_))
        told = proposal("today", assigned)
        labels, marked, names = assigned, own, list(today.names)
    points, marks = flattened(scaled, marked)
    return SegmentsAudit(
        len(held),
        agreement,
        proposed,
        proposals,
        told,
        excess,
        ari,
        points,
        [int(label) for label in labels],
        marks,
        names,
    )


def _standing_out(centres: Any, rows: Any) -> Any:
    with extra():
        import numpy as np
    return (centres - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 1e-9)


def nearest(rows: Any, centres: Any) -> Any:
    """Return the number of the nearest centre of each row; the first of equals."""
    with extra():
        import numpy as np
    held = np.asarray(rows, np.float64)
    return np.stack([((held - centre) ** 2).sum(axis=1) for centre in centres]).argmin(axis=0)


def sum_of_squares(rows: Any, centres: Any) -> float:
    """Return the squared distances of rows from their nearest centres, summed."""
    with extra():
        import numpy as np
    held = np.asarray(rows, np.float64)
    return float(np.stack([((held - centre) ** 2).sum(axis=1) for centre in centres]).min(axis=0).sum())


def split_half_agreement(scaled: Any) -> dict[int, float]:
    """Return, for each k, how far clusterings of two halves of the rows agree about all rows (mean ARI)."""
    with extra():
        import numpy as np
        from sklearn.cluster import KMeans
        from sklearn.metrics import adjusted_rand_score
    halves = [
        np.array([chance("half", str(split), str(row)) < 0.5 for row in range(len(scaled))]) for split in range(SPLITS)
    ]
    found = {}
    for k in range(FEWEST_SEGMENTS, MOST_SEGMENTS + 1):
        agreed = []
        for half in halves:
            one = KMeans(k, n_init=5, random_state=0).fit(scaled[half])
            two = KMeans(k, n_init=5, random_state=0).fit(scaled[~half])
            agreed.append(float(adjusted_rand_score(one.predict(scaled), two.predict(scaled))))
        found[k] = sum(agreed) / len(agreed)
    return found


def described(deviations: Any, features: Sequence[str]) -> str:
    """Return what stands out: at most two features that are half a standard deviation or more from the mean.

    >>> described([0.1, -1.2, 0.7, 0.9], ["rec", "freq", "mon", "disc"])
    'low freq, high disc'
    """
    strong = sorted((-abs(float(value)), name, value > 0) for name, value in zip(features, deviations, strict=True))
    told = [f"{'high' if above else 'low'} {name}" for size, name, above in strong[:2] if size <= -0.5]
    return ", ".join(told) or "average"


def flattened(rows: Any, centres: Any) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Return rows and centres in the plane in which the rows differ most (principal components)."""
    with extra():
        import numpy as np
    mean = rows.mean(axis=0)
    _, _, axes = np.linalg.svd(rows - mean, full_matrices=False)
    plane = axes[:2]
    plane = plane * np.where(plane.sum(axis=1) < 0, -1.0, 1.0)[:, None]  # a direction has no sign of its own
    points, marks = (rows - mean) @ plane.T, (np.asarray(centres) - mean) @ plane.T
    return [(float(x), float(y)) for x, y in points], [(float(x), float(y)) for x, y in marks]


# --- association rules -------------------------------------------------------


class Rule(NamedTuple):
    """Who buys the left also buys the right."""

    left: str
    right: str
    support: float
    confidence: float
    lift: float


class Triple(NamedTuple):
    """Who buys both of the left also buys the right."""

    left: tuple[str, str]
    right: str
    support: float
    confidence: float
    lift: float


class RulesAudit(NamedTuple):
    """Streaming rules beside those of FP-growth on the same baskets."""

    baskets: int
    items: int
    found: list[Rule]
    missing: list[Rule]  # found by FP-growth alone
    surplus: list[Rule]  # found by the stream alone
    difference: float  # largest, of support, confidence or lift
    triples: list[Triple]

    @property
    def same(self) -> bool:
        """Whether both are the same set with the same numbers."""
        return not self.missing and not self.surplus and self.difference <= TOLERANCE


class Thresholds(NamedTuple):
    """Which rules are shown."""

    together: int = 20  # baskets
    support: float = 0.005
    confidence: float = 0.2
    lift: float = 1.2
    z: float | None = (
        1.959963984540054  # of the Wilson bound of the confidence, which has to be above the right side's share
    )


TOLERANCE: Final = 1e-9


def wilson_lower(happened: float, rows: float, z: float) -> float:
    """Return the lower bound of a share by Wilson's score interval.

    >>> round(wilson_lower(20, 100, 1.96), 4)
    0.1334
    """
    if rows <= 0:
        return 0.0
    share = happened / rows
    middle = share + z * z / (2 * rows)
    margin = z * sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return (middle - margin) / (1 + z * z / rows)


def audit_rules(
    baskets: Sequence[Sequence[str]],
    streaming: Sequence[tuple[str, str, float, float, float]],
    limits: Thresholds = Thresholds(),  # noqa: B008  # a tuple
) -> RulesAudit:
    """Compare rules counted one basket at a time with those that FP-growth finds in the same baskets.

    Triples are looked for here only: a stream would have to count too many.

    Parameters
    ----------
    baskets
        Items of each order; an item twice in an order counts once.
    streaming
        (left, right, support, confidence, lift) of each rule.

    Raises
    ------
    TooFewSamplesError
        Fewer than 200 baskets.
    """
    with extra():
        import numpy as np
        import pandas as pd
        from mlxtend.frequent_patterns import fpgrowth
    held = [frozenset(basket) for basket in baskets]
    total = len(held)
    if total < LEAST_ROWS:
        text = f"{total} baskets are too few to look for rules: {LEAST_ROWS} are needed"
        raise TooFewSamplesError(text)
    least = max(limits.together, limits.support * total - TOLERANCE)
    seen: dict[str, int] = {}
    for basket in held:
        for item in basket:
            seen[item] = seen.get(item, 0) + 1
    # an item that is rarer than a rule has to be is in none: leaving it out keeps the table small
    names = sorted(item for item, count in seen.items() if count >= least)
    column = {item: number for number, item in enumerate(names)}
    there = np.zeros((total, len(names)), bool)
    for number, basket in enumerate(held):
        there[number, [column[item] for item in basket if item in column]] = True
    table = pd.DataFrame(there, columns=names)
    share = min(1.0, max(1.0, least) / total * (1 - TOLERANCE))

    def counted(largest: int) -> dict[frozenset[str], int]:
        sets = fpgrowth(table, min_support=share, max_len=largest, use_colnames=True)
        return {
            frozenset(items): round(float(support) * total)
            for items, support in zip(sets["itemsets"], sets["support"], strict=True)
        }

    pairs = counted(2) if names else {}
    found = []
    for items, together in pairs.items():
        if len(items) != 2 or together < least:
            continue
        one, other = sorted(items)
        for left, right in ((one, other), (other, one)):
            rule = _rule(together, seen[left], seen[right], total, limits)
            if rule is not None:
                found.append(Rule(left, right, *rule))
    found.sort(key=lambda rule: (-rule.lift, rule.left, rule.right))
    ours = {(left, right): Rule(left, right, *rest) for left, right, *rest in streaming}
    theirs = {(rule.left, rule.right): rule for rule in found}
    both = sorted(ours.keys() & theirs.keys())
    gaps = [abs(a - b) for key in both for a, b in zip(ours[key][2:], theirs[key][2:], strict=True)]
    return RulesAudit(
        total,
        len(seen),
        found,
        [theirs[key] for key in sorted(theirs.keys() - ours.keys())],
        [ours[key] for key in sorted(ours.keys() - theirs.keys())],
        max(gaps, default=0.0),
        _triples(counted(3), total, least, limits) if names else [],
    )


def _rule(together: int, left: int, right: int, total: int, limits: Thresholds) -> tuple[float, float, float] | None:
    confidence = together / left
    lift = confidence * total / right
    if confidence < limits.confidence - TOLERANCE or lift < limits.lift - TOLERANCE:
        return None
    if limits.z is not None and wilson_lower(together, left, limits.z) <= right / total:
        return None
    return together / total, confidence, lift


def _triples(counts: Mapping[frozenset[str], int], total: int, least: float, limits: Thresholds) -> list[Triple]:
    found = []
    for items, together in counts.items():
        if len(items) != 3 or together < least:
            continue
        for right in sorted(items):
            left = items - {right}
            rule = _rule(together, counts[left], counts[frozenset((right,))], total, limits)
            if rule is not None:
                one, other = sorted(left)
                found.append(Triple((one, other), right, *rule))
    return sorted(found, key=lambda triple: (-triple.lift, triple.left, triple.right))


# --- probabilities: churn and intent -----------------------------------------


class ScoresAudit(NamedTuple):
    """Batch models beside the model in force; all figures are of the same rows."""

    cut: int  # ms; labels known by then were learned by the batch models
    learned: int
    rows: int
    happened: int
    abstained: int  # rows after the cut that were left out, because the model in force said nothing
    models: list[Quality]


LEAST_BLOCKS: Final = 20
LABEL: Final = "label"  # kind of a sample: a row that was scored, and what came true
LIVE: Final = "in force"
FALLBACK: Final = "fallback"


def batch_models() -> dict[str, Any]:
    """Return the batch models that serve as ceilings, unfitted and seeded."""
    with extra():
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import LinearSVC

    def on_scaled(model: Any) -> Any:
        return make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), model)

    return {
        "logistic regression": on_scaled(LogisticRegression(max_iter=500)),
        "linear SVM, calibrated": on_scaled(CalibratedClassifierCV(LinearSVC(random_state=0), cv=3)),
        "random forest": on_scaled(RandomForestClassifier(200, min_samples_leaf=20, random_state=0)),
        "boosted trees": HistGradientBoostingClassifier(
            max_iter=120, learning_rate=0.06, max_leaf_nodes=8, min_samples_leaf=100, l2_regularization=5.0,
            random_state=0,
        ),
    }  # fmt: skip


def fitted(model: Any, samples: Sequence[Sample]) -> Any:
    """Fit a batch model on the rows and labels of samples; return it."""
    with extra():
        import numpy as np
    return model.fit(
        np.array([sample["x"] for sample in samples], np.float64), np.array([sample["y"] for sample in samples])
    )


def predicted(model: Any, samples: Sequence[Sample]) -> list[float]:
    """Return what a fitted model gives as P(1) for the rows of samples."""
    with extra():
        import numpy as np
    rows = np.array([sample["x"] for sample in samples], np.float64)
    return [float(p) for p in model.predict_proba(rows)[:, 1]] if len(samples) else []


def blocks(moments: Sequence[int]) -> list[str]:
    """Return the day of each moment (ms); the hour where there are fewer than 20 days.

    >>> blocks([0, HOUR - 1, HOUR])
    ['0', '0', '1']
    """
    days = {moment // DAY for moment in moments}
    return [str(moment // (DAY if len(days) >= LEAST_BLOCKS else HOUR)) for moment in moments]


@one_thread()
def audit_scores(samples: Sequence[Sample]) -> ScoresAudit:
    """Compare the model in force and its fallback with batch models that learned what was known half-way.

    The batch models learn the labels that were due at the median time of
    scoring, and are evaluated on rows scored afterwards; the model in force
    is taken with the scores that it gave at the time. Intervals are over
    days (hours, where there are fewer than 20): a sample does not tell whose
    it is.

    Raises
    ------
    TooFewSamplesError
        Fewer than 200 rows on either side of the cut, or only one class.
    """
    labelled = [sample for sample in samples if sample["kind"] == LABEL]  # others tell what is usual in the shop
    held = sorted(labelled, key=lambda sample: (sample["scored_at"], sample["src"]))
    cut = held[len(held) // 2]["scored_at"] if held else 0
    train = [sample for sample in held if sample["due_at"] <= cut]
    late = [sample for sample in held if sample["scored_at"] > cut]
    told = [sample for sample in late if sample["p"] is not None]
    live = len(told) >= LEAST_ROWS
    rows = told if live else late
    for part in (train, rows):
        if len(part) < LEAST_ROWS or len({sample["y"] for sample in part}) < 2:
            text = (
                f"{len(train)} labels were due half-way and {len(rows)} rows were scored afterwards: at least "
                f"{LEAST_ROWS} of each are needed, with both outcomes"
            )
            raise TooFewSamplesError(text)
    resampling = Resampling(blocks([sample["scored_at"] for sample in rows]))
    happened = [float(sample["y"]) for sample in rows]
    models = []
    if live:
        models.append(quality(LIVE, happened, [sample["p"] for sample in rows], resampling))
    if all(sample["q"] is not None for sample in rows):
        models.append(quality(FALLBACK, happened, [sample["q"] for sample in rows], resampling))
    for name, model in batch_models().items():
        models.append(quality(name, happened, predicted(fitted(model, train), rows), resampling))
    return ScoresAudit(cut, len(train), len(rows), round(sum(happened)), len(late) - len(told), models)
