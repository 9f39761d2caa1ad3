"""What is shown of a run: a table of 80 columns, where the time goes, and one line of JSON."""

from __future__ import annotations

import os
import platform
import re
import statistics
import sys
import textwrap
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks import learning
from benchmarks.engine_run import EngineRun
from benchmarks.learning import Learning
from benchmarks.profiles import Steps
from streams.compiled import is_compiled
from streams.replay import Verdict
from tests.servers import kafka_jars

PYTHON: Final = sys.executable
WIDTH: Final = 80
_BEGIN: Final = time.perf_counter()
PACKAGES: Final = ("faust-streaming", "aiokafka", "orjson", "pydantic", "uvloop")


@dataclass
class Loop:
    """What one loop took."""

    events: int
    seconds: float
    cpu: float  # CPU seconds

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    @property
    def us(self) -> float:
        """CPU microseconds for each event."""
        return self.cpu / self.events * 1e6


@dataclass
class Figures:
    """Everything that was measured."""

    run: EngineRun
    loops: list[Loop]
    faust: Loop
    quix: Loop | str  # why there is none
    wide: EngineRun  # few events for each customer
    replay: Loop
    verdict: Verdict
    spread: tuple[EngineRun, EngineRun]  # the cheapest run and the dearest
    with_models: Learning
    with_redis: EngineRun | None
    ingest: Steps
    engine: Steps
    bytes_per_event: float
    customers: int


def say(text: str) -> None:
    """Tell how far the run is."""
    print(f"{time.perf_counter() - _BEGIN:4.0f} s  {text}", file=sys.stderr, flush=True)


def kafka_version() -> str:
    """Return the version of the broker that is started here."""
    return kafka_jars().name.removeprefix("kafka-")


def machine() -> str:
    """Return the processor and its cores."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{found[1] if found else platform.machine()}, {os.cpu_count()} cores"


def summary(figures: Figures) -> dict[str, Any]:
    """Return the figures for machines. A ratio is ours divided by the peer's, CPU for each event."""
    run = figures.run
    ingest, engine = run.us("ingest"), run.us("engine")
    raw = statistics.median(loop.us for loop in figures.loops)
    ours = ingest + engine
    told = {
        "events": run.events, "events_per_second": round(run.events / run.seconds),
        "cpu_us_per_event": ours, "ingest_us": ingest, "engine_us": engine,
        "raw_loop_us": raw, "plain_faust_us": figures.faust.us,
        "ratio_to_raw_loop": ours / raw, "ratio_to_plain_faust": ours / figures.faust.us,
        "raw_loop_events_per_second": round(statistics.median(loop.rate for loop in figures.loops)),
        "plain_faust_events_per_second": round(figures.faust.rate),
        "quix_us": None if isinstance(figures.quix, str) else figures.quix.us,
        "ratio_to_quix": None if isinstance(figures.quix, str) else ours / figures.quix.us,
        "quix_events_per_second": None if isinstance(figures.quix, str) else round(figures.quix.rate),
        "wide_us": figures.wide.us("ingest") + figures.wide.us("engine"),
        "wide_events_per_customer_record_written": figures.wide.events / figures.wide.customers_written,
        "replay_events_per_second": round(figures.replay.rate), "replay_us": figures.replay.us,
        "broker_us": run.us("broker") if "broker" in run.cpu else None,
        "ingest_mib": run.mib["ingest"], "engine_mib": run.mib["engine"],
        "events_per_customer_record_written": run.events / run.customers_written,
        "journal_bytes_per_event": sum(len(value) for _, _, value in run.pages) / run.events,
        "redis_engine_us": None if figures.with_redis is None else figures.with_redis.us("engine"),
        **learning.summary(figures.with_models),
        "verify": "identical" if figures.verdict.identical else "different",
        "compiled": is_compiled(), "cores": os.cpu_count(), "python": platform.python_version(),
    }  # fmt: skip
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in told.items()}


