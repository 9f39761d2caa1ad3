"""Tests are shared out so that none is lost and no process gets all that wait."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any, cast

import pytest

from tests.order import interleaved


class Item:
    """As much of a collected test as its place depends on."""

    def __init__(self, file: str, number: int, *, waits: bool = False) -> None:
        self.path = Path(f"tests/{file}.py")
        self.number = number
        self.waits = waits

    def get_closest_marker(self, name: str) -> bool:
        return self.waits and name == "e2e"


def collected() -> list[Any]:
    waiting = [Item(file, n, waits=True) for file in ("test_cli", "test_zombies", "test_crashes") for n in range(4)]
    return waiting + [Item(f"test_{file}", n) for file in range(40) for n in range(10)]


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 7])
def test_every_test_runs_once(processes: int) -> None:
    tests = collected()
    ordered = interleaved(tests, processes)
    assert sorted(map(id, ordered)) == sorted(map(id, tests))


def test_each_process_gets_its_share_of_those_that_wait_and_ends_with_others() -> None:
    ordered = cast("list[Any]", interleaved(collected(), 4))
    size = len(ordered) // 4
    for begin in range(0, len(ordered), size):
        stretch = ordered[begin : begin + size]
        assert stretch[0].path.stem == "test_crashes"
        assert sum(item.waits for item in stretch) == 3
        assert not any(item.waits for item in stretch[-10:])


def test_what_a_file_computes_stays_together_but_where_a_stretch_ends() -> None:
    ordered = [item for item in cast("list[Any]", interleaved(collected(), 3)) if not item.waits]
    runs = [file for file, _ in groupby(ordered, key=lambda item: item.path.stem)]
    assert len(runs) - len(set(runs)) <= 2
