"""The same job as the plain Faust agent's, as a Quix Streams application: state for each customer, with a changelog.

Runs in an environment of its own, for its packages are not ours: this file
imports nothing of the project. ``python quix.py URL EVENTS TRIGGERS GROUP DIRECTORY COUNT`` takes so many events and
prints its figures as a line of JSON. Settings are Quix Streams' own, but for a
larger batch of the producer's, which it is better off with.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any


def stage(customer: dict[str, Any]) -> str:
    """Return where a customer stands."""
    if customer["orders"]:
        return "purchase"
    if customer["carts"]:
        return "evaluation"
    return "interest" if customer["clicks"] >= 3 else "awareness"


class Tally:
    """Counts events; the first one begins the measurement."""

    def __init__(self) -> None:
        self.events = 0
        self.begin = self.cpu = 0.0

    def took(self) -> None:
        """One more."""
        if not self.events:
            self.begin, self.cpu = time.perf_counter(), time.process_time()
        self.events += 1


def folded(event: dict[str, Any], key: str, state: Any, tally: Tally) -> dict[str, Any] | None:
    """Count an event in its customer's state; return the trigger when the stage changed."""
    tally.took()
    customer = state.get("customer")
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
    state.set("customer", customer)
    if before == customer["stage"]:
        return None
    return {"customer": key, "from": before, "to": customer["stage"], "cause": event["message_id"]}


def run(url: str, events: str, triggers: str, group: str, directory: str, count: str) -> dict[str, float]:
    """Take so many events; return the events, the seconds and the CPU seconds, the last checkpoint included."""
    from quixstreams import Application

    tally = Tally()
    app = Application(
        broker_address=url, consumer_group=group, state_dir=directory, auto_offset_reset="earliest", loglevel="ERROR",
        producer_extra_config={"linger.ms": 20},
    )  # fmt: skip
    source = app.topic(events, value_deserializer="json", key_deserializer="str")
    frame = app.dataframe(source)
    most = int(count)

    def take(value: dict[str, Any], key: str, timestamp: int, headers: Any, state: Any) -> dict[str, Any] | None:
        trigger = folded(value, key, state, tally)
        if tally.events == most:
            app.stop()
        return trigger

    frame = frame.apply(take, stateful=True, metadata=True)
    frame = frame[frame.apply(lambda value: value is not None)]
    frame.to_topic(app.topic(triggers, value_serializer="json", key_serializer="str"))
    app.run()
    return {
        "events": tally.events, "seconds": time.perf_counter() - tally.begin, "cpu": time.process_time() - tally.cpu,
    }  # fmt: skip


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    address, source_name, trigger_name, group_name, state_directory, number = sys.argv[1:]
    print(json.dumps(run(address, source_name, trigger_name, group_name, state_directory, number)))
