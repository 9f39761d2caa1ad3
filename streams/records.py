"""Wire <-> domain: raw events in, journal entries and dead letters out. Validation is pure: a repeat decides alike.

Many events are validated at once; only when something in them is wrong are the
wrong ones told apart, so one bad event never rejects its neighbours.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, NamedTuple, NotRequired, Protocol, Required, get_type_hints

import orjson
from pydantic import Field, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from journey.entries import Entry
from journey.errors import (
    BadFieldError,
    BadMoneyError,
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
from journey.events import (
    CLASS_OF,
    CLASSES,
    DAY,
    GREATEST,
    RECEIVED_AHEAD,
    SECOND,
    TYPES,
    YEAR_2000,
    YEAR_2100,
    occurred_at,
)
from journey.ids import customer_key, derive, is_blocked, route
from journey.triggers import rfc3339

VALUE_BYTES: Final = 32_768
DEPTH: Final = 6
STRING_CHARS: Final = 2_048
LIST_ITEMS: Final = 200
TRAITS: Final = 256
EXTRA_BYTES: Final = 8_192
CONTEXT_BYTES: Final = 4_096
DEAD_LETTER_BYTES: Final = 65_536
EVENT_VERSION: Final = 1
SCOPE_CHARS: Final = 255
CHANNEL_CHARS: Final = SCOPE_CHARS - len("marketing.")  # leaving a channel revokes ``marketing.<channel>``
TRAIT_ITEMS: Final = 20
SLICE: Final = 128  # events validated at once: few enough for the processor's cache, enough to share what a call costs

Id = Annotated[str, StringConstraints(min_length=1, max_length=255)]
ItemId = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Minor = Annotated[int, Field(strict=True, ge=0, le=GREATEST)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Text = Annotated[str, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Status = Literal["granted", "denied", "revoked"]
Scopes = dict[Annotated[str, StringConstraints(min_length=1, max_length=SCOPE_CHARS)], Status]
Scalar = str | bool | int | float | None
Traits = Annotated[dict[str, Scalar | Annotated[list[Scalar], Field(max_length=TRAIT_ITEMS)]], Field(max_length=TRAITS)]


class Coupon(TypedDict, total=False):
    """A coupon as the shop names it."""

    id: Text
    name: Text
    discount_minor: Minor
    reason: Text


class Item(TypedDict):
    """A product in an event."""

    item_id: ItemId
    unit_price_minor: NotRequired[Minor]
    quantity: NotRequired[Annotated[int, Field(strict=True, ge=0, le=GREATEST)]]
    sku: NotRequired[Text]
    name: NotRequired[Text]
    brand: NotRequired[Text]
    category: NotRequired[Text]
    variant: NotRequired[Text]
    position: NotRequired[Annotated[int, Field(strict=True, ge=-GREATEST, le=GREATEST)]]
    coupon: NotRequired[Text | Coupon]
    url: NotRequired[Text]
    image_url: NotRequired[Text]


class Money(TypedDict, total=False):
    """Amounts in minor units of ``currency``, and what every kind of event may carry."""

    currency: Currency
    value_minor: Minor
    subtotal_minor: Minor
    total_minor: Minor
    revenue_minor: Minor
    shipping_minor: Minor
    tax_minor: Minor
    discount_minor: Minor
    refund_minor: Minor
    extra: dict[str, Any]


Items = Annotated[list[Item], Field(max_length=LIST_ITEMS)]


class ClickData(Money, total=False):
    """What a click may tell."""

    item: Item
    items: Items
    query: Text
    name: Text
    list_id: Text
    category: Text
    promotion: dict[str, Any]
    rating: Number
    text: Text


class CartData(Money, total=False):
    """What a cart or checkout event may tell."""

    cart_id: Id
    checkout_id: Text
    order_id: Id
    step: Text | Annotated[int, Field(strict=True)]
    item: Item
    items: Items
    coupon: Coupon


class OrderData(Money):
    """An order."""

    order_id: Id
    cart_id: NotRequired[Id]
    items: NotRequired[Items]
    coupon: NotRequired[Coupon]


class IdentifyData(TypedDict, total=False):
    """Who somebody is."""

    traits: Traits
    previous_id: Id
    previous_kind: Literal["anonymous", "user"]
    extra: dict[str, Any]


class ConsentData(TypedDict):
    """What somebody allows."""

    scopes: Scopes
    extra: NotRequired[dict[str, Any]]


class EraseData(TypedDict):
    """A wish to be forgotten."""

    mode: Literal["suppress", "unsuppress", "suppress_with_delete", "delete_only"]
    extra: NotRequired[dict[str, Any]]


class FeedbackData(Money):
    """What came of a message."""

    channel: Annotated[str, StringConstraints(min_length=1, max_length=CHANNEL_CHARS)]
    trigger_id: NotRequired[Text]
    scope: NotRequired[Annotated[str, StringConstraints(min_length=1, max_length=SCOPE_CHARS)]]
    url: NotRequired[Text]
    order_id: NotRequired[Id]
    reason: NotRequired[Text]
    bounce: NotRequired[Literal["hard", "soft"]]
    machine: NotRequired[Flag]
    text: NotRequired[Text]


class SatisfactionData(FeedbackData):
    """A score on a scale."""

    score: Number
    scale: Annotated[list[Number], Field(min_length=2, max_length=2)]


class Context(TypedDict, total=False):
    """The part of the context that is kept."""

    session_id: Text
    locale: Text
    timezone: Text
    campaign: dict[str, Any]
    consent: Scopes


class Envelope(TypedDict):
    """What every raw event has."""

    occurred_at: Text
    message_id: NotRequired[Annotated[str, StringConstraints(max_length=100)]]
    user_id: NotRequired[Annotated[str, StringConstraints(max_length=255)]]
    anonymous_id: NotRequired[Annotated[str, StringConstraints(max_length=255)]]
    sent_at: NotRequired[Text]
    received_at: NotRequired[Text]
    source: NotRequired[Text]
    v: NotRequired[Annotated[int, Field(strict=True, ge=1, le=EVENT_VERSION)]]
    historical: NotRequired[Flag]
    context: NotRequired[Context]


def _shape(name: str, fields: dict[str, Any], *, total: bool = True) -> Any:
    make: Any = TypedDict  # a call with fields that only the program knows
    return make(name, fields, total=total)


def _requiring(shape: Any, field: str) -> Any:
    """Return a shape all of whose fields are optional, but for one."""
    fields = get_type_hints(shape, include_extras=True)
    return _shape(f"{shape.__name__}_{field}", fields | {field: Required[fields[field]]}, total=False)


_ITEM_CLICK, _ITEM_CART = _requiring(ClickData, "item"), _requiring(CartData, "item")
_COUPON_CART, _PREVIOUS = _requiring(CartData, "coupon"), _requiring(IdentifyData, "previous_id")

# type name -> shape of ``data``; what is not named has the class's general shape
_SHAPES: Final[dict[str, Any]] = {
    **{
        f"click.product_{name}": _ITEM_CLICK
        for name in ("viewed", "clicked", "shared", "reviewed", "added_to_wishlist", "removed_from_wishlist")
    },
    "click.products_searched": _requiring(ClickData, "query"),
    "click.custom": _requiring(ClickData, "name"),
    "cart.product_added": _ITEM_CART,
    "cart.product_removed": _ITEM_CART,
    "cart.cart_updated": _requiring(CartData, "items"),
    **{f"cart.coupon_{name}": _COUPON_CART for name in ("entered", "applied", "denied", "removed")},
    "profile.identify": _requiring(IdentifyData, "traits"),
    "profile.alias": _PREVIOUS,
    "profile.unlink": _PREVIOUS,
    "profile.consent": ConsentData,
    "profile.erase": EraseData,
    "feedback.satisfaction": SatisfactionData,
}
_GENERAL: Final[dict[str, Any]] = {
    "click": ClickData, "cart": CartData, "purchase": OrderData, "profile": IdentifyData, "feedback": FeedbackData,
}  # fmt: skip
# types whose data may be absent altogether
_BARE: Final = frozenset(
    name for name in CLASS_OF if name not in _SHAPES and not name.startswith(("purchase.", "feedback."))
)


def _adapter(cls: str) -> TypeAdapter[list[dict[str, Any]]]:
    """Return the validator of a chunk of one class: one branch for each shape, told apart by ``type``."""
    by_shape: dict[tuple[Any, bool], list[str]] = {}
    for name in TYPES[cls]:
        type_ = f"{cls}.{name}"
        by_shape.setdefault((_SHAPES.get(type_, _GENERAL[cls]), type_ in _BARE), []).append(type_)
    branches = []
    for (shape, bare), names in by_shape.items():
        data = NotRequired[shape] if bare else shape
        fields = {"type": Literal[tuple(names)], "data": data, **get_type_hints(Envelope, include_extras=True)}
        branches.append(_shape(f"{cls}_{shape.__name__}", fields))
    union: Any = branches[0]
    for branch in branches[1:]:
        union = union | branch
    chunk: Any = list[Annotated[union, Field(discriminator="type")]]
    return TypeAdapter(chunk, config=None)


_ADAPTERS: Final = {cls: _adapter(cls) for cls in CLASSES}


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


# ---- time ------------------------------------------------------------------------------------------------------------

_RFC3339: Final = re.compile(r"^\d{4}-\d\d-\d\d[Tt ](?!24)\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$", re.ASCII)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# of 2026-11-20T08:12:44.292Z, as nearly everybody writes it: the minute, the second, the rest
_OF_MINUTE, _OF_SECOND = 17, 20
_SECONDS: Final = {f"{second:02d}.": second * SECOND for second in range(60)}
_MILLISECONDS: Final = {f"{ms:03d}Z": ms for ms in range(1000)}
_MINUTES: Final[dict[str, int]] = {}  # what was read lately
_MOST_MINUTES: Final = 20_000


def parse_time(field: str, text: str) -> int:
    """Return RFC 3339 as milliseconds since 1970; finer digits are cut.

    Raises
    ------
    BadTimeError
        Not RFC 3339, or no such moment.
    """
    second, ms = _SECONDS.get(text[_OF_MINUTE:_OF_SECOND]), _MILLISECONDS.get(text[_OF_SECOND:])
    if second is None or ms is None:
        return _parse_time(field, text)
    minute = _MINUTES.get(text[:_OF_MINUTE])
    if minute is None:
        minute = _parse_time(field, text) - second - ms
        if len(_MINUTES) >= _MOST_MINUTES:
            _MINUTES.clear()
        _MINUTES[text[:_OF_MINUTE]] = minute
    return minute + second + ms


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


def _load(value: bytes | None) -> dict[str, Any]:
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


# ---- raw events ------------------------------------------------------------------------------------------------------


def parse_events(cls: str, records: Sequence[RawMessage], partitions: int) -> list[Parsed]:
    """Validate a chunk of records of one class and return what becomes of each, in order."""
    parsed: list[Parsed] = []
    for start in range(0, len(records), SLICE):
        some = records[start : start + SLICE]
        try:
            parsed += _all_valid(cls, some, partitions)
        except (EventError, ValidationError, TypeError):
            parsed += _told_apart(cls, some, partitions)
    return parsed


def _all_valid(cls: str, records: Sequence[RawMessage], partitions: int) -> list[Parsed]:
    """Return the entries of events all of which are valid; raise whatever comes first when one is not."""
    events = _ADAPTERS[cls].validate_python([_load(record.value) for record in records])
    return [_entries(event, record, partitions) for event, record in zip(events, records, strict=True)]


def _told_apart(cls: str, records: Sequence[RawMessage], partitions: int) -> list[Parsed]:
    """Return the entries of the events that are valid, and the dead letters of the others."""
    loaded: list[dict[str, Any]] = []
    where: list[int] = []
    parsed: list[Parsed | None] = [None] * len(records)
    for index, record in enumerate(records):
        try:
            event = _load(record.value)
            _check_type(cls, event)
        except EventError as error:
            parsed[index] = _refused(record, error)
        else:
            loaded.append(event)
            where.append(index)
    adapter = _ADAPTERS[cls]
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
            parsed[at] = _entries(event, record, partitions)
        except EventError as refusal:
            parsed[at] = _refused(record, refusal)
    return [one for one in parsed if one is not None]


def _check_type(cls: str, event: dict[str, Any]) -> None:
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


def _entries(event: dict[str, Any], record: RawMessage, partitions: int) -> Parsed:
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
                return Parsed(at, ((home, orjson.dumps(entry)), (there, orjson.dumps(link))), None)
            entry["link"] = linked
    # encoded at once, while it is in the processor's cache; bytes are also half as large to hold
    return Parsed(at, ((home, orjson.dumps(entry)),), None)


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


# ---- control ---------------------------------------------------------------------------------------------------------


def parse_control(records: Sequence[RawMessage], partitions: int) -> list[Parsed]:
    """Return the entries of control messages: each goes to every journal partition, a ``mark`` to none."""
    return [_control(record, partitions) for record in records]


def _control(record: RawMessage, partitions: int) -> Parsed:
    try:
        message = _load(record.value)
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
        else:
            msg = f"{kind!r:.100} is not a known control message"
            raise UnknownTypeError(msg, field="k")
    except EventError as error:
        return _refused(record, error)
    if kind == "mark":
        return Parsed(entry["at"], (), None)
    encoded = orjson.dumps(entry)
    return Parsed(entry["at"], tuple((number, encoded) for number in range(partitions)), None)


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
    return orjson.dumps(letter)
