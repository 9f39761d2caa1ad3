"""What operators see of running workers."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from rich.console import Console

from streams.cli_ops import show
from streams.doctor import examine
from streams.raw import RawRecord
from streams.settings import Settings
from streams.status import status
from tests.conftest import Broker
from tests.harness import NOWHERE, STOPPED, Worker, deployed, view, wall_ms
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def fetched(worker: Worker, path: str) -> bytes:
    """Return what a worker answers; its log says where it is to be asked."""
    address = re.findall(r"asked at (\S+)", worker.tail())[-1]

    def get() -> bytes:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:  # ours, by http
            body: bytes = answer.read()
            return body

    return await asyncio.to_thread(get)


async def test_a_worker_tells_what_it_did(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    now = wall_ms()
    good = [view(f"m-{number}", f"user-{number % 7}", now + number) for number in range(100)]
    bad = RawRecord("events.click", b"u:1", b"not json", now)
    async with deployed(kafka.url, prefix, tmp_path) as deployment:
        worker = deployment.worker("one")
        worker.start()
        await deployment.publish([*good, bad])
        await deployment.at_rest()

        async def done() -> bool:
            told: dict[str, Any] = orjson.loads(await fetched(worker, "/status"))
            return told["ready"] and not any(sum(role["lag"].values()) for role in told["roles"].values())

        await eventually(done)
        roles = orjson.loads(await fetched(worker, "/status"))["roles"]
        assert roles["ingest"]["counts"]["events"] == 101
        assert list(roles["ingest"]["dead_letters"].values()) == [1]
        assert roles["engine"]["counts"]["events"] == 100
        assert roles["engine"]["table_records"] >= 7
        assert {tp.rpartition("/")[0] for tp in roles["engine"]["lag"]} == {
            deployment.settings.topic("journey.journal")
        }
        assert all(seconds > 0 for seconds in roles["ingest"]["seconds"].values())
        assert roles["engine"]["seconds"]["fold"] > 0
        assert b'journey_events_total{role="engine"} 100.0' in await fetched(worker, "/metrics")
        assert await fetched(worker, "/ready") == b"ready\n"

        seen = await status(deployment.settings, wall_ms())
        ((address, answer),) = seen["workers"].items()
        assert answer is not None
        assert answer["ready"]
        assert {name: len(role["members"]) for name, role in seen["roles"].items()} == {
            "ingest": 1, "engine": 1, "learn": 0,
        }  # fmt: skip
        (member,) = seen["roles"]["engine"]["members"]
        assert member["address"] == address
        assert member["partitions"][deployment.settings.topic("journey.journal")] == [0, 1, 2, 3]
        console = Console(width=80, file=StringIO())
        show(console, seen)
        assert f"{address}: ready" in console.file.getvalue()  # type: ignore[attr-defined]

        await deployment.stopped()
        seen = await status(deployment.settings, wall_ms())
        assert not any(role["members"] for role in seen["roles"].values())


async def test_the_doctor_finds_nothing_where_all_is_well_and_says_what_is_not(
    kafka: Broker, prefix: str, tmp_path: Path
) -> None:
    async with deployed(kafka.url, prefix, tmp_path, MODEL_KEY="a key of the tests") as deployment:
        worker = deployment.worker("one", "all")
        worker.start()
        await deployment.publish([view(f"m-{number}", "user-1", wall_ms()) for number in range(20)])
        await deployment.at_rest()
        sound = await examine(deployment.settings, wall_ms())
        assert [one for one in sound if one.level != "ok" and "compiled" not in one.what] == []
        assert any("1 answer and are ready" in one.what for one in sound)
        await deployment.stopped()
        client = AIOKafkaAdminClient(bootstrap_servers=kafka.url)
        await client.start()
        try:
            name = deployment.settings.topic
            await client.create_partitions({name("events.cart"): NewPartitions(6)})
            for topic, differs in (
                ("events.click", {"message.timestamp.type": "CreateTime"}),
                ("journey.journal", {"retention.ms": "1000", "message.timestamp.type": "LogAppendTime"}),
            ):  # fmt: skip
                await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name(topic), differs)])
        finally:
            await client.close()
        ill = deployment.settings.model_copy(update={"redis_url": NOWHERE, "replication": 3})
        told = " | ".join(f"{one.level}: {one.what} -> {one.todo}" for one in await examine(ill, wall_ms()))
        for expected in (
            "fault: broker: JOURNEY_REPLICATION=3, of brokers there are 1",
            "fault: " + name("events.click") + ": message.timestamp.type=CreateTime",
            "fault: " + name("journey.journal") + ": retention.ms=1000",
            "warning: topics: different partition counts",
            "warning: ingest: no worker", "warning: Redis: no answer",
        ):  # fmt: skip
            assert expected in told
    away = Settings(kafka_url="127.0.0.1:9", redis_url="", topic_prefix=f"{prefix}.")
    found = [one for one in await examine(away, wall_ms()) if one.level == "fault"]
    assert [one.what.startswith("the broker: no Kafka broker answers at 127.0.0.1:9") for one in found] == [True]


async def test_a_worker_that_is_stuck_ends_and_its_successor_goes_on(
    kafka: Broker, prefix: str, tmp_path: Path
) -> None:
    async with deployed(kafka.url, prefix, tmp_path, STUCK_AFTER="4") as deployment:
        hanging = ("--append", "2", "--topic", "customers-changelog", "--signal", "HANG")
        worker = deployment.worker("one").start(*hanging)
        for number in range(20):
            await deployment.publish([view(f"m-{number}", f"user-{number}", wall_ms())])
        assert await worker.ended(within_seconds=60) == STOPPED
        assert worker.said("StuckError: engine has done nothing for ")
        assert worker.said("records wait")
        assert worker.said("customers.py:")
        deployment.worker("successor", STUCK_AFTER="60").start()
        finding = await deployment.examined()
        assert finding.is_exact, finding.faults
