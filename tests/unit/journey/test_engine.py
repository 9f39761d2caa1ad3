from __future__ import annotations

from typing import Any

import orjson
import pytest

from journey.engine import PoisonError, Shard, fold
from journey.entries import Entry, encode
from journey.errors import PositionGapError, StateVersionError
from journey.events import DAY, HOUR, MINUTE
from journey.state import FOLD_VERSION, STATE_VERSION, new_customer, partition_key, read_customer
from journey.triggers import TRIGGER
from tests.factories import (
    NOON,
    Page,
    Records,
    Story,
    clock,
    event,
    fold_at_once,
    ids_of,
    item,
    of_type,
    tick,
    without_stamps,
)


def adds(key: str, at: int, offset: int, **more: Any) -> Entry:
    """Return the entry of somebody who fills a cart."""
    return event("cart.product_added", at, key=key, data={"item": item()}, src=["events.cart", 0, offset], **more)


def views(key: str, at: int, offset: int) -> Entry:
    return event("click.product_viewed", at, key=key, data={"item": item()}, src=["events.click", 0, offset])


def empty() -> Shard:
    return Shard(0, lambda _key: None, ())


class TestPositions:
    def test_pages_are_folded_without_holes(self) -> None:
        shard = empty()
        fold(shard, 0, [tick(NOON)])
        with pytest.raises(PositionGapError) as stopped:
            fold(shard, 2, [tick(NOON)])
        assert (stopped.value.found, stopped.value.expected) == (2, 1)
        assert "journal partition 0: offset 2 was delivered where 1 was expected" in str(stopped.value)

    def test_a_journal_begins_at_zero(self) -> None:
        with pytest.raises(PositionGapError):
            fold(empty(), 1, [tick(NOON)])

    def test_a_page_that_was_folded_is_left_alone(self) -> None:
        shard = empty()
        fold(shard, 0, [views("u:1", NOON, 0)])
        before = shard.changes()
        fold(shard, 0, [views("u:1", NOON + 1, 1)])
        assert shard.changes() == before

    def test_an_entry_at_or_below_the_applied_position_of_its_source_is_skipped(self) -> None:
        shard = empty()
        fold(shard, 0, [views("u:1", NOON, 5)])
        fold(shard, 1, [views("u:1", NOON + DAY, 5), views("u:1", NOON + DAY, 4), views("u:1", NOON + 1, 6)])
        (_, raw), _ = shard.changes()
        assert read_customer(raw)["counts"] == {"click.product_viewed": 2}
        assert shard.partition["now"] == NOON + 1
        assert shard.counts["repeats"] == 2

    def test_sources_are_told_apart_by_topic_and_partition(self) -> None:
        shard = empty()
        page = [views("u:1", NOON, 0), adds("u:1", NOON, 0), views("u:1", NOON, 1)]
        page[2]["src"] = ["events.click", 1, 0]
        fold(shard, 0, page)
        assert shard.partition["applied"] == {"events.click/0": 0, "events.cart/0": 0, "events.click/1": 0}

    def test_a_customer_is_stamped_with_the_page_that_touched_them_last(self) -> None:
        shard = empty()
        fold(shard, 0, [views("u:1", NOON, 0), views("u:2", NOON, 1)])
        fold(shard, 1, [views("u:2", NOON, 2)])
        stamps = {key: orjson.loads(raw)["at"] for key, raw in shard.changes()}
        assert stamps == {b"u:1": 0, b"u:2": 1, partition_key(0): 1}

    def test_the_partition_record_is_written_last(self) -> None:
        shard = empty()
        fold(shard, 0, [views("u:1", NOON, 0), views("u:2", NOON, 1)])
        assert [key for key, _ in shard.changes()] == [b"u:1", b"u:2", partition_key(0)]

    def test_what_is_written_is_forgotten(self) -> None:
        story = Story()
        story.views()
        story.stored.update(story.shard.changes())
        story.shard.written()
        assert story.shard.changes() == [(partition_key(0), story.stored[partition_key(0)])]
        assert story.customer["counts"] == {"click.product_viewed": 1}


