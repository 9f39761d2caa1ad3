from __future__ import annotations

from typing import Any

import pytest

from journey.events import HOUR, MINUTE, SECOND
from journey.ticks import AHEAD, BETWEEN, IDLE, Sight, tick_at, wants_tick
from tests.factories import NOON

CATCH_UP = 15 * MINUTE


def sight(**seen: Any) -> Sight:
    """Return what the owner of a busy partition on the wall clock sees, but for what is told."""
    busy = Sight(
        wall=NOON, broker=NOON, journal=NOON - SECOND, clock="wall", prompt=None, last_tick=NOON - MINUTE + 1,
        last_page=NOON - SECOND, oldest_unread=None,
    )  # fmt: skip
    return busy._replace(**seen)


def test_a_busy_journal_wants_no_tick() -> None:
    assert not wants_tick(sight())
    assert tick_at(sight(), CATCH_UP) is None


class TestPrompt:
    def test_a_prompt_timer_is_told_its_time(self) -> None:
        assert tick_at(sight(prompt=NOON), CATCH_UP) == NOON
        assert tick_at(sight(prompt=NOON - 500), CATCH_UP) == NOON

    def test_not_before_it_is_due(self) -> None:
        assert tick_at(sight(prompt=NOON + 1), CATCH_UP) is None

    def test_not_when_journal_time_has_reached_it_already(self) -> None:
        assert tick_at(sight(prompt=NOON, journal=NOON), CATCH_UP) is None

    def test_at_most_once_a_second(self) -> None:
        assert not wants_tick(sight(prompt=NOON, last_tick=NOON - BETWEEN + 1))
        assert wants_tick(sight(prompt=NOON, last_tick=NOON - BETWEEN))

    def test_at_once_by_a_worker_that_never_ticked(self) -> None:
        assert wants_tick(sight(prompt=NOON, last_tick=None))

    def test_also_by_one_whose_clock_was_set_back(self) -> None:
        assert wants_tick(sight(prompt=NOON, last_tick=NOON + HOUR))


class TestIdle:
    def test_a_minute_of_nothing_is_worth_a_tick(self) -> None:
        assert tick_at(sight(last_tick=NOON - IDLE, last_page=NOON - IDLE), CATCH_UP) == NOON

    @pytest.mark.parametrize("seen", [{"last_tick": NOON - IDLE + 1}, {"last_page": NOON - IDLE + 1}])
    def test_a_millisecond_less_is_not(self, seen: dict[str, Any]) -> None:
        idle = sight(last_tick=NOON - IDLE, last_page=NOON - IDLE)
        assert not wants_tick(idle._replace(**seen))

    def test_a_clock_that_was_set_back_does_not_silence_it(self) -> None:
        assert wants_tick(sight(last_tick=None, last_page=NOON + 2 * HOUR))
        assert wants_tick(sight(last_tick=NOON + 2 * HOUR, last_page=NOON + 2 * HOUR))

    def test_a_page_counts_as_much_as_a_tick(self) -> None:
        assert not wants_tick(sight(last_tick=None, last_page=NOON - 1))
        assert not wants_tick(sight(last_tick=NOON - BETWEEN, last_page=None))
        assert wants_tick(sight(last_tick=None, last_page=NOON - IDLE))

    def test_a_worker_that_has_seen_nothing_yet_begins_with_one(self) -> None:
        assert tick_at(sight(last_tick=None, last_page=None), CATCH_UP) == NOON


class TestUnread:
    def test_a_tick_stops_at_the_oldest_record_that_is_not_read(self) -> None:
        idle = sight(last_tick=None, last_page=None, oldest_unread=NOON - MINUTE)
        assert tick_at(idle, CATCH_UP) == NOON - MINUTE

    def test_and_is_not_written_when_its_timer_lies_behind_it(self) -> None:
        assert tick_at(sight(prompt=NOON - 1, oldest_unread=NOON - MINUTE), CATCH_UP) is None

    def test_a_timer_before_it_is_told(self) -> None:
        waiting = sight(journal=NOON - HOUR, prompt=NOON - MINUTE, oldest_unread=NOON - MINUTE)
        assert tick_at(waiting, CATCH_UP) == NOON - MINUTE

    def test_it_waits_for_so_long_and_not_longer(self) -> None:
        waiting = sight(journal=NOON - HOUR, prompt=NOON - CATCH_UP, oldest_unread=NOON - HOUR)
        assert tick_at(waiting, CATCH_UP) == NOON - CATCH_UP
        assert tick_at(waiting._replace(prompt=NOON - CATCH_UP + 1), CATCH_UP) is None
        assert tick_at(waiting, 0) == NOON


class TestBroker:
    def test_a_tick_runs_at_most_five_seconds_ahead_of_the_broker(self) -> None:
        assert tick_at(sight(broker=NOON - AHEAD - 1, last_tick=None, last_page=None), CATCH_UP) == NOON - 1
        assert tick_at(sight(broker=NOON - AHEAD, last_tick=None, last_page=None), CATCH_UP) == NOON

    def test_a_clock_that_is_ahead_of_it_fires_nothing_early(self) -> None:
        assert tick_at(sight(prompt=NOON, broker=NOON - HOUR), CATCH_UP) is None

    @pytest.mark.parametrize("seen", [{"prompt": NOON}, {"last_tick": None, "last_page": None}])
    def test_nobody_ticks_before_the_broker_has_told_its_time(self, seen: dict[str, int | None]) -> None:
        assert tick_at(sight(broker=None, **seen), CATCH_UP) is None
        assert tick_at(sight(broker=None, oldest_unread=NOON - HOUR, **seen), CATCH_UP) is None

    def test_a_clock_that_is_ahead_takes_no_cart_for_due_and_so_ticks_while_idle(self) -> None:
        ahead = sight(wall=NOON + 2 * HOUR, broker=NOON, prompt=NOON + HOUR)
        assert tick_at(ahead, CATCH_UP) == NOON + AHEAD
        assert not wants_tick(ahead._replace(last_tick=NOON + 2 * HOUR - IDLE + 1))

    def test_a_clock_that_is_ahead_does_not_shorten_the_wait_for_what_is_not_read(self) -> None:
        ahead = sight(wall=NOON + 2 * HOUR, broker=NOON, journal=NOON - HOUR, prompt=NOON, oldest_unread=NOON - MINUTE)
        assert tick_at(ahead, CATCH_UP) is None
        assert tick_at(ahead._replace(prompt=NOON - MINUTE), CATCH_UP) == NOON - MINUTE
        assert tick_at(ahead._replace(oldest_unread=NOON - HOUR), CATCH_UP) is None


@pytest.mark.parametrize("seen", [{"prompt": NOON}, {"last_tick": None, "last_page": None}])
def test_nobody_ticks_a_journal_that_runs_on_its_events(seen: dict[str, int | None]) -> None:
    assert not wants_tick(sight(clock="events", **seen))
    assert tick_at(sight(clock="events", **seen), CATCH_UP) is None
