"""A mailer acts on triggers: each once, none that has expired, none without consent.

    python examples/consume_triggers.py --done done.sqlite

The broker is JOURNEY_KAFKA_URL. `act` only prints; put the call of your e-mail
tool there. What the fields mean is described in `schemas/README.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

from aiokafka import AIOKafkaConsumer

KAFKA_URL = os.environ.get("JOURNEY_KAFKA_URL", "127.0.0.1:9092")
TOPIC_PREFIX = os.environ.get("JOURNEY_TOPIC_PREFIX", "")
KEPT = timedelta(days=30)  # as long as triggers stay in their topic


class Done:
    """The ids that were acted on. Keep them beside what acting changes, in one transaction where that is possible."""

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path)
        self._database.execute("CREATE TABLE IF NOT EXISTS done (id TEXT PRIMARY KEY, at TEXT NOT NULL)")

    def __contains__(self, name: str) -> bool:
        return self._database.execute("SELECT 1 FROM done WHERE id = ?", (name,)).fetchone() is not None

    def add(self, name: str, now: datetime) -> None:
        """Remember an id, and forget those that no record of the topic can repeat any more."""
        with self._database:
            self._database.execute("INSERT OR IGNORE INTO done VALUES (?, ?)", (name, now.isoformat()))
            self._database.execute("DELETE FROM done WHERE at < ?", ((now - KEPT).isoformat(),))


def is_ours(event: dict[str, Any]) -> bool:
    """Tell whether this is something a mailer does; types and actions it does not know are none of its business."""
    data = event["data"]
    return event["type"] == "journey.trigger.v1" and (data["action"], data["channel"]) == ("send", "email")


def why_not(trigger: dict[str, Any], done: Done, now: datetime) -> str | None:
    """Return why a trigger is left alone, or None when it has to be acted on."""
    data = trigger["data"]
    if trigger["id"] in done:
        return "done before"
    if "expires_at" in data and datetime.fromisoformat(data["expires_at"]) <= now:
        return "expired"
    # The engine says what it knows of consent and leaves it to you: a grant on the way, and no denial.
    consent = data.get("customer", {}).get("consent", {})
    said = [consent.get(scope) for scope in ("marketing", "marketing.email")]
    if "granted" not in said or "denied" in said or "revoked" in said:
        return "no consent"
    return None


def act(trigger: dict[str, Any]) -> None:
    """Do what the trigger asks. Where your e-mail tool takes an idempotency key, hand it the trigger's id."""
    data = trigger["data"]
    template = data.get("content", {}).get("template", data["journey"])
    print(f"{trigger['id']}: send {template} to {trigger['subject']}, because {data['reason']['text']}")


async def consume(*, done: Done, group: str, limit: int | None) -> None:
    """Read triggers for ever, or so many records."""
    consumer = AIOKafkaConsumer(
        TOPIC_PREFIX + "journey.triggers", bootstrap_servers=KAFKA_URL, group_id=group,
        enable_auto_commit=False, auto_offset_reset="earliest",
    )  # fmt: skip
    await consumer.start()
    read = 0
    try:
        async for record in consumer:
            trigger = json.loads(record.value)
            now = datetime.now(UTC)  # noqa: TID251  # a shop's own program has its own clock
            if is_ours(trigger):
                reason = why_not(trigger, done, now)
                if reason is None:
                    act(trigger)
                    done.add(trigger["id"], now)
                else:
                    print(f"{trigger['id']}: left alone, {reason}")
            # last: a crash before this line reads the trigger again, and `done` knows it
            await consumer.commit()
            read += 1
            if read == limit:
                return
    finally:
        await consumer.stop()


def main() -> None:
    """Read the arguments and consume until interrupted."""
    parser = argparse.ArgumentParser(description="Act on triggers.")
    parser.add_argument("--done", default="done.sqlite", help="file that remembers what was done")
    parser.add_argument("--group", default="example-mailer", help="consumer group: each group reads every trigger once")
    parser.add_argument("--limit", type=int, help="stop after so many records")
    told = parser.parse_args()
    asyncio.run(consume(done=Done(told.done), group=told.group, limit=told.limit))


if __name__ == "__main__":
    main()
