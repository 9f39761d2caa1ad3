from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError
from redis.asyncio import Redis

from tests.conftest import Broker, StartKafka
from tests.servers import HOST, ROOT, RedisServer, ServerError
from tests.waiting import eventually, eventually_sync

pytestmark = pytest.mark.e2e


async def create(url: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=url)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def append(url: str, topic: str, value: bytes) -> int:
    producer = AIOKafkaProducer(bootstrap_servers=url)
    await producer.start()
    try:
        written = await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()
    offset: int = written.offset
    return offset


async def first_value(url: str, topic: str, group: str) -> bytes:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=url, group_id=group, auto_offset_reset="earliest")
    await consumer.start()
    try:
        record = await consumer.getone()
    finally:
        await consumer.stop()
    value: bytes = record.value
    return value


async def test_a_group_reads_what_was_written(kafka: Broker, prefix: str) -> None:
    topic = f"{prefix}.topic"
    await create(kafka.url, topic)
    assert await append(kafka.url, topic, b"hello") == 0
    assert await first_value(kafka.url, topic, prefix) == b"hello"


async def test_a_topic_that_nobody_created_is_not_there(kafka: Broker, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.url)
    await admin.start()
    try:
        (told,) = await admin.describe_topics([f"{prefix}.never-created"])
    finally:
        await admin.close()
    assert told["error_code"] == UnknownTopicOrPartitionError.errno


async def test_a_killed_broker_comes_back_with_its_records(start_kafka: StartKafka) -> None:
    broker = start_kafka()
    url, pid = broker.url, broker.pid
    await create(url, "kept")
    await append(url, "kept", b"before")
    broker.kill()
    await asyncio.to_thread(broker.start)
    assert broker.url == url
    assert broker.pid != pid
    assert await append(url, "kept", b"after") == 1
    assert await first_value(url, "kept", "readers") == b"before"


async def test_a_frozen_broker_answers_once_it_is_thawed(start_kafka: StartKafka) -> None:
    broker = start_kafka()
    await create(broker.url, "frozen")
    producer = AIOKafkaProducer(bootstrap_servers=broker.url)
    await producer.start()
    await producer.send_and_wait("frozen", b"before")
    broker.freeze()
    pending = await producer.send("frozen", b"during")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(pending), 0.5)
    broker.thaw()
    assert (await pending).offset == 1
    await producer.stop()


def test_a_broker_that_cannot_start_shows_the_end_of_its_log(start_kafka: StartKafka) -> None:
    with pytest.raises(ServerError, match=r"(?s)ended with status 1.*no\.such\.Authorizer"):
        start_kafka(properties={"authorizer.class.name": "no.such.Authorizer"})


async def test_redis_answers(redis_url: str, prefix: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        await redis.set(prefix, "kept")
        assert await redis.get(prefix) == b"kept"


async def test_a_killed_redis_comes_back_empty(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        async with Redis.from_url(server.url) as redis:
            await redis.set("key", "lost")
        server.kill()
        server.start()
        async with Redis.from_url(server.url) as redis:
            assert await redis.get("key") is None


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "first") as first, pytest.raises(ServerError, match="in use"):
        RedisServer(tmp_path / "second", port=first.port).start()


def test_servers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys, threading; from tests.servers import RedisServer\n"
        "server = RedisServer(pathlib.Path(sys.argv[1]))\n"
        # a thread that ends does not take the server along
        "starter = threading.Thread(target=server.start); starter.start(); starter.join()\n"
        "server.freeze(); server.thaw()\n"
        "print(server.pid, flush=True); sys.stdin.readline(); os._exit(1)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.stdin.write("\n")
        parent.stdin.close()
        eventually_sync(lambda: not is_alive(pid), within_seconds=10)


def is_alive(pid: int) -> bool:
    # a process that ended but was not yet waited for has a state, and no longer a command
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except FileNotFoundError:
        return False


async def test_two_servers_do_not_share_a_port(tmp_path: Path) -> None:
    servers = [RedisServer(tmp_path / str(number)) for number in range(3)]
    assert len({server.port for server in servers}) == 3
    assert HOST in servers[0].url


async def test_waiting_ends_when_the_fact_holds() -> None:
    looks = iter([False, False, True])

    async def holds() -> bool:
        return next(looks)

    await eventually(holds, within_seconds=5)
    assert next(looks, "used up") == "used up"
