"""Journal time: on the wall clock it moves by itself, never past a purchase that waits; on the events' it does not."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from journey.events import DAY, HOUR, MINUTE, SECOND
from journey.ids import route
from journey.triggers import TRIGGER
from streams import topics
from streams.logs import end_offsets
from streams.publish import load
from streams.raw import RawRecord
from tests.conftest import Broker
from tests.harness import SMALL, Chance, Deployment, deployed, elapsed, told, view, wall_ms
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

START = 1_780_272_000_000  # 2026-06-01T00:00:00Z


async def reminders(deployment: Deployment) -> list[dict[str, Any]]:
    bodies = [orjson.loads(record.value) for record in await deployment.records(topics.TRIGGERS)]
    return [body for body in bodies if body["type"] == TRIGGER]


async def ticks(deployment: Deployment) -> list[int]:
    """Return the times of the ticks that workers wrote."""
    pages = await deployment.records(topics.JOURNAL)
    entries = [entry for page in pages for entry in orjson.loads(page.value)]
    return [entry["at"] for entry in entries if entry["k"] == "tick" and "src" not in entry]


def cart(name: str, user: str, at: int, *, received_at: int | None = None, cart_id: str | None = None) -> RawRecord:
    item = {"item_id": "p-1", "unit_price_minor": 4_200}
    return told(
        "cart.product_added", name, user, at=at, received_at=received_at, cart_id=cart_id or f"c-{user}", item=item
    )


def order(name: str, user: str, at: int, *, cart_id: str | None = None, received_at: int | None = None) -> RawRecord:
    return told(
        "purchase.order_completed", name, user, at=at, received_at=received_at, order_id=f"o-{name}",
        cart_id=cart_id or f"c-{user}", revenue_minor=4_200, currency="EUR",
    )  # fmt: skip


# ---- the wall clock --------------------------------------------------------------------------------------------------


async def test_an_idle_journal_grows_by_a_tick_a_minute_at_most(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with deployed(kafka.url, prefix, tmp_path, PARTITIONS="2") as deployment:
        journal = deployment.settings.topic(topics.JOURNAL)
        deployment.worker("both", "all").start()
        await deployment.publish(view(f"m-{number}", f"c-{number}", wall_ms()) for number in range(20))
        await deployment.at_rest()
        before = await end_offsets(deployment.settings, journal)
        await elapsed(5)
        after = await end_offsets(deployment.settings, journal)
        assert all(end - before[number] <= 1 for number, end in after.items())


async def test_a_cart_is_reminded_of_when_its_hour_is_over(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with deployed(kafka.url, prefix, tmp_path, PARTITIONS="1") as deployment:
        deployment.worker("both", "all").start()
        earlier = wall_ms() - 2 * HOUR
        await deployment.publish([told("click.page_viewed", "m-0", "1", at=earlier, received_at=earlier)])
        await deployment.at_rest()
        # the collector saw it nearly an hour ago: the hour is over in some seconds
        filled_at = wall_ms() - HOUR + 15 * SECOND
        await deployment.publish([cart("m-1", "2", filled_at, received_at=filled_at)])
        await deployment.at_rest()
        assert await reminders(deployment) == []

        async def is_reminded() -> bool:
            return len(await reminders(deployment)) == 1

        await eventually(is_reminded, within_seconds=40)
        (reminder,) = await reminders(deployment)
        assert reminder["subject"] == "u:2"
        late_ms = at_of(reminder) - filled_at - HOUR
        assert 0 <= late_ms <= 15 * SECOND


def at_of(body: dict[str, Any]) -> int:
    return round(datetime.fromisoformat(body["time"]).timestamp() * 1000)


async def reminders_while_ingest_is_away(url: str, prefix: str, directory: Path, **settings: str) -> list[Any]:
    """Return whom the engine reminds of a cart while the order for it waits in the raw topic, and after it came."""
    async with deployed(url, prefix, directory, PARTITIONS="1", **settings) as deployment:
        engine = deployment.worker("engine", "engine").start()
        ingest = deployment.worker("ingest", "ingest").start()
        earlier = wall_ms() - 2 * HOUR
        await deployment.publish([told("click.page_viewed", "m-0", "2", at=earlier, received_at=earlier)])
        await deployment.at_rest()
        due = wall_ms() + 30 * SECOND
        await deployment.publish([cart("m-1", "1", due - HOUR, received_at=due - HOUR)])
        await deployment.at_rest()
        assert await ingest.stopped() == 0, ingest.tail()
        bought_at = wall_ms()
        assert bought_at < due
        await deployment.publish([order("m-2", "1", bought_at)])
        await eventually(lambda: wall_ms() > due + 3 * SECOND, within_seconds=60)
        if await reminders(deployment) == []:
            (waits,) = await deployment.records("events.purchase")
            assert all(at <= waits.timestamp for at in await ticks(deployment))
        deployment.worker("ingest-again", "ingest").start()
        await deployment.at_rest()
        # whatever was due has fired by the time the engine has seen a later event
        await deployment.publish([view("m-3", "1", wall_ms())])
        await deployment.at_rest()
        assert engine.is_running
        return await reminders(deployment)


async def test_nobody_is_reminded_whose_order_waits_to_be_read(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    waits, runs_on = await asyncio.gather(
        reminders_while_ingest_is_away(kafka.url, f"{prefix}-waits", tmp_path / "waits"),
        reminders_while_ingest_is_away(kafka.url, f"{prefix}-runs", tmp_path / "runs", CATCH_UP_MINUTES="0"),
    )
    assert waits == []
    assert len(runs_on) == 1  # without patience the tick passes the order: the wait is what held it back


async def test_a_worker_whose_clock_is_ahead_does_not_take_time_along(
    kafka: Broker, prefix: str, tmp_path: Path
) -> None:
    async with deployed(kafka.url, prefix, tmp_path, PARTITIONS="1") as deployment:
        worker = deployment.worker("both", "all", "--clock-ms", str(2 * HOUR)).start()
        filled_at = wall_ms()
        await deployment.publish([cart("m-1", "1", filled_at)])
        await deployment.at_rest()
        await elapsed(4)
        # one that starts with the cart already in its state has heard nothing of the broker yet
        assert await worker.stopped() == 0, worker.tail()
        known = await end_offsets(deployment.settings, deployment.settings.topic(topics.JOURNAL))
        again = deployment.worker("again", "all", "--clock-ms", str(2 * HOUR)).start()

        async def has_ticked() -> bool:
            return await end_offsets(deployment.settings, deployment.settings.topic(topics.JOURNAL)) != known

        await eventually(has_ticked, within_seconds=60)
        await elapsed(4)
        assert await reminders(deployment) == []
        assert all(at <= wall_ms() + 6 * SECOND for at in await ticks(deployment))
        assert again.is_running


# ---- the events' clock -----------------------------------------------------------------------------------------------


@dataclass
class Visit:
    """What one customer did to one cart: times (ms) of its cart events, and of its order, if there was one."""

    user: str
    cart_id: str
    added: list[int]
    ordered: int | None


def made_up(seed: int, customers: int) -> list[Visit]:
    """Return visits of three months; a customer's visits are days apart."""
    chance = Chance("visits", seed)
    visits = []
    for number in range(customers):
        at = START + chance.below(10 * DAY)
        for count in range(1 + chance.below(5)):
            added = [at]
            for _ in range(chance.below(4)):
                added.append(added[-1] + 1 + chance.below(90 * MINUTE))
            ordered = added[-1] + 1 + chance.below(90 * MINUTE) if chance.below(2) else None
            visits.append(Visit(f"v-{number}", f"c-{number}-{count}", added, ordered))
            at += (2 + chance.below(14)) * DAY
    return visits


