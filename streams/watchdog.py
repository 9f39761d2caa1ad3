"""Ends a worker that is stuck: its supervisor starts it again, and its partitions are somebody else's meanwhile.

A worker is stuck when its event loop does not turn, or when a role has records
waiting and does nothing of them, for ``JOURNEY_STUCK_AFTER`` seconds. Whatever
waits by design (a recovery, a rebalance, alignment, a mark, a rest) is shorter
or not ready. A broker that is away that long makes a worker stuck, too: it
begins anew.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NoReturn

from streams.errors import StuckError

EVERY: Final = 1.0  # s between two looks of the thread
AWOKEN: Final = 2  # looks in a row: a process that was held still gets time to turn first


class Progress:
    """What one role has done, as far as that tells whether it is stuck.

    Parameters
    ----------
    after
        Seconds without progress from which on it is; 0 is never.
    """

    def __init__(self, after: float) -> None:
        self._after = after
        self._done: object = None
        self._since: float | None = None

    def stuck_for(self, now: float, *, waiting: int, done: object) -> float | None:
        """Return for how long (s) nothing was done, once that is too long; None before.

        Parameters
        ----------
        now
            Of a steady clock, s.
        waiting
            Records that wait; 0 also while the role is not ready.
        done
            Something that is another one whenever the role has done something.
        """
        if not self._after or not waiting or done != self._done or self._since is None:
            self._done, self._since = done, now
            return None
        idle = now - self._since
        return idle if idle >= self._after else None


class LoopWatch(threading.Thread):
    """Sees from outside whether the event loop turns: each turn has to call ``beat``.

    Parameters
    ----------
    after
        Seconds without a beat.
    leave
        Called with the error; does not return.
    """

    def __init__(
        self, after: float, leave: Callable[[BaseException], NoReturn], steady: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._after, self._leave, self._steady = after, leave, steady
        self._last = steady()
        self._late = 0
        self._done = threading.Event()

    def beat(self) -> None:
        """Say that the loop turns."""
        self._last = self._steady()

    def look(self) -> None:
        """Leave when the loop has not turned for too long, twice in a row."""
        idle = self._steady() - self._last
        self._late = self._late + 1 if idle >= self._after else 0
        if self._late >= AWOKEN:
            self._leave(StuckError(f"the event loop has not turned for {idle:.0f} s"))

    def run(self) -> None:
        """Look for ever."""
        while not self._done.wait(EVERY):
            self.look()

    def stop(self) -> None:
        """End the thread."""
        self._done.set()


def waits_in(*parts: str) -> list[str]:
    """Return where tasks of this loop wait that pass a file with one of ``parts`` in its path: innermost first."""
    found = []
    for task in asyncio.all_tasks():
        frames = []
        coroutine: Any = task.get_coro()
        while coroutine is not None:
            frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
            if frame is not None:
                frames.append(f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}")
                if any(part in frame.f_code.co_filename for part in parts):
                    frames.append("*")
            coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
        if "*" in frames:
            ours = frames[frames.index("*") - 1 :]
            found.append(" < ".join(one for one in reversed(ours) if one != "*"))
    return sorted(found)
