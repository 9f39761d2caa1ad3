"""How long an event takes to its trigger, over both hops, against one bare hop; and what waiting costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks import report
from benchmarks.engine_run import ROLES, SESSION, add_topic, both, create
from benchmarks.processes import Process, cpu_seconds
from benchmarks.stream import Stream, percentile, stream
from streams.settings import Settings

RATES: Final = (200.0, 50.0, 1000.0)
SECONDS: Final = 15.0
IDLE: Final = 10.0
WARM: Final = 6.0  # s at the first rate: only then everything is loaded, built and known to the broker
# what is measured: the settings that differ from the default ones
SETTINGS: Final[dict[str, dict[str, int]]] = {"default": {}, "low latency": {"fetch_pace_ms": 0}}


@dataclass
class Latency:
    """What one stream of events came to. Latencies in ms; CPU in percent of a core."""

    setting: str
    rate: float
    p50: float
    p99: float
    hop_p50: float
    hop_p99: float
    ingest_cpu: float
    engine_cpu: float


@dataclass
class Idle:
    """CPU of workers that have nothing to do, in percent of a core."""

    setting: str
    ingest_cpu: float
    engine_cpu: float


class Load:
    """The CPU of both workers over a while."""

    def __init__(self, workers: dict[str, Process]) -> None:
        self._workers = workers
        self._begin, self._before = time.perf_counter(), self._read()

    def _read(self) -> dict[str, float]:
        return {role: cpu_seconds(worker.pid) for role, worker in self._workers.items()}

    def percent(self) -> list[float]:
        """Return percent of a core since the beginning, in the order of the roles."""
        seconds, now = time.perf_counter() - self._begin, self._read()
        return [100 * (now[role] - self._before[role]) / seconds for role in ROLES]


async def measure(
    base: Settings, directory: Path, rates: Sequence[float], seconds: float, settings: dict[str, dict[str, int]]
) -> tuple[list[Latency], list[Idle]]:
    """Measure each setting at each rate, and idle; ``base`` tells the broker and the prefix."""
    found: list[Latency] = []
    idle: list[Idle] = []
    for number, (name, differs) in enumerate(settings.items()):
        prefix = f"{base.topic_prefix}latency{number}."
        of = base.model_copy(update={"topic_prefix": prefix, "session_timeout": SESSION, "redis_url": "", **differs})
        bare = f"{prefix}bare"
        await create(of)
        await add_topic(of, bare)
        with both(of, directory) as workers:

            def ended(workers: dict[str, Process] = workers) -> None:
                for worker in workers.values():
                    assert worker.pid

            async with stream(of, bare, ended) as events:
                await _warm(events, rates[0])
                for rate in rates:
                    report.say(f"latency, {name}: {rate:.0f} events/s")
                    found.append(await _one(events, workers, name, rate, seconds))
                load = Load(workers)
                await asyncio.sleep(IDLE)
                idle.append(Idle(name, *load.percent()))
    return found, idle


async def _warm(events: Stream, rate: float) -> None:
    """Return when the workers run and everything was loaded and built once."""
    for _ in range(2):  # what is sent first waits for the workers to start
        await events.send(rate, WARM / 2)
        async with asyncio.timeout(60):
            while events.missing:
                await asyncio.sleep(0.1)
    await events.measured(rate, WARM / 2, bare=True)


async def _one(events: Stream, workers: dict[str, Process], name: str, rate: float, seconds: float) -> Latency:
    """Measure the bare hop first, then the engine, at one rate."""
    hop = await events.measured(rate, seconds, bare=True)
    load = Load(workers)
    ms = await events.measured(rate, seconds)
    cpu = load.percent()
    return Latency(
        name, rate, percentile(ms, 0.5), percentile(ms, 0.99), percentile(hop, 0.5), percentile(hop, 0.99), *cpu
    )


def show(found: Sequence[Latency], idle: Sequence[Idle]) -> dict[str, object]:
    """Print a table; return the figures for machines."""
    print("\nEvent to trigger over both hops, ms; in brackets one bare hop of the same run")
    print(f"{'':14}{'events/s':>9}{'p50':>14}{'p99':>16}{'ingest':>10}{'engine CPU':>13}")
    print("-" * report.WIDTH)
    for one in found:
        print(
            f"{one.setting:14}{one.rate:>9.0f}{f'{one.p50:.1f} ({one.hop_p50:.1f})':>14}"
            f"{f'{one.p99:.1f} ({one.hop_p99:.1f})':>16}{one.ingest_cpu:>9.1f}%{one.engine_cpu:>12.1f}%"
        )
    for rest in idle:
        print(f"{rest.setting:14}{'idle':>9}{'':>30}{rest.ingest_cpu:>9.1f}%{rest.engine_cpu:>12.1f}%")
    print("-" * report.WIDTH)
    return {"latency": [asdict(one) for one in found], "idle": [asdict(one) for one in idle]}