def expected(visits: list[Visit], partitions: int, end: int) -> dict[tuple[str, str], int]:
    """Return (customer, cart): when it is reminded of.

    That is when journal time passes the hour in which nothing happened to it:
    with the next event of anybody in the partition, or at the end.
    """
    times: dict[int, list[int]] = defaultdict(lambda: [end])
    for visit in visits:
        times[route(f"u:{visit.user}", partitions)] += visit.added + ([visit.ordered] if visit.ordered else [])
    sent = {}
    for visit in visits:
        ends = [*visit.added[1:], visit.ordered or end]
        for begin, until in zip(visit.added, ends, strict=True):
            if until - begin >= HOUR:
                due = begin + HOUR
                passed = min(at for at in times[route(f"u:{visit.user}", partitions)] if at >= due)
                if passed - due <= DAY:  # later than that nobody wants to hear of it
                    sent[f"u:{visit.user}", visit.cart_id] = passed
                break  # a cart is reminded of once
    return sent


async def test_months_in_seconds_remind_exactly_of_the_carts_left_alone(
    kafka: Broker, prefix: str, tmp_path: Path
) -> None:
    visits = made_up(seed=3, customers=200)
    records = []
    for visit in visits:
        name = visit.cart_id
        for number, at in enumerate(visit.added):
            records.append(cart(f"{name}-{number}", visit.user, at, received_at=at, cart_id=name))
        if visit.ordered is not None:
            records.append(
                order(f"{name}-order", visit.user, visit.ordered, received_at=visit.ordered, cart_id=name)
            )  # fmt: skip
    records.sort(key=lambda record: record.at)
    last = records[-1].at + 2 * HOUR
    due = expected(visits, int(SMALL["PARTITIONS"]), last)
    assert len(due) > 200
    assert len(visits) - len(due) > 100

    async with deployed(kafka.url, prefix, tmp_path) as deployment:
        deployment.worker("both", "all").start()
        publisher = deployment.publisher
        await publisher.use_events_clock()
        begin = asyncio.get_running_loop().time()
        await load(publisher, iter(records), clock="events", slice_records=100)
        await publisher.wait_taken(60)
        await publisher.control(k="tick", at=last)
        await deployment.at_rest()
        assert asyncio.get_running_loop().time() - begin < 60
        sent = [(body["subject"], body["data"]["run_key"], at_of(body)) for body in await reminders(deployment)]
        assert sorted(sent) == sorted((*key, at) for key, at in due.items())
        assert await ticks(deployment) == []  # no worker has a say in this time
        found = await deployment.examined()
        assert found.is_exact, found.line()
