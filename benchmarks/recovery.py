"""How fast a worker has its customers back: the load alone, and a worker from ``kill -9`` to its first new page.

::

    python -m benchmarks.recovery --customers 1000000 --stores memory,rocksdb

Records are of real customers (a day of a shop, folded), under other keys. Each
measurement runs in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import orjson
import uvloop

from benchmarks import traffic
from benchmarks.processes import Process, cpu_seconds, peak_mib, until
from journey.engine import Shard, fold
from journey.entries import encode
from journey.ids import route
from journey.state import new_partition, partition_key
from streams import topics
from streams.app import open_store
from streams.appends import Log
from streams.customers import Customers
from streams.logs import end_offsets
from streams.records import parse_events
from streams.recovery import Recovery
from streams.settings import Settings, load
from streams.topics import Admin
from tests.servers import KafkaServer

MODELS: Final = 1_000  # customers that are folded; the others are like them
EVENTS_EACH: Final = 12  # most of one customer: gives records of some 1.2 KB
AT_ONCE: Final = 20_000  # records laid out at a time
WORKER: Final = "from streams.cli import main; main()"
LOADER: Final = "from benchmarks.recovery import load_here; load_here()"
WITHIN: Final = 150.0
SESSION: Final = 6.0  # s, of the worker that is killed


def models(now: int) -> list[tuple[bytes, bytes]]:
    """Return (what comes before, what comes after) the key in the records of folded customers."""
    events = traffic.generate(MODELS * traffic.EVENTS_PER_CUSTOMER, until=now)
    shard = Shard(0, lambda _key: None, ())
    told_of = Counter[bytes]()
    for offset, one in enumerate(events):
        told_of[one.key] += 1
        if told_of[one.key] > EVENTS_EACH:
            continue
        record: Any = SimpleNamespace(partition=0, offset=offset, timestamp=now, headers=(), **vars_of(one))
        (parsed,) = parse_events(one.topic.rpartition(".")[2], [record], 1)
        entries = [orjson.loads(entry) for _, entry in parsed.entries]
        fold(shard, shard.partition["at"] + 1, entries)
    made = []
    for key, value in shard.changes()[:-1]:
        told = orjson.loads(value)
        told["at"] = 0
        before, after = encode(told).split(b'"key":"' + key + b'"')
        made.append((before, after))
    return made


def vars_of(record: Any) -> dict[str, Any]:
    """Return the fields of a raw record that its consumer sees."""
    return {"topic": record.topic, "key": record.key, "value": record.value}


def customers(count: int, now: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield so many customer records."""
    like = models(now)
    for number in range(count):
        before, after = like[number % len(like)]
        key = b"u:%d" % (1_000_000 + number)
        yield key, before + b'"key":"' + key + b'"' + after


async def lay_out(settings: Settings, count: int) -> float:
    """Fill the changelog and put one page into each journal partition; return the mean bytes of a record."""
    async with Admin(settings) as admin:
        await admin.ensure()
    log = await Log(settings.kafka_url, settings.batch_bytes).start()
    now, size = time.time_ns() // 1_000_000, 0
    made = customers(count, now)
    while some := list(islice(made, AT_ONCE)):
        by_partition: dict[int, list[tuple[bytes | None, bytes]]] = {}
        for key, value in some:
            by_partition.setdefault(route(key.decode(), settings.partitions), []).append((key, value))
            size += len(value)
        await log.append_all(topics.changelog(settings), by_partition)
    for number in range(settings.partitions):
        await tick(log, settings, number, now)
        record = (partition_key(number), encode({**new_partition(), "at": 0, "now": now}))
        await log.append(topics.changelog(settings), number, [record])
    await log.stop()
    return size / count


async def tick(log: Log, settings: Settings, number: int, at: int) -> None:
    """Append a page that only moves time."""
    page = orjson.dumps([{"k": "tick", "at": at}])
    await log.append(settings.topic(topics.JOURNAL), number, [(None, page)], (("v", b"1"),))


