"""How it grows past one machine: a simulation that is fed with measured costs. `python -m benchmarks.scale_sim`.

Customers are keys of Zipf-distributed weight, hashed to partitions as the
product hashes them. Partitions are dealt to workers; a worker is two
processes, ingest and engine, each of which has one core at most. Arrivals are
drawn per tick and partition from a seed; what a process cannot serve waits in
the queues of its partitions. A broker passes on and stores so many bytes a
second and no more. All numbers come from the seed and the costs: the same
arguments give the same table.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import exp, log
from pathlib import Path
from typing import Final

import orjson

from benchmarks import picture
from journey.ids import route

SEED: Final = 20_260_601
HEAVY: Final = 20_000  # the heaviest keys are placed one by one; what is below them spreads evenly
TICK: Final = 0.1  # s
DAY: Final = 86_400.0
MIB: Final = 1 << 20
GIB: Final = 1 << 30
FULL: Final = 0.99  # of a core: a process at this load has no end to its queue


@dataclass(frozen=True)
class Costs:
    """What was measured on one machine. Those of `make bench`'s line of JSON have its names."""

    ingest_us: float = 11.9  # CPU for each event
    engine_us: float = 16.1
    journal_bytes_per_event: float = 300.0
    customer_record_bytes: float = 1_200.0
    events_per_record: float = 1.2  # live; a backlog writes a record once for several events
    raw_bytes_per_event: float = 340.0
    trigger_bytes: float = 600.0
    triggers_per_event: float = 0.12
    recovery_us_per_customer: float = 16.0  # wall clock, one process
    memory_bytes_per_customer: float = 1_600.0
    rocksdb_bytes_per_customer: float = 300.0  # of memory, with JOURNEY_STORE=rocksdb
    start_seconds: float = 3.0
    round_us: float = 3_000.0  # CPU of one round of fetching, whatever it brings
    pace_ms: float = 20.0  # JOURNEY_FETCH_PACE_MS

    @classmethod
    def read(cls, path: Path) -> Costs:
        """Return the costs that a file's last line of JSON names, and the recorded ones for the rest."""
        told = orjson.loads(path.read_bytes().splitlines()[-1])
        known = {one.name for one in fields(cls)} & {name for name, value in told.items() if value is not None}
        return cls(**{name: float(told[name]) for name in known})


@dataclass(frozen=True)
class Shop:
    """What is asked of the system."""

    customers: int
    events_per_second: float
    skew: float = 0.8  # exponent of Zipf's law: 0 all alike, 1 a few customers with most events

    @classmethod
    def of_month(cls, customers: int, events_a_month: float = 20.0, peak: float = 5.0) -> Shop:
        """Return a shop at its peak: ``peak`` times the average of so many events a customer and month."""
        return cls(customers, customers * events_a_month / (30 * DAY) * peak)


@dataclass(frozen=True)
class Cluster:
    """What there is to do it with."""

    workers: int
    partitions: int = 64
    broker_mib: float = 100.0  # MiB/s a broker takes from the network, and again gives to it
    disk_mib: float = 150.0  # MiB/s it writes
    brokers: int = 3
    replication: int = 3
    session: float = 15.0  # s until a silent worker is replaced


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    utilisation: tuple[float, ...]  # of each worker's busier process, 1 is a core
    mean_wait: float  # s in the queues of both roles; what the pace of fetches adds is not in it
    worst_wait: float  # s, of the worker and tick where it is longest
    broker_load: float  # share of what the brokers can do


def shares(shop: Shop, partitions: int) -> list[float]:
    """Return which part of all events goes to each partition; the parts add up to 1.

    >>> [round(share, 2) for share in shares(Shop(1_000_000, 1.0, skew=0.0), 4)]
    [0.25, 0.25, 0.25, 0.25]
    """
    heavy = min(HEAVY, shop.customers)
    weights = [(rank + 1) ** -shop.skew for rank in range(heavy)]
    # the sum over the others by the integral: they are so many that it is exact enough
    low, high = heavy + 0.5, shop.customers + 0.5
    power = 1.0 - shop.skew
    if high <= low:
        rest = 0.0
    elif abs(power) < 1e-9:
        rest = log(high / low)
    else:
        rest = (high**power - low**power) / power
    load = [rest / partitions] * partitions
    for rank, weight in enumerate(weights):
        load[route(f"u:{rank}", partitions)] += weight
    whole = sum(load)
    return [one / whole for one in load]


def dealt(partitions: int, workers: int) -> list[list[int]]:
    """Return the partitions of each worker: dealt in turn, blind to their load, as Faust's assignor does."""
    return [list(range(number, partitions, workers)) for number in range(workers)]


