"""Event files: rows of CSV and lines of JSON become raw records, in the order of the file.

A row that cannot be translated still becomes a record, which arrival refuses
and keeps as a dead letter: it neither stops the load nor vanishes.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import re
import sys
import zlib
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import orjson

from journey.entries import compact
from journey.events import MINOR_DIGITS
from journey.ids import customer_key, derive, is_blocked
from journey.triggers import rfc3339
from streams.errors import FileFormatError
from streams.raw import TOPIC_OF_CLASS, RawRecord

COLUMNS: Final = ("ts", "customer_id", "type", "item_id", "category", "value", "quantity", "extra")

# Twice what an event may have: more is refused on arrival in any case, and Kafka would not take it.
_VALUE_BYTES_MAX: Final = 65_536
# How far apart the lines of one basket may be: what lies between is held back until the order is whole.
_BASKET_SPAN_MS: Final = 3_600_000
# Bounds memory where thousands of rows carry the same time (files that only know days).
_HELD_MAX: Final = 50_000
_MINUTES_MAX: Final = 10_000
_PRICES_MAX: Final = 65_536
# the end of a time such as 2017-11-24T16:00:17Z -> milliseconds
_SECONDS: Final[Mapping[str, int]] = MappingProxyType({f":{second:02}Z": second * 1000 for second in range(60)})
# Later times are mistakes: they would hold up the clock of everything that follows.
_CLOCK_END_MS: Final = 4_102_444_800_000  # 2100-01-01T00:00:00Z
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STANDARD_INPUT: Final = "-"
_SAFE_INTEGER: Final = 2**53
_AMOUNT_CHARACTERS_MAX: Final = 40
_MONEY: Final = Context(prec=128, rounding=ROUND_HALF_EVEN)
# orjson writes 254 levels and reads 1,024; it takes more characters than these to come near
_SHALLOW_CHARACTERS: Final = 500

_ITEM_TYPES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "click": (TOPIC_OF_CLASS["click"], "click.product_viewed"),
        "cart": (TOPIC_OF_CLASS["cart"], "cart.product_added"),
        "fav": (TOPIC_OF_CLASS["click"], "click.product_added_to_wishlist"),
    }
)


class _RowError(Exception):
    """A row cannot be translated; ``column`` says where, the message why."""

    def __init__(self, *, column: str, problem: str) -> None:
        self.column = column
        super().__init__(f"{column}: {problem}")


def read_events(
    path: str | Path,
    *,
    currency: str | None = None,
    discounts: Collection[str] = (),
    shift: timedelta | int = 0,
    historical: bool = False,
    on_bytes: Callable[[int], None] | None = None,
    skipped: Counter[str] | None = None,
) -> Iterator[RawRecord]:
    """Read an event file as raw records, a few at a time.

    CSV has the columns ``COLUMNS`` in any order, sorted by time; JSON lines
    are raw events. Either may be compressed by gzip, which its first bytes
    tell. A file is JSON lines when it starts with ``{`` or is named
    ``.jsonl`` or ``.ndjson``.

    Purchase lines with the same ``extra.basket``, else with the same customer
    and time, are one order: its revenue is the exact sum of their values,
    rounded once, half to even; of a property in ``extra`` it keeps the first
    value. It takes the place and time of its first line. Lines of one basket
    more than an hour apart become several records with the same order id.

    Parameters
    ----------
    path
        ``-`` is standard input: JSON lines only, because message ids are made
        from the hash of the whole file.
    currency
        ISO 4217 code of the amounts of a CSV file, not given: two digits, and
        the events name none. JSON lines say it themselves.
    discounts
        Names in ``extra`` of purchase lines that hold money off the line, of
        either sign: their sum becomes the order's discount.
    shift
        Added to all times; a number is milliseconds.
    historical
        Mark every event as history, which starts no journey.
    on_bytes
        Called with the number of bytes read from the file since the last call,
        before decompression.
    skipped
        Counts rows of types that are no events of ours by their name, and
        those that arrival will refuse as ``bad row: <column>``, ``bad line``.

    Yields
    ------
    Records whose ``at`` never decreases.

    Raises
    ------
    FileFormatError
        On the first record, or, in a damaged file, where the damage is.
    """
    if currency is not None and not re.fullmatch(r"[A-Z]{3}", currency):
        raise _refusal(path, f"{currency!r} is not an ISO 4217 currency code such as EUR")
    standard_input = str(path) == _STANDARD_INPUT
    options = _Options(
        currency=currency,
        discounts=frozenset(discounts),
        shift_ms=shift // timedelta(milliseconds=1) if isinstance(shift, timedelta) else shift,
        historical=historical,
        skipped=Counter() if skipped is None else skipped,
    )
    try:
        file_hash = None if standard_input else _sha256(Path(path))
        with (
            open(sys.stdin.fileno() if standard_input else path, "rb", closefd=not standard_input) as file,
            io.BufferedReader(_Counted(file, on_bytes), _VALUE_BYTES_MAX) as stored,
            _unpacked(stored) as unpacked,
        ):
            yield from _records(path, file_hash, _lines(unpacked), options)
    except (OSError, EOFError, zlib.error) as error:  # all that files and gzip raise
        raise _refusal(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _refusal(path: str | Path, problem: str) -> FileFormatError:
    return FileFormatError(f"{path}: {problem}")


@dataclass(frozen=True, slots=True)
class _Options:
    """What ``read_events`` was asked for; ``skipped`` is counted into."""

    currency: str | None
    discounts: frozenset[str]
    shift_ms: int
    historical: bool
    skipped: Counter[str]


def _records(path: str | Path, file_hash: str | None, lines: Iterator[bytes], options: _Options) -> Iterator[RawRecord]:
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise _refusal(path, "the file is empty")
    first = first.removeprefix(codecs.BOM_UTF8)
    is_json = first.lstrip().startswith(b"{") or bool({".jsonl", ".ndjson"} & set(Path(path).suffixes))
    header = [name.strip(' "') for name in first.decode(errors="replace").strip().split(",")]
    missing = [name for name in COLUMNS if name not in header]
    if is_json or (file_hash is None and missing):
        yield from _JsonLines(file_hash, options).records(chain([first], lines))
        return
    if file_hash is None:
        raise _refusal(path, "standard input has to be JSON lines of raw events, not CSV")
    if missing:
        problem = f"the first line has no column {', '.join(missing)}; it has to name {','.join(COLUMNS)}"
        raise _refusal(path, problem)
    yield from _CsvTable(file_hash, header, options).records(_rows(lines))


def utc_ms(text: str) -> int:
    """Return an ISO 8601 time as milliseconds since 1970, rounded down; without a zone it is UTC.

    Raises
    ------
    ValueError
        Not a time.

    Examples
    --------
    >>> utc_ms("2026-06-01T02:00:00+02:00")
    1780272000000
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


# --- bytes and lines ---------------------------------------------------------


class _Counted(io.RawIOBase):
    """A file that tells how many bytes were read from it."""

    def __init__(self, file: io.BufferedReader, on_bytes: Callable[[int], None] | None) -> None:
        self._file, self._on_bytes = file, on_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._file.readinto1(buffer)  # what a pipe has now, instead of waiting for a full buffer
        if self._on_bytes is not None:
            self._on_bytes(found)
        return found


def _unpacked(stored: io.BufferedReader[_Counted]) -> io.BufferedReader[Any]:
    if not stored.peek(2).startswith(b"\x1f\x8b"):
        return stored
    # buffered once more: its own readline is slow
    return io.BufferedReader(gzip.GzipFile(fileobj=stored), _VALUE_BYTES_MAX)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lines(stream: io.BufferedReader[Any]) -> Iterator[bytes]:
    """Yield lines with their ends; what is longer than any event may be is cut."""
    while line := stream.readline(_VALUE_BYTES_MAX):
        yield line
        while len(line) == _VALUE_BYTES_MAX and not line.endswith(b"\n"):
            line = stream.readline(_VALUE_BYTES_MAX)


class _CsvFeed:
    """Lines for the CSV reader: knows those of the row at hand, ``row``, and takes some back, ``again``."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self.again: deque[bytes] = deque()
        self.row: list[bytes] = []

    def __iter__(self) -> _CsvFeed:
        return self

    def __next__(self) -> str:
        line = self.take()
        self.row.append(line)
        return line.decode()

    def take(self) -> bytes:
        return self.again.popleft() if self.again else next(self._lines)


def _rows(lines: Iterator[bytes]) -> Iterator[tuple[list[str], list[bytes]]]:
    """Yield the fields of each row and the lines it came from; no fields when quotes or UTF-8 are broken."""
    feed = _CsvFeed(lines)
    reader = csv.reader(feed, strict=True)
    while True:
        try:
            line = feed.take()
        except StopIteration:
            return
        if line.isspace():
            continue
        feed.row.clear()
        try:
            if b'"' not in line:  # the reader would do the same at three times the cost
                yield line.decode().rstrip("\r\n").split(","), [line]
                continue
            feed.again.appendleft(line)
            fields = next(reader)
        except (csv.Error, UnicodeDecodeError):
            # an open quote swallows its neighbours: they get another chance
            feed.again.extendleft(reversed(feed.row[1:]))
            yield [], [line]
        else:
            yield fields, feed.row


# --- CSV ---------------------------------------------------------------------


@dataclass(slots=True)
class _Order:
    """Purchase lines of one order, while more may come."""

    key: tuple[str, str | int]
    row: int
    at: int
    closes_at: int
    customer_id: str
    occurred_at: str
    order_id: str
    items: list[dict[str, Any]] = field(default_factory=list)
    revenue: Decimal | None = None
    discount: Decimal | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class _CsvTable:
    """Rows of one file -> raw records. Holds back only what stands behind an order that is not whole yet."""

    def __init__(self, file_hash: str, header: list[str], options: _Options) -> None:
        self._file_hash = file_hash
        self._width = len(header)
        self._pick: Callable[[list[str]], tuple[str, ...]] = itemgetter(*(header.index(name) for name in COLUMNS))
        self._options = options
        self._skipped = options.skipped
        self._currency = options.currency
        self._minor_digits = MINOR_DIGITS.get(options.currency or "", 2)
        self._priced = lru_cache(maxsize=_PRICES_MAX)(self._price)
        self._ts: str | None = None  # of the row before: the lines of an order share theirs
        self._at_of_ts = (0, "")
        self._minutes: dict[str, tuple[int, str]] = {}
        self._orders: dict[tuple[str, str | int], _Order] = {}
        self._at = 0
        self._head_closes_at = 0

    def records(self, rows: Iterable[tuple[list[str], list[bytes]]]) -> Iterator[RawRecord]:
        held: deque[RawRecord | _Order] = deque()
        for row, (fields, lines) in enumerate(rows, start=1):
            try:
                found = self._translated(row, fields)
            except _RowError as error:
                self._skipped[f"bad row: {error.column}"] += 1
                found = self._refused(row, b"".join(lines).rstrip(b"\r\n"), error)
            if held and (self._head_closes_at < self._at or len(held) > _HELD_MAX):
                yield from self._ready(held)
            if found is None:
                continue
            if held or isinstance(found, _Order):
                held.append(found)
                if len(held) == 1:
                    yield from self._ready(held)
            else:
                yield found
        yield from self._ready(held, end=True)

    def _ready(self, held: deque[RawRecord | _Order], *, end: bool = False) -> Iterator[RawRecord]:
        """Let go what does not wait for an order any more: afterwards the first one held is an order that may grow."""
        while held:
            head = held[0]
            if isinstance(head, RawRecord):
                yield head
            elif end or head.closes_at < self._at or len(held) > _HELD_MAX:
                if self._orders.get(head.key) is head:
                    del self._orders[head.key]
                yield self._completed(head)
            else:
                self._head_closes_at = head.closes_at
                return
            held.popleft()

    def _translated(self, row: int, fields: list[str]) -> RawRecord | _Order | None:
        """Return a record, an order that this row opens, or None: it joined an order or is no event of ours."""
        if not fields:
            raise _RowError(column="text", problem="unbalanced quotes, or not UTF-8")
        if len(fields) != self._width:
            raise _RowError(column="columns", problem=f"{len(fields)} instead of {self._width}")
        ts, customer_id, kind, item_id, category, value, quantity, extra_text = self._pick(fields)
        if kind != "purchase" and kind not in _ITEM_TYPES:
            if not kind:
                raise _RowError(column="type", problem="missing")
            self._skipped[kind] += 1
            return None
        if ts != self._ts:
            self._at_of_ts = self._time(ts)
            self._ts = ts
        at, occurred_at = self._at_of_ts
        if not customer_id:
            raise _RowError(column="customer_id", problem="missing")
        extra = _extra(extra_text) if extra_text else None
        amount, pieces, unit_price = self._priced(value, quantity)
        item: dict[str, Any] = {}
        if item_id:
            item["item_id"] = item_id
            if category:
                item["category"] = category
            if pieces != 1:
                item["quantity"] = pieces
            if unit_price is not None:
                item["unit_price_minor"] = unit_price
        if kind == "purchase":
            opened = self._order(row, ts, at, occurred_at, customer_id, item, amount, extra)
            self._at = max(self._at, at)
            return opened
        if not item:
            raise _RowError(column="item_id", problem="missing")
        data: dict[str, Any] = {"item": item}
        if self._currency is not None and "unit_price_minor" in item:
            data["currency"] = self._currency
        if extra:
            data["extra"] = extra
        topic, event_type = _ITEM_TYPES[kind]
        self._at = max(self._at, at)
        event = self._event(event_type, row, customer_id, occurred_at, data)
        return RawRecord(topic, b"u:" + customer_id.encode(), event, self._at)

    def _order(
        self,
        row: int,
        ts: str,
        at: int,
        occurred_at: str,
        customer_id: str,
        item: dict[str, Any],
        amount: Decimal | None,
        extra: dict[str, Any] | None,
    ) -> _Order | None:
        """Add a purchase line to its order; return the order when the line opens it."""
        basket = _basket(extra) if extra else None
        discounts = self._options.discounts
        discount = _discount(extra, discounts) if extra and discounts else None
        key: tuple[str, str | int] = (customer_id, at) if basket is None else ("", basket)
        order = self._orders.get(key)
        opened = None
        if order is None or order.closes_at < at:
            order_id = derive(customer_id, ts) if basket is None else basket
            closes_at = at if basket is None else at + _BASKET_SPAN_MS
            place = max(self._at, at)
            opened = order = _Order(key, row, place, closes_at, customer_id, occurred_at, order_id)
            self._orders[key] = order
        if item:
            order.items.append(item)
        if amount is not None:
            order.revenue = amount if order.revenue is None else _MONEY.add(order.revenue, amount)
        if discount is not None:
            order.discount = discount if order.discount is None else _MONEY.add(order.discount, discount)
        if extra:
            order.extra = extra | order.extra
        return opened

    def _completed(self, order: _Order) -> RawRecord:
        data: dict[str, Any] = {"order_id": order.order_id}
        if order.items:
            data["items"] = order.items
        if order.revenue is not None:
            data["revenue_minor"] = self._minor(order.revenue)
        if order.discount is not None:
            data["discount_minor"] = self._minor(order.discount)
        if self._currency is not None and (order.revenue is not None or order.discount is not None):
            data["currency"] = self._currency
        if order.extra:
            data["extra"] = order.extra
        value = self._event("purchase.order_completed", order.row, order.customer_id, order.occurred_at, data)
        key = b"u:" + order.customer_id.encode()
        return RawRecord(TOPIC_OF_CLASS["purchase"], key, value[:_VALUE_BYTES_MAX], order.at)

    def _event(self, event_type: str, row: int, customer_id: str, at: str, data: dict[str, Any]) -> bytes:
        event: dict[str, Any] = {
            "type": event_type,
            "message_id": derive(self._file_hash, str(row)),
            "user_id": customer_id,
            "occurred_at": at,
            "received_at": at,
        }
        if self._options.historical:
            event["historical"] = True
        event["data"] = data
        return compact(orjson.dumps(event))

    def _refused(self, row: int, original: bytes, error: _RowError) -> RawRecord:
        """Return what stands for a row in the dead letters: the row itself, number and reason beside it."""
        try:
            letter = {"problem": str(error), "row": row, "line": original.decode()}
        except UnicodeDecodeError:
            value = original
        else:
            message_id = derive(self._file_hash, str(row))
            value = orjson.dumps({"type": "file.row", "message_id": message_id, "data": letter})
        return RawRecord(TOPIC_OF_CLASS["click"], b"", value[:_VALUE_BYTES_MAX], self._at)

    def _time(self, ts: str) -> tuple[int, str]:
        """Return a time, shifted, in milliseconds and as text. Rows of one minute share the work of the first."""
        second = _SECONDS.get(ts[16:])
        known = self._minutes.get(ts[:16]) if second is not None else None
        if known is not None and second is not None:
            return known[0] + second, f"{known[1]}{ts[16:19]}.000Z"
        try:
            at = utc_ms(ts) + self._options.shift_ms
            text = rfc3339(at)
        except (ValueError, OverflowError):
            raise _RowError(column="ts", problem="not an ISO 8601 time") from None
        if at >= _CLOCK_END_MS:
            raise _RowError(column="ts", problem="after the year 2099")
        if second is not None and self._options.shift_ms % 60_000 == 0:
            if len(self._minutes) >= _MINUTES_MAX:
                self._minutes.clear()
            self._minutes[ts[:16]] = (at - second, text[:16])
        return at, text

    def _minor(self, amount: Decimal) -> int:
        return int(_MONEY.scaleb(amount, self._minor_digits).to_integral_value(context=_MONEY))

    def _price(self, value: str, quantity: str) -> tuple[Decimal | None, int, int | None]:
        """Return the amount of a line, its pieces, and the price of one in minor units.

        No price where the amount is unknown, money back, or less than a minor
        unit a piece (petrol by the millilitre).
        """
        pieces = _pieces(quantity) if quantity else 1
        if not value:
            return None, pieces, None
        amount = _amount(value)
        unit_price = self._minor(_MONEY.divide(amount, Decimal(pieces))) if pieces else 0
        return amount, pieces, unit_price if unit_price > 0 or (pieces and not amount) else None


def _amount(text: str) -> Decimal:
    """Return an amount of major units exactly as its digits say, never through a float."""
    try:
        amount = Decimal(text) if len(text) <= _AMOUNT_CHARACTERS_MAX else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite():
        raise _RowError(column="value", problem="not an amount")
    # 1e-99999999 is a short text for a number that no sum can hold
    if not -_AMOUNT_CHARACTERS_MAX <= amount.adjusted() < 10:
        raise _RowError(column="value", problem="out of range")
    return amount


def _pieces(text: str) -> int:
    """Return how many pieces; a weight such as 0.345 is one piece at the line's price."""
    if text.isascii() and text.isdigit() and len(text) < 16:
        return int(text)
    try:
        quantity = Decimal(text)
    except InvalidOperation:
        raise _RowError(column="quantity", problem="not a number") from None
    if not quantity.is_finite() or not 0 <= quantity < _SAFE_INTEGER:
        raise _RowError(column="quantity", problem="out of range")
    return int(quantity) if quantity == quantity.to_integral_value() else 1


def _extra(text: str) -> dict[str, Any]:
    try:
        extra = orjson.loads(text)
        if len(text) > _SHALLOW_CHARACTERS:
            orjson.dumps(extra)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        extra = None
    if not isinstance(extra, dict):
        raise _RowError(column="extra", problem="not a JSON object")
    return extra


def _basket(extra: dict[str, Any]) -> str | None:
    basket = extra.pop("basket", None)
    if basket is None or basket == "":
        return None
    if isinstance(basket, bool) or not isinstance(basket, int | str):
        raise _RowError(column="extra", problem="basket is neither a text nor a whole number")
    return str(basket)


def _discount(extra: dict[str, Any], names: frozenset[str]) -> Decimal | None:
    found = [extra.pop(name) for name in sorted(names & extra.keys())]
    if any(isinstance(value, bool) or not isinstance(value, int | float | str) for value in found):
        raise _RowError(column="extra", problem="a discount is not an amount")
    amounts = [abs(_amount(str(value))) for value in found]  # the shortest text of a float is what the file says
    return sum(amounts, Decimal(0)) if amounts else None


# --- JSON lines --------------------------------------------------------------


class _JsonLines:
    """Lines of one file -> raw records; a line that needs no stamp keeps its bytes."""

    def __init__(self, file_hash: str | None, options: _Options) -> None:
        self._file_hash = file_hash
        self._shift_ms = options.shift_ms
        self._historical = options.historical
        self._skipped = options.skipped
        self._at = 0

    def records(self, lines: Iterable[bytes]) -> Iterator[RawRecord]:
        row = 0
        for line in lines:
            value = line.strip()
            if not value:
                continue
            row += 1
            try:
                event = orjson.loads(value)
            except orjson.JSONDecodeError:
                event = None
            if not isinstance(event, dict):
                self._skipped["bad line"] += 1
                yield RawRecord(TOPIC_OF_CLASS["click"], b"", value, self._at)
                continue
            if self._stamp(event, row):
                value = _encoded(event, value)
            kind = event.get("type")
            event_class = kind.partition(".")[0] if isinstance(kind, str) else ""
            topic = TOPIC_OF_CLASS.get(event_class, TOPIC_OF_CLASS["click"])
            key = customer_key(_id(event.get("user_id")), _id(event.get("anonymous_id"))) or ""
            yield RawRecord(topic, key.encode(), value, self._at)

    def _stamp(self, event: dict[str, Any], row: int) -> bool:
        """Set what the event lacks and move the clock; tell whether the event was changed."""
        changed = self._historical or self._shift_ms != 0
        received, sent, occurred = (self._shifted(event, name) for name in ("received_at", "sent_at", "occurred_at"))
        if received is None and not event.get("received_at"):
            # the client's own time of sending, where it is told, leaves nothing to correct
            received = occurred if sent is None else sent
            if received is not None:
                received = received if received < _CLOCK_END_MS else self._at
                event["received_at"] = rfc3339(received)
                changed = True
        if received is not None and received < _CLOCK_END_MS:
            self._at = max(self._at, received)
        if self._historical:
            event["historical"] = True
        if not event.get("message_id") and self._file_hash is not None:
            event["message_id"] = derive(self._file_hash, str(row))
            changed = True
        return changed

    def _shifted(self, event: dict[str, Any], name: str) -> int | None:
        """Shift one time of an event; None when it has none that can be read, which arrival judges."""
        text = event.get(name)
        if not isinstance(text, str):
            return None
        try:
            ms = utc_ms(text) + self._shift_ms
            if self._shift_ms:
                event[name] = rfc3339(ms)
        except (ValueError, OverflowError):
            return None
        return ms


def _encoded(event: dict[str, Any], original: bytes) -> bytes:
    try:
        return orjson.dumps(event)[:_VALUE_BYTES_MAX]
    except orjson.JSONEncodeError:  # deeper than can be written, and than arrival takes
        return original


def _id(value: object) -> str | None:
    return None if not isinstance(value, str) or is_blocked(value) else value
