"""In which order tests run when several processes share them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import filterfalse, groupby
from typing import Final

import pytest

# of the tests that use servers, those that take longest; what runs last, nobody can share
LONGEST: Final = ("test_crashes", "test_learning", "test_epochs", "test_learning_shell", "test_verify", "test_cli")


def interleaved(items: Sequence[pytest.Item], processes: int) -> list[pytest.Item]:
    """Return the tests so that each process, given an equal stretch, begins with tests that wait, between others.

    A test with servers mostly waits, the others compute. In the order of
    files one process would get nearly all that wait. Each stretch has the
    longest of its waiting tests first and ends with short ones, which the
    scheduler can still hand to others. Tests of a file that compute stay
    together, for what they share.
    """
    waiting = sorted(filter(_waits, items), key=_rank)
    files = [list(tests) for _, tests in groupby(filterfalse(_waits, items), _file)]
    size = (sum(map(len, files)) + processes - 1) // processes
    ordered: list[pytest.Item] = []
    for process in range(processes):
        own = waiting[process::processes]
        placed = computed = 0
        while files and computed < size:
            tests = files.pop(0)
            if len(tests) > size - computed:  # a file of many small tests may be parted
                files.insert(0, tests[size - computed :])
                tests = tests[: size - computed]
            # all are placed when four fifths of the others have been
            until = min(len(own), 1 + computed * len(own) * 5 // (4 * size))
            ordered += own[placed:until]
            placed = max(placed, until)
            ordered += tests
            computed += len(tests)
        ordered += own[placed:]
    return ordered


def _waits(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("e2e", "slow"))


def _rank(item: pytest.Item) -> int:
    name = item.path.stem
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


def _file(item: pytest.Item) -> str:
    return str(item.path)
