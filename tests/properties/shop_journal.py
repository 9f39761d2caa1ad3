"""The generated shop, journalled and folded without a broker; run alone it prints a digest of all that came out."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import orjson

from journey.engine import Shard, fold
from journey.entries import Entry, read_page
from journey.events import HOUR
from journey.state import partition_key
from streams.arrivals import Parsed
from streams.raw import RawRecord
from streams.records import parse_events
from streams.replay import digest
from streams.shop import generate
from tests.factories import Raw, clock, encoded_pages, loaded, tick

PARTITIONS = 8
CHUNK_RECORDS = 500


@dataclass
class Folded:
    """What the fold made of a shop, by partition, and how many of its records were refused."""

    shards: list[Shard]
    letters: int

    def customers(self) -> list[bytes]:
        """Return the records of all customers."""
        return [raw for shard in self.shards for key, raw in shard.changes() if key != partition_key(shard.number)]

    def digest(self) -> str:
        """Return the hash of all records and triggers."""
        told: dict[bytes, bytes] = {}
        for shard in self.shards:
            told.update(shard.changes())
            told.update((b"\1" + one.id.encode(), orjson.dumps(one.body)) for one in shard.triggers)
        return digest(told)


def parsed_in_order(records: Iterable[RawRecord]) -> Iterator[Parsed]:
    """Yield what became of raw records, in their order; each topic is read in chunks of its own."""
    offsets: dict[str, int] = {}
    for chunk in _chunks(records):
        by_class: dict[str, list[tuple[int, Raw]]] = {}
        for place, record in enumerate(chunk):
            offset = offsets[record.topic] = offsets.get(record.topic, -1) + 1
            raw = Raw(record.value, record.topic, offset, timestamp=record.at, key=record.key)
            by_class.setdefault(record.topic.removeprefix("events."), []).append((place, raw))
        found: dict[int, Parsed] = {}
        for cls, placed in by_class.items():
            parsed = parse_events(cls, [raw for _, raw in placed], PARTITIONS)
            found.update(zip((place for place, _ in placed), parsed, strict=True))
        yield from (found[place] for place in range(len(chunk)))


def _chunks(records: Iterable[RawRecord]) -> Iterator[tuple[RawRecord, ...]]:
    rest = iter(records)
    while chunk := tuple(itertools.islice(rest, CHUNK_RECORDS)):
        yield chunk


def fold_shop(records: Iterable[RawRecord]) -> Folded:
    """Journal a shop on the clock of its events, and fold it; three hours after its last event everything is over."""
    journal: list[list[Entry]] = [[clock("events")] for _ in range(PARTITIONS)]
    letters = end = 0
    for parsed in parsed_in_order(records):
        letters += parsed.dead_letter is not None
        end = max(end, parsed.at)
        for number, entry in loaded(parsed):
            journal[number].append(entry)
    shards = [Shard(number, lambda _key: None, ()) for number in range(PARTITIONS)]
    for shard, entries in zip(shards, journal, strict=True):
        entries.append(tick(end + 3 * HOUR, ["journey.control", 0, 1]))
        for offset, page in enumerate(encoded_pages(entries)):
            fold(shard, offset, read_page(page))
    return Folded(shards, letters)


def small_shop() -> str:
    """Return the digest of a small shop."""
    return fold_shop(generate(seed=7, customers=80, events=2000)).digest()


if __name__ == "__main__":
    sys.stdout.write(small_shop())
