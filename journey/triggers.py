"""What is asked of the outside, with the reason that carries it. CloudEvents 1.0; ids are made of meaning."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from journey.events import MINUTE, SECOND
from journey.ids import derive

SEGMENT_CHANGED: Final = "journey.segment_changed.v1"
STAGE_CHANGED: Final = "journey.stage_changed.v1"
TRIGGER: Final = "journey.trigger.v1"


class Cause(NamedTuple):
    """The record that caused something: its message id, its type and where it lies."""

    message_id: str
    type: str
    src: list[Any]

    def shown(self) -> dict[str, Any]:
        """Return it as it stands in a trigger's reason."""
        return {"message_id": self.message_id, "type": self.type, "src": self.src}


class Trigger(NamedTuple):
    """An event for the outside: ``key`` is the customer's (and the Kafka key), ``body`` the whole CloudEvent."""

    key: str
    id: str
    body: dict[str, Any]


_MINUTES: Final[dict[int, str]] = {}  # what was written lately: neighbours share their minutes
_MOST_MINUTES: Final = 20_000
_SECONDS: Final = [f"{second:02d}." for second in range(60)]
_MILLISECONDS: Final = [f"{ms:03d}Z" for ms in range(1000)]


def rfc3339(ms: int) -> str:
    """Return a moment as RFC 3339 UTC with milliseconds.

    >>> rfc3339(1795162442100)
    '2026-11-20T08:14:02.100Z'
    """
    minute, rest = divmod(ms, MINUTE)
    text = _MINUTES.get(minute)
    if text is None:
        text = datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:")
        if len(_MINUTES) >= _MOST_MINUTES:
            _MINUTES.clear()
        _MINUTES[minute] = text
    second, rest = divmod(rest, SECOND)
    return text + _SECONDS[second] + _MILLISECONDS[rest]


def who(key: str) -> dict[str, str]:
    """Return the customer's id under the name of its kind."""
    return {"user_id" if key.startswith("u:") else "anonymous_id": key[2:]}


def run_id(key: str, journey: str, run_key: str, cause: str) -> str:
    """Return the id of a run: who entered which journey, for what, because of which message."""
    return "jr_" + derive("run", key, journey, run_key, cause)


def trigger_id(run: str, step: str) -> str:
    """Return the id of a trigger: its run and step, whatever the version of the journey."""
    return "tr_" + derive("trigger", run, step)


def stage_changed(
    key: str,
    now: int,
    change: tuple[str | None, str],
    text: str,
    facts: dict[str, Any],
    cause: Cause | None,
    due: int,
    scores: Sequence[dict[str, Any]] = (),
) -> Trigger:
    """Return the event that says a customer moved to another stage.

    ``cause`` is None when a timer moved it; then ``due`` (ms) names the
    moment the timer was set for, and is part of the id. ``scores`` are those
    the move rests on.
    """
    return _changed(STAGE_CHANGED, "/stages", key, now, change, text, facts, cause, due, scores)


def segment_changed(
    key: str, now: int, change: tuple[str | None, str], text: str, facts: dict[str, Any], cause: Cause | None, due: int
) -> Trigger:
    """Return the event that says a customer moved to another segment; ``cause`` and ``due`` as of a stage."""
    return _changed(SEGMENT_CHANGED, "/segments", key, now, change, text, facts, cause, due, ())


def _changed(
    kind: str,
    source: str,
    key: str,
    now: int,
    change: tuple[str | None, str],
    text: str,
    facts: dict[str, Any],
    cause: Cause | None,
    due: int,
    scores: Sequence[dict[str, Any]],
) -> Trigger:
    before, after = change
    because = cause.message_id if cause is not None else f"timer:{due}"
    name = "ch_" + derive(kind, key, because, after)
    reason: dict[str, Any] = {"text": text, "causes": [] if cause is None else [cause.shown()], "facts": facts}
    if scores:
        reason["scores"] = list(scores)
    body = {
        "specversion": "1.0", "type": kind, "id": name, "source": source, "subject": key, "time": rfc3339(now),
        "causationid": because, "data": {"from": before, "to": after, "customer": who(key), "reason": reason},
    }  # fmt: skip
    return Trigger(key, name, body)
