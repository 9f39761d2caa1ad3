"""Marks order a load on the events' clock, also while workers come and go."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from faust.types import TP

from journey.triggers import rfc3339
from streams import faust_fixes
from streams.agents.ingest import Ingest
from streams.control import ControlTail
from streams.settings import Settings
from tests.factories import loaded

CART, ORDERS = TP("events.cart", 0), TP("events.purchase", 0)
MOVED = TP("events.cart", 1)
START = 1_780_272_000_000  # 2026-06-01T00:00:00Z


class Record:
    """One event, received so many seconds after the start."""

    timestamp, headers, key = START + 60_000, (), b"u:1"

    def __init__(self, tp: TP, offset: int, second: int) -> None:
        self.topic, self.partition, self.offset = tp.topic, tp.partition, offset
        type_, data = ("purchase.order_completed", {"order_id": f"o-{offset}"})
        if tp.topic == CART.topic:
            type_, data = "cart.cart_viewed", {}
        told = rfc3339(START + 1000 * second)
        self.value = orjson.dumps(
            {
                "type": type_, "user_id": "1", "message_id": f"{tp.topic}-{tp.partition}-{offset}",
                "occurred_at": told, "received_at": told, "data": data,
            }
        )  # fmt: skip


def at(second: int) -> int:
    """Return a moment, ms since 1970."""
    return START + 1000 * second


def worker(monkeypatch: pytest.MonkeyPatch, begins: dict[TP, int]) -> Ingest:
    """Return the ingest of a worker that has read three marks: at 1, 2 and 3 s, each of ten more records."""
    control = ControlTail(Settings())
    control._note(orjson.dumps({"k": "clock", "clock": "events"}))
    for number in (1, 2, 3):
        ends = {f"{tp.topic}/{tp.partition}": 10 * number for tp in (CART, ORDERS, MOVED)}
        control._note(orjson.dumps({"k": "mark", "at": at(number), "ends": ends}))
    app: Any = SimpleNamespace(
        conf=SimpleNamespace(id="journey-ingest"),
        consumer=SimpleNamespace(highwater=lambda _tp: None, on_buffer_full=None, on_buffer_drop=None),
    )
    monkeypatch.setitem(faust_fixes._begins, "journey-ingest", begins)
    log: Any = None
    return Ingest(app, Settings(), log, control)


def receive(ingest: Ingest, tp: TP, records: list[Record]) -> None:
    event: Any = SimpleNamespace(value=records, message=SimpleNamespace(tp=tp))
    ingest._receive(event)


def gone_on(ingest: Ingest) -> int:
    """Let go on what may; return how many entries that is."""
    parsed, _ = ingest.merge.take(ingest._bound())
    return len([entry for one in parsed for entry in loaded(one)])


def test_no_mark_is_reached_before_partitions_are_assigned(monkeypatch: pytest.MonkeyPatch) -> None:
    begins: dict[TP, int] = {}
    ingest = worker(monkeypatch, begins)
    assert ingest._bound() == 0.0  # as when the tail brings a mark while the worker still joins
    begins |= {CART: 0, ORDERS: 0}
    ingest.begin(ingest.app, {CART: 30, ORDERS: 30})
    receive(ingest, ORDERS, [Record(ORDERS, number, 3) for number in range(30)])
    assert ingest._bound() == 0.0  # thirty events of carts are unread
    receive(ingest, CART, [Record(CART, number, 1) for number in range(10)])
    assert ingest._bound() == at(1)
    receive(ingest, CART, [Record(CART, number, 3) for number in range(10, 30)])
    assert ingest._bound() == at(3)


def test_a_partition_that_comes_from_another_worker_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    begins = {CART: 30, ORDERS: 30}
    ingest = worker(monkeypatch, begins)
    ingest.begin(ingest.app, {CART: 30, ORDERS: 30})
    assert ingest._bound() == at(3)
    ingest.forget(ingest.app)
    begins[MOVED] = 10
    ingest.begin(ingest.app, {CART: 30, ORDERS: 30, MOVED: 30})
    assert ingest._bound() == at(1)  # of it, twenty are unread
    receive(ingest, ORDERS, [Record(ORDERS, 30, 3)])
    assert gone_on(ingest) == 0
    receive(ingest, MOVED, [Record(MOVED, number, 2) for number in range(10, 20)])
    assert gone_on(ingest) == 10
    receive(ingest, MOVED, [Record(MOVED, number, 3) for number in range(20, 30)])
    assert gone_on(ingest) == 11


@pytest.mark.parametrize("ends", [{"foo": 3}, {"events.cart/0": "x"}, {"events.cart/0": None}, 3, [1]])
def test_a_mark_that_cannot_be_read_is_left_out(monkeypatch: pytest.MonkeyPatch, ends: Any) -> None:
    ingest = worker(monkeypatch, {CART: 30})
    ingest.control._note(orjson.dumps({"k": "mark", "at": at(9), "ends": ends}))
    ingest.begin(ingest.app, {CART: 30})
    assert ingest._bound() == at(3)