def bytes_per_event(costs: Costs, replication: int) -> tuple[float, float, float]:
    """Return the bytes that the brokers take, give and write for each event."""
    record = costs.customer_record_bytes / costs.events_per_record
    trigger = costs.trigger_bytes * costs.triggers_per_event
    stored = costs.raw_bytes_per_event + costs.journal_bytes_per_event + record + trigger
    read = costs.raw_bytes_per_event + costs.journal_bytes_per_event + trigger
    copied = stored * (replication - 1)
    return stored + copied, read + copied, stored * replication


def broker_limit(costs: Costs, cluster: Cluster) -> float:
    """Return the events a second that the brokers can pass on and store."""
    taken, given, written = bytes_per_event(costs, cluster.replication)
    network, disk = cluster.broker_mib * MIB * cluster.brokers, cluster.disk_mib * MIB * cluster.brokers
    return min(network / taken, network / given, disk / written)


def limit(costs: Costs, shop: Shop, cluster: Cluster) -> float:
    """Return the highest rate (events/s) that never lets a queue grow: of the fullest process, or of the brokers."""
    parts = shares(shop, cluster.partitions)
    fullest = max(sum(parts[number] for number in mine) for mine in dealt(cluster.partitions, cluster.workers))
    process = FULL * 1e6 / max(costs.ingest_us, costs.engine_us)
    return min(process / fullest, broker_limit(costs, cluster))


def simulate(
    costs: Costs, shop: Shop, cluster: Cluster, seconds: float = 60.0, *, crash_at: float | None = None
) -> Outcome:
    """Run a stream of events through the queues; ``crash_at`` ends worker 0 then, and its slot starts again.

    Both roles are one queue after the other; a process serves the queues of
    its partitions in proportion to their lengths.
    """
    rng = random.Random(SEED)  # noqa: S311  # a simulation
    parts = shares(shop, cluster.partitions)
    load = shop.events_per_second / broker_limit(costs, cluster)
    rate = shop.events_per_second * min(1.0, 1.0 / load)
    down_until = -1.0
    if crash_at is not None:
        down_until = crash_at + outage(costs, shop, cluster)
    waiting = {"ingest": [0.0] * cluster.partitions, "engine": [0.0] * cluster.partitions}
    busy = {role: [0.0] * cluster.workers for role in waiting}
    us = {"ingest": costs.ingest_us, "engine": costs.engine_us}
    total = worst = 0.0
    ticks = max(1, round(seconds / TICK))
    for tick in range(ticks):
        now = tick * TICK
        for number, part in enumerate(parts):
            mean = rate * part * TICK
            waiting["ingest"][number] += _drawn(rng, mean)
        for worker, mine in enumerate(dealt(cluster.partitions, cluster.workers)):
            if worker == 0 and crash_at is not None and crash_at <= now < down_until:
                continue
            for role, queues in waiting.items():
                length = sum(queues[number] for number in mine)
                served = min(length, TICK * 1e6 / us[role])
                busy[role][worker] += served * us[role] / 1e6
                if not length:
                    continue
                for number in mine:
                    done = served * queues[number] / length
                    queues[number] -= done
                    if role == "ingest":
                        waiting["engine"][number] += done
        backlog = [waiting["ingest"][number] + waiting["engine"][number] for number in range(cluster.partitions)]
        total += sum(backlog)
        for mine in dealt(cluster.partitions, cluster.workers):
            held, comes = sum(backlog[number] for number in mine), sum(parts[number] for number in mine) * rate
            worst = max(worst, held / max(comes, 1e-9))
    rounds = min(rate / cluster.workers, 1000 / costs.pace_ms) * costs.round_us / 1e6
    used = tuple(
        _with_rounds(max(busy[role][worker] for role in busy) / (ticks * TICK), rounds)
        for worker in range(cluster.workers)
    )
    return Outcome(used, total / ticks / max(rate, 1e-9), worst, load)


def _drawn(rng: random.Random, mean: float) -> float:
    """Return how many events come in a tick: as Poisson's law has it, which a bell is close enough to when many do."""
    if mean > 30:
        return max(0.0, rng.gauss(mean, mean**0.5))
    count, left = 0, rng.random()
    floor = exp(-mean)
    while left > floor:
        count += 1
        left *= rng.random()
    return float(count)


def _with_rounds(used: float, rounds: float) -> float:
    """Return the load of a core with its rounds of fetching, of which there are fewer the more it has to do."""
    return used + (1 - used) * min(1.0, rounds)


def outage(costs: Costs, shop: Shop, cluster: Cluster) -> float:
    """Return the seconds from a worker's kill -9 until its partitions are folded again, by a restart in its slot."""
    mine = shop.customers * len(dealt(cluster.partitions, cluster.workers)[0]) / cluster.partitions
    return costs.start_seconds + mine * costs.recovery_us_per_customer / 1e6


@dataclass(frozen=True)
class Sizes:
    """What is stored, GiB with all copies, and what a worker needs."""

    raw: float  # 30 days
    journal_a_year: float
    changelog: float
    memory: float  # GiB of one engine, customers in memory
    memory_rocksdb: float