class TestTime:
    def test_journal_time_is_the_highest_reception(self) -> None:
        shard = empty()
        fold(shard, 0, [views("u:1", NOON + 10, 0), views("u:1", NOON, 1)])
        assert shard.partition["now"] == NOON + 10
        assert shard.touched["u:1"]["seen"] == NOON + 10

    def test_entries_of_other_kinds_only_move_time(self) -> None:
        shard = empty()
        link: Entry = {"k": "link", "at": NOON, "src": ["events.profile", 0, 7], "c": "a:1", "to": "u:1"}
        fold(shard, 0, [link])
        assert shard.changes() == [(partition_key(0), encode(shard.partition))]
        assert (shard.partition["now"], shard.partition["applied"]) == (NOON, {"events.profile/0": 7})

    def test_of_an_erased_entry_only_its_position_is_left(self) -> None:
        shard = empty()
        void: Any = {"k": "void", "src": ["events.cart", 0, 3]}
        fold(shard, 0, [tick(NOON), void])
        assert (shard.partition["now"], shard.partition["applied"]) == (NOON, {"events.cart/0": 3})

    def test_timers_fire_before_the_entry_that_passes_them(self) -> None:
        story = Story()
        story.adds()
        told = story.orders(after=HOUR)
        assert next(one.body["type"] for one in told) == TRIGGER
        assert len(story.reminders()) == 1

    def test_nothing_fires_twice(self) -> None:
        story = Story()
        story.adds()
        story.waits(HOUR)
        for _ in range(3):
            assert story.tell(tick(story.now)) == []
            assert story.waits(1) == []

    def test_timers_fire_by_due_time_then_by_customer_chained_ones_in_between(self) -> None:
        # u:1 fills a cart: evaluation ends after 30 days, interest 30 days later; u:2 and u:0 in between
        page = [adds("u:1", NOON, 0), adds("u:2", NOON + DAY, 1), adds("u:0", NOON + DAY, 2)]
        shard = empty()
        fold(shard, 0, page)
        shard.triggers.clear()
        fold(shard, 1, [tick(NOON + 80 * DAY)])
        told = [(one.key, one.body["data"]["to"]) for one in shard.triggers]
        assert told == [
            ("u:1", "interest"), ("u:0", "interest"), ("u:2", "interest"),
            ("u:1", "awareness"), ("u:0", "awareness"), ("u:2", "awareness"),
        ]  # fmt: skip

    def test_a_timer_set_for_a_moment_that_is_over_fires_with_the_next_entry(self) -> None:
        story = Story()
        story.orders(ago=100 * DAY)
        assert story.vitality == "active"
        assert story.tell(tick(story.now)) == []
        (change,) = story.waits(1)
        assert change.body["data"]["to"] == "churn"


class TestClock:
    def test_a_journal_runs_on_the_wall_clock(self) -> None:
        assert empty().partition["clock"] == "wall"

    def test_its_first_entry_may_say_that_it_runs_on_its_events(self) -> None:
        shard = empty()
        fold(shard, 0, [clock("events"), views("u:1", NOON, 0)])
        assert shard.partition["clock"] == "events"

    @pytest.mark.parametrize("before", [views("u:1", NOON, 0), tick(NOON), tick(0, ["journey.control", 1, 0])])
    def test_no_later_one_can(self, before: Entry) -> None:
        shard = empty()
        fold(shard, 0, [before, clock("events")])
        assert shard.partition["clock"] == "wall"

    def test_neither_on_a_later_page(self) -> None:
        shard = empty()
        fold(shard, 0, [tick(NOON)])
        fold(shard, 1, [clock("events")])
        assert shard.partition["clock"] == "wall"

    def test_going_live_is_possible_once_and_for_ever(self) -> None:
        shard = empty()
        fold(shard, 0, [clock("events"), views("u:1", NOON, 0)])
        fold(shard, 1, [clock("wall", NOON + 1, 1)])
        assert shard.partition["clock"] == "wall"
        fold(shard, 2, [clock("events", 0, 2), clock("events", NOON + 2, 3)])
        assert shard.partition["clock"] == "wall"

    def test_the_clock_is_part_of_the_partition_record(self) -> None:
        shard = empty()
        fold(shard, 0, [clock("events")])
        stored = dict(shard.changes())
        assert Shard(0, stored.get, stored.items()).partition["clock"] == "events"


