"""Does an event cost the same with many customers as with few? And what does a customer take in memory?

In this process, without Kafka: the store is filled with customers, then events
of some that come back are folded and their records stored, as a worker does.
The traffic is the same each time, so as many events share a record; only who
comes is drawn from more and more customers. All of it takes less than an hour
of journal time, so that no timer fires and the events alone are counted.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Final, NamedTuple

import orjson

from benchmarks import report, traffic
from journey.engine import Shard, fold
from journey.entries import pages, read_page
from streams.collector import calm
from streams.raw import RawRecord
from streams.records import parse_events
from streams.stores import MemoryStore, Progress, mark
from streams.vitals import PAGE_BYTES

PARTITIONS: Final = 8
CUSTOMERS: Final = (10_000, 100_000, 1_000_000)
EVENTS: Final = 60_000
PIECE: Final = 8_000  # events on their way at a time
ROUNDS: Final = 3


class Cost(NamedTuple):
    """What an event cost with so many customers."""

    customers: int
    us: float  # CPU, the median of the rounds
    events_per_record: float
    bytes_per_customer: float  # of memory, working copies and timers too


class Deployment:
    """The shards and the store of all partitions."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        for number in range(PARTITIONS):
            self.store.open(number)
        self.shards = [Shard(number, partial(self.store.get, number), ()) for number in range(PARTITIONS)]
        self._offsets: dict[str, int] = {}

    def paged(self, records: list[RawRecord]) -> list[tuple[int, bytes]]:
        """Return the journal pages of raw events, as ingest writes them."""
        by_topic: dict[str, list[SimpleNamespace]] = {}
        for record in records:
            offset = self._offsets[record.topic] = self._offsets.get(record.topic, -1) + 1
            by_topic.setdefault(record.topic, []).append(
                SimpleNamespace(
                    topic=record.topic, partition=0, offset=offset, timestamp=record.at, key=record.key,
                    value=record.value, headers=[],
                )
            )  # fmt: skip
        parsed = [one for name, mine in by_topic.items() for one in parse_events(name.partition(".")[2], mine, 8)]
        parsed.sort(key=lambda one: one.at)
        entries: dict[int, list[bytes]] = {}
        for one in parsed:
            for number, entry in one.entries:
                entries.setdefault(number, []).append(entry)
        return [(number, page) for number, mine in sorted(entries.items()) for page in pages(mine)]

    def folded(self, paged: list[tuple[int, bytes]]) -> int:
        """Fold pages and store what changed; return how many records were written."""
        written = 0
        for number, page in paged:
            shard = self.shards[number]
            fold(shard, shard.partition["at"] + 1, read_page(page))
            changes = shard.changes()
            key, value = changes[-1]
            at = shard.partition["at"]
            self.store.put(number, dict(changes), Progress(at + 1, mark(at, key, value), frozenset()))
            shard.written()
            written += len(changes) - 1
        return written


def _visits(rng: random.Random, customers: int, count: int) -> Iterator[int]:
    """Yield who does something next: some visitors at a time take turns, and leave after a while."""
    inside = [rng.randrange(customers) for _ in range(traffic.AT_ONCE)]
    for _ in range(count):
        slot = rng.randrange(len(inside))
        yield inside[slot]
        if rng.random() < traffic.LEAVES:
            inside[slot] = rng.randrange(customers)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def measure(customers: int, events: int) -> Cost:
    """Fill a store with customers, then measure what events of them cost."""
    rng = random.Random(traffic.SEED)  # noqa: S311  # traffic, no secret
    at = 1_795_176_000_000
    deployment, number = Deployment(), 0
    calm()
    empty = _resident()
    for begin in range(0, customers, PIECE):
        some = range(begin, min(begin + PIECE, customers))
        deployment.folded(deployment.paged([traffic.regular(who, number + who, at + who, rng) for who in some]))
    gc.collect()
    taken = (_resident() - empty) / customers
    number, at = customers, at + customers
    times, written = [], 0
    for _ in range(ROUNDS):
        used = 0.0
        for begin in range(0, events, PIECE):
            count = min(PIECE, events - begin)
            records = []
            for who in _visits(rng, customers, count):
                number, at = number + 1, at + 1
                records.append(traffic.regular(who, number, at, rng))
            paged = deployment.paged(records)
            before = time.process_time()
            written += deployment.folded(paged)
            used += time.process_time() - before
        times.append(used / events * 1e6)
    return Cost(customers, sorted(times)[ROUNDS // 2], ROUNDS * events / written, taken)


def show(costs: list[Cost]) -> dict[str, object]:
    """Print a table; return the figures for machines."""
    print("\nThe engine's part of an event, by how many customers there are (one core, no Kafka)")
    print(f"{'customers':>12}{'CPU us/event':>16}{'events/record':>16}{'bytes/customer':>16}")
    print("-" * 60)
    for one in costs:
        print(f"{one.customers:>12,}{one.us:>16.1f}{one.events_per_record:>16.1f}{one.bytes_per_customer:>16,.0f}")
    print("-" * 60)
    ratio = costs[-1].us / costs[0].us
    print(
        f"{costs[-1].customers:,} customers: {ratio:.2f} times the cost with {costs[0].customers:,}; {report.machine()}"
    )
    return {"flat": [one._asdict() for one in costs], "ratio": ratio}


def main() -> None:
    """Measure, each number of customers in the same process, fewest first."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flat", description=__doc__)
    parser.add_argument("--customers", default=",".join(map(str, CUSTOMERS)), help="how many, comma-separated")
    parser.add_argument("--events", type=int, default=EVENTS, help=f"measured in each round (default {EVENTS:,})")
    told = parser.parse_args()
    costs = [measure(int(customers), told.events) for customers in told.customers.split(",")]
    print(orjson.dumps(show(costs)).decode())


if __name__ == "__main__":
    main()
