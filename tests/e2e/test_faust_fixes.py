"""The defects of Faust that show at every run on a real broker, without their correction and with it.

The others come and go there; tests/agents/test_faust_fixes.py shows them all on Faust's own objects.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest

from streams import topics
from tests.conftest import Broker
from tests.harness import Deployment, deployed, view, wall_ms
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def sources(deployment: Deployment) -> list[tuple[object, ...]]:
    """Return the raw record of each entry of the journal."""
    pages = await deployment.records(topics.JOURNAL)
    return [tuple(entry["src"]) for page in pages for entry in orjson.loads(page.value) if "src" in entry]


async def journalled(deployment: Deployment, count: int) -> None:
    """Return when so many different raw records are in the journal."""

    async def are_there() -> bool:
        return len(set(await sources(deployment))) == count

    await eventually(are_there, within_seconds=40)


async def triggers(deployment: Deployment) -> list[str]:
    return [orjson.loads(record.value)["id"] for record in await deployment.records(topics.TRIGGERS)]


async def told(deployment: Deployment, count: int) -> None:
    """Return when that many customers were seen for the first time."""

    async def all_seen() -> bool:
        return len(set(await triggers(deployment))) == count

    await eventually(all_seen, within_seconds=40)


async def repeated(url: str, prefix: str, directory: Path, *planted: str) -> tuple[int, int]:
    """Return how many entries and triggers repeat when a worker joins and another leaves, in order both.

    Nothing is committed meanwhile but by the rebalances and the stop
    themselves. With a defect planted nobody leaves: the join is enough.
    """
    async with deployed(url, prefix, directory, COMMIT_INTERVAL="60", PARTITIONS="2") as deployment:
        begin = wall_ms()
        names = iter(range(10_000))

        async def publish(count: int) -> None:
            await deployment.publish(view(f"m-{n}", f"c-{n}", begin) for _, n in zip(range(count), names, strict=False))

        first = deployment.worker("first", "all", *planted).start()
        await publish(300)
        await journalled(deployment, 300)
        await told(deployment, 300)
        second = deployment.worker("second", "all", *planted).start()
        await asyncio.gather(*(deployment.shared_by(role, 2) for role in ("ingest", "engine")))
        await publish(100)
        await journalled(deployment, 400)
        await told(deployment, 400)
        if planted:
            return await repeats(deployment)
        assert await first.stopped() == 0, first.tail()
        await asyncio.gather(*(deployment.shared_by(role, 1) for role in ("ingest", "engine")))
        await publish(100)
        await journalled(deployment, 500)
        await told(deployment, 500)
        assert await second.stopped() == 0, second.tail()
        return await repeats(deployment)


async def repeats(deployment: Deployment) -> tuple[int, int]:
    entries, ids = await sources(deployment), await triggers(deployment)
    return len(entries) - len(set(entries)), len(ids) - len(set(ids))


async def test_a_planned_rebalance_repeats_nothing(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    stock, ours = await asyncio.gather(
        repeated(kafka.url, f"{prefix}-stock", tmp_path / "stock", "--without", "revoke"),
        repeated(kafka.url, f"{prefix}-ours", tmp_path / "ours"),
    )
    assert stock[0] > 100  # what was acknowledged was not committed, and was read again
    assert ours == (0, 0)


async def committed_after_a_first_chunk_of_one(url: str, prefix: str, directory: Path, *planted: str) -> int:
    """Return what ingest has committed of 101 records in its order, when the first of them came alone."""
    async with deployed(url, prefix, directory, PARTITIONS="1") as deployment:
        begin = wall_ms()
        worker = deployment.worker("ingest", "ingest", *planted).start()
        clicks = (deployment.settings.topic("events.click"), 0)

        async def first_is_committed() -> bool:
            return (await deployment.committed("ingest")).get(clicks, 0) == 1

        await deployment.publish([view("m-0", "1", begin)])
        await eventually(first_is_committed, within_seconds=40)
        await deployment.publish(view(f"m-{number}", "1", begin) for number in range(1, 101))
        await journalled(deployment, 101)
        assert await worker.stopped() == 0, worker.tail()  # a stop commits what was acknowledged
        return (await deployment.committed("ingest"))[clicks]


async def test_chunks_are_committed_whatever_the_first_was(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    stock, ours = await asyncio.gather(
        committed_after_a_first_chunk_of_one(
            kafka.url, f"{prefix}-stock", tmp_path / "stock", "--without", "chunk_commit"
        ),
        committed_after_a_first_chunk_of_one(kafka.url, f"{prefix}-ours", tmp_path / "ours"),
    )
    assert stock == 1
    assert ours == 101
