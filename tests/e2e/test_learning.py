"""The real learners on months of a generated shop: killed at any moment, given forged models, and learned again.

``CRASH_SEED`` varies the run.
"""

from __future__ import annotations

import asyncio
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from journey.entries import encode, read_page
from journey.events import DAY
from journey.state import partition_key
from streams import topics
from streams.appends import Log
from streams.cli import FAILED
from streams.logs import end_offsets
from streams.publish import load
from streams.replay import live_cuts
from streams.settings import PREFIX, Settings
from streams.shop import START_MS, open_shop
from streams.snapshots import Keys, keys_of, payload_of, read, record_key, sign
from tests.conftest import Broker
from tests.e2e.test_cli import Shell
from tests.e2e.test_crashes import FATAL, KILLS, SECONDS, SEED, Crashes
from tests.e2e.test_verify import Books, Change, Line, as_it_is, customers, is_partition
from tests.harness import NOWHERE, STOPPED, Chance, Deployment, deployed, elapsed

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CUSTOMERS: Final = 70  # of whose half year some thousand samples come
SLICE: Final = 40
PAUSE: Final = 0.4  # s; the half year takes longer than a minute
BETWEEN: Final = 200 * DAY  # from the beginning of a half year to that of the next
FEW: Final = 45
MONTHS: Final = 130  # days
PARTS: Final = 2
KEY: Final = "a key of the tests"


async def tell_months(deployment: Deployment, seed: int, done: asyncio.Event) -> None:
    """Publish half a year of a shop, and further ones until it is enough; what is left then comes at once."""
    await deployment.publisher.use_events_clock()
    for number in count():
        shop = open_shop(seed=seed + 1000 * number, customers=CUSTOMERS, start_ms=START_MS + number * BETWEEN)
        records = iter(shop.records)
        while chunk := list(islice(records, SLICE)):
            await deployment.publish(chunk)
            await deployment.publisher.mark(chunk[-1].at)
            if not done.is_set():
                await elapsed(PAUSE)
        if done.is_set():
            return


# ---- whatever happens to the processes -------------------------------------------------------------------------------


@pytest.mark.timeout(600)
async def test_models_come_out_as_if_nothing_had_been_killed(kafka: Broker, prefix: str, tmp_path: Path) -> None:
    begin = time.monotonic()
    async with deployed(kafka.url, prefix, tmp_path / "logs", REDIS_URL=NOWHERE) as deployment:
        crashes = [Crashes(deployment, role, Chance(SEED, "models", role), begin + SECONDS) for role in FATAL]
        done = asyncio.Event()
        telling = asyncio.ensure_future(tell_months(deployment, int(SEED), done))
        try:
            await asyncio.gather(*(crash.run() for crash in crashes))
        finally:
            done.set()
            await telling
        async with deployment.supervised():
            await deployment.at_rest(within_seconds=240)
        found = await deployment.examined(unique_ids=False, within_seconds=240)
        found.figures |= {
            "seed": SEED, "seconds": round(time.monotonic() - begin, 1),
            "happened": {crash.role: dict(crash.happened) for crash in crashes},
        }  # fmt: skip
        print(found.line())  # noqa: T201  # with -s: the figures of the run
        for crash in crashes:
            assert crash.kills >= KILLS
        assert found.is_exact, found.line()
        assert found.figures["samples"] > 2_000
        assert found.figures["models"] > 200
        assert found.figures["adopted"] > 100


# ---- whatever is in the topics ---------------------------------------------------------------------------------------

Force = dict[str, list[Any]]  # slot: model, version, digest


async def in_force(deployment: Deployment) -> Force:
    """Return what is in force, the same in all journal partitions."""
    cuts = await live_cuts(deployment.settings)
    (force, *others) = [orjson.loads(cut.records[partition_key(number)])["models"] for number, cut in cuts.items()]
    assert others == [force] * (deployment.settings.partitions - 1)
    return dict(force)


