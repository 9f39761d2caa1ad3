"""A new epoch beside the live one: rebuilt to the same bytes, switched to without a trigger lost or told twice."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import groupby, islice
from pathlib import Path

import orjson
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from streams import epochs, holes, rebuild, switch, topics
from streams.errors import EpochError, RawCutError
from streams.logs import read_all
from streams.publish import clock_of, go_live
from streams.raw import RawRecord
from streams.replay import live_cuts, replay, verify
from streams.settings import Settings
from streams.shop import generate
from streams.topics import Admin
from tests.conftest import Broker
from tests.harness import Deployment, deployed, live, told, view, wall_ms
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

REST = 75  # exit status of a worker that is to be started again


class Crash(Exception):  # noqa: N818  # an end like any other
    """The operator's process dies."""


def nothing(what: str, count: int) -> None:
    """Show no progress."""


@asynccontextmanager
async def a_shop(kafka: Broker, prefix: str, directory: Path) -> AsyncIterator[Deployment]:
    """Give a deployment with a worker that has folded a shop's traffic.

    Topic by topic, so that whoever reads the raw topics again by time finds the order in which they were taken: what
    arrives in the same millisecond has none.
    """
    async with deployed(kafka.url, prefix, directory, PARTITIONS="2") as deployment:
        deployment.worker("both", "all").start()
        await topic_by_topic(deployment, islice(live(generate(customers=60, events=3_000), wall_ms()), 1_500))
        yield deployment


async def topic_by_topic(deployment: Deployment, records: Iterable[RawRecord]) -> None:
    for _, some in groupby(sorted(records, key=lambda one: one.topic), key=lambda one: one.topic):
        await deployment.publish(some)
        await deployment.at_rest()


async def switched(deployment: Deployment, kind: switch.Kind) -> None:
    """Switch while a worker runs; a supervisor starts it again."""
    (worker,) = deployment.workers
    starts: list[int | None] = []

    def restart() -> bool:
        if not worker.is_running:
            starts.append(worker.status)
            worker.start()
        return False

    supervisor = asyncio.ensure_future(eventually(restart, within_seconds=3600))
    try:
        await switch.switch(deployment.settings, kind, nothing, within=60)
        deployment.settings = await epochs.live(deployment.settings)
        await deployment.shared_by("engine", 1)
    finally:
        supervisor.cancel()
        await asyncio.gather(supervisor, return_exceptions=True)
    assert starts[0] == REST
    deployment.publisher.settings = deployment.settings


async def trigger_ids(deployment: Deployment) -> Counter[str]:
    return Counter(orjson.loads(record.value)["id"] for record in await deployment.records(topics.TRIGGERS))


async def goes_on_without_a_gap(deployment: Deployment, before: Counter[str]) -> None:
    """Publish more, and see that each trigger was told once: those of the past, and those that come."""
    assert (await trigger_ids(deployment)) == before
    later = islice(live(generate(customers=60, events=3_000), wall_ms()), 1_500, 2_500)
    await topic_by_topic(deployment, later)
    verdict = await verify(deployment.settings, within=60)
    assert verdict.identical, verdict.shown()
    await deployment.stopped()
    after = await trigger_ids(deployment)
    assert set(after.values()) == {1}
    folded = await replay(deployment.settings)
    assert {name for one in folded.values() for name in one.trigger_ids} == set(after)
    assert len(after) > len(before) > 0


