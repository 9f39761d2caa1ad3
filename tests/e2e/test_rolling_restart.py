"""Workers are replaced one after the other while events keep coming: nothing is done twice, and little waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest

from streams import topics
from tests.conftest import Broker
from tests.e2e.test_operations import fetched
from tests.harness import Deployment, Worker, deployed, elapsed, told, wall_ms
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

USERS = 40


async def publish(deployment: Deployment) -> None:
    """Publish until it is cancelled: views, now and then an order, of some users."""
    for number in count():
        user = f"user-{number % USERS}"
        if number % 9 == 8:
            record = told("purchase.order_completed", f"m-{number}", user, at=wall_ms(), order_id=f"o-{number}")
        else:
            record = told("click.page_viewed", f"m-{number}", user, at=wall_ms())
        await deployment.publish([record])
        await elapsed(0.002)


async def roles_of(worker: Worker) -> dict[str, Any]:
    """Return what a worker tells of its roles; {} while it does not answer yet."""
    with contextlib.suppress(OSError, IndexError):
        answer: dict[str, Any] = orjson.loads(await fetched(worker, "/status"))
        return dict(answer["roles"])
    return {}


async def answered(worker: Worker) -> dict[str, Any]:
    """Return what a worker tells of its roles, once it answers."""
    roles: dict[str, Any] = {}

    async def answers() -> bool:
        roles.update(await roles_of(worker))
        return bool(roles)

    await eventually(answers, within_seconds=40)
    return roles


def counted(what: str, roles: dict[str, Any]) -> Counter[str]:
    """Return a count of each role."""
    return Counter({name: role["counts"].get(what, 0) for name, role in roles.items()})


def rebalances(roles: dict[str, Any]) -> dict[str, int]:
    """Return how often the partitions of each role were assigned."""
    return {name: role["rebalances"] for name, role in roles.items()}


async def at_work(worker: Worker) -> None:
    """Return when a worker has done something in both roles since its start."""

    async def works() -> bool:
        roles = await roles_of(worker)
        return bool(roles) and all(role["ready"] and role["counts"]["events"] > 0 for role in roles.values())

    await eventually(works, within_seconds=60)


async def test_a_rolling_restart_does_nothing_twice(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with deployed(kafka.url, prefix, tmp_path, SESSION_TIMEOUT="20") as deployment:
        workers = [deployment.worker(name, INSTANCE_ID=name).start() for name in ("first", "second")]
        await deployment.shared_by("engine", 2)
        await deployment.shared_by("ingest", 2)
        publishing = asyncio.ensure_future(publish(deployment))
        repeats: Counter[str] = Counter()  # journal entries that were folded before
        try:
            for worker in workers:
                await at_work(worker)
            for worker in workers:
                repeats += counted("repeats", await answered(worker))
                (other,) = (one for one in workers if one is not worker)
                before = rebalances(await answered(other))
                assert await worker.stopped() == 0, worker.tail()
                worker.log.unlink()
                worker.start()
                await at_work(worker)
                # a stable name comes back to its own partitions: the others are not even asked
                assert rebalances(await answered(other)) == before
            await elapsed(1)
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
        await deployment.at_rest()
        for worker in workers:
            repeats += counted("repeats", await answered(worker))
        # of each slot there is one member, although each was started twice
        assert await deployment.members("engine") == 2
        finding = await deployment.examined()
        assert finding.is_exact, finding.faults
        ids = [orjson.loads(one.value)["id"] for one in await deployment.records(topics.TRIGGERS)]
        assert len(ids) == len(set(ids))
        assert not +repeats
