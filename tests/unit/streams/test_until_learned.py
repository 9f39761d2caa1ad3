"""Going live waits for the models, where a worker learns."""

from __future__ import annotations

import pytest

from streams import status
from streams.errors import ShellError
from streams.settings import Settings


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """What is left to be learned at each look; the last one stays."""
    looks: list[int | None] = []

    async def unlearned(_: Settings) -> int | None:
        return looks.pop(0) if len(looks) > 1 else looks[0]

    monkeypatch.setattr(status, "unlearned", unlearned)
    return looks


async def test_it_ends_once_nothing_is_left_for_some_looks(left: list[int | None]) -> None:
    told: list[int] = []
    left += [700, 650, 0, 40, 0, 0, 0, 9]
    await status.until_learned(Settings(), 60, told.append, every=0)
    assert told == [700]  # now and then, not at every look
    assert left == [9]


async def test_where_no_worker_learns_nothing_is_waited_for(left: list[int | None]) -> None:
    told: list[int] = []
    left.append(None)
    await status.until_learned(Settings(), 60, told.append, every=0)
    assert told == []


async def test_who_waits_for_too_long_is_told_what_to_do(left: list[int | None]) -> None:
    left.append(1_500)
    with pytest.raises(ShellError, match=r"1,500 samples are not learned after 0 s.*--learn-wait 0"):
        await status.until_learned(Settings(), 0, lambda _: None, every=0)
