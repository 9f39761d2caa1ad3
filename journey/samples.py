"""Samples: what the engine tells the learners. A row frozen when it was scored, and later what came true.

One partition of the topic ``journey.samples`` for each family, so that each
family has one total order. A sample names the position of the entry that
caused it and its number there; a family skips what is not above the highest
one it has taken from that journal partition. No sample names a customer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from journey.events import DAY, MINUTE

SAMPLE_VERSION: Final = 1
FAMILIES: Final = ("churn", "intent", "segments", "recs", "value")  # the index is the partition of journey.samples
JOURNAL: Final = "journey.journal"

# names and order of the numbers of a row; another choice is another schema
SCHEMAS: Final[Mapping[str, tuple[str, ...]]] = {
    "churn/1": (
        "rec", "overdue", "gap", "gapsd", "f30", "f90", "m30", "m90", "bv", "it30", "disc", "cats", "ten", "vis7",
    ),
    "intent/1": (
        "views", "carts", "dur", "pace", "hour_sin", "hour_cos", "rec_buy", "v", "c", "s", "b", "rate", "again",
        "focus",
    ),
    "segments/1": ("rec", "freq", "mon", "aov", "views", "carts", "disc"),
    "recs/1": (),
    "value/1": ("repeats", "tx_weeks", "age_weeks", "mean_value"),
}  # fmt: skip
SCHEMA_OF: Final[Mapping[str, str]] = {family: f"{family}/1" for family in FAMILIES}
CATALOGUE: Final = "1"  # of features; a snapshot of another one is refused
# raised by every change that lets the same samples give other versions of models: verify compares within one
LEARN_VERSION: Final = 2

CHURN_HORIZON: Final = 30 * DAY
CHURN_EVERY: Final = 7 * DAY
CHURN_RECENCY: Final = 60 * DAY  # beyond it a buyer has lapsed by rule
CHURN_ORDERS: Final = 2
VISIT_ENDS: Final = 30 * MINUTE
VALUE_LASTS: Final = 2 * 364 * DAY  # since the last order; a buyer who was silent so long is not counted any more

Sample = dict[str, Any]


def position_of(sample: Mapping[str, Any]) -> tuple[str, int, int]:
    """Return a sample's source partition, and its place there: position of the entry, number in the entry."""
    topic, partition, position, number = sample["src"]
    return f"{topic}/{partition}", int(position), int(number)
