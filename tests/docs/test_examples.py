"""The example programs do what they say, against a real Kafka."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streams import topics
from streams.appends import Log
from streams.files import read_events
from streams.logs import read_all
from streams.records import parse_events
from streams.settings import Settings
from streams.topics import Admin
from tests.conftest import Broker
from tests.docs.pages import ROOT
from tests.factories import loaded
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

FUTURE, PAST = "2999-01-01T00:00:00.000Z", "2026-01-01T00:00:00.000Z"


@pytest.fixture
async def settings(kafka: Broker, prefix: str) -> Settings:
    """A deployment of this test alone, its topics made."""
    settings = Settings(kafka_url=kafka.url, redis_url="", topic_prefix=prefix + "-", partitions=2)
    async with Admin(settings) as admin:
        await admin.create()

        async def are_there() -> bool:
            return not await admin.check()

        await eventually(are_there)
    return settings


async def run(settings: Settings, name: str, *arguments: str) -> list[str]:
    """Run an example; return the lines it prints."""
    environment = {
        "JOURNEY_KAFKA_URL": settings.kafka_url,
        "JOURNEY_TOPIC_PREFIX": settings.topic_prefix,
        "PATH": os.environ["PATH"],
    }
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(ROOT / "examples" / name), *arguments],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return str(done.stdout).splitlines()


async def test_what_the_back_end_publishes_is_accepted_and_told_twice_counts_once(settings: Settings) -> None:
    for _ in range(2):
        (line,) = await run(settings, "publish_events.py", "--user", "4711", "--cart", "c-1", "--item", "p-1")
        assert line.startswith("cart-c-1-p-1 is stored: ")
    records = [record async for record in read_all(settings, settings.topic("events.cart"))]
    parsed = parse_events("cart", records, settings.partitions)
    assert [one.dead_letter for one in parsed] == [None, None]
    assert {record.key for record in records} == {b"u:4711"}
    assert {entry["id"] for one in parsed for _, entry in loaded(one)} == {"cart-c-1-p-1"}


def a_trigger(name: str, *, expires_at: str = FUTURE, **consent: str) -> dict[str, Any]:
    """Return a trigger of the kind a mailer acts on."""
    trigger: dict[str, Any] = json.loads((ROOT / "schemas/examples/journey.trigger.v1/trigger.json").read_text("utf-8"))
    trigger["id"] = name
    trigger["data"] |= {
        "expires_at": expires_at,
        "customer": {"user_id": "42", "consent": {"marketing.email": "granted"}},
    }
    trigger["data"]["customer"]["consent"] |= consent
    return trigger


async def test_the_mailer_acts_once_on_what_is_new_not_expired_and_allowed(settings: Settings, tmp_path: Path) -> None:
    stage = json.loads((ROOT / "schemas/examples/journey.trigger.v1/stage_changed.json").read_text("utf-8"))
    events = [
        a_trigger("tr_new"), stage, a_trigger("tr_old", expires_at=PAST), a_trigger("tr_new"),
        a_trigger("tr_denied", marketing="denied"),
    ]  # fmt: skip
    log = await Log(settings.kafka_url, settings.batch_bytes).start()
    values = [(event["subject"].encode(), json.dumps(event).encode()) for event in events]
    await log.append(settings.topic(topics.TRIGGERS), 0, values)
    await log.stop()
    arguments = ("--done", str(tmp_path / "done.sqlite"), "--limit", "5", "--group")

    first = await run(settings, "consume_triggers.py", *arguments, settings.topic_prefix + "first")
    assert [line.partition(",")[0] for line in first] == [
        "tr_new: send cart_social to u:42", "tr_old: left alone", "tr_new: left alone", "tr_denied: left alone",
    ]  # fmt: skip
    assert [line.rpartition(", ")[2] for line in first[1:]] == ["expired", "done before", "no consent"]

    # a group that starts anew reads everything again, and what was done is known
    again = await run(settings, "consume_triggers.py", *arguments, settings.topic_prefix + "second")
    assert [line for line in again if ": send" in line] == []


def test_the_file_of_the_walk_through_is_one_cart_event() -> None:
    (record,) = read_events(ROOT / "examples" / "abandoned_cart.jsonl")
    assert (record.topic, record.key) == ("events.cart", b"u:42")
