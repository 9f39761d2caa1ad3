"""The benchmarks. Nothing here asserts a time; that a replay is identical is asserted."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
import uvloop
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks import engine_run, latency, learning, peers, plain_faust, profiles, report, soak, traffic
from benchmarks.engine_run import EngineRun
from benchmarks.processes import ROOT, Meter, Process, until
from streams import topics
from streams.appends import Log
from streams.collector import calm
from streams.errors import TopicConflictError
from streams.logs import end_offsets, read_all
from streams.raw import RawRecord
from streams.replay import replay, verify
from streams.settings import Settings
from tests.servers import KafkaServer, RedisServer

EVENTS: Final = 500_000
QUICK: Final = 30_000
FAUST_SHARE: Final = 50  # a plain Faust application gets one event of so many: it is slow
QUIX_SHARE: Final = 5
WIDE_SHARE: Final = 5
REDIS_MOST: Final = 50_000
PROFILED: Final = 30_000
RAW_ROUNDS: Final = 3
ROUNDS: Final = 3  # of the engine: the median is shown


@dataclass
class Bench:
    """One run of everything on one broker."""

    url: str
    broker: int | None  # process id, None when it is not ours
    prefix: str
    directory: Path
    records: Sequence[RawRecord]

    def settings(self, name: str, redis_url: str = "") -> Settings:
        """Return the settings of a deployment of its own."""
        prefix = f"{self.prefix}{name}."
        return Settings(
            kafka_url=self.url, redis_url=redis_url, topic_prefix=prefix, session_timeout=engine_run.SESSION
        )

    async def engine(self, name: str, records: Sequence[RawRecord], redis_url: str = "") -> EngineRun:
        """Measure the journey engine."""
        return await engine_run.run(self.settings(name, redis_url), records, self.directory, broker=self.broker)

    async def raw_loop(self, settings: Settings) -> list[report.Loop]:
        """Measure a plain consumer loop over the raw topics of a deployment, some times."""
        names = [settings.topic(name) for name in topics.RAW]
        out = f"{self.prefix}copy"
        await self._create(out)
        loops = []
        for _ in range(RAW_ROUNDS):
            arguments = ["-m", "benchmarks.raw_loop", self.url, out, str(len(self.records)), *names]
            process = await asyncio.create_subprocess_exec(
                report.PYTHON, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
            )
            told, _ = await process.communicate()
            if process.returncode != 0:
                raise SystemExit("the raw loop failed")
            loops.append(report.Loop(**orjson.loads(told)))
        return loops

    async def plain_faust(self, records: Sequence[RawRecord]) -> report.Loop:
        """Measure a plain Faust application over some of the events."""
        name = f"{self.prefix}faust".replace(".", "-")
        for topic in (plain_faust.source(name), plain_faust.triggers(name)):
            await self._create(topic)
        settings = self.settings("faust")
        warm = min(len(records) // 10, 500)
        log = await Log(self.url, settings.batch_bytes).start()
        environment = {"PLAIN_FAUST_URL": self.url, "PLAIN_FAUST_NAME": name}
        arguments = ["-m", "benchmarks.plain_faust", "-L", "uvloop", "worker", "-l", "warn", "--without-web"]

        async def load(some: Sequence[RawRecord]) -> None:
            by_partition: dict[int, list[tuple[bytes | None, bytes]]] = {}
            for record in some:
                number = sum(record.key) % plain_faust.PARTITIONS
                by_partition.setdefault(number, []).append((record.key, record.value))
            await log.append_all(plain_faust.source(name), by_partition)

        with Process("plain-faust", arguments, environment, self.directory) as worker:
            pids = {"faust": lambda: worker.pid}

            async def wait(meter: Meter, written: int) -> int:
                async def done() -> bool:
                    meter.check()
                    try:
                        ends = await end_offsets(settings, plain_faust.changelog(name))
                    except TopicConflictError:  # not there yet
                        return False
                    return sum(ends.values()) >= written

                await until(done, within=engine_run.WITHIN)
                return time.time_ns() // 1_000_000

            async with Meter(pids) as meter:
                await load(records[:warm])
                await wait(meter, warm)
            worker.freeze()
            await load(records[warm:])
            async with Meter(pids) as meter:
                worker.thaw()
                end = await wait(meter, len(records))
                used = meter.used("faust", end)
        await log.stop()
        return report.Loop(len(records) - warm, (end - meter.begin) / 1000, used)

    async def _create(self, name: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.url)
        await admin.start()
        await admin.create_topics([NewTopic(name, plain_faust.PARTITIONS, 1)])
        await admin.close()

    async def clean(self) -> None:
        """Delete what was made on a broker that is not ours."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.url)
        await admin.start()
        mine = [name for name in await admin.list_topics() if name.startswith((self.prefix, self.prefix[:-1] + "-"))]
        await admin.delete_topics(mine)
        await admin.close()


@contextmanager
def broker(directory: Path) -> Iterator[tuple[str, int | None, str]]:
    """Yield a broker's address, its process id if it is ours, and its version."""
    if url := os.environ.get("JOURNEY_KAFKA_URL"):
        yield url, None, "of JOURNEY_KAFKA_URL"
        return
    with KafkaServer(directory / "kafka") as server:
        yield server.url, server.pid, report.kafka_version()


