"""The composition root: one Faust app for each role, and the only place that has a clock."""

from __future__ import annotations

import asyncio
import logging
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import faust
import uvloop
from aiokafka.errors import KafkaError

from journey.ticks import tick_at, wants_tick
from streams import epochs, faust_fixes, speech, topics, web
from streams.agents.adopt import Adopt
from streams.agents.engine import Engine, Now
from streams.agents.ingest import Ingest
from streams.agents.learn import Learn, School
from streams.appends import Log
from streams.at_hand import AtHand
from streams.checkpoints import Checkpoints
from streams.chunks import ChunkSchema, chunk_scheduler
from streams.collector import calm
from streams.control import ControlLog, ControlTail
from streams.customers import Customers
from streams.epochs import Plan
from streams.errors import LogTruncatedError, SettingsError, ShellError
from streams.models_log import ModelsLog
from streams.read_model import NoReadModel, ReadModel, RedisReadModel
from streams.recovery import Recovery
from streams.settings import EXAMPLE_KEY, Settings
from streams.snapshots import keys_of
from streams.stores import MemoryStore, Store
from streams.tables import CustomerTable
from streams.topics import Admin
from streams.unread import Unread
from streams.vitals import Role, Vitals
from streams.watchdog import LoopWatch

log = logging.getLogger("journey.app")

ROLES: Final = ("ingest", "engine", "learn")
PAGES_IN_CHUNK: Final = 4
SAMPLES_IN_CHUNK: Final = 100  # between two of them a revocation is noticed
SNAPSHOTS_IN_CHUNK: Final = 8
SNAPSHOT_BATCH: Final = 900_000  # bytes: a snapshot is one record, however small batches are set
TICK_LOOK: Final = 0.25  # s between two looks at the timers
TICK_RETRY: Final = 2.0  # s after a look that failed
EPOCH_RETRY: Final = 5.0  # s
EPOCH_WORDS: Final = {
    "live": "another epoch is live", "draining": "ingest rests for a switch", "switching": "all rests for a switch",
}  # fmt: skip
RESTART: Final = 75  # exit status: start it again (EX_TEMPFAIL)


def wall_ms() -> int:
    """Return the wall clock in ms since 1970."""
    return time.time_ns() // 1_000_000


CLOCK: Final = Now(wall_ms, time.monotonic)


def _app(settings: Settings, role: str, limits: dict[str, int], address: str | None, **more: Any) -> Any:
    faust_fixes.apply(
        fetch_wait_ms=settings.fetch_wait_ms, fetch_min_bytes=settings.fetch_min_bytes,
        fetch_pace_ms=settings.fetch_pace_ms,
    )  # fmt: skip
    return faust.App(
        settings.app_id(role),
        broker=[f"kafka://{url.strip()}" for url in settings.kafka_url.split(",")],
        broker_client_id=f"journey-{role}" + (f"@{address}" if address else ""),  # `journey status` asks there
        store="memory://",
        datadir=tempfile.gettempdir(),
        topic_partitions=settings.partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        ConsumerScheduler=chunk_scheduler(limits),
        broker_session_timeout=settings.session_timeout,
        broker_request_timeout=max(90.0, settings.session_timeout + 10),
        broker_heartbeat_interval=min(3.0, settings.session_timeout / 5),
        broker_commit_interval=settings.commit_interval,
        producer_request_timeout=60.0,
        consumer_group_instance_id=None if settings.instance_id is None else f"{role}-{settings.instance_id}",
        stream_wait_empty=True,  # a stop finishes what it has begun
        worker_redirect_stdouts=False,
        **more,
    )


def build_ingest(settings: Settings, address: str | None = None) -> Role:
    """Return the app that copies raw topics into the journal."""
    names = [settings.topic(name) for name in (*topics.RAW, topics.CONTROL)]
    # no table: the standby setting only chooses Faust's own assignor, which gives the same partition number of
    # every topic to one worker
    app = _app(settings, "ingest", dict.fromkeys(names, settings.chunk_records), address, table_standby_replicas=1)
    journal, control = Log(settings.kafka_url, settings.batch_bytes), ControlTail(settings)
    agent = Ingest(app, settings, journal, control)

    @app.agent(app.topic(*names, schema=ChunkSchema(), maxsize=16), name=settings.app_id("ingest"))
    async def ingest(stream: Any) -> None:
        with faust_fixes.fail_stop():
            await journal.start()
        await agent.run(stream)

    faust_fixes.after_recovery.append(agent.begin)

    @app.on_partitions_revoked.connect(weak=False)
    async def revoked(sender: Any, revoked: Any, **_: Any) -> None:
        agent.forget(app)

    @app.on_before_shutdown.connect(weak=False)
    async def stop(sender: Any, **_: Any) -> None:
        await control.stop()
        await journal.stop()

    return Role("ingest", app, agent)


