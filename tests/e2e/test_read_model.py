"""Redis is away, comes back, comes back empty: the engine goes on, and what Redis shows catches up by itself."""

from __future__ import annotations

import asyncio
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from journey.documents import document
from journey.positions import entry_position
from journey.state import read_customer
from streams import topics
from streams.logs import read_all
from streams.read_model import RedisReader
from streams.shop import generate
from tests.conftest import Broker
from tests.harness import Deployment, deployed, live, wall_ms
from tests.servers import RedisServer
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def state(deployment: Deployment) -> dict[str, tuple[int, bytes]]:
    """Return the newest record of each customer in the changelog, with its partition."""
    newest: dict[str, tuple[int, bytes]] = {}
    async for record in read_all(deployment.settings, topics.changelog(deployment.settings)):
        if not record.key.startswith(b"\0"):
            newest[record.key.decode()] = (record.partition, record.value)
    return newest


async def documents(deployment: Deployment) -> dict[str, dict[str, Any]]:
    """Return every customer that Redis shows."""
    prefix = deployment.settings.topic("journey:1:c:")
    shown = {}
    async with Redis.from_url(deployment.settings.redis_url) as redis:
        names = [name async for name in redis.scan_iter(match=f"{prefix}*", count=1_000)]
        for name in names:
            raw = await redis.hget(name, "json")
            if raw is not None:
                shown[name.decode()[len(prefix) :]] = orjson.loads(raw)
    return shown


async def show_the_state(deployment: Deployment) -> None:
    """Return when Redis shows every customer exactly as the changelog has it."""
    wanted = {
        key: orjson.loads(orjson.dumps(document(read_customer(raw), partition)[1]))
        for key, (partition, raw) in (await state(deployment)).items()
    }
    assert len(wanted) > 50

    async def shown() -> bool:
        return await documents(deployment) == wanted

    await eventually(shown, within_seconds=30)


async def test_redis_may_come_and_go(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    try:
        async with deployed(kafka.url, prefix, tmp_path / "logs", REDIS_URL=server.url) as deployment:
            records = live(generate(customers=120, events=3_000), wall_ms())

            async def publish(count: int) -> None:
                for _ in range(count // 50):
                    await deployment.publish(islice(records, 50))

            worker = deployment.worker("both", "all").start()
            await publish(500)
            await deployment.at_rest()  # without Redis
            await asyncio.to_thread(server.start)
            await show_the_state(deployment)

            server.freeze()
            await publish(200)
            await deployment.at_rest()
            server.thaw()
            await show_the_state(deployment)

            server.kill()
            await publish(200)
            await deployment.at_rest()
            await asyncio.to_thread(server.start)  # empty
            await show_the_state(deployment)

            # a new worker finds what the old one did not show
            worker.kill()
            await publish(200)
            deployment.worker("next", "all").start()
            await deployment.at_rest()
            await show_the_state(deployment)

            publishing = asyncio.ensure_future(publish(600))
            while not publishing.done():
                await no_customer_is_ahead(deployment)
            await publishing
            await deployment.at_rest()
            await show_the_state(deployment)
            reader = RedisReader(server.url, deployment.settings.topic_prefix)
            for number, at in (await reader.positions()).items():
                assert at <= max(stamp for _, stamp in await stamps(deployment, number))
            await reader.close()
    finally:
        server.kill()


async def stamps(deployment: Deployment, number: int) -> list[tuple[str, int]]:
    """Return (customer, journal page) of each record of a changelog partition."""
    return [
        (record.key.decode(), orjson.loads(record.value)["at"])
        async for record in read_all(deployment.settings, topics.changelog(deployment.settings))
        if record.partition == number
    ]


async def no_customer_is_ahead(deployment: Deployment) -> None:
    """What Redis shows now is in the changelog read after it."""
    shown = await documents(deployment)
    durable = {key: orjson.loads(raw)["at"] for key, (_, raw) in (await state(deployment)).items()}
    for key, body in shown.items():
        assert body["as_of"]["position"] <= entry_position(durable[key], 0)
