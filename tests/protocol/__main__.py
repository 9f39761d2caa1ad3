"""``make simulate-faults``: as many schedules as there is time for. A failing one is told, and can be run again."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Final

from tests.protocol.bugs import PLANTED
from tests.protocol.processes import FAULTS
from tests.protocol.running import Done, first_failure, run_all, trace

MOST_TO_FIND: Final = 5_000  # schedules until a planted bug has to be found


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _progress(done: Done, seconds: float) -> None:
    sys.stderr.write(f"\r{done.schedules:,} schedules, {done.schedules / seconds:,.0f} a second, none failed ")
    sys.stderr.flush()


def _plant() -> int:
    found: dict[str, int | None] = {}
    for name, parts in PLANTED.items():
        failure = first_failure(parts, MOST_TO_FIND)
        found[name] = None if failure is None else failure.seed + 1
        say(f"{name}: " + ("NOT FOUND" if failure is None else f"found by schedule {failure.seed + 1}"))
    say(json.dumps({"planted": len(found), "found_by_schedule": found}))
    return 0 if None not in found.values() else 1


def _replay(seed: int) -> int:
    lines = trace(seed)
    for line in lines:
        say(line)
    return 1 if lines[-1].startswith("VIOLATION") else 0


def main() -> int:
    """Run the schedules of a range of seeds; return the exit status: 1 when one failed."""
    parser = argparse.ArgumentParser(prog="make simulate-faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=1_000_000, help="how many schedules")
    parser.add_argument("--seconds", type=float, default=120.0, help="begin no more after so long")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--trace", action="store_true", help="run one seed and tell what happens in it")
    parser.add_argument("--plant", action="store_true", help="plant each known bug and tell how soon it is found")
    told = parser.parse_args()
    if told.trace:
        return _replay(told.seed)
    if told.plant:
        return _plant()
    done, seconds = run_all(told.seed, told.count, told.seconds, told.processes, _progress)
    sys.stderr.write("\n")
    for failure in done.failures[:3]:
        say(f"seed {failure.seed}: {failure.text}")
    if done.failures:
        seed = done.failures[0].seed
        _replay(seed)
        say(f'again: make simulate-faults ARGS="--seed {seed} --trace"')
    summary = {
        "schedules": done.schedules, "first_seed": told.seed, "failed": [one.seed for one in done.failures],
        "seconds": round(seconds, 1), "schedules_per_second": round(done.schedules / seconds, 1),
        "faults": {name: done.counts[name] for name in FAULTS},
        "also": {name: count for name, count in sorted(done.counts.items()) if name not in FAULTS},
    }  # fmt: skip
    say(json.dumps(summary))
    return 1 if done.failures else 0


if __name__ == "__main__":
    sys.exit(main())
