"""What the learners make of a small shop: ``learners.json``, by the version of the learners.

``python -m tests.golden.learners`` writes what comes out now. It refuses when
that differs while ``LEARN_VERSION`` is the recorded one, since models in the
world were learned by it; ``--unreleased`` says that there are none yet.
"""

from __future__ import annotations

import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.quality.stream import run
from journey.samples import FAMILIES, LEARN_VERSION
from journey.training import Fit, Publication, new_learner
from streams.shop import generate

RECORDED: Final = Path(__file__).parent / "learners.json"
FITTED: Final[dict[str, Any]] = {"state": None, "trust": "cold", "fault": "nothing is fitted here"}


def outcome() -> dict[str, Any]:
    """Return, by family, how many versions of each model there are, and a hash of all of them.

    Numbers are taken with 6 digits: processors differ in the last ones of an
    exponential.
    """
    samples = [sample for _, sample in run(generate(seed=5, customers=250, days=150), families=()).samples]
    found: dict[str, Any] = {}
    for family in FAMILIES:
        learner, counts, whole = new_learner(family), Counter[str](), sha256()

        def note(outcomes: list[Any], learner: Any = learner, counts: Any = counts, whole: Any = whole) -> None:
            for one in outcomes:
                if isinstance(one, Publication):
                    counts[one.model] += 1
                    whole.update(orjson.dumps([one.model, _short(one.payload)], option=orjson.OPT_SORT_KEYS))
                elif isinstance(one, Fit):
                    counts[one.model] += 1
                    fit: Any = one.run  # with what is fitted, and to what
                    whole.update(orjson.dumps([one.model, _short(fit.args)], option=orjson.OPT_SORT_KEYS))
                    note(learner.fitted(one, FITTED))
                else:
                    counts["alarms"] += 1

        for sample in samples:
            if sample["model"] == family:
                note(learner.learn(sample))
        found[family] = {"published": dict(sorted(counts.items())), "sha256": whole.hexdigest()}
    return {"learners": LEARN_VERSION, "families": found}


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return {str(name): _short(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_short(part) for part in value]
    return value


def recorded() -> dict[str, Any]:
    """Return what is recorded."""
    told: dict[str, Any] = orjson.loads(RECORDED.read_bytes())
    return told


def write(found: dict[str, Any], *, is_released: bool) -> str | None:
    """Record an outcome; return why not."""
    if is_released and RECORDED.exists() and found != recorded() and recorded()["learners"] == LEARN_VERSION:
        return f"the outcome changed and LEARN_VERSION is still {LEARN_VERSION}: raise it in journey/samples.py"
    RECORDED.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
    return None


if __name__ == "__main__":
    sys.exit(write(outcome(), is_released="--unreleased" not in sys.argv))
