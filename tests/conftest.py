"""What every test may ask for: a broker, a Redis, and names that no other test uses."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from streams import compiled
from tests.order import interleaved
from tests.servers import KafkaServer, RedisServer, Server, ServerNotPreparedError

compiled.check()  # else half of what is tested is of yesterday

_RUN = f"{os.getpid()}-{time.monotonic_ns() // 1_000_000}"
_counter = itertools.count(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Share tests out well among processes, where there are several."""
    if shared := getattr(config, "workerinput", None):
        items[:] = interleaved(items, shared["workercount"])


class Broker(Protocol):
    """A Kafka that other tests use too: never to be stopped."""

    @property
    def url(self) -> str: ...


class StartKafka(Protocol):
    """Starts a broker that is the test's own: it may kill it, freeze it, and start it again."""

    def __call__(self, *, properties: Mapping[str, str | int] | None = None) -> KafkaServer: ...


@dataclass(frozen=True)
class BrokerElsewhere:
    """The broker that JOURNEY_KAFKA_URL names."""

    url: str


def start_or_fail(server: Server) -> None:
    missing = ""
    try:
        server.start()
    except ServerNotPreparedError as error:
        missing = str(error)
    if missing:  # after the except, or the report would show the same line twice
        pytest.fail(missing, pytrace=False)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for all tests of this process; topics of one test are told apart by `prefix`."""
    if elsewhere := os.environ.get("JOURNEY_KAFKA_URL"):
        yield BrokerElsewhere(elsewhere)
        return
    server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    start_or_fail(server)
    yield server
    server.kill()


@pytest.fixture
def start_kafka(tmp_path: Path) -> Iterator[StartKafka]:
    """For tests that kill their broker, or that want one with other properties."""
    if os.environ.get("JOURNEY_KAFKA_URL"):
        pytest.skip("this test ends its broker: unset JOURNEY_KAFKA_URL to give it one of its own")
    started: list[KafkaServer] = []

    def start(*, properties: Mapping[str, str | int] | None = None) -> KafkaServer:
        server = KafkaServer(tmp_path / f"kafka-{len(started)}", properties=properties)
        started.append(server)
        start_or_fail(server)
        return server

    yield start
    for server in started:
        server.kill()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Redis for all tests of this process; never the one of JOURNEY_REDIS_URL, which may hold somebody's data."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    start_or_fail(server)
    yield server.url
    server.kill()


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """Start of the topic, group and key names of this test: letters, digits, hyphens; at most 70 characters."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return f"{name[:40].rstrip('-')}-{_RUN}-{next(_counter)}"
