"""Entries and pages: the words of the journal, the only input of the fold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NotRequired, TypedDict

import orjson

PAGE_ENTRIES: Final = 1_000
PAGE_BYTES: Final = 512 * 1024
PAGE_VERSION: Final = b"1"


class Entry(TypedDict):
    """One decision in the journal. Times are milliseconds since 1970.

    ``k`` is one of ``event link tick clock adopt config``; others are kept and only move
    journal time. ``src`` is the position of the record it came from; a tick
    of a worker has none.
    """

    k: str
    at: int
    src: NotRequired[list[Any]]
    c: NotRequired[str]
    id: NotRequired[str]
    t: NotRequired[str]
    oc: NotRequired[int]
    d: NotRequired[dict[str, Any]]
    x: NotRequired[dict[str, Any]]
    an: NotRequired[str]
    h: NotRequired[bool]
    link: NotRequired[str]
    to: NotRequired[str]
    clock: NotRequired[str]
    slot: NotRequired[str]  # an adoption's: journey.adoptions
    model: NotRequired[str]
    version: NotRequired[int]
    replaces: NotRequired[int | None]
    sha256: NotRequired[str]  # of a snapshot, or of a configuration


def encode(value: Any) -> bytes:
    """Return canonical JSON: equal values have equal bytes."""
    return compact(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def compact(value: bytes) -> bytes:
    """Return the same bytes in a piece of memory of their size.

    orjson 3.13 gives bytes in a buffer of 4 KB or more, which stays as large
    as long as they are kept.
    """
    return b"".join((value, b""))


def pages(entries: list[bytes], most_entries: int = PAGE_ENTRIES, most_bytes: int = PAGE_BYTES) -> Iterator[bytes]:
    """Join encoded entries into pages: JSON arrays of at most so many entries and bytes, in order.

    A single entry is never cut (raw events are at most 32 KB, so one always
    fits).
    """
    start, size = 0, 1
    for at, entry in enumerate(entries):
        longer = size + len(entry) + 1
        if at > start and (at - start == most_entries or longer > most_bytes):
            yield b"[%b]" % b",".join(entries[start:at])
            start, longer = at, len(entry) + 2
        size = longer
    if entries:
        yield b"[%b]" % b",".join(entries[start:])


def read_page(value: bytes) -> list[Entry]:
    """Return the entries of a page."""
    entries: list[Entry] = orjson.loads(value)
    return entries
