"""Many schedules, one after the other or in several processes, and what to say of them."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_context
from typing import Any, NamedTuple

from tests.protocol.oracle import ViolationError
from tests.protocol.roles import Parts
from tests.protocol.schedule import Schedule, simulated

BLOCK = 250  # seeds handed to a process at once


class Failure(NamedTuple):
    """A seed whose schedule broke a promise."""

    seed: int
    text: str


class Done(NamedTuple):
    """What some schedules came to."""

    schedules: int
    counts: Counter[str]
    failures: list[Failure]


def run(seeds: Iterable[int], parts: Parts | None = None) -> Done:
    """Run a schedule for each seed."""
    counts: Counter[str] = Counter()
    failures, number = [], 0
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 1000)  # as a worker of production; a quarter of the time
    try:
        with simulated():
            for seed in seeds:
                number += 1
                try:
                    counts.update(Schedule(seed, parts).run())
                except ViolationError as violation:
                    failures.append(Failure(seed, str(violation)))
    finally:
        gc.set_threshold(*before)
    return Done(number, counts, failures)


def first_failure(parts: Parts, within: int, begin: int = 0) -> Failure | None:
    """Return the first seed that fails, of so many."""
    for seed in range(begin, begin + within):
        done = run([seed], parts)
        if done.failures:
            return done.failures[0]
    return None


def trace(seed: int, parts: Parts | None = None) -> list[str]:
    """Return what happens in one schedule, line by line; the last line is its end."""
    lines: list[str] = []
    try:
        counts = Schedule(seed, parts, lines.append).run()
    except ViolationError as violation:
        lines.append(f"VIOLATION: {violation}")
    else:
        lines.append("every promise kept: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    return lines


def run_all(
    seed: int, count: int, seconds: float, processes: int, on_progress: Callable[[Done, float], None]
) -> tuple[Done, float]:
    """Run many schedules in several processes; return what they came to and how long (s) it took.

    Parameters
    ----------
    seconds
        No further ones are begun after this.
    on_progress
        Told about once a second.
    """
    begin = said = time.monotonic()
    total = Done(0, Counter(), [])

    def blocks() -> Iterator[range]:
        for start in range(seed, seed + count, BLOCK):
            if time.monotonic() - begin > seconds:
                return
            yield range(start, min(start + BLOCK, seed + count))

    with get_context("fork").Pool(processes) as pool:
        waiting: list[Any] = []
        todo = blocks()
        while True:
            while len(waiting) < 2 * processes and (block := next(todo, None)) is not None:
                waiting.append(pool.apply_async(run, (block,)))
            if not waiting:
                break
            done = waiting.pop(0).get()
            total.counts.update(done.counts)
            total = Done(total.schedules + done.schedules, total.counts, total.failures + done.failures)
            now = time.monotonic()
            if now - said >= 1.0:
                said = now
                on_progress(total, now - begin)
            if total.failures:
                break
    return total, time.monotonic() - begin
