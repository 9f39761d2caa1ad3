"""The steps of ``journey upgrade`` and ``journey rebuild``: build a new epoch, switch to it, discard it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from journey.state import partition_key
from streams import epochs, topics
from streams.epochs import Plan
from streams.errors import EpochError
from streams.logs import consumer, end_offsets, read_all
from streams.rebuild import Past, raw_spans, write_journal
from streams.refold import Folding, fold_on, processes_for
from streams.settings import OF_A_JOURNAL, Epoch, Settings
from streams.topics import Admin

Kind = Literal["upgrade", "rebuild"]
Told = Callable[[str, int], None]  # what is being done, and how many of it are done
LOOK: Final = 0.2  # s between two looks at what is waited for


async def build(
    settings: Settings, kind: Kind, told: Told, *, past: Past = "raw", processes: int | None = None
) -> Plan:
    """Make a new epoch beside the live one, up to where the live one stands now. Workers may run.

    Parameters
    ----------
    past
        Where to take from what the raw topics no longer have, when rebuilding (see ``write_journal``).
    processes
        That fold a rebuilt journal while it is written; by default as many as it is worth, 0 is none but this one.

    Raises
    ------
    EpochError
        There is one already, or a switch is under way; or the journal lacks what it was to give.
    RawCutError
        To rebuild, the raw topics have to be whole, unless ``past`` says otherwise.
    """
    async with Admin(settings) as admin:
        await admin.create()
        plan = await epochs.read_plan(settings)
        if plan.built is not None:
            msg = f"an epoch built by `journey {plan.kind}` waits: run it with --switch or with --discard"
            raise EpochError(msg)
        old = settings.at(plan.live)
        number = plan.newest + 1
        epoch = Epoch(journal=number if kind == "rebuild" else plan.live.journal, state=number)
        target = settings.at(epoch)
        await admin.delete(_topics_of(target, plan.live))  # what an interrupted build left
    async with Admin(target) as admin:
        await admin.create()
        if kind == "rebuild":
            taken = await admin.committed(old.app_id("ingest"))
            if processes is None:
                processes = processes_for(sum(taken.values()))
            async with Folding(target, processes) as folding:
                epoch = await _rebuild(old, target, taken, folding, told, past)
        else:
            await fold_on(target, await _folded_ends(admin, old), lambda count: told("folding", count))
    return await epochs.write_plan(settings, plan.model_copy(update={"built": epoch, "kind": kind}))


async def _rebuild(
    old: Settings, target: Settings, ends: Mapping[tuple[str, int], int], folding: Folding, told: Told, past: Past
) -> Epoch:
    """Make a journal up to where the live one stands, and fold it while it is written."""

    def journalled(count: int) -> None:
        told("journalling", count)
        if folding.count:
            told("folding", folding.count)

    raw = await write_journal(old, target, {}, ends, {}, {}, journalled, past=past)
    last = await end_offsets(target, target.topic(topics.JOURNAL))
    await folding.finish(last, lambda count: told("folding", count))
    return target.epoch.model_copy(update={"raw": raw})


async def switch(settings: Settings, kind: Kind, told: Told, *, within: float) -> Plan:
    """Make the built epoch the live one: workers rest, it catches up, and what they read next is set.

    Parameters
    ----------
    within
        Seconds to wait for workers to rest, and for the engine to fold the rest of its journal.

    Raises
    ------
    EpochError
        Nothing was built, or the workers did not rest in time.
    RawCutError
        Retention took raw records that the new journal still needs.
    """
    plan = await epochs.read_plan(settings)
    if plan.built is None or plan.kind != kind:
        msg = f"there is nothing to switch to: run `journey {kind}` first"
        raise EpochError(msg)
    old, target = settings.at(plan.live), settings.at(plan.built)
    async with Admin(target) as admin:
        if kind == "rebuild":
            async with consumer(old) as client:  # said before anybody rests
                await raw_spans(client, old, target.epoch.raw, {}, "raw")
            plan = await epochs.write_plan(settings, plan.model_copy(update={"phase": "draining"}))
            told("waiting for ingest to rest", 0)
            await _rests(admin, old, "ingest", within)
            told("waiting for the engine to fold its journal", 0)
            await _drained(old, within)
        plan = await epochs.write_plan(settings, plan.model_copy(update={"phase": "switching"}))
        told("waiting for the engine to rest", 0)
        await _rests(admin, old, "engine", within)
        await _rests(admin, old, "ingest", within)
        stood = await partition_records(old)
        epoch = target.epoch
        if kind == "rebuild":
            begun = await partition_records(target)
            raw = await write_journal(
                old, target, epoch.raw, await admin.committed(old.app_id("ingest")),
                {number: int(one["now"]) for number, one in begun.items()},
                {number: int(one["now"]) for number, one in stood.items()},
                lambda count: told("journalling", count),
            )  # fmt: skip
            ends = await end_offsets(target, target.topic(topics.JOURNAL))
            epoch = epoch.model_copy(update={"raw": raw})
            await begin_at(target, "ingest", {_partition_of(name): end for name, end in raw.items()})
        else:
            ends = await _folded_ends(admin, old)
        folded = await fold_on(target, ends, lambda count: told("folding", count))
        since = {number: int(one["at"]) for number, one in folded.items()}
        journal = target.topic(topics.JOURNAL)
        await begin_at(target, "engine", {TopicPartition(journal, number): at + 1 for number, at in since.items()})
    sent = await end_offsets(settings, settings.topic(topics.TRIGGERS))
    epoch = epoch.model_copy(update={"since": since, "triggers": sent})
    done = Plan(live=epoch, newest=max(plan.newest, epoch.journal, epoch.state))
    return await epochs.write_plan(settings, done)


async def discard(settings: Settings) -> Plan:
    """Forget the built epoch and delete its topics; the live one goes on, also when a switch was interrupted.

    Raises
    ------
    EpochError
        There is none.
    """
    plan = await epochs.read_plan(settings)
    if plan.built is None:
        msg = "there is nothing to discard: no epoch was built beside the live one"
        raise EpochError(msg)
    kept = await epochs.write_plan(settings, Plan(live=plan.live, newest=plan.newest))
    async with Admin(settings) as admin:
        await admin.delete(_topics_of(settings.at(plan.built), plan.live))
    return kept


async def partition_records(settings: Settings) -> dict[int, dict[str, Any]]:
    """Return the newest partition record of each journal partition, of whichever fold version."""
    newest: dict[int, dict[str, Any]] = {}
    async for record in read_all(settings, topics.changelog(settings)):
        if record.key == partition_key(record.partition):
            told = orjson.loads(record.value)
            if told["at"] > newest.get(record.partition, {"at": -1})["at"]:
                newest[record.partition] = told
    return newest


async def _folded_ends(admin: Admin, old: Settings) -> dict[int, int]:
    """Return how far the live epoch has folded its journal, also when its state was lost since."""
    journal = old.topic(topics.JOURNAL)
    committed = await admin.committed(old.app_id("engine"))
    ends = {number: offset for (topic, number), offset in committed.items() if topic == journal}
    for number, one in (await partition_records(old)).items():
        ends[number] = max(one["at"] + 1, ends.get(number, 0))
    return ends


def _topics_of(target: Settings, live: Epoch) -> list[str]:
    """Return the topics that are an epoch's alone; samples, and what was learned from them, are a journal's."""
    own = [topics.changelog(target)]
    return own if target.epoch.journal == live.journal else [*own, *map(target.topic, sorted(OF_A_JOURNAL))]


def _partition_of(name: str) -> TopicPartition:
    topic, _, number = name.rpartition("/")
    return TopicPartition(topic, int(number))


async def _rests(admin: Admin, old: Settings, role: str, within: float) -> None:
    """Return when no worker has a role any more."""
    try:
        async with asyncio.timeout(within):
            while await _is_taken(admin, old.app_id(role)):
                await asyncio.sleep(LOOK)
    except TimeoutError:
        msg = (
            f"a worker still has the role {role} after {within:.0f} s: stop it, and run the same command again; "
            "or --discard, and everything goes on as before"
        )
        raise EpochError(msg) from None


async def _is_taken(admin: Admin, group: str) -> bool:
    try:
        return await admin.members(group) > 0
    except KafkaError:  # who coordinates the group does not know yet
        return True


async def _drained(old: Settings, within: float) -> None:
    """Return when the engine has folded its whole journal."""
    ends = await end_offsets(old, old.topic(topics.JOURNAL))
    try:
        async with asyncio.timeout(within):
            while True:
                stood = await partition_records(old)
                left = sum(end - 1 - stood.get(number, {"at": -1})["at"] for number, end in ends.items())
                if left <= 0:
                    return
                await asyncio.sleep(LOOK)
    except TimeoutError:
        msg = (
            f"the engine has not folded its journal to the end within {within:.0f} s: have a worker run (it does this "
            "much while a switch is under way), and run the same command again; or --discard"
        )
        raise EpochError(msg) from None


async def begin_at(target: Settings, role: str, offsets: Mapping[TopicPartition, int]) -> None:
    """Commit for a role, no worker of which runs, where it goes on."""
    client: Any = AIOKafkaConsumer(
        bootstrap_servers=target.kafka_url, group_id=target.app_id(role), enable_auto_commit=False
    )
    await client.start()
    try:
        client.assign(list(offsets))
        await client.commit(dict(offsets))
    finally:
        await client.stop()
