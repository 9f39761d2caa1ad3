"""The schedules find bugs: each of these is planted on purpose, is found, and is what was found.

Without the bug the same seeds pass.
"""

from __future__ import annotations

import pytest

from tests.protocol.bugs import PLANTED
from tests.protocol.running import first_failure, run, trace

WITHIN = 5_000  # schedules; most are found within the first twenty


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str) -> None:
    failure = first_failure(PLANTED[name], WITHIN)
    assert failure is not None
    assert trace(failure.seed, PLANTED[name])[-1] == f"VIOLATION: {failure.text}"
    assert not run([failure.seed]).failures
