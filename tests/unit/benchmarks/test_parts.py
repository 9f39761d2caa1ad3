"""What the benchmarks are made of, without a broker: traffic that is valid, figures that are what they say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import orjson

from benchmarks import peers, picture, traffic
from benchmarks.quix import Tally, folded
from benchmarks.stream import CAUSE, MESSAGE, percentile
from journey.engine import Shard, fold
from journey.entries import read_page
from streams.raw import RawRecord
from streams.records import parse_events

NOON = 1_795_176_000_000


def consumed(records: list[RawRecord]) -> list[Any]:
    return [
        SimpleNamespace(
            topic=one.topic, partition=0, offset=offset, timestamp=NOON, key=one.key, value=one.value, headers=[]
        )
        for offset, one in enumerate(records)
    ]


def test_each_new_customer_gives_one_trigger_that_names_its_message() -> None:
    records = [traffic.new_customer(number, NOON + number) for number in range(50)]
    parsed = parse_events("click", consumed(records), 1)
    assert not [one for one in parsed if one.dead_letter]
    page = b"[" + b",".join(entry for one in parsed for _, entry in one.entries) + b"]"
    shard = Shard(0, lambda key: None, ())
    fold(shard, 0, read_page(page))
    bodies = [orjson.dumps(trigger.body) for trigger in shard.triggers]
    causes = [found[1] for body in bodies if (found := CAUSE.search(body)) is not None]
    sent = [found[1] for one in records if (found := MESSAGE.search(one.value)) is not None]
    assert causes == sent
    assert len(set(sent)) == 50


def test_all_traffic_is_valid_and_wide_traffic_has_many_customers() -> None:
    narrow, wide = traffic.generate(2_000, until=NOON), traffic.wide(2_000, until=NOON)
    for records in (narrow, wide):
        for name in {one.topic for one in records}:
            parsed = parse_events(name.partition(".")[2], consumed([one for one in records if one.topic == name]), 8)
            assert not [one.dead_letter for one in parsed if one.dead_letter]
    assert len({one.key for one in wide}) > 2 * len({one.key for one in narrow})


def test_the_same_traffic_comes_again() -> None:
    assert traffic.wide(200, until=NOON) == traffic.wide(200, until=NOON)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(100)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([7.0], 0.99)) == (50.0, 99.0, 7.0)


def test_the_peers_job_counts_and_tells_a_change_of_stage_once() -> None:
    tally = Tally()
    stored: dict[str, Any] = {}
    state = SimpleNamespace(get=stored.get, set=stored.__setitem__)
    told = [
        folded(orjson.loads(traffic.new_customer(number, NOON).value) | {"received_at": "now"}, "a:1", state, tally)
        for number in range(5)
    ]
    assert [one and (one["from"], one["to"]) for one in told] == [
        (None, "awareness"), None, ("awareness", "interest"), None, None,
    ]  # fmt: skip
    assert tally.events == stored["customer"]["clicks"] == 5


def test_peers_are_pinned_by_hash_and_no_host_is_named() -> None:
    pinned = peers.PINNED.read_text()
    assert peers.version("quixstreams") == "3.28.1"
    assert "://" not in pinned
    assert pinned.count("==") == sum(
        "--hash=sha256:" in part for part in pinned.replace("\\\n", " ").splitlines() if "==" in part
    )


def test_a_chart_is_xml_with_a_line_for_each_series() -> None:
    lines = [picture.Line("a < b", [(1, 10), (2, 20), (64, 3_000)]), picture.Line("c", [(1, 5), (64, 7)])]
    for log in (False, True):
        drawn = ElementTree.fromstring(picture.chart("title", "x", "y", lines, log_x=log, log_y=log))  # noqa: S314
        assert len(drawn.findall("{http://www.w3.org/2000/svg}polyline")) == 2
