"""The simulation of growth keeps the laws that queues have, and the page quotes what it prints."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import scale_sim
from benchmarks.scale_sim import SKEWS, WORKERS, Cluster, Costs, Shop
from tests.docs.pages import text_of

COSTS = Costs()
PLENTY = Cluster(1, brokers=1_000)


@pytest.mark.parametrize("skew", SKEWS)
def test_twice_the_workers_are_never_slower_and_never_more_than_twice_as_fast(skew: float) -> None:
    limits = [
        scale_sim.limit(COSTS, Shop(1_000_000, 1.0, skew), replace(PLENTY, workers=workers)) for workers in WORKERS
    ]
    for fewer, more in pairwise(limits):
        assert fewer <= more <= 2 * fewer * (1 + 1e-9)


def test_without_skew_no_worker_more_makes_it_slower() -> None:
    shop = Shop(1_000_000, 1.0, skew=0.0)
    limits = [scale_sim.limit(COSTS, shop, replace(PLENTY, workers=workers)) for workers in range(1, 65)]
    for fewer, more in pairwise(limits):
        assert more > fewer * 0.99  # partitions of equal customers are not quite equal


@pytest.mark.parametrize("skew", SKEWS)
def test_nothing_is_faster_than_the_partition_of_the_heaviest_customer(skew: float) -> None:
    shop = Shop(1_000_000, 1.0, skew)
    heaviest = max(scale_sim.shares(shop, 64))
    found = scale_sim.limit(COSTS, shop, replace(PLENTY, workers=64))
    assert found == pytest.approx(0.99 * 1e6 / max(COSTS.ingest_us, COSTS.engine_us) / heaviest)


@pytest.mark.parametrize("skew", SKEWS)
def test_the_parts_of_all_partitions_add_up(skew: float) -> None:
    assert sum(scale_sim.shares(Shop(1_000_000, 1.0, skew), 64)) == pytest.approx(1.0)


def test_more_skew_makes_the_fullest_partition_fuller() -> None:
    fullest = [max(scale_sim.shares(Shop(1_000_000, 1.0, skew), 64)) for skew in SKEWS]
    assert fullest == sorted(fullest)
    assert fullest[0] == pytest.approx(1 / 64, rel=0.01)


def test_utilisation_is_the_rate_times_the_cost() -> None:
    shop = Shop(1_000_000, 20_000.0, skew=0.0)
    done = scale_sim.simulate(replace(COSTS, round_us=0.0), shop, replace(PLENTY, workers=2), 20.0)
    assert done.utilisation == pytest.approx([10_000 * COSTS.engine_us / 1e6] * 2, rel=0.02)
    assert done.worst_wait < 1.0


def test_above_the_limit_the_wait_grows_below_it_does_not() -> None:
    shop = Shop(1_000_000, 1.0, skew=1.0)
    cluster = replace(PLENTY, workers=4)
    most = scale_sim.limit(COSTS, shop, cluster)
    below = scale_sim.simulate(COSTS, replace(shop, events_per_second=0.9 * most), cluster, 30.0)
    above = scale_sim.simulate(COSTS, replace(shop, events_per_second=1.3 * most), cluster, 30.0)
    assert below.worst_wait < 1.0 < above.worst_wait


def test_brokers_pass_on_no_more_than_they_can() -> None:
    small = Cluster(64, broker_mib=1.0)
    shop = Shop(1_000_000, 1e9, skew=0.0)
    assert scale_sim.limit(COSTS, shop, small) == scale_sim.broker_limit(COSTS, small)
    assert scale_sim.simulate(COSTS, shop, small, 1.0).broker_load > 1.0


@pytest.mark.parametrize("rate", [5.0, 500.0, 50_000.0])
def test_as_many_events_come_as_the_rate_says(rate: float) -> None:
    done = scale_sim.simulate(replace(COSTS, round_us=0.0), Shop(1_000_000, rate), replace(PLENTY, workers=8), 120.0)
    assert sum(done.utilisation) == pytest.approx(rate * COSTS.engine_us / 1e6, rel=0.1)


def test_a_kill_keeps_its_customers_waiting_for_the_outage_and_others_not() -> None:
    shop = Shop(1_000_000, 2_000.0, skew=0.0)
    cluster = replace(PLENTY, workers=2)
    gone = scale_sim.outage(COSTS, shop, cluster)
    calm = scale_sim.simulate(COSTS, shop, cluster, gone + 30)
    crashed = scale_sim.simulate(COSTS, shop, cluster, gone + 30, crash_at=10.0)
    assert calm.worst_wait < 1.0
    assert gone * 0.95 < crashed.worst_wait < gone + 2.0


def test_the_same_arguments_give_the_same_outcome() -> None:
    shop, cluster = Shop(10_000, 500.0), Cluster(2)
    assert scale_sim.simulate(COSTS, shop, cluster, 5.0) == scale_sim.simulate(COSTS, shop, cluster, 5.0)


def test_costs_come_from_the_last_line_of_a_run(tmp_path: Path) -> None:
    run = tmp_path / "bench.txt"
    run.write_text('a table\n{"ingest_us": 7.5, "engine_us": null, "events": 3}\n')
    assert Costs.read(run) == replace(COSTS, ingest_us=7.5)


@pytest.mark.parametrize("lines", [scale_sim.table(COSTS), scale_sim.growth_table(COSTS)], ids=["shops", "workers"])
def test_the_page_quotes_what_the_program_prints(lines: list[str]) -> None:
    assert "\n".join(lines) in text_of("docs/scale.md")


def test_the_picture_of_the_page_is_the_one_the_program_draws() -> None:
    assert scale_sim.drawn(COSTS) == text_of("docs/scale.svg")
