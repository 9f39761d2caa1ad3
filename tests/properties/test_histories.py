"""The fold over all histories: however it is cut, stopped, repeated and started again, it comes to the same."""

from __future__ import annotations

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.documents import document
from journey.engine import Shard, fold
from journey.entries import Entry, encode, read_page
from journey.features import features
from journey.positions import ENTRIES_PER_PAGE_LIMIT
from journey.state import read_customer, read_partition
from journey.triggers import Trigger
from tests.factories import Records, cut, encoded_pages, fold_at_once, fold_written, histories, sizes, without_stamps

quickly = settings(max_examples=100, deadline=None)


def bodies(triggers: list[Trigger]) -> list[bytes]:
    return [orjson.dumps(one.body) for one in triggers]


@quickly
@given(histories(), sizes(), sizes())
def test_where_pages_are_cut_changes_nothing(history: list[Entry], some: list[int], others: list[int]) -> None:
    records, triggers = fold_at_once(cut(history, some))
    cut_otherwise, repeated = fold_at_once(cut(history, others))
    assert without_stamps(records) == without_stamps(cut_otherwise)
    assert bodies(triggers) == bodies(repeated)


@quickly
@given(histories(), sizes(), sizes())
def test_a_worker_that_starts_after_every_write_goes_on_as_one_that_never_stopped(
    history: list[Entry], some: list[int], groups: list[int]
) -> None:
    cuts = cut(history, some)
    records, triggers = fold_at_once(cuts)
    written, repeated = fold_written(cuts, groups)
    assert written == records
    assert bodies(repeated) == bodies(triggers)


# for each write: how many pages are in its group, and which of its batches arrived (a bit each) before a crash, if any
_crashes = st.lists(st.tuples(st.integers(1, 4), st.none() | st.integers(0, 15)), min_size=1, max_size=30)


@quickly
@given(histories(), sizes(), _crashes)
def test_a_crash_between_two_batches_loses_and_doubles_nothing(
    history: list[Entry], some: list[int], crashes: list[tuple[int, int | None]]
) -> None:
    cuts = cut(history, some)
    records, triggers = fold_at_once(cuts)
    stored: Records = {}
    sent: list[Trigger] = []
    done = 0
    script = iter(crashes)
    while done < len(cuts):
        group, arrived = next(script, (3, None))
        shard = Shard(0, stored.get, list(stored.items()))
        assert shard.partition["at"] == done - 1
        for offset in range(done, min(done + group, len(cuts))):
            fold(shard, offset, cuts[offset])
        sent += shard.triggers  # acknowledged before anything is written
        changes = shard.changes()
        if arrived is None:
            stored.update(changes)
            done = shard.partition["at"] + 1
        else:  # the partition record is in the last batch: it never arrives with a batch before it missing
            stored.update(one for number, one in enumerate(changes[:-1]) if arrived >> number % 4 & 1)
    assert stored == records
    told = {one.id: orjson.dumps(one.body) for one in triggers}
    assert {one.id: orjson.dumps(one.body) for one in sent} == told


@quickly
@given(histories(), sizes(), st.data())
def test_a_stretch_that_ingest_repeats_changes_nothing(
    history: list[Entry], some: list[int], data: st.DataObject
) -> None:
    begin = data.draw(st.integers(0, len(history) - 1))
    end = data.draw(st.integers(begin, len(history)))
    later = data.draw(st.integers(end, len(history)))
    stretch = [entry for entry in history[begin:end] if "src" in entry]
    records, triggers = fold_at_once(cut(history, some))
    repeated, again = fold_at_once(cut([*history[:later], *stretch, *history[later:]], some))
    assert without_stamps(repeated) == without_stamps(records)
    assert bodies(again) == bodies(triggers)


@quickly
@given(histories(), sizes())
def test_positions_and_journal_time_never_go_back(history: list[Entry], some: list[int]) -> None:
    shard = Shard(0, lambda _key: None, ())
    applied: dict[str, int] = {}
    now, stamps = 0, dict.fromkeys(("u:1", "u:2", "a:3"), -1)
    for offset, page in enumerate(cut(history, some)):
        fold(shard, offset, page)
        partition = shard.partition
        assert partition["at"] == offset
        assert partition["now"] == max(now, *(entry["at"] for entry in page)) >= now
        assert all(partition["applied"][source] >= highest for source, highest in applied.items())
        for key, customer in shard.touched.items():
            assert stamps[key] <= customer["at"] <= offset
            stamps[key] = customer["at"]
        applied, now = dict(partition["applied"]), partition["now"]


@quickly
@given(histories(), st.permutations(("u:1", "u:2", "a:3")), sizes())
def test_customers_who_act_at_the_same_moment_do_not_notice_who_came_first(
    history: list[Entry], ranking: list[str], some: list[int]
) -> None:
    entries: list[Entry] = []
    now = 0
    known: set[str] = set()
    for entry in history:  # every customer from a topic partition of their own, all stamped in order
        if "src" in entry:
            if str(entry["src"]) in known:
                continue
            known.add(str(entry["src"]))
            entry = entry | {"src": [entry["src"][0], ranking.index(entry["c"]), entry["src"][2]]}
        now = max(now, entry["at"])
        entries.append(entry | {"at": now})
    ranked = sorted(entries, key=lambda entry: (entry["at"], ranking.index(entry["c"]) if "c" in entry else -1))
    records, triggers = fold_at_once(cut(entries, some))
    swapped, others = fold_at_once(cut(ranked, some))
    assert without_stamps(swapped) == without_stamps(records)
    assert sorted(bodies(others)) == sorted(bodies(triggers))


@quickly
@given(histories(), sizes())
def test_every_record_reads_back_as_it_was_written(history: list[Entry], some: list[int]) -> None:
    records, _ = fold_at_once(cut(history, some))
    for key, raw in records.items():
        if key.startswith(b"\0"):
            assert encode(read_partition(raw, 0)) == raw
            continue
        customer = read_customer(raw)
        assert encode(customer) == raw
        position, shown = document(customer, 0)
        assert position == customer["at"] * ENTRIES_PER_PAGE_LIMIT
        assert orjson.loads(orjson.dumps(shown)) == shown
        assert shown["features"] == features(customer, customer["seen"])


@quickly
@given(histories(), st.integers(1, 9), st.integers(200, 5000))
def test_pages_hold_all_entries_in_order(history: list[Entry], most: int, most_bytes: int) -> None:
    cuts = list(encoded_pages(history, most, most_bytes))
    read = [read_page(value) for value in cuts]
    assert [entry for page in read for entry in page] == history
    assert all(len(page) <= most for page in read)
    assert all(len(value) <= most_bytes for value, page in zip(cuts, read, strict=True) if len(page) > 1)
