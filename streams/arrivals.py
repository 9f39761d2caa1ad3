"""One raw event on its way in: its limits, its times, its customer, and the entries it becomes.

What every event passes, so it is written for speed and may be compiled; the
shapes of the events are checked by ``streams.shapes``. Pure: a repeat of a
record decides alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import orjson

from journey.entries import Entry, compact
from journey.errors import (
    BadFieldError,
    BadTimeError,
    BlockedIdError,
    EventError,
    MissingFieldError,
    MissingIdError,
    NotJsonError,
    TooLargeError,
    UnknownTypeError,
    UnsupportedVersionError,
    WrongTopicError,
)
from journey.events import CLASS_OF, DAY, RECEIVED_AHEAD, SECOND, YEAR_2000, YEAR_2100, occurred_at
from journey.ids import customer_key, derive, is_blocked, route
from streams.plain import EVENT_BYTES, plain

VALUE_BYTES: Final = 32_768
DEPTH: Final = 6
STRING_CHARS: Final = EVENT_BYTES
LIST_ITEMS: Final = 200
EXTRA_BYTES: Final = 8_192
CONTEXT_BYTES: Final = 4_096
EVENT_VERSION: Final = 1


class RawMessage(Protocol):
    """What ingest needs of a consumed record."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class Parsed(NamedTuple):
    """What became of one raw record: encoded entries with their journal partition, or a dead letter."""

    at: int  # received_at, ms
    entries: tuple[tuple[int, bytes], ...]
    dead_letter: tuple[bytes | None, bytes] | None  # key and value


# a named tuple's own constructor is a Python function, and takes six times as long
_parsed: Final[Callable[[tuple[Any, ...]], Parsed]] = partial(tuple.__new__, Parsed)


# ---- time ------------------------------------------------------------------------------------------------------------

_RFC3339: Final = re.compile(r"^\d{4}-\d\d-\d\d[Tt ](?!24)\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$", re.ASCII)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# of 2026-11-20T08:12:44.292Z, as nearly everybody writes it: 17 characters of a minute, 20 of a second with its dot
_SECONDS: Final = {f"{second:02d}.": second * SECOND for second in range(60)}
_MILLISECONDS: Final = {f"{ms:03d}Z": ms for ms in range(1000)}
_READ: Final[dict[str, int]] = {}  # seconds and minutes that were read lately: the times of an event share theirs
_MOST_READ: Final = 20_000


def parse_time(field: str, text: str) -> int:
    """Return RFC 3339 as milliseconds since 1970; finer digits are cut.

    Raises
    ------
    BadTimeError
        Not RFC 3339, or no such moment.
    """
    ms = _MILLISECONDS.get(text[20:])
    if ms is None:
        return _parse_time(field, text)
    second = _READ.get(text[:20])
    return ms + (_second(field, text) if second is None else second)


def _second(field: str, text: str) -> int:
    """Return the second of a time that ends in milliseconds, and remember it."""
    second = _SECONDS.get(text[17:20])
    if second is None:
        return _parse_time(field, text) // SECOND * SECOND
    minute = _READ.get(text[:17])
    if minute is None:
        minute = _parse_time(field, text) // SECOND * SECOND - second
    if len(_READ) >= _MOST_READ:
        _READ.clear()
    _READ[text[:17]], _READ[text[:20]] = minute, minute + second
    return minute + second


def _parse_time(field: str, text: str) -> int:
    if not _RFC3339.match(text):
        msg = "is not RFC 3339, such as 2026-11-20T08:12:44.292Z"
        raise BadTimeError(msg, field=field)
    try:
        since = datetime.fromisoformat(text.upper()) - _EPOCH
    except (ValueError, OverflowError):
        msg = "no such moment"
        raise BadTimeError(msg, field=field) from None
    return since.days * DAY + since.seconds * SECOND + since.microseconds // 1000


# ---- limits and absence ----------------------------------------------------------------------------------------------


def _is_deeper(value: dict[str, Any] | list[Any], levels: int) -> bool:
    """Tell whether there is more than so many levels; the value itself is one."""
    if levels == 0:
        return True
    for part in value.values() if isinstance(value, dict) else value:
        kind = type(part)
        if (kind is dict or kind is list) and _is_deeper(part, levels - 1):
            return True
    return False


