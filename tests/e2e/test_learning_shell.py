"""Learners are killed at any moment, join and leave; what they publish is as if nothing had happened, and adopted once.

``CRASH_SEED`` varies the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from journey.adoptions import in_force
from journey.entries import encode, read_page
from journey.errors import BadRowError, MissingModelError
from journey.samples import FAMILIES
from streams import cli_models, topics
from streams.appends import Log
from streams.control import ControlLog
from streams.errors import SlotError
from streams.logs import end_offsets
from streams.models_log import ModelsLog
from streams.settings import PREFIX
from streams.snapshots import Keys, keys_of, named, payload_of, read, record_key, sign
from streams.status import _member
from streams.topics import Admin
from tests.conftest import Broker
from tests.e2e.learner import Counting, Fit, sample
from tests.harness import STOPPED, Chance, Deployment, Worker, deployed, elapsed
from tests.servers import ROOT
from tests.waiting import eventually_sync

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SEED: Final = os.environ.get("CRASH_SEED", "1")
KEY: Final = "a key of the tests"
KEYS: Final = Keys(KEY.encode())
SLICE: Final = 10  # samples of each family between two pauses
KILLS: Final = 6


class Learning(Worker):
    """A process of the role learn, with learners that only count."""

    process: subprocess.Popen[bytes] | None = None

    def start(self, *planted: str) -> Worker:
        command = [sys.executable, "-m", "tests.e2e.learner", "--roles", self.roles, *planted]
        if shutil.which("setpriv") is not None:
            command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        self._pid = self.process.pid
        return self

    @property
    def status(self) -> int | None:
        return None if self.process is None else self.process.poll()

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            eventually_sync(lambda: not self.is_running)


class Samples:
    """What an engine would send; some of it twice, as after a crash, and some of it bad."""

    def __init__(self, deployment: Deployment, log: Log) -> None:
        self._name = deployment.settings.topic(topics.SAMPLES)
        self._log, self._count = log, 0

    async def send(self) -> None:
        """Send the next of each family."""
        begin, self._count = self._count, self._count + SLICE
        for number, family in enumerate(FAMILIES):
            values = [sample(family, at) for at in range(begin, self._count)]
            values += values[-4:]
            values[7].pop("number")
            await self._log.append(self._name, number, [(None, orjson.dumps(one)) for one in values])

    async def flow(self) -> None:
        """Send until it is cancelled."""
        while True:
            await self.send()
            await elapsed(0.25)


@asynccontextmanager
async def shell(url: str, prefix: str, directory: Path) -> AsyncIterator[tuple[Deployment, Samples, Log]]:
    """A deployment whose learners checkpoint often."""
    async with deployed(url, prefix, directory, CHECKPOINT_SAMPLES="60", MODEL_KEY=KEY) as deployment:
        log = await Log(url, 900_000).start()
        try:
            yield deployment, Samples(deployment, log), log
        finally:
            await log.stop()


def learner(deployment: Deployment, name: str) -> Learning:
    made = Learning(name, "learn", deployment.environment, deployment.directory)
    deployment.workers.append(made)
    return made


async def learned(deployment: Deployment) -> None:
    """Return when all samples, and all models, are acknowledged."""
    group = deployment.settings.app_id("learn")
    async with Admin(deployment.settings) as admin:

        async def all_is() -> bool:
            ends = {}
            for name in map(deployment.settings.topic, (topics.SAMPLES, topics.MODELS)):
                for number, end in (await end_offsets(deployment.settings, name)).items():
                    ends[name, number] = end
            done = await admin.committed(group)
            return all(done.get(tp, 0) >= end for tp, end in ends.items() if end)

        await deployment._eventually(all_is, 60)


def without_interruption(samples: list[Any], published: dict[tuple[str, int], str], fits: dict[str, Any]) -> set[str]:
    """Fold the samples as one learner that never stops; return where the published models differ from its own.

    ``fits`` are the payloads of the fits that were published: they were decided once.
    """
    wanted = {}
    learners = [Counting(family) for family in FAMILIES]
    for record in samples:
        one = learners[record.partition]
        with contextlib.suppress(BadRowError):
            for made in one.learn(orjson.loads(record.value)):
                name = f"{made.model}/{made.version}"
                if isinstance(made, Fit):
                    one.fitted(made, fits[name])
                    wanted[made.model, made.version] = sha256(encode(fits[name])).hexdigest()
                else:
                    wanted[made.model, made.version] = sha256(encode(made.payload)).hexdigest()
    assert len(wanted) > 100
    return {str(name) for name in {*wanted, *published} if wanted.get(name) != published.get(name)}


async def examined(deployment: Deployment) -> None:
    """Compare all models with what an uninterrupted fold of the same samples publishes."""
    values: dict[bytes, set[bytes]] = {}
    digests: dict[tuple[str, int], str] = {}
    fits: dict[str, Any] = {}
    for record in await deployment.records(topics.MODELS):
        snapshot = read(record.value, KEYS)
        assert named(record.key) == (snapshot.model, snapshot.version)
        values.setdefault(record.key, set()).add(record.value)
        digests[snapshot.model, snapshot.version] = snapshot.sha256
        if snapshot.model.endswith(".fit"):
            fits[record.key.decode()] = payload_of(snapshot)
    assert [key for key, told in values.items() if len(told) > 1] == [], "one name, other bytes"
    samples = await deployment.records(topics.SAMPLES)
    assert without_interruption(samples, digests, fits) == set()
    newest = {model: max(number for name, number in digests if name == model) for model, _ in digests}
    messages = [orjson.loads(one.value) for one in await deployment.records(topics.CONTROL)]
    assert in_force(messages) == {family: (family, newest[family]) for family in FAMILIES}
    assert await deployment.records(topics.DEAD_LETTERS) == []


async def test_learners_that_are_killed_publish_what_one_that_never_stops_does(
    kafka: Broker, prefix: str, tmp_path: Path
) -> None:
    chance = Chance("learners", SEED)
    async with shell(kafka.url, prefix, tmp_path) as (deployment, samples, _):
        worker = learner(deployment, "first")
        sending = asyncio.ensure_future(samples.flow())
        try:
            for number in range(KILLS):
                if number % 2:
                    topic = chance.one_of(topics.MODELS, topics.CHECKPOINTS, topics.CONTROL)
                    when = chance.one_of("before", "acknowledged")
                    worker.start("--append", str(1 + chance.below(20)), "--topic", topic, "--when", when)
                    await worker.ended(within_seconds=60)
                    assert worker.status != STOPPED, worker.tail()
                else:
                    before = await _models(deployment)
                    worker.start()
                    await _more(deployment, before)
                    await elapsed(chance.between(0, 1.5))
                    worker.kill()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        worker.start()
        await learned(deployment)
        assert await worker.stopped() == 0, worker.tail()
        await examined(deployment)


async def _models(deployment: Deployment) -> int:
    (end,) = (await end_offsets(deployment.settings, deployment.settings.topic(topics.MODELS))).values()
    return end


async def _more(deployment: Deployment, than: int) -> None:
    """Return when more models are published than so many."""

    async def is_more() -> bool:
        return await _models(deployment) > than

    await deployment._eventually(is_more, 60)


async def test_learners_join_and_leave_and_nothing_is_learned_twice(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    async with shell(kafka.url, prefix, tmp_path) as (deployment, samples, _):
        first, second = learner(deployment, "first"), learner(deployment, "second")
        name = deployment.settings.topic(topics.SAMPLES)
        sending = asyncio.ensure_future(samples.flow())
        try:
            first.start()
            await deployment.shared_by("learn", 1)
            await _more(deployment, 50)
            second.start()
            await deployment.shared_by("learn", 2, within_seconds=60)
            async with Admin(deployment.settings) as admin:
                _, members = await admin.group(deployment.settings.app_id("learn"))
            shares = [_member(*one)["partitions"].get(name, []) for one in members]
            assert sorted(chain(*shares)) == list(range(topics.FAMILIES))
            assert all(shares)
            await _more(deployment, await _models(deployment) + 50)
            assert await first.stopped() == 0, first.tail()
            await deployment.shared_by("learn", 1)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        await learned(deployment)
        assert await second.stopped() == 0, second.tail()
        await examined(deployment)


async def test_what_is_not_ours_is_not_adopted_and_an_operator_has_the_last_word(
    kafka: Broker, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shell(kafka.url, prefix, tmp_path) as (deployment, samples, log):
        settings = deployment.settings
        for name, value in deployment.environment.items():
            if name.startswith(PREFIX):
                monkeypatch.setenv(name, value)
        worker = learner(deployment, "first").start()
        ingest = deployment.worker("ingest", "ingest").start()
        for _ in range(4):
            await samples.send()
        await learned(deployment)

        async def standing() -> dict[str, Any]:
            control = await ControlLog(settings).start()
            try:
                return dict((await control.read()).in_force)
            finally:
                await control.stop()

        force = (await standing())["churn"]
        assert force[:2] == ["churn", 5]
        forged = sign(
            Keys(b"somebody else's key"), model="churn", number=99, parent=5, schema="churn/1", trained_through={},
            trained={"at": 1, "trust": "trusted"}, payload={"role": "champion", "w": [1.0]},
        )  # fmt: skip
        await log.append(settings.topic(topics.MODELS), 0, [(record_key("churn", 99), forged)])
        await learned(deployment)
        assert (await standing())["churn"] == force
        (letter,) = [orjson.loads(one.value) for one in await deployment.records(topics.DEAD_LETTERS)]
        assert (letter["stage"], letter["reason"]) == ("adopt", "bad_snapshot")
        assert "JOURNEY_MODEL_KEY" in letter["detail"]
        with pytest.raises(SlotError, match="signed with the key"):
            await cli_models.adopt(settings, "churn", 99)
        with pytest.raises(MissingModelError, match="churn/99"):
            await ModelsLog(settings).get("churn", 99)

        ours = ModelsLog(settings)
        await ours.load([("churn", 5, force[2]), ("churn", 4, None)])
        assert ours.payload("churn", 5)["count"] == 35
        assert ours.newest["churn"] == 99
        with pytest.raises(MissingModelError, match="adopted one's 00ff"):
            await ours.load([("churn", 5, "00ff")])
        with pytest.raises(MissingModelError, match="has no record churn/6"):
            await ours.load([("churn", 6, None)])

        figures = {"log_loss": 0.4, "baseline_log_loss": 0.3}
        worse = sign(
            keys_of(settings), model="churn", number=98, parent=5, schema="churn/1", trained_through={},
            trained={"at": 1, "trust": "trusted", "metrics": figures}, payload=dict(ours.payload("churn", 5)),
        )  # fmt: skip
        await log.append(settings.topic(topics.MODELS), 0, [(record_key("churn", 98), worse)])
        with pytest.raises(SlotError, match=r"above the baseline's 0\.3000: nothing was adopted"):
            await cli_models.adopt(settings, "churn", 98)
        assert (await standing())["churn"] == force

        await asyncio.to_thread(cli_models.rollback, "churn")
        assert (await standing())["churn"][:2] == ["churn", 4]
        for _ in range(2):
            await samples.send()
        await learned(deployment)
        assert (await standing())["churn"][:2] == ["churn", 4], "a frozen slot stays as it is"
        await asyncio.to_thread(cli_models.unfreeze, "churn")
        await asyncio.to_thread(cli_models.promote, "churn.rival/3")
        for _ in range(2):
            await samples.send()
        await learned(deployment)
        assert (await standing())["churn"][:2] == ["churn.rival", 7], "the versions of what was promoted follow"
        told = await cli_models.survey(settings)
        assert told["slots"]["churn"]["in_force"]["model"] == "churn.rival"
        assert [one["model"] for one in told["slots"]["churn"]["others"]] == ["churn"]

        ends = await end_offsets(settings, settings.topic(topics.CONTROL))

        async def journalled() -> bool:
            return (await deployment.committed("ingest")).get((settings.topic(topics.CONTROL), 0), 0) >= ends[0]

        await deployment._eventually(journalled, 60)
        messages = [orjson.loads(one.value) for one in await deployment.records(topics.CONTROL)]
        by_partition: dict[int, list[Any]] = {number: [] for number in range(settings.partitions)}
        for record in await deployment.records(topics.JOURNAL):
            by_partition[record.partition] += read_page(record.value)
        for entries in by_partition.values():
            assert {entry["k"] for entry in entries} == {"adopt"}
            assert {entry["at"] for entry in entries} == {0}
            assert in_force(entries) == in_force(messages)
        assert await worker.stopped() == 0, worker.tail()
        assert await ingest.stopped() == 0, ingest.tail()
