"""``journey demo``: the whole system on this machine, in a temporary folder, in a minute, with its replay verified.

The broker is an embedded imitation of Kafka and Redis from a wheel: good for
looking, no oracle for crashes. Nothing of the system is imitated besides.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from journey.events import DAY, HOUR
from journey.samples import FAMILIES
from streams import inspect, topics
from streams.errors import ShellError
from streams.files import read_events
from streams.logs import consumer, partitions_of
from streams.publish import Publisher, load
from streams.raw import RawRecord
from streams.replay import Verdict, verify
from streams.settings import Settings
from streams.settings import load as load_settings
from streams.shop import open_shop
from streams.status import tell
from streams.topics import Admin
from streams.unread import Unread

WORKERS: Final = {"worker": "ingest,engine", "learner": "learn"}
WEEK: Final = 7 * DAY + HOUR
LEARNED_LOOKS: Final = 4
SHOP_CUSTOMERS: Final = 300
SHOP_DAYS: Final = 150  # so many that labels of 30 days come, and churn is learned well enough to act on
SHOP_RATE: Final = 1200.0  # events a second: fast enough for a minute, slow enough to watch
SLICE: Final = 50
PARTITIONS: Final = 4
STAGES: Final = ("awareness", "interest", "evaluation", "purchase", "use", "loyalty", "churn")
START_WITHIN: Final = 30.0
DRAIN_WITHIN: Final = 300.0


class DemoError(ShellError):
    """The demo could not be set up.

    Operator: run `make demo`, which installs all it needs; nothing else on this machine was touched.
    """


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Embedded:
    """The embedded broker: one process, two ports, one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kafka_port, self.redis_port = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it.

        Raises
        ------
        DemoError
            It is not installed, or ended at once.
        """
        try:
            import noida_db
        except ImportError:
            msg = "the embedded broker is not installed: pip install 'journey-engine[demo]'"
            raise DemoError(msg) from None
        program = Path(noida_db.__file__).with_name("noida-db")
        command = [
            str(program), "start", "--only", "redis,kafka", "--data-dir", str(self.folder / "broker"),
            "--kafka-port", str(self.kafka_port), "--redis-port", str(self.redis_port),
        ]  # fmt: skip
        with (self.folder / "broker.log").open("wb") as log:
            # its own session: Ctrl-C is ours to pass on, in order
            self._process = subprocess.Popen(  # noqa: S603  # our own program, no shell
                command, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder, start_new_session=True
            )
        deadline = time.monotonic() + START_WITHIN
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.kafka_port), timeout=1):
                return
            time.sleep(0.05)
        text = (self.folder / "broker.log").read_text(errors="replace")[-500:]
        msg = f"the embedded broker did not start: {text}"
        raise DemoError(msg)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            end([self._process])


def end(processes: Iterable[subprocess.Popen[bytes]], within: float = 10.0) -> None:
    """End processes we started, by their ids: all are asked first, then made to."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + within
    for process in running:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class Seen:
    """What the screen shows."""

    total: int | None
    name: str
    sent: int = 0
    read: int = 0
    lag: int = 0
    begin: float = 0.0
    now: str = "starting"
    customers: set[str] = field(default_factory=set)
    stages: Counter[str] = field(default_factory=Counter)
    triggers: int = 0
    by_models: int = 0  # triggers that would not be, or not so, without a model
    segments: Counter[str] = field(default_factory=Counter)
    latest: deque[str] = field(default_factory=lambda: deque(maxlen=6))
    letters: dict[str, str] = field(default_factory=dict)
    rates: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=20))
    latencies: list[int] = field(default_factory=list)
    sent_at: dict[tuple[str, int, int], int] = field(default_factory=dict)

    def rate(self) -> float:
        """Return events a second of late."""
        if len(self.rates) < 2:
            return 0.0
        (begin, few), (end, many) = self.rates[0], self.rates[-1]
        return (many - few) / (end - begin) if end > begin else 0.0


