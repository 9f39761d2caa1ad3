"""Where the time goes: the product's own steps over the same records, in this process, without Kafka and Faust.

Each step is timed alone first, then run once more under cProfile, which slows
calls down several times: its lines show shares, never costs.
"""

from __future__ import annotations

import cProfile
import gc
import pstats
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from journey.engine import Shard, fold
from journey.entries import pages, read_page
from streams.arrivals import Parsed
from streams.records import parse_events

LINES: Final = 12
ROUNDS: Final = 5

Page = tuple[int, int, bytes]  # partition, offset, value


@dataclass
class Steps:
    """Microseconds of CPU for each event, and the profile's lines, of one role."""

    us: dict[str, float]
    lines: list[str]


def _us(work: Callable[[], object], events: int) -> float:
    """Return the CPU microseconds for each event in the best of some rounds: others disturb, nobody helps."""
    times = []
    # a worker's collector has not this process's events to walk through
    gc.collect()
    gc.freeze()
    for _ in range(ROUNDS):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    gc.unfreeze()
    return min(times) / events * 1e6


def _profiled(work: Callable[[], object]) -> list[str]:
    """Return the costliest functions by own time."""
    profile = cProfile.Profile()
    profile.runcall(work)
    stats: Any = pstats.Stats(profile)
    rows = sorted(stats.stats.items(), key=lambda row: row[1][2], reverse=True)
    whole = sum(row[1][2] for row in rows)
    lines = []
    for (file, _, name), (_, calls, own, _, _) in rows[:LINES]:
        where = name if file == "~" else f"{Path(file).parent.name}/{Path(file).name} {name}"
        lines.append(f"{own / whole:6.1%} {calls:>9,}  {where.strip('<>')[:60]}")
    return lines


def of_ingest(records: Sequence[Any], partitions: int, chunk: int, most: int) -> Steps:
    """Return what ingest spends on consumed raw records: validation, and the pages it writes."""
    chunks = list(_chunks(records, chunk))

    def parse() -> Iterator[list[Parsed]]:
        for cls, mine in chunks:
            yield parse_events(cls, mine, partitions)

    def parse_all() -> None:
        for _ in parse():
            pass

    def write(parsed: list[Parsed]) -> None:
        entries: dict[int, list[bytes]] = {}
        for one in parsed:
            for number, entry in one.entries:
                entries.setdefault(number, []).append(entry)
        for mine in entries.values():
            for _ in pages(mine, most):
                pass

    def both() -> None:
        for parsed in parse():
            write(parsed)

    events = len(records)
    parsing = _us(parse_all, events)
    return Steps({"parse, validate, route": parsing, "pages": max(0.0, _us(both, events) - parsing)}, _profiled(both))


def _chunks(records: Sequence[Any], most: int) -> Iterator[tuple[str, list[Any]]]:
    """Yield chunks of one partition of a raw topic, with their class."""
    by_source: dict[tuple[str, int], list[Any]] = {}
    for record in records:
        by_source.setdefault((record.topic, record.partition), []).append(record)
    for (topic, _), mine in by_source.items():
        for start in range(0, len(mine), most):
            yield topic.rpartition(".")[2], mine[start : start + most]


def of_engine(journal: Sequence[Page], partition: int, group: int) -> Steps:
    """Return what the engine spends on one partition's pages, in groups of so many: read, fold, records to write."""
    mine = [page for page in journal if page[0] == partition]
    events = sum(entry["k"] == "event" for _, _, value in mine for entry in read_page(value))

    def read() -> None:
        for _, _, value in mine:
            read_page(value)

    def folded(*, write: bool) -> None:
        stored: dict[bytes, bytes] = {}
        shard = Shard(partition, stored.get, ())
        for start in range(0, len(mine), group):
            for _, offset, value in mine[start : start + group]:
                fold(shard, offset, read_page(value))
            if write:
                stored.update(shard.changes())
                shard.written()

    reading = _us(read, events)
    all_in_memory = _us(lambda: folded(write=False), events)
    whole = _us(lambda: folded(write=True), events)
    steps = {
        "read pages": reading,
        "fold, all in memory": max(0.0, all_in_memory - reading),
        "customer records read and written": max(0.0, whole - all_in_memory),
    }
    return Steps(steps, _profiled(lambda: folded(write=True)))