async def measure(bench: Bench, redis_url: str | None) -> report.Figures:
    """Measure everything, one after the other."""
    say = report.say
    runs = []
    for number in range(ROUNDS):
        say(f"journey engine: {len(bench.records):,} events, run {number + 1} of {ROUNDS}")
        runs.append((await bench.engine(f"wall{number}", bench.records), bench.settings(f"wall{number}")))
    runs.sort(key=lambda one: one[0].us("ingest") + one[0].us("engine"))
    run, settings = runs[ROUNDS // 2]
    spread = (runs[0][0], runs[-1][0])
    del runs
    say(f"journey engine with all models: {len(bench.records):,} events, {learning.RUNS} runs")
    with_models = await learning.measure(bench.settings("models"), bench.records, bench.directory, bench.broker)
    say("raw loop")
    loops = await bench.raw_loop(settings)
    say("replay and verify")
    calm()  # as the command does
    begin, cpu = time.perf_counter(), time.process_time()
    folded = await replay(settings)
    entries = sum(one.entries for one in folded.values())
    replayed = report.Loop(entries, time.perf_counter() - begin, time.process_time() - cpu)
    del folded
    verdict = await verify(settings)
    assert verdict.identical, verdict.shown()
    few = bench.records[: max(len(bench.records) // FAUST_SHARE, 1_000)]
    say(f"plain Faust: {len(few):,} events")
    faust = await bench.plain_faust(few)
    some = bench.records[: max(len(bench.records) // QUIX_SHARE, 1_000)]
    say(f"Quix Streams: {len(some):,} events")
    quix: report.Loop | str
    try:
        quix = await peers.quix(bench.settings("quix"), some, bench.directory)
    except peers.NoPeerError as error:
        quix = str(error)
    spread_out = traffic.wide(max(len(bench.records) // WIDE_SHARE, 5_000), until=time.time_ns() // 1_000_000)
    say(f"wide traffic: {len(spread_out):,} events")
    wide = await bench.engine("wide", spread_out)
    with_redis = None
    if redis_url is not None:
        some = bench.records[:REDIS_MOST]
        say(f"journey engine with Redis: {len(some):,} events")
        with_redis = await bench.engine("redis", some, redis_url)
    say("profiles")
    consumed = []
    for name in topics.RAW:
        share = PROFILED * sum(record.topic == name for record in bench.records) // len(bench.records)
        async for record in read_all(settings, settings.topic(name)):
            if share <= 0:
                break
            consumed.append(record)
            share -= 1
    ingest = profiles.of_ingest(consumed, settings.partitions, settings.chunk_records, settings.page_entries)
    engine = profiles.of_engine(run.pages, 0, max(1, round(len(run.pages) / run.groups)))
    return report.Figures(
        run=run, spread=spread, loops=loops, faust=faust, quix=quix, wide=wide, replay=replayed, verdict=verdict,
        with_models=with_models, with_redis=with_redis, ingest=ingest, engine=engine,
        bytes_per_event=statistics.mean(len(record.value) for record in bench.records),
        customers=len({record.key for record in bench.records}),
    )  # fmt: skip


async def measure_latency(bench: Bench, told: argparse.Namespace) -> dict[str, object]:
    """Measure latencies at some rates, and show them."""
    rates = [float(rate) for rate in told.rates.split(",")]
    found, idle = await latency.measure(bench.settings(""), bench.directory, rates, told.seconds, latency.SETTINGS)
    return latency.show(found, idle)


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS, help=f"how many events (default {EVENTS:,})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} events: a look, not a measurement")
    parts = parser.add_subparsers(dest="part", title="instead of the backlog")
    of = parts.add_parser("latency", help="event to trigger at steady rates, and what idle workers cost")
    of.add_argument("--rates", default="200,50,1000", help="events a second, comma-separated")
    of.add_argument("--seconds", type=float, default=latency.SECONDS, help="of each rate and each hop")
    of = parts.add_parser("soak", help="steady traffic for a long while: does anything grow?")
    of.add_argument("--minutes", type=float, default=45, help="how long")
    of.add_argument("--rate", type=float, default=500, help="events a second")
    of.add_argument("--picture", type=Path, help="where to write the picture (SVG)")
    parts.add_parser("learning", help="with all models on: scores, samples, adoptions")
    told = parser.parse_args()
    if told.quick:
        told.events = QUICK
    if told.events < 5_000:
        parser.error("at least 5,000 events")
    return told


def main() -> None:
    """Run the benchmarks."""
    told = arguments()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # new topics: it tries again, and says so each time
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="journey-bench-") as name, ExitStack() as ending:
        directory = Path(name)
        url, pid, version = ending.enter_context(broker(directory))
        now = time.time_ns() // 1_000_000
        bench = Bench(url, pid, f"bench-{now}.", directory, [])
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                if told.part == "latency":
                    print(orjson.dumps(runner.run(measure_latency(bench, told))).decode())
                    return
                if told.part == "soak":
                    soaked = runner.run(soak.run(bench.settings("soak"), directory, told.rate, told.minutes))
                    figures_of_it = soak.show(soaked)
                    if told.picture is not None:
                        told.picture.write_text(soaked.drawn())
                    print(orjson.dumps(figures_of_it).decode())
                    return
                if told.part == "learning":
                    bench.records = traffic.generate(told.events, until=now)
                    settings = bench.settings("learning")
                    found = runner.run(learning.measure(settings, bench.records, directory, pid))
                    print(orjson.dumps(learning.show(found)).decode())
                    return
                redis_url = None
                if shutil.which("redis-server") is not None:
                    redis_url = ending.enter_context(RedisServer(directory / "redis")).url
                report.say(f"generating {told.events:,} events")
                bench.records = traffic.generate(told.events, until=now)
                figures = runner.run(measure(bench, redis_url))
            finally:
                if pid is None:
                    runner.run(bench.clean())
    report.show(figures, version, time.monotonic() - begin)


if __name__ == "__main__":
    main()
