"""``make chaos``: rounds of faults for so many minutes. Ends by itself; status 1 when a round was not exact.

Which faults come in which order, and at which append, follows from the seed;
what the machine does meanwhile does not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import orjson
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams import topics
from streams.logs import end_offsets, read_all
from streams.shop import generate
from tests.chaos.faults import SCENARIOS, Chaos
from tests.harness import SMALL, Chance, Deployment, deployed, elapsed, live, wall_ms
from tests.servers import KafkaServer, RedisServer

ORDER: Final = ("workers", "broker", "three brokers", "compaction")
FAULTS_SECONDS: Final = 45.0  # of a round; the last fault is finished, then everything comes to rest
REST_SECONDS: Final = 120.0
SLICE: Final = 40
QUARTER: Final = 900_000  # ms by which journal time moves on with each tick of the publisher
SMALL_LOGS: Final = {
    "cleanup.policy": "compact", "segment.bytes": "1048576", "segment.ms": "2000", "min.cleanable.dirty.ratio": "0.01",
    "min.compaction.lag.ms": "3000", "max.compaction.lag.ms": "6000", "message.timestamp.type": "LogAppendTime",
}  # fmt: skip


@contextmanager
def brokers(count: int, directory: Path) -> Iterator[list[KafkaServer]]:
    """Run a broker, or a cluster of three that keeps working without one."""
    quick = {"log.cleaner.backoff.ms": 1000, "log.initial.task.delay.ms": 500}
    servers = [KafkaServer(directory / f"kafka-{number}", heap_mb=384, properties=quick) for number in range(count)]
    if count > 1:
        controllers = [str(one.properties["listeners"]).rpartition("CONTROLLER://")[2] for one in servers]
        voters = ",".join(f"{number}@{where}" for number, where in enumerate(controllers, 1))
        for number, server in enumerate(servers, 1):
            server.properties |= {
                "node.id": number, "controller.quorum.voters": voters, "offsets.topic.replication.factor": count,
                "default.replication.factor": count, "min.insync.replicas": 2,
            }  # fmt: skip
    try:
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(KafkaServer.start, servers))
        yield servers
    finally:
        for server in servers:
            server.kill()


async def publish(deployment: Deployment, seed: str, done: asyncio.Event) -> None:
    """Publish a shop as if it happened now; journal time runs ahead, so that timers fire all along.

    What a broken broker did not acknowledge may lie there or not: the oracle reads what does.
    """
    begin, sent = wall_ms(), 0
    records = live(cycle(tuple(generate(seed=len(seed), customers=300, events=6_000))), begin)
    while not done.is_set():
        with contextlib.suppress(Exception):
            sent += await deployment.publish(islice(records, SLICE))
            if sent % (SLICE * 10) == 0:
                await deployment.publisher.control(k="tick", at=begin + sent // SLICE * QUARTER // 10)
        await elapsed(0.25)


async def compacts_soon(deployment: Deployment) -> None:
    """Let the broker compact the customers' changelog within seconds."""
    name = topics.changelog(deployment.settings)
    client = AIOKafkaAdminClient(bootstrap_servers=deployment.settings.kafka_url)
    await client.start()
    try:
        for answer in await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=SMALL_LOGS)]):
            for code, message, *_ in answer.resources:
                if code:
                    raise RuntimeError(f"{name} keeps its settings: {message}")
    finally:
        await client.close()


async def compacted(deployment: Deployment) -> int:
    """Return how many records of the customers' changelog are gone."""
    name = topics.changelog(deployment.settings)
    ends = await end_offsets(deployment.settings, name)
    return sum(ends.values()) - len([record async for record in read_all(deployment.settings, name)])


def look(directory: Path) -> None:
    """Run the brokers of a kept round until Ctrl-C, for whoever wants to see what is in their topics."""
    with brokers(len(list(directory.glob("kafka-*"))), directory) as servers:
        url = ",".join(server.url for server in servers)
        sys.stdout.write(
            f"export JOURNEY_KAFKA_URL={url} JOURNEY_TOPIC_PREFIX=chaos. JOURNEY_PARTITIONS={SMALL['PARTITIONS']} "
            "JOURNEY_REDIS_URL=\njourney replay\n"
        )
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


