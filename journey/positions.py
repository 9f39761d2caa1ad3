"""Positions: the one idempotence concept.

A position is (topic, partition, offset) of the record that caused something.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

# entries of one page are numbered below this; position n of an entry = page offset x 4096 + index
ENTRIES_PER_PAGE_LIMIT: Final = 4096


class Position(NamedTuple):
    """Where a record lies."""

    topic: str
    partition: int
    offset: int


def source_name(topic: str, partition: int) -> str:
    """Return the name of a source partition in a map of applied positions, ``topic/partition``."""
    return f"{topic}/{partition}"


def is_news(applied: Mapping[str, int], source: str, offset: int) -> bool:
    """Tell whether a record is above the highest one applied from its source: the only idempotence test."""
    return offset > applied.get(source, -1)


def entry_position(page_offset: int, index: int) -> int:
    """Return the position of an entry inside its journal partition.

    >>> entry_position(1021, 297)
    4182313
    """
    return page_offset * ENTRIES_PER_PAGE_LIMIT + index
