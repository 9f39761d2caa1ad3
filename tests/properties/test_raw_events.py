"""Whatever bytes arrive: an entry or a dead letter, never an exception, and the neighbours do not notice."""

from __future__ import annotations

from typing import Any, Final

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.documents import document
from journey.engine import Shard, fold
from journey.entries import Entry, read_page
from journey.events import CLASSES
from journey.state import read_customer
from streams.arrivals import Parsed
from streams.records import parse_control, parse_events
from tests.factories import NOON, Json, Raw, loaded
from tests.schemas.catalogue import event_examples, validator

quickly = settings(max_examples=100, deadline=None)

EXAMPLES: Final[list[Json]] = [example.value for example in event_examples()]
PARTITIONS: Final = 4

leaves: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from((0, 1, -1, 2**53 - 1, 2**53, 10**12)),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(
        ("", "null", "guest", "EUR", "granted", "2026-06-01T12:00:00Z", "1970-01-01T00:00:00Z", "x" * 2049)
    ),
)
anything: Final = st.recursive(
    leaves,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text("abcde_", max_size=6), inside, max_size=4),
    max_leaves=12,
)


def _paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here] * bool(here) + [path for name, part in inside for path in _paths(part, (*here, name))]


@st.composite
def altered_events(draw: st.DrawFn) -> bytes:
    """Return a recorded event with a few of its parts replaced, removed or added."""
    event = orjson.loads(orjson.dumps(draw(st.sampled_from(EXAMPLES))))
    for _ in range(draw(st.integers(0, 3))):
        paths = _paths(event)
        if not paths:
            break
        path = draw(st.sampled_from(paths))
        parent = event
        for step in path[:-1]:
            parent = parent[step]
        what = draw(st.integers(0, 4))
        if what == 0:
            del parent[path[-1]]
        elif what == 1 and isinstance(parent, dict):
            parent[draw(st.text(max_size=8))] = draw(anything)
        else:
            parent[path[-1]] = draw(anything)
    return orjson.dumps(event)


@st.composite
def damaged_events(draw: st.DrawFn) -> bytes:
    """Return the bytes of a recorded event, cut, or with something put in that JSON does not know."""
    whole = orjson.dumps(draw(st.sampled_from(EXAMPLES)))
    at = draw(st.integers(0, len(whole)))
    noise = draw(
        st.binary(max_size=6)
        | st.sampled_from(
            (b"NaN", b"-Infinity", b"1e999", b'"\\ud800"', b"[" * 3000, b'{"a":' * 3000, b"9" * 400, b"\0")
        )
    )
    return whole[:at] + noise + whole[at + draw(st.sampled_from((0, 1, len(whole)))) :]


values: Final = st.one_of(
    st.sampled_from(EXAMPLES).map(orjson.dumps), altered_events(), damaged_events(), st.binary(max_size=60), st.none(),
    anything.map(orjson.dumps),
)  # fmt: skip
classes: Final = st.sampled_from(CLASSES)


def as_records(topic: str, some: list[bytes | None]) -> list[Raw]:
    return [Raw(value, topic, offset, timestamp=NOON + offset) for offset, value in enumerate(some)]


def check(one: Parsed) -> None:
    """Check that exactly one thing became of a record, and that it is what the schemas promise."""
    assert bool(one.entries) != (one.dead_letter is not None)
    if one.dead_letter is not None:
        validator("journey.dead_letter.v1").validate(orjson.loads(one.dead_letter[1]))
    else:
        page = orjson.loads(orjson.dumps([entry for _, entry in loaded(one)]))
        validator("journey.page.v1").validate(page)
        assert all(0 <= number < PARTITIONS for number, _ in one.entries)


@quickly
@given(classes, st.lists(values, max_size=6))
def test_every_record_becomes_entries_or_a_letter_whatever_its_neighbours_are(
    cls: str, some: list[bytes | None]
) -> None:
    records = as_records(f"events.{cls}", some)
    together = parse_events(cls, records, PARTITIONS)
    alone = [one for record in records for one in parse_events(cls, [record], PARTITIONS)]
    assert together == alone
    assert len(together) == len(records)
    for one in together:
        check(one)


@quickly
@given(st.lists(altered_events(), min_size=1, max_size=8))
def test_what_is_accepted_can_be_folded_written_and_shown(some: list[bytes]) -> None:
    entries: list[Entry] = []
    for offset, value in enumerate(some):
        type_ = orjson.loads(value).get("type")
        cls = type_.partition(".")[0] if isinstance(type_, str) else ""
        if cls in CLASSES:
            (one,) = parse_events(cls, [Raw(value, f"events.{cls}", offset, timestamp=NOON + offset)], 1)
            entries += [entry for _, entry in loaded(one)]
    shard = Shard(0, lambda _key: None, ())
    fold(shard, 0, read_page(orjson.dumps(entries)))
    assert shard.counts["failed_timers"] == 0
    for key, stored in shard.changes():
        if not key.startswith(b"\0"):
            customer = read_customer(stored)
            assert customer == shard.touched[key.decode()]
            _, shown = document(customer, 0)
            validator("journey.customer.v1").validate(orjson.loads(orjson.dumps(shown)))
    for trigger in shard.triggers:
        validator("journey.trigger.v1").validate(orjson.loads(orjson.dumps(trigger.body)))


@quickly
@given(st.lists(values, max_size=6))
def test_whatever_is_sent_to_control_is_taken_or_refused(some: list[bytes | None]) -> None:
    for one in parse_control(as_records("journey.control", some), PARTITIONS):
        if one.dead_letter is not None:
            validator("journey.dead_letter.v1").validate(orjson.loads(one.dead_letter[1]))
