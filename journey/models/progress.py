"""How good a model is at what it was asked: the scores the engine gave, against what came true when it was due.

Every figure is prequential: a row was scored before its label was known, by
the model in force then. All memory is bounded. ``Progress`` measures one
slot, ``next_trust`` says whether the slot may decide, ``Duel`` whether a
challenger should take it over, ``Quantile`` where the riskiest tenth begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, Literal, TypedDict

import numpy as np

from journey.errors import BadSnapshotError
from journey.events import DAY
from journey.models.base import State, bounded, check_class, finite, log_loss, logit, unreadable

CLASS: Final = "progress/1"
RECENT: Final = 2_000  # rows that calibration and AUC are read from
COMPARED: Final = 1_000  # of them, the newest, that the loss is compared on
LEAST_COMPARED: Final = 200
LEAST_LABELS: Final = 500
LEAST_OF_EACH: Final = 50
BINS: Final = 10
RESAMPLES: Final = 200
MOST_BLOCKS: Final = 100  # days, or stretches of them, that are resampled: what it costs grows with their square
IN_A_HASH: Final = 16  # draws
LEAST_SLOPE: Final = 0.8
MOST_SLOPE: Final = 1.25

Trust = Literal["cold", "shadow", "trusted"]
Interval = tuple[float, float]


class Bin(TypedDict):
    """A tenth of the rows, by their scores."""

    rows: int
    expected: float
    happened: int


class Progress:
    """What became of the scores of one slot.

    Attributes
    ----------
    labels, happened
        How many labels came, with a score or without, and how many of them were true.
    scored, loss
        How many of them had a score, and the sum of its log-losses.

    Examples
    --------
    >>> progress = Progress("churn")
    >>> for n in range(100):
    ...     progress.add(n % 4 == 0, 0.9 if n % 4 == 0 else 0.05, 0.25, at=n * DAY)
    >>> progress.auc(), progress.gain() < 0
    (1.0, True)
    """

    def __init__(self, slot: str) -> None:
        self.slot: Final = slot
        self.labels = self.happened = self.scored = self.baselined = 0
        self.loss = self.baseline_loss = 0.0
        # one row: score, the fallback's or None, 0 or 1, the day it was scored
        self._rows: list[tuple[float, float | None, int, int]] = []
        self._line: tuple[tuple[float, float] | None] | None = None

    def add(self, happened: bool, p: float | None, q: float | None, at: int) -> None:
        """Count a label: what was scored (None: no model was in force), what the fallback said, when it was scored.

        ``at`` is a moment in milliseconds. Scores that are no probabilities
        count as none.
        """
        p, q = _probability(p), _probability(q)
        self.labels += 1
        self.happened += bool(happened)
        if q is not None:
            self.baselined += 1
            self.baseline_loss += log_loss(happened, q)
        if p is None:
            return
        self.scored += 1
        self.loss += log_loss(happened, p)
        self._line = None
        self._rows.append((p, q, int(happened), at // DAY))
        if len(self._rows) > RECENT:
            del self._rows[0]

    def _compared(self) -> list[tuple[float, float, int, int]]:
        newest = [(p, q, y, day) for p, q, y, day in self._rows if q is not None]
        return newest[-COMPARED:]

    def compared(self) -> int:
        """Return how many of the newest rows have both scores: at most 1,000."""
        return len(self._compared())

    def gain(self) -> float | None:
        """Return the mean log-loss less the fallback's over the same newest rows: below zero is better."""
        rows = self._compared()
        if not rows:
            return None
        return math.fsum(_difference(row) for row in rows) / len(rows)

    def calibration(self) -> list[Bin]:
        """Return the newest 2,000 rows in ten parts of equal size, by their scores: expected and true."""
        # equal scores stay in the order they came in: sorted by the answer they would look uncalibrated
        rows = [(row[0], row[2]) for row in sorted(self._rows, key=_by_score)]
        table: list[Bin] = []
        for part in range(BINS):
            of = rows[part * len(rows) // BINS : (part + 1) * len(rows) // BINS]
            if of:
                expected = math.fsum(p for p, _ in of)
                table.append({"rows": len(of), "expected": expected, "happened": sum(y for _, y in of)})
        return table

    def ece(self) -> float | None:
        """Return the expected calibration error: how far the ten parts are from what came true, on average."""
        table = self.calibration()
        rows = sum(part["rows"] for part in table)
        if not rows:
            return None
        return math.fsum(abs(part["happened"] - part["expected"]) for part in table) / rows

    def line(self) -> tuple[float, float] | None:
        """Return intercept and slope of the calibration line; (0, 1) is perfect. See ``calibration_line``."""
        if self._line is None:  # it takes ten milliseconds, and is asked for several times at each publication
            self._line = (calibration_line([(row[0], row[2]) for row in self._rows]),)
        return self._line[0]

    def auc(self) -> float | None:
        """Return the chance that of two rows the one that came true had the higher score; ties count one half."""
        return auc([(row[0], row[2], 1) for row in sorted(self._rows, key=_by_score)])

    def auc_interval(self) -> Interval | None:
        """Return where AUC lies with 95 %, by resampling the days on which rows were scored.

        Of more than 100 days as many stretches of them.
        """
        rows = sorted(self._rows, key=_by_score)
        place = _blocks(row[3] for row in rows)
        count = max(place.values(), default=0) + 1
        if count < 2:
            return None
        return interval(resampled_auc(rows, [place[row[3]] for row in rows], count))

    def gain_interval(self) -> Interval | None:
        """Return where ``gain`` lies with 95 %, by resampling the days on which rows were scored."""
        return mean_interval((row[3], _difference(row)) for row in self._compared())

    def figures(self) -> dict[str, Any]:
        """Return what a snapshot says of its model; None where there is too little to say it."""
        line = self.line()
        rows = self._compared()
        return {
            "labels": self.labels,
            "happened": self.happened,
            "scored": self.scored,
            "compared": len(rows),
            "log_loss": math.fsum(log_loss(bool(row[2]), row[0]) for row in rows) / len(rows) if rows else None,
            "log_loss_fallback": math.fsum(log_loss(bool(row[2]), row[1]) for row in rows) / len(rows)
            if rows
            else None,
            "log_loss_ever": self.loss / self.scored if self.scored else None,
            "auc": self.auc(),
            "ece": self.ece(),
            "slope": None if line is None else line[1],
            "intercept": None if line is None else line[0],
        }

    def state(self) -> State:
        """Return all that it is; scores are probabilities of six decimals when the engine gave them."""
        return {
            "class": CLASS,
            "slot": self.slot,
            "labels": self.labels,
            "happened": self.happened,
            "scored": self.scored,
            "baselined": self.baselined,
            "loss": self.loss,
            "baseline_loss": self.baseline_loss,
            "rows": [list(row) for row in self._rows],
        }

    @classmethod
    def restore(cls, state: State) -> Progress:
        """Return the figures of what ``state`` returned.

        Raises
        ------
        BadSnapshotError
            Another class, or a number that is none.
        """
        check_class(state, CLASS)
        try:
            progress = cls(str(state["slot"]))
            progress.labels, progress.happened = int(state["labels"]), int(state["happened"])
            progress.scored, progress.baselined = int(state["scored"]), int(state["baselined"])
            progress.loss, progress.baseline_loss = finite(state["loss"]), finite(state["baseline_loss"])
            progress._rows = [
                (finite(p), None if q is None else finite(q), int(y), int(day)) for p, q, y, day in state["rows"]
            ]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise unreadable(CLASS, error) from None
        return progress


def _by_score(row: tuple[float, float | None, int, int]) -> float:
    return row[0]


def _difference(row: tuple[float, float, int, int]) -> float:
    p, q, y, _ = row
    return log_loss(bool(y), p) - log_loss(bool(y), q)


def _probability(value: float | None) -> float | None:
    return float(value) if value is not None and 0.0 <= value <= 1.0 else None


# ---- trust -----------------------------------------------------------------------------------------------------------


def next_trust(before: Trust, progress: Progress, bad_in_a_row: int) -> tuple[Trust, int]:
    """Return whether a slot may decide from this snapshot on, and how many snapshots in a row spoke against it.

    Cold: fewer than 500 labels, or fewer than 50 of either answer. Trusted:
    over the newest 1,000 rows (200 at least) a lower log-loss than the
    fallback on the same rows, and a calibration slope in [0.8, 1.25]. Two bad
    snapshots in a row end trust; one does not.

    Examples
    --------
    >>> next_trust("cold", Progress("churn"), 0)
    ('cold', 0)
    """
    if progress.labels < LEAST_LABELS or not (LEAST_OF_EACH <= progress.happened <= progress.labels - LEAST_OF_EACH):
        return "cold", 0
    if is_good(progress):
        return "trusted", 0
    if before == "trusted" and bad_in_a_row == 0:
        return "trusted", 1
    return "shadow", bad_in_a_row + 1


def is_good(progress: Progress) -> bool:
    """Whether the newest rows speak for the model: better than the fallback, and calibrated."""
    gain, line = progress.gain(), progress.line()
    if gain is None or line is None or progress.compared() < LEAST_COMPARED:
        return False
    return gain < 0.0 and LEAST_SLOPE <= line[1] <= MOST_SLOPE


# ---- figures of scores -----------------------------------------------------------------------------------------------


def auc(rows: Iterable[tuple[float, int, int]]) -> float | None:
    """Return the area under the curve of (score, happened, how often) in ascending order of scores.

    Ties count one half. None when only one answer occurs.

    >>> auc([(0.1, 0, 1), (0.4, 1, 1), (0.4, 0, 1), (0.9, 1, 1)])
    0.875
    """
    below = falses = trues = wins = 0  # wins are counted in halves
    tied_false = tied_true = 0
    last = -math.inf
    for score, happened, times in rows:
        if score != last:
            wins += tied_true * (2 * below + tied_false)
            below += tied_false
            tied_false = tied_true = 0
            last = score
        if happened:
            tied_true += times
            trues += times
        else:
            tied_false += times
            falses += times
    wins += tied_true * (2 * below + tied_false)
    return wins / (2 * trues * falses) if trues and falses else None


def resampled_auc(
    rows: Sequence[tuple[float, float | None, int, int]], places: Sequence[int], count: int
) -> list[float]:
    """Return ``auc`` of each resample of days in which both answers occur: all at once, in whole numbers.

    Parameters
    ----------
    rows
        Scores in ascending order, something else, what happened, something else.
    places
        For each row the number of its day, of so many (``count``).
    """
    scores: Any = np.array([row[0] for row in rows], np.float64)
    happened: Any = np.array([row[2] for row in rows]) == 1
    day: Any = np.array(places)
    below: Any = np.zeros((len(rows) + 1, count), np.int64)  # by day: how many before each row did not happen
    below[1:][np.arange(len(rows))[~happened], day[~happened]] = 1
    np.cumsum(below, axis=0, out=below)
    true: Any = np.argsort(np.where(happened, day, count), kind="stable")[: happened.sum()]  # day by day
    # of those with the same score half are below: twice as many are those before its first and those up to its last
    twice = below[np.searchsorted(scores, scores[true], "left")] + below[np.searchsorted(scores, scores[true], "right")]
    wins: Any = np.zeros((count, count), np.int64)  # twice those that a day's true have over another's false
    known, begins = np.unique(day[true], return_index=True)
    if len(known):
        wins[known] = np.add.reduceat(twice, begins, axis=0)
    drawn: Any = np.array(_draws(count, RESAMPLES), np.int64)
    won = ((drawn @ wins) * drawn).sum(axis=1)
    pairs = (drawn @ np.bincount(day[happened], minlength=count)) * (drawn @ below[-1])
    return [int(one) / (2 * int(of)) for one, of in zip(won, pairs, strict=True) if of]


def calibration_line(rows: Sequence[tuple[float, int]]) -> tuple[float, float] | None:
    """Return intercept and slope of a logistic regression of what came true on the logit of the score.

    None when only one answer occurs, when all scores are equal, or when the
    scores part the answers so well that no finite line is the best one.

    References
    ----------
    Cox (1958), "Two further applications of a model for binary regression", Biometrika.
    """
    points = [(logit(p), y) for p, y in rows]
    trues = sum(y for _, y in points)
    if not 0 < trues < len(points) or min(points)[0] == max(points)[0]:
        return None
    intercept, slope = 0.0, 1.0
    for _ in range(50):
        # Newton: gradient and curvature of the log-likelihood, summed in the order of rows
        g0 = g1 = h00 = h01 = h11 = 0.0
        for x, y in points:
            p = 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, intercept + slope * x))))
            w = p * (1.0 - p)
            g0 += y - p
            g1 += (y - p) * x
            h00 += w
            h01 += w * x
            h11 += w * x * x
        determinant = h00 * h11 - h01 * h01
        if determinant <= 1e-9 * h00 * h11 or determinant <= 0.0:
            return None
        up, turn = (h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant
        longest = max(abs(up), abs(turn))
        shorter = 1.0 if longest <= 2.0 else 2.0 / longest
        intercept, slope = intercept + shorter * up, slope + shorter * turn
        if abs(intercept) > 100.0 or abs(slope) > 100.0:
            return None
        if longest < 1e-9:
            return intercept, slope
    return None


def resampled_days(days: Iterable[int], times: int = RESAMPLES) -> Iterable[dict[int, int]]:
    """Yield how often each day is drawn, for so many draws of as many days as there are, with replacement.

    The draws depend on how many days there are and on nothing else, so that
    figures of the same days are compared on the same draws.
    """
    ordered = sorted(set(days))
    if len(ordered) > 1:
        for drawn in _draws(len(ordered), times):
            yield dict(zip(ordered, drawn, strict=True))


def _blocks(days: Iterable[int]) -> dict[int, int]:
    """Return which stretch each day belongs to: a day each, or as many days in each as it takes to have 100."""
    ordered = sorted(set(days))
    count = min(len(ordered), MOST_BLOCKS)
    return {day: at * count // len(ordered) for at, day in enumerate(ordered)}


@lru_cache(maxsize=16)
def _draws(count: int, times: int) -> list[list[int]]:
    drawn: list[list[int]] = []
    for resample in range(times):
        weights = [0] * count
        for block in range(0, count, IN_A_HASH):  # a hash for each draw took most of the time of a publication
            digest = blake2b(f"days/{resample}/{block}".encode(), digest_size=4 * IN_A_HASH).digest()
            for at in range(min(IN_A_HASH, count - block)):
                number = int.from_bytes(digest[4 * at : 4 * at + 4], "big")
                weights[number * count >> 32] += 1
        drawn.append(weights)
    return drawn


def mean_interval(values: Iterable[tuple[int, float]], times: int = RESAMPLES) -> Interval | None:
    """Return where the mean of values, each of a day, lies with 95 %; None with fewer than two days.

    Of more than 100 days as many stretches of them are resampled.
    """
    known = list(values)
    place = _blocks(day for day, _ in known)
    sums: dict[int, tuple[int, float]] = {}
    for day, value in known:
        count, total = sums.get(place[day], (0, 0.0))
        sums[place[day]] = (count + 1, total + value)
    return interval(_means(sums, times))


def _means(sums: dict[int, tuple[int, float]], times: int) -> list[float]:
    means: list[float] = []
    for weights in resampled_days(sums, times):
        count, total = 0, 0.0
        for day, weight in weights.items():
            count += weight * sums[day][0]
            total += weight * sums[day][1]
        means.append(total / count)
    return means


def interval(found: list[float]) -> Interval | None:
    """Return the middle 95 % of resampled figures; None without any."""
    if not found:
        return None
    ordered = sorted(found)
    out = int(0.025 * len(ordered))
    return ordered[out], ordered[len(ordered) - 1 - out]


# ---- a challenger ----------------------------------------------------------------------------------------------------

DUEL_CLASS: Final = "duel/1"
WINDOW: Final = 14  # days
LEAST_DAYS: Final = 7
LEAST_ROWS: Final = 100
LEAST_DUEL_SLOPE: Final = 0.9
MOST_DUEL_SLOPE: Final = 1.1
DUEL_RESAMPLES: Final = 400


class Verdict(TypedDict):
    """What two windows of 14 days say: whether to promote, and why in words."""

    promote: bool
    why: str
    windows: list[dict[str, Any]]
    slope: float | None


class Duel:
    """A challenger against the champion, on the same rows, each scored by the model of that day.

    Examples
    --------
    >>> duel = Duel("churn")
    >>> for day in range(29):
    ...     for n in range(20):
    ...         duel.add(n % 4 == 0, 0.25, 0.3 if n % 2 == 0 else 0.2, at=day * DAY)
    >>> duel.verdict()["promote"]
    False
    """

    def __init__(self, slot: str) -> None:
        self.slot: Final = slot
        # by the day rows were scored: how many, and the sum of the challenger's loss less the champion's
        self._days: dict[int, tuple[int, float]] = {}
        self._rows: list[tuple[float, int]] = []

    def add(self, happened: bool, champion: float, challenger: float, at: int) -> None:
        """Count a label, the two scores, and the moment in milliseconds when they were made."""
        day = at // DAY
        rows, worse = self._days.get(day, (0, 0.0))
        self._days[day] = (rows + 1, worse + (log_loss(happened, challenger) - log_loss(happened, champion)))
        newest = max(self._days)
        for old in [one for one in self._days if one < newest - 2 * WINDOW]:
            del self._days[old]
        self._rows.append((bounded(challenger), int(happened)))
        if len(self._rows) > RECENT:
            del self._rows[0]

    def verdict(self) -> Verdict:
        """Return whether the challenger should take over.

        In each of two disjoint windows of 14 scoring days (the newest day,
        which may be incomplete, is in neither) the 95 % interval of the mean
        log-loss difference lies below zero, and its calibration slope is in
        [0.9, 1.1]. Whether its snapshot is small and its scores are fast
        enough is for the caller to say.
        """
        line = calibration_line(self._rows)
        slope = None if line is None else line[1]
        if not self._days:
            return {"promote": False, "why": "nothing to compare yet", "windows": [], "slope": slope}
        end = max(self._days)
        windows = [self._window(end - 2 * WINDOW), self._window(end - WINDOW)]
        doubts = [doubt for window in windows for doubt in self._doubts(window)]
        if slope is None:
            doubts.append("its calibration cannot be told")
        elif not LEAST_DUEL_SLOPE <= slope <= MOST_DUEL_SLOPE:
            doubts.append(f"its calibration slope is {slope:.2f}, not in {LEAST_DUEL_SLOPE} to {MOST_DUEL_SLOPE}")
        found = " and ".join(
            f"{window['mean']:+.4f} [{window['low']:+.4f}, {window['high']:+.4f}] over {window['rows']} rows"
            for window in windows
            if window["low"] is not None
        )
        why = (
            f"log-loss {found}, calibration slope {slope:.2f}"
            if slope is not None and not doubts
            else "; ".join(doubts)
        )
        return {"promote": not doubts, "why": why, "windows": windows, "slope": slope}

    def _window(self, since: int) -> dict[str, Any]:
        days = {day: self._days[day] for day in sorted(self._days) if since <= day < since + WINDOW}
        rows = sum(count for count, _ in days.values())
        found: dict[str, Any] = {"since": since, "until": since + WINDOW, "days": len(days), "rows": rows}
        if len(days) < LEAST_DAYS or rows < LEAST_ROWS:
            return {**found, "mean": None, "low": None, "high": None}
        lies = interval(_means(days, DUEL_RESAMPLES))
        low, high = (None, None) if lies is None else lies
        return {**found, "mean": math.fsum(total for _, total in days.values()) / rows, "low": low, "high": high}

    @staticmethod
    def _doubts(window: dict[str, Any]) -> list[str]:
        if window["high"] is None:
            return [f"{window['rows']} rows on {window['days']} of {WINDOW} days are too few"]
        if window["high"] < 0.0:
            return []
        return [f"log-loss {window['mean']:+.4f} [{window['low']:+.4f}, {window['high']:+.4f}] is not surely lower"]

    def state(self) -> State:
        """Return all that it is."""
        return {
            "class": DUEL_CLASS,
            "slot": self.slot,
            "days": [[day, *self._days[day]] for day in sorted(self._days)],
            "rows": [list(row) for row in self._rows],
        }

    @classmethod
    def restore(cls, state: State) -> Duel:
        """Return the duel of what ``state`` returned.

        Raises
        ------
        BadSnapshotError
            Another class, or a number that is none.
        """
        check_class(state, DUEL_CLASS)
        try:
            duel = cls(str(state["slot"]))
            duel._days = {int(day): (int(rows), finite(worse)) for day, rows, worse in state["days"]}
            duel._rows = [(finite(p), int(y)) for p, y in state["rows"]]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise unreadable(DUEL_CLASS, error) from None
        return duel


# ---- the riskiest tenth ----------------------------------------------------------------------------------------------

QUANTILE_CLASS: Final = "quantile/1"
QUANTILE_BINS: Final = 1_000
QUANTILE_DAYS: Final = 30


class Quantile:
    """Which score the highest of the last 30 days exceeded, to a thousandth. The order of scores does not matter.

    Examples
    --------
    >>> scores = Quantile()
    >>> for n in range(100):
    ...     scores.add(n / 100, at=0)
    >>> scores.exceeded_by(0.1)
    0.9
    """

    def __init__(self) -> None:
        self._days: dict[int, dict[int, int]] = {}

    def add(self, score: float, at: int) -> None:
        """Count a score in [0, 1] of a moment in milliseconds; one older than 30 days than the newest is forgotten."""
        day = at // DAY
        if not 0.0 <= score <= 1.0 or (self._days and day <= max(self._days) - QUANTILE_DAYS):
            return
        if day not in self._days:
            self._days[day] = {}
            for old in [one for one in self._days if one <= max(self._days) - QUANTILE_DAYS]:
                del self._days[old]
        place = min(QUANTILE_BINS - 1, int(score * QUANTILE_BINS + 1e-9))
        self._days[day][place] = self._days[day].get(place, 0) + 1

    def exceeded_by(self, share: float) -> float | None:
        """Return the score that this share of the scores reached or exceeded; None without scores."""
        counts = [0] * QUANTILE_BINS
        for bins in self._days.values():
            for place, count in bins.items():
                counts[place] += count
        total = sum(counts)
        left = share * total
        for place in range(QUANTILE_BINS - 1, -1, -1):
            left -= counts[place]
            if total and left <= 0.0:
                return place / QUANTILE_BINS
        return None

    def state(self) -> State:
        """Return all that it is: for each day, each thousandth and how many scores were in it."""
        days = [[day, [list(pair) for pair in sorted(self._days[day].items())]] for day in sorted(self._days)]
        return {"class": QUANTILE_CLASS, "days": days}

    @classmethod
    def restore(cls, state: State) -> Quantile:
        """Return the counts of what ``state`` returned.

        Raises
        ------
        BadSnapshotError
            Another class, or a number that is none.
        """
        check_class(state, QUANTILE_CLASS)
        quantile = cls()
        try:
            for day, pairs in state["days"]:
                bins = {int(place): int(count) for place, count in pairs}
                if not all(0 <= place < QUANTILE_BINS for place in bins):
                    text = f"a thousandth of {QUANTILE_CLASS} is none"
                    raise BadSnapshotError(text)
                quantile._days[int(day)] = bins
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise unreadable(QUANTILE_CLASS, error) from None
        return quantile
