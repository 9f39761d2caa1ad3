"""The only place where a test waits: always for a fact, never for a while."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

PAUSE_SECONDS = 0.05


class StillNotSoError(AssertionError):
    """What a test waited for did not come true in time."""

    def __init__(self, holds: Callable[[], object], within_seconds: float) -> None:
        fact = getattr(holds, "__qualname__", repr(holds))
        super().__init__(f"still not so after {within_seconds:g} s: {fact}")


async def eventually(holds: Callable[[], bool | Awaitable[bool]], *, within_seconds: float = 20.0) -> None:
    """Poll a fact until it holds.

    Raises
    ------
    StillNotSoError
        It did not hold in time, or looking took too long. What ``holds`` raises itself is not caught.
    """
    deadline = asyncio.timeout(within_seconds)
    try:
        async with deadline:
            while not await _told(holds()):
                await asyncio.sleep(PAUSE_SECONDS)
    except TimeoutError:
        if not deadline.expired():
            raise
        raise StillNotSoError(holds, within_seconds) from None


def eventually_sync(holds: Callable[[], bool], *, within_seconds: float = 20.0) -> None:
    """Poll a fact until it holds, where there is no event loop.

    Raises
    ------
    StillNotSoError
        It did not hold in time. What ``holds`` raises itself is not caught.
    """
    deadline = time.monotonic() + within_seconds
    while not holds():
        if time.monotonic() > deadline:
            raise StillNotSoError(holds, within_seconds)
        time.sleep(PAUSE_SECONDS)


async def _told(fact: bool | Awaitable[bool]) -> bool:
    return await fact if inspect.isawaitable(fact) else fact
