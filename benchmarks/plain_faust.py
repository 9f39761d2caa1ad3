"""A plain Faust application, as its handbook teaches it: one agent, event by event, a table and a topic of triggers.

The same kind of work as the journey engine's, but less of it: one hop instead
of two, no validation, no journal, no duplicates told apart, nothing that can
be replayed. Settings are Faust's own, but for uvloop and a store in memory,
which are what the journey engine uses.

Run as ``python -m benchmarks.plain_faust worker``; PLAIN_FAUST_URL and
PLAIN_FAUST_NAME tell which broker, and the name of the application and of its
topics.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any, Final

import faust

PARTITIONS: Final = 8


def source(name: str) -> str:
    """Return the topic of events."""
    return f"{name}-events"


def triggers(name: str) -> str:
    """Return the topic of triggers."""
    return f"{name}-triggers"


def changelog(name: str) -> str:
    """Return the topic behind the table, as Faust names it."""
    return f"{name}-customers-changelog"


def stage(customer: dict[str, Any]) -> str:
    """Return where a customer stands."""
    if customer["orders"]:
        return "purchase"
    if customer["carts"]:
        return "evaluation"
    return "interest" if customer["clicks"] >= 3 else "awareness"


def build(url: str, name: str) -> Any:
    """Return the application."""
    app = faust.App(
        name, broker=f"kafka://{url}", store="memory://", topic_partitions=PARTITIONS, web_enabled=False,
        datadir=tempfile.gettempdir(), topic_disable_leader=True,
    )  # fmt: skip
    events = app.topic(source(name), key_type=bytes, value_serializer="json")
    asked = app.topic(triggers(name), key_type=bytes, value_serializer="json")
    customers = app.Table("customers", key_type=bytes)

    @app.agent(events)
    async def journey(stream: Any) -> None:
        async for key, event in stream.items():
            customer = customers.get(key)
            if customer is None:
                customer = {"clicks": 0, "carts": 0, "orders": 0, "revenue": 0, "items": [], "stage": None}
            cls = event["type"].partition(".")[0]
            data = event.get("data", {})
            customer["last"] = event["received_at"]
            if cls == "click":
                customer["clicks"] += 1
            elif cls == "cart":
                customer["carts"] += 1
            elif cls == "purchase":
                customer["orders"] += 1
                customer["revenue"] += data.get("revenue_minor", 0)
            if "item" in data:
                customer["items"] = [*customer["items"], data["item"]["item_id"]][-20:]
            before, customer["stage"] = customer["stage"], stage(customer)
            customers[key] = customer
            if before != customer["stage"]:
                body = {"customer": key.decode(), "from": before, "to": customer["stage"], "cause": event["message_id"]}
                await asked.send(key=key, value=body)

    return app


if __name__ == "__main__":
    build(os.environ["PLAIN_FAUST_URL"], os.environ["PLAIN_FAUST_NAME"]).main()
