"""Whether the world has changed: the loss of each label, watched by ADWIN, with a second opinion at an alarm.

ADWIN cannot be kept as JSON. What is kept are the losses that it was told:
``Drift`` is always what it would be if it had been told these, and no others,
from the first one on, so that one taken back goes on bit for bit.
"""

from __future__ import annotations

import math
from typing import Any, Final, TypedDict

from river.drift import ADWIN, PageHinkley

from journey.errors import BadRowError
from journey.events import DAY
from journey.models.base import State, check_class, finite, unreadable

CLASS: Final = "drift/1"
DELTA: Final = 1e-4
THRESHOLD: Final = 50.0
KEPT: Final = 5_000  # losses
LASTS: Final = 30 * DAY
LEAST_SIDE: Final = 5  # as in River's ADWIN
FASTER: Final = 2.0
FASTER_FOR: Final = 500  # labels


class Alarm(TypedDict):
    """The losses of a slot rose; ``at`` is the moment of the label that told it, ``since`` when it probably began.

    ``before`` and ``after`` are the means of the kept losses on either side.
    ``seconded`` is how many of the kept losses Page-Hinkley needed to say the
    same, None when it does not.
    """

    slot: str
    at: int
    since: int
    before: float
    after: float
    losses: int
    seconded: int | None


class Drift:
    """The losses of one slot, and whether their mean has risen.

    A fall is no alarm, as when a model has learned what it could not know at
    first; what came before it is forgotten, so that a later rise is one from
    there.

    Examples
    --------
    >>> drift = Drift("churn")
    >>> alarms = [drift.add(0.3 + n % 2 / 10 + (0.6 if n >= 1000 else 0), at=n) for n in range(1500)]
    >>> [(alarm["since"], round(alarm["before"], 2), round(alarm["after"], 2)) for alarm in alarms if alarm]
    [(1000, 0.35, 0.95)]

    References
    ----------
    Bifet and Gavaldà (2007), "Learning from time-changing data with adaptive windowing", SDM.
    Page (1954), "Continuous inspection schemes", Biometrika.
    """

    def __init__(self, slot: str, *, kept: int = KEPT) -> None:
        self.slot: Final = slot
        self.kept: Final = kept
        self.alarms = 0
        self._since: int | None = None  # labels since the last alarm
        self._losses: list[tuple[int, float]] = []
        self._told()

    @property
    def rate(self) -> float:
        """What learning rates are multiplied with: 2 for the 500 labels after an alarm."""
        return FASTER if self._since is not None and self._since < FASTER_FOR else 1.0

    def add(self, loss: float, at: int) -> Alarm | None:
        """Tell the log-loss of a label that came at a moment (milliseconds); return an alarm if it rose.

        Losses of more than 30 days ago, and all but the newest 5,000, are
        forgotten; the watch is then begun anew with those that are left.

        Raises
        ------
        BadRowError
            A loss that is NaN, infinite or below zero. Nothing has changed.
        """
        if not 0.0 <= loss < math.inf:
            raise BadRowError(name="loss", value=loss)
        if self._since is not None:
            self._since += 1
        self._forget(at)
        self._losses.append((at, loss))
        self._adwin.update(loss)
        return self._alarm(at) if self._adwin.drift_detected else None

    def _forget(self, at: int) -> None:
        """Let go of the old: by whole days, and by halves when there are too many, for each time costs a replay."""
        left = self._losses
        if len(left) >= self.kept:
            left = left[-(self.kept // 2) :]
        if left and left[0][0] < at // DAY * DAY - LASTS:
            left = [one for one in left if one[0] >= at // DAY * DAY - LASTS]
        if len(left) < len(self._losses):
            self._losses = left
            self._told()

    def _told(self) -> None:
        self._adwin = _watch()
        for _, loss in self._losses:
            self._adwin.update(loss)

    def _alarm(self, at: int) -> Alarm | None:
        losses = [loss for _, loss in self._losses]
        change = change_of(losses)
        before, after = losses[:change], losses[change:]
        alarm: Alarm = {
            "slot": self.slot,
            "at": at,
            "since": self._losses[change][0],
            "before": math.fsum(before) / len(before),
            "after": math.fsum(after) / len(after),
            "losses": len(losses),
            "seconded": None,
        }
        if alarm["after"] <= alarm["before"]:
            self._losses = self._losses[change:]  # the level that a rise would begin from
            self._told()
            return None
        # River's ADWIN starts anew after it detected a change, and so does what is kept for it
        self._losses = []
        self._told()
        alarm["seconded"] = _second(losses)
        self.alarms += 1
        self._since = 0
        return alarm

    def state(self) -> State:
        """Return the kept losses and what came of earlier ones."""
        return {
            "class": CLASS,
            "slot": self.slot,
            "kept": self.kept,
            "alarms": self.alarms,
            "since": self._since,
            "losses": [list(one) for one in self._losses],
        }

    @classmethod
    def restore(cls, state: State) -> Drift:
        """Return the watch of what ``state`` returned; it goes on bit for bit.

        Raises
        ------
        BadSnapshotError
            Another class, or a number that is none.
        """
        check_class(state, CLASS)
        try:
            drift = cls(str(state["slot"]), kept=int(state["kept"]))
            drift.alarms = int(state["alarms"])
            drift._since = None if state["since"] is None else int(state["since"])
            drift._losses = [(int(at), finite(loss)) for at, loss in state["losses"]]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise unreadable(CLASS, error) from None
        drift._told()
        return drift


def change_of(losses: list[float]) -> int:
    """Return how many losses came before the most probable change of their mean: the likeliest split in two.

    ADWIN tells that there was a change, and lets go of the old step by step,
    not when it was. At least five losses are on either side.

    >>> change_of([1.0] * 20 + [2.0] * 10)
    20
    """
    count, total = len(losses), math.fsum(losses)
    best, most = min(LEAST_SIDE, count - 1), -1.0
    left = 0.0
    for split, loss in enumerate(losses, start=1):
        left += loss
        if LEAST_SIDE <= split <= count - LEAST_SIDE:
            apart = left * count - total * split
            gain = apart * apart / (split * (count - split))
            if gain > most:
                best, most = split, gain
    return best


def _watch() -> Any:
    make: Any = ADWIN
    return make(delta=DELTA)


def _second(losses: list[float]) -> int | None:
    opinion: Any = PageHinkley(threshold=THRESHOLD)
    for count, loss in enumerate(losses, start=1):
        opinion.update(loss)
        if opinion.drift_detected:
            return count
    return None
