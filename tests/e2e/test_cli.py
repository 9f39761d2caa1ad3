"""The command line against the real thing: what an operator does on an ordinary day, and after a bad one."""

from __future__ import annotations

import asyncio
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import orjson
import pytest

from streams.raw import RawRecord
from tests.conftest import Broker
from tests.harness import Deployment, deployed

pytestmark = [pytest.mark.e2e]

CSV = """ts,customer_id,type,item_id,category,value,quantity,extra
2026-03-01T10:00:00Z,7,click,p-1,shoes,,1,
2026-03-01T10:01:00Z,7,cart,p-1,shoes,50.00,1,
2026-03-01T10:05:00Z,8,cart,p-2,hats,20.00,2,
2026-03-01T10:06:00Z,8,purchase,p-2,hats,40.00,2,
2026-03-01T15:00:00Z,9,click,p-1,shoes,,1,
"""


class Shell:
    """The command line, in the environment of a deployment."""

    def __init__(self, deployment: Deployment, environment: dict[str, str]) -> None:
        self.deployment, self.environment = deployment, environment

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streams.cli", *arguments, env=self.environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 90)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def json(self, *arguments: str) -> Any:
        status, out, err = await self.run(*arguments, "--json")
        assert status == 0, err
        return [orjson.loads(line) for line in out.splitlines()]


async def test_an_operators_day(kafka: Broker, redis_url: str, prefix: str, tmp_path: Path) -> None:
    file = tmp_path / "shop.csv"
    file.write_text(CSV)
    async with deployed(kafka.url, prefix, tmp_path, REDIS_URL=redis_url, PARTITIONS="2") as deployment:
        worker = deployment.worker("worker").start()
        shell = Shell(deployment, worker.environment)
        (told,) = await shell.json("load", str(file), "--until", "2026-03-01T16:00:00Z")
        assert (told["published"], told["clock"]) == (5, "events")
        await deployment.at_rest()

        # the cart of 7 was quiet for an hour when time passed in its partition, that of 8 was bought
        reminders = await shell.json("tail", "--from-beginning", "--type", "journey.trigger.v1", "--limit", "1")
        assert [(one["subject"], one["time"]) for one in reminders] == [("u:7", "2026-03-01T16:00:00.000Z")]

        # state: what Redis shows is what the table has
        (stored,) = await shell.json("customer", "8", "--from", "table")
        assert stored["orders"]["revenue"] == {"EUR": 4000}
        await deployment._eventually(lambda: _shows(shell, "8"), 20)
        (shown,) = await shell.json("customer", "u:8")
        assert shown["features"]["orders.revenue_minor"] == 4000
        status, out, _ = await shell.run("customer", "8", "--from", "table")
        assert status == 0
        assert "orders.count" in out
        status, _, err = await shell.run("customer", "nobody")
        assert (status, "no customer nobody" in err) == (1, True)

        # replay: the whole, a part, into a file, against the live state
        (verdict,) = await shell.json("replay", "--verify")
        assert (verdict["replay"], verdict["customers"]) == ("identical", 3)
        status, out, _ = await shell.run("replay", "--verify")
        assert status == 0
        assert "identical" in out
        (report,) = await shell.json("replay", "--output", str(tmp_path / "state.jsonl"))
        lines = [orjson.loads(line) for line in (tmp_path / "state.jsonl").read_bytes().splitlines()]
        assert {line["key"] for line in lines} >= {"u:7", "u:8", "u:9"}
        assert report["customers"] == 3
        (earlier,) = await shell.json("replay", "--until", "2026-03-01T10:01:30Z")
        assert earlier["entries"] < report["entries"]
        (begun,) = await shell.json("replay", "--to-offset", "0")
        assert begun["pages"] == 2

        # the read model can be lost
        (rebuilt,) = await shell.json("cache", "rebuild")
        assert rebuilt == {"customers": 3}
        (again,) = await shell.json("customer", "8")
        assert again == shown

        # a second load is refused while it would act on the past, unless it is history
        await deployment.publish([_event({"type": "click.page_viewed", "user_id": "7", "occurred_at": "no time"})])
        await deployment.publish([_event({"type": "click.page_viewed", "user_id": "7"})])
        await deployment.publish([RawRecord("events.click", b"u:7", b'{"broken', 0)])
        await shell.run("load", str(file), "--clock", "events")  # marks: what is held goes on
        await deployment.at_rest()

        # dead letters: listed, repaired, sent again, counted once
        letters = await shell.json("dead-letters", "list")
        assert sorted(letter["reason"] for letter in letters) == ["bad_time", "missing_field", "not_json"]
        status, out, _ = await shell.run("dead-letters", "list", "--reason", "bad_time")
        assert "bad_time" in out
        (told,) = await shell.json("dead-letters", "resend")
        assert (told["sent"], len(told["left"])) == (0, 3)
        repaired = []
        for letter in letters:
            if letter["reason"] == "bad_time":
                assert orjson.loads(b64decode(letter["value_b64"]))["occurred_at"] == "no time"
                letter["value"] |= {"occurred_at": "2026-03-01T10:00:30Z", "received_at": "2026-03-01T10:00:30Z"}
            repaired.append(orjson.dumps(letter))
        (tmp_path / "letters.jsonl").write_bytes(b"\n".join(repaired))
        before = (await shell.json("customer", "7", "--from", "table"))[0]["counts"].get("click.page_viewed", 0)
        for _ in range(2):  # sent twice, counted once: the message id is made of the letter's source
            (told,) = await shell.json("dead-letters", "resend", "--file", str(tmp_path / "letters.jsonl"))
            assert (told["sent"], len(told["left"])) == (1, 2)
        await deployment.at_rest()
        (customer,) = await shell.json("customer", "7", "--from", "table")
        assert customer["counts"]["click.page_viewed"] == before + 1
        assert (await shell.json("replay", "--verify"))[0]["replay"] == "identical"
        assert await worker.stopped() == 0


async def _shows(shell: Shell, name: str) -> bool:
    return (await shell.run("customer", name))[0] == 0


def _event(event: dict[str, Any]) -> RawRecord:
    return RawRecord("events.click", b"u:7", orjson.dumps(event), 0)


@pytest.mark.slow
@pytest.mark.timeout(420)  # other processes of tests share the cores with its four
async def test_the_demo_ends_by_itself_with_an_identical_replay(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams.cli", "demo", "--rate", "0",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 400)
    assert process.returncode == 0, err.decode()[-2000:]
    last = orjson.loads(out.splitlines()[-1])
    assert list(last) == [
        "events", "accepted", "dead_lettered", "duplicates", "customers", "triggers", "seconds", "segments", "labels",
        "models_adopted", "triggers_by_models", "events_per_second", "p50_ms", "p99_ms", "replay",
    ]  # fmt: skip
    assert min(last["segments"], last["labels"], last["models_adopted"], last["triggers_by_models"]) > 0
    assert last["replay"] == "identical"
    assert last["events"] == last["accepted"] + last["dead_lettered"] + last["duplicates"] >= 20_000
    assert min(last["dead_lettered"], last["duplicates"], last["triggers"]) > 100
