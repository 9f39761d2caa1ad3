"""A shop's back end tells that somebody put an article into the cart.

    python examples/publish_events.py --user 42 --cart c-77 --item p-9 --price-minor 8990

The broker is JOURNEY_KAFKA_URL; the topics exist once a worker has run, or
after `journey topics create`. Every field is described in `schemas/README.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaProducer

KAFKA_URL = os.environ.get("JOURNEY_KAFKA_URL", "127.0.0.1:9092")
TOPIC_PREFIX = os.environ.get("JOURNEY_TOPIC_PREFIX", "")


def cart_event(*, user: str, cart: str, item: str, price_minor: int, currency: str) -> dict[str, Any]:
    """Return the event. ``price_minor`` counts minor units of the currency: 8990 with EUR is 89.90 EUR."""
    now = datetime.now(UTC)  # noqa: TID251  # a shop's own program has its own clock
    return {
        "type": "cart.product_added",
        # Made of what the shop calls this line of this cart, not drawn by chance: whoever tells it again,
        # after a crash or a time-out, tells it under the same id, and it counts once.
        "message_id": f"cart-{cart}-{item}",
        "user_id": user,
        "occurred_at": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "source": "shop-back-end",
        "data": {
            "cart_id": cart,
            "currency": currency,
            "item": {"item_id": item, "quantity": 1, "unit_price_minor": price_minor},
        },
        # what this person allows; leave it out where nothing new was said
        "context": {"consent": {"marketing.email": "granted"}},
    }


async def publish(events: list[dict[str, Any]]) -> None:
    """Publish events in order; return when the broker holds all of them."""
    # acks="all": acknowledged means stored. Idempotence: the producer's own retries neither double nor reorder.
    producer = AIOKafkaProducer(bootstrap_servers=KAFKA_URL, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        for event in events:
            topic = TOPIC_PREFIX + "events." + event["type"].partition(".")[0]
            # the customer key: all of one customer's events of a topic lie in one partition, in order
            key = f"u:{event['user_id']}" if "user_id" in event else f"a:{event['anonymous_id']}"
            stored = await producer.send_and_wait(
                topic, json.dumps(event).encode(), key.encode(), headers=[("content-type", b"application/json")]
            )
            print(f"{event['message_id']} is stored: {stored.topic}/{stored.partition}@{stored.offset}")
    finally:
        await producer.stop()


def main() -> None:
    """Read the arguments and publish one event."""
    parser = argparse.ArgumentParser(description="Tell that somebody put an article into the cart.")
    parser.add_argument("--user", default="42", help="the shop's id of the customer; not an e-mail address")
    parser.add_argument("--cart", default="c-77")
    parser.add_argument("--item", default="p-9")
    parser.add_argument("--price-minor", type=int, default=8990, help="in minor units: 8990 is 89.90")
    parser.add_argument("--currency", default="EUR")
    asyncio.run(publish([cart_event(**vars(parser.parse_args()))]))


if __name__ == "__main__":
    main()