async def refuses_what_was_changed(deployment: Deployment, force: Force) -> None:
    """Publish copies of the model in force under versions that are yet to come, each changed somewhere."""
    settings = deployment.settings
    model, version, _ = force["churn"]
    (value, *_) = [
        one.value for one in await deployment.records(topics.MODELS) if one.key == record_key(model, version)
    ]
    told = orjson.loads(value)
    payload = bytearray(b64decode(told["payload_b64"]))
    payload[len(payload) // 2] ^= 1
    mac = told["hmac"]
    forged = [
        told | {"payload_b64": b64encode(payload).decode()},
        told | {"hmac": ("0" if mac[0] != "0" else "1") + mac[1:]},
        told | {"version": version + 1},
        told | {"trust": "cold" if told["trust"] == "trusted" else "trusted"},
        told | {"kind": "pickle"},
    ]
    log = await Log(settings.kafka_url, 900_000).start()
    try:
        for number, one in enumerate(forged, version + 1):
            await log.append(settings.topic(topics.MODELS), 0, [(record_key(model, number), encode(one))])
    finally:
        await log.stop()
    await deployment.at_rest(within_seconds=120)
    assert await in_force(deployment) == force
    letters = [orjson.loads(one.value) for one in await deployment.records(topics.DEAD_LETTERS)]
    mine = [one for one in letters if one["stage"] == "adopt"]
    assert [one["reason"] for one in mine] == ["bad_snapshot"] * len(forged)
    assert all("was changed after it was signed" in one["detail"] or "not the one" in one["detail"] for one in mine)


@asynccontextmanager
async def learned_books(kafka: Broker, prefix: str, directory: Path) -> AsyncIterator[tuple[Deployment, Books, Force]]:
    """Let one worker learn months in peace, and refuse forged models; give what it wrote when it has come to rest."""
    async with deployed(kafka.url, prefix, directory, PARTITIONS="2", MODEL_KEY=KEY) as deployment:
        deployment.worker("worker", "all").start()
        await deployment.shared_by("ingest", 1)
        await deployment.publisher.use_events_clock()
        shop = open_shop(seed=1, customers=FEW, days=MONTHS)
        records = iter(shop.records)
        for _ in range(PARTS):  # what is learned of one part scores the next
            part = islice(records, -(-len(shop.records) // PARTS))
            await load(deployment.publisher, part, clock="events", slice_records=500)
            await deployment.at_rest(within_seconds=120)
        force = await in_force(deployment)
        assert force.keys() >= {"churn", "intent", "recs", "spend"}
        await refuses_what_was_changed(deployment, force)
        found = await deployment.examined(unique_ids=False, within_seconds=120)
        assert found.is_exact, found.line()
        assert found.figures["refused_models"] > 0
        yield deployment, await Books(deployment.settings).read(), force


def without_a_sample(name: str, lines: list[Line]) -> list[Line]:
    """Lose a sample in the middle."""
    return lines[: len(lines) // 2] + lines[len(lines) // 2 + 1 :] if name == topics.SAMPLES else lines


def with_another_score(name: str, lines: list[Line]) -> list[Line]:
    """Let one live customer have a score that no model gave."""
    if name != topics.TABLE:
        return lines
    for partition, key, value in customers(lines):
        record = orjson.loads(value)
        for score in record.get("scores", {}).values():
            # of a model that is not trusted yet there is none
            score[0] = 0.5 if score[0] is None else round(1.0 - score[0], 6)
            at = max(index for index, line in enumerate(lines) if line[0] == partition and is_partition(line))
            return [*lines[:at], (partition, key, encode(record)), *lines[at:]]
    raise AssertionError("nobody has a score")


def signed_again(settings: Settings, value: bytes, keys: Keys) -> bytes:
    """Return a model as if it had learned from one label more, signed."""
    snapshot = read(value, keys_of(settings))
    told, payload = snapshot.envelope, payload_of(snapshot)
    return sign(
        keys, model=snapshot.model, number=snapshot.version, parent=told["parent"], schema=told["schema"],
        trained_through=told["trained_through"], trained=told, payload=payload | {"labels": payload["labels"] + 1},
    )  # fmt: skip


def with_model(key: bytes, change: Callable[[bytes], bytes], *, is_left: bool = False) -> Change:
    """Write another record in place of a model's, as it is once the first one is compacted away; or behind it."""

    def changed(name: str, lines: list[Line]) -> list[Line]:
        if name != topics.MODELS:
            return lines
        (at,) = [index for index, line in enumerate(lines) if line[1] == key]
        other = (lines[at][0], key, change(lines[at][2]))
        return [*lines, other] if is_left else [*lines[:at], other, *lines[at + 1 :]]

    return changed


@pytest.mark.timeout(600)
async def test_what_was_changed_behind_the_learners_is_refused_or_found(
    kafka: Broker, prefix: str, tmp_path: Path
) -> None:
    async with learned_books(kafka, prefix, tmp_path) as (deployment, books, force):
        settings = deployment.settings

        async def told(name: str, change: Change, *arguments: str) -> tuple[int, str]:
            """Return what the command line says of a changed copy."""
            copy = await books.copied(f"{prefix}-{name}", change)
            environment = deployment.environment | {f"{PREFIX}TOPIC_PREFIX": copy.topic_prefix}
            status, out, err = await Shell(deployment, environment).run("replay", *arguments)
            return status, out + " ".join(err.split())

        async def verified(name: str, change: Change) -> tuple[int, dict[str, Any]]:
            status, text = await told(name, change, "--verify", "--json")
            return status, orjson.loads(text)

        status, verdict = await verified("same", as_it_is)
        assert (status, verdict["replay"]) == (0, "identical")
        assert verdict["samples"] == len(books.lines[topics.SAMPLES]) > 500
        assert verdict["models"] > 100
        assert verdict["adopted"]["churn"] == [f"churn/{force['churn'][1]}"]

        status, verdict = await verified("sample", without_a_sample)
        assert (status, verdict["replay"]) == (1, "different")
        assert len(verdict["samples_different"]) == 1

        status, verdict = await verified("score", with_another_score)
        assert (status, verdict["replay"]) == (1, "different")
        (difference,) = verdict["differences"]
        assert difference["live"]["scores"] != difference["replayed"]["scores"]
        assert verdict["samples_different"] == verdict["models_different"] == []

        # a model that nothing hangs on: signed with the right key, and not what the samples give
        pages = [page for _, _, page in books.lines[topics.JOURNAL]]
        adopted = {
            f"{one['model']}/{one['version']}" for page in pages for one in read_page(page) if one["k"] == "adopt"
        }
        keys = [key for _, key, _ in books.lines[topics.MODELS] if key is not None]
        key = next(key for key in keys if key.decode() not in adopted and not key.startswith(b"churn/"))
        for is_left in (False, True):
            change = with_model(key, lambda value: signed_again(settings, value, keys_of(settings)), is_left=is_left)
            status, verdict = await verified(f"resigned-{is_left}".lower(), change)
            assert (status, verdict["replay"]) == (1, "different")
            assert verdict["models_different"] == [key.decode()]
            assert verdict["samples_different"] == verdict["differences"] == []

        # a model that was adopted, written over by somebody else, or by somebody who has our key
        foreign = Keys(b"somebody else's key")
        for name, signer, why in (
            ("foreign", foreign, "is signed with the key"), ("ours", keys_of(settings), "the adopted one's"),
        ):  # fmt: skip
            change = with_model(b"churn/3", partial(signed_again, settings, keys=signer))
            for arguments in ((), ("--verify",)):
                status, text = await told(f"{name}-{len(arguments)}", change, *arguments)
                assert status == FAILED
                assert "model churn/3 was adopted in the journal and cannot be used: " in text
                assert why in text

        # as long as the one that was adopted is there, too, it is the one that counts
        change = with_model(b"churn/3", partial(signed_again, settings, keys=foreign), is_left=True)
        status, verdict = await verified("behind", change)
        assert (status, verdict["replay"]) == (0, "identical")

        # an engine ends instead of going on without what is in force
        now = record_key(*force["churn"][:2])
        copy = await books.copied(f"{prefix}-engine", with_model(now, partial(signed_again, settings, keys=foreign)))
        before = await end_offsets(copy, topics.changelog(copy))
        engine = deployment.worker("engine", "engine", TOPIC_PREFIX=copy.topic_prefix).start()
        assert await engine.ended(within_seconds=60) == STOPPED
        assert engine.said(f"model {now.decode()} was adopted in the journal and cannot be used: "), engine.tail()
        assert await end_offsets(copy, topics.changelog(copy)) == before
