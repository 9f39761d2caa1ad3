from __future__ import annotations

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.entries import Entry
from streams.arrivals import Parsed
from streams.merge import FOR_EVER, Merge
from tests.factories import loaded, tick


def parsed(at: int, name: str = "") -> Parsed:
    """Return what became of a record received at a moment."""
    entry: Entry = tick(at, [name, 0, at])
    return Parsed(at, ((0, orjson.dumps(entry)),), None)


def letter(at: int) -> Parsed:
    """Return a record that nobody could read."""
    return Parsed(at, (), (None, b"{}"))


def add(merge: Merge, tp: str, chunk: object, records: list[Parsed]) -> None:
    """Let a chunk arrive, in a journal on the events' clock."""
    merge.add(tp, chunk, records, [one.at if one.entries else 0 for one in records])


def times(taken: list[Parsed]) -> list[int]:
    return [one.at for one in taken]


def test_nothing_comes_out_of_nothing() -> None:
    merge = Merge()
    assert merge.take(FOR_EVER) == ([], [])
    assert len(merge) == 0


def test_without_a_bound_all_goes_on_by_time() -> None:
    merge = Merge()
    add(merge, "cart/0", "first", [parsed(5), parsed(3)])
    add(merge, "click/0", "second", [parsed(1)])
    taken, done = merge.take(FOR_EVER)
    assert times(taken) == [1, 5, 3]
    assert done == ["first", "second"]
    assert len(merge) == 0


def test_partitions_go_on_by_time() -> None:
    merge = Merge()
    add(merge, "cart/0", "first", [parsed(2), parsed(5), parsed(9)])
    add(merge, "click/0", "second", [parsed(1), parsed(5), parsed(6)])
    taken, done = merge.take(9)
    assert times(taken) == [1, 2, 5, 5, 6, 9]
    assert done == ["first", "second"]


def test_up_to_the_mark_and_not_beyond() -> None:
    merge = Merge()
    add(merge, "cart/0", "first", [parsed(2), parsed(5), parsed(9)])
    taken, done = merge.take(5)
    assert times(taken) == [2, 5]
    assert done == []
    assert len(merge) == 1
    taken, done = merge.take(9)
    assert times(taken) == [9]
    assert done == ["first"]


def test_a_chunk_is_finished_with_its_last_record() -> None:
    merge = Merge()
    add(merge, "cart/0", "first", [parsed(1), parsed(2)])
    add(merge, "cart/0", "second", [parsed(3), parsed(4)])
    assert merge.take(3)[1] == ["first"]
    assert merge.take(4)[1] == ["second"]


def test_the_order_within_a_partition_is_kept_whatever_the_times_say() -> None:
    merge = Merge()
    add(merge, "cart/0", "first", [parsed(7), parsed(2), parsed(8)])
    add(merge, "click/0", "second", [parsed(5)])
    taken, _ = merge.take(8)
    assert times(taken) == [5, 7, 2, 8]


def test_a_dead_letter_goes_with_its_neighbours() -> None:
    merge = Merge()
    add(merge, "cart/0", "first", [parsed(2), letter(999), parsed(4)])
    taken, done = merge.take(4)
    assert times(taken) == [2, 999, 4]
    assert done == ["first"]


def test_a_chunk_of_dead_letters_alone_does_not_wait() -> None:
    merge = Merge()
    add(merge, "cart/0", "first", [letter(999)])
    assert merge.take(0)[1] == ["first"]


def test_how_much_is_here_of_a_partition_and_up_to_when() -> None:
    merge = Merge()
    add(merge, "cart/0", "first", [parsed(7), parsed(2)])
    assert (merge.size("cart/0"), merge.last("cart/0")) == (2, 7)
    assert (merge.size("click/0"), merge.last("click/0")) == (0, None)
    merge.take(7)
    assert (merge.size("cart/0"), merge.last("cart/0")) == (0, None)


def test_what_is_dropped_is_let_go_of() -> None:
    merge = Merge()
    add(merge, "cart/0", "first", [parsed(2)])
    add(merge, "cart/0", "second", [parsed(9)])
    merge.take(2)
    assert merge.drop() == ["second"]
    assert len(merge) == 0
    assert merge.take(FOR_EVER) == ([], [])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(0, 50), min_size=1, max_size=5)), max_size=12),
    st.lists(st.integers(0, 60), max_size=6),
)
def test_nothing_is_lost_doubled_or_overtaken(chunks: list[tuple[str, list[int]]], bounds: list[int]) -> None:
    merge = Merge()
    given_: dict[str, list[Parsed]] = {name: [] for name in "abc"}
    for number, (name, moments) in enumerate(chunks):
        records = [parsed(at, f"{name}-{number}-{place}") for place, at in enumerate(moments)]
        given_[name] += records
        add(merge, name, number, records)
    taken: list[Parsed] = []
    done: list[int] = []
    for bound in [*sorted(bounds), FOR_EVER]:
        some, finished = merge.take(bound)
        taken += some
        done += finished
    assert sorted(done) == list(range(len(chunks)))
    for name, records in given_.items():
        assert [one for one in taken if loaded(one)[0][1]["src"][0].startswith(name)] == records
