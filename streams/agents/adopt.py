"""Adopt: snapshots in, adoptions out. What is verified and fits is put in force by a control message.

The slot's champion is adopted as it appears; a challenger only by promotion,
which an operator does, or the verdict of its duel where he lets it. After a
promotion the promoted model's versions are the ones that follow.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from journey.adoptions import Standing
from journey.ids import route
from journey.scoring import TRUSTED
from streams import faust_fixes, topics
from streams.appends import Log
from streams.chunks import Inbox
from streams.control import ControlLog
from streams.errors import LogTruncatedError, SnapshotError
from streams.records import dead_letter
from streams.settings import Settings
from streams.snapshots import (
    MOST_MICROSECONDS,
    Keys,
    adoption_of,
    check_fit,
    check_loads,
    is_empty,
    microseconds,
    payload_of,
    read,
)

log = logging.getLogger("journey.adopt")

LETTER_HEADERS: Final = (("content-type", b"application/json"),)
REASON: Final = "bad_snapshot"
STAGE: Final = "adopt"
COLD: Final = "cold"


def is_wanted(standing: Standing, envelope: Mapping[str, Any], promote: str) -> bool:
    """Tell whether a version is to be adopted now, without an operator.

    A version that was passed over or rolled back does not come again: only
    what is above the highest that ever was in force.
    """
    slot, model, version = envelope["slot"], envelope["model"], envelope["version"]
    if slot in standing.frozen or version <= standing.highest.get(model, -1):
        return False
    if envelope["trust"] == COLD and standing.trust_in(slot) == TRUSTED:
        return False  # a learner that began anew, of a journal that was rebuilt, knows less than what is in force
    known = standing.in_force.get(slot)
    if known is not None and known[0] == model:
        return True
    if envelope.get("role") == "champion":
        return known is None  # else another one was promoted in its place
    # a verdict compares with the slot's own champion: two challengers would else take turns
    is_own = known is not None and known[0] == slot
    verdict = envelope.get("verdict")
    return promote == "auto" and is_own and isinstance(verdict, dict) and verdict.get("promote") is True


def _is_promotion(standing: Standing, slot: str, model: str) -> bool:
    known = standing.in_force.get(slot)
    return known is not None and known[0] != model


@dataclass
class Adopt:
    """The adopt agent of one worker."""

    app: Any
    settings: Settings
    log: Log
    control: ControlLog
    keys: Keys
    counts: dict[str, int]  # the learner's: they are one role
    reasons: dict[str, int] = field(default_factory=dict)  # refused snapshots by kind of error
    _letters: int = 0

    def begin(self, app: Any, ends: Mapping[Any, int]) -> None:
        """Partitions are assigned: refuse a log of models that ends below what was taken from it."""
        name = self.settings.topic(topics.MODELS)
        for tp, end in ends.items() if app is self.app else ():
            taken = faust_fixes.begin(app, tp)
            if tp.topic == name and taken is not None and end < taken:
                text = f"{name}/{tp.partition} ends at {end}, {taken} records of it were taken before"
                raise LogTruncatedError(text)

    async def run(self, stream: Any) -> None:
        """Adopt what arrives, if it is to be; acknowledge it when the adoption is in the control topic."""
        with faust_fixes.fail_stop():
            self._letters = await self.log.partitions(self.settings.topic(topics.DEAD_LETTERS))
        async with Inbox(self.app, stream, self.settings.group_chunks) as inbox:
            while (group := await inbox.take()) is not None:
                with faust_fixes.fail_stop():
                    for event in group:
                        for record in event.value:
                            await self.take(record)
                for event in group:
                    event.ack()

    async def take(self, record: Any) -> None:
        """Adopt one snapshot, or refuse it, or pass it over."""
        if record.value is None:
            return  # a version that somebody deleted
        try:
            snapshot = read(record.value, self.keys)
            payload = payload_of(snapshot)
            standing = await self.control.read()
            if is_empty(payload) or not is_wanted(standing, snapshot.envelope, self.settings.promote):
                self.counts["passed_over"] += 1
                return
            check_fit(snapshot.envelope)
            slot = snapshot.envelope["slot"]
            found = check_loads(snapshot.model, snapshot.version, payload, slot)
            if _is_promotion(standing, slot, snapshot.model) and (took := microseconds(found)) > MOST_MICROSECONDS:
                self.counts["passed_over"] += 1
                slow = snapshot.model, snapshot.version, took, MOST_MICROSECONDS
                log.warning("not promoted: a score of %s/%d takes %.0f us, %.0f are allowed", *slow)
                return
        except SnapshotError as error:
            await self._refuse(record, error)
            return
        message = adoption_of(snapshot.envelope, standing)
        await self.log.append(self.settings.topic(topics.CONTROL), 0, [(None, orjson.dumps(message))])
        self.counts["adopted"] += 1
        told = message["slot"], snapshot.model, snapshot.version, message["replaces"]
        log.info("%s: %s/%d is adopted in place of %s", *told)

    async def _refuse(self, record: Any, error: SnapshotError) -> None:
        self.counts["refused"] += 1
        kind = type(error).__name__
        self.reasons[kind] = self.reasons.get(kind, 0) + 1
        log.error("not adopted: %s; what is in force stays", error)
        letter = dead_letter(record, REASON, str(error), None, STAGE)
        number = route((record.key or b"").decode("utf-8", "replace"), self._letters)
        name = self.settings.topic(topics.DEAD_LETTERS)
        await self.log.append(name, number, [(record.key, letter)], LETTER_HEADERS)
