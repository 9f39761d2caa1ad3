"""Which epoch is live: one record of the compacted topic ``journey.config``, and who follows it.

A journal and the state folded from it are an *epoch*. Another one is built
beside the live one, with nothing sent, and then switched to or discarded
(``streams.rebuild``). While a switch is under way workers rest: first
ingest, so that the engine can fold the journal to its end, then the engine and
the learners.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from streams import topics
from streams.appends import Log
from streams.errors import EpochError, TopicConflictError
from streams.logs import consumer, partitions_of, read_partitions, spans_of
from streams.settings import Epoch, Settings

KEY: Final = b"epoch"
LOOK_MS: Final = 5000  # the broker answers at once when there is news

Phase = Literal["live", "draining", "switching"]
RESTING: Final[dict[Phase, frozenset[str]]] = {
    "live": frozenset(), "draining": frozenset(("ingest",)), "switching": frozenset(("ingest", "engine", "learn")),
}  # fmt: skip


class Plan(BaseModel):
    """The record: the live epoch, the one that was built beside it, and how far a switch has come."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[1] = 1
    phase: Phase = "live"
    live: Epoch = Epoch()
    built: Epoch | None = None
    kind: Literal["upgrade", "rebuild"] | None = None
    newest: int = 1  # highest number that any journal or state ever had


async def read_plan(settings: Settings) -> Plan:
    """Return the plan of a deployment; the first epoch is live where none was ever written."""
    plan = Plan()
    async with consumer(settings) as client:
        try:
            tps = await partitions_of(client, settings.topic(topics.CONFIG))
        except TopicConflictError:
            return plan
        async for _, records in read_partitions(client, await spans_of(client, tps)):
            for record in records:
                if record.key == KEY and record.value is not None:
                    plan = Plan.model_validate_json(record.value)
    return plan


async def write_plan(settings: Settings, plan: Plan) -> Plan:
    """Make a plan the one that counts; return it."""
    writer = await Log(settings.kafka_url, settings.batch_bytes).start()
    try:
        await writer.append(settings.topic(topics.CONFIG), 0, [(KEY, plan.model_dump_json().encode())])
    finally:
        await writer.stop()
    return plan


async def live(settings: Settings) -> Settings:
    """Return the settings of the live epoch."""
    return settings.at((await read_plan(settings)).live)


def working(plan: Plan, roles: Sequence[str]) -> list[str]:
    """Return the roles that may work now.

    Raises
    ------
    EpochError
        None of them.
    """
    found = [role for role in roles if role not in RESTING[plan.phase]]
    if not found:
        msg = (
            f"a switch to another epoch is under way ({plan.phase}), and {', '.join(roles)} rests until it is done: "
            "run the same `journey upgrade --switch` or `journey rebuild --switch` to its end, or --discard"
        )
        raise EpochError(msg)
    return found


async def changed(settings: Settings, plan: Plan) -> Plan:
    """Return, as soon as there is one, a plan by which a worker that began with another cannot go on."""
    latest = plan
    async with consumer(settings, wait_ms=LOOK_MS) as client:
        (tp,) = await partitions_of(client, settings.topic(topics.CONFIG))
        client.assign([tp])
        await client.seek_to_beginning(tp)
        while True:
            fetched = await client.getmany(tp, timeout_ms=LOOK_MS)
            for record in fetched.get(tp, ()):
                if record.key == KEY:
                    latest = Plan.model_validate_json(record.value)
            is_all = await client.position(tp) >= (client.highwater(tp) or 0)
            if is_all and (latest.phase, latest.live) != (plan.phase, plan.live):
                return latest
