"""When journal time may be moved on by a tick: a pure decision; the shell has the clock."""

from __future__ import annotations

from typing import Final, NamedTuple

from journey.events import MINUTE, SECOND

IDLE: Final = MINUTE  # an idle journal grows by a tick a minute
BETWEEN: Final = SECOND  # prompt timers get at most one tick a second
AHEAD: Final = 5 * SECOND  # of the broker's clock, at most


class Sight(NamedTuple):
    """What the owner of a journal partition sees; all times in ms since 1970, ``None`` when there is none."""

    wall: int  # the worker's clock
    broker: int | None  # the broker's, as its last acknowledgement told it, moved on by a steady clock
    journal: int  # journal time
    clock: str  # of the journal
    prompt: int | None  # when the next prompt timer is due
    last_tick: int | None  # when the last tick was appended, by the worker's clock
    last_page: int | None  # when the last page was seen, by the worker's clock
    oldest_unread: int | None  # timestamp of the oldest record that ingest still has to read


def wants_tick(sight: Sight) -> bool:
    """Tell whether a tick is due now, before anything else is looked up."""
    # an empty journal has nothing to wait for, and may still begin with the entry that sets its clock
    if sight.clock != "wall" or sight.journal == 0:
        return False
    # not below zero: a clock that was set back must not silence the ticks
    if sight.last_tick is not None and 0 <= sight.wall - sight.last_tick < BETWEEN:
        return False
    if _is_prompt(sight):
        return True
    quiet = [moment for moment in (sight.last_tick, sight.last_page) if moment is not None]
    return not quiet or not 0 <= sight.wall - max(quiet) < IDLE


def tick_at(sight: Sight, catch_up: int) -> int | None:
    """Return the time of the tick to append now, or None.

    It never passes what ingest still has to read, for at most ``catch_up``
    ms behind the clock: otherwise a buyer whose purchase waits in the raw
    topic would be reminded to buy. Nor does it run more than 5 s ahead of
    the broker: of one that has not told its time yet there is no tick, for
    the worker's clock alone may be hours ahead.
    """
    if sight.broker is None or not wants_tick(sight):
        return None
    at = now = _now(sight)
    is_idle = not _is_prompt(sight)
    if sight.oldest_unread is not None:
        at = min(now, max(sight.oldest_unread, now - catch_up))
    # a tick that does not reach the timer would do nothing
    return at if is_idle or (sight.prompt is not None and at >= sight.prompt) else None


def _now(sight: Sight) -> int:
    return sight.wall if sight.broker is None else min(sight.wall, sight.broker + AHEAD)


def _is_prompt(sight: Sight) -> bool:
    return sight.prompt is not None and sight.journal < sight.prompt <= _now(sight)
