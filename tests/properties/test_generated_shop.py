from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from journey.stages import CHURN, NAMES, stage_name
from journey.triggers import TRIGGER
from streams.shop import Shop, generate, open_shop
from tests.factories import of_type
from tests.properties.shop_journal import Folded, fold_shop
from tests.schemas.catalogue import validator

ROOT = Path(__file__).parents[2]
MEAN_RECORD_BYTES = 1800  # of which what models need to know takes a quarter
TRIGGER_BYTES = 20_000


@pytest.fixture(scope="module")
def shop() -> Shop:
    return open_shop()


@pytest.fixture(scope="module")
def folded(shop: Shop) -> Folded:
    return fold_shop(shop.records)


def test_every_record_is_accounted_for(shop: Shop, folded: Folded) -> None:
    summary = shop.summary
    customers = [orjson.loads(raw) for raw in folded.customers()]
    assert folded.letters == summary.dead_lettered
    assert sum(customer.get("duplicates", 0) for customer in customers) == summary.duplicates
    assert sum(sum(customer["counts"].values()) for customer in customers) == summary.accepted
    assert sum(shard.counts["failed_timers"] for shard in folded.shards) == 0
    assert all(shard.partition["clock"] == "events" for shard in folded.shards)


def test_every_order_and_cent_is_counted_once(shop: Shop, folded: Folded) -> None:
    orders = [orjson.loads(raw).get("orders", {}) for raw in folded.customers()]
    assert sum(one.get("completed", 0) for one in orders) == shop.summary.orders
    assert sum(one.get("revenue", {}).get("EUR", 0) for one in orders) <= shop.summary.revenue_minor


def test_a_customer_record_has_1800_bytes_on_average_after_24_events_in_three_months(
    record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    folded = fold_shop(generate(customers=600, events=600 * 24, days=90))
    lengths = [len(raw) for raw in folded.customers()]
    mean = sum(lengths) / len(lengths)
    record_property("mean_record_bytes", mean)
    with capsys.disabled():
        sys.stdout.write(f"[{len(lengths)} customer records: {mean:.0f} bytes on average, {max(lengths)} at most]")
    assert mean <= MEAN_RECORD_BYTES


def test_all_that_is_told_fits_its_schema_and_has_an_id_of_its_own(folded: Folded) -> None:
    triggers = [one for shard in folded.shards for one in shard.triggers]
    assert len({one.id for one in triggers}) == len(triggers)
    assert len(of_type(triggers, TRIGGER)) > 100
    for number, one in enumerate(triggers):
        assert len(orjson.dumps(one.body)) < TRIGGER_BYTES
        if number % 20 == 0 or one.body["type"] == TRIGGER:
            validator("journey.trigger.v1").validate(one.body)


def test_customers_come_to_every_stage(folded: Folded) -> None:
    stages = Counter(stage_name(orjson.loads(raw)) for raw in folded.customers())
    assert set(stages) == {*NAMES, CHURN}
    assert min(stages[name] for name in ("purchase", "use", "loyalty", CHURN)) > 20


def test_no_cart_is_reminded_of_twice(folded: Folded) -> None:
    reminders = of_type((one for shard in folded.shards for one in shard.triggers), TRIGGER)
    carts = [(one.key, one.body["data"]["run_key"]) for one in reminders]
    assert len(carts) == len(set(carts))


def test_every_hash_seed_folds_to_the_same_bytes() -> None:
    def folds(seed: int) -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)}
        program = [sys.executable, "-m", "tests.properties.shop_journal"]
        return subprocess.Popen(program, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)

    digests = set()
    for process in [folds(seed) for seed in (0, 1, 2)]:
        told, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        digests.add(told)
    assert len(digests) == 1
    assert len(digests.pop()) == 32