def load_here() -> None:
    """Load everything in this process, as a worker does, and print what it took."""
    settings = load()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    before = peak_mib(os.getpid())
    begin, cpu = time.perf_counter(), time.process_time()
    recovery = Recovery(settings, Customers(open_store(settings), topics.changelog(settings)))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(recovery.load(range(settings.partitions)))
    told = {
        "records": recovery.records, "seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu,
        "mib": peak_mib(os.getpid()) - before,
    }  # fmt: skip
    print(orjson.dumps(told).decode())


@dataclass
class Bench:
    """One filled changelog, and the measurements on it."""

    settings: Settings
    directory: Path
    count: int

    def environment(self, store: str) -> dict[str, str]:
        """Return what a process is told."""
        told = self.settings.model_dump(exclude={"instance_id", "redis_url"}) | {
            "store": store, "instance_id": "bench", "redis_url": "", "datadir": str(self.directory / "data"),
        }  # fmt: skip
        return {f"JOURNEY_{name.upper()}": str(value) for name, value in told.items()}

    async def load(self, name: str, store: str) -> None:
        """Measure a load."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("JOURNEY_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", LOADER, env=inherited | self.environment(store), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, "the load failed"
        told = orjson.loads(out)
        say(
            f"{name:<28} {told['seconds']:6.2f} s  {told['records'] / told['seconds']:>9,.0f} records/s  "
            f"{told['cpu'] / self.count * 1e6:5.1f} us CPU a customer  {told['mib']:,.0f} MiB more, "
            f"{told['mib'] * (1 << 20) / self.count:,.0f} bytes a customer"
        )
        if store == "rocksdb":
            size = sum(file.stat().st_size for file in (self.directory / "data").rglob("*") if file.is_file())
            say(f"{'':<28} {size / self.count:,.0f} bytes a customer on disk")

    async def restart(self, store: str) -> None:
        """Measure a worker from its start to the first page it folds: new, then after a kill."""
        log = await Log(self.settings.kafka_url, self.settings.batch_bytes).start()
        name = topics.changelog(self.settings)
        for what in ("a new worker", "the same, after kill -9"):
            await tick(log, self.settings, 0, time.time_ns() // 1_000_000)
            before = (await end_offsets(self.settings, name))[0]
            begin = time.perf_counter()
            with Process("engine", ["-c", WORKER, "worker", "--roles", "engine"], self.environment(store),
                         self.directory) as worker:  # fmt: skip

                async def folded(before: int = before, worker: Process = worker) -> bool:
                    return worker.pid > 0 and (await end_offsets(self.settings, name))[0] > before

                await until(folded, within=WITHIN, every=0.05)
                seconds = time.perf_counter() - begin
                say(
                    f"{store + ': ' + what:<34} {seconds:6.2f} s from start to its first page, "
                    f"{cpu_seconds(worker.pid):5.1f} s CPU, {peak_mib(worker.pid):,.0f} MiB"
                )
                os.kill(worker.pid, signal.SIGKILL)
        await log.stop()


def say(text: str) -> None:
    """Print a line now."""
    print(text, flush=True)


async def measure(settings: Settings, directory: Path, told: argparse.Namespace) -> None:
    """Measure everything, one after the other."""
    size = await lay_out(settings, told.customers)
    say(f"{told.customers:,} customers of {size:,.0f} bytes in {settings.partitions} partitions")
    for store in told.stores.split(","):
        bench = Bench(settings, directory / store, told.customers)
        bench.directory.mkdir()
        if not told.only_restart:
            await bench.load(f"{store}: load", store)
            if store == "rocksdb":
                await bench.load(f"{store}: load what is new", store)
        await bench.restart(store)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description=__doc__)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--stores", default="memory,rocksdb")
    parser.add_argument("--only-restart", action="store_true", help="leave out the loads by themselves")
    told = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="journey-recovery-") as name, KafkaServer(Path(name) / "kafka") as server:
        settings = Settings(kafka_url=server.url, redis_url="", session_timeout=SESSION)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(measure(settings, Path(name), told))


if __name__ == "__main__":
    main()
