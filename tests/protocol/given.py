"""Models that a schedule adopts: published before it begins, small, and such as the real learners publish."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, NamedTuple

from journey.models.base import chance
from journey.models.logistic import Logistic
from journey.models.rate import Rate
from journey.samples import SCHEMA_OF, SCHEMAS
from journey.scoring import Library
from streams.settings import Settings
from streams.snapshots import digest, keys_of, record_key, sign

SLOTS: Final = ("churn", "intent")
VERSIONS: Final = (1, 2, 3)
ROWS: Final = 40
MARK: Final = ".given"  # in the names, which no learner of a schedule uses
AT: Final = 1_780_000_000_000


class Given(NamedTuple):
    """What there is to adopt."""

    records: list[tuple[bytes | None, bytes]]
    digests: dict[tuple[str, int], str]  # by model and version
    library: Library


def model_of(slot: str) -> str:
    """Return the name of the model that is for a slot."""
    return slot + MARK


@cache
def given() -> Given:
    """Return all, made once in a process."""
    records: list[tuple[bytes | None, bytes]] = []
    digests: dict[tuple[str, int], str] = {}
    library, keys = Library(), keys_of(Settings())
    for slot in SLOTS:
        for version in VERSIONS:
            model, payload = model_of(slot), _payload(slot, version)
            digests[model, version] = digest(payload)
            library.add(model, version, digests[model, version], payload)
            told = {"samples": payload["labels"], "metrics": {}, "at": AT + version, "trust": payload["trust"]}
            value = sign(
                keys, model=model, number=version, parent=None, schema=payload["schema"], trained_through={},
                trained=told, payload=payload,
            )  # fmt: skip
            records.append((record_key(model, version), value))
    return Given(records, digests, library)


def _payload(slot: str, version: int) -> dict[str, Any]:
    """Return a payload as ``journey.training`` makes one of a champion; the first version is not trusted."""
    schema = SCHEMA_OF[slot]
    model, rate = Logistic(SCHEMAS[schema]), Rate()
    for number in range(ROWS * version):
        row = [round(4 * chance(slot, name, str(number)), 4) for name in model.names]
        happened = row[0] + row[1] > 4.0
        model.learn(row, happened)
        rate.learn(row, happened)
    return {
        "slot": slot, "role": "champion", "schema": schema, "names": list(model.names), "class": "logistic/1",
        "state": model.state(), "fallback": rate.state(), "trust": "cold" if version == 1 else "trusted",
        "labels": model.n, "theta": 0.5, "second_gap_days": None, "metrics": {},
    }  # fmt: skip