async def test_an_upgrade_folds_the_same_journal_anew(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with a_shop(kafka, prefix, tmp_path) as deployment:
        before = await trigger_ids(deployment)
        was = await live_cuts(deployment.settings)
        plan = await switch.build(deployment.settings, "upgrade", nothing)
        assert plan.built is not None
        built = await live_cuts(deployment.settings.at(plan.built))
        assert {number: cut.records for number, cut in built.items()} == {
            number: cut.records for number, cut in was.items()
        }
        await switched(deployment, "upgrade")
        assert (deployment.settings.epoch.journal, deployment.settings.epoch.state) == (1, 2)
        await goes_on_without_a_gap(deployment, before)


async def test_a_rebuilt_journal_takes_over(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with a_shop(kafka, prefix, tmp_path) as deployment:
        before = await trigger_ids(deployment)
        assert await built_anew(deployment) == await built_anew(deployment)
        await switch.build(deployment.settings, "rebuild", nothing)
        with pytest.raises(EpochError, match="waits: run it with --switch or with --discard"):
            await switch.build(deployment.settings, "rebuild", nothing)
        # what is published while the new epoch waits is in it, too
        await deployment.publish([view("m-meanwhile", "meanwhile", wall_ms())])
        await deployment.at_rest()
        before += Counter((await trigger_ids(deployment)) - before)
        await switched(deployment, "rebuild")
        assert (deployment.settings.epoch.journal, deployment.settings.epoch.state) == (2, 2)
        await goes_on_without_a_gap(deployment, before)


async def test_processes_of_its_own_fold_the_journal_while_it_is_written(
    kafka: Broker, prefix: str, tmp_path: Path
) -> None:
    async with a_shop(kafka, prefix, tmp_path) as deployment:
        states = []
        for processes in (0, 2, 3):  # the third has no partition
            plan = await switch.build(deployment.settings, "rebuild", nothing, processes=processes)
            assert plan.built is not None
            states.append({n: cut.records for n, cut in (await live_cuts(deployment.settings.at(plan.built))).items()})
            await switch.discard(deployment.settings)
        assert states[0] == states[1] == states[2]

        def crash(what: str, count: int) -> None:
            raise Crash

        with pytest.raises(Crash):
            await switch.build(deployment.settings, "rebuild", crash, processes=2)
        assert multiprocessing.active_children() == []


FOLD = """
import asyncio, multiprocessing, sys
from streams.refold import Folding
from streams.settings import load

async def fold():
    async with Folding(load(), 2):
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        await asyncio.Event().wait()

if __name__ == "__main__":
    asyncio.run(fold())
"""


async def test_processes_that_fold_end_when_the_one_that_wants_it_is_killed(
    kafka: Broker, prefix: str, tmp_path: Path
) -> None:
    program = tmp_path / "fold.py"
    program.write_text(FOLD)
    async with deployed(kafka.url, prefix, tmp_path, PARTITIONS="2"):
        environment = {**os.environ, "JOURNEY_KAFKA_URL": kafka.url, "JOURNEY_TOPIC_PREFIX": prefix}
        parent = await asyncio.create_subprocess_exec(
            sys.executable, program, stdout=asyncio.subprocess.PIPE, env=environment | {"JOURNEY_PARTITIONS": "2"}
        )
        assert parent.stdout is not None
        children = [int(pid) for pid in (await parent.stdout.readline()).split()]
        assert len(children) == 2
        assert all(Path(f"/proc/{pid}").exists() for pid in children)
        parent.kill()
        await parent.wait()

        def are_gone() -> bool:
            return not any(is_running(pid) for pid in children)

        await eventually(are_gone)


def is_running(pid: int) -> bool:
    """Tell whether a process runs: not one that has ended and that nobody has asked about."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_an_interrupted_build_or_switch_leaves_the_live_epoch(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with a_shop(kafka, prefix, tmp_path) as deployment:
        before = await trigger_ids(deployment)

        def crash(what: str, count: int) -> None:
            if what in ("folding", "waiting for the engine to fold its journal"):
                raise Crash

        kinds: tuple[switch.Kind, ...] = ("upgrade", "rebuild")
        for kind in kinds:
            with pytest.raises(Crash):
                await switch.build(deployment.settings, kind, crash)
            assert await epochs.read_plan(deployment.settings) == epochs.Plan()
        await switch.build(deployment.settings, "rebuild", nothing)
        (worker,) = deployment.workers
        with pytest.raises(Crash):
            await switch.switch(deployment.settings, "rebuild", crash, within=60)
        assert await worker.ended() == REST
        assert (await epochs.read_plan(deployment.settings)).phase == "draining"
        worker.roles = "ingest"
        worker.start()
        assert await worker.ended() == 2
        assert worker.said("a switch to another epoch is under way")
        await switch.discard(deployment.settings)
        assert (await epochs.read_plan(deployment.settings)).live.journal == 1
        worker.roles = "all"
        worker.start()
        await goes_on_without_a_gap(deployment, before)


async def cut(settings: Settings, topic: str, partition: int, before: int) -> None:
    """Delete the records of a raw partition before an offset, as retention does."""
    client = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_url)
    await client.start()
    try:
        tp = TopicPartition(settings.topic(topic), partition)
        await client.delete_records({tp: RecordsToDelete(before_offset=before)})
    finally:
        await client.close()


async def test_raw_topics_that_were_cut_are_refused_unless_told_otherwise(
    kafka: Broker, prefix: str, tmp_path: Path
) -> None:
    async with a_shop(kafka, prefix, tmp_path) as deployment:
        await cut(deployment.settings, "events.click", 0, 10)
        with pytest.raises(RawCutError, match=r"events.click/0 begins at 10, 10 records before it are gone"):
            await switch.build(deployment.settings, "rebuild", nothing)
        plan = await switch.build(deployment.settings, "rebuild", nothing, past="rest")
        assert plan.built is not None
        whole = sum(one.entries for one in (await replay(deployment.settings)).values())
        rest = sum(one.entries for one in (await replay(deployment.settings.at(plan.built))).values())
        assert 0 < rest < whole


async def test_what_was_cut_comes_from_the_live_journal(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with a_shop(kafka, prefix, tmp_path) as deployment:
        before = await trigger_ids(deployment)
        whole = await built_anew(deployment)
        await cut(deployment.settings, "events.click", 0, 10)
        await cut(deployment.settings, "events.cart", 1, 3)
        await cut(deployment.settings, "events.purchase", 0, 1)
        books = [await built_anew(deployment, "journal") for _ in range(2)]
        assert books[0] == books[1]
        assert applied(books[0]) == applied(whole)
        await switch.build(deployment.settings, "rebuild", nothing, past="journal")
        await switched(deployment, "rebuild")
        assert (deployment.settings.epoch.journal, deployment.settings.epoch.state) == (2, 2)
        await goes_on_without_a_gap(deployment, before)
        # the new journal has what is gone as well: it can be made again
        again = await built_anew(deployment, "journal")
        assert applied(again) >= applied(whole)


async def test_what_retention_takes_before_the_switch_is_missed_before_anybody_rests(
    kafka: Broker, prefix: str, tmp_path: Path
) -> None:
    async with deployed(kafka.url, prefix, tmp_path, PARTITIONS="1") as deployment:
        worker = deployment.worker("both", "all").start()
        await deployment.publish(view(f"m-{number}", "1", wall_ms()) for number in range(5))
        await deployment.at_rest()
        await switch.build(deployment.settings, "rebuild", nothing)
        await deployment.publish(view(f"n-{number}", "1", wall_ms()) for number in range(5))
        await deployment.at_rest()
        await cut(deployment.settings, "events.click", 0, 8)
        with pytest.raises(RawCutError, match="begins at 8, 3 records before it are gone"):
            await switch.switch(deployment.settings, "rebuild", nothing, within=60)
        assert (await epochs.read_plan(deployment.settings)).phase == "live"
        assert worker.is_running
        await switch.discard(deployment.settings)
        await deployment.stopped()
        await deployment.publish([view("lost", "1", wall_ms()), view("last", "1", wall_ms())])
        await cut(deployment.settings, "events.click", 0, 11)
        with pytest.raises(EpochError, match=r"begins at 11, and ingest has read it up to 10 only.*accept-hole"):
            await switch.build(deployment.settings, "rebuild", nothing, past="journal")


Book = tuple[list[tuple[int, bytes]], dict[int, dict[bytes, bytes]]]


async def built_anew(deployment: Deployment, past: rebuild.Past = "raw") -> Book:
    """Rebuild and discard; return the pages and the state that were made."""
    plan = await switch.build(deployment.settings, "rebuild", nothing, past=past)
    assert plan.built is not None
    target = deployment.settings.at(plan.built)
    pages = [(one.partition, one.value) async for one in read_all(target, target.topic(topics.JOURNAL))]
    state = {number: cut.records for number, cut in (await live_cuts(target)).items()}
    await switch.discard(deployment.settings)
    return sorted(pages), state


def applied(book: Book) -> set[tuple[int, bytes]]:
    """Return what the pages of a journal say of raw records, in whichever order."""
    return {(number, orjson.dumps(entry)) for number, page in book[0] for entry in orjson.loads(page) if "src" in entry}


async def test_a_hole_that_retention_made_is_accepted(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with deployed(kafka.url, prefix, tmp_path, PARTITIONS="1") as deployment:
        worker = deployment.worker("both", "all").start()
        await deployment.publish(view(f"m-{number}", "1", wall_ms()) for number in range(5))
        await deployment.at_rest()
        assert await holes.accept(deployment.settings, do_it=True) == []
        await deployment.stopped()
        await deployment.publish(view(f"n-{number}", "1", wall_ms()) for number in range(5))
        await cut(deployment.settings, "events.click", 0, 8)
        worker.start()
        assert await worker.ended() == 70
        assert worker.said("PositionGapError")
        found = await holes.accept(deployment.settings, do_it=False)
        assert [(hole.begin, hole.lost) for hole in found] == [(5, 3)]
        worker.start()
        assert await worker.ended() == 70
        async with Admin(deployment.settings) as admin:
            group = deployment.settings.app_id("ingest")

            async def nobody() -> bool:
                return await admin.members(group) == 0

            await eventually(nobody)
        await holes.accept(deployment.settings, do_it=True)
        worker.start()
        await deployment.at_rest()
        assert (await verify(deployment.settings, within=30)).events == 7


async def test_a_journal_on_the_events_clock_goes_live_and_is_rebuilt(
    kafka: Broker, prefix: str, tmp_path: Path
) -> None:
    async with deployed(kafka.url, prefix, tmp_path, PARTITIONS="1") as deployment:
        deployment.worker("both", "all").start()
        await deployment.publisher.use_events_clock()
        long_ago = wall_ms() - 100 * 86_400_000
        for day in range(3):
            at = long_ago + day * 86_400_000
            await deployment.publish([told("click.page_viewed", f"m-{day}", "1", at=at, received_at=at)])
            await deployment.publisher.mark(at)
        await deployment.at_rest()
        assert await go_live(deployment.settings, within=30)
        assert not await go_live(deployment.settings, within=30)
        assert await clock_of(deployment.settings) == ("wall", False)
        await deployment.publish([view("m-live", "1", wall_ms())])
        await deployment.at_rest()
        before = await trigger_ids(deployment)
        await switch.build(deployment.settings, "rebuild", nothing)
        await switched(deployment, "rebuild")
        assert (await trigger_ids(deployment)) == before
        verdict = await verify(deployment.settings, within=60)
        assert verdict.identical, verdict.shown()
        assert verdict.events == 4