def open_store(settings: Settings) -> Store:
    """Return where this worker keeps customers."""
    if settings.store == "memory":
        return MemoryStore()
    try:
        from streams.rocks import RocksStore
    except ImportError as error:
        text = f"JOURNEY_STORE=rocksdb needs a package that is not installed ({error}): pip install rocksdict"
        raise SettingsError(text) from None
    return RocksStore(Path(settings.datadir), topics.changelog(settings))


def build_engine(settings: Settings, address: str | None = None) -> Role:
    """Return the app that folds the journal."""
    name = settings.topic(topics.JOURNAL)
    app = _app(settings, "engine", {name: PAGES_IN_CHUNK}, address, table_standby_replicas=0, Table=CustomerTable)
    at_hand = AtHand(settings)
    table = Customers(
        open_store(settings), topics.changelog(settings), at_hand.library, at_hand.for_partition, settings.source
    )
    recovery = Recovery(settings, table)
    app.Table(
        settings.topic(topics.TABLE), partitions=settings.partitions, key_type=bytes, value_type=bytes,
        recovery=recovery,
    )  # fmt: skip
    journal = Log(settings.kafka_url, settings.batch_bytes)
    read_model: ReadModel = NoReadModel()
    if settings.redis_url:
        read_model = RedisReadModel(settings.redis_url, table.read, table.stored, settings.topic_prefix, table.sight)
    agent = Engine(app, settings, journal, table, read_model, CLOCK, at_hand)
    recovery.step = agent.step
    started = asyncio.Event()

    @app.agent(app.topic(name, schema=ChunkSchema(), maxsize=16), name=settings.app_id("engine"))
    async def engine(stream: Any) -> None:
        with faust_fixes.fail_stop():
            await journal.start()
            at_hand.start()
            if isinstance(read_model, RedisReadModel):
                read_model.start()
        started.set()
        await agent.run(stream)

    def recovered(of: Any, ends: dict[Any, int]) -> None:
        agent.begin(of, ends)
        if of is app and isinstance(read_model, RedisReadModel):
            for shard in table.shards():
                read_model.own(shard.number, shard.partition["at"])

    faust_fixes.after_recovery.append(recovered)

    @app.on_partitions_revoked.connect(weak=False)
    async def revoked(sender: Any, revoked: Any, **_: Any) -> None:
        agent.forget({tp.partition for tp in revoked})

    @app.on_before_shutdown.connect(weak=False)
    async def stop(sender: Any, **_: Any) -> None:
        if isinstance(read_model, RedisReadModel):
            await read_model.stop()
        await at_hand.stop()
        await journal.stop()

    @app.task
    async def ticks() -> None:
        await started.wait()
        # a tick is state of nobody: one that failed may be there or not, and the next look decides anew
        while not app.should_stop:
            try:
                async with Unread(settings) as unread:
                    while not app.should_stop:
                        await _check_sources(agent, unread)
                        await _tick(agent, unread, settings)
                        await app.sleep(TICK_LOOK)
            except (KafkaError, OSError, ShellError) as error:
                log.warning("no ticks for now: %s: %s", type(error).__name__, error)
                await app.sleep(TICK_RETRY)

    return Role("engine", app, agent, recovery, read_model if isinstance(read_model, RedisReadModel) else None)


async def _check_sources(agent: Engine, unread: Unread) -> None:
    """After partitions were assigned: refuse raw topics that were recreated."""
    applied = dict(agent.unchecked)
    if applied and (fault := await unread.cut_off(applied)) is not None:
        faust_fixes.leave(LogTruncatedError(fault))
    for source, offset in applied.items():
        if agent.unchecked.get(source) == offset:  # an assignment meanwhile may have brought more
            del agent.unchecked[source]


async def _tick(agent: Engine, unread: Unread, settings: Settings) -> None:
    """Append the ticks that are due now. Only the shell's own appends and look-ups; state is the agent's alone."""
    wanting = [(shard, sight) for shard, sight in agent.sights() if wants_tick(sight)]
    if not wanting:
        return
    if agent.broker_now() is None:
        await agent.ask_the_time(wanting[0][0])
    broker = agent.broker_now()  # of before the look: what came in the meantime is later
    oldest = await unread.oldest()
    for shard, sight in wanting:
        seen = sight._replace(broker=broker, oldest_unread=oldest)
        at = tick_at(seen, settings.catch_up_minutes * 60_000)
        if at is not None:
            await agent.tick(shard.number, at)


