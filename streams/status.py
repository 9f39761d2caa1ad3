"""How a deployment is: what the broker knows of the groups, and what each worker tells of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout
from aiokafka.coordinator.protocol import ConsumerProtocol

from journey.samples import FAMILIES
from streams import epochs, topics
from streams.errors import ShellError, UnknownTopicError
from streams.logs import end_offsets
from streams.settings import Settings
from streams.topics import Admin
from streams.unread import Unread

PATIENCE: Final = 3.0  # s that a worker is waited for
ROLES: Final = ("ingest", "engine", "learn")
LOOK_EVERY: Final = 1.0  # s
LEARNED_LOOKS: Final = 3  # in a row at which nothing is left to be learned
TOLD_EVERY: Final = 5  # looks
READS: Final = {"engine": topics.JOURNAL, "learn": topics.SAMPLES}  # what a role has to commit


async def status(settings: Settings, wall: int) -> dict[str, Any]:
    """Return everything, as `journey status --json` shows it; ``wall`` is the time now in ms."""
    settings = await epochs.live(settings)
    roles: dict[str, Any] = {}
    async with Admin(settings) as admin:
        for role in ROLES:
            roles[role] = await role_of(admin, settings, role)
    async with Unread(settings) as unread:
        try:
            roles["ingest"]["lag"], oldest = await unread.lag(), await unread.oldest()
        except UnknownTopicError:  # nobody has made them yet, or the broker has just started
            roles["ingest"]["lag"] = oldest = None
    addresses = {member["address"] for role in roles.values() for member in role["members"]} - {None}
    async with ClientSession(timeout=ClientTimeout(total=PATIENCE)) as client:
        told = await asyncio.gather(*(_asked(client, address) for address in sorted(addresses)))
    return {
        "epoch": {"journal": settings.epoch.journal, "state": settings.epoch.state},
        "oldest_unread_seconds": None if oldest is None else max(0, wall - oldest) / 1000,
        "roles": roles,
        "workers": dict(zip(sorted(addresses), told, strict=True)),
    }


async def unlearned(settings: Settings) -> int | None:
    """Return how many pages, samples and models wait to be folded, learned and adopted; None when no worker learns.

    What is learned counts as such before it is committed, which large
    learners do seldom: their workers are asked.
    """
    async with Admin(settings) as admin:
        learn = await role_of(admin, settings, "learn")
        if not learn["members"]:
            return None
        engine = await role_of(admin, settings, "engine")
        done = await admin.committed(settings.app_id("learn"))
    samples, models = settings.topic(topics.SAMPLES), settings.topic(topics.MODELS)
    async with ClientSession(timeout=ClientTimeout(total=PATIENCE)) as client:
        told = await asyncio.gather(*(_asked(client, one["address"]) for one in learn["members"] if one["address"]))
    for worker in told:
        role = {} if worker is None else worker["roles"].get("learn", {})
        for family, found in role.get("families", {}).items():
            place = (samples, FAMILIES.index(family))
            done[place] = max(done.get(place, 0), found["next"])
    left = int(engine["lag"])
    for topic in (samples, models):
        ends = await end_offsets(settings, topic)
        left += sum(max(0, end - done.get((topic, number), 0)) for number, end in ends.items())
    return left


async def until_learned(
    settings: Settings, within: float, tell: Callable[[int], None], every: float = LOOK_EVERY
) -> None:
    """Return when the models have learned everything and what they learned is adopted, or when no worker learns.

    ``tell`` is told now and then how much is left; ``every`` is how many seconds lie between two looks.

    Raises
    ------
    ShellError
        That took more than so many seconds.
    """
    left: int | None = 0
    quiet = looks = 0
    try:
        async with asyncio.timeout(within):
            while quiet < LEARNED_LOOKS:  # what is learned is published, adopted, and journalled
                left = await unlearned(settings)
                if left is None:
                    return
                quiet = 0 if left else quiet + 1
                if left and looks % TOLD_EVERY == 0:
                    tell(left)
                looks += 1
                await asyncio.sleep(every)
    except TimeoutError:
        text = (
            f"{left:,} samples are not learned after {within:.0f} s: call it again, or with --learn-wait 0 to go on "
            "with the models as they are; they learn all the same"
        )
        raise ShellError(text) from None


async def role_of(admin: Admin, settings: Settings, role: str) -> dict[str, Any]:
    """Return a role's group: its state, its members, and how much it has not committed."""
    group = settings.app_id(role)
    state, members = await admin.group(group)
    found: dict[str, Any] = {"group": group, "state": state, "members": [_member(*member) for member in members]}
    if role in READS:
        done = await admin.committed(group)
        topic = settings.topic(READS[role])
        there = await admin.partitions()
        ends = await end_offsets(settings, topic) if topic in there else {}
        found["lag"] = sum(max(0, end - done.get((topic, number), 0)) for number, end in ends.items())
    return found


def _member(client_id: str, host: str, assignment: bytes) -> dict[str, Any]:
    """Return a member of a group in words; its client id ends with the address at which its worker answers."""
    partitions: dict[str, list[int]] = {}
    if assignment:
        for tp in ConsumerProtocol.ASSIGNMENT.decode(assignment).partitions():
            partitions.setdefault(tp.topic, []).append(tp.partition)
    return {
        "host": host.lstrip("/"), "address": client_id.partition("@")[2] or None,
        "partitions": {topic: sorted(numbers) for topic, numbers in sorted(partitions.items())},
    }  # fmt: skip


async def tell(address: str) -> dict[str, Any] | None:
    """Return what the worker at an address tells; None when it does not answer."""
    async with ClientSession(timeout=ClientTimeout(total=PATIENCE)) as client:
        return await _asked(client, address)


async def _asked(client: ClientSession, address: str) -> dict[str, Any] | None:
    """Return what a worker tells; None when it does not answer."""
    try:
        async with client.get(f"http://{address}/status") as answer:
            told: dict[str, Any] = await answer.json()
            return told if answer.status == 200 else None
    except (ClientError, TimeoutError, OSError, ValueError):
        return None
