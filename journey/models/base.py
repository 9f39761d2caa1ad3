"""What every model shares: rows are rounded at birth, chance is a keyed hash, a state is plain JSON.

A model is a policy (its parameters), a state, and three kinds of functions:
``learn`` changes the state, ``score`` changes nothing, ``state`` and
``restore`` give it as JSON and take it back, so that a restored model goes on
bit for bit. Rows are lists of numbers in the order of the schema's names; NaN
is "no data".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, Protocol

from journey.errors import BadRowError, BadSnapshotError

State = dict[str, Any]
Row = Sequence[float]

MOST_LOGIT: Final = 30.0
LEAST: Final = 1e-4  # probabilities are at least this, and at most one less it, before a logarithm is taken


class Learned(Protocol):
    """What can be kept and taken back."""

    def state(self) -> State:
        """Return all that the model is, as JSON: text keys, lists, finite numbers."""


def rounded(value: float) -> float:
    """Return a number as it is scored, stored and learned: half up to 4 decimals.

    >>> rounded(0.12345), rounded(-0.5)
    (0.1235, -0.5)
    """
    return float((value * 1e4 + 0.5) // 1 / 1e4)


def rounded_score(value: float) -> float:
    """Return a score as it is used: half up to 6 decimals.

    >>> rounded_score(0.12345678)
    0.123457
    """
    return float((value * 1e6 + 0.5) // 1 / 1e6)


def vector(x: Mapping[str, float], names: Sequence[str]) -> list[float]:
    """Return the named features in their order; unknown names are ignored.

    Raises
    ------
    BadRowError
        A feature is absent, no number, or infinite.
    """
    row: list[float] = []
    for name in names:
        value = x.get(name)
        if not isinstance(value, int | float) or math.isinf(value):
            raise BadRowError(name=name, value=value)
        row.append(float(value))
    return row


def check_row(row: Row, names: Sequence[str], *, learn: bool = False) -> None:
    """Refuse a row that does not fit; one to be learned has to have all its numbers.

    Raises
    ------
    BadRowError
        Another length, an infinity, or NaN where it would be learned.
    """
    if len(row) != len(names):
        raise BadRowError(name=f"{len(names)} features", value=len(row))
    total = 0.0
    for value in row:
        total += value * 0.0  # NaN for NaN and infinity, else zero
    if total == 0.0:
        return
    for name, value in zip(names, row, strict=True):
        if math.isinf(value) or (learn and math.isnan(value)):
            raise BadRowError(name=name, value=value)


def chance(*parts: str) -> float:
    """Return a number in [0, 1) that these parts, and nothing else, decide.

    >>> chance("seed", "1") == chance("seed", "1"), 0 <= chance("seed", "2") < 1
    (True, True)
    """
    digest = blake2b("\x1f".join(parts).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 9007199254740992.0


def sigmoid(logit: float) -> float:
    """Return the probability of a logit, by ``math.exp`` alone.

    >>> sigmoid(0.0)
    0.5
    """
    bounded = MOST_LOGIT if logit > MOST_LOGIT else -MOST_LOGIT if logit < -MOST_LOGIT else logit
    return 1.0 / (1.0 + math.exp(-bounded))


def logit(probability: float) -> float:
    """Return the logit of a probability, which is kept away from 0 and 1 first.

    >>> logit(0.5)
    0.0
    """
    kept = bounded(probability)
    return math.log(kept / (1.0 - kept))


def bounded(probability: float) -> float:
    """Return a probability of at least 0.0001 and at most one less that."""
    return min(1.0 - LEAST, max(LEAST, probability))


def log_loss(happened: bool, probability: float) -> float:
    """Return the loss of one prediction, in nats.

    >>> round(log_loss(True, 0.5), 4)
    0.6931
    """
    kept = bounded(probability)
    return -math.log(kept if happened else 1.0 - kept)


# ---- reading a state -------------------------------------------------------------------------------------------------


def check_class(state: object, wanted: str) -> None:
    """Refuse the state of another class, and what is no state."""
    found = state.get("class") if isinstance(state, dict) else None
    if found != wanted:
        text = f"the class is {found!r}, not {wanted!r}"
        raise BadSnapshotError(text)


def finite(value: Any) -> float:
    """Return a number; refuse NaN and infinity."""
    number = float(value)
    if not math.isfinite(number):
        text = f"{value!r} is no number"
        raise BadSnapshotError(text)
    return number


def unreadable(wanted: str, error: Exception) -> BadSnapshotError:
    """Return why a state could not be read."""
    return BadSnapshotError(f"a part of {wanted} is absent or no number: {error}")