def build_learn(settings: Settings, address: str | None = None) -> Role:
    """Return the app that learns from samples, and adopts what was learned."""
    from journey import training  # loads River: a second that other roles need not wait

    if settings.model_key == EXAMPLE_KEY:
        log.warning("models are signed with the example key, which everybody knows: set JOURNEY_MODEL_KEY")
    samples, models = settings.topic(topics.SAMPLES), settings.topic(topics.MODELS)
    app = _app(
        settings, "learn", {samples: SAMPLES_IN_CHUNK, models: SNAPSHOTS_IN_CHUNK}, address, table_standby_replicas=1
    )  # no table: as in ingest
    keys = keys_of(settings)
    writer, control = Log(settings.kafka_url, SNAPSHOT_BATCH), ControlLog(settings)
    school = School(training.FAMILIES, training.new_learner, training.restore_learner)
    agent = Learn(
        app, settings, writer, ModelsLog(settings, keys), Checkpoints(settings, writer), school, keys, CLOCK.steady
    )
    adopter = Adopt(app, settings, writer, control, keys, agent.counts)

    @app.agent(app.topic(samples, schema=ChunkSchema(), maxsize=16), name=settings.app_id("learn"))
    async def learn(stream: Any) -> None:
        with faust_fixes.fail_stop():
            await writer.start()
        await agent.run(stream)

    @app.agent(app.topic(models, schema=ChunkSchema(), maxsize=16), name=settings.app_id("adopt"))
    async def adopt(stream: Any) -> None:
        with faust_fixes.fail_stop():
            await writer.start()
            await control.start()
        await adopter.run(stream)

    faust_fixes.after_recovery.append(agent.begin)
    faust_fixes.after_recovery.append(adopter.begin)

    @app.on_partitions_revoked.connect(weak=False)
    async def revoked(sender: Any, revoked: Any, **_: Any) -> None:
        agent.forget(app)

    @app.on_before_shutdown.connect(weak=False)
    async def stop(sender: Any, **_: Any) -> None:
        await control.stop()
        await writer.stop()

    return Role("learn", app, agent)


BUILDERS: Final = {"ingest": build_ingest, "engine": build_engine, "learn": build_learn}


def parse_roles(text: str) -> list[str]:
    """Return the roles named, comma-separated; ``all`` is every one.

    Raises
    ------
    SettingsError
        An unknown role.
    """
    names = list(ROLES) if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in BUILDERS]
    if unknown or not names:
        msg = f"unknown role {', '.join(unknown) or text!r}: choose from {', '.join(ROLES)}, all"
        raise SettingsError(msg)
    return names


async def _prepare(settings: Settings) -> Plan:
    """Create and check the topics; return the plan that says which epoch is live."""
    plan = await epochs.read_plan(settings)
    async with Admin(settings.at(plan.live)) as admin:
        for finding in await admin.ensure():
            log.warning("topic %s: %s", finding.topic, finding.text)
    return plan


class _Rest:
    """Ends a worker in order when its epoch is left, or its role is to rest."""

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self._settings, self._plan = settings, plan
        self.is_over = False

    async def follow(self, app: Any) -> None:
        """Wait for that."""
        while not app.should_stop:
            try:
                told = await epochs.changed(self._settings, self._plan)
            except (KafkaError, OSError, ShellError) as error:
                log.warning("cannot see which epoch is live: %s: %s", type(error).__name__, error)
                await app.sleep(EPOCH_RETRY)
                continue
            self.is_over = True
            log.warning("%s: this worker ends, to be started again", EPOCH_WORDS[told.phase])
            signal.raise_signal(signal.SIGTERM)
            return


async def _sample(vitals: Vitals, watch: LoopWatch) -> None:
    """Once a second: how far each role has come, and that the loop turns."""
    while True:
        watch.beat()
        vitals.sample()
        await asyncio.sleep(1.0)


def run_worker(settings: Settings, roles: Sequence[str]) -> None:
    """Create and check the topics, then run the roles until SIGTERM or SIGINT. Does not return."""
    errors = speech.begin(settings, roles, CLOCK)
    plan = asyncio.run(_prepare(settings))
    settings, roles = settings.at(plan.live), epochs.working(plan, roles)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(speech.unhandled)
    listening = web.listen(settings.http)
    address = None if listening is None else web.told_address(listening)
    parts = [BUILDERS[role](settings, address) for role in roles]
    apps = [part.app for part in parts]
    vitals = Vitals(settings, parts, CLOCK.wall, CLOCK.steady, errors)
    if listening is not None:
        loop.run_until_complete(web.serve(listening, vitals))  # before Faust: it answers while state is recovered
    watch = LoopWatch(settings.stuck_after, faust_fixes.leave)
    vitals.task = loop.create_task(_sample(vitals, watch))
    rest = _Rest(settings, plan)
    apps[0].task(rest.follow)
    worker = faust.Worker(*apps, loop=loop, loglevel=None, override_logging=False, quiet=True)
    log.info("worker with %s on %s, asked at %s", ", ".join(roles), settings.kafka_url, address or "no address")
    calm()
    if settings.stuck_after:
        watch.start()
    try:
        worker.execute_from_commandline()
    except SystemExit as leaving:
        if rest.is_over and not leaving.code:
            raise SystemExit(RESTART) from None
        raise
    finally:
        watch.stop()
