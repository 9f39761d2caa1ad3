"""Many minutes of steady traffic: do memory, latency, lag and overdue timers stay as they are?

Regular customers and a few new ones click, fill carts and order, at random
moments. Before that, carts are laid out that become due one after another
while it runs, so that timers fire all the time. Latencies are those of new
customers: each gives one trigger at once, which names its cause.
"""

from __future__ import annotations

import asyncio
import random
import socket
import statistics
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from aiohttp import ClientSession, ClientTimeout

from benchmarks import picture, report, traffic
from benchmarks.engine_run import ROLES, SESSION, WORKER, create
from benchmarks.processes import Process
from benchmarks.stream import Stream, percentile, stream
from journey.events import HOUR, MINUTE
from journey.ids import route
from streams.publish import Publisher
from streams.settings import Settings

REGULARS: Final = 2_000
NEW_SHARE: Final = 0.01
CARTS_A_MINUTE: Final = 60  # that become due
EVERY: Final = 10.0  # s between two looks
SETTLING: Final = 0.2  # share of the time that is not compared: what is built once


@dataclass
class Look:
    """What was seen at one moment, and in the time since the one before."""

    minute: float
    ingest_mib: float
    engine_mib: float
    ingest_cpu: float  # percent of a core
    engine_cpu: float
    ingest_lag: int  # records
    engine_lag: int  # pages
    overdue: int  # customers with a timer that is due
    late_s: float  # of the latest cart timer
    p50_ms: float
    p99_ms: float
    sent: int  # events


