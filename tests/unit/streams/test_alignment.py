"""Alignment: backlogs of unequal length go to the journal in the order in which they were published."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.alignment import LOOK, NOTHING, PATIENCE, Alignment, pieces
from streams.arrivals import Parsed
from streams.merge import FOR_EVER, Merge

MANY = 100_000


@dataclass
class Backlog:
    """Raw partitions as lists of record times, and an ingest that receives from them."""

    logs: dict[str, list[int]]
    most: int = MANY
    now: float = 1000.0
    told: bool = True  # whether fetches told where the partitions end
    merge: Merge = field(default_factory=Merge)
    next: dict[str, int] = field(default_factory=dict)
    taken: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.next = dict.fromkeys(self.logs, 0)
        self.alignment = Alignment(self.merge, self.next.get, self._end, lambda: self.now, {}, self.most)
        self.alignment.own(self._ends())

    def _ends(self) -> dict[str, int]:
        return {name: len(log) for name, log in self.logs.items()}

    def _end(self, name: str) -> int | None:
        return len(self.logs[name]) if self.told else None

    def bring(self, name: str, count: int) -> None:
        """Let the next records of a partition arrive."""
        times = self.logs[name][self.next[name] : self.next[name] + count]
        if times:
            self.next[name] += len(times)
            self.merge.add(
                name, (name, self.next[name]), [Parsed(0, ((0, str(at).encode()),), None) for at in times], times
            )
            self.alignment.came(name)

    def pass_on(self) -> list[int]:
        """Take what goes on now; return its times."""
        parsed, _ = self.merge.take(self.alignment.bound())
        some = [int(one.entries[0][1]) for one in parsed]
        self.taken += some
        return some


def test_what_has_more_to_come_holds_back_the_others_to_its_own_time() -> None:
    shop = Backlog({"cart": [1, 5, 9], "click": [2, 3, 4, 6]})
    shop.bring("cart", 3)
    shop.bring("click", 2)
    assert shop.pass_on() == [1, 2, 3]
    shop.bring("click", 2)
    assert shop.pass_on() == [4, 5, 6, 9]


def test_what_is_at_its_end_holds_back_nobody() -> None:
    shop = Backlog({"cart": [1, 5, 9], "click": []})
    shop.bring("cart", 1)
    assert shop.pass_on() == [1]


def test_what_has_more_and_brings_nothing_is_waited_for() -> None:
    shop = Backlog({"cart": [1, 5, 9], "click": [2]})
    shop.bring("cart", 3)
    assert shop.alignment.bound() == NOTHING
    waited = shop.alignment.is_waiting
    shop.bring("click", 1)
    assert shop.pass_on() == [1, 2, 5, 9]
    assert (waited, shop.alignment.is_waiting) == (True, False)
    assert shop.alignment.counts["align_waits"] == 1


def test_nobody_is_waited_for_for_ever() -> None:
    shop = Backlog({"cart": [1, 5, 9], "click": [2]})
    shop.bring("cart", 3)
    assert shop.pass_on() == []
    shop.now += PATIENCE
    assert shop.pass_on() == [1, 5, 9]
    assert shop.alignment.counts["align_gave_up"] == 1


def test_who_brings_something_again_is_waited_for_again() -> None:
    shop = Backlog({"cart": [1, 5], "click": [2, 4]})
    shop.bring("cart", 1)
    shop.pass_on()
    shop.now += PATIENCE
    assert shop.pass_on() == [1]
    shop.bring("click", 1)
    assert shop.alignment.bound() == NOTHING  # of the cart, more is to come and nothing here
    shop.bring("cart", 1)
    shop.now += LOOK
    assert shop.pass_on() == [2]


def test_a_log_that_grows_while_it_is_waited_for_does_not_make_the_wait_endless() -> None:
    shop = Backlog({"cart": [1], "click": [2]})
    shop.bring("cart", 1)
    assert shop.pass_on() == []
    shop.logs["click"] += [30]
    shop.logs["cart"] += [40]
    shop.bring("click", 1)
    assert shop.pass_on() == [1, 2]


def test_before_a_fetch_told_the_end_the_one_at_assignment_counts() -> None:
    shop = Backlog({"cart": [1], "click": [2]}, told=False)
    shop.bring("cart", 1)
    assert shop.pass_on() == []
    shop.bring("click", 1)
    assert shop.pass_on() == [1, 2]


def test_live_traffic_is_looked_at_once_in_a_while() -> None:
    looks = []
    shop = Backlog({"cart": [1], "click": []})
    shop.alignment._end = lambda name: looks.append(name) or len(shop.logs[name])  # type: ignore[func-returns-value]
    shop.bring("cart", 1)
    assert shop.pass_on() == [1]
    seen = len(looks)
    for at in range(2, 50):
        shop.logs["cart"] += [at]
        shop.bring("cart", 1)
        assert shop.pass_on() == [at]
    assert len(looks) == seen
    shop.logs["click"] += [50]
    shop.logs["cart"] += [60]
    shop.now += LOOK
    shop.bring("cart", 1)
    assert shop.pass_on() == []


def test_a_partition_with_more_than_its_share_is_to_bring_nothing_for_a_while() -> None:
    shop = Backlog({"cart": list(range(100)), "click": [50]}, most=40)
    shop.bring("cart", 11)
    assert shop.alignment.full() == {"cart"}
    shop.bring("click", 1)
    shop.pass_on()
    assert shop.alignment.full() == set()
    assert (shop.alignment.counts["align_held"], shop.alignment.counts["align_most_held"]) == (1, 11)


def test_what_was_revoked_is_not_waited_for() -> None:
    shop = Backlog({"cart": [1], "click": [2]})
    shop.bring("cart", 1)
    assert shop.pass_on() == []
    shop.alignment.own({"cart": 1})
    assert shop.pass_on() == [1]


def test_pieces() -> None:
    assert list(pieces([1, 2, 3], 2)) == [[1, 2], [3]]
    assert list(pieces([], 2)) == []


steps = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), max_size=60)
logs = st.fixed_dictionaries({name: st.lists(st.integers(0, 40), max_size=20).map(sorted) for name in "abc"})


@settings(max_examples=200, deadline=None)
@given(logs, steps, st.sampled_from((8, 24, MANY)))
def test_a_backlog_comes_out_in_the_order_of_time_however_it_arrives(
    published: dict[str, list[int]], arrivals: list[tuple[str, int]], most: int
) -> None:
    shop = Backlog(published, most)
    full: set[str] = set()
    for name, count in [*arrivals, *((name, 1) for _ in range(20) for name in "abc")]:
        if name not in full:
            shop.bring(name, count)
        shop.pass_on()
        full = shop.alignment.full()
        assert len(shop.merge) <= most // 2 + 3 * 4
    for _ in range(60):  # until all is read, in whatever is not held back
        for name in "abc":
            if name not in shop.alignment.full():
                shop.bring(name, 1)
            shop.pass_on()
    assert shop.taken == sorted(at for log in published.values() for at in log)
    assert shop.alignment.counts["align_gave_up"] == 0


@pytest.mark.parametrize("planted", ["no wait", "no frontier"])
def test_the_property_above_can_fail(planted: str) -> None:
    shop = Backlog({"cart": [1, 5, 9], "click": [2, 3, 4, 6]})
    shop.alignment.bound = lambda: FOR_EVER  # type: ignore[method-assign]
    shop.bring("cart", 3)
    if planted == "no frontier":
        shop.bring("click", 2)
    shop.pass_on()
    shop.bring("click", 4)
    shop.pass_on()
    assert shop.taken != sorted(shop.taken)
