"""Customers in memory and on disk: killed in the middle, torn, deleted, moved; the state stays the journal folded."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from streams import topics
from streams.logs import end_offsets
from streams.raw import RawRecord
from streams.shop import generate
from tests.conftest import Broker
from tests.harness import NOWHERE, Deployment, Worker, deployed, live, wall_ms
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LOADED = re.compile(r"(\d+) partitions recovered in .* (\d+) records read")


def events() -> Iterator[RawRecord]:
    return live(generate(customers=150, events=6_000), wall_ms())


def loads(worker: Worker) -> list[int]:
    """Return how many records a worker read each time it recovered partitions."""
    found = LOADED.findall(worker.log.read_text(errors="replace")) if worker.log.exists() else []
    return [int(read) for owned, read in found if int(owned)]


async def changelog_length(deployment: Deployment) -> int:
    return sum((await end_offsets(deployment.settings, topics.changelog(deployment.settings))).values())


def torn(folder: Path) -> None:
    """Make a partition's store unreadable."""
    for current in folder.rglob("CURRENT"):
        current.write_text("rubbish")


@pytest.mark.parametrize("store", ["memory", "rocksdb"])
@pytest.mark.parametrize("when", ["before", "acknowledged"])
async def test_an_engine_killed_in_a_write_goes_on_from_what_it_has(
    kafka: Broker, prefix: str, tmp_path: Path, store: str, when: str
) -> None:
    records = events()
    async with deployed(kafka.url, prefix, tmp_path / "logs", REDIS_URL=NOWHERE, STORE=store) as deployment:
        data = tmp_path / "data"
        deployment.worker("ingest", "ingest").start()
        engine = deployment.worker("engine", "engine", INSTANCE_ID="one", DATADIR=str(data))
        engine.start("--append", "8", "--topic", "customers-changelog", "--when", when)
        for _ in range(20):
            await deployment.publish(islice(records, 50))
        assert await engine.ended() == -9
        engine.planted = ()
        engine.start()
        await deployment.at_rest()

        engine.kill()
        before = await changelog_length(deployment)
        engine.start()
        await deployment.publish(islice(records, 500))
        await deployment.at_rest()
        # on disk only the last record of each partition is read again, to know the changelog by
        assert loads(engine)[-1] == (4 if store == "rocksdb" else before)
        found = await deployment.examined()
        assert found.is_exact, found.line()


@pytest.mark.parametrize("harm", ["deleted", "torn"])
async def test_a_store_that_is_gone_or_torn_is_made_anew(kafka: Broker, prefix: str, tmp_path: Path, harm: str) -> None:
    records = events()
    async with deployed(kafka.url, prefix, tmp_path / "logs", REDIS_URL=NOWHERE, STORE="rocksdb") as deployment:
        data = tmp_path / "data"
        deployment.worker("ingest", "ingest").start()
        engine = deployment.worker("engine", "engine", INSTANCE_ID="one", DATADIR=str(data)).start()
        await deployment.publish(islice(records, 1_000))
        await deployment.at_rest()
        engine.kill()
        before = await changelog_length(deployment)
        if harm == "deleted":
            shutil.rmtree(data)
        else:
            torn(data)
        engine.start()
        await deployment.publish(islice(records, 500))
        await deployment.at_rest()
        assert loads(engine)[-1] == before
        assert harm == "deleted" or engine.said("it is made anew from the changelog")
        found = await deployment.examined()
        assert found.is_exact, found.line()


async def test_partitions_that_move_between_workers_catch_up(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    records = events()
    async with deployed(kafka.url, prefix, tmp_path / "logs", REDIS_URL=NOWHERE, STORE="rocksdb") as deployment:
        deployment.worker("ingest", "ingest").start()
        first = deployment.worker("first", "engine", DATADIR=str(tmp_path / "first")).start()
        second = deployment.worker("second", "engine", DATADIR=str(tmp_path / "second"))
        for _ in range(2):
            await deployment.publish(islice(records, 400))
            await deployment.at_rest()
            second.start()
            await deployment.shared_by("engine", 2)
            await deployment.publish(islice(records, 400))
            await deployment.at_rest()
            assert await second.stopped() == 0, second.tail()
        await deployment.at_rest()
        assert not first.said("anew")
        assert not second.said("anew")
        found = await deployment.examined()
        assert found.is_exact, found.line()


async def test_a_second_worker_on_the_same_folder_is_refused(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    told = {"REDIS_URL": NOWHERE, "STORE": "rocksdb", "DATADIR": str(tmp_path / "data")}
    async with deployed(kafka.url, prefix, tmp_path / "logs", **told) as deployment:
        first = deployment.worker("first", "engine").start()
        await eventually(lambda: bool(loads(first)), within_seconds=40)
        second = deployment.worker("second", "engine").start()
        assert await second.ended() == 2
        assert second.said("another worker uses the store in")
        assert first.is_running


async def test_a_load_that_outlasts_the_session_keeps_the_membership(
    kafka: Broker, prefix: str, tmp_path: Path
) -> None:
    records = events()
    told = {"REDIS_URL": NOWHERE, "SESSION_TIMEOUT": "2"}
    async with deployed(kafka.url, prefix, tmp_path / "logs", **told) as deployment:
        deployment.worker("ingest", "ingest").start()
        await deployment.publish(islice(records, 500))
        engine = deployment.worker("engine", "engine").start("--slow-load", "6")
        await eventually(lambda: engine.said("slow load begins"), within_seconds=40)
        await eventually(lambda: engine.said("slow load ends"), within_seconds=40)
        await deployment.at_rest()
        # had the group given the worker up, it would have been given its partitions, and loaded, a second time
        assert engine.log.read_text().count("slow load begins") == 1
        found = await deployment.examined()
        assert found.is_exact, found.line()