@dataclass
class Soak:
    """One run. ``looks`` in the order of time."""

    rate: float
    minutes: float
    looks: list[Look] = field(default_factory=list)
    triggers: int = 0
    missing: int = 0  # new customers that gave no trigger
    carts: int = 0

    def compared(self) -> dict[str, tuple[float, float]]:
        """Return the median of each figure in the first and in the last third of what is compared."""
        looks = self.looks[int(len(self.looks) * SETTLING) :]
        third = max(1, len(looks) // 3)
        parts = [asdict(look) for look in looks]
        names = [name for name in parts[0] if name != "minute"]
        return {
            name: (
                statistics.median(part[name] for part in parts[:third]),
                statistics.median(part[name] for part in parts[-third:]),
            )
            for name in names
        }

    def drawn(self) -> str:
        """Return the picture."""
        looks = self.looks

        def line(name: str, of: str) -> picture.Line:
            return picture.Line(name, [(look.minute, float(getattr(look, of))) for look in looks])

        return picture.stacked(
            [
                picture.chart("Memory", "minutes", "MiB", [line("ingest", "ingest_mib"), line("engine", "engine_mib")]),
                picture.chart("Event to trigger", "minutes", "ms", [line("p50", "p50_ms"), line("p99", "p99_ms")]),
                picture.chart(
                    "Behind", "minutes", "records, pages", [line("ingest", "ingest_lag"), line("engine", "engine_lag")]
                ),
                picture.chart(
                    "Timers", "minutes", "customers, s", [line("overdue", "overdue"), line("latest, s", "late_s")]
                ),
            ]
        )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


async def run(settings: Settings, directory: Path, rate: float, minutes: float) -> Soak:
    """Run both roles under steady traffic; ``settings`` are those of a deployment that does not exist yet."""
    settings = settings.model_copy(update={"session_timeout": SESSION, "redis_url": ""})
    await create(settings)
    made = Soak(rate, minutes, carts=int(CARTS_A_MINUTE * minutes))
    async with Publisher(settings) as publisher:
        await publisher.publish(_carts(made.carts, minutes))
    addresses = {role: f"127.0.0.1:{_free_port()}" for role in ROLES}
    with ExitStack() as ending:
        told = settings.model_dump(exclude_none=True)
        for role, address in addresses.items():
            environment = {f"JOURNEY_{name.upper()}": str(value) for name, value in told.items()}
            environment["JOURNEY_HTTP"] = address
            name = f"{settings.topic_prefix}{role}"
            arguments = ["-c", WORKER, "worker", "--roles", role]
            ending.enter_context(Process(name, arguments, environment, directory))
        await _until_ready(addresses)
        async with stream(settings, None, lambda: None) as events:
            sending = asyncio.ensure_future(_send(events, rate, minutes * 60))
            await _watch(made, events, addresses, sending)
            await sending
            await asyncio.sleep(2)
            made.missing = events.missing
            made.triggers = events.seen
    return made


def _carts(count: int, minutes: float) -> list[Any]:
    """Return events that leave carts, each of a customer of its own, due one after another in the minutes to come."""
    begin = time.time_ns() // 1_000_000 - HOUR + MINUTE // 2
    return [
        traffic.cart_left(10**9 + number, begin + int(number / count * minutes * MINUTE * 0.95))
        for number in range(count)
    ]


async def _until_ready(addresses: dict[str, str]) -> None:
    async with ClientSession(timeout=ClientTimeout(total=5)) as client, asyncio.timeout(60):
        for address in addresses.values():
            while True:
                try:
                    async with client.get(f"http://{address}/ready") as answer:
                        if answer.status == 200:
                            break
                except OSError:
                    pass
                await asyncio.sleep(0.2)


async def _send(events: Stream, rate: float, seconds: float) -> None:
    """Send at random moments, most of it of regular customers."""
    rng = random.Random(traffic.SEED)  # noqa: S311  # traffic, no secret
    begin = due = time.perf_counter()
    number = 0
    while True:
        due += rng.expovariate(rate)
        if due - begin >= seconds:
            return
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        now = time.time_ns() // 1_000_000
        if rng.random() < NEW_SHARE:
            await events.one(traffic.new_customer(number, now))
        else:
            record = traffic.regular(rng.randrange(REGULARS), number, now, rng)
            name = events.settings.topic(record.topic)
            partition = route(record.key.decode(), events.settings.partitions)
            await events.producer.send(name, record.value, record.key, partition)
            events.others += 1
        number += 1


async def _watch(made: Soak, events: Stream, addresses: dict[str, str], sending: asyncio.Task[None]) -> None:
    begin = time.perf_counter()
    cpu: dict[str, float] = {}
    sent = 0
    async with ClientSession(timeout=ClientTimeout(total=5)) as client:
        while not sending.done():
            await asyncio.sleep(EVERY)
            told: dict[str, Any] = {}
            for role, address in addresses.items():
                async with client.get(f"http://{address}/status") as answer:
                    told[role] = await answer.json()
            ms = [one for _, one in events.ms] or [0.0]
            events.ms.clear()
            used = {role: one["process"]["cpu_seconds"] for role, one in told.items()}
            percent = {role: 100 * (used[role] - cpu.get(role, used[role])) / EVERY for role in used}
            cpu, before, sent = used, sent, events.sent + events.others
            engine = told["engine"]["roles"]["engine"]
            mib = {role: one["process"]["rss_bytes"] / 2**20 for role, one in told.items()}
            lag = {role: sum(one["roles"][role]["lag"].values()) for role, one in told.items()}
            look = Look(
                (time.perf_counter() - begin) / 60, mib["ingest"], mib["engine"], percent["ingest"], percent["engine"],
                lag["ingest"], lag["engine"], engine["timers_overdue"], engine["prompt_timer_late_seconds"],
                percentile(ms, 0.5), percentile(ms, 0.99), sent - before,
            )  # fmt: skip
            made.looks.append(look)
            if len(made.looks) % 30 == 0:
                report.say(f"{look.minute:.0f} min, p99 {look.p99_ms:.0f} ms, engine {look.engine_mib:.0f} MiB")


def show(made: Soak) -> dict[str, object]:
    """Print a table; return the figures for machines."""
    compared = made.compared()
    print(f"\n{made.minutes:g} minutes at {made.rate:g} events/s: medians of the first and the last third,")
    print(f"the first {SETTLING:.0%} left out")
    print(f"{'':24}{'first':>12}{'last':>12}{'highest':>12}")
    print("-" * 60)
    for name, (first, last) in compared.items():
        highest = max(getattr(look, name) for look in made.looks[int(len(made.looks) * SETTLING) :])
        print(f"{name:24}{first:>12,.1f}{last:>12,.1f}{highest:>12,.1f}")
    print("-" * 60)
    print(
        f"{made.triggers:,} triggers; {made.carts:,} carts became due; {made.missing} new customers without a trigger"
    )
    return {
        "soak": {name: list(values) for name, values in compared.items()}, "rate": made.rate, "minutes": made.minutes,
        "missing": made.missing, "triggers": made.triggers,
    }  # fmt: skip