class Demo:
    """One run of the demo."""

    def __init__(
        self, *, source: Path | None, rate: float | None, seed: int, currency: str, shift: timedelta, keep: bool
    ) -> None:
        self.source, self.seed, self.currency, self.shift, self.keep = source, seed, currency, shift, keep
        self.rate = (SHOP_RATE if source is None else None) if rate is None else (rate or None)
        self.console = Console(stderr=True, highlight=False)
        self.workers: dict[str, subprocess.Popen[bytes]] = {}  # by the name of their log
        self.learner_http = f"127.0.0.1:{free_port()}"
        self._size: int | None = None

    async def run(self) -> int:
        """Run it; return the exit status."""
        # asked to end, it ends what it has started, too
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, signal.raise_signal, signal.SIGINT)
        folder = Path(tempfile.mkdtemp(prefix="journey-demo-"))
        broker = Embedded(folder)
        try:
            broker.start()
            settings = self._settings(broker)
            self._start_workers(settings, folder)
            return await self._watch(settings, folder)
        finally:
            # a second signal would leave behind what was started
            before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
            end(self.workers.values())
            broker.stop()
            shutil.rmtree(folder, ignore_errors=True)
            for number, handler in before.items():
                signal.signal(number, handler)

    @staticmethod
    def _settings(broker: Embedded) -> Settings:
        told = {
            "JOURNEY_KAFKA_URL": f"127.0.0.1:{broker.kafka_port}",
            "JOURNEY_REDIS_URL": f"redis://127.0.0.1:{broker.redis_port}/0",
            "JOURNEY_PARTITIONS": str(PARTITIONS), "JOURNEY_COMMIT_INTERVAL": "0.25",
        }  # fmt: skip
        return load_settings(told)

    def _start_workers(self, settings: Settings, folder: Path) -> None:
        """Start one worker that folds and one that learns: so neither waits for the other."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("JOURNEY_")}
        environment = {**clean, **environment_of(settings)}
        for name, roles in WORKERS.items():
            environment["JOURNEY_HTTP"] = self.learner_http if roles == "learn" else "127.0.0.1:0"
            with (folder / f"{name}.log").open("wb") as log:
                self.workers[name] = subprocess.Popen(  # noqa: S603  # our own program, no shell
                    [sys.executable, "-m", "streams.cli", "worker", "--roles", roles],
                    stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
                )  # fmt: skip

    def _records(self, seen: Seen, skipped: Counter[str]) -> Iterator[RawRecord]:
        if self.source is None:
            shop = open_shop(seed=self.seed, customers=SHOP_CUSTOMERS, days=SHOP_DAYS)
            seen.total = shop.summary.published
            return iter(shop.records)

        def on_bytes(count: int) -> None:
            seen.read += count

        self._size = self.source.stat().st_size if self.source.exists() else None
        return read_events(self.source, currency=self.currency, shift=self.shift, on_bytes=on_bytes, skipped=skipped)

    async def _watch(self, settings: Settings, folder: Path) -> int:
        seen = Seen(None, "a generated shop" if self.source is None else self.source.name)
        skipped: Counter[str] = Counter()
        records = self._records(seen, skipped)
        async with AsyncExitStack() as stack:
            tasks: list[asyncio.Task[Any]] = []
            if self.console.is_terminal:
                stack.enter_context(
                    Live(console=self.console, refresh_per_second=8, get_renderable=lambda: self._screen(seen))
                )
            else:
                tasks.append(asyncio.ensure_future(self._print_lines(seen)))
            stack.push_async_callback(cancel, tasks)
            await self._until_ready(settings, folder)
            ready = asyncio.Event()
            tasks.append(asyncio.ensure_future(self._follow(settings, seen, ready)))
            await ready.wait()
            tasks.append(asyncio.ensure_future(self._measure(settings, seen)))
            tasks.append(asyncio.ensure_future(self._guard(folder)))
            verdict, seconds = await first_failure(self._publish(settings, seen, records), tasks)
            letters = await inspect.dead_letters(settings)
            seen.now = "done"
        return await self._report(settings, seen, verdict, seconds, len(letters), skipped)

    async def _until_ready(self, settings: Settings, folder: Path) -> None:
        """Return when the worker has made the topics."""
        deadline = time.monotonic() + START_WITHIN
        async with Admin(settings) as admin:
            while time.monotonic() < deadline:
                self._check_worker(folder)
                if len(await admin.partitions()) == len(topics.catalogue(settings)):
                    return
                await asyncio.sleep(0.1)
        msg = "the worker did not start in time"
        raise DemoError(msg)

    def _check_worker(self, folder: Path) -> None:
        for name, worker in self.workers.items():
            if worker.poll() is not None:
                text = (folder / f"{name}.log").read_text(errors="replace")[-1500:]
                msg = f"the {name} ended with status {worker.returncode}:\n{text}"
                raise DemoError(msg)

    async def _guard(self, folder: Path) -> None:
        while True:
            self._check_worker(folder)
            await asyncio.sleep(0.5)

    async def _publish(self, settings: Settings, seen: Seen, records: Iterator[RawRecord]) -> tuple[Verdict, float]:
        last = 0

        def told(record: RawRecord, name: str, number: int, offset: int, timestamp: int) -> None:
            nonlocal last
            seen.sent_at[name, number, offset] = timestamp
            last = max(last, record.at)

        def progressed(sent: int) -> None:
            seen.sent = sent
            seen.rates.append((time.monotonic(), sent))

        async with Publisher(settings, told=told) as publisher:
            await publisher.use_events_clock(START_WITHIN)
            seen.now, seen.begin = "publishing", time.monotonic()
            slice_records = SLICE if self.rate is not None else 2000
            await load(
                publisher, records, clock="events", rate=self.rate, slice_records=slice_records, on_progress=progressed
            )
            seen.now = "waiting for the engine"
            await publisher.wait_taken(DRAIN_WITHIN)
            seen.now = "waiting for the learners"
            await self._until_learned(settings)
            # a week goes by without events: what is still waiting comes due, and is scored with what was learned
            await publisher.control(k="tick", at=max(last, DAY) + WEEK)
            await publisher.wait_taken(DRAIN_WITHIN)
            seconds = time.monotonic() - seen.begin
        seen.now = "replaying the journal and comparing"
        verdict = await verify(settings, within=DRAIN_WITHIN)
        return verdict, seconds

    async def _until_learned(self, settings: Settings) -> None:
        """Return when all samples are learned, and what was learned is adopted."""
        samples, models = settings.topic(topics.SAMPLES), settings.topic(topics.MODELS)
        async with asyncio.timeout(DRAIN_WITHIN), Admin(settings) as admin, consumer(settings) as client:
            tps = await partitions_of(client, samples)
            (published,) = await partitions_of(client, models)
            quiet = 0
            while quiet < LEARNED_LOOKS:  # what is learned is published, and what is published adopted
                ends = await client.end_offsets([*tps, published])
                told = await tell(self.learner_http)
                learned = {} if told is None else told["roles"]["learn"]["families"]
                adopted = await admin.committed(settings.app_id("learn"))
                behind = adopted.get((published.topic, published.partition), 0) < ends[published] or any(
                    learned.get(family, {}).get("next", 0) < ends[tps[number]] for number, family in enumerate(FAMILIES)
                )
                quiet = 0 if behind else quiet + 1
                await asyncio.sleep(0.25)

    async def _follow(self, settings: Settings, seen: Seen, ready: asyncio.Event) -> None:
        names = [topics.TRIGGERS, topics.DEAD_LETTERS]
        letters = settings.topic(topics.DEAD_LETTERS)
        async for record in inspect.follow(settings, names, from_beginning=True, ready=ready):
            body = orjson.loads(record.value)
            if record.topic == letters:
                seen.letters[str(body["source"])] = body["reason"]
                continue
            seen.triggers += 1
            seen.customers.add(body["subject"])
            data = body["data"]
            is_segment = body["type"] == "journey.segment_changed.v1"
            content = data.get("content", {})
            if is_segment or "scores" in data["reason"] or "recommendations" in content:
                seen.by_models += 1
            if is_segment:
                if data["from"]:
                    seen.segments[data["from"]] -= 1
                seen.segments[data["to"]] += 1
            if body["type"] == "journey.stage_changed.v1":
                if data["from"]:
                    seen.stages[data["from"]] -= 1
                seen.stages[data["to"]] += 1
                for cause in data["reason"]["causes"]:
                    topic, number, offset = cause["src"]
                    published = seen.sent_at.get((topic, number, offset))
                    if published is not None:
                        seen.latencies.append(max(0, record.timestamp - published))
                if data["to"] in ("awareness", "interest"):
                    continue
            seen.latest.append(inspect.trigger_line(body))

    async def _measure(self, settings: Settings, seen: Seen) -> None:
        async with Unread(settings) as unread:
            while True:
                seen.lag = await unread.lag()
                await asyncio.sleep(0.5)

    async def _print_lines(self, seen: Seen) -> None:
        """For output that is no terminal: a line now and then."""
        while True:
            self.console.print(
                f"{seen.now}: {seen.sent:,} events, lag {seen.lag:,}, {seen.triggers:,} triggers, "
                f"{len(seen.letters):,} dead letters",
                soft_wrap=True,
            )
            await asyncio.sleep(3)

    def _screen(self, seen: Seen) -> Group:
        total, done = (self._size, seen.read) if self.source is not None else (seen.total, seen.sent)
        bar = ProgressBar(total=total or 1, completed=min(done, total or 1), width=30)
        top = Table.grid(padding=(0, 2))
        top.add_row(f"[bold]{escape(seen.name)}[/]", bar, f"{seen.sent:,} events")
        figures = Text.from_markup(
            f"{seen.rate():,.0f} events/s   lag {seen.lag:,}   {len(seen.customers):,} customers   "
            f"{seen.triggers:,} triggers   {len(seen.letters):,} dead letters"
        )
        stages = Table(*STAGES, box=None, padding=(0, 1), pad_edge=False)
        stages.add_row(*(f"{max(0, seen.stages[name]):,}" for name in STAGES))
        found = [(name, count) for name, count in seen.segments.most_common() if count > 0]
        segments = "  ".join(f"{name} {count:,}" for name, count in found) or "none yet"
        reasons = Counter(seen.letters.values()).most_common(4)
        refused = "refused: " + ", ".join(f"{count} {reason}" for reason, count in reasons) if reasons else ""
        latest = Text("\n").join(Text.from_markup(line, overflow="ellipsis") for line in seen.latest)
        latest.no_wrap = True
        latest.overflow = "ellipsis"
        return Group(
            top, figures, Panel(stages, title="customers by stage", title_align="left"),
            Panel(Text(segments, overflow="ellipsis", no_wrap=True), title="customers by segment, once one is learned",
                  title_align="left"),
            Panel(latest, title="latest triggers", title_align="left", height=8), Text(refused, style="dim"),
            Text(seen.now + " ...", style="italic"),
        )  # fmt: skip

    async def _report(
        self, settings: Settings, seen: Seen, verdict: Verdict, seconds: float, letters: int, skipped: Counter[str]
    ) -> int:
        for name, count in sorted(skipped.items()):
            self.console.print(f"left out of the file: {count:,} x {escape(name)}")
        problems = []
        if not verdict.identical:
            problems.append("the replay differs from the live state")
            for one in verdict.differences[:1]:
                problems += [f"{one.key}: {part}" for part in inspect.differing_parts(one.live, one.replayed)]
        accounted = verdict.events + verdict.duplicates + letters
        if accounted != seen.sent:
            problems.append(f"{seen.sent} events were published, {accounted} are accounted for")
        for problem in problems:
            self.console.print(f"[red]{escape(problem)}[/]")
        ranked = sorted(seen.latencies)
        summary = {
            "events": seen.sent, "accepted": verdict.events, "dead_lettered": letters, "duplicates": verdict.duplicates,
            "customers": verdict.customers, "triggers": verdict.triggers, "seconds": round(seconds, 2),
            "segments": verdict.segments, "labels": verdict.labels,
            "models_adopted": verdict.adoptions, "triggers_by_models": seen.by_models,
            "events_per_second": round(seen.sent / seconds), "p50_ms": percentile(ranked, 50),
            "p99_ms": percentile(ranked, 99), "replay": "identical" if verdict.identical else "different",
        }  # fmt: skip
        if self.keep:
            self._show_how_to_look(settings)
        sys.stdout.write(orjson.dumps(summary).decode() + "\n")
        sys.stdout.flush()
        if self.keep:
            stop = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            await stop.wait()
        return 1 if problems else 0

    def _show_how_to_look(self, settings: Settings) -> None:
        self.console.print("everything is still running; in another terminal:")
        for name, value in environment_of(settings).items():
            self.console.print(f"  export {name}={value}", soft_wrap=True)
        self.console.print(
            "  journey tail --from-beginning, journey customer ID, journey models, journey replay --verify"
        )
        self.console.print("Ctrl-C ends it")


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the environment in which other processes have these settings."""
    return {f"JOURNEY_{name.upper()}": str(value) for name, value in settings.model_dump(exclude_defaults=True).items()}


def percentile(ranked: list[int], percent: int) -> int | None:
    """Return a percentile of ascending numbers (nearest rank); None of nothing."""
    return ranked[min(len(ranked) - 1, max(0, -(-len(ranked) * percent // 100) - 1))] if ranked else None


async def cancel(tasks: list[asyncio.Task[Any]]) -> None:
    """End tasks."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def first_failure(work: Any, others: list[asyncio.Task[Any]]) -> Any:
    """Return what the work gives, or raise as soon as one of the others fails."""
    main = asyncio.ensure_future(work)
    done, _ = await asyncio.wait([main, *others], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        if task is not main:
            await cancel([main])
            task.result()
            msg = "a part of the demo ended early"
            raise DemoError(msg)
    return main.result()