def _check_limits(value: Any, depth: int = 1) -> None:
    """Refuse what is nested too deep or too long. The value's own level counts as 1."""
    if isinstance(value, str):
        if len(value) > STRING_CHARS:
            text = f"a string of {len(value)} characters, {STRING_CHARS} are allowed"
            raise TooLargeError(text)
        return
    if isinstance(value, dict | list):
        if depth > DEPTH:
            text = f"nested deeper than {DEPTH}"
            raise TooLargeError(text)
        if isinstance(value, list):
            if len(value) > LIST_ITEMS:
                text = f"a list of {len(value)} items, {LIST_ITEMS} are allowed"
                raise TooLargeError(text)
            for part in value:
                _check_limits(part, depth + 1)
        else:
            for name, part in value.items():
                _check_limits(name, depth)
                _check_limits(part, depth + 1)


def _without_absent(value: Any, *, keep: bool = False) -> Any:
    """Return a value without members that are null or empty text: they mean absent, but for traits and ``extra``."""
    if isinstance(value, dict):
        return {
            name: _without_absent(part, keep=keep or name in ("traits", "extra"))
            for name, part in value.items()
            if keep or (part is not None and part != "")
        }
    return [_without_absent(part, keep=keep) for part in value] if isinstance(value, list) else value


def load(value: bytes | None) -> dict[str, Any]:
    """Return a raw event within all limits, without what is absent; EventError when it is none."""
    if value is None or not value:
        text = "no value"
        raise NotJsonError(text)
    if len(value) > VALUE_BYTES:
        text = f"{len(value)} bytes, {VALUE_BYTES} are allowed"
        raise TooLargeError(text)
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        if "depth limit" in str(error):
            text = f"nested deeper than {DEPTH}"
            raise TooLargeError(text) from None
        raise NotJsonError(str(error)) from None
    if not isinstance(event, dict):
        text = "not an object"
        raise NotJsonError(text)
    # cheap bounds first: nearly all events are below them
    size = len(value)
    if size > STRING_CHARS or (size > 2 * LIST_ITEMS and value.count(b",") >= LIST_ITEMS):
        _check_limits(event)
        if len(orjson.dumps(event.get("context"))) > CONTEXT_BYTES:
            text = f"over {CONTEXT_BYTES} bytes"
            raise TooLargeError(text, field="context")
    elif value.count(b"{") + value.count(b"[") > DEPTH and _is_deeper(event, DEPTH):
        text = f"nested deeper than {DEPTH}"
        raise TooLargeError(text)
    if b"null" in value or b'""' in value:
        event = _without_absent(event)
    known: dict[str, Any] = event
    return known


def plain_entries(cls: str, records: Sequence[RawMessage], partitions: int) -> list[Parsed | None]:
    """Return the entries of each event that is plain; None for one that has to go the long way."""
    parsed: list[Parsed | None] = []
    for record in records:
        one: Parsed | None = None
        value = record.value
        if value is not None and len(value) <= EVENT_BYTES:
            try:
                event = plain(cls, orjson.loads(value))
                if event is not None:
                    one = entries_of(event, record, partitions)
            except (orjson.JSONDecodeError, EventError):
                one = None  # the long way tells what is wrong
        parsed.append(one)
    return parsed


def sorted_out(parsed: list[Parsed]) -> tuple[dict[int, list[bytes]], list[tuple[bytes | None, bytes]]]:
    """Return the entries by journal partition, and the dead letters, each in order."""
    entries: dict[int, list[bytes]] = {}
    letters: list[tuple[bytes | None, bytes]] = []
    for _, mine, letter in parsed:
        for number, entry in mine:
            there = entries.get(number)
            if there is None:
                entries[number] = [entry]
            else:
                there.append(entry)
        if letter is not None:
            letters.append(letter)
    return entries, letters


def load_all(records: Sequence[RawMessage]) -> list[dict[str, Any]]:
    """Return many raw events; EventError when one of them is none."""
    return [load(record.value) for record in records]


# ---- entries ---------------------------------------------------------------------------------------------------------


def check_type(cls: str, event: dict[str, Any]) -> None:
    """Refuse a type that is not of this class, or unknown, or of a newer version."""
    type_ = event.get("type")
    if type_ is None:
        msg = "required"
        raise MissingFieldError(msg, field="type")
    known = CLASS_OF.get(type_) if isinstance(type_, str) else None
    if known is None:
        msg = f"{type_!r:.100} is not a known type"
        raise UnknownTypeError(msg, field="type")
    if known != cls:
        msg = f"{type_} belongs on events.{known}"
        raise WrongTopicError(msg, field="type")
    version = event.get("v", 1)
    if isinstance(version, int) and version > EVENT_VERSION:
        msg = f"version {version} is newer than {EVENT_VERSION}"
        raise UnsupportedVersionError(msg, field="v")


