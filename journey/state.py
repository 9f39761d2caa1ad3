"""All that is remembered: a record for each customer, and one for each journal partition.

Records are plain JSON objects, kept as canonical bytes; ``journey.aggregates``
owns the meaning of the parts. Adding a part needs no new version; changing
what one means raises ``STATE_VERSION`` and needs an upcaster, and every
change that can alter a byte of state or an id raises ``FOLD_VERSION``.
"""

from __future__ import annotations

from typing import Any, Final, NotRequired, TypedDict

import orjson

from journey.entries import encode
from journey.errors import FoldVersionError, StateVersionError

STATE_VERSION: Final = 1
FOLD_VERSION: Final = 2


class Stage(TypedDict):
    """Where a customer stands in the life cycle; times are journal time."""

    depth: int  # 0 awareness ... 6 advocacy
    vitality: str  # active, at_risk, lapsed
    since: int  # since when the stage has its present name
    weekly: NotRequired[int]  # next weekly look at a buyer
    calm: NotRequired[int]  # weekly looks in a row at which somebody at risk had a low score
    returned: NotRequired[int]  # a lapsed buyer came back then, and has not ordered since


class Customer(TypedDict):
    """What is remembered of one customer. Absent parts mean "nothing yet"."""

    v: int
    key: str
    at: int  # offset of the journal page this record reflects
    seen: int  # journal time of the last entry
    first: NotRequired[int]  # occurred_at, lowest and highest
    last: NotRequired[int]
    anonymous_ids: NotRequired[list[str]]
    traits: NotRequired[dict[str, Any]]  # name: [value, occurred_at]
    consent: NotRequired[dict[str, list[Any]]]  # scope: [status, occurred_at]
    counts: NotRequired[dict[str, int]]
    duplicates: NotRequired[int]
    decayed: NotRequired[dict[str, float]]
    session: NotRequired[dict[str, Any]]
    cart: NotRequired[dict[str, Any]]
    orders: NotRequired[dict[str, Any]]
    items: NotRequired[list[str]]  # occurred_at, what, item as one text, oldest first
    categories: NotRequired[list[str]]  # occurred_at, category as one text, oldest first
    evaluated: NotRequired[int]  # journal time of the last cart, wish or look at an item of the cart
    advocated: NotRequired[int]  # journal time of the last sign of advocacy
    use_days: NotRequired[list[int]]
    rhythm: NotRequired[dict[str, Any]]  # of orders, exponentially weighted in the order of arrival
    profile: NotRequired[dict[str, float]]  # item: forward-decayed count of orders with it
    waiting: NotRequired[list[Any]]  # rows of churn whose horizon has not ended, oldest first
    visit: NotRequired[list[Any]]  # rows of intent of the visit that goes on
    scores: NotRequired[dict[str, list[Any]]]  # slot: [value or None, version, labels, journal time]
    segment: NotRequired[dict[str, Any]]  # k, name, since, version, looks
    historical: NotRequired[bool]  # the last event was an import: nothing is sent
    stage: Stage
    timers: dict[str, int]
    runs: NotRequired[dict[str, dict[str, Any]]]
    ended_runs: NotRequired[list[str]]
    ids: NotRequired[list[Any]]  # hashes, then for each hour the hour and how many of them


class Partition(TypedDict):
    """How far a journal partition is folded: what follows from the entries themselves, never sums over customers."""

    v: int
    fold: int
    at: int  # offset of the last page folded
    now: int  # journal time, ms
    applied: dict[str, int]  # highest offset applied for each source partition
    models: dict[str, list[Any]]  # in force: slot: [model, version, sha256]
    config: str | None
    clock: str


def new_partition() -> Partition:
    """Return the record of a journal partition nothing of which is folded."""
    return {
        "v": STATE_VERSION, "fold": FOLD_VERSION, "at": -1, "now": 0,
        "applied": {}, "models": {}, "config": None, "clock": "wall",
    }  # fmt: skip


def new_customer(key: str, now: int) -> Customer:
    """Return the record of somebody nothing is known about."""
    return {
        "v": STATE_VERSION, "key": key, "at": -1, "seen": now,
        "stage": {"depth": 0, "vitality": "active", "since": now}, "timers": {},
    }  # fmt: skip


def read_customer(raw: bytes) -> Customer:
    """Return a customer from its bytes.

    Raises
    ------
    StateVersionError
        Written by newer code.
    """
    record: Customer = orjson.loads(raw)
    if record["v"] > STATE_VERSION:
        raise StateVersionError(found=record["v"], newest_known=STATE_VERSION)
    return record


def read_partition(raw: bytes, partition: int) -> Partition:
    """Return a partition record from its bytes.

    Raises
    ------
    StateVersionError, FoldVersionError
        Written by newer code, or folded by another version of the fold.
    """
    record: Partition = orjson.loads(raw)
    if record["v"] > STATE_VERSION:
        raise StateVersionError(found=record["v"], newest_known=STATE_VERSION)
    if record["fold"] != FOLD_VERSION:
        raise FoldVersionError(partition=partition, found=record["fold"], ours=FOLD_VERSION)
    return record


def partition_key(partition: int) -> bytes:
    r"""Return the reserved table key of a partition record; no customer key starts with a zero byte.

    >>> partition_key(3)
    b'\x00partition/3'
    """
    return b"\0partition/%d" % partition


def stamp(raw: bytes) -> int:
    """Return the journal offset a stored record reflects, whichever kind it is."""
    at: int = orjson.loads(raw)["at"]
    return at


__all__ = [
    "FOLD_VERSION", "STATE_VERSION", "Customer", "Partition", "Stage", "encode", "new_customer", "new_partition",
    "partition_key", "read_customer", "read_partition", "stamp",
]  # fmt: skip
