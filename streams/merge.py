"""What arrived from the raw partitions, in the order in which it goes to the journal: that of a time of each record.

In a journal on the wall clock that is the time at which the broker took the
record, up to the frontier that ``streams.alignment`` finds. In one on the
events' clock it is the time at which the event was received, up to the
loader's *mark* (all that was received up to then is in the topics): months
loaded in seconds are journalled as they happened. The order within each raw
partition is always kept, whatever the times say.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from itertools import accumulate, islice
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

    def add(self, chunk: Any, parsed: list[Parsed], times: Iterable[int]) -> None:
        """Append what one chunk brought, with the time of each; 0 goes with its neighbours."""
        highest = self.keys[-1] if self.keys else 0
        self.keys += islice(accumulate(times, max, initial=highest), 1, None)
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

    def add(self, tp: Any, chunk: Any, parsed: list[Parsed], times: Iterable[int]) -> None:
        """Take what one chunk of a raw partition brought, with the time of each record."""
        lane = self._lanes.get(tp)
        if lane is None:
            lane = self._lanes[tp] = Lane()
        lane.add(chunk, parsed, times)

    def size(self, tp: Any) -> int:
        """Return how many records of a raw partition are here."""
        lane = self._lanes.get(tp)
        return 0 if lane is None else len(lane.keys)

    def last(self, tp: Any) -> int | None:
        """Return the highest time of what is here of a raw partition; None when nothing is."""
        lane = self._lanes.get(tp)
        return lane.keys[-1] if lane is not None and lane.keys else None

    def take(self, bound: float) -> tuple[list[Parsed], list[Any]]:
        """Return what goes on now, by time, and the chunks finished by it."""
        keys: list[int] = []
        parsed: list[Parsed] = []
        done: list[Any] = []
        lanes = [lane for lane in self._lanes.values() if lane.keys]
        if len(lanes) == 1:
            _, parsed, done = lanes[0].take(bound)
        else:
            for lane in lanes:
                its_keys, its_parsed, its_done = lane.take(bound)
                keys += its_keys
                parsed += its_parsed
                done += its_done
            # each lane is a run that never falls, and timsort merges runs
            parsed = [parsed[index] for index in sorted(range(len(keys)), key=keys.__getitem__)]
        return parsed, done

    def drop(self) -> list[Any]:
        """Forget everything; return the chunks nobody has to wait for any more."""
        held = [chunk for lane in self._lanes.values() for chunk, _ in lane.chunks]
        self._lanes.clear()
        return held
