"""Months loaded in seconds are journalled as they happened: the promise of the demo and of every import."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from streams import topics
from streams.publish import load
from streams.shop import generate
from tests.conftest import Broker
from tests.harness import deployed

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def test_months_loaded_in_seconds_are_journalled_as_they_happened(
    kafka: Broker, prefix: str, tmp_path: Path
) -> None:
    async with deployed(kafka.url, prefix, tmp_path) as deployment:
        deployment.worker("ingest", "ingest").start()
        await deployment.publisher.use_events_clock()
        # as fast as it goes, so that ingest lags behind the loader
        await load(deployment.publisher, iter(generate(customers=200, events=8000)), clock="events")
        await deployment.taken(within_seconds=90)
        latest: dict[int, int] = {}
        too_late = entries = 0
        for page in await deployment.records(topics.JOURNAL):
            for entry in orjson.loads(page.value):
                entries += 1
                too_late += entry["at"] < latest.get(page.partition, 0)
                latest[page.partition] = max(latest.get(page.partition, 0), entry["at"])
        assert entries > 8000
        assert too_late == 0
