"""Wire <-> domain: raw events in, journal entries and dead letters out. Validation is pure: a repeat decides alike.

Plain events take a short way (``streams.plain``). Of the rest many are
validated at once; only when something in them is wrong are the wrong ones told
apart, so one bad event never rejects its neighbours.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Final, cast

import orjson

from journey.adoptions import HEX, NAME_CHARS, adoption, slot_of, time_of
from journey.entries import Entry, compact
from journey.errors import (
    BadFieldError,
    BadMoneyError,
    BadTimeError,
    EventError,
    MissingFieldError,
    TooLargeError,
    UnknownTypeError,
)
from journey.events import YEAR_2000, YEAR_2100
from journey.triggers import rfc3339
from streams.arrivals import (
    Parsed,
    RawMessage,
    check_type,
    entries_of,
    entries_of_all,
    load,
    load_all,
    plain_entries,
)
from streams.shapes import ADAPTERS, ValidationError

DEAD_LETTER_BYTES: Final = 65_536
SLICE: Final = 128  # events validated at once: few enough for the processor's cache, enough to share what a call costs

# ---- raw events ------------------------------------------------------------------------------------------------------


def parse_events(cls: str, records: Sequence[RawMessage], partitions: int) -> list[Parsed]:
    """Validate a chunk of records of one class and return what becomes of each, in order."""
    parsed = plain_entries(cls, records, partitions)
    rest = [index for index, one in enumerate(parsed) if one is None]
    for start in range(0, len(rest), SLICE):
        indices = rest[start : start + SLICE]
        some = [records[index] for index in indices]
        try:
            found = _all_valid(cls, some, partitions)
        except (EventError, ValidationError, TypeError):
            found = _told_apart(cls, some, partitions)
        for index, one in zip(indices, found, strict=True):
            parsed[index] = one
    return cast("list[Parsed]", parsed)


def _all_valid(cls: str, records: Sequence[RawMessage], partitions: int) -> list[Parsed]:
    """Return the entries of events all of which are valid; raise whatever comes first when one is not."""
    return entries_of_all(ADAPTERS[cls].validate_python(load_all(records)), records, partitions)


def _told_apart(cls: str, records: Sequence[RawMessage], partitions: int) -> list[Parsed]:
    """Return the entries of the events that are valid, and the dead letters of the others."""
    loaded: list[dict[str, Any]] = []
    where: list[int] = []
    parsed: list[Parsed | None] = [None] * len(records)
    for index, record in enumerate(records):
        try:
            event = load(record.value)
            check_type(cls, event)
        except EventError as error:
            parsed[index] = _refused(record, error)
        else:
            loaded.append(event)
            where.append(index)
    adapter = ADAPTERS[cls]
    faults: dict[int, EventError] = {}
    try:
        valid = adapter.validate_python(loaded)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_context=False, include_input=False):
            index = int(fault["loc"][0])
            known, told = faults.get(index), _as_event_error(fault, loaded[index])
            # the first counts; but of all that a value might have been, being too long says most
            if known is None or (isinstance(told, TooLargeError) and not isinstance(known, TooLargeError)):
                faults[index] = told
        for index, refusal in faults.items():
            parsed[where[index]] = _refused(records[where[index]], refusal)
        where = [at for index, at in enumerate(where) if index not in faults]
        valid = adapter.validate_python([event for index, event in enumerate(loaded) if index not in faults])
    for at, event in zip(where, valid, strict=True):
        record = records[at]
        try:
            parsed[at] = entries_of(event, record, partitions)
        except EventError as refusal:
            parsed[at] = _refused(record, refusal)
    return [one for one in parsed if one is not None]


def _as_event_error(fault: Any, event: dict[str, Any]) -> EventError:
    is_missing = fault["type"] == "missing"
    # of where the fault is told to be only what is in the event: the rest names shapes it was compared with
    path: list[str] = []
    here: Any = event
    for part in fault["loc"][1:]:
        if (isinstance(here, dict) and part in here) or (
            isinstance(here, list) and isinstance(part, int) and part < len(here)
        ):
            here = here[part]
            path.append(str(part))
    if is_missing:
        path.append(str(fault["loc"][-1]))
    field, last, text = ".".join(path), path[-1] if path else "", str(fault["msg"])
    if is_missing:
        return MissingFieldError("required", field=field)
    if last.endswith("_minor") or last == "currency":
        return BadMoneyError(text, field=field)
    if last in ("occurred_at", "sent_at", "received_at"):
        return BadTimeError(text, field=field)
    if fault["type"] in ("string_too_long", "too_long"):
        return TooLargeError(text, field=field)
    return BadFieldError(text, field=field)


# ---- control ---------------------------------------------------------------------------------------------------------


def parse_control(records: Sequence[RawMessage], partitions: int) -> list[Parsed]:
    """Return the entries of control messages: each goes to every journal partition, ``mark`` and ``freeze`` to none."""
    return [_control(record, partitions) for record in records]


def _control(record: RawMessage, partitions: int) -> Parsed:
    try:
        message = load(record.value)
        kind = message.get("k")
        src = [record.topic, record.partition, record.offset]
        entry: Entry
        if kind in ("tick", "mark"):
            at = message.get("at")
            if not isinstance(at, int) or isinstance(at, bool) or not YEAR_2000 <= at < YEAR_2100:
                msg = "milliseconds since 1970, from 2000 to 2100"
                raise BadTimeError(msg, field="at")
            entry = {"k": "tick", "at": at, "src": src}
        elif kind == "clock":
            clock = message.get("clock")
            if clock not in ("wall", "events"):
                msg = "wall or events"
                raise BadFieldError(msg, field="clock")
            # of the events' own time: the clock entry begins a journal at no time at all
            at = record.timestamp if clock == "wall" else 0
            entry = {"k": "clock", "at": at, "src": src, "clock": clock}
        elif kind == "adopt":
            # it moves no time: a model counts from where it lies, and what it has learned is of the past
            entry = cast("Entry", {"at": 0, "src": src, **adoption(message)})
            return Parsed(time_of(message), _everywhere(entry, partitions), None)
        elif kind == "config":
            # nor does this; it is in force from where it lies
            entry = cast("Entry", {"k": kind, "at": 0, "src": src, **_configuration(message)})
        elif kind in ("freeze", "unfreeze"):
            slot_of(message)
            return Parsed(record.timestamp, (), None)
        else:
            msg = f"{kind!r:.100} is not a known control message"
            raise UnknownTypeError(msg, field="k")
    except EventError as error:
        return _refused(record, error)
    if kind == "mark":
        return Parsed(entry["at"], (), None)
    return Parsed(entry["at"], _everywhere(entry, partitions), None)


def _configuration(message: dict[str, Any]) -> dict[str, str]:
    sha256 = message.get("sha256")
    if not isinstance(sha256, str) or len(sha256) != 64 or not HEX.issuperset(sha256):
        msg = "64 hexadecimal digits in lower case"
        raise BadFieldError(msg, field="sha256")
    told = {"sha256": sha256}
    for name in ("engine", "tzdata"):
        version = message.get(name)
        if version is not None:
            if not isinstance(version, str) or len(version) > NAME_CHARS:
                msg = f"a text of {NAME_CHARS} characters at most"
                raise BadFieldError(msg, field=name)
            told[name] = version
    return told


def _everywhere(entry: Entry, partitions: int) -> tuple[tuple[int, bytes], ...]:
    encoded = compact(orjson.dumps(entry))
    return tuple((number, encoded) for number in range(partitions))


# ---- dead letters ----------------------------------------------------------------------------------------------------


def _refused(record: RawMessage, error: EventError) -> Parsed:
    letter = dead_letter(record, error.reason, error.detail, error.field, "ingest")
    return Parsed(record.timestamp, (), (record.key, letter))


def dead_letter(record: RawMessage, reason: str, detail: str, field: str | None, stage: str) -> bytes:
    """Return the dead letter of a record: why, where it lies, and its original bytes (up to 64 KB of them)."""
    value = record.value or b""
    letter = {
        "v": 1, "reason": reason, "field": field, "detail": detail[:500], "stage": stage,
        "source": {"topic": record.topic, "partition": record.partition, "offset": record.offset},
        "rejected_at": rfc3339(record.timestamp),
        "key_b64": None if record.key is None else b64encode(record.key).decode(),
        "headers": [[name, b64encode(content or b"").decode()] for name, content in record.headers],
        "value_b64": b64encode(value[:DEAD_LETTER_BYTES]).decode(), "value_bytes": len(value),
    }  # fmt: skip
    if reason == "wrong_topic":
        letter["to"] = detail.rsplit(" ", 1)[-1]
    return compact(orjson.dumps(letter))
