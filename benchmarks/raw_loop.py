"""The limit: consume the raw topics, parse each value, write the same bytes back. No framework, no state, no recovery.

Run as a process of its own (``python -m benchmarks.raw_loop URL OUT EVENTS
TOPIC ...``), which prints its figures as a line of JSON.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.appends import Log

BATCH_BYTES = 900_000  # as the journey engine's


async def copy(url: str, out: str, events: int, topics: list[str]) -> dict[str, float]:
    """Copy so many records; return the events, the seconds and the CPU seconds it took."""
    consumer: Any = AIOKafkaConsumer(bootstrap_servers=url, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    log = await Log(url, BATCH_BYTES).start()
    sources = [TopicPartition(name, number) for name in topics for number in range(await log.partitions(name))]
    consumer.assign(sources)
    await consumer.seek_to_beginning(*sources)
    copied, begin, cpu = 0, time.perf_counter(), time.process_time()
    while copied < events:
        fetched = await consumer.getmany(timeout_ms=1000)
        by_partition: dict[int, list[tuple[bytes | None, bytes]]] = {}
        for tp, records in fetched.items():
            out_records = by_partition.setdefault(tp.partition, [])
            for record in records:
                orjson.loads(record.value)
                out_records.append((record.key, record.value))
            copied += len(records)
        await log.append_all(out, by_partition)
    figures = {"events": copied, "seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}
    await log.stop()
    await consumer.stop()
    return figures


if __name__ == "__main__":
    address, to, count, *names = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(orjson.dumps(runner.run(copy(address, to, int(count), names))).decode())
