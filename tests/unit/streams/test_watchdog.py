"""When a worker counts as stuck."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import pytest

from streams.errors import StuckError
from streams.watchdog import LoopWatch, Progress, waits_in
from tests.waiting import eventually


def test_a_role_is_stuck_when_records_wait_and_nothing_is_done_for_long_enough() -> None:
    progress = Progress(10.0)
    assert progress.stuck_for(0.0, waiting=5, done=1) is None
    assert progress.stuck_for(9.9, waiting=5, done=1) is None
    assert progress.stuck_for(10.0, waiting=5, done=1) == 10.0


@pytest.mark.parametrize(("waiting", "done"), [(0, 1), (5, 2)])
def test_nothing_to_do_or_something_done_begins_anew(waiting: int, done: int) -> None:
    progress = Progress(10.0)
    progress.stuck_for(0.0, waiting=5, done=1)
    assert progress.stuck_for(15.0, waiting=waiting, done=done) is None
    assert progress.stuck_for(24.0, waiting=5, done=done) is None
    assert progress.stuck_for(25.0, waiting=5, done=done) == 10.0


def test_it_can_be_switched_off() -> None:
    progress = Progress(0.0)
    assert all(progress.stuck_for(float(now), waiting=1, done=1) is None for now in range(0, 10_000, 100))


class LeftError(Exception):
    """The process would have ended."""


def leave(error: BaseException) -> NoReturn:
    raise LeftError from error


def test_a_loop_that_does_not_turn_is_left_and_one_that_was_held_still_is_not() -> None:
    now = 0.0
    watch = LoopWatch(10.0, leave, lambda: now)
    now = 50.0  # the whole process slept
    watch.look()
    watch.beat()
    watch.look()
    now = 61.0
    watch.look()
    with pytest.raises(LeftError) as left:
        watch.look()
    assert isinstance(left.value.__cause__, StuckError)


async def test_it_says_where_a_task_waits() -> None:
    async def inner() -> None:
        await asyncio.Event().wait()

    async def outer() -> None:
        await inner()

    task = asyncio.ensure_future(outer())
    try:
        await eventually(lambda: any("locks.py" in one for one in waits_in("test_watchdog.py")))
        (told,) = [one for one in waits_in("test_watchdog.py") if "locks.py" in one]
        assert told.startswith("locks.py:")
        assert told.count("test_watchdog.py:") == 2
    finally:
        task.cancel()