def show(figures: Figures, kafka: str, seconds: float) -> None:
    """Print everything."""
    told = summary(figures)
    compiled = "compiled" if told["compiled"] else "not compiled"
    run = figures.run
    versions = ", ".join([f"Kafka {kafka}", *(f"{name} {version(name)}" for name in PACKAGES)])
    print(flush=True)
    print("What an event costs".center(WIDTH).rstrip())
    print(f"{machine()}, shared with the broker; Python {told['python']}")
    print(textwrap.fill(versions, WIDTH))
    print(
        f"{run.events:,} events of {figures.bytes_per_event:.0f} bytes, {figures.customers:,} customers, "
        f"{run.partitions} partitions"
    )
    print()
    raw, rate = told["raw_loop_us"], told["events_per_second"]
    print(f"{'':37}{'events/s':>10}{'CPU us/event':>14}{'x raw loop':>11}{'MiB':>7}")
    print("-" * WIDTH)
    _row("raw loop, no framework (the limit)", told["raw_loop_events_per_second"], raw, raw)
    _row("journey engine, Redis off", rate, told["cpu_us_per_event"], raw)
    _row("  ingest worker", None, told["ingest_us"], raw, run.mib["ingest"])
    _row("  engine worker", None, told["engine_us"], raw, run.mib["engine"])
    if told["broker_us"] is not None:
        _row("  (the broker meanwhile)", None, told["broker_us"], raw)
    models = figures.with_models.run
    _row("  all models on", models.events / models.seconds, models.us("ingest") + models.us("engine"), raw)
    _row("    ingest worker", None, models.us("ingest"), raw, models.mib["ingest"])
    _row("    engine worker", None, models.us("engine"), raw, models.mib["engine"])
    _row("    (the worker that learns, meanwhile)", None, models.us("learn"), raw, models.mib["learn"])
    if figures.with_redis is not None:
        redis = figures.with_redis
        _row("  engine worker, Redis on", redis.events / redis.seconds, redis.us("engine"), raw, redis.mib["engine"])
    _row("replay of the journal", told["replay_events_per_second"], told["replay_us"], raw)
    wide = figures.wide
    each = wide.events / wide.customers_written
    _row(f"wide traffic, {each:.1f} events a record", wide.events / wide.seconds, told["wide_us"], raw)
    if isinstance(figures.quix, Loop):
        _row(f"Quix Streams, {figures.quix.events:,} events", figures.quix.rate, figures.quix.us, raw)
    else:
        print(f"Quix Streams: none, {figures.quix}"[:WIDTH])
    _row(f"plain Faust, {figures.faust.events:,} events", figures.faust.rate, figures.faust.us, raw)
    print("-" * WIDTH)
    cheapest, dearest = ((one.us("ingest") + one.us("engine")) for one in figures.spread)
    print(f"Median of the engine's runs: {cheapest:.1f} to {dearest:.1f} us. The fold is {compiled}.")
    ratio = 1 / told["ratio_to_plain_faust"]
    print(f"An event costs {told['ratio_to_raw_loop']:.1f} raw loops, and 1/{ratio:.0f} of plain Faust.")
    written = told["events_per_customer_record_written"]
    print(f"{written:.1f} events for each customer record written, {run.triggers:,} triggers.")
    started = ", ".join(f"{role} {used:.1f} s" for role, used in run.start_up.items())
    print(f"CPU until the first events are taken, not counted above: {started}.")
    print(f"verify: {told['verify']}, {figures.verdict.customers:,} customers. The whole run: {seconds:.0f} s.")
    _steps("Ingest: where the CPU time goes", figures.ingest, told["ingest_us"])
    _steps("Engine: where the CPU time goes", figures.engine, told["engine_us"])
    learning.show(figures.with_models)
    print()
    print(orjson.dumps(told).decode())


def _row(name: str, rate: float | None, us: float, raw: float, mib: float | None = None) -> None:
    shown = "" if rate is None else f"{rate:,.0f}"
    memory = "" if mib is None else f"{mib:.0f}"
    print(f"{name:37}{shown:>10}{us:>14.1f}{us / raw:>11.1f}{memory:>7}".rstrip())


def _steps(title: str, steps: Steps, whole: float) -> None:
    """Print the steps of a role; the rest of its worker's time is Kafka's client, Faust and the waiting for both."""
    print(f"\n{title}, us/event")
    for name, us in steps.us.items():
        print(f"  {name:40}{us:8.1f}")
    print(f"  {'fetching, sending, Faust (the rest)':40}{max(0.0, whole - sum(steps.us.values())):8.1f}")
    print("  shares under cProfile, which slows calls down: own time, calls, function")
    for line in steps.lines:
        print(f"  {line}"[:WIDTH])
