"""What ingest still has to read: a topic that the broker does not tell of is no topic that was read."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition

from streams import topics
from streams.errors import UnknownTopicError
from streams.settings import Settings
from streams.unread import Unread

END, COMMITTED = 9, 5


class Restarted:
    """A broker that tells its topics bit by bit, as administrator and as consumer."""

    def __init__(self, *told: str) -> None:
        self.told = dict.fromkeys(told, 1)

    async def partitions(self) -> dict[str, int]:
        return self.told

    async def committed(self, _group: str) -> dict[tuple[str, int], int]:
        return {(name, 0): COMMITTED for name in self.told}

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: END if tp.topic == "events.purchase" else COMMITTED for tp in places}

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, 0)


def unread(broker: Restarted) -> Unread:
    looked = Unread.__new__(Unread)
    there: Any = broker
    looked._settings, looked._admin, looked._consumer = Settings(), there, there
    return looked


async def test_nothing_is_said_of_what_waits_while_a_raw_topic_is_unknown() -> None:
    names = [*topics.RAW, topics.CONTROL]
    broker = Restarted(*(name for name in names if name != "events.purchase"))
    looked = unread(broker)
    with pytest.raises(UnknownTopicError, match=r"events\.purchase"):
        await looked.oldest()
    with pytest.raises(UnknownTopicError):
        await looked.lag()
    with pytest.raises(UnknownTopicError):
        await looked.cut_off({"events.purchase/0": 100})
    broker.told["events.purchase"] = 1  # it is told now, and the same look-up finds it
    assert await looked.lag() == END - COMMITTED
    assert await looked.cut_off({"events.purchase/0": 100}) == (
        "events.purchase/0 ends at 9, 101 records of it were taken before"
    )


async def test_partitions_that_were_added_are_looked_at() -> None:
    broker = Restarted(*topics.RAW, topics.CONTROL)
    looked = unread(broker)
    assert await looked.lag() == END - COMMITTED
    broker.told["events.purchase"] = 2
    assert await looked.lag() == END - COMMITTED + END