def malformed() -> list[Entry]:
    """Return entries that nobody can fold, each wrong in another place."""
    good = adds("u:1", NOON + MINUTE, 2)
    wrong: list[Any] = [
        good | {"d": {"item": {"item_id": "p-1", "quantity": "two"}}},  # half of it is folded before it raises
        good | {"d": {}},
        good | {"oc": None},
        good | {"at": "noon"},
        good | {"src": "nowhere"},
        good | {"c": 7},
        {name: part for name, part in good.items() if name != "id"},
        {name: part for name, part in good.items() if name != "at"},
        {name: part for name, part in good.items() if name != "k"},
        {name: part for name, part in good.items() if name != "src"},
        {"k": "clock", "at": NOON, "src": ["journey.control", 0, 0]},
        {},
    ]
    return wrong


class TestPoison:
    @pytest.mark.parametrize("poison", malformed())
    def test_an_entry_that_nobody_can_fold_is_skipped_as_if_it_were_not_there(self, poison: Entry) -> None:
        others = [adds("u:1", NOON, 0), views("u:2", NOON, 0), tick(NOON + 3 * HOUR), adds("u:1", NOON + DAY, 3)]
        with pytest.raises(PoisonError) as raised:
            fold_at_once([[*others[:2], poison, *others[2:]]])
        assert (raised.value.offset, raised.value.index) == (0, 2)
        records, triggers = fold_at_once([[*others[:2], poison, *others[2:]]], poisoned=[(0, 2)])
        without, same = fold_at_once([others])
        assert records == without
        assert ids_of(triggers) == ids_of(same)
        assert len(of_type(triggers, TRIGGER)) == 1

    def test_its_place_is_told_by_page_and_index(self) -> None:
        shard = empty()
        fold(shard, 0, [views("u:1", NOON, 0)])
        with pytest.raises(PoisonError, match=r"entry 1 of page 1: KeyError$"):
            fold(shard, 1, [views("u:1", NOON, 1), adds("u:1", NOON, 0) | {"d": {}}])

    def test_a_record_of_newer_code_stops_instead(self) -> None:
        newer = encode(new_customer("u:1", NOON) | {"v": STATE_VERSION + 1})
        shard = Shard(0, {b"u:1": newer}.get, ())
        with pytest.raises(StateVersionError):
            fold(shard, 0, [views("u:1", NOON, 0)])

    def test_running_out_of_memory_stops_instead(self) -> None:
        def read(key: bytes) -> bytes | None:
            if key == b"u:1":
                raise MemoryError
            return None

        with pytest.raises(MemoryError):
            fold(Shard(0, read, ()), 0, [views("u:1", NOON, 0)])

    def test_a_timer_that_nobody_can_fire_is_dropped_and_counted_and_no_entry_suffers_from_it(self) -> None:
        broken = new_customer("u:1", NOON) | {"timers": {"abandoned_cart": NOON + 1}}  # of a run that is not there
        stored: Records = {b"u:1": encode(broken)}
        shard = Shard(0, stored.get, stored.items())
        fold(shard, 0, [adds("u:2", NOON, 0), tick(NOON + HOUR), views("u:1", NOON + HOUR, 0)])
        assert shard.counts["failed_timers"] == 1
        assert [one.key for one in of_type(shard.triggers, TRIGGER)] == ["u:2"]
        assert "abandoned_cart" not in shard.touched["u:1"]["timers"]
        assert shard.touched["u:1"]["counts"] == {"click.product_viewed": 1}