def sizes(costs: Costs, shop: Shop, cluster: Cluster, peak: float = 5.0) -> Sizes:
    """Return the sizes. The average rate is the peak's ``1/peak``.

    The changelog holds each customer once, what was written in the day that compaction waits, and half as much again
    before the cleaner comes.
    """
    average = shop.events_per_second / peak
    day = average * DAY / costs.events_per_record
    records = (shop.customers + day) * 1.5
    mine = shop.customers / cluster.workers
    copies = cluster.replication / GIB
    return Sizes(
        raw=average * DAY * 30 * costs.raw_bytes_per_event * copies,
        journal_a_year=average * DAY * 365 * costs.journal_bytes_per_event * copies,
        changelog=records * costs.customer_record_bytes * copies,
        memory=mine * costs.memory_bytes_per_customer / GIB,
        memory_rocksdb=mine * costs.rocksdb_bytes_per_customer / GIB,
    )


@dataclass(frozen=True)
class Prices:
    """US$ a month. Assumed, round figures for rented machines: put in what yours cost."""

    core: float = 25.0
    memory_gib: float = 3.0
    disk_gib: float = 0.1


def price(size: Sizes, cluster: Cluster, prices: Prices) -> float:
    """Return US$ a month: two cores for each worker, two and 8 GiB for each broker, and the disks after a year."""
    cores = 2 * cluster.workers + 2 * cluster.brokers
    memory = (2 * size.memory_rocksdb + 1) * cluster.workers + 8 * cluster.brokers
    disk = size.raw + size.journal_a_year + size.changelog
    return prices.core * cores + prices.memory_gib * memory + prices.disk_gib * disk


COLUMNS: Final = (
    "customers", "events/s", "workers", "core", "raw", "journal", "changelog", "memory (RocksDB)", "wait", "price",
)  # fmt: skip


def table(costs: Costs) -> list[str]:
    """Return the table of three shops, as the page quotes it."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        "|" + "---|" * len(COLUMNS),
    ]
    for customers, workers in ((1_000_000, 1), (10_000_000, 2), (100_000_000, 8)):
        shop, cluster = Shop.of_month(customers), Cluster(workers)
        size, gone = sizes(costs, shop, cluster), outage(costs, shop, cluster)
        done = simulate(costs, shop, cluster)
        crashed = simulate(costs, shop, cluster, gone + 30, crash_at=10.0)
        lines.append(
            f"| {customers:,} | {shop.events_per_second:,.0f} | {workers} | {max(done.utilisation):.1%} "
            f"| {size.raw:,.0f} GiB | {size.journal_a_year:,.0f} GiB "
            f"| {size.changelog:,.0f} GiB | {size.memory:,.1f} ({size.memory_rocksdb:,.1f}) GiB "
            f"| {crashed.worst_wait:,.0f} s | ${price(size, cluster, Prices()):,.0f} |"
        )
    return lines


WORKERS: Final = (1, 2, 4, 8, 16, 32, 64)
SKEWS: Final = (0.0, 0.8, 1.0, 1.2)


def growth(costs: Costs, skews: Sequence[float] = SKEWS) -> dict[float, list[tuple[int, float]]]:
    """Return the highest rate for numbers of workers, by skew, where brokers are no limit."""
    plenty = Cluster(1, brokers=1_000)
    return {
        skew: [
            (workers, limit(costs, Shop(10_000_000, 1.0, skew), replace(plenty, workers=workers)))
            for workers in WORKERS
        ]
        for skew in skews
    }


def growth_table(costs: Costs) -> list[str]:
    """Return the table of rates by workers and skew."""
    found = growth(costs)
    lines = [
        "| workers | " + " | ".join(f"skew {skew:g}" for skew in found) + " |",
        "|" + "---|" * (1 + len(found)),
    ]
    for number, workers in enumerate(WORKERS):
        lines.append(f"| {workers} | " + " | ".join(f"{found[skew][number][1]:,.0f}" for skew in found) + " |")
    return lines


def drawn(costs: Costs) -> str:
    """Return the picture of rates by workers and skew, as SVG."""
    lines = [picture.Line(f"skew {skew:g}", points) for skew, points in growth(costs).items()]
    return picture.chart(
        "Events a second by workers, 64 partitions", "workers", "events/s", lines, log_x=True, log_y=True
    )


def main() -> None:
    """Print both tables, and write the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale_sim", description=__doc__)
    parser.add_argument("--costs", type=Path, help="file that ends with the line of JSON of make bench")
    parser.add_argument("--picture", type=Path, help="where to write the picture (SVG)")
    told = parser.parse_args()
    costs = Costs() if told.costs is None else Costs.read(told.costs)
    print("\n".join(table(costs)))
    print()
    print("\n".join(growth_table(costs)))
    three = Cluster(1)
    print(f"\nThree brokers, three copies: {broker_limit(costs, three):,.0f} events/s at most.")
    if told.picture is not None:
        told.picture.write_text(drawn(costs))


if __name__ == "__main__":
    main()