async def run_round(scenario: str, seed: str, directory: Path) -> dict[str, Any]:
    """Run one round; return its line."""
    begin = time.monotonic()
    count = 3 if scenario == "three brokers" else 1
    with brokers(count, directory) as servers, RedisServer(directory / "redis") as redis:
        url = ",".join(server.url for server in servers)
        told = {"REDIS_URL": redis.url, "REPLICATION": str(count)}
        async with deployed(url, "chaos", directory / "logs", **told) as deployment:
            if scenario == "compaction":
                await compacts_soon(deployment)
            chaos = Chaos(deployment, servers, redis, Chance(seed, scenario))
            chaos.start()
            done = asyncio.Event()
            publishing = asyncio.ensure_future(publish(deployment, seed, done))
            supervising = asyncio.ensure_future(chaos.supervise())
            try:
                faults = cycle(SCENARIOS[scenario])
                await elapsed(5)
                while time.monotonic() - begin < FAULTS_SECONDS or not chaos.happened:
                    await next(faults)(chaos)
                    await elapsed(chaos.chance.between(0.2, 2.0))
                done.set()
                await publishing
                await deployment.at_rest(within_seconds=REST_SECONDS)
            finally:
                done.set()
                supervising.cancel()
                await asyncio.gather(publishing, supervising, return_exceptions=True)
            async with deployment.supervised():
                found = await deployment.examined(within_seconds=REST_SECONDS)
            if scenario == "compaction":
                chaos.happened["records compacted away"] = await compacted(deployment)
                found.expect("rounds without compaction", [] if chaos.happened["records compacted away"] else [seed])
            return {
                "scenario": scenario, "seed": seed, "exact": found.is_exact, "happened": dict(chaos.happened),
                "ended": dict(chaos.ended), **found.figures, "faults": found.faults,
                "seconds": round(time.monotonic() - begin, 1),
            }  # fmt: skip


def tell(line: dict[str, Any]) -> None:
    """Print a line of JSON."""
    sys.stdout.write(orjson.dumps(line).decode() + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run rounds until the time is over."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="no round begins that would end later")
    parser.add_argument("--seed", default="1", help="of the first round; the others follow from it")
    parser.add_argument("--scenario", choices=ORDER, help="this one alone")
    parser.add_argument("--look", type=Path, help="run the brokers of a round that failed, and nothing else")
    asked = parser.parse_args()
    if asked.look is not None:
        look(asked.look)
        return 0
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    begin, longest, number = time.monotonic(), 0.0, 0
    happened: Counter[str] = Counter()
    failed: list[str] = []
    while number == 0 or time.monotonic() - begin + longest < asked.minutes * 60:
        scenario = asked.scenario or ORDER[number % len(ORDER)]
        seed = f"{asked.seed}.{number}" if number else asked.seed
        number += 1
        directory = Path(tempfile.mkdtemp(prefix="journey-chaos-"))
        started = time.monotonic()
        try:
            line = asyncio.run(run_round(scenario, seed, directory))
        except Exception as error:  # whatever it was, the round failed, and the others go on
            line = {"scenario": scenario, "seed": seed, "exact": False, "error": f"{type(error).__name__}: {error}"}
        longest = max(longest, time.monotonic() - started)
        tell(line)
        happened.update(line.get("happened", {}))
        if line["exact"]:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            failed.append(seed)
            sys.stderr.write(
                f"round {seed} ({scenario}) failed: logs and the broker's data are in {directory}\n"
                f'  look at its topics: make chaos ARGS="--look {directory}"\n'
                f"  again: make chaos ARGS=\"--scenario '{scenario}' --seed {seed} --minutes 0\"\n"
            )
    tell({
        "rounds": number, "exact": number - len(failed), "failed": failed, "happened": dict(sorted(happened.items())),
        "seconds": round(time.monotonic() - begin),
    })  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
