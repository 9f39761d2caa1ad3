"""When the engine lets journal time pass: what it takes for the broker's clock, and what follows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from faust.types import TP

from journey.events import HOUR, MINUTE
from journey.ticks import tick_at
from streams.agents.engine import Engine, Now
from streams.app import _tick
from streams.appends import Log
from streams.customers import Customers
from streams.errors import StoreError
from streams.read_model import NoReadModel
from streams.settings import Settings
from tests.factories import NOON, event, item
from tests.protocol.broker import Broker, Producer
from tests.protocol.roles import CHANGELOG, Table


def engine_at(now: int) -> tuple[Engine, Broker]:
    """Return an engine whose clock, like the broker's, says ``now``; what it sends lands at once."""
    broker = Broker({"journey.journal": 1, "journey.triggers": 1, CHANGELOG: 1}, now)
    log: Any = Log("", 0)
    log._producer = _AtOnce(broker, "engine", 100)
    clock = Now(lambda: broker.now, lambda: broker.now / 1000)
    table: Customers = Table()
    table.begin(0, (0, 0))
    agent = Engine(None, Settings(), log, table, NoReadModel(), clock, NothingAdopted())
    agent._triggers = 1
    return agent, broker


class NothingAdopted:
    """No page adopts anything here."""

    async def for_pages(self, pages: Any) -> None:
        """Do nothing."""


class _AtOnce(Producer):
    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Any:
        future = await super().send_batch(batch, topic, partition=partition)
        sending = self.broker.land(self.broker.flying[-1])
        future.set_result(self.broker.unanswered.pop()[1])
        assert not sending.producer.is_slow
        return future


def page(at: int, **entry: Any) -> Any:
    """Return a Faust event that brings one page, journalled at a time."""
    record = SimpleNamespace(offset=0, timestamp=at, value=orjson.dumps([event("cart.product_added", at, **entry)]))
    return SimpleNamespace(value=[record], message=SimpleNamespace(partition=0))


async def test_after_a_pause_a_cart_is_reminded_of_at_once() -> None:
    agent, broker = engine_at(NOON + 3 * HOUR)
    await agent._step([page(NOON, data={"item": item()})])
    ((shard, sight),) = agent.sights()
    # the page is three hours old, the broker is not
    assert shard.agenda.next_prompt() == NOON + HOUR
    assert tick_at(sight, 15 * MINUTE) == broker.now


async def test_a_worker_whose_clock_is_ahead_does_not_let_time_pass_before_the_broker_does() -> None:
    agent, broker = engine_at(NOON)
    agent.clock = Now(lambda: broker.now + 2 * HOUR, lambda: broker.now / 1000)
    await agent._step([page(NOON, data={"item": item()})])
    ((_, sight),) = agent.sights()
    assert sight.broker == NOON
    assert tick_at(sight, 15 * MINUTE) is None
    broker.now += HOUR
    ((_, sight),) = agent.sights()
    assert tick_at(sight, 15 * MINUTE) == NOON + HOUR + 5000


async def test_a_worker_asks_the_broker_for_its_time_before_the_first_tick() -> None:
    agent, broker = engine_at(NOON)
    agent.clock = Now(lambda: broker.now + 2 * HOUR, lambda: broker.now / 1000)
    await agent._step([page(NOON, data={"item": item()})])
    agent.broker_time = None  # as between a fold and its first acknowledgement, or after a recovery
    unread: Any = Unread(oldest=NOON)
    await _tick(agent, unread, Settings())
    assert ticks(broker) == [NOON]  # journal time, which moves nothing
    assert agent.broker_now() == NOON
    broker.now += HOUR
    await _tick(agent, unread, Settings())
    assert ticks(broker) == [NOON]  # the oldest record that waits is an hour older than what would be told
    unread.at = None
    await _tick(agent, unread, Settings())
    assert ticks(broker) == [NOON, NOON + HOUR + 5000]


class Unread:
    """The raw topics, whose oldest unread record has a time."""

    def __init__(self, oldest: int | None) -> None:
        self.at = oldest

    async def oldest(self) -> int | None:
        """Return the time (ms) of the oldest unread record."""
        return self.at


def ticks(broker: Broker) -> list[int]:
    """Return the times of the ticks in the journal."""
    pages = [orjson.loads(record.value or b"[]") for record in broker.logs[TP("journey.journal", 0)]]
    return [entry["at"] for page in pages for entry in page if entry["k"] == "tick"]


async def test_a_store_that_cannot_be_read_is_no_fault_of_the_entry() -> None:
    agent, broker = engine_at(NOON)
    store = agent.table.store

    class Failing:
        """A store that fails at the first look."""

        looks = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def get(self, partition: int, key: bytes) -> bytes | None:
            if key == b"u:1":
                self.looks += 1
                raise StoreError
            return store.get(partition, key)

    failing: Any = Failing()
    agent.table.store = failing
    with pytest.raises(StoreError):
        await agent._step([page(NOON, data={"item": item()})])
    assert failing.looks == 1
    assert agent.counts["poison"] == 0
    assert TP("journey.dead_letters", 0) not in broker.logs
