"""A raw record: one event as it is published to a raw topic, before anything has been checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from journey.events import CLASSES

TOPIC_OF_CLASS: Final = {event_class: f"events.{event_class}" for event_class in CLASSES}


@dataclass(frozen=True, slots=True)
class RawRecord:
    """What a producer hands to Kafka.

    ``topic`` is a raw topic such as ``events.cart``; ``key`` the customer key
    (``b"u:42"``, ``b"a:9f3c"``), empty when nobody can be told; ``value`` the
    JSON bytes of a raw event, or bytes that arrival will refuse; ``at`` the
    time of reception in milliseconds since 1970, which never decreases from
    one record to the next.
    """

    topic: str
    key: bytes
    value: bytes
    at: int