class TestCrashes:
    """What a worker finds when the one before it died between two batches of a write."""

    def crash(self, pages: list[Page], survived: set[bytes]) -> tuple[Records, Records, list[str], list[str]]:
        """Fold all pages, write only these keys, fold again from there; return the records and ids of both."""
        whole, triggers = fold_at_once(pages)
        stored = {key: raw for key, raw in whole.items() if key in survived}
        shard = Shard(0, stored.get, list(stored.items()))
        for offset, page in enumerate(pages):
            fold(shard, offset, page)
        stored.update(shard.changes())
        return stored, whole, ids_of(shard.triggers), ids_of(triggers)

    def test_a_customer_who_was_written_is_left_alone_while_all_others_move_on(self) -> None:
        pages = [[adds("u:1", NOON, 0), adds("u:2", NOON, 1)], [tick(NOON + HOUR)]]
        stored, whole, again, first = self.crash(pages, {b"u:1"})
        assert stored == whole
        assert set(again) < set(first)

    def test_an_entry_of_somebody_left_alone_still_fires_the_timers_of_others(self) -> None:
        pages = [[adds("u:2", NOON, 0)], [adds("u:1", NOON + HOUR, 1)]]
        stored, whole, again, first = self.crash(pages, {b"u:1"})
        assert stored == whole
        assert [one for one in first if one.startswith("tr_")] == [one for one in again if one.startswith("tr_")]

    def test_whoever_was_left_alone_does_not_lose_a_timer_that_is_already_due(self) -> None:
        order = event(
            "purchase.order_completed", NOON + 1, oc=NOON - 100 * DAY, data={"order_id": "o-1"},
            src=["events.purchase", 0, 0],
        )  # fmt: skip
        pages = [[views("u:1", NOON, 0), order]]
        whole, _ = fold_at_once(pages)
        assert read_customer(whole[b"u:1"])["timers"]["stage"] < NOON
        stored: Records = {b"u:1": whole[b"u:1"]}
        shard = Shard(0, stored.get, list(stored.items()))
        fold(shard, 0, pages[0])
        fold(shard, 1, [tick(NOON + 2)])
        again, _ = fold_at_once([*pages, [tick(NOON + 2)]])
        assert dict(shard.changes()) == again
        assert read_customer(again[b"u:1"])["stage"]["vitality"] == "lapsed"

    def test_a_group_of_pages_is_folded_again_from_where_the_partition_record_stands(self) -> None:
        pages = [[adds("u:1", NOON, 0)], [views("u:2", NOON, 0)], [adds("u:1", NOON + MINUTE, 1)]]
        for survived in ({b"u:1"}, {b"u:2"}, {b"u:1", b"u:2"}, set[bytes]()):
            stored, whole, _, _ = self.crash(pages, survived)
            assert stored == whole


class TestMemory:
    def test_the_partition_record_says_what_it_was_folded_with(self) -> None:
        shard = empty()
        fold(shard, 0, [views("u:1", NOON, 4)])
        assert shard.partition == {
            "v": STATE_VERSION, "fold": FOLD_VERSION, "at": 0, "now": NOON, "applied": {"events.click/0": 4},
            "models": {}, "config": None, "clock": "wall",
        }  # fmt: skip

    def test_a_worker_that_starts_takes_over_the_timers(self) -> None:
        story = Story()
        story.adds()
        story.write()
        story.waits(HOUR)
        assert len(story.reminders()) == 1

    def test_other_names_of_a_customer_are_kept(self) -> None:
        story = Story()
        story.views(anonymous_id="9f3c")
        assert story.customer["anonymous_ids"] == ["9f3c"]

    def test_numbers_for_people_are_no_part_of_the_state(self) -> None:
        story = Story()
        story.views(id_="m-1")
        story.views(id_="m-1")
        assert story.shard.counts == {
            "events": 2, "repeats": 0, "duplicates": 1, "timers": 0, "failed_timers": 0, "adopted": 0,
        }  # fmt: skip
        assert without_stamps(dict(story.shard.changes()))[partition_key(0)].keys() == {
            "v", "fold", "now", "applied", "models", "config", "clock",
        }  # fmt: skip
