"""Which customers' timers are due when: an index over the records of one partition, never state of its own.

A customer keeps its timers in its record. A *prompt* timer wants a tick when
it is due; a *lazy* one waits for the next entry.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

from journey.state import Customer

PROMPT: Final = frozenset(("abandoned_cart",))
_NEVER: Final = 1 << 60


class Agenda:
    """The next due time of every customer of a partition.

    Order of firing: (due time, customer key).
    """

    def __init__(self) -> None:
        self._due: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        self._prompt: dict[str, int] = {}
        self._prompts: list[tuple[int, str]] = []

    def note(self, customer: Customer) -> None:
        """Take the customer's timers as they stand now."""
        key, timers = customer["key"], customer["timers"]
        due = min(timers.values()) if timers else _NEVER
        if self._due.get(key, _NEVER) != due:
            if due == _NEVER:
                del self._due[key]
            else:
                self._due[key] = due
                heappush(self._heap, (due, key))
                if len(self._heap) > 4 * len(self._due) + 1024:
                    self._heap = [(when, who) for who, when in self._due.items()]
                    heapify(self._heap)
        prompt = _NEVER
        for name in PROMPT:  # a minimum, so the order of a set does not matter
            at = timers.get(name, _NEVER)
            if at < prompt:
                prompt = at
        if self._prompt.get(key, _NEVER) != prompt:
            if prompt == _NEVER:
                del self._prompt[key]
            else:
                self._prompt[key] = prompt
                heappush(self._prompts, (prompt, key))
                if len(self._prompts) > 4 * len(self._prompt) + 1024:
                    self._prompts = [(when, who) for who, when in self._prompt.items()]
                    heapify(self._prompts)

    def first(self) -> int:
        """Return a moment (ms) before which nothing is due."""
        return self._heap[0][0] if self._heap else _NEVER

    def pop(self, now: int) -> str | None:
        """Return the next customer with a timer due at ``now``, and forget its due time; None when there is none."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            due, key = heappop(heap)
            if self._due.get(key) == due:
                del self._due[key]
                return key
        return None

    def overdue(self, now: int) -> int:
        """Return how many customers have a timer due at or before a moment."""
        return sum(due <= now for due in self._due.values())

    def next_prompt(self) -> int | None:
        """Return when (ms) the next prompt timer is due; None when none is set."""
        heap = self._prompts
        while heap:
            due, key = heap[0]
            if self._prompt.get(key) == due:
                return due
            heappop(heap)
        return None
