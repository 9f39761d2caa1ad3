"""What is wrong with a deployment, and what to do about it: the broker, the topics, the settings, the workers.

Looks, and changes nothing. Each look has a bound, and what it cannot see is a
finding, too: a set-up that is broken is what this is for.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import orjson
from aiokafka.errors import KafkaError

from journey.adoptions import Standing
from journey.errors import MissingModelError
from journey.state import FOLD_VERSION, partition_key
from streams import compiled, epochs, faust_fixes, read_model, status, topics
from streams.control import ControlLog
from streams.errors import ShellError, SnapshotError, StaleBuildError
from streams.logs import consumer, partitions_of, spans_of
from streams.models_log import ModelsLog
from streams.settings import EXAMPLE_KEY, Settings
from streams.snapshots import check_loads
from streams.topics import Admin

PATIENCE: Final = 20.0  # s for each look
DISK_LEFT: Final = 1 << 30  # bytes
SKEW: Final = 1.0  # s between a worker's clock and the broker's
WAITED: Final = 60.0  # s that the oldest unread record may have waited
LATE: Final = 60.0  # s that a cart timer may be late
UNLEARNED: Final = 20_000  # samples; a learner takes some hundred a second
OLD: Final = 7 * 24 * 3600.0  # s since the newest sample that any model has learned
TODO: Final = {"learn": "customers are scored by the models there are, and none learns; "}  # before how to start one
NO_STATE: Final = "state: none is stored yet"
EVICTS_ALL: Final = ("allkeys-lru", "allkeys-lfu", "allkeys-random", "allkeys-lrm")

Level = Literal["ok", "warning", "fault"]


class Finding(NamedTuple):
    """One thing that was looked at; ``todo`` is empty when all is well."""

    level: Level
    what: str
    todo: str = ""


# of each topic and partition: how many copies it has, and how many of them are up to date
Places = Mapping[str, Mapping[int, tuple[int, int]]]


async def examine(settings: Settings, wall: int) -> list[Finding]:
    """Return what was found, in the order in which to mend it; ``wall`` is the time now in ms."""
    found = [*of_program(), *of_store(settings), of_key(settings)]
    reached = await _looked("the broker", _cluster(settings))
    found += reached
    if reached[0].level == "ok":  # else nothing of the rest can be seen
        settings = await _live(settings)
        found += await _looked("the topics", _topics(settings))
        found += await _looked("the stored state", _stored(settings))
        found += await _looked("the workers", _workers(settings, wall))
        found += await _looked("the models", _models(settings, wall))
    found += await _redis(settings)
    return found


async def _looked(what: str, look: Awaitable[list[Finding]]) -> list[Finding]:
    """Return what a look found; that it failed is a finding."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await look
    except TimeoutError:
        todo = "look at the broker's log, and at the network between here and every broker that it names"
        return [Finding("fault", f"{what}: no answer within {PATIENCE:.0f} s", todo)]
    except ShellError as error:
        return [_said(what, str(error))]
    except KafkaError as error:
        if "Authorization" in type(error).__name__:
            todo = (
                "give the engine's user the right to read, write, create and describe topics and groups of its prefix"
            )
            return [Finding("fault", f"{what}: the broker refuses ({type(error).__name__})", todo)]
        return [Finding("fault", f"{what}: {type(error).__name__}: {error}", "look at the broker's log")]
    except OSError as error:
        return [Finding("fault", f"{what}: {error}", "look at the network between here and the broker")]


def _said(what: str, text: str) -> Finding:
    """Return the finding of an error, whose text ends with what to do, after a colon."""
    fault, _, todo = text.rpartition(": ")
    return Finding("fault", f"{what}: {fault or text}", todo if fault else "")


async def _live(settings: Settings) -> Settings:
    try:
        async with asyncio.timeout(PATIENCE):
            return await epochs.live(settings)
    except (TimeoutError, ShellError, KafkaError, OSError):
        return settings  # what is wrong is found when the topics are looked at


# ---- here ------------------------------------------------------------------------------------------------------------


def of_program() -> list[Finding]:
    """Look at what is installed."""
    found = []
    try:
        there = version("faust-streaming")
    except PackageNotFoundError:
        there = "none"
    if there == faust_fixes.VERIFIED:
        others = ", ".join(f"{name} {version(name)}" for name in ("aiokafka", "orjson", "river"))
        found.append(Finding("ok", f"program: faust-streaming {there}, {others}"))
    else:
        todo = "install the locked dependencies again: make setup"
        found.append(Finding("fault", f"program: faust-streaming {there}, {faust_fixes.VERIFIED} is needed", todo))
    try:
        compiled.check()
    except StaleBuildError as error:
        found.append(_said("program", str(error)))
    else:
        if compiled.is_compiled():
            found.append(Finding("ok", f"program: the fold is compiled, version {FOLD_VERSION}"))
        else:
            todo = "it works, at a third of the speed; with a C compiler installed, run make setup"
            found.append(Finding("warning", "program: the fold is not compiled", todo))
    return found