def entries_of_all(events: list[dict[str, Any]], records: Sequence[RawMessage], partitions: int) -> list[Parsed]:
    """Return the entries of many valid events; EventError when one of them has none after all."""
    return [entries_of(event, record, partitions) for event, record in zip(events, records, strict=True)]


def entries_of(event: dict[str, Any], record: RawMessage, partitions: int) -> Parsed:
    """Return the entries of a valid event: its own, and a link at the anonymous id's partition where one is due."""
    get = event.get
    user_id, anonymous_id = get("user_id"), get("anonymous_id")
    if user_id is not None and is_blocked(user_id):
        user_id = None
    if anonymous_id is not None and is_blocked(anonymous_id):
        anonymous_id = None
    key = customer_key(user_id, anonymous_id)
    if key is None:
        raise _no_id(event)
    at = record.timestamp
    if at >= YEAR_2100:
        msg = "the record says it was received after 2100"
        raise BadTimeError(msg, field="received_at")
    if (text := get("received_at")) is not None:
        told = parse_time("received_at", text)
        if told < YEAR_2000:
            msg = "before the year 2000"
            raise BadTimeError(msg, field="received_at")
        if told <= at + RECEIVED_AHEAD:
            at = told
    sent = None if (text := get("sent_at")) is None else parse_time("sent_at", text)
    happened = occurred_at(parse_time("occurred_at", event["occurred_at"]), sent, at)
    if happened < YEAR_2000:
        msg = "before the year 2000"
        raise BadTimeError(msg, field="occurred_at")
    type_, data = event["type"], get("data", {})
    if "extra" in data or type_ == "feedback.satisfaction":
        _check_data(type_, data)
    src = [record.topic, record.partition, record.offset]
    entry: Entry = {
        "k": "event", "at": at, "src": src, "c": key,
        "id": get("message_id") or _own_id(record),
        "t": type_, "oc": happened, "d": data,
    }  # fmt: skip
    if get("historical"):
        entry["h"] = True
    if context := get("context"):
        entry["x"] = context
    home = route(key, partitions)
    if user_id is not None:
        if anonymous_id is not None:
            entry["an"] = anonymous_id
        linked = _linked(type_, data, anonymous_id)
        if linked is not None:
            there = route(linked, partitions)
            if there != home:
                link: Entry = {"k": "link", "at": at, "src": src, "c": linked, "to": key}
                return _parsed((at, ((home, compact(orjson.dumps(entry))), (there, compact(orjson.dumps(link)))), None))
            entry["link"] = linked
    # encoded at once, while it is in the processor's cache; bytes are also half as large to hold
    return _parsed((at, ((home, compact(orjson.dumps(entry))),), None))


def _no_id(event: dict[str, Any]) -> EventError:
    if "user_id" in event or "anonymous_id" in event:
        return BlockedIdError("the only id is a placeholder", field="user_id" if "user_id" in event else "anonymous_id")
    return MissingIdError("user_id or anonymous_id is required", field="user_id")


def _own_id(record: RawMessage) -> str:
    """Return the id of an event without one: from the header of a dead letter sent again, else from its position."""
    for name, content in record.headers:
        if name == "message-id" and content:
            return content.decode("utf-8", "replace")[:100]
    return derive(record.topic, str(record.partition), str(record.offset))


def _linked(type_: str, data: dict[str, Any], anonymous_id: str | None) -> str | None:
    """Return the key of the anonymous id that an event of a known user proves to be theirs."""
    if type_ == "profile.alias" and data.get("previous_kind", "anonymous") == "anonymous":
        previous = data["previous_id"]
        return None if is_blocked(previous) else "a:" + previous
    if anonymous_id is not None and (type_.startswith("purchase.") or type_ in ("profile.identify", "profile.alias")):
        return "a:" + anonymous_id
    return None


def _check_data(type_: str, data: dict[str, Any]) -> None:
    if "extra" in data and len(orjson.dumps(data["extra"])) > EXTRA_BYTES:
        msg = f"over {EXTRA_BYTES} bytes"
        raise TooLargeError(msg, field="data.extra")
    if type_ == "feedback.satisfaction":
        low, high = data["scale"]
        if not low < high:
            msg = "the first is not below the second"
            raise BadFieldError(msg, field="data.scale")
