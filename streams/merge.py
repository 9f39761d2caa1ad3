"""What arrived from the raw partitions, in the order in which it goes to the journal.

In a journal on the wall clock that is the order of arrival. In one on the
events' clock all of a partition's records up to the loader's *mark* (all
that was received up to then is in the topics) go on by time, over all
partitions: months loaded in seconds are journalled as they happened. The
order within each raw partition is always kept, whatever the times say.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import Any, Final

from streams.arrivals import Parsed

FOR_EVER: Final = float("inf")


class Lane:
    """What was received from one raw partition and not passed on yet."""

    __slots__ = ("chunks", "keys", "parsed")

    def __init__(self) -> None:
        self.parsed: list[Parsed] = []
        self.keys: list[int] = []  # highest time so far: never falls, so the order is kept
        self.chunks: deque[tuple[Any, int]] = deque()  # a Faust event, and how many of its records are still here

    def add(self, chunk: Any, parsed: list[Parsed]) -> None:
        """Append what one chunk brought."""
        highest = self.keys[-1] if self.keys else 0
        for one in parsed:
            # a dead letter has no time of its own: it goes with its neighbours
            if one.entries and one.at > highest:
                highest = one.at
            self.keys.append(highest)
        self.parsed += parsed
        self.chunks.append((chunk, len(parsed)))

    def take(self, bound: float) -> tuple[list[int], list[Parsed], list[Any]]:
        """Remove what is not above a bound; return its times, itself, and the chunks that are finished by it."""
        count = len(self.keys) if bound == FOR_EVER else bisect_right(self.keys, bound)
        keys, parsed, done = self.keys[:count], self.parsed[:count], []
        del self.keys[:count], self.parsed[:count]
        while self.chunks and self.chunks[0][1] <= count:
            chunk, size = self.chunks.popleft()
            count -= size
            done.append(chunk)
        if count:
            chunk, size = self.chunks[0]
            self.chunks[0] = (chunk, size - count)
        return keys, parsed, done


class Merge:
    """The lanes of all raw partitions a worker owns."""

    def __init__(self) -> None:
        self._lanes: dict[Any, Lane] = {}

    def __len__(self) -> int:
        return sum(len(lane.keys) for lane in self._lanes.values())

    def add(self, tp: Any, chunk: Any, parsed: list[Parsed]) -> None:
        """Take what one chunk of a raw partition brought."""
        lane = self._lanes.get(tp)
        if lane is None:
            lane = self._lanes[tp] = Lane()
        lane.add(chunk, parsed)

    def take(self, bound: float) -> tuple[list[Parsed], list[Any]]:
        """Return what goes on now, by time, and the chunks finished by it."""
        keys: list[int] = []
        parsed: list[Parsed] = []
        done: list[Any] = []
        for lane in self._lanes.values():
            if lane.keys:
                its_keys, its_parsed, its_done = lane.take(bound)
                keys += its_keys
                parsed += its_parsed
                done += its_done
        if bound != FOR_EVER:
            parsed = [parsed[index] for index in sorted(range(len(keys)), key=keys.__getitem__)]
        return parsed, done

    def drop(self) -> list[Any]:
        """Forget everything; return the chunks nobody has to wait for any more."""
        held = [chunk for lane in self._lanes.values() for chunk, _ in lane.chunks]
        self._lanes.clear()
        return held