def of_store(settings: Settings) -> list[Finding]:
    """Look at the folder of customers."""
    if settings.store == "memory":
        return [Finding("ok", "store: customers are kept in memory")]
    if find_spec("rocksdict") is None:
        todo = 'pip install "journey-engine[rocksdb]", or set JOURNEY_STORE=memory'
        return [Finding("fault", "store: JOURNEY_STORE=rocksdb needs a package that is not installed", todo)]
    folder = Path(settings.datadir).absolute()
    nearest = next(one for one in (folder, *folder.parents) if one.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            left = shutil.disk_usage(nearest).free
    except OSError as error:
        todo = "make it, for the user that runs the worker, or set JOURNEY_DATADIR to another folder"
        return [Finding("fault", f"store: {folder} cannot be written ({error.strerror})", todo)]
    if left < DISK_LEFT:
        todo = "make room; a customer takes some 0.7 KB there"
        return [Finding("warning", f"store: {left / 2**20:,.0f} MB are left at {folder}", todo)]
    return [Finding("ok", f"store: customers are kept in {folder}")]


def of_key(settings: Settings) -> Finding:
    """Look at the key that signs models."""
    if settings.model_key == EXAMPLE_KEY:
        todo = "set JOURNEY_MODEL_KEY to a secret, the same for all workers; what is signed by now stays readable with "
        text = "models: signed with the example key, which everybody knows"
        return Finding("warning", text, f"{todo}JOURNEY_MODEL_KEY_OLD={EXAMPLE_KEY}")
    return Finding("ok", "models: signed with a key of your own")


async def _redis(settings: Settings) -> list[Finding]:
    if not settings.redis_url:
        return [Finding("ok", "Redis: none is set, customers are looked up from the changelog")]
    told = await read_model.about(settings.redis_url)
    return [of_redis(told)]


def of_redis(told: Mapping[str, str] | str) -> Finding:
    """Look at what Redis told, or why it did not."""
    if isinstance(told, str):
        todo = "start it, correct JOURNEY_REDIS_URL, or set it empty; nothing is lost meanwhile"
        return Finding("warning", f"Redis: no answer ({told})", todo)
    policy = told["policy"]
    if policy in EVICTS_ALL:
        todo = "set maxmemory-policy noeviction or volatile-lru: else customers vanish from the read model"
        return Finding("warning", f"Redis: maxmemory-policy is {policy}", todo)
    return Finding("ok", f"Redis {told['version']}: answers")


# ---- the broker ------------------------------------------------------------------------------------------------------


async def _cluster(settings: Settings) -> list[Finding]:
    async with Admin(settings) as admin:
        count, config = await admin.cluster()
    return of_cluster(settings, count, config)


def of_cluster(settings: Settings, brokers: int, config: Mapping[str, str]) -> list[Finding]:
    """Look at the brokers: how many, and the settings of one of them on which ours rest."""
    found = [Finding("ok", f"broker: {settings.kafka_url} answers, {brokers} in all")]
    copies = settings.replication
    if copies > brokers:
        todo = f"start more brokers, or set JOURNEY_REPLICATION={brokers}"
        found.append(Finding("fault", f"broker: JOURNEY_REPLICATION={copies}, of brokers there are {brokers}", todo))
    elif copies == 1 < brokers:
        todo = "set JOURNEY_REPLICATION=3 before topics are created; there are tools of Kafka's to add copies later"
        found.append(Finding("warning", "broker: one copy of each topic: a lost broker loses events", todo))
    low, high = (int(config.get(f"group.{end}.session.timeout.ms", "0")) for end in ("min", "max"))
    wanted = settings.session_timeout * 1000
    if high and not low <= wanted <= high:
        todo = f"set JOURNEY_SESSION_TIMEOUT from {low / 1000:g} to {high / 1000:g}"
        found.append(Finding("fault", f"broker: it refuses a session timeout of {wanted / 1000:g} s", todo))
    if config.get("unclean.leader.election.enable") == "true":
        todo = "set unclean.leader.election.enable=false: a broker that lags behind may else drop what was acknowledged"
        found.append(Finding("warning", "broker: unclean leaders may be elected", todo))
    return found


async def _topics(settings: Settings) -> list[Finding]:
    async with Admin(settings) as admin:
        checked = await admin.check()
        placed = await admin.places()
        sizes = {name: int(config.get("max.message.bytes", "0")) for name, config in (await admin.configs()).items()}
    found = [_said(one.topic, one.text)._replace(level="fault" if one.refuses else "warning") for one in checked]
    found += of_places(settings, placed)
    found += of_sizes(settings, sizes)
    return together(found) or [Finding("ok", f"topics: {len(placed)} are as they have to be")]


def together(found: Iterable[Finding]) -> list[Finding]:
    """Return findings on topics, ``name: text``, with those of one text made one."""
    names: dict[Finding, list[str]] = {}
    for one in found:
        name, _, text = one.what.partition(": ")
        names.setdefault(one._replace(what=text), []).append(name)
    return [one._replace(what=f"{', '.join(mine)}: {one.what}") for one, mine in names.items()]


def of_places(settings: Settings, places: Places) -> list[Finding]:
    """Look at partitions and copies."""
    found = []
    raw = {name: len(places[name]) for name in map(settings.topic, topics.RAW) if name in places}
    if len(set(raw.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in sorted(raw.items()))
        todo = (
            "give all of them the same count (kafka-topics --alter), so that a customer's events meet at one worker "
            "and are put into the order of time after downtime"
        )
        found.append(Finding("warning", f"topics: different partition counts: {told}", todo))
    for name, place in sorted(places.items()):
        fewest = min((copies for copies, _ in place.values()), default=0)
        if fewest < settings.replication:
            todo = "add copies (kafka-reassign-partitions), or lower JOURNEY_REPLICATION"
            text = f"{name}: {fewest} copies, JOURNEY_REPLICATION={settings.replication}"
            found.append(Finding("warning", text, todo))
        behind = [number for number, (copies, fresh) in sorted(place.items()) if fresh < copies]
        if behind:
            text = f"{name}: copies of {len(behind)} partitions are not up to date"
            found.append(Finding("warning", text, "start the broker that is missing, and wait"))
    return found


def of_sizes(settings: Settings, sizes: Mapping[str, int]) -> list[Finding]:
    """Look at the largest batch that each topic takes, in bytes; 0 is not told."""
    return [
        Finding(
            "fault", f"{name}: it takes batches of {size:,} bytes, ours have up to {settings.batch_bytes:,}",
            f"set max.message.bytes={settings.batch_bytes + 100_000} there, or JOURNEY_BATCH_BYTES={size - 1000}",
        )
        for name, size in sorted(sizes.items())
        if 0 < size < settings.batch_bytes
    ]  # fmt: skip


async def _stored(settings: Settings) -> list[Finding]:
    """Look at the last record of each changelog partition, which is a partition record."""
    name = topics.changelog(settings)
    versions: dict[int, int] = {}
    async with consumer(settings) as client:
        spans = await spans_of(client, await partitions_of(client, name))
        filled = [tp for tp, (begin, end) in spans.items() if begin < end]
        client.assign(filled)
        for tp in filled:
            client.seek(tp, spans[tp][1] - 1)
        waiting = set(filled)
        while waiting:
            for tp, records in (await client.getmany(*waiting, timeout_ms=500)).items():
                waiting.discard(tp)
                if records[-1].key == partition_key(tp.partition):
                    versions[tp.partition] = int(orjson.loads(records[-1].value)["fold"])
    return of_versions(versions)


def of_versions(versions: Mapping[int, int]) -> list[Finding]:
    """Look at the version of the fold that each journal partition was folded with."""
    others = sorted({one for one in versions.values() if one != FOLD_VERSION})
    if others:
        told = ", ".join(map(str, others))
        todo = "run `journey upgrade`, then `journey upgrade --switch`; or start the version of the program before"
        return [Finding("fault", f"state: folded by version {told} of the fold, ours is {FOLD_VERSION}", todo)]
    return [
        Finding("ok", f"state: of {len(versions)} journal partitions, folded by our version" if versions else NO_STATE)
    ]


# ---- the workers -----------------------------------------------------------------------------------------------------


async def _workers(settings: Settings, wall: int) -> list[Finding]:
    return of_status(await status.status(settings, wall))


def of_status(told: Mapping[str, Any]) -> list[Finding]:
    """Look at what `journey status` tells."""
    found = []
    for name, role in told["roles"].items():
        if not role["members"]:
            todo = f"{TODO.get(name, '')}start one: journey worker --roles {name}"
            found.append(Finding("warning", f"{name}: no worker", todo))
        elif role["state"] != "Stable":
            todo = "wait; if it stays so, a worker comes and goes: look at the workers' logs"
            found.append(Finding("warning", f"{name}: partitions are being shared out ({role['state']})", todo))
    oldest = told["oldest_unread_seconds"]
    if oldest is not None and oldest > WAITED:
        todo = "see that workers run and are ready; if they do and it grows, start more of them"
        found.append(Finding("warning", f"ingest: the oldest unread record has waited {oldest:,.0f} s", todo))
    behind = told["roles"]["learn"]["lag"]
    if behind > UNLEARNED:
        todo = (
            "wait; if it grows, give the role learn a machine of its own: one worker learns a family, five are enough"
        )
        found.append(Finding("warning", f"learn: {behind:,} samples are not learned yet", todo))
    for address, answer in told["workers"].items():
        found += [Finding("warning", what, todo) for what, todo in _of_worker(address, answer)]
    if not found:
        found.append(Finding("ok", f"workers: {len(told['workers'])} answer and are ready"))
    return found


async def _models(settings: Settings, wall: int) -> list[Finding]:
    async with consumer(settings) as client:
        await partitions_of(client, settings.topic(topics.CONTROL))  # says so where there is no such topic
    control = ControlLog(settings)
    try:
        standing = await (await control.start()).read()
    finally:
        await control.stop()
    log, faults = ModelsLog(settings), {}
    for slot, (model, number, digest) in sorted(standing.in_force.items()):
        try:
            check_loads(model, number, await log.get(model, number, digest), slot)
        except (MissingModelError, SnapshotError) as error:
            faults[slot] = str(error)
    learned = max((past[-1].at for past in standing.history.values()), default=0)
    return of_models(standing, faults, (wall - learned) / 1000)


def of_models(standing: Standing, faults: Mapping[str, str], age: float) -> list[Finding]:
    """Look at what is in force: what is wrong with it by slot, and how long ago (s) the newest of it last learned."""
    if not standing.in_force:
        return [Finding("ok", "models: none is in force yet, fallbacks decide")]
    found = []
    for slot, fault in faults.items():
        todo = (
            "an engine that starts now stops at it: restore the topic of models from a backup, or set "
            "JOURNEY_MODEL_KEY_OLD to the key that signed it"
        )
        found.append(Finding("fault", f"models: {slot}: {fault}", todo))
    days = f"{age / 86_400:,.0f} days ago" if age >= 2 * 86_400 else f"{max(0.0, age) / 3600:,.0f} h ago"
    text = f"models: {len(standing.in_force)} slots have one in force, the newest sample in them is of {days}"
    if age > OLD:
        todo = "see that events come and that a worker has the role learn (journey status), and what is frozen"
        found.append(Finding("warning", text, todo))
    elif not faults:
        frozen = f"; frozen: {', '.join(standing.frozen)}" if standing.frozen else ""
        found.append(Finding("ok", text + frozen))
    return found


def _of_worker(address: str, told: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if told is None:
        todo = "let it be reached from here (JOURNEY_HTTP), or look at its log"
        return [(f"worker {address}: does not answer", todo)]
    found = []
    if not told["ready"]:
        found.append((f"worker {address}: not ready", "wait: it recovers its state; its log says how far it is"))
    if not told["compiled"]:
        found.append((f"worker {address}: the fold is not compiled", "install a C compiler and run make setup there"))
    if told["last_error"]:
        found.append((f"worker {address}: last error: {told['last_error']['text']:.200}", "look at its log"))
    engine = told["roles"].get("engine")
    if engine is not None:
        if engine["counts"]["poison"]:
            text = f"worker {address}: {engine['counts']['poison']} entries could not be folded"
            found.append((text, "journey dead-letters list shows them; report what the log says"))
        if engine["prompt_timer_late_seconds"] > LATE:
            text = f"worker {address}: cart timers are {engine['prompt_timer_late_seconds']:,.0f} s late"
            found.append((text, "ticks wait for ingest to read what is unread: see to it first"))
        skew = engine["clock_ahead_seconds"]
        if skew is not None and abs(skew) > SKEW:
            way = "ahead of" if skew > 0 else "behind"
            text = f"worker {address}: its clock is {abs(skew):,.1f} s {way} the broker's"
            found.append((text, "let both be set by NTP: ticks and reminders go by these clocks"))
    return found
